//! The async API against real memcached servers.
#![cfg(feature = "tokio")]

use crate::support::memcached;
use crate::support::test_server::TestServer;
use core::future::{Future, poll_fn};
use core::task::Poll;
use core::time::Duration;
use memlatch::{Client, ClientBuilder, ErrorKind, LossReason, ReleaseOutcome};
use std::time::Instant;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn lock_is_exclusive_until_released() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let guard = one.lock("a").label("first").acquire().await.expect("free");
        assert!(guard.is_valid());
        assert!(guard.remaining() > seconds(8), "{:?}", guard.remaining());
        assert!(
            two.lock("a")
                .try_acquire()
                .await
                .expect("answered")
                .is_none()
        );

        let holder = two.holder("a").await.expect("answered").expect("held");
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(holder.label, "first");
        assert_eq!(holder.lease, seconds(10));
        assert_eq!(
            holder.last_fencing_token.is_some(),
            guard.fencing_token().is_some()
        );

        let first = guard.fencing_token().expect("fencing is on");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        assert_eq!(one.holder("a").await.expect("answered"), None);
        let guard = two.lock("a").try_acquire().await.expect("answered");
        let guard = guard.expect("free");
        assert!(guard.fencing_token().expect("fencing is on") > first);
        assert!(i64::try_from(guard.fencing_token().expect("on")).is_ok());
    }
}

#[tokio::test]
async fn timeout_ends_wait_and_names_holder() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let _guard = one.lock("a").label("busy").acquire().await.expect("free");
        let began = Instant::now();
        let error = two.lock("a").acquire_timeout(millis(300)).await;
        let error = error.expect_err("held");
        let waited = began.elapsed();
        assert!(error.is_timeout(), "{error}");
        assert!(waited >= millis(300) && waited < millis(1500), "{waited:?}");
        assert_eq!(error.holder().expect("known").label, "busy");
        assert!(error.to_string().contains("busy"), "{error}");
    }
}

#[tokio::test]
async fn dropped_guard_passes_lock_to_waiter() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let guard = one.lock("a").acquire().await.expect("free");
        let waiter = tokio::spawn(async move {
            let guard = two.lock("a").acquire().await.expect("free in the end");
            (Instant::now(), guard.release().await.expect("answered"))
        });
        tokio::time::sleep(millis(50)).await;
        let dropped = Instant::now();
        drop(guard);
        let (acquired, outcome) = waiter.await.expect("no panic");
        assert!(acquired >= dropped);
        assert!(acquired - dropped < seconds(2), "{:?}", acquired - dropped);
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn held_lock_is_renewed() {
    let targets = TestServer::all();
    let mut guards = Vec::new();
    for target in &targets {
        let one = target.client().await;
        guards.push((
            one.lock("a")
                .lease(millis(900))
                .acquire()
                .await
                .expect("free"),
            one,
        ));
    }
    let began = Instant::now();
    while began.elapsed() < seconds(5) {
        for (guard, _) in &guards {
            assert!(guard.is_valid(), "after {:?}", began.elapsed());
            guard.ensure(millis(50)).expect("renewed in time");
        }
        tokio::time::sleep(millis(20)).await;
    }
    for ((guard, _), target) in guards.into_iter().zip(&targets) {
        let two = target.client().await;
        assert!(
            two.lock("a")
                .try_acquire()
                .await
                .expect("answered")
                .is_none()
        );
        assert_eq!(
            guard.release().await.expect("answered"),
            ReleaseOutcome::Released
        );
    }
}

#[tokio::test]
async fn flush_is_found_by_next_renewal() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one
            .lock("a")
            .lease(seconds(3))
            .acquire()
            .await
            .expect("free");
        let deadline = Instant::now() + guard.remaining();
        target.server.flush_all();
        let reason = guard.lost().await;
        assert_eq!(reason, LossReason::Missing);
        assert!(Instant::now() < deadline, "told only at the deadline");
        assert!(!guard.is_valid());
        let error = guard.ensure(Duration::ZERO).expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert_eq!(
            guard.release().await.expect("known without asking"),
            ReleaseOutcome::AlreadyLost {
                reason: LossReason::Missing
            }
        );
    }
}

/// The restarted server gets no request about a lock of the earlier instance.
#[tokio::test]
async fn restart_loses_lock_and_gets_nothing() {
    for mut target in TestServer::all() {
        let one = target.client().await;
        let guard = one
            .lock("a")
            .lease(seconds(3))
            .acquire()
            .await
            .expect("free");
        let deadline = Instant::now() + guard.remaining();
        target.server.restart();
        // The same CAS unique may be this other holder's now.
        let two = target.client().await;
        let other = two.lock("a").acquire().await.expect("free");
        assert_eq!(guard.lost().await, LossReason::ServerRestarted);
        assert!(Instant::now() < deadline, "told only at the deadline");
        drop(guard);
        tokio::time::sleep(millis(200)).await;
        assert_eq!(
            other.release().await.expect("answered"),
            ReleaseOutcome::Released
        );
    }
}

