//! Acquires a lock, works under it, gives it back.
//!
//! ```text
//! cargo run --example async -- memcached://127.0.0.1:11211
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

use memlatch::{Client, ReleaseOutcome};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("MEMLATCH_SERVER").ok())
        .unwrap_or_else(|| "memcached://127.0.0.1:11211".into());
    let client = Client::builder()
        .server(server)
        .label("example")
        .build()
        .await?;

    let lock = client.lock("examples/async").lease(Duration::from_secs(5));
    println!("waiting for {}", lock.name());
    // On a server that was just started this waits for one lease: see docs/safety.md.
    let guard = lock.acquire_timeout(Duration::from_secs(30)).await?;
    println!("held, fencing token {:?}", guard.fencing_token());
    if let Some(holder) = client.holder("examples/async").await? {
        println!("the server says: held by {holder}");
    }

    for step in 1..=3 {
        // Before each step that must not run twice: is the lock certain for long enough?
        guard.ensure(Duration::from_secs(1))?;
        println!("step {step}, certain for another {:.1?}", guard.remaining());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    match guard.release().await? {
        ReleaseOutcome::Released => println!("released"),
        ReleaseOutcome::AlreadyLost { reason } => println!("it was lost before: {reason}"),
    }
    client.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
