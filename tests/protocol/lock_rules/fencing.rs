//! Tokens rise with every grant of a name, whatever becomes of their counter.

use super::driver::{End, Fate, Names, World, lease, nonce};
use super::server::{Kind, SECOND, secs};
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, Grant, OwnerId, RecordAcquire, Release, ReleaseStatus,
    ServerError, WaitPolicy,
};

/// Has `client` acquire the lock and give it back.
fn turn(world: &mut World, client: usize, names: &Names, number: u64) -> Grant {
    let request = AcquireRequest {
        wait: WaitPolicy::Forever,
        ..names.request(lease(1000))
    };
    let grant = world
        .run_as(client, &mut RecordAcquire::new(request, nonce(number)))
        .granted();
    let give_up = world.clients[client].moment(world.now + SECOND);
    let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
    let released = world.run_as(client, &mut release).outcome();
    assert_eq!(released, ReleaseStatus::Released);
    grant
}

#[test]
fn tokens_rise_from_grant_to_grant() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let mut last = 0;
        for number in 0..50 {
            let client = usize::from(number % 3 == 0);
            let token = turn(&mut world, client, &names, number)
                .token
                .expect("fenced");
            assert!(token > last, "{kind:?}: {token} after {last}");
            assert!(i64::try_from(token).is_ok());
            last = token;
        }
    }
}

#[test]
fn tokens_rise_over_lost_answers() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let mut last = 0;
        for number in 0..20 {
            world.fates.extend(vec![Fate::Mute; number as usize % 3]);
            // Of the release, one is lost and looked up as well.
            let token = turn(&mut world, 0, &names, number).token.expect("fenced");
            assert!(token > last, "{kind:?}: {token} after {last}");
            last = token;
        }
    }
}

#[test]
fn tokens_rise_over_counter_loss() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let mut last = 0;
        for number in 0..20 {
            let client = usize::from(number % 3 == 0);
            let token = turn(&mut world, client, &names, number)
                .token
                .expect("fenced");
            assert!(token > last, "{kind:?}: {token} after {last}");
            last = token;
            world.server.evict(names.fence().as_bytes());
            // `docs/safety.md` promises it for losses that are more than about two seconds apart.
            world.wait(Duration::from_millis(2500));
        }
    }
}

#[test]
fn tokens_rise_over_differing_clocks() {
    // One reads the server's second when it has just begun, the other when it is almost over.
    for kind in Kind::ALL {
        for gap in [2000, 2100, 2500, 2900] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.advance(secs(1001.0));
            world.connect(0).expect("a server");
            world.advance(secs(1001.999));
            world.connect(1).expect("a server");
            let first = turn(&mut world, 0, &names, 1).token.expect("fenced");
            world.server.evict(names.fence().as_bytes());
            world.wait(Duration::from_millis(gap));
            let second = turn(&mut world, 1, &names, 2).token.expect("fenced");
            assert!(second > first, "{kind:?}, {gap} ms: {second} after {first}");
        }
    }
}

#[test]
fn tokens_rise_over_restarts_and_flushes() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let mut last = 0;
        for number in 0..20 {
            let client = usize::from(number % 3 == 0);
            let token = turn(&mut world, client, &names, number)
                .token
                .expect("fenced");
            assert!(token > last, "{kind:?}: {token} after {last}");
            last = token;
            match number % 2 {
                0 => world.server.restart(world.now),
                _ => world.server.flush(world.now),
            }
        }
    }
}

#[test]
fn foreign_counter_yields_no_lock() {
    for kind in Kind::ALL {
        // Not a number, or one that no signed column can hold.
        for value in [
            "hello",
            "12x",
            "9223372036854775807",
            "18446744073709551000",
        ] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            let key = names.fence();
            world
                .server
                .set(world.now, key.as_bytes(), value.as_bytes(), 0);
            let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
            let run = world.run(&mut acquire);
            assert_eq!(run.failed(), ServerError::ForeignItem, "{kind:?} {value}");
            assert_eq!(world.record(&names), None, "{kind:?} {value}: taken back");
            assert!(acquire.orphan().is_none());

            // An acquisition without a token ignores the counter.
            let request = AcquireRequest {
                fencing: false,
                ..names.request(lease(10_000))
            };
            world
                .run(&mut RecordAcquire::new(request, nonce(2)))
                .granted();
        }
    }
}

