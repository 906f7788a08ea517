//! The blocking API on real memcached servers.
#![cfg(feature = "blocking")]

use crate::support::memcached;
use core::fmt::Debug;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use memcached::{Binary, RealServer};
use memlatch::blocking::{Client, Lock, LockGuard};
use memlatch::{ClientBuilder, ErrorKind, LockError, LossReason, Protocol, ReleaseOutcome};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Far longer than anything takes, so that what it sets apart is no question of the
/// machine's mood.
const LONG_LEASE: Duration = Duration::from_secs(60);

/// A limit for a machine that is busy with other things.
const PROMPT: Duration = SECOND;

const DIALECTS: [Option<Protocol>; 2] = [None, Some(Protocol::Classic)];

/// Runs a test against each version of memcached there is, all at the same time.
fn with_each(test: impl Fn(&Binary) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for binary in memcached::required() {
            thread::Builder::new()
                .name(format!("memcached {}", binary.version))
                .spawn_scoped(scope, move || test(&binary))
                .expect("a thread");
        }
    });
}

fn builder(server: &RealServer) -> ClientBuilder<Client> {
    Client::builder()
        .server(server.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600))
}

fn client(server: &RealServer) -> Client {
    builder(server).build().expect("the server is there")
}

/// Polls until it is so.
#[track_caller]
fn eventually(limit: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn try_now(lock: &Lock) -> Option<LockGuard> {
    lock.try_acquire().expect("the server answers")
}

/// True if the server has the record of this lock, read past the library.
fn is_stored(server: &RealServer, key: &[u8]) -> bool {
    let request = [b"get ", key, b"\r\n"].concat();
    server.command(&request) != b"END\r\n"
}

#[track_caller]
fn fails<T: Debug>(result: Result<T, LockError>, kind: ErrorKind, part: &str) -> LockError {
    let error = result.expect_err(part);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "no `{part}`: {error}");
    error
}

#[test]
fn handles_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Client>();
    shared::<Lock>();
    shared::<LockGuard>();
    shared::<ClientBuilder<Client>>();
    shared::<LockError>();
    #[cfg(feature = "tokio")]
    {
        shared::<memlatch::Client>();
        shared::<memlatch::Lock>();
        shared::<memlatch::LockGuard>();
    }
}

#[test]
fn two_clients_share_a_lock() {
    with_each(|binary| {
        for protocol in DIALECTS {
            let server = binary.start(&[]);
            let [a, b] = ["a", "b"].map(|label| {
                let mut builder = builder(&server).label(label);
                if let Some(protocol) = protocol {
                    builder = builder.protocol(protocol);
                }
                builder.build().expect("the server is there")
            });
            assert_eq!(a.server(), server.url());
            let [lock_a, lock_b] = [&a, &b].map(|client| client.lock("invoices/42"));
            assert_eq!(b.holder("invoices/42").expect("an answer"), None);

            let first = lock_a.acquire().expect("nobody has it");
            assert_eq!(first.name(), "invoices/42");
            assert_eq!(first.key(), b"memlatch:lock:invoices/42");
            assert!(is_stored(&server, first.key()));
            assert!(first.is_valid());
            assert!(first.remaining() <= Duration::from_secs(10));
            first.ensure(SECOND).expect("just acquired");
            fails(first.ensure(LONG_LEASE), ErrorKind::Lost, "not for 60.0s");
            assert_eq!(first.lost_timeout(Duration::from_millis(1)), None);

            assert!(try_now(&lock_b).is_none());
            let limit = Duration::from_millis(300);
            let began = Instant::now();
            let timeout = fails(
                lock_b.acquire_timeout(limit).map(|_| ()),
                ErrorKind::Timeout,
                "still held",
            );
            assert!(timeout.is_timeout());
            assert!(began.elapsed() >= limit && began.elapsed() < limit + PROMPT);
            assert_eq!(timeout.holder().map(|holder| &*holder.label), Some("a"));

            let holder = b
                .holder("invoices/42")
                .expect("an answer")
                .expect("held by a");
            assert_eq!((&*holder.label, holder.pid), ("a", std::process::id()));
            assert_eq!(holder.lease, Duration::from_secs(10));
            assert_eq!(holder.expires_in.is_some(), protocol.is_none());
            assert!(holder.last_fencing_token >= first.fencing_token());

            let token = first.fencing_token().expect("fencing is on");
            let released = first.release().expect("an answer");
            assert_eq!(released, ReleaseOutcome::Released);
            assert_eq!(b.holder("invoices/42").expect("an answer"), None);

            let second = lock_b.acquire_timeout(limit).expect("nobody has it");
            assert!(second.fencing_token() > Some(token));
            let label = lock_a.clone().label("x y").fencing(false);
            drop(second);
            let third = try_now(&label).expect("given back by the drop");
            assert_eq!(third.fencing_token(), None);
            let holder = b.holder("invoices/42").expect("an answer").expect("held");
            assert_eq!(holder.label, "x y");
        }
    });
}

