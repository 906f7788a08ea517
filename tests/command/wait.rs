//! `memlatch wait`.

use crate::memcached;
use crate::tool::{AT_ONCE, Bench, newest, until};
use core::time::Duration;
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn exit_code_reports_whether_lock_freed() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let free = bench.run(&["wait", "x"]);
        assert_eq!(
            (free.code(), free.out.as_str(), free.err.as_str()),
            (0, "", ""),
            "{server}"
        );
        let holder = bench.hold("x");
        for (words, code, least) in [
            (&["wait", "-w0", "x"][..], 1, 0),
            (&["wait", "-w", "300ms", "x"], 1, 300),
            (&["wait", "--wait", "0.3", "-E", "42", "x"], 42, 300),
            (&["wait", "-w0", "--conflict-exit-code", "0", "x"], 0, 0),
        ] {
            let held = bench.run(words);
            // As with flock(1): cron sends mail for every line.
            assert_eq!((held.out.as_str(), held.err.as_str()), ("", ""));
            assert_eq!(held.code(), code, "{server}: {words:?}");
            assert!(held.lived >= Duration::from_millis(least), "{held:?}");
            assert!(held.took < AT_ONCE, "{server}: {held:?}");
        }
        let told = bench.run(&["wait", "-v", "-w0", "x"]);
        let by = format!(
            "still held by {}",
            told.err.split("held by ").nth(1).unwrap_or("")
        );
        assert!(
            told.err.contains(&by) && told.err.contains("the holder"),
            "{told:?}"
        );

        let waiters = [
            bench.start(&["wait", "-v", "x"]),
            bench.start(&["wait", "-v", "-w", "1m", "x"]),
        ];
        for waiter in &waiters {
            until("it waits", || waiter.err().contains("waiting"));
        }
        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
        for waiter in waiters {
            assert_eq!(waiter.finish().code(), 0, "{server}");
        }
        bench.assert_free("x");
    }
}

#[test]
fn json_reports_end_of_wait() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let ask = |code| -> Value {
            let done = bench.run(&["wait", "-w", "200ms", "--json", "x"]);
            assert_eq!((done.code(), done.err.as_str()), (code, ""), "{server}");
            serde_json::from_str(&done.out).expect("JSON")
        };
        let free = ask(0);
        assert_eq!(free["held"], Value::Bool(false), "{server}");
        assert!(free["waited_seconds"].as_f64() < Some(10.0), "{server}");
        let holder = bench.hold("x");
        let held = ask(1);
        assert_eq!(held["held"], Value::Bool(true), "{server}");
        assert_eq!(held["pid"], holder.pid(), "{server}");
        assert!(held["waited_seconds"].as_f64() >= Some(0.2), "{server}");
        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
    }
}

#[test]
fn signal_ends_the_wait() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    let waiter = bench.start(&["wait", "-v", "x"]);
    until("it waits", || waiter.err().contains("waiting"));
    waiter.signal(Signal::SIGTERM);
    let done = waiter.finish();
    assert!(!done.status.success(), "{done:?}");
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
}

#[test]
fn unusable_wait_options_are_refused() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for (words, says) in [
        (&["wait"][..], "NAME"),
        (&["wait", ""], "the lock name is empty"),
        (&["wait", "-w", "soon", "x"], "500ms"),
        (&["wait", "-E", "256", "x"], "0..=255"),
        (&["wait", "x", "y"], "unexpected argument 'y'"),
    ] {
        bench.run(words).assert_refused(64, says);
    }
    drop(server);
    bench
        .run(&["wait", "-w0", "x"])
        .assert_refused(69, "unavailable");
}

/// `wait`, `status`, `list` and `run -n` agree on what free means, also while the record of a
/// holder that was killed is still there.
#[test]
fn subcommands_agree_on_free() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let acquired = bench.run(&["acquire", "--lease", "1s", "x"]);
        assert_eq!(acquired.code(), 0, "{acquired:?}");
        let waited = bench.run(&["wait", "x"]);
        assert_eq!(waited.code(), 0, "{server}: {waited:?}");
        let status = bench.run(&["status", "x"]);
        assert_eq!(status.out, "x  free\n", "{server}");
        assert_eq!(bench.run(&["list"]).out, "", "{server}");
        let tried = bench.run(&["run", "-n", "x", "true"]);
        assert_eq!(tried.code(), 0, "{server}: {tried:?}");
        assert_eq!(bench.run(&["wait", "-w0", "x"]).code(), 0, "{server}");
    }
}
