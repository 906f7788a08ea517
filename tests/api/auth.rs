//! ASCII authentication (`-Y`), by both APIs.
#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

use crate::support::{apis, log, memcached};
use apis::{Options, block_on, both_fail, both_work, by_async, by_blocking, everything};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use memcached::{RealServer, Surroundings, faketime};
use memlatch::server::Server;
use memlatch::{ErrorKind, Protocol, Severity, blocking};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use std::thread;
use std::time::Instant;
use tracing::Level;

const USER: &str = "alibaba";
const PASSWORD: &str = "open:sesame";
const WRONG: &str = "open:barley";

/// A file of accounts, gone with its last user.
struct Accounts(PathBuf);

impl Accounts {
    fn new(lines: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memlatch-accounts-{}-{number}", std::process::id());
        let accounts = Self(std::env::temp_dir().join(name));
        accounts.write(lines);
        accounts
    }

    fn write(&self, lines: &str) {
        fs::write(&self.0, lines).expect("a file can be written");
    }

    fn arguments(&self) -> [&str; 2] {
        ["-Y", self.0.to_str().expect("a plain path")]
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn account() -> String {
    format!("other:else\n{USER}:{PASSWORD}\n")
}

/// Each server there is, with accounts.
fn servers() -> Vec<(RealServer, Accounts)> {
    let start = |binary: memcached::Binary| {
        let accounts = Accounts::new(&account());
        (binary.start(&accounts.arguments()), accounts)
    };
    memcached::required().into_iter().map(start).collect()
}

#[test]
fn right_password_is_accepted() {
    for (server, _accounts) in &servers() {
        let mut options = Options::auth(USER, PASSWORD);
        both_work(&server.url(), &options);
        options.protocol = Some(Protocol::Classic);
        both_work(&server.url(), &options);
    }
    let server = Server::builder().auth([(USER, PASSWORD)]).start();
    let server = server.expect("a free port");
    both_work(&server.address(), &Options::auth(USER, PASSWORD));
}

#[test]
fn wrong_password_is_refused_clearly() {
    let refused = ["does not accept the user and the password", "-Y"];
    for (server, _accounts) in &servers() {
        let options = Options::auth(USER, WRONG);
        both_fail(&server.url(), &options, ErrorKind::Authentication, &refused);
        let options = Options::auth("nobody", PASSWORD);
        both_fail(&server.url(), &options, ErrorKind::Authentication, &refused);
    }
    let server = Server::builder().auth([(USER, PASSWORD)]).start();
    let server = server.expect("a free port");
    let options = Options::auth(USER, WRONG);
    both_fail(
        &server.address(),
        &options,
        ErrorKind::Authentication,
        &refused,
    );
}

#[test]
fn missing_password_is_reported_at_once() {
    // The time limit of an exchange: a client does not wait for replies that do not come.
    let options = Options {
        operation_timeout: Some(Duration::from_secs(60)),
        ..Options::default()
    };
    let required = ["wants a user and a password", "none were given"];
    let own = Server::builder().auth([(USER, PASSWORD)]).start();
    let own = own.expect("a free port");
    let servers = servers();
    let mut urls: Vec<_> = servers.iter().map(|(server, _)| server.url()).collect();
    urls.push(own.address());
    for url in &urls {
        let begun = Instant::now();
        both_fail(url, &options, ErrorKind::Authentication, &required);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

/// The keys that a server holds.
fn dump(server: &RealServer) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).expect("a limit");
    let dump = b"lru_crawler metadump all\r\n";
    stream.write_all(dump).expect("sent");
    let mut keys = String::new();
    let mut chunk = [0; 4096];
    while !keys.ends_with("END\r\n") {
        let length = stream.read(&mut chunk).expect("an answer");
        assert!(length > 0, "{keys}");
        keys += &String::from_utf8_lossy(&chunk[..length]);
    }
    keys
}

/// A server without accounts takes the credentials for a value to store.
#[test]
fn server_without_accounts_keeps_no_password() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let options = Options::auth(USER, PASSWORD);
        both_work(&server.url(), &options);
        // Another program has an item where memcached's own documentation puts credentials.
        assert_eq!(server.command(b"set auth 0 0 1\r\n1\r\n"), b"STORED\r\n");
        both_work(&server.url(), &options);
        assert_eq!(
            server.command(b"get auth memlatch:probe\r\n"),
            b"VALUE auth 0 1\r\n1\r\nEND\r\n"
        );
        let dump = dump(&server);
        assert!(dump.contains("key=auth"), "{dump}");
        assert!(!dump.contains("probe"), "{dump}");
    }
    let server = Server::start().expect("a free port");
    both_work(&server.address(), &Options::auth(USER, PASSWORD));
    assert_eq!(server.item("memlatch:probe"), None);
}

