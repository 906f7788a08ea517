//! Requests that travel together, and the cleanup after a dropped call; in both APIs.

use super::peer::{LIMIT, Peer, until};
use super::{LONG, TestServer, millis, seconds};
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use memlatch::{Client, ClientBuilder, MultiReleaseOutcome, Protocol, blocking};
use std::thread;
use std::time::Instant;
use tokio::task::JoinSet;

const DIALECTS: [Protocol; 2] = [Protocol::Meta, Protocol::Classic];

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Beyond the last poll of everything that is answered.
const MOST_POLLS: usize = 400;

fn settings<F>(builder: ClientBuilder<F>, peer: &Peer, protocol: Protocol) -> ClientBuilder<F> {
    let builder = builder
        .server(peer.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
    builder.protocol(protocol).operation_timeout(LIMIT)
}

async fn client(peer: &Peer, protocol: Protocol) -> Client {
    let client = settings(Client::builder(), peer, protocol).build().await;
    client.expect("the peer is there")
}

fn blocking_client(peer: &Peer, protocol: Protocol) -> blocking::Client {
    let client = settings(blocking::Client::builder(), peer, protocol).build();
    client.expect("the peer is there")
}

/// The names of the locks whose records were removed, in the order of the requests.
fn released(peer: &Peer) -> Vec<String> {
    let requests = peer.requests();
    let names = requests.iter().filter_map(|request| {
        let words: Vec<_> = request.split_whitespace().collect();
        match words[..] {
            ["md", key, cas, ..] if cas.starts_with('C') && !request.contains(" I") => Some(key),
            ["cas", key, "0", "2592001", "0", _] => Some(key),
            _ => None,
        }
    });
    let names = names.filter_map(|key| key.strip_prefix("memlatch:lock:"));
    names.map(str::to_owned).collect()
}

fn left(peer: &Peer) -> Vec<&'static str> {
    let is_there = |name: &&str| peer.server.item(format!("memlatch:lock:{name}")).is_some();
    NAMES.into_iter().filter(is_there).collect()
}

#[tokio::test]
async fn releases_share_one_flight() {
    for protocol in DIALECTS {
        let peer = Peer::start();
        let client = client(&peer, protocol).await;
        let guard = client.lock_all(NAMES).lease(LONG).acquire().await;
        let guard = guard.expect("free");
        peer.answer(false);
        let releasing = tokio::spawn(guard.release());
        until("the last release", || released(&peer).len() == 3).await;
        assert_eq!(released(&peer), ["c", "b", "a"]);
        peer.answer(true);
        let outcome = releasing.await.expect("no panic").expect("answered");
        assert_eq!(outcome, MultiReleaseOutcome::Released);
        assert_eq!(peer.accepted(), 1);

        let guard = client.lock_all(NAMES).lease(LONG).acquire().await;
        let guard = guard.expect("free");
        peer.answer(false);
        drop(guard);
        until("the last release", || released(&peer).len() == 6).await;
        peer.answer(true);
        assert!(client.shutdown(LIMIT).await);
        assert!(left(&peer).is_empty(), "{protocol:?}");
    }
}

#[tokio::test]
async fn threads_release_all_in_one_flight() {
    for protocol in DIALECTS {
        let peer = Peer::start();
        let client = blocking_client(&peer, protocol);
        for (round, drops) in [false, true].into_iter().enumerate() {
            let guard = client.lock_all(NAMES).lease(LONG).acquire();
            let guard = guard.expect("free");
            peer.answer(false);
            let releasing = thread::spawn(move || {
                if drops {
                    drop(guard);
                } else {
                    let outcome = guard.release().expect("answered");
                    assert_eq!(outcome, MultiReleaseOutcome::Released);
                }
            });
            let all = 3 * (round + 1);
            until("the last release", || released(&peer).len() == all).await;
            assert_eq!(released(&peer)[all - 3..], ["c", "b", "a"]);
            peer.answer(true);
            releasing.join().expect("no panic");
            assert!(left(&peer).is_empty(), "{protocol:?}");
        }
        assert_eq!(peer.accepted(), 1);
    }
}

