//! Breaking a lock of another client, and waiting for its end.

use super::driver::{End, Fate, Names, OTHER, Run, World, lease, nonce};
use super::rng::Rng;
use super::server::{FakeServer, Kind, SECOND, Time, secs};
use core::time::Duration;
use memlatch::proto::{
    Acquire, AcquireRequest, AwaitFree, BreakLock, BreakStatus, Grant, HolderRecord, Inspect,
    InspectOutcome, InspectPage, Renew, ServerError, SessionId, SleepReason, WaitPolicy,
};

/// A lock held by client 0 for ten seconds, half a second ago, and what client 1 sees of it.
fn seen(kind: Kind) -> (World, Names, Grant, SessionId) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    let grant = world.hold(0, &names, lease(10_000));
    world.wait(Duration::from_millis(500));
    let identity = look(&mut world, &names);
    // Only this one may be broken.
    world.server.condemned = vec![record(&grant).into_bytes()];
    (world, names, grant, identity)
}

#[track_caller]
fn look(world: &mut World, names: &Names) -> SessionId {
    match world.run_as(1, &mut Inspect::new(&names.keys)).outcome() {
        InspectOutcome::Held { identity, .. } => identity,
        other => panic!("not held: {other:?}"),
    }
}

fn break_it(world: &mut World, names: &Names, identity: SessionId) -> Run<BreakStatus> {
    let give_up = world.clients[1].moment(world.now + SECOND);
    world.run_as(1, &mut BreakLock::new(&names.keys, identity, give_up))
}

/// Puts this where the lock is, under another CAS unique.
fn put(names: &Names, value: &str) -> impl FnOnce(&mut FakeServer, Time) + use<> {
    let (key, value) = (names.lock(), value.to_owned());
    move |server, at| server.set(at, key.as_bytes(), value.as_bytes(), 0)
}

/// The record of the holder.
fn record(grant: &Grant) -> String {
    let record = grant.record().expect("a record");
    String::from_utf8_lossy(record.as_bytes()).into_owned()
}

