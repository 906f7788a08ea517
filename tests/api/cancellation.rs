//! Callers that go between any two polls, before a peer that writes down what it is sent: nothing
//! but whole requests, no lock left behind, nothing removed but by its owner, and no answer that
//! reaches the next caller.
#![cfg(all(unix, feature = "tokio", feature = "server"))]

use crate::support::peer;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use memlatch::{Client, ClientBuilder, LockGuard, Protocol, ReleaseOutcome};
use peer::{LIMIT, Peer};
use tokio::task::JoinSet;

const DIALECTS: [Protocol; 2] = [Protocol::Meta, Protocol::Classic];

/// Long enough for nothing to be freed by its end.
const LEASE: Duration = Duration::from_secs(600);

/// Beyond the last poll of everything that is answered.
const MOST_POLLS: usize = 200;

const SIDE_BY_SIDE: usize = 16;

/// When the peer does not do what it should, while the caller is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slow {
    Never,
    /// It answers a few bytes at a time.
    Dribbles,
    /// It reads and does not answer until the caller has gone.
    Silent,
    /// It does not even read.
    Deaf,
}

const SLOWNESS: [Slow; 4] = [Slow::Never, Slow::Dribbles, Slow::Silent, Slow::Deaf];

impl Slow {
    fn begin(self, peer: &Peer) {
        match self {
            Self::Never => {}
            Self::Dribbles => peer.answer_in_pieces(16),
            Self::Silent => peer.answer(false),
            Self::Deaf => peer.read(false),
        }
    }

    fn end(peer: &Peer) {
        peer.read(true);
        peer.answer(true);
    }

    /// Numbers of polls before a call is dropped. A call without an answer stays at the same point.
    fn polls(self) -> core::ops::Range<usize> {
        match self {
            Self::Never | Self::Dribbles => 0..MOST_POLLS,
            Self::Silent | Self::Deaf => 0..5,
        }
    }

    fn is_idle(self) -> bool {
        matches!(self, Self::Silent | Self::Deaf)
    }
}

