//! Renewing, releasing and inspecting what is held.

use super::driver::{End, Fate, Names, OTHER, World, lease, longest, nonce};
use super::server::{EPOCH, FakeServer, Kind, SECOND, secs};
use core::time::Duration;
use memlatch::proto::{
    AcquireRequest, Grant, HolderRecord, Inspect, InspectOutcome, Lease, LockTicket, LossReason,
    RecordAcquire, Release, ReleaseStatus, Renew, RenewOutcome, SampleClock, ServerError,
    SessionId,
};
use memlatch::wire::TimeLeft;

/// A lock held by client 0 for ten seconds, half a second ago.
fn held(kind: Kind) -> (World, Names, Grant) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    let grant = world.hold(0, &names, lease(10_000));
    world.wait(Duration::from_millis(500));
    (world, names, grant)
}

fn renew<'a>(names: &'a Names, grant: &'a Grant, cas: u64) -> Renew<'a> {
    Renew::new(&names.namespace, &names.keys, grant, lease(10_000), cas)
}

fn release<'a>(world: &World, names: &'a Names, grant: &Grant, cas: u64) -> Release<'a> {
    let give_up = world.clients[0].moment(world.now + SECOND);
    Release::new(&names.keys, grant, cas, give_up)
}

/// Any client that reads the record or the parts may take the lock over after the lease stated
/// there.
#[test]
fn stated_lease_covers_the_holders() {
    for kind in Kind::ALL {
        for micros in [100_001, 100_999, 101_000, 2_000_001] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            let asked = Duration::from_micros(micros);
            let lease = Lease::new(asked).expect("in range");
            let grant = world.hold(0, &names, lease);
            let counted = grant.valid_until.since(grant.sent_at);
            assert!(counted >= asked, "{kind:?}: {counted:?} of {asked:?}");
            let value = world.record(&names).expect("a record");
            let stated = HolderRecord::parse(value.as_bytes()).expect("ours").lease;
            let parts = LockTicket::new(&names.namespace, "L", &grant, grant.cas, grant.expiry);
            let handed: LockTicket = parts.to_string().parse().expect("ours");
            let handed = handed.lease();
            assert!(stated >= counted && handed >= counted, "{kind:?} {asked:?}");
        }
    }
}

/// Another's record takes the place of the one that is held.
fn overtake(world: &mut World, names: &Names) {
    world.server.evict(names.keys.lock().as_bytes());
    world.other_holds(names, 20);
}

#[test]
fn renewal_takes_one_flight() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let sent = world.now;
        // The last reading was that of the acquisition, in the same second of the server.
        let second = EPOCH + 1000;
        let expiry = second + 13;
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        let (lock, sentinel, cas) = (names.lock(), names.sentinel(), grant.cas);
        let record = grant.record().expect("a record");
        let record = core::str::from_utf8(record.as_bytes()).expect("text");
        let expected = match kind {
            // Without `E`: the CAS unique must change, or a late renewal would still fit.
            Kind::Meta | Kind::MetaWithoutE => {
                format!(
                    "md {lock} C{cas} I T{expiry}\r\nmg {lock} t c v\r\nmg {sentinel} u t l v\r\n"
                )
            }
            Kind::Classic => format!(
                "cas {lock} 0 {expiry} {} {cas}\r\n{record}\r\n\
                 gets {lock}\r\ngets {sentinel}\r\nstats\r\n",
                record.len()
            ),
        };
        assert_eq!(run.flights.len(), 1);
        assert_eq!(run.flights[0].bytes, expected, "{kind:?}");
        let item = world.server.item(world.now, lock.as_bytes());
        let item = item.expect("stands").clone();
        assert_eq!(item.expiry, Some(expiry));
        assert_eq!(item.value, grant.record().expect("a record").as_bytes());
        // The new CAS unique must be the one that is reported.
        assert_ne!(item.cas, grant.cas);
        let (client, until) = (&world.clients[0], sent + secs(10.0));
        let renewed = RenewOutcome::Renewed {
            cas: item.cas,
            expiry,
            sent: client.moment(sent),
            valid_until: client.moment(until),
        };
        assert_eq!(run.outcome(), renewed, "{kind:?}");
    }
}

