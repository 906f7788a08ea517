//! The counters of a client: each number moves exactly when it should. In both APIs, against real
//! memcached servers and the embedded one.
#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

use crate::support::{either, memcached};
use core::net::SocketAddr;
use core::time::Duration;
use either::{APIS, Api, Client, Guard, LONG, Settings, block_on, until};
use memcached::RealServer;
use memlatch::server::Server;
use memlatch::{ClientStats, DurationStats, ErrorKind, LossReason, ReleaseOutcome};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

/// A record that another client has left, with the given lease in milliseconds.
fn record(lease: u64) -> String {
    format!("m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f {lease} 1795337300 77 elsewhere -")
}

enum Site {
    Real(RealServer),
    Own(Server),
}

impl Site {
    fn all() -> Vec<Self> {
        let real = memcached::required().into_iter();
        let mut sites: Vec<_> = real.map(|binary| Self::Real(binary.start(&[]))).collect();
        sites.push(Self::Own(Server::start().expect("a free port")));
        sites
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Real(server) => server.address(),
            Self::Own(server) => server.socket_addr().expect("on a port"),
        }
    }

    fn settings(&self) -> Settings {
        Settings::new(format!("memcached://{}", self.address()))
    }

    fn client(&self, api: Api) -> Client {
        Client::new(api, &self.settings()).expect("the server is there")
    }

    /// A client that does not wait long for answers.
    fn hasty_client(&self, api: Api) -> Client {
        let settings = Settings {
            operation_timeout: Duration::from_millis(200),
            ..self.settings()
        };
        Client::new(api, &settings).expect("the server is there")
    }

    /// Asks the server, past the clients.
    fn command(&self, request: &str, answer: &str) {
        let mut stream = TcpStream::connect(self.address()).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = vec![0; answer.len()];
        stream.read_exact(&mut bytes).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&bytes), answer, "{request}");
    }

    fn delete(&self, guard: &Guard) {
        let key = String::from_utf8_lossy(guard.key());
        self.command(&format!("delete {key}\r\n"), "DELETED\r\n");
    }

    fn set(&self, key: &[u8], value: &str) {
        let (key, length) = (String::from_utf8_lossy(key), value.len());
        self.command(
            &format!("set {key} 0 60 {length}\r\n{value}\r\n"),
            "STORED\r\n",
        );
    }

    fn restart(&mut self) {
        match self {
            Self::Real(server) => server.restart(),
            Self::Own(server) => server.restart(),
        }
    }

    /// The server does nothing for a while.
    fn stalled<T>(&self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Real(server) => {
                server.stop_signal();
                let done = work();
                server.continue_signal();
                done
            }
            Self::Own(server) => {
                // It ends by itself, behind what is to be seen.
                server.stall(Duration::from_secs(5));
                work()
            }
        }
    }
}

/// For each server and each API.
fn everywhere(test: impl Fn(&mut Site, Api)) {
    for api in APIS {
        for mut site in Site::all() {
            test(&mut site, api);
        }
    }
}

