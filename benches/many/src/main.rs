//! Holds many locks with one client and prints the cost:
//!
//! ```text
//! memlatch-many ADDRESS FRONT COUNT LEASE ROUNDS
//! ```
//!
//! `FRONT` is `async` or `blocking`, `LEASE` is in seconds, `ROUNDS` is how many times each lock is
//! renewed during the measurement. The result is a row of the table in `docs/performance.md`.

use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The number of concurrent calls that acquire.
const CALLERS: usize = 64;

/// More than anything here takes.
const LONG: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memlatch-many: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, api, count, lease, rounds] = &words[..] else {
        return Err("needs ADDRESS FRONT COUNT LEASE ROUNDS".into());
    };
    let plan = Plan {
        address,
        count: count.parse()?,
        lease: Duration::from_secs(lease.parse()?),
        rounds: rounds.parse()?,
    };
    match api.as_str() {
        "async" => run_async(&plan),
        "blocking" => run_blocking(&plan),
        other => Err(format!("{other} is neither async nor blocking").into()),
    }
}

struct Plan<'a> {
    address: &'a str,
    count: usize,
    lease: Duration,
    rounds: u32,
}

impl Plan<'_> {
    /// The names of the locks of one caller.
    fn names(&self, caller: usize) -> impl Iterator<Item = String> + use<> {
        (caller..self.count)
            .step_by(CALLERS)
            .map(|number| format!("many/{number}"))
    }

    /// Waits until every lock was renewed so many times, and measures the process meanwhile.
    ///
    /// The first round is not measured: locks that were acquired at the same time are renewed at
    /// the same time in it.
    fn hold(&self, stats: impl Fn() -> memlatch::ClientStats) -> Held {
        let third = self.lease / 3;
        thread::sleep(third + third / 2);
        let (before, cpu, began) = (stats(), cpu(), Instant::now());
        thread::sleep(third * self.rounds);
        let after = stats();
        Held {
            renewals: after.renewals - before.renewals,
            cpu: crate::cpu() - cpu,
            time: began.elapsed(),
        }
    }

    /// Prints the row.
    fn report(&self, api: &str, bytes: u64, held: &Held, end: &End) {
        let count = self.count as u64;
        let micros = |cpu: Duration, count: u64| cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
        println!(
            "| {api} | {count} | {:?} | {} | {:.0} | {:.2} | {:.2} | {:.2} s | {} |",
            self.lease,
            bytes / count.max(1),
            held.renewals as f64 / held.time.as_secs_f64(),
            micros(held.cpu, held.renewals),
            micros(end.cpu, count),
            end.time.as_secs_f64(),
            end.lost,
        );
    }
}

/// The cost of renewing.
struct Held {
    renewals: u64,
    cpu: Duration,
    time: Duration,
}

/// The cost of releasing.
struct End {
    time: Duration,
    cpu: Duration,
    lost: u64,
}

/// The processor time of this process so far, in user and system mode.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The resident memory of this process.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("no VmRSS in /proc/self/status")?
        .parse()?;
    Ok(kib * 1024)
}

/// Measures `work`, which releases all: whether all were released, and the numbers after that.
fn give_back(work: impl FnOnce() -> (bool, memlatch::ClientStats)) -> Result<End> {
    let (before, began) = (cpu(), Instant::now());
    let (all, stats) = work();
    let end = End {
        time: began.elapsed(),
        cpu: cpu() - before,
        lost: stats.lost.total(),
    };
    match all {
        true => Ok(end),
        false => Err(format!("not all was given back: {stats}").into()),
    }
}

fn run_async(plan: &Plan<'_>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let builder = memlatch::Client::builder()
        .server(plan.address)
        .max_lease(plan.lease.max(memlatch::DEFAULT_LEASE));
    // The restart guard of a fresh server is not part of the measurement.
    let client = runtime.block_on(builder.restart_guard(false).build())?;
    let before = resident()?;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (client, names, lease) = (client.clone(), plan.names(caller), plan.lease);
            runtime.spawn(async move {
                let mut guards = Vec::new();
                for name in names {
                    guards.push(client.lock(name).lease(lease).acquire().await?);
                }
                Ok::<_, memlatch::LockError>(guards)
            })
        })
        .collect();
    let mut guards = Vec::new();
    for caller in callers {
        guards.extend(runtime.block_on(caller)??);
    }
    let bytes = resident()?.saturating_sub(before);
    let held = plan.hold(|| client.stats());
    let end = give_back(|| {
        drop(guards);
        let all = runtime.block_on(client.shutdown(LONG));
        (all, client.stats())
    })?;
    plan.report("async", bytes, &held, &end);
    Ok(())
}

fn run_blocking(plan: &Plan<'_>) -> Result<()> {
    let builder = memlatch::blocking::Client::builder()
        .server(plan.address)
        .max_lease(plan.lease.max(memlatch::DEFAULT_LEASE));
    let client = builder.restart_guard(false).build()?;
    let before = resident()?;
    let mut guards = Vec::new();
    for name in (0..CALLERS).flat_map(|caller| plan.names(caller)) {
        guards.push(client.lock(name).lease(plan.lease).acquire()?);
    }
    let bytes = resident()?.saturating_sub(before);
    let held = plan.hold(|| client.stats());
    let end = give_back(|| {
        drop(guards);
        (client.shutdown(LONG), client.stats())
    })?;
    plan.report("blocking", bytes, &held, &end);
    Ok(())
}
