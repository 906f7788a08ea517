//! Releases behind which the name stays taken for a while.

use super::driver::{End, Fate, Names, OTHER, World, lease, nonce};
use super::server::{EPOCH, Kind, SECOND, Time, secs};
use core::time::Duration;
use memlatch::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Grant, HolderRecord, Instant, LossReason,
    RecordAcquire, Release, ReleaseStatus, Renew, ServerError, WaitPolicy,
};

/// When a name that is acquired at the beginning may be had by others.
const STAYS: Time = 30 * SECOND;

/// A lock held by client 0 for ten seconds, half a second ago.
fn held(kind: Kind) -> (World, Names, Grant) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    let grant = world.hold_fenced(0, &names, lease(10_000));
    world.wait(Duration::from_millis(500));
    (world, names, grant)
}

fn at(world: &World, time: Time) -> Instant {
    world.clients[0].moment(time)
}

/// A release behind which the name stays taken until then.
fn release<'a>(world: &World, names: &'a Names, grant: &'a Grant, until: Time) -> Release<'a> {
    let give_up = at(world, world.now + 5 * SECOND);
    Release::new(&names.keys, grant, grant.cas, give_up).retaining_until(grant, at(world, until))
}

fn record(world: &mut World, names: &Names) -> HolderRecord {
    let record = world.record(names).expect("it stands");
    HolderRecord::parse(record.as_bytes()).expect("one of ours")
}

/// It replaces the record by one whose lease is the rest of the minimum hold.
#[test]
fn early_release_states_remaining_hold() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let until = world.now + secs(29.5);
        let run = world.run(&mut release(&world, &names, &grant, until));
        let (lock, cas) = (names.lock(), grant.cas);
        let held = grant.record().expect("a record");
        let held = core::str::from_utf8(held.as_bytes()).expect("text");
        let left = held.replace(" 10000 ", " 29500 ");
        // The lease, rounded up to seconds, and three of them.
        let expiry = EPOCH + 1000 + 30 + 3;
        let expected = format!("cas {lock} 0 {expiry} {} {cas}\r\n{left}\r\n", left.len());
        assert_eq!(run.flights.len(), 1, "{kind:?}");
        assert_eq!(run.flights[0].bytes, expected, "{kind:?}");
        assert_eq!(run.outcome(), ReleaseStatus::Released);
        assert_eq!(world.record(&names), Some(left), "{kind:?}");
        let item = world.server.item(world.now, lock.as_bytes());
        assert_eq!(item.expect("it stands").expiry, Some(expiry));
    }
}

#[test]
fn name_frees_when_min_hold_ends() {
    for kind in Kind::ALL {
        for (phase, ppm) in [(0, 0), (300, 10_000), (600, -10_000), (999, 0)] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.clients[1].ppm = ppm;
            world.wait(Duration::from_millis(phase));
            let grant = world.hold_fenced(0, &names, lease(2000));
            let until = world.now + secs(7.3);
            world.wait(Duration::from_millis(1500));
            let run = world.run(&mut release(&world, &names, &grant, until));
            assert_eq!(run.outcome(), ReleaseStatus::Released);
            let patience = world.clients[1].moment(world.now + 60 * SECOND);
            let request = AcquireRequest {
                wait: WaitPolicy::Until(patience),
                ..names.request(lease(2000))
            };
            let next = world.run_as(1, &mut RecordAcquire::new(request, nonce(7)));
            assert!(next.granted().token > grant.token, "{kind:?}");
            assert!(world.now >= until, "{kind:?} {phase} {ppm}: too early");
            assert!(
                world.now <= until + secs(5.6),
                "{kind:?} {phase} {ppm}: too late by {} ms",
                (world.now - until) / 1_000_000
            );
        }
    }
}

#[test]
fn late_release_is_an_ordinary_one() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let until = world.now;
        let run = world.run(&mut release(&world, &names, &grant, until));
        assert!(!run.flights[0].bytes.contains("m1 "), "{:?}", run.flights);
        assert_eq!(run.outcome(), ReleaseStatus::Released);
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

