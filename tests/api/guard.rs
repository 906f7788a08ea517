//! Guards of held locks, in both APIs, on real memcached servers.
//!
//! | module | what it tests |
//! |---|---|
//! | `futures` | the async API |
//! | `threads` | the blocking API |
//! | `danger` | warnings ahead of the end, and what a guard knows of itself, in both |
//! | `limits` | for how long a lock is held at most and at least, in both |
//! | `parts` | locks that are handed to another process |
#![cfg(all(feature = "tokio", feature = "blocking"))]

mod danger;
mod futures;
mod limits;
mod parts;
mod threads;

use crate::support::test_server::TestServer;
use core::fmt::Debug;
use core::time::Duration;
use memlatch::{ErrorKind, LockError, LossReason};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Long enough for nothing to be lost on a busy machine.
const LEASE: Duration = Duration::from_secs(10);

impl TestServer {
    /// Stores the record of another client in place of what there is.
    fn overtake(&self, key: &[u8]) {
        let key = String::from_utf8(key.into()).expect("text");
        let value = "m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f 60000 1795337300 77 elsewhere -";
        let request = format!("set {key} 0 60 {}\r\n{value}\r\n", value.len());
        assert_eq!(self.server.command(request.as_bytes()), b"STORED\r\n");
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