#[tokio::test]
async fn unreachable_server_loses_lock_at_deadline() {
    for target in &TestServer::all() {
        let one = target.client().await;
        let guard = one
            .lock("a")
            .lease(seconds(2))
            .acquire()
            .await
            .expect("free");
        target.server.stop_signal();
        let deadline = Instant::now() + guard.remaining();
        let reason = guard.lost().await;
        let now = Instant::now();
        target.server.continue_signal();
        assert_eq!(reason, LossReason::Unreachable);
        assert!(!guard.is_valid());
        let late = now.saturating_duration_since(deadline);
        assert!(late < millis(250), "{late:?} late");
        // The last renewal may have been answered between the stop and the look at the deadline.
        assert!(deadline.saturating_duration_since(now) < millis(5));
    }
}

/// The keeper is a task. A runtime that ends right away never runs it.
#[test]
fn client_with_unrun_renewer_is_closed() {
    for target in &TestServer::all() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a runtime")
        };
        let client = runtime().block_on(target.client());
        let error = runtime().block_on(client.lock("a").try_acquire());
        let error = error.expect_err("nobody would renew it");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
}

#[tokio::test]
async fn holder_with_ended_runtime_is_replaced() {
    for target in &TestServer::all() {
        let builder = target.settings(Client::builder());
        // No release and no renewal is left behind by a runtime that is gone.
        let holder = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let one = builder.build().await.expect("the server is there");
                let lock = one.lock("a").lease(seconds(2));
                core::mem::forget(lock.acquire().await.expect("free"));
            });
            runtime.shutdown_background();
        });
        holder.join().expect("no panic");
        let died = Instant::now();
        let two = target.client().await;
        assert!(
            two.lock("a")
                .try_acquire()
                .await
                .expect("answered")
                .is_none()
        );
        let guard = two.lock("a").acquire_timeout(seconds(10)).await;
        let waited = died.elapsed();
        drop(guard.expect("freed"));
        assert!(waited < seconds(7), "{waited:?}");
    }
}

#[tokio::test]
async fn dropped_acquisition_leaves_nothing() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        for pause in 0..40 {
            let lock = one.lock("a");
            let acquire = lock.acquire();
            let _ = tokio::time::timeout(Duration::from_micros(pause * 20), acquire).await;
        }
        let guard = two.lock("a").acquire_timeout(seconds(2)).await;
        drop(guard.expect("all were taken back"));
    }
}

/// Whenever an acquisition is dropped, between any two polls of it, the lock is free again long
/// before its lease ends, and others on the same connection notice nothing.
#[tokio::test]
async fn acquisition_may_be_dropped_anytime() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let neighbour = one.lock("neighbour").acquire().await.expect("free");
        for polls in 0..12 {
            let lock = one.lock("a").lease(seconds(60));
            let other = one.lock("b");
            let mut acquire = Box::pin(lock.acquire());
            let mut left = polls;
            poll_fn(|cx| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                match acquire.as_mut().poll(cx) {
                    Poll::Ready(_) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            let beside = async {
                drop(acquire);
                other.acquire().await
            };
            drop(beside.await.expect("free"));
            let guard = two.lock("a").acquire_timeout(seconds(5)).await;
            drop(guard.unwrap_or_else(|error| panic!("dropped at poll {polls}: {error}")));
        }
        assert!(neighbour.is_valid());
    }
}

#[tokio::test]
async fn unanswered_acquisition_is_unknown_and_undone() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        drop(two.lock("b").acquire().await.expect("free"));
        target.server.stop_signal();
        let began = Instant::now();
        let error = one.lock("a").lease(seconds(20)).try_acquire().await;
        let error = error.expect_err("nobody answers");
        assert!(error.is_unknown(), "{error}");
        assert!(began.elapsed() < seconds(4), "{:?}", began.elapsed());
        target.server.continue_signal();
        // Well within the lease, so it was not the expiry that freed it.
        let guard = two.lock("a").acquire_timeout(seconds(8)).await;
        drop(guard.expect("taken back"));
    }
}

#[tokio::test]
async fn flush_delays_locks_by_longest_lease() {
    for target in &TestServer::all() {
        let guarded = || {
            target
                .settings(Client::builder())
                .restart_guard(true)
                .max_lease(seconds(3))
        };
        let short = |builder: ClientBuilder<Client>| builder.default_lease(millis(500));
        let one = short(guarded()).build().await.expect("the server is there");
        let two = short(guarded()).build().await.expect("the server is there");
        // The server itself is fresh.
        drop(
            one.lock("warm up")
                .acquire()
                .await
                .expect("granted in the end"),
        );

        let guard = one
            .lock("a")
            .lease(seconds(3))
            .acquire()
            .await
            .expect("free");
        target.server.flush_all();
        let believed_until = Instant::now() + guard.remaining();
        // Only the local deadline ends this hold.
        let error = two.lock("a").try_acquire().await.expect_err("too young");
        assert_eq!(error.kind(), ErrorKind::RestartGuard, "{error}");
        let wait = error.retry_after().expect("known");
        assert!(wait > seconds(2) && wait < seconds(9), "{wait:?}");
        assert!(error.to_string().contains("recently"), "{error}");
        let error = two.lock("a").acquire_timeout(millis(500)).await;
        assert_eq!(
            error.expect_err("too young").kind(),
            ErrorKind::RestartGuard
        );
        let second = two.lock("a").acquire().await.expect("granted in the end");
        assert!(Instant::now() >= believed_until, "two believed at once");
        drop((guard, second));
    }
}

