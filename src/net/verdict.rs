//! The outcome of a flight without a waiting caller.

use crate::wire::{MetaStatus, Replies, Reply};

/// Returns whether the server reports that it executed the request.
pub(super) fn succeeded(replies: &mut Replies<'_>) -> bool {
    match replies.next_reply() {
        Ok(Reply::Stored) => true,
        Ok(Reply::Meta(meta)) => meta.status == MetaStatus::Done,
        _ => false,
    }
}
