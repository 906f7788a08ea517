//! Command lines and servers that cannot be used.

use crate::tool::{AT_ONCE, Bench, newest, until};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;

/// An address without a listener.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("memcached://{}", listener.local_addr().expect("an address"))
}

#[test]
fn bad_command_line_is_one_error() {
    // Nothing of this needs a server, and none is asked.
    let bench = Bench::new(&nowhere());
    let long = "x".repeat(10 * 1024);
    for (words, says) in [
        (&["run", "", "true"][..], "the lock name is empty"),
        (&["run", &long, "true"], "10240 bytes; at most 1024"),
        (&["run", "a\r\nflush_all", "true"], "control characters"),
        (
            &["run", "--lease", "0", "x", "true"],
            "--lease: a lease of 0ns is too short",
        ),
        (&["run", "--lease", "40d", "x", "true"], "at most 30 days"),
        (&["run", "--lease", "soon", "x", "true"], "500ms"),
        (&["run", "-w", "5x", "x", "true"], "500ms"),
        (&["run", "-w", &long, "x", "true"], "500ms"),
        (&["run", "-w", "-1", "x", "true"], "-1"),
        (
            &["run", "-n", "-w", "1", "x", "true"],
            "cannot be used with",
        ),
        (&["run", "-E", "256", "x", "true"], "0..=255"),
        (&["run", "-E", "-1", "x", "true"], "-1"),
        (
            &["run", "--on-lost", "panic", "x", "true"],
            "term, kill, ignore",
        ),
        (&["run", "--bogus", "x", "true"], "--bogus"),
        (&["run"], "NAME"),
        (&["run", "x"], "the command to run is missing"),
        (
            &["run", "x", "-n", "--", "true"],
            "options stand before it: memlatch run -n NAME -- COMMAND",
        ),
        (
            &["run", "x", "--lease", "5s", "true"],
            "options stand before it: memlatch run --lease NAME",
        ),
        (
            &["-n", "run", "x", "true"],
            "options of run stand behind it: memlatch run -n",
        ),
        (
            &["nightly", "--", "true"],
            "to run a command under the lock `nightly`: memlatch run nightly -- COMMAND",
        ),
        (
            &["acquire", "x", "--", "true"],
            "acquire runs no command; memlatch run NAME -- COMMAND does",
        ),
        (&["release", "x"], "MEMLATCH_PARTS"),
        (&["statsu", "x"], "'status'"),
        (&["run", "x", "--"], "the command to run is missing"),
        (&["run", "-c", "a", "x", "b"], "both a command and -c"),
        (&["run", "x", "-c"], "exactly one command line"),
        (&["run", "x", "-c", "a", "b"], "exactly one command line"),
        (
            &["run", "--server", "redis://h", "x", "true"],
            "scheme is unknown",
        ),
        (
            &["run", "--server", "a:1,b:2", "x", "true"],
            "several servers; name one",
        ),
        (
            &["list", "--server", "user:secret@h"],
            "`...@h` is no server address: user and password",
        ),
        (
            &["run", "--server", "h:1\r\nflush_all", "x", "true"],
            "control characters",
        ),
        (
            &["run", "--prefix", "a b", "x", "true"],
            "the prefix cannot be used",
        ),
        (
            &["run", "--restart-guard", "maybe", "x", "true"],
            "write on or off",
        ),
        (
            &["run", "-v", "--quiet", "x", "true"],
            "cannot be used with",
        ),
        (&["status", ""], "the lock name is empty"),
        (&["status", "a\nb"], "control characters"),
        (&["status"], "NAME"),
        (&["bogus"], "bogus"),
        (&["demo", "--workers", "0"], "1..=64"),
        (&["demo", "--seconds", "0"], "more than 0"),
        (&["serve", "-l", "0.0.0.0", "-p", "0"], "--allow-remote"),
        (&["serve", "-l", "::", "-p", "0"], "--allow-remote"),
        (&["serve", "-l", "nowhere.example"], "not one IP address"),
        (&["serve", "-p", "70000"], "70000"),
        (&["serve", "-I", "1x"], "not a size"),
        (&["serve", "-Y", "no-such-file"], "no-such-file"),
    ] {
        bench.run(words).assert_refused(64, says);
    }
}

#[test]
fn help_and_version_exit_0() {
    let bench = Bench::new("");
    for (words, says) in [
        (&["--help"][..], "status"),
        (&["run", "--help"], "120  the lock was lost"),
        (&["help-is-not-needed-for", "--version"], ""),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["serve", "--help"], "Accepted without effect"),
    ] {
        let done = bench.run(words);
        if says.is_empty() {
            assert_eq!(done.code(), 64, "{done:?}");
        } else {
            assert_eq!((done.code(), done.err.as_str()), (0, ""), "{done:?}");
            assert!(done.out.contains(says), "{done:?}");
        }
    }
    bench
        .run(&[])
        .assert_refused(64, "a subcommand is missing: run, ");
    // The same where the environment says nothing.
    let mut command = bench.command(&[]);
    command
        .env_remove("MEMLATCH_SERVER")
        .env_remove("MEMLATCH_RESTART_GUARD");
    let bare = bench.spawn(&mut command).finish();
    bare.assert_refused(64, "a subcommand is missing: run, ");
    // Of each, its own help is recommended.
    let usage = bench.run(&["status", "--bogus"]);
    usage.assert_refused(64, "(see `memlatch status --help`)");
    let usage = bench.run(&["--quiet", "man", "--bogus"]);
    usage.assert_refused(64, "(see `memlatch man --help`)");
}

