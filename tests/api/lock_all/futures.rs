//! The async API.

use super::{LONG, TestServer, fails, millis, refusals, seconds};
use core::sync::atomic::{AtomicBool, Ordering};
use memlatch::{ErrorKind, LockError, LossReason, MultiLock, MultiReleaseOutcome, ReleaseOutcome};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

#[tokio::test]
async fn all_locks_are_held_and_released() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let set = one.lock_all(["c", "a", "b"]).lease(LONG).label("mover");
        assert_eq!(set.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let guard = set.acquire().await.expect("free");
        assert_eq!(guard.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(guard.is_valid());
        guard.ensure(LONG / 2).expect("just acquired");
        for single in guard.guards() {
            let remaining = single.remaining();
            assert!(guard.remaining() <= remaining);
            assert_eq!(single.lease(), LONG);
            let holder = two.holder(single.name()).await.expect("answered");
            assert_eq!(holder.expect("held").label, "mover");
            let other = two.lock(single.name()).try_acquire().await;
            assert!(other.expect("answered").is_none());
            assert_eq!(guard.fencing_token(single.name()), single.fencing_token());
        }
        assert!(guard.fencing_token("a").is_some());
        assert_eq!(guard.fencing_token("d"), None);
        assert!(guard.get("b").is_some() && guard.get("d").is_none());
        guard.verify().await.expect("ours");
        assert!(guard.renew().await.expect("ours") > LONG / 2);
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, MultiReleaseOutcome::Released);
        target.all_are_free(&["a", "b", "c"]);

        let bare = one.lock_all(["a", "b"]).fencing(false);
        let guard = bare.try_acquire().await.expect("answered").expect("free");
        assert_eq!(guard.fencing_token("a"), None);
        drop(guard);
        let guard = two.lock_all(["b", "a"]).acquire_timeout(seconds(20)).await;
        drop(guard.expect("given back"));
    }
}

#[tokio::test]
async fn bad_sets_are_refused_before_sending() {
    for target in &TestServer::all() {
        let one = target.client().await;
        for (names, parts) in refusals() {
            fails(
                one.lock_all(&names).acquire().await,
                ErrorKind::InvalidInput,
                parts,
            );
            let tried = one.lock_all(&names).try_acquire().await;
            fails(tried, ErrorKind::InvalidInput, parts);
            target.all_are_free(&["a", "b", "0"]);
        }
        let short = one.lock_all(["a", "b"]).lease(millis(1)).acquire().await;
        fails(short, ErrorKind::InvalidInput, &["lock `a`", "too short"]);
        let most: Vec<_> = (0..MultiLock::MAX_NAMES).map(|n| n.to_string()).collect();
        let guard = one.lock_all(&most).acquire().await.expect("free");
        assert_eq!(guard.guards().len(), 64);
        guard.verify().await.expect("ours");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, MultiReleaseOutcome::Released);
        assert!(most.iter().all(|name| !target.is_held(name)));
    }
}

#[tokio::test]
async fn one_held_lock_refuses_all() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let kept = two.lock("b").label("busy").acquire().await.expect("free");
        // From another process or within this one, it is the same.
        for client in [&one, &two] {
            let tried = client.lock_all(["c", "b", "a"]).try_acquire().await;
            assert!(tried.expect("answered").is_none());
            target.all_are_free(&["a", "c"]);
            let began = Instant::now();
            let set = client.lock_all(["c", "b", "a"]);
            let error = set.acquire_timeout(millis(300)).await.expect_err("held");
            // No matter how it ends: at once.
            target.all_are_free(&["a", "c"]);
            assert!(began.elapsed() >= millis(300), "{:?}", began.elapsed());
            assert!(error.is_timeout(), "{error}");
            assert!(
                error.to_string().starts_with("lock `b`: still held"),
                "{error}"
            );
            assert_eq!(error.holder().expect("known").label, "busy");
        }
        assert!(kept.is_valid());
        let waiting = one.lock_all(["c", "b", "a"]);
        let waiter = tokio::spawn(async move { waiting.acquire().await });
        let outcome = kept.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        let waited = tokio::time::timeout(LONG, waiter).await;
        let guard = waited.expect("in time").expect("no panic").expect("free");
        assert_eq!(
            guard.release().await.expect("answered"),
            MultiReleaseOutcome::Released
        );
    }
}

