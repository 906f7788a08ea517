//! A SQL table that takes writes of the latest holder only: the fencing token stands in the row,
//! and the same statement that writes compares it. No transaction and no trigger is needed.
//!
//! Starts a server of its own, or uses the one that is named:
//!
//! ```text
//! cargo run --example fencing_sql --features server -- memcached://127.0.0.1:11211
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

#[path = "fencing/paused.rs"]
mod paused;

use rusqlite::{Connection, params};
use std::error::Error;
use std::fmt;
use std::sync::Mutex;

/// Tokens fit a signed 64-bit column. An old row without one counts as written with 0.
const TABLE: &str = "
    CREATE TABLE invoices (
        id INTEGER PRIMARY KEY,
        status TEXT NOT NULL,
        token INTEGER NOT NULL DEFAULT 0
    );
    INSERT INTO invoices (id, status) VALUES (42, 'new');
";

/// The whole of fencing. `<=` and not `<`, because one holder writes many times.
const WRITE: &str = "UPDATE invoices SET status = ?1, token = ?2 WHERE id = ?3 AND token <= ?2";

#[derive(Debug)]
enum Refused {
    /// No row was changed: there is none, or a later holder has written it.
    Stale(u64),
    Database(rusqlite::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale(token) => write!(f, "no row changed: fencing token {token} is stale"),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl Error for Refused {}

fn write(database: &Mutex<Connection>, who: &str, token: u64) -> Result<(), Refused> {
    // For the connection's sake, which one thread can use at a time. With a database server
    // each writer has a connection, and the statement is as atomic there.
    let connection = database.lock().expect("no writer panics");
    let column = i64::try_from(token).map_err(|_| Refused::Stale(token))?;
    let rows = connection
        .execute(WRITE, params![format!("sent by {who}"), column, 42])
        .map_err(Refused::Database)?;
    match rows {
        0 => Err(Refused::Stale(token)),
        _ => Ok(()),
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(TABLE)?;
    let database = Mutex::new(connection);

    let late = paused::holder("examples/fencing_sql", |who, token| {
        let outcome = write(&database, who, token);
        match &outcome {
            Ok(()) => println!("    {WRITE} -- by {who}: done"),
            Err(refused) => println!("    {WRITE} -- by {who}: {refused}"),
        }
        outcome
    })?;

    assert!(
        matches!(late, Err(Refused::Stale(_))),
        "the late writer must be refused: {late:?}"
    );
    let connection = database.into_inner().expect("no writer panics");
    let status: String =
        connection.query_row("SELECT status FROM invoices WHERE id = 42", [], |row| {
            row.get(0)
        })?;
    println!("invoice 42: {status}");
    assert_eq!(status, "sent by the second worker");
    Ok(())
}
