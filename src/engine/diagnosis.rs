//! What is right and what is wrong with a server that locks are to be kept on.

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
