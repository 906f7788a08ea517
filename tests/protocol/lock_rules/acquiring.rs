//! Trying, waiting, lost answers, and what is left over.

use super::driver::{End, Fate, Names, OTHER, World, lease, nonce};
use super::server::{EPOCH, FakeServer, Kind, SECOND, Time, nanos, secs};
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, Contended, HolderRecord, LossReason, OwnerId, RecordAcquire,
    Release, ReleaseStatus, ServerError, SleepReason, WaitPolicy,
};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The value of the record of `nonce(number)`.
fn record(number: u64, lease: u64, since: u64) -> String {
    let nonce = u128::from(number) << 64 | 0xfeed;
    format!("m1 {nonce:032x} {lease} {since} 4711 db-7 nightly")
}

/// Rule R2 of the notes on memcached: `floor(s + LB) + ceil(D) + 3`, `LB` taken from one reading
/// of the server's second.
fn rule(second: u64, read_at: Time, sent: Time, lease: u64) -> u64 {
    second + (sent - read_at) / SECOND + lease.div_ceil(1000) + 3
}

#[test]
fn free_lock_takes_one_flight() {
    for kind in Kind::ALL {
        let names = Names::new("invoices/42");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        // In the first of the two flights of the handshake.
        let read_at = world.now - 2 * nanos(world.trip);
        let sent = world.now;
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);

        let second = EPOCH + 1000;
        let expiry = rule(second, read_at, sent, 10_000);
        // Never ahead of the server, even if its clock and ours have run apart since.
        let seed = second * SECOND + (sent - read_at) - (sent - read_at) / 99;
        let record = record(1, 10_000, second);
        let (lock, fence, sentinel) = (names.lock(), names.fence(), names.sentinel());
        let expected = match kind {
            Kind::Meta | Kind::MetaWithoutE => format!(
                "add {lock} 0 {expiry} {}\r\n{record}\r\n\
                 mg {lock} t c v\r\n\
                 ma {fence} N86400 J{seed} D1 t v\r\n\
                 mg {sentinel} u t l v\r\n",
                record.len()
            ),
            Kind::Classic => format!(
                "add {lock} 0 {expiry} {}\r\n{record}\r\n\
                 gets {lock}\r\n\
                 add {fence} 0 86400 19\r\n{seed}\r\n\
                 incr {fence} 1\r\n\
                 gets {sentinel}\r\n\
                 stats\r\n",
                record.len()
            ),
        };
        let sent_bytes: Vec<_> = run.flights.iter().map(|flown| &*flown.bytes).collect();
        assert_eq!(sent_bytes, [expected], "{kind:?}");
        assert_eq!(run.flights[0].sent, sent, "it did not hesitate");
        assert!(run.pauses.is_empty());

        let grant = run.granted();
        assert_eq!(lock, "memlatch:lock:invoices/42");
        assert_eq!(grant.expiry, expiry);
        assert_eq!(grant.owner_id, OwnerId::Nonce(nonce(1)));
        assert_eq!(
            grant.record().expect("a record").as_bytes(),
            record.as_bytes()
        );
        assert_eq!(grant.sent_at, world.clients[0].moment(sent));
        let until = world.clients[0].moment(sent + secs(10.0));
        assert_eq!(
            grant.valid_until, until,
            "from before the first byte was sent"
        );
        // The classic protocol cannot make a counter and count in one.
        let counted = u64::from(kind == Kind::Classic);
        assert_eq!(grant.token, Some(seed + counted));
        let item = world.server.item(world.now, lock.as_bytes());
        let item = item.expect("the record stands").clone();
        assert_eq!((item.cas, item.expiry), (grant.cas, Some(expiry)));
        assert_eq!(acquire.orphan().map(|left| left.owner_id), None);
    }
}

#[test]
fn without_fencing_no_counter_is_touched() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let request = AcquireRequest {
            fencing: false,
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(!run.flights[0].bytes.contains(&names.fence()));
        assert_eq!(run.granted().token, None);
        assert!(
            world
                .server
                .item(world.now, names.fence().as_bytes())
                .is_none()
        );
    }
}

