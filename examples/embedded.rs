//! Acquires a lock of the embedded server, as tests do, and prints how long that took from the
//! start of the server on.
//!
//! ```text
//! cargo run --example embedded --features blocking,server
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

use memlatch::blocking::Client;
use memlatch::server::Server;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let server = Server::start()?;
    let client = Client::connect(server.address())?;
    let guard = client.lock("examples/embedded").acquire()?;
    println!("held after {:.1?}", began.elapsed());
    println!("{:?}", guard.release()?);
    Ok(())
}
