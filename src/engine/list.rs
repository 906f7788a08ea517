//! The locks that are held under a prefix, as seen from outside.

use super::error::{Cause, LockError};
use super::holder::Holder;
use super::node::Node;
use crate::proto::{DecodedName, InspectOutcome, KeyPage};
use std::string::{String, ToString};
use std::vec::Vec;

/// The most locks that are listed at once.
pub const MAX_LISTED: usize = 10_000;

/// The locks that are held, by what the server said while it was asked. It may be over already.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockList {
    /// One for each lock, in the order of their names.
    pub locks: Vec<LockEntry>,
    /// Whether these are all. If not, there are more than [`MAX_LISTED`].
    pub is_complete: bool,
}

/// One of the locks that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockEntry {
    /// Its name, or what stands for it.
    pub name: String,
    /// The name is too long to stand in a key, so nobody can tell it: in its place there is `#`
    /// and its SHA-256 in hexadecimal digits. This is no name that other calls would understand.
    pub is_hashed: bool,
    /// Who holds it.
    pub holder: Holder,
}

impl LockList {
    pub(crate) const fn new() -> Self {
        Self {
            locks: Vec::new(),
            is_complete: true,
        }
    }

    /// Adds those of a batch that somebody holds.
    pub(crate) fn add<C>(
        &mut self,
        site: &Node<C>,
        batch: &KeyPage,
        seen: Vec<InspectOutcome>,
    ) -> Result<(), LockError> {
        for (name, seen) in batch.names.iter().zip(seen) {
            if let InspectOutcome::Failed(failure) = seen {
                return Err(site.error(Cause::Server(failure)).about(&name.to_string()));
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

    /// That was all.
    pub(crate) fn finish(mut self, is_complete: bool) -> Self {
        self.is_complete = is_complete;
        // Keys have another order than names: some bytes are escaped in them.
        self.locks.sort_by(|one, other| one.name.cmp(&other.name));
        self
    }
}
