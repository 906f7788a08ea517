//! The embedded server over real sockets: what locks ask of it, and the hooks for tests.
#![cfg(feature = "server")]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use memlatch::server::{Server, ServerBuilder};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A client that compares bytes.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.socket_addr().expect("a port")).expect("a server");
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).expect("a time limit");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &str) {
        let stream = self.0.get_mut();
        stream.write_all(bytes.as_bytes()).expect("a connection");
    }

    /// The next line without its end; `None` when the connection has ended.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_string()),
        }
    }

    /// Sends and reads so many lines.
    fn ask<const LINES: usize>(&mut self, bytes: &str) -> [String; LINES] {
        self.send(bytes);
        core::array::from_fn(|_| self.line().expect("an answer"))
    }

    fn stats(&mut self, group: &str) -> HashMap<String, String> {
        self.send(&format!("stats{group}\r\n"));
        let mut found = HashMap::new();
        loop {
            let line = self.line().expect("an answer");
            if line == "END" {
                return found;
            }
            let line = line.strip_prefix("STAT ").expect("a statistic");
            let (name, value) = line.split_once(' ').expect("a name and a value");
            found.insert(name.to_string(), value.to_string());
        }
    }

    /// The server's second, shown by the item that the sentinel is.
    fn second(&mut self) -> u64 {
        let [_, line] = self.ask("add clock 0 2145916800 0\r\n\r\nmg clock t\r\n");
        let left: u64 = line
            .strip_prefix("HD t")
            .and_then(|left| left.parse().ok())
            .expect("seconds left");
        2_145_916_800 - left
    }
}

fn start(builder: ServerBuilder) -> Server {
    builder.start().expect("a server")
}

fn seconds(left: &str) -> u64 {
    let digits = left.rsplit_once('t').expect("seconds left").1;
    let digits = digits.split(' ').next().expect("seconds left");
    digits.parse().expect("a number")
}

#[test]
fn meta_acquire_flight_matches_design() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let expiry = wire.second() + 10;
    let flight = |nonce: &str| {
        format!(
            "add L 0 {expiry} 5\r\n{nonce}\r\nmg L t c v\r\n\
             ma F N86400 J1795337329000000000 D1 t v\r\nmg clock t v\r\n"
        )
    };
    let [stored, head, value, fence, token, sentinel, _] = wire.ask(&flight("nonce"));
    assert_eq!((&*stored, &*value), ("STORED", "nonce"));
    assert!(
        head.starts_with("VA 5 t") && head.ends_with(" c3"),
        "{head}"
    );
    assert!((9..=10).contains(&seconds(&head)), "{head}");
    assert_eq!((&*fence, &*token), ("VA 19 t86400", "1795337329000000000"));
    assert!(sentinel.starts_with("VA 0 t"));

    let mut other = Wire::to(&server);
    let [refused, head, value, _, token, _, _] = other.ask(&flight("other"));
    assert_eq!((&*refused, &*value), ("NOT_STORED", "nonce"));
    assert!(head.ends_with(" c3"), "{head}");
    assert_eq!(token, "1795337329000000001");

    // A renewal changes the CAS unique and marks the item stale, once without `W`.
    let [done, head, _] = wire.ask(&format!("md L C3 I T{}\r\nmg L t c v\r\n", expiry + 10));
    assert_eq!(done, "HD");
    assert!(head.ends_with(" X W"), "{head}");
    assert!((19..=20).contains(&seconds(&head)), "{head}");
    let cas = head.split(" c").nth(1).expect("a CAS unique");
    let cas = cas.split(' ').next().expect("a CAS unique").to_string();
    assert_ne!(cas, "3");

    let [stale, released, again] = wire.ask(&format!("md L C3\r\nmd L C{cas}\r\nmd L C{cas}\r\n"));
    assert_eq!([&*stale, &*released, &*again], ["EX", "HD", "NF"]);
    assert_eq!(server.item("L"), None);
}

#[test]
fn explicit_cas_survives_renewal() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let [_, done, head, _] = wire.ask("add L 0 30 1\r\nx\r\nmd L C2 E2 I T60\r\nmg L c v\r\n");
    assert_eq!((&*done, &*head), ("HD", "VA 1 c2 X W"));
}

