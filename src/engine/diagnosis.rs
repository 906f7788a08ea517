//! The diagnosis of a server that is to hold locks.

use super::check::{Check, CheckContext, Peer, Severity};
use super::checks;
use super::config::Config;
use super::connect_error::ConnectError;
use crate::net::{NetCause, NetError};
use crate::proto::{ProbeStep, ServerProbe, ServerReport};
use core::net::SocketAddr;
use core::time::Duration;
use std::string::{String, ToString};
use std::vec::Vec;

/// The findings about a server.
///
/// They show one instant. The locks themselves notice later events, such as a restart.
///
/// # Checks
/// | id | subject |
/// |---|---|
/// | `version` | the release, and what it lacks |
/// | `proxy` | whether it is a memcached server at all, or a proxy before one |
/// | `instances` | whether all connections, and all addresses of the name, lead to one server |
/// | `cas` | whether items have CAS uniques (not with `-C`) |
/// | `eviction` | whether locks are dropped when memory is short |
/// | `out-of-memory` | whether items were refused because memory was full |
/// | `page-moves` | whether memory moves between size classes |
/// | `item-size` | whether the largest lock fits in (`-I`) |
/// | `extstore` | whether items may lie on a disk |
/// | `flush` | whether a client empties the cache, or has scheduled that |
/// | `restart` | how long the server has remembered everything |
/// | `memory-file` | whether items outlive a restart (`-e`) |
/// | `connections` | how many there are, and may be |
/// | `idle-timeout` | whether the server closes idle connections |
/// | `threads` | how many serve connections |
/// | `round-trip` | how long replies take |
/// | `clock` | whether the server's clock agrees with this machine's |
/// | `encryption` | whether the traffic can be read on the way |
/// | `authentication` | whether the server requires a password |
/// | `shutdown-command` | whether clients may end the server (`-A`) |
/// | `key-dump` | whether clients may list all keys (not with `-X`) |
/// | `change` | what has happened [since](Self::since) an earlier diagnosis, if there was one |
///
/// Checks about facts that the server does not report are notes. Later releases may have more
/// checks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The address of the server.
    pub server: String,
    /// Its release, as the server reports it: print it with care.
    pub version: String,
    /// The longest lease that the checks assume: the client's
    /// [`max_lease`](super::ClientBuilder::max_lease), or the longest lease in use under the
    /// prefix, as the server reports it, if that is longer.
    pub longest_lease: Duration,
    /// The minimum value of `temporary_ttl` that keeps locks with such leases from being evicted,
    /// in seconds.
    pub temporary_ttl: u64,
    /// The findings, in an order for reading.
    pub checks: Vec<Check>,
    survey: ServerReport,
    terms: CheckContext,
}

/// The number of connections that are opened at the same time, to see whether they lead to the same
/// server.
const CONNECTIONS: usize = 4;

/// Returns the targets of the connections that are compared: each address of the name, and the
/// first one several times, because a proxy there may spread connections over servers.
pub(crate) fn to_compare(found: &[SocketAddr]) -> Vec<&[SocketAddr]> {
    let first = &found[..found.len().min(1)];
    let mut places: Vec<_> = found.chunks(1).collect();
    places.resize(places.len().max(CONNECTIONS), first);
    places
}

impl Diagnosis {
    pub(crate) fn new(
        config: &Config,
        survey: ServerReport,
        peers: &[Peer],
        unix_seconds: u64,
    ) -> Self {
        let terms = CheckContext::new(config, &survey, unix_seconds);
        Self {
            server: config.address.to_string(),
            version: survey.version.clone(),
            longest_lease: terms.longest.duration(),
            temporary_ttl: terms.seconds_to_live(),
            checks: checks::all(&survey, peers, &terms),
            survey,
            terms,
        }
    }

    /// Returns the same with one check more, `change`: whether the server was restarted or flushed
    /// since an earlier diagnosis, and the items it dropped or refused. Counters alone do not show
    /// when that was.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.checks.retain(|check| check.id != "change");
        let change = checks::change(&earlier.survey, &self.survey, &self.terms);
        self.checks.push(change);
        self
    }

    /// Returns the worst severity of all checks.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let verdicts = self.checks.iter().map(|check| check.severity);
        verdicts.max().unwrap_or(Severity::Fine)
    }

    /// Returns the check with this id, if there is one.
    #[must_use]
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }
}

/// Returns the result of one flight of the probe: the report when it is complete, or `None` when
/// there is more to request.
///
/// A server that closes the connection on a request, or sends an unexpected reply, has shown
/// something about itself. A server without a reply in time has not.
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
                .ok_or_else(|| ConnectError::from_exchange(secret, error))
        }
    }
}