/// All that moves on its own account. How many connections there are is a subject of its own.
fn numbers(stats: &ClientStats) -> [(&'static str, i64); 26] {
    let numbers = [
        ("acquired", stats.acquired),
        ("acquired_after_wait", stats.acquired_after_wait),
        ("handed_on", stats.handoffs),
        ("taken_over", stats.takeovers),
        ("taken_up", stats.attached),
        ("refused", stats.contended),
        ("timed_out", stats.timed_out),
        ("unknown", stats.unknown),
        ("failed", stats.failed),
        ("abandoned", stats.cancelled),
        ("released", stats.released),
        ("released_quietly", stats.released_quietly),
        ("quiet_failures", stats.quiet_failures),
        ("expired", stats.lost.of(LossReason::Expired)),
        ("max_hold", stats.lost.of(LossReason::MaxHold)),
        ("lost by takeover", stats.lost.of(LossReason::TakenOver)),
        ("vanished", stats.lost.of(LossReason::Missing)),
        ("restarted", stats.lost.of(LossReason::ServerRestarted)),
        ("unreachable", stats.lost.of(LossReason::Unreachable)),
        ("unreleased", stats.release_failures),
        ("taken_apart", stats.detached),
        ("renewals", stats.renewals),
        ("held", stats.held),
        ("waiting", stats.waiting),
        ("waits", stats.wait_time.count()),
        ("holds", stats.hold_time.count()),
    ];
    numbers.map(|(name, number)| (name, i64::try_from(number).expect("a small number")))
}

/// The changes of the counters from now on.
struct Change {
    client: Client,
    before: ClientStats,
}

impl Change {
    fn of(client: &Client) -> Self {
        Self {
            client: client.clone(),
            before: client.stats(),
        }
    }

    fn is(&self, expected: &[(&str, i64)]) -> bool {
        let (before, after) = (numbers(&self.before), numbers(&self.client.stats()));
        before
            .iter()
            .zip(&after)
            .all(|((name, before), (_, after))| {
                let named = expected.iter().find(|(expected, _)| expected == name);
                after - before == named.map_or(0, |(_, change)| *change)
            })
    }

    /// These numbers have risen by that much, and all others are as they were.
    #[track_caller]
    fn assert(&self, expected: &[(&str, i64)]) {
        assert!(
            self.is(expected),
            "{expected:?}\nbefore: {}\nafter: {}",
            self.before,
            self.client.stats()
        );
        let all = numbers(&self.before).map(|(name, _)| name);
        assert!(expected.iter().all(|(name, _)| all.contains(name)));
        let stats = self.client.stats();
        let ended = stats.released + stats.lost.total() + stats.release_failures + stats.detached;
        assert_eq!(
            stats.acquired + stats.attached,
            ended + stats.held,
            "{stats}"
        );
        assert_eq!(stats.hold_time.count(), ended, "{stats}");
    }

    /// The same, soon.
    #[track_caller]
    fn becomes(&self, expected: &[(&str, i64)]) {
        let began = std::time::Instant::now();
        while !self.is(expected) && began.elapsed() < LONG {
            thread::sleep(Duration::from_millis(2));
        }
        self.assert(expected);
    }
}

#[test]
fn acquire_and_release_are_counted() {
    everywhere(|site, api| {
        let client = site.client(api);
        assert_eq!(numbers(&client.stats()).map(|(_, number)| number), [0; 26]);
        let change = Change::of(&client);
        let guard = client.lock("pair").acquire().expect("free");
        change.assert(&[("acquired", 1), ("held", 1)]);
        let outcome = guard.release().expect("an answer");
        assert_eq!(outcome, ReleaseOutcome::Released);
        change.assert(&[("acquired", 1), ("released", 1), ("holds", 1)]);

        drop(
            client
                .lock("pair")
                .try_acquire()
                .expect("told")
                .expect("free"),
        );
        change.becomes(&[("acquired", 2), ("released", 2), ("holds", 2)]);

        let guard = client.lock("pair").acquire().expect("free");
        guard.release_quietly();
        // Whichever way it went: there may have been no connection to send it on.
        until("released", || client.stats().released == 3);
        let quietly = client.stats().released_quietly;
        let change = Change::of(&client);
        let stats = client.stats();
        assert!(
            quietly <= 1 && stats.acquired == 3 && stats.hold_time.count() == 3,
            "{stats}"
        );
        assert!(stats.hold_time.max <= stats.hold_time.total, "{stats}");
        let text = stats.to_string();
        assert!(text.contains("acquired 3 (0 after a wait"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        change.assert(&[]);
    });
}

#[test]
fn quiet_releases_and_failures_are_counted() {
    everywhere(|site, api| {
        let client = site.client(api);
        let change = Change::of(&client);
        client
            .lock("quiet")
            .acquire()
            .expect("free")
            .release_quietly();
        let done = [
            ("acquired", 1),
            ("released", 1),
            ("released_quietly", 1),
            ("holds", 1),
        ];
        change.becomes(&done);
        let guard = client.lock("quiet").acquire().expect("free");
        site.delete(&guard);
        let change = Change::of(&client);
        guard.release_quietly();
        // What comes next reads the answer.
        let again = client.lock("other").acquire().expect("free");
        until("noticed", || client.quiet_failures() == 1);
        change.becomes(&[
            ("acquired", 1),
            ("released", 1),
            ("released_quietly", 1),
            ("quiet_failures", 1),
            ("holds", 1),
        ]);
        let change = Change::of(&client);
        assert_eq!(
            again.release().expect("an answer"),
            ReleaseOutcome::Released
        );
        assert!(client.shutdown(LONG));
        // The lock was counted once, though it was released twice.
        change.assert(&[("released", 1), ("holds", 1), ("held", -1)]);
    });
}

#[test]
fn refusals_and_timeouts_are_counted() {
    everywhere(|site, api| {
        let (holder, client) = (site.client(api), site.client(api));
        let guard = holder.lock("taken").acquire().expect("free");
        let change = Change::of(&client);
        assert!(client.lock("taken").try_acquire().expect("told").is_none());
        change.assert(&[("refused", 1)]);
        let limit = Duration::from_millis(30);
        let error = client.lock("taken").acquire_timeout(limit);
        assert!(error.is_err_and(|error| error.is_timeout()));
        change.assert(&[("refused", 1), ("timed_out", 1), ("waits", 1)]);
        let waits = client.stats().wait_time;
        assert!(waits.max >= limit && waits.total == waits.max, "{waits:?}");
        assert_eq!(waits.mean(), Some(waits.max));
        drop(guard);
    });
}

#[test]
fn waits_are_counted_at_both_ends() {
    everywhere(|site, api| {
        let (holder, client) = (site.client(api), site.client(api));
        let guard = holder.lock("turn").acquire().expect("free");
        let change = Change::of(&client);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| client.lock("turn").acquire().expect("in the end"));
            until("it waits", || client.stats().waiting == 1);
            change.assert(&[("waiting", 1)]);
            drop(guard);
            let guard = waiter.join().expect("no panic");
            change.assert(&[
                ("acquired", 1),
                ("acquired_after_wait", 1),
                ("held", 1),
                ("waits", 1),
            ]);
            drop(guard);
        });
    });
}