#[test]
fn waiting_acquire_gets_released_lock() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let held = a.lock("handover").lease(LONG_LEASE).acquire();
        let held = held.expect("nobody has it");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let got = b.lock("handover").acquire().expect("waits for it");
                (Instant::now(), got.fencing_token())
            });
            // It waits: the lock is still held after a while in which it would have got it.
            assert_eq!(held.lost_timeout(Duration::from_millis(300)), None);
            assert!(!waiting.is_finished());
            let token = held.fencing_token();
            let released = Instant::now();
            assert_eq!(held.release().expect("an answer"), ReleaseOutcome::Released);
            let (got, new_token) = waiting.join().expect("no panic");
            assert!(got.duration_since(released) < PROMPT);
            assert!(new_token > token);
        });
    });
}

#[test]
fn threads_exclude_each_other_with_tokens() {
    const THREADS: usize = 6;
    const TURNS: usize = 15;
    with_each(|binary| {
        let server = binary.start(&[]);
        let clients = [client(&server), client(&server)];
        let inside = AtomicUsize::new(0);
        let tokens = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for number in 0..THREADS {
                let lock = clients[number % 2].lock("counter").lease(LONG_LEASE);
                let (inside, tokens) = (&inside, &tokens);
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        let guard = lock.acquire().expect("an answer");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
                        let token = guard.fencing_token().expect("fencing is on");
                        tokens.lock().expect("no panic").push(token);
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        if turn % 2 == 0 {
                            drop(guard);
                        } else {
                            let released = guard.release().expect("an answer");
                            assert_eq!(released, ReleaseOutcome::Released);
                        }
                    }
                });
            }
        });
        let tokens = tokens.into_inner().expect("no panic");
        assert_eq!(tokens.len(), THREADS * TURNS);
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    });
}

#[test]
fn renewed_lock_outlives_its_lease() {
    with_each(|binary| {
        for protocol in DIALECTS {
            let server = binary.start(&[]);
            let mut builder = builder(&server);
            if let Some(protocol) = protocol {
                builder = builder.protocol(protocol);
            }
            let a = builder.build().expect("the server is there");
            let b = client(&server);
            let guard = a.lock("kept").lease(2 * SECOND).acquire();
            let guard = guard.expect("nobody has it");
            let end = Instant::now() + 9 * SECOND;
            while Instant::now() < end {
                assert_eq!(guard.lost_timeout(Duration::from_millis(200)), None);
                assert!(guard.is_valid());
                assert!(try_now(&b.lock("kept")).is_none());
            }
            let released = guard.release().expect("an answer");
            assert_eq!(released, ReleaseOutcome::Released);
            assert!(try_now(&b.lock("kept")).is_some());
        }
    });
}

#[test]
fn dropped_guard_releases_before_return() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        // The shortest lease: every 33 ms a renewal gets in the way of the drop, or does not.
        let lock = a.lock("dropped").lease(Duration::from_millis(100));
        for turn in 0..40 {
            let guard = lock.acquire_timeout(10 * SECOND).expect("comes free");
            let key = guard.key().to_vec();
            let over = guard.lost_timeout(Duration::from_millis(turn));
            drop(guard);
            // A machine that stood still for so long has lost the lock, and then it runs out.
            if over.is_none() {
                assert!(!is_stored(&server, &key), "turn {turn}");
            }
        }
        let guard = a
            .lock("dropped")
            .lease(LONG_LEASE)
            .acquire_timeout(10 * SECOND);
        let dropped = Instant::now();
        drop(guard.expect("comes free"));
        assert!(try_now(&b.lock("dropped")).is_some());
        assert!(dropped.elapsed() < PROMPT);
    });
}

