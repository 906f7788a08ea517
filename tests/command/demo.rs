//! `memlatch demo`.

use crate::memcached;
use crate::tool::{Bench, is_ignored, until};
use core::time::Duration;
use nix::sys::signal::Signal;
use std::fs;

/// The processes that a demo has started.
fn workers(demo: i32) -> Vec<i32> {
    let parent = format!("--parent\0{demo}\0");
    let all = fs::read_dir("/proc").expect("the processes");
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&parent)
        })
        .collect()
}

fn number(line: &str, column: usize) -> u64 {
    let word = line.split_whitespace().nth(column);
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number in column {column} of {line:?}"))
}

#[test]
fn demo_shows_what_locks_do() {
    let bench = Bench::new("");
    let mut command = bench.command(&["demo", "--seconds", "1.5"]);
    let done = bench.spawn(command.env_remove("MEMLATCH_SERVER")).finish();
    assert_eq!((done.code(), done.err.as_str()), (0, ""), "{done:?}");
    assert!(done.took < Duration::from_secs(20));
    let line = |part: &str| {
        let mut lines = done.out.lines();
        lines
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("`{part}` is missing: {}", done.out))
    };
    let without = line("without lock ");
    assert!(number(without, 2) > number(without, 3), "{without}");
    assert!(number(without, 4) > 0, "{without}");
    let with = line("with lock ");
    assert_eq!(number(with, 2), number(with, 3), "{with}");
    assert_eq!(number(with, 4), 0, "{with}");
    assert!(number(with, 5) > 0, "{with}");
    line("each higher than the one before");
    line("worker 4");
    line("0 with it");
    // Standard output is no terminal.
    assert!(!done.out.contains('\x1b'));
}

#[test]
fn demo_works_with_real_servers() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let done = bench.run(&["demo", "--seconds", "500ms", "--workers", "2"]);
        assert_eq!(done.code(), 0, "{server}: {done:?}");
        assert!(done.out.contains(&server.url()), "{server}: {done:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn demo_leaves_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        if is_ignored(signal) {
            continue;
        }
        let bench = Bench::new("");
        fs::create_dir(bench.path("tmp")).expect("a folder");
        let mut command = bench.command(&["demo", "--seconds", "60"]);
        command
            .env_remove("MEMLATCH_SERVER")
            .env("TMPDIR", bench.path("tmp"));
        let demo = bench.spawn(&mut command);
        let pid = demo.pid();
        until("its workers work", || workers(pid).len() == 4);
        demo.signal(signal);
        let done = demo.finish();
        if signal == Signal::SIGKILL {
            assert_eq!(done.status.code(), None);
        } else {
            assert_eq!(done.code(), 128 + signal as i32, "{done:?}");
            let left = fs::read_dir(bench.path("tmp")).expect("the folder").count();
            assert_eq!(left, 0, "files are left");
        }
        until("its workers have ended", || workers(pid).is_empty());
    }
}