#[test]
fn impossible_counter_yields_no_lock() {
    for kind in [Kind::Meta, Kind::MetaWithoutE] {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.push_back(Fate::Mute);
        // The record is stored, the counter is lost, and then memory is short.
        let fence = names.fence();
        world.before_flight(1, move |server, _| {
            server.evict(fence.as_bytes());
            server.memory_full = true;
        });
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        assert_eq!(run.failed(), ServerError::OutOfMemory, "{kind:?}");
        assert_eq!(world.record(&names), None, "{kind:?}: taken back");
    }
}

/// A counter that was made again by a client that knew the server's clock less well, or late.
fn low_counter(kind: Kind) -> (World, Names, u64) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    world.connect(0).expect("a server");
    let second = world.server.second(world.now);
    let born = second - 100;
    world.server.found(world.now, &names.sentinel(), born);
    let low = (born - 5) * SECOND;
    let fence = names.fence();
    let value = low.to_string();
    world
        .server
        .set(world.now, fence.as_bytes(), value.as_bytes(), 86_400);
    (world, names, born * SECOND)
}

#[test]
fn old_counter_is_raised_above_sentinel() {
    for kind in Kind::ALL {
        let (mut world, names, born) = low_counter(kind);
        let began = world.now;
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        // The attempt, a look at the counter, and its replacement.
        assert_eq!(run.flights.len(), 3, "{kind:?}: {:?}", run.flights);
        for flight in &run.flights[1..] {
            assert!(!flight.bytes.contains(&names.lock()), "{kind:?}");
        }
        let grant = run.granted();
        assert!(grant.token > Some(born), "{kind:?}: {:?}", grant.token);
        // Not far above: it must stay behind what the server's clock will seed.
        assert!(
            grant.token < Some((world.server.second(world.now) + 1) * SECOND),
            "{kind:?}: {:?}",
            grant.token
        );
        assert_eq!(
            grant.sent_at,
            world.clients[0].moment(began),
            "no lease is won by it"
        );
    }
}

#[test]
fn lost_raise_reply_keeps_tokens_rising() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Lost, Fate::Unsent] {
            let (mut world, names, born) = low_counter(kind);
            world.fates.extend([Fate::Answered, fate]);
            let began = world.now;
            let grant = world
                .run(&mut RecordAcquire::new(
                    names.request(lease(10_000)),
                    nonce(1),
                ))
                .granted();
            assert!(grant.token > Some(born), "{kind:?}: {:?}", grant.token);
            assert_eq!(grant.sent_at, world.clients[0].moment(began), "{kind:?}");
            assert_eq!(grant.owner_id, OwnerId::Nonce(nonce(1)), "{kind:?}");
        }
    }
}

#[test]
fn raise_is_not_repeated_after_restart() {
    for kind in Kind::ALL {
        let (mut world, names, _) = low_counter(kind);
        world.before_flight(1, |server, at| {
            server.restart(at);
            server.log.clear();
        });
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        // What was held is gone with the server that it was held on.
        assert!(
            matches!(run.outcome(), AcquireOutcome::RestartGuard { .. }),
            "{kind:?}"
        );
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

#[test]
fn late_raise_is_no_grant() {
    for kind in Kind::ALL {
        let (mut world, names, _) = low_counter(kind);
        let slow = Duration::from_millis(600);
        world.fates.extend([Fate::Answered, Fate::Slow(slow, slow)]);
        let mut acquire = RecordAcquire::new(names.request(lease(1000)), nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}: {run:?}"
        );
        assert_eq!(world.record(&names), None, "{kind:?}: taken back");
    }
}

#[test]
fn refused_client_only_wastes_tokens() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let grant = world
            .run(&mut RecordAcquire::new(
                names.request(lease(10_000)),
                nonce(1),
            ))
            .granted();
        let run = world.run_as(
            1,
            &mut RecordAcquire::new(names.request(lease(1000)), nonce(2)),
        );
        assert!(matches!(run.outcome(), AcquireOutcome::Contended(_)));
        let give_up = world.clients[0].moment(world.now + SECOND);
        let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
        assert_eq!(world.run(&mut release).outcome(), ReleaseStatus::Released);
        let next = turn(&mut world, 1, &names, 3);
        assert!(next.token > grant.token, "{kind:?}");
    }
}

