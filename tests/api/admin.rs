//! Administration of locks of other clients, in both APIs: finding them, breaking one, waiting
//! for the end of one. Against every real server and the embedded one.

#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

use crate::support::{apis, memcached};
use apis::block_on;
use core::fmt::Write as _;
use core::time::Duration;
use memcached::RealServer;
use memlatch::server::Server;
use memlatch::{
    BreakOutcome, Client, ErrorKind, Holder, LockError, LockList, LossReason, MAX_LISTED,
    ReleaseOutcome, blocking,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Both APIs with one server, as one.
struct Both {
    blocking: blocking::Client,
    url: String,
    what: String,
}

impl Both {
    fn new(url: &str, what: &str) -> Self {
        let client = blocking::Client::builder()
            .server(url)
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600));
        Self {
            blocking: client.build().expect("a server"),
            url: url.to_owned(),
            what: what.to_owned(),
        }
    }

    /// Does something with the async API, from a runtime of its own.
    fn with_async<T>(&self, work: impl AsyncFnOnce(Client) -> T) -> T {
        block_on(async {
            let client = Client::builder()
                .server(&self.url)
                .restart_guard(false)
                .max_lease(core::time::Duration::from_secs(600));
            work(client.build().await.expect("a server")).await
        })
    }

    /// The list, which both APIs must agree on.
    fn list(&self, start: &str) -> LockList {
        let listing = self.blocking.list(start).expect("a list");
        let other = self.with_async(async |client| client.list(start).await.expect("a list"));
        let names = |listing: &LockList| -> Vec<String> {
            listing.locks.iter().map(|lock| lock.name.clone()).collect()
        };
        assert_eq!(names(&listing), names(&other), "{}", self.what);
        assert_eq!(listing.is_complete, other.is_complete, "{}", self.what);
        for (one, other) in listing.locks.iter().zip(&other.locks) {
            assert!(one.holder.is_same_session(&other.holder), "{}", self.what);
        }
        listing
    }

    /// The errors of both APIs, in the same words.
    fn list_fails(&self) -> LockError {
        let error = self.blocking.list("").expect_err("a refusal");
        let other = self.with_async(async |client| client.list("").await.expect_err("a refusal"));
        assert_eq!(error.to_string(), other.to_string(), "{}", self.what);
        error
    }
}

/// Every server there is, one after the other.
fn everywhere(mut test: impl FnMut(&Both)) {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        test(&Both::new(&server.url(), &server.to_string()));
    }
    let server = Server::start().expect("an embedded server");
    test(&Both::new(&server.address().to_string(), "embedded"));
}

/// Tells a server something without waiting for answers, and that it was heard.
fn tell(url: &str, text: &str) {
    let address = url.strip_prefix("memcached://").unwrap_or(url);
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.write_all(text.as_bytes()).expect("written");
    stream.write_all(b"verbosity 0\r\n").expect("written");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"OK\r\n");
}

/// Items of which none is a lock.
fn strangers(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = write!(text, "set other{number} 0 0 4 noreply\r\nitem\r\n");
    }
    text
}