#[test]
fn classic_lock_flights_match_design() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let [stored, head, value, end] = wire.ask("add L 0 30 5\r\nnonce\r\ngets L\r\n");
    let expected = ["STORED", "VALUE L 0 5 2", "nonce", "END"];
    assert_eq!([&*stored, &*head, &*value, &*end], expected);
    let [refused, head, ..] = wire.ask::<4>("add L 0 30 5\r\nother\r\ngets L\r\n");
    assert_eq!((&*refused, &*head), ("NOT_STORED", "VALUE L 0 5 2"));
    let [renewed, head, ..] = wire.ask::<4>("cas L 0 30 5 2\r\nnonce\r\ngets L\r\n");
    assert_eq!((&*renewed, &*head), ("STORED", "VALUE L 0 5 4"));
    // A release: stored as expired since 1970.
    let [released, end, gone] =
        wire.ask("cas L 0 2592001 0 4\r\n\r\nget L\r\ncas L 0 0 0 4\r\n\r\n");
    assert_eq!([&*released, &*end, &*gone], ["STORED", "END", "NOT_FOUND"]);
    let [seeded, first] = wire.ask("add F 0 0 1\r\n7\r\nincr F 1\r\n");
    assert_eq!((&*seeded, &*first), ("STORED", "8"));
}

#[test]
fn takeover_replaces_only_watched_record() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let [_, first, second, head, _] = wire.ask(
        "add L 0 30 3\r\nold\r\ncas L 0 30 3 2\r\nnew\r\ncas L 0 30 3 2\r\ntoo\r\nmg L c v\r\n",
    );
    assert_eq!([&*first, &*second, &*head], ["STORED", "EXISTS", "VA 3 c3"]);
    assert_eq!(server.item("L").as_deref(), Some(&b"new"[..]));
}

#[test]
fn items_expire_with_clock_tick() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let [_, alive] = wire.ask("ms a 1 T3600\r\nx\r\nmg a t\r\n");
    assert!((3599..=3600).contains(&seconds(&alive)), "{alive}");
    server.advance_clock(Duration::from_secs(3590));
    let [alive] = wire.ask("mg a t\r\n");
    assert!((1..=10).contains(&seconds(&alive)), "{alive}");
    server.advance_clock(Duration::from_secs(10));
    assert_eq!(server.item("a"), None);
    assert_eq!(wire.ask("mg a t\r\n"), ["EN"]);
    assert_eq!(wire.ask("add a 0 0 1\r\ny\r\n"), ["STORED"]);

    // By itself, too: a second is over after at most a second.
    assert_eq!(wire.ask("ms b 1 T1\r\nx\r\n"), ["HD"]);
    thread::sleep(Duration::from_millis(1010));
    assert_eq!(wire.ask("mg b\r\n"), ["EN"]);
}

#[test]
fn absolute_expiries_use_stats_time() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    server.advance_clock(Duration::from_secs(1000));
    let told: u64 = wire.stats("")["time"].parse().expect("a number");
    let second = wire.second();
    assert!((told..=told + 1).contains(&second), "{told} {second}");
    let [_, left] = wire.ask(&format!("add a 0 {} 0\r\n\r\nmg a t\r\n", second + 100));
    assert!((99..=100).contains(&seconds(&left)), "{left}");
    let past = format!("set b 0 {} 0\r\n\r\nmg b\r\n", second - 1);
    assert_eq!(wire.ask(&past), ["STORED", "EN"]);
}

#[test]
fn restart_forgets_everything_visibly() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    assert_eq!(wire.ask("ms a 1 c\r\nx\r\n"), ["HD c2"]);
    let incarnation = |wire: &mut Wire| {
        let stats = wire.stats("");
        let number = |name: &str| stats[name].parse::<u64>().expect("a number");
        (number("pid"), number("time") - number("uptime"))
    };
    let before = incarnation(&mut wire);
    server.restart();
    assert_eq!(wire.line(), None);
    let mut wire = Wire::to(&server);
    assert_eq!(wire.ask("mg a\r\n"), ["EN"]);
    assert_eq!(wire.ask("ms a 1 c\r\nx\r\n"), ["HD c2"]);
    let after = incarnation(&mut wire);
    assert_ne!(before.0, after.0);
    assert!(after.1 > before.1);
    assert_eq!(wire.stats("")["uptime"], "2");
}