fn builder(peer: &Peer, protocol: Protocol) -> ClientBuilder<Client> {
    let builder = Client::builder()
        .server(peer.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
    builder.protocol(protocol).operation_timeout(LIMIT)
}

async fn client(peer: &Peer, protocol: Protocol) -> Client {
    let client = builder(peer, protocol).build().await;
    client.expect("the peer is there")
}

/// Polls a future so often and drops it. Returns whether it was over by then.
///
/// It is polled when it was woken; one that is not answered is polled all the same.
async fn dropped_at<F: Future>(polls: usize, slow: Slow, future: F) -> Option<F::Output> {
    let mut future: Pin<Box<F>> = Box::pin(future);
    let idle = slow.is_idle();
    for _ in 0..polls {
        let mut polled = false;
        let output = poll_fn(|cx| {
            if polled && !idle {
                return Poll::Ready(None);
            }
            polled = true;
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if idle => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        if output.is_some() {
            return output;
        }
        tokio::task::yield_now().await;
    }
    None
}

/// The only requests that may be made for a lock by its key: stored where there is none, looked at,
/// and renewed or removed by its CAS unique.
fn check_requests(peer: &Peer, what: &str) {
    for (requests, rest) in peer.seen() {
        assert!(
            rest.is_empty(),
            "{what}: half a request: {}",
            rest.escape_ascii()
        );
        for request in requests {
            let words: Vec<_> = request.split_whitespace().collect();
            let sound = match words[..] {
                [_, key, ..] if !key.starts_with("memlatch:lock:") => true,
                ["add" | "mg" | "gets", ..] => !request.contains(" T"),
                ["md", _, cas, ..] => cas.starts_with('C'),
                ["cas", _, "0", "2592001", "0", _] => true,
                ["cas", _, "0", _, _, _, "m1", ..] => true,
                _ => !request.contains("memlatch:lock:"),
            };
            assert!(sound, "{what}: {request}");
        }
    }
}

/// All cleanup that was left has been done, and the lock is free.
async fn check_free(peer: &Peer, client: &Client, what: &str) {
    assert!(client.shutdown(LIMIT).await, "{what}: not given back");
    let left = peer.server.item("memlatch:lock:a");
    assert_eq!(left, None, "{what}: left behind");
    check_requests(peer, what);
}

/// Runs a case for each number of polls, several side by side, until it says that the call was
/// over before it could be dropped.
async fn at_every_poll<F>(mut case: impl FnMut(Protocol, Slow, usize) -> F)
where
    F: Future<Output = bool> + Send + 'static,
{
    for protocol in DIALECTS {
        for slow in SLOWNESS {
            let mut polls = slow.polls();
            loop {
                let mut cases = JoinSet::new();
                for polls in polls.by_ref().take(SIDE_BY_SIDE) {
                    cases.spawn(case(protocol, slow, polls));
                }
                if cases.is_empty() {
                    assert!(slow.is_idle(), "{protocol:?}, {slow:?}: it never ends");
                    break;
                }
                if cases.join_all().await.contains(&true) {
                    break;
                }
            }
        }
    }
}

async fn acquisition(protocol: Protocol, slow: Slow, polls: usize) -> bool {
    let what = format!("{protocol:?}, {slow:?}, dropped at poll {polls}");
    let peer = Peer::start();
    let client = client(&peer, protocol).await;
    slow.begin(&peer);
    let lock = client.lock("a").lease(LEASE);
    let granted = dropped_at(polls, slow, lock.acquire()).await;
    Slow::end(&peer);
    let over = granted.is_some();
    drop(granted.map(|granted| granted.expect("free")));
    check_free(&peer, &client, &what).await;
    let sent = peer.count("add memlatch:lock:a ");
    let undone = peer.count("md memlatch:lock:a C") + peer.count("cas memlatch:lock:a");
    assert_eq!(sent, undone, "{what}: {:?}", peer.requests());
    // A call that was never polled has sent nothing.
    assert!(polls > 0 || sent == 0, "{what}");
    over
}

#[tokio::test]
async fn dropped_acquisition_is_undone() {
    at_every_poll(acquisition).await;
}

async fn held(peer: &Peer, protocol: Protocol) -> (Client, LockGuard) {
    let client = client(peer, protocol).await;
    let guard = client.lock("a").lease(LEASE).acquire().await;
    let guard = guard.expect("free");
    assert!(peer.server.item("memlatch:lock:a").is_some());
    (client, guard)
}

async fn release(protocol: Protocol, slow: Slow, polls: usize) -> bool {
    let what = format!("{protocol:?}, {slow:?}, dropped at poll {polls}");
    let peer = Peer::start();
    let (client, guard) = held(&peer, protocol).await;
    slow.begin(&peer);
    let released = dropped_at(polls, slow, guard.release()).await;
    Slow::end(&peer);
    let over = released.is_some();
    if let Some(released) = released {
        let _ = released.expect("answered");
    }
    check_free(&peer, &client, &what).await;
    over
}

#[tokio::test]
async fn dropped_release_is_finished() {
    at_every_poll(release).await;
}

/// Number of renewals of the lock.
fn renewals(peer: &Peer) -> usize {
    let requests = peer.requests();
    let is_one = |request: &&String| {
        let words: Vec<_> = request.split_whitespace().collect();
        matches!(
            words[..],
            ["md", "memlatch:lock:a", _, "I", ..]
                | ["cas", "memlatch:lock:a", _, _, _, _, "m1", ..]
        )
    };
    requests.iter().filter(is_one).count()
}

/// A renewal that was asked for and not waited for is made all the same, and a release finds it
/// over.
async fn renewal(protocol: Protocol, slow: Slow, polls: usize) -> bool {
    let what = format!("{protocol:?}, {slow:?}, dropped at poll {polls}");
    let peer = Peer::start();
    let (client, guard) = held(&peer, protocol).await;
    slow.begin(&peer);
    let renewed = dropped_at(polls, slow, guard.renew()).await;
    Slow::end(&peer);
    let over = renewed.is_some();
    if let Some(renewed) = renewed {
        assert!(!renewed.expect("answered").is_zero(), "{what}");
    }
    assert!(guard.is_valid(), "{what}");
    let released = guard.release().await.expect("answered");
    assert_eq!(released, ReleaseOutcome::Released, "{what}");
    let renewals = renewals(&peer);
    assert!(renewals <= usize::from(polls > 0), "{what}");
    assert!(!over || renewals == 1, "{what}");
    check_free(&peer, &client, &what).await;
    over
}

#[tokio::test]
async fn dropped_renewal_leaves_nothing() {
    at_every_poll(renewal).await;
}

async fn verification(protocol: Protocol, slow: Slow, polls: usize) -> bool {
    let what = format!("{protocol:?}, {slow:?}, dropped at poll {polls}");
    let peer = Peer::start();
    let (client, guard) = held(&peer, protocol).await;
    slow.begin(&peer);
    let verified = dropped_at(polls, slow, guard.verify()).await;
    Slow::end(&peer);
    let over = verified.is_some();
    if let Some(verified) = verified {
        verified.expect("answered");
    }
    guard.verify().await.expect("it is ours");
    let released = guard.release().await.expect("answered");
    assert_eq!(released, ReleaseOutcome::Released, "{what}");
    check_free(&peer, &client, &what).await;
    over
}

#[tokio::test]
async fn verification_survives_dropped_call() {
    at_every_poll(verification).await;
}

/// A call that takes a lock over and is dropped leaves it to any client that has the parts.
async fn handover(protocol: Protocol, slow: Slow, polls: usize) -> bool {
    let what = format!("{protocol:?}, {slow:?}, dropped at poll {polls}");
    let peer = Peer::start();
    let (client, guard) = held(&peer, protocol).await;
    let parts = guard.detach();
    slow.begin(&peer);
    let taken = dropped_at(polls, slow, LockGuard::attach(&client, &parts)).await;
    Slow::end(&peer);
    let over = taken.is_some();
    let parts = match taken {
        Some(taken) => taken.expect("ours").detach(),
        None => parts,
    };
    let guard = LockGuard::attach(&client, &parts).await;
    let released = guard.expect("ours").release().await.expect("answered");
    assert_eq!(released, ReleaseOutcome::Released, "{what}");
    check_free(&peer, &client, &what).await;
    over
}

#[tokio::test]
async fn dropped_takeover_leaves_ticket_usable() {
    at_every_poll(handover).await;
}

#[tokio::test]
async fn dropped_call_spares_next_callers_reply() {
    for protocol in DIALECTS {
        let peer = Peer::start();
        let client = client(&peer, protocol).await;
        let mut guards = Vec::new();
        for name in ["a", "b"] {
            let lock = client.lock(name).lease(LEASE).label(name);
            guards.push(lock.acquire().await.expect("free"));
        }
        for slow in SLOWNESS {
            for polls in slow.polls() {
                let what = format!("{protocol:?}, {slow:?}, dropped at poll {polls}");
                slow.begin(&peer);
                let asked = dropped_at(polls, slow, client.holder("a")).await;
                let mut next = Box::pin(client.holder("b"));
                // It is under way before the other's answer comes.
                let early = dropped_at(1, Slow::Silent, &mut next).await;
                Slow::end(&peer);
                let next = match early {
                    Some(early) => early,
                    None => next.await,
                };
                for (answer, label) in [(Some(next), "b"), (Some(client.holder("a").await), "a")] {
                    let holder = answer.expect("just put there").expect("answered");
                    assert_eq!(holder.expect("held").label, label, "{what}");
                }
                if asked.is_some() {
                    break;
                }
                assert!(polls + 1 < MOST_POLLS, "{what}: it never ends");
            }
            peer.answer_in_pieces(usize::MAX);
        }
        check_requests(&peer, "holder");
        assert_eq!(peer.accepted(), 1, "nobody closed the connection");
    }
}
