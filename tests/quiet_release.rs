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

#[cfg(feature = "blocking")]
mod in_the_blocking_front {
    use super::{LONG, memcached};
    use core::time::Duration;
    use memcached::RealServer;
    use memlatch::Dialect;
    use memlatch::blocking::{Client, LockGuard};
    use std::thread;
    use std::time::Instant;

    /// No test waits for the end of one.
    const LEASE: Duration = Duration::from_secs(60);

    fn client_with(server: &RealServer, dialect: Option<Dialect>) -> Client {
        let mut builder = Client::builder().server(server.url()).restart_guard(false);
        if let Some(dialect) = dialect {
            builder = builder.dialect(dialect);
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

    /// How many connections the server has seen, that of the question included.
    fn connections(server: &RealServer) -> u64 {
        let stats = String::from_utf8(server.command(b"stats\r\n")).expect("text");
        let mut lines = stats.lines();
        let count = lines.find_map(|line| line.strip_prefix("STAT total_connections "));
        count.expect("a count").parse().expect("a number")
    }

    #[test]
    fn the_lock_is_free_at_once_for_who_comes_next() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            for dialect in [None, Some(Dialect::Classic)] {
                let client = client_with(&server, dialect);
                for lean in [false, true] {
                    let lock = client.lock("a").lease(LEASE);
                    let lock = if lean { lock.lean() } else { lock };
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
    fn it_is_sent_though_nothing_else_is() {
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

    #[test]
    fn what_comes_to_nothing_is_counted() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let client = client(&server);
            let guard = take(&client, "a");
            server.flush_all();
            guard.release_quietly();
            until("counted", || {
                client.holder("a").expect("told");
                client.quiet_failures() == 1
            });

            let guard = take(&client, "a");
            server.stop_signal();
            let began = Instant::now();
            guard.release_quietly();
            assert!(began.elapsed() < Duration::from_secs(1), "nobody waits");
            until("counted", || {
                assert!(client.holder("a").is_err(), "the server stands still");
                client.quiet_failures() == 2
            });
            server.continue_signal();
            becomes_free(&client, "a");
        }
    }

    #[test]
    fn a_restart_ends_what_is_under_way() {
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
    fn a_pause_between_pairs_opens_no_connection() {
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
    fn two_that_are_held_can_both_be_released() {
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
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..25 {
                            let lock = client.lock("one").lease(LEASE);
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

    #[test]
    fn a_shutdown_reads_what_is_left() {
        for binary in memcached::required() {
            let server = binary.start(&[]);
            let (one, two) = (client(&server), client(&server));
            take(&one, "a").release_quietly();
            assert!(one.shutdown(LONG));
            assert_eq!(one.quiet_failures(), 0);
            assert_eq!(two.holder("a").expect("told"), None);

            let guard = take(&two, "a");
            server.flush_all();
            guard.release_quietly();
            assert!(two.shutdown(LONG));
            assert_eq!(two.quiet_failures(), 1);
        }
    }
}
