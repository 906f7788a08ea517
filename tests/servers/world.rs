//! Locks in a world like the users': the server has a cache to serve beside the locks, and is
//! flushed, restarted and short of memory. On each real version, in both protocols and both APIs.
//!
//! | module | what it tests |
//! |---|---|
//! | `flush` | `flush_all`: at once, delayed, twice in a second, delayed and then at once |
//! | `restart` | another run of the server, also where it looks like the one before, and warm ones |
//! | `eviction` | the loss of each single item |
//! | `process` | the library as process 1, and without descriptors to spare |
//!
//! `scripts/flush-matrix` runs the first one for long and prints a table.
//!
//! | variable | meaning |
//! |---|---|
//! | `MEMLATCH_WORLD_FLUSHES` | how often each server is flushed (7) |
//! | `MEMLATCH_WORLD_SERVERS` | how many servers of each version there are at a time (1) |
//! | `MEMLATCH_WORLD_VERSION` | the version of memcached (all) |
//! | `MEMLATCH_WORLD_SEED` | what the choices follow from |
#![cfg(all(target_os = "linux", feature = "tokio", feature = "blocking"))]

mod eviction;
#[path = "../chaos/eviction_load.rs"]
mod eviction_load;
mod flush;
mod pair;
mod process;
mod restart;

use crate::support::{either, memcached, rng, traffic};
use core::fmt::Display;
use memcached::Binary;
use std::env;
use std::panic::resume_unwind;
use std::thread;

fn number(name: &str, otherwise: u64) -> u64 {
    let text = env::var(name).unwrap_or_default();
    if text.is_empty() {
        otherwise
    } else {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text}, not a number"))
    }
}

fn seed() -> u64 {
    number("MEMLATCH_WORLD_SEED", 20_261_130)
}

/// Does the same on each version, at the same time: most of it is waiting.
fn on_each_version<T: Send>(work: impl Fn(&Binary) -> T + Sync) -> Vec<T> {
    let wanted = env::var("MEMLATCH_WORLD_VERSION").unwrap_or_default();
    let mut found = memcached::required();
    found.retain(|binary| wanted.is_empty() || binary.version == wanted);
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = found
            .iter()
            .map(|binary| scope.spawn(move || work(binary)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|cause| resume_unwind(cause)))
            .collect()
    })
}

#[allow(clippy::print_stdout, reason = "what was counted is shown")]
fn say(text: impl Display) {
    println!("world: {text}");
}
