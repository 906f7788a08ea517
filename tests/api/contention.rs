//! Processes that fight for one lock, and the log that shows whether two ever held it at once.
//!
//! Each worker is this test binary again, with its orders in the environment. It writes begin and
//! end of every holding on the machine's monotonic clock, which all processes share.
#![cfg(feature = "tokio")]

use crate::support::memcached;
use core::fmt::Write as _;
use core::time::Duration;
use memlatch::{Client, Protocol};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, process};

const WORKERS: usize = 6;
const FIGHT: Duration = Duration::from_secs(10);

/// One holding, for as long as its guard was valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Holding {
    begin: u64,
    end: u64,
    token: u64,
    worker: usize,
}

fn monotonic_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).expect("since boot") * 1_000_000_000
        + u64::try_from(time.tv_nsec).expect("below a second")
}

#[test]
#[ignore = "what the workers of the other tests run"]
fn worker() {
    let url = env::var("MEMLATCH_TEST_SERVER").expect("started by another test");
    let log = env::var("MEMLATCH_TEST_LOG").expect("set with the server");
    let seconds: u64 = env::var("MEMLATCH_TEST_SECONDS")
        .expect("set with the server")
        .parse()
        .expect("a number");
    let protocol = env::var("MEMLATCH_TEST_CLASSIC")
        .is_ok()
        .then_some(Protocol::Classic);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut builder = Client::builder().server(url).restart_guard(false);
        if let Some(protocol) = protocol {
            builder = builder.protocol(protocol);
        }
        let client = builder.build().await.expect("the server is there");
        let lock = client.lock("fought over").lease(Duration::from_secs(5));
        let began = Instant::now();
        let mut lines = String::new();
        let mut round = 0;
        while began.elapsed() < Duration::from_secs(seconds) {
            let left = Duration::from_secs(seconds + 5).saturating_sub(began.elapsed());
            let guard = match lock.acquire_timeout(left).await {
                Ok(guard) => guard,
                Err(error) if error.is_timeout() => break,
                Err(error) => panic!("{error}"),
            };
            let begin = monotonic_nanos();
            round += 1;
            if round % 4 == 0 {
                tokio::time::sleep(Duration::from_micros(1500)).await;
            }
            let valid = guard.is_valid();
            let end = monotonic_nanos();
            assert!(
                valid,
                "a lock with a lease of 5 s was lost after {} ns",
                end - begin
            );
            let token = guard.fencing_token().expect("fencing is on");
            writeln!(lines, "{begin} {end} {token}").expect("memory");
            let _ = guard.release().await.expect("the server is there");
        }
        fs::write(log, lines).expect("the log can be written");
    });
}

