//! Which run of a server it is, and what that server can do.

use super::server_clock::ServerClock;
use core::fmt;

/// One run of a server process, from its start to its end.
///
/// CAS uniques start anew with each, so one that was granted by another incarnation may belong to
/// somebody else's record. Nothing that names a CAS unique goes to any other than the one it came
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The server's process id.
    pub pid: u64,
    /// The second at which it started, in its own time base (`time - uptime` of `stats`).
    pub started: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} started at {}", self.pid, self.started)
    }
}

/// Which of memcached's text protocols the lock speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// `mg`, `md` and `ma`, stable since memcached 1.6.10.
    Meta,
    /// `add`, `gets`, `cas` and `incr`, on any server.
    Classic,
}

/// What a server can do, as found out by asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The protocol to speak.
    pub dialect: Dialect,
    /// Whether a request may name the CAS unique that an item gets (flag `E`, memcached 1.6.27 and
    /// later).
    pub explicit_cas: bool,
}

/// What one client knows of one server.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// The run of the server that this is about.
    pub incarnation: Incarnation,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What is known of its clock.
    pub clock: ServerClock,
}

impl ServerView {
    /// Takes in what a handshake on another connection found. Returns whether the server is
    /// another incarnation than before, so that all that was known of it is void.
    pub fn update(&mut self, fresh: Self) -> bool {
        if self.incarnation != fresh.incarnation {
            *self = fresh;
            return true;
        }
        self.clock.absorb(&fresh.clock);
        self.capabilities = fresh.capabilities;
        false
    }
}
