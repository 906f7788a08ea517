//! What a diagnosis says of real servers, of the embedded one, and of things that are neither, by
//! both fronts.
#![cfg(all(feature = "tokio", feature = "blocking"))]

#[path = "support/memcached.rs"]
mod memcached;

use core::fmt::Write as _;
use core::time::Duration;
use memlatch::{Builder, Check, Client, Diagnosis, ErrorKind, LockError, TemporaryLru, Verdict};
use memlatch::{Dialect, blocking};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

/// Longer than anything takes on a machine that is busy with other things as well.
const LIMIT: Duration = Duration::from_secs(30);

/// What the doctor advises for leases of ten seconds.
const ADVISED: &[&str] = &["-o", "temporary_ttl=21"];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// What both fronts say, which must be the same but for how long it took and what the other one's
/// connections have changed.
fn try_both(
    url: &str,
    asynchronous: impl Fn(Builder<Client>) -> Builder<Client>,
    blocking: impl Fn(Builder<blocking::Client>) -> Builder<blocking::Client>,
) -> Result<Diagnosis, LockError> {
    let one = block_on(asynchronous(Client::builder().server(url)).diagnose());
    let two = blocking(blocking::Client::builder().server(url)).diagnose();
    match (&one, &two) {
        (Ok(one), Ok(two)) => {
            let said = |diagnosis: &Diagnosis| -> Vec<_> {
                let checks = diagnosis.checks.iter();
                checks.map(|check| (check.id, check.verdict)).collect()
            };
            assert_eq!(said(one), said(two));
            assert_eq!((&one.server, &one.version), (&two.server, &two.version));
        }
        (Err(one), Err(two)) => assert_eq!(one.kind(), two.kind()),
        _ => panic!("the fronts disagree: {one:?} {two:?}"),
    }
    one
}

fn both(url: &str) -> Diagnosis {
    try_both(url, |builder| builder, |builder| builder).expect("the server answers")
}

#[track_caller]
fn expect<'a>(diagnosis: &'a Diagnosis, id: &str, verdict: Verdict, part: &str) -> &'a Check {
    let check = diagnosis.check(id).expect("a check of that name");
    assert_eq!(check.verdict, verdict, "{}: {check:?}", diagnosis.version);
    let told = format!("{} {} {:?}", check.seen, check.meaning, check.advice);
    assert!(told.contains(part), "`{part}` is missing: {check:?}");
    check
}

/// All that is not fine.
fn trouble(diagnosis: &Diagnosis) -> Vec<(&'static str, Verdict)> {
    let checks = diagnosis.checks.iter();
    let trouble = checks.filter(|check| check.verdict > Verdict::Note);
    trouble.map(|check| (check.id, check.verdict)).collect()
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
fn a_server_as_it_comes_may_evict_locks_and_is_fine_otherwise() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let diagnosis = both(&server.url());
        assert_eq!(diagnosis.server, server.url());
        assert_eq!(diagnosis.version, server.version());
        assert_eq!(diagnosis.longest_lease, Duration::from_secs(10));
        assert_eq!(trouble(&diagnosis), [("eviction", Verdict::Warning)]);
        assert_eq!(diagnosis.verdict(), Verdict::Warning);
        let advice = format!("-o temporary_ttl={}", diagnosis.temporary_ttl);
        expect(&diagnosis, "eviction", Verdict::Warning, &advice);
        // It was started just now, and has no sentinel: nothing was stored.
        let restart = diagnosis.check("restart").expect("a check");
        assert!(
            restart.seen.contains("without a sentinel yet"),
            "{restart:?}"
        );
        let keys = server.command(b"get memlatch:sentinel memlatch:probe\r\n");
        assert_eq!(keys, b"END\r\n");
        // Each told something: no check had to go by what a real server does not say.
        for check in &diagnosis.checks {
            assert!(!check.seen.contains("does not tell"), "{server}: {check:?}");
        }
    }
}

