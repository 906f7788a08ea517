//! The parts of a request line that the parsers of all commands share.

use super::error_reply::{ErrorReply, ErrorSource};
use super::flags::Flags;
use super::key::{Key, MAX_KEY_LENGTH};
use super::number;
use super::request::{Request, Store};

/// The longest value a line can announce: two more have to fit an `int`.
const LONGEST_VALUE: i32 = i32::MAX - 2;

/// A line that is not executed, before its position in the buffer is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rejected {
    pub(super) reply: ErrorReply<'static>,
    pub(super) silent: bool,
    /// Number of bytes after the line to discard as well.
    pub(super) swallow: usize,
    pub(super) close: bool,
}

impl Rejected {
    pub(super) const fn new(blame: ErrorSource, text: &'static str) -> Self {
        Self {
            reply: ErrorReply {
                source: blame,
                text: text.as_bytes(),
            },
            silent: false,
            swallow: 0,
            close: false,
        }
    }

    pub(super) const fn client(text: &'static str) -> Self {
        Self::new(ErrorSource::Client, text)
    }

    pub(super) const fn server(text: &'static str) -> Self {
        Self::new(ErrorSource::Server, text)
    }

    pub(super) const fn format() -> Self {
        Self::client("bad command line format")
    }

    pub(super) const fn unknown() -> Self {
        Self::new(ErrorSource::Command, "")
    }

    pub(super) const fn closing() -> Self {
        let mut refused = Self::unknown();
        refused.silent = true;
        refused.close = true;
        refused
    }

    pub(super) const fn swallowing(mut self, bytes: usize) -> Self {
        self.swallow = bytes;
        self
    }

    pub(super) const fn silent_if(mut self, silent: bool) -> Self {
        self.silent |= silent;
        self
    }
}

/// A parsed request line.
pub(super) enum RequestLine<'a> {
    Whole(Request<'a>),
    /// A value of this many bytes follows.
    Head(Head<'a>, usize),
}

/// The line in front of a value.
pub(super) enum Head<'a> {
    /// The value in it is empty still.
    Classic(Store<'a>),
    Meta {
        key: Key<'a>,
        flags: Flags<'a>,
    },
}

impl<'a> Head<'a> {
    pub(super) const fn noreply(&self) -> bool {
        // `q` does not silence errors, so `ms` has nothing of the kind.
        matches!(self, Self::Classic(Store { noreply: true, .. }))
    }

    pub(super) const fn with_value(self, value: &'a [u8]) -> Request<'a> {
        match self {
            Self::Classic(store) => Request::Store(Store { value, ..store }),
            Self::Meta { key, flags } => Request::MetaSet { key, flags, value },
        }
    }
}

pub(super) fn fits(key: &[u8]) -> bool {
    key.len() <= MAX_KEY_LENGTH
}

pub(super) fn key(name: &[u8]) -> Option<Key<'_>> {
    fits(name).then(|| Key::from_wire(name))
}

/// The length of a value, with its two bytes of line end still to be added.
pub(super) fn value_length(digits: &[u8]) -> Option<usize> {
    let length = i32::try_from(number::parse_u64(digits)?).ok()?;
    usize::try_from(length)
        .ok()
        .filter(|_| length <= LONGEST_VALUE)
}
