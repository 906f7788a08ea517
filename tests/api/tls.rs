//! TLS, by both APIs, against real servers and against what is none.
#![cfg(all(
    feature = "tls",
    feature = "tokio",
    feature = "blocking",
    feature = "server"
))]

use crate::support::{apis, certificates, gateway, memcached};
use apis::{Options, block_on, both_fail, both_work, by_async, by_blocking};
use certificates::{Authority, Folder, Pair};
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use gateway::Gateway;
use memcached::{Binary, RealServer};
use memlatch::server::Server;
use memlatch::{ErrorKind, ReleaseOutcome};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

const LOCAL: &[&str] = &["localhost", "127.0.0.1"];

/// The servers that are built with TLS.
fn binaries() -> Vec<Binary> {
    let mut binaries = memcached::required();
    binaries.retain(|binary| {
        let output = Command::new(&binary.path).arg("-h").output();
        let help = output.expect("it runs").stdout;
        String::from_utf8_lossy(&help).contains("ssl_chain_cert")
    });
    binaries
}

/// Starts a server with this certificate and these further options.
fn start(binary: &Binary, pair: &Pair, more: &str) -> RealServer {
    binary.start(&["-Z", "-o", &format!("{}{more}", pair.options())])
}

fn url(server: &RealServer) -> String {
    format!("memcacheds://{}", server.address())
}

fn trusting(authority: &Authority<'_>) -> Options {
    Options {
        ca_file: Some(authority.file.clone()),
        ..Options::default()
    }
}

#[test]
fn tls_servers_are_available() {
    // Debian builds all of them with it.
    assert_eq!(binaries(), memcached::required());
}

#[test]
fn locks_travel_encrypted() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    for binary in binaries() {
        let server = start(&binary, &pair, "");
        both_work(&url(&server), &trusting(&authority));
        let port = server.address().port();
        let by_name = format!("memcacheds://localhost:{port}");
        both_work(&by_name, &trusting(&authority));
        let mut classic = trusting(&authority);
        classic.protocol = Some(memlatch::Protocol::Classic);
        both_work(&url(&server), &classic);
    }
}

#[test]
fn encrypted_server_can_be_diagnosed() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    for binary in binaries() {
        let server = start(&binary, &pair, ",temporary_ttl=21");
        let options = trusting(&authority);
        let one = options.apply(memlatch::Client::builder().server(url(&server)));
        let two = options.apply(memlatch::blocking::Client::builder().server(url(&server)));
        for diagnosis in [block_on(one.diagnose()), two.diagnose()] {
            let diagnosis = diagnosis.expect("a server with TLS");
            assert_eq!(diagnosis.version, server.version());
            let check = diagnosis.check("encryption").expect("a check");
            assert_eq!((check.severity.as_str(), &*check.observed), ("fine", "TLS"));
            let check = diagnosis.check("eviction").expect("a check");
            assert_eq!(check.severity.as_str(), "fine", "{check:?}");
        }
        // It must not be spoken to in the clear.
        let plain = format!("memcached://{}", server.address());
        let refused = memlatch::blocking::Client::builder()
            .server(plain)
            .diagnose();
        assert_eq!(refused.expect_err("no TLS").kind(), ErrorKind::Unavailable);
    }
}

#[test]
fn many_callers_share_an_encrypted_connection() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    for binary in binaries() {
        let server = start(&binary, &pair, "");
        block_on(async {
            let builder = memlatch::Client::builder().server(url(&server));
            let client = trusting(&authority).apply(builder).build().await;
            let client = client.expect("a server with TLS");
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..200 {
                let lock = client.lock(format!("lock {}", number % 50));
                tasks.spawn(async move {
                    let guard = lock.acquire().await.expect("a lock");
                    assert!(guard.is_valid());
                    let outcome = guard.release().await.expect("an answer");
                    assert_eq!(outcome, ReleaseOutcome::Released);
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.expect("no task panics");
            }
        });
        let builder = memlatch::blocking::Client::builder().server(url(&server));
        let client = trusting(&authority).apply(builder).build();
        let client = client.expect("a server with TLS");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let guard = client.lock("one").acquire().expect("a lock");
                        let outcome = guard.release().expect("an answer");
                        assert_eq!(outcome, ReleaseOutcome::Released);
                        let guard = client.lock("one").acquire().expect("a lock");
                        guard.release_quietly();
                    }
                });
            }
        });
        assert!(client.shutdown(Duration::from_secs(10)));
        assert_eq!(client.quiet_failures(), 0);
    }
}

#[test]
fn password_travels_encrypted() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    let accounts = folder.write("accounts", "user:secret\n");
    let accounts = accounts.to_str().expect("a plain path");
    for binary in binaries() {
        let server = binary.start(&["-Z", "-Y", accounts, "-o", &pair.options()]);
        let mut options = trusting(&authority);
        let required = ["wants a user and a password"];
        both_fail(
            &url(&server),
            &options,
            ErrorKind::Authentication,
            &required,
        );
        options.auth = Some(("user".into(), "wrong-secret".into()));
        let refused = ["does not accept the user and the password"];
        both_fail(&url(&server), &options, ErrorKind::Authentication, &refused);
        options.auth = Some(("user".into(), "secret".into()));
        both_work(&url(&server), &options);
    }
}

