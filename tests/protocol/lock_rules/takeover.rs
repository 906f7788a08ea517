//! Taking over the lock of a holder that does not renew, and of one that hands it on.

use super::driver::{Fate, Names, World, lease, nonce};
use super::server::{Kind, SECOND, Time, nanos, secs};
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, Grant, Instant, LossReason, RecordAcquire, Release,
    ReleaseStatus, Renew, RenewOutcome, SleepReason, WaitPolicy,
};

fn patient<'a>(names: &'a Names, millis: u64) -> AcquireRequest<'a> {
    AcquireRequest {
        wait: WaitPolicy::Forever,
        ..names.request(lease(millis))
    }
}

/// A lock whose holder is never heard of again, and its grant.
fn abandoned(kind: Kind, names: &Names, millis: u64) -> (World, Grant) {
    let mut world = World::new(kind);
    let dead = world.hold_fenced(1, names, lease(millis));
    (world, dead)
}

fn renew<'a>(names: &'a Names, grant: &'a Grant, cas: u64) -> Renew<'a> {
    Renew::new(&names.namespace, &names.keys, grant, grant.lease, cas)
}

#[test]
fn dead_holder_is_followed_after_lease() {
    for kind in Kind::ALL {
        for millis in [100, 200, 1000, 3000, 10_000] {
            let names = Names::new("L");
            let (mut world, dead) = abandoned(kind, &names, millis);
            let began = world.now;
            let believed = world.clients[1].true_time(dead.valid_until);
            let run = world.run(&mut RecordAcquire::new(patient(&names, millis), nonce(1)));
            let taken = world.now;
            let over = format!("cas {} 0 ", names.lock());
            let last = run.flights.last().expect("flights").bytes.clone();
            assert!(last.starts_with(&over), "{kind:?}: {last}");
            assert_eq!(
                run.flights
                    .iter()
                    .filter(|f| f.bytes.starts_with("cas"))
                    .count(),
                1
            );
            let grant = run.granted();
            assert!(taken >= believed, "{kind:?} {millis}: two believers");
            let most = nanos(Duration::from_millis(millis + millis / 40)) + 10 * nanos(world.trip);
            assert!(
                taken - began <= most,
                "{kind:?} {millis}: {}",
                taken - began
            );
            assert!(grant.token > dead.token, "{kind:?}");
            assert_eq!(
                grant.sent_at,
                world.clients[0].moment(taken - 2 * nanos(world.trip))
            );
            assert_eq!(world.server.takeovers, 1);
        }
    }
}

#[test]
fn drifting_clocks_take_over_no_earlier() {
    for kind in Kind::ALL {
        for (holder, contender) in [(-9_900, 9_900), (9_900, -9_900), (-9_900, -9_900)] {
            for millis in [100, 10_000] {
                let names = Names::new("L");
                let mut world = World::new(kind);
                (world.clients[1].ppm, world.clients[0].ppm) = (holder, contender);
                // The shortest way there is: nothing is gained from the trips.
                world.trip = Duration::from_nanos(1);
                let dead = world.hold(1, &names, lease(millis));
                let believed = world.clients[1].true_time(dead.valid_until);
                let run = world.run(&mut RecordAcquire::new(patient(&names, millis), nonce(1)));
                run.granted();
                assert!(
                    world.now >= believed,
                    "{kind:?} {holder} {millis}: two believers"
                );
            }
        }
    }
}

#[test]
fn renewing_holder_is_seldom_polled() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let grant = world.hold(1, &names, lease(3000));
        // Every second, by hand: the record gets another CAS unique each time.
        for second in 1..60u64 {
            let (lock, owner) = (names.lock().into_bytes(), 1);
            world.at(world.now + second * SECOND, move |server, now| {
                let cas = server.item(now, &lock).expect("held").cas;
                let expiry = server.second(now) + 7;
                let lock = core::str::from_utf8(&lock).expect("plain");
                let record = server
                    .item(now, lock.as_bytes())
                    .expect("held")
                    .value
                    .clone();
                let record = String::from_utf8(record).expect("text");
                let length = record.len();
                let request = format!("cas {lock} 0 {expiry} {length} {cas}\r\n{record}\r\n");
                assert_eq!(server.handle(now, owner, request.as_bytes()), b"STORED\r\n");
            });
        }
        let end = world.clients[0].moment(world.now + 60 * SECOND);
        let request = AcquireRequest {
            wait: WaitPolicy::Until(end),
            ..names.request(lease(3000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        let looks = run.flights.len();
        assert!(
            (120..330).contains(&looks),
            "{kind:?}: {looks} looks in a minute"
        );
        assert!(
            matches!(run.outcome(), AcquireOutcome::Contended(_)),
            "{kind:?}"
        );
        assert_eq!(world.server.takeovers, 0);
        drop(grant);
    }
}

#[test]
fn late_old_holder_changes_nothing() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let (mut world, dead) = abandoned(kind, &names, 1000);
        let run = world.run(&mut RecordAcquire::new(patient(&names, 1000), nonce(1)));
        let grant = run.granted();
        let record = world.record(&names);
        let late = world
            .run_as(1, &mut renew(&names, &dead, dead.cas))
            .outcome();
        assert_eq!(late, RenewOutcome::Lost(LossReason::TakenOver));
        let give_up = world.clients[1].moment(world.now + SECOND);
        let mut release = Release::new(&names.keys, &dead, dead.cas, give_up);
        let late = world.run_as(1, &mut release).outcome();
        assert_eq!(late, ReleaseStatus::AlreadyLost(LossReason::TakenOver));
        assert_eq!(world.record(&names), record);
        let kept = world.run(&mut renew(&names, &grant, grant.cas)).outcome();
        assert!(matches!(kept, RenewOutcome::Renewed { .. }), "{kept:?}");
    }
}

