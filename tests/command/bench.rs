//! `memlatch bench`.

use crate::memcached;
use crate::tool::{AT_ONCE, Bench, newest, until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn measured(bench: &Bench, words: &[&str]) -> Value {
    let mut all = vec!["bench", "--json", "--seconds", "0.2"];
    all.extend_from_slice(words);
    let done = bench.run(&all);
    assert_eq!((done.code(), done.err.as_str()), (0, ""), "{words:?}");
    assert_eq!(done.out.lines().count(), 1, "{done:?}");
    serde_json::from_str(&done.out).expect("JSON")
}

#[test]
fn json_reports_the_measurements() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        for (words, tasks, names, without_record) in [
            (&[][..], 8, 8, false),
            (&["--tasks", "3", "--names", "2"], 3, 2, false),
            (&["--contended", "--tasks", "2"], 2, 1, false),
            (
                &["--without-record", "--tasks", "1", "--connections", "2"],
                1,
                1,
                true,
            ),
        ] {
            let told = measured(&bench, words);
            assert_eq!(told["tasks"], tasks, "{server}: {told}");
            assert_eq!(told["names"], names, "{server}: {told}");
            assert_eq!(told["without_record"], without_record, "{server}: {told}");
            assert_eq!(told["server"], server.url(), "{told}");
            // Each task makes one pair at least, however busy the machine is.
            assert!(told["pairs"].as_u64() >= Some(tasks), "{server}: {told}");
            assert!(told["seconds"].as_f64() >= Some(0.2), "{server}: {told}");
            assert!(told["pairs_per_second"].as_f64() > Some(0.0), "{told}");
            assert!(told["round_trips"].as_u64() >= Some(1), "{told}");
            for times in [&told["pair_micros"], &told["round_trip_micros"]] {
                let times: Vec<f64> = ["p50", "p90", "p99", "p99.9", "max"]
                    .map(|title| times[title].as_f64().expect("a number"))
                    .into();
                assert!(times[0] > 0.0 && times.is_sorted(), "{server}: {told}");
            }
        }
        // Nothing was done under the prefix of others, and nothing is left.
        let others = server.command(b"get memlatch:sentinel\r\n");
        assert!(!others.starts_with(b"VALUE "), "{server}");
        let left = bench.run(&["--prefix", "memlatch-bench:", "list", "--quiet"]);
        assert_eq!((left.code(), left.out.as_str()), (0, ""), "{server}");
    }
}

#[test]
fn terminal_output_has_table_and_bars() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for (locale, glyph) in [("C.UTF-8", '\u{2588}'), ("C", '#')] {
        let mut command = bench.command(&["bench", "--seconds", "0.2", "--tasks", "2"]);
        command.env("LC_ALL", locale);
        let done = bench.spawn(&mut command).finish();
        assert_eq!((done.code(), done.err.as_str()), (0, ""), "{done:?}");
        let first = done.out.lines().next().expect("a line");
        let (rate, rest) = first.split_once(' ').expect("a number");
        assert!(rate.parse::<u64>().expect("a number") > 0, "{done:?}");
        assert_eq!(rest, "pairs per second of acquiring and giving back");
        let setting = format!("2 tasks for 2 locks on {}, 1 connection in ", server.url());
        assert!(done.out.contains(&setting), "{done:?}");
        for part in [
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "  pair ",
            "  round trip ",
        ] {
            assert!(done.out.contains(part), "{part}: {done:?}");
        }
        assert!(done.out.contains(glyph), "{done:?}");
        assert_eq!(done.out.is_ascii(), glyph == '#', "{done:?}");
    }
}

#[test]
fn interrupted_bench_leaves_nothing() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let running = bench.start(&["bench", "-v", "--seconds", "1h", "--tasks", "4"]);
    until("it has begun", || running.err().contains("measuring"));
    std::thread::sleep(core::time::Duration::from_millis(1200));
    running.signal(Signal::SIGTERM);
    let done = running.finish();
    assert_eq!((done.code(), done.out.as_str()), (143, ""), "{done:?}");
    let left = bench.run(&["--prefix", "memlatch-bench:", "list", "--quiet"]);
    assert_eq!((left.code(), left.out.as_str()), (0, ""));
}

#[test]
fn unusable_bench_options_are_refused() {
    let bench = Bench::new("127.0.0.1:1");
    for (words, says) in [
        (&["bench", "--seconds", "0"][..], "more than 0"),
        (&["bench", "--seconds", "soon"], "500ms"),
        (&["bench", "--tasks", "0"], "1..=1024"),
        (&["bench", "--tasks", "1025"], "1..=1024"),
        (&["bench", "--connections", "5"], "1..=4"),
        (&["bench", "--names", "0"], "1..=1024"),
        (
            &["bench", "--names", "2", "--contended"],
            "cannot be used with",
        ),
        (&["bench", "x"], "unexpected argument 'x'"),
    ] {
        bench.run(words).assert_refused(64, says);
    }
    let done = bench.run(&["bench"]);
    done.assert_refused(69, "unavailable");
    assert!(done.took < AT_ONCE, "{done:?}");
}
