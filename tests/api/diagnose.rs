//! The diagnosis of real servers, of the embedded one, and of things that are neither, by
//! both APIs.
#![cfg(all(feature = "tokio", feature = "blocking"))]

mod memory;
mod strangers;

use crate::support::{apis, balancer, memcached};
use core::time::Duration;
use memlatch::blocking;
use memlatch::{Check, Client, ClientBuilder, Diagnosis, ErrorKind, LockError, Severity};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

/// Longer than anything takes on a machine that is busy with other things as well.
const LIMIT: Duration = Duration::from_secs(30);

/// The doctor's advice for leases of ten seconds.
const ADVISED: &[&str] = &["-o", "temporary_ttl=21"];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// The answer of both APIs, which must be the same but for its duration and what the other one's
/// connections have changed.
fn try_both(
    url: &str,
    asynchronous: impl Fn(ClientBuilder<Client>) -> ClientBuilder<Client>,
    blocking: impl Fn(ClientBuilder<blocking::Client>) -> ClientBuilder<blocking::Client>,
) -> Result<Diagnosis, LockError> {
    let one = block_on(asynchronous(Client::builder().server(url)).diagnose());
    let two = blocking(blocking::Client::builder().server(url)).diagnose();
    match (&one, &two) {
        (Ok(one), Ok(two)) => {
            let said = |diagnosis: &Diagnosis| -> Vec<_> {
                let checks = diagnosis.checks.iter();
                checks.map(|check| (check.id, check.severity)).collect()
            };
            assert_eq!(said(one), said(two));
            assert_eq!((&one.server, &one.version), (&two.server, &two.version));
        }
        (Err(one), Err(two)) => assert_eq!(one.kind(), two.kind()),
        _ => panic!("the apis disagree: {one:?} {two:?}"),
    }
    one
}

fn both(url: &str) -> Diagnosis {
    try_both(url, |builder| builder, |builder| builder).expect("the server answers")
}

#[track_caller]
fn expect<'a>(diagnosis: &'a Diagnosis, id: &str, verdict: Severity, part: &str) -> &'a Check {
    let check = diagnosis.check(id).expect("a check of that name");
    assert_eq!(check.severity, verdict, "{}: {check:?}", diagnosis.version);
    let told = format!("{} {} {:?}", check.observed, check.meaning, check.advice);
    assert!(told.contains(part), "`{part}` is missing: {check:?}");
    check
}

/// All that is not fine.
fn trouble(diagnosis: &Diagnosis) -> Vec<(&'static str, Severity)> {
    let checks = diagnosis.checks.iter();
    let trouble = checks.filter(|check| check.severity > Severity::Note);
    trouble.map(|check| (check.id, check.severity)).collect()
}

/// Until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < end, "it is still not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn default_server_may_evict_locks() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let diagnosis = both(&server.url());
        assert_eq!(diagnosis.server, server.url());
        assert_eq!(diagnosis.version, server.version());
        assert_eq!(diagnosis.longest_lease, Duration::from_secs(10));
        assert_eq!(trouble(&diagnosis), [("eviction", Severity::Warning)]);
        assert_eq!(diagnosis.severity(), Severity::Warning);
        let advice = format!("-o temporary_ttl={}", diagnosis.temporary_ttl);
        expect(&diagnosis, "eviction", Severity::Warning, &advice);
        // It was started just now, and has no sentinel: nothing was stored.
        let restart = diagnosis.check("restart").expect("a check");
        assert!(
            restart.observed.contains("without a sentinel yet"),
            "{restart:?}"
        );
        let keys = server.command(b"get memlatch:sentinel memlatch:probe\r\n");
        assert_eq!(keys, b"END\r\n");
        // Each has a finding: no check met a value that a real server does not report.
        for check in &diagnosis.checks {
            assert!(
                !check.observed.contains("does not report"),
                "{server}: {check:?}"
            );
        }
    }
}