#[test]
fn expiry_follows_rule_at_every_moment() {
    for kind in Kind::ALL {
        for delay in (0..3000).step_by(83) {
            for length in [100, 999, 1000, 1001, 2500, 10_000] {
                let names = Names::new("L");
                let mut world = World::new(kind);
                world.connect(0).expect("a server");
                let read_at = world.now;
                world.wait(millis(delay));
                let sent = world.now;
                let run = world.run(&mut RecordAcquire::new(
                    names.request(lease(length)),
                    nonce(1),
                ));
                let grant = run.granted();
                let expiry = rule(EPOCH + 1000, read_at, sent, length);
                assert_eq!(grant.expiry, expiry, "{kind:?} {delay} {length}");
                let until = sent + nanos(millis(length));
                let believed = world.clients[0].true_time(grant.valid_until);
                assert!(believed <= until, "{kind:?} {delay} {length}");
                // Cut short only by what one reading leaves open: its trip, and clocks that may
                // have run apart.
                let open = 2 * nanos(world.trip) + (until - read_at) / 45;
                assert!(believed + open >= until, "{kind:?} {delay} {length}");
                // And so the record outlives its guard.
                let record = world.server.item(believed - 1, names.lock().as_bytes());
                assert!(record.is_some(), "{kind:?} {delay} {length}");
            }
        }
    }
}

#[test]
fn held_lock_is_refused_with_holder() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.other_holds(&names, 20);
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        assert_eq!(run.flights.len(), 1, "once is once");
        let AcquireOutcome::Contended(Contended {
            holder,
            free_in: left,
        }) = run.outcome()
        else {
            panic!("{kind:?}: not refused");
        };
        let holder = holder.expect("a record of ours");
        assert_eq!(
            Some(&holder),
            HolderRecord::parse(OTHER.as_bytes()).as_ref()
        );
        assert_eq!((holder.host.as_str(), holder.pid), ("elsewhere", 77));
        assert_eq!(
            (holder.label.as_str(), holder.lease),
            ("job 7", secs_of(20))
        );
        // Only the meta protocol reports how long it has left.
        assert_eq!(left.is_some(), kind != Kind::Classic);
        assert!(acquire.orphan().is_none(), "nothing of ours stands there");
        assert_eq!(world.record(&names).as_deref(), Some(OTHER));
    }
}

fn secs_of(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn foreign_value_is_a_nameless_holder() {
    for kind in Kind::ALL {
        for value in [&b""[..], b"hello", b"m2 of a later layout", b"m1"] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world
                .server
                .set(world.now, names.lock().as_bytes(), value, 0);
            let run = world.run(&mut RecordAcquire::new(
                names.request(lease(1000)),
                nonce(1),
            ));
            let AcquireOutcome::Contended(refusal) = run.outcome() else {
                panic!("{kind:?}: not refused");
            };
            assert_eq!(refusal.holder, None);
            let item = world.server.item(world.now, names.lock().as_bytes());
            assert_eq!(item.expect("untouched").value, value);
        }
    }
}

#[test]
fn waiter_polls_until_lock_is_released() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.other_holds(&names, 60);
        let began = world.now;
        let released = began + secs(7.3);
        let lock = names.keys.lock().as_bytes().to_vec();
        world.at(released, move |server, _| server.delete(&lock));
        let request = AcquireRequest {
            wait: WaitPolicy::Forever,
            ..names.request(lease(2000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        let look = match kind {
            Kind::Classic => format!("gets {}\r\n", names.lock()),
            _ => format!("mg {} t c v\r\n", names.lock()),
        };
        let (last, looks) = run.flights.split_last().expect("flights");
        assert!(last.bytes.starts_with("add "));
        assert!(looks[0].bytes.starts_with("add "), "the first try may win");
        assert!(
            looks[1..].iter().all(|flown| flown.bytes == look),
            "{looks:?}"
        );
        assert!(
            run.pauses
                .iter()
                .all(|(_, why)| *why == SleepReason::Contended)
        );
        // Two looks a second once it has been watched for long, and more before.
        assert!((14..80).contains(&looks.len()), "{} looks", looks.len());
        assert!(last.sent >= released && last.sent < released + secs(0.7));
        let (sent, client) = (last.sent, &world.clients[0]);
        assert_eq!(
            run.granted().sent_at,
            client.moment(sent),
            "waiting costs no lease"
        );
    }
}

#[test]
fn wait_ends_with_one_last_attempt() {
    for kind in Kind::ALL {
        for patience in [0, 1, 10, 777, 4000] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            world.other_holds(&names, 60);
            let end = world.now + nanos(millis(patience));
            let request = AcquireRequest {
                wait: WaitPolicy::Until(world.clients[0].moment(end)),
                ..names.request(lease(2000))
            };
            let mut acquire = RecordAcquire::new(request, nonce(1));
            let run = world.run(&mut acquire);
            let over = 2 * nanos(world.trip);
            assert!(world.now <= end + over, "{kind:?} {patience}");
            assert!(world.now >= end, "{kind:?} {patience}: gave up early");
            let last = run.flights.last().expect("flights").sent;
            // A lock that is released in the last moment is still had.
            assert!(
                last + over >= end,
                "{kind:?} {patience}: the last look was early"
            );
            let AcquireOutcome::Contended(refusal) = run.outcome() else {
                panic!("{kind:?}: not refused");
            };
            assert!(refusal.holder.is_some());
        }
    }
}

