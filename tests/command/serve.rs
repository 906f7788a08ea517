//! `memlatch serve`.

use crate::tool::{Bench, Running, until};
use core::time::Duration;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

/// The address that it prints.
fn address(server: &Running) -> String {
    until("it says where it listens", || server.out().ends_with('\n'));
    server.out().trim().to_owned()
}

fn ask(stream: &mut (impl Read + Write), question: &str, answer: &str) {
    stream.write_all(question.as_bytes()).expect("a connection");
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&got), answer);
}

fn connect(server: &Running) -> TcpStream {
    let address = address(server);
    let address = address.strip_prefix("memcached://").expect("an address");
    let stream = TcpStream::connect(address).expect("it listens");
    // An answer that is shorter than expected is reported, not waited for.
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a limit");
    stream
}

#[test]
fn serve_replaces_memcached() {
    let bench = Bench::new("");
    // What memcached's own tests and many others start it with.
    let words = [
        "serve",
        "-l",
        "127.0.0.1",
        "-p",
        "0",
        "-m",
        "16",
        "-c",
        "100",
        "-I",
        "2m",
        "-t",
        "2",
        "-U",
        "0",
        "-u",
        "nobody",
        "-v",
        "-M",
        "-X",
        "-W",
        "-A",
        "-o",
        "temporary_ttl=60,modern,idle_timeout=100",
    ];
    let server = bench.start(&words);
    let mut stream = connect(&server);
    ask(&mut stream, "mn\r\n", "MN\r\n");
    ask(
        &mut stream,
        "set a 0 0 1\r\nx\r\nget a\r\n",
        "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
    );

    let user = Bench::new(&address(&server));
    let done = user.run(&["run", "-n", "x", "true"]);
    assert_eq!((done.code(), done.err.as_str()), (0, ""));

    server.signal(Signal::SIGTERM);
    let done = server.finish();
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(TcpStream::connect(stream.peer_addr().expect("an address")).is_err());
}

#[test]
fn serve_options_match_memcached() {
    let bench = Bench::new("");
    std::fs::write(bench.path("accounts"), "user:secret\n").expect("a file");
    let flushless = bench.start(&["serve", "-p0", "-F", "--quiet"]);
    ask(
        &mut connect(&flushless),
        "flush_all\r\n",
        "CLIENT_ERROR flush_all not allowed\r\n",
    );
    let discreet = bench.start(&["serve", "-p0", "-W", "-X"]);
    for (question, answer) in [
        ("watch\r\n", "CLIENT_ERROR watch commands not allowed\r\n"),
        (
            "lru_crawler metadump all\r\n",
            "ERROR metadump not allowed\r\n",
        ),
    ] {
        ask(&mut connect(&discreet), question, answer);
    }
    let authenticated = bench.start(&["serve", "-p0", "-Y", "accounts"]);
    let mut stream = connect(&authenticated);
    ask(&mut stream, "get a\r\n", "CLIENT_ERROR unauthenticated\r\n");
    ask(&mut stream, "set k 0 0 11\r\nuser secret\r\n", "STORED\r\n");
    ask(&mut stream, "get a\r\n", "END\r\n");

    let mortal = bench.start(&["serve", "-p0", "-A"]);
    connect(&mortal)
        .write_all(b"shutdown\r\n")
        .expect("a connection");
    assert_eq!(mortal.finish().code(), 0);

    let unfit = bench.start(&["serve", "-p0", "-C"]);
    let user = Bench::new(&address(&unfit));
    user.run(&["run", "x", "true"]).assert_refused(69, "CAS");
}

#[test]
fn serve_listens_on_unix_socket() {
    let bench = Bench::new("");
    // The path of a socket has little room, so it is taken from the folder.
    let server = bench.start(&["serve", "-s", "mc.sock"]);
    assert_eq!(address(&server), "unix://mc.sock");
    let mut stream = UnixStream::connect(bench.path("mc.sock")).expect("it listens");
    ask(&mut stream, "mn\r\n", "MN\r\n");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.finish().code(), 0);
    assert!(!bench.has("mc.sock"));
}

#[test]
fn taken_port_is_reported() {
    let bench = Bench::new("");
    let first = bench.start(&["serve", "-p", "0"]);
    let address = address(&first);
    let (_, port) = address.rsplit_once(':').expect("a port");
    let second = bench.run(&["serve", "-p", port]);
    second.assert_refused(71, "in use");
}

#[test]
fn port_file_names_the_port() {
    for port in ["-1", "0"] {
        let bench = Bench::new("");
        let file = bench.path("port");
        let mut command = bench.command(&["serve", "-p", port]);
        command.env("MEMCACHED_PORT_FILENAME", &file);
        let server = bench.spawn(&mut command);
        let address = address(&server);
        let (_, port) = address.rsplit_once(':').expect("a port");
        let told = std::fs::read_to_string(&file).expect("the file");
        assert_eq!(told, format!("TCP INET: {port}\n"));
    }
}

/// All of these end memcached 1.6.45 with a message.
#[test]
fn settings_that_memcached_refuses_are_refused() {
    let bench = Bench::new("");
    for (words, told) in [
        (&["-I", "256m", "-m", "64"][..], "half of the memory"),
        (&["-I", "33m"], "half of the memory"),
        (&["-m", "1"], "half of the memory"),
        (&["-m", "0"], "half of the memory"),
        (&["-I", "1000"], "1k"),
        (&["-I", "1025m", "-m", "9999"], "1k to 1024m"),
        (&["-c", "0"], "above 0"),
        (&["-c", "-1"], "-1"),
        (&["-o", "idle_timeout"], "not a number of seconds"),
        (&["-o", "modern,nonsense"], "nonsense"),
        // These it takes, and the embedded server cannot.
        (&["-o", "no_modern"], "real memcached"),
        (&["-U", "11211"], "11211"),
    ] {
        let words = [&["serve", "-p", "0"], words].concat();
        bench.run(&words).assert_refused(64, told);
    }
}

#[test]
fn server_looks_just_started_by_default() {
    let bench = Bench::new("");
    for (words, uptime) in [(&[][..], 2..100), (&["--uptime", "1h"], 3602..3700)] {
        let server = bench.start(&[&["serve", "-p", "0"], words].concat());
        let mut stream = connect(&server);
        stream
            .write_all(b"stats\r\nquit\r\n")
            .expect("a connection");
        let mut told = String::new();
        stream.read_to_string(&mut told).expect("an answer");
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix("STAT uptime "));
        let seconds = line
            .and_then(|seconds| seconds.parse().ok())
            .expect("an uptime");
        assert!(uptime.contains(&seconds), "{seconds}");
    }
}
