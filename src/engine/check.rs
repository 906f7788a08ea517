//! A finding about a server, and the data that it is judged by.

use super::config::Config;
use crate::net::Address;
use crate::proto::{InstanceWord, Lease, ServerReport, seconds_to_live};
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::string::String;

/// The severity of a finding. The worse one is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Good to know. No action is needed.
    Note,
    /// Under conditions that can occur, locks may be lost, or calls may fail to acquire them.
    Warning,
    /// Locks on this server cannot be relied on, or cannot be acquired at all.
    Unsafe,
}

impl Severity {
    /// Returns the word for it: `fine`, `note`, `warning` or `unsafe`.
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

/// The finding of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The subject of the check, such as `eviction`. Stays the same from release to release.
    pub id: &'static str,
    /// The severity of the finding.
    pub severity: Severity,
    /// The observation. It may contain text of the server: print it with care.
    pub observed: String,
    /// The consequence for locks.
    pub meaning: String,
    /// The recommended action, if there is one.
    pub advice: Option<String>,
}

/// A connection that was opened to be compared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The remote address; `None` for a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// The server that answered; `None` if none did.
    pub(crate) identity: Option<Identity>,
}

impl Peer {
    pub(crate) fn new(address: Option<SocketAddr>, survey: Option<&ServerReport>) -> Self {
        let identity = survey.and_then(Identity::of);
        Self { address, identity }
    }
}

/// The data that distinguish one server instance from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id and the start time, which servers in containers may have in common.
    pub(crate) run: (u64, u64),
    /// The instance word of its sentinel, if it has one.
    pub(crate) instance: Option<InstanceWord>,
    /// The number of connections that the server has accepted so far.
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

    /// Returns whether a connection that was opened later leads to another server than this one.
    pub(crate) fn is_apart_from(&self, later: &Self) -> bool {
        let differ = |one: Option<InstanceWord>, other| one.zip(other).is_some_and(|(a, b)| a != b);
        let counts = self.connections.zip(later.connections);
        // A server counts each connection, so the later connection has the higher number there.
        self.run != later.run
            || differ(self.instance, later.instance)
            || counts.is_some_and(|(earlier, later)| later <= earlier)
    }
}

/// The way in which a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportSecurity {
    /// Within this machine.
    Local,
    /// Over a network, readable by others.
    Plain,
    /// By TLS.
    Encrypted,
}

/// The settings of this client that checks depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckContext {
    pub(super) longest: Lease,
    pub(super) restart_guard: bool,
    pub(super) operation_timeout: Duration,
    /// The maximum time for which a connection of a client with locks is idle.
    pub(super) renewal: Duration,
    pub(super) way: TransportSecurity,
    pub(super) password: bool,
    /// This machine's wall clock.
    pub(super) unix_seconds: u64,
}

impl CheckContext {
    pub(super) fn new(config: &Config, survey: &ServerReport, unix_seconds: u64) -> Self {
        let own = config.max_lease;
        let longest = survey.longest.map_or(own, |longest| longest.max(own));
        Self {
            longest,
            restart_guard: config.restart_guard,
            operation_timeout: config.operation_timeout,
            renewal: longest.duration() / 3,
            way: match config.address {
                Address::Tls { .. } => TransportSecurity::Encrypted,
                _ if config.is_local() => TransportSecurity::Local,
                _ => TransportSecurity::Plain,
            },
            password: config.credentials.is_some(),
            unix_seconds,
        }
    }

    /// Returns the minimum value of `temporary_ttl`.
    pub(super) fn seconds_to_live(&self) -> u64 {
        seconds_to_live(self.longest)
    }
}
