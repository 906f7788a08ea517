//! For how long a lock is held at most, and at least.

use super::{LONG, TestServer, fails, millis, seconds};
use memlatch::{ErrorKind, LossReason, ReleaseOutcome};
use std::thread;
use std::time::Instant;

/// Beyond the end of a hold, and nowhere near the end of a lease.
const SOON: core::time::Duration = seconds(20);

#[tokio::test]
async fn max_hold_reached_frees_lock() {
    let limit = millis(700);
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        for lock in [one.lock("a"), one.lock("a").without_record()] {
            let began = Instant::now();
            let lock = lock.lease(LONG).max_hold(limit);
            let guard = lock.acquire().await.expect("free");
            assert!(guard.remaining() <= limit, "{:?}", guard.remaining());
            assert!(guard.renew().await.expect("nothing to do") <= limit);
            assert_eq!(guard.lost().await, LossReason::MaxHold);
            assert!(began.elapsed() >= limit);
            let other = two.lock("a").acquire_timeout(SOON).await;
            let other = other.expect("released long before the end of its lease");
            let outcome = guard.release().await.expect("known without asking");
            let reason = LossReason::MaxHold;
            assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
            let outcome = other.release().await.expect("answered");
            assert_eq!(outcome, ReleaseOutcome::Released);
        }
    }
}

#[test]
fn max_hold_reached_frees_lock_blocking() {
    let limit = millis(700);
    for target in &TestServer::all() {
        let (one, two) = (target.blocking_client(), target.blocking_client());
        for lock in [one.lock("a"), one.lock("a").without_record()] {
            let began = Instant::now();
            let lock = lock.lease(LONG).max_hold(limit);
            let guard = lock.acquire().expect("free");
            assert!(guard.remaining() <= limit, "{:?}", guard.remaining());
            assert!(guard.renew().expect("nothing to do") <= limit);
            assert_eq!(guard.lost(), LossReason::MaxHold);
            assert!(began.elapsed() >= limit);
            let other = two.lock("a").acquire_timeout(SOON);
            let other = other.expect("released long before the end of its lease");
            let outcome = guard.release().expect("known without asking");
            let reason = LossReason::MaxHold;
            assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
            let outcome = other.release().expect("answered");
            assert_eq!(outcome, ReleaseOutcome::Released);
        }
    }
}

/// Whichever comes first at the end, guard or keeper, the lock is released, and by one of them.
#[tokio::test]
async fn drop_at_limit_frees_lock() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        for round in 0..10 {
            let lock = one.lock("a").lease(LONG).max_hold(millis(50));
            let guard = lock.acquire().await.expect("free");
            while guard.is_valid() {
                tokio::task::yield_now().await;
            }
            match round % 3 {
                0 => drop(guard),
                1 => guard.release_quietly(),
                _ => drop(guard.release().await.expect("known")),
            }
            let other = two.lock("a").acquire_timeout(SOON).await;
            drop(other.expect("released long before the end of its lease"));
        }
    }
}

#[test]
fn drop_at_limit_frees_lock_blocking() {
    for target in &TestServer::all() {
        let (one, two) = (target.blocking_client(), target.blocking_client());
        for round in 0..10 {
            let lock = one.lock("a").lease(LONG).max_hold(millis(50));
            let guard = lock.acquire().expect("free");
            while guard.is_valid() {
                thread::yield_now();
            }
            match round % 3 {
                0 => drop(guard),
                1 => guard.release_quietly(),
                _ => drop(guard.release().expect("known")),
            }
            let other = two.lock("a").acquire_timeout(SOON);
            drop(other.expect("released long before the end of its lease"));
        }
    }
}

#[tokio::test]
async fn renewals_end_at_max_hold() {
    let limit = seconds(4);
    let targets = TestServer::all();
    let mut held = Vec::new();
    for target in &targets {
        let one = target.client().await;
        let lock = one.lock("a").lease(millis(1500)).max_hold(limit);
        let began = Instant::now();
        let guard = lock.acquire().await.expect("free");
        // Both began before the lock was asked for, and after it was there.
        held.push((guard, began, Instant::now()));
    }
    let mut longest = millis(0);
    while held.iter().any(|(guard, ..)| guard.is_valid()) {
        for (guard, _, after) in &held {
            let elapsed = after.elapsed();
            let remaining = guard.remaining();
            if !remaining.is_zero() {
                assert!(elapsed + remaining <= limit, "{elapsed:?} {remaining:?}");
                longest = longest.max(elapsed);
            }
        }
        tokio::time::sleep(millis(5)).await;
    }
    assert!(longest > seconds(2), "it was renewed: {longest:?}");
    for (guard, began, _) in &held {
        assert_eq!(guard.lost().await, LossReason::MaxHold);
        assert!(began.elapsed() >= limit);
    }
}