#[test]
fn single_attempt_sends_few_flights() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        // The record is forgotten as soon as it is stored.
        let mut world = World::new(kind);
        world.server.forgets.push(names.lock().into_bytes());
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(1000)),
            nonce(1),
        ));
        assert!(run.flights.len() <= 5, "{}", run.flights.len());
        assert_eq!(run.failed(), ServerError::DropsItems);

        // It is refused by a holder that is gone when we look.
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        let (end, eof): (&[u8], &[u8]) = match kind {
            Kind::Classic => (b"END\r\n", b"NOT_STORED\r\n5\r\n"),
            _ => (b"EN\r\n", b"VA 1\r\n5\r\n"),
        };
        let mut reply = [b"NOT_STORED\r\n", end, eof].concat();
        let rest = format!("{}\r\n", names.sentinel());
        let rest = match kind {
            Kind::Classic => format!("gets {rest}stats\r\n"),
            _ => format!("mg {} u t l v\r\n", names.sentinel()),
        };
        reply.extend(world.server.handle(world.now, 0, rest.as_bytes()));
        world.usual = Fate::Instead(reply);
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(1000)),
            nonce(1),
        ));
        assert!(run.flights.len() <= 5, "{}", run.flights.len());
        assert!(matches!(run.outcome(), AcquireOutcome::Contended(_)));
    }
}

#[test]
fn unanswered_attempt_is_repeated_and_recognized() {
    for kind in Kind::ALL {
        for lost in 1..4 {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            world.fates.extend(vec![Fate::Mute; lost]);
            let request = AcquireRequest {
                retry_timeout: secs_of(5),
                ..names.request(lease(10_000))
            };
            let first = world.now;
            let mut acquire = RecordAcquire::new(request, nonce(1));
            let run = world.run(&mut acquire);
            assert_eq!(run.flights.len(), lost + 1);
            for repeated in &run.flights[1..] {
                // The same expiry and the same nonce; only the seed of the counter moves on.
                let stored = |bytes: &str| bytes.split("\r\n").take(2).collect::<String>();
                assert_eq!(
                    stored(&repeated.bytes),
                    stored(&run.flights[0].bytes),
                    "{kind:?}"
                );
            }
            let why: Vec<_> = run.pauses.iter().map(|(_, why)| *why).collect();
            assert_eq!(why, vec![SleepReason::Unreachable; lost]);
            let grant = run.granted();
            assert_eq!(
                grant.sent_at,
                world.clients[0].moment(first),
                "the first send counts"
            );
            let until = world.clients[0].moment(first + secs(10.0));
            assert_eq!(
                grant.valid_until, until,
                "{kind:?}: no lease is won by repeating"
            );
            assert!(acquire.orphan().is_none());
        }
    }
}

