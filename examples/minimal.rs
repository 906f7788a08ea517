//! The smallest program with a lock: acquires it, releases it, and reports by its exit code whether
//! the lock was valid to the end. `scripts/size` measures it.
//!
//! ```text
//! cargo run --example minimal --no-default-features --features blocking -- 127.0.0.1:11211
//! ```

#![allow(
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

use memlatch::blocking::Client;
use memlatch::{LockError, ReleaseOutcome};
use std::process::ExitCode;

fn lock_and_release(server: String) -> Result<ReleaseOutcome, LockError> {
    let client = Client::connect(server)?;
    let lock = client.lock("examples/minimal").without_record();
    let guard = lock.acquire()?;
    guard.release()
}

fn main() -> ExitCode {
    match std::env::args().nth(1).map(lock_and_release) {
        Some(Ok(ReleaseOutcome::Released)) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