/// There, no expiry is in the past: the password is removed after the request that has sent it.
#[test]
fn unset_server_clock_keeps_no_password() {
    if faketime().is_none() {
        return;
    }
    let at = |clock: &str| Surroundings {
        wall_clock: Some(clock.to_owned()),
        ..Surroundings::default()
    };
    for binary in memcached::required() {
        let server = binary.start_in(&at("@1970-01-10 00:00:00"), &[]);
        for protocol in [None, Some(Protocol::Classic)] {
            let mut options = Options::auth(USER, PASSWORD);
            options.protocol = protocol;
            let parts = ["January 1970", "set the clock"];
            both_fail(
                &server.url(),
                &options,
                ErrorKind::UnsupportedServer,
                &parts,
            );
            let builder = options.apply(blocking::Client::builder().server(server.url()));
            let diagnosis = builder.diagnose().expect("it answers");
            let clock = diagnosis.check("clock").expect("a check");
            assert_eq!(clock.severity, Severity::Unsafe, "{clock:?}");
            let keys = b"get memlatch:probe memlatch:sentinel\r\n";
            assert_eq!(server.command(keys), b"END\r\n", "{server}");
        }
    }
    // A clock that was never set, once the month is over: absolute expiries are understood.
    for binary in memcached::required() {
        let server = binary.start_in(&at("@1970-02-02 00:00:00"), &[]);
        let mut options = Options::auth(USER, PASSWORD);
        for protocol in [None, Some(Protocol::Classic)] {
            options.protocol = protocol;
            both_work(&server.url(), &options);
            assert_eq!(server.command(b"get memlatch:probe\r\n"), b"END\r\n");
        }
    }
}

/// The password of a server changes while clients are connected. Their next connection fails with
/// the error, and they do not knock all the time.
#[test]
fn changed_password_limits_login_attempts() {
    for (mut server, accounts) in servers() {
        let options = Options::auth(USER, PASSWORD);
        block_on(async {
            let builder = options.apply(memlatch::Client::builder().server(server.url()));
            let client = builder.build().await.expect("the password is right");
            accounts.write(&format!("{USER}:{WRONG}\n"));
            server.restart();
            let begun = Instant::now();
            let mut calls = 0;
            while begun.elapsed() < Duration::from_secs(1) {
                let error = client.lock("a").try_acquire().await.expect_err("no way in");
                calls += u32::from(error.kind() == ErrorKind::Authentication);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert!(calls > 20, "{calls} calls were refused");
        });
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        let length = USER.len() + 1 + WRONG.len();
        write!(stream, "set x 0 0 {length}\r\n{USER} {WRONG}\r\n").expect("sent");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"STORED\r\n");
        stream.write_all(b"stats\r\nquit\r\n").expect("sent");
        let mut stats = String::new();
        stream.read_to_string(&mut stats).expect("an answer");
        let errors = stats
            .lines()
            .find_map(|line| line.strip_prefix("STAT auth_errors "));
        let errors: u32 = errors.and_then(|n| n.parse().ok()).expect("a number");
        assert!((1..=20).contains(&errors), "{errors} attempts in a second");
    }
}

/// Something that is no memcached server at all may repeat the request.
#[test]
fn echoed_password_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                if stream.write_all(&chunk[..length]).is_err() {
                    break;
                }
            }
        }
    });
    let options = Options::auth("x", PASSWORD);
    let url = format!("memcached://{address}");
    both_fail(
        &url,
        &options,
        ErrorKind::Unavailable,
        &["not an answer of memcached's"],
    );
}

#[test]
fn unsendable_password_is_refused_unseen() {
    for (user, password) in [
        (USER, "open sesame"),
        (USER, "open\r\nflush_all"),
        (USER, ""),
        ("ali:baba", "sesame"),
    ] {
        let options = Options::auth(user, password);
        for result in [
            by_async("127.0.0.1:1", &options),
            by_blocking("127.0.0.1:1", &options),
        ] {
            let error = result.expect_err("it cannot be sent");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = everything(&error);
            assert!(text.contains("without spaces"), "{text}");
            for secret in ["sesame", "baba", "flush_all"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}

#[test]
fn secrets_are_not_logged_or_shown() {
    log::record();
    let server = Server::builder().auth([(USER, PASSWORD)]).start();
    let server = server.expect("a free port");
    let url = server.address();
    let options = Options::auth(USER, PASSWORD);
    let mut shown = String::new();
    let builder = options.apply(memlatch::Client::builder().server(&url));
    shown += &format!("{builder:?} {builder:#?}");
    let builder = options.apply(memlatch::blocking::Client::builder().server(&url));
    shown += &format!("{builder:?} {builder:#?}");
    let client = builder.build().expect("the password is right");
    let lock = client.lock("a");
    let guard = lock.acquire().expect("free");
    shown += &format!("{client:?} {lock:?} {guard:?} {client:#?} {guard:#?}");
    block_on(async {
        let builder = options.apply(memlatch::Client::builder().server(&url));
        let client = builder.build().await.expect("the password is right");
        let lock = client.lock("b");
        let guard = lock.acquire().await.expect("free");
        shown += &format!("{client:?} {lock:?} {guard:?} {client:#?} {guard:#?}");
        drop(server);
        let error = client.lock("b").try_acquire().await.expect_err("no server");
        shown += &everything(&error);
    });
    let error = client.lock("b").try_acquire().expect_err("no server");
    shown += &everything(&error);
    drop((guard, client));
    // Those of the other tests, which run in this process as well, count too.
    let log = log::events(Level::TRACE).join("\n");
    assert!(log.contains("no answer"), "nothing was logged: {log}");
    for secret in [USER, PASSWORD, WRONG, "sesame"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!log.contains(secret), "{log}");
    }
}