#[test]
fn server_age_moves_the_start() {
    for (builder, uptime) in [
        (Server::builder(), 365 * 24 * 60 * 60 + 2),
        (Server::builder().uptime(Duration::ZERO), 2),
        (Server::builder().uptime(Duration::from_secs(98)), 100),
    ] {
        let server = start(builder.manual_clock());
        let stats = Wire::to(&server).stats("");
        let number = |name: &str| stats[name].parse::<u64>().expect("a number");
        assert_eq!(number("uptime"), uptime);
        // Within the life of this test.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a time after 1970").as_secs();
        assert!((now - 600..=now + 2).contains(&number("time")));
        server.restart();
        assert_eq!(Wire::to(&server).stats("")["uptime"], "2");
    }
}

/// The numbers that `stats settings` of memcached 1.6.18, 1.6.38 and 1.6.45 shows.
#[test]
fn flush_horizon_is_shown_as_oldest() {
    let server = start(Server::builder().uptime(Duration::ZERO).manual_clock());
    let mut wire = Wire::to(&server);
    let oldest = |wire: &mut Wire| wire.stats(" settings")["oldest"].clone();
    assert_eq!(oldest(&mut wire), "0");
    server.advance_clock(Duration::from_secs(6));
    assert_eq!(wire.stats("")["uptime"], "8");
    assert_eq!(wire.ask("flush_all\r\n"), ["OK"]);
    assert_eq!(oldest(&mut wire), "67");
    server.advance_clock(Duration::from_secs(1));
    assert_eq!(wire.ask("flush_all 3\r\n"), ["OK"]);
    assert_eq!(oldest(&mut wire), "71");
    assert_eq!(wire.stats("")["cmd_flush"], "2");
    assert_eq!(wire.ask("stats reset\r\n"), ["RESET"]);
    assert_eq!(wire.stats("")["cmd_flush"], "0");
    assert_eq!(oldest(&mut wire), "71");
}

#[test]
fn unbumped_read_shows_items_age() {
    let server = start(Server::builder().manual_clock());
    let mut wire = Wire::to(&server);
    let wait = |seconds| server.advance_clock(Duration::from_secs(seconds));
    assert_eq!(wire.ask("set a 0 0 1\r\nx\r\n"), ["STORED"]);
    wait(5);
    for _ in 0..3 {
        assert_eq!(wire.ask("mg a u t l v\r\n"), ["VA 1 t-1 l5", "x"]);
    }
    // The first read marks the item, the second one has it moved by the next second.
    let reads = "mg a l\r\nmg a l\r\nmg a l\r\n";
    assert_eq!(wire.ask(reads), ["HD l5", "HD l5", "HD l5"]);
    wait(1);
    assert_eq!(wire.ask("mg a u l\r\n"), ["HD l0"]);
    wait(2);
    assert_eq!(wire.ask("mg a u l\r\nmg a u l\r\n"), ["HD l2", "HD l2"]);
}

#[cfg(feature = "blocking")]
#[test]
fn first_lock_waits_only_after_restart() {
    use memlatch::ErrorKind;
    use memlatch::blocking::Client;
    let server = start(Server::builder());
    let client = || {
        Client::builder()
            .server(server.address())
            .build()
            .expect("a server")
    };
    let lock = client().lock("a");
    let guard = lock.try_acquire().expect("no restart to wait out");
    assert!(guard.is_some_and(|guard| guard.is_valid()));
    server.restart();
    let refused = client()
        .lock("b")
        .try_acquire()
        .expect_err("a young server");
    assert_eq!(refused.kind(), ErrorKind::RestartGuard);
}

#[test]
fn flush_and_evict_forget() {
    let server = start(Server::builder().flush_enabled(false));
    let mut wire = Wire::to(&server);
    let [_, _, refused] = wire.ask("set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\nflush_all\r\n");
    assert_eq!(refused, "CLIENT_ERROR flush_all not allowed");
    assert!(server.evict("a"));
    assert!(!server.evict("a"));
    assert_eq!(wire.ask("mg a\r\nmg b\r\n"), ["EN", "HD"]);
    assert_eq!(wire.stats("")["evictions"], "1");
    server.flush_all();
    assert_eq!(server.item("b"), None);
    // What is stored in the second of a flush, but after it, lives.
    assert_eq!(wire.ask("set b 0 0 1\r\nx\r\nmg b\r\n"), ["STORED", "HD"]);
}

