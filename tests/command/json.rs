//! Numbers in JSON output, for readers that know doubles only.

use crate::memcached;
use crate::tool::{Bench, Done};
use serde_json::Value;

/// The numbers of a JSON text as they are written.
fn numbers(text: &str) -> Vec<&str> {
    let mut numbers = Vec::new();
    let mut in_string = false;
    let mut begin = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        let of_number = !in_string && (c.is_ascii_digit() || ".+-eE".contains(c));
        match (begin, of_number) {
            // A letter of `true` or `false` begins no number.
            (None, true) if c.is_ascii_digit() || c == '-' => begin = Some(at),
            (Some(from), false) => {
                numbers.push(&text[from..at]);
                begin = None;
            }
            _ => {}
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = c == '\\' && !escaped;
    }
    numbers
}

/// Checks that a reader that knows doubles only gets each number as it is written.
fn assert_exact(what: &str, done: &Done) {
    assert!(!done.out.is_empty(), "{what}: {done:?}");
    for line in done.out.lines() {
        let _: Value = serde_json::from_str(line).expect("JSON");
        for number in numbers(line) {
            let double: f64 = number.parse().expect("a number");
            let back = if number.contains(['.', 'e', 'E']) {
                // The shortest text for a double is read as the same double.
                format!("{double:?}")
            } else {
                format!("{double}")
            };
            assert_eq!(back, number, "{what}: {line}");
            assert!(double.abs() <= 9_007_199_254_740_992.0, "{what}: {number}");
        }
    }
}

fn object(done: &Done) -> Value {
    serde_json::from_str(done.out.lines().next().expect("a line")).expect("JSON")
}

#[test]
fn numbers_are_exact_as_doubles() {
    assert_eq!(
        numbers(r#"{"a-1":[1.5,-2e3],"b\"7":true,"c":"8"}"#),
        ["1.5", "-2e3"]
    );
    for binary in memcached::required() {
        let server = binary.start(&["-o", "temporary_ttl=4000000000"]);
        let bench = Bench::new(&server.url());
        let mut parts = String::new();
        let mut token = String::new();
        for (verb, words) in [
            ("acquire", &["acquire", "--json", "x"][..]),
            ("status", &["status", "--json", "x"]),
            ("list", &["list", "--json"]),
            ("watch", &["watch", "--json", "--count", "1"]),
            ("wait", &["wait", "-w0", "--json", "x"]),
            ("renew", &["renew", "--json", "x"]),
            ("release", &["release", "--json", "x"]),
            ("acquire again", &["acquire", "--json", "x"]),
            ("break", &["break", "--yes", "--json", "x"]),
            ("status of a free lock", &["status", "--json", "x"]),
            ("bench", &["bench", "--json", "--seconds", "0.1"]),
            ("doctor", &["doctor", "--json", "--fix", "--watch", "10ms"]),
        ] {
            let mut command = bench.command(words);
            let done = bench.spawn(command.env("MEMLATCH_PARTS", &parts)).finish();
            assert_exact(&format!("{server}: {verb}"), &done);
            let object = object(&done);
            if let Some(printed) = object["parts"].as_str() {
                parts = printed.to_owned();
                token = object["token"].as_str().expect("a string").to_owned();
                assert_eq!(parts.split(' ').nth(9), Some(&*token), "{parts}");
            }
            if ["status", "list", "watch", "wait", "break"].contains(&verb) {
                assert_eq!(object["last_token"], token.as_str(), "{verb}: {object}");
                assert!(token.parse::<u64>().expect("a number") > 1 << 53, "{token}");
            }
        }
        // Two holders, one after the other, do not look the same.
        let next = object(&bench.run(&["acquire", "--json", "x"]));
        assert!(next["token"].is_string() && next["token"] != token.as_str());
    }
}

/// A stranger can write any number into a record.
#[test]
fn foreign_numbers_are_exact_or_omitted() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        for (since, shown) in [
            ("18446744073709551615", Value::Null),
            ("9007199254740993", Value::Null),
            ("9007199254740992", 9_007_199_254_740_992_u64.into()),
        ] {
            let record = format!("m1 {} 10000 {since} 7 host label", "01".repeat(16));
            let set = format!("set memlatch:lock:x 0 60 {}\r\n{record}\r\n", record.len());
            server.command(set.as_bytes());
            server.command(b"set memlatch:fence:x 0 0 20\r\n18446744073709551615\r\n");
            for words in [&["status", "--json", "x"][..], &["list", "--json"]] {
                let done = bench.run(words);
                assert_exact(since, &done);
                assert_eq!(object(&done)["since_unix"], shown, "{done:?}");
                assert_eq!(object(&done)["last_token"], "18446744073709551615");
            }
        }
    }
}
