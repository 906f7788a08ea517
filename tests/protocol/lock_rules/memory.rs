//! Servers that have forgotten: nothing is granted on them until no guard of a forgotten lock can
//! be valid.

use super::driver::{Names, World, lease, nonce, whole};
use super::server::{EPOCH, FakeServer, Kind, NOBODY, SECOND, Time, birth, secs};
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, Action, Operation, RecordAcquire, ServerError, SleepReason,
    WaitPolicy,
};
use memlatch::wire::Flight;

/// Ways to forget, each with a name for messages.
type Forgetting = (&'static str, fn(&mut FakeServer, Time, &Names));

const ALL: [Forgetting; 2] = [
    ("flush_all", |server, at, _| server.flush(at)),
    ("restart", |server, at, _| server.restart(at)),
];

/// The sentinel is evicted behind a flush of long ago, so that the counters show nothing to a client
/// that sees them for the first time.
const SENTINEL_ONLY: Forgetting = ("eviction of the sentinel", |server, _, names| {
    server.evict(names.namespace.sentinel().as_bytes());
});

/// Connects a client that learns nothing from the counters.
fn connect_without_counters(world: &mut World) {
    world.server.tells_settings = false;
    world.connect(0).expect("a server");
}

/// The birth that the sentinel states.
fn born(world: &mut World, names: &Names) -> Option<u64> {
    let item = world.server.item(world.now, names.sentinel().as_bytes())?;
    birth(&item.value)
}

#[test]
fn flush_makes_client_wait_for_leases() {
    for kind in Kind::ALL {
        for (how, forget) in ALL.into_iter().chain([SENTINEL_ONLY]) {
            for length in [100, 1000, 2500, 10_000] {
                let names = Names::new("L");
                let mut world = World::new(kind);
                connect_without_counters(&mut world);
                forget(&mut world.server, world.now, &names);
                let request = AcquireRequest {
                    wait: WaitPolicy::Forever,
                    min_memory: Some(lease(length)),
                    ..names.request(lease(100))
                };
                let lost = world.now;
                let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
                let context = format!("{kind:?}, {how}, {length} ms");
                assert!(
                    run.pauses
                        .iter()
                        .all(|(_, why)| *why == SleepReason::RestartGuard),
                    "{context}"
                );
                run.granted();

                let waited = Duration::from_nanos(world.now - lost);
                assert!(
                    waited >= Duration::from_millis(length),
                    "{context}: {waited:?}"
                );
                let limit = Duration::from_millis(length * 101 / 100) + Duration::from_secs(5);
                assert!(waited < limit, "{context}: {waited:?}");
                // As the server counts, it is the longest lease and 1 %, in whole seconds.
                let born = born(&mut world, &names).expect("a sentinel");
                let needed = (length * 101).div_ceil(100_000);
                assert!(world.server.second(world.now) >= born + needed, "{context}");
            }
        }
    }
}

/// A client that waits for the restart guard keeps no other client out by its record.
#[test]
fn waiting_client_leaves_no_record() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.flush(world.now);
        let lock = names.keys.lock().as_bytes().to_vec();
        // The flights that find out take a few round trips of 0.4 ms.
        for tenth in 1..100 {
            let lock = lock.clone();
            world.at(world.now + tenth * SECOND / 10, move |server, at| {
                assert!(
                    server.item(at, &lock).is_none(),
                    "a record stands after {tenth}/10 s"
                );
            });
        }
        let request = AcquireRequest {
            wait: WaitPolicy::Forever,
            ..names.request(lease(10_000))
        };
        world
            .run(&mut RecordAcquire::new(request, nonce(1)))
            .granted();
        assert!(world.now > secs(1010.25));
    }
}

/// The server forgets between two requests of one flight.
#[test]
fn flush_within_flight_grants_nothing() {
    for kind in Kind::ALL {
        // In front of request number …
        for number in 0.. {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            let mut acquire = RecordAcquire::new(names.request(lease(1000)), nonce(1));
            let now = world.clients[0].now(world.now);
            let mut flight = Flight::new();
            let prepared = acquire.poll_transmit(world.view(0), now, &mut flight);
            prepared.expect("something to send");

            let text = core::str::from_utf8(flight.bytes()).expect("plain");
            let requests = requests(text);
            let looks = |request: &&str| request.contains(&names.sentinel());
            let last = requests.iter().rposition(looks).expect("a look at it");
            assert!(last >= 3, "behind the record, the look at it and the token");
            // What is forgotten behind that look is the next acquirer's business.
            if number > last {
                break;
            }
            let mut reply = Vec::new();
            for (at, request) in requests.iter().enumerate() {
                if at == number {
                    world.server.flush(world.now);
                }
                reply.extend(world.server.handle(world.now, 0, request.as_bytes()));
            }
            let mut view = world.view(0).clone();
            let replies = &mut whole(&flight, &reply);
            let step = acquire.handle_replies(&mut view, replies, now.monotonic, now.monotonic);
            // Another client may have held it before.
            assert!(
                !matches!(step, Ok(Action::Done(AcquireOutcome::Granted(_)))),
                "{kind:?}: forgot in front of {}",
                requests[number]
            );
        }
    }
}

