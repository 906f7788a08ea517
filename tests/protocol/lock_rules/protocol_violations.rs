//! Reconstructions of how a promise could break. Each was thought of by reading the rules; none
//! may come true.

use super::driver::{Client, End, Fate, Names, World, lease, longest, nonce};
use super::server::{EPOCH, FakeServer, Kind, SECOND, Time, birth, nanos, secs};
use core::time::Duration;
use memlatch::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Lease, RecordAcquire, Release, ReleaseStatus, Renew,
    RenewOutcome, SampleClock, WaitPolicy,
};

fn patient(names: &Names, length: Lease) -> AcquireRequest<'_> {
    AcquireRequest {
        wait: WaitPolicy::Forever,
        ..names.request(length)
    }
}

/// Has `client` read the server's clock until it has seen it tick.
fn watch_clock(world: &mut World, client: usize) {
    let namespace = world.namespace.clone();
    for _ in 0..10 {
        let read = world
            .run_as(client, &mut SampleClock::new(&namespace, longest()))
            .outcome();
        assert_eq!(read, Ok(()));
        world.wait(Duration::from_millis(300));
    }
    assert!(world.view(client).clock.is_steady());
}

/// Lets `client` have the lock to the end of its lease; returns the true time of that end.
fn believe(world: &mut World, client: usize, names: &Names, length: Lease) -> Time {
    let number = 10 + client as u64;
    let mut acquire = RecordAcquire::new(patient(names, length), nonce(number));
    let grant = world.run_as(client, &mut acquire).granted();
    world.clients[client].true_time(grant.valid_until)
}

fn born(server: &mut FakeServer, at: Time, names: &Names) -> u64 {
    let item = server.item(at, names.sentinel().as_bytes());
    birth(&item.expect("a sentinel").value).expect("founded")
}

/// All versions of memcached say an uptime of 2 in the second of their start, so `time - uptime`
/// lies before the start by two seconds and more. A birth that is set back to there lets the new
/// server vouch for the last seconds of the old one.
#[test]
fn restarted_server_adds_no_memory_age() {
    let names = Names::new("L");
    for kind in Kind::ALL {
        for (phase, restart, arrival) in moments() {
            // The wait is counted in whole seconds, so these leave the least to spare.
            for length in [900, 1900, 4900] {
                let mut world = World::new(kind);
                world.server = FakeServer::with_clock(kind, phase, SECOND);
                world.advance(secs(1001.0) + restart);
                let now = world.now;
                set_sentinel(&mut world.server, now, &names, EPOCH);
                let believed = believe(&mut world, 0, &names, lease(length));
                world.server.restart(world.now);
                // Another client comes just before the end of that lease.
                world.advance((believed - arrival).max(world.now));
                believe(&mut world, 1, &names, lease(length));
                assert!(
                    world.now >= believed,
                    "{kind:?}, {length} ms: two believers for {:?}",
                    Duration::from_nanos(believed - world.now)
                );
            }
        }
    }
}

/// Phases of the server's second, of the restart in it, and of a client's arrival before an end.
fn moments() -> impl Iterator<Item = (Time, Time, Time)> {
    let parts = |count| (0..count).map(move |part| part * SECOND / count);
    parts(4).flat_map(move |phase| {
        parts(4).flat_map(move |restart| {
            parts(8).map(move |arrival| (phase, restart, arrival + SECOND / 10))
        })
    })
}

fn set_sentinel(server: &mut FakeServer, at: Time, names: &Names, born: u64) {
    server.found(at, &names.sentinel(), born);
}

/// The bound on the server's clock gives way by 1 % of the time since it was found, because the
/// clocks may have run apart. A server that is stalled just then looks like one whose clock has
/// run apart; what rests on such a bound must allow for it.
#[test]
fn stall_after_silence_shortens_no_lease() {
    for kind in Kind::ALL {
        for ppm in [-9_900, 0, 9_900] {
            for (silence, stall) in [(100, 1), (200, 2), (600, 5), (600, 10), (3600, 30)] {
                for length in [1000, 2000, 5000] {
                    let names = Names::new("L");
                    let mut world = World::new(kind);
                    world.clients[0].ppm = ppm;
                    for client in [0, 1] {
                        watch_clock(&mut world, client);
                    }
                    world.wait(Duration::from_secs(silence));
                    let stalled = world.now + stall * SECOND;
                    world.server.stall(world.now, stalled + SECOND / 100);
                    world.advance(stalled);
                    let believed = believe(&mut world, 0, &names, lease(length));
                    believe(&mut world, 1, &names, lease(length));
                    assert!(
                        world.now >= believed,
                        "{kind:?}, {ppm} ppm, {length} ms, stalled for {stall} s after \
                         {silence} s: two believers for {:?}",
                        Duration::from_nanos(believed - world.now)
                    );
                }
            }
        }
    }
}

