//! Checks whether a server is suitable for locks, and improves one setting of it.

use super::Client;
use super::connect::COUNT;
use super::pool::Connections;
use crate::engine::connect::diagnose;
use crate::engine::exchange::run;
use crate::engine::{ClientBuilder, Diagnosis, LockError};
use crate::proto::TemporaryLru;

impl Client {
    /// Checks the server: whether it may drop locks or refuse to store them, and how to correct
    /// that.
    ///
    /// Requests the server's settings and counters, in four round trips (five with a password) on a
    /// separate connection, and opens a few more connections to see whether all lead to the same
    /// server. Stores nothing, and inspects no lock. The findings depend on this client's settings,
    /// above all its [`max_lease`](ClientBuilder::max_lease).
    ///
    /// # Errors
    /// The server cannot be reached, does not answer, or rejects this client. A server that does
    /// not report some of its settings causes no error.
    pub fn diagnose(&self) -> Result<Diagnosis, LockError> {
        run(diagnose::<Connections>(&self.inner().node.config))
    }

    /// Requests that the server exempt from eviction all items with no more seconds to live than
    /// locks with the client's [`max_lease`](ClientBuilder::max_lease): `lru temp_ttl N`, with the
    /// [`temporary_ttl`](Diagnosis::temporary_ttl) of a diagnosis.
    ///
    /// A higher limit that the server has already stays as it is. The client then reads the
    /// setting, to see whether the server accepted it. Locks that are held at that time are exempt
    /// after their next acquisition; locks without a record never are. The setting applies to the
    /// whole server, so items of other programs with as short a life are exempt as well. It is gone
    /// after the next restart: start the server with `-o temporary_ttl=N`.
    ///
    /// # Errors
    /// The server cannot be reached or does not answer. With
    /// [`ErrorKind::Unknown`](crate::ErrorKind::Unknown), it may have applied the setting.
    pub fn enable_temporary_lru(&self) -> Result<TemporaryLru, LockError> {
        run(self.inner().enable_temporary_lru())
    }
}

impl ClientBuilder<Client> {
    /// Checks the server as [`Client::diagnose`] does, where no client can be built: on a server
    /// without CAS, behind a proxy, or under a prefix that another program uses.
    ///
    /// # Errors
    /// A setting cannot be used, or as for [`Client::diagnose`].
    pub fn diagnose(self) -> Result<Diagnosis, LockError> {
        run(diagnose::<Connections>(&self.validate(COUNT)?))
    }
}
