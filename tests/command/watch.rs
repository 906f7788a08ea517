//! `memlatch watch`.

use crate::memcached;
use crate::tool::{AT_ONCE, Bench, is_ignored, newest, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};

/// The request that stores a record of another client.
fn record(name: &str, nonce: u8) -> String {
    let record = format!(
        "m1 {} 10000 5 7 elsewhere job",
        format!("{nonce:02x}").repeat(16)
    );
    let length = record.len();
    format!("set memlatch:lock:{name} 0 600 {length}\r\n{record}\r\n")
}

#[test]
fn changes_print_line_by_line() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        server.command(record("first", 1).as_bytes());
        let watching = bench.start(&["watch", "-n", "100ms"]);
        let tells = |part: &str| until(part, || watching.out().contains(part));
        tells("UTC  held      first  by elsewhere pid 7 \"job\", token -\n");
        let holder = bench.hold("second");
        tells("UTC  acquired  second  by ");
        bench.let_go();
        assert_eq!(holder.finish().code(), 0);
        tells("UTC  freed     second  was held by ");
        // A renewal is no change, another holder is one.
        server.command(record("first", 1).as_bytes());
        server.command(record("third", 1).as_bytes());
        tells("acquired  third");
        server.command(record("first", 2).as_bytes());
        tells("UTC  changed   first  by elsewhere");
        server.command(b"delete memlatch:lock:first\r\n");
        tells("freed     first");
        let lines = watching.out().lines().count();
        assert_eq!(lines, 6, "{server}: {}", watching.out());
        assert_eq!(watching.err(), "", "{server}");
        watching.signal(Signal::SIGTERM);
        assert_eq!(watching.finish().code(), 143, "{server}");
    }
}

#[test]
fn json_lists_requested_changes_only() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        server.command(record("ab", 1).as_bytes());
        server.command(record("b", 1).as_bytes());
        let watching = bench.start(&["watch", "--json", "-n", "0.1", "a"]);
        until("the first round", || watching.out().ends_with('\n'));
        server.command(b"delete memlatch:lock:ab\r\n");
        until("the end of it", || watching.out().lines().count() == 2);
        let told: Vec<Value> = watching
            .out()
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        for (told, event) in told.iter().zip(["held", "freed"]) {
            assert_eq!(told["event"], event, "{server}: {told}");
            assert_eq!(told["name"], "ab", "{server}: {told}");
            assert_eq!(told["held"], event == "held", "{server}: {told}");
            assert_eq!(told["host"], "elsewhere", "{server}: {told}");
            assert_eq!(told["hashed"], false, "{server}: {told}");
            assert!(told["at_unix"].as_u64() > Some(1_700_000_000), "{told}");
        }
        watching.signal(Signal::SIGTERM);
        assert_eq!(watching.finish().code(), 143, "{server}");
    }
}

#[test]
fn watch_ends_by_rounds_or_interrupt() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for (words, rounds) in [
        (&["watch", "--count", "1"][..], 1),
        (&["watch", "--count", "3", "--interval", "100ms"], 3),
    ] {
        let done = bench.run(words);
        assert_eq!(
            (done.code(), done.out.as_str(), done.err.as_str()),
            (0, "", "")
        );
        // Between the rounds, and not behind the last one.
        let least = core::time::Duration::from_millis(100) * (rounds - 1);
        assert!(done.lived >= least && done.took < AT_ONCE, "{done:?}");
    }
    if !is_ignored(Signal::SIGINT) {
        server.command(record("x", 1).as_bytes());
        let watching = bench.start(&["watch", "-n", "1h"]);
        until("the first round", || watching.out().ends_with('\n'));
        watching.signal(Signal::SIGINT);
        assert_eq!(watching.finish().code(), 0);
    }
}

