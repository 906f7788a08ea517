//! The longest lease under a prefix, and the lease of a lock.

use crate::tool::{Bench, Done, newest};
use core::time::Duration;
use serde_json::Value;

fn run(bench: &Bench, words: &[&str], longest: Option<&str>) -> Done {
    let mut command = bench.command(words);
    if let Some(longest) = longest {
        command.env("MEMLATCH_MAX_LEASE", longest);
    }
    bench.spawn(&mut command).finish()
}

fn lease(bench: &Bench, name: &str) -> f64 {
    let status = bench.run(&["status", "--json", name]).out;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    status["lease_seconds"].as_f64().expect("a number")
}

/// `acquire` takes the longest lease, `run` the usual one, and both from the same setting.
#[test]
fn acquire_defaults_to_the_longest_lease() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for (name, words, longest, seconds) in [
        ("a", &["acquire", "a"][..], None, 10.0),
        ("b", &["acquire", "b"], Some("25s"), 25.0),
        (
            "c",
            &["acquire", "--max-lease", "26s", "c"],
            Some("25s"),
            26.0,
        ),
        ("d", &["acquire", "--lease", "7", "d"], Some("25s"), 7.0),
    ] {
        let done = run(&bench, words, longest);
        assert_eq!((done.code(), done.err.as_str()), (0, ""), "{done:?}");
        assert!((lease(&bench, name) - seconds).abs() < 0.01, "{words:?}");
    }
    let itself = env!("CARGO_BIN_EXE_memlatch");
    for (longest, seconds) in [("25s", 10.0), ("5s", 5.0)] {
        let words = ["run", "e", itself, "status", "--json", "e"];
        let done = run(&bench, &words, Some(longest));
        let status: Value = serde_json::from_str(&done.out).expect("JSON");
        assert_eq!(status["lease_seconds"], seconds, "{done:?}");
    }
}

#[test]
fn longer_lease_is_refused_or_recorded() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for words in [
        &["run", "--lease", "1m", "x", "true"][..],
        &["acquire", "--lease", "1m", "x"],
        &["doctor", "--lease", "1m"],
    ] {
        let done = run(&bench, words, Some("50s"));
        done.assert_refused(64, "60 s is longer than the longest lease");
        assert!(done.err.contains("MEMLATCH_MAX_LEASE, 50 s"), "{done:?}");
    }
    let done = bench.run(&["run", "--max-lease", "40d", "x", "true"]);
    done.assert_refused(64, "--max-lease");
    let done = run(&bench, &["status", "x"], Some("soon"));
    done.assert_refused(64, "MEMLATCH_MAX_LEASE=soon");
    for words in [
        &["run", "--lease", "90s", "x", "true"][..],
        &["acquire", "--lease", "90s", "y"],
    ] {
        let done = bench.run(words);
        assert_eq!(done.code(), 0, "{done:?}");
        assert!(done.err.contains("MEMLATCH_MAX_LEASE=90s"), "{done:?}");
        assert_eq!(done.err.lines().count(), 1, "{done:?}");
    }
    let quiet = bench.run(&["--quiet", "run", "--lease", "90s", "x", "true"]);
    assert_eq!((quiet.code(), quiet.err.as_str()), (0, ""), "{quiet:?}");
}

/// The guard waits for the longest lease, not for the lease of the lock that is asked for, and the
/// doctor judges by the same.
#[test]
fn guard_and_doctor_use_longest_lease() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for (words, longest, least) in [
        (&["run", "-n", "x", "true"][..], Some("100s"), 80),
        (&["run", "-n", "--lease", "80s", "x", "true"], None, 60),
        (&["acquire", "-n", "--lease", "2", "x"], Some("100s"), 80),
        (&["acquire", "-n", "x"], Some("100s"), 80),
    ] {
        let words = [&["--restart-guard", "on", "--quiet"], words].concat();
        let done = run(&bench, &words, longest);
        assert_eq!(done.code(), 69, "{done:?}");
        let lacking = done.err.split("granted in ").nth(1).expect("how long");
        let lacking = lacking.split("s ").next().expect("seconds");
        let lacking = Duration::from_secs_f64(lacking.parse().expect("a number"));
        assert!(lacking > Duration::from_secs(least), "{words:?}: {done:?}");
    }
    for (words, longest, needed) in [
        (&["doctor", "--json"][..], None, 112),
        (&["doctor", "--json", "--prefix", "d:"], None, 21),
        (&["doctor", "--json", "--prefix", "d:"], Some("60s"), 71),
        (
            &["doctor", "--json", "--prefix", "d:", "--max-lease", "1m"],
            None,
            71,
        ),
        (
            &["doctor", "--json", "--prefix", "d:", "--lease", "1m"],
            None,
            71,
        ),
    ] {
        let done = run(&bench, words, longest);
        let object: Value = serde_json::from_str(&done.out).expect("JSON");
        assert_eq!(object["temporary_ttl_needed"], needed, "{words:?}");
    }
}