#[test]
fn server_started_as_advised_is_good() {
    for binary in memcached::required() {
        let advised = binary.start(ADVISED);
        let diagnosis = both(&advised.url());
        assert_eq!(diagnosis.temporary_ttl, 21);
        assert_eq!(trouble(&diagnosis), []);
        expect(&diagnosis, "eviction", Severity::Fine, "up to 21 s");

        let low = binary.start(&["-o", "temporary_ttl=20"]);
        expect(&both(&low.url()), "eviction", Severity::Warning, "not 21 s");
        let never = binary.start(&["-M"]);
        assert_eq!(trouble(&both(&never.url())), []);
    }
}

#[test]
fn startup_settings_are_detected() {
    for binary in memcached::required() {
        for (arguments, id, verdict, part) in [
            (&["-C"][..], "cas", Severity::Unsafe, "-C"),
            (&["-A"], "shutdown-command", Severity::Warning, "-A"),
            (&["-X"], "key-dump", Severity::Fine, "-X"),
            (&["-F"], "flush", Severity::Fine, "-F"),
            (&["-t", "1"], "threads", Severity::Note, "1 thread"),
            (&["-I", "2m"], "item-size", Severity::Fine, "2097152 bytes"),
            (
                &["-o", "idle_timeout=2"],
                "idle-timeout",
                Severity::Note,
                "2 s",
            ),
            (
                &["-o", "idle_timeout=60"],
                "idle-timeout",
                Severity::Fine,
                "60 s",
            ),
            (
                &["-o", "no_maxconns_fast"],
                "connections",
                Severity::Note,
                "left waiting",
            ),
            (
                &["-o", "slab_automove=2"],
                "page-moves",
                Severity::Warning,
                "is 2",
            ),
        ] {
            let server = binary.start(arguments);
            expect(&both(&server.url()), id, verdict, part);
        }
    }
}

#[test]
fn server_without_cas_gets_diagnosis_only() {
    for binary in memcached::required() {
        let server = binary.start(&["-C"]);
        let refused = blocking::Client::connect(server.url()).expect_err("no CAS");
        assert_eq!(refused.kind(), ErrorKind::UnsupportedServer);
        assert_eq!(both(&server.url()).severity(), Severity::Unsafe);
    }
}

#[test]
fn past_and_pending_flush_are_detected() {
    for binary in memcached::required() {
        let server = binary.start(ADVISED);
        server.flush_all();
        let diagnosis = both(&server.url());
        expect(&diagnosis, "flush", Severity::Warning, "emptied 1 time");
        assert_eq!(diagnosis.severity(), Severity::Warning);
        assert_eq!(server.command(b"flush_all 100\r\n"), b"OK\r\n");
        let diagnosis = both(&server.url());
        expect(&diagnosis, "flush", Severity::Unsafe, "will be emptied in");
    }
}

#[test]
fn connections_that_run_out_are_seen() {
    for binary in memcached::required() {
        let server = binary.start(&["-c", "40", "-o", "temporary_ttl=21"]);
        assert_eq!(trouble(&both(&server.url())), []);
        // Of the forty, some twenty are for clients; eighteen are more than four fifths of them.
        let mut open: Vec<TcpStream> = (0..18)
            .map(|_| TcpStream::connect(server.address()).expect("a listener"))
            .collect();
        until("they are counted", || {
            let seen = blocking::Client::builder().server(server.url()).diagnose();
            let check = seen.expect("room for one more");
            let check = check.check("connections").expect("a check");
            check.severity == Severity::Warning && check.observed.ends_with(" left")
        });
        until("it refuses a connection", || {
            let mut stream = TcpStream::connect(server.address()).expect("a listener");
            stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
            let _ = stream.write_all(b"version\r\n");
            let mut line = String::new();
            let read = BufReader::new(&stream).read_line(&mut line);
            open.push(stream);
            read.is_err() || !line.starts_with("VERSION")
        });
        // Those of the doctor itself may have been there for a little longer.
        until("it has no connection to spare", || {
            open.push(TcpStream::connect(server.address()).expect("a listener"));
            let seen = blocking::Client::builder().server(server.url()).diagnose();
            let refused = seen.err().map(|error| error.kind());
            assert!(matches!(refused, None | Some(ErrorKind::Unavailable)));
            refused.is_some()
        });
        // Room for the doctor, and nearly nothing else. The first ones are surely served.
        drop(open.drain(..3));
        let mut seen = None;
        until("there is room for one more", || {
            seen = blocking::Client::builder()
                .server(server.url())
                .diagnose()
                .ok();
            seen.is_some()
        });
        let diagnosis = seen.expect("seen");
        expect(&diagnosis, "connections", Severity::Warning, "refused");
    }
}

