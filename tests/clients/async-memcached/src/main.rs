//! Every operation of the client `async-memcached` against one server, see scripts/clients:
//!
//! ```text
//! memlatch-clients-async-memcached PORT
//! ```
//!
//! The same results are asserted whatever the server is, so that a run against a real memcached
//! shows whether they are the right ones. Prints each result that is not as expected, then how many
//! operations were checked, and exits with 1 if one was not as expected.

mod ascii;
mod checks;
mod meta;
mod whole;

use async_memcached::{Client, Error};
use checks::Checks;
use std::process::ExitCode;
use std::time::Duration;

/// For all of it; nothing here waits for longer than a few ticks of the server's clock.
const LIMIT: Duration = Duration::from_secs(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let port = std::env::args().nth(1).expect("a port");
    let address = format!("tcp://127.0.0.1:{port}");
    let mut checks = Checks::default();
    match tokio::time::timeout(LIMIT, run(&address, &mut checks)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => checks.is("the connection", error.to_string(), "usable"),
        Err(_) => checks.is("the time it took", "too long", "short"),
    }
    println!("{} operations checked, {} wrong", checks.done, checks.wrong);
    ExitCode::from(u8::from(checks.wrong > 0))
}

async fn run(address: &str, checks: &mut Checks) -> Result<(), Error> {
    let mut client = Client::new(address).await?;
    ascii::run(&mut client, checks).await?;
    meta::run(&mut client, checks).await?;
    whole::run(&mut client, address, checks).await?;
    checks.is("is_closed", client.is_closed(), false);
    Ok(())
}
