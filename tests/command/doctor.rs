//! `memlatch doctor`.

use crate::memcached::{self, RealServer};
use crate::tool::{Bench, Done};
use serde_json::Value;
use std::io::Read;

/// A server that there is nothing to say against.
const ADVISED: &[&str] = &["-o", "temporary_ttl=21"];

fn with(arguments: &[&str], test: impl Fn(&RealServer, &Bench)) {
    for binary in memcached::required() {
        let server = binary.start(arguments);
        test(&server, &Bench::new(&server.url()));
    }
}

/// Runs the doctor, with the restart guard that a bench does without.
fn doctor(bench: &Bench, words: &[&str]) -> Done {
    bench.run(&[&["doctor", "--restart-guard", "on"], words].concat())
}

/// The line of a check.
fn line<'a>(done: &'a Done, id: &str) -> &'a str {
    let mut lines = done.out.lines();
    let found = lines.find(|line| line.split_whitespace().nth(1) == Some(id));
    found.unwrap_or_else(|| panic!("no line about {id}: {done:?}"))
}

/// Checks that a check is named among those that are fine.
fn assert_fine(done: &Done, id: &str) {
    let fine = done.out.lines().find(|line| line.starts_with("fine     "));
    let mut ids = fine.unwrap_or("").split([' ', ',']);
    assert!(ids.any(|other| other == id), "{id}: {done:?}");
}

fn object(done: &Done) -> Value {
    assert_eq!(done.out.lines().count(), 1, "{done:?}");
    serde_json::from_str(&done.out).expect("JSON")
}

fn check<'a>(object: &'a Value, id: &str) -> &'a Value {
    let checks = object["checks"].as_array().expect("a list");
    let found = checks.iter().find(|check| check["id"] == id);
    found.unwrap_or_else(|| panic!("no check {id}: {object}"))
}

#[test]
fn good_server_is_reported_good() {
    with(ADVISED, |server, bench| {
        let done = doctor(bench, &[]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert_eq!(done.err, "", "{done:?}");
        assert_fine(&done, "cas");
        assert_fine(&done, "eviction");
        // What is fine needs no words.
        assert!(!done.out.contains("No client can release"), "{done:?}");
        let summary = done.out.lines().last().expect("a line");
        let head = format!("{}, memcached {}, ", server.url(), server.version());
        assert!(summary.starts_with(&head), "{summary}");
        assert!(summary.contains("fine for locks"), "{summary}");
        // Unless they are asked for.
        let done = doctor(bench, &["--verbose"]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert!(
            done.out.contains("         No client can release"),
            "{done:?}"
        );
    });
}

/// The findings of `doctor` about lists agree with those of `list`.
#[test]
fn unlistable_keys_are_reported() {
    for (option, verdict) in [
        (&["-o", "no_lru_crawler"][..], "note"),
        (&["-o", "no_modern"], "note"),
        (&["-X"], "fine"),
        (&[], "fine"),
    ] {
        with(option, |server, bench| {
            let done = doctor(bench, &["--json"]);
            let object = object(&done);
            let dump = check(&object, "key-dump");
            assert_eq!(dump["verdict"], verdict, "{server} {option:?}: {dump}");
            let listed = bench.run(&["list"]);
            let can = dump["meaning"] == "locks can be listed";
            assert_eq!(can, option.is_empty(), "{server} {option:?}: {dump}");
            assert_eq!(
                listed.code(),
                if can { 0 } else { 69 },
                "{server}: {listed:?}"
            );
        });
    }
}

#[test]
fn findings_have_exit_codes_and_advice() {
    with(&[], |_, bench| {
        let done = doctor(bench, &[]);
        assert_eq!(done.code(), 1, "{done:?}");
        // What is wrong comes first, and what is fine in one line.
        assert!(done.out.starts_with("warning  eviction "), "{done:?}");
        assert_eq!(done.out.matches("fine  ").count(), 1, "{done:?}");
        let advice = "         Start the server with -o temporary_ttl=21";
        assert!(done.out.contains(advice), "{done:?}");
        let summary = done.out.lines().last().expect("a line");
        assert!(summary.contains("1 warning"), "{summary}");
    });
    with(&["-C"], |_, bench| {
        let done = doctor(bench, &[]);
        assert_eq!(done.code(), 2, "{done:?}");
        assert!(done.out.starts_with("unsafe   cas "), "{done:?}");
        assert!(done.out.contains("not safe for locks (1 danger, "));
    });
}

#[test]
fn json_output_is_one_object() {
    with(&[], |server, bench| {
        let done = doctor(bench, &["--json", "--lease", "99s"]);
        assert_eq!(done.code(), 1, "{done:?}");
        let object = object(&done);
        let fields = object.as_object().expect("an object");
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "checks",
                "fix",
                "longest_lease_seconds",
                "server",
                "temporary_ttl_needed",
                "verdict",
                "version"
            ]
        );
        assert_eq!(object["server"], server.url());
        assert_eq!(object["version"], server.version());
        assert_eq!(object["verdict"], "warning");
        assert_eq!(object["longest_lease_seconds"], 99.0);
        assert_eq!(object["temporary_ttl_needed"], 110);
        assert!(object["fix"].is_null());
        let eviction = check(&object, "eviction");
        assert_eq!(eviction["verdict"], "warning");
        for field in ["seen", "meaning", "advice"] {
            assert!(eviction[field].is_string(), "{eviction}");
        }
        let cas = check(&object, "cas");
        assert_eq!(cas["verdict"], "fine");
        assert!(cas["advice"].is_null());
    });
}

