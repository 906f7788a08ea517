//! What the answer to a flight says that nobody waits for.

use crate::wire::{MetaStatus, Replies, Reply};

/// Whether the server says that it did what it was asked to.
pub(super) fn succeeded(replies: &mut Replies<'_>) -> bool {
    match replies.next_reply() {
        Ok(Reply::Stored) => true,
        Ok(Reply::Meta(meta)) => meta.status == MetaStatus::Done,
        _ => false,
    }
}