#[test]
fn unanswered_takeover_is_recognized() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Lost, Fate::Unsent] {
            let names = Names::new("L");
            let (mut world, dead) = abandoned(kind, &names, 1000);
            let mut acquire = RecordAcquire::new(patient(&names, 1000), nonce(1));
            // Everything is answered up to the takeover.
            let probe = world_until_takeover(kind, &names);
            world
                .fates
                .extend(core::iter::repeat_n(Fate::Answered, probe));
            world.fates.push_back(fate.clone());
            let run = world.run(&mut acquire);
            assert_eq!(world.server.takeovers, 1, "{kind:?} {fate:?}");
            let cas: Vec<Time> = run
                .flights
                .iter()
                .filter(|flown| flown.bytes.starts_with("cas"))
                .map(|flown| flown.sent)
                .collect();
            assert_eq!(cas.len(), 2, "{kind:?} {fate:?}");
            let grant = run.granted();
            let counted = match fate {
                Fate::Unsent => cas[1],
                // It may have been carried out the first time, so the lease counts from then.
                _ => cas[0],
            };
            assert_eq!(
                grant.sent_at,
                world.clients[0].moment(counted),
                "{kind:?} {fate:?}"
            );
            assert!(grant.token > dead.token);
        }
    }
}

/// Number of flights before the takeover of [`abandoned`].
fn world_until_takeover(kind: Kind, names: &Names) -> usize {
    let (mut world, _) = abandoned(kind, names, 1000);
    let run = world.run(&mut RecordAcquire::new(patient(names, 1000), nonce(1)));
    run.flights.len() - 1
}

#[test]
fn takeover_wait_restarts_with_server() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let (mut world, dead) = abandoned(kind, &names, 2000);
        // Shortly before the watch is over, the server starts anew, and another lock gets the very
        // CAS unique that was watched.
        let lock = names.lock();
        let record = String::from_utf8(world.record(&names).expect("held").into_bytes());
        let record = record.expect("text");
        let sentinel = names.sentinel();
        world.at(world.now + secs(1.9), move |server, now| {
            server.restart(now);
            let born = server.second(now) - 100;
            server.found(now, &sentinel, born);
            loop {
                let expiry = server.second(now) + 6;
                let length = record.len();
                let request = format!("add {lock} 0 {expiry} {length}\r\n{record}\r\n");
                assert_eq!(server.handle(now, 1, request.as_bytes()), b"STORED\r\n");
                let cas = server.item(now, lock.as_bytes()).expect("stored").cas;
                if cas == dead.cas {
                    return;
                }
                assert!(cas < dead.cas, "the server's numbers begin anew");
                server.delete(lock.as_bytes());
            }
        });
        let restarted = world.now + secs(1.9);
        let run = world.run(&mut RecordAcquire::new(patient(&names, 2000), nonce(1)));
        run.granted();
        assert!(
            world.now >= restarted + secs(2.02),
            "{kind:?}: taken over too early"
        );
    }
}

#[test]
fn leaseless_value_blocks_until_expiry() {
    for kind in Kind::ALL {
        for value in ["", "17", "m2 0f 100 1 1 a b", "m1 0f 100 1 1 a b"] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            let expiry = i64::try_from(world.server.second(world.now) + 9).expect("32 bits");
            let lock = names.lock();
            world
                .server
                .set(world.now, lock.as_bytes(), value.as_bytes(), expiry);
            let began = world.now;
            let run = world.run(&mut RecordAcquire::new(patient(&names, 1000), nonce(1)));
            run.granted();
            assert!(world.now - began > secs(8.0), "{kind:?} {value:?}");
            assert_eq!(world.server.takeovers, 0);
        }
    }
}