/// Requests that arrived during a stall run before the clock moves on.
#[test]
fn stalled_requests_use_the_old_clock() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let second = wire.second();
    let begun = Instant::now();
    server.stall(Duration::from_millis(500));
    wire.send("ms relative 1 T3\r\nx\r\n");
    wire.send(&format!("ms absolute 1 T{}\r\nx\r\n", second + 30));
    // The stall is as long as the clock says it is.
    thread::sleep(Duration::from_millis(50));
    server.advance_clock(Duration::from_secs(4));
    assert_eq!(
        [wire.line(), wire.line()].map(Option::unwrap_or_default),
        ["HD", "HD"]
    );
    assert!(begun.elapsed() >= Duration::from_millis(500));
    // Three seconds were asked for and none were left.
    assert_eq!(wire.ask("mg relative\r\nmg absolute\r\n"), ["EN", "HD"]);
}

#[test]
fn restart_ends_a_stall() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    server.stall(Duration::from_secs(60));
    wire.send("ms a 1\r\nx\r\n");
    server.restart();
    assert_eq!(wire.line(), None);
    assert_eq!(Wire::to(&server).ask("mg a\r\n"), ["EN"]);
}

#[test]
fn excess_connections_are_refused() {
    let server = start(Server::builder().max_connections(2));
    let mut first = Wire::to(&server);
    let mut second = Wire::to(&server);
    assert_eq!(first.ask("mn\r\n"), ["MN"]);
    assert_eq!(second.ask("mn\r\n"), ["MN"]);
    let mut third = Wire::to(&server);
    assert_eq!(
        third.line().as_deref(),
        Some("ERROR Too many open connections")
    );
    assert_eq!(third.line(), None);
    drop(second);
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let mut next = Wire::to(&server);
        if next.0.get_mut().write_all(b"mn\r\n").is_ok() && next.line().as_deref() == Some("MN") {
            break;
        }
        assert!(Instant::now() < patience, "the place stays taken");
    }
    let stats = first.stats("");
    assert_eq!(stats["max_connections"], "2");
    assert_ne!(stats["rejected_connections"], "0");
}

#[test]
fn server_listens_on_loopback_by_default() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Server::builder().listen(everywhere).start();
    let error = refused.map(|_| ()).expect_err("it is open to all");
    assert!(error.to_string().contains("allow_remote"), "{error}");
    let server = start(Server::builder().listen(everywhere).allow_remote(true));
    let port = server.socket_addr().expect("a port").port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn server_address_suits_clients() {
    let server = Server::start().expect("a free port");
    let port = server.socket_addr().expect("a port").port();
    assert_eq!(server.address(), format!("memcached://127.0.0.1:{port}"));
}

#[cfg(unix)]
#[test]
fn unix_socket_is_created_and_removed() {
    use std::os::unix::net::{UnixListener, UnixStream};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("memlatch-{}-{number}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    // Left behind by a server that was killed.
    drop(UnixListener::bind(&path).expect("a place for sockets"));
    let server = start(Server::builder().unix_socket(&path));
    assert_eq!(server.address(), format!("unix://{}", path.display()));
    assert_eq!(server.socket_addr(), None);
    assert!(Server::builder().unix_socket(&path).start().is_err());
    let mut stream = UnixStream::connect(&path).expect("a server");
    stream.write_all(b"mn\r\n").expect("a connection");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"MN\r\n");
    drop(server);
    assert_eq!(stream.read(&mut answer).expect("an end"), 0);
    assert!(!path.exists());
}

