//! For how long a lock is held at most, and at least.

use super::{LONG, Site, fails, millis, seconds};
use memlatch::{Client, ErrorKind, LossReason, ReleaseOutcome, blocking};
use std::thread;
use std::time::Instant;

/// Beyond the end of a hold, and nowhere near the end of a lease.
const SOON: core::time::Duration = seconds(20);

async fn client(site: &Site) -> Client {
    let builder = site.settings(Client::builder());
    builder.build().await.expect("the server is there")
}

fn blocking_client(site: &Site) -> blocking::Client {
    let builder = site.settings(blocking::Client::builder());
    builder.build().expect("the server is there")
}

#[tokio::test]
async fn a_lock_that_was_held_for_as_long_as_it_may_be_is_free() {
    let limit = millis(700);
    for site in &Site::all() {
        let (one, two) = (client(site).await, client(site).await);
        for lock in [one.lock("a"), one.lock("a").lean()] {
            let began = Instant::now();
            let lock = lock.lease(LONG).max_hold(limit);
            let guard = lock.acquire().await.expect("free");
            assert!(guard.remaining() <= limit, "{:?}", guard.remaining());
            assert!(guard.renew().await.expect("nothing to do") <= limit);
            assert_eq!(guard.lost().await, LossReason::Expired);
            assert!(began.elapsed() >= limit);
            let other = two.lock("a").acquire_timeout(SOON).await;
            let other = other.expect("released long before the end of its lease");
            let outcome = guard.release().await.expect("known without asking");
            let reason = LossReason::Expired;
            assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
            let outcome = other.release().await.expect("answered");
            assert_eq!(outcome, ReleaseOutcome::Released);
        }
    }
}

#[test]
fn a_lock_that_was_held_for_as_long_as_it_may_be_is_free_in_the_blocking_front() {
    let limit = millis(700);
    for site in &Site::all() {
        let (one, two) = (blocking_client(site), blocking_client(site));
        for lock in [one.lock("a"), one.lock("a").lean()] {
            let began = Instant::now();
            let lock = lock.lease(LONG).max_hold(limit);
            let guard = lock.acquire().expect("free");
            assert!(guard.remaining() <= limit, "{:?}", guard.remaining());
            assert!(guard.renew().expect("nothing to do") <= limit);
            assert_eq!(guard.lost(), LossReason::Expired);
            assert!(began.elapsed() >= limit);
            let other = two.lock("a").acquire_timeout(SOON);
            let other = other.expect("released long before the end of its lease");
            let outcome = guard.release().expect("known without asking");
            let reason = LossReason::Expired;
            assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
            let outcome = other.release().expect("answered");
            assert_eq!(outcome, ReleaseOutcome::Released);
        }
    }
}

/// Whoever comes first at the end, guard or keeper, the lock is released, and by one of them.
#[tokio::test]
async fn a_guard_that_goes_at_the_very_end_leaves_the_lock_free() {
    for site in &Site::all() {
        let (one, two) = (client(site).await, client(site).await);
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
fn a_guard_that_goes_at_the_very_end_leaves_the_lock_free_in_the_blocking_front() {
    for site in &Site::all() {
        let (one, two) = (blocking_client(site), blocking_client(site));
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
async fn renewals_never_reach_beyond_the_longest_hold() {
    let limit = seconds(4);
    let sites = Site::all();
    let mut held = Vec::new();
    for site in &sites {
        let one = client(site).await;
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
        assert_eq!(guard.lost().await, LossReason::Expired);
        assert!(began.elapsed() >= limit);
    }
}

#[tokio::test]
async fn a_longest_hold_of_nothing_is_refused() {
    let site = Site::all().pop().expect("a server");
    let one = client(&site).await;
    let lock = one.lock("a").max_hold(millis(0));
    let part = "max_hold is 0";
    fails(lock.acquire().await, ErrorKind::InvalidInput, part);
    fails(lock.try_acquire().await, ErrorKind::InvalidInput, part);
    let lock = blocking_client(&site).lock("a").max_hold(millis(0));
    fails(lock.acquire(), ErrorKind::InvalidInput, part);
}
