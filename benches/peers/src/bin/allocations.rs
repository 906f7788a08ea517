//! Counts the allocations of a pair, and of a waiter's further looks at a lock that is held.
//!
//! A program of its own: its allocator counts, which takes time.

use allocation_counter::measure;
use memlatch_peers::arguments::Arguments;
use memlatch_peers::json::Object;
use memlatch_peers::tap::Tap;
use memlatch_peers::variants::{self, Shapes, current_thread, is_released};
use memlatch_peers::{LEASE, Result, Servers, floor};
use std::process::ExitCode;
use std::time::Duration;

/// Pairs before counting, so that buffers have the size they keep.
const WARM_UP: usize = 200;
const PAIRS: usize = 1000;

/// The time for which a waiter looks, before and while it is counted. Each wait begins with
/// one-time allocations; the additional ones of the longer wait come from looking.
const WAITS: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1600)];

/// The time for which a waiter looks before anything is counted.
const SETTLE: Duration = Duration::from_secs(3);

/// The number of times each wait is counted. A renewal every 3.3 s is not in all of three.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allocations: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::read()?;
    let servers = arguments.servers()?;
    let shapes = Shapes::learn(&servers)?;
    let part = arguments.option("only").unwrap_or_default();
    for kind in variants::KINDS {
        if !kind.in_process || !kind.is_possible(&servers) || !kind.name.contains(part) {
            continue;
        }
        let mut variant = kind.connect(&servers, &shapes)?;
        let mut latencies = Vec::with_capacity(WARM_UP + PAIRS);
        variant.pairs(WARM_UP, &mut latencies)?;
        let mut done = Ok(());
        let counted = measure(|| done = variant.pairs(PAIRS, &mut latencies));
        done?;
        let each = |number: u64| number as f64 / PAIRS as f64;
        let line = Object::default()
            .text("what", "allocations")
            .text("name", kind.name)
            .number("count", each(counted.count_total))
            .number("bytes", each(counted.bytes_total));
        println!("{}", line.end());
    }
    waiters(&servers, part)
}

/// The allocations of a waiter while a lock stays held: each further look at it.
fn waiters(servers: &Servers, part: &str) -> Result<()> {
    type Mode<L> = (&'static str, fn(L) -> L);
    let blocking: &[Mode<memlatch::blocking::Lock>] = &[
        ("memlatch-blocking", |lock| lock),
        #[cfg(feature = "lean")]
        ("memlatch-blocking-lean", memlatch::blocking::Lock::lean),
    ];
    let asynchronous: &[Mode<memlatch::Lock>] = &[
        ("memlatch-async", |lock| lock),
        #[cfg(feature = "lean")]
        ("memlatch-async-lean", memlatch::Lock::lean),
    ];
    let tap = Tap::before(&servers.memcached)?;
    let address = tap.address.as_str();
    for (name, mode) in blocking.iter().filter(|(name, _)| name.contains(part)) {
        let client = memlatch::blocking::Client::connect(address)?;
        let lock = mode(client.lock(floor::name(500)).lease(LEASE));
        let guard = lock.acquire()?;
        let wait = |limit| {
            let tried = lock.acquire_timeout(limit);
            assert!(tried.is_err_and(|error| error.is_timeout()), "it is held");
        };
        looks(name, &tap, wait);
        is_released(&guard.release()?)?;
    }
    for (name, mode) in asynchronous.iter().filter(|(name, _)| name.contains(part)) {
        let runtime = current_thread()?;
        let client = runtime.block_on(memlatch::Client::connect(address))?;
        let lock = mode(client.lock(floor::name(501)).lease(LEASE));
        let guard = runtime.block_on(lock.acquire())?;
        let wait = |limit| {
            let tried = runtime.block_on(lock.acquire_timeout(limit));
            assert!(tried.is_err_and(|error| error.is_timeout()), "it is held");
        };
        looks(name, &tap, wait);
        is_released(&runtime.block_on(guard.release())?)?;
    }
    Ok(())
}

/// The renewer of an async client works on the same thread: a fresh one reads the server's clock
/// until it has seen it tick, and renews every third of the lease. Each of that starts a task. So
/// there is time for the first, and of several waits the one with the fewest allocations counts:
/// the allocations of looking are in every one.
fn looks(name: &str, tap: &Tap, mut wait: impl FnMut(Duration)) {
    wait(SETTLE);
    let [(less, few), (more, many)] = WAITS.map(|limit| {
        let waits = (0..ROUNDS).map(|_| {
            drop(tap.take());
            let counted = measure(|| wait(limit)).count_total;
            let looks = tap.take().iter().filter(|burst| burst.up).count();
            (counted, looks)
        });
        let (counted, looks) = waits.min().unwrap_or_default();
        (counted as f64, looks as f64)
    });
    let line = Object::default()
        .text("what", "waiter")
        .text("name", name)
        .number("looks", many - few)
        .number("count", (more - less) / (many - few).max(1.0));
    println!("{}", line.end());
}
