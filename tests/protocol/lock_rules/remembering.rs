//! Evidence that a server remembers everything, and what only seems to be evidence.

use super::driver::{End, Fate, Names, World, lease, longest, nonce};
use super::server::{EPOCH, FakeServer, Kind, SECOND, Time, birth, secs};
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, LossReason, Memory, RecordAcquire, Release, ReleaseStatus,
    Renew, RenewOutcome, SampleClock, Verify, VerifyOutcome, WaitPolicy,
};

fn patient(names: &Names, millis: u64) -> AcquireRequest<'_> {
    AcquireRequest {
        wait: WaitPolicy::Forever,
        ..names.request(lease(millis))
    }
}

/// Checks that a call without a wait is granted the lock without a pause.
#[track_caller]
fn granted_at_once(world: &mut World, names: &Names) {
    let run = world.run(&mut RecordAcquire::new(
        names.request(lease(10_000)),
        nonce(1),
    ));
    assert!(run.pauses.is_empty(), "{:?}", run.pauses);
    let grant = run.granted();
    let give_up = world.clients[0].moment(world.now + SECOND);
    let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
    assert_eq!(world.run(&mut release).outcome(), ReleaseStatus::Released);
}

/// Checks that a call without a wait meets the restart guard, for nearly the longest lease.
#[track_caller]
fn is_left_alone(world: &mut World, names: &Names) {
    let run = world.run(&mut RecordAcquire::new(
        names.request(lease(10_000)),
        nonce(2),
    ));
    let outcome = run.outcome();
    assert!(
        matches!(outcome, AcquireOutcome::RestartGuard { retry_after } if retry_after > Duration::from_secs(9)),
        "{outcome:?}"
    );
}

#[test]
fn evicted_sentinel_spares_connected_client() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        // Flushed long ago, so that nothing but what the client has seen itself shows anything.
        world.server.flush(world.now);
        world.wait(Duration::from_secs(500));
        world
            .server
            .found(world.now, &names.sentinel(), EPOCH + 1100);
        world.connect(0).expect("a server");
        for _ in 0..3 {
            granted_at_once(&mut world, &names);
            world.server.evict(names.sentinel().as_bytes());
            granted_at_once(&mut world, &names);
            // Another client is the one that founds it anew, under a name of its own.
            world.server.evict(names.sentinel().as_bytes());
            world.connect(1).expect("a server");
            granted_at_once(&mut world, &names);
            world.wait(Duration::from_secs(3));
        }
    }
}

/// It is not asked for the counters with every lock until the new sentinel is old.
#[test]
fn counters_are_read_until_they_suffice() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.evict(names.sentinel().as_bytes());
        granted_at_once(&mut world, &names);
        world.wait(Duration::from_secs(5));
        granted_at_once(&mut world, &names);
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(3),
        ));
        assert_eq!(run.flights.len(), 1);
        let asked = run.flights[0].bytes.contains("stats settings");
        assert!(!asked, "{kind:?}: {}", run.flights[0].bytes);
        run.granted();
    }
}

#[test]
fn old_unflushed_server_costs_no_wait() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::fresh(kind);
        world.wait(Duration::from_secs(1000));
        granted_at_once(&mut world, &names);
    }
}

/// Whatever else it drops meanwhile: the sentinel, which no client uses, is the first to go.
#[test]
fn evictions_cost_first_client_no_wait() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::fresh(kind);
        (world.server.evictions, world.server.slabs_moved) = (1000, 1);
        world.wait(Duration::from_secs(60));
        granted_at_once(&mut world, &names);
        world.server.evict(names.sentinel().as_bytes());
        // One that knows nothing from before.
        world.connect(1).expect("a server");
        let request = names.request(lease(10_000));
        let run = world.run_as(1, &mut RecordAcquire::new(request, nonce(3)));
        assert!(run.pauses.is_empty(), "{kind:?}: {:?}", run.pauses);
        run.granted();
    }
}

