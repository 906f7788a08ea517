//! Locks that are handed from one client to another, of either API.

use super::{LONG, TestServer, fails, lost, millis, seconds};
use memlatch::{
    Client, ErrorKind, LockError, LockGuard, LockTicket, LossReason, ReleaseOutcome, blocking,
};
use std::time::Instant;

/// The same parts, by way of their text.
fn sent(parts: &LockTicket) -> LockTicket {
    parts.to_string().parse().expect("its own text")
}

async fn taken(client: &Client, parts: &LockTicket) -> Result<LockGuard, LockError> {
    LockGuard::attach(client, &sent(parts)).await
}

fn taken_blocking(
    client: &blocking::Client,
    parts: &LockTicket,
) -> Result<blocking::LockGuard, LockError> {
    blocking::LockGuard::attach(client, &sent(parts))
}

#[tokio::test]
async fn handed_over_lock_stays_held() {
    for target in &TestServer::all() {
        let (one, two, other) = (
            target.client().await,
            target.client().await,
            target.client().await,
        );
        let (three, four) = (target.blocking_client(), target.blocking_client());
        for lock in [one.lock("a").label("first"), one.lock("a").without_record()] {
            let guard = lock.lease(LONG).acquire().await.expect("free");
            let (token, holder) = (guard.fencing_token(), guard.holder());
            let parts = guard.detach();
            assert_eq!((parts.name(), parts.fencing_token()), ("a", token));

            let guard = taken(&two, &parts).await.expect("ours");
            assert!(guard.is_valid() && guard.remaining() <= LONG);
            assert_eq!((guard.name(), guard.lease()), ("a", LONG));
            assert_eq!(guard.fencing_token(), token);
            guard.verify().await.expect("ours");
            guard.renew().await.expect("ours");

            let guard = taken_blocking(&three, &guard.detach()).expect("ours");
            guard.renew().expect("ours");
            let guard = taken_blocking(&four, &guard.detach()).expect("ours");
            guard.verify().expect("ours");
            assert_eq!(guard.fencing_token(), token);
            assert_eq!(guard.holder().acquired_at_unix, holder.acquired_at_unix);
            assert_eq!(guard.label(), holder.label);
            assert!(
                other
                    .lock("a")
                    .try_acquire()
                    .await
                    .expect("answered")
                    .is_none()
            );

            let guard = taken(&one, &guard.detach()).await.expect("ours");
            let outcome = guard.release().await.expect("answered");
            assert_eq!(outcome, ReleaseOutcome::Released);
            let next = other.lock("a").try_acquire().await.expect("answered");
            drop(next.expect("free"));
            assert!(other.lock("a").acquire_timeout(LONG).await.is_ok());
        }
    }
}