#[test]
fn a_server_started_as_advised_is_good_for_locks() {
    for binary in memcached::required() {
        let advised = binary.start(ADVISED);
        let diagnosis = both(&advised.url());
        assert_eq!(diagnosis.temporary_ttl, 21);
        assert_eq!(trouble(&diagnosis), []);
        expect(&diagnosis, "eviction", Verdict::Fine, "up to 21 s");

        let low = binary.start(&["-o", "temporary_ttl=20"]);
        expect(&both(&low.url()), "eviction", Verdict::Warning, "not 21 s");
        let never = binary.start(&["-M"]);
        assert_eq!(trouble(&both(&never.url())), []);
    }
}

#[test]
fn what_a_server_was_started_with_is_seen() {
    for binary in memcached::required() {
        for (arguments, id, verdict, part) in [
            (&["-C"][..], "cas", Verdict::Unsafe, "-C"),
            (&["-A"], "shutdown-command", Verdict::Warning, "-A"),
            (&["-X"], "key-dump", Verdict::Fine, "-X"),
            (&["-F"], "flush", Verdict::Fine, "-F"),
            (&["-t", "1"], "threads", Verdict::Note, "1 thread"),
            (&["-I", "2m"], "item-size", Verdict::Fine, "2097152 bytes"),
            (
                &["-o", "idle_timeout=2"],
                "idle-timeout",
                Verdict::Note,
                "2 s",
            ),
            (
                &["-o", "idle_timeout=60"],
                "idle-timeout",
                Verdict::Fine,
                "60 s",
            ),
            (
                &["-o", "no_maxconns_fast"],
                "connections",
                Verdict::Note,
                "left waiting",
            ),
            (
                &["-o", "slab_automove=2"],
                "page-moves",
                Verdict::Warning,
                "is 2",
            ),
        ] {
            let server = binary.start(arguments);
            expect(&both(&server.url()), id, verdict, part);
        }
    }
}

#[test]
fn a_server_without_cas_has_no_clients_and_a_diagnosis() {
    for binary in memcached::required() {
        let server = binary.start(&["-C"]);
        let refused = blocking::Client::connect(server.url()).expect_err("no CAS");
        assert_eq!(refused.kind(), ErrorKind::Unsuitable);
        assert_eq!(both(&server.url()).verdict(), Verdict::Unsafe);
    }
}

#[test]
fn an_emptied_cache_is_seen_and_one_that_is_about_to_be() {
    for binary in memcached::required() {
        let server = binary.start(ADVISED);
        server.flush_all();
        let diagnosis = both(&server.url());
        expect(&diagnosis, "flush", Verdict::Warning, "emptied 1 time");
        assert_eq!(diagnosis.verdict(), Verdict::Warning);
        assert_eq!(server.command(b"flush_all 100\r\n"), b"OK\r\n");
        let diagnosis = both(&server.url());
        expect(&diagnosis, "flush", Verdict::Unsafe, "will be emptied in");
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
            check.verdict == Verdict::Warning && check.seen.ends_with(" left")
        });
        until("it has no connection to spare", || {
            let mut stream = TcpStream::connect(server.address()).expect("a listener");
            stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
            let _ = stream.write_all(b"version\r\n");
            let mut line = String::new();
            let read = BufReader::new(&stream).read_line(&mut line);
            open.push(stream);
            read.is_err() || !line.starts_with("VERSION")
        });
        let refused = blocking::Client::builder().server(server.url()).diagnose();
        assert_eq!(
            refused.expect_err("no connection").kind(),
            ErrorKind::Unavailable
        );
        // Room for the doctor, and nearly nothing else.
        open.truncate(open.len() - 3);
        let mut seen = None;
        until("there is room for one more", || {
            seen = blocking::Client::builder()
                .server(server.url())
                .diagnose()
                .ok();
            seen.is_some()
        });
        let diagnosis = seen.expect("seen");
        expect(&diagnosis, "connections", Verdict::Warning, "refused");
    }
}

