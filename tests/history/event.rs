//! One event, and how it stands in a file: `INSTANT PROCESS KEY HOLDING WHAT …`, a line each.
//!
//! | what | behind it | meaning |
//! |---|---|---|
//! | `begin` | limit or `-` | an acquisition begins that waits for so long at most |
//! | `granted` | token or `-`, deadline | it has returned, held |
//! | `refused`, `timeout`, `cancelled`, `failed` | the kind of error behind the last one | it has not |
//! | `until` | deadline | the guard's deadline has moved |
//! | `release`, `drop` | deadline | the holder gives it back |
//! | `freed`, `already-lost`, `release-cancelled`, `release-failed` | reason or kind | what the release said |
//! | `lost` | reason, deadline | the loss was reported to the holder |
//! | `paused` | instant | the process did not run since then |
//! | `stopped`, `continued`, `killed`, `ended` | | the process was or has |
//! | `server-…` | | it happens to the server |
//!
//! A deadline is what the guard says at that instant; one that is not behind the instant means
//! that the guard is not valid.

use core::fmt;
use core::str::FromStr;
use memlatch::LossReason;

/// Nanoseconds of the clock.
pub type Instant = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Instant,
    /// Whom it is about. Each process has a number that no other ever has.
    pub process: u32,
    pub key: u32,
    /// Counts the acquisitions of a process.
    pub holding: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Begin { limit: Option<u64> },
    Granted { token: Option<u64>, until: Instant },
    NotGranted(NotGranted),
    Until(Instant),
    Release { until: Instant, dropped: bool },
    Released(Released),
    Lost { reason: LossReason, until: Instant },
    Paused { since: Instant },
    Process(Fate),
    Server(Fault),
}

/// The reason why an acquisition did not come to a holding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotGranted {
    Refused,
    Timeout,
    /// Dropped by the caller.
    Cancelled,
    Failed(String),
}

/// The outcome of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    Freed,
    AlreadyLost(LossReason),
    /// Dropped by the caller.
    Cancelled,
    Failed(String),
}

/// An event in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// From here on it may not run.
    Stopped,
    /// It runs again, at the latest.
    Continued,
    /// It is about to be killed.
    Killed,
    /// It has left by itself.
    Ended,
}

/// An event in the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Stopped,
    Continued,
    /// From here on it may have forgotten everything, …
    Forgetting,
    /// … and from here on it does not forget.
    Forgotten,
}

const REASONS: [LossReason; 7] = [
    LossReason::Expired,
    LossReason::MaxHold,
    LossReason::TakenOver,
    LossReason::Missing,
    LossReason::ServerRestarted,
    LossReason::Unreachable,
    LossReason::Released,
];

const FATES: [(Fate, &str); 4] = [
    (Fate::Stopped, "stopped"),
    (Fate::Continued, "continued"),
    (Fate::Killed, "killed"),
    (Fate::Ended, "ended"),
];

const FAULTS: [(Fault, &str); 4] = [
    (Fault::Stopped, "server-stopped"),
    (Fault::Continued, "server-continued"),
    (Fault::Forgetting, "server-forgetting"),
    (Fault::Forgotten, "server-forgotten"),
];

/// A number that may be missing.
struct Maybe(Option<u64>);

impl fmt::Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("-"),
        }
    }
}