#[test]
fn panic_releases_the_lock() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let died = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _guard = a.lock("panic").lease(LONG_LEASE).acquire();
                std::panic::resume_unwind(Box::new("as asked for"));
            });
            thread.join().is_err()
        });
        assert!(died);
        assert!(try_now(&b.lock("panic")).is_some());
    });
}

#[test]
fn flush_is_found_by_next_renewal() {
    with_each(|binary| {
        for protocol in DIALECTS {
            let server = binary.start(&[]);
            let mut builder = builder(&server);
            if let Some(protocol) = protocol {
                builder = builder.protocol(protocol);
            }
            let a = builder.build().expect("the server is there");
            let lease = 6 * SECOND;
            let guard = a.lock("flushed").lease(lease).acquire();
            let guard = guard.expect("nobody has it");
            let flushed = Instant::now();
            server.flush_all();
            assert_eq!(guard.lost(), LossReason::Missing);
            assert!(flushed.elapsed() < lease / 3 + PROMPT);
            assert!(!guard.is_valid());
            assert_eq!(guard.remaining(), Duration::ZERO);
            fails(
                guard.ensure(Duration::ZERO),
                ErrorKind::Lost,
                "has forgotten it",
            );
            let reason = LossReason::Missing;
            let released = guard.release().expect("known without asking");
            assert_eq!(released, ReleaseOutcome::AlreadyLost { reason });
        }
    });
}

#[test]
fn restart_is_found_by_next_renewal() {
    with_each(|binary| {
        let mut server = binary.start(&[]);
        let a = client(&server);
        let lease = 9 * SECOND;
        let guard = a.lock("restarted").lease(lease).acquire();
        let guard = guard.expect("nobody has it");
        let began = Instant::now();
        server.restart();
        let restarted = Instant::now();
        assert_eq!(guard.lost(), LossReason::ServerRestarted);
        // The renewal that is due while the server is away is repeated soon after.
        assert!(began.elapsed() < lease);
        assert!(restarted.elapsed() < lease / 3 + PROMPT);
        let reason = LossReason::ServerRestarted;
        let released = guard.release().expect("known without asking");
        assert_eq!(released, ReleaseOutcome::AlreadyLost { reason });
        assert!(try_now(&a.lock("restarted")).is_some());
    });
}

#[test]
fn release_after_restart_touches_nothing() {
    with_each(|binary| {
        let mut server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let old = a.lock("twice").lease(LONG_LEASE).acquire();
        let old = old.expect("nobody has it");
        server.restart();
        // The restart guard is off: the lock is granted anew, with the same CAS unique perhaps.
        let new = try_now(&b.lock("twice").lease(LONG_LEASE)).expect("forgotten");
        let reason = LossReason::ServerRestarted;
        let released = old.release().expect("an answer");
        assert_eq!(released, ReleaseOutcome::AlreadyLost { reason });
        assert!(is_stored(&server, new.key()));
        assert_eq!(new.release().expect("an answer"), ReleaseOutcome::Released);
    });
}

/// Checked against the deadline that the guard shows, with what this machine adds at that time.
#[test]
fn silent_server_loses_lock_at_deadline() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let guard = a.lock("silent").lease(2 * SECOND).acquire();
        let guard = guard.expect("nobody has it");
        server.stop_signal();
        let (deadline, lag, lost) = thread::scope(|scope| {
            let lost = scope.spawn(|| (guard.lost(), Instant::now()));
            let (mut earliest, mut latest) = (Instant::now(), Instant::now());
            let mut lag = Duration::ZERO;
            let step = Duration::from_millis(5);
            loop {
                let before = Instant::now();
                let remaining = guard.remaining();
                let after = Instant::now();
                if remaining.is_zero() {
                    break;
                }
                (earliest, latest) = (before + remaining, after + remaining);
                thread::sleep(step);
                lag = lag.max(after.elapsed().saturating_sub(step));
            }
            let lost = lost.join().expect("no panic");
            (earliest..=latest, lag, lost)
        });
        let (reason, at) = lost;
        assert_eq!(reason, LossReason::Unreachable);
        assert!(at >= *deadline.start(), "told before the deadline");
        let late = at.saturating_duration_since(*deadline.end());
        assert!(late < Duration::from_millis(150) + lag, "{late:?}, {lag:?}");
        let released = guard.release().expect("known without asking");
        assert_eq!(released, ReleaseOutcome::AlreadyLost { reason });
        server.continue_signal();
        // Not released by any client, so it runs out by itself: 2 to 5 s after the lease.
        let next = b.lock("silent").acquire_timeout(10 * SECOND);
        drop(next.expect("comes free"));
    });
}

