//! Locks without a record.

use super::driver::{End, Fate, Names, OTHER, Run, World, lease, nonce};
use super::server::{EPOCH, Kind, SECOND, secs};
use core::time::Duration;
use memlatch::proto::{
    Acquire, AcquireOutcome, AcquireRequest, CasOwner, Grant, Inspect, InspectOutcome, LossReason,
    OwnerId, RecordAcquire, Release, ReleaseStatus, Renew, RenewOutcome, ServerError, WaitPolicy,
};

fn request(names: &Names) -> AcquireRequest<'_> {
    AcquireRequest {
        fencing: false,
        min_memory: None,
        without_record: true,
        ..names.request(lease(10_000))
    }
}

fn acquire(names: &Names, number: u64) -> Acquire<'_> {
    Acquire::new(request(names), nonce(number))
}

fn held(kind: Kind) -> (World, Names, Grant) {
    let names = Names::new("L");
    let mut world = World::new(kind);
    let grant = world.run(&mut acquire(&names, 1)).granted();
    (world, names, grant)
}

fn renew(world: &mut World, names: &Names, grant: &Grant, cas: u64) -> Run<RenewOutcome> {
    let mut renew = Renew::new(&names.namespace, &names.keys, grant, lease(10_000), cas);
    world.run(&mut renew)
}

fn release(world: &mut World, names: &Names, grant: &Grant, cas: u64) -> Run<ReleaseStatus> {
    let give_up = world.clients[0].moment(world.now + SECOND);
    world.run(&mut Release::new(&names.keys, grant, cas, give_up))
}

fn token(number: u64) -> CasOwner {
    CasOwner::new(nonce(number))
}

fn cas_of(world: &mut World, names: &Names) -> Option<u64> {
    let item = world.server.item(world.now, names.lock().as_bytes());
    item.map(|item| item.cas)
}

#[test]
fn recordless_steps_take_one_flight() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    let lock = names.lock();
    let sent = world.now;
    let run = world.run(&mut acquire(&names, 1));
    let bytes: Vec<_> = run
        .flights
        .iter()
        .map(|flown| flown.bytes.clone())
        .collect();
    let grant = run.granted();
    let (cas, expiry) = (grant.cas, EPOCH + 1000 + 13);
    assert_eq!(cas >> 63, 1, "no server's own");
    assert_eq!(bytes, [format!("mg {lock} N{expiry} E{cas} t c\r\n")]);
    assert_eq!(grant.owner_id, OwnerId::Cas(token(1)));
    assert_eq!((grant.token, grant.record().is_none()), (None, true));
    assert_eq!(
        grant.valid_until,
        world.clients[0].moment(sent + secs(10.0))
    );
    let item = world.server.item(world.now, lock.as_bytes());
    let item = item.expect("it stands");
    assert_eq!((&*item.value, item.cas), (&b""[..], cas));

    world.wait(Duration::from_secs(3));
    let run = renew(&mut world, &names, &grant, cas);
    let (next, expiry) = (cas + 1, expiry + 3);
    assert_eq!(
        run.flights[0].bytes,
        format!("md {lock} C{cas} E{next} I T{expiry}\r\nmg {lock} t c v\r\n")
    );
    assert!(
        matches!(run.outcome(), RenewOutcome::Renewed { cas, expiry: until, .. } if (cas, until) == (next, expiry))
    );

    let run = release(&mut world, &names, &grant, next);
    assert_eq!(run.flights[0].bytes, format!("md {lock} C{next}\r\n"));
    assert_eq!(run.outcome(), ReleaseStatus::Released);
    assert_eq!(cas_of(&mut world, &names), None);
}

#[test]
fn old_servers_get_a_record() {
    for kind in [Kind::MetaWithoutE, Kind::Classic] {
        let (mut world, names, grant) = held(kind);
        let record = grant.record().expect("a record");
        let stored = world.record(&names).expect("it stands");
        assert_eq!(record.as_bytes(), stored.as_bytes(), "{kind:?}");
        assert_eq!(grant.token, None);
        let cas = grant.cas;
        assert_eq!(
            release(&mut world, &names, &grant, cas).outcome(),
            ReleaseStatus::Released
        );
    }
}

