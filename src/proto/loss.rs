//! The ways in which a held lock is lost.

use core::fmt;

/// A reason why a lock is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// The lease ran out before it could be renewed, although the server answered.
    Expired,
    /// It was held for as long as its maximum hold allows.
    MaxHold,
    /// Another owner's record stands in its place.
    TakenOver,
    /// The server has no record any more: it was evicted, flushed, deleted, or the lock was broken.
    Missing,
    /// The server was restarted and has forgotten everything.
    ServerRestarted,
    /// The lease ran out while the server could not be reached.
    Unreachable,
    /// It was released.
    Released,
    /// This process was forked from the one that holds it.
    Forked,
}

impl LossReason {
    /// The reason that has this word.
    pub(super) fn named(word: &str) -> Option<Self> {
        let all = [
            Self::Expired,
            Self::MaxHold,
            Self::TakenOver,
            Self::Missing,
            Self::ServerRestarted,
            Self::Unreachable,
            Self::Released,
            Self::Forked,
        ];
        all.into_iter().find(|reason| reason.as_str() == word)
    }

    /// One word for logs and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::MaxHold => "max-hold",
            Self::TakenOver => "taken-over",
            Self::Missing => "missing",
            Self::ServerRestarted => "server-restarted",
            Self::Unreachable => "unreachable",
            Self::Released => "released",
            Self::Forked => "forked",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease ran out",
            Self::MaxHold => "its maximum hold was reached",
            Self::TakenOver => "another owner has it",
            Self::Missing => "the server has forgotten it (evicted, flushed, deleted or broken)",
            Self::ServerRestarted => "the server was restarted",
            Self::Unreachable => "its lease ran out while the server could not be reached",
            Self::Released => "it was released",
            Self::Forked => "this process was forked from the one that holds it",
        })
    }
}