/// Sets that overlap in every way, in opposite orders, from several clients: all of them get their
/// turns, and no name is ever held twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_sets_never_deadlock() {
    for target in TestServer::all() {
        let used: Arc<Vec<AtomicBool>> = Arc::new((0..3).map(|_| AtomicBool::new(false)).collect());
        let clients = [target.client().await, target.client().await];
        let mut tasks = JoinSet::new();
        for orders in [
            ["0", "1", "2"],
            ["2", "1", "0"],
            ["1", "2", "0"],
            ["2", "0", "1"],
        ] {
            for client in &clients {
                let sets = [client.lock_all(orders), client.lock_all(&orders[..2])];
                let used = Arc::clone(&used);
                tasks.spawn(async move {
                    for set in sets.iter().cycle().take(12) {
                        let guard = set.acquire().await.expect("in the end");
                        let mine = guard.names().map(str::parse::<usize>);
                        let mine: Vec<_> = mine.map(|number| &used[number.expect("one")]).collect();
                        for place in &mine {
                            assert!(!place.swap(true, Ordering::SeqCst), "two hold one");
                        }
                        tokio::task::yield_now().await;
                        for place in &mine {
                            place.store(false, Ordering::SeqCst);
                        }
                        assert_eq!(
                            guard.release().await.expect("answered"),
                            MultiReleaseOutcome::Released
                        );
                    }
                });
            }
        }
        let all = tokio::time::timeout(LONG, tasks.join_all()).await;
        all.expect("nobody waits for ever");
        target.all_are_free(&["0", "1", "2"]);
    }
}

#[tokio::test]
async fn lost_member_is_reported_by_name() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let set = one.lock_all(["a", "b", "c"]).lease(seconds(3));
        let guard = set.acquire().await.expect("free");
        target.delete(b"memlatch:lock:b");
        let lost = tokio::time::timeout(LONG, guard.lost()).await;
        assert_eq!(lost.expect("told"), ("b", LossReason::Missing));
        assert!(!guard.is_valid() && guard.remaining().is_zero());
        assert!(guard.get("a").expect("one of them").is_valid());
        fails(guard.ensure(millis(0)), ErrorKind::Lost, &["lock `b`"]);
        fails(guard.verify().await, ErrorKind::Lost, &["lock `b`"]);
        fails(guard.renew().await, ErrorKind::Lost, &["lock `b`"]);
        assert_eq!(guard.expiring(millis(1)).await, ("b", millis(0)));
        let lost = vec![("b".to_owned(), LossReason::Missing)];
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, MultiReleaseOutcome::AlreadyLost { lost });
        target.all_are_free(&["a", "b", "c"]);
    }
}

#[tokio::test]
async fn loss_found_by_release_is_reported() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let set = one.lock_all(["a", "b", "c"]).lease(LONG);
        let guard = set.acquire().await.expect("free");
        target.delete(b"memlatch:lock:c");
        let lost = vec![("c".to_owned(), LossReason::Missing)];
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, MultiReleaseOutcome::AlreadyLost { lost });
        let guard = set.acquire().await.expect("free");
        target.delete(b"memlatch:lock:a");
        fails(
            guard.verify().await,
            ErrorKind::Lost,
            &["lock `a`", "forgotten"],
        );
        let single = guard.into_guards();
        assert_eq!(single.len(), 3);
        for guard in single.into_iter().skip(1) {
            let outcome = guard.release().await.expect("answered");
            assert_eq!(outcome, ReleaseOutcome::Released);
        }
    }
}

#[tokio::test]
async fn restart_loses_all_locks() {
    for mut target in TestServer::all() {
        let one = target.client().await;
        let set = one.lock_all(["a", "b", "c"]).lease(seconds(3));
        let guard = set.acquire().await.expect("free");
        target.server.restart();
        let lost = tokio::time::timeout(LONG, guard.lost()).await;
        assert_eq!(lost.expect("told"), ("a", LossReason::ServerRestarted));
        let reason = LossReason::ServerRestarted;
        let lost = ["a", "b", "c"].map(|name| (name.to_owned(), reason)).into();
        let outcome = guard.release().await.expect("known without asking");
        assert_eq!(outcome, MultiReleaseOutcome::AlreadyLost { lost });
        drop(set.acquire_timeout(LONG).await.expect("free"));
    }
}