#[test]
fn what_happens_between_two_looks_is_told() {
    for binary in memcached::required() {
        let mut server = binary.start(&["-M", "-m", "2"]);
        let first = both(&server.url());
        assert!(first.check("change").is_none());
        let second = both(&server.url()).since(&first);
        expect(&second, "change", Verdict::Fine, "nothing");
        assert_eq!(second.checks.len(), first.checks.len() + 1);
        server.flush_all();
        let third = both(&server.url()).since(&second);
        expect(&third, "change", Verdict::Unsafe, "1 `flush_all`");
        flood(&server);
        let fourth = both(&server.url()).since(&third);
        expect(
            &fourth,
            "change",
            Verdict::Warning,
            "refused for want of memory",
        );
        expect(&fourth, "out-of-memory", Verdict::Warning, "refused");
        server.restart();
        let fifth = both(&server.url()).since(&fourth);
        expect(&fifth, "change", Verdict::Unsafe, "restarted");
        // One check of it, however often.
        let again = fifth.clone().since(&fifth);
        assert_eq!(again.checks.len(), fifth.checks.len());
    }
}

/// Stores items that nobody wants until the server has long been out of memory, in all sizes that
/// the record of a lock may have.
fn flood(server: &memcached::RealServer) {
    let mut stream = TcpStream::connect(server.address()).expect("a listener");
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    for size in (10..240).step_by(20) {
        let mut batch = String::new();
        for number in 0..20_000 {
            let key = format!("junk{size:03}{number:06}");
            let _ = write!(batch, "set {key} 0 0 {size} noreply\r\n{number:0size$}\r\n");
        }
        batch.push_str("version\r\n");
        stream.write_all(batch.as_bytes()).expect("a connection");
        let mut line = String::new();
        let read = BufReader::new(&stream).read_line(&mut line);
        assert!(read.is_ok() && line.starts_with("VERSION"), "{line}");
    }
}

/// Of twenty locks that are held, how many are left after a flood.
fn left_after_flood(
    server: &memcached::RealServer,
    dialect: Option<Dialect>,
    prepare: impl Fn(&blocking::Client),
) -> usize {
    let mut builder = blocking::Client::builder()
        .server(server.url())
        .restart_guard(false);
    if let Some(dialect) = dialect {
        builder = builder.dialect(dialect);
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
fn locks_outlive_a_flood_where_the_doctor_was_heard() {
    for binary in memcached::required() {
        for dialect in [None, Some(Dialect::Classic)] {
            let server = binary.start(&["-m", "2"]);
            assert_eq!(left_after_flood(&server, dialect, |_| ()), 0, "{server}");
            let diagnosis = both(&server.url());
            expect(&diagnosis, "eviction", Verdict::Unsafe, "nothing is exempt");

            // While the server runs.
            let server = binary.start(&["-m", "2"]);
            let left = left_after_flood(&server, dialect, |client| {
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
            expect(&diagnosis, "eviction", Verdict::Note, "among the others");
            // The sentinel is not exempt, so that nothing would be granted for a while.
            expect(&diagnosis, "restart", Verdict::Note, "is granted in");

            // From its start.
            let server = binary.start(&["-m", "2", "-o", "temporary_ttl=21"]);
            assert_eq!(left_after_flood(&server, dialect, |_| ()), 20, "{server}");
        }
    }
}

/// The lease alone is too low a limit: items are stored with a few seconds more.
#[test]
fn the_limit_that_is_advised_is_the_one_that_is_needed() {
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
fn a_limit_is_raised_and_never_lowered() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        block_on(async {
            let builder = |seconds| {
                let lease = Duration::from_secs(seconds);
                let builder = Client::builder().server(server.url()).restart_guard(false);
                builder.default_lease(lease).max_lease(lease)
            };
            let long = builder(99).build().await.expect("a server");
            let short = builder(10).build().await.expect("a server");
            let enable = async |client: &Client| {
                let enabled = client.enable_temporary_lru().await;
                format!("{:?}", enabled.expect("the server answers"))
            };
            let first = "Enabled { seconds: 21, before: None }";
            assert_eq!(enable(&short).await, first);
            assert_eq!(enable(&short).await, "Already { seconds: 21 }");
            let raised = "Enabled { seconds: 110, before: Some(21) }";
            assert_eq!(enable(&long).await, raised);
            assert_eq!(enable(&short).await, "Already { seconds: 110 }");
            let diagnosis = long.diagnose().await.expect("the server answers");
            assert_eq!(diagnosis.temporary_ttl, 110);
            expect(&diagnosis, "eviction", Verdict::Fine, "up to 110 s");
        });
    }
}

#[test]
fn a_client_with_locks_can_be_asked_and_they_stay() {
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
                assert!(restart.verdict >= Verdict::Note, "{restart:?}");
                assert!(restart.seen.contains("guard is off"), "{restart:?}");
                assert!(!restart.seen.contains("without a sentinel"), "{restart:?}");
            }
            assert!(asked.2.expect("answered").is_some() && guard.is_valid());
            let released = guard.release().await.expect("answered");
            assert_eq!(released, memlatch::ReleaseOutcome::Released);
        });
    }
}

