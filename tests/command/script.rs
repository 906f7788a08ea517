//! `memlatch acquire`, `renew` and `release`.

use crate::memcached;
use crate::tool::{AT_ONCE, Bench, Done, LIMIT, newest};
use core::time::Duration;
use serde_json::Value;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The parts as the program has printed them with `--json`.
fn parts(done: &Done) -> String {
    let object: Value = serde_json::from_str(&done.out).expect("an object");
    object["parts"].as_str().expect("a text").to_owned()
}

fn with_parts(bench: &Bench, words: &[&str], parts: &str) -> Done {
    let mut command = bench.command(words);
    command.env("MEMLATCH_PARTS", parts);
    bench.spawn(&mut command).finish()
}

/// An acquired lock stays held between the commands, and is released by another one.
#[test]
fn lock_stays_held_between_commands() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let words = [
            "acquire", "--lease", "1m", "--label", "by hand", "--json", "a b",
        ];
        let acquired = bench.run(&words);
        assert_eq!(acquired.code(), 0, "{acquired:?}");
        let object: Value = serde_json::from_str(&acquired.out).expect("an object");
        assert_eq!(object["name"], "a b");
        assert_eq!(object["lease_seconds"], 60.0);
        assert_eq!(object["server"], server.url());
        let token = object["token"].as_str().expect("a token").to_owned();
        let remaining = object["remaining_seconds"].as_f64().expect("a number");
        assert!(remaining > 30.0 && remaining <= 60.0, "{object}");
        let parts = parts(&acquired);

        let status = bench.run(&["status", "--json", "a b"]);
        let status: Value = serde_json::from_str(&status.out).expect("an object");
        assert_eq!(status["label"], "by hand");
        let conflict = bench.run(&["acquire", "-n", "-E", "42", "a b"]);
        assert_eq!(conflict.code(), 42, "{conflict:?}");
        assert!(
            conflict.out.starts_with("unset MEMLATCH_NAME "),
            "{conflict:?}"
        );
        let late = bench.run(&["acquire", "-w", "200ms", "a b"]);
        assert_eq!((late.code(), late.err.as_str()), (1, ""), "{late:?}");
        assert!(late.lived >= Duration::from_millis(200) && late.took < AT_ONCE);

        let renewed = with_parts(&bench, &["renew", "--json"], &parts);
        assert_eq!(renewed.code(), 0, "{server}: {renewed:?}");
        let object: Value = serde_json::from_str(&renewed.out).expect("an object");
        assert_eq!(object["token"], token);
        // Those from before are as good.
        let released = with_parts(&bench, &["release", "--json"], &parts);
        assert_eq!(released.code(), 0, "{server}: {released:?}");
        let object: Value = serde_json::from_str(&released.out).expect("an object");
        assert_eq!(
            (&object["name"], &object["released"]),
            (&"a b".into(), &true.into())
        );
        bench.assert_free("a b");

        let gone = with_parts(&bench, &["release", "--json"], &parts);
        assert_eq!(gone.code(), 120, "{gone:?}");
        assert!(gone.out.contains("\"released\":false"), "{gone:?}");
        with_parts(&bench, &["renew"], &parts).assert_refused(120, "a b");
    }
}

#[test]
fn printed_variables_suit_the_shell() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let program = env!("CARGO_BIN_EXE_memlatch");
    let script = format!(
        "held=$('{program}' acquire --no-wait --lease 1m \"$1\") || exit 9\n\
         eval \"$held\"\n\
         [ \"$MEMLATCH_NAME\" = \"$1\" ] && [ \"$MEMLATCH_TOKEN\" -gt 0 ] || exit 8\n\
         again=$('{program}' renew) && eval \"$again\" || exit 7\n\
         '{program}' run -n \"$1\" true && exit 6\n\
         '{program}' release || exit 5\n\
         '{program}' run -n \"$1\" true"
    );
    for name in ["plain", "it's $(touch bad) `touch bad`", "zwei Wörter"] {
        let done = Command::new("sh")
            .args(["-c", &script, "sh", name])
            .current_dir(bench.path("."))
            .env("MEMLATCH_SERVER", server.url())
            .env("MEMLATCH_RESTART_GUARD", "off")
            .env_remove("MEMLATCH_PARTS")
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        assert_eq!(done.status.code(), Some(0), "{name}: {done:?}");
        assert!(!bench.has("bad"));
    }
}