/// Something that a server does, with its name.
type Loss = (&'static str, fn(&mut FakeServer, Time));

#[test]
fn counters_with_loss_prove_nothing() {
    let losses: [Loss; 6] = [
        ("a flush", |server, at| server.flush(at)),
        ("a flush to come", |server, at| server.flush_later(at, 100)),
        ("a flush behind `stats reset`", |server, at| {
            server.flush(at);
            server.flushes = 0;
        }),
        ("a flush with a time of the past", |server, at| {
            server.flush_with_past_time(at, 900);
        }),
        ("a flush that a time of the past hides", |server, at| {
            server.flush(at);
            server.set_back_horizon();
        }),
        // The clock goes on behind a warm restart, and the counters begin anew.
        ("`-e`", |server, _| server.memory_file = true),
    ];
    for kind in Kind::ALL {
        for (what, lose) in losses {
            let names = Names::new("L");
            let mut world = World::fresh(kind);
            world.wait(Duration::from_secs(1000));
            lose(&mut world.server, world.now);
            world.wait(Duration::from_secs(1));
            let run = world.run(&mut RecordAcquire::new(
                names.request(lease(10_000)),
                nonce(1),
            ));
            let young = matches!(run.end, End::Done(AcquireOutcome::RestartGuard { .. }));
            assert!(young, "{kind:?}, {what}: {:?}", run.end);
        }
    }
}

/// A plain read in the second of a flush saves the sentinel from it, and not the locks: memcached
/// 1.6.25 and later.
#[test]
fn sentinel_surviving_flush_proves_nothing() {
    for trial in 0..20 {
        let names = Names::new("L");
        let mut world = World::new(Kind::Meta);
        world.connect(0).expect("a server");
        world.connect(1).expect("a server");
        let holder = world.hold_fenced(1, &names, lease(10_000));
        let believed = world.clients[1].true_time(holder.valid_until);
        world.advance(world.now + SECOND + trial * SECOND / 20);
        world.server.read(world.now, names.sentinel().as_bytes());
        world.server.flush(world.now);
        let item = world.server.item(world.now, names.sentinel().as_bytes());
        assert_eq!(birth(&item.expect("saved").value), Some(EPOCH), "{trial}");
        assert_eq!(world.record(&names), None, "{trial}");
        is_left_alone(&mut world, &names);
        let next = world
            .run(&mut RecordAcquire::new(patient(&names, 10_000), nonce(3)))
            .granted();
        assert!(world.now >= believed, "{trial}: two at once");
        assert!(next.token > holder.token, "{trial}");
    }
}

/// A reader that bumps the sentinel before each attempt. The counters show that nothing was flushed
/// since the first of them.
#[test]
fn bumped_sentinel_costs_one_wait() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        granted_at_once(&mut world, &names);
        world.wait(Duration::from_secs(2));
        world.server.flush(world.now);
        is_left_alone(&mut world, &names);
        let flushed = world.now;
        loop {
            world.server.read(world.now, names.sentinel().as_bytes());
            let run = world.run(&mut RecordAcquire::new(
                names.request(lease(10_000)),
                nonce(2),
            ));
            if matches!(run.end, End::Done(AcquireOutcome::Granted(_))) {
                break;
            }
            assert!(world.now < flushed + 20 * SECOND, "{kind:?}: no grant");
            world.wait(Duration::from_secs(1));
        }
        assert!(world.now >= flushed + 10 * SECOND, "{kind:?}: too early");
    }
}

#[test]
fn classic_client_uses_flush_horizon() {
    let names = Names::new("L");
    // A server that knows the meta commands, spoken to without them.
    let mut world = World::new(Kind::Classic);
    world.connect(0).expect("a server");
    granted_at_once(&mut world, &names);
    world.wait(Duration::from_secs(2));
    world.server.flush(world.now);
    // Saved by a plain read in the same second.
    world.server.found(world.now, &names.sentinel(), EPOCH);
    is_left_alone(&mut world, &names);
    let flushed = world.now;
    let run = world.run(&mut RecordAcquire::new(patient(&names, 10_000), nonce(3)));
    run.granted();
    // The birth of the sentinel is long past.
    assert!(world.now >= flushed + 10 * SECOND);
}

