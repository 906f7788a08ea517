//! The async API.

use super::{LEASE, LONG, TestServer, lost, millis, seconds};
use memlatch::{Client, ErrorKind, LossReason, ReleaseOutcome};
use std::sync::Arc;
use std::time::Instant;

#[tokio::test]
async fn held_lock_is_verified() {
    for target in &TestServer::all() {
        let one = target.client().await;
        for lock in [one.lock("a"), one.lock("lean").without_record()] {
            let guard = lock.lease(LONG).acquire().await.expect("free");
            guard.verify().await.expect("just acquired");
            assert!(guard.is_valid());
        }
    }
}

#[tokio::test]
async fn loss_found_by_verify_is_reported() {
    for target in &TestServer::all() {
        let one = target.client().await;
        for reason in [LossReason::Missing, LossReason::TakenOver] {
            let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
            if reason == LossReason::Missing {
                target.delete(guard.key());
            } else {
                target.overtake(guard.key());
            }
            let (told, error) = tokio::join!(guard.lost(), guard.verify());
            assert_eq!(told, reason);
            lost(&error.expect_err("lost"), reason);
            assert!(!guard.is_valid());
            // Without asking again.
            target.server.stop_signal();
            lost(&guard.verify().await.expect_err("lost"), reason);
            target.server.continue_signal();
        }
    }
}

#[tokio::test]
async fn verify_detects_a_restart() {
    for mut target in TestServer::all() {
        let one = target.client().await;
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        target.server.restart();
        let error = loop {
            // The first question may find the connection closed.
            let error = guard.verify().await.expect_err("lost");
            if error.kind() == ErrorKind::Lost {
                break error;
            }
        };
        lost(&error, LossReason::ServerRestarted);
        assert_eq!(guard.lost().await, LossReason::ServerRestarted);
    }
}

#[tokio::test]
async fn silent_server_leaves_lock_unjudged() {
    for target in &TestServer::all() {
        let builder = target.settings(Client::builder());
        let one = builder.operation_timeout(millis(300)).build().await;
        let one = one.expect("the server is there");
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        target.server.stop_signal();
        let error = guard.verify().await.expect_err("nobody answers");
        target.server.continue_signal();
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        assert!(guard.is_valid());
        guard.verify().await.expect("still ours");
    }
}

#[tokio::test]
async fn renewal_restores_the_whole_lease() {
    let targets = TestServer::all();
    let mut held = Vec::new();
    for target in &targets {
        let one = target.client().await;
        for lock in [one.lock("a"), one.lock("lean").without_record()] {
            held.push(lock.lease(LEASE).acquire().await.expect("free"));
        }
    }
    tokio::time::sleep(millis(1000)).await;
    for guard in &held {
        // The end that is certain, not what remains until then, which the keeper may have renewed by now.
        let end = Instant::now() + guard.remaining();
        let renewed = guard.renew().await.expect("ours");
        assert!(Instant::now() + renewed > end && renewed <= LEASE);
        assert!(guard.remaining() <= renewed);
    }
    for guard in held {
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn concurrent_renewals_all_succeed() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock("a").lease(LEASE).acquire().await.expect("free");
        let guard = Arc::new(guard);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let guard = Arc::clone(&guard);
            all.spawn(async move { guard.renew().await });
        }
        for renewed in all.join_all().await {
            assert!(!renewed.expect("ours").is_zero());
        }
    }
}

#[tokio::test]
async fn unanswered_renewal_is_no_loss() {
    for target in &TestServer::all() {
        let builder = target.settings(Client::builder());
        let one = builder.operation_timeout(millis(300)).build().await;
        let one = one.expect("the server is there");
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        target.server.stop_signal();
        let error = guard.renew().await.expect_err("nobody answers");
        target.server.continue_signal();
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        assert!(error.server().is_some() && error.to_string().contains("`a`"));
        assert!(guard.is_valid());
        // What became of the other one is not known; this one finds out.
        guard.renew().await.expect("ours");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn renewal_detects_a_loss() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        target.delete(guard.key());
        lost(&guard.renew().await.expect_err("lost"), LossReason::Missing);
        assert_eq!(guard.lost().await, LossReason::Missing);
        lost(&guard.renew().await.expect_err("lost"), LossReason::Missing);
        drop(guard);
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        assert!(one.shutdown(LONG).await);
        lost(
            &guard.renew().await.expect_err("lost"),
            LossReason::Released,
        );
    }
}