/// The arguments that make this binary run one of its functions alone.
fn rerun(function: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this binary"));
    command
        .args(["--ignored", "--exact", function, "--nocapture"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

struct Workers {
    children: Vec<Child>,
    folder: PathBuf,
}

impl Workers {
    fn start(url: &str, classic: bool) -> Self {
        let name: String = url.chars().filter(char::is_ascii_alphanumeric).collect();
        let folder = env::temp_dir().join(format!("memlatch-{}-{name}-{classic}", process::id()));
        fs::create_dir_all(&folder).expect("a folder for the logs");
        let start = |worker| {
            let mut command = rerun("contention::worker");
            command
                .env("MEMLATCH_TEST_SERVER", url)
                .env("MEMLATCH_TEST_SECONDS", FIGHT.as_secs().to_string())
                .env("MEMLATCH_TEST_LOG", Self::log(&folder, worker));
            if classic {
                command.env("MEMLATCH_TEST_CLASSIC", "1");
            }
            command.spawn().expect("this binary can be run")
        };
        Self {
            children: (0..WORKERS).map(start).collect(),
            folder,
        }
    }

    fn log(folder: &Path, worker: usize) -> PathBuf {
        folder.join(worker.to_string())
    }

    fn finish(mut self) -> Vec<Holding> {
        for child in &mut self.children {
            let status = child.wait().expect("our child");
            assert!(status.success(), "a worker failed: {status}");
        }
        let mut holdings = Vec::new();
        for worker in 0..WORKERS {
            let log = fs::read_to_string(Self::log(&self.folder, worker)).expect("a log");
            for line in log.lines() {
                let mut numbers = line.split(' ').map(|n| n.parse().expect("a number"));
                let mut next = || numbers.next().expect("three numbers a line");
                holdings.push(Holding {
                    begin: next(),
                    end: next(),
                    token: next(),
                    worker,
                });
            }
        }
        holdings
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns an error if two holdings of a history overlap or its tokens do not rise.
fn check(mut holdings: Vec<Holding>) -> Result<(), String> {
    holdings.sort_unstable();
    for pair in holdings.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if second.begin < first.end {
            return Err(format!("two held at once: {first:?} and {second:?}"));
        }
        if second.token <= first.token {
            return Err(format!("the token did not rise: {first:?} and {second:?}"));
        }
    }
    Ok(())
}

#[test]
fn checker_finds_overlap_and_old_tokens() {
    let holding = |begin, end, token| Holding {
        begin,
        end,
        token,
        worker: 0,
    };
    assert!(check(vec![holding(5, 6, 2), holding(1, 2, 1)]).is_ok());
    let overlap = check(vec![holding(1, 5, 1), holding(4, 6, 2)]);
    assert!(overlap.is_err_and(|why| why.contains("at once")));
    let token = check(vec![holding(1, 2, 2), holding(3, 4, 2)]);
    assert!(token.is_err_and(|why| why.contains("did not rise")));
}

fn fight(url: &str, classic: bool) {
    let holdings = Workers::start(url, classic).finish();
    let count = holdings.len();
    let mut by_worker = [0; WORKERS];
    for holding in &holdings {
        by_worker[holding.worker] += 1;
    }
    assert!(count > 500, "only {count} holdings");
    assert!(
        by_worker.iter().filter(|n| **n > 0).count() > 1,
        "{by_worker:?}"
    );
    check(holdings).expect("mutual exclusion");
}

/// Each version by itself, so that they fight side by side.
fn fight_on(suite: usize, classic: bool) {
    // In CI a missing version is a failure of `required` itself.
    if let Some(binary) = memcached::required().get(suite) {
        let server = binary.start(&["-t", "4"]);
        fight(&server.url(), classic);
    }
}

#[test]
fn six_processes_on_the_oldest_server() {
    fight_on(0, false);
}

#[test]
fn six_processes_on_the_middle_server() {
    fight_on(1, false);
}

#[test]
fn six_processes_on_the_newest_server() {
    fight_on(2, false);
}

#[test]
fn six_processes_in_the_classic_dialect() {
    fight_on(0, true);
}

#[cfg(feature = "server")]
#[test]
fn six_processes_on_the_embedded_server() {
    let server = memlatch::server::Server::start().expect("a port on loopback");
    fight(&server.address(), false);
}

/// Acquires, says so, and waits to be killed.
#[test]
#[ignore = "what the holder of another test runs"]
fn victim() {
    let url = env::var("MEMLATCH_TEST_VICTIM").expect("started by another test");
    let log = env::var("MEMLATCH_TEST_LOG").expect("set with the server");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = Client::builder().server(url).restart_guard(false);
        let client = client.build().await.expect("the server is there");
        let lock = client.lock("victim").lease(Duration::from_secs(2));
        let guard = lock.acquire().await.expect("free");
        fs::write(log, "held").expect("the log can be written");
        guard.lost().await;
    });
}

#[test]
fn killed_holder_is_replaced_in_time() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let log = env::temp_dir().join(format!("memlatch-victim-{}", server.pid()));
        let _ = fs::remove_file(&log);
        let mut victim = rerun("contention::victim")
            .env("MEMLATCH_TEST_VICTIM", server.url())
            .env("MEMLATCH_TEST_LOG", &log)
            .spawn()
            .expect("this binary can be run");
        let began = Instant::now();
        while fs::read_to_string(&log).unwrap_or_default() != "held" {
            assert!(began.elapsed() < Duration::from_secs(20), "never held");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Long enough for renewals to have happened: it is the last one that counts.
        std::thread::sleep(Duration::from_secs(3));
        victim.kill().expect("our child");
        let killed = Instant::now();
        victim.wait().expect("our child");
        let _ = fs::remove_file(&log);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let client = Client::builder().server(server.url()).restart_guard(false);
            let client = client.build().await.expect("the server is there");
            let limit = Duration::from_secs(15);
            let guard = client.lock("victim").acquire_timeout(limit).await;
            let waited = killed.elapsed();
            drop(guard.expect("freed by the server"));
            assert!(waited < Duration::from_secs(7), "{waited:?}");
        });
    }
}