#[test]
fn renewed_lease_counts_from_sending() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let sent = world.now;
        let slow = Duration::from_millis(1200);
        world.fates.push_back(Fate::Slow(slow, slow));
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        let RenewOutcome::Renewed { valid_until, .. } = run.outcome() else {
            panic!("{kind:?}: lost");
        };
        assert!(valid_until <= world.clients[0].moment(sent + secs(10.0)));
    }
}

#[test]
fn unanswered_renewal_keeps_the_lock() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Mute);
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert!(matches!(run.end, End::GaveUp { unknown: true }), "{kind:?}");

        // The record has another CAS unique now, which only a look can show.
        world.wait(Duration::from_millis(300));
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert_eq!(run.flights.len(), 2, "{kind:?}: {:?}", run.flights);
        let sent = run.flights.last().expect("flights").sent;
        let RenewOutcome::Renewed {
            cas, valid_until, ..
        } = run.outcome()
        else {
            panic!("{kind:?}: lost");
        };
        let client = &world.clients[0];
        assert_eq!(valid_until, client.moment(sent + secs(10.0)));
        let item = world.server.item(world.now, names.lock().as_bytes());
        assert_eq!(item.expect("stands").cas, cas);
    }
}

#[test]
fn unsent_renewal_is_not_in_doubt() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Unsent);
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}"
        );
    }
}

#[test]
fn renewal_detects_another_holder() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        overtake(&mut world, &names);
        let before = world
            .server
            .item(world.now, names.lock().as_bytes())
            .cloned();
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert_eq!(run.flights.len(), 1);
        assert_eq!(
            run.outcome(),
            RenewOutcome::Lost(LossReason::TakenOver),
            "{kind:?}"
        );
        let after = world.server.item(world.now, names.lock().as_bytes());
        let (after, before) = (after.expect("stands"), before.expect("stood"));
        assert_eq!(
            after.expiry, before.expiry,
            "{kind:?}: another's lease was changed"
        );
        assert_eq!((after.cas, &after.value), (before.cas, &before.value));
    }
}

#[test]
fn renewal_detects_a_missing_record() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.server.evict(names.lock().as_bytes());
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert_eq!(
            run.outcome(),
            RenewOutcome::Lost(LossReason::Missing),
            "{kind:?}"
        );
        assert_eq!(
            world.record(&names),
            None,
            "{kind:?}: it must not come back"
        );
    }
}

#[test]
fn changed_instance_gets_no_requests() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.server.restart(world.now);
        world.other_holds(&names, 20);
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert!(run.flights.is_empty(), "{kind:?}: {run:?}");
        assert_eq!(
            run.outcome(),
            RenewOutcome::Lost(LossReason::ServerRestarted)
        );

        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        assert!(run.flights.is_empty(), "{kind:?}: {run:?}");
        assert_eq!(
            run.outcome(),
            ReleaseStatus::AlreadyLost(LossReason::ServerRestarted)
        );
        assert_eq!(world.record(&names).as_deref(), Some(OTHER));
    }
}

#[test]
fn restart_between_flights_is_detected() {
    for kind in Kind::ALL {
        // An unanswered renewal has changed the CAS unique, so both need a second flight.
        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Mute);
        world.run(&mut renew(&names, &grant, grant.cas));
        world.before_flight(1, FakeServer::restart);
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert_eq!(run.flights.len(), 1, "{kind:?}");
        assert_eq!(
            run.outcome(),
            RenewOutcome::Lost(LossReason::ServerRestarted)
        );

        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Mute);
        world.run(&mut renew(&names, &grant, grant.cas));
        world.before_flight(2, FakeServer::restart);
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        assert_eq!(run.flights.len(), 2, "{kind:?}");
        assert_eq!(
            run.outcome(),
            ReleaseStatus::AlreadyLost(LossReason::ServerRestarted)
        );
    }
}

