//! Whether a server is a good place for locks, and making it a better one.

use super::Client;
use super::connect::COUNT;
use super::pool::Link;
use crate::engine::transport::run;
use crate::engine::{ClientBuilder, Config, ConnectError, Diagnosis, LockError, Peer};
use crate::engine::{clock, surveyed, to_compare};
use crate::net::{NetCause, NetError};
use crate::proto::{ServerProbe, ServerReport, TemporaryLru};
use core::net::SocketAddr;
use std::vec::Vec;

impl Client {
    /// Looks at the server: whether locks may be dropped there, or not be had, and what to do
    /// about it.
    ///
    /// Asks for the server's settings and counters, in four round trips (five with a
    /// password) on a connection of its own, and makes a few more connections to see whether all lead
    /// to the same server.
    /// Nothing is stored, and no lock is looked at. What is found goes by this client's settings,
    /// above all its [`max_lease`](ClientBuilder::max_lease).
    ///
    /// # Errors
    /// The server cannot be reached, does not answer, or does not let this client in. That it
    /// refuses to tell something is no error.
    pub fn diagnose(&self) -> Result<Diagnosis, LockError> {
        diagnose(&self.inner().node.config)
    }

    /// Asks the server to exempt from eviction what is stored with no more seconds to live than locks
    /// with the client's [`max_lease`](ClientBuilder::max_lease): `lru temp_ttl N`, with the
    /// [`temporary_ttl`](Diagnosis::temporary_ttl) that a diagnosis tells.
    ///
    /// A higher limit that the server has already stays as it is. Whether it took the new one is
    /// looked up. Locks that are held then are exempt once they were acquired anew; lean ones never
    /// are. The setting is the whole server's, so items of others with as short a life are exempt as
    /// well, and it is gone with the next restart: start the server with `-o temporary_ttl=N`.
    ///
    /// # Errors
    /// The server cannot be reached or does not answer; with
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown), it may have taken the setting.
    pub fn enable_temporary_lru(&self) -> Result<TemporaryLru, LockError> {
        run(self.inner().enable_temporary_lru())
    }
}

impl ClientBuilder<Client> {
    /// Looks at the server as [`Client::diagnose`] does, where a client may not be had: on a server
    /// without CAS, behind a proxy, under a prefix that somebody else uses.
    ///
    /// # Errors
    /// A setting cannot be used, or as for [`Client::diagnose`].
    pub fn diagnose(self) -> Result<Diagnosis, LockError> {
        diagnose(&self.validate(COUNT)?)
    }
}

fn diagnose(settings: &Config) -> Result<Diagnosis, LockError> {
    let (survey, peers) = survey_all(settings).map_err(|why| why.at(&settings.address))?;
    let now = clock::now().unix_seconds;
    Ok(Diagnosis::new(settings, survey, &peers, now))
}

/// The survey, and which servers some more connections lead to.
fn survey_all(settings: &Config) -> Result<(ServerReport, Vec<Peer>), ConnectError> {
    let found = Link::resolve(&settings.address, &settings.connect_options);
    let found = found.map_err(ConnectError::Net)?;
    let (survey, _connection) = survey(settings, &found, settings.probe())?;
    // All of them are open at the same time: who spreads connections does so evenly.
    let mut open = Vec::new();
    let mut peers = Vec::new();
    for place in to_compare(&found) {
        let peer = self::survey(settings, place, settings.probe().briefly());
        let survey = peer.as_ref().ok().map(|(survey, _)| survey);
        peers.push(Peer::new(place.first().copied(), survey));
        open.push(peer);
    }
    Ok((survey, peers))
}

fn survey(
    settings: &Config,
    found: &[SocketAddr],
    mut surveyor: ServerProbe<'_>,
) -> Result<(ServerReport, Link), ConnectError> {
    let limit = settings.connect_timeout;
    let dialled = Link::dial(&settings.address, found, &settings.connect_options, limit);
    let mut connection = dialled.map_err(ConnectError::Net)?;
    loop {
        let began = clock::monotonic();
        let elapsed = || clock::monotonic().since(began);
        surveyor.prepare(connection.next_flight());
        let answer = match connection.exchange(settings.operation_timeout, elapsed) {
            Ok(mut replies) => surveyor
                .interpret(&mut replies, began, clock::monotonic())
                .map_err(|error| NetError::sent(NetCause::unexpected(error))),
            Err(error) => Err(error),
        };
        surveyor = match surveyed(surveyor, answer)? {
            Ok(survey) => return Ok((survey, connection)),
            Err(surveyor) => surveyor,
        };
    }
}