#[test]
fn records_and_tokens_exclude_each_other() {
    let (mut world, names, grant) = held(Kind::Meta);
    let ordinary = AcquireRequest {
        min_memory: None,
        ..names.request(lease(10_000))
    };
    let run = world.run_as(1, &mut RecordAcquire::new(ordinary, nonce(7)));
    assert!(
        matches!(run.outcome(), AcquireOutcome::Contended(refusal) if refusal.holder.is_none())
    );
    let seen = world.run_as(1, &mut Inspect::new(&names.keys)).outcome();
    assert!(
        matches!(seen, InspectOutcome::Held { holder: None, cas, .. } if cas == grant.cas),
        "{seen:?}"
    );
    let run = world.run_as(1, &mut acquire(&names, 8));
    assert!(matches!(run.outcome(), AcquireOutcome::Contended(_)));
    release(&mut world, &names, &grant, grant.cas);

    world.other_holds(&names, 20);
    let run = world.run(&mut acquire(&names, 2));
    assert!(
        matches!(run.outcome(), AcquireOutcome::Contended(refusal) if refusal.free_in.is_some())
    );
    assert_eq!(world.record(&names).as_deref(), Some(OTHER));
}

#[test]
fn repeated_attempt_counts_from_first_send() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    let first = world.now;
    world.fates.push_back(Fate::Mute);
    let run = world.run(&mut acquire(&names, 1));
    assert_eq!(run.flights.len(), 2);
    assert_eq!(run.flights[0].bytes, run.flights[1].bytes);
    assert_eq!(run.granted().sent_at, world.clients[0].moment(first));
}

#[test]
fn earlier_leftover_is_undone() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    world.patience = Duration::from_millis(100);
    // It is carried out when its twin has been refused, and the holder is gone.
    world
        .fates
        .push_back(Fate::Late(Duration::from_millis(900)));
    world.other_holds(&names, 20);
    let lock = names.lock().into_bytes();
    let gone = world.now + secs(0.85);
    world.at(gone, move |server, _| server.evict(&lock));
    let patient = AcquireRequest {
        wait: WaitPolicy::Until(world.clients[0].moment(world.now + secs(5.0))),
        ..request(&names)
    };
    let grant = world.run(&mut Acquire::new(patient, nonce(1))).granted();
    assert_eq!(cas_of(&mut world, &names), Some(grant.cas));
    assert!(token(1).matches(grant.cas));
    let item = world.server.item(world.now, names.lock().as_bytes());
    assert_eq!(item.expect("stands").expiry, Some(grant.expiry));
}

#[test]
fn reply_after_lease_is_no_grant() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    let late = Duration::from_millis(2500);
    world
        .fates
        .push_back(Fate::Slow(Duration::from_millis(1), late));
    let short = AcquireRequest {
        lease: lease(2000),
        ..request(&names)
    };
    let mut acquire = Acquire::new(short, nonce(1));
    let run = world.run(&mut acquire);
    assert!(matches!(run.end, End::GaveUp { unknown: false }), "{run:?}");
    assert_eq!(cas_of(&mut world, &names), None);
    assert!(acquire.orphan().is_none());
}

#[test]
fn recordless_leftover_can_be_undone() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    world.fates.extend(core::iter::repeat_n(Fate::Mute, 40));
    let mut acquire = acquire(&names, 1);
    let run = world.run(&mut acquire);
    assert!(matches!(run.end, End::GaveUp { unknown: true }), "{run:?}");
    world.fates.clear();
    assert!(cas_of(&mut world, &names).is_some());
    let leftover = acquire.orphan().expect("it was sent");
    let give_up = world.clients[0].moment(world.now + SECOND);
    let mut release = Release::for_orphan(&names.keys, &leftover, give_up);
    assert_eq!(world.run(&mut release).outcome(), ReleaseStatus::Released);
    assert_eq!(cas_of(&mut world, &names), None);
}