#[test]
fn untrusted_server_gets_no_requests() {
    let folder = Folder::new();
    let (authority, other) = (
        Authority::new(&folder, "good"),
        Authority::new(&folder, "other"),
    );
    let unavailable = ErrorKind::Unavailable;
    for binary in binaries() {
        let server = start(&binary, &authority.certificate(LOCAL), "");
        let unknown = ["comes from an authority that is not trusted", "CA file"];
        both_fail(&url(&server), &trusting(&other), unavailable, &unknown);
        // Nor do those that the system trusts include it.
        for result in [
            by_async(&url(&server), &Options::default()),
            by_blocking(&url(&server), &Options::default()),
        ] {
            let error = result.expect_err("the authority was made by this test");
            let text = error.to_string();
            assert!(
                text.contains("not trusted") || text.contains("this system has no"),
                "{text}"
            );
        }

        let server = start(&binary, &authority.expired(LOCAL), "");
        both_fail(
            &url(&server),
            &trusting(&authority),
            unavailable,
            &["has expired"],
        );

        let elsewhere = authority.certificate(&["cache.example", "127.0.0.3"]);
        let server = start(&binary, &elsewhere, "");
        let wrong = ["is for another name", "cache.example"];
        both_fail(&url(&server), &trusting(&authority), unavailable, &wrong);
        let mut named = trusting(&authority);
        named.name = Some("cache.example".into());
        both_work(&url(&server), &named);
        named.name = Some("127.0.0.3".into());
        both_work(&url(&server), &named);
        named.name = Some("other.example".into());
        both_fail(&url(&server), &named, unavailable, &["is for another name"]);
    }
}

#[test]
fn client_presents_its_certificate() {
    let folder = Folder::new();
    let (authority, other) = (
        Authority::new(&folder, "good"),
        Authority::new(&folder, "other"),
    );
    let pair = authority.certificate(LOCAL);
    let with = |pair: &Pair| Options {
        certificate: Some((pair.certificate.clone(), pair.key.clone())),
        ..trusting(&authority)
    };
    for binary in binaries() {
        for mode in [2, 3] {
            let ca = authority.file.display();
            let more = format!(",ssl_ca_cert={ca},ssl_verify_mode={mode}");
            let server = start(&binary, &pair, &more);
            both_work(&url(&server), &with(&authority.certificate(&["client"])));
            let unavailable = ErrorKind::Unavailable;
            if mode == 3 {
                for _ in 0..5 {
                    let wants = ["wants a client certificate"];
                    both_fail(&url(&server), &trusting(&authority), unavailable, &wants);
                    let stranger = with(&other.certificate(&["client"]));
                    let refused = ["does not accept the client certificate"];
                    both_fail(&url(&server), &stranger, unavailable, &refused);
                    let old = with(&authority.expired(&["client"]));
                    both_fail(&url(&server), &old, unavailable, &refused);
                }
            }
        }
    }
}

#[test]
fn server_without_tls_is_reported() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let begun = Instant::now();
        both_fail(
            &url(&server),
            &trusting(&authority),
            ErrorKind::Unavailable,
            &["TLS"],
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
        // Nothing was understood as a command.
        let stats = server.command(b"stats\r\n");
        let stats = String::from_utf8_lossy(&stats);
        assert!(stats.contains("STAT cmd_set 0\r\n"), "{stats}");
        assert!(stats.contains("STAT cmd_get 0\r\n"), "{stats}");
    }
    let pair = authority.certificate(LOCAL);
    for binary in binaries() {
        let server = start(&binary, &pair, "");
        let plain = format!("memcached://{}", server.address());
        both_fail(
            &plain,
            &Options::default(),
            ErrorKind::Unavailable,
            &["connection"],
        );
    }
}

/// A peer that sends `answer` to each connection, a byte now and then, and keeps what it receives.
fn peer(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            thread::spawn(move || drip(&stream, answer, &kept));
        }
    });
    (address, told)
}

fn drip(mut stream: &TcpStream, answer: &[u8], kept: &Mutex<Vec<u8>>) {
    let pause = Some(Duration::from_millis(20));
    stream.set_read_timeout(pause).expect("a limit");
    let mut bytes = answer.iter().cycle();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..length]);
            }
            Err(_) => {}
        }
        if let Some(byte) = bytes.next() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }
}

/// The limit of connecting covers the handshake, whatever the other side does, and nothing but TLS
/// is ever said to it.
#[test]
fn endless_handshake_times_out_encrypted() {
    let folder = Folder::new();
    let mut options = trusting(&Authority::new(&folder, "good"));
    options.auth = Some(("user".into(), "open-sesame".into()));
    // Silence, a record of 16 KiB that comes byte by byte, and something else altogether.
    for answer in [&b""[..], b"\x16\x03\x03\x40\x00", b"VERSION 1.6.45\r\n"] {
        let (address, told) = peer(answer);
        let begun = Instant::now();
        let url = format!("memcacheds://{address}");
        both_fail(&url, &options, ErrorKind::Unavailable, &["TLS"]);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(told[..2], [0x16, 0x03], "a client hello");
        for plain in [&b"version"[..], b"stats", b"sesame", b"memlatch:"] {
            assert!(!told.windows(plain.len()).any(|part| part == plain));
        }
    }
}