#[test]
fn handoff_is_counted() {
    everywhere(|site, api| {
        let client = site.client(api);
        let guard = client.lock("estate").acquire().expect("free");
        let change = Change::of(&client);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| client.lock("estate").acquire().expect("in the end"));
            until("it waits", || client.stats().waiting == 1);
            assert_eq!(guard.release().expect("told"), ReleaseOutcome::Released);
            let guard = waiter.join().expect("no panic");
            // The one holds it no more, the other does.
            change.becomes(&[
                ("acquired", 1),
                ("acquired_after_wait", 1),
                ("handed_on", 1),
                ("waits", 1),
                ("released", 1),
                ("holds", 1),
            ]);
            drop(guard);
        });
    });
}

#[test]
fn takeover_is_counted() {
    everywhere(|site, api| {
        let client = site.client(api);
        site.set(b"memlatch:lock:old", &record(200));
        let change = Change::of(&client);
        let guard = client.lock("old").acquire().expect("its holder is dead");
        change.assert(&[
            ("acquired", 1),
            ("acquired_after_wait", 1),
            ("taken_over", 1),
            ("held", 1),
            ("waits", 1),
        ]);
        drop(guard);
    });
}

#[test]
fn losses_are_counted_by_reason() {
    everywhere(|site, api| {
        let client = site.client(api);
        let acquired = |name| client.lock(name).acquire().expect("free");
        let reason = |guard: &Guard, change: &Change, name| {
            guard.verify().expect_err("lost");
            change.assert(&[(name, 1), ("acquired", 1), ("holds", 1)]);
        };

        let change = Change::of(&client);
        let guard = acquired("vanished");
        site.delete(&guard);
        reason(&guard, &change, "vanished");
        assert!(matches!(
            guard.release(),
            Ok(ReleaseOutcome::AlreadyLost { .. })
        ));
        change.assert(&[("vanished", 1), ("acquired", 1), ("holds", 1)]);

        let change = Change::of(&client);
        let guard = acquired("overtaken");
        site.set(guard.key(), &record(60000));
        reason(&guard, &change, "lost by takeover");
        drop(guard);

        // The release finds out.
        let change = Change::of(&client);
        let guard = acquired("found");
        site.delete(&guard);
        let lost = ReleaseOutcome::AlreadyLost {
            reason: LossReason::Missing,
        };
        assert_eq!(guard.release().expect("told"), lost);
        change.assert(&[("vanished", 1), ("acquired", 1), ("holds", 1)]);

        // What is held for as long as it may be is over, and released behind that.
        let change = Change::of(&client);
        let lock = client.lock("enough").max_hold(Duration::from_millis(100));
        let guard = lock.acquire().expect("free");
        assert_eq!(guard.lost(), LossReason::MaxHold);
        let over = [("max_hold", 1), ("acquired", 1), ("holds", 1)];
        change.becomes(&over);
        drop(guard);
        assert!(client.shutdown(LONG));
        change.assert(&over);
    });
}

