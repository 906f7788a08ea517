//! A leader that leads while it holds a lock, and stops as soon as it does not.
//!
//! Start two, then kill the first, stop its server, or `flush_all` it, and watch.
//!
//! ```text
//! cargo run --example leader -- memcached://127.0.0.1:11211
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

use memlatch::{Client, LockError, LockGuard};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), LockError> {
    let server = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("MEMLATCH_SERVER").ok())
        .unwrap_or_else(|| "memcached://127.0.0.1:11211".into());
    let client = Client::connect(server).await?;
    let office = client.lock("examples/leader").lease(Duration::from_secs(5));
    loop {
        println!("a candidate");
        let guard = match office.acquire().await {
            Ok(guard) => guard,
            Err(error) if error.is_unavailable() || error.is_unknown() => {
                println!("{error}; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        println!("elected, term {:?}", guard.fencing_token());
        // The work is a future that is dropped when the lock is lost: it ends at its next await.
        match guard.run(lead(&guard)).await {
            Ok(()) => {
                println!("stepping down");
                let outcome = guard.release().await?;
                println!("{outcome:?}");
                return Ok(());
            }
            Err(error) => println!("deposed: {error}"),
        }
    }
}

/// Leads for twenty orders. Each carries the term, so that the receiver can reject an older one.
async fn lead(guard: &LockGuard) {
    for order in 1..=20 {
        let term = guard.fencing_token().unwrap_or_default();
        println!("term {term}, order {order}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
