//! One run: rounds of faults, each with its own processes and its own history, which is judged when
//! all have left.

use super::clock_log::ClockLog;
use super::eviction_load::EvictionLoad;
use super::fault_plan::FaultPlan;
use super::history::check::check;
use super::history::event::Event;
use super::history::holdings::History;
use super::history::reader;
use super::history::recorder::Recorder;
use super::history::report::Report;
use super::history::violation::Violation;
use super::memcached::{Binary, RealServer};
use super::mode::Mode;
use super::plan::{self, Post};
use super::proxy::Proxy;
use super::rng::Rng;
use super::traffic::Traffic;
use super::workers::{self, Worker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

/// The longest that a history grows before it is judged and thrown away.
const ROUND: Duration = Duration::from_secs(90);

/// Longest time until the first lock is granted.
const BEGIN: Duration = Duration::from_secs(30);

/// Longest time for processes to leave.
const LEAVE: Duration = Duration::from_secs(30);

/// Time after the longest lease within which a lock that was left must be free.
const FREE: Duration = Duration::from_secs(5);

/// The number under which the driver writes.
const DRIVER: u32 = 0;

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// The time for which faults were done.
    pub(crate) stormed: Duration,
    /// The slowest that all was free behind the end of a round.
    pub(crate) freed: Duration,
    /// Items that the server evicted.
    pub(crate) evicted: u64,
    /// The reason why the wall clock was not set, if it was not.
    pub(crate) clock: Option<String>,
    /// The folder with the history of a round with violations.
    pub(crate) kept: Option<PathBuf>,
}

/// All that outlives a round.
struct Driver {
    server: RealServer,
    proxies: Vec<Proxy>,
    clock: ClockLog,
    dice: Rng,
    mode: Mode,
    folder: PathBuf,
    /// The number of the next process.
    next: u32,
    outcome: Outcome,
}

pub(crate) fn run(
    binary: &Binary,
    mode: Mode,
    seed: u64,
    length: Duration,
    set_clock: bool,
) -> Outcome {
    let server = binary.start(mode.server_args());
    let proxies = plan::PROXIED.map(|slot| Proxy::start(server.address(), seed ^ u64::from(slot)));
    let pid = std::process::id();
    let folder = format!("memlatch-chaos-{pid}-{}-{mode}", binary.version);
    let mut driver = Driver {
        server,
        proxies: proxies.into(),
        clock: ClockLog::new(set_clock),
        dice: Rng::new(seed, 0),
        mode,
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder),
        next: DRIVER + 1,
        outcome: Outcome {
            report: Report::default(),
            faults: BTreeMap::new(),
            stormed: Duration::ZERO,
            freed: Duration::ZERO,
            evicted: 0,
            clock: None,
            kept: None,
        },
    };
    let mut left = length;
    for round in 1.. {
        // No round is much shorter than the others.
        let storm = if left < ROUND * 3 / 2 { left } else { ROUND };
        driver.round(round, storm);
        left -= storm;
        if left.is_zero() || !driver.outcome.report.violations.is_empty() {
            break;
        }
    }
    driver.outcome.evicted = evictions(&driver.server);
    driver.outcome.clock = driver.clock.refused().map(str::to_owned);
    driver.outcome
}

