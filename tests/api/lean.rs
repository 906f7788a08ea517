//! Lean locks against real memcached servers, those that know explicit CAS uniques and those that
//! do not, in both APIs.
#![cfg(all(feature = "tokio", feature = "blocking"))]

use crate::support::memcached;
use core::time::Duration;
use memcached::RealServer;
use memlatch::{ErrorKind, LossReason, ReleaseOutcome, blocking};
use std::thread;

const LEASE: Duration = Duration::from_secs(2);

fn with_each(test: impl Fn(&mut RealServer, bool) + Sync) {
    thread::scope(|scope| {
        for binary in memcached::required() {
            let test = &test;
            scope.spawn(move || {
                let mut server = binary.start(&[]);
                let lean = server.version() != "1.6.18";
                test(&mut server, lean);
            });
        }
    });
}

fn client(server: &RealServer) -> blocking::Client {
    let builder = blocking::Client::builder().server(server.url());
    builder.build().expect("the server is there")
}

/// The item of the lock, as the server shows it.
fn item(server: &RealServer, name: &str) -> String {
    let answer = server.command(format!("mg memlatch:lock:{name} c t v\r\n").as_bytes());
    String::from_utf8(answer).expect("text")
}

#[test]
fn recordless_lock_is_renewed_and_released() {
    with_each(|server, lean| {
        let (one, two) = (client(server), client(server));
        let lock = one.lock("a").without_record().lease(LEASE);
        // A fresh server does not make it wait, though the restart guard is on.
        let guard = lock.acquire().expect("nobody has it");
        assert_eq!(guard.fencing_token(), None);
        assert_eq!(item(server, "a").starts_with("VA 0 "), lean);
        assert!(
            two.lock("a")
                .without_record()
                .try_acquire()
                .expect("told")
                .is_none()
        );
        let refused = two.lock("a").acquire_timeout(LEASE / 10);
        let refused = refused.expect_err("it is held, or the server too young");
        assert!(!refused.is_unavailable(), "{refused}");
        let holder = two.holder("a").expect("told").expect("held");
        assert_eq!(holder.host.is_empty(), lean);
        // Longer than any expiry of the first lease.
        assert_eq!(guard.lost_timeout(LEASE * 3 + Duration::from_secs(1)), None);
        assert!(guard.is_valid());
        assert_eq!(guard.release().expect("told"), ReleaseOutcome::Released);
        assert_eq!(item(server, "a"), "EN\r\n");
        let guard = two.lock("a").without_record().lease(LEASE).try_acquire();
        drop(guard.expect("told").expect("free"));
        assert_eq!(item(server, "a"), "EN\r\n");
    });
}

#[test]
fn recordless_loss_is_reported() {
    with_each(|server, _| {
        let one = client(server);
        let lock = one.lock("a").without_record().lease(LEASE);
        let guard = lock.acquire().expect("nobody has it");
        server.flush_all();
        assert_eq!(guard.lost(), LossReason::Missing);
        let guard = lock.lease(LEASE * 5).acquire().expect("nobody has it");
        server.restart();
        assert_eq!(guard.lost(), LossReason::ServerRestarted);
    });
}

#[test]
fn shutdown_releases_recordless_lock() {
    with_each(|server, _| {
        let (one, two) = (client(server), client(server));
        let guard = one.lock("a").without_record().lease(LEASE).acquire();
        let (renewed, guard) = (one, guard.expect("nobody has it"));
        assert!(renewed.shutdown(LEASE), "given back");
        drop(guard);
        let guard = two.lock("a").without_record().lease(LEASE).try_acquire();
        let released = guard.expect("told").expect("free").release();
        assert_eq!(released.expect("told"), ReleaseOutcome::Released);
    });
}

#[test]
fn short_lease_error_names_the_minimum() {
    with_each(|server, _| {
        let lock = client(server).lock("a").without_record();
        let short = lock.lease(LEASE - Duration::from_millis(1)).try_acquire();
        let error = short.expect_err("too short");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("at least 2s"), "{error}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_with_and_without_record_exclude() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let builder = memlatch::Client::builder().server(server.url());
        let client = builder.restart_guard(false).build().await.expect("there");
        let busy = std::sync::Arc::new(core::sync::atomic::AtomicU32::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..16 {
            let (client, busy) = (client.clone(), busy.clone());
            tasks.spawn(async move {
                use core::sync::atomic::Ordering;
                let lock = client.lock("crowd").lease(LEASE);
                let lock = if number % 2 == 0 {
                    lock.without_record()
                } else {
                    lock
                };
                for _ in 0..10 {
                    let guard = lock.acquire().await.expect("told");
                    assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0, "alone");
                    tokio::task::yield_now().await;
                    assert_eq!(busy.fetch_sub(1, Ordering::SeqCst), 1, "alone");
                    let released = guard.release().await.expect("told");
                    assert_eq!(released, ReleaseOutcome::Released);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic");
        }
    }
}