/// The one who took it over keeps it, and the one before does not.
#[tokio::test]
async fn new_holder_keeps_the_lock() {
    let targets = TestServer::all();
    let mut held = Vec::new();
    for target in &targets {
        let lease = seconds(2);
        let one = target.client().await;
        let guard = one.lock("a").lease(lease).acquire().await.expect("free");
        let two = target.client().await;
        let guard = taken(&two, &guard.detach()).await.expect("ours");
        assert!(one.shutdown(LONG).await, "nothing of it is left there");
        let three = target.blocking_client();
        let lock = three.lock("b").lease(lease);
        let other = lock.acquire().expect("free");
        let other = taken_blocking(&three, &other.detach()).expect("ours");
        held.push((guard, other));
    }
    let began = Instant::now();
    while began.elapsed() < seconds(5) {
        for (guard, other) in &held {
            assert!(
                guard.is_valid() && other.is_valid(),
                "{:?}",
                began.elapsed()
            );
        }
        tokio::time::sleep(millis(20)).await;
    }
    for (guard, other) in held {
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        let outcome = other.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn unclaimed_ticket_expires() {
    let targets = TestServer::all();
    let mut left = Vec::new();
    for target in &targets {
        let (one, three) = (target.client().await, target.blocking_client());
        let guard = one.lock("a").lease(seconds(2)).acquire().await;
        let parts = guard.expect("free").detach();
        let guard = three.lock("b").lease(seconds(2)).acquire();
        let other = guard.expect("free").detach();
        let two = target.client().await;
        assert!(
            two.lock("a")
                .try_acquire()
                .await
                .expect("answered")
                .is_none()
        );
        left.push((one, two, three, parts, other));
    }
    for (one, two, three, parts, other) in left {
        for name in ["a", "b"] {
            let next = two.lock(name).acquire_timeout(seconds(20)).await;
            let _ = next.expect("run out").release().await.expect("answered");
        }
        let error = taken(&one, &parts).await.expect_err("run out");
        lost(&error, LossReason::Missing);
        assert!(error.to_string().contains("`a`"), "{error}");
        lost(
            &taken_blocking(&three, &other).expect_err("run out"),
            LossReason::Missing,
        );
    }
}

#[tokio::test]
async fn stale_ticket_is_refused_with_reason() {
    for mut target in TestServer::all() {
        let (one, three) = (target.client().await, target.blocking_client());
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        let key = guard.key().to_vec();
        let parts = guard.detach();
        target.overtake(&key);
        let reason = LossReason::TakenOver;
        lost(&taken(&one, &parts).await.expect_err("lost"), reason);
        lost(&taken_blocking(&three, &parts).expect_err("lost"), reason);
        target.delete(&key);
        let reason = LossReason::Missing;
        lost(&taken(&one, &parts).await.expect_err("lost"), reason);
        lost(&taken_blocking(&three, &parts).expect_err("lost"), reason);
        target.server.restart();
        let reason = LossReason::ServerRestarted;
        let (two, four) = (target.client().await, target.blocking_client());
        lost(&taken(&two, &parts).await.expect_err("lost"), reason);
        lost(&taken_blocking(&four, &parts).expect_err("lost"), reason);
    }
}

/// The loss of the lock was reported, and the holder has stopped its work. The record still stands.
#[tokio::test]
async fn ticket_of_lost_guard_is_refused() {
    for target in &TestServer::all() {
        let hasty = millis(300);
        let builder = target.settings(Client::builder()).operation_timeout(hasty);
        let one = builder.build().await.expect("the server is there");
        let builder = target.settings(blocking::Client::builder());
        let three = builder.operation_timeout(hasty).build();
        let three = three.expect("the server is there");
        let lock = one.lock("a").lease(seconds(2));
        let guard = lock.acquire().await.expect("free");
        let lock = three.lock("b").lease(seconds(2));
        let other = lock.acquire().expect("free");
        // Over by its own wish, and released later.
        let lock = one.lock("c").lease(LONG).max_hold(millis(100));
        let limited = lock.acquire().await.expect("free");
        target.server.stop_signal();
        let reasons = [guard.lost().await, other.lost(), limited.lost().await];
        let all = [guard.detach(), other.detach(), limited.detach()];
        target.server.continue_signal();
        assert_eq!(reasons[0], LossReason::Unreachable);
        for (parts, reason) in all.iter().zip(reasons) {
            assert_eq!(sent(parts).lost(), Some(reason));
            lost(&taken(&one, parts).await.expect_err("lost"), reason);
            lost(&taken_blocking(&three, parts).expect_err("lost"), reason);
        }
    }
}

/// A shutdown has released it.
#[tokio::test]
async fn ticket_of_closed_client_is_refused() {
    let target = TestServer::all().pop().expect("a server");
    let one = target.client().await;
    let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
    assert!(one.shutdown(LONG).await);
    let parts = guard.detach();
    let two = target.client().await;
    let reason = LossReason::Released;
    lost(&taken(&two, &parts).await.expect_err("released"), reason);
}

#[tokio::test]
async fn silent_server_leaves_lock_alone() {
    for target in &TestServer::all() {
        let hasty = |builder| async move {
            let builder: memlatch::ClientBuilder<Client> = builder;
            builder.operation_timeout(millis(300)).build().await
        };
        let one = hasty(target.settings(Client::builder())).await;
        let one = one.expect("the server is there");
        let builder = target.settings(blocking::Client::builder());
        let three = builder.operation_timeout(millis(300)).build();
        let three = three.expect("the server is there");
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        let parts = guard.detach();
        target.server.stop_signal();
        for error in [
            taken(&one, &parts).await.map(|_| ()).expect_err("silence"),
            taken_blocking(&three, &parts)
                .map(|_| ())
                .expect_err("silence"),
        ] {
            assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        }
        target.server.continue_signal();
        let guard = taken_blocking(&three, &parts).expect("still ours");
        let guard = taken(&one, &guard.detach()).await.expect("ours");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn unsuitable_clients_refuse_the_ticket() {
    let target = TestServer::all().pop().expect("a server");
    let (one, three) = (target.client().await, target.blocking_client());
    let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
    let parts = guard.detach();
    let builder = target.settings(Client::builder());
    let other = builder.prefix("other:").build().await;
    let other = other.expect("the server is there");
    let input = ErrorKind::InvalidInput;
    fails(taken(&other, &parts).await, input, "`memlatch:`");
    let builder = target.settings(blocking::Client::builder());
    let other = builder.prefix("other:").build().expect("there");
    fails(taken_blocking(&other, &parts), input, "`other:`");
    assert!(one.shutdown(LONG).await && three.shutdown(LONG));
    fails(taken(&one, &parts).await, ErrorKind::Closed, "shut down");
    let closed = taken_blocking(&three, &parts);
    fails(closed, ErrorKind::Closed, "shut down");
    let two = target.client().await;
    let guard = taken(&two, &parts).await.expect("still ours");
    guard.verify().await.expect("still ours");
}