#[test]
fn earlier_runs_sentinel_is_replaced() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        let before = world.view(0).instance;
        // A warm restart: items stay, the process id does not.
        world.server.pid += 1;
        world.server.generation += 1;
        world.server.memory_file = true;
        is_left_alone(&mut world, &names);
        let now = world.view(0).instance;
        assert_ne!(before.word, now.word, "{kind:?}");
        let item = world.server.item(world.now, names.sentinel().as_bytes());
        let value = item.expect("founded").value.clone();
        let text = String::from_utf8(value).expect("text");
        let run = format!(" {} {} {} -", now.word, now.pid, now.started);
        assert!(text.ends_with(&run), "{kind:?}: {text}");
    }
}

/// The CAS uniques of a run that only looks like the one before may be those of any item.
#[test]
fn identical_server_inherits_nothing() {
    for kind in Kind::ALL {
        for step in 0..3 {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            let grant = world.hold(0, &names, lease(10_000));
            world.server.restart_as_twin(world.now);
            // Another client's record, with the very CAS unique.
            let lock = names.lock();
            let expiry = i64::from(i32::MAX);
            loop {
                world
                    .server
                    .set(world.now, lock.as_bytes(), b"other", expiry);
                let item = world.server.item(world.now, lock.as_bytes());
                let cas = item.expect("stored").cas;
                assert!(cas <= grant.cas, "the test cannot arrange its coincidence");
                if cas == grant.cas {
                    break;
                }
            }
            let give_up = world.clients[0].moment(world.now + SECOND);
            match step {
                0 => {
                    let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
                    let released = world.run(&mut release).outcome();
                    assert!(
                        matches!(released, ReleaseStatus::AlreadyLost(_)),
                        "{released:?}"
                    );
                }
                1 => {
                    let (space, keys) = (&names.namespace, &names.keys);
                    let mut renew = Renew::new(space, keys, &grant, lease(10_000), grant.cas);
                    let renewed = world.run(&mut renew).outcome();
                    assert!(matches!(renewed, RenewOutcome::Lost(_)), "{renewed:?}");
                }
                _ => {
                    let verified = world.run(&mut Verify::new(&names.keys, &grant)).outcome();
                    let lost = VerifyOutcome::Lost(LossReason::TakenOver);
                    assert_eq!(verified, lost, "{kind:?}");
                }
            }
            assert_eq!(world.record(&names).as_deref(), Some("other"), "{kind:?}");
        }
    }
}

/// A sentinel that was founded anew by a client that does not know its old name leads to another
/// instance word. What is held is still there.
#[test]
fn lock_outlives_new_instance_word() {
    for kind in Kind::ALL {
        for released in [false, true] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            let grant = world.hold(0, &names, lease(10_000));
            world.server.evict(names.sentinel().as_bytes());
            world.connect(1).expect("a server");
            // Not by the connection that the lock was granted on.
            world.clients[0].connection = None;
            let (space, keys) = (&names.namespace, &names.keys);
            if !released {
                let mut renew = Renew::new(space, keys, &grant, lease(10_000), grant.cas);
                let run = world.run(&mut renew);
                assert_eq!(run.flights.len(), 2, "a look goes first");
                let RenewOutcome::Renewed { cas, .. } = run.outcome() else {
                    panic!("{kind:?}: lost");
                };
                assert!(world.view(0).is_instance(grant.instance), "{kind:?}");
                let run = world.run(&mut Renew::new(space, keys, &grant, lease(10_000), cas));
                assert_eq!(run.flights.len(), 1, "once");
                assert!(
                    matches!(run.outcome(), RenewOutcome::Renewed { .. }),
                    "{kind:?}"
                );
            }
            let give_up = world.clients[0].moment(world.now + SECOND);
            let mut release = Release::new(keys, &grant, grant.cas, give_up);
            assert_eq!(
                world.run(&mut release).outcome(),
                ReleaseStatus::Released,
                "{kind:?}"
            );
            assert_eq!(world.record(&names), None, "{kind:?}");
        }
    }
}