#[test]
fn lost_attempt_keeps_its_first_expiry() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.extend([Fate::Lost, Fate::Lost, Fate::Lost]);
        let request = AcquireRequest {
            retry_timeout: secs_of(5),
            ..names.request(lease(10_000))
        };
        let first = world.now;
        let grant = world
            .run(&mut RecordAcquire::new(request, nonce(1)))
            .granted();
        assert_eq!(grant.sent_at, world.clients[0].moment(first));
        let expiry = rule(EPOCH + 1000, first, first, 10_000);
        assert_eq!(grant.expiry, expiry);
        let item = world.server.item(world.now, names.lock().as_bytes());
        assert_eq!(item.expect("stands").expiry, Some(expiry));
    }
}

#[test]
fn unsent_attempt_starts_no_lease() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.extend([Fate::Unsent, Fate::Unsent]);
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        let last = run.flights[2].sent;
        assert!(last > run.flights[0].sent);
        assert_eq!(run.granted().sent_at, world.clients[0].moment(last));
    }
}

/// The first request was carried out and its reply lost; the record has vanished since.
#[test]
fn lease_counts_from_first_lost_send() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.push_back(Fate::Mute);
        let lock = names.keys.lock().as_bytes().to_vec();
        world.before_flight(1, move |server, _| server.evict(&lock));
        let first = world.now;
        let grant = world
            .run(&mut RecordAcquire::new(
                names.request(lease(10_000)),
                nonce(1),
            ))
            .granted();
        assert_eq!(grant.owner_id, OwnerId::Nonce(nonce(1)));
        assert_eq!(grant.sent_at, world.clients[0].moment(first));
        assert_eq!(grant.expiry, rule(EPOCH + 1000, first, first, 10_000));
        let item = world.server.item(world.now, names.lock().as_bytes());
        assert_eq!(item.expect("stands").cas, grant.cas);
    }
}

#[test]
fn lost_refusal_is_refused_again() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.other_holds(&names, 20);
        world.fates.push_back(Fate::Mute);
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.outcome(), AcquireOutcome::Contended(_)),
            "{kind:?}"
        );
        assert_eq!(world.record(&names).as_deref(), Some(OTHER));
    }
}

#[test]
fn reply_after_lease_is_no_grant() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.push_back(Fate::Slow(millis(1), millis(1500)));
        let request = AcquireRequest {
            min_memory: None,
            ..names.request(lease(1000))
        };
        let mut acquire = RecordAcquire::new(request, nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}: {run:?}"
        );
        assert_eq!(world.record(&names), None, "{kind:?}: the ghost was laid");
        assert!(acquire.orphan().is_none());
    }
}

#[test]
fn attempt_older_than_lease_is_dropped() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.patience = millis(700);
        world.fates.extend([Fate::Lost, Fate::Lost]);
        let request = AcquireRequest {
            retry_timeout: secs_of(5),
            ..names.request(lease(1000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        let (first, third) = (&run.flights[0].bytes, &run.flights[2].bytes);
        let nonce_of = |bytes: &str| bytes.split(' ').nth(5).map(str::to_owned);
        assert!(nonce_of(first).is_some_and(|nonce| nonce.len() == 32));
        assert_eq!(nonce_of(first), nonce_of(&run.flights[1].bytes));
        assert_ne!(
            nonce_of(first),
            nonce_of(third),
            "{kind:?}: a new lease, a new nonce"
        );
        let sent = run.flights[2].sent;
        let grant = run.granted();
        assert_eq!(grant.sent_at, world.clients[0].moment(sent));
        assert_eq!(grant.owner_id, OwnerId::Nonce(nonce(1).next()));
    }
}

/// The client gives up after 1.1 s on an attempt with a lease of 1 s, which is carried out
/// `after` that time; then it tries again.
fn late_attempt(kind: Kind, after: u64) -> (World, Names, u64, End<AcquireOutcome>) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    world.connect(0).expect("a server");
    world.patience = millis(1100);
    world.fates.push_back(Fate::Late(millis(after)));
    let expiry = rule(EPOCH + 1000, world.now, world.now, 1000);
    let request = AcquireRequest {
        retry_timeout: secs_of(5),
        wait: WaitPolicy::Forever,
        ..names.request(lease(1000))
    };
    let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
    (world, names, expiry, run.end)
}