/// A sentinel is born at a second that its founder expects not to have come yet. A founder that has
/// not looked at the server's clock for long is wrong about that by 1 % of the time.
#[test]
fn old_clock_sample_adds_no_age() {
    for kind in Kind::ALL {
        for ppm in [-9_900, 0, 9_900] {
            for silence in [20, 100, 1000, 10_000] {
                let names = Names::new("L");
                let mut world = World::new(kind);
                world.clients[0].ppm = ppm;
                world.connect(0).expect("a server");
                world.wait(Duration::from_secs(silence));
                let believed = believe(&mut world, 1, &names, lease(5000));
                world.server.flush(world.now);
                believe(&mut world, 0, &names, lease(5000));
                assert!(
                    world.now >= believed,
                    "{kind:?}, {ppm} ppm, {silence} s: two believers for {:?}",
                    Duration::from_nanos(believed - world.now)
                );
            }
        }
    }
}

/// A request that its sender has given up on may still be carried out. If it is one that founds a
/// sentinel, it must not state a birth that was planned long ago.
#[test]
fn late_creation_adds_no_memory_age() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.flush(world.now);
        // The attempt, its undoing, and the founding, which is stuck in a worker of the server.
        let began = world.now;
        world.fates.extend([
            Fate::Answered,
            Fate::Answered,
            Fate::Late(Duration::from_secs(10)),
        ]);
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(5000)),
            nonce(1),
        ));
        assert!(matches!(run.outcome(), AcquireOutcome::RestartGuard { .. }));
        world.advance(began + secs(9.9));
        let believed = believe(&mut world, 1, &names, lease(5000));
        assert!(
            world.now < began + secs(9.95),
            "the memory was old enough by then"
        );
        world.server.flush(began + secs(9.95));
        world.advance(began + secs(10.1));
        believe(&mut world, 0, &names, lease(5000));
        assert!(
            world.now >= believed,
            "{kind:?}: two believers for {:?}",
            Duration::from_nanos(believed - world.now)
        );
    }
}

/// Between the two flights of a founding the server is restarted, and by chance the CAS unique of
/// the new run's sentinel is that of the old one's.
#[test]
fn creation_is_not_repeated_after_restart() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        // By hand, so that the counters show nothing and the birth would be set back.
        world.server.delete(names.sentinel().as_bytes());
        let key = names.sentinel();
        world.before_flight(3, move |server, at| {
            let cas = server.item(at, key.as_bytes()).expect("founded").cas;
            server.restart(at);
            let second = server.second(at) + 1;
            loop {
                set_sentinel(server, at, &Names::new("L"), second);
                let found = server.item(at, key.as_bytes()).expect("set").cas;
                assert!(found <= cas, "the test cannot arrange its coincidence");
                if found == cas {
                    break;
                }
            }
        });
        let restarted = EPOCH + 1000;
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        assert!(world.server.generation == 1, "the test restarted nothing");
        let now = world.now;
        let born = born(&mut world.server, now, &names);
        assert!(
            born >= restarted,
            "{kind:?}: born {} s too early",
            restarted - born
        );
        assert!(matches!(run.outcome(), AcquireOutcome::RestartGuard { .. }));
    }
}

/// memcached's timer ticks every 1.0008 s. When a tick falls just before the edge of a second,
/// the next one falls just behind the edge after, and before it the second is two behind.
#[test]
fn lagging_first_sample_shortens_no_lease() {
    for kind in Kind::ALL {
        for trip in [1, 10, 100, 200, 400] {
            for delay in (0..2000).step_by(45) {
                let names = Names::new("L");
                let mut world = World::new(kind);
                world.server = FakeServer::with_clock(kind, secs(0.1995), 1_000_800_000);
                world.advance(secs(1001.0));
                let now = world.now;
                set_sentinel(&mut world.server, now, &names, EPOCH);
                world.trip = Duration::from_millis(trip);
                // The reading is taken at 1001.79: 1.99 s in the server's count, which says 0.
                world.advance(secs(1001.79) - nanos(world.trip));
                world.connect(0).expect("a server");
                world.wait(Duration::from_millis(delay));
                let believed = believe(&mut world, 0, &names, lease(2000));
                if world.now >= believed {
                    continue;
                }
                let item = world.server.item(believed - 1, names.lock().as_bytes());
                assert!(
                    item.is_some(),
                    "{kind:?}: with a trip of {trip} ms and a delay of {delay} ms the record is \
                     gone before its holder stops believing"
                );
            }
        }
    }
}