#[tokio::test]
async fn zero_max_hold_is_refused() {
    let target = TestServer::all().pop().expect("a server");
    let one = target.client().await;
    let lock = one.lock("a").max_hold(millis(0));
    let part = "max_hold is 0";
    fails(lock.acquire().await, ErrorKind::InvalidInput, part);
    fails(lock.try_acquire().await, ErrorKind::InvalidInput, part);
    let lock = target.blocking_client().lock("a").max_hold(millis(0));
    fails(lock.acquire(), ErrorKind::InvalidInput, part);
}

/// The end of a guard.
#[derive(Debug, Clone, Copy)]
enum Way {
    Released,
    Dropped,
    Quiet,
    ShutDown,
}

const WAYS: [Way; 4] = [Way::Released, Way::Dropped, Way::Quiet, Way::ShutDown];

/// Longer than it takes to look, and to be told.
const STAYS: core::time::Duration = millis(1500);

#[tokio::test]
async fn early_release_keeps_min_hold() {
    let mut cases = tokio::task::JoinSet::new();
    for target in TestServer::all() {
        cases.spawn(async move {
            let two = target.client().await;
            for way in WAYS {
                let one = target.client().await;
                let lock = one.lock("a").label("early").min_hold(STAYS);
                let guard = lock.acquire().await.expect("free");
                let acquired = Instant::now();
                match way {
                    Way::Released => {
                        let outcome = guard.release().await.expect("answered");
                        assert_eq!(outcome, ReleaseOutcome::Released);
                    }
                    Way::Dropped => drop(guard),
                    Way::Quiet => guard.release_quietly(),
                    Way::ShutDown => {
                        assert!(one.shutdown(LONG).await);
                        assert_eq!(guard.lost().await, LossReason::Released);
                    }
                }
                let holder = two.holder("a").await.expect("answered");
                assert_eq!(holder.expect("taken").label, "early", "{way:?}");
                let next = two.lock("a").acquire_timeout(SOON).await;
                let waited = acquired.elapsed();
                drop(next.expect("free in the end"));
                assert!(waited >= STAYS, "{way:?}: {waited:?}");
                assert_eq!(one.quiet_failures(), 0);
                // The drop is the keeper's to finish.
                assert!(one.shutdown(LONG).await);
            }
            assert!(two.shutdown(LONG).await);
        });
    }
    cases.join_all().await;
}

#[test]
fn early_release_keeps_min_hold_blocking() {
    let case = |target: TestServer| {
        let two = target.blocking_client();
        for way in WAYS {
            let one = target.blocking_client();
            let lock = one.lock("a").label("early").min_hold(STAYS);
            let guard = lock.acquire().expect("free");
            let acquired = Instant::now();
            match way {
                Way::Released => {
                    let outcome = guard.release().expect("answered");
                    assert_eq!(outcome, ReleaseOutcome::Released);
                }
                Way::Dropped => drop(guard),
                Way::Quiet => guard.release_quietly(),
                Way::ShutDown => {
                    assert!(one.shutdown(LONG));
                    assert_eq!(guard.lost(), LossReason::Released);
                }
            }
            let holder = two.holder("a").expect("answered");
            assert_eq!(holder.expect("taken").label, "early", "{way:?}");
            let next = two.lock("a").acquire_timeout(SOON);
            let waited = acquired.elapsed();
            drop(next.expect("free in the end"));
            assert!(waited >= STAYS, "{way:?}: {waited:?}");
            assert!(one.shutdown(LONG));
            assert_eq!(one.quiet_failures(), 0);
        }
    };
    thread::scope(|scope| {
        for target in TestServer::all() {
            scope.spawn(|| case(target));
        }
    });
}

#[tokio::test]
async fn release_after_min_hold_is_immediate() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let lock = one.lock("a").lease(LONG).min_hold(millis(100));
        let guard = lock.acquire().await.expect("free");
        tokio::time::sleep(millis(150)).await;
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        let next = two.lock("a").try_acquire().await.expect("answered");
        drop(next.expect("free"));
    }
}

#[tokio::test]
async fn impossible_min_holds_are_refused() {
    let target = TestServer::all().pop().expect("a server");
    let one = target.client().await;
    let two = target.blocking_client();
    let input = ErrorKind::InvalidInput;
    let lock = one.lock("a").without_record().min_hold(STAYS);
    fails(lock.acquire().await, input, "without a record");
    let lock = two.lock("a").without_record().min_hold(STAYS);
    fails(lock.acquire(), input, "without a record");
    let long = seconds(31 * 86_400);
    let lock = one.lock("a").min_hold(long);
    fails(lock.try_acquire().await, input, "30 days");
    let lock = two.lock("a").min_hold(long);
    fails(lock.try_acquire(), input, "30 days");
}