/// In the second in which a delayed flush takes effect, all that is stored is dropped.
#[test]
fn waiter_outlasts_delayed_flush_second() {
    for kind in [Kind::Meta, Kind::Classic] {
        for part in 0..8 {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            world.server.flush_later(world.now, 2);
            world.advance(secs(1001.0) + part * SECOND / 4);
            let request = AcquireRequest {
                min_memory: None,
                wait: WaitPolicy::Until(world.clients[0].moment(world.now + secs(8.0))),
                ..names.request(lease(1000))
            };
            let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
            assert!(run.flights.len() < 100, "{kind:?}: {}", run.flights.len());
            run.granted();
        }
    }
}

#[test]
fn others_longest_lease_is_adopted() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        assert_eq!(world.view(0).memory.longest_lease(), Some(longest()));
        // Another client raises it.
        let mut read = SampleClock::new(&names.namespace, lease(60_000));
        assert_eq!(world.run_as(1, &mut read).outcome(), Ok(()));
        let mut read = SampleClock::new(&names.namespace, longest());
        assert_eq!(world.run(&mut read).outcome(), Ok(()));
        assert_eq!(world.view(0).memory.longest_lease(), Some(lease(60_000)));
        // The restarted server has forgotten it, the client has not.
        world.server.restart(world.now);
        world.wait(Duration::from_secs(30));
        is_left_alone(&mut world, &names);
        assert_eq!(world.view(0).memory.longest_lease(), Some(lease(60_000)));
        // And who needs it puts it back.
        let key = names.namespace.longest().as_bytes().to_vec();
        let mut read = SampleClock::new(&names.namespace, lease(60_000));
        assert_eq!(world.run_as(1, &mut read).outcome(), Ok(()));
        let item = world.server.item(world.now, &key).expect("put back");
        assert_eq!(item.value, b"60000", "{kind:?}");
        let mut read = SampleClock::new(&names.namespace, lease(1000));
        assert_eq!(world.run(&mut read).outcome(), Ok(()));
        let item = world.server.item(world.now, &key).expect("still there");
        assert_eq!(item.value, b"60000", "not lowered: {kind:?}");
    }
}

#[test]
fn longest_lease_is_rounded_and_raised() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let odd = memlatch::proto::Lease::new(Duration::from_micros(2_000_001)).expect("in range");
        world.fates.push_back(Fate::Answered);
        let mut read = SampleClock::new(&names.namespace, odd);
        assert_eq!(world.run(&mut read).outcome(), Ok(()));
        let key = names.namespace.longest().as_bytes().to_vec();
        let item = world.server.item(world.now, &key).expect("raised");
        assert_eq!(item.value, b"2001", "{kind:?}");
        let run = world.run(&mut SampleClock::new(&names.namespace, odd));
        assert_eq!(run.flights.len(), 1, "{kind:?}");
    }
}

#[test]
fn new_memory_knows_no_longest_lease() {
    assert_eq!(Memory::default().longest_lease(), None);
}

/// A call without a wait, on the connection from before a flush, reports the restart guard and not
/// a silent server.
#[test]
fn idle_classic_client_learns_of_flush() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Classic);
    world.connect(0).expect("a server");
    world.connect(1).expect("a server");
    granted_at_once(&mut world, &names);
    world.wait(Duration::from_secs(5));
    world.server.flush(world.now);
    world.wait(Duration::from_secs(2));
    // Another client founds the sentinel anew.
    let run = world.run_as(
        1,
        &mut RecordAcquire::new(names.request(lease(10_000)), nonce(4)),
    );
    assert!(matches!(
        run.end,
        End::Done(AcquireOutcome::RestartGuard { .. })
    ));
    let run = world.run(&mut RecordAcquire::new(
        names.request(lease(10_000)),
        nonce(5),
    ));
    let young = matches!(run.end, End::Done(AcquireOutcome::RestartGuard { .. }));
    assert!(young, "{:?}", run.end);
}

/// The counters of a delayed flush do not change again when it takes effect.
#[test]
fn pending_flush_invalidates_the_counters() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.server.flush_later(world.now, 60);
        world.connect(0).expect("a server");
        world.wait(Duration::from_secs(50));
        let run = world.run(&mut SampleClock::new(&names.namespace, longest()));
        assert_eq!(run.outcome(), Ok(()));
        world.wait(Duration::from_secs(11));
        is_left_alone(&mut world, &names);
    }
}
