//! A cache in use beside the locks: what the other users of a memcached do to it all the time.
//!
//! Threads write values of many lengths, so that several slab classes are in use, and read them,
//! mostly those that were written last, so that items move through all of memcached's queues. They
//! also read the items of the locks without asking leave, as monitoring does. Every read is one that
//! bumps. The amount is bounded: the keys are the same few thousand all the time, which a server of
//! 16 MB holds without evicting anything, and the threads rest between batches.

use super::rng::Rng;
use core::fmt;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle, sleep};
use std::time::Instant;

/// The lengths of the values. With keys of eleven bytes these are items of memcached's slab classes
/// 1 to 6, where sentinels, records, counters and the longest lease are, and of three larger ones.
const LENGTHS: [usize; 9] = [6, 30, 65, 100, 140, 190, 400, 900, 2000];

/// Keys of each length.
const KEYS: u64 = 300;

/// Requests between two rests of a thread, and how long it rests, in milliseconds.
const BATCH: u64 = 48;
const REST: core::ops::Range<u64> = 6..14;

/// Of so many batches, one reads an item of the locks.
const FOREIGN_READ: u64 = 8;

/// The time for which a batch may wait for its replies. A server that is stopped replies later.
const LIMIT: Duration = Duration::from_secs(1);

/// Threads that use the cache until this is dropped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// Keys that are none of the cache's, and are read all the same.
    foreign: Vec<String>,
    over: AtomicBool,
    batches: AtomicU64,
}

impl Traffic {
    /// Starts so many threads. Their choices follow from `seed`. `foreign` are keys of others.
    pub fn start(server: SocketAddr, seed: u64, threads: u64, foreign: Vec<String>) -> Self {
        let shared = Arc::new(Shared {
            server,
            foreign,
            over: AtomicBool::new(false),
            batches: AtomicU64::new(0),
        });
        let threads = (0..threads).map(|number| {
            let (shared, dice) = (Arc::clone(&shared), Rng::new(seed, 1000 + number));
            thread::spawn(move || run(&shared, dice))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// Batches of requests that were answered.
    pub fn batches(&self) -> u64 {
        self.shared.batches.load(Ordering::Relaxed)
    }

    /// Waits until the cache has items in each queue of each slab class that one of `keys` is in.
    /// `command` asks the server.
    ///
    /// # Panics
    /// When that takes far longer than it does.
    pub fn wait_until_busy(&self, keys: &[String], command: impl Fn(&[u8]) -> Vec<u8>) {
        let ask = |request: &str| {
            let answer = command(format!("{request}\r\n").as_bytes());
            String::from_utf8_lossy(&answer).into_owned()
        };
        let began = Instant::now();
        loop {
            // One that is gone just now is in no class.
            let classes = keys.iter().filter_map(|key| {
                let facts = ask(&format!("me {key}"));
                let class = facts.split(" cls=").nth(1)?;
                Some(class.split_whitespace().next()?.to_owned())
            });
            let classes: Vec<_> = classes.collect();
            let items = ask("stats items");
            let is_used = |class: &str, queue: &str| {
                let name = format!("STAT items:{class}:number_{queue} ");
                let count = items.lines().find_map(|line| line.strip_prefix(&name));
                count.is_some_and(|count| count != "0")
            };
            let queues = ["hot", "warm", "cold"];
            if classes
                .iter()
                .all(|class| queues.iter().all(|queue| is_used(class, queue)))
            {
                return;
            }
            let took = began.elapsed();
            assert!(took < Duration::from_secs(60), "not busy: {self}, {items}");
            sleep(Duration::from_millis(20));
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} batches of requests", self.batches())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, mut dice: Rng) {
    while !shared.over.load(Ordering::Relaxed) {
        // A server that is restarted, or stopped for long, ends the connection.
        if serve(shared, &mut dice).is_err() {
            sleep(Duration::from_millis(50));
        }
    }
}

fn serve(shared: &Shared, dice: &mut Rng) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&shared.server, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut requests = Vec::new();
    while !shared.over.load(Ordering::Relaxed) {
        requests.clear();
        let mut last = key(dice);
        for _ in 0..BATCH {
            push(&mut requests, &mut last, dice)?;
        }
        if dice.below(FOREIGN_READ) == 0 {
            push_foreign(&mut requests, &shared.foreign, dice)?;
        }
        requests.extend_from_slice(b"mn\r\n");
        stream.write_all(&requests)?;
        read_to_end_of_batch(&mut stream)?;
        shared.batches.fetch_add(1, Ordering::Relaxed);
        sleep(dice.millis(REST));
    }
    Ok(())
}

/// The length of a value, and the number of its key.
fn key(dice: &mut Rng) -> (usize, u64) {
    let length = LENGTHS[dice.below(LENGTHS.len() as u64) as usize];
    // One in four is one of the few that all clients want.
    let keys = if dice.chance(25) { KEYS / 15 } else { KEYS };
    (length, dice.below(keys))
}

fn push(requests: &mut Vec<u8>, last: &mut (usize, u64), dice: &mut Rng) -> io::Result<()> {
    let what = dice.below(100);
    let (length, number) = if what < 40 { key(dice) } else { *last };
    match what {
        0..25 => {
            *last = (length, number);
            let expiry = if dice.chance(30) { 60 } else { 0 };
            write!(
                requests,
                "set c{length:04}:{number:05} 0 {expiry} {length} noreply\r\n"
            )?;
            requests.resize(requests.len() + length, b'x');
            requests.extend_from_slice(b"\r\n");
            Ok(())
        }
        25..26 => write!(requests, "delete c{length:04}:{number:05} noreply\r\n"),
        26..40 => write!(requests, "get c{length:04}:{number:05}\r\n"),
        40..50 => write!(requests, "touch c{length:04}:{number:05} 0 noreply\r\n"),
        50..70 => write!(requests, "gets c{length:04}:{number:05}\r\n"),
        _ => write!(requests, "mg c{length:04}:{number:05} v\r\n"),
    }
}

fn push_foreign(requests: &mut Vec<u8>, foreign: &[String], dice: &mut Rng) -> io::Result<()> {
    if foreign.is_empty() {
        return Ok(());
    }
    let key = &foreign[dice.below(foreign.len() as u64) as usize];
    match dice.below(3) {
        0 => write!(requests, "get {key}\r\n"),
        1 => write!(requests, "gets {key}\r\n"),
        _ => write!(requests, "mg {key} v t\r\n"),
    }
}

fn read_to_end_of_batch(stream: &mut TcpStream) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    let mut end = Vec::new();
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        end.extend_from_slice(&chunk[..length]);
        // No value has a line end in it.
        if end.ends_with(b"\nMN\r\n") || end == b"MN\r\n" {
            return Ok(());
        }
        end.drain(..end.len().saturating_sub(5));
    }
}
