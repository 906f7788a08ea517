//! Servers that run out of memory, and what keeps locks there.

use crate::diagnose::{LIMIT, block_on, both, expect, memcached};
use core::fmt::Write as _;
use core::time::Duration;
use memlatch::{Client, Protocol, Severity, TemporaryLru, blocking};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::LazyLock;

#[test]
fn changes_between_looks_are_reported() {
    for binary in memcached::required() {
        let mut server = binary.start(&["-M", "-m", "2"]);
        let first = both(&server.url());
        assert!(first.check("change").is_none());
        let second = both(&server.url()).since(&first);
        expect(&second, "change", Severity::Fine, "nothing");
        assert_eq!(second.checks.len(), first.checks.len() + 1);
        server.flush_all();
        let third = both(&server.url()).since(&second);
        expect(&third, "change", Severity::Unsafe, "1 `flush_all`");
        flood(&server);
        let fourth = both(&server.url()).since(&third);
        expect(
            &fourth,
            "change",
            Severity::Warning,
            "refused for want of memory",
        );
        expect(&fourth, "out-of-memory", Severity::Warning, "refused");
        server.restart();
        let fifth = both(&server.url()).since(&fourth);
        expect(&fifth, "change", Severity::Unsafe, "restarted");
        // One check of it, however often.
        let again = fifth.clone().since(&fifth);
        assert_eq!(again.checks.len(), fifth.checks.len());
    }
}

/// Items that no client wants, in all sizes that the items of a lock may have, and so many that
/// each size class of a server with two megabytes overflows.
static JUNK: LazyLock<Vec<String>> = LazyLock::new(|| {
    let batch = |size| {
        let mut batch = String::new();
        for number in 0..20_000 {
            let key = format!("junk{size:03}{number:06}");
            let _ = write!(batch, "set {key} 0 0 {size} noreply\r\n{number:0size$}\r\n");
        }
        batch + "version\r\n"
    };
    (10..240).step_by(20).map(batch).collect()
});

/// Stores them all.
fn flood(server: &memcached::RealServer) {
    let mut stream = TcpStream::connect(server.address()).expect("a listener");
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    for batch in JUNK.iter() {
        stream.write_all(batch.as_bytes()).expect("a connection");
        let mut line = String::new();
        let read = BufReader::new(&stream).read_line(&mut line);
        assert!(read.is_ok() && line.starts_with("VERSION"), "{line}");
    }
}

/// Of twenty locks that are held, how many are left after a flood.
fn left_after_flood(
    server: &memcached::RealServer,
    protocol: Option<Protocol>,
    prepare: impl Fn(&blocking::Client),
) -> usize {
    let mut builder = blocking::Client::builder()
        .server(server.url())
        .restart_guard(false);
    if let Some(protocol) = protocol {
        builder = builder.protocol(protocol);
    }
    let client = builder.build().expect("a server");
    prepare(&client);
    let name = |number| format!("lock {number}");
    let guards: Vec<_> = (0..20)
        .map(|number| client.lock(name(number)).acquire().expect("free"))
        .collect();
    flood(server);
    // Before their renewals find out.
    let items = server.command(b"stats\r\n");
    let items = String::from_utf8_lossy(&items).into_owned();
    assert!(!items.contains("STAT evictions 0\r\n"), "no flood: {items}");
    let left = (0..20).filter(|number| {
        let holder = client.holder(name(*number));
        holder.expect("the server answers").is_some()
    });
    let left = left.count();
    drop(guards);
    client.shutdown(LIMIT);
    left
}

/// The promise of the advice: with it, locks outlive what they do not outlive without.
#[test]
fn advised_settings_keep_locks_from_eviction() {
    for binary in memcached::required() {
        for protocol in [None, Some(Protocol::Classic)] {
            let server = binary.start(&["-m", "2"]);
            assert_eq!(left_after_flood(&server, protocol, |_| ()), 0, "{server}");
            let diagnosis = both(&server.url());
            expect(
                &diagnosis,
                "eviction",
                Severity::Unsafe,
                "nothing is exempt",
            );

            // While the server runs.
            let server = binary.start(&["-m", "2"]);
            let left = left_after_flood(&server, protocol, |client| {
                let enabled = client.enable_temporary_lru().expect("the server answers");
                let (seconds, before) = (21, None);
                assert!(
                    matches!(enabled, TemporaryLru::Enabled { seconds: s, before: b, .. }
                        if (s, b) == (seconds, before)),
                    "{enabled:?}"
                );
            });
            assert_eq!(left, 20, "{server}");
            let diagnosis = both(&server.url());
            expect(&diagnosis, "eviction", Severity::Note, "among the others");
            // The sentinel is not exempt, so that nothing would be granted for a while.
            expect(&diagnosis, "restart", Severity::Note, "is granted in");

            // From its start.
            let server = binary.start(&["-m", "2", "-o", "temporary_ttl=21"]);
            assert_eq!(left_after_flood(&server, protocol, |_| ()), 20, "{server}");
        }
    }
}

/// The lease alone is too low a limit: items are stored with a few seconds more.
#[test]
fn advised_limit_is_the_needed_one() {
    let temporary = |server: &memcached::RealServer| -> u64 {
        let items = server.command(b"stats items\r\n");
        let items = String::from_utf8_lossy(&items).into_owned();
        let numbers = items.lines().filter(|line| line.contains(":number_temp "));
        let numbers = numbers.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        numbers.sum()
    };
    for binary in memcached::required() {
        for (limit, exempt) in [("10", 0), ("21", 3)] {
            let option = format!("temporary_ttl={limit}");
            let server = binary.start(&["-o", &option]);
            let client = blocking::Client::builder()
                .server(server.url())
                .restart_guard(false)
                .build()
                .expect("a server");
            let acquire = |name| client.lock(name).acquire().expect("free");
            let guards = ["a", "b", "c"].map(acquire);
            assert_eq!(temporary(&server), exempt, "{server}: {option}");
            drop(guards);
            client.shutdown(LIMIT);
        }
    }
}

#[test]
fn limit_is_only_raised() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        block_on(async {
            let builder = |seconds| {
                let lease = Duration::from_secs(seconds);
                let builder = Client::builder().server(server.url()).restart_guard(false);
                builder.default_lease(lease).max_lease(lease)
            };
            let short = builder(10).build().await.expect("a server");
            let enable = async |client: &Client| {
                let enabled = client.enable_temporary_lru().await;
                format!("{:?}", enabled.expect("the server answers"))
            };
            let first = "Enabled { seconds: 21, before: None }";
            assert_eq!(enable(&short).await, first);
            assert_eq!(enable(&short).await, "Already { seconds: 21 }");
            let long = builder(99).build().await.expect("a server");
            let raised = "Enabled { seconds: 110, before: Some(21) }";
            assert_eq!(enable(&long).await, raised);
            assert_eq!(enable(&short).await, "Already { seconds: 110 }");
            let diagnosis = long.diagnose().await.expect("the server answers");
            assert_eq!(diagnosis.temporary_ttl, 110);
            expect(&diagnosis, "eviction", Severity::Fine, "up to 110 s");
        });
    }
}