#[test]
fn silence_and_restarts_are_counted() {
    everywhere(|site, api| {
        let client = site.hasty_client(api);
        let guard = client.lock("renewed").acquire().expect("free");
        guard.renew().expect("an answer");
        assert_eq!(client.stats().renewals, 1);
        assert_eq!(client.stats().renewals_failed, 0);
        let other = site.hasty_client(api);
        let unknown = Change::of(&other);
        site.stalled(|| {
            guard.renew().expect_err("no answer");
            assert!(client.stats().renewals_failed > 0);
            // On a connection that was there before.
            let error = other.lock("unknown").try_acquire().err();
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Unknown));
            unknown.assert(&[("unknown", 1), ("waits", 1)]);
        });
        drop(guard);
        until("released", || client.stats().released == 1);
        let stats = client.stats();
        assert!(stats.connections_lost > 0, "{stats}");
        assert!(stats.connections_opened > stats.connections_lost, "{stats}");
        assert_eq!((stats.held, stats.server_restarts), (0, 0));

        let guard = client.lock("short").lease(Duration::from_secs(1)).acquire();
        let guard = guard.expect("free");
        site.stalled(|| assert_eq!(guard.lost(), LossReason::Unreachable));
        assert_eq!(client.stats().lost.unreachable, 1);
        assert_eq!(client.stats().lost.total(), 1);
        drop(guard);

        let client = site.client(api);
        let guard = client.lock("gone").acquire().expect("free");
        assert_eq!(client.stats().connections_lost, 0);
        site.restart();
        while guard.verify().expect_err("lost").kind() != ErrorKind::Lost {}
        let stats = client.stats();
        assert_eq!((stats.lost.server_restarted, stats.lost.total()), (1, 1));
        assert_eq!(stats.server_restarts, 1);
        assert!(stats.connections_lost >= 1, "{stats}");
        assert!(stats.connections_opened >= 2, "{stats}");
        drop(guard);
    });
}

#[test]
fn unreachable_server_is_counted() {
    for api in APIS {
        let server = Server::start().expect("a free port");
        let settings = Settings {
            operation_timeout: Duration::from_millis(200),
            ..Settings::new(server.address())
        };
        let client = Client::new(api, &settings).expect("the server is there");
        let lock = client.lock("kept").lease(Duration::from_millis(300));
        let guard = lock.acquire().expect("free");
        drop(server);
        let error = guard.release().expect_err("no server");
        assert!(error.is_unavailable() || error.is_unknown(), "{error}");
        until("given up", || client.stats().release_failures == 1);
        let error = client.lock("other").try_acquire().err().expect("no server");
        assert!(error.is_unavailable(), "{error}");
        let stats = client.stats();
        assert_eq!(
            (stats.failed, stats.release_failures, stats.held),
            (1, 1, 0),
            "{stats}"
        );
        assert_eq!(stats.released + stats.lost.total(), 0, "{stats}");
    }
}

#[test]
fn abandoned_call_is_counted() {
    for site in Site::all() {
        let (holder, client) = (site.client(Api::Async), site.client(Api::Async));
        let guard = holder.lock("taken").acquire().expect("free");
        let change = Change::of(&client);
        let Client::Async(inner) = &client else {
            unreachable!("that is the api that was asked for");
        };
        block_on(async {
            let lock = inner.lock("taken");
            let call = tokio::spawn(async move { lock.acquire().await });
            while inner.stats().waiting == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            call.abort();
            assert!(call.await.is_err_and(|error| error.is_cancelled()));
        });
        change.assert(&[("abandoned", 1), ("waits", 1)]);
        drop(guard);
    }
}

#[test]
fn loss_to_another_process_is_counted() {
    everywhere(|site, api| {
        let (one, other) = (site.client(api), site.client(api));
        let guard = one.lock("parts").acquire().expect("free");
        let (giver, taker) = (Change::of(&one), Change::of(&other));
        let guard = guard.hand_to(&other);
        let given = [("taken_apart", 1), ("held", -1), ("holds", 1)];
        assert!(giver.is(&given), "{}", one.stats());
        let taken = [("taken_up", 1), ("held", 1)];
        taker.assert(&taken);
        assert_eq!(guard.release().expect("told"), ReleaseOutcome::Released);
        taker.assert(&[("taken_up", 1), ("released", 1), ("holds", 1)]);
    });
}

#[test]
fn shutdown_releases_everything() {
    everywhere(|site, api| {
        let client = site.client(api);
        let change = Change::of(&client);
        let guards = ["a", "b"].map(|name| client.lock(name).acquire().expect("free"));
        change.assert(&[("acquired", 2), ("held", 2)]);
        assert!(client.shutdown(LONG));
        change.assert(&[("acquired", 2), ("released", 2), ("holds", 2)]);
        drop(guards);
        change.assert(&[("acquired", 2), ("released", 2), ("holds", 2)]);
    });
}

#[test]
fn bucket_bounds_match_the_counts() {
    assert_eq!(DurationStats::bound(0), Some(Duration::from_micros(64)));
    assert_eq!(DurationStats::bound(1), Some(Duration::from_micros(128)));
    let last = DurationStats::default().buckets.len() - 1;
    assert_eq!(
        DurationStats::bound(last - 1),
        Some(Duration::from_micros(64 << 22))
    );
    assert_eq!(DurationStats::bound(last), None);
}
