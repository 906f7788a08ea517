//! The output on terminals of several widths.

use crate::tool::{Bench, newest};
use std::time::SystemTime;
use unicode_width::UnicodeWidthStr;

/// The widths that are tried.
const WIDTHS: [usize; 5] = [120, 80, 60, 40, 25];

/// The output of the program on a terminal of this width, without colors. `None` where script(1) is
/// missing.
fn shown(bench: &Bench, columns: usize, words: &str) -> Option<String> {
    let mut command = bench.terminal_command("")?;
    let line = format!(
        "stty cols {columns} rows 40; exec '{}' {words}",
        env!("CARGO_BIN_EXE_memlatch")
    );
    let done = command
        .args(["--command", &line])
        .env("NO_COLOR", "1")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("script runs");
    let text = String::from_utf8_lossy(&done.stdout).replace('\r', "");
    Some(text)
}

/// The lines of a table that was drawn over itself, without what steers the terminal.
fn drawn(text: &str) -> Vec<String> {
    let text = text.rsplit("\x1b[?7l").next().unwrap_or(text);
    let lines = text.lines().map(|line| {
        let mut plain = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            let end = after.find(|c: char| c.is_ascii_alphabetic());
            rest = &after[end.map_or(after.len(), |end| end + 1)..];
        }
        plain + rest
    });
    lines.filter(|line| !line.is_empty()).collect()
}

fn put(server: &crate::memcached::RealServer, name: &str, token: &str, host: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = now.expect("after 1970").as_secs() - 4000;
    let record = format!("m1 {} 10000 {since} 4194304 {host} job", "01".repeat(16));
    let length = record.len();
    let set = format!("set memlatch:lock:{name} 0 12 {length}\r\n{record}\r\n");
    server.command(set.as_bytes());
    let length = token.len();
    let set = format!("set memlatch:fence:{name} 0 0 {length}\r\n{token}\r\n");
    server.command(set.as_bytes());
}

const TOKENS: [&str; 3] = [
    "1796054321987654",
    "1796054321987655",
    "18446744073709551615",
];

#[test]
fn tables_fit_and_numbers_are_whole() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let long = "invoices/with/a/rather/long/name/that/does/not/fit/in/eighty/columns/42";
    put(&server, "nightly", TOKENS[0], "vm1");
    put(
        &server,
        long,
        TOKENS[1],
        "a-host-with-a-long-name.internal.example",
    );
    // `日本語` and characters that turn the direction, as keys hold them.
    let wide = "%E6%97%A5%E6%9C%AC%E8%AA%9E".repeat(5) + "%E2%80%AE";
    put(&server, &wide, TOKENS[2], "vm2");
    for (words, first) in [("list", 0), ("watch --count 1", 1)] {
        for columns in WIDTHS {
            let Some(text) = shown(&bench, columns, words) else {
                return;
            };
            let lines = drawn(&text);
            let what = format!("{words} at {columns}: {lines:#?}");
            for line in &lines {
                assert!(line.width() <= columns, "{} {what}", line.width());
                assert!(!line.contains('\u{202e}'), "{what}");
            }
            let titles: Vec<&str> = lines[first].split_whitespace().collect();
            assert!(
                titles.contains(&"LEFT") && titles.contains(&"NAME"),
                "{what}"
            );
            let rows = &lines[first + 1..];
            assert_eq!(rows.len(), 3, "{what}");
            for (row, start) in rows.iter().zip(["inv", "nightly", "日"]) {
                let at = |title: &str| titles.iter().position(|other| *other == title);
                // Times that are long have two words, and bars are no words.
                let mut cells: Vec<&str> = row.split_whitespace().collect();
                cells.retain(|cell| !cell.starts_with(['\u{2588}', '\u{2591}']));
                assert!(row.contains(start), "{what}");
                assert!(
                    cells
                        .iter()
                        .any(|cell| cell.ends_with('s') && cell.len() <= 3),
                    "{what}"
                );
                if at("LAST_TOKEN").is_some() {
                    let whole = cells.iter().filter(|cell| TOKENS.contains(cell)).count();
                    assert_eq!(whole, 1, "{what}");
                } else {
                    assert!(!row.contains("179605") && !row.contains("184467"), "{what}");
                }
                assert_eq!(cells.contains(&"4194304"), at("PID").is_some(), "{what}");
            }
            assert_eq!(titles.contains(&"LAST_TOKEN"), columns >= 80, "{what}");
            assert_eq!(titles.contains(&"PID"), columns >= 60, "{what}");
            assert_eq!(titles.contains(&"HOLDER"), columns >= 40, "{what}");
            // What was shortened bears a mark, what fits does not.
            assert_eq!(rows[0].contains('\u{2026}'), columns < 150, "{what}");
            assert!(rows[1].contains("  nightly"), "{what}");
        }
    }
    // A pipe has no width.
    let piped = bench.run(&["list"]).out;
    assert!(piped.contains(long) && piped.contains(TOKENS[2]), "{piped}");
    assert!(piped.contains("日本語\\u{202e}"), "{piped}");
}

#[test]
fn doctor_output_wraps_at_words() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    put(&server, "nightly", TOKENS[0], "a-host.example");
    for columns in WIDTHS {
        for words in [
            "status nightly",
            "doctor",
            "doctor -v",
            "bench --seconds 0.1",
        ] {
            if words.starts_with("bench") && columns < 40 {
                continue;
            }
            let Some(text) = shown(&bench, columns, words) else {
                return;
            };
            for line in text.lines() {
                // A word that is longer than a line is not broken.
                let last = line.split_whitespace().last().map_or(0, str::width);
                assert!(line.width() <= columns || last + 14 > columns, "{text}");
            }
            for part in match words {
                "status nightly" => &["1796054321987654", "4194304", "10 s"][..],
                "bench --seconds 0.1" => &["p99.9", "round trip", "max"],
                _ => &["temporary_ttl=21", "1.6."],
            } {
                assert!(text.contains(part), "{part} at {columns}: {text}");
            }
        }
    }
}
