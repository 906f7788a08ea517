//! The state that all threads of a server share.

use super::connections::Connections;
use super::engine::Engine;
use super::settings::ServerConfig;
use super::stall::StallControl;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<ServerConfig>,
    pub(crate) registry: Arc<Connections>,
    pub(crate) gate: StallControl,
    engine: Mutex<Engine>,
    stopping: AtomicBool,
    /// Set to have the accepting thread turn away the clients that it has not accepted yet.
    turn_away: Mutex<bool>,
    pub(super) turned_away: Condvar,
}

impl Shared {
    pub(crate) fn new(settings: Arc<ServerConfig>, registry: Arc<Connections>) -> Self {
        let engine = Engine::new(Arc::clone(&settings), Arc::clone(&registry), None);
        Self {
            settings,
            registry,
            gate: StallControl::default(),
            engine: Mutex::new(engine),
            stopping: AtomicBool::new(false),
            turn_away: Mutex::new(false),
            turned_away: Condvar::new(),
        }
    }

    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current incarnation if it is the one with this number.
    pub(crate) fn engine_of(&self, generation: u64) -> Option<MutexGuard<'_, Engine>> {
        let engine = self.engine();
        (engine.generation == generation && !self.is_stopping()).then_some(engine)
    }

    /// Begins a new incarnation: nothing is remembered, every connection ends.
    pub(crate) fn restart(&self) {
        self.turn_away();
        let mut engine = self.engine();
        let next = Engine::new(
            Arc::clone(&self.settings),
            Arc::clone(&self.registry),
            Some(&engine),
        );
        *engine = next;
        self.gate.open();
        // Under the lock of the items, so that no connection is accepted for one incarnation and
        // served by another.
        self.registry.end_generation();
    }

    /// Makes the accepting thread close all connections made so far, and waits for it: the queue of
    /// a killed server is lost with it.
    fn turn_away(&self) {
        let mut wanted = self.turn_away_flag();
        *wanted = true;
        while *wanted && !self.is_stopping() {
            drop(wanted);
            self.wake();
            wanted = self
                .turned_away
                .wait_timeout_while(
                    self.turn_away_flag(),
                    Duration::from_millis(100),
                    |wanted| *wanted,
                )
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(super) fn turn_away_flag(&self) -> MutexGuard<'_, bool> {
        self.turn_away
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Has the accepting thread end, and with it every connection. Does not wait.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.gate.open();
        self.registry.end_generation();
        self.wake();
    }

    /// Comes as a client, since the accepting thread waits for one.
    pub(crate) fn wake(&self) {
        if let Some(addr) = self.registry.socket_addr() {
            let _ = TcpStream::connect_timeout(&reachable(addr), Duration::from_secs(1));
        }
        #[cfg(unix)]
        if let Some(path) = self.registry.socket_path() {
            let _ = UnixStream::connect(path);
        }
    }
}

/// An address under which this machine reaches what listens on `addr`.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
