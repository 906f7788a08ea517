//! Requests to the store, and their outcomes.

use super::item::Second;

/// The condition under which a value is stored, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Set,
    Add,
    Replace,
    Append { vivify: bool },
    Prepend { vivify: bool },
    Cas,
}

/// A value to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreRequest<'a> {
    pub(crate) mode: Mode,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) client_flags: u32,
    /// As [`TimeBase::deadline`](super::clock::TimeBase::deadline) gives it.
    pub(crate) exptime: Second,
    /// The CAS unique the item has to have; 0 for any.
    pub(crate) compare: u64,
    /// The CAS unique the item gets.
    pub(crate) cas: u64,
    /// A lower `compare` stores nonetheless, and leaves the item stale.
    pub(crate) stale_ok: bool,
    pub(crate) binary_key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreOutcome {
    /// The CAS unique and the length of the item's value.
    Yes {
        cas: u64,
        length: usize,
    },
    No,
    Exists,
    NotFound,
}

/// A reason why there is no room for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreError {
    TooLarge,
    OutOfMemory,
}

impl StoreError {
    /// The word for it in the log of watchers.
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::OutOfMemory => "no_memory",
        }
    }
}

/// The outcome of a request to change a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArithmeticOutcome {
    Done(Counter),
    NotFound,
    NotNumeric,
    OtherCas,
    OutOfMemory,
}

/// A counter that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) number: u64,
    pub(crate) cas: u64,
    pub(crate) exptime: Second,
    /// The text grew, so that memcached put a new item in the place of the one it goes on
    /// to change.
    pub(crate) replaced: bool,
}
