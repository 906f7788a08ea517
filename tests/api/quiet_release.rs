//! Releases without a wait for the answer, against real memcached servers.
#![cfg(feature = "tokio")]

use crate::support::memcached;
use core::time::Duration;
use memlatch::Client;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(10);

async fn client(server: &memcached::RealServer) -> Client {
    let builder = Client::builder()
        .server(server.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
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
async fn quietly_released_lock_is_free() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let client = client(&server).await;
        for lean in [false, true] {
            let lock = client.lock("a").lease(LONG);
            let lock = if lean { lock.without_record() } else { lock };
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
async fn quiet_release_is_sent_by_itself() {
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
async fn failed_quiet_release_is_counted() {
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
async fn shutdown_sends_pending_releases() {
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

#[cfg(feature = "blocking")]
mod in_the_blocking_front {
    use super::{LONG, memcached};
    use core::time::Duration;
    use memcached::RealServer;
    use memlatch::Protocol;
    use memlatch::blocking::{Client, LockGuard};
    use std::thread;
    use std::time::Instant;

    /// No test waits for the end of one.
    const LEASE: Duration = Duration::from_secs(60);

    fn client_with(server: &RealServer, protocol: Option<Protocol>) -> Client {
        let mut builder = Client::builder()
            .server(server.url())
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600));
        if let Some(protocol) = protocol {
            builder = builder.protocol(protocol);
        }
        builder.build().expect("the server is there")
    }

    fn client(server: &RealServer) -> Client {
        client_with(server, None)
    }

    #[track_caller]
    fn take(client: &Client, name: &str) -> LockGuard {
        let lock = client.lock(name).lease(LEASE);
        lock.try_acquire().expect("told").expect("free")
    }

    #[track_caller]
    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < LONG, "not in time: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn becomes_free(client: &Client, name: &str) {
        until("released", || {
            client.holder(name).is_ok_and(|holder| holder.is_none())
        });
    }

    /// Number of connections that the server has seen, that of the question included.
    fn connections(server: &RealServer) -> u64 {
        let stats = String::from_utf8(server.command(b"stats\r\n")).expect("text");
        let mut lines = stats.lines();
        let count = lines.find_map(|line| line.strip_prefix("STAT total_connections "));
        count.expect("a count").parse().expect("a number")
    }

    #[test]
    fn quietly_released_lock_is_free() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            for protocol in [None, Some(Protocol::Classic)] {
                let client = client_with(&server, protocol);
                for lean in [false, true] {
                    let lock = client.lock("a").lease(LEASE);
                    let lock = if lean { lock.without_record() } else { lock };
                    let mut held = 0;
                    for _ in 0..100 {
                        match lock.try_acquire().expect("told") {
                            Some(guard) => guard.release_quietly(),
                            None => held += 1,
                        }
                    }
                    // Where the keeper has just taken the connection that the release went out
                    // on, the attempt can be faster.
                    assert!(held < 5, "held in {held} of 100 cases");
                }
                assert!(client.shutdown(LONG));
                assert_eq!(client.quiet_failures(), 0);
            }
        }
    }

    #[test]
    fn quiet_release_is_sent_by_itself() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let (one, two) = (client(&server), client(&server));
            take(&one, "a").release_quietly();
            becomes_free(&two, "a");
            // Nor does it matter that the client goes.
            take(&one, "b").release_quietly();
            drop(one);
            becomes_free(&two, "b");
        }
    }

    /// Repeats until a quiet release has failed. Where the keeper has the only connection, the
    /// release is left to it and cannot.
    #[track_caller]
    fn is_counted(client: &Client, mut round: impl FnMut(LockGuard)) {
        let counted = (0..10).any(|_| {
            let before = client.quiet_failures();
            round(take(client, "a"));
            becomes_free(client, "a");
            client.quiet_failures() > before
        });
        assert!(counted);
    }

    #[test]
    fn failed_quiet_release_is_counted() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let client = client(&server);
            is_counted(&client, |guard| {
                server.flush_all();
                guard.release_quietly();
            });
            is_counted(&client, |guard| {
                server.stop_signal();
                let began = Instant::now();
                guard.release_quietly();
                assert!(began.elapsed() < Duration::from_secs(1), "nobody waits");
                assert!(client.holder("a").is_err(), "the server stands still");
                server.continue_signal();
            });
            // Another client has changed the record: it is ours all the same, and has to go.
            is_counted(&client, |guard| {
                let append = [b"append ", guard.key(), b" 0 0 0\r\n\r\n"].concat();
                assert_eq!(server.command(&append), b"STORED\r\n");
                guard.release_quietly();
            });
        }
    }

    #[test]
    fn restart_ends_pending_quiet_releases() {
        for binary in memcached::required() {
            let mut server = binary.start(&[]);
            let client = client(&server);
            let guard = take(&client, "a");
            let other = take(&client, "b");
            guard.release_quietly();
            server.restart();
            other.release_quietly();
            until("connected again", || client.holder("a").is_ok());
            drop(take(&client, "a"));
            drop(take(&client, "b"));
            assert!(client.shutdown(LONG));
        }
    }

    #[test]
    fn paused_pairs_open_no_connection() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let client = client(&server);
            // The keeper may open one of its own, now and then.
            let opened = (0..10).map(|_| {
                let before = connections(&server);
                for hold in [0, 15] {
                    for _ in 0..3 {
                        let guard = take(&client, "a");
                        thread::sleep(Duration::from_millis(hold));
                        guard.release_quietly();
                        thread::sleep(Duration::from_millis(30));
                    }
                }
                connections(&server) - before - 1
            });
            assert_eq!(opened.min(), Some(0));
            assert_eq!(client.quiet_failures(), 0);
        }
    }

    #[test]
    fn two_quiet_releases_both_arrive() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let (one, two) = (client(&server), client(&server));
            for _ in 0..20 {
                let guards = ["a", "b"].map(|name| {
                    let lock = one.lock(name).lease(LEASE);
                    lock.acquire_timeout(LONG).expect("it becomes free")
                });
                guards.into_iter().for_each(LockGuard::release_quietly);
            }
            becomes_free(&two, "a");
            becomes_free(&two, "b");
            assert!(one.shutdown(LONG));
            assert_eq!(one.quiet_failures(), 0);
        }
    }

    #[test]
    fn many_threads_release_quietly() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let client = client(&server);
            thread::scope(|scope| {
                // More than idle connections are kept.
                for number in 0..8 {
                    let client = &client;
                    scope.spawn(move || {
                        for round in 0..25 {
                            let own = format!("of {number}");
                            let name = if round % 5 == 0 { "one" } else { &own };
                            let lock = client.lock(name).lease(LEASE);
                            let guard = lock.acquire_timeout(LONG).expect("it becomes free");
                            assert!(guard.is_valid());
                            guard.release_quietly();
                        }
                    });
                }
            });
            becomes_free(&client, "one");
            assert!(client.shutdown(LONG));
            assert_eq!(client.quiet_failures(), 0);
        }
    }

    /// The same for what only a shutdown finds out.
    fn is_counted_at_the_end(server: &RealServer, other: &Client) {
        let counted = (0..10).any(|_| {
            let client = client(server);
            let guard = take(&client, "a");
            let append = [b"append ", guard.key(), b" 0 0 0\r\n\r\n"].concat();
            assert_eq!(server.command(&append), b"STORED\r\n");
            guard.release_quietly();
            assert!(client.shutdown(LONG));
            assert_eq!(other.holder("a").expect("told"), None);
            client.quiet_failures() == 1
        });
        assert!(counted);
    }

    #[test]
    fn shutdown_reads_pending_replies() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let (one, two) = (client(&server), client(&server));
            take(&one, "a").release_quietly();
            assert!(one.shutdown(LONG));
            assert_eq!(one.quiet_failures(), 0);
            assert_eq!(two.holder("a").expect("told"), None);

            is_counted_at_the_end(&server, &two);
        }
    }
}
