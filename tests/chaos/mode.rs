//! The faults that may happen in a run, and the rules that must hold then.

use super::history::check::Rules;
use core::fmt;
use core::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything that the promises of the library reach to.
    Inside,
    /// The server is small, and cache entries press locks out of it.
    Eviction,
    /// The same, and the server keeps what expires soon.
    EvictionWithTempLru,
    /// The server is restarted and flushed, and clients do not wait then.
    RestartWithoutGuard,
}

pub(crate) const MODES: [Mode; 4] = [
    Mode::Inside,
    Mode::Eviction,
    Mode::EvictionWithTempLru,
    Mode::RestartWithoutGuard,
];

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Eviction => "outside-eviction",
            Self::EvictionWithTempLru => "outside-eviction-with-temp-lru",
            Self::RestartWithoutGuard => "outside-restart-without-guard",
        }
    }

    pub(crate) fn server_args(self) -> &'static [&'static str] {
        match self {
            Self::Inside | Self::RestartWithoutGuard => &[],
            // Less than the defaults of some versions need for the largest items.
            Self::Eviction => &["-m", "2", "-I", "512k"],
            Self::EvictionWithTempLru => &["-m", "2", "-I", "512k", "-o", "temporary_ttl=61"],
        }
    }

    pub(crate) fn is_flooded(self) -> bool {
        matches!(self, Self::Eviction | Self::EvictionWithTempLru)
    }

    pub(crate) fn restart_guard(self) -> bool {
        self != Self::RestartWithoutGuard
    }

    pub(crate) fn rules(self) -> Rules {
        Rules {
            overlaps: matches!(self, Self::Eviction | Self::RestartWithoutGuard),
            evictions: self == Self::Eviction,
            counters: self.is_flooded(),
            unguarded: !self.restart_guard(),
            ..Rules::STRICT
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let found = MODES.into_iter().find(|mode| mode.as_str() == name);
        found.ok_or(())
    }
}
