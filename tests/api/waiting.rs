//! Waiting in one process: the call that asks the server, the order of the queue, and handoffs.
//! Against real memcached servers, in both APIs and both protocols.
#![cfg(all(feature = "tokio", feature = "blocking"))]

use crate::support::memcached;
use crate::support::test_server::TestServer;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use memcached::RealServer;
use memlatch::{Client, ErrorKind, LossReason, ReleaseOutcome, blocking};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;
use tokio::task::JoinHandle;

/// More than anything here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

const KEY: &str = "memlatch:lock:a";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A number that the server counts.
fn stat(server: &RealServer, name: &str) -> u64 {
    let text = String::from_utf8(server.command(b"stats\r\n")).expect("text");
    let line = text.lines().find_map(|line| {
        line.strip_prefix("STAT ")?
            .strip_prefix(name)?
            .strip_prefix(' ')
    });
    line.expect("counted").parse().expect("a number")
}

/// Number of items stored so far: one for each attempt to acquire and each handoff, in the meta
/// protocol nothing else.
fn stored(server: &RealServer) -> u64 {
    stat(server, "cmd_set")
}

/// Returns when so many calls of the client wait for the lock, each of them with its place in the line.
async fn wait_for_waiters(client: &Client, count: u64) {
    let began = Instant::now();
    while client.stats().waiting < count {
        assert!(began.elapsed() < LONG, "{}", client.stats());
        tokio::time::sleep(millis(1)).await;
    }
}

/// The same of the blocking API.
fn wait_for_waiting_threads(client: &blocking::Client, count: u64) {
    let began = Instant::now();
    while client.stats().waiting < count {
        assert!(began.elapsed() < LONG, "{}", client.stats());
        thread::sleep(millis(1));
    }
}

/// Starts a waiter and returns when it waits.
async fn waiter<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut work = Box::pin(work);
    // To its first wait for the server, or for its turn.
    let first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
    assert!(first, "there is nothing to wait for");
    tokio::spawn(work)
}

#[tokio::test]
async fn waiters_are_served_in_order() {
    for target in &TestServer::all() {
        let client = target.client().await;
        let guard = client.lock("a").acquire().await.expect("free");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        let mut tokens = vec![guard.fencing_token().expect("on")];
        // The first one asks the server before it gets into the line, so it must be there before
        // the others come.
        for number in 0..20 {
            let (lock, order) = (client.lock("a"), Arc::clone(&order));
            waiters.push(
                waiter(async move {
                    let guard = lock.acquire().await.expect("in the end");
                    order.lock().expect("whole").push(number);
                    tokio::task::yield_now().await;
                    let token = guard.fencing_token().expect("on");
                    match number % 3 {
                        0 => drop(guard),
                        1 => guard.release_quietly(),
                        _ => {
                            let outcome = guard.release().await.expect("answered");
                            assert_eq!(outcome, ReleaseOutcome::Released);
                        }
                    }
                    token
                })
                .await,
            );
            if number == 0 {
                wait_for_waiters(&client, 1).await;
            }
        }
        let before = stored(&target.server);
        let outcome = guard.release().await.expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        for waiter in waiters {
            let token = tokio::time::timeout(LONG, waiter).await;
            tokens.push(token.expect("in time").expect("no panic"));
        }
        assert_eq!(*order.lock().expect("whole"), (0..20).collect::<Vec<_>>());
        assert!(tokens.windows(2).all(|two| two[0] < two[1]), "{tokens:?}");
        if target.protocol.is_none() {
            assert_eq!(
                stored(&target.server) - before,
                20,
                "each is handed off by one request"
            );
        }
        assert!(client.shutdown(LONG).await);
        assert_eq!(client.holder("a").await.expect("answered"), None);
    }
}

/// While a task of the same client holds the lock, its waiters send nothing.
#[tokio::test]
async fn held_lock_stops_local_polling() {
    for target in &TestServer::all() {
        let client = target.client().await;
        let guard = client.lock("a").acquire().await.expect("free");
        let mut waiters = Vec::new();
        for number in 0..64 {
            let lock = client.lock("a");
            waiters.push(waiter(async move { drop(lock.acquire().await) }).await);
            if number == 0 {
                wait_for_waiters(&client, 1).await;
            }
        }
        // The keeper reads the server's clock in the first second.
        tokio::time::sleep(millis(1500)).await;
        let before = stat(&target.server, "cmd_get") + stat(&target.server, "cmd_meta");
        tokio::time::sleep(millis(1000)).await;
        let after = stat(&target.server, "cmd_get") + stat(&target.server, "cmd_meta");
        assert!(after - before < 10, "{} requests", after - before);
        drop(guard);
        for waiter in waiters {
            tokio::time::timeout(LONG, waiter)
                .await
                .expect("in time")
                .expect("no panic");
        }
        assert!(client.shutdown(LONG).await);
    }
}

