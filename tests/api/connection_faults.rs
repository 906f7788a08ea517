//! The callers that share a connection when something happens to it, or to one of them:
//! buffers that are full, callers that go without a word, runtimes that end, streams that end, a
//! server that is not there.
#![cfg(all(unix, feature = "tokio", feature = "server"))]

use crate::support::peer;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use memlatch::{Client, ClientBuilder, ErrorKind, Holder, LockError, LockGuard};
use peer::{LIMIT, Peer, until};
use std::collections::BTreeSet;
use std::time::Instant;
use tokio::task::JoinSet;

/// More requests than a Unix socket takes at once.
const MANY: usize = 2000;

type Asking = Pin<Box<dyn Future<Output = Result<Option<Holder>, LockError>> + Send>>;
type Trying = Pin<Box<dyn Future<Output = Result<Option<LockGuard>, LockError>> + Send>>;

fn builder(peer: &Peer) -> ClientBuilder<Client> {
    let builder = Client::builder()
        .server(peer.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
    builder.operation_timeout(LIMIT)
}

async fn client(peer: &Peer) -> Client {
    builder(peer).build().await.expect("the peer is there")
}

fn ask(client: &Client, name: &str) -> Asking {
    let (client, name) = (client.clone(), name.to_owned());
    Box::pin(async move { client.holder(name).await })
}

fn try_for(client: &Client, name: &str) -> Trying {
    let lock = client.lock(name);
    Box::pin(async move { lock.try_acquire().await })
}

/// Polls each of them once, whether it was woken or not, so many times round. What is written at
/// all is written when they were polled twice.
async fn poll_all<F: Future + Unpin>(futures: &mut [F], times: usize) {
    for _ in 0..times {
        poll_fn(|cx| {
            for future in &mut *futures {
                assert!(Pin::new(future).poll(cx).is_pending(), "nobody answers yet");
            }
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
    }
}

/// A name that makes for long requests.
fn long_name(number: usize) -> String {
    format!("{number}{}", "-".repeat(200))
}

fn label(answer: Result<Option<Holder>, LockError>) -> String {
    answer.expect("answered").expect("held").label
}

/// The answer once there is a connection again. After a failure the client does not connect for a
/// moment.
async fn found_again(client: &Client) -> Option<Holder> {
    let began = Instant::now();
    loop {
        let call = tokio::time::timeout(LIMIT, client.holder("later")).await;
        match call.expect("it ends") {
            Ok(holder) => return holder,
            Err(error) => assert!(began.elapsed() < LIMIT, "not found again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Locks that are held under their own names as labels.
async fn hold(client: &Client, names: &[&str]) -> Vec<LockGuard> {
    let mut guards = Vec::new();
    for name in names {
        let lock = client.lock(*name).label(*name);
        guards.push(
            lock.lease(Duration::from_secs(600))
                .acquire()
                .await
                .expect("free"),
        );
    }
    guards
}

/// A peer that does not read keeps callers from writing. When they have gone, what was begun is
/// finished, and what was not begun is not sent.
#[tokio::test]
async fn abandoned_requests_arrive_whole() {
    let peer = Peer::start_unix();
    let client = client(&peer).await;
    peer.read(false);
    let mut asking: Vec<_> = (0..MANY).map(|n| ask(&client, &long_name(n))).collect();
    poll_all(&mut asking, 3).await;
    drop(asking);
    peer.read(true);
    assert_eq!(client.holder("next").await.expect("answered"), None);
    let asked = peer.count("----");
    assert!(
        asked > 100 && asked < 2 * MANY,
        "{asked} requests of {}",
        2 * MANY
    );
    for (requests, rest) in peer.seen() {
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
        for request in requests.iter().filter(|request| request.contains("----")) {
            let begun = ["mg memlatch:", "gets memlatch:"];
            let begun = begun.iter().any(|begin| request.starts_with(begin));
            let whole = begun && request.ends_with("\r\n");
            assert!(whole, "{request:?}");
        }
    }
    assert_eq!(peer.accepted(), 1);
}

/// A peer that answers before it reads on, in answers of thousands of bytes, while the client has
/// more to write than there is room for: a client that only wrote, or only read, would wait for
/// ever.
#[tokio::test]
async fn reads_and_writes_overlap() {
    let peer = Peer::start_unix();
    let client = client(&peer).await;
    let name = long_name(0);
    peer.set(&format!("memlatch:lock:{name}"), &[b'x'; 4000]);
    peer.read(false);
    let mut asking: Vec<_> = (0..MANY).map(|_| ask(&client, &name)).collect();
    poll_all(&mut asking, 3).await;
    peer.read(true);
    let mut callers = JoinSet::new();
    for asking in asking {
        callers.spawn(asking);
    }
    while let Some(answer) = callers.join_next().await {
        // The holder is unknown.
        let holder = answer.expect("no panic").expect("answered").expect("held");
        assert_eq!(holder.host, "");
    }
    assert_eq!(peer.count("mg memlatch:lock:"), MANY);
    assert_eq!(peer.accepted(), 1);
}

/// A call that waits for room while the peer does not read ends by its time limit, and so does
/// every other call.
#[tokio::test]
async fn unreading_peer_is_given_up() {
    let peer = Peer::start_unix();
    let builder = builder(&peer).operation_timeout(Duration::from_millis(300));
    let client = builder.build().await.expect("the peer is there");
    peer.read(false);
    let began = Instant::now();
    let mut callers = JoinSet::new();
    // More than are taken at a time.
    for number in 0..5000 {
        callers.spawn(ask(&client, &long_name(number)));
    }
    while let Some(answer) = callers.join_next().await {
        let error = answer.expect("no panic").expect_err("nobody answers");
        assert!(error.is_unavailable(), "{error}");
    }
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    peer.hang_up(false);
    peer.read(true);
    assert_eq!(found_again(&client).await, None);
}

/// Of those who wait, one reads for all. If its future is neither polled nor dropped any more,
/// the others wait as long as they would for a server that is silent; then there is another
/// connection. The answer for the forgotten future is dropped.
#[tokio::test]
async fn forgotten_driver_delays_others_until_timeout() {
    let peer = Peer::start();
    let limit = Duration::from_millis(500);
    let builder = builder(&peer).operation_timeout(limit);
    let client = builder.build().await.expect("the peer is there");
    let _guards = hold(&client, &["a", "b"]).await;
    assert_eq!(peer.accepted(), 1);
    peer.answer(false);
    let mut forgotten = [ask(&client, "a")];
    poll_all(&mut forgotten, 2).await;
    core::mem::forget(forgotten);
    let mut waiting = [ask(&client, "b")];
    poll_all(&mut waiting, 3).await;
    peer.answer(true);
    let began = Instant::now();
    let [waiting] = waiting;
    let error = waiting.await.expect_err("nobody reads");
    assert!(error.is_unavailable(), "{error}");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    assert_eq!(label(client.holder("b").await), "b");
    assert_eq!(label(client.holder("a").await), "a");
    assert_eq!(peer.accepted(), 2);
}

#[tokio::test]
async fn forgotten_reader_delays_nobody() {
    let peer = Peer::start();
    let client = client(&peer).await;
    let _guards = hold(&client, &["a", "b", "c"]).await;
    peer.answer(false);
    let mut asking = [ask(&client, "a"), ask(&client, "b"), ask(&client, "c")];
    poll_all(&mut asking, 3).await;
    peer.answer(true);
    let [first, second, third] = asking;
    core::mem::forget(second);
    assert_eq!(label(first.await), "a");
    assert_eq!(label(third.await), "c");
    assert_eq!(label(client.holder("b").await), "b");
    assert_eq!(peer.accepted(), 1);
}

/// A task that panics while its call is under way drops the call.
#[tokio::test]
async fn panicking_task_harms_no_other() {
    let peer = Peer::start();
    let client = client(&peer).await;
    let _guards = hold(&client, &["a", "b"]).await;
    for polls in 0..4 {
        peer.answer(false);
        let mut clumsy = [ask(&client, "a")];
        poll_all(&mut clumsy, polls).await;
        let mut waiting = [ask(&client, "b")];
        poll_all(&mut waiting, 2).await;
        let clumsy = tokio::spawn(async move {
            let _kept = clumsy;
            panic!("on purpose");
        });
        assert!(clumsy.await.expect_err("it panics").is_panic());
        peer.answer(true);
        let [waiting] = waiting;
        assert_eq!(label(waiting.await), "b");
    }
    assert_eq!(peer.accepted(), 1);
}

/// Calls whose requests were on their way fail as unknown; calls whose requests were not yet sent
/// fail as unavailable.
#[tokio::test]
async fn requests_at_stream_end_are_unknown() {
    tokio::join!(end_the_stream(false), end_the_stream(true));
}

async fn end_the_stream(reset: bool) {
    let peer = Peer::start_unix();
    // They go on trying for so long.
    let builder = builder(&peer).operation_timeout(Duration::from_secs(4));
    let client = builder.build().await.expect("the peer is there");
    peer.read(false);
    let name = |group: &str, number| format!("{group}/{number}");
    let mut sent: Vec<_> = (0..8).map(|n| try_for(&client, &name("sent", n))).collect();
    poll_all(&mut sent, 3).await;
    // Behind these there is no room.
    let mut filling: Vec<_> = (0..MANY / 2).map(|n| ask(&client, &long_name(n))).collect();
    poll_all(&mut filling, 3).await;
    let mut unsent: Vec<_> = (0..8)
        .map(|n| try_for(&client, &name("unsent", n)))
        .collect();
    poll_all(&mut unsent, 3).await;
    peer.refuse(true);
    peer.hang_up(reset);
    let (mut unknown, mut unavailable) = (JoinSet::new(), JoinSet::new());
    for call in sent {
        unknown.spawn(call);
    }
    for call in unsent {
        unavailable.spawn(call);
    }
    while let Some(result) = unknown.join_next().await {
        let error = result.expect("no panic").expect_err("the stream ended");
        assert!(error.is_unknown(), "{error}");
    }
    while let Some(result) = unavailable.join_next().await {
        let error = result.expect("no panic").expect_err("the stream ended");
        assert!(error.is_unavailable(), "{error}");
    }
    let error = client.lock("later").try_acquire().await.expect_err("down");
    assert!(error.is_unavailable(), "{error}");
}

/// Once the server is back in time, the same attempts are sent again. Whatever became of the
/// first ones, each lock is held once, by the caller that asked for it.
#[tokio::test]
async fn interrupted_attempts_repeat_unchanged() {
    for reset in [false, true] {
        let peer = Peer::start();
        let client = client(&peer).await;
        peer.answer(false);
        let names: Vec<_> = (0..8).map(|n| format!("name/{n}")).collect();
        let mut calls: Vec<_> = names.iter().map(|name| try_for(&client, name)).collect();
        poll_all(&mut calls, 3).await;
        until("each request", || {
            peer.count("add memlatch:lock:name") == names.len()
        })
        .await;
        peer.hang_up(reset);
        peer.answer(true);
        let mut waiting = JoinSet::new();
        for call in calls {
            waiting.spawn(call);
        }
        let mut guards = Vec::new();
        while let Some(result) = waiting.join_next().await {
            let guard = result.expect("no panic").expect("the server is back");
            guards.push(guard.expect("free but for the own attempt"));
        }
        assert!(guards.iter().all(LockGuard::is_valid));
        for name in &names {
            let requests = peer.requests();
            let word = format!("add memlatch:lock:{name} ");
            let attempts = requests.iter().filter(|request| request.starts_with(&word));
            let attempts: Vec<_> = attempts.collect();
            assert_eq!(attempts.len(), 2, "{attempts:?}");
            let different: BTreeSet<_> = attempts.iter().collect();
            assert_eq!(different.len(), 1, "{attempts:?}");
        }
        assert_eq!(peer.accepted(), 2);
    }
}

/// While a server is down, calls fail without asking it each time, and when it is back they find
/// out by themselves.
#[tokio::test]
async fn failed_server_is_found_again() {
    let peer = Peer::start();
    let client = client(&peer).await;
    peer.refuse(true);
    peer.hang_up(false);
    let began = Instant::now();
    let before = peer.accepted();
    let mut failed = 0_u32;
    while failed < 1000 {
        if client.holder("a").await.is_err() {
            failed += 1;
        }
    }
    // A pause of 5 ms at least stands between two attempts to connect.
    let asked = peer.accepted() - before;
    let most = began.elapsed().as_millis() / 5 + 2;
    assert!(
        (asked as u128) <= most && asked < 500,
        "{asked} of at most {most}"
    );
    peer.refuse(false);
    assert_eq!(found_again(&client).await, None);
}

/// A server that takes connections and says nothing is given up as well.
#[tokio::test]
async fn connecting_has_a_limit() {
    let peer = Peer::start();
    peer.answer(false);
    let began = Instant::now();
    let builder = builder(&peer).operation_timeout(Duration::from_millis(200));
    let error = builder.build().await.expect_err("nobody answers");
    assert!(error.is_unavailable(), "{error}");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
}

/// A runtime that ends drops the calls of its tasks; those that others make with the same client
/// end as well, or go on over a connection of their own.
#[test]
fn ended_runtime_spares_other_callers() {
    let peer = Peer::start();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (one, two) = (runtime(), runtime());
    let client = one.block_on(client(&peer));
    peer.answer(false);
    for number in 0..20 {
        one.spawn(ask(&client, &format!("asked/{number}")));
        one.spawn(try_for(&client, &format!("wanted/{number}")));
    }
    two.block_on(until("a request", || peer.count("memlatch:lock:") > 0));
    let waiting = two.spawn(ask(&client, "other"));
    let (done, over) = std::sync::mpsc::channel();
    let ending = std::thread::spawn(move || {
        drop(one);
        done.send(()).expect("waited for");
    });
    over.recv_timeout(LIMIT).expect("the runtime ends");
    ending.join().expect("no panic");
    peer.hang_up(false);
    peer.answer(true);
    two.block_on(async {
        let waited = tokio::time::timeout(LIMIT, waiting).await;
        match waited.expect("it ends").expect("no panic") {
            Ok(holder) => assert_eq!(holder, None),
            Err(error) => assert!(error.is_unavailable(), "{error}"),
        }
        assert_eq!(found_again(&client).await, None);
        // It would be neither renewed nor released.
        let wanted = tokio::time::timeout(LIMIT, client.lock("later").try_acquire()).await;
        let error = wanted.expect("it ends").expect_err("nobody keeps it");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    });
}

/// Time that the calls with a limit of 50 ms may take on a machine that is busy with other things:
/// that, an operation timeout, and something.
const SOON: Duration = Duration::from_millis(50 + 800 + 1000);

/// A handshake and an acquisition take several flights, each of which has a limit of its own: a
/// server that answers each of them just in time would keep the caller for as long as all of them.
#[tokio::test]
async fn timeout_holds_with_slow_server() {
    let limit = Duration::from_millis(50);
    let peer = Peer::start();
    peer.answer_late(Duration::from_millis(600));
    let builder = || {
        let builder = builder(&peer).operation_timeout(Duration::from_millis(800));
        builder.connect_timeout(LIMIT)
    };
    for set in [false, true] {
        let client = builder().build_lazy().expect("good settings");
        let began = Instant::now();
        let failed = if set {
            client
                .lock_all(["a", "b"])
                .acquire_timeout(limit)
                .await
                .err()
        } else {
            client.lock("a").acquire_timeout(limit).await.err()
        };
        let took = began.elapsed();
        let kind = failed.expect("no time for a handshake").kind();
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(took < SOON, "{took:?}");
        let began = Instant::now();
        let seen = client.wait_until_free("a", Some(limit)).await;
        assert!(seen.is_err(), "{seen:?}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    let began = Instant::now();
    let building = builder().wait_for_server(limit).build();
    assert!(building.await.is_err());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[cfg(feature = "blocking")]
#[test]
fn blocking_timeout_holds_with_slow_server() {
    use memlatch::blocking;
    let limit = Duration::from_millis(50);
    let peer = Peer::start();
    peer.answer_late(Duration::from_millis(600));
    let builder = || {
        let builder = blocking::Client::builder().server(peer.url());
        let builder = builder.restart_guard(false).connect_timeout(LIMIT);
        builder.operation_timeout(Duration::from_millis(800))
    };
    for set in [false, true] {
        let client = builder().build_lazy().expect("good settings");
        let began = Instant::now();
        let failed = if set {
            client.lock_all(["a", "b"]).acquire_timeout(limit).err()
        } else {
            client.lock("a").acquire_timeout(limit).err()
        };
        let took = began.elapsed();
        let kind = failed.expect("no time for a handshake").kind();
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(took < SOON, "{took:?}");
        let began = Instant::now();
        let seen = client.wait_until_free("a", Some(limit));
        assert!(seen.is_err(), "{seen:?}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    let began = Instant::now();
    assert!(builder().wait_for_server(limit).build().is_err());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