#[test]
fn ticket_comes_from_input_or_argument() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let parts = parts(&bench.run(&["acquire", "--json", "x"]));
    fs::write(bench.path("parts"), format!("{parts}\n")).expect("a file");
    let mut command = bench.command(&["renew", "-"]);
    command.stdin(File::open(bench.path("parts")).expect("the file"));
    let renewed = bench.spawn(&mut command).finish();
    assert_eq!(renewed.code(), 0, "{renewed:?}");
    assert!(
        renewed
            .out
            .starts_with("export MEMLATCH_NAME='x' MEMLATCH_TOKEN=")
    );
    let released = bench.run(&["release", &parts]);
    assert_eq!(
        (released.code(), released.out.as_str()),
        (0, ""),
        "{released:?}"
    );
    bench.assert_free("x");
}

#[test]
fn unclaimed_lock_expires() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let acquired = bench.run(&["acquire", "--lease", "500ms", "--json", "x"]);
    assert_eq!(acquired.code(), 0, "{acquired:?}");
    let waited = bench.run(&["run", "-w", "20s", "x", "true"]);
    assert_eq!(waited.code(), 0, "{waited:?}");
    with_parts(&bench, &["renew"], &parts(&acquired)).assert_refused(120, "x");
}

#[test]
fn unusable_ticket_is_named() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    bench.run(&["release"]).assert_refused(64, "MEMLATCH_PARTS");
    bench.run(&["renew"]).assert_refused(64, "MEMLATCH_PARTS");
    bench
        .run(&["renew", ""])
        .assert_refused(64, "MEMLATCH_PARTS");
    // From an empty standard input.
    bench
        .run(&["renew", "-"])
        .assert_refused(64, "the parts of the lock");
    bench
        .run(&["renew", "p1 nonsense"])
        .assert_refused(64, "the parts of the lock");
    bench.run(&["acquire"]).assert_refused(64, "NAME");
    bench.run(&["acquire", ""]).assert_refused(64, "name");
    bench
        .run(&["acquire", "--lease", "1ms", "x"])
        .assert_refused(64, "--lease");
    bench
        .run(&["acquire", "-n", "-w1", "x"])
        .assert_refused(64, "cannot be used with");
    let parts = parts(&bench.run(&["acquire", "--json", "x"]));
    let other = bench.run(&["--prefix", "other:", "release", &parts]);
    other.assert_refused(64, "leave out --prefix");
    let nobody = ["--server", "127.0.0.1:1", "release", &parts];
    bench.run(&nobody).assert_refused(69, "127.0.0.1:1");
    bench
        .run(&["--server", "127.0.0.1:1", "acquire", "-n", "x"])
        .assert_refused(69, "127.0.0.1:1");
    // Whatever was wrong, the messages do not contain the parts.
    let nonce = parts.split(' ').nth(3).expect("a nonce");
    let said = bench.run(&["--verbose", "--verbose", "release", &parts]);
    assert_eq!(said.code(), 0, "{said:?}");
    assert!(!said.err.contains(nonce), "{said:?}");
}

#[test]
fn unprintable_ticket_releases_the_lock() {
    let Some(server) = newest() else { return };
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let bench = Bench::new(&server.url());
    let status = bench
        .command(&["acquire", "--lease", "1m", "x"])
        .stdout(
            File::options()
                .write(true)
                .open("/dev/full")
                .expect("it is there"),
        )
        .status()
        .expect("the program can be started");
    assert_eq!(status.code(), Some(74));
    let began = Instant::now();
    while bench.run(&["run", "-n", "x", "true"]).code() != 0 {
        assert!(began.elapsed() < LIMIT, "it stays held");
    }
}

#[test]
fn hold_limits_bound_the_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let long = bench.run(&[
        "run",
        "--max-hold",
        "600ms",
        "--lease",
        "5s",
        "x",
        "sleep",
        "20",
    ]);
    assert_eq!(long.code(), 120, "{long:?}");
    assert!(long.took < AT_ONCE, "{long:?}");
    bench.assert_free("x");
    bench
        .run(&["run", "--max-hold", "0", "x", "true"])
        .assert_refused(64, "--max-hold");

    let short = bench.run(&["run", "--min-hold", "30s", "y", "true"]);
    assert_eq!(short.code(), 0, "{short:?}");
    assert!(short.took < AT_ONCE, "{short:?}");
    assert_eq!(bench.run(&["run", "-n", "y", "true"]).code(), 1);
    let mut command = bench.command(&["run", "z", "true"]);
    command.env("MEMLATCH_MIN_HOLD", "30s");
    assert_eq!(bench.spawn(&mut command).finish().code(), 0);
    assert_eq!(bench.run(&["run", "-n", "z", "true"]).code(), 1);
}