#[test]
fn renewal_on_full_server_loses_nothing() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.server.memory_full = true;
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        match kind {
            // It stores the record anew.
            Kind::Classic => assert_eq!(
                run.outcome(),
                RenewOutcome::Failed(ServerError::OutOfMemory)
            ),
            // It needs no memory.
            _ => assert!(matches!(run.outcome(), RenewOutcome::Renewed { .. })),
        }
        assert!(
            world.record(&names).is_some(),
            "{kind:?}: the lease runs on"
        );
    }
}

#[test]
fn renewal_tolerates_a_missing_sentinel() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.server.evict(names.sentinel().as_bytes());
        let run = world.run(&mut renew(&names, &grant, grant.cas));
        assert!(
            matches!(run.outcome(), RenewOutcome::Renewed { .. }),
            "{kind:?}"
        );
    }
}

#[test]
fn release_takes_one_flight() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        let (lock, cas) = (names.lock(), grant.cas);
        let expected = match kind {
            Kind::Classic => format!("cas {lock} 0 2592001 0 {cas}\r\n\r\n"),
            _ => format!("md {lock} C{cas}\r\n"),
        };
        assert_eq!(run.flights.len(), 1);
        assert_eq!(run.flights[0].bytes, expected, "{kind:?}");
        assert_eq!(run.outcome(), ReleaseStatus::Released);
        assert_eq!(world.record(&names), None, "{kind:?}");
        // And at once another client can have it.
        world.hold(1, &names, lease(1000));
    }
}

/// A release whose reply was lost looks for the record and succeeds.
#[test]
fn unanswered_release_is_verified() {
    for kind in Kind::ALL {
        for fate in [Fate::Mute, Fate::Lost] {
            let (mut world, names, grant) = held(kind);
            world.fates.push_back(fate.clone());
            let mut op = release(&world, &names, &grant, grant.cas);
            let run = world.run(&mut op);
            assert_eq!(run.outcome(), ReleaseStatus::Released, "{kind:?} {fate:?}");
            assert_eq!(world.record(&names), None, "{kind:?} {fate:?}");
        }
        // While it was in doubt, another holder came: that is no loss, and its record stays.
        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Mute);
        let lock = names.lock();
        world.before_flight(1, move |server, at| {
            let request = format!("add {lock} 0 {} 5\r\nother\r\n", EPOCH + 2000);
            let reply = server.handle(at, super::server::NOBODY, request.as_bytes());
            assert_eq!(reply, b"STORED\r\n");
        });
        let mut op = release(&world, &names, &grant, grant.cas);
        assert_eq!(
            world.run(&mut op).outcome(),
            ReleaseStatus::Released,
            "{kind:?}"
        );
        assert_eq!(world.record(&names).as_deref(), Some("other"));
    }
}

#[test]
fn silent_release_ends_in_doubt() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.usual = Fate::Lost;
        let end = world.now + SECOND;
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        assert!(matches!(run.end, End::GaveUp { unknown: true }), "{kind:?}");
        assert!(world.now <= end + secs(0.2));

        let (mut world, names, grant) = held(kind);
        world.usual = Fate::Unsent;
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        assert!(
            matches!(run.end, End::GaveUp { unknown: false }),
            "{kind:?}"
        );
        assert!(world.record(&names).is_some());
    }
}

#[test]
fn release_accepts_unanswered_renewals_cas() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Mute);
        world.run(&mut renew(&names, &grant, grant.cas));
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        // Refused, a look, and the release proper.
        assert_eq!(run.flights.len(), 3, "{kind:?}: {:?}", run.flights);
        assert_eq!(run.outcome(), ReleaseStatus::Released);
        assert_eq!(world.record(&names), None, "{kind:?}");
    }
}