#[test]
fn list_shows_exactly_the_held_locks() {
    everywhere(|both| {
        let what = &both.what;
        assert_eq!(both.list("").locks, [], "{what}");
        tell(&both.url, &strangers(3000));
        // A name as it is never written, a record of no lock, and one too large to be one.
        let odd = format!(
            "set memlatch:lock:%zz 0 0 1 noreply\r\nx\r\n\
             set memlatch:fence:y 0 0 1 noreply\r\n1\r\n\
             set memlatch:lock:large 0 0 5000 noreply\r\n{}\r\n\
             set memlatch:lock:foreign 0 0 4 noreply\r\nhm\tm\r\n",
            "x".repeat(5000)
        );
        tell(&both.url, &odd);
        let elsewhere = blocking::Client::builder()
            .server(&both.url)
            .prefix("elsewhere:")
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600))
            .build()
            .expect("a server");
        let _other = elsewhere.lock("a").try_acquire().expect("an answer");

        let long = "x".repeat(300);
        let names = ["a", "a b", "ab", "\u{fc}", "100%", "#1", &long];
        let guards: Vec<_> = names
            .iter()
            .map(|name| {
                let lock = both.blocking.lock(*name).label("the test");
                let guard = lock.try_acquire().expect("an answer");
                guard.expect("free")
            })
            .collect();
        let lean = both.blocking.lock("lean").without_record().try_acquire();
        let lean = lean.expect("an answer").expect("free");

        let listing = both.list("");
        assert!(listing.is_complete, "{what}");
        let found: Vec<&str> = listing.locks.iter().map(|lock| &*lock.name).collect();
        let hashed = "#0d4e2ca9e9cbced7a7a5380eb29e1a3783b9b6d0db72de36a1051038e1c1fbc7";
        assert_eq!(
            found,
            [
                hashed, "#1", "100%", "a", "a b", "ab", "foreign", "lean", "\u{fc}"
            ],
            "{what}"
        );
        for lock in &listing.locks {
            assert_eq!(lock.is_hashed, lock.name == hashed, "{what}: {lock:?}");
            if lock.name == "foreign" || lock.name == "lean" {
                continue;
            }
            let holder = &lock.holder;
            assert_eq!(holder.label, "the test", "{what}: {lock:?}");
            assert_eq!(holder.pid, std::process::id(), "{what}: {lock:?}");
            assert!(holder.last_fencing_token.is_some(), "{what}: {lock:?}");
            assert!(holder.expires_in.is_some(), "{what}: {lock:?}");
            if !lock.is_hashed {
                let looked = both.blocking.holder(&lock.name).expect("an answer");
                let looked = looked.expect("it is held");
                assert!(looked.is_same_session(holder), "{what}: {lock:?}");
            }
        }
        let names = |start| -> Vec<String> {
            let listing = both.list(start);
            listing.locks.into_iter().map(|lock| lock.name).collect()
        };
        assert_eq!(names("a"), ["a", "a b", "ab"], "{what}");
        assert_eq!(names("#"), [hashed, "#1"], "{what}");
        assert_eq!(names("\u{fc}"), ["\u{fc}"], "{what}");
        assert_eq!(names("x"), [""; 0], "{what}");

        for guard in guards.into_iter().chain([lean]) {
            let released = guard.release().expect("an answer");
            assert_eq!(released, ReleaseOutcome::Released, "{what}");
        }
        assert_eq!(names(""), ["foreign"], "{what}");
    });
}

#[test]
fn long_list_is_cut_and_marked() {
    everywhere(|both| {
        let mut text = String::new();
        for number in 0..MAX_LISTED + 50 {
            let _ = write!(
                text,
                "set memlatch:lock:n{number:06} 0 60 52 noreply\r\n\
                 m1 0123456789abcdef{number:016x} 10000 5 4711 h -\r\n"
            );
        }
        tell(&both.url, &text);
        let listing = both.blocking.list("n").expect("a list");
        assert_eq!(listing.locks.len(), MAX_LISTED, "{}", both.what);
        assert!(!listing.is_complete, "{}", both.what);
        for (number, lock) in listing.locks.iter().enumerate() {
            assert_eq!(lock.name, format!("n{number:06}"), "{}", both.what);
            assert_eq!(lock.holder.host, "h", "{}", both.what);
        }
        let some = both.list("n0000");
        assert!(some.is_complete && some.locks.len() == 100, "{}", both.what);
    });
}

fn assert_unlisted(error: &LockError, server: &RealServer, says: &str) {
    assert_eq!(
        error.kind(),
        ErrorKind::DumpUnavailable,
        "{server}: {error}"
    );
    assert!(error.to_string().contains(says), "{server}: {error}");
    assert_eq!(error.server(), Some(&*server.url()), "{server}");
}