/// A lost attempt that the server runs before the next one is not taken for it.
#[test]
fn earlier_late_attempt_is_not_confused() {
    for kind in Kind::ALL {
        // Between the moment of giving up and the next attempt.
        let (world, _, first_expiry, end) = late_attempt(kind, 1105);
        let End::Done(AcquireOutcome::Granted(grant)) = end else {
            panic!("{kind:?}: {end:?}");
        };
        assert_ne!(
            grant.owner_id,
            OwnerId::Nonce(nonce(1)),
            "{kind:?}: the first lease was over"
        );
        assert!(grant.expiry > first_expiry);
        // The ghost of the first attempt was recognised, and not waited for.
        assert!(
            world.now < secs(1000.25 + 1.5),
            "{kind:?}: the ghost stood for too long"
        );
    }
}

#[test]
fn late_attempt_after_next_changes_nothing() {
    for kind in Kind::ALL {
        let (mut world, names, first_expiry, end) = late_attempt(kind, 1300);
        let End::Done(AcquireOutcome::Granted(grant)) = end else {
            panic!("{kind:?}: {end:?}");
        };
        let before = world.record(&names);
        world.wait(millis(500));
        assert_eq!(
            world.record(&names),
            before,
            "{kind:?}: `add` does not replace"
        );

        // Released just before it runs, it leaves a ghost, and that until its first expiry.
        let (mut world, names, _, _) = late_attempt(kind, 1300);
        let give_up = world.clients[0].moment(world.now + SECOND);
        let mut release = Release::new(&names.keys, &grant, grant.cas, give_up);
        assert_eq!(world.run(&mut release).outcome(), ReleaseStatus::Released);
        world.wait(millis(500));
        assert!(world.record(&names).is_some(), "the test lost its ghost");
        while world.server.second(world.now) < first_expiry {
            world.wait(millis(100));
        }
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

#[test]
fn silent_server_ends_acquisition_in_doubt() {
    for kind in Kind::ALL {
        for patience in [WaitPolicy::Try, WaitPolicy::Forever] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.connect(0).expect("a server");
            world.usual = Fate::Lost;
            let request = AcquireRequest {
                wait: patience,
                retry_timeout: millis(1500),
                ..names.request(lease(10_000))
            };
            let began = world.now;
            let mut acquire = RecordAcquire::new(request, nonce(1));
            let run = world.run(&mut acquire);
            assert!(
                matches!(run.end, End::GaveUp { unknown: true }),
                "{kind:?}: {run:?}"
            );
            assert!(run.flights.len() > 1, "it tried more than once");
            // The silence is counted from when it is known, plus the flight under way.
            let spent = Duration::from_nanos(world.now - began);
            assert!(
                spent >= millis(1000) && spent <= millis(1500 + 2 * 200 + 10),
                "{spent:?}"
            );
            let leftover = acquire.orphan().expect("something was sent");
            assert_eq!(leftover.owner_id, OwnerId::Nonce(nonce(1)));
            let until = world.clients[0].moment(began + secs(10.0));
            assert!(
                leftover.expires_at >= until,
                "the record may stand for its lease"
            );
            assert_eq!(leftover.instance, world.view(0).instance);
        }
    }
}

#[test]
fn callers_deadline_precedes_retry_limit() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.usual = Fate::Lost;
        let end = world.now + secs(0.9);
        let request = AcquireRequest {
            wait: WaitPolicy::Until(world.clients[0].moment(end)),
            retry_timeout: secs_of(60),
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(
            matches!(run.end, End::GaveUp { unknown: true }),
            "{kind:?}: {run:?}"
        );
        // At most the flight that was under way.
        assert!(world.now <= end + nanos(world.patience), "{kind:?}");
    }
}

#[test]
fn unsent_request_leaves_nothing() {
    for kind in Kind::ALL {
        // No server is there.
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.unreachable_until = Time::MAX;
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}: {run:?}"
        );
        assert!(run.flights.is_empty() && run.pauses.len() > 2);
        assert!(acquire.orphan().is_none());

        // Connected, and every write fails at its first byte.
        let mut world = World::new(kind);
        world.usual = Fate::Unsent;
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}: {run:?}"
        );
        assert!(run.flights.len() > 2);
        assert!(acquire.orphan().is_none());
    }
}

