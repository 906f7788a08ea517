//! `memlatch status`.

use crate::memcached;
use crate::tool::Bench;
use serde_json::Value;

#[test]
fn text_shows_the_holder() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let free = bench.run(&["status", "invoices/42"]);
        assert_eq!((free.code(), free.out.as_str()), (0, "invoices/42  free\n"));

        let holder = bench.hold("invoices/42");
        let held = bench.run(&["status", "invoices/42"]);
        assert_eq!(held.code(), 0, "{server}: {held:?}");
        let first = held.out.lines().next().expect("a line");
        assert!(first.starts_with("invoices/42  held by "), "{held:?}");
        let whose = format!("pid {} \"the holder\"", holder.pid());
        assert!(first.ends_with(&whose), "{held:?}");
        for part in [
            "since       20",
            " UTC (",
            " s ago)\n",
            "lease       10 s\n",
            "free in     ",
            " s at most, unless renewed; the server keeps a lock for up to 5 s more than its lease\n",
            "last token  ",
            "key         memlatch:lock:invoices/42\n",
        ] {
            assert!(held.out.contains(part), "{server}: {part}: {held:?}");
        }
        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
        let free = bench.run(&["status", "invoices/42"]);
        assert_eq!(free.out, "invoices/42  free\n", "{server}");
    }
}

#[test]
fn json_shows_the_holder() {
    const FIELDS: [&str; 11] = [
        "name",
        "held",
        "host",
        "pid",
        "label",
        "since_unix",
        "held_for_seconds",
        "lease_seconds",
        "expires_in_seconds",
        "last_token",
        "server",
    ];
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let ask = || -> Value {
            let done = bench.run(&["status", "--json", "x"]);
            assert_eq!(done.code(), 0, "{server}: {done:?}");
            assert_eq!(done.out.lines().count(), 1, "{server}: {done:?}");
            let object: Value = serde_json::from_str(&done.out).expect("JSON");
            let fields = object.as_object().expect("an object");
            assert_eq!(fields.len(), FIELDS.len(), "{server}: {object}");
            assert!(FIELDS.iter().all(|field| fields.contains_key(*field)));
            object
        };
        let free = ask();
        assert_eq!(free["held"], Value::Bool(false));
        assert_eq!(free["name"], "x");
        assert_eq!(free["server"], server.url());
        assert!(free["pid"].is_null() && free["since_unix"].is_null());

        let holder = bench.hold("x");
        let held = ask();
        assert_eq!(held["held"], Value::Bool(true));
        assert_eq!(held["pid"], holder.pid());
        assert_eq!(held["label"], "the holder");
        assert!(held["host"].is_string());
        assert_eq!(held["lease_seconds"], 10.0);
        assert!(held["since_unix"].as_u64() > Some(1_700_000_000));
        assert!(held["held_for_seconds"].as_u64() < Some(60));
        assert!(held["expires_in_seconds"].as_u64() <= Some(15));
        let token = held["last_token"].as_str().map(str::parse::<u64>);
        assert!(matches!(token, Some(Ok(1..))), "{held}");
        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
    }
}

/// A record that another program has written must not steer the terminal.
#[test]
fn status_escapes_foreign_records() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let value = "\x1b[31m who?";
        let set = format!("set memlatch:lock:x 0 60 {}\r\n{value}\r\n", value.len());
        server.command(set.as_bytes());
        let held = bench.run(&["status", "x"]);
        assert_eq!(held.code(), 0, "{held:?}");
        assert!(
            held.out.starts_with("x  held by an unknown client\n"),
            "{held:?}"
        );
        assert!(!held.out.contains('\x1b'), "{held:?}");
    }
}