#[test]
fn terminal_watch_draws_a_table() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let draw = |words: &str| -> Option<String> {
        let mut terminal = bench.on_terminal(words)?;
        // Kept open until it has ended.
        let keys = terminal.stdin.take();
        let done = terminal.wait_with_output().expect("script ends");
        drop(keys);
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.status.code(), Some(0), "{shown}");
        Some(shown)
    };
    let Some(none) = draw("watch --count 1") else {
        return;
    };
    assert!(none.contains("no locks"), "{none}");
    for number in 0..50 {
        server.command(record(&format!("n{number:02}"), 1).as_bytes());
    }
    let words = "watch --count 2 --interval 100ms";
    let shown = draw(words).expect("as before");
    for part in [
        "NAME",
        "HOLDER",
        "LEFT",
        "n00",
        "  7    n00   elsewhere \"job\"",
        "n10",
        "10m 00s",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // No more than fits, drawn over itself once, and the cursor comes back.
    assert!(!shown.contains("n40") && shown.contains(" more"), "{shown}");
    assert_eq!(shown.matches("F\x1b[").count(), 1, "{shown}");
    assert!(shown.contains("\x1b[?25l"), "{shown}");
    // A line is cleared before it is written: behind one as long as the terminal is wide, its last
    // character would be.
    assert!(shown.contains("\x1b[K"), "{shown}");
    assert!(!shown.contains("\x1b[K\r\n"), "{shown}");
    assert!(shown.ends_with("\x1b[?25h\x1b[?7h"), "{shown}");
    assert!(shown.contains("\x1b[1m"), "{shown}");
    assert!(
        shown.contains("10m 00s  ############") || shown.contains("10m 00s  \u{2588}"),
        "{shown}"
    );
    let plain = draw(&format!("{words} n0 <&0 2>&1")).expect("as before");
    assert!(
        plain.contains("that start with n0") && !plain.contains("n10"),
        "{plain}"
    );
    // A program reads what it asks for, whatever stdout is.
    let json = draw("watch --count 1 --json").expect("as before");
    assert!(
        json.contains("{\"at_unix\"") && !json.contains('\x1b'),
        "{json}"
    );
}

#[test]
fn watch_omits_unwanted_colors_and_drawing() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    server.command(record("x", 1).as_bytes());
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let Some(mut command) = bench.terminal_command("watch --count 1") else {
            return;
        };
        let done = command.env(variable, value).output().expect("script runs");
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(shown.contains("elsewhere"), "{shown}");
        assert!(!shown.contains("\x1b[1m"), "{shown}");
        assert_eq!(
            shown.contains("\x1b[?25l"),
            variable == "NO_COLOR",
            "{shown}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn interrupt_restores_the_terminal() {
    let Some(server) = newest() else { return };
    if is_ignored(Signal::SIGINT) {
        return;
    }
    let bench = Bench::new(&server.url());
    server.command(record("x", 1).as_bytes());
    let Some(mut terminal) = bench.on_terminal("watch -n 1h") else {
        return;
    };
    let mut screen = terminal.stdout.take().expect("a pipe");
    let mut shown = String::new();
    while !shown.contains("elsewhere") {
        let mut some = [0; 4096];
        let length = screen.read(&mut some).expect("a terminal");
        assert!(length > 0, "{shown}");
        shown.push_str(&String::from_utf8_lossy(&some[..length]));
    }
    let mut keys = terminal.stdin.take().expect("a pipe");
    keys.write_all(b"\x03").expect("a terminal");
    screen.read_to_string(&mut shown).expect("text");
    let status = terminal.wait().expect("script ends");
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(shown.ends_with("\x1b[?25h\x1b[?7h"), "{shown}");
}

#[test]
fn watch_survives_server_restart() {
    for binary in memcached::required() {
        let mut server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        server.command(record("x", 1).as_bytes());
        let watching = bench.start(&["watch", "-n", "100ms"]);
        until("the first round", || watching.out().ends_with('\n'));
        server.kill();
        until("it is told", || watching.err().contains("; going on\n"));
        server.restart();
        server.command(record("x", 2).as_bytes());
        until("it is told", || watching.err().contains("answers again"));
        until("it goes on", || watching.out().lines().count() >= 2);
        assert_eq!(watching.err().lines().count(), 2, "{}", watching.err());
        watching.signal(Signal::SIGTERM);
        assert_eq!(watching.finish().code(), 143, "{server}");
    }
}

#[test]
fn unusable_watch_options_are_refused() {
    for binary in memcached::required() {
        let server = binary.start(&["-X"]);
        let bench = Bench::new(&server.url());
        bench
            .run(&["watch"])
            .assert_refused(69, "metadump not allowed");
    }
    let bench = Bench::new("127.0.0.1:1");
    bench.run(&["watch"]).assert_refused(69, "unavailable");
    for (words, says) in [
        (&["watch", "-n", "0"][..], "at least 100ms"),
        (&["watch", "-n", "soon"], "500ms"),
        (&["watch", "--count", "0"], "1.."),
        (&["watch", "--prefix", "a b"], "the prefix cannot be used"),
        (&["watch", "a", "b"], "unexpected argument 'b'"),
    ] {
        bench.run(words).assert_refused(64, says);
    }
}
