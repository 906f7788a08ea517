//! One client holds many locks on a real server and loses none of them, releases some while others
//! stay held, and releases all of them.
//!
//! The speed depends on the machine: the lease is 9 s, and longer where the machine is so busy that
//! it took long to acquire some of the locks. With work for each lock that grows with their number,
//! no such lease is enough.
#![cfg(all(feature = "tokio", feature = "blocking"))]

mod support;

use core::time::Duration;
use memcached::{Binary, RealServer};
use memlatch::{Client, ClientStats, LockError, LockGuard, blocking};
use std::thread;
use std::time::Instant;
use support::memcached;

/// The lease, where the machine is not busy with other things.
const LEASE: Duration = Duration::from_secs(9);

/// More than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(240);

/// Number of calls that acquire at the same time.
const CALLERS: usize = 64;

/// Number of renewals of each lock.
const ROUNDS: u64 = 2;

/// Four times as long as acquiring all of them takes, by what it took to acquire some. A renewal is
/// due after a third of the lease, and less work than an acquisition.
fn lease(some: usize, took: Duration, all: usize) -> Duration {
    let all = took * u32::try_from(all.div_ceil(some)).expect("not so many");
    LEASE.max(all * 4)
}

fn newest() -> RealServer {
    let newest = memcached::required().pop();
    start(&newest.expect("a memcached"))
}

fn start(binary: &Binary) -> RealServer {
    binary.start(&["-m", "512"])
}

/// Looks until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn assert_none_lost(stats: &ClientStats) {
    assert_eq!(stats.lost.total(), 0, "{stats}");
    assert_eq!(stats.renewals_failed, 0, "{stats}");
}

async fn acquire(
    client: &Client,
    names: impl Iterator<Item = usize>,
    lease: Duration,
) -> Result<Vec<LockGuard>, LockError> {
    let mut guards = Vec::new();
    for name in names {
        guards.push(
            client
                .lock(format!("{name}"))
                .lease(lease)
                .acquire()
                .await?,
        );
    }
    Ok(guards)
}

#[test]
fn fifty_thousand_locks_stay_held() {
    const COUNT: usize = 50_000;
    const SOME: usize = 2_500;
    let server = newest();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let builder = Client::builder()
        .server(server.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
    let builder = builder.operation_timeout(Duration::from_secs(30));
    let client = runtime.block_on(builder.build()).expect("it answers");
    let acquire_all = |from: usize, to: usize, lease| {
        let callers = (from..(from + CALLERS).min(to)).map(|first| {
            let client = client.clone();
            let names = (first..to).step_by(CALLERS);
            runtime.spawn(async move { acquire(&client, names, lease).await })
        });
        let callers: Vec<_> = callers.collect();
        let guards = callers.into_iter().map(|caller| {
            let acquired = runtime.block_on(caller).expect("no panic");
            acquired.expect("free")
        });
        guards.flatten().collect::<Vec<_>>()
    };
    let began = Instant::now();
    // Not to be renewed here.
    drop(acquire_all(COUNT, COUNT + SOME, Duration::from_secs(600)));
    let lease = lease(SOME, began.elapsed(), COUNT);

    let mut guards = acquire_all(0, COUNT, lease);
    let before = client.stats().renewals;
    until("renewed", || {
        let stats = client.stats();
        assert_none_lost(&stats);
        stats.renewals >= before + ROUNDS * COUNT as u64
    });
    let valid = guards.iter().filter(|guard| guard.is_valid()).count();
    assert_eq!(valid, COUNT);

    // Most of them go at once; the others are renewed all the same.
    let others = guards.split_off(COUNT - 1000);
    let before = client.stats();
    drop(guards);
    until("given back", || {
        client.stats().released >= before.released + COUNT as u64 - 1000
    });
    until("renewed", || {
        client.stats().renewals >= before.renewals + 2 * 1000
    });
    assert_none_lost(&client.stats());
    assert!(others.iter().all(LockGuard::is_valid));
    assert!(
        runtime.block_on(client.shutdown(LIMIT)),
        "all is given back"
    );
    let stats = client.stats();
    assert_none_lost(&stats);
    assert_eq!((stats.held, stats.release_failures), (0, 0), "{stats}");
    assert_eq!(stats.released, (COUNT + SOME) as u64, "{stats}");
}

#[test]
fn threads_hold_thousands_on_every_version() {
    const COUNT: usize = 3_000;
    const SOME: usize = 300;
    for binary in memcached::required() {
        let server = start(&binary);
        let builder = blocking::Client::builder().server(server.url());
        let builder = builder.operation_timeout(Duration::from_secs(30));
        let client = builder
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600))
            .build()
            .expect("it answers");
        let acquire = |name: usize, lease| {
            let lock = client.lock(format!("{name}")).lease(lease);
            lock.acquire().expect("free")
        };
        let began = Instant::now();
        for name in COUNT..COUNT + SOME {
            drop(acquire(name, Duration::from_secs(600)));
        }
        let lease = lease(SOME, began.elapsed(), COUNT) / 3;
        let guards: Vec<_> = (0..COUNT).map(|name| acquire(name, lease)).collect();
        until("renewed", || {
            let stats = client.stats();
            assert_none_lost(&stats);
            stats.renewals >= ROUNDS * COUNT as u64
        });
        assert!(guards.iter().all(blocking::LockGuard::is_valid));
        assert!(client.shutdown(LIMIT), "all is given back");
        let stats = client.stats();
        assert_none_lost(&stats);
        assert_eq!((stats.held, stats.release_failures), (0, 0), "{stats}");
    }
}