/// The requests of a flight, one by one.
fn requests(mut flight: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while let Some((line, _)) = flight.split_once("\r\n") {
        let words: Vec<_> = line.split(' ').collect();
        let value = match words[..] {
            ["add", .., length] => length.parse::<usize>().expect("a length") + 2,
            _ => 0,
        };
        let (request, rest) = flight.split_at(line.len() + 2 + value);
        found.push(request);
        flight = rest;
    }
    found
}

/// An acquisition that cannot wait for the restart guard fails at once and leaves no record.
#[test]
fn short_wait_on_young_memory_fails() {
    for kind in Kind::ALL {
        for (how, forget) in ALL.into_iter().chain([SENTINEL_ONLY]) {
            for patience in [Some(secs(0.0)), Some(secs(5.0)), None] {
                let names = Names::new("L");
                let mut world = World::new(kind);
                connect_without_counters(&mut world);
                forget(&mut world.server, world.now, &names);
                let began = world.now;
                let request = AcquireRequest {
                    wait: patience.map_or(WaitPolicy::Try, |length| {
                        WaitPolicy::Until(world.clients[0].moment(began + length))
                    }),
                    ..names.request(lease(10_000))
                };
                let mut acquire = RecordAcquire::new(request, nonce(1));
                let run = world.run(&mut acquire);
                let context = format!("{kind:?}, {how}, {patience:?}: {run:?}");
                assert!(run.pauses.is_empty(), "{context}");
                assert!(world.now < began + secs(0.1), "{context}");
                let AcquireOutcome::RestartGuard {
                    retry_after: lacking,
                } = run.outcome()
                else {
                    panic!("{context}");
                };
                let bounds = Duration::from_secs(10)..Duration::from_secs(15);
                assert!(bounds.contains(&lacking), "{context}");
                assert_eq!(world.record(&names), None, "{context}");
                assert!(acquire.orphan().is_none(), "{context}");
            }
        }
    }
}

#[test]
fn disabled_restart_guard_grants_at_once() {
    for kind in Kind::ALL {
        for (how, forget) in ALL {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            forget(&mut world.server, world.now, &names);
            let request = AcquireRequest {
                min_memory: None,
                ..names.request(lease(10_000))
            };
            let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
            // On a server that may have forgotten its counter, a token above all earlier ones.
            assert!(run.flights.len() <= 3, "{kind:?}, {how}");
            assert!(run.pauses.is_empty(), "{kind:?}, {how}");
            run.granted();
        }
    }
}

#[test]
fn foreign_young_sentinel_delays_grants() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let second = world.server.second(world.now);
        world.server.found(world.now, &names.sentinel(), second - 3);
        // And the server says nothing else about its memory.
        world.server.tells_settings = false;
        let request = AcquireRequest {
            wait: WaitPolicy::Forever,
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(
            run.pauses
                .iter()
                .all(|(_, why)| *why == SleepReason::RestartGuard)
        );
        run.granted();
        // ceil(1.01 × 10) = 11 seconds after its birth.
        // Where it may have been stored later than the server's second says, two more.
        let margin = if kind == Kind::Classic { 0 } else { 2 };
        let needed = second - 3 + 11 + margin;
        assert_eq!(world.server.second(world.now), needed, "{kind:?}");
        assert_eq!(born(&mut world, &names), Some(second - 3), "not replaced");
    }
}

#[test]
fn sentinel_without_birth_gets_one() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        connect_without_counters(&mut world);
        let key = names.sentinel();
        let value = format!("s1 new 0 00000000000000bb 4711 {} -", EPOCH - 2);
        let expiry = i64::from(i32::MAX);
        world
            .server
            .set(world.now, key.as_bytes(), value.as_bytes(), expiry);
        let began = world.server.second(world.now);
        let request = AcquireRequest {
            wait: WaitPolicy::Forever,
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        run.granted();
        let born = born(&mut world, &names).expect("a number");
        assert!(born > began, "{kind:?}");
        assert!(world.server.second(world.now) >= born + 11, "{kind:?}");
    }
}

/// The restart guard waits for the longest lease, not for the lease of the acquisition.
#[test]
fn longest_lease_bounds_the_wait() {
    for (asked, longest) in [(1000, 20_000), (20_000, 1000)] {
        let names = Names::new("L");
        let mut world = World::new(Kind::Meta);
        world.connect(0).expect("a server");
        world.server.flush(world.now);
        let request = AcquireRequest {
            min_memory: Some(lease(longest)),
            ..names.request(lease(asked))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        let AcquireOutcome::RestartGuard {
            retry_after: lacking,
        } = run.outcome()
        else {
            panic!("granted");
        };
        assert!(lacking >= Duration::from_secs(20));
    }
}

/// The eviction of the sentinel does not break a lock that is held.
#[test]
fn evicted_sentinel_keeps_standing_lock() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.other_holds(&names, 60);
        world.server.evict(names.sentinel().as_bytes());
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(1000)),
            nonce(1),
        ));
        assert!(
            matches!(run.outcome(), AcquireOutcome::Contended(_)),
            "{kind:?}"
        );
        assert!(world.record(&names).is_some());
    }
}

