//! A finding about a server, and what it was judged by.

use super::config::Config;
use crate::net::Address;
use crate::proto::{InstanceWord, Lease, ServerReport, seconds_to_live};
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::string::String;

/// How much a finding matters. The worse ones are the greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Good to know. Nothing has to be done.
    Note,
    /// Locks may be lost, or may not be had, under conditions that can come.
    Warning,
    /// Locks on this server cannot be relied on, or cannot be had at all.
    Unsafe,
}

impl Severity {
    /// The word for it: `fine`, `note`, `warning` or `unsafe`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Unsafe => "unsafe",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What it is about, such as `eviction`. Stays the same from release to release.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen. It may hold words of the server's: print it with care.
    pub observed: String,
    /// What that means for locks.
    pub meaning: String,
    /// What to do, where there is something to do.
    pub advice: Option<String>,
}

/// A connection that was made to be compared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where it went; none for a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// What was at its other end; none where nothing answered.
    pub(crate) identity: Option<Identity>,
}

impl Peer {
    pub(crate) fn new(address: Option<SocketAddr>, survey: Option<&ServerReport>) -> Self {
        let identity = survey.and_then(Identity::of);
        Self { address, identity }
    }
}

/// What tells a run of a server from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The pid and the start, which servers in containers may have in common.
    pub(crate) run: (u64, u64),
    /// The instance word of its sentinel, if it has one.
    pub(crate) instance: Option<InstanceWord>,
    /// How many connections it has taken so far.
    pub(crate) connections: Option<u64>,
}

impl Identity {
    pub(crate) fn of(survey: &ServerReport) -> Option<Self> {
        Some(Self {
            run: survey.process()?,
            instance: survey.instance_word(),
            connections: survey.general.as_ref()?.total_connections,
        })
    }

    /// Whether a connection that was made later leads to another server than this one.
    pub(crate) fn is_apart_from(&self, later: &Self) -> bool {
        let differ = |one: Option<InstanceWord>, other| one.zip(other).is_some_and(|(a, b)| a != b);
        let counts = self.connections.zip(later.connections);
        // A server counts each connection, so the later one has the higher number there.
        self.run != later.run
            || differ(self.instance, later.instance)
            || counts.is_some_and(|(earlier, later)| later <= earlier)
    }
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportSecurity {
    /// Within this machine.
    Local,
    /// Over a network, for all to read.
    Plain,
    /// By TLS.
    Encrypted,
}

/// What this client is set to, as far as checks go by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckContext {
    pub(super) longest: Lease,
    pub(super) restart_guard: bool,
    pub(super) operation_timeout: Duration,
    /// How long a connection of a client with locks is idle at most.
    pub(super) renewal: Duration,
    pub(super) way: TransportSecurity,
    pub(super) password: bool,
    /// This machine's wall clock.
    pub(super) unix_seconds: u64,
}

impl CheckContext {
    pub(super) fn new(settings: &Config, survey: &ServerReport, unix_seconds: u64) -> Self {
        let own = settings.max_lease;
        let longest = survey.longest.map_or(own, |longest| longest.max(own));
        Self {
            longest,
            restart_guard: settings.restart_guard,
            operation_timeout: settings.operation_timeout,
            renewal: longest.duration() / 3,
            way: match settings.address {
                Address::Tls { .. } => TransportSecurity::Encrypted,
                _ if settings.is_local() => TransportSecurity::Local,
                _ => TransportSecurity::Plain,
            },
            password: settings.credentials.is_some(),
            unix_seconds,
        }
    }

    /// What `temporary_ttl` must be at least.
    pub(super) fn seconds_to_live(&self) -> u64 {
        seconds_to_live(self.longest)
    }
}
