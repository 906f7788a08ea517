//! The common part of the fencing examples: two workers, one lock, and a pause.

use memlatch::Client;
use memlatch::server::Server;
use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// Short, so that the second worker need not wait for long.
const LEASE: Duration = Duration::from_secs(1);

/// The time for which a worker waits for its lock: on a server that was just started, for one lease
/// first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Failures cross threads here.
type Failure = Box<dyn Error + Send + Sync>;

/// The first worker acquires the lock and writes. Then it is paused for longer than its lease, as
/// by a garbage collection; the second worker gets the lock and writes. When the first one
/// continues, it goes on where it was, and writes once more.
///
/// The arguments of `write` are the name of the writer and the fencing token. Returns the result of
/// the last, late write.
pub(crate) fn holder<E: Error + Send + Sync + 'static>(
    name: &str,
    write: impl Fn(&str, u64) -> Result<(), E> + Sync,
) -> Result<Result<(), E>, Failure> {
    let embedded;
    let server = match std::env::args().nth(1) {
        Some(server) => server,
        None => {
            embedded = Server::start()?;
            embedded.address()
        }
    };
    println!("the locks are on {server}");
    let (pause, paused) = channel();
    let (wake, woken) = channel();
    thread::scope(|scope| {
        let (server, write) = (&server, &write);
        let first = scope.spawn(move || first_worker(server, name, write, &pause, &woken));
        // Nothing comes when the first worker has failed; what it says then is returned.
        let second = match paused.recv() {
            Ok(()) => second_worker(server, name, write),
            Err(_) => Ok(()),
        };
        drop(wake);
        let late = first.join().map_err(|_| "the first worker panicked")?;
        second?;
        late
    })
}

fn first_worker<E: Error + Send + Sync + 'static>(
    server: &str,
    name: &str,
    write: impl Fn(&str, u64) -> Result<(), E>,
    pause: &Sender<()>,
    woken: &Receiver<()>,
) -> Result<Result<(), E>, Failure> {
    // Its renewer runs on this thread alone, so that it is paused with it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = client(server, "the first worker").await?;
        let guard = client.lock(name).acquire_timeout(PATIENCE).await?;
        let token = guard.fencing_token().ok_or("fencing is on by default")?;
        println!("the first worker holds the lock, fencing token {token}");
        write("the first worker", token)?;

        guard.ensure(LEASE / 10)?;
        println!("the first worker has checked its lock, and is paused before it writes");
        pause.send(())?;
        let _ = woken.recv();
        println!("the first worker goes on, and does not know that it was away");
        let late = write("the first worker", token);
        println!("had it asked once more: is_valid() = {}", guard.is_valid());
        Ok(late)
    })
}

fn second_worker<E: Error + Send + Sync + 'static>(
    server: &str,
    name: &str,
    write: impl Fn(&str, u64) -> Result<(), E>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = client(server, "the second worker").await?;
        println!("the second worker waits until the lease of the first is over");
        let guard = client.lock(name).acquire_timeout(PATIENCE).await?;
        let token = guard.fencing_token().ok_or("fencing is on by default")?;
        println!("the second worker holds the lock, fencing token {token}");
        write("the second worker", token)?;
        let outcome = guard.release().await?;
        println!("the second worker: {outcome:?}");
        client.shutdown(Duration::from_secs(1)).await;
        Ok(())
    })
}

async fn client(server: &str, label: &str) -> Result<Client, Failure> {
    let client = Client::builder()
        .server(server)
        .label(label)
        // All clients of one prefix must agree on the longest lease.
        .prefix("fencing-examples:")
        .default_lease(LEASE)
        .build();
    Ok(client.await?)
}