#[test]
fn servers_without_listing_are_distinguished() {
    for binary in memcached::required() {
        let server = binary.start(&["-X"]);
        let both = Both::new(&server.url(), &server.to_string());
        assert_unlisted(&both.list_fails(), &server, "metadump not allowed");
        let server = binary.start(&[]);
        let both = Both::new(&server.url(), &server.to_string());
        server.command(b"lru_crawler disable\r\n");
        assert_unlisted(&both.list_fails(), &server, "lru crawler disabled");
        // Everything else works all the same.
        assert_eq!(both.blocking.holder("x").expect("an answer"), None);
    }
    let server = Server::builder().dump_enabled(false).start();
    let server = server.expect("an embedded server");
    let both = Both::new(&server.address().to_string(), "embedded");
    assert_eq!(both.list_fails().kind(), ErrorKind::DumpUnavailable);
}

/// Another client has asked for a dump and takes some time for it. The server has one at a time.
#[test]
fn busy_server_is_listed_again() {
    for binary in memcached::required() {
        let server = binary.start(&["-m", "256"]);
        let both = Both::new(&server.url(), &server.to_string());
        let guard = both.blocking.lock("x").try_acquire().expect("an answer");
        let guard = guard.expect("free");
        tell(&both.url, &strangers(100_000));
        let mut slow = TcpStream::connect(server.address()).expect("a server");
        let request = b"lru_crawler metadump all\r\n";
        slow.write_all(request).expect("written");
        let mut piece = vec![0; 256 * 1024];
        slow.read_exact(&mut piece[..1]).expect("its beginning");
        let reader = thread::spawn(move || {
            // The end of what has come so far: it may come in two pieces.
            let mut end = Vec::new();
            while !end.ends_with(b"END\r\n") {
                thread::sleep(Duration::from_millis(5));
                let length = slow.read(&mut piece).expect("its end");
                assert!(length > 0, "it is cut off");
                end.extend_from_slice(&piece[..length]);
                end.drain(..end.len().saturating_sub(8));
            }
        });
        let listing = both.list("");
        assert_eq!(listing.locks.len(), 1, "{server}");
        reader.join().expect("it ends");
        drop(guard);
    }
}

#[test]
fn unreachable_server_fails_the_list() {
    for binary in memcached::required() {
        let mut server = binary.start(&[]);
        let both = Both::new(&server.url(), &server.to_string());
        server.kill();
        let error = both.blocking.list("").expect_err("nobody there");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{server}: {error}");
    }
}

#[test]
fn broken_lock_is_lost_to_holder() {
    everywhere(|both| {
        let what = &both.what;
        for by_async in [false, true] {
            let lock = both.blocking.lock("x").lease(Duration::from_secs(2));
            let hanging = lock.try_acquire().expect("an answer").expect("free");
            let seen = both.blocking.holder("x").expect("an answer");
            let seen = seen.expect("it is held");
            let break_it = |seen: &Holder| {
                if by_async {
                    both.with_async(async |client| client.break_lock("x", seen).await)
                } else {
                    both.blocking.break_lock("x", seen)
                }
                .expect("an answer")
            };
            // Renewals make no difference.
            hanging.renew().expect("ours");
            assert_eq!(break_it(&seen), BreakOutcome::Broken, "{what}");
            assert_eq!(break_it(&seen), BreakOutcome::Free, "{what}");
            let next = lock.try_acquire().expect("an answer").expect("free");
            let BreakOutcome::Changed { holder } = break_it(&seen) else {
                panic!("{what}: the lock of another was broken");
            };
            assert!(!holder.is_same_session(&seen), "{what}");
            let reason = hanging
                .lost_timeout(LIMIT)
                .expect("its holder learns of it");
            assert!(
                matches!(reason, LossReason::TakenOver | LossReason::Missing),
                "{what}: {reason}"
            );
            // What a resource needs to keep the old one out.
            assert!(next.fencing_token() > hanging.fencing_token(), "{what}");
            let released = next.release().expect("an answer");
            assert_eq!(released, ReleaseOutcome::Released, "{what}");
            let released = hanging.release().expect("an answer");
            assert!(
                matches!(released, ReleaseOutcome::AlreadyLost { .. }),
                "{what}"
            );
        }
    });
}