#[test]
fn second_look_reports_changes() {
    with(ADVISED, |_, bench| {
        let done = doctor(bench, &[]);
        assert!(!done.out.contains("change"), "{done:?}");
        let done = doctor(bench, &["--watch", "50ms"]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert_fine(&done, "change");
        let done = doctor(bench, &["-v", "--watch", "50ms"]);
        assert!(
            line(&done, "change").contains("nothing within "),
            "{done:?}"
        );
    });
}

#[test]
fn fix_is_applied_and_reported_once() {
    with(&[], |server, bench| {
        let done = doctor(bench, &["--fix"]);
        assert_eq!(done.code(), 0, "{server}: {done:?}");
        let first = done.out.lines().next().expect("a line");
        assert!(first.starts_with("fix      ") && first.contains("lru temp_ttl 21"));
        assert!(done.out.contains("-o temporary_ttl=21"), "{done:?}");
        assert_fine(&done, "eviction");
        let settings = server.command(b"stats settings\r\n");
        let settings = String::from_utf8_lossy(&settings).into_owned();
        assert!(settings.contains("STAT temporary_ttl 21\r\n"), "{settings}");
        assert!(settings.contains("STAT temp_lru yes\r\n"), "{settings}");

        let done = doctor(bench, &["--fix", "--json"]);
        assert_eq!(object(&done)["fix"]["outcome"], "not-needed");
        // A longer lease needs more.
        let done = doctor(bench, &["--fix", "--json", "--lease", "99"]);
        assert_eq!(done.code(), 0, "{done:?}");
        let object = object(&done);
        let fix = &object["fix"];
        assert_eq!(fix["outcome"], "enabled");
        assert_eq!(
            (&fix["temporary_ttl"], &fix["before"]),
            (&110.into(), &21.into())
        );
        assert_eq!(check(&object, "eviction")["verdict"], "fine");
    });
}

#[test]
fn impossible_fix_is_reported() {
    with(&["-C"], |_, bench| {
        let done = doctor(bench, &["--fix"]);
        assert_eq!(done.code(), 2, "{done:?}");
        assert!(done.out.starts_with("fix      not done: "), "{done:?}");
        let done = doctor(bench, &["--fix", "--json"]);
        let object = object(&done);
        assert_eq!(object["fix"]["outcome"], "failed");
        assert!(object["fix"]["why"].is_string());
    });
    with(&["-M"], |_, bench| {
        let done = doctor(bench, &["--fix"]);
        assert_eq!(done.code(), 0, "{done:?}");
        assert!(done.out.starts_with("fix      nothing to do"), "{done:?}");
    });
}

#[test]
fn colors_need_a_willing_terminal() {
    with(ADVISED, |_, bench| {
        let done = doctor(bench, &[]);
        assert!(!done.out.contains('\x1b'), "{done:?}");
        let on_terminal = |words: &str| {
            let mut child = bench.on_terminal(words)?;
            let mut out = String::new();
            let stdout = child.stdout.as_mut().expect("a pipe");
            stdout.read_to_string(&mut out).expect("plain text");
            child.wait().expect("our child");
            Some(out)
        };
        // With script(1) alone there is a terminal to be seen.
        if let Some(out) = on_terminal("doctor") {
            assert!(out.contains("eviction"), "{out:?}");
            let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
            assert_eq!(out.contains("\x1b[32mfine"), coloured, "{out:?}");
        }
    });
}

#[test]
fn no_color_is_respected() {
    let Some(server) = crate::tool::newest() else {
        return;
    };
    let bench = Bench::new(&server.url());
    for (no_color, coloured) in [("1", false), ("", true)] {
        let program = env!("CARGO_BIN_EXE_memlatch");
        let line = format!("exec '{program}' doctor");
        let done = std::process::Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .env("MEMLATCH_SERVER", server.url())
            .env_remove("MEMLATCH_PREFIX")
            .stdin(std::process::Stdio::null())
            .output();
        // Where script(1) is missing, there is no terminal.
        let Ok(done) = done else { return };
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(out.contains("eviction"), "{out:?}");
        assert_eq!(out.contains('\x1b'), coloured, "{no_color:?}: {out:?}");
    }
    drop(bench);
}

/// The seconds behind this word.
fn seconds(text: &str, behind: &str) -> Option<u64> {
    let rest = text.split(behind).nth(1)?;
    let digits = rest
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

/// On a server that was just started, and on one that was just flushed.
#[test]
fn doctor_and_run_report_same_wait() {
    with(ADVISED, |server, bench| {
        for flushed in [false, true] {
            if flushed {
                server.flush_all();
            }
            let began = std::time::Instant::now();
            loop {
                let look = || {
                    let object = object(&doctor(bench, &["--json"]));
                    let meaning = check(&object, "restart")["meaning"].as_str();
                    seconds(meaning.expect("a text"), "granted in")
                };
                let before = look();
                let words = ["run", "-n", "--restart-guard", "on", "x", "--", "true"];
                let refused = bench.run(&words);
                let after = look();
                // Where no second has ended meanwhile, all of them speak of the same one.
                if before == after {
                    let said = seconds(&refused.err, "granted in");
                    assert!(before.is_some(), "{server}, flushed: {flushed}");
                    assert_eq!(said, before, "{server}, flushed: {flushed}: {refused:?}");
                    break;
                }
                assert!(
                    began.elapsed().as_secs() < 8,
                    "{server}: no two looks agree"
                );
            }
        }
    });
}

/// Others use longer leases than the one that is asked about: theirs are to be kept as well.
#[test]
fn doctor_judges_by_longest_lease_used() {
    with(ADVISED, |server, bench| {
        server.command(b"set memlatch:longest 0 0 5\r\n99000\r\n");
        let done = doctor(bench, &["--lease", "10s"]);
        assert_eq!(done.code(), 1, "{done:?}");
        assert!(line(&done, "eviction").starts_with("warning"), "{done:?}");
        assert!(done.out.contains("temporary_ttl=110"), "{done:?}");
        assert!(done.out.contains("leases up to 99s"), "{done:?}");
        // What it advises is what it does.
        let done = doctor(bench, &["--lease", "10s", "--fix"]);
        assert!(done.out.contains("lru temp_ttl 110"), "{done:?}");
        assert_fine(&done, "eviction");
    });
}

/// A server may call itself anything.
#[test]
fn server_text_is_escaped() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("memcached://{}", listener.local_addr().expect("a port"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            use std::io::Write;
            let mut chunk = [0; 1024];
            let answers = [
                "VERSION \x1b[31mred\r\nERROR\r\nERROR\r\nEND\r\n",
                "ERROR\r\n",
                "ERROR\r\n",
                "ERROR\r\n",
            ];
            for answer in answers {
                if !stream.read(&mut chunk).is_ok_and(|read| read > 0) {
                    break;
                }
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    let bench = Bench::new(&url);
    let done = doctor(&bench, &[]);
    assert_eq!(done.code(), 2, "{done:?}");
    assert!(!done.out.contains('\x1b'), "{done:?}");
    assert!(
        line(&done, "version").contains("\\u{1b}[31mred"),
        "{done:?}"
    );
    assert!(line(&done, "proxy").starts_with("unsafe"), "{done:?}");
}

#[test]
fn unusable_doctor_options_are_refused() {
    let bench = Bench::new("memcached://127.0.0.1:1");
    bench.run(&["doctor"]).assert_refused(69, "unavailable");
    bench
        .run(&["doctor", "--fix"])
        .assert_refused(69, "unavailable");
    bench
        .run(&["doctor", "--json"])
        .assert_refused(69, "unavailable");
    bench
        .run(&["doctor", "--nope"])
        .assert_refused(64, "--nope");
    bench.run(&["doctor", "now"]).assert_refused(64, "now");
    bench
        .run(&["doctor", "--lease", "x"])
        .assert_refused(64, "length of time");
    bench
        .run(&["doctor", "--lease", "1ms"])
        .assert_refused(64, "too short");
    bench
        .run(&["doctor", "--lease", "31d"])
        .assert_refused(64, "too long");
    bench
        .run(&["--server", "x://y", "doctor"])
        .assert_refused(64, "x://y");
    let done = bench.run(&["doctor", "--help"]);
    assert_eq!(done.code(), 0);
    assert!(done.out.contains("2 locks are unsafe there"), "{done:?}");
}
