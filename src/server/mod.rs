//! A memcached for tests, demos and fault injection, in this process.
//!
//! Speaks both text protocols and keeps to the rules of memcached 1.6.45: whole seconds, lazy expiry,
//! one counter for all CAS uniques, memory in pages for items of one size, hot, warm and cold queues,
//! and a `flush_all` that walks each queue to the first older item and leaves the rest to be found. It
//! is held to transcripts of the real server, and to the real server itself under random sequences.
//!
//! It leaves out the binary protocol, TLS and UDP; pages that move between sizes; the crawler
//! that looks for expired items by itself. The thread that moves items between queues is replaced by
//! one look in each second. `watch` reports deletions, mutations and evictions; the other streams
//! stay silent.
//!
//! It adds hooks for the faults that locks have to survive, see [`Server`]. It is not
//! meant to hold anything of value.
//!
//! A server appears to have run for a year, so that clients grant their first lock at once; see
//! [`ServerBuilder::uptime`].
//!
//! ```
//! # #[cfg(feature = "blocking")] {
//! use memlatch::blocking::Client;
//! use memlatch::server::Server;
//!
//! let server = Server::start()?;
//! let client = Client::builder().server(server.address()).build()?;
//! let guard = client.lock("reports").try_acquire()?.expect("a free lock");
//! assert!(guard.is_valid());
//! println!("{:?}", guard.release()?);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admin;
mod auth;
mod base64;
mod builder;
mod cache;
mod classic;
mod clock;
mod connection;
mod connections;
mod counters;
mod detail;
mod dispatch;
mod engine;
#[cfg(feature = "__fuzzing")]
pub(crate) mod in_memory;
mod item;
mod listener;
mod meta;
mod replies;
mod settings;
mod shared;
mod slabs;
mod stall;
mod stats;
mod store;
mod store_request;
mod stream;
mod watch_log;
mod watcher;

pub use builder::ServerBuilder;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use shared::Shared;
use std::io;
use std::thread::{self, JoinHandle};

/// A running server. It ends, with all its threads and connections, when this is dropped.
///
/// # Example
/// ```
/// # #[cfg(feature = "blocking")] {
/// let server = memlatch::server::Server::start()?;
/// let client = memlatch::blocking::Client::connect(server.address())?;
/// let guard = client.lock("reports").acquire()?;
/// // What a full server may do to a lock.
/// assert!(server.evict(guard.key()));
/// assert!(guard.verify().is_err());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    url: String,
}

impl Server {
    /// Starts a server on a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is no free port, or no thread can be made.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Sets up a server that differs from [`Server::start`].
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// The address of the server, in the form clients take: `memcached://127.0.0.1:40123` or
    /// `unix:///run/mc.sock`.
    #[must_use]
    pub fn address(&self) -> String {
        self.url.clone()
    }

    /// The address and port the server listens on, unless it is a Unix socket.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.shared.registry.socket_addr()
    }

    /// Returns `true` if a client has ended the server with `shutdown`.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopping()
    }

    /// Waits until a client ends the server with `shutdown`.
    pub fn wait(mut self) {
        self.join_acceptor();
    }

    fn join_acceptor(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in it has been reported by then; there is nothing to add.
            let _ = acceptor.join();
        }
    }
}

/// Hooks for tests.
impl Server {
    /// Kills the server and starts it anew on the same address: every connection ends, nothing is
    /// remembered, CAS uniques start over, `stats` shows another pid and a start in this second,
    /// whatever [`ServerBuilder::uptime`] was.
    pub fn restart(&self) {
        self.shared.restart();
    }

    /// Does what `flush_all` does, even where that command is not allowed.
    ///
    /// That is not to forget all items. As in memcached 1.6.25 and later an item survives that was
    /// read in the same second and stands behind an older one in its queue.
    pub fn flush_all(&self) {
        self.flush_all_while_locked::<&[u8]>(&[]);
    }

    /// Does what `flush_all` does while other threads work on the items under these keys.
    ///
    /// memcached 1.6.25 and later passes over such items: one that was stored or read in the same
    /// second survives, wherever it stands.
    pub fn flush_all_while_locked<K: AsRef<[u8]>>(&self, keys: &[K]) {
        let mut engine = self.shared.engine();
        let now = engine.begin();
        let base = engine.clock.base();
        let is_locked = |key: &[u8]| keys.iter().any(|locked| locked.as_ref() == key);
        engine.store.flush(0, base, now, is_locked);
    }

    /// Forgets the item under `key`, as if memory had been short. Says whether there was one.
    pub fn evict(&self, key: impl AsRef<[u8]>) -> bool {
        let mut engine = self.shared.engine();
        let now = engine.begin();
        // A dead item cannot be evicted.
        let lives = engine.store.get(key.as_ref(), now).is_some();
        lives && engine.store.cache.evict(key.as_ref(), now)
    }

    /// Answers nothing for this long, as if the process had been stopped; returns at once.
    ///
    /// Requests that arrive meanwhile are executed afterwards, and on the clock as it stood when
    /// the stall began: that is what a real server does to most of them, and why a relative expiry
    /// taken right after a stall is short by as much.
    pub fn stall(&self, length: Duration) {
        let second = self.shared.engine().clock.now();
        self.shared.gate.shut(length, second);
    }

    /// Pushes the server's clock forward, for expiries, for `stats` and for absolute times alike.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.engine().clock.advance(by);
    }

    /// Moves items between their queues at once, as memcached's LRU maintainer thread may do at any
    /// time. Otherwise it happens once a second.
    pub fn run_lru_maintainer(&self) {
        let mut engine = self.shared.engine();
        let now = engine.begin();
        engine.store.cache.settle(now);
    }

    /// The value under `key`, if there is one that lives. Does not count as a use of the item.
    #[must_use]
    pub fn item(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let mut engine = self.shared.engine();
        let now = engine.begin();
        let item = engine.store.get(key.as_ref(), now)?;
        Some(item.value.clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
        let running = |acceptor: &JoinHandle<()>| !acceptor.is_finished();
        let mut waited = 0u32;
        while self.acceptor.as_ref().is_some_and(running) {
            thread::sleep(Duration::from_millis(1));
            waited += 1;
            // Without free descriptors no connection could be accepted the first time.
            if waited % 64 == 0 {
                self.shared.wake();
            }
        }
        self.join_acceptor();
        // The connection that was accepted last is registered by now.
        self.shared.registry.end();
        #[cfg(unix)]
        if let Some(path) = self.shared.registry.socket_path() {
            // The file may have been removed already.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;

    #[test]
    fn no_thread_outlives_the_server() {
        let server = Server::start().expect("a free port");
        let addr = server.socket_addr().expect("a port");
        let mut streams: Vec<_> = (0..8)
            .map(|_| TcpStream::connect(addr).expect("a server"))
            .collect();
        server.stall(Duration::from_secs(60));
        // Every thread holds on to what they share.
        let shared = Arc::downgrade(&server.shared);
        drop(server);
        assert!(shared.upgrade().is_none());
        for stream in &mut streams {
            let end = stream.read(&mut [0]);
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
    }
}