/// A stall at the first reading makes expiries too early, which is found out with the first tick
/// that is seen. The deadline that the holder has then must hold on a clock that runs slow as well.
#[test]
fn shortened_deadline_holds_on_slow_clocks() {
    for kind in Kind::ALL {
        for ppm in [-9_900, 0, 9_900] {
            for (length, stall) in [(5, 5), (20, 10), (100, 30), (1000, 60), (10_000, 300)] {
                let names = Names::new("L");
                let mut world = World::new(kind);
                world.clients[0].ppm = ppm;
                let stalled = world.now + stall * SECOND;
                world.server.stall(world.now, stalled + SECOND / 100);
                world.advance(stalled);
                let mut acquire =
                    RecordAcquire::new(patient(&names, lease(length * 1000)), nonce(1));
                let grant = world.run(&mut acquire).granted();
                watch_clock(&mut world, 0);
                let client = &world.clients[0];
                let view = client.view.as_ref().expect("connected");
                let kept = view
                    .clock
                    .retained_until(grant.expiry, client.moment(world.now))
                    .expect("it has been seen to tick");
                let believed = client.true_time(grant.valid_until.min(kept));
                if believed <= world.now {
                    continue;
                }
                let item = world.server.item(believed - 1, names.lock().as_bytes());
                assert!(
                    item.is_some(),
                    "{kind:?}, {ppm} ppm: a lease of {length} s is believed in for longer than \
                     the server keeps it"
                );
            }
        }
    }
}

/// One hundredth slow means that a second of the clock takes 1/0.99 s, which is more than 1.01 s.
#[test]
fn slow_clock_ends_long_lease_first() {
    const DAY: u64 = 86_400;
    for kind in Kind::ALL {
        for length in [60, 3600, DAY, 30 * DAY] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.clients[0].ppm = -10_000;
            // The server of these tests has been up for a quarter of an hour, which is too short
            // a memory for leases of days.
            let request = AcquireRequest {
                min_memory: None,
                ..names.request(lease(length * 1000))
            };
            let grant = world
                .run(&mut RecordAcquire::new(request, nonce(1)))
                .granted();
            let believed = world.clients[0].true_time(grant.valid_until);
            let item = world.server.item(believed - 1, names.lock().as_bytes());
            assert!(item.is_some(), "{kind:?}: {length} s");
        }
    }
}

/// The same for what is waited after a flush.
#[test]
fn slow_clock_ends_before_restart_guard() {
    for kind in Kind::ALL {
        for length in [60, 3600, 86_400] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.advance(secs(200_000.0));
            world.clients[0].ppm = -10_000;
            let believed = believe(&mut world, 0, &names, lease(length * 1000));
            // An item of the same second would outlive it.
            world.wait(Duration::from_secs(1));
            world.server.flush(world.now);
            believe(&mut world, 1, &names, lease(length * 1000));
            assert!(
                world.now >= believed,
                "{kind:?}, {length} s: two believers for {:?}",
                Duration::from_nanos(believed - world.now)
            );
        }
    }
}

/// A renewal that was given up on may be carried out behind a later one. With `E` the CAS unique
/// is still the one that it names, and its expiry is the earlier one.
#[test]
fn late_renewal_does_not_shorten_lease() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let length = lease(10_000);
        let grant = world.hold(0, &names, length);
        world.wait(Duration::from_secs(1));
        world.fates.push_back(Fate::Late(Duration::from_secs(7)));
        let (space, keys) = (&names.namespace, &names.keys);
        let run = world.run(&mut Renew::new(space, keys, &grant, length, grant.cas));
        assert!(matches!(run.end, End::GaveUp { unknown: true }));
        world.wait(Duration::from_secs(6));
        let run = world.run(&mut Renew::new(space, keys, &grant, length, grant.cas));
        let RenewOutcome::Renewed { valid_until, .. } = run.outcome() else {
            panic!("{kind:?}: lost");
        };
        let believed = world.clients[0].true_time(valid_until);
        world.advance(believed - 1);
        assert!(
            world.record(&names).is_some(),
            "{kind:?}: the lease was cut short"
        );
    }
}