#[tokio::test]
async fn threads_verify_all_in_one_flight() {
    for protocol in DIALECTS {
        let peer = Peer::start();
        let client = blocking_client(&peer, protocol);
        let guard = client.lock_all(NAMES).lease(LONG).acquire();
        let guard = guard.expect("free");
        let looks = |peer: &Peer| -> usize {
            let looks = NAMES.map(|name| format!(" memlatch:lock:{name}"));
            looks.iter().map(|look| peer.count(look)).sum()
        };
        let before = looks(&peer);
        peer.answer(false);
        thread::scope(|scope| {
            let verifying = scope.spawn(|| guard.verify());
            let began = Instant::now();
            while looks(&peer) < before + 3 {
                assert!(
                    began.elapsed() < LIMIT,
                    "they wait for each other's answers"
                );
                thread::sleep(millis(1));
            }
            peer.answer(true);
            verifying.join().expect("no panic").expect("ours");
        });
    }
}

/// True if these are certain until the same instant, which shows that one flight renewed them.
fn are_even(remaining: impl Fn(&str) -> Duration) -> bool {
    let (first, second, third) = (remaining("a"), remaining("b"), remaining("a"));
    first >= second && second >= third
}

/// The second lock of a set is acquired so much later than the first.
const APART: Duration = millis(300);

#[tokio::test]
async fn separately_acquired_locks_renew_together() {
    for target in &TestServer::all() {
        let build = || target.settings(Client::builder()).build();
        let (one, two) = (build().await.expect("there"), build().await.expect("there"));
        for by_hand in [true, false] {
            let kept = two.lock("b").acquire().await.expect("free");
            let set = one.lock_all(["a", "b"]).lease(seconds(4));
            let waiter = tokio::spawn(async move { set.acquire().await });
            until("it waits", || one.stats().waiting == 1).await;
            tokio::time::sleep(APART).await;
            drop(kept);
            let guard = waiter.await.expect("no panic").expect("free");
            let remaining = |name: &str| guard.get(name).expect("one of them").remaining();
            if by_hand {
                guard.renew().await.expect("ours");
                assert!(are_even(remaining));
            } else {
                until("a common renewal", || are_even(remaining)).await;
            }
            assert!(guard.is_valid());
            let outcome = guard.release().await.expect("answered");
            assert_eq!(outcome, MultiReleaseOutcome::Released);
        }
    }
}

#[tokio::test]
async fn separately_acquired_locks_renew_together_blocking() {
    for target in &TestServer::all() {
        let build = || target.settings(blocking::Client::builder()).build();
        let (one, two) = (build().expect("there"), build().expect("there"));
        for by_hand in [true, false] {
            let kept = two.lock("b").acquire().expect("free");
            let set = one.lock_all(["a", "b"]).lease(seconds(4));
            let waiter = thread::spawn(move || set.acquire());
            until("it waits", || one.stats().waiting == 1).await;
            tokio::time::sleep(APART).await;
            drop(kept);
            let guard = waiter.join().expect("no panic").expect("free");
            let remaining = |name: &str| guard.get(name).expect("one of them").remaining();
            if by_hand {
                guard.renew().expect("ours");
                assert!(are_even(remaining));
            } else {
                until("a common renewal", || are_even(remaining)).await;
            }
            assert!(guard.is_valid());
            assert_eq!(
                guard.release().expect("answered"),
                MultiReleaseOutcome::Released
            );
        }
    }
}

/// Polls a future so often, each time that it was woken, and drops it.
async fn dropped_at<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let mut polled = false;
        let output = poll_fn(|cx| {
            if polled {
                return Poll::Ready(None);
            }
            polled = true;
            future.as_mut().poll(cx).map(Some)
        });
        if let Some(output) = output.await {
            return Some(output);
        }
    }
    None
}

