//! Several locks at once, in both APIs, on real memcached servers and before a peer that writes
//! down what it is sent.
//!
//! | module | what it tests |
//! |---|---|
//! | `futures` | the async API |
//! | `threads` | the blocking API |
//! | `flights` | what travels together, and what is left where a caller goes, in both |
#![cfg(all(unix, feature = "tokio", feature = "blocking", feature = "server"))]

mod flights;
mod futures;
mod threads;

use crate::support::peer;
use crate::support::test_server::TestServer;
use core::fmt::Debug;
use core::time::Duration;
use memlatch::{ErrorKind, LockError};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

impl TestServer {
    fn is_held(&self, name: &str) -> bool {
        let request = format!("get memlatch:lock:{name}\r\n");
        self.server.command(request.as_bytes()) != b"END\r\n"
    }

    #[track_caller]
    fn all_are_free(&self, names: &[&str]) {
        for name in names {
            assert!(!self.is_held(name), "{name} is held");
        }
    }
}

/// Lists that cannot be taken together, and what the error says about them.
fn refusals() -> Vec<(Vec<String>, &'static [&'static str])> {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    vec![
        (Vec::new(), &["no lock is named", "1 to 64"]),
        (list(&["b", "a", "b"]), &["lock `b`", "named twice"]),
        (list(&["a", "", "b"]), &["is empty"]),
        (list(&["a", "x\ny"]), &["`x\\ny`", "0x0a"]),
        (
            (0..65).map(|number| number.to_string()).collect(),
            &["at most 64"],
        ),
    ]
}

#[track_caller]
fn fails<T: Debug>(result: Result<T, LockError>, kind: ErrorKind, parts: &[&str]) {
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}`: {error}");
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