#[test]
fn recordless_and_foreign_items_can_break() {
    everywhere(|both| {
        let what = &both.what;
        let lock = both.blocking.lock("lean").without_record();
        let first = lock.try_acquire().expect("an answer").expect("free");
        let seen = both.blocking.holder("lean").expect("an answer");
        let seen = seen.expect("it is held");
        let broken = both.blocking.break_lock("lean", &seen);
        assert_eq!(broken.expect("an answer"), BreakOutcome::Broken, "{what}");
        let second = lock.try_acquire().expect("an answer").expect("free");
        let broken = both.blocking.break_lock("lean", &seen);
        assert!(
            matches!(broken.expect("an answer"), BreakOutcome::Changed { .. }),
            "{what}"
        );
        drop((first, second));

        let set = "set memlatch:lock:s 0 60 2 noreply\r\nhm\r\n";
        tell(&both.url, set);
        let seen = both.blocking.holder("s").expect("an answer");
        let seen = seen.expect("it is held");
        tell(&both.url, set);
        let broken = both.blocking.break_lock("s", &seen).expect("an answer");
        let BreakOutcome::Changed { holder } = broken else {
            panic!("{what}: {broken:?}");
        };
        let broken = both.blocking.break_lock("s", &holder).expect("an answer");
        assert_eq!(broken, BreakOutcome::Broken, "{what}");
    });
}

/// The name of a host is what a stranger wrote.
#[test]
fn holder_display_escapes_the_host() {
    everywhere(|both| {
        let record = format!("m1 {} 10000 5 7 h%E2%80%AE%0A -", "01".repeat(16));
        let length = record.len();
        tell(
            &both.url,
            &format!("set memlatch:lock:s 0 60 {length} noreply\r\n{record}\r\n"),
        );
        let holder = both.blocking.holder("s").expect("an answer");
        let holder = holder.expect("it is held");
        assert_eq!(holder.to_string(), "h\\u{202e}\\n pid 7", "{}", both.what);
    });
}

/// Whenever they are dropped, the client goes on working, and no other client's lock is gone.
#[test]
fn dropped_list_or_break_harms_nothing() {
    everywhere(|both| {
        let what = &both.what;
        tell(&both.url, &strangers(3000));
        let other = both.blocking.lock("other").try_acquire();
        let other = other.expect("an answer").expect("free");
        both.with_async(async |client| {
            let lock = client.lock("x").lease(Duration::from_secs(2));
            for step in 0..40 {
                let after = Duration::from_micros(50 * step);
                let dropped = tokio::time::timeout(after, client.list("")).await;
                if let Ok(listing) = dropped {
                    listing.expect("a list");
                }
                let guard = lock.acquire().await.expect("a lock");
                let holder = client.holder("x").await.expect("an answer");
                let holder = holder.expect("it is held");
                let after = Duration::from_micros(20 * step);
                let dropped = tokio::time::timeout(after, client.break_lock("x", &holder)).await;
                if let Ok(broken) = dropped {
                    let broken = broken.expect("an answer");
                    assert_eq!(broken, BreakOutcome::Broken, "{what}");
                }
                // Broken or not, it is not held behind this.
                let _ = guard.release().await.expect("an answer");
                let holder = client.holder("x").await.expect("an answer");
                assert_eq!(holder, None, "{what}");
            }
            let listing = client.list("").await.expect("a list");
            assert_eq!(listing.locks.len(), 1, "{what}");
        });
        let released = other.release().expect("an answer");
        assert_eq!(released, ReleaseOutcome::Released, "{what}");
    });
}