#[test]
fn client_with_locks_can_be_diagnosed() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        block_on(async {
            let builder = Client::builder().server(server.url()).restart_guard(false);
            let client = builder.build().await.expect("a server");
            let guard = client.lock("a").acquire().await.expect("free");
            let asked = tokio::join!(client.diagnose(), client.diagnose(), client.holder("a"));
            for diagnosis in [asked.0, asked.1] {
                let diagnosis = diagnosis.expect("the server answers");
                // The sentinel is there by now, and this client does without its guard.
                let restart = diagnosis.check("restart").expect("a check");
                assert!(restart.severity >= Severity::Note, "{restart:?}");
                assert!(restart.observed.contains("guard is off"), "{restart:?}");
                assert!(
                    !restart.observed.contains("without a sentinel"),
                    "{restart:?}"
                );
            }
            assert!(asked.2.expect("answered").is_some() && guard.is_valid());
            let released = guard.release().await.expect("answered");
            assert_eq!(released, memlatch::ReleaseOutcome::Released);
        });
    }
}

#[test]
fn missing_password_reveals_nothing() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("diagnose-{}", std::process::id()));
    std::fs::write(&file, "user:correct\n").expect("a file");
    for binary in memcached::required() {
        let path = file.to_str().expect("plain text");
        let server = binary.start(&["-Y", path, "-o", "temporary_ttl=21"]);
        let url = server.url();
        let refused = try_both(&url, |builder| builder, |builder| builder);
        let refused = refused.expect_err("no password");
        assert_eq!(refused.kind(), ErrorKind::Authentication, "{server}");
        let with = |password: &'static str| {
            try_both(
                &url,
                move |builder| builder.auth("user", password),
                move |builder| builder.auth("user", password),
            )
        };
        let refused = with("wrong").expect_err("the wrong password");
        assert_eq!(refused.kind(), ErrorKind::Authentication, "{server}");
        assert!(!format!("{refused:?}").contains("wrong"));
        let diagnosis = with("correct").expect("the right password");
        expect(
            &diagnosis,
            "authentication",
            Severity::Fine,
            "wants a password",
        );
        assert_eq!(trouble(&diagnosis), []);
    }
    std::fs::remove_file(&file).expect("our file");
}

#[test]
fn bad_input_is_refused_before_sending() {
    let refused = try_both("nowhere://at all", |builder| builder, |builder| builder);
    let refused = refused.expect_err("no address");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[cfg(feature = "server")]
#[test]
fn embedded_server_can_be_diagnosed() {
    use memlatch::TemporaryLru;
    use memlatch::server::Server;
    let server = Server::start().expect("a server");
    let url = server.address();
    let diagnosis = both(&url);
    expect(
        &diagnosis,
        "eviction",
        Severity::Warning,
        "nothing is exempt",
    );
    expect(&diagnosis, "cas", Severity::Fine, "CAS");
    let builder = blocking::Client::builder().server(&url);
    let client = builder.restart_guard(false).build().expect("a server");
    let enabled = client.enable_temporary_lru().expect("the server answers");
    assert!(matches!(enabled, TemporaryLru::Enabled { seconds: 21, .. }));
    expect(&both(&url), "eviction", Severity::Fine, "up to 21 s");
    server.flush_all();
    expect(&both(&url), "flush", Severity::Warning, "emptied");

    let address = server.socket_addr().expect("a port");
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.write_all(b"flush_all 100\r\n").expect("a server");
    let mut line = String::new();
    let read = BufReader::new(&stream).read_line(&mut line);
    assert!(read.is_ok() && line == "OK\r\n", "{line}");
    expect(&both(&url), "flush", Severity::Unsafe, "will be emptied in");
}