#[test]
fn unanswered_recordless_renewal_keeps_lock() {
    let (mut world, names, grant) = held(Kind::Meta);
    world.fates.push_back(Fate::Mute);
    let run = renew(&mut world, &names, &grant, grant.cas);
    assert!(matches!(run.end, End::GaveUp { unknown: true }));
    // The item has the next one by now.
    assert_eq!(cas_of(&mut world, &names), Some(grant.cas + 1));
    let renewed = renew(&mut world, &names, &grant, grant.cas).outcome();
    assert!(matches!(renewed, RenewOutcome::Renewed { cas, .. } if cas == grant.cas + 2));
    let released = release(&mut world, &names, &grant, grant.cas + 1).outcome();
    assert_eq!(
        released,
        ReleaseStatus::Released,
        "also with one that is out of date"
    );
}

#[test]
fn recordless_loss_has_a_reason() {
    for (evict, reason) in [(true, LossReason::Missing), (false, LossReason::TakenOver)] {
        let (mut world, names, grant) = held(Kind::Meta);
        world.server.evict(names.lock().as_bytes());
        if !evict {
            world.run_as(1, &mut acquire(&names, 8)).granted();
        }
        let renewed = renew(&mut world, &names, &grant, grant.cas).outcome();
        assert_eq!(renewed, RenewOutcome::Lost(reason));
        let released = release(&mut world, &names, &grant, grant.cas).outcome();
        assert_eq!(released, ReleaseStatus::AlreadyLost(reason));
    }
}

#[test]
fn full_server_is_reported() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    world.server.memory_full = true;
    let run = world.run(&mut acquire(&names, 1));
    assert_eq!(run.failed(), ServerError::OutOfMemory);
}

/// A token is reused only until a request that names it may still be carried out late.
#[test]
fn token_is_reused_until_requests_expire() {
    let names = Names::new("L");
    let mut world = World::new(Kind::Meta);
    world.connect(0).expect("a server");
    world.other_holds(&names, 3000);
    let lock = names.lock().into_bytes();
    let gone = world.now + secs(400.0);
    world.at(gone, move |server, _| server.evict(&lock));
    let patient = AcquireRequest {
        wait: WaitPolicy::Forever,
        ..request(&names)
    };
    // More looks than there are tokens; the answer to one is lost.
    world
        .fates
        .extend(core::iter::repeat_n(Fate::Answered, 100));
    world.fates.push_back(Fate::Mute);
    let run = world.run(&mut Acquire::new(patient, nonce(1)));
    let tokens: Vec<_> = run
        .flights
        .iter()
        .filter_map(|flown| {
            flown
                .bytes
                .split(' ')
                .find_map(|word| word.strip_prefix('E'))
        })
        .map(|token| token.parse::<u64>().expect("a number"))
        .collect();
    assert!(tokens.len() > 300, "only {} looks", tokens.len());
    let first = token(1);
    let (before, after) = tokens.split_at(102);
    assert!(before.iter().all(|token| *token == before[0]));
    assert!(after.iter().all(|token| *token == before[0] + 1));
    let sent = run.flights.last().expect("one").sent;
    let grant = run.granted();
    assert!(first.matches(grant.cas) && grant.cas == after[0]);
    assert_eq!(grant.sent_at, world.clients[0].moment(sent));
}

/// A renewal that the network holds back while the lock is renewed again and again.
#[test]
fn very_late_renewal_changes_nothing() {
    // More than enough for the 8 bits there were once.
    const RENEWALS: u64 = 3000;
    let (mut world, names, grant) = held(Kind::Meta);
    let late = format!(
        "md {} C{} E{} I T{}\r\n",
        names.lock(),
        grant.cas,
        grant.cas + 1,
        EPOCH
    );
    let mut cas = grant.cas;
    for _ in 0..RENEWALS {
        world.wait(Duration::from_secs(3));
        let RenewOutcome::Renewed { cas: next, .. } =
            renew(&mut world, &names, &grant, cas).outcome()
        else {
            panic!("lost");
        };
        cas = next;
        assert_ne!(cas, grant.cas);
        let item = world.server.item(world.now, names.lock().as_bytes());
        let expiry = item.expect("it stands").expiry;
        let answer = world.server.handle(world.now, 0, late.as_bytes());
        assert_eq!(answer, b"EX\r\n");
        let item = world.server.item(world.now, names.lock().as_bytes());
        assert_eq!(item.expect("it stands").expiry, expiry);
    }
}