fn word<T: PartialEq>(table: &[(T, &'static str)], value: &T) -> &'static str {
    let found = table.iter().find(|(listed, _)| listed == value);
    found.expect("all are listed").1
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            process,
            key,
            holding,
            what,
        } = self;
        write!(f, "{at} {process} {key} {holding} {what}")
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin { limit } => write!(f, "begin {}", Maybe(*limit)),
            Self::Granted { token, until } => write!(f, "granted {} {until}", Maybe(*token)),
            Self::NotGranted(NotGranted::Refused) => f.write_str("refused"),
            Self::NotGranted(NotGranted::Timeout) => f.write_str("timeout"),
            Self::NotGranted(NotGranted::Cancelled) => f.write_str("cancelled"),
            Self::NotGranted(NotGranted::Failed(kind)) => write!(f, "failed {kind}"),
            Self::Until(until) => write!(f, "until {until}"),
            Self::Release { until, dropped } => {
                let how = if *dropped { "drop" } else { "release" };
                write!(f, "{how} {until}")
            }
            Self::Released(Released::Freed) => f.write_str("freed"),
            Self::Released(Released::AlreadyLost(reason)) => {
                write!(f, "already-lost {}", reason.as_str())
            }
            Self::Released(Released::Cancelled) => f.write_str("release-cancelled"),
            Self::Released(Released::Failed(kind)) => write!(f, "release-failed {kind}"),
            Self::Lost { reason, until } => write!(f, "lost {} {until}", reason.as_str()),
            Self::Paused { since } => write!(f, "paused {since}"),
            Self::Process(fate) => f.write_str(word(&FATES, fate)),
            Self::Server(fault) => f.write_str(word(&FAULTS, fault)),
        }
    }
}

/// The error in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine(pub String);

/// The words of a line, one after the other.
struct Words<'a> {
    line: &'a str,
    rest: core::str::Split<'a, char>,
}

impl<'a> Words<'a> {
    fn bad(&self, what: &str) -> BadLine {
        BadLine(format!("{what} in `{}`", self.line))
    }

    fn word(&mut self) -> Result<&'a str, BadLine> {
        let word = self.rest.next();
        word.ok_or_else(|| self.bad("something is missing"))
    }

    fn number<T: FromStr>(&mut self) -> Result<T, BadLine> {
        let word = self.word()?;
        word.parse().map_err(|_| self.bad("a number is wrong"))
    }

    fn maybe(&mut self) -> Result<Option<u64>, BadLine> {
        match self.word()? {
            "-" => Ok(None),
            word => match word.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.bad("a number is wrong")),
            },
        }
    }

    fn reason(&mut self) -> Result<LossReason, BadLine> {
        let word = self.word()?;
        let found = REASONS.into_iter().find(|reason| reason.as_str() == word);
        found.ok_or_else(|| self.bad("an unknown reason"))
    }
}

impl FromStr for Event {
    type Err = BadLine;

    fn from_str(line: &str) -> Result<Self, BadLine> {
        let mut words = Words {
            line,
            rest: line.split(' '),
        };
        let (at, process) = (words.number()?, words.number()?);
        let (key, holding) = (words.number()?, words.number()?);
        let what = match words.word()? {
            "begin" => What::Begin {
                limit: words.maybe()?,
            },
            "granted" => What::Granted {
                token: words.maybe()?,
                until: words.number()?,
            },
            "refused" => What::NotGranted(NotGranted::Refused),
            "timeout" => What::NotGranted(NotGranted::Timeout),
            "cancelled" => What::NotGranted(NotGranted::Cancelled),
            "failed" => What::NotGranted(NotGranted::Failed(words.word()?.to_owned())),
            "until" => What::Until(words.number()?),
            how @ ("release" | "drop") => What::Release {
                until: words.number()?,
                dropped: how == "drop",
            },
            "freed" => What::Released(Released::Freed),
            "already-lost" => What::Released(Released::AlreadyLost(words.reason()?)),
            "release-cancelled" => What::Released(Released::Cancelled),
            "release-failed" => What::Released(Released::Failed(words.word()?.to_owned())),
            "lost" => What::Lost {
                reason: words.reason()?,
                until: words.number()?,
            },
            "paused" => What::Paused {
                since: words.number()?,
            },
            word => {
                let fate = FATES.iter().find(|(_, listed)| *listed == word);
                let fault = FAULTS.iter().find(|(_, listed)| *listed == word);
                match (fate, fault) {
                    (Some((fate, _)), _) => What::Process(*fate),
                    (_, Some((fault, _))) => What::Server(*fault),
                    _ => return Err(words.bad("an unknown word")),
                }
            }
        };
        if words.rest.next().is_some() {
            return Err(words.bad("too much"));
        }
        Ok(Self {
            at,
            process,
            key,
            holding,
            what,
        })
    }
}