/// Tokens rise over a flush because a client that is granted a lock after it has waited. But the
/// counter is made anew by the first attempt, which waits for nothing: its seed may be that of a
/// client that knows the server's clock less well, or of a request that runs late.
#[test]
fn tokens_rise_over_flush_and_reseeding() {
    for kind in Kind::ALL {
        for late in [None, Some(Duration::from_secs(3))] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            // One reads the server's second when it has just begun, the other when it is over.
            world.advance(secs(1001.0));
            world.connect(0).expect("a server");
            world.advance(secs(1001.999));
            world.connect(1).expect("a server");
            let request = names.request(lease(1000));
            if let Some(late) = late {
                world.fates.push_back(Fate::Late(late));
                world.run_as(1, &mut RecordAcquire::new(request.clone(), nonce(1)));
                world.server.evict(names.lock().as_bytes());
                world.wait(Duration::from_secs(1));
            }
            world.server.evict(names.fence().as_bytes());
            let first = world
                .run(&mut RecordAcquire::new(request.clone(), nonce(2)))
                .granted();
            // An item of the same second would outlive it.
            world.wait(Duration::from_secs(1));
            world.server.flush(world.now);
            match late {
                Some(late) => world.wait(late),
                None => {
                    let run = world.run_as(1, &mut RecordAcquire::new(request.clone(), nonce(3)));
                    assert!(matches!(run.outcome(), AcquireOutcome::RestartGuard { .. }));
                }
            }
            world.wait(Duration::from_secs(10));
            let second = world
                .run(&mut RecordAcquire::new(
                    patient(&names, lease(1000)),
                    nonce(4),
                ))
                .granted();
            assert!(
                second.token > first.token,
                "{kind:?}, late by {late:?}: {:?} after {:?}",
                second.token,
                first.token
            );
        }
    }
}

/// A counter that is raised twice, because the first raising was given up on and ran late, must
/// not run ahead of the server's clock: the next counter would start behind it.
#[test]
fn late_raise_stays_behind_the_clock() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        let (now, born) = (world.now, world.server.second(world.now) - 3);
        set_sentinel(&mut world.server, now, &names, born);
        // Made by a request that was ten seconds late.
        let low = ((born - 10) * SECOND).to_string();
        let fence = names.fence();
        world
            .server
            .set(now, fence.as_bytes(), low.as_bytes(), 86_400);
        world
            .fates
            .extend([Fate::Answered, Fate::Late(Duration::from_millis(300))]);
        let first = world.hold_fenced(0, &names, lease(1000));
        world.wait(Duration::from_millis(200));
        let give_up = world.clients[0].moment(world.now + SECOND);
        world.run(&mut Release::new(&names.keys, &first, first.cas, give_up));
        let second = world.hold_fenced(1, &names, lease(1000));
        assert!(second.token > first.token, "{kind:?}");
        let truth = (EPOCH + world.now / SECOND + 1) * SECOND;
        assert!(
            second.token < Some(truth),
            "{kind:?}: {:?} ahead",
            Duration::from_nanos(second.token.unwrap_or(0) - truth)
        );
    }
}

/// A record of ours that is stored late, behind a refusal, is ours all the same: it must not keep
/// us out for the rest of its lease.
#[test]
fn late_own_record_is_recognized() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.other_holds(&names, 60);
        let began = world.now;
        let key = names.lock();
        world.fates.push_back(Fate::Late(Duration::from_secs(3)));
        world.at(began + 3 * SECOND - 1, move |server, _| {
            server.delete(key.as_bytes());
        });
        let request = AcquireRequest {
            retry_timeout: Duration::from_secs(5),
            ..patient(&names, lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(
            world.now < began + secs(4.5),
            "{kind:?}: kept out by its own record for {:?}",
            Duration::from_nanos(world.now - began - 3 * SECOND)
        );
        let grant = run.granted();
        let believed = world.clients[0].true_time(grant.valid_until);
        let item = world.server.item(believed - 1, names.lock().as_bytes());
        assert_eq!(
            item.expect("stands").value,
            grant.record().expect("a record").as_bytes()
        );
    }
}