/// A request that was sent once may be stored although later attempts never left.
#[test]
fn sent_request_stays_in_doubt() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.fates.push_back(Fate::Mute);
        world.usual = Fate::Unsent;
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: true }),
            "{kind:?}: {run:?}"
        );
        assert_eq!(
            acquire.orphan().map(|left| left.owner_id),
            Some(OwnerId::Nonce(nonce(1)))
        );
        assert!(world.record(&names).is_some());
    }
}

/// Gives up on an attempt whose fate this was, and undoes it.
fn take_back(
    kind: Kind,
    fate: Fate,
    meanwhile: impl FnOnce(&mut World, &Names),
) -> (World, Names, ReleaseStatus, Vec<String>) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    world.connect(0).expect("a server");
    world.usual = fate;
    let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
    let run = world.run(&mut acquire);
    assert!(
        matches!(run.end, End::GaveUp { unknown: true }),
        "{kind:?}: {run:?}"
    );
    world.usual = Fate::Answered;
    let leftover = acquire.orphan().expect("something was sent");
    meanwhile(&mut world, &names);
    let give_up = world.clients[0].moment(world.now + SECOND);
    let run = world.run(&mut Release::for_orphan(&names.keys, &leftover, give_up));
    let bytes = run
        .flights
        .iter()
        .map(|flown| flown.bytes.clone())
        .collect();
    (world, names, run.outcome(), bytes)
}

fn is_look(flight: &str, names: &Names) -> bool {
    flight == format!("gets {}\r\n", names.lock())
        || flight == format!("mg {} t c v\r\n", names.lock())
}

fn only_looks(flights: &[String], names: &Names) -> bool {
    (1..5).contains(&flights.len()) && flights.iter().all(|flight| is_look(flight, names))
}

#[test]
fn slightly_late_leftover_is_undone() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.patience = millis(50);
        world.fates.push_back(Fate::Late(millis(70)));
        world.unreachable_until = world.now + secs(0.06);
        let request = AcquireRequest {
            retry_timeout: Duration::ZERO,
            ..names.request(lease(10_000))
        };
        let mut acquire = RecordAcquire::new(request, nonce(1));
        let run = world.run(&mut acquire);
        assert!(
            matches!(run.end, End::GaveUp { unknown: true }),
            "{kind:?}: {run:?}"
        );
        world.wait(millis(12));
        assert_eq!(world.record(&names), None, "the test is about a late one");
        let leftover = acquire.orphan().expect("something was sent");
        let give_up = world.clients[0].moment(world.now + SECOND);
        let mut release = Release::for_orphan(&names.keys, &leftover, give_up);
        world.run(&mut release);
        world.wait(millis(100));
        assert_eq!(world.record(&names), None, "{kind:?}: it stands");
    }
}

#[test]
fn only_own_leftover_is_undone() {
    for kind in Kind::ALL {
        let (mut world, names, released, flights) = take_back(kind, Fate::Mute, |_, _| {});
        assert_eq!(released, ReleaseStatus::Released, "{kind:?}");
        assert_eq!(world.record(&names), None);
        assert_eq!(
            flights.len(),
            4,
            "a look for the CAS unique, the release, and two looks for a late twin"
        );

        // It was never carried out. As it still may be, more than one look is allowed.
        let (_, names, released, flights) = take_back(kind, Fate::Lost, |_, _| {});
        assert_eq!(released, ReleaseStatus::AlreadyLost(LossReason::Missing));
        assert!(only_looks(&flights, &names), "{kind:?}: {flights:?}");

        // It was carried out, and has given way to another since.
        let (mut world, names, released, flights) = take_back(kind, Fate::Mute, |world, names| {
            world.server.evict(names.keys.lock().as_bytes());
            world.other_holds(names, 20);
        });
        assert_eq!(released, ReleaseStatus::AlreadyLost(LossReason::TakenOver));
        assert!(only_looks(&flights, &names), "{kind:?}: {flights:?}");
        assert_eq!(world.record(&names).as_deref(), Some(OTHER));

        // The server has forgotten it, and CAS uniques start anew.
        let (mut world, names, released, flights) = take_back(kind, Fate::Mute, |world, names| {
            world.server.restart(world.now);
            world.other_holds(names, 20);
        });
        assert_eq!(
            released,
            ReleaseStatus::AlreadyLost(LossReason::ServerRestarted)
        );
        assert_eq!(flights, Vec::<String>::new(), "{kind:?}: not a byte");
        assert_eq!(world.record(&names).as_deref(), Some(OTHER));
    }
}

