//! `memlatch break`.

use crate::memcached;
use crate::tool::{Bench, newest};
use serde_json::Value;
use std::io::Write;

#[test]
fn broken_lock_ends_its_command() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let free = bench.run(&["break", "--yes", "x"]);
        assert_eq!((free.code(), free.out.as_str()), (0, "x  free already\n"));

        let holder = bench.start(&["run", "--lease", "2", "x", "sleep", "60"]);
        crate::tool::until("it is held", || {
            bench.run(&["wait", "-w0", "x"]).code() == 1
        });
        let broken = bench.run(&["break", "-y", "x"]);
        assert_eq!((broken.code(), broken.err.as_str()), (0, ""), "{server}");
        let whose = format!(" pid {}\n", holder.pid());
        let first = format!(
            "x  held by {}",
            broken.out.split(" held by ").nth(1).unwrap_or("")
        );
        assert_eq!(broken.out, first, "{server}: {broken:?}");
        assert!(broken.out.contains(&whose), "{server}: {broken:?}");
        assert!(
            broken.out.ends_with("\nx  broken\n"),
            "{server}: {broken:?}"
        );
        bench.assert_free("x");
        // The holder learns of it.
        let lost = holder.finish();
        assert_eq!(lost.code(), 120, "{server}: {lost:?}");
    }
}

#[test]
fn json_reports_the_broken_lock() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let ask = || -> Value {
            let done = bench.run(&["break", "--yes", "--json", "x"]);
            assert_eq!((done.code(), done.err.as_str()), (0, ""), "{server}");
            assert_eq!(done.out.lines().count(), 1, "{server}: {done:?}");
            serde_json::from_str(&done.out).expect("JSON")
        };
        assert_eq!(ask()["outcome"], "free", "{server}");
        let holder = bench.hold("x");
        let broken = ask();
        assert_eq!(broken["outcome"], "broken", "{server}");
        assert_eq!(broken["label"], "the holder", "{server}");
        assert_eq!(broken["pid"], holder.pid(), "{server}");
        assert_eq!(ask()["outcome"], "free", "{server}");
        bench.let_go();
        // It may have learnt of it, or have ended before.
        assert_eq!(holder.finish().code(), 120, "{server}");
    }
}

#[test]
fn break_without_terminal_does_not_ask() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    for words in [&["break", "x"][..], &["break", "--json", "x"]] {
        bench.run(words).assert_refused(64, "--yes breaks it");
    }
    for (words, says) in [
        (&["break"][..], "NAME"),
        (&["break", "-y", ""], "the lock name is empty"),
        (&["break", "-y", "a\nb"], "control characters"),
        (&["break", "x", "--force"], "--force"),
    ] {
        bench.run(words).assert_refused(64, says);
    }
    assert_eq!(bench.run(&["wait", "-w0", "x"]).code(), 1, "it is held");
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
}

/// Types `answer` where it asks. Nothing where there is no terminal to be had.
fn answered(bench: &Bench, words: &str, answer: &str) -> Option<(i32, String)> {
    let mut terminal = bench.on_terminal(words)?;
    let mut keys = terminal.stdin.take().expect("a pipe");
    keys.write_all(answer.as_bytes()).expect("a terminal");
    let done = terminal.wait_with_output().expect("script ends");
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    Some((done.status.code().expect("an exit code"), shown))
}

#[test]
fn break_asks_on_a_terminal() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    for answer in ["\n", "n\n", "maybe\n"] {
        let Some((code, shown)) = answered(&bench, "break x", answer) else {
            break;
        };
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("held by"), "{shown}");
        assert!(shown.contains("at most 3.3s later"), "{shown}");
        assert!(shown.contains("Break it? [y/N] "), "{shown}");
        assert!(shown.contains("left as it is"), "{shown}");
    }
    if let Some((code, shown)) = answered(&bench, "break --json x", "n\n") {
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("\"outcome\":\"declined\""), "{shown}");
    }
    assert_eq!(bench.run(&["wait", "-w0", "x"]).code(), 1, "it is held");
    match answered(&bench, "break x", "y\n") {
        Some((code, shown)) => {
            assert_eq!(code, 0, "{shown}");
            assert!(shown.contains("x  broken"), "{shown}");
            bench.assert_free("x");
        }
        None => bench.let_go(),
    }
    drop(holder);
}

/// While the question stands there, the lock goes to another holder.
#[test]
fn lock_changed_during_question_stays() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let first = bench.hold("x");
        let Some(mut terminal) = bench.on_terminal("break x 2>told") else {
            return;
        };
        crate::tool::until("it asks", || {
            let told = std::fs::read_to_string(bench.path("told"));
            told.is_ok_and(|told| told.contains("[y/N]"))
        });
        bench.let_go();
        assert_eq!(first.finish().code(), 0);
        let other = Bench::new(&server.url());
        let second = other.hold("x");
        let mut keys = terminal.stdin.take().expect("a pipe");
        keys.write_all(b"y\n").expect("a terminal");
        let done = terminal.wait_with_output().expect("script ends");
        assert_eq!(done.status.code(), Some(1), "{server}: {done:?}");
        let told = std::fs::read_to_string(bench.path("told")).expect("the file");
        let now = format!("pid {} \"the holder\" now; not broken", second.pid());
        assert!(told.contains(&now), "{server}: {told}");
        other.let_go();
        assert_eq!(second.finish().code(), 0, "{server}");
    }
}