#[test]
fn who_does_not_know_the_password_learns_nothing() {
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
            Verdict::Fine,
            "wants a password",
        );
        assert_eq!(trouble(&diagnosis), []);
    }
    std::fs::remove_file(&file).expect("our file");
}

/// memcached's own proxy, which is in the binary from 1.6.33 on.
#[test]
fn a_proxy_is_told_from_the_server_behind_it() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("diagnose-{}.lua", std::process::id()));
    let old = |version: &str| version == "1.6.18";
    for binary in memcached::required() {
        if old(&binary.version) {
            continue;
        }
        let server = binary.start(ADVISED);
        let routes = format!(
            "pools{{ all = {{ backends = {{ \"{}\" }} }} }}\n\
             routes{{ default = route_direct{{ child = \"all\" }} }}\n",
            server.address()
        );
        std::fs::write(&file, routes).expect("a file");
        let options = format!("proxy_config=routelib,proxy_arg={}", file.display());
        let proxy = binary.start(&["-o", &options]);
        let diagnosis = both(&proxy.url());
        expect(&diagnosis, "proxy", Verdict::Unsafe, "proxy_enabled");
        // What it is told of its own memory would be of no use to locks.
        let builder = blocking::Client::builder().server(proxy.url());
        let client = builder.restart_guard(false).build();
        let client = client.expect("it answers like a server");
        let enabled = client.enable_temporary_lru();
        assert!(
            matches!(&enabled, Ok(TemporaryLru::Refused { answer, .. }) if answer.contains("proxy")),
            "{enabled:?}"
        );
        assert_eq!(trouble(&both(&server.url())), []);
    }
    let _ = std::fs::remove_file(&file);
}

