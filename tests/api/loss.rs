//! The end of a lock, whatever comes first and whatever comes after it: one reason, reported to all
//! listeners, and no renewal after that. Before a peer that writes down what it is sent, in both
//! APIs and both protocols.
//!
//! Tests on real servers show that a loss is reported at the deadline without an answer: see
//! `async_lock.rs` and `blocking.rs`.
#![cfg(all(unix, feature = "tokio", feature = "blocking", feature = "server"))]

use crate::support::peer;
use core::time::Duration;
use memlatch::{
    Client, ClientBuilder, ErrorKind, LockError, LossReason, Protocol, ReleaseOutcome, blocking,
};
use peer::{LIMIT, Peer, until};
use std::sync::Arc;
use std::thread;
use tokio::task::JoinSet;

const DIALECTS: [Protocol; 2] = [Protocol::Meta, Protocol::Classic];

const KEY: &str = "memlatch:lock:a";

/// So short that many are over soon, so long that none is by itself.
const LEASE: Duration = Duration::from_millis(1500);

const SIDE_BY_SIDE: usize = 24;

/// An event that ends a lock though its guard is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Its record goes, and the next renewal finds that out.
    Vanishes,
    /// Another's record is in its place, and the next renewal finds that out.
    IsTakenOver,
    /// The server does not answer until its lease is over.
    IsSilent,
    /// The client is shut down.
    ShutsDown,
}

const EVENTS: [Event; 4] = [
    Event::Vanishes,
    Event::IsTakenOver,
    Event::IsSilent,
    Event::ShutsDown,
];

/// The end of its guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Released,
    Quiet,
    Dropped,
    HandedOver,
}

const ENDS: [End; 4] = [End::Released, End::Quiet, End::Dropped, End::HandedOver];

/// None of the events, each of them, and each pair in both orders; with each end behind it.
fn orders() -> Vec<(Protocol, Vec<Event>, End)> {
    let mut events = vec![Vec::new()];
    for first in EVENTS {
        events.push(vec![first]);
        let others = EVENTS.into_iter().filter(|second| *second != first);
        events.extend(others.map(|second| vec![first, second]));
    }
    let mut orders = Vec::new();
    for protocol in DIALECTS {
        for events in &events {
            orders.extend(ENDS.map(|end| (protocol, events.clone(), end)));
        }
    }
    orders
}

