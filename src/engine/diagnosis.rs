//! What is right and what is wrong with a server that locks are to be kept on.

use super::checks;
use super::config::Config;
use super::node::ConnectError;
use crate::net::{Address, NetCause, NetError};
use crate::proto::{InstanceWord, Lease, ProbeStep, ServerProbe, ServerReport, seconds_to_live};
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::string::{String, ToString};
use std::vec::Vec;

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

/// What a look at a server has shown.
///
/// It shows one instant. What comes later, such as a restart, is noticed by the locks themselves.
///
/// # What is looked at
/// | id | what it is about |
/// |---|---|
/// | `version` | the release, and what it lacks |
/// | `proxy` | whether it is a memcached server at all, or something in front of one |
/// | `instances` | whether all connections, and all addresses of the name, lead to the same server |
/// | `cas` | whether items have CAS uniques (not with `-C`) |
/// | `eviction` | whether locks are dropped when memory is short |
/// | `out-of-memory` | whether items were refused for want of memory |
/// | `page-moves` | whether memory moves between size classes |
/// | `item-size` | whether the largest lock fits in (`-I`) |
/// | `extstore` | whether items may lie on a disk |
/// | `flush` | whether somebody empties the cache, or has said so for later |
/// | `restart` | how long the server has remembered everything |
/// | `memory-file` | whether items outlive a restart (`-e`) |
/// | `connections` | how many there are, and may be |
/// | `idle-timeout` | whether connections are closed that are not used |
/// | `threads` | how many serve connections |
/// | `round-trip` | how long answers take |
/// | `clock` | whether the server's clock agrees with this machine's |
/// | `encryption` | whether what is sent can be read on the way |
/// | `authentication` | whether the server wants a password |
/// | `shutdown-command` | whether clients may end the server (`-A`) |
/// | `key-dump` | whether clients may list all keys (not with `-X`) |
/// | `change` | what has happened [since](Self::since) an earlier look, where there was one |
///
/// Checks about what the server does not say are notes. Later releases may have more of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The address of the server.
    pub server: String,
    /// Its release, in its own words: print it with care.
    pub version: String,
    /// The longest lease that was asked about: the client's
    /// [`max_lease`](super::ClientBuilder::max_lease), or the longest lease in use under the prefix, by what
    /// the server says, where that is longer.
    pub longest_lease: Duration,
    /// What `temporary_ttl` must be, at least, to keep locks with such leases from being evicted, in
    /// seconds.
    pub temporary_ttl: u64,
    /// What was looked at, in an order for reading.
    pub checks: Vec<Check>,
    survey: ServerReport,
    terms: CheckContext,
}

/// How many connections are made at the same time, to see whether they lead to the same server.
const CONNECTIONS: usize = 4;

/// Where the connections go that are compared: to each address of the name, and to the first one
/// several times, behind which may stand what spreads connections over servers.
pub(crate) fn to_compare(found: &[SocketAddr]) -> Vec<&[SocketAddr]> {
    let first = &found[..found.len().min(1)];
    let mut places: Vec<_> = found.chunks(1).collect();
    places.resize(places.len().max(CONNECTIONS), first);
    places
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

impl Diagnosis {
    pub(crate) fn new(
        settings: &Config,
        survey: ServerReport,
        peers: &[Peer],
        unix_seconds: u64,
    ) -> Self {
        let terms = CheckContext::new(settings, &survey, unix_seconds);
        Self {
            server: settings.address.to_string(),
            version: survey.version.clone(),
            longest_lease: terms.longest.duration(),
            temporary_ttl: terms.seconds_to_live(),
            checks: checks::all(&survey, peers, &terms),
            survey,
            terms,
        }
    }

    /// The same with one check more, `change`: whether the server was restarted or flushed since an
    /// earlier look, and what it dropped or refused. Counters alone do not tell when that was.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.checks.retain(|check| check.id != "change");
        let change = checks::change(&earlier.survey, &self.survey, &self.terms);
        self.checks.push(change);
        self
    }

    /// The worst verdict of all checks.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let verdicts = self.checks.iter().map(|check| check.severity);
        verdicts.max().unwrap_or(Severity::Fine)
    }

    /// The check with this id, if there is one.
    #[must_use]
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }
}

/// What one flight of a survey has come to: the survey when it is over, or nothing when there is
/// more to ask.
///
/// A server that hangs up on a question, or answers it with something else, has said something about
/// itself. One that says nothing in time has not.
pub(crate) fn surveyed(
    surveyor: ServerProbe<'_>,
    answer: Result<ProbeStep, NetError>,
) -> Result<Result<ServerReport, ServerProbe<'_>>, ConnectError> {
    match answer {
        Ok(ProbeStep::More) => Ok(Err(surveyor)),
        Ok(ProbeStep::Done(survey)) => Ok(Ok(*survey)),
        Ok(ProbeStep::Failed(failure)) => Err(ConnectError::Rejected(failure)),
        Err(error) => {
            let secret = surveyor.is_secret();
            let silent = matches!(error.cause, NetCause::Timeout(_));
            let survey = (!silent).then(|| surveyor.cut_short()).flatten();
            survey
                .map(Ok)
                .ok_or_else(|| ConnectError::asking(secret, error))
        }
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
    fn new(settings: &Config, survey: &ServerReport, unix_seconds: u64) -> Self {
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