/// Something that answers each line as it is told, and hangs up at a line it is told nothing for.
fn peer(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            let mut stream = stream;
            while let Some(Ok(line)) = lines.next() {
                let answer = answers.iter().find(|(start, _)| line.starts_with(start));
                let Some((_, answer)) = answer else { break };
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    format!("memcached://{address}")
}

const GREETING: [(&str, &str); 4] = [
    ("version", "VERSION 1.6.45\r\n"),
    ("mg ", "EN\r\n"),
    ("md ", "NF\r\n"),
    ("gets ", "END\r\n"),
];

const STATS: &str = "STAT pid 7\r\nSTAT uptime 100\r\nSTAT time 1795337329\r\nEND\r\n";

#[test]
fn what_hangs_up_on_questions_is_told_apart_from_a_server() {
    let [version, mg, md, gets] = GREETING;
    let nothing: &[_] = Box::leak(Box::new([version, mg, md, gets]));
    let diagnosis = both(&peer(nothing));
    expect(&diagnosis, "proxy", Verdict::Unsafe, "pid, uptime and time");

    let stats = ("stats", STATS);
    let settings = ("stats s", "ERROR\r\n");
    let items = ("stats i", "ERROR\r\n");
    // The first that fits is taken.
    let refusing: &[_] = Box::leak(Box::new([version, mg, md, gets, settings, items, stats]));
    let diagnosis = both(&peer(refusing));
    expect(&diagnosis, "proxy", Verdict::Warning, "stats settings");
    let told = diagnosis.check("eviction").expect("a check");
    assert!(told.seen.contains("does not tell"), "{told:?}");

    // Answers of something else.
    let strange = ("stats s", "STORED\r\n");
    let strange: &[_] = Box::leak(Box::new([version, mg, md, gets, strange, stats]));
    let diagnosis = both(&peer(strange));
    expect(&diagnosis, "proxy", Verdict::Warning, "stats settings");

    let hang_up: &[_] = Box::leak(Box::new([version, mg]));
    let refused = try_both(&peer(hang_up), |builder| builder, |builder| builder);
    let refused = refused.expect_err("no greeting");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[test]
fn answers_without_an_end_are_cut_off() {
    let [version, mg, md, gets] = GREETING;
    let endless: &'static str = Box::leak("STAT items:1:number 1\r\n".repeat(9000).into());
    let answers: &[_] = Box::leak(Box::new([
        version,
        mg,
        md,
        gets,
        ("stats i", endless),
        ("stats s", "STAT cas_enabled yes\r\nEND\r\n"),
        ("stats", STATS),
    ]));
    let diagnosis = both(&peer(answers));
    expect(&diagnosis, "cas", Verdict::Fine, "CAS");
    expect(&diagnosis, "proxy", Verdict::Fine, "memcached");
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("memcached://{}", listener.local_addr().expect("a port"));
    let limit = Duration::from_millis(200);
    let refused = try_both(
        &url,
        move |builder| builder.operation_timeout(limit),
        move |builder| builder.operation_timeout(limit),
    );
    assert_eq!(refused.expect_err("silence").kind(), ErrorKind::Unavailable);
    // One that falls silent later is no proxy for that.
    let greeting = thread::spawn(move || {
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut chunk = [0; 1024];
            let read = stream.read(&mut chunk).unwrap_or(0);
            if read == 0 {
                continue;
            }
            let greeting: String = GREETING.iter().map(|(_, answer)| *answer).collect();
            let _ = stream.write_all(greeting.as_bytes());
            // Until the client gives up.
            while stream.read(&mut chunk).is_ok_and(|read| read > 0) {}
        }
    });
    let refused = try_both(
        &url,
        move |builder| builder.operation_timeout(limit),
        move |builder| builder.operation_timeout(limit),
    );
    assert_eq!(refused.expect_err("silence").kind(), ErrorKind::Unavailable);
    drop(greeting);
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let refused = try_both("nowhere://at all", |builder| builder, |builder| builder);
    let refused = refused.expect_err("no address");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[cfg(feature = "server")]
#[test]
fn the_embedded_server_can_be_asked_too() {
    use memlatch::server::Server;
    let server = Server::start().expect("a server");
    let url = server.address();
    let diagnosis = both(&url);
    expect(
        &diagnosis,
        "eviction",
        Verdict::Warning,
        "nothing is exempt",
    );
    expect(&diagnosis, "cas", Verdict::Fine, "CAS");
    let builder = blocking::Client::builder().server(&url);
    let client = builder.restart_guard(false).build().expect("a server");
    let enabled = client.enable_temporary_lru().expect("the server answers");
    assert!(matches!(enabled, TemporaryLru::Enabled { seconds: 21, .. }));
    expect(&both(&url), "eviction", Verdict::Fine, "up to 21 s");
    server.flush_all();
    expect(&both(&url), "flush", Verdict::Warning, "emptied");

    let address = server.socket_addr().expect("a port");
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.write_all(b"flush_all 100\r\n").expect("a server");
    let mut line = String::new();
    let read = BufReader::new(&stream).read_line(&mut line);
    assert!(read.is_ok() && line == "OK\r\n", "{line}");
    expect(&both(&url), "flush", Verdict::Unsafe, "will be emptied in");
}
