//! Locks that are lost while the command runs.

use crate::memcached;
use crate::tool::{Bench, newest, runs, until};
use core::time::Duration;
use nix::sys::signal::Signal;
use std::time::Instant;

/// Says that it runs, notes that it was asked to end, and does so. What the shell has to say about
/// that is of no interest here.
const POLITE: &str =
    "exec 2>/dev/null; trap 'touch told; exit 0' TERM; echo $$ >pid; while :; do sleep 0.05; done";

/// Does not care.
const STUBBORN: &str = "exec 2>/dev/null; trap '' TERM; echo $$ >pid; while :; do sleep 0.05; done";

#[test]
fn flush_ends_the_command() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", POLITE]);
        let pid = bench.await_pid("pid");
        server.flush_all();
        let done = running.finish();
        done.assert_refused(120, "lock `x`: lost: ");
        assert!(
            done.err.contains("ending the command"),
            "{server}: {done:?}"
        );
        assert!(bench.has("told"), "{server}: {done:?}");
        assert!(!runs(pid), "{server}");
        bench.assert_free("x");
    }
}

#[test]
fn dead_server_ends_command_before_lease() {
    for binary in memcached::required() {
        let mut server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let running = bench.start(&["run", "--lease", "3s", "x", "sh", "-c", POLITE]);
        let pid = bench.await_pid("pid");
        let began = Instant::now();
        server.kill();
        let done = running.finish();
        // Had the lease been waited for, the loss would be reported, not foreseen.
        done.assert_refused(120, "could not be renewed and ends in");
        assert!(bench.has("told"), "{server}: {done:?}");
        assert!(!runs(pid), "{server}");
        // The way out may take its second: the server does not answer there.
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{server}: {done:?}"
        );
    }
}

#[test]
fn restart_ends_the_command() {
    let Some(mut server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let running = bench.start(&["run", "--lease", "2s", "x", "sh", "-c", POLITE]);
    let pid = bench.await_pid("pid");
    server.restart();
    let done = running.finish();
    done.assert_refused(120, "lock `x`: ");
    assert!(bench.has("told") && !runs(pid), "{done:?}");
}

/// Not the shell alone.
#[test]
fn stubborn_command_and_children_are_killed() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!("sh -c 'trap \"\" TERM; echo $$ >other; sleep 60; :' & {STUBBORN}");
    let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", &script]);
    let (pid, other) = (bench.await_pid("pid"), bench.await_pid("other"));
    server.flush_all();
    let done = running.finish();
    done.assert_refused(120, "ending the command");
    assert!(!runs(pid));
    until("the other has ended", || !runs(other));
}

#[test]
fn kill_action_kills_at_once() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let words = [
        "run",
        "--lease",
        "1s",
        "--on-lost",
        "kill",
        "x",
        "sh",
        "-c",
        POLITE,
    ];
    let running = bench.start(&words);
    let pid = bench.await_pid("pid");
    server.flush_all();
    let done = running.finish();
    done.assert_refused(120, "killing the command");
    assert!(!bench.has("told"), "{done:?}");
    assert!(!runs(pid));
}

#[test]
fn ignore_action_lets_command_run() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "echo $$ >pid; until [ -e let-go ]; do sleep 0.05; done; touch finished";
    let words = [
        "run",
        "--lease",
        "1s",
        "--on-lost",
        "ignore",
        "x",
        "sh",
        "-c",
        script,
    ];
    let running = bench.start(&words);
    let pid = bench.await_pid("pid");
    server.flush_all();
    until("the loss is told", || {
        running.err().contains("runs on without it")
    });
    assert!(runs(pid));
    bench.let_go();
    let done = running.finish();
    done.assert_refused(120, "lock `x`: lost: ");
    assert!(bench.has("finished"));
}

/// A loss that only the release finds out about is one, too.
#[test]
fn loss_found_by_release_is_reported() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "touch held; until [ -e let-go ]; do sleep 0.05; done";
    let running = bench.start(&[
        "run",
        "--max-lease",
        "5m",
        "--lease",
        "5m",
        "x",
        "sh",
        "-c",
        script,
    ]);
    bench.await_file("held");
    server.flush_all();
    bench.let_go();
    running
        .finish()
        .assert_refused(120, "lost while the command ran");
}

