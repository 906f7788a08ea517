//! A lock that is acquired and released again and again allocates nothing, in either API, once
//! buffers and tables have their size; nor does being refused, nor waiting.
#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

use allocation_counter::measure;
use core::pin::Pin;
use core::time::Duration;
use memlatch::server::Server;
use memlatch::{LockError, ReleaseOutcome};
use std::thread;

/// Number of runs of each case while allocations are counted.
const TIMES: u64 = 100;

/// Long enough for several looks at a lock that is held.
const HOLD: Duration = Duration::from_millis(40);

/// With a fencing token or not, and lean.
const WAYS: [(bool, bool); 3] = [(true, false), (false, false), (false, true)];

/// Now and then a keeper opens a connection of its own or starts a task. What is asked is whether
/// there are allocations that always happen.
const ROUNDS: usize = 10;

fn least(count: impl FnMut() -> u64) -> u64 {
    core::iter::repeat_with(count)
        .take(ROUNDS)
        .min()
        .unwrap_or(u64::MAX)
}

fn count(mut body: impl FnMut()) -> u64 {
    for _ in 0..3 {
        body();
    }
    least(|| measure(|| (0..TIMES).for_each(|_| body())).count_total)
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

fn released(outcome: Result<ReleaseOutcome, LockError>) {
    assert_eq!(outcome.expect("an answer"), ReleaseOutcome::Released);
}

fn server() -> Server {
    Server::start().expect("a free port")
}

fn blocking(server: &Server) -> memlatch::blocking::Client {
    let builder = memlatch::blocking::Client::builder();
    let builder = builder.server(server.address()).restart_guard(false);
    builder.build().expect("a server that answers")
}

#[test]
fn blocking_pair_allocates_nothing() {
    let server = server();
    let client = blocking(&server);
    for (fencing, lean) in WAYS {
        let lock = client.lock("pair").label("a name").fencing(fencing);
        let lock = if lean { lock.without_record() } else { lock };
        assert_eq!(
            count(|| {
                let guard = lock.acquire().expect("nobody has it");
                assert_eq!(guard.fencing_token().is_some(), fencing);
                released(guard.release());
            }),
            0
        );
        assert_eq!(
            count(|| drop(lock.try_acquire().expect("an answer").expect("free"))),
            0,
            "dropped"
        );
        assert_eq!(
            count(|| lock.acquire().expect("it becomes free").release_quietly()),
            0,
            "released quietly"
        );
    }
}

#[test]
fn blocking_contention_allocates_nothing() {
    let server = server();
    let (holder, client) = (blocking(&server), blocking(&server));
    let lock = client.lock("contended");
    released(lock.acquire().expect("nobody has it").release());
    let guard = holder.lock("contended").acquire().expect("nobody has it");
    assert_eq!(
        count(|| assert!(lock.try_acquire().expect("an answer").is_none())),
        0,
        "refused"
    );
    drop(guard);
    let waited = least(|| {
        let guard = holder.lock("contended").acquire().expect("nobody has it");
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(HOLD);
                released(guard.release());
            });
            measure(|| drop(lock.acquire().expect("it becomes free"))).count_total
        })
    });
    assert_eq!(waited, 0, "waited");
}

#[test]
fn async_pair_allocates_nothing() {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let connect = || {
        let builder = memlatch::Client::builder().server(server.address());
        runtime.block_on(builder.restart_guard(false).build())
    };
    let client = connect().expect("a server that answers");
    let run = |times: u64, future: &dyn Fn() -> Boxed| {
        let mut futures: Vec<_> = (0..times).map(|_| future()).collect();
        let counted = measure(|| {
            runtime.block_on(async {
                for future in &mut futures {
                    future.await;
                }
            });
        });
        counted.count_total
    };
    // The runtime allocates when it is entered, whatever is run.
    let count = |future: &dyn Fn() -> Boxed| {
        let once = least(|| run(1, future));
        least(|| run(1 + TIMES, future)) - once
    };
    for (fencing, lean) in WAYS {
        let lock = client.lock("pair").label("a name").fencing(fencing);
        let lock = if lean { lock.without_record() } else { lock };
        let pair = || {
            let lock = lock.clone();
            let pair = async move {
                let guard = lock.acquire().await.expect("nobody has it");
                assert_eq!(guard.fencing_token().is_some(), fencing);
                released(guard.release().await);
            };
            Box::pin(pair) as Boxed
        };
        assert_eq!(count(&pair), 0);
        let quiet = || {
            let lock = lock.clone();
            let quiet = async move {
                let guard = lock.acquire().await.expect("it becomes free");
                guard.release_quietly();
            };
            Box::pin(quiet) as Boxed
        };
        assert_eq!(count(&quiet), 0, "released quietly");
        let working = || {
            let lock = lock.clone();
            let working = async move {
                let guard = lock.acquire().await.expect("it becomes free");
                let work = guard.run(tokio::task::yield_now());
                work.await.expect("it is held");
                released(guard.release().await);
            };
            Box::pin(working) as Boxed
        };
        assert_eq!(count(&working), 0, "watched for its loss");
    }
    let holder = connect().expect("a server that answers");
    let lock = client.lock("contended");
    let guard = runtime.block_on(holder.lock("contended").acquire());
    let guard = guard.expect("nobody has it");
    let refused = || {
        let lock = lock.clone();
        let refused = async move {
            let refused = lock.try_acquire().await.expect("an answer");
            assert!(refused.is_none());
        };
        Box::pin(refused) as Boxed
    };
    assert_eq!(count(&refused), 0, "refused");
    drop(guard);
    let waited = || {
        let (holder, lock) = (holder.lock("contended"), lock.clone());
        let waited = async move {
            let guard = holder.acquire().await.expect("it becomes free");
            let release = async {
                tokio::time::sleep(HOLD / 10).await;
                released(guard.release().await);
            };
            let wait = async {
                let guard = lock.acquire().await.expect("it becomes free");
                released(guard.release().await);
            };
            tokio::join!(release, wait);
        };
        Box::pin(waited) as Boxed
    };
    let once = least(|| run(1, &waited));
    assert_eq!(least(|| run(11, &waited)), once, "waited");
}
