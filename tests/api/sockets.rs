//! Sockets of all kinds, and servers that close them, by both APIs.
#![cfg(all(feature = "tokio", feature = "blocking", feature = "server"))]

use crate::support::{apis, memcached};
use apis::{Options, block_on, both_fail, both_work};
use core::net::SocketAddr;
use core::time::Duration;
use memcached::RealServer;
use memlatch::server::Server;
use memlatch::{ErrorKind, ReleaseOutcome};
use std::io::Read;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Instant;

#[allow(clippy::print_stderr, reason = "a test has no other way to tell")]
fn skip(why: &str) {
    eprintln!("not tested: {why}");
}

#[test]
fn ipv6_address_is_reached() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("there is no ::1 here");
    }
    for binary in memcached::required() {
        let server = binary.start(&["-l", "::1"]);
        let port = server.address().port();
        both_work(&format!("memcached://[::1]:{port}"), &Options::default());
    }
}

#[test]
fn second_address_is_tried() {
    let addresses: Vec<_> = ("localhost", 1)
        .to_socket_addrs()
        .into_iter()
        .flatten()
        .collect();
    let Some(second) = addresses.get(1).map(SocketAddr::ip) else {
        return skip("localhost has one address only");
    };
    let server = Server::builder().listen(SocketAddr::new(second, 0)).start();
    let Ok(server) = server else {
        return skip("the second address of localhost is not there");
    };
    let port = server.socket_addr().expect("it listens on a port").port();
    assert!(TcpStream::connect((addresses[0].ip(), port)).is_err());
    both_work(&format!("localhost:{port}"), &Options::default());
}

#[test]
fn unix_socket_is_reached() {
    for binary in memcached::required() {
        let name = format!("memlatch-sockets-{}-{}", std::process::id(), binary.version);
        let server = binary.start_unix(&std::env::temp_dir().join(name), &[]);
        both_work(&server.url(), &Options::default());
    }
}

/// Connects until the server says that it has no more to spare.
fn exhaust(server: &RealServer) -> Vec<TcpStream> {
    let mut taken = Vec::new();
    loop {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        let limit = Some(Duration::from_millis(100));
        stream.set_read_timeout(limit).expect("a limit");
        if let Ok(1..) = stream.read(&mut [0; 64]) {
            return taken;
        }
        taken.push(stream);
        assert!(taken.len() < 100, "the server takes them all");
    }
}

#[test]
fn connection_limit_is_reported() {
    thread::scope(|scope| {
        for binary in memcached::required() {
            scope.spawn(move || {
                let server = binary.start(&["-c", "50"]);
                let taken = exhaust(&server);
                for _ in 0..10 {
                    let parts = ["no connection to spare", "-c"];
                    let options = Options::default();
                    both_fail(&server.url(), &options, ErrorKind::Unavailable, &parts);
                }
                drop(taken);
                // The server takes a moment to notice.
                let deadline = Instant::now() + Duration::from_secs(10);
                while apis::by_blocking(&server.url(), &Options::default()).is_err() {
                    assert!(Instant::now() < deadline, "the server does not recover");
                    thread::sleep(Duration::from_millis(20));
                }
                both_work(&server.url(), &Options::default());
            });
        }
    });
}

fn idle_kicks(server: &RealServer) -> u32 {
    let stats = server.command(b"stats\r\n");
    let stats = String::from_utf8_lossy(&stats);
    let kicks = stats
        .lines()
        .find_map(|line| line.strip_prefix("STAT idle_kicks "));
    kicks.and_then(|n| n.parse().ok()).expect("a number")
}

/// A lock outlives the connection it was taken on, and no call fails because the server closed it.
#[test]
fn idle_disconnect_keeps_the_lock() {
    const LEASE: Duration = Duration::from_secs(600);
    thread::scope(|scope| {
        for binary in memcached::required() {
            scope.spawn(move || {
                let server = binary.start(&["-o", "idle_timeout=1"]);
                let options = Options::default();
                let builder = options.apply(memlatch::blocking::Client::builder());
                let builder = builder.server(server.url()).max_lease(LEASE);
                let client = builder.build().expect("a server");
                let guard = client.lock("b").lease(LEASE).acquire().expect("free");
                block_on(async {
                    let builder = options.apply(memlatch::Client::builder());
                    let builder = builder.server(server.url()).max_lease(LEASE);
                    let client = builder.build().await.expect("a server");
                    let guard = client.lock("a").lease(LEASE).acquire().await;
                    let guard = guard.expect("free");
                    // Until a clock is known, its connection is not idle.
                    let deadline = Instant::now() + Duration::from_secs(30);
                    while idle_kicks(&server) < 2 {
                        assert!(Instant::now() < deadline, "nobody was kicked out");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    assert!(guard.is_valid());
                    let outcome = guard.release().await.expect("a new connection");
                    assert_eq!(outcome, ReleaseOutcome::Released);
                });
                assert!(guard.is_valid());
                let outcome = guard.release().expect("a new connection");
                assert_eq!(outcome, ReleaseOutcome::Released);
            });
        }
    });
}
