//! Several operations of one kind in one flight.

use super::driver::{End, Fate, Names, World, lease};
use super::server::{Kind, secs};
use core::time::Duration;
use memlatch::proto::{
    Batch, Grant, LossReason, Release, ReleaseStatus, SleepReason, Verify, VerifyOutcome,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three locks that are held.
fn held(kind: Kind) -> (World, Vec<(Names, Grant)>) {
    let mut world = World::new(kind);
    let mut locks = Vec::new();
    for name in NAMES {
        let names = Names::new(name);
        let grant = world.hold(0, &names, lease(10_000));
        locks.push((names, grant));
    }
    world.wait(Duration::from_millis(500));
    (world, locks)
}

fn releases<'a>(world: &World, locks: &'a [(Names, Grant)]) -> Batch<Release<'a>> {
    let give_up = world.clients[0].moment(world.now + secs(5.0));
    let releases = locks.iter();
    Batch::new(releases.map(|(names, grant)| Release::new(&names.keys, grant, grant.cas, give_up)))
}

fn is_there(world: &mut World, names: &Names) -> bool {
    let lock = names.lock();
    world.server.item(world.now, lock.as_bytes()).is_some()
}

#[test]
fn operations_share_one_ordered_flight() {
    for kind in Kind::ALL {
        let (mut world, locks) = held(kind);
        let mut together = releases(&world, &locks);
        let run = world.run(&mut together);
        assert_eq!(run.flights.len(), 1, "{kind:?}: {:?}", run.flights);
        let bytes = &run.flights[0].bytes;
        let places = locks.iter().map(|(names, _)| bytes.find(&names.lock()));
        let places: Vec<_> = places.map(|place| place.expect("is in it")).collect();
        assert!(places.is_sorted(), "{kind:?}: {bytes}");
        run.outcome();
        assert_eq!(together.outcomes(), vec![Some(ReleaseStatus::Released); 3]);
        assert!(locks.iter().all(|(names, _)| !is_there(&mut world, names)));
    }
}

#[test]
fn operations_have_independent_outcomes() {
    for kind in Kind::ALL {
        let (mut world, locks) = held(kind);
        let [(a, _), (b, _), _] = &locks[..] else {
            panic!("there are three")
        };
        world.server.delete(a.lock().as_bytes());
        // Another record stands in its place.
        world.server.delete(b.lock().as_bytes());
        world.hold(1, b, lease(10_000));
        let mut together = releases(&world, &locks);
        let run = world.run(&mut together);
        // The CAS unique of the second one is not what it was: that is looked into.
        assert_eq!(run.flights.len(), 2, "{kind:?}: {:?}", run.flights);
        for name in [a, &locks[2].0] {
            assert!(!run.flights[1].bytes.contains(&name.lock()), "{kind:?}");
        }
        run.outcome();
        let expected = [
            Some(ReleaseStatus::AlreadyLost(LossReason::Missing)),
            Some(ReleaseStatus::AlreadyLost(LossReason::TakenOver)),
            Some(ReleaseStatus::Released),
        ];
        assert_eq!(together.outcomes(), expected, "{kind:?}");
        assert!(is_there(&mut world, b));
    }
}

#[test]
fn operations_are_retried_together() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Lost, Fate::Unsent] {
            let (mut world, locks) = held(kind);
            world.fates.push_back(fate.clone());
            let mut together = releases(&world, &locks);
            let run = world.run(&mut together);
            let pauses: Vec<_> = run.pauses.iter().map(|(_, why)| *why).collect();
            assert_eq!(pauses, [SleepReason::Unreachable], "{kind:?}, {fate:?}");
            run.outcome();
            assert_eq!(together.outcomes(), vec![Some(ReleaseStatus::Released); 3]);
            assert!(locks.iter().all(|(names, _)| !is_there(&mut world, names)));
        }
    }
}

#[test]
fn silence_gives_up_unanswered_operations() {
    for kind in Kind::ALL {
        let (mut world, locks) = held(kind);
        world.usual = Fate::Lost;
        let mut together = releases(&world, &locks);
        let run = world.run(&mut together);
        assert!(matches!(run.end, End::GaveUp { unknown: true }), "{kind:?}");
        assert_eq!(together.outcomes(), [None, None, None], "{kind:?}");

        // The answer is there for one of them, and then no more.
        let (mut world, locks) = held(kind);
        world.server.delete(locks[1].0.lock().as_bytes());
        world.hold(1, &locks[1].0, lease(10_000));
        world.fates.push_back(Fate::Answered);
        world.usual = Fate::Unsent;
        let mut together = releases(&world, &locks);
        let run = world.run(&mut together);
        assert!(matches!(run.end, End::GaveUp { .. }), "{kind:?}");
        let expected = [
            Some(ReleaseStatus::Released),
            None,
            Some(ReleaseStatus::Released),
        ];
        assert_eq!(together.outcomes(), expected, "{kind:?}");
    }
}

#[test]
fn changed_instance_gets_no_requests() {
    for kind in Kind::ALL {
        let (mut world, locks) = held(kind);
        world.server.restart(world.now);
        world.clients[0].connection = None;
        let looks = locks.iter();
        let mut together = Batch::new(looks.map(|(names, grant)| Verify::new(&names.keys, grant)));
        let run = world.run(&mut together);
        assert!(run.flights.is_empty(), "{kind:?}: {:?}", run.flights);
        run.outcome();
        let lost = VerifyOutcome::Lost(LossReason::ServerRestarted);
        assert_eq!(together.outcomes(), vec![Some(lost); 3], "{kind:?}");
    }
}

#[test]
fn empty_set_sends_nothing() {
    let mut world = World::new(Kind::Meta);
    let mut together = Batch::<Verify<'_>>::new([]);
    let run = world.run(&mut together);
    assert!(run.flights.is_empty(), "{:?}", run.flights);
    run.outcome();
    assert!(together.outcomes().is_empty());
}