impl Driver {
    fn round(&mut self, round: u32, length: Duration) {
        // Nothing is left there by a run whose process had this number before.
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder).expect("a folder for the histories");
        let recorder = Recorder::create(&self.folder, DRIVER);
        let mut crew: Vec<Worker> = (0..plan::SLOTS)
            .map(|slot| Worker::start(self.post(round, slot)))
            .collect();
        let address = self.server.address();
        let flood = self.mode.is_flooded().then(|| EvictionLoad::start(address));
        // Where nothing presses them out, the locks share the server with a cache all the same.
        let traffic = flood.is_none().then(|| {
            let seed = self.dice.next();
            Traffic::start(address, seed, 1, read_by_others(round))
        });
        let mut wrong = Vec::new();
        if !self.has_begun() {
            wrong.push(format!("nothing was granted within {BEGIN:?}"));
        }
        let mut weather = FaultPlan {
            server: &mut self.server,
            crew: &mut crew,
            proxies: &self.proxies,
            clock: &mut self.clock,
            recorder: &recorder,
            dice: &mut self.dice,
            faults: &mut self.outcome.faults,
            next: &mut self.next,
            mode: self.mode,
        };
        wrong.extend(weather.storm(length));
        drop((flood, traffic));
        wrong.extend(workers::dismiss(&mut crew, &recorder, LEAVE));
        let left = self.left(round);
        let mut report = self.judge();
        let violations = &mut report.violations;
        violations.extend(wrong.into_iter().map(Violation::Malformed));
        violations.extend(left.map(Violation::StillHeld));
        if report.violations.is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        } else {
            self.outcome.kept = Some(self.folder.clone());
        }
        self.outcome.report.add(report);
        self.outcome.stormed += length;
    }

    /// Waits until something is granted: the first processes on a server wait for the longest lease.
    fn has_begun(&self) -> bool {
        let granted = |path: &Path| {
            fs::read_to_string(path).is_ok_and(|history| history.contains(" granted "))
        };
        let began = Instant::now();
        while began.elapsed() < BEGIN {
            let files = fs::read_dir(&self.folder).expect("the folder is there");
            if files.flatten().any(|file| granted(&file.path())) {
                return true;
            }
            sleep(Duration::from_millis(50));
        }
        false
    }

    fn post(&mut self, round: u32, slot: u32) -> Post {
        let proxy = plan::PROXIED.iter().position(|proxied| *proxied == slot);
        let process = self.next;
        self.next += 1;
        Post {
            url: proxy.map_or_else(|| self.server.url(), |at| self.proxies[at].url()),
            folder: self.folder.clone(),
            process,
            slot,
            round,
            seed: self.dice.next(),
            guard: self.mode.restart_guard(),
        }
    }

    /// All workers have gone: waits until all is free. Returns the locks that are not free in time.
    fn left(&mut self, round: u32) -> Option<String> {
        let limit = Duration::from_secs(5);
        let began = Instant::now();
        // What a proxy delivers late begins a lease.
        while self.proxies.iter().any(|proxy| proxy.open() > 0) && began.elapsed() < limit {
            sleep(Duration::from_millis(10));
        }
        let looks: String = (0..plan::KEYS)
            .map(|key| {
                let (prefix, name) = (plan::PREFIX, plan::name(round, key));
                format!("mg {prefix}lock:{name} k t\r\n")
            })
            .collect();
        let began = Instant::now();
        loop {
            let answers = self.server.command(looks.as_bytes());
            let answers = String::from_utf8_lossy(&answers).into_owned();
            let held = answers.lines().filter(|line| !line.starts_with("EN"));
            let held: Vec<_> = held.collect();
            let took = began.elapsed();
            if held.is_empty() {
                self.outcome.freed = self.outcome.freed.max(took);
                return None;
            }
            if took > plan::LONGEST + FREE {
                return Some(format!("after {took:?}: {}", held.join(", ")));
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Reads and judges what was written.
    fn judge(&self) -> Report {
        let history = reader::read(&self.folder)
            .map_err(|error| Violation::Malformed(format!("{error:?}")))
            .and_then(|events: Vec<Event>| History::new(&events));
        match history {
            Ok(history) => check(&history, &self.mode.rules()),
            Err(violation) => Report {
                violations: vec![violation],
                ..Report::default()
            },
        }
    }
}

/// Keys of the locks that something else reads now and then.
fn read_by_others(round: u32) -> Vec<String> {
    let prefix = plan::PREFIX;
    let locks = (0..4).map(|number| plan::name(round, plan::hot(number)));
    let locks = locks.map(|name| format!("{prefix}lock:{name}"));
    locks.chain([format!("{prefix}sentinel")]).collect()
}

fn evictions(server: &RealServer) -> u64 {
    let answer = server.command(b"stats\r\n");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let counted = answer
        .lines()
        .find_map(|line| line.strip_prefix("STAT evictions "));
    counted.and_then(|count| count.parse().ok()).unwrap_or(0)
}
