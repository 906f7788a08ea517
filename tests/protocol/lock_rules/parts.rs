//! A held lock as a line of text.

use super::driver::{Fate, Names, World, lease, nonce};
use super::server::{Kind, secs};
use core::time::Duration;
use memlatch::proto::{
    Acquire, AcquireRequest, CasOwner, Grant, GrantKind, InstanceWord, Instant, Lease, LockTicket,
    LossReason, MAX_LEASE, NameError, Namespace, Nonce, Owner, OwnerId, Release, ReleaseStatus,
    Renew, RenewOutcome, ServerInstance, TicketError,
};
use proptest::prelude::*;

fn held(kind: Kind) -> (World, Names, Grant) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    // Another client changes what this one has stored: that is the point.
    world.server.guards_owners = false;
    let grant = world.hold_fenced(0, &names, lease(10_000));
    world.wait(Duration::from_millis(500));
    (world, names, grant)
}

/// The parts, by way of their text.
fn parts(names: &Names, grant: &Grant) -> LockTicket {
    let parts = LockTicket::new(&names.namespace, "L", grant, grant.cas, grant.expiry);
    let read: LockTicket = parts.to_string().parse().expect("its own text");
    assert_eq!(read, parts);
    assert_eq!(read.keys(), Ok(names.keys.clone()));
    read
}

#[test]
fn ticket_states_the_loss() {
    let (_, names, grant) = held(Kind::Meta);
    let reasons = [
        LossReason::Expired,
        LossReason::TakenOver,
        LossReason::Missing,
        LossReason::ServerRestarted,
        LossReason::Unreachable,
        LossReason::Released,
        LossReason::Forked,
    ];
    for reason in reasons {
        let parts = LockTicket::new(&names.namespace, "L", &grant, grant.cas, grant.expiry);
        assert_eq!(parts.lost(), None);
        let parts = parts.lost_before(Some(reason));
        let text = parts.to_string();
        assert_eq!(text.split(' ').nth(4), Some(reason.as_str()));
        let read: LockTicket = text.parse().expect("its own text");
        assert_eq!((read.lost(), &read), (Some(reason), &parts));
    }
}

fn take(world: &mut World, names: &Names, grant: &Grant) -> RenewOutcome {
    let mut renew = Renew::new(&names.namespace, &names.keys, grant, grant.lease, grant.cas);
    world.run_as(1, &mut renew).outcome()
}

/// Takes the lock over by its parts, as another client.
fn taken(world: &mut World, names: &Names, parts: &LockTicket) -> RenewOutcome {
    let now = world.clients[1].moment(world.now);
    let grant = parts.grant(now);
    assert_eq!(grant.valid_until, now, "nobody believes in it yet");
    take(world, names, &grant)
}

#[test]
fn ticket_is_one_readable_line() {
    let names = Names::new("a b");
    let grant = Grant {
        instance: ServerInstance {
            pid: 4711,
            started: 1_795_330_000,
            word: InstanceWord::from_bits(0xfe),
        },
        owner_id: OwnerId::Nonce(Nonce::from_random([0x0f; 16])),
        owner: Owner::new("db-7", 77, "nightly import"),
        lease: lease(10_000),
        acquired_at: 1_795_337_329,
        cas: 5,
        token: Some(123),
        expiry: 1_795_337_342,
        sent_at: Instant::from_nanos(0),
        may_be_replayed: false,
        valid_until: Instant::from_nanos(0),
        kind: GrantKind::Free,
    };
    let parts = LockTicket::new(&names.namespace, "a b", &grant, 9, 1_795_337_345);
    let line = "p1 memlatch: a%20b 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f 9 4711 1795330000 00000000000000fe 10000 123 \
                1795337329 1795337345 77 db-7 nightly%20import";
    assert_eq!(parts.to_string(), line);
    assert_eq!((parts.name(), parts.prefix()), ("a b", "memlatch:"));
    assert_eq!(parts.lease(), Duration::from_secs(10));
    assert_eq!(parts.fencing_token(), Some(123));
    for end in ["", "\n", "\r\n"] {
        assert_eq!(format!("{line}{end}").parse(), Ok(parts.clone()));
    }
    let shown = format!("{parts:?} {parts:#?}");
    assert!(shown.contains("a b") && !shown.contains("0f0f"), "{shown}");

    let token = CasOwner::new(nonce(1));
    let lean = Grant {
        owner_id: OwnerId::Cas(token),
        token: None,
        ..grant
    };
    let cas = first(token);
    let parts = LockTicket::new(&names.namespace, "a b", &lean, cas + 3, 1_795_337_345);
    let line = parts.to_string();
    assert!(
        line.contains(&format!(" t{cas:016x} {} ", cas + 3)),
        "{line}"
    );
    assert_eq!(line.parse(), Ok(parts));
}

/// The first CAS unique of a token.
fn first(token: CasOwner) -> u64 {
    let first = u64::from_str_radix(&format!("{token:x}"), 16).expect("a number");
    assert!(token.matches(first));
    first
}

