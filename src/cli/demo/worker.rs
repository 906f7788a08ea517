//! One of the processes that raise the counter.

use super::counter::CounterHandle;
use crate::cli::duration;
use crate::cli::exec;
use crate::cli::failure::{Failure, code};
use crate::cli::options::GlobalOptions;
use crate::cli::{output, server};
use core::time::Duration;
use memlatch::Client;
use nix::sys::signal::Signal;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

/// Between reading the counter and writing it: the work for which a lock is taken.
const WORK: Duration = Duration::from_millis(1);

/// One process of the demo.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DemoWorker {
    #[arg(long)]
    pub(in crate::cli) parent: i32,
    #[arg(long)]
    pub(in crate::cli) index: u32,
    #[arg(long)]
    pub(in crate::cli) folder: PathBuf,
    #[arg(long, value_parser = duration::parse)]
    pub(in crate::cli) length: Duration,
    /// The lock to take for each increment; none is taken without.
    #[arg(long)]
    pub(in crate::cli) lock: Option<String>,
}

pub(in crate::cli) async fn worker(
    global: &GlobalOptions,
    options: &DemoWorker,
) -> Result<u8, Failure> {
    // Whatever becomes of the demo, this process does not outlive it.
    if !exec::tie_to(options.parent, Signal::SIGKILL) {
        return Ok(code::FAILED);
    }
    let filing = |error: io::Error| Failure::system("cannot use the counter", &error);
    let mut desk = CounterHandle::open(&options.folder).map_err(filing)?;
    let client = match options.lock {
        Some(_) => Some(server::builder(global)?.build().await?),
        None => None,
    };
    output::print("ready\n")?;
    let mut go = String::new();
    io::stdin().read_line(&mut go).map_err(filing)?;
    if go.is_empty() {
        return Ok(code::FAILED);
    }
    let end = Instant::now() + options.length;
    let mut raised = 0_u64;
    while Instant::now() < end {
        let done = match (&client, &options.lock) {
            (Some(client), Some(lock)) => {
                raise_locked(client, lock, &mut desk, options.index, end).await?
            }
            _ => raise(&desk).map(|()| true).map_err(filing)?,
        };
        raised += u64::from(done);
    }
    output::print(&format!("done {raised}\n"))?;
    if let Some(client) = client {
        client.shutdown(Duration::from_secs(1)).await;
    }
    Ok(code::SUCCESS)
}

fn raise(desk: &CounterHandle) -> io::Result<()> {
    let value = desk.read()?;
    std::thread::sleep(WORK);
    desk.write(value + 1)
}

/// Returns whether it was this worker's turn before the end.
async fn raise_locked(
    client: &Client,
    lock: &str,
    desk: &mut CounterHandle,
    index: u32,
    end: Instant,
) -> Result<bool, Failure> {
    let filing = |error: io::Error| Failure::system("cannot use the counter", &error);
    let left = end.saturating_duration_since(Instant::now());
    let guard = match client.lock(lock).acquire_timeout(left).await {
        Ok(guard) => guard,
        Err(error) if error.is_timeout() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let token = guard.fencing_token().unwrap_or(0);
    desk.note(token, index).map_err(filing)?;
    let value = desk.read().map_err(filing)?;
    tokio::time::sleep(WORK).await;
    // Every user of a lock must check this before each step that needs the lock.
    guard.ensure(Duration::ZERO)?;
    desk.write(value + 1).map_err(filing)?;
    let _ = guard.release().await?;
    Ok(true)
}