#[tokio::test]
async fn timed_out_waiter_names_holder() {
    for target in &TestServer::all() {
        let client = target.client().await;
        let guard = client
            .lock("a")
            .label("busy")
            .acquire()
            .await
            .expect("free");
        let began = Instant::now();
        let waiters: Vec<_> = (1..=5)
            .map(|number| {
                let lock = client.lock("a");
                tokio::spawn(async move { lock.acquire_timeout(millis(100 * number)).await })
            })
            .collect();
        for waiter in waiters {
            let error = waiter.await.expect("no panic").expect_err("held");
            assert!(error.is_timeout(), "{error}");
            assert_eq!(error.holder().expect("known").label, "busy");
        }
        assert!(began.elapsed() >= millis(500));
        // Without waiters there is no handoff.
        assert!(
            client
                .lock("a")
                .try_acquire()
                .await
                .expect("answered")
                .is_none()
        );
        let released = guard.release().await.expect("answered");
        assert_eq!(released, ReleaseOutcome::Released);
        assert_eq!(client.holder("a").await.expect("answered"), None);
    }
}

#[tokio::test]
async fn cancelled_waiters_lose_no_lock() {
    for target in &TestServer::all() {
        let client = target.client().await;
        for polls in 0..12 {
            let guard = client.lock("a").acquire().await.expect("free");
            let lock = client.lock("a");
            let mut leaver = Box::pin(async move { lock.acquire().await.map(drop) });
            let _ = poll_fn(|cx| Poll::Ready(leaver.as_mut().poll(cx))).await;
            tokio::time::sleep(millis(5)).await;
            let _ = poll_fn(|cx| Poll::Ready(leaver.as_mut().poll(cx))).await;
            let lock = client.lock("a");
            let stayer = waiter(async move { lock.acquire().await.map(drop) }).await;
            tokio::task::yield_now().await;
            drop(guard);
            // The lock goes to the leaver now, which is dropped somewhere on the way to it.
            for _ in 0..polls {
                let over = poll_fn(|cx| Poll::Ready(leaver.as_mut().poll(cx).is_ready())).await;
                if over {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(leaver);
            let stayed = tokio::time::timeout(LONG, stayer).await.expect("in time");
            stayed.expect("no panic").expect("the lock");
        }
        assert!(client.shutdown(LONG).await);
    }
}

#[tokio::test]
async fn other_processes_get_a_turn() {
    for target in &TestServer::all() {
        // With two tasks and a rest between, the queue is empty whenever one has got the lock from
        // the other.
        for (tasks, hold, rest) in [
            (2, millis(4), millis(1)),
            (8, Duration::ZERO, Duration::ZERO),
        ] {
            let busy = target.client().await;
            let stop = Arc::new(AtomicBool::new(false));
            let crowd: Vec<_> = (0..tasks)
                .map(|_| {
                    let (lock, stop) = (busy.lock("a"), Arc::clone(&stop));
                    tokio::spawn(async move {
                        while !stop.load(Ordering::Relaxed) {
                            let guard = lock.acquire().await.expect("in turn");
                            if !hold.is_zero() {
                                // The other comes to wait meanwhile.
                                tokio::time::sleep(hold).await;
                            }
                            drop(guard);
                            if !rest.is_zero() {
                                tokio::time::sleep(rest).await;
                            }
                        }
                    })
                })
                .collect();
            let other = target.client().await;
            for _ in 0..3 {
                let guard = other.lock("a").acquire_timeout(LONG).await;
                let outcome = guard.expect("in time").release().await;
                assert_eq!(outcome.expect("answered"), ReleaseOutcome::Released);
            }
            stop.store(true, Ordering::Relaxed);
            for task in crowd {
                task.await.expect("no panic");
            }
        }
    }
}

/// A release that hands off a lost lock reports the loss, and the next waiter acquires anew.
#[tokio::test]
async fn failed_handoff_passes_to_next() {
    for target in &TestServer::all() {
        let client = target.client().await;
        let guard = client.lock("a").acquire().await.expect("free");
        let lock = client.lock("a");
        let next = waiter(async move { lock.acquire().await }).await;
        wait_for_waiters(&client, 1).await;
        target
            .server
            .command(format!("delete {KEY}\r\n").as_bytes());
        let outcome = guard.release().await.expect("answered");
        let reason = LossReason::Missing;
        assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
        let next = tokio::time::timeout(LONG, next).await.expect("in time");
        drop(next.expect("no panic").expect("the lock"));
    }
}

#[tokio::test]
async fn lost_lock_is_contended_again() {
    for target in &TestServer::all() {
        let client = target.client().await;
        let held = client.lock("a").lease(millis(6000)).acquire().await;
        let held = held.expect("free");
        let lock = client.lock("a").lease(millis(6000));
        let next = waiter(async move { lock.acquire().await }).await;
        wait_for_waiters(&client, 1).await;
        target
            .server
            .command(format!("delete {KEY}\r\n").as_bytes());
        let reason = held.lost().await;
        assert_eq!(reason, LossReason::Missing);
        let next = tokio::time::timeout(LONG, next).await.expect("in time");
        let next = next.expect("no panic").expect("the lock");
        assert!(next.fencing_token() > held.fencing_token());
    }
}

#[tokio::test]
async fn shutdown_ends_waits_and_frees_handoffs() {
    for target in &TestServer::all() {
        let client = target.client().await;
        let guard = client.lock("a").acquire().await.expect("free");
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let lock = client.lock("a");
                tokio::spawn(async move { lock.acquire().await.map(drop) })
            })
            .collect();
        wait_for_waiters(&client, 4).await;
        drop(guard);
        assert!(client.shutdown(LONG).await);
        for waiter in waiters {
            let ended = tokio::time::timeout(LONG, waiter).await.expect("in time");
            if let Err(error) = ended.expect("no panic") {
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
        }
        let looker = target.client().await;
        let began = Instant::now();
        while looker.holder("a").await.expect("answered").is_some() {
            assert!(began.elapsed() < millis(5000), "left behind");
            tokio::time::sleep(millis(10)).await;
        }
    }
}

#[tokio::test]
async fn silent_server_fails_all_waiters_together() {
    let mut server = TestServer::all().swap_remove(0).server;
    let builder = Client::builder()
        .server(server.url())
        .restart_guard(false)
        .max_lease(core::time::Duration::from_secs(600));
    let client = builder.operation_timeout(millis(300)).build().await;
    let client = client.expect("there");
    let guard = client.lock("a").lease(millis(2000)).acquire().await;
    let guard = guard.expect("free");
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let lock = client.lock("a").lease(millis(2000));
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    wait_for_waiters(&client, 8).await;
    server.kill();
    let reason = guard.lost().await;
    assert_eq!(reason, LossReason::Unreachable);
    let began = Instant::now();
    for waiter in waiters {
        let ended = tokio::time::timeout(LONG, waiter).await.expect("in time");
        let error = ended.expect("no panic").expect_err("no server");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    // One tolerance of 5 s behind the other would be 40 s; each alone, side by side, is 10 s.
    assert!(began.elapsed() < millis(16_000), "{:?}", began.elapsed());
}

// ---- the blocking API ----

#[test]
fn threads_are_served_in_order() {
    for target in &TestServer::all() {
        let client = target.blocking_client();
        let guard = client.lock("a").acquire().expect("free");
        let (order, served) = mpsc::channel();
        let mut threads = Vec::new();
        for number in 0..8 {
            let (lock, order) = (client.lock("a"), order.clone());
            threads.push(thread::spawn(move || {
                let guard = lock.acquire().expect("in the end");
                order.send((number, guard.fencing_token())).expect("heard");
                match number % 3 {
                    0 => drop(guard),
                    1 => guard.release_quietly(),
                    _ => {
                        let outcome = guard.release().expect("answered");
                        assert_eq!(outcome, ReleaseOutcome::Released);
                    }
                }
            }));
            wait_for_waiting_threads(&client, number + 1);
        }
        let before = stored(&target.server);
        let outcome = guard.release().expect("answered");
        assert_eq!(outcome, ReleaseOutcome::Released);
        for thread in threads {
            thread.join().expect("no panic");
        }
        let served: Vec<_> = served.try_iter().collect();
        assert!(served.windows(2).all(|two| two[0] < two[1]), "{served:?}");
        assert_eq!(served.len(), 8);
        if target.protocol.is_none() {
            assert_eq!(
                stored(&target.server) - before,
                8,
                "each is handed off by one request"
            );
        }
        assert!(client.shutdown(LONG));
        assert_eq!(client.holder("a").expect("answered"), None);
    }
}

#[test]
fn timeout_or_shutdown_ends_thread_waits() {
    for target in &TestServer::all() {
        let client = target.blocking_client();
        let guard = client.lock("a").label("busy").acquire().expect("free");
        let limited: Vec<_> = (1..=3)
            .map(|number| {
                let lock = client.lock("a");
                thread::spawn(move || lock.acquire_timeout(millis(100 * number)).map(drop))
            })
            .collect();
        let endless: Vec<_> = (0..3)
            .map(|_| {
                let lock = client.lock("a");
                thread::spawn(move || lock.acquire().map(drop))
            })
            .collect();
        for thread in limited {
            let error = thread.join().expect("no panic").expect_err("held");
            assert!(error.is_timeout(), "{error}");
            assert_eq!(error.holder().expect("known").label, "busy");
        }
        assert!(client.shutdown(LONG));
        for thread in endless {
            let error = thread.join().expect("no panic").expect_err("closed");
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
        let reason = LossReason::Released;
        let outcome = guard.release().expect("known");
        assert_eq!(outcome, ReleaseOutcome::AlreadyLost { reason });
    }
}