#[test]
fn ticket_takes_over_by_one_renewal() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        world.clients[1].ppm = 5000;
        let parts = parts(&names, &grant);
        // The last renewal of the one before is still on its way.
        world
            .fates
            .push_back(Fate::Late(Duration::from_millis(500)));
        world.run(&mut Renew::new(
            &names.namespace,
            &names.keys,
            &grant,
            grant.lease,
            grant.cas,
        ));
        let sent = world.now;
        let RenewOutcome::Renewed {
            cas, valid_until, ..
        } = taken(&mut world, &names, &parts)
        else {
            panic!("{kind:?}: lost");
        };
        let until = world.clients[1].true_time(valid_until);
        assert!(until > sent + secs(9.8) && until <= sent + secs(10.0));
        world.wait(Duration::from_secs(1));
        let item = world.server.item(world.now, names.lock().as_bytes());
        assert_eq!(item.expect("it stands").cas, cas, "{kind:?}");
        let now = world.clients[1].moment(world.now);
        let grant = parts.grant(now);
        let mut release = Release::new(&names.keys, &grant, cas, now.after(grant.lease.duration()));
        let released = world.run_as(1, &mut release).outcome();
        assert_eq!(released, ReleaseStatus::Released, "{kind:?}");
        assert_eq!(world.record(&names), None);
    }
}

#[test]
fn recordless_ticket_takes_over_too() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.server.guards_owners = false;
    let request = AcquireRequest {
        fencing: false,
        min_memory: None,
        without_record: true,
        ..names.request(lease(10_000))
    };
    let grant = world.run(&mut Acquire::new(request, nonce(1))).granted();
    let parts = parts(&names, &grant);
    let renewed = taken(&mut world, &names, &parts);
    assert!(
        matches!(renewed, RenewOutcome::Renewed { .. }),
        "{renewed:?}"
    );
    // The parts are of before, and the CAS unique is another now.
    let renewed = taken(&mut world, &names, &parts);
    assert!(
        matches!(renewed, RenewOutcome::Renewed { .. }),
        "{renewed:?}"
    );
}

#[test]
fn stale_ticket_takes_nothing_over() {
    for kind in Kind::ALL {
        let (mut world, names, grant) = held(kind);
        let parts = parts(&names, &grant);
        world.server.evict(names.lock().as_bytes());
        let lost = taken(&mut world, &names, &parts);
        assert_eq!(lost, RenewOutcome::Lost(LossReason::Missing), "{kind:?}");
        assert_eq!(world.record(&names), None);

        world.other_holds(&names, 20);
        let lost = taken(&mut world, &names, &parts);
        assert_eq!(lost, RenewOutcome::Lost(LossReason::TakenOver), "{kind:?}");

        world.server.restart(world.now);
        world.other_holds(&names, 20);
        world.connect(1).expect("a server");
        world.server.log.clear();
        let lost = taken(&mut world, &names, &parts);
        assert_eq!(
            lost,
            RenewOutcome::Lost(LossReason::ServerRestarted),
            "{kind:?}"
        );
        assert_eq!(world.server.log, [], "nothing goes to another run");
    }
}

#[test]
fn bad_ticket_names_its_error() {
    let (_, names, grant) = held(Kind::Meta);
    let line = parts(&names, &grant).to_string();
    let words: Vec<_> = line.split(' ').collect();
    let with = |index: usize, word: &str| {
        let mut words = words.clone();
        words[index] = word;
        words.join(" ").parse::<LockTicket>().expect_err(word)
    };
    let parse = |text: &str| text.parse::<LockTicket>().expect_err(text);
    for text in ["", "p", "m1 x", "p2 x", "P1 x", "\np1 x", " p1 x"] {
        assert_eq!(parse(text), TicketError::Layout, "{text}");
    }
    assert_eq!(parse("p1"), TicketError::WordCount { count: 1 });
    let count = 16;
    assert_eq!(
        parse(&format!("{line} x")),
        TicketError::WordCount { count }
    );
    assert_eq!(parse(&format!("{line} ")), TicketError::WordCount { count });
    let doubled = line.replacen(' ', "  ", 1);
    assert_eq!(parse(&doubled), TicketError::WordCount { count });
    let wrong = |index: usize, word: &str| match with(index, word) {
        TicketError::Word { number, expected } => (number, expected),
        other => panic!("{index} {word}: {other:?}"),
    };
    for (index, word, number) in [
        (1, "a%2", 2),
        (1, "a%7e", 2),
        (2, "%61", 3),
        (2, "", 3),
        (2, "%FF", 3),
        (3, "0f", 4),
        (3, &"0F".repeat(16), 4),
        (3, "t0000000000000000", 4),
        (3, "t80000000000fffff", 4),
        (3, "t8000000000100000", 5),
        (4, "0", 5),
        (4, "-1", 5),
        (4, "05", 5),
        (5, "18446744073709551616", 6),
        (6, "x", 7),
        (7, "fe", 8),
        (7, "00000000000000FE", 8),
        (8, "1e4", 9),
        (9, "9223372036854775808", 10),
        (9, "", 10),
        (10, "+1", 11),
        (11, "2147483648", 12),
        (12, "4294967296", 13),
        (12, "007", 13),
        (13, "%2d", 13),
        (14, &"x".repeat(65), 13),
    ] {
        assert_eq!(wrong(index, word).0, number, "word {index}: {word}");
    }
    assert_eq!(with(2, "-"), TicketError::Name(NameError::Empty));
    let control = NameError::ControlByte { byte: 10, at: 1 };
    assert_eq!(with(2, "a%0Ab"), TicketError::Name(control));
    let long = "x".repeat(1025);
    let too_long = NameError::TooLong { length: 1025 };
    assert_eq!(with(2, &long), TicketError::Name(too_long));
    assert!(matches!(with(1, "a%20b"), TicketError::Name(_)));
    assert!(matches!(with(8, "99"), TicketError::Lease(_)));
    assert!(matches!(with(8, "99999999999999"), TicketError::Lease(_)));
    for error in [
        with(2, "-"),
        with(3, "secret"),
        parse("secret"),
        with(8, "1"),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("parts of a lock") && !text.contains("secret"),
            "{text}"
        );
    }
}