#[test]
fn full_server_is_retried_slowly() {
    let names = Names::new("L");
    let (mut world, _) = abandoned(Kind::Meta, &names, 1000);
    world.at(world.now + secs(0.5), |server, _| server.memory_full = true);
    let began = world.now;
    let run = world.run(&mut RecordAcquire::new(patient(&names, 1000), nonce(1)));
    let flights = run.flights.len();
    // The record runs out, and then there is no room for another.
    assert!(world.now - began > secs(3.0));
    assert!(flights < 80, "{flights} flights");
    run.failed();
}

// ---- handing on ----

fn heir<'a>(names: &'a Names, number: u64) -> RecordAcquire<'a> {
    RecordAcquire::new(patient(names, 5000), nonce(number))
}

#[test]
fn handoff_takes_one_flight() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let grant = world.hold_fenced(0, &names, lease(5000));
        let mut acquire = heir(&names, 1);
        acquire.accept_handoff(&grant, grant.cas);
        let run = world.run(&mut acquire);
        assert_eq!(run.flights.len(), 1, "{kind:?}: {:?}", run.flights);
        assert!(run.pauses.is_empty());
        let sent = run.flights[0].sent;
        let next = run.granted();
        assert_eq!(acquire.take_handoff_result(), Some(Ok(())));
        assert_eq!(acquire.take_handoff_result(), None);
        assert!(
            next.token > grant.token && next.owner_id != grant.owner_id && next.cas != grant.cas
        );
        assert_eq!(next.sent_at, world.clients[0].moment(sent));
        // The one before has nothing left to release.
        let give_up = Instant::from_nanos(u64::MAX);
        let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
        let late = world.run(&mut release).outcome();
        assert_eq!(late, ReleaseStatus::AlreadyLost(LossReason::TakenOver));
    }
}

#[test]
fn handoff_accepts_a_renewed_lock() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let grant = world.hold(0, &names, lease(5000));
        let renewed = world.run(&mut renew(&names, &grant, grant.cas)).outcome();
        assert!(matches!(renewed, RenewOutcome::Renewed { .. }));
        let mut acquire = heir(&names, 1);
        acquire.accept_handoff(&grant, grant.cas);
        let run = world.run(&mut acquire);
        assert_eq!(run.flights.len(), 2, "{kind:?}");
        run.granted();
        assert_eq!(acquire.take_handoff_result(), Some(Ok(())));
    }
}

#[test]
fn handoff_of_lost_lock_reports_loss() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let grant = world.hold(0, &names, lease(5000));
        world.server.evict(names.keys.lock().as_bytes());
        let mut acquire = heir(&names, 1);
        acquire.accept_handoff(&grant, grant.cas);
        let run = world.run(&mut acquire);
        run.granted();
        assert_eq!(
            acquire.take_handoff_result(),
            Some(Err(LossReason::Missing)),
            "{kind:?}"
        );

        let grant = world.hold(1, &Names::new("M"), lease(5000));
        let names = Names::new("M");
        world.server.evict(names.keys.lock().as_bytes());
        world.other_holds(&names, 3);
        let mut acquire = heir(&names, 2);
        acquire.accept_handoff(&grant, grant.cas);
        let run = world.run_as(1, &mut acquire);
        assert!(
            run.pauses
                .iter()
                .all(|(_, why)| *why == SleepReason::Contended)
        );
        run.granted();
        assert_eq!(
            acquire.take_handoff_result(),
            Some(Err(LossReason::TakenOver)),
            "{kind:?}"
        );

        let names = Names::new("N");
        let grant = world.hold(0, &names, lease(1000));
        world.server.restart(world.now);
        let mut acquire = heir(&names, 3);
        acquire.accept_handoff(&grant, grant.cas);
        world.run(&mut acquire).granted();
        assert_eq!(
            acquire.take_handoff_result(),
            Some(Err(LossReason::ServerRestarted)),
            "{kind:?}"
        );
    }
}

#[test]
fn unanswered_handoff_is_reported_once() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Lost, Fate::Unsent] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            let grant = world.hold(0, &names, lease(5000));
            let mut acquire = heir(&names, 1);
            acquire.accept_handoff(&grant, grant.cas);
            world.fates.push_back(fate.clone());
            world.run(&mut acquire).granted();
            assert_eq!(
                acquire.take_handoff_result(),
                Some(Ok(())),
                "{kind:?} {fate:?}"
            );
        }
    }
}