#[test]
fn flush_delays_locks_by_longest_lease() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let [a, b] = [(), ()].map(|()| {
            let builder = Client::builder().server(server.url()).default_lease(SECOND);
            builder
                .max_lease(SECOND)
                .build()
                .expect("the server is there")
        });
        // The server was started only now, so the first one waits as well.
        let old = a.lock("guarded").acquire().expect("after the wait");
        assert!(old.is_valid());
        let flushed = Instant::now();
        server.flush_all();
        let error = fails(
            b.lock("guarded").try_acquire().map(|_| ()),
            ErrorKind::RestartGuard,
            "only recently",
        );
        assert!(error.retry_after().is_some_and(|after| after >= SECOND));
        let new = b.lock("guarded").acquire().expect("after the wait");
        assert!(!old.is_valid(), "two believe in it");
        assert!(flushed.elapsed() > SECOND);
        assert!(flushed.elapsed() < 10 * SECOND);
        assert!(new.is_valid());
    });
}

#[test]
fn unanswered_acquisition_is_undone() {
    with_each(|binary| {
        for protocol in DIALECTS {
            let server = binary.start(&[]);
            let mut builder = builder(&server);
            if let Some(protocol) = protocol {
                builder = builder.protocol(protocol);
            }
            let (a, b) = (
                builder.build().expect("the server is there"),
                client(&server),
            );
            let lock = a.lock("ghost").lease(LONG_LEASE);
            server.stop_signal();
            let began = Instant::now();
            let error = lock.try_acquire().expect_err("no answer");
            assert!(error.is_unknown() || error.is_unavailable(), "{error}");
            assert!(began.elapsed() < 3 * SECOND + PROMPT);
            server.continue_signal();
            // If it was granted, it would stay for a minute.
            let guard = b.lock("ghost").acquire_timeout(10 * SECOND);
            let guard = guard.expect("taken back");
            // The cleanup does not remove this new lock.
            assert!(a.shutdown(10 * SECOND));
            assert!(is_stored(&server, guard.key()));
        }
    });
}

#[test]
fn unanswered_drop_is_short_and_retried() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let guard = a.lock("late").lease(LONG_LEASE).acquire();
        let guard = guard.expect("nobody has it");
        server.stop_signal();
        let began = Instant::now();
        drop(guard);
        assert!(began.elapsed() < SECOND + PROMPT, "{:?}", began.elapsed());
        server.continue_signal();
        let next = b.lock("late").acquire_timeout(10 * SECOND);
        drop(next.expect("the keeper has given it back"));
    });
}

#[test]
fn unanswered_release_is_reported_and_retried() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let guard = a.lock("late").lease(LONG_LEASE).acquire();
        let guard = guard.expect("nobody has it");
        server.stop_signal();
        let began = Instant::now();
        let error = guard.release().expect_err("no answer");
        // The one connection may be with the keeper, and another is not to be had.
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        assert!(began.elapsed() < 5 * SECOND + PROMPT);
        server.continue_signal();
        let next = b.lock("late").acquire_timeout(10 * SECOND);
        drop(next.expect("the keeper has given it back"));
    });
}

#[test]
fn busy_renewer_keeps_locks() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let a = builder(&server)
            .operation_timeout(Duration::from_millis(100))
            .build()
            .expect("the server is there");
        let kept = a.lock("kept").lease(4 * SECOND).acquire();
        let kept = kept.expect("nobody has it");
        // Leaves the keeper with an acquisition to undo, which it looks for more than once.
        server.stop_signal();
        let error = a.lock("ghost").lease(LONG_LEASE).try_acquire();
        error.expect_err("no answer");
        server.continue_signal();
        let end = Instant::now() + 6 * SECOND;
        while Instant::now() < end {
            assert_eq!(kept.lost_timeout(Duration::from_millis(100)), None);
        }
        assert!(try_now(&a.lock("ghost")).is_some());
        assert_eq!(kept.release().expect("an answer"), ReleaseOutcome::Released);
    });
}

