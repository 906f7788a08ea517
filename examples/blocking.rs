//! Acquires a lock, works under it, gives it back, in a program without an async runtime.
//!
//! ```text
//! cargo run --example blocking --features blocking -- memcached://127.0.0.1:11211
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

use memlatch::ReleaseOutcome;
use memlatch::blocking::Client;
use std::thread::sleep;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("MEMLATCH_SERVER").ok())
        .unwrap_or_else(|| "memcached://127.0.0.1:11211".into());
    let client = Client::builder().server(server).label("example").build()?;

    let lock = client
        .lock("examples/blocking")
        .lease(Duration::from_secs(5));
    println!("waiting for {}", lock.name());
    // On a server that was just started this waits for one lease: see docs/safety.md.
    let guard = lock.acquire_timeout(Duration::from_secs(30))?;
    println!("held, fencing token {:?}", guard.fencing_token());
    if let Some(holder) = client.holder(guard.name())? {
        println!("the server says: held by {holder}");
    }

    for step in 1..=3 {
        // Before each step that must not run twice: is the lock certain for long enough?
        guard.ensure(Duration::from_secs(1))?;
        println!("step {step}, certain for another {:.1?}", guard.remaining());
        sleep(Duration::from_millis(300));
    }

    match guard.release()? {
        ReleaseOutcome::Released => println!("released"),
        ReleaseOutcome::AlreadyLost { reason } => println!("it was lost before: {reason}"),
    }
    client.shutdown(Duration::from_secs(1));
    Ok(())
}