#[track_caller]
fn assert_changed(breaking: BreakStatus) {
    match breaking {
        BreakStatus::Changed(now) => match *now {
            InspectOutcome::Held { holder, .. } => {
                assert_eq!(holder, HolderRecord::parse(OTHER.as_bytes()));
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn break_takes_two_flights() {
    for kind in Kind::ALL {
        let (mut world, names, grant, identity) = seen(kind);
        let run = break_it(&mut world, &names, identity);
        let (lock, fence, cas) = (names.lock(), names.fence(), grant.cas);
        let flights: Vec<&str> = run.flights.iter().map(|sent| &*sent.bytes).collect();
        let expected = match kind {
            Kind::Classic => [
                format!("gets {lock}\r\ngets {fence}\r\n"),
                format!("cas {lock} 0 2592001 0 {cas}\r\n\r\n"),
            ],
            _ => [
                format!("mg {lock} t c v\r\ngets {fence}\r\n"),
                format!("md {lock} C{cas}\r\n"),
            ],
        };
        assert_eq!(flights, expected, "{kind:?}");
        assert_eq!(run.outcome(), BreakStatus::Broken, "{kind:?}");
        assert_eq!(world.record(&names), None, "{kind:?}");
        let again = break_it(&mut world, &names, identity);
        assert_eq!(again.flights.len(), 1, "{kind:?}");
        assert_eq!(again.outcome(), BreakStatus::Free, "{kind:?}");
    }
}

#[test]
fn renewal_does_not_prevent_break() {
    for kind in Kind::ALL {
        let (mut world, names, grant, identity) = seen(kind);
        let mut renew = Renew::new(
            &names.namespace,
            &names.keys,
            &grant,
            lease(10_000),
            grant.cas,
        );
        world.run(&mut renew).outcome();
        assert_eq!(look(&mut world, &names), identity, "{kind:?}");
        // One more between the look and what follows it.
        world.before_flight(1, put(&names, &record(&grant)));
        let run = break_it(&mut world, &names, identity);
        assert_eq!(run.flights.len(), 4, "{kind:?}: {:?}", run.flights);
        assert_eq!(run.outcome(), BreakStatus::Broken, "{kind:?}");
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

/// A holder that renews between each look and deletion is not chased for ever.
#[test]
fn break_gives_up_on_constant_renewals() {
    for kind in Kind::ALL {
        let (mut world, names, grant, identity) = seen(kind);
        for number in 0..100 {
            world.before_flight(2 * number + 1, put(&names, &record(&grant)));
        }
        let run = break_it(&mut world, &names, identity);
        assert!(run.flights.len() <= 20, "{kind:?}: {}", run.flights.len());
        assert_eq!(run.outcome(), BreakStatus::Failed(ServerError::DropsItems));
        assert!(world.record(&names).is_some(), "{kind:?}");
    }
}

#[test]
fn break_spares_a_new_holder() {
    for kind in Kind::ALL {
        // Before the look, and between it and what follows.
        for flight in [0, 1] {
            let (mut world, names, _, identity) = seen(kind);
            world.before_flight(flight, put(&names, OTHER));
            let run = break_it(&mut world, &names, identity);
            assert_changed(run.outcome());
            assert_eq!(world.record(&names).as_deref(), Some(OTHER), "{kind:?}");
        }
        // It was released in between.
        let (mut world, names, _, identity) = seen(kind);
        let key = names.lock();
        world.before_flight(1, move |server, _| server.delete(key.as_bytes()));
        let run = break_it(&mut world, &names, identity);
        assert_eq!(run.outcome(), BreakStatus::Free, "{kind:?}");
    }
}

/// CAS uniques begin anew with each run of a server.
#[test]
fn break_across_restart_hits_nobody() {
    for kind in Kind::ALL {
        let (mut world, names, grant, identity) = seen(kind);
        let (key, cas) = (names.lock(), grant.cas);
        world.before_flight(1, move |server, at| {
            server.restart(at);
            // Another item has the very number that was seen.
            for _ in 0..200 {
                server.set(at, key.as_bytes(), OTHER.as_bytes(), 0);
                if server
                    .item(at, key.as_bytes())
                    .is_some_and(|item| item.cas == cas)
                {
                    return;
                }
            }
            panic!("{cas} does not come again");
        });
        let run = break_it(&mut world, &names, identity);
        assert_changed(run.outcome());
        assert_eq!(world.record(&names).as_deref(), Some(OTHER), "{kind:?}");
    }
}

#[test]
fn lost_break_replies_cause_another_look() {
    for kind in Kind::ALL {
        // That to the look.
        let (mut world, names, _, identity) = seen(kind);
        world.fates.push_back(Fate::Mute);
        let run = break_it(&mut world, &names, identity);
        assert_eq!(run.outcome(), BreakStatus::Broken, "{kind:?}");
        // That to the deletion; and again with another holder since.
        for other in [None, Some(OTHER)] {
            let (mut world, names, _, identity) = seen(kind);
            world.fates.extend([Fate::Answered, Fate::Mute]);
            if let Some(other) = other {
                world.before_flight(2, put(&names, other));
            }
            let run = break_it(&mut world, &names, identity);
            assert_eq!(run.flights.len(), 3, "{kind:?}: {:?}", run.flights);
            assert!(
                matches!(run.pauses[..], [(_, SleepReason::Unreachable)]),
                "{kind:?}"
            );
            assert_eq!(run.outcome(), BreakStatus::Broken, "{kind:?}");
            assert_eq!(world.record(&names).as_deref(), other, "{kind:?}");
        }
    }
}

#[test]
fn only_sent_deletion_is_in_doubt() {
    for kind in Kind::ALL {
        let (mut world, names, _, identity) = seen(kind);
        world.usual = Fate::Unsent;
        let run = break_it(&mut world, &names, identity);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}"
        );
        let (mut world, names, _, identity) = seen(kind);
        world.fates.push_back(Fate::Answered);
        world.usual = Fate::Mute;
        let run = break_it(&mut world, &names, identity);
        assert!(matches!(run.end, End::GaveUp { unknown: true }), "{kind:?}");
    }
}

#[test]
fn break_spares_next_recordless_lock() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    let acquire = |world: &mut World, number| {
        let request = AcquireRequest {
            fencing: false,
            min_memory: None,
            without_record: true,
            ..names.request(lease(10_000))
        };
        world
            .run(&mut Acquire::new(request, nonce(number)))
            .granted()
    };
    world.server.condemned = vec![Vec::new()];
    let grant = acquire(&mut world, 1);
    let identity = look(&mut world, &names);
    let mut renew = Renew::new(
        &names.namespace,
        &names.keys,
        &grant,
        lease(10_000),
        grant.cas,
    );
    world.run(&mut renew).outcome();
    let run = break_it(&mut world, &names, identity);
    assert_eq!(run.outcome(), BreakStatus::Broken);
    acquire(&mut world, 2);
    let run = break_it(&mut world, &names, identity);
    assert!(matches!(run.outcome(), BreakStatus::Changed(_)));
    assert_ne!(look(&mut world, &names), identity);
}

#[test]
fn foreign_item_is_identified_by_cas() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let now = world.now;
        world.server.condemned = vec![b"hello".into()];
        put(&names, "hello")(&mut world.server, now);
        let identity = look(&mut world, &names);
        let now = world.now;
        put(&names, "hello")(&mut world.server, now);
        let run = break_it(&mut world, &names, identity);
        assert!(matches!(run.outcome(), BreakStatus::Changed(_)), "{kind:?}");
        let identity = look(&mut world, &names);
        let run = break_it(&mut world, &names, identity);
        assert_eq!(run.outcome(), BreakStatus::Broken, "{kind:?}");
    }
}

fn wait_for(world: &mut World, names: &Names, patience: WaitPolicy) -> Run<InspectOutcome> {
    let tolerance = Duration::from_secs(5);
    let mut wait = AwaitFree::new(&names.keys, patience, tolerance, nonce(5));
    world.run_as(1, &mut wait)
}

#[test]
fn free_lock_needs_no_waiting() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        for patience in [WaitPolicy::Try, WaitPolicy::Forever] {
            let run = wait_for(&mut world, &names, patience);
            assert_eq!((run.flights.len(), run.pauses.len()), (1, 0), "{kind:?}");
            assert_eq!(run.outcome(), InspectOutcome::Free, "{kind:?}");
        }
    }
}