#[test]
fn unusable_settings_are_named() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    let other = authority.certificate(LOCAL);
    let rubbish = folder.write("rubbish", "-----BEGIN PRIVATE KEY-----\nsesame\n");
    let missing = folder.path().join("missing");
    let good = trusting(&authority);
    let certificate = |certificate: &std::path::PathBuf, key: &std::path::PathBuf| Options {
        certificate: Some((certificate.clone(), key.clone())),
        ..good.clone()
    };
    let ca = |file: &std::path::PathBuf| Options {
        ca_file: Some(file.clone()),
        ..Options::default()
    };
    let name = Options {
        name: Some("not a name".into()),
        ..good.clone()
    };
    let encrypted = "memcacheds://127.0.0.1:1";
    let invalid = ErrorKind::InvalidInput;
    for plain in ["memcached://127.0.0.1:1", "127.0.0.1:1", "unix:///run/x"] {
        both_fail(plain, &good, invalid, &["memcacheds://", "without"]);
    }
    both_fail(encrypted, &name, invalid, &["not a name", "DNS name"]);
    both_fail(
        encrypted,
        &ca(&missing),
        invalid,
        &["missing", "cannot be read"],
    );
    both_fail(encrypted, &ca(&rubbish), invalid, &["rubbish", "PEM"]);
    both_fail(
        encrypted,
        &ca(&pair.key),
        invalid,
        &["holds no certificates"],
    );
    let wrong = certificate(&pair.certificate, &rubbish);
    both_fail(encrypted, &wrong, invalid, &["rubbish", "private key"]);
    let wrong = certificate(&pair.certificate, &missing);
    both_fail(encrypted, &wrong, invalid, &["missing", "cannot be read"]);
    let wrong = certificate(&pair.certificate, &other.key);
    both_fail(encrypted, &wrong, invalid, &["cannot be used together"]);
    let wrong = certificate(&pair.key, &pair.key);
    both_fail(encrypted, &wrong, invalid, &["holds no certificates"]);
}

#[test]
fn both_tls_versions_are_supported() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    let server = Server::start().expect("a free port");
    let address = server.socket_addr().expect("it listens on a port");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let gateway = Gateway::new(&pair, version, None, address);
        both_work(&gateway.url(), &trusting(&authority));

        let gateway = Gateway::new(&pair, version, Some(&authority), address);
        let client = authority.certificate(&["client"]);
        let mut options = trusting(&authority);
        let unavailable = ErrorKind::Unavailable;
        both_fail(
            &gateway.url(),
            &options,
            unavailable,
            &["client certificate"],
        );
        options.certificate = Some((client.certificate, client.key));
        both_work(&gateway.url(), &options);
    }
}

/// Tickets that a server sends of its own accord are no reason to give a connection up, a server
/// that hung up is.
#[test]
fn encrypted_connection_is_reused() {
    let folder = Folder::new();
    let authority = Authority::new(&folder, "good");
    let pair = authority.certificate(LOCAL);
    let server = Server::start().expect("a free port");
    let address = server.socket_addr().expect("it listens on a port");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let gateway = Gateway::new(&pair, version, None, address);
        let builder = memlatch::blocking::Client::builder().server(gateway.url());
        let client = trusting(&authority).apply(builder).build();
        let client = client.expect("a gateway");
        let connections = || gateway.connections.load(Ordering::SeqCst);
        for round in 1..=3 {
            for _ in 0..5 {
                assert_eq!(client.holder("a").expect("an answer"), None);
            }
            // The keeper may have one of its own, to look at the clock.
            let before = connections();
            assert!((round..=round * 2).contains(&before), "{before} in {round}");
            for _ in 0..5 {
                let guard = client.lock("a").acquire().expect("free");
                let outcome = guard.release().expect("an answer");
                assert_eq!(outcome, ReleaseOutcome::Released);
                client.lock("a").acquire().expect("free").release_quietly();
                // So that the connection has to be looked at.
                thread::sleep(Duration::from_millis(15));
            }
            let after = connections();
            assert!(after <= round * 2, "{after} in {round}");
            gateway.hang_up();
        }
        drop(client);

        let gateway = Gateway::new(&pair, version, None, address);
        block_on(async {
            let builder = memlatch::Client::builder().server(gateway.url());
            let client = trusting(&authority).apply(builder).build().await;
            let client = client.expect("a gateway");
            for round in 1..=3 {
                for _ in 0..5 {
                    let guard = client.lock("a").acquire().await.expect("free");
                    let outcome = guard.release().await.expect("an answer");
                    assert_eq!(outcome, ReleaseOutcome::Released);
                }
                assert_eq!(gateway.connections.load(Ordering::SeqCst), round);
                gateway.hang_up();
            }
        });
    }
}