#[test]
fn ended_renewer_runtime_stops_renewals() {
    let target = TestServer::all().pop().expect("a server");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let guard = runtime.block_on(async {
        let one = target.client().await;
        one.lock("a").lease(LONG).acquire().await.expect("free")
    });
    drop(runtime);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let error = runtime.block_on(guard.renew()).expect_err("no keeper");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(guard.is_valid());
}

#[tokio::test]
async fn run_finishes_under_kept_lock() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        let work = async {
            tokio::task::yield_now().await;
            guard.fencing_token()
        };
        let token = guard.run(work).await.expect("it stays ours");
        assert_eq!(token, guard.fencing_token());
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn loss_ends_the_run() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock("a").lease(LEASE).acquire().await.expect("free");
        let (held, started) = (Arc::new(()), Arc::new(tokio::sync::Notify::new()));
        let work = {
            let (held, started) = (Arc::clone(&held), Arc::clone(&started));
            async move {
                started.notify_one();
                core::future::pending::<()>().await;
                drop(held);
            }
        };
        let lose = async {
            started.notified().await;
            target.delete(guard.key());
            // Finds out what the next renewal would find out later.
            guard.verify().await.expect_err("it is gone");
        };
        let (ended, ()) = tokio::join!(guard.run(work), lose);
        let error = ended.expect_err("it is gone");
        lost(&error, LossReason::Missing);
        assert_eq!(error.loss_reason(), Some(LossReason::Missing));
        assert_eq!(Arc::strong_count(&held), 1, "the work is dropped");
        // The guard is still there to be asked, and begins nothing any more.
        let work = async { panic!("there is no lock to work under") };
        let error = guard.run(work).await.expect_err("it is gone");
        lost(&error, LossReason::Missing);
        let reason = LossReason::Missing;
        let outcome = guard.release().await.expect("known");
        assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
    }
}

/// A poll that blocks for longer than the lease is not followed by another, though no timer has had a
/// chance to say so, and what it returns is not said to be done under the lock.
#[tokio::test]
async fn run_outlasting_lease_is_a_loss() {
    for target in &TestServer::all() {
        let one = target.client().await;
        for ends in [true, false] {
            let lock = one.lock("a").lease(seconds(2)).max_hold(millis(500));
            let guard = lock.acquire().await.expect("free");
            let mut polls = 0;
            let work = core::future::poll_fn(|cx| {
                polls += 1;
                while guard.is_valid() {
                    std::thread::yield_now();
                }
                cx.waker().wake_by_ref();
                if ends {
                    core::task::Poll::Ready(())
                } else {
                    core::task::Poll::Pending
                }
            });
            let error = guard.run(work).await.expect_err("it is over");
            assert_eq!(error.loss_reason(), Some(LossReason::MaxHold), "{error}");
            assert!(polls <= 1, "{polls}");
        }
    }
}

#[tokio::test]
async fn dropped_run_keeps_the_lock() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        for polls in 0..5 {
            let held = Arc::new(());
            let inner = Arc::clone(&held);
            let mut run = Box::pin(guard.run(async move {
                loop {
                    tokio::task::yield_now().await;
                    assert_eq!(Arc::strong_count(&inner), 2);
                }
            }));
            for _ in 0..polls {
                let pending = core::future::poll_fn(|cx| {
                    core::task::Poll::Ready(run.as_mut().poll(cx).is_pending())
                });
                assert!(pending.await);
                tokio::task::yield_now().await;
            }
            drop(run);
            assert_eq!(Arc::strong_count(&held), 1);
            guard.verify().await.expect("still ours");
        }
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}