#[test]
fn wait_ends_soon_and_takes_nothing() {
    for kind in Kind::ALL {
        for after in [0.01, 1.0, 8.0] {
            let (mut world, names, grant, _) = seen(kind);
            let began = world.now;
            // The holder renews all the time, which must not end the wait.
            for tenth in 1..(after * 10.0) as u32 {
                let at = began + secs(f64::from(tenth) / 10.0);
                world.at(at, put(&names, &record(&grant)));
            }
            let key = names.lock();
            world.at(began + secs(after), move |server, _| {
                server.delete(key.as_bytes());
            });
            let run = wait_for(&mut world, &names, WaitPolicy::Forever);
            assert!(
                run.pauses
                    .iter()
                    .all(|(_, why)| *why == SleepReason::Contended),
                "{kind:?}"
            );
            assert_eq!(run.outcome(), InspectOutcome::Free, "{kind:?}");
            let late = world.now - began - secs(after);
            assert!(late < secs(0.7), "{kind:?}: {late} ns after {after} s");
            assert_eq!(world.record(&names), None, "{kind:?}");
        }
    }
}

/// The server keeps a record for some seconds longer than its lease, and as long as it does, a look
/// and a single attempt find the lock held.
#[test]
fn wait_ends_with_dead_holders_record() {
    for kind in Kind::ALL {
        let (mut world, names, _, _) = seen(kind);
        let began = world.now;
        let run = wait_for(&mut world, &names, WaitPolicy::Forever);
        assert_eq!(run.outcome(), InspectOutcome::Free, "{kind:?}");
        let took = world.now - began;
        assert!(took >= secs(10.0) && took < secs(16.3), "{kind:?}: {took}");
        assert_eq!(world.record(&names), None, "{kind:?}");
        // The item has no known lease, so its holder can take its time.
        let now = world.now;
        put(&names, "hello")(&mut world.server, now);
        let until = WaitPolicy::Until(world.clients[1].moment(now + secs(60.0)));
        let run = wait_for(&mut world, &names, until);
        assert!(
            matches!(run.outcome(), InspectOutcome::Held { .. }),
            "{kind:?}"
        );
    }
}