#[test]
fn release_spares_another_holders_record() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        overtake(&mut world, &names);
        let before = world
            .server
            .item(world.now, names.lock().as_bytes())
            .cloned();
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        assert_eq!(
            run.outcome(),
            ReleaseStatus::AlreadyLost(LossReason::TakenOver),
            "{kind:?}"
        );
        let after = world.server.item(world.now, names.lock().as_bytes());
        let (after, before) = (after.expect("stands"), before.expect("stood"));
        assert_eq!((after.cas, after.expiry), (before.cas, before.expiry));

        let (mut world, names, grant) = held(kind);
        world.server.evict(names.lock().as_bytes());
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        assert_eq!(
            run.outcome(),
            ReleaseStatus::AlreadyLost(LossReason::Missing),
            "{kind:?}"
        );
    }
}

#[test]
fn late_release_spares_next_holder() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.fates.push_back(Fate::Late(Duration::from_secs(2)));
        let mut op = release(&world, &names, &grant, grant.cas);
        assert_eq!(world.run(&mut op).outcome(), ReleaseStatus::Released);
        let next = world.hold(1, &names, lease(10_000));
        // The fake panics when a client changes what another has stored.
        world.wait(Duration::from_secs(3));
        let record = world.record(&names).expect("the next holder's");
        assert_eq!(
            record.as_bytes(),
            next.record().expect("a record").as_bytes(),
            "{kind:?}"
        );
    }
}

#[test]
fn release_on_full_server_reports_it() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.server.memory_full = true;
        let mut op = release(&world, &names, &grant, grant.cas);
        let run = world.run(&mut op);
        match kind {
            Kind::Classic => {
                assert_eq!(
                    run.outcome(),
                    ReleaseStatus::Failed(ServerError::OutOfMemory)
                );
                assert!(world.record(&names).is_some());
            }
            _ => assert_eq!(run.outcome(), ReleaseStatus::Released),
        }
    }
}

#[test]
fn inspection_leaves_server_unchanged() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let run = world.run(&mut Inspect::new(&names.keys));
        assert_eq!(run.outcome(), InspectOutcome::Free, "{kind:?}");

        let request = names.request(lease(10_000));
        let grant = world
            .run(&mut RecordAcquire::new(request, nonce(1)))
            .granted();
        let before = world
            .server
            .item(world.now, names.lock().as_bytes())
            .cloned();
        world.server.log.clear();
        let run = world.run_as(1, &mut Inspect::new(&names.keys));
        let (lock, fence) = (names.lock(), names.fence());
        let expected = match kind {
            Kind::Classic => format!("gets {lock}\r\ngets {fence}\r\n"),
            _ => format!("mg {lock} t c v\r\ngets {fence}\r\n"),
        };
        assert_eq!(run.flights[0].bytes, expected, "{kind:?}");
        let left = grant.expiry - world.server.second(world.now);
        let left = u32::try_from(left).expect("small");
        let expected = InspectOutcome::Held {
            holder: HolderRecord::parse(grant.record().expect("a record").as_bytes()),
            value: grant.record().expect("a record").as_bytes().into(),
            cas: grant.cas,
            identity: SessionId::from_nonce(nonce(1)),
            left: (kind != Kind::Classic).then_some(TimeLeft::Seconds(left)),
            last_token: grant.token,
            second: Some(EPOCH + 1000),
        };
        assert_eq!(run.outcome(), expected, "{kind:?}");
        let after = world.server.item(world.now, names.lock().as_bytes());
        assert_eq!(
            after.map(|item| item.expiry),
            before.map(|item| item.expiry)
        );

        world.server.set(world.now, lock.as_bytes(), b"hello", 0);
        world.server.set(world.now, fence.as_bytes(), b"world", 0);
        let InspectOutcome::Held {
            holder,
            last_token,
            left,
            ..
        } = world.run(&mut Inspect::new(&names.keys)).outcome()
        else {
            panic!("{kind:?}: not held");
        };
        assert_eq!((holder, last_token), (None, None), "{kind:?}");
        assert_eq!(left, (kind != Kind::Classic).then_some(TimeLeft::Never));
    }
}

