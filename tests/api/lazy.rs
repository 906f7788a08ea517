//! Clients that are made before their server is there: without connecting, or by waiting for it.
//! Against real memcached servers, in both APIs.
#![cfg(all(feature = "tokio", feature = "blocking"))]

use crate::support::memcached;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use memcached::RealServer;
use memlatch::{Client, ClientBuilder, ErrorKind, ReleaseOutcome, blocking};
use std::thread;
use std::time::Instant;

/// More than anything here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

fn settings<F>(server: &RealServer, builder: ClientBuilder<F>) -> ClientBuilder<F> {
    builder
        .server(server.url())
        .restart_guard(false)
        .max_lease(Duration::from_secs(600))
}

/// A server of each version, which is down.
fn stopped_servers() -> impl Iterator<Item = RealServer> {
    memcached::required().into_iter().map(|binary| {
        let mut server = binary.start(&[]);
        server.kill();
        server
    })
}

#[tokio::test]
async fn lazy_client_connects_late() {
    for mut server in stopped_servers() {
        let client = settings(&server, Client::builder()).build_lazy();
        let client = client.expect("nothing is sent");
        assert_eq!(client.stats().connections_opened, 0);
        let error = client.lock("a").try_acquire().await.expect_err("down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let error = client.holder("a").await.expect_err("down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        // Waits for a server that comes up meanwhile.
        let lock = client.lock("a").lease(LONG);
        let waiting = tokio::spawn(async move { lock.acquire().await });
        server.restart();
        let guard = waiting.await.expect("no panic").expect("it is up");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        assert!(client.shutdown(LONG).await);
    }
}

#[test]
fn lazy_client_connects_late_blocking() {
    for mut server in stopped_servers() {
        let client = settings(&server, blocking::Client::builder()).build_lazy();
        let client = client.expect("nothing is sent");
        assert_eq!(client.stats().connections_opened, 0);
        let error = client.lock("a").try_acquire().expect_err("down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let error = client.holder("a").expect_err("down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let lock = client.lock("a").lease(LONG);
        let waiting = thread::spawn(move || lock.acquire());
        server.restart();
        let guard = waiting.join().expect("no panic").expect("it is up");
        let outcome = guard.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        assert!(client.shutdown(LONG));
    }
}

#[tokio::test]
async fn build_waits_for_the_server() {
    for mut server in stopped_servers() {
        let builder = settings(&server, Client::builder()).wait_for_server(LONG);
        let mut build = Box::pin(builder.build());
        let began = poll_fn(|cx| Poll::Ready(build.as_mut().poll(cx).is_pending())).await;
        assert!(began, "there is nothing to connect to");
        let build = tokio::spawn(build);
        let thread = settings(&server, blocking::Client::builder()).wait_for_server(LONG);
        let thread = thread::spawn(move || thread.build());
        server.restart();
        let client = build.await.expect("no panic").expect("it is up");
        assert_eq!(client.holder("a").await.expect("answered"), None);
        let client = thread.join().expect("no panic").expect("it is up");
        assert_eq!(client.holder("a").expect("answered"), None);
    }
}

#[tokio::test]
async fn overdue_build_reports_the_reason() {
    for server in stopped_servers() {
        let limit = Duration::from_millis(300);
        let began = Instant::now();
        let builder = settings(&server, Client::builder()).wait_for_server(limit);
        let error = builder.build().await.expect_err("down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() >= limit);
        let began = Instant::now();
        let builder = settings(&server, blocking::Client::builder()).wait_for_server(limit);
        let error = builder.build().expect_err("down");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() >= limit);
    }
}

/// A server that answers is not waited for to become another.
#[tokio::test]
async fn server_without_cas_fails_at_once() {
    for binary in memcached::required() {
        let server = binary.start(&["-C"]);
        let began = Instant::now();
        let builder = settings(&server, Client::builder()).wait_for_server(LONG * 60);
        let error = builder.build().await.expect_err("no CAS");
        assert_eq!(error.kind(), ErrorKind::UnsupportedServer, "{error}");
        let builder = settings(&server, blocking::Client::builder()).wait_for_server(LONG * 60);
        let error = builder.build().expect_err("no CAS");
        assert_eq!(error.kind(), ErrorKind::UnsupportedServer, "{error}");
        assert!(began.elapsed() < LONG);
    }
}

#[tokio::test]
async fn dropped_builds_leave_no_task() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    for server in stopped_servers() {
        for polls in 0..20 {
            let builder = settings(&server, Client::builder()).wait_for_server(LONG);
            let mut build = Box::pin(builder.build());
            for _ in 0..polls {
                let over = poll_fn(|cx| Poll::Ready(build.as_mut().poll(cx).is_ready())).await;
                assert!(!over, "there is nothing to connect to");
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(tasks(), 0);
        drop(
            settings(&server, Client::builder())
                .build_lazy()
                .expect("nothing is sent"),
        );
        let began = Instant::now();
        while tasks() > 0 {
            assert!(began.elapsed() < LONG, "the keeper does not end");
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn lazy_client_needs_runtime_and_settings() {
    let error = Client::connect_lazy("127.0.0.1:1").expect_err("no runtime");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = blocking::Client::connect_lazy("x://y").expect_err("no address");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    blocking::Client::connect_lazy("127.0.0.1:1").expect("nothing is sent");
}