#[test]
fn attempt_is_not_repeated_after_restart() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.fates.push_back(Fate::Mute);
        world.before_flight(1, FakeServer::restart);
        let request = AcquireRequest {
            min_memory: None,
            ..names.request(lease(10_000))
        };
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        let sent = run.flights[1].sent;
        let grant = run.granted();
        assert_eq!(grant.instance, world.view(0).instance);
        assert_eq!(
            grant.sent_at,
            world.clients[0].moment(sent),
            "nothing is left of the first"
        );
        assert_ne!(grant.owner_id, OwnerId::Nonce(nonce(1)), "{kind:?}");
    }
}

#[test]
fn old_clock_sample_is_refreshed_first() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.wait(secs_of(3600));
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(10_000)),
            nonce(1),
        ));
        assert_eq!(run.flights.len(), 2, "{kind:?}");
        assert!(!run.flights[0].bytes.contains("add "));
        let read_at = run.flights[0].sent + 2 * nanos(world.trip);
        let sent = run.flights[1].sent;
        let second = EPOCH + 4600;
        assert_eq!(run.granted().expiry, rule(second, read_at, sent, 10_000));
    }
}

#[test]
fn inexpressible_lease_is_refused_before_sending() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        // Fewer than thirty days before the end of 32-bit seconds.
        let end = u64::from(i32::MAX.unsigned_abs());
        let now = world.clients[0].now(world.now).monotonic;
        let view = world.clients[0].view.as_mut().expect("connected");
        view.clock.observe(end - 86_400, now, now);
        let request = names.request(lease(30 * 86_400_000));
        let run = world.run(&mut RecordAcquire::new(request, nonce(1)));
        assert!(run.flights.is_empty(), "{kind:?}: {run:?}");
        assert!(matches!(run.failed(), ServerError::Lease(_)));
    }
}

#[test]
fn full_server_reports_holder_or_memory() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.memory_full = true;
        let mut acquire = RecordAcquire::new(names.request(lease(1000)), nonce(1));
        let run = world.run(&mut acquire);
        assert_eq!(run.failed(), ServerError::OutOfMemory, "{kind:?}");
        assert!(acquire.orphan().is_none(), "nothing was stored");

        world.server.memory_full = false;
        world.other_holds(&names, 20);
        world.server.memory_full = true;
        let run = world.run(&mut RecordAcquire::new(
            names.request(lease(1000)),
            nonce(2),
        ));
        let AcquireOutcome::Contended(refusal) = run.outcome() else {
            panic!("{kind:?}: not refused");
        };
        assert!(refusal.holder.is_some());
        assert_eq!(world.record(&names).as_deref(), Some(OTHER), "untouched");
    }
}

#[test]
fn server_found_without_cas_is_refused() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        world.server.cas_enabled = false;
        // The attempt stands there and cannot be undone safely: it runs out by itself.
        let mut acquire = RecordAcquire::new(names.request(lease(10_000)), nonce(1));
        let run = world.run(&mut acquire);
        assert_eq!(run.failed(), ServerError::NoCas, "{kind:?}");
    }
}

#[test]
fn detected_stall_shortens_the_grant() {
    for kind in Kind::ALL {
        for length in [1, 3, 5, 10, 20] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.server.stall(world.now, secs(1005.0));
            world.advance(secs(1004.9));
            world.connect(0).expect("a server");
            world.advance(secs(1005.1));
            let request = AcquireRequest {
                wait: WaitPolicy::Forever,
                ..names.request(lease(length * 1000))
            };
            let grant = world
                .run(&mut RecordAcquire::new(request, nonce(1)))
                .granted();
            assert!(world.view(0).clock.is_steady(), "the tick was seen");
            let believed = world.clients[0].true_time(grant.valid_until);
            let record = world.server.item(believed - 1, names.lock().as_bytes());
            assert!(
                record.is_some(),
                "{kind:?}: a lease of {length} s outlasts its record"
            );
        }
    }
}
