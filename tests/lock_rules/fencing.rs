//! Tokens rise with every grant of a name, whatever becomes of their counter.

use super::driver::{End, Fate, Names, World, lease, nonce};
use super::server::{Kind, SECOND, secs};
use core::time::Duration;
use memlatch::lock::{
    Acquire, Acquired, Failure, Grant, Patience, Proof, Release, Released, Request,
};

/// Has `client` acquire the lock and give it back.
fn turn(world: &mut World, client: usize, names: &Names, number: u64) -> Grant {
    let request = Request {
        patience: Patience::Forever,
        ..names.request(lease(1000))
    };
    let grant = world
        .run_as(client, &mut Acquire::new(request, nonce(number)))
        .granted();
    let give_up = world.clients[client].moment(world.now + SECOND);
    let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
    let released = world.run_as(client, &mut release).outcome();
    assert_eq!(released, Released::Yes);
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
fn tokens_rise_over_the_loss_of_their_counter() {
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
fn tokens_rise_over_the_loss_of_their_counter_for_clients_that_read_the_clock_differently() {
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
fn a_counter_that_is_none_of_ours_yields_no_token_and_no_lock() {
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
            let mut acquire = Acquire::new(names.request(lease(10_000)), nonce(1));
            let run = world.run(&mut acquire);
            assert_eq!(run.failed(), Failure::ForeignItem, "{kind:?} {value}");
            assert_eq!(world.record(&names), None, "{kind:?} {value}: taken back");
            assert!(acquire.leftover().is_none());

            // Who does not ask for a token does not care.
            let request = Request {
                fencing: false,
                ..names.request(lease(10_000))
            };
            world.run(&mut Acquire::new(request, nonce(2))).granted();
        }
    }
}

#[test]
fn a_counter_that_cannot_be_made_yields_no_lock() {
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
        let run = world.run(&mut Acquire::new(names.request(lease(10_000)), nonce(1)));
        assert_eq!(run.failed(), Failure::OutOfMemory, "{kind:?}");
        assert_eq!(world.record(&names), None, "{kind:?}: taken back");
    }
}

/// A counter that was made again by somebody who knew the server's clock less well, or late.
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
fn a_counter_below_the_birth_of_the_sentinel_is_raised_above_it() {
    for kind in Kind::ALL {
        let (mut world, names, born) = low_counter(kind);
        let began = world.now;
        let run = world.run(&mut Acquire::new(names.request(lease(10_000)), nonce(1)));
        // The attempt, a look at the counter, and its replacement.
        assert_eq!(run.flights.len(), 3, "{kind:?}: {:?}", run.flights);
        for flight in &run.flights[1..] {
            assert!(!flight.bytes.contains(&names.lock()), "{kind:?}");
        }
        let grant = run.granted();
        assert!(grant.token > Some(born), "{kind:?}: {:?}", grant.token);
        // Not far above: it must stay behind what the server's clock will seed.
        assert!(
            grant.token < Some(born + SECOND),
            "{kind:?}: {:?}",
            grant.token
        );
        assert_eq!(
            grant.sent,
            world.clients[0].moment(began),
            "no lease is won by it"
        );
    }
}

#[test]
fn tokens_rise_when_the_answer_to_a_raising_is_lost() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Lost, Fate::Unsent] {
            let (mut world, names, born) = low_counter(kind);
            world.fates.extend([Fate::Answered, fate]);
            let began = world.now;
            let grant = world
                .run(&mut Acquire::new(names.request(lease(10_000)), nonce(1)))
                .granted();
            assert!(grant.token > Some(born), "{kind:?}: {:?}", grant.token);
            assert_eq!(grant.sent, world.clients[0].moment(began), "{kind:?}");
            assert_eq!(grant.proof, Proof::Nonce(nonce(1)), "{kind:?}");
        }
    }
}

#[test]
fn a_raising_does_not_follow_to_another_run_of_the_server() {
    for kind in Kind::ALL {
        let (mut world, names, _) = low_counter(kind);
        world.before_flight(1, |server, at| {
            server.restart(at);
            server.log.clear();
        });
        let mut acquire = Acquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        // What was held is gone with the server that it was held on.
        assert!(
            matches!(run.outcome(), Acquired::YoungMemory { .. }),
            "{kind:?}"
        );
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

#[test]
fn a_raising_that_comes_too_late_is_no_grant() {
    for kind in Kind::ALL {
        let (mut world, names, _) = low_counter(kind);
        let slow = Duration::from_millis(600);
        world.fates.extend([Fate::Answered, Fate::Slow(slow, slow)]);
        let mut acquire = Acquire::new(names.request(lease(1000)), nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}: {run:?}"
        );
        assert_eq!(world.record(&names), None, "{kind:?}: taken back");
    }
}

#[test]
fn who_is_refused_wastes_numbers_and_nothing_else() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let grant = world
            .run(&mut Acquire::new(names.request(lease(10_000)), nonce(1)))
            .granted();
        let run = world.run_as(1, &mut Acquire::new(names.request(lease(1000)), nonce(2)));
        assert!(matches!(run.outcome(), Acquired::Refused(_)));
        let give_up = world.clients[0].moment(world.now + SECOND);
        let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
        assert_eq!(world.run(&mut release).outcome(), Released::Yes);
        let next = turn(&mut world, 1, &names, 3);
        assert!(next.token > grant.token, "{kind:?}");
    }
}
