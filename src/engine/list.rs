//! The list of the held locks under a prefix.

use super::error::{Cause, LockError};
use super::holder::Holder;
use super::node::Node;
use crate::proto::{DecodedName, InspectOutcome, KeyPage};
use std::string::{String, ToString};
use std::vec::Vec;

/// The maximum number of locks in a list.
pub const MAX_LISTED: usize = 10_000;

/// The locks that are held, by what the server reported at that time. The list may be out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockList {
    /// One entry for each lock, in the order of their names.
    pub locks: Vec<LockEntry>,
    /// The list is complete. If not, there are more locks than [`MAX_LISTED`].
    pub is_complete: bool,
}

/// One of the locks that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockEntry {
    /// Its name, or the replacement of a name that is too long.
    pub name: String,
    /// The name is too long for a key, so it is unknown: its replacement is `#` and its SHA-256 in
    /// hexadecimal digits. Other calls do not accept that as the name.
    pub is_hashed: bool,
    /// The holder of the lock.
    pub holder: Holder,
}

impl LockList {
    pub(crate) const fn new() -> Self {
        Self {
            locks: Vec::new(),
            is_complete: true,
        }
    }

    /// Adds the locks of a page that are held.
    pub(crate) fn add<C>(
        &mut self,
        node: &Node<C>,
        batch: &KeyPage,
        seen: Vec<InspectOutcome>,
    ) -> Result<(), LockError> {
        for (name, seen) in batch.names.iter().zip(seen) {
            if let InspectOutcome::Failed(failure) = seen {
                return Err(node
                    .error(Cause::Server(failure))
                    .with_name(&name.to_string()));
            }
            if let Some(holder) = Holder::from_inspected(seen) {
                self.locks.push(LockEntry {
                    name: name.to_string(),
                    is_hashed: matches!(name, DecodedName::Hashed(_)),
                    holder,
                });
            }
        }
        Ok(())
    }

    /// Completes the list.
    pub(crate) fn finish(mut self, is_complete: bool) -> Self {
        self.is_complete = is_complete;
        // Keys and names sort differently: some bytes are escaped in keys.
        self.locks.sort_by(|one, other| one.name.cmp(&other.name));
        self
    }
}
