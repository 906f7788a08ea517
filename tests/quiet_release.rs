//! Releases that nobody waits for, against real memcached servers.
#![cfg(feature = "tokio")]

#[path = "support/memcached.rs"]
mod memcached;

use core::time::Duration;
use memlatch::Client;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(10);

async fn client(server: &memcached::RealServer) -> Client {
    let builder = Client::builder().server(server.url()).restart_guard(false);
    builder.build().await.expect("the server is there")
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < LONG, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_lock_is_free_at_once_for_who_comes_next() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let client = client(&server).await;
        for lean in [false, true] {
            let lock = client.lock("a").lease(LONG);
            let lock = if lean { lock.lean() } else { lock };
            for _ in 0..100 {
                // The release goes out ahead of the attempt.
                let guard = lock.try_acquire().await.expect("told");
                guard.expect("free").release_quietly();
            }
        }
        assert_eq!(client.quiet_failures(), 0);
    }
}

#[tokio::test]
async fn it_is_sent_though_nothing_else_is() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let (one, two) = (client(&server).await, client(&server).await);
        let guard = one.lock("a").lease(LONG * 6).acquire().await.expect("free");
        guard.release_quietly();
        until("released", async || {
            two.holder("a").await.expect("told").is_none()
        })
        .await;
        assert_eq!(one.quiet_failures(), 0);
    }
}

#[tokio::test]
async fn what_comes_to_nothing_is_counted() {
    for binary in memcached::required() {
        let mut server = binary.start(&[]);
        let client = client(&server).await;
        let guard = client.lock("a").lease(LONG).acquire().await.expect("free");
        server.flush_all();
        guard.release_quietly();
        until("counted", async || client.quiet_failures() == 1).await;
        let guard = client.lock("a").lease(LONG).acquire().await.expect("free");
        server.stop_signal();
        guard.release_quietly();
        // Not answered for longer than an operation may take.
        until("counted", async || client.quiet_failures() == 2).await;
        server.continue_signal();
        until("released", async || {
            client
                .holder("a")
                .await
                .is_ok_and(|holder| holder.is_none())
        })
        .await;
        server.kill();
    }
}

#[tokio::test]
async fn a_shutdown_sends_what_is_left() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let (one, two) = (client(&server).await, client(&server).await);
        let guard = one.lock("a").lease(LONG * 6).acquire().await.expect("free");
        guard.release_quietly();
        assert!(one.shutdown(LONG).await);
        until("released", async || {
            two.holder("a").await.expect("told").is_none()
        })
        .await;
        let guard = two.lock("b").lease(LONG * 6).acquire().await.expect("free");
        guard.release_quietly();
        // The last handle goes.
        drop(two);
        let three = client(&server).await;
        until("released", async || {
            three.holder("b").await.expect("told").is_none()
        })
        .await;
    }
}
