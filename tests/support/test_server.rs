//! The servers and protocols that a lock must work on.

use super::memcached::{self, RealServer};
use core::time::Duration;
use memlatch::{ClientBuilder, Protocol};

/// No lease of a test is longer.
const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// A real server, and the protocol to speak with it; `None` is the best that it knows.
pub struct TestServer {
    pub server: RealServer,
    pub protocol: Option<Protocol>,
}

impl TestServer {
    /// Each version with each protocol, on a server of its own.
    pub fn all() -> Vec<Self> {
        Self::started_with(&[])
    }

    /// The same, with these arguments.
    pub fn started_with(arguments: &[&str]) -> Vec<Self> {
        let mut targets = Vec::new();
        for binary in memcached::required() {
            for protocol in [None, Some(Protocol::Classic)] {
                let server = binary.start(arguments);
                targets.push(Self { server, protocol });
            }
        }
        targets
    }

    /// Settings without the restart guard, which is a subject of its own.
    pub fn settings<F>(&self, builder: ClientBuilder<F>) -> ClientBuilder<F> {
        let builder = builder
            .server(self.server.url())
            .restart_guard(false)
            .max_lease(LONGEST_LEASE);
        match self.protocol {
            Some(protocol) => builder.protocol(protocol),
            None => builder,
        }
    }

    #[cfg(feature = "tokio")]
    pub async fn client(&self) -> memlatch::Client {
        let client = self.settings(memlatch::Client::builder()).build().await;
        client.expect("the server is there")
    }

    #[cfg(feature = "blocking")]
    pub fn blocking_client(&self) -> memlatch::blocking::Client {
        let client = self.settings(memlatch::blocking::Client::builder()).build();
        client.expect("the server is there")
    }

    /// Deletes the item with this key.
    pub fn delete(&self, key: &[u8]) {
        let request = [b"delete ", key, b"\r\n"].concat();
        assert_eq!(self.server.command(&request), b"DELETED\r\n");
    }
}
