//! `memlatch bench`: how fast locks are on a server.

mod histogram;
mod report;

use super::failure::{Failure, code};
use super::headings::OUTPUT;
use super::options::GlobalOptions;
use super::output;
use super::select::{Either, race};
use super::signals::{ENDING, Signals};
use super::stderr::Verbosity;
use super::{duration, server};
use core::hash::BuildHasher;
use core::time::Duration;
use histogram::Histogram;
use memlatch::{Client, Lock, LockError};
use report::Report;
use std::collections::hash_map::RandomState;

use std::time::Instant;
use tokio::task::JoinSet;

/// A prefix that no real lock uses, whatever --prefix says.
const PREFIX: &str = "memlatch-bench:";

/// The longest that is spent on what the locks are compared with.
const LOOKING: Duration = Duration::from_secs(1);

/// The time limit for cleanup.
const WAY_OUT: Duration = Duration::from_secs(1);

/// Measure how fast locks are on a server
///
/// Tasks acquire locks and give them back, as fast as they can. Shown is how long a pair of the two
/// takes, and what a look at a free lock takes, which is one round trip, for comparison. The names
/// are of this run alone, under the prefix memlatch-bench: in place of --prefix; the restart guard
/// is off. For some seconds, this is all the load that one process can make.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch bench --seconds 10
  memlatch bench --tasks 32 --contended")]
pub(super) struct Bench {
    /// Time to measure
    #[arg(long, value_name = "DURATION", default_value = "3", value_parser = duration::parse)]
    seconds: Duration,

    /// Number of tasks that acquire and release at once, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    tasks: u32,

    /// Number of connections that they share, 1 to 4
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    connections: u8,

    /// Number of locks for them, 1 to 1024 [default: one for each task]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    names: Option<u32>,

    /// All tasks want the same lock
    #[arg(long, conflicts_with = "names")]
    contended: bool,

    /// Locks without a record and a token
    #[arg(long)]
    without_record: bool,

    /// One JSON object in place of text; times are in microseconds
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

impl Bench {
    fn names(&self) -> u32 {
        if self.contended {
            1
        } else {
            self.names.unwrap_or(self.tasks)
        }
    }
}

pub(super) async fn bench(
    global: &GlobalOptions,
    options: Bench,
    voice: Verbosity,
) -> Result<u8, Failure> {
    server::check_address(global)?;
    if options.seconds.is_zero() {
        return Err(Failure::usage("--seconds: it must be more than 0"));
    }
    let mut signals = Signals::listen(&ENDING)
        .map_err(|error| Failure::system("cannot receive signals", &error))?;
    let connecting = server::builder(global)?
        .prefix(PREFIX)
        .restart_guard(false)
        .connections(options.connections.into())
        .build();
    let client = match race(connecting, signals.ending()).await {
        Either::A(client) => client?,
        Either::B(signal) => return Ok(code::of_signal(signal as i32)),
    };
    voice.detail(&format!(
        "measuring {} with {} tasks",
        client.server(),
        options.tasks
    ));
    let mut tasks = Tasks::new();
    let measuring = measure(&client, &options, &mut tasks);
    let measured = match race(measuring, signals.ending()).await {
        Either::A(measured) => measured.map_err(Failure::from),
        Either::B(signal) => Err(Failure::silent(code::of_signal(signal as i32))),
    };
    // Locks that remain after an interruption are released, once no task acquires any more.
    tasks.shutdown().await;
    client.shutdown(WAY_OUT).await;
    let report = measured?;
    let text = if options.json {
        report.object()
    } else {
        report.text()
    };
    output::print(&text)?;
    Ok(code::SUCCESS)
}

/// The counts of each task.
type Tasks = JoinSet<Result<Histogram, LockError>>;

async fn measure(client: &Client, options: &Bench, tasks: &mut Tasks) -> Result<Report, LockError> {
    // Told from those of every other run: the state begins at random.
    let run = RandomState::new().hash_one(std::process::id());
    let name = |number: u32| format!("{run:016x}/{number}");
    let round_trip = look(client, &name(0), (options.seconds / 4).min(LOOKING)).await?;
    let began = Instant::now();
    for number in 0..options.tasks {
        let lock = client.lock(name(number % options.names()));
        let lock = if options.without_record {
            lock.without_record()
        } else {
            lock
        };
        tasks.spawn(pairs(lock, began + options.seconds));
    }
    let mut pair = Histogram::new();
    while let Some(ended) = tasks.join_next().await {
        // A panic is passed on; no task is aborted.
        let counted = ended.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Ok(Histogram::new()),
        });
        pair.merge(&counted?);
    }
    Ok(Report {
        server: client.server(),
        took: began.elapsed(),
        tasks: options.tasks,
        connections: options.connections,
        names: options.names(),
        without_record: options.without_record,
        pair,
        round_trip,
    })
}

/// Looks at a lock that is free.
async fn look(client: &Client, name: &str, length: Duration) -> Result<Histogram, LockError> {
    let mut histogram = Histogram::new();
    let end = Instant::now() + length;
    loop {
        let began = Instant::now();
        client.holder(name).await?;
        histogram.add(began.elapsed());
        if Instant::now() >= end {
            return Ok(histogram);
        }
    }
}

/// Acquires a lock and gives it back, again and again.
async fn pairs(lock: Lock, end: Instant) -> Result<Histogram, LockError> {
    let mut histogram = Histogram::new();
    loop {
        let began = Instant::now();
        let guard = lock.acquire().await?;
        // A lock that was lost meanwhile was acquired nevertheless.
        let _ = guard.release().await?;
        histogram.add(began.elapsed());
        if Instant::now() >= end {
            return Ok(histogram);
        }
    }
}