#[tokio::test]
async fn old_server_costs_no_wait() {
    let targets = TestServer::all();
    tokio::time::sleep(seconds(4)).await;
    for target in &targets {
        let one = target
            .settings(Client::builder())
            .restart_guard(true)
            .max_lease(seconds(2))
            .default_lease(seconds(2));
        let one = one.build().await.expect("the server is there");
        let guard = one.lock("a").try_acquire().await.expect("old enough");
        assert!(guard.is_some());
    }
}

#[tokio::test]
async fn restart_delays_locks_by_longest_lease() {
    for mut target in TestServer::all() {
        let guarded = target
            .settings(Client::builder())
            .restart_guard(true)
            .max_lease(seconds(2))
            .default_lease(seconds(2));
        let one = guarded.clone().build().await.expect("the server is there");
        let guard = one.lock("a").acquire().await.expect("granted in the end");
        target.server.restart();
        let believed_until = Instant::now() + guard.remaining();
        let two = guarded.build().await.expect("the server is there");
        let error = two.lock("a").try_acquire().await.expect_err("too young");
        assert_eq!(error.kind(), ErrorKind::RestartGuard, "{error}");
        let second = two.lock("a").acquire().await.expect("granted in the end");
        assert!(Instant::now() >= believed_until, "two believed at once");
        assert_eq!(guard.lost().await, LossReason::ServerRestarted);
        drop(second);
    }
}

#[tokio::test]
async fn shutdown_releases_everything() {
    for target in &TestServer::all() {
        let (one, two) = (target.client().await, target.client().await);
        let kept = one.lock("kept").acquire().await.expect("free");
        drop(one.lock("dropped").acquire().await.expect("free"));
        assert!(one.shutdown(seconds(2)).await);
        assert_eq!(kept.lost().await, LossReason::Released);
        for name in ["kept", "dropped"] {
            let guard = two.lock(name).try_acquire().await.expect("answered");
            drop(guard.expect("given back"));
        }
        let error = one.lock("kept").acquire().await.expect_err("shut down");
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn bad_input_is_refused_before_sending() {
    let target = TestServer::all().pop().expect("a server");
    let one = target.client().await;
    let before = target.server.command(b"stats\r\n");
    let long = "x".repeat(10_240);
    for (name, part) in [("", "empty"), (long.as_str(), "10240"), ("a\r\nb", "0x0d")] {
        for error in [
            one.lock(name).acquire().await.expect_err("unusable"),
            one.lock(name).try_acquire().await.expect_err("unusable"),
            one.holder(name).await.expect_err("unusable"),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    for (lease, part) in [
        (Duration::ZERO, "too short"),
        (seconds(40 * 86_400), "30 days"),
    ] {
        let error = one.lock("a").lease(lease).acquire().await;
        let error = error.expect_err("unusable");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }
    let count = |stats: &[u8]| {
        let text = String::from_utf8_lossy(stats).into_owned();
        let line = text.lines().find(|line| line.starts_with("STAT cmd_set"));
        line.map(str::to_owned)
    };
    assert_eq!(count(&before), count(&target.server.command(b"stats\r\n")));
}

#[tokio::test]
async fn foreign_peer_is_reported() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let web = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    let error = Client::connect(format!("memcached://{address}")).await;
    let error = error.expect_err("not memcached").to_string();
    assert!(
        error.contains("not an answer of memcached") && error.contains("HTTP/1.1 400"),
        "{error}"
    );
    web.join().expect("no panic");
}

#[tokio::test]
async fn unreachable_server_is_named() {
    let mut target = TestServer::all().pop().expect("a server");
    let url = target.server.url();
    target.server.kill();
    let error = Client::connect(url.clone()).await.expect_err("down");
    assert!(error.is_unavailable(), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn server_without_cas_is_refused() {
    for target in &TestServer::started_with(&["-C"]) {
        let refused = async {
            let one = target.settings(Client::builder()).build().await?;
            one.lock("a").try_acquire().await.map(|_| ())
        };
        let error = refused.await.expect_err("no CAS");
        assert_eq!(error.kind(), ErrorKind::UnsupportedServer, "{error}");
        assert!(error.to_string().contains("-C"), "{error}");
    }
}

#[tokio::test]
async fn unix_socket_is_supported() {
    for binary in memcached::required() {
        let path = std::env::temp_dir().join(format!(
            "memlatch-{}-{}.sock",
            std::process::id(),
            binary.version
        ));
        let server = binary.start_unix(&path, &[]);
        let client = Client::builder()
            .server(server.url())
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600));
        let client = client.build().await.expect("the server is there");
        let guard = client.lock("a").acquire().await.expect("free");
        assert_eq!(guard.key(), b"memlatch:lock:a");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
    }
}