#[test]
fn dropped_server_stops_listening() {
    let server = Server::start().expect("a free port");
    let addr = server.socket_addr().expect("a port");
    let mut idle = Wire::to(&server);
    let mut busy = Wire::to(&server);
    busy.send("set a 0 0 100\r\nhalf a value");
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((idle.line(), busy.line()), (None, None));
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn shutdown_command_needs_permission() {
    let server = start(Server::builder());
    let refused = ["SERVER_ERROR: shutdown not enabled"];
    assert_eq!(Wire::to(&server).ask("shutdown\r\n"), refused);
    assert!(!server.is_stopped());
    let server = start(Server::builder().shutdown_command(true));
    let mut wire = Wire::to(&server);
    wire.send("shutdown graceful\r\n");
    assert_eq!(wire.line(), None);
    assert!(server.is_stopped());
    server.wait();
}

#[test]
fn password_is_required_where_set() {
    let server = start(Server::builder().auth([("user", "pass")]));
    let mut wire = Wire::to(&server);
    let unauthenticated = ["CLIENT_ERROR unauthenticated"];
    assert_eq!(wire.ask("version\r\n"), unauthenticated);
    let wrong = "set auth 0 0 10\r\nuser wrong\r\n";
    assert_eq!(wire.ask(wrong), ["CLIENT_ERROR authentication failure"]);
    let right = "set auth 0 0 9\r\nuser pass\r\nmn\r\n";
    assert_eq!(wire.ask(right), ["STORED", "MN"]);
    assert_eq!(server.item("auth"), None);
    assert_eq!(wire.stats(" settings")["auth_enabled_ascii"], "yes");
}

#[test]
fn oversized_value_is_discarded_unbuffered() {
    let server = start(Server::builder().max_item_size(4096));
    let mut wire = Wire::to(&server);
    let chunk = "v".repeat(64 * 1024);
    wire.send(&format!("add a 0 0 {}\r\n", 64 * chunk.len()));
    for _ in 0..64 {
        wire.send(&chunk);
    }
    wire.send("\r\nmn\r\n");
    let refused = "SERVER_ERROR object too large for cache";
    assert_eq!(wire.line().as_deref(), Some(refused));
    assert_eq!(wire.line().as_deref(), Some("MN"));
}

#[test]
fn memory_runs_out_in_two_ways() {
    let value = "v".repeat(1000);
    let add = |key: &str| format!("add {key} 0 0 1000\r\n{value}\r\n");
    // A page of 84 chunks for items of this size, and one of 1041 for those of one byte.
    let builder = || Server::builder().memory_limit(100_000);
    let fill = |server: &Server| {
        let mut wire = Wire::to(server);
        wire.send(&format!("set small 0 0 0\r\n\r\n{}", add("first")));
        for number in 0..200 {
            wire.send(&format!("set k{number} 0 0 1000 noreply\r\n{value}\r\n"));
        }
        assert_eq!(wire.ask("mn\r\n"), ["STORED"]);
        assert_eq!(wire.ask(""), ["STORED", "MN"]);
        wire
    };
    let server = start(builder());
    let mut wire = fill(&server);
    let found = wire.ask("mg first\r\nmg k199\r\nmg small\r\n");
    assert_eq!(found, ["EN", "HD", "HD"]);
    assert_eq!(wire.stats("")["evictions"], "117");
    let slabs = wire.stats(" slabs");
    assert_eq!(slabs["12:used_chunks"], "84");
    assert_eq!(slabs["12:chunk_size"], "1184");

    let server = start(builder().evictions(false));
    let mut wire = fill(&server);
    assert_eq!(wire.ask("mg first\r\nmg k199\r\n"), ["HD", "EN"]);
    let refused = "SERVER_ERROR out of memory storing object";
    assert_eq!(wire.ask(&add("last")), [refused]);
    // The item that `ms` was not to replace goes; that of `add` stays.
    assert_eq!(
        wire.ask(&format!("{}mg k0\r\n", add("k0"))),
        [refused, "HD"]
    );
    let set = format!("ms k0 1000 ME\r\n{value}\r\nmg k0\r\n");
    assert_eq!(wire.ask(&set), [refused, "EN"]);
}

#[test]
fn comparison_is_refused_without_cas() {
    let server = start(Server::builder().cas(false));
    let mut wire = Wire::to(&server);
    let [_, head, exists, done] =
        wire.ask("set a 0 0 1\r\nx\r\nmg a c\r\ncas a 0 0 1 0\r\nx\r\nmd a C0\r\n");
    assert_eq!([&*head, &*exists, &*done], ["HD c0", "EXISTS", "HD"]);
    assert_eq!(wire.stats(" settings")["cas_enabled"], "no");
}

#[test]
fn doctors_statistics_are_present() {
    let server = start(Server::builder().temporary_ttl(Duration::from_secs(61)));
    let mut wire = Wire::to(&server);
    assert_eq!(
        wire.ask("set a 0 30 1\r\nx\r\nget b\r\n"),
        ["STORED", "END"]
    );
    let stats = wire.stats("");
    for name in [
        "pid",
        "uptime",
        "time",
        "version",
        "curr_connections",
        "max_connections",
        "curr_items",
        "total_items",
        "cmd_get",
        "cmd_set",
        "cmd_flush",
        "get_hits",
        "get_misses",
        "evictions",
        "slabs_moved",
        "bytes",
        "limit_maxbytes",
        "threads",
    ] {
        assert!(stats.contains_key(name), "{name}");
    }
    assert!(stats["version"].starts_with("1.6."), "{}", stats["version"]);
    assert_eq!([&*stats["cmd_set"], &*stats["get_misses"]], ["1", "1"]);
    let settings = wire.stats(" settings");
    for (name, value) in [
        ("maxbytes", "67108864"),
        ("maxconns", "1024"),
        ("evictions", "on"),
        ("cas_enabled", "yes"),
        ("flush_enabled", "yes"),
        ("item_size_max", "1048576"),
        ("temp_lru", "yes"),
        ("temporary_ttl", "61"),
        ("idle_timeout", "0"),
        ("auth_enabled_ascii", "no"),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    assert_eq!(wire.stats(" items")["items:1:number_temp"], "1");
    assert_eq!(wire.ask("stats reset\r\n"), ["RESET"]);
    assert_eq!(wire.stats("")["cmd_set"], "0");
}

#[test]
fn dump_of_cold_items_is_answered() {
    let server = start(Server::builder().manual_clock());
    let mut wire = Wire::to(&server);
    let now: u64 = wire.stats("")["time"].parse().expect("a number");
    let asked = "set a 0 100 3\r\nabc\r\nset b 0 0 0\r\n\r\nms Yw== 0 b\r\n\r\n\
        stats cachedump 1 1\r\nstats c 63 0 more\r\n";
    assert_eq!(wire.ask(asked), ["STORED", "STORED", "HD", "END", "END"]);
    server.advance_clock(Duration::from_secs(1));
    let (a, b) = (
        format!("ITEM a [3 b; {} s]", now + 100),
        "ITEM b [0 b; 0 s]",
    );
    // Younger ones first.
    let [first, end] = wire.ask("stats cachedump 1 1\r\n");
    assert_eq!((&*first, &*end), (b, "END"));
    let [first, second, end] = wire.ask("stats cachedump 1 0\r\n");
    assert_eq!((&*first, second, &*end), (b, a, "END"));
    for (words, answer) in [
        ("", "CLIENT_ERROR bad command line"),
        (" 1", "CLIENT_ERROR bad command line"),
        (" 64 0", "CLIENT_ERROR Illegal slab id"),
        (" 4294967295 0", "CLIENT_ERROR Illegal slab id"),
        (" 4294967296 0", "CLIENT_ERROR bad command line format"),
        (" +1 0", "CLIENT_ERROR bad command line format"),
        (" 1 -1", "CLIENT_ERROR bad command line format"),
        ("s 1 0", "ERROR"),
    ] {
        let answered = wire.ask(&format!("stats cachedump{words}\r\n"));
        assert_eq!(answered, [answer], "{words}");
    }
    let server = start(Server::builder().dump_enabled(false));
    let refused = ["CLIENT_ERROR stats cachedump not allowed"];
    assert_eq!(Wire::to(&server).ask("stats cachedump\r\n"), refused);
}

#[test]
fn idle_connections_end_and_watchers_stay() {
    let server = start(Server::builder().idle_timeout(Duration::from_secs(1)));
    let mut watcher = Wire::to(&server);
    assert_eq!(watcher.ask("watch deletions\r\n"), ["OK"]);
    let mut idle = Wire::to(&server);
    assert_eq!(idle.ask("mn\r\n"), ["MN"]);
    assert_eq!(idle.line(), None);
    let mut other = Wire::to(&server);
    assert_eq!(other.stats("")["idle_kicks"], "1");
    assert_eq!(other.stats(" settings")["idle_timeout"], "1");
    other.send("set a 0 0 0\r\n\r\ndelete a\r\n");
    assert!(watcher.line().is_some_and(|line| line.contains("key=a")));
}

#[test]
fn base64_keys_ignore_strange_bytes() {
    let server = start(Server::builder());
    let asked = "set foo 0 0 1\r\nx\r\nmg Zm9v!! b v\r\nmg Zm9v! b k\r\n";
    let answers = Wire::to(&server).ask(asked);
    assert_eq!(answers, ["STORED", "VA 1", "x", "HD kfoo"]);
}

#[test]
fn detail_counts_by_prefix() {
    let server = start(Server::builder());
    let mut wire = Wire::to(&server);
    let [.., off, dump] = wire.ask::<7>(
        "set a:0 0 0 0\r\n\r\nstats detail on\r\nset a:1 0 0 0\r\n\r\nget a:2\r\n\
         delete a:1\r\nstats detail of\r\nstats detail dump\r\n",
    );
    assert_eq!((&*off, &*dump), ("OK", "PREFIX a get 1 hit 0 set 1 del 1"));
    assert_eq!(
        wire.ask("stats reset\r\nstats detail dump\r\n"),
        ["END", "RESET", "END"]
    );
    let usage = ["CLIENT_ERROR usage: stats detail on|off|dump"];
    assert_eq!(wire.ask("stats detail\r\n"), usage);
    let server = start(Server::builder().dump_enabled(false));
    let refused = ["CLIENT_ERROR stats detail not allowed"];
    assert_eq!(Wire::to(&server).ask("stats detail on\r\n"), refused);
}

#[test]
fn flushed_items_count_when_found() {
    let server = start(Server::builder().manual_clock());
    let mut wire = Wire::to(&server);
    let [_, _, _] = wire.ask("set a 0 0 0\r\n\r\nset b 0 0 0\r\n\r\nflush_all\r\n");
    // Those of the same second were found by the flush itself.
    assert_eq!(wire.stats("")["get_flushed"], "0");
    assert_eq!(
        wire.ask("set a 0 0 0\r\n\r\nset b 0 0 0\r\n\r\n"),
        ["STORED", "STORED"]
    );
    server.advance_clock(Duration::from_secs(5));
    let gone = wire.ask("flush_all\r\nget a\r\nmg b\r\nmg b\r\n");
    assert_eq!(gone, ["OK", "END", "EN", "EN"]);
    assert_eq!(wire.stats("")["get_flushed"], "2");
}

#[test]
fn locked_sentinel_survives_flush_with_age() {
    let server = start(Server::builder().manual_clock());
    let mut wire = Wire::to(&server);
    assert_eq!(
        wire.ask("set s 0 0 0\r\n\r\nset lock 0 0 0\r\n\r\n"),
        ["STORED", "STORED"]
    );
    server.advance_clock(Duration::from_secs(30));
    // The third read sets the time: the maintainer has moved the item by then.
    assert_eq!(wire.ask("mg s\r\nmg s\r\n"), ["HD", "HD"]);
    server.advance_clock(Duration::from_secs(1));
    assert_eq!(wire.ask("mg s\r\n"), ["HD"]);
    server.flush_all_while_locked(&["s", "lock"]);
    assert_eq!(wire.ask("mg s u l\r\nmg lock u\r\n"), ["HD l0", "EN"]);
}

#[test]
fn concurrent_clients_count_and_exclude() {
    let server = start(Server::builder());
    Wire::to(&server).ask::<1>("set n 0 0 20\r\n00000000000000000000\r\n");
    let winners = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut wire = Wire::to(&server);
                for round in 0..200 {
                    let [_, won] = wire.ask(&format!("ma n\r\nadd lock{round} 0 0 1\r\nx\r\n"));
                    if won == "STORED" {
                        winners.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(winners.into_inner(), 200);
    let counted = server.item("n").expect("the counter");
    assert_eq!(counted.trim_ascii(), b"1600");
}