#[test]
fn bad_name_is_refused_before_sending() {
    everywhere(|both| {
        let guard = both.blocking.lock("x").try_acquire().expect("an answer");
        let holder = both.blocking.holder("x").expect("an answer");
        let holder = holder.expect("it is held");
        let error = both.blocking.break_lock("a\nb", &holder);
        assert_eq!(
            error.expect_err("no name").kind(),
            ErrorKind::InvalidInput,
            "{}",
            both.what
        );
        let error = both.blocking.wait_until_free("", None);
        assert_eq!(
            error.expect_err("no name").kind(),
            ErrorKind::InvalidInput,
            "{}",
            both.what
        );
        drop(guard);
    });
}

#[test]
fn wait_reports_release_without_acquiring() {
    everywhere(|both| {
        let what = &both.what;
        let client = &both.blocking;
        // Free at once.
        assert_eq!(client.wait_until_free("x", None).expect("an answer"), None);
        let guard = client.lock("x").try_acquire().expect("an answer");
        let guard = guard.expect("free");
        for limit in [Duration::ZERO, Duration::from_millis(200)] {
            let began = Instant::now();
            let held = client.wait_until_free("x", Some(limit));
            let holder = held.expect("an answer").expect("it is held");
            assert_eq!(holder.pid, std::process::id(), "{what}");
            assert!(began.elapsed() >= limit, "{what}");
            let held = both
                .with_async(async |client| client.wait_until_free("x", Some(limit)).await)
                .expect("an answer")
                .expect("it is held");
            assert!(held.is_same_session(&holder), "{what}");
        }
        // Freed while others wait, with and without a limit.
        thread::scope(|scope| {
            let waiters = [
                scope.spawn(|| client.wait_until_free("x", None)),
                scope.spawn(|| client.wait_until_free("x", Some(LIMIT))),
                scope.spawn(|| {
                    both.with_async(async |client| client.wait_until_free("x", None).await)
                }),
            ];
            thread::sleep(Duration::from_millis(300));
            assert!(waiters.iter().all(|waiter| !waiter.is_finished()), "{what}");
            assert!(guard.is_valid(), "{what}");
            let released = guard.release().expect("an answer");
            assert_eq!(released, ReleaseOutcome::Released, "{what}");
            for waiter in waiters {
                let seen = waiter.join().expect("it ends");
                assert_eq!(seen.expect("an answer"), None, "{what}");
            }
        });
        assert_eq!(client.holder("x").expect("an answer"), None, "{what}");
    });
}

#[test]
fn wait_ends_on_drop_or_shutdown() {
    everywhere(|both| {
        let what = &both.what;
        let guard = both.blocking.lock("x").try_acquire().expect("an answer");
        let guard = guard.expect("free");
        both.with_async(async |client| {
            for _ in 0..20 {
                let wait = client.wait_until_free("x", None);
                let dropped = tokio::time::timeout(Duration::from_millis(5), wait).await;
                assert!(dropped.is_err(), "{what}: it is held");
            }
            assert!(
                client.holder("x").await.expect("an answer").is_some(),
                "{what}"
            );
            let waiting = client.clone();
            let waiter = tokio::spawn(async move { waiting.wait_until_free("x", None).await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.shutdown(Duration::from_secs(1)).await;
            let ended = tokio::time::timeout(LIMIT, waiter).await;
            let error = ended.expect("it ends").expect("no panic");
            assert_eq!(
                error.expect_err("an end").kind(),
                ErrorKind::Closed,
                "{what}"
            );
        });
        let closing = blocking::Client::builder()
            .server(&both.url)
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600))
            .build()
            .expect("a server");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| closing.wait_until_free("x", None));
            thread::sleep(Duration::from_millis(50));
            closing.shutdown(Duration::from_secs(1));
            let error = waiter.join().expect("it ends");
            assert_eq!(
                error.expect_err("an end").kind(),
                ErrorKind::Closed,
                "{what}"
            );
        });
        drop(guard);
    });
}