#[test]
fn foreign_sentinel_value_proves_nothing() {
    for kind in Kind::ALL {
        for value in ["", "hello", "1795337329", "s1 ready 1 aa 4711 5 -"] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            let key = names.sentinel();
            world
                .server
                .set(world.now, key.as_bytes(), value.as_bytes(), 0);
            let mut acquire = RecordAcquire::new(names.request(lease(1000)), nonce(1));
            let run = world.run(&mut acquire);
            assert_eq!(run.failed(), ServerError::ForeignItem, "{kind:?} {value:?}");
            assert_eq!(world.record(&names), None, "taken back");
            assert!(acquire.orphan().is_none());
        }
    }
}

/// The first client holds the lock until its deadline, the server forgets in the middle of that,
/// the second client wants it.
#[test]
fn forgotten_holder_outlasts_the_wait() {
    for kind in Kind::ALL {
        for (how, forget) in ALL {
            for length in [200, 1000, 3000, 10_000] {
                for part in [0, 300, 700, 990] {
                    let names = Names::new("L");
                    let mut world = World::new(kind);
                    world.connect(0).expect("a server");
                    let mut first = RecordAcquire::new(names.request(lease(length)), nonce(1));
                    let holder = world.run_as(1, &mut first).granted();
                    let believed = world.clients[1].true_time(holder.valid_until);
                    world.wait(Duration::from_millis(length * part / 1000));
                    forget(&mut world.server, world.now, &names);
                    let request = AcquireRequest {
                        wait: WaitPolicy::Forever,
                        ..names.request(lease(length))
                    };
                    let mut second = RecordAcquire::new(request, nonce(2));
                    world.run(&mut second).granted();
                    let context = format!("{kind:?}, {how}, {length} ms, {part} ‰");
                    assert!(world.now >= believed, "{context}: two believers");
                }
            }
        }
    }
}

#[test]
fn undo_compares_the_cas_unique() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.flush(world.now);
        // Between the grant and the undoing, another takes our record's place.
        let lock = names.keys.lock().as_bytes().to_vec();
        world.before_flight(1, move |server, at| {
            server.delete(&lock);
            let key = core::str::from_utf8(&lock).expect("plain").to_owned();
            let request = format!("add {key} 0 {} 5\r\nother\r\n", EPOCH + 2000);
            assert_eq!(server.handle(at, NOBODY, request.as_bytes()), b"STORED\r\n");
        });
        let request = AcquireRequest {
            wait: WaitPolicy::Until(world.clients[0].moment(world.now + secs(20.0))),
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(
            matches!(run.outcome(), AcquireOutcome::Contended(_)),
            "{kind:?}"
        );
        assert_eq!(world.record(&names).as_deref(), Some("other"));
    }
}

#[test]
fn undo_is_not_repeated_after_restart() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.flush(world.now);
        let lock = names.lock();
        // CAS uniques start anew: with ours, another's record would go. All of them stand there.
        world.before_flight(1, move |server, at| {
            server.restart(at);
            let request = format!("add {lock} 0 {} 5\r\nother\r\n", EPOCH + 2000);
            assert_eq!(server.handle(at, NOBODY, request.as_bytes()), b"STORED\r\n");
            server.log.clear();
        });
        let request = AcquireRequest {
            wait: WaitPolicy::Until(world.clients[0].moment(world.now + secs(5.0))),
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(
            matches!(run.outcome(), AcquireOutcome::Contended(_)),
            "{kind:?}"
        );
        for (_, line) in &world.server.log {
            let compares = line.contains(" C") || line.starts_with("cas ");
            let on_lock = line.contains(&names.lock());
            assert!(!(compares && on_lock), "{kind:?}: {line}");
        }
        assert_eq!(world.record(&names).as_deref(), Some("other"));
    }
}

/// Three sentinel initializations in a row show a server that forgets at once; three over a long
/// wait do not.
#[test]
fn waiter_outlives_repeated_flushes() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.other_holds(&names, 60);
        // Each flush comes when the memory is old enough again. While the waiter waits for it to
        // become so, another client takes the lock, which does not wait.
        for round in 1..=6 {
            let flushed = world.now + round * 20 * SECOND;
            let key = names.lock();
            world.at(flushed, FakeServer::flush);
            world.at(flushed + 3 * SECOND / 2, move |server, at| {
                if round < 6 {
                    server.set(at, key.as_bytes(), b"somebody", 60);
                }
            });
        }
        let request = AcquireRequest {
            wait: WaitPolicy::Forever,
            ..names.request(lease(1000))
        };
        world
            .run(&mut RecordAcquire::new(request, nonce(1)))
            .granted();
        assert!(world.now > secs(1120.0), "{kind:?}: {}", world.now);
    }
}
