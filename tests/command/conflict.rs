//! Two commands that want the same lock.

use crate::memcached;
use crate::tool::{AT_ONCE, Bench, is_ignored, newest, until};
use core::time::Duration;
use nix::sys::signal::Signal;

#[test]
fn contended_lock_sets_exit_code() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let holder = bench.hold("x");

        let second = bench.run(&["run", "-n", "x", "--", "touch", "intruder"]);
        assert_eq!(second.code(), 1, "{server}: {second:?}");
        assert!(second.took < AT_ONCE, "{server}: {second:?}");
        // As with flock(1): cron sends mail for every line.
        assert_eq!(second.err, "", "{server}");

        let coded = bench.run(&["run", "-n", "-E", "42", "x", "touch", "intruder"]);
        assert_eq!(coded.code(), 42, "{server}: {coded:?}");
        let zero = bench.run(&["run", "-w0", "-E", "0", "x", "touch", "intruder"]);
        assert_eq!(zero.code(), 0, "{server}: {zero:?}");

        for wait in ["0.5", "500ms"] {
            let patient = bench.run(&["run", "-w", wait, "x", "touch", "intruder"]);
            assert_eq!(patient.code(), 1, "{server}: {patient:?}");
            assert!(patient.lived >= Duration::from_millis(500), "{patient:?}");
            assert!(patient.took < AT_ONCE, "{server}: {patient:?}");
        }

        assert!(!bench.has("intruder"), "{server}");
        // Another name is another lock.
        assert_eq!(bench.run(&["run", "-n", "y", "true"]).code(), 0);
        // So is the same name under another prefix.
        let elsewhere = ["run", "-n", "--prefix", "other:", "x", "true"];
        assert_eq!(bench.run(&elsewhere).code(), 0);

        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
        bench.assert_free("x");
    }
}

#[test]
fn waiting_command_gets_freed_lock() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let holder = bench.hold("x");
        let waiter = bench.start(&["run", "-v", "x", "touch", "turn"]);
        let bounded = bench.start(&["run", "-v", "-w", "1m", "x", "true"]);
        for waiter in [&waiter, &bounded] {
            until("it waits", || waiter.err().contains("asking"));
        }
        assert!(!bench.has("turn"));
        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
        let waiter = waiter.finish();
        assert_eq!(waiter.code(), 0, "{waiter:?}");
        assert!(waiter.err.contains("held after"), "{waiter:?}");
        assert_eq!(bounded.finish().code(), 0);
        assert!(bench.has("turn"));
    }
}

/// A process that waits leaves at once when asked to, and leaves nothing behind.
#[test]
fn signal_ends_the_wait() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        if is_ignored(signal) {
            // As for any program that a shell has put into the background, it stays ignored.
            continue;
        }
        let waiter = bench.start(&["run", "-v", "x", "touch", "intruder"]);
        until("it waits", || waiter.err().contains("asking"));
        waiter.signal(signal);
        let done = waiter.finish();
        assert_eq!(done.code(), 128 + signal as i32, "{done:?}");
        assert!(done.took < AT_ONCE, "{done:?}");
    }
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
    bench.assert_free("x");
    assert!(!bench.has("intruder"));
}

/// Also when the server has stopped to answer.
#[test]
fn signal_ends_wait_for_stalled_server() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    let waiter = bench.start(&["run", "-v", "x", "touch", "intruder"]);
    until("it waits", || waiter.err().contains("asking"));
    server.stop_signal();
    waiter.signal(Signal::SIGTERM);
    let done = waiter.finish();
    server.continue_signal();
    assert_eq!(done.code(), 143, "{done:?}");
    assert!(done.took < AT_ONCE, "{done:?}");
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
    // What it had asked for may be in the server's ear still; it goes with its lease.
    let next = bench.run(&["run", "-w", "25", "x", "true"]);
    assert_eq!(next.code(), 0, "{next:?}");
    assert!(!bench.has("intruder"));
}