#[test]
fn unreachable_server_has_own_exit_code() {
    let address = nowhere();
    let bench = Bench::new(&address);
    for words in [
        &["run", "-n", "x", "touch", "intruder"][..],
        &["acquire", "-n", "x"],
        &["status", "x"],
        &["wait", "-w0", "x"],
        &["list"],
        &["watch"],
        &["break", "--yes", "x"],
        &["bench"],
        &["demo", "--server", &address],
    ] {
        let done = bench.run(words);
        done.assert_refused(69, "unavailable");
        assert!(done.err.contains(&address), "{done:?}");
        assert!(done.took < AT_ONCE, "{done:?}");
    }
    assert!(!bench.has("intruder"));
}

/// Something else listens there.
#[test]
fn foreign_server_has_own_exit_code() {
    for answer in [
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "-ERR unknown command\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut some = [0; 512];
                let _ = stream.read(&mut some);
                let _ = stream.write_all(answer.as_bytes());
                // The one that says nothing goes on saying nothing.
                if answer.is_empty() {
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            }
        });
        let bench = Bench::new(&address);
        for words in [
            &["run", "-n", "x", "touch", "intruder"][..],
            &["status", "x"],
        ] {
            let done = bench.run(words);
            done.assert_refused(69, &address);
            assert!(done.took < AT_ONCE, "{answer:?}: {done:?}");
        }
        assert!(!bench.has("intruder"));
    }
}

/// A proxy that closes the connection at what it does not know, and a server that speaks the binary
/// protocol only, are named as what it may be.
#[test]
fn closed_connection_gets_a_hint() {
    let hint = "is it memcached, does it speak the text protocol (not `-B binary`)";
    for binary in crate::memcached::required() {
        let server = binary.start(&["-B", "binary"]);
        let bench = Bench::new(&server.url());
        for words in [
            &["run", "-n", "x", "true"][..],
            &["status", "x"],
            &["doctor"],
        ] {
            bench.run(words).assert_refused(69, hint);
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        // What was not read makes the end a reset.
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4]);
        }
    });
    let bench = Bench::new(&address);
    bench.run(&["status", "x"]).assert_refused(69, hint);
    bench.run(&["status", "x"]).assert_refused(69, "twemproxy");
}

/// A server without CAS cannot keep locks.
#[test]
fn unfit_server_has_own_exit_code() {
    for binary in crate::memcached::required() {
        let server = binary.start(&["-C"]);
        let bench = Bench::new(&server.url());
        let done = bench.run(&["run", "x", "touch", "intruder"]);
        done.assert_refused(69, "CAS");
        assert!(!bench.has("intruder"));
    }
}

/// A fresh server has forgotten the holders.
#[test]
fn young_server_is_awaited_or_refused() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let guarded = |words: &[&str]| {
        let mut command = bench.command(words);
        command.env("MEMLATCH_RESTART_GUARD", "on");
        bench.spawn(&mut command)
    };
    let hasty = guarded(&["run", "-n", "x", "touch", "intruder"]).finish();
    hasty.assert_refused(69, "started or flushed only recently");
    let short = guarded(&["run", "-w", "0.3", "x", "touch", "intruder"]).finish();
    short.assert_refused(69, "started or flushed only recently");

    let patient = guarded(&["run", "x", "touch", "intruder"]);
    until("the wait is told", || patient.err().ends_with('\n'));
    // Not SIGINT, which is ignored where the tests run in the background.
    patient.signal(Signal::SIGTERM);
    let done = patient.finish();
    assert_eq!(done.code(), 143, "{done:?}");
    assert!(
        done.err.starts_with("memlatch: the server was started"),
        "{done:?}"
    );
    assert!(done.err.ends_with("s)\n"), "how long is missing: {done:?}");
    assert_eq!(done.err.lines().count(), 1, "{done:?}");
    let quiet = guarded(&["run", "--quiet", "x", "true"]).finish();
    assert_eq!((quiet.code(), quiet.err.as_str()), (0, ""));
    assert!(!bench.has("intruder"));
}

/// As in `memlatch status x | head -0`.
#[test]
fn closed_output_causes_no_panic() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for words in [
        &["status", "x"][..],
        &["status", "--json", "x"],
        &["--help"],
        &["run", "--help"],
        &["completions", "bash"],
        &["man"],
        &["list", "--quiet"],
        &["watch", "--count", "1"],
        &["wait", "--json", "x"],
        &["break", "--yes", "x"],
        &["bench", "--seconds", "0.1"],
        &["demo", "--seconds", "0.1"],
        &["serve", "-p", "0"],
    ] {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        drop(ours);
        let mut command = bench.command(words);
        let mut child = command
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let mut err = String::new();
        let mut pipe = child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut err).expect("text");
        let status = child.wait().expect("our child");
        assert_eq!(err, "", "{words:?}");
        assert!(
            matches!(status.code(), Some(0 | 141)),
            "{words:?}: {status}"
        );
    }
}
