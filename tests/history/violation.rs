//! Violations of the rules of a history.

use super::event::Instant;
use core::fmt;
use memlatch::LossReason;

/// One holding, as a violation names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    pub process: u32,
    pub key: u32,
    pub holding: u64,
    pub token: Option<u64>,
    /// From when to when its guard was valid; nothing where it never was.
    pub believed: Option<(Instant, Instant)>,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The events do not fit together: the harness itself is wrong.
    Malformed(String),
    /// Two held one lock at once.
    Overlap { first: Who, second: Who },
    /// Two held one lock at once, and a resource that checks the token takes the writes of
    /// both.
    NotCaught { first: Who, second: Who },
    /// A holding has no higher token than one that was over before it began.
    TokenFell { earlier: Who, later: Who },
    /// Two holdings have the same token.
    TokenTwice { first: Who, second: Who },
    /// A lock was lost, and its holder, which ran for so long afterwards, never learned of it.
    NotTold { who: Who, ran: u64 },
    /// The loss was reported when the holder had run for so long after the deadline.
    ToldLate { who: Who, ran: u64 },
    /// The loss was reported so many times.
    ToldTwice { who: Who, times: usize },
    /// The loss was reported, and the guard was valid still.
    LostButValid { who: Who },
    /// A loss was reported after the holder's own release.
    LostAfterRelease { who: Who },
    /// A loss was reported, or the guard was not valid any more, and the release said that the lock
    /// had been held to the end.
    FreedAfterLoss { who: Who },
    /// A lock was lost before its deadline, and the server had forgotten nothing.
    Unexplained { who: Who, reason: LossReason },
    /// An acquisition took so long, not counting when its process did not run.
    TooLong { who: Who, limit: u64, ran: u64 },
    /// A release said that the lock had been held to the end, and another had it in between.
    FreedUnderAnother { who: Who, other: Who },
    /// A lock that is still held in the end.
    StillHeld(String),
}

impl Violation {
    /// The rule, in a word.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Overlap { .. } => "overlap",
            Self::NotCaught { .. } => "not-caught",
            Self::TokenFell { .. } => "token-fell",
            Self::TokenTwice { .. } => "token-twice",
            Self::NotTold { .. } => "not-told",
            Self::ToldLate { .. } => "told-late",
            Self::ToldTwice { .. } => "told-twice",
            Self::LostButValid { .. } => "lost-but-valid",
            Self::LostAfterRelease { .. } => "lost-after-release",
            Self::FreedAfterLoss { .. } => "freed-after-loss",
            Self::Unexplained { .. } => "unexplained",
            Self::TooLong { .. } => "too-long",
            Self::FreedUnderAnother { .. } => "freed-under-another",
            Self::StillHeld(_) => "still-held",
        }
    }
}

/// Nanoseconds as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000 / 1000
        )
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "holding {} of process {} on key {}",
            self.holding, self.process, self.key
        )?;
        if let Some(token) = self.token {
            write!(f, " with token {token}")?;
        }
        match self.believed {
            Some((from, to)) => write!(f, " ({} to {})", Seconds(from), Seconds(to)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule())?;
        match self {
            Self::Malformed(what) | Self::StillHeld(what) => f.write_str(what),
            Self::Overlap { first, second } => write!(f, "{first}, and {second}"),
            Self::NotCaught { first, second } => {
                write!(f, "the token tells nothing about {first}, and {second}")
            }
            Self::TokenFell { earlier, later } => write!(f, "{earlier}, and then {later}"),
            Self::TokenTwice { first, second } => write!(f, "{first}, and {second}"),
            Self::NotTold { who, ran } => {
                write!(f, "{who}; its process ran for {} s since", Seconds(*ran))
            }
            Self::ToldLate { who, ran } => {
                write!(f, "{who}; {} s behind its deadline", Seconds(*ran))
            }
            Self::ToldTwice { who, times } => write!(f, "{who}; {times} times"),
            Self::LostButValid { who }
            | Self::LostAfterRelease { who }
            | Self::FreedAfterLoss { who } => who.fmt(f),
            Self::Unexplained { who, reason } => write!(f, "{who}: {reason}"),
            Self::TooLong { who, limit, ran } => write!(
                f,
                "{who} was to wait for {} s and took {} s",
                Seconds(*limit),
                Seconds(*ran)
            ),
            Self::FreedUnderAnother { who, other } => write!(f, "{who}, and meanwhile {other}"),
        }
    }
}
