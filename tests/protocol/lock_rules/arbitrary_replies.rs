//! Replies that no server should give: nothing panics, nothing goes on for ever.

use super::driver::{End, Fate, Names, World, lease, longest, nonce, whole};
use super::rng::Rng;
use super::server::{EPOCH, Kind, SECOND, secs};
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, Handshake, Inspect, Instant, RecordAcquire, Release, Renew,
    SampleClock, WaitPolicy,
};
use memlatch::wire::{Flight, Replies};

#[test]
fn spoilt_reply_causes_no_panic() {
    let names = Names::new("L");
    let mut grants = 0;
    for kind in Kind::ALL {
        for seed in 0..600 {
            let mut dice = Rng::new(seed);
            let mut world = if dice.chance(500) {
                World::new(kind)
            } else {
                World::fresh(kind)
            };
            world.server.guards_owners = false;
            if dice.chance(300) {
                world.greeting = Fate::Spoilt(dice.next());
            }
            // Whole histories of spoilt replies, and single ones.
            for _ in 0..dice.within(0..8) {
                world.fates.push_back(if dice.chance(500) {
                    Fate::Spoilt(dice.next())
                } else {
                    Fate::Answered
                });
            }
            let began = world.now;
            let request = AcquireRequest {
                wait: WaitPolicy::Until(world.clients[0].moment(began + secs(20.0))),
                ..names.request(lease(3000))
            };
            let mut acquire = RecordAcquire::new(request, nonce(1));
            let run = world.run(&mut acquire);
            assert!(
                run.flights.len() < 500,
                "{kind:?} {seed}: {}",
                run.flights.len()
            );
            assert!(world.now < began + secs(25.0), "{kind:?} {seed}");
            let give_up = world.clients[0].moment(world.now + SECOND);
            let spoilt = dice.next();
            if let End::Done(AcquireOutcome::Granted(grant)) = run.end {
                grants += 1;
                world
                    .fates
                    .extend([Fate::Spoilt(spoilt), Fate::Spoilt(!spoilt)]);
                world.run(&mut Renew::new(
                    &names.namespace,
                    &names.keys,
                    &grant,
                    lease(3000),
                    grant.cas,
                ));
                world
                    .fates
                    .extend([Fate::Spoilt(spoilt), Fate::Spoilt(!spoilt)]);
                world.run(&mut Release::new(&names.keys, &grant, grant.cas, give_up));
            } else if let Some(leftover) = acquire.orphan() {
                world
                    .fates
                    .extend([Fate::Spoilt(spoilt), Fate::Spoilt(!spoilt)]);
                world.run(&mut Release::for_orphan(&names.keys, &leftover, give_up));
            }
            world.fates.push_back(Fate::Spoilt(spoilt));
            world.run(&mut Inspect::new(&names.keys));
            world.fates.push_back(Fate::Spoilt(spoilt));
            world.run(&mut SampleClock::new(&names.namespace, longest()));
        }
    }
    assert!(
        grants > 200,
        "most of it was never reached: {grants} grants"
    );
}

/// Runs a handshake with these statistics, with an absent and with a present sentinel.
fn greeted_by(time: &str, uptime: &str) {
    let names = Names::new("L");
    let value = format!("s1 ready 1795337329 00000000000000aa 1 {uptime} -");
    let present = format!("VA {} c7 t5 l{uptime} \r\n{value}\r\n", value.len());
    for sentinel in ["EN\r\n", &present] {
        let stats = format!("STAT pid 1\r\nSTAT uptime {uptime}\r\nSTAT time {time}\r\n");
        let counters = "STAT cmd_flush 0\r\nSTAT evictions 0\r\nSTAT slabs_moved 0\r\nEND\r\n";
        let mut handshake = Handshake::new(&names.namespace, longest(), None, nonce(7 << 40));
        let moment = |number| Instant::from_nanos(number * SECOND);
        for number in 0..5 {
            let mut flight = Flight::new();
            let now = memlatch::proto::Now {
                monotonic: moment(number),
                unix_seconds: 0,
            };
            handshake.prepare(now, &mut flight);
            let settings = format!("STAT oldest {uptime}\r\nEND\r\n");
            let reply = match number {
                0 => format!("VERSION 1.6.45\r\nEN\r\nNF\r\n{stats}{counters}{settings}"),
                1 => format!("{sentinel}EN\r\n"),
                _ if flight.bytes().starts_with(b"add memlatch:longest") => {
                    "STORED\r\nVA 3 c9\r\n100\r\n".to_owned()
                }
                _ => format!("STORED\r\n{present}{stats}{counters}"),
            };
            let mut replies = whole(&flight, reply.as_bytes());
            match handshake.interpret(&mut replies, moment(number), moment(number)) {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => break,
            }
        }
    }
}

#[test]
fn no_statistics_cause_a_panic() {
    let numbers = [
        "0",
        "1",
        "1795337329",
        "2147483647",
        "18446744073",
        "18446744074",
        "9223372036854775807",
        "18446744073709551614",
        "18446744073709551615",
    ];
    for time in numbers {
        for uptime in numbers {
            greeted_by(time, uptime);
        }
    }
}

#[test]
fn sentinel_number_causes_no_early_grant() {
    for kind in Kind::ALL {
        for born in [
            "2147483647",
            "18446744073709551604",
            "18446744073709551605",
            "18446744073709551615",
        ] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            let key = names.sentinel();
            let value = format!("s1 ready {born} 00000000000000aa 4711 {} -", EPOCH - 2);
            let expiry = i64::from(i32::MAX);
            world
                .server
                .set(world.now, key.as_bytes(), value.as_bytes(), expiry);
            world.server.tells_settings = false;
            let run = world.run(&mut RecordAcquire::new(
                names.request(lease(10_000)),
                nonce(1),
            ));
            let outcome = run.outcome();
            // A birth in the future is no proof of an old memory.
            let refused = matches!(
                outcome,
                AcquireOutcome::RestartGuard { .. } | AcquireOutcome::Failed(_)
            );
            assert!(refused, "{kind:?} {born}: {outcome:?}");
            assert_eq!(world.record(&names), None, "{kind:?} {born}: taken back");
        }
    }
}

#[test]
fn grown_record_causes_no_panic() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.push_back(Fate::Mute);
        // Another program has appended to it.
        let key = names.lock();
        world.before_flight(1, move |server, at| {
            let item = server.item(at, key.as_bytes()).expect("stands").clone();
            let value = [&item.value[..], b" and more"].concat();
            server.set(at, key.as_bytes(), &value, 2_145_916_800);
        });
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        // It bears our nonce, so it is ours.
        run.granted();
    }
}

#[test]
fn mismatched_reply_interrupts_without_outcome() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        // As many replies as there should be, of the wrong kind.
        let other = match kind {
            Kind::Classic => "MN\r\nEND\r\nMN\r\nMN\r\nEND\r\nEND\r\n",
            _ => "MN\r\nMN\r\nMN\r\nMN\r\n",
        };
        world.fates.push_back(Fate::Instead(other.into()));
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        assert_eq!(
            run.flights.len(),
            2,
            "{kind:?}: asked again on a new connection"
        );
        run.granted();
    }
    assert!(Replies::new(b"").next_reply().is_err());
}
