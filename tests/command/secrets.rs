//! Servers with passwords and with TLS.

use crate::memcached;
use crate::tool::Bench;
use std::fs;

const ACCOUNT: &str = "user:open:sesame\n";

#[test]
fn password_is_read_from_file() {
    for binary in memcached::required() {
        let bench = Bench::new("");
        fs::write(bench.path("accounts"), ACCOUNT).expect("a file");
        fs::write(bench.path("two-lines"), "user\nopen:sesame\n").expect("a file");
        fs::write(bench.path("marked"), format!("\u{feff}{ACCOUNT}")).expect("a file");
        fs::write(bench.path("wrong"), "user:open:barley\n").expect("a file");
        let accounts = bench.path("accounts");
        let server = binary.start(&["-Y", accounts.to_str().expect("a plain path")]);
        let url = server.url();
        for file in ["accounts", "two-lines", "marked"] {
            let words = ["run", "--server", &url, "--auth-file", file, "x", "true"];
            let done = bench.run(&words);
            assert_eq!((done.code(), done.err.as_str()), (0, ""));
        }
        let mut command = bench.command(&["status", "--server", &url, "x"]);
        let done = bench.spawn(command.env("MEMLATCH_AUTH_FILE", "accounts"));
        assert_eq!(done.finish().code(), 0);

        let words = ["run", "--server", &url, "--auth-file", "wrong", "x", "true"];
        let done = bench.run(&words);
        done.assert_refused(69, "does not accept the user and the password");
        assert!(!done.err.contains("barley"), "{}", done.err);
        let done = bench.run(&["run", "--server", &url, "x", "true"]);
        done.assert_refused(69, "wants a user and a password");
        assert!(done.err.contains("--auth-file"), "{}", done.err);

        // The workers of a demo are let in as well.
        let words = ["demo", "--seconds", "0.3", "--workers", "2"];
        let words = [&words[..], &["--server", &url, "--auth-file", "accounts"]].concat();
        assert_eq!(bench.run(&words).code(), 0);
    }
}

#[test]
fn unusable_password_file_is_named_only() {
    let bench = Bench::new("127.0.0.1:1");
    for (text, says) in [
        ("", "user:password"),
        ("sesame", "user:password"),
        ("user\nsesame\nmore\n", "user:password"),
        ("user:open sesame\n", "without spaces"),
    ] {
        fs::write(bench.path("account"), text).expect("a file");
        let done = bench.run(&["run", "--auth-file", "account", "x", "true"]);
        done.assert_refused(64, says);
        assert!(!done.err.contains("sesame"), "{}", done.err);
    }
    let done = bench.run(&["run", "--auth-file", "missing", "x", "true"]);
    done.assert_refused(64, "--auth-file missing: ");
    fs::write(bench.path("account"), b"user:\xff\xfe").expect("a file");
    fs::write(bench.path("long"), "x".repeat(2000)).expect("a file");
    for (file, says) in [
        ("account", "not text in UTF-8"),
        ("long", "longer than 1024 bytes"),
        (".", "directory"),
        ("/dev/zero", "longer than 1024 bytes"),
    ] {
        let done = bench.run(&["run", "--auth-file", file, "x", "true"]);
        done.assert_refused(64, says);
    }
    // An empty variable is one that is not set; no server listens there.
    let mut command = bench.command(&["status", "x"]);
    command
        .env("MEMLATCH_AUTH_FILE", "")
        .env("MEMLATCH_TLS_CA", "");
    bench
        .spawn(&mut command)
        .finish()
        .assert_refused(69, "cannot connect");
}

/// Variables about another server do not apply to the one of the demo itself.
#[test]
fn demos_own_server_needs_no_secrets() {
    let bench = Bench::new("");
    fs::write(bench.path("account"), ACCOUNT).expect("a file");
    let mut command = bench.command(&["demo", "--seconds", "0.3", "--workers", "2"]);
    command
        .env("MEMLATCH_AUTH_FILE", "account")
        .env("MEMLATCH_TLS_CA", "missing");
    let done = bench.spawn(&mut command).finish();
    assert_eq!((done.code(), done.err.as_str()), (0, ""));
}

#[cfg(feature = "tls")]
#[test]
fn locks_travel_encrypted() {
    use crate::certificates::{Authority, Folder};
    let folder = Folder::new();
    let (authority, other) = (
        Authority::new(&folder, "good"),
        Authority::new(&folder, "other"),
    );
    let pair = authority.certificate(&["cache.example"]);
    let client = authority.certificate(&["client"]);
    let text = |path: &std::path::Path| path.to_str().expect("a plain path").to_owned();
    let ca = text(&authority.file);
    for binary in memcached::required() {
        let more = format!("{},ssl_ca_cert={ca},ssl_verify_mode=3", pair.options());
        let server = binary.start(&["-Z", "-o", &more]);
        let bench = Bench::new(&format!("memcacheds://{}", server.address()));
        let certificate = [text(&client.certificate), text(&client.key)];
        let shown = ["--tls-cert", &certificate[0], "--tls-key", &certificate[1]];
        let run = |ca: &str, more: &[&str]| {
            let words = ["run", "--tls-ca", ca, "--tls-name", "cache.example"];
            bench.run(&[&words[..], more, &["x", "true"]].concat())
        };
        let done = run(&ca, &shown);
        assert_eq!((done.code(), done.err.as_str()), (0, ""));
        run(&text(&other.file), &shown).assert_refused(69, "not trusted");
        run(&ca, &[]).assert_refused(69, "wants a client certificate");
        run(&ca, &shown[..2]).assert_refused(64, "--tls-cert needs --tls-key");
        run(&ca, &shown[2..]).assert_refused(64, "--tls-key needs --tls-cert");
        run("missing", &shown).assert_refused(64, "`missing` cannot be read");
        run("/dev/zero", &shown).assert_refused(64, "is larger than");
        run(".", &shown).assert_refused(64, "cannot be read");
        for endless in [
            ["--tls-cert", &certificate[0], "--tls-key", "/dev/zero"],
            ["--tls-cert", "/dev/zero", "--tls-key", &certificate[1]],
        ] {
            run(&ca, &endless).assert_refused(64, "`/dev/zero` is larger than");
        }
        let marked = |file: &str, name: &str| {
            let text = fs::read_to_string(file).expect("text");
            fs::write(bench.path(name), format!("\u{feff}{text}")).expect("a file");
        };
        marked(&ca, "ca");
        marked(&certificate[0], "certificate");
        marked(&certificate[1], "key");
        let marked = ["--tls-cert", "certificate", "--tls-key", "key"];
        assert_eq!(run("ca", &marked).code(), 0);
        let done = bench.run(&["run", "--tls-ca", &ca, "x", "true"]);
        done.assert_refused(69, "is for another name");
        let plain = format!("memcached://{}", server.address());
        let done = bench.run(&["run", "--server", &plain, "--tls-ca", &ca, "x", "true"]);
        done.assert_refused(64, "write memcacheds://");

        let mut command = bench.command(&["run", "x", "true"]);
        command
            .env("MEMLATCH_TLS_CA", &ca)
            .env("MEMLATCH_TLS_NAME", "cache.example")
            .env("MEMLATCH_TLS_CERT", &certificate[0])
            .env("MEMLATCH_TLS_KEY", &certificate[1]);
        let done = bench.spawn(&mut command).finish();
        assert_eq!((done.code(), done.err.as_str()), (0, ""));
    }
}
