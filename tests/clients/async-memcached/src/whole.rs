//! Requests that concern the server as a whole.

use crate::checks::{Checks, status};
use async_memcached::{AsciiProtocol, Client, Error, ErrorKind, Status};
use std::time::Duration;
use tokio::time::sleep;

pub async fn run(client: &mut Client, address: &str, checks: &mut Checks) -> Result<(), Error> {
    let version = client.version().await?;
    checks.is("version", version.starts_with("1.6."), true);
    together(address, checks).await?;
    statistics(client, checks).await?;
    dump(address, checks).await?;
    checks.is("flush_all", client.flush_all().await, Ok(()));
    checks.is("get after it", client.get("a").await, Ok(None));
    checks.is(
        "set after it",
        client.set("a", "x", None, None).await,
        Ok(()),
    );
    checks.is("get what was set", client.get("a").await?.is_some(), true);
    Ok(())
}

/// Several connections count with one counter.
async fn together(address: &str, checks: &mut Checks) -> Result<(), Error> {
    let mut client = Client::new(address).await?;
    client.set("total", 0u32, None, None).await?;
    let count = async || -> Result<(), Error> {
        let mut client = Client::new(address).await?;
        for _ in 0..100 {
            client.increment("total", 1).await?;
        }
        Ok(())
    };
    let counted = tokio::join!(count(), count(), count(), count());
    checks.is(
        "increment together",
        counted,
        (Ok(()), Ok(()), Ok(()), Ok(())),
    );
    checks.is("the total", client.increment("total", 0).await, Ok(400));
    Ok(())
}

async fn statistics(client: &mut Client, checks: &mut Checks) -> Result<(), Error> {
    let before = client.stats().await?;
    client.set("a", "x", None, None).await?;
    client.get("a").await?;
    client.get("missing").await?;
    let after = client.stats().await?;
    let number = |name: &str, from: &str| match from.parse::<u64>() {
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{name} is {from}")),
    };
    for (name, more) in [
        ("cmd_set", 1),
        ("cmd_get", 2),
        ("get_hits", 1),
        ("get_misses", 1),
    ] {
        let (before, after) = (number(name, &before[name]), number(name, &after[name]));
        checks.is(name, after, before.map(|before| before + more));
    }
    for name in [
        "pid",
        "uptime",
        "time",
        "curr_connections",
        "curr_items",
        "limit_maxbytes",
    ] {
        checks.is(name, number(name, &after[name]).is_ok(), true);
    }
    Ok(())
}

/// Servers of today begin a dump with a line `OK`, which this version of the client takes for an
/// error. That it comes upon it is all that can be checked with it.
async fn dump(address: &str, checks: &mut Checks) -> Result<(), Error> {
    let unexpected = || {
        Some(status(Status::Error(ErrorKind::Protocol(Some(
            "Tag".into(),
        )))))
    };
    // A real server may be at it for reasons of its own, and says so.
    let mut left = 100;
    let (first, closed) = loop {
        let mut client = Client::new(address).await?;
        let mut entries = client.dump_keys().await?;
        let first = entries.next().await;
        let complete = entries.is_complete();
        drop(entries);
        let busy = matches!(&first, Some(Err(error)) if error.to_string().contains("BUSY"));
        if !busy || left == 0 {
            break (first, client.is_closed() && !complete);
        }
        left -= 1;
        sleep(Duration::from_millis(50)).await;
    };
    checks.is("dump_keys", first, unexpected());
    checks.is("dump_keys, the connection after it is closed", closed, true);
    Ok(())
}