#[test]
fn acquire_waits_for_returning_server() {
    with_each(|binary| {
        let mut server = binary.start(&[]);
        let a = client(&server);
        server.kill();
        let limit = Duration::from_millis(500);
        let began = Instant::now();
        let error = fails(
            a.lock("back").acquire_timeout(limit).map(|_| ()),
            ErrorKind::Unavailable,
            "cannot connect",
        );
        assert_eq!(error.server(), Some(&*server.url()));
        assert!(began.elapsed() < limit + PROMPT);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| a.lock("back").lease(LONG_LEASE).acquire().map(|_| ()));
            server.restart();
            waiting.join().expect("no panic").expect("it came back");
        });
    });
}

#[test]
fn closed_connections_are_not_reused() {
    with_each(|binary| {
        let mut server = binary.start(&[]);
        let a = client(&server);
        thread::scope(|scope| {
            // Fills the pool.
            for number in 0..4 {
                let lock = a.lock(format!("idle/{number}"));
                scope.spawn(move || drop(lock.acquire().expect("nobody has it")));
            }
        });
        server.restart();
        // A look is not repeated: it would fail on a connection of the old server.
        assert_eq!(a.holder("idle/0").expect("an answer"), None);
    });
}

#[test]
fn unix_socket_is_supported() {
    with_each(|binary| {
        let name = format!(
            "memlatch-blocking-{}-{}",
            std::process::id(),
            binary.version
        );
        let path = std::env::temp_dir().join(name);
        let server = binary.start_unix(&path, &[]);
        let (a, b) = (client(&server), client(&server));
        assert!(a.server().starts_with("unix:///"));
        let guard = a.lock("unix").lease(3 * SECOND).acquire();
        let guard = guard.expect("nobody has it");
        assert!(try_now(&b.lock("unix")).is_none());
        server.flush_all();
        assert_eq!(guard.lost(), LossReason::Missing);
        drop(guard);
        let guard = try_now(&b.lock("unix")).expect("nobody has it");
        server.stop_signal();
        let error = a.lock("unix").acquire_timeout(Duration::from_millis(200));
        let error = error.expect_err("no answer");
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        server.continue_signal();
        assert_eq!(
            guard.release().expect("an answer"),
            ReleaseOutcome::Released
        );
    });
}

#[test]
fn bad_input_is_refused_in_words() {
    use ErrorKind::InvalidInput;
    let server = match memcached::required().pop() {
        Some(binary) => binary.start(&[]),
        None => return,
    };
    let client = client(&server);
    for (name, part) in [
        ("", "the lock name is empty"),
        (&"x".repeat(10_240), "10240 bytes; at most 1024"),
        ("a\r\nflush_all", "0x0d; control characters"),
    ] {
        let lock = client.lock(name);
        fails(lock.acquire().map(|_| ()), InvalidInput, part);
        fails(lock.try_acquire().map(|_| ()), InvalidInput, part);
        fails(client.holder(name), InvalidInput, part);
    }
    for (lease, part) in [
        (Duration::ZERO, "too short"),
        (40 * 86_400 * SECOND, "at most 30 days"),
    ] {
        let lock = client.lock("fine").lease(lease);
        let error = fails(lock.try_acquire().map(|_| ()), InvalidInput, part);
        assert!(error.to_string().starts_with("lock `fine`: "), "{error}");
    }
    assert_eq!(client.holder("fine").expect("an answer"), None);

    for (address, part) in [
        ("redis://localhost", "the scheme is unknown"),
        #[cfg(not(feature = "tls"))]
        ("memcacheds://localhost", "enable the feature `tls`"),
        ("unix://relative", "an absolute path"),
        ("localhost:0", "the port"),
        ("localhost\r\n:1", "control characters"),
    ] {
        fails(Client::connect(address), InvalidInput, part);
    }
    let longer = Client::builder()
        .server("localhost")
        .max_lease(SECOND)
        .build();
    fails(longer, InvalidInput, "shorter than the default");
    fails(
        Client::builder().build(),
        InvalidInput,
        "no server is named",
    );
}

