//! The loss of each single item of a lock, in a busy cache.

use super::either::{Client, Guard, LONG, until};
use super::eviction_load::EvictionLoad;
use super::memcached::RealServer;
use super::pair::{PRECIOUS, Pair, on_each};
use super::traffic::Traffic;
use super::{on_each_version, seed};
use core::iter::repeat;
use core::time::Duration;
use memlatch::{LossReason, ReleaseOutcome};
use std::thread::{self, sleep};

const LEASE: Duration = Duration::from_secs(3);

fn delete(server: &RealServer, key: &str) {
    let answer = server.command(format!("delete {key}\r\n").as_bytes());
    assert_eq!(answer, b"DELETED\r\n", "{key}");
}

/// A server of each version with a busy cache, and pairs of clients that have had their locks there.
fn everywhere(work: impl Fn(&RealServer, &mut [Pair]) + Sync) {
    on_each_version(|binary| {
        let server = binary.start(&[]);
        let mut pairs = Pair::all(&server, LEASE, true);
        let keys: Vec<_> = pairs.iter().map(Pair::sentinel_key).collect();
        let traffic = Traffic::start(server.address(), seed(), 1, Vec::new());
        on_each(
            &mut pairs,
            |pair, ()| drop(pair.hold().release()),
            repeat(()),
        );
        traffic.wait_until_busy(&keys, |request| server.command(request));
        work(&server, &mut pairs);
    });
}

/// The sentinel goes, and no client that knows the server waits for that.
#[test]
fn evicting_real_sentinel_costs_no_wait() {
    everywhere(|server, pairs| {
        // First on a server that has never forgotten anything, then on one that was flushed.
        for flushed in [false, true] {
            if flushed {
                server.flush_all();
            }
            let check = |pair: &mut Pair, ()| {
                let held = pair.hold();
                // What it was like before the flush is of no use.
                pair.contender = pair.newcomer();
                assert!(pair.exchange(), "{pair}: the memory is old enough");
                delete(server, &pair.sentinel_key());
                let what = format!("{server}, {pair}, flushed: {flushed}");
                assert!(pair.exchange(), "{what}: a wait");
                let contender = pair.contender.clone();
                let second = pair.attempt(&contender, PRECIOUS);
                assert!(second.is_none(), "{what}: two guards");
                drop(held.release());
            };
            on_each(pairs, check, repeat(()));
        }
    });
}

/// The same where entries of the cache have pressed it out, for a client that has just come as well.
#[test]
fn sentinel_evicted_by_cache_costs_nothing() {
    on_each_version(|binary| {
        // Less than the defaults of some versions need for the largest items.
        let server = binary.start(&["-m", "2", "-I", "512k"]);
        let mut pairs = Pair::all(&server, LEASE, true);
        on_each(
            &mut pairs,
            |pair, ()| drop(pair.hold().release()),
            repeat(()),
        );
        for pair in &pairs {
            assert!(pair.exchange(), "{pair}: the memory is old enough");
        }
        let flood = EvictionLoad::start(server.address());
        let is_gone = |pair: &Pair| pair.look(&server).sentinel.is_none();
        for is_connected in [true, false] {
            until("no sentinel is left", || pairs.iter().all(is_gone));
            for pair in &mut pairs {
                if !is_connected {
                    pair.contender = pair.newcomer();
                }
                assert!(pair.exchange(), "{server}, {pair}: a wait");
            }
        }
        drop(flood);
    });
}

/// The record goes. Two guards may be valid then until the next renewal: that is not promised away.
#[test]
fn evicted_record_is_reported_token_rises() {
    everywhere(|server, pairs| {
        let check = |pair: &mut Pair, ()| {
            let held = pair.hold();
            delete(server, &pair.lock_key());
            let contender = pair.contender.clone();
            // Outside of the promise, two guards may be valid now; the token distinguishes them.
            let granted = pair.contend(&contender, &held, |_| false);
            let (guard, _) = granted.expect("it is free");
            let reason = held.lost();
            assert!(
                matches!(reason, LossReason::TakenOver | LossReason::Missing),
                "{pair}: {reason}"
            );
            let outcome = held.release().expect("the server is there");
            assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason }, "{pair}");
            // What the first one did is no harm to the second one.
            let outcome = guard.release().expect("the server is there");
            assert_eq!(outcome, ReleaseOutcome::Released, "{pair}");
        };
        on_each(pairs, check, repeat(()));
    });
}

