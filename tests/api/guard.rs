//! Guards of held locks, in both fronts, on real memcached servers.
//!
//! | module | what it tests |
//! |---|---|
//! | `futures` | the async front |
//! | `threads` | the blocking front |
//! | `danger` | warnings ahead of the end, and what a guard knows of itself, in both |
//! | `limits` | for how long a lock is held at most and at least, in both |
//! | `parts` | locks that are handed to another process |
#![cfg(all(feature = "tokio", feature = "blocking"))]

mod danger;
mod futures;
mod limits;
mod parts;
mod threads;

use crate::support::memcached;
use core::fmt::Debug;
use core::time::Duration;
use memcached::RealServer;
use memlatch::{ClientBuilder, ErrorKind, LockError, LossReason, Protocol};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Long enough for nothing to be lost on a busy machine.
const LEASE: Duration = Duration::from_secs(10);

/// A server of each version, and the dialect to speak with it.
struct Site {
    server: RealServer,
    dialect: Option<Protocol>,
}

impl Site {
    fn all() -> Vec<Self> {
        let mut sites = Vec::new();
        for binary in memcached::required() {
            for dialect in [None, Some(Protocol::Classic)] {
                let server = binary.start(&[]);
                sites.push(Self { server, dialect });
            }
        }
        sites
    }

    /// Settings without the restart guard, which is a subject of its own.
    fn settings<F>(&self, builder: ClientBuilder<F>) -> ClientBuilder<F> {
        let builder = builder
            .server(self.server.url())
            .restart_guard(false)
            .max_lease(core::time::Duration::from_secs(600));
        match self.dialect {
            Some(dialect) => builder.protocol(dialect),
            None => builder,
        }
    }

    /// Stores the record of another client in place of what there is.
    fn overtake(&self, key: &[u8]) {
        let key = String::from_utf8(key.into()).expect("text");
        let value = "m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f 60000 1795337300 77 elsewhere -";
        let request = format!("set {key} 0 60 {}\r\n{value}\r\n", value.len());
        assert_eq!(self.server.command(request.as_bytes()), b"STORED\r\n");
    }

    fn delete(&self, key: &[u8]) {
        let request = [b"delete ", key, b"\r\n"].concat();
        assert_eq!(self.server.command(&request), b"DELETED\r\n");
    }
}

#[track_caller]
fn lost(error: &LockError, reason: LossReason) {
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    let text = error.to_string();
    assert!(text.contains(&reason.to_string()), "{text}");
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[track_caller]
fn fails<T: Debug>(result: Result<T, LockError>, kind: ErrorKind, part: &str) {
    let error = result.expect_err(part);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "no `{part}`: {error}");
}