#[test]
fn foreign_peers_are_described() {
    /// A server that answers each connection with `answer`, and then waits for the client's end or
    /// closes it.
    fn peer(answer: &'static [u8], stay: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut chunk = [0; 4096];
                let _ = stream.read(&mut chunk);
                let _ = stream.write_all(answer);
                while stay && stream.read(&mut chunk).is_ok_and(|n| n > 0) {}
            }
        });
        address.to_string()
    }
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let redis = b"-ERR unknown command 'version'\r\n";
    for (address, part) in [
        (peer(http, false), "it starts with \"HTTP/1.1 400"),
        (peer(redis, true), "it starts with \"-ERR unknown"),
        (peer(b"", false), "closed the connection"),
        (peer(b"", true), "no answer within 1s"),
        (peer(b"VERSION 1.6", false), "it starts with \"VERSION 1.6"),
    ] {
        let began = Instant::now();
        let error = fails(Client::connect(&*address), ErrorKind::Unavailable, part);
        assert!(error.is_unavailable());
        assert_eq!(error.server(), Some(&*format!("memcached://{address}")));
        assert!(began.elapsed() < 2 * SECOND + PROMPT);
    }

    let down = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = down.local_addr().expect("it is bound").to_string();
    drop(down);
    fails(
        Client::connect(address),
        ErrorKind::Unavailable,
        "cannot connect",
    );
    fails(
        Client::connect("unix:///nowhere/mc.sock"),
        ErrorKind::Unavailable,
        "cannot connect",
    );
}

#[test]
fn server_without_cas_is_refused() {
    with_each(|binary| {
        let server = binary.start(&["-C"]);
        fails(
            builder(&server).build(),
            ErrorKind::UnsupportedServer,
            "without CAS",
        );
    });
}

#[test]
fn shutdown_releases_everything() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let taken = b.lock("taken").lease(LONG_LEASE).acquire();
        let _taken = taken.expect("nobody has it");
        let names: Vec<_> = (0..40).map(|number| format!("many/{number}")).collect();
        let guards: Vec<_> = names
            .iter()
            .map(|name| try_now(&a.lock(name).lease(LONG_LEASE)).expect("nobody has it"))
            .collect();
        let asleep = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                asleep.store(true, Ordering::SeqCst);
                a.lock("taken").acquire().map(|_| ())
            });
            let watching = scope.spawn(|| guards[0].lost());
            eventually(PROMPT, "a thread that runs", || {
                asleep.load(Ordering::SeqCst)
            });
            assert!(a.shutdown(5 * SECOND));
            assert_eq!(watching.join().expect("no panic"), LossReason::Released);
            fails(
                waiting.join().expect("no panic"),
                ErrorKind::Closed,
                "shut down",
            );
        });
        for (guard, name) in guards.into_iter().zip(&names) {
            assert!(!guard.is_valid());
            assert!(!is_stored(&server, guard.key()), "{name}");
            let reason = LossReason::Released;
            let released = guard.release().expect("known without asking");
            assert_eq!(released, ReleaseOutcome::AlreadyLost { reason });
        }
        fails(
            a.lock("many/0").try_acquire().map(|_| ()),
            ErrorKind::Closed,
            "shut down",
        );
        assert!(a.shutdown(Duration::ZERO), "there is nothing left to do");
    });
}

#[test]
fn unanswered_shutdown_ends_in_time() {
    with_each(|binary| {
        let server = binary.start(&[]);
        let (a, b) = (client(&server), client(&server));
        let guard = a.lock("held").lease(LONG_LEASE).acquire();
        let guard = guard.expect("nobody has it");
        server.stop_signal();
        let began = Instant::now();
        assert!(!a.shutdown(SECOND / 2));
        assert!(began.elapsed() < SECOND / 2 + PROMPT);
        assert_eq!(guard.lost(), LossReason::Released);
        let dropped = Instant::now();
        drop(guard);
        assert!(
            dropped.elapsed() < PROMPT,
            "the keeper does it, not the drop"
        );
        server.continue_signal();
        let next = b.lock("held").acquire_timeout(10 * SECOND);
        drop(next.expect("the keeper goes on"));
    });
}

/// The threads of other tests are among those that are counted, so there are many.
#[cfg(target_os = "linux")]
#[test]
fn renewers_end_with_their_clients() {
    const CLIENTS: usize = 100;
    fn keepers() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").expect("threads are listed there");
        let names = tasks.flatten().map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm"));
            // A thread that has just ended has none.
            name.unwrap_or_default()
        });
        names.filter(|name| name.trim() == "memlatch-renew").count()
    }
    let server = match memcached::required().pop() {
        Some(binary) => binary.start(&[]),
        None => return,
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(&server)).collect();
    let guards: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| try_now(&client.lock(format!("{number}"))).expect("free"))
        .collect();
    drop(clients);
    assert!(keepers() >= CLIENTS, "the guards keep them");
    drop(guards);
    eventually(10 * SECOND, "keepers that end", || keepers() < CLIENTS / 2);
}