#[test]
fn clock_sample_changes_only_the_clock() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        world.connect(0).expect("a server");
        assert!(!world.view(0).clock.is_steady());
        world.server.log.clear();
        for _ in 0..5 {
            world.wait(Duration::from_millis(300));
            let read = world
                .run(&mut SampleClock::new(&names.namespace, longest()))
                .outcome();
            assert_eq!(read, Ok(()), "{kind:?}");
        }
        let clock = &world.view(0).clock;
        assert!(clock.is_steady(), "{kind:?}: it has ticked under our eyes");
        let now = world.clients[0].moment(world.now);
        let second = EPOCH + world.now / SECOND;
        assert!(clock.seconds_lower_bound(now) <= Some(second));
        assert!(clock.seconds_lower_bound(now) >= Some(second - 1));
        for (_, line) in &world.server.log {
            let harmless = ["mg ", "gets ", "stats"];
            assert!(
                harmless.iter().any(|start| line.starts_with(start)),
                "{line}"
            );
        }

        // Without a sentinel there may be nothing to read, and nothing is made.
        world.server.evict(names.sentinel().as_bytes());
        let read = world
            .run(&mut SampleClock::new(&names.namespace, longest()))
            .outcome();
        assert_eq!(read, Ok(()), "{kind:?}");
        assert!(
            world
                .server
                .item(world.now, names.sentinel().as_bytes())
                .is_none()
        );
    }
}

/// A renewed lock is held without a gap by the server's clock as well.
#[test]
fn renewals_bridge_server_expiries() {
    for kind in Kind::ALL {
        let names = Names::new("L");
        let mut world = World::new(kind);
        let request = AcquireRequest {
            fencing: false,
            ..names.request(lease(1000))
        };
        let grant = world
            .run(&mut RecordAcquire::new(request, nonce(1)))
            .granted();
        let mut cas = grant.cas;
        for _ in 0..60 {
            world.wait(Duration::from_millis(333));
            let mut op = Renew::new(&names.namespace, &names.keys, &grant, lease(1000), cas);
            let RenewOutcome::Renewed { cas: next, .. } = world.run(&mut op).outcome() else {
                panic!("{kind:?}: lost");
            };
            cas = next;
            let run = world.run_as(
                1,
                &mut RecordAcquire::new(names.request(lease(1000)), nonce(2)),
            );
            assert!(
                matches!(run.outcome(), memlatch::proto::AcquireOutcome::Contended(_)),
                "{kind:?}"
            );
        }
        let mut op = release(&world, &names, &grant, cas);
        assert_eq!(world.run(&mut op).outcome(), ReleaseStatus::Released);
    }
}

#[test]
fn detected_stall_shortens_the_renewal() {
    for kind in Kind::ALL {
        // The record of a shorter one is gone by the time of the answer.
        for length in [5, 8, 10, 20] {
            let names = Names::new("L");
            let mut world = World::new(kind);
            world.server.stall(world.now, secs(1005.0));
            world.advance(secs(1004.9));
            let grant = world.hold(0, &names, lease(length * 1000));
            world.advance(secs(1004.999));
            let mut op = Renew::new(
                &names.namespace,
                &names.keys,
                &grant,
                lease(length * 1000),
                grant.cas,
            );
            // Sent during the stall, and carried out behind it.
            let slow = Duration::from_millis(100);
            world.fates.push_back(Fate::Slow(slow, slow));
            let RenewOutcome::Renewed { valid_until, .. } = world.run(&mut op).outcome() else {
                panic!("{kind:?}: lost");
            };
            assert!(world.view(0).clock.is_steady(), "the tick was seen");
            let believed = world.clients[0].true_time(valid_until);
            let record = world.server.item(believed - 1, names.lock().as_bytes());
            assert!(
                record.is_some(),
                "{kind:?}: a lease of {length} s outlasts its record"
            );
        }
    }
}
