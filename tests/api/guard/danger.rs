//! Warnings ahead of the end of a lock, and what a guard knows of itself.

use super::{LEASE, TestServer, lost, millis, seconds};
use crate::support::log;
use core::time::Duration;
use memlatch::{Client, ErrorKind, LossReason, blocking};
use tracing::Level;

async fn client(target: &TestServer) -> Client {
    let builder = target.settings(Client::builder());
    let client = builder.operation_timeout(millis(200)).build().await;
    client.expect("the server is there")
}

fn blocking_client(target: &TestServer) -> blocking::Client {
    let builder = target.settings(blocking::Client::builder());
    let client = builder.operation_timeout(millis(200)).build();
    client.expect("the server is there")
}

/// Number of warnings that renewals of this lock are not answered.
fn warned(name: &str) -> usize {
    let name = format!("name={name} ");
    let about = |line: &String| line.contains(&name) && line.contains("not answered");
    log::events(Level::WARN).into_iter().filter(about).count()
}

#[tokio::test]
async fn warning_precedes_expiry() {
    log::record();
    let lease = seconds(4);
    let mut cases = tokio::task::JoinSet::new();
    for (number, target) in TestServer::all().into_iter().enumerate() {
        cases.spawn(async move {
            let one = client(&target).await;
            let name = format!("near-{number}");
            let guard = one.lock(&name).lease(lease).acquire().await.expect("free");
            // All is well.
            let margin = seconds(1);
            let danger = guard.expiring(margin);
            let well = tokio::time::timeout(millis(300), danger).await;
            assert!(well.is_err());
            assert!(guard.expiring(lease).await > Duration::ZERO, "at once");

            target.server.stop_signal();
            let remaining = guard.expiring(margin).await;
            assert!(remaining <= margin);
            assert_eq!(guard.is_valid(), !guard.remaining().is_zero());
            target.server.continue_signal();
            while let Err(error) = guard.renew().await {
                if error.kind() == ErrorKind::Lost {
                    // The machine was too busy for a second to be enough.
                    assert_eq!(warned(&name), 1);
                    return;
                }
            }
            assert_eq!(warned(&name), 1);

            target.server.stop_signal();
            assert_eq!(guard.lost().await, LossReason::Unreachable);
            target.server.continue_signal();
            assert_eq!(guard.expiring(Duration::ZERO).await, Duration::ZERO);
            assert_eq!(warned(&name), 2);
        });
    }
    cases.join_all().await;
}

#[test]
fn warning_precedes_expiry_blocking() {
    log::record();
    let lease = seconds(4);
    let case = |number: usize, target: TestServer| {
        let one = blocking_client(&target);
        let name = format!("near-blocking-{number}");
        let guard = one.lock(&name).lease(lease).acquire().expect("free");
        // All is well.
        let margin = seconds(1);
        assert_eq!(guard.expiring_timeout(margin, millis(300)), None);
        assert!(guard.expiring(lease) > Duration::ZERO, "at once");

        target.server.stop_signal();
        let remaining = guard.expiring(margin);
        assert!(remaining <= margin);
        target.server.continue_signal();
        while let Err(error) = guard.renew() {
            if error.kind() == ErrorKind::Lost {
                // The machine was too busy for a second to be enough.
                assert_eq!(warned(&name), 1);
                return;
            }
        }
        assert_eq!(warned(&name), 1);

        target.server.stop_signal();
        let danger = guard.expiring_timeout(margin, super::LONG);
        assert!(danger.expect("in time") <= margin);
        assert_eq!(guard.lost(), LossReason::Unreachable);
        target.server.continue_signal();
        assert_eq!(guard.expiring(Duration::ZERO), Duration::ZERO);
        assert_eq!(warned(&name), 2);
    };
    std::thread::scope(|scope| {
        for (number, target) in TestServer::all().into_iter().enumerate() {
            scope.spawn(move || case(number, target));
        }
    });
}

#[tokio::test]
async fn guard_shows_what_others_see() {
    for target in &TestServer::all() {
        let one = client(target).await;
        let lock = one.lock("a").label("nightly import").lease(LEASE);
        let guard = lock.acquire().await.expect("free");
        assert_eq!((&*guard.label(), guard.lease()), ("nightly import", LEASE));
        let own = guard.holder();
        let mut seen = one.holder("a").await.expect("answered").expect("held");
        assert_eq!((own.pid, own.cas_unique), (seen.pid, seen.cas_unique));
        assert_eq!(own.last_fencing_token, guard.fencing_token());
        // The second may have changed between the two.
        let left = own.expires_in.expect("known");
        let others = seen.expires_in.unwrap_or(left);
        assert!(left >= others && left <= others + seconds(2), "{left:?}");
        assert!(seen.held_for <= own.held_for + seconds(1));
        seen.expires_in = own.expires_in;
        seen.held_for = own.held_for;
        assert_eq!(own, seen);

        target.delete(guard.key());
        lost(
            &guard.verify().await.expect_err("lost"),
            LossReason::Missing,
        );
        assert_eq!(guard.holder().label, "nightly import");
        drop(guard);

        let guard = one.lock("a").without_record().label("x").acquire().await;
        let guard = guard.expect("free");
        let seen = one.holder("a").await.expect("answered").expect("held");
        assert_eq!(guard.holder().host, seen.host);
        drop(guard);

        let two = blocking_client(target);
        let guard = two.lock("b").label("-").acquire().expect("free");
        assert_eq!((&*guard.label(), guard.lease()), ("-", LEASE));
        let seen = two.holder("b").expect("answered").expect("held");
        let own = guard.holder();
        assert_eq!((own.label, own.host), (seen.label, seen.host));
        assert_eq!(own.acquired_at_unix, seen.acquired_at_unix);
    }
}