#[tokio::test]
async fn dropped_acquisition_leaves_no_lock() {
    for protocol in DIALECTS {
        for polls in 0..=MOST_POLLS {
            assert!(polls < MOST_POLLS, "it never ends");
            let peer = Peer::start();
            let client = client(&peer, protocol).await;
            let set = client.lock_all(NAMES).lease(LONG);
            let guard = dropped_at(polls, set.acquire()).await;
            let over = guard.is_some();
            drop(guard);
            assert!(client.shutdown(LIMIT).await, "{protocol:?}, poll {polls}");
            assert!(left(&peer).is_empty(), "{protocol:?}, poll {polls}");
            let count = |name| peer.count(&format!("add memlatch:lock:{name} "));
            let sent: usize = NAMES.into_iter().map(count).sum();
            let what = format!("{protocol:?}, poll {polls}: {:?}", peer.requests());
            assert_eq!(released(&peer).len(), sent, "{what}");
            if over {
                assert_eq!(sent, 3, "{what}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn dropped_release_is_finished() {
    for protocol in DIALECTS {
        for polls in 0..=MOST_POLLS {
            assert!(polls < MOST_POLLS, "it never ends");
            let peer = Peer::start();
            let client = client(&peer, protocol).await;
            let guard = client.lock_all(NAMES).lease(LONG).acquire().await;
            let guard = guard.expect("free");
            let outcome = dropped_at(polls, guard.release()).await;
            let over = outcome.is_some();
            assert!(client.shutdown(LIMIT).await, "{protocol:?}, poll {polls}");
            assert!(left(&peer).is_empty(), "{protocol:?}, poll {polls}");
            if let Some(outcome) = outcome {
                assert_eq!(outcome.expect("answered"), MultiReleaseOutcome::Released);
            }
            if over {
                break;
            }
        }
    }
}

/// A wait for a lock of another holder is dropped: the locks acquired before are released.
#[tokio::test]
async fn dropped_wait_leaves_no_lock() {
    for target in &TestServer::all() {
        let build = || target.settings(Client::builder()).build();
        let (one, two) = (build().await.expect("there"), build().await.expect("there"));
        let kept = two.lock("b").acquire().await.expect("free");
        let set = one.lock_all(["a", "b", "c"]).lease(LONG);
        for pause in [0, 1, 20, 300] {
            let waited = tokio::time::timeout(millis(pause), set.acquire()).await;
            assert!(waited.is_err(), "it is held");
            let guard = two.lock("a").acquire_timeout(seconds(20)).await;
            drop(guard.expect("given back"));
        }
        assert!(one.shutdown(LIMIT).await);
        target.all_are_free(&["c"]);
        assert!(kept.is_valid());
    }
}

async fn silence(target: TestServer) {
    let limit = millis(300);
    let one = target.settings(Client::builder()).operation_timeout(limit);
    let one = one.build().await.expect("there");
    let three = target.settings(blocking::Client::builder());
    let three = three.operation_timeout(limit).build().expect("there");
    let guard = one.lock_all(["a", "b"]).lease(LONG).acquire().await;
    let guard = guard.expect("free");
    let threads = three.lock_all(["c", "d"]).lease(LONG).acquire();
    let threads = threads.expect("free");
    target.server.stop_signal();
    let releasing = tokio::task::spawn_blocking(move || threads.release());
    let error = guard.release().await.expect_err("nobody answers");
    let other = releasing.await.expect("no panic");
    target.server.continue_signal();
    for (error, name) in [(error, "a"), (other.expect_err("nobody answers"), "c")] {
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("lock `{name}`")), "{text}");
    }
    let two = target.settings(Client::builder()).build().await;
    let set = two.expect("there").lock_all(["a", "b", "c", "d"]);
    // Well within the lease.
    let guard = set.acquire_timeout(LONG / 2).await;
    drop(guard.expect("given back"));
}

/// A server that does not answer keeps none of them from being released in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unanswered_releases_pass_to_renewer() {
    let mut targets = JoinSet::new();
    for target in TestServer::all() {
        targets.spawn(silence(target));
    }
    targets.join_all().await;
}
