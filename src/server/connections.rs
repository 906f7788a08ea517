//! The connections of a server: their number, their identity, and how they are ended.

use super::stream::Stream;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

#[derive(Debug)]
pub(crate) struct Connections {
    socket_addr: Option<SocketAddr>,
    socket_path: Option<String>,
    total: AtomicU64,
    /// Number of them that `stats` no longer counts.
    uncounted: AtomicU64,
    rejected: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<u64, Entry>,
    threads: Vec<JoinHandle<()>>,
    /// Which incarnation new connections belong to.
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    /// A second handle on the socket, through which it can be ended from outside.
    stream: Stream,
    peer: String,
}

/// The identity of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionId {
    pub(crate) number: u64,
    /// The incarnation it was accepted by. It gets no answer from a later one.
    pub(crate) generation: u64,
}

#[cfg(feature = "__fuzzing")]
impl ConnectionId {
    /// The ticket of a connection without a socket, to the first incarnation.
    pub(super) const fn first() -> Self {
        Self {
            number: 1,
            generation: 0,
        }
    }
}

impl Connections {
    pub(crate) fn new(socket_addr: Option<SocketAddr>, socket_path: Option<String>) -> Self {
        Self {
            socket_addr,
            socket_path,
            total: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            inner: Mutex::new(Inner::default()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn socket_addr(&self) -> Option<SocketAddr> {
        self.socket_addr
    }

    pub(crate) fn socket_path(&self) -> Option<&str> {
        self.socket_path.as_deref()
    }

    pub(crate) fn open(&self) -> usize {
        self.inner().open.len()
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed) - self.uncounted.load(Ordering::Relaxed)
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Forgets how many connections there were.
    pub(crate) fn reset_counters(&self) {
        let total = self.total.load(Ordering::Relaxed);
        self.uncounted.store(total, Ordering::Relaxed);
        self.rejected.store(0, Ordering::Relaxed);
    }

    /// Number and address of each open connection.
    pub(crate) fn peers(&self) -> Vec<(u64, String)> {
        let inner = self.inner();
        let peers = inner.open.iter();
        peers
            .map(|(number, entry)| (*number, entry.peer.clone()))
            .collect()
    }

    /// Notes a connection down, unless there are `limit` already.
    pub(crate) fn enter(&self, stream: Stream, limit: usize) -> Option<ConnectionId> {
        let mut inner = self.inner();
        if inner.open.len() >= limit {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let number = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let peer = stream.peer();
        inner.open.insert(number, Entry { stream, peer });
        Some(ConnectionId {
            number,
            generation: inner.generation,
        })
    }

    pub(crate) fn leave(&self, ticket: ConnectionId) {
        self.inner().open.remove(&ticket.number);
    }

    /// Keeps the thread of a connection to be joined, and joins those that have ended.
    pub(crate) fn keep(&self, thread: JoinHandle<()>) {
        let mut inner = self.inner();
        let threads = core::mem::take(&mut inner.threads);
        let (ended, running) = threads.into_iter().partition(JoinHandle::is_finished);
        inner.threads = running;
        inner.threads.push(thread);
        drop(inner);
        join_all(ended);
    }

    /// Ends all connections and returns the incarnation that begins.
    pub(crate) fn end_generation(&self) -> u64 {
        let mut inner = self.inner();
        inner.generation += 1;
        for entry in inner.open.values() {
            entry.stream.end();
        }
        inner.generation
    }

    /// Ends all connections and waits for their threads.
    pub(crate) fn end(&self) {
        self.end_generation();
        let threads = core::mem::take(&mut self.inner().threads);
        join_all(threads);
    }
}

fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A panic in it has been reported by then; there is nothing to add.
        let _ = thread.join();
    }
}
