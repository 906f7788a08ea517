//! `memlatch list`.

use crate::memcached;
use crate::tool::{Bench, newest};
use serde_json::Value;

#[test]
fn list_shows_locks_as_text() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let none = bench.run(&["list"]);
        assert_eq!((none.code(), none.out.as_str()), (0, ""), "{server}");
        assert_eq!(none.err, "memlatch: no locks\n", "{server}");
        let quiet = bench.run(&["--quiet", "list"]);
        assert_eq!((quiet.code(), quiet.err.as_str()), (0, ""), "{server}");

        let holder = bench.hold("invoices/42");
        let other = Bench::new(&server.url());
        let second = other.hold("a b");
        let both = bench.run(&["list"]);
        assert_eq!((both.code(), both.err.as_str()), (0, ""), "{server}");
        let lines: Vec<&str> = both.out.lines().collect();
        assert_eq!(lines.len(), 3, "{server}: {both:?}");
        let titles: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(
            titles,
            ["HELD", "LEFT", "LAST_TOKEN", "PID", "NAME", "HOLDER"]
        );
        let whose = format!("  {}  a b          ", second.pid());
        assert!(lines[1].contains(&whose), "{both:?}");
        let whose = format!("  {}  invoices/42  ", holder.pid());
        assert!(lines[2].contains(&whose), "{both:?}");
        assert!(lines[2].ends_with(" \"the holder\""), "{both:?}");
        let token = lines[2].split_whitespace().nth(2).map(str::parse::<u64>);
        assert!(matches!(token, Some(Ok(1..))), "{server}: {both:?}");
        // Each column begins where its title does.
        let place = lines[0].find("HOLDER").expect("a title");
        assert!(lines.iter().all(|line| line.as_bytes()[place - 1] == b' '));

        let some = bench.run(&["list", "inv"]);
        assert_eq!(some.out.lines().count(), 2, "{server}: {some:?}");
        let elsewhere = bench.run(&["--prefix", "other:", "list"]);
        assert_eq!(elsewhere.out, "", "{server}");
        for (bench, running) in [(&bench, holder), (&other, second)] {
            bench.let_go();
            assert_eq!(running.finish().code(), 0);
        }
    }
}

#[test]
fn list_shows_locks_as_json() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let none = bench.run(&["list", "--json", "--quiet"]);
        assert_eq!((none.code(), none.out.as_str()), (0, ""), "{server}");
        let holder = bench.hold("x");
        let long = "n".repeat(300);
        let other = Bench::new(&server.url());
        let hashed = other.hold(&long);
        let listed = bench.run(&["list", "--json"]);
        let objects: Vec<Value> = listed
            .out
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(objects.len(), 2, "{server}: {listed:?}");
        let (first, second) = (&objects[0], &objects[1]);
        let name = first["name"].as_str().expect("a name");
        assert!(name.starts_with('#') && name.len() == 65, "{first}");
        assert_eq!(first["hashed"], Value::Bool(true), "{server}");
        assert_eq!(first["pid"], hashed.pid(), "{server}");
        let shown = bench.run(&["list"]).out;
        assert!(shown.contains(&format!("{name} (hashed)")), "{shown}");
        // The output of `status` for it.
        let status = bench.run(&["status", "--json", "x"]).out;
        let status: Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(second["hashed"], Value::Bool(false), "{server}");
        for (field, value) in status.as_object().expect("an object") {
            if !field.ends_with("_seconds") {
                assert_eq!(&second[field], value, "{server}: {field}");
            }
        }
        for (bench, running) in [(&bench, holder), (&other, hashed)] {
            bench.let_go();
            assert_eq!(running.finish().code(), 0);
        }
    }
}

#[test]
fn list_escapes_foreign_records() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let record = "m1 0123456789abcdef0123456789abcdef 10000 5 7 %1B[31mhost %0Alabel";
        let set = format!("set memlatch:lock:x 0 60 {}\r\n{record}\r\n", record.len());
        server.command(set.as_bytes());
        server.command(b"set memlatch:lock:foreign 0 0 1\r\nx\r\n");
        let listed = bench.run(&["list"]);
        assert_eq!(listed.code(), 0, "{listed:?}");
        assert!(!listed.out.contains('\x1b'), "{listed:?}");
        assert_eq!(listed.out.lines().count(), 3, "{listed:?}");
        let foreign = listed.out.lines().find(|line| line.contains("  foreign  "));
        let foreign = foreign.expect("a line");
        let parts: Vec<&str> = foreign.split_whitespace().collect();
        assert_eq!(
            parts,
            ["-", "-", "-", "-", "foreign", "an", "unknown", "client"]
        );
    }
}

#[test]
fn failed_list_is_one_error_line() {
    for binary in memcached::required() {
        let server = binary.start(&["-X"]);
        let bench = Bench::new(&server.url());
        bench
            .run(&["list"])
            .assert_refused(69, "metadump not allowed");
        server.command(b"lru_crawler disable\r\n");
    }
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for (words, says) in [
        (&["list", "--server", "redis://h"][..], "scheme is unknown"),
        (&["list", "--prefix", "a b"], "the prefix cannot be used"),
        (&["list", "a", "b"], "unexpected argument 'b'"),
        (&["list", "--bogus"], "(see `memlatch list --help`)"),
    ] {
        bench.run(words).assert_refused(64, says);
    }
}

#[test]
fn long_list_keeps_the_first() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let mut sets = String::new();
    for number in 0..10_001 {
        sets.push_str(&format!(
            "set memlatch:lock:n{number:05} 0 0 1 noreply\r\nx\r\n"
        ));
    }
    sets.push_str("version\r\n");
    server.command(sets.as_bytes());
    let listed = bench.run(&["list"]);
    assert_eq!(listed.code(), 0, "{}", listed.err);
    assert_eq!(listed.out.lines().count(), 10_001);
    assert!(
        listed.err.contains("more than 10000 locks"),
        "{}",
        listed.err
    );
    assert_eq!(listed.err.lines().count(), 1);
}