/// The command ran under the lock to its end; that the server is gone by then is no fault of it.
#[test]
fn missing_server_at_end_is_noted() {
    let Some(mut server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "touch held; until [ -e let-go ]; do sleep 0.05; done; exit 4";
    let running = bench.start(&[
        "run",
        "--max-lease",
        "5m",
        "--lease",
        "5m",
        "x",
        "sh",
        "-c",
        script,
    ]);
    bench.await_file("held");
    server.kill();
    bench.let_go();
    let done = running.finish();
    done.assert_refused(4, "free when its lease has run out");
}

/// The same from a process that was stopped for longer than its lease.
#[test]
#[cfg(target_os = "linux")]
fn long_stopped_memlatch_ends_its_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", POLITE]);
    let pid = bench.await_pid("pid");
    running.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(1500));
    running.signal(Signal::SIGCONT);
    let done = running.finish();
    done.assert_refused(120, "lock `x`: ");
    assert!(!runs(pid));
}

/// A server that takes requests and does not answer.
#[test]
fn stalled_server_ends_command_before_lease() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let running = bench.start(&["run", "--lease", "3s", "x", "sh", "-c", POLITE]);
    let pid = bench.await_pid("pid");
    server.stop_signal();
    let done = running.finish();
    done.assert_refused(120, "could not be renewed and ends in");
    assert!(bench.has("told") && !runs(pid), "{done:?}");
    server.continue_signal();
    // The server could not be asked to remove the lock.
    let next = bench.run(&["run", "-w", "25", "x", "true"]);
    assert_eq!(next.code(), 0, "{next:?}");
}

/// The command shares the group of the shell that it was started from, so the group cannot be
/// signalled.
#[test]
#[cfg(target_os = "linux")]
fn terminal_loss_ends_commands_children() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let words = "run --lease 1s x sh -c 'sh -c \"echo \\$\\$ >pid; sleep 60; :\"; :'";
    let Some(terminal) = bench.on_terminal(words) else {
        return;
    };
    let pid = bench.await_pid("pid");
    server.flush_all();
    let done = terminal.wait_with_output().expect("script ends");
    let shown = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(120), "{shown}");
    until("the inner one has ended", || !runs(pid));
}

/// Not earlier, however short it is, and with its reason. The lock is held while the command ends.
#[test]
fn max_hold_ends_command_with_reason() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        for (length, way, what) in [
            ("500ms", "term", "ending the command"),
            ("2s", "term", "ending the command"),
            ("500ms", "kill", "killing the command"),
        ] {
            let bench = Bench::new(&server.url());
            let words = [
                "run",
                "--max-hold",
                length,
                "--on-lost",
                way,
                "x",
                "sh",
                "-c",
                POLITE,
            ];
            let done = bench.run(&words);
            done.assert_refused(120, "the maximum hold of ");
            assert!(done.err.contains(what), "{server}: {done:?}");
            let least = if length == "2s" { 2000 } else { 500 };
            assert!(done.lived >= Duration::from_millis(least), "{done:?}");
            assert_eq!(bench.has("told"), way == "term", "{server}: {done:?}");
            bench.assert_free("x");
        }
        let bench = Bench::new(&server.url());
        let script = "until [ -e let-go ]; do sleep 0.02; done; touch finished";
        let words = [
            "run",
            "--max-hold",
            "500ms",
            "--on-lost",
            "ignore",
            "x",
            "sh",
            "-c",
            script,
        ];
        let running = bench.start(&words);
        until("the end is told", || {
            running.err().contains("runs on without it")
        });
        until("the lock is free", || {
            bench.run(&["run", "-n", "x", "true"]).code() == 0
        });
        bench.let_go();
        running.finish().assert_refused(120, "the maximum hold of ");
        assert!(bench.has("finished"));
    }
}