#[test]
fn wait_ends_at_callers_deadline() {
    for kind in Kind::ALL {
        for (patience, flights) in [(0.0, 1), (0.5, 200)] {
            let (mut world, names, ..) = seen(kind);
            let end = world.now + secs(patience);
            let until = WaitPolicy::Until(world.clients[1].moment(end));
            let run = wait_for(&mut world, &names, until);
            assert!(run.flights.len() <= flights, "{kind:?}");
            assert!(world.now >= end && world.now < end + secs(0.1), "{kind:?}");
            assert!(
                matches!(run.outcome(), InspectOutcome::Held { .. }),
                "{kind:?}"
            );
        }
        let (mut world, names, ..) = seen(kind);
        let run = wait_for(&mut world, &names, WaitPolicy::Try);
        assert_eq!(run.flights.len(), 1, "{kind:?}");
        assert!(
            matches!(run.outcome(), InspectOutcome::Held { .. }),
            "{kind:?}"
        );
    }
}

#[test]
fn wait_survives_silence_until_limit() {
    for kind in Kind::ALL {
        let (mut world, names, ..) = seen(kind);
        let key = names.lock();
        let began = world.now;
        world.at(began + secs(1.0), move |server, _| {
            server.delete(key.as_bytes());
        });
        world
            .fates
            .extend([Fate::Answered, Fate::Mute, Fate::Unsent]);
        let run = wait_for(&mut world, &names, WaitPolicy::Forever);
        assert_eq!(run.outcome(), InspectOutcome::Free, "{kind:?}");

        let (mut world, names, ..) = seen(kind);
        let began = world.now;
        world.usual = Fate::Unsent;
        let run = wait_for(&mut world, &names, WaitPolicy::Forever);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}"
        );
        assert!(world.now - began < secs(6.0), "{kind:?}");
    }
}

#[test]
fn several_inspections_share_one_flight() {
    for kind in Kind::ALL {
        let (mut world, names, grant, identity) = seen(kind);
        let other = Names::new("M");
        let all = [names.keys.clone(), other.keys.clone(), names.keys.clone()];
        let run = world.run_as(1, &mut InspectPage::new(&all));
        assert_eq!(run.flights.len(), 1, "{kind:?}");
        let seen = run.outcome();
        for (place, seen) in seen.iter().enumerate() {
            match seen {
                InspectOutcome::Free => assert_eq!(place, 1, "{kind:?}"),
                InspectOutcome::Held {
                    identity: found,
                    cas,
                    ..
                } => assert_eq!((*found, *cas), (identity, grant.cas), "{kind:?}"),
                InspectOutcome::Failed(failure) => panic!("{kind:?}: {failure}"),
            }
        }
        assert_eq!(seen.len(), 3);
        let none = world.run_as(1, &mut InspectPage::new(&[]));
        assert_eq!(none.flights.len(), 0);
        assert_eq!(none.outcome(), []);
        world.usual = Fate::Unsent;
        let run = world.run_as(1, &mut InspectPage::new(&all));
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}"
        );
    }
}

/// Replies that no server should give.
#[test]
fn spoilt_reply_causes_no_panic() {
    let mut broken = 0;
    for kind in Kind::ALL {
        for seed in 0..300 {
            let mut dice = Rng::new(seed);
            let (mut world, names, _, identity) = seen(kind);
            world.server.guards_owners = false;
            let mut spoil = |world: &mut World| {
                for _ in 0..dice.within(0..6) {
                    world.fates.push_back(if dice.chance(500) {
                        Fate::Spoilt(dice.next())
                    } else {
                        Fate::Answered
                    });
                }
            };
            spoil(&mut world);
            let began = world.now;
            let until = WaitPolicy::Until(world.clients[1].moment(began + secs(3.0)));
            let run = wait_for(&mut world, &names, until);
            assert!(run.flights.len() < 500, "{kind:?} {seed}");
            assert!(world.now < began + secs(5.0), "{kind:?} {seed}");
            world.fates.clear();
            spoil(&mut world);
            let some = [names.keys.clone(), names.keys.clone()];
            let run = world.run_as(1, &mut InspectPage::new(&some));
            assert_eq!(run.flights.len(), 1, "{kind:?} {seed}");
            world.fates.clear();
            spoil(&mut world);
            let began = world.now;
            let run = break_it(&mut world, &names, identity);
            assert!(run.flights.len() < 50, "{kind:?} {seed}");
            assert!(world.now < began + secs(3.0), "{kind:?} {seed}");
            broken += usize::from(matches!(run.end, End::Done(BreakStatus::Broken)));
        }
    }
    assert!(broken > 100, "most of it was never reached: {broken}");
}