/// One that was taken is lost while another one is waited for: it starts over, and what it has in
/// the end is all of them.
#[tokio::test]
async fn lock_lost_during_wait_is_reacquired() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let kept = two.lock("b").acquire().await.expect("free");
        let set = one.lock_all(["a", "b"]).lease(seconds(2));
        let waiter = tokio::spawn(async move { set.acquire_timeout(LONG).await });
        let began = Instant::now();
        let mut tokens = Vec::new();
        while tokens.len() < 3 {
            assert!(began.elapsed() < LONG, "{tokens:?}");
            let holder = two.holder("a").await.expect("answered");
            if let Some(token) = holder.and_then(|holder| holder.last_fencing_token) {
                if !tokens.contains(&token) {
                    tokens.push(token);
                    if tokens.len() < 3 {
                        target.delete(b"memlatch:lock:a");
                    }
                }
            }
            tokio::time::sleep(millis(5)).await;
        }
        drop(kept);
        let guard = waiter.await.expect("no panic").expect("free");
        guard.verify().await.expect("all of them");
        assert_eq!(guard.fencing_token("a"), tokens.last().copied());
        assert_eq!(
            guard.release().await.expect("answered"),
            MultiReleaseOutcome::Released
        );
    }
}

/// A lock of the set reaches its maximum hold while another is waited for.
#[tokio::test]
async fn loss_without_time_left_is_named() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let _kept = two.lock("b").acquire().await.expect("free");
        let set = one.lock_all(["a", "b"]).max_hold(millis(400));
        // Before it would be over, the wait is.
        let early = set.acquire_timeout(millis(100)).await;
        fails(early, ErrorKind::Timeout, &["lock `b`"]);
        target.all_are_free(&["a"]);
        // When it is asked for is not for the test to say, so neither is when it is over: a little
        // before the limit, in the end.
        for limit in (405..).step_by(2) {
            assert!(limit < 1000, "it starts over though there is no time");
            let late = set.acquire_timeout(millis(limit)).await;
            if late.as_ref().is_err_and(LockError::is_timeout) {
                fails(late, ErrorKind::Timeout, &["lock `b`"]);
                continue;
            }
            fails(late, ErrorKind::Lost, &["lock `a`", "maximum hold"]);
            break;
        }
        // The keeper releases a lock at its hold limit.
        drop(
            one.lock("a")
                .acquire_timeout(seconds(20))
                .await
                .expect("freed"),
        );
    }
}

#[tokio::test]
async fn shutdown_releases_all_locks() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock_all(["a", "b"]).acquire().await.expect("free");
        assert!(one.shutdown(LONG).await);
        target.all_are_free(&["a", "b"]);
        assert_eq!(guard.lost().await, ("a", LossReason::Released));
        drop(guard);
        let closed = one.lock_all(["a", "b"]).acquire().await;
        fails(closed, ErrorKind::Closed, &["shut down"]);
    }
}

#[tokio::test]
async fn warning_names_lock_nearest_expiry() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let set = one.lock_all(["a", "b"]).lease(seconds(1));
        let guard = set.acquire().await.expect("free");
        target.server.stop_signal();
        let (name, remaining) = guard.expiring(millis(400)).await;
        assert!(guard.get(name).is_some() && remaining <= millis(400));
        let (name, reason) = guard.lost().await;
        target.server.continue_signal();
        assert!(guard.get(name).is_some() && !guard.is_valid());
        assert!(
            [LossReason::Unreachable, LossReason::Expired].contains(&reason),
            "{reason}"
        );
        drop(guard);
    }
}

#[tokio::test]
async fn run_lasts_while_all_are_held() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock_all(["a", "b"]).acquire().await.expect("free");
        assert_eq!(guard.run(async { 7 }).await.expect("all are held"), 7);
        let lose = async {
            target.delete(b"memlatch:lock:b");
            guard.verify().await.expect_err("one is gone");
        };
        let (ended, ()) = tokio::join!(guard.run(core::future::pending::<()>()), lose);
        fails(ended, ErrorKind::Lost, &["lock `b`"]);
        drop(guard);
    }
}