/// A server that evicts the sentinel as soon as it is stored never becomes old enough. A call with
/// a time limit must end by it, and no call may be kept busy at the speed of the network.
#[test]
fn unkept_sentinel_ends_the_attempts() {
    for kind in Kind::ALL {
        for patience in [Some(0.0), Some(2.0), None] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            world.server.evict(names.sentinel().as_bytes());
            world.server.forgets.push(names.sentinel().into_bytes());
            let began = world.now;
            let end = began + secs(patience.unwrap_or(0.0));
            let request = AcquireRequest {
                wait: patience.map_or(WaitPolicy::Try, |_| {
                    WaitPolicy::Until(world.clients[0].moment(end))
                }),
                ..names.request(lease(1000))
            };
            let mut acquire = RecordAcquire::new(request, nonce(1));
            let run = world.run(&mut acquire);
            assert!(world.now < end + secs(0.1), "{kind:?}, {patience:?}");
            assert!(run.flights.len() < 100, "{kind:?}: {}", run.flights.len());
            assert!(!matches!(run.end, End::Done(AcquireOutcome::Granted(_))));
            assert_eq!(world.record(&names), None, "{kind:?}, {patience:?}");
        }
    }
}

/// The same where the sentinel stands for a while, and is gone again at the next attempt.
#[test]
fn unstable_sentinel_ends_the_attempts() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        for flight in 0..400 {
            let key = names.sentinel();
            world.before_flight(flight, move |server, at| {
                // As soon as it is born, so that each founding goes undisturbed.
                let item = server.item(at, key.as_bytes());
                if item.is_some_and(|item| birth(&item.value).is_some()) {
                    server.evict(key.as_bytes());
                }
            });
        }
        let end = world.now + secs(2.0);
        let request = AcquireRequest {
            wait: WaitPolicy::Until(world.clients[0].moment(end)),
            ..names.request(lease(1000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(world.now < end + secs(0.1), "{kind:?}");
        assert!(run.flights.len() < 100, "{kind:?}: {}", run.flights.len());
        assert!(!matches!(run.end, End::Done(AcquireOutcome::Granted(_))));
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

/// Every call ends by its deadline, taking back what was abandoned as well.
#[test]
fn undo_ends_by_its_deadline() {
    for kind in Kind::ALL {
        for limit in [0, 10, 100] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            world.usual = Fate::Lost;
            let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
            world.run(&mut acquire);
            world.usual = Fate::Answered;
            let leftover = acquire.orphan().expect("something was sent");
            let end = world.now + nanos(Duration::from_millis(limit));
            let client: &Client = &world.clients[0];
            let mut release = Release::for_orphan(&names.keys, &leftover, client.moment(end));
            world.run(&mut release);
            assert!(
                world.now <= end + secs(0.005),
                "{kind:?}: {:?} too late",
                Duration::from_nanos(world.now - end)
            );
        }
    }
}

/// The first request is carried out when its repetition was granted, and the lock released: it must
/// not stay taken without a holder for a whole lease.
#[test]
fn late_request_after_release_is_undone() {
    for (kind, lean) in [
        (Kind::Meta, true),
        (Kind::Meta, false),
        (Kind::MetaWithoutE, false),
        (Kind::Classic, false),
    ] {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.patience = Duration::from_millis(100);
        let request = || AcquireRequest {
            fencing: !lean,
            min_memory: None,
            without_record: lean,
            ..names.request(lease(10_000))
        };
        let answered = world.run(&mut Acquire::new(request(), nonce(1)));
        let answered = answered.granted();
        assert!(answered.orphan().is_none(), "nothing was lost");
        let give_up = world.clients[0].moment(world.now + SECOND);
        let mut release = Release::new(&names.keys, &answered, answered.cas, give_up);
        assert_eq!(world.run(&mut release).outcome(), ReleaseStatus::Released);

        world
            .fates
            .push_back(Fate::Late(Duration::from_millis(350)));
        let grant = world.run(&mut Acquire::new(request(), nonce(2)));
        let grant = grant.granted();
        let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
        assert_eq!(world.run(&mut release).outcome(), ReleaseStatus::Released);
        let echo = grant.orphan().expect("an answer was lost");
        let give_up = world.clients[0].moment(world.now + 5 * SECOND);
        let mut look = Release::for_orphan(&names.keys, &echo, give_up);
        let looked = world.run(&mut look);
        assert_eq!(
            looked.outcome(),
            ReleaseStatus::Released,
            "{kind:?}, lean {lean}"
        );
        let key = names.keys.lock().as_bytes();
        assert!(world.server.item(world.now, key).is_none(), "{kind:?}");
    }
}
