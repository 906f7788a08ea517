//! Waiting for a lock includes waiting for its server.

use crate::tool::{AT_ONCE, Bench, newest, until};
use core::time::Duration;
use nix::sys::signal::Signal;
use std::net::TcpListener;

/// Waits until a server is there. It starts when all of them have said that it is not.
#[test]
fn server_starting_later_is_awaited() {
    let Some(mut server) = newest() else { return };
    let bench = Bench::new(&server.url());
    server.kill();
    let waiting: Vec<_> = [
        &["run", "x", "true"][..],
        &["run", "-w", "25", "y", "true"],
        &["acquire", "z"],
        &["acquire", "-w", "25", "a"],
        &["wait", "b"],
        &["wait", "-w", "25", "c"],
    ]
    .into_iter()
    .map(|words| (words, bench.start(words)))
    .collect();
    for (words, waiting) in &waiting {
        until(&format!("{words:?} says that it waits"), || {
            waiting.err().contains("trying again")
        });
    }
    server.restart();
    for (words, waiting) in waiting {
        let done = waiting.finish();
        assert_eq!(done.code(), 0, "{words:?}: {done:?}");
        assert!(done.err.contains("answers again"), "{words:?}: {done:?}");
    }
}

/// An outage that is longer than what the library bears ends no wait for a lock.
#[test]
fn outage_during_wait_is_endured() {
    let Some(mut server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    let waiters = [
        bench.start(&["run", "-v", "x", "true"]),
        bench.start(&["run", "-v", "-w", "28", "x", "true"]),
    ];
    for waiter in &waiters {
        until("it waits", || waiter.err().contains("asking"));
    }
    server.kill();
    for waiter in &waiters {
        until("the outage is said", || {
            waiter.err().contains("trying again")
        });
    }
    server.restart();
    bench.let_go();
    // Its lock went with the server.
    assert_eq!(holder.finish().code(), 120);
    for waiter in waiters {
        let done = waiter.finish();
        assert_eq!(done.code(), 0, "{server}: {done:?}");
    }
}

/// The limit holds for the server as well, and the reason is said.
#[test]
fn absent_server_ends_wait_with_69() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // Takes connections, and never answers.
    let silent = listener.local_addr().expect("an address").to_string();
    let nobody = {
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        other.local_addr().expect("an address").to_string()
    };
    for address in [&silent, &nobody] {
        let bench = Bench::new(address);
        for verb in ["run", "acquire", "wait"] {
            let command: &[&str] = if verb == "run" {
                &["touch", "intruder"]
            } else {
                &[]
            };
            let words = [&[verb, "-w", "1500ms", "x"], command].concat();
            let done = bench.run(&words);
            assert_eq!(done.code(), 69, "{done:?}");
            assert!(done.lived >= Duration::from_millis(1500), "{done:?}");
            assert!(done.took < AT_ONCE, "{done:?}");
            let last = done.err.lines().last().unwrap_or_default();
            assert!(last.contains("server"), "{done:?}");
        }
        let hasty = bench.run(&["run", "-n", "x", "touch", "intruder"]);
        assert_eq!(hasty.code(), 69, "{hasty:?}");
        assert_eq!(hasty.err.lines().count(), 1, "{hasty:?}");
        assert!(!bench.has("intruder"));
    }
}

#[test]
fn signal_ends_wait_for_server() {
    let bench = Bench::new("127.0.0.1:1");
    let waiter = bench.start(&["run", "x", "touch", "intruder"]);
    until("it waits", || waiter.err().contains("trying again"));
    waiter.signal(Signal::SIGTERM);
    let done = waiter.finish();
    assert_eq!(done.code(), 143, "{done:?}");
    assert!(!bench.has("intruder"));
}

/// A run that does not wait reports what to do; one that waits gets the lock, though the sentinel
/// is lost once more.
#[test]
fn flushed_server_makes_job_wait() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let guarded = [
        "--restart-guard",
        "on",
        "--max-lease",
        "2s",
        "--lease",
        "2s",
    ];
    let words = |verb, wait: &[&'static str]| {
        let command: &[&str] = if verb == "run" { &["true"] } else { &[] };
        [&[verb], &guarded[..], wait, &["x"], command].concat()
    };
    server.flush_all();
    for _ in 0..2 {
        for verb in ["run", "acquire"] {
            let done = bench.run(&words(verb, &["-n"]));
            done.assert_refused(69, "waits for that");
        }
        server.command(b"delete memlatch:sentinel\r\n");
    }
    let waiting = bench.start(&words("run", &["-w", "50"]));
    until("it waits", || waiting.err().contains("waiting until"));
    assert_eq!(
        server.command(b"delete memlatch:sentinel\r\n"),
        b"DELETED\r\n"
    );
    let done = waiting.finish();
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(done.err.matches("waiting until").count(), 1, "{done:?}");
}
