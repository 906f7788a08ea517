//! Options that are given as variables.

use crate::tool::{AT_ONCE, Bench, Done, newest};
use core::time::Duration;
use serde_json::Value;

fn run(bench: &Bench, words: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command = bench.command(words);
    command.envs(variables.iter().copied());
    bench.spawn(&mut command).finish()
}

#[test]
fn options_override_environment_variables() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("x");
    let wait = ("MEMLATCH_WAIT", "300ms");
    let at_once = ("MEMLATCH_NO_WAIT", "on");
    let code = ("MEMLATCH_CONFLICT_EXIT_CODE", "42");
    for (words, variables, expected, least) in [
        (&["run", "x", "true"][..], &[wait][..], 1, 300),
        (&["run", "x", "true"], &[wait, code], 42, 300),
        (&["run", "-E7", "x", "true"], &[wait, code], 7, 300),
        (&["run", "-n", "x", "true"], &[wait, code], 42, 0),
        (&["run", "x", "true"], &[at_once], 1, 0),
        (&["run", "x", "true"], &[("MEMLATCH_NO_WAIT", "1")], 1, 0),
        (&["run", "-w", "0.3", "x", "true"], &[at_once], 1, 300),
        (
            &["run", "x", "true"],
            &[wait, ("MEMLATCH_NO_WAIT", ""), ("MEMLATCH_LEASE", "")],
            1,
            300,
        ),
        (
            &["run", "x", "true"],
            &[wait, ("MEMLATCH_NO_WAIT", "off")],
            1,
            300,
        ),
        (&["wait", "x"], &[wait, code], 42, 300),
        (&["wait", "-w0", "-E", "3", "x"], &[wait, code], 3, 0),
        // No option of it.
        (&["status", "x"], &[wait, at_once], 0, 0),
    ] {
        let done = run(&bench, words, variables);
        assert_eq!(done.code(), expected, "{words:?} {variables:?}: {done:?}");
        assert!(
            done.lived >= Duration::from_millis(least),
            "{words:?} {variables:?}: {done:?}"
        );
        assert!(done.took < AT_ONCE, "{words:?} {variables:?}: {done:?}");
    }
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
}

#[test]
fn environment_variables_configure_a_lock() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let itself = env!("CARGO_BIN_EXE_memlatch");
    let lease = ("MEMLATCH_LEASE", "7s");
    let label = ("MEMLATCH_LABEL", "from outside");
    for (words, seconds, called) in [
        (
            &["run", "x", itself, "status", "--json", "x"][..],
            7.0,
            "from outside",
        ),
        (
            &[
                "run", "--lease", "9", "--label", "own", "x", itself, "status", "--json", "x",
            ],
            9.0,
            "own",
        ),
    ] {
        let done = run(&bench, words, &[lease, label]);
        assert_eq!(done.code(), 0, "{done:?}");
        let status: Value = serde_json::from_str(&done.out).expect("JSON");
        assert_eq!(status["lease_seconds"], seconds, "{status}");
        assert_eq!(status["label"], called, "{status}");
    }
    // What is said, and how much of it.
    let quiet = ("MEMLATCH_QUIET", "on");
    let verbose = ("MEMLATCH_VERBOSE", "1");
    for (words, variables, says) in [
        (&["list"][..], &[][..], true),
        (&["list"], &[quiet], false),
        (&["list", "-v"], &[quiet], true),
        (&["wait", "x"], &[], false),
        (&["wait", "x"], &[verbose], true),
        (&["wait", "--quiet", "x"], &[verbose], false),
        (&["wait", "x"], &[("MEMLATCH_VERBOSE", "0")], false),
    ] {
        let done = run(&bench, words, variables);
        assert_eq!(done.code(), 0, "{words:?}: {done:?}");
        assert_eq!(
            !done.err.is_empty(),
            says,
            "{words:?} {variables:?}: {done:?}"
        );
    }
    // With `ignore`, the command runs on without its lock.
    let ignore = ("MEMLATCH_ON_LOST", "ignore");
    let script = "\"$0\" break --yes --quiet x && sleep 3 && touch survived";
    let words = ["run", "--lease", "2", "x", "sh", "-c", script, itself];
    let done = run(&bench, &words, &[ignore]);
    assert_eq!(done.code(), 120, "{done:?}");
    assert!(bench.has("survived"), "{done:?}");
}

#[test]
fn unusable_variable_is_named() {
    let bench = Bench::new("");
    let long = "x".repeat(10_000);
    let command = &["run", "x", "true"][..];
    for (words, name, value, says) in [
        (command, "MEMLATCH_LEASE", "soon", "500ms"),
        (command, "MEMLATCH_LEASE", &long, "500ms"),
        (command, "MEMLATCH_WAIT", "5x", "500ms"),
        (command, "MEMLATCH_NO_WAIT", "maybe", "write on or off"),
        (
            command,
            "MEMLATCH_CONFLICT_EXIT_CODE",
            "256",
            "from 0 to 255",
        ),
        (command, "MEMLATCH_ON_LOST", "panic", "term, kill or ignore"),
        (
            command,
            "MEMLATCH_RESTART_GUARD",
            "maybe",
            "write on or off",
        ),
        (command, "MEMLATCH_QUIET", "maybe", "write on or off"),
        (command, "MEMLATCH_VERBOSE", "3", "write 0, 1 or 2"),
        (&["wait", "x"], "MEMLATCH_WAIT", "5x", "500ms"),
        (&["list"], "MEMLATCH_QUIET", "maybe", "write on or off"),
    ] {
        let done = run(&bench, words, &[(name, value)]);
        done.assert_refused(64, says);
        assert!(done.err.contains(&format!("{name}=")), "{done:?}");
    }
    for (one, other) in [
        (("MEMLATCH_NO_WAIT", "on"), ("MEMLATCH_WAIT", "5")),
        (("MEMLATCH_QUIET", "on"), ("MEMLATCH_VERBOSE", "1")),
    ] {
        let done = run(&bench, command, &[one, other]);
        done.assert_refused(64, "exclude each other");
        assert!(done.err.contains(one.0) && done.err.contains(other.0));
    }
    // The lease is judged as that of the option is.
    let done = run(&bench, command, &[("MEMLATCH_LEASE", "40d")]);
    done.assert_refused(64, "at most 30 days");
}

#[test]
fn help_names_every_variable() {
    let bench = Bench::new("");
    let help = bench.run(&["run", "--help"]).out;
    for name in [
        "SERVER",
        "PREFIX",
        "RESTART_GUARD",
        "AUTH_FILE",
        "TLS_CA",
        "TLS_CERT",
        "TLS_KEY",
        "TLS_NAME",
        "VERBOSE",
        "QUIET",
        "NO_WAIT",
        "WAIT",
        "CONFLICT_EXIT_CODE",
        "LEASE",
        "ON_LOST",
        "LABEL",
    ] {
        assert!(help.contains(&format!("[env: MEMLATCH_{name}")), "{name}");
    }
}