/// The kinds that report when a counter was made.
const META: [Kind; 2] = [Kind::Meta, Kind::MetaWithoutE];

/// A counter is lost once, and a request makes it again that was sent before higher tokens were drawn.
#[test]
fn counter_from_late_request_is_raised() {
    for kind in META {
        for (late, phase) in [4500, 5000, 9000, 60_000, 3_600_000]
            .into_iter()
            .flat_map(|late| (0..10).map(move |phase| (late, phase)))
        {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.advance(secs(1001.0 + 0.1 * f64::from(phase)));
            world.connect(0).expect("a server");
            world.connect(1).expect("a server");
            let late = Duration::from_millis(late);
            world.fates.push_back(Fate::Late(late));
            let mut acquire = RecordAcquire::new(names.request(lease(100)), nonce(1));
            drop(world.run_as(1, &mut acquire));
            let first = turn(&mut world, 0, &names, 2).token;
            world.wait(late - Duration::from_millis(400));
            world.server.evict(names.fence().as_bytes());
            world.wait(Duration::from_secs(1));
            let made = world.server.item(world.now, names.fence().as_bytes());
            assert!(made.is_some(), "the late request has made it again");
            let mut last = first;
            for client in [0, 1, 0] {
                let token = turn(&mut world, client, &names, 3 + client as u64).token;
                assert!(
                    token > last,
                    "{kind:?}, late by {late:?}, phase {phase}: {token:?} after {last:?}"
                );
                last = token;
            }
            let truth = world.server.second(world.now) + 1;
            assert!(last < Some(truth * SECOND), "{kind:?}: ahead of the clock");
        }
    }
}

/// The seed of a new counter is high enough to need no repair.
#[test]
fn ordinary_counter_is_not_raised() {
    for kind in Kind::ALL {
        for (connected, drawn) in (0..20).flat_map(|one| (0..20).map(move |other| (one, other))) {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.advance(secs(1001.0 + 0.05 * f64::from(connected)));
            world.connect(0).expect("a server");
            world.advance(secs(1002.0 + 0.05 * f64::from(drawn)));
            let request = names.request(lease(1000));
            let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
            assert_eq!(run.flights.len(), 1, "{kind:?}: {:?}", run.flights);
        }
    }
}

/// Drawing does not prolong the life of a counter, and its age alone is no reason to raise it.
#[test]
fn old_counter_is_not_raised() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let mut last = None;
        for number in 0..50 {
            // After a day, another takes its place.
            let grant = turn(&mut world, 0, &names, number);
            assert!(grant.token > last, "{kind:?}");
            last = grant.token;
            world.wait(Duration::from_secs(3600));
            let mut acquire = RecordAcquire::new(names.request(lease(1000)), nonce(1000 + number));
            let run = world.run(&mut acquire);
            let attempts = run.flights.iter();
            let attempts = attempts.filter(|flight| flight.bytes.contains(&names.fence()));
            assert_eq!(attempts.count(), 1, "{kind:?}, hour {number}");
            let grant = run.granted();
            assert!(grant.token > last, "{kind:?}");
            last = grant.token;
            world.wait(Duration::from_secs(10));
        }
    }
}

/// Its time left then says nothing of when it was made, and must not push the counter ahead.
#[test]
fn touched_counter_stays_behind_the_clock() {
    for kind in Kind::ALL {
        for exptime in [0, 2_000_000, 10] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            let token = (world.server.second(world.now) * SECOND).to_string();
            let key = names.fence();
            let (now, key) = (world.now, key.as_bytes());
            world.server.set(now, key, token.as_bytes(), exptime);
            world.wait(Duration::from_secs(5));
            let grant = turn(&mut world, 0, &names, 1);
            assert!(grant.token > token.parse().ok(), "{kind:?}, {exptime}");
            let truth = (world.server.second(world.now) + 1) * SECOND;
            assert!(grant.token < Some(truth), "{kind:?}, {exptime}");
        }
    }
}
