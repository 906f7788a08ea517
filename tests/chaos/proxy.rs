//! A way to the server on which bytes are delayed, split and cut off, and neither doubled nor
//! reordered.
//!
//! Bytes that a client sent before it went are delivered all the same, be it late.

use super::rng::Rng;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};

/// The fault of the bytes that come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Calm,
    /// Each piece waits for so many milliseconds at most.
    Slow(u64),
    /// A few bytes at a time.
    Split,
    /// The next piece loses its end, and the connection with it.
    Cut,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    mood: Mutex<Mood>,
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
    /// Connections that bytes may still come by on.
    open: AtomicUsize,
    over: AtomicBool,
}

/// A proxy. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let shared = Arc::new(Shared {
            server,
            mood: Mutex::new(Mood::Calm),
            connections: Mutex::default(),
            open: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            static COUNT: AtomicU64 = AtomicU64::new(1);
            for client in listener.incoming().flatten() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                let number = COUNT.fetch_add(1, Ordering::Relaxed);
                shared.open.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    // The client notices for itself that the server is not there.
                    let _ = serve(&shared, client, number, seed);
                    lock(&shared.connections).remove(&number);
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("memcached://{}", self.address)
    }

    pub(crate) fn be(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// Ends all connections at once.
    pub(crate) fn cut_all(&self) {
        for stream in lock(&self.shared.connections).values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.cut_all();
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream, number: u64, seed: u64) -> io::Result<()> {
    let server = TcpStream::connect(shared.server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let both = [client.try_clone()?, server.try_clone()?];
    lock(&shared.connections).insert(number, both);
    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
    let back = {
        let shared = Arc::clone(shared);
        let dice = Rng::new(seed, 2 * number);
        thread::spawn(move || pump(&shared, server_too, client_too, dice))
    };
    pump(shared, client, server, Rng::new(seed, 2 * number + 1));
    back.join().expect("the way back");
    Ok(())
}

/// Passes bytes on until there are no more.
fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream, mut dice: Rng) {
    let mut chunk = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let mood = *lock(&shared.mood);
        let bytes = &chunk[..length];
        let passed = match mood {
            Mood::Calm => to.write_all(bytes),
            Mood::Slow(most) => {
                sleep(dice.millis(0..most));
                to.write_all(bytes)
            }
            Mood::Split => split(&mut to, bytes, &mut dice),
            Mood::Cut => {
                *lock(&shared.mood) = Mood::Calm;
                let kept = dice.below(length as u64) as usize;
                // Both ends notice.
                let _ = to.write_all(&bytes[..kept]);
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        };
        if passed.is_err() {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn split(to: &mut TcpStream, mut bytes: &[u8], dice: &mut Rng) -> io::Result<()> {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(1 + dice.below(30) as usize));
        to.write_all(piece)?;
        bytes = rest;
        sleep(dice.micros(0..300));
    }
    Ok(())
}
