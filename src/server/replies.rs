//! Replies that say no.

use super::store_request::StoreError;
use crate::wire::{AdminError, AdminErrorReason, ErrorReply, ErrorSource, Reply};

pub(super) const fn error(text: &'static str) -> Reply<'static> {
    Reply::Error(ErrorReply {
        source: ErrorSource::Command,
        text: text.as_bytes(),
    })
}

pub(super) const fn client_error(text: &'static str) -> Reply<'static> {
    Reply::Error(ErrorReply {
        source: ErrorSource::Client,
        text: text.as_bytes(),
    })
}

pub(super) const fn server_error(text: &'static str) -> Reply<'static> {
    Reply::Error(ErrorReply {
        source: ErrorSource::Server,
        text: text.as_bytes(),
    })
}

pub(super) const fn declined(reason: AdminErrorReason, text: &'static str) -> Reply<'static> {
    Reply::Declined(AdminError {
        reason,
        text: text.as_bytes(),
    })
}

pub(super) const fn no_room_for_it(no_room: StoreError) -> Reply<'static> {
    match no_room {
        StoreError::TooLarge => server_error("object too large for cache"),
        StoreError::OutOfMemory => server_error("out of memory storing object"),
    }
}