prop_compose! {
    fn owners()(host in ".{0,70}", pid in any::<u32>(), label in ".{0,70}") -> Owner {
        Owner::new(&host, pid, &label)
    }
}

prop_compose! {
    fn grants()(
        owner in owners(),
        seed in any::<[u8; 16]>(),
        lean in any::<bool>(),
        pid in any::<u64>(),
        started in any::<u64>(),
        instance in any::<u64>().prop_map(InstanceWord::from_bits),
        millis in 2000..=u64::try_from(MAX_LEASE.as_millis()).expect("30 days"),
        below in 0..1_000_000_u32,
        since in any::<u64>(),
        cas in 1..=u64::MAX,
        token in proptest::option::of(0..=i64::MAX.unsigned_abs()),
        expiry in 0..=i32::MAX.unsigned_abs(),
    ) -> Grant {
        let nonce = Nonce::from_random(seed);
        let lean = lean.then(|| CasOwner::new(nonce));
        let length = Duration::from_millis(millis - 1) + Duration::from_nanos(below.into());
        Grant {
            instance: ServerInstance { pid, started, word: instance },
            owner_id: lean.map_or(OwnerId::Nonce(nonce), OwnerId::Cas),
            owner,
            lease: Lease::new(length.max(Duration::from_secs(2))).expect("in range"),
            acquired_at: since,
            cas: lean.map_or(cas, |token| first(token) + (cas & 0xf_ffff)),
            token,
            expiry: expiry.into(),
            sent_at: Instant::from_nanos(0),
            may_be_replayed: false,
            valid_until: Instant::from_nanos(0),
            kind: GrantKind::Free,
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[^\\p{Cc}]{1,250}", "[#%\\- a]{1,6}", "x{1,1024}"]
}

proptest! {
    #[test]
    fn ticket_survives_round_trip(
        grant in grants(),
        prefix in "[!-9;-~]{0,100}",
        name in name(),
    ) {
        let namespace = Namespace::new(&prefix).expect("visible");
        let parts = LockTicket::new(&namespace, &name, &grant, grant.cas, grant.expiry);
        let line = parts.to_string();
        prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let read = line.parse::<LockTicket>().expect("its own text");
        prop_assert_eq!(&read, &parts);
        prop_assert_eq!((read.name(), read.prefix()), (&*name, &*prefix));
        prop_assert_eq!(read.keys(), namespace.keys(name.as_bytes()));
        let again = read.grant(grant.sent_at);
        let left = grant.lease.duration() - again.lease.duration();
        prop_assert!(left < Duration::from_millis(1));
        prop_assert_eq!(again.owner_id, grant.owner_id);
        prop_assert_eq!((again.owner, again.token), (grant.owner, grant.token));
        prop_assert_eq!((again.instance, again.cas), (grant.instance, grant.cas));
        prop_assert_eq!((again.acquired_at, again.expiry), (grant.acquired_at, grant.expiry));
    }

    /// Whatever is read is what would have been written: there is one text for each lock.
    #[test]
    fn parsed_ticket_prints_identically(
        grant in grants(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let namespace = Namespace::new("p:").expect("visible");
        let parts = LockTicket::new(&namespace, "a b", &grant, grant.cas, grant.expiry);
        let mut line = parts.to_string().into_bytes();
        for (index, byte, how) in changes {
            let at = index.index(line.len());
            match how {
                0 => line[at] = byte,
                1 => line.insert(at, byte),
                2 => drop(line.remove(at)),
                _ => line.truncate(at.max(1)),
            }
        }
        let line = String::from_utf8_lossy(&line);
        if let Ok(read) = line.parse::<LockTicket>() {
            prop_assert_eq!(read.to_string(), line);
        }
    }

    #[test]
    fn arbitrary_text_is_an_error(text in ".{0,200}", words in "(p1)?( [!-~]{0,40}){0,15}") {
        prop_assert!(text.parse::<LockTicket>().is_err());
        if let Ok(read) = words.parse::<LockTicket>() {
            prop_assert_eq!(read.to_string(), words);
        }
    }
}