#[test]
fn tokens_rise_over_counter_eviction() {
    everywhere(|server, pairs| {
        let check = |pair: &mut Pair, ()| {
            for _ in 0..3 {
                drop(pair.hold().release());
                delete(server, &pair.fence_key());
                // Its token is higher.
                drop(pair.hold().release());
            }
        };
        on_each(pairs, check, repeat(()));
    });
}

/// The counter goes, and a request makes it again that was sent long before. The classic protocol
/// does not report when a counter was made.
#[test]
fn tokens_rise_over_late_counter_request() {
    everywhere(|server, pairs| {
        let check = |pair: &mut Pair, ()| {
            if pair.protocol.is_some() {
                return;
            }
            let guard = pair.hold();
            let token = guard.fencing_token().expect("tokens are on");
            drop(guard.release());
            // A counter that is lost as soon as it was made is beyond the promise.
            sleep(Duration::from_secs(5));
            delete(server, &pair.fence_key());
            let late = format!(
                "ma {} N86400 J{} D1 t v\r\n",
                pair.fence_key(),
                token - 1_000_000_000
            );
            let answer = server.command(late.as_bytes());
            assert!(answer.starts_with(b"VA 19 t"), "{}", answer.escape_ascii());
            // Its token is higher.
            drop(pair.hold().release());
            let guard = pair.attempt(&pair.contender, PRECIOUS);
            let guard = guard.expect("the lock is free");
            pair.rises(&guard);
            drop(guard.release());
        };
        on_each(pairs, check, repeat(()));
    });
}

/// A client reads the longest lease for as long as it uses locks. Renewals keep the server's clock known,
/// so there is no other reason for a holder to do that.
#[test]
fn longest_lease_item_is_restored() {
    const LONGEST: Duration = Duration::from_secs(9);
    on_each_version(|binary| {
        let server = binary.start(&[]);
        let mut pairs = Pair::all(&server, LEASE, true);
        let check = |pair: &mut Pair, ()| {
            let key = format!("{}longest", pair.prefix);
            let says = |millis: &str| {
                let answer = server.command(format!("mg {key} v\r\n").as_bytes());
                String::from_utf8_lossy(&answer).contains(millis)
            };
            pair.lease = Duration::from_secs(1);
            let held = pair.hold();
            delete(&server, &key);
            until("the holder puts it back", || says("3000"));
            let waiter = pair.newcomer_with(LONGEST);
            assert!(says("9000"), "{server}, {pair}");
            thread::scope(|scope| {
                let waits =
                    scope.spawn(|| waiter.lock(PRECIOUS).lease(LEASE).acquire_timeout(LONG * 2));
                // Not before it waits, or connecting would have raised it.
                until("somebody waits", || waiter.stats().waiting == 1);
                delete(&server, &key);
                until("the waiter puts it back", || says("9000"));
                drop(held.release());
                let guard = waits.join().expect("no panic").expect("it is free");
                drop(guard.release());
            });
        };
        on_each(&mut pairs, check, repeat(()));
    });
}

/// The item of the longest lease goes, and then everything.
#[test]
fn longest_lease_outlives_its_item() {
    const LONGEST: Duration = Duration::from_secs(9);
    const SHORT: Duration = Duration::from_secs(1);
    on_each_version(|binary| {
        let server = binary.start(&[]);
        let mut pairs = Pair::all(&server, LONGEST, true);
        let traffic = Traffic::start(server.address(), seed(), 1, Vec::new());
        let begin = |pair: &mut Pair, ()| {
            let held = pair.hold();
            let client = pair.newcomer_with(SHORT);
            pair.lease = SHORT;
            delete(&server, &format!("{}longest", pair.prefix));
            (held, client)
        };
        let begun = on_each(&mut pairs, begin, repeat(()));
        server.flush_all();
        let contend = |pair: &mut Pair, (held, client): (Guard, Client)| {
            let granted = pair.contend(&client, &held, |_| false);
            let (guard, two) = granted.expect("it is free in the end");
            assert!(!two, "{server}, {pair}: two valid guards");
            drop((held.release(), guard.release()));
        };
        on_each(&mut pairs, contend, begun);
        assert!(traffic.batches() > 0, "{traffic}");
    });
}
