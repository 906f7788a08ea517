//! Things that are no memcached servers, or only look like them.

use crate::diagnose::apis::{Options, both_fail};
use crate::diagnose::{ADVISED, balancer, both, expect, memcached, trouble, try_both};
use core::time::Duration;
use memlatch::{ErrorKind, Protocol, Severity};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

/// memcached's own proxy, which is in the binary from 1.6.33 on, reports a pid, an uptime and a
/// time of its own: the restarts of a server behind it do not show.
#[test]
fn proxy_differs_from_server_behind_it() {
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
        expect(&diagnosis, "proxy", Severity::Unsafe, "a proxy answers");
        for protocol in [None, Some(Protocol::Classic)] {
            let options = Options {
                protocol,
                ..Options::default()
            };
            let parts = ["a proxy answers", "set the address"];
            both_fail(&proxy.url(), &options, ErrorKind::UnsupportedServer, &parts);
        }
        // Nothing was founded there.
        let sentinel = server.command(b"mg memlatch:sentinel v\r\n");
        assert_eq!(sentinel, b"EN\r\n");
        assert_eq!(trouble(&both(&server.url())), []);
    }
    let _ = std::fs::remove_file(&file);
}

/// A service address of a cluster, say: each connection may lead to another server.
#[test]
fn load_balancer_is_detected() {
    for binary in memcached::required() {
        let servers = [binary.start(ADVISED), binary.start(ADVISED)];
        let addresses = servers.iter().map(memcached::RealServer::address).collect();
        let diagnosis = both(&format!("memcached://{}", balancer::spread(addresses)));
        expect(
            &diagnosis,
            "instances",
            Severity::Unsafe,
            "different servers",
        );
        // One server behind the same is one server.
        let alone = balancer::spread(vec![servers[0].address()]);
        let diagnosis = both(&format!("memcached://{alone}"));
        expect(&diagnosis, "instances", Severity::Fine, "same server");
        assert_eq!(trouble(&diagnosis), []);
    }
}

/// Two servers in containers, which were started in the same second: pid and start are the same.
#[test]
fn identical_servers_behind_address_are_distinguished() {
    if !memcached::can_have_process_id_1() || memcached::faketime().is_none() {
        return;
    }
    for binary in memcached::required() {
        let surroundings = memcached::Surroundings {
            process_id_1: true,
            wall_clock: Some("@2026-11-01 00:00:00".into()),
        };
        let start = || binary.start_in(&surroundings, ADVISED);
        let servers = [start(), start()];
        let addresses: Vec<_> = servers.iter().map(memcached::RealServer::address).collect();
        let diagnosis = both(&format!("memcached://{}", balancer::spread(addresses)));
        // No client has used them yet.
        expect(
            &diagnosis,
            "instances",
            Severity::Unsafe,
            "different servers",
        );
        for server in &servers {
            let client = memlatch::blocking::Client::connect(server.url());
            drop(client.expect("the server is there"));
        }
        let addresses = servers.iter().map(memcached::RealServer::address).collect();
        let diagnosis = both(&format!("memcached://{}", balancer::spread(addresses)));
        let check = expect(&diagnosis, "instances", Severity::Unsafe, ", instance ");
        let runs = check.observed.matches("pid 1 started at").count();
        assert_eq!(runs, 2, "{server}: {check:?}", server = servers[0]);
    }
}

/// A peer that answers each line by this table, and hangs up at a line that is not in it.
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
fn peer_hanging_up_is_no_server() {
    let [version, mg, md, gets] = GREETING;
    let nothing: &[_] = Box::leak(Box::new([version, mg, md, gets]));
    let diagnosis = both(&peer(nothing));
    expect(
        &diagnosis,
        "proxy",
        Severity::Unsafe,
        "pid, uptime and time",
    );

    let stats = ("stats", STATS);
    let settings = ("stats s", "ERROR\r\n");
    let items = ("stats i", "ERROR\r\n");
    // The first that fits is taken.
    let refusing: &[_] = Box::leak(Box::new([version, mg, md, gets, settings, items, stats]));
    let diagnosis = both(&peer(refusing));
    expect(&diagnosis, "proxy", Severity::Warning, "stats settings");
    let told = diagnosis.check("eviction").expect("a check");
    assert!(told.observed.contains("does not report"), "{told:?}");

    // Answers of something else.
    let strange = ("stats s", "STORED\r\n");
    let strange: &[_] = Box::leak(Box::new([version, mg, md, gets, strange, stats]));
    let diagnosis = both(&peer(strange));
    expect(&diagnosis, "proxy", Severity::Warning, "stats settings");

    let hang_up: &[_] = Box::leak(Box::new([version, mg]));
    let refused = try_both(&peer(hang_up), |builder| builder, |builder| builder);
    let refused = refused.expect_err("no greeting");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[test]
fn endless_replies_are_cut() {
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
    expect(&diagnosis, "cas", Severity::Fine, "CAS");
    expect(&diagnosis, "proxy", Severity::Fine, "memcached");
}

#[test]
fn silent_server_is_given_up() {
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
            // Of what is asked first, all but the sentinel.
            let first = &GREETING[..3];
            let greeting: String = first.iter().map(|(_, answer)| *answer).collect();
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
