//! Several locks at once, in both fronts, on real memcached servers and before a peer that writes
//! down what it is sent.
//!
//! | module | what it tests |
//! |---|---|
//! | `futures` | the async front |
//! | `threads` | the blocking front |
//! | `flights` | what travels together, and what is left where a caller goes, in both |
#![cfg(all(unix, feature = "tokio", feature = "blocking", feature = "server"))]

mod flights;
mod futures;
mod threads;

use crate::support::{memcached, peer};
use core::fmt::Debug;
use core::time::Duration;
use memcached::RealServer;
use memlatch::{ClientBuilder, ErrorKind, LockError, Protocol};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

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

    fn delete(&self, name: &str) {
        let request = format!("delete memlatch:lock:{name}\r\n");
        assert_eq!(self.server.command(request.as_bytes()), b"DELETED\r\n");
    }

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
