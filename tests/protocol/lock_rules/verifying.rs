//! Asking whether a lock is still held.

use super::driver::{End, Fate, Names, World, lease, nonce};
use super::server::{FakeServer, Kind};
use core::time::Duration;
use memlatch::proto::{Acquire, AcquireRequest, Grant, LossReason, Renew, Verify, VerifyOutcome};

fn held(kind: Kind) -> (World, Names, Grant) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    let grant = world.hold(0, &names, lease(10_000));
    world.wait(Duration::from_millis(500));
    (world, names, grant)
}

fn verify(world: &mut World, names: &Names, grant: &Grant) -> VerifyOutcome {
    let run = world.run(&mut Verify::new(&names.keys, grant));
    assert!(run.flights.len() <= 1, "{:?}", run.flights);
    run.outcome()
}

#[test]
fn verification_leaves_server_unchanged() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let lock = names.lock();
        let before = world.server.item(world.now, lock.as_bytes()).cloned();
        let run = world.run(&mut Verify::new(&names.keys, &grant));
        let expected = match kind {
            Kind::Classic => format!("gets {lock}\r\n"),
            _ => format!("mg {lock} t c v\r\n"),
        };
        assert_eq!(run.flights[0].bytes, expected, "{kind:?}");
        assert_eq!(run.outcome(), VerifyOutcome::Held, "{kind:?}");
        let after = world.server.item(world.now, lock.as_bytes());
        let facts = |item: &super::server::Item| (item.cas, item.expiry, item.value.clone());
        assert_eq!(after.map(facts), before.as_ref().map(facts));
    }
}

#[test]
fn verification_ignores_own_cas_changes() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Answered] {
            let (mut world, names, grant) = held(kind);
            world.fates.push_back(fate);
            let mut renew = Renew::new(
                &names.namespace,
                &names.keys,
                &grant,
                lease(10_000),
                grant.cas,
            );
            world.run(&mut renew);
            assert_eq!(verify(&mut world, &names, &grant), VerifyOutcome::Held);
        }
    }
}

#[test]
fn loss_reasons_are_distinguished() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.server.evict(names.lock().as_bytes());
        let lost = verify(&mut world, &names, &grant);
        assert_eq!(lost, VerifyOutcome::Lost(LossReason::Missing), "{kind:?}");

        world.other_holds(&names, 20);
        let lost = verify(&mut world, &names, &grant);
        assert_eq!(lost, VerifyOutcome::Lost(LossReason::TakenOver), "{kind:?}");

        FakeServer::restart(&mut world.server, world.now);
        world.other_holds(&names, 20);
        let run = world.run(&mut Verify::new(&names.keys, &grant));
        assert!(run.flights.is_empty(), "{kind:?}: {run:?}");
        let lost = run.outcome();
        assert_eq!(lost, VerifyOutcome::Lost(LossReason::ServerRestarted));
    }
}

#[test]
fn silence_leaves_lock_unjudged() {
    for kind in Kind::ALL {
        for (fate, expected) in [
            (Fate::Lost, true),
            (Fate::Mute, true),
            (Fate::Unsent, false),
        ] {
            let (mut world, names, grant) = held(kind);
            world.fates.push_back(fate.clone());
            let run = world.run(&mut Verify::new(&names.keys, &grant));
            let End::GaveUp { unknown } = run.end else {
                panic!("{kind:?} {fate:?}: {run:?}");
            };
            assert_eq!(unknown, expected, "{kind:?} {fate:?}");
            assert_eq!(verify(&mut world, &names, &grant), VerifyOutcome::Held);
        }
    }
}

#[test]
fn token_verifies_recordless_lock() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    let request = AcquireRequest {
        fencing: false,
        min_memory: None,
        without_record: true,
        ..names.request(lease(10_000))
    };
    let grant = world.run(&mut Acquire::new(request, nonce(1))).granted();
    assert_eq!(verify(&mut world, &names, &grant), VerifyOutcome::Held);
    let mut renew = Renew::new(
        &names.namespace,
        &names.keys,
        &grant,
        lease(10_000),
        grant.cas,
    );
    world.run(&mut renew);
    assert_eq!(verify(&mut world, &names, &grant), VerifyOutcome::Held);
    world.server.evict(names.lock().as_bytes());
    world.hold(1, &names, lease(10_000));
    let lost = verify(&mut world, &names, &grant);
    assert_eq!(lost, VerifyOutcome::Lost(LossReason::TakenOver));
}