fn settings<F>(builder: ClientBuilder<F>, peer: &Peer, protocol: Protocol) -> ClientBuilder<F> {
    let builder = builder
        .server(peer.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
    builder
        .protocol(protocol)
        .operation_timeout(Duration::from_millis(1000))
}

/// Number of renewals of the lock.
fn renewals(peer: &Peer) -> usize {
    let requests = peer.requests();
    let is_one = |request: &&String| {
        let words: Vec<_> = request.split_whitespace().collect();
        matches!(
            words[..],
            ["md", KEY, _, "I", ..] | ["cas", KEY, _, _, _, _, "m1", ..]
        )
    };
    requests.iter().filter(is_one).count()
}

impl Event {
    /// Changes the server or the connection.
    fn begin(self, peer: &Peer) {
        match self {
            Self::Vanishes => peer.delete(KEY),
            Self::IsTakenOver => {
                let other = b"m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f 60000 1795337300 77 elsewhere -";
                peer.set(KEY, other);
            }
            Self::IsSilent => peer.answer(false),
            Self::ShutsDown => {}
        }
    }

    /// True if this explains the loss, if this event came first.
    fn is_reason(self, reason: LossReason) -> bool {
        match self {
            Self::Vanishes => reason == LossReason::Missing,
            Self::IsTakenOver => reason == LossReason::TakenOver,
            Self::IsSilent => reason == LossReason::Unreachable,
            Self::ShutsDown => reason == LossReason::Released,
        }
    }
}

/// The first event is the reported reason, for all listeners.
fn check_told(what: &str, events: &[Event], told: &[LossReason]) {
    let Some(first) = events.first() else {
        return;
    };
    assert!(!told.is_empty(), "{what}");
    for reason in told {
        assert!(first.is_reason(*reason), "{what}: {told:?}");
    }
}

fn check_release(what: &str, told: &[LossReason], outcome: Result<ReleaseOutcome, LockError>) {
    let expected = match told.first() {
        None => ReleaseOutcome::Released,
        Some(reason) => ReleaseOutcome::AlreadyLost { reason: *reason },
    };
    assert_eq!(outcome.expect("known or answered"), expected, "{what}");
}

/// No renewal was begun since there were so many. One may have been under way.
fn check_silence(what: &str, peer: &Peer, before: usize) {
    let after = renewals(peer);
    assert!(after <= before + 1, "{what}: {before}, {after} renewals");
}

async fn in_this_order((protocol, events, end): (Protocol, Vec<Event>, End)) {
    let what = format!("{protocol:?}, {events:?}, {end:?}");
    let peer = Peer::start();
    let builder = settings(Client::builder(), &peer, protocol);
    let client = builder.build().await.expect("the peer is there");
    let guard = client.lock("a").lease(LEASE).acquire().await;
    let guard = Arc::new(guard.expect("free"));
    let mut listeners = JoinSet::new();
    for _ in 0..3 {
        let guard = Arc::clone(&guard);
        listeners.spawn(async move { guard.lost().await });
    }
    let mut told = Vec::new();
    let mut before = None;
    for event in &events {
        event.begin(&peer);
        match event {
            Event::ShutsDown => assert!(client.shutdown(LIMIT).await, "{what}"),
            _ => drop(guard.renew().await.map(|_| ())),
        }
        told.push(guard.lost().await);
        peer.answer(true);
        assert!(!guard.is_valid(), "{what}");
        before.get_or_insert_with(|| renewals(&peer));
    }
    if events.is_empty() {
        listeners.shutdown().await;
    }
    told.extend(listeners.join_all().await);
    check_told(&what, &events, &told);
    let guard = Arc::into_inner(guard).expect("the last one");
    match end {
        End::Released => check_release(&what, &told, guard.release().await),
        End::Quiet => guard.release_quietly(),
        End::Dropped => drop(guard),
        End::HandedOver => drop(guard.detach()),
    }
    let before = before.unwrap_or_else(|| renewals(&peer));
    tokio::time::sleep(LEASE * 2).await;
    check_silence(&what, &peer, before);
    assert!(client.shutdown(LIMIT).await, "{what}");
    if events == [Event::IsTakenOver] {
        assert!(peer.server.item(KEY).is_some(), "{what}: another's");
    }
}

#[tokio::test]
async fn first_loss_reason_is_kept() {
    let mut orders = orders().into_iter();
    loop {
        let mut cases = JoinSet::new();
        for order in orders.by_ref().take(SIDE_BY_SIDE) {
            cases.spawn(in_this_order(order));
        }
        if cases.is_empty() {
            return;
        }
        cases.join_all().await;
    }
}

fn in_this_order_blocking((protocol, events, end): (Protocol, Vec<Event>, End)) {
    let what = format!("{protocol:?}, {events:?}, {end:?}");
    let peer = Peer::start();
    let builder = settings(blocking::Client::builder(), &peer, protocol);
    let client = builder.build().expect("the peer is there");
    let guard = client.lock("a").lease(LEASE).acquire();
    let guard = guard.expect("free");
    let mut told = Vec::new();
    let mut before = None;
    thread::scope(|scope| {
        // A thread that waits for a loss that does not come cannot be stopped.
        let count = if events.is_empty() { 0 } else { 3 };
        let listeners: Vec<_> = (0..count).map(|_| scope.spawn(|| guard.lost())).collect();
        for event in &events {
            event.begin(&peer);
            match event {
                Event::ShutsDown => assert!(client.shutdown(LIMIT), "{what}"),
                _ => drop(guard.renew()),
            }
            told.push(guard.lost());
            peer.answer(true);
            assert!(!guard.is_valid(), "{what}");
            before.get_or_insert_with(|| renewals(&peer));
        }
        for listener in listeners {
            told.push(listener.join().expect("no panic"));
        }
    });
    check_told(&what, &events, &told);
    match end {
        End::Released => check_release(&what, &told, guard.release()),
        End::Quiet => guard.release_quietly(),
        End::Dropped => drop(guard),
        End::HandedOver => drop(guard.detach()),
    }
    let before = before.unwrap_or_else(|| renewals(&peer));
    thread::sleep(LEASE * 2);
    check_silence(&what, &peer, before);
    assert!(client.shutdown(LIMIT), "{what}");
    if events == [Event::IsTakenOver] {
        assert!(peer.server.item(KEY).is_some(), "{what}: another's");
    }
}

#[test]
fn first_loss_reason_is_kept_blocking() {
    let mut orders = orders().into_iter();
    loop {
        let batch: Vec<_> = orders.by_ref().take(SIDE_BY_SIDE).collect();
        if batch.is_empty() {
            return;
        }
        thread::scope(|scope| {
            for order in batch {
                scope.spawn(|| in_this_order_blocking(order));
            }
        });
    }
}

/// Long enough for the keeper to have done with the server's clock, during which it would find out
/// first that the server does not answer.
const SETTLED: Duration = Duration::from_millis(2000);

/// A renewal is carried out, and its answer is lost: the record has another CAS unique than is known,
/// and is ours all the same.
#[tokio::test]
async fn unanswered_renewal_is_no_loss() {
    let lease = Duration::from_secs(20);
    for protocol in DIALECTS {
        let peer = Peer::start();
        let builder = settings(Client::builder(), &peer, protocol);
        let client = builder.build().await.expect("the peer is there");
        let guard = client.lock("a").lease(lease).acquire().await;
        let guard = Arc::new(guard.expect("free"));
        tokio::time::sleep(SETTLED).await;
        loop {
            peer.answer(false);
            let renewed = guard.renew().await;
            peer.hang_up(false);
            peer.answer(true);
            // Otherwise it was not even sent.
            if renewed.expect_err("not answered").is_unknown() {
                break;
            }
        }
        assert!(renewals(&peer) > 0);
        guard.renew().await.or_else(still_held).expect("ours");
        until("the next renewal", || guard.remaining() > lease * 5 / 6).await;
        guard.verify().await.expect("ours");
        let guard = Arc::into_inner(guard).expect("the only one");
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released, "{protocol:?}");
    }
}

#[test]
fn unanswered_renewal_is_no_loss_blocking() {
    let lease = Duration::from_secs(20);
    for protocol in DIALECTS {
        let peer = Peer::start();
        let builder = settings(blocking::Client::builder(), &peer, protocol);
        let client = builder.build().expect("the peer is there");
        let guard = client.lock("a").lease(lease).acquire().expect("free");
        thread::sleep(SETTLED);
        loop {
            peer.answer(false);
            let renewed = guard.renew();
            peer.hang_up(false);
            peer.answer(true);
            // Otherwise it was not even sent.
            if renewed.expect_err("not answered").is_unknown() {
                break;
            }
        }
        assert!(renewals(&peer) > 0);
        guard.renew().or_else(still_held).expect("ours");
        while guard.remaining() <= lease * 5 / 6 {
            thread::yield_now();
        }
        guard.verify().expect("ours");
        let outcome = guard.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released, "{protocol:?}");
    }
}

/// Another renewal may have been under way, and find its connection closed.
fn still_held(error: LockError) -> Result<Duration, LockError> {
    match error.kind() {
        ErrorKind::Unknown | ErrorKind::Unavailable => Ok(Duration::ZERO),
        _ => Err(error),
    }
}