#[test]
fn lost_reply_keeps_min_hold() {
    for kind in Kind::ALL {
        for fate in [
            Fate::Lost,
            Fate::Mute,
            Fate::Late(Duration::from_millis(210)),
            Fate::Late(Duration::from_secs(2)),
        ] {
            let (mut world, names, grant) = held(kind);
            let until = world.now + STAYS;
            world.fates.push_back(fate.clone());
            let run = world.run(&mut release(&world, &names, &grant, until));
            assert_eq!(run.outcome(), ReleaseStatus::Released, "{kind:?} {fate:?}");
            // What was still on its way finds another CAS unique.
            world.wait(Duration::from_secs(3));
            let left = record(&mut world, &names).lease;
            let sent = until - super::server::nanos(left);
            assert!(
                sent <= world.now - 3 * SECOND,
                "{kind:?} {fate:?}: {left:?}"
            );
            world.advance(until - 1);
            assert!(world.record(&names).is_some(), "{kind:?} {fate:?}");
        }
    }
}

#[test]
fn silent_server_leaves_hold_in_doubt() {
    for kind in Kind::ALL {
        for (fate, expected) in [(Fate::Lost, true), (Fate::Unsent, false)] {
            let (mut world, names, grant) = held(kind);
            let until = world.now + STAYS;
            world.usual = fate.clone();
            let run = world.run(&mut release(&world, &names, &grant, until));
            let End::GaveUp { unknown } = run.end else {
                panic!("{kind:?} {fate:?}: {run:?}");
            };
            assert_eq!(unknown, expected, "{kind:?} {fate:?}");
        }
    }
}

#[test]
fn unanswered_renewal_blocks_no_release() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let until = world.now + STAYS;
        // Carried out, and carried out behind the release.
        for fate in [Fate::Mute, Fate::Late(Duration::from_secs(1))] {
            world.fates.push_back(fate);
            let mut renew = Renew::new(
                &names.namespace,
                &names.keys,
                &grant,
                lease(10_000),
                grant.cas,
            );
            world.run(&mut renew);
        }
        let run = world.run(&mut release(&world, &names, &grant, until));
        assert_eq!(run.outcome(), ReleaseStatus::Released, "{kind:?}");
        world.wait(Duration::from_secs(3));
        assert!(record(&mut world, &names).lease > Duration::from_secs(25));
    }
}

#[test]
fn foreign_record_is_left_alone() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let until = world.now + STAYS;
        world.server.evict(names.lock().as_bytes());
        let lost = world.run(&mut release(&world, &names, &grant, until));
        let vanished = ReleaseStatus::AlreadyLost(LossReason::Missing);
        assert_eq!(lost.outcome(), vanished, "{kind:?}");
        assert_eq!(world.record(&names), None, "{kind:?}");

        world.other_holds(&names, 20);
        let lost = world.run(&mut release(&world, &names, &grant, until));
        let taken = ReleaseStatus::AlreadyLost(LossReason::TakenOver);
        assert_eq!(lost.outcome(), taken, "{kind:?}");
        assert_eq!(world.record(&names).as_deref(), Some(OTHER));

        world.server.restart(world.now);
        world.other_holds(&names, 20);
        let run = world.run(&mut release(&world, &names, &grant, until));
        assert!(run.flights.is_empty(), "{kind:?}: {run:?}");
        let restarted = ReleaseStatus::AlreadyLost(LossReason::ServerRestarted);
        assert_eq!(run.outcome(), restarted);
    }
}

#[test]
fn full_server_leaves_lease_to_expire() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let until = world.now + STAYS;
        world.server.memory_full = true;
        let run = world.run(&mut release(&world, &names, &grant, until));
        let full = ReleaseStatus::Failed(ServerError::OutOfMemory);
        assert_eq!(run.outcome(), full, "{kind:?}");
        assert_eq!(record(&mut world, &names).lease, Duration::from_secs(10));
    }
}

#[test]
fn recordless_lock_ignores_min_hold() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    let request = AcquireRequest {
        fencing: false,
        min_memory: None,
        without_record: true,
        ..names.request(lease(10_000))
    };
    let grant = world.run(&mut Acquire::new(request, nonce(1))).granted();
    let until = world.now + STAYS;
    let run = world.run(&mut release(&world, &names, &grant, until));
    assert_eq!(run.outcome(), ReleaseStatus::Released);
    let mut next = RecordAcquire::new(names.request(lease(1000)), nonce(2));
    let next = world.run_as(1, &mut next).outcome();
    assert!(matches!(next, AcquireOutcome::Granted(_)), "{next:?}");
}
