//! The embedded server, held to the transcripts of the newest real one.

use crate::corpus::cases::{Case, NEWEST, cases};
use core::fmt::Write as _;
use core::time::Duration;
use memlatch::server::{Server, ServerBuilder};
use memlatch::wire::{Limits, UriKey, WatchDecoder, WatchLine};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// Cases that the embedded server does not play, by the start of their names.
const NOT_PLAYED: &[(&str, &str)] = &[
    (
        "binary-magic",
        "no binary protocol: the connection is closed",
    ),
    (
        "watch-lines-",
        "what was asked for meanwhile is not in the transcript: see the last two tests here",
    ),
];

/// What the column says when a `mn` was not answered.
const SILENCE: &[u8] = b"(no answer)";

/// The settings that a row's command line stands for.
fn builder(args: &str) -> ServerBuilder {
    let mut builder = Server::builder();
    let mut words = args.split(' ').filter(|word| !word.is_empty());
    while let Some(option) = words.next() {
        let mut argument = || words.next().expect("an argument");
        builder = match option {
            "-m" => {
                let megabytes: usize = argument().parse().expect("a number");
                builder.memory_limit(megabytes * 1024 * 1024)
            }
            "-I" => {
                assert_eq!(argument(), "4k");
                builder.max_item_size(4096)
            }
            "-Y" => {
                argument();
                builder.auth([("user", "pass"), ("foo", "b:ar")])
            }
            "-o" => {
                // How large items are cut up, which follows from `-I` here.
                assert!(argument().starts_with("slab_chunk_max"));
                builder
            }
            "-M" => builder.evictions(false),
            "-C" => builder.cas(false),
            "-A" => builder.shutdown_command(true),
            other => panic!("the corpus has a server with {other}"),
        };
    }
    builder
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.socket_addr().expect("a port")).expect("a server");
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).expect("a time limit");
    stream
}

/// Reads until `enough` says so; whether the other side ended the connection before.
fn read_until(stream: &mut TcpStream, bytes: &mut Vec<u8>, enough: impl Fn(&[u8]) -> bool) -> bool {
    let mut chunk = [0; 4096];
    while !enough(bytes) {
        match stream.read(&mut chunk) {
            Ok(0) => return true,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return true,
            Err(error) => panic!("{error} after {}", bytes.escape_ascii()),
        }
    }
    false
}

/// What has to be stored before, which the corpus does not always spell out.
fn setup(case: &Case) -> Vec<u8> {
    if case.name.starts_with("oom-") {
        // Four items that are held, then more of their class than one page has chunks (10,922).
        let mut bytes = Vec::new();
        for number in 1..=4 {
            let value = "h".repeat(20);
            let _ = write!(bytes, "set held{number} 0 0 20\r\n{value}\r\n");
        }
        for (count, length) in [(2200, 1000), (11_000, 1)] {
            let value = "x".repeat(length);
            for number in 0..count {
                let _ = write!(
                    bytes,
                    "set f{number}l{length} 0 0 {length} noreply\r\n{value}\r\n"
                );
            }
        }
        return bytes;
    }
    if case.name == "get-key250" {
        let key = &case.request[4..254];
        return [b"set ", key, b" 0 0 3\r\nabc\r\n"].concat();
    }
    assert!(!case.setup.ends_with(b"B)"), "{} is cut short", case.name);
    case.setup.clone()
}

/// What the embedded server answers to a row, the answer to the following `mn` included, and
/// whether it ended the connection.
fn play(server: &Server, case: &Case) -> (Vec<u8>, bool) {
    server.flush_all();
    let mut setup = setup(case);
    if !setup.is_empty() {
        let mut other = connect(server);
        setup.extend_from_slice(b"mn\r\n");
        other.write_all(&setup).expect("a server that reads");
        let done = |bytes: &[u8]| bytes.ends_with(b"MN\r\n");
        read_until(&mut other, &mut Vec::new(), done);
    }
    let mut stream = connect(server);
    // A server that shows a client out may do so while it still writes.
    let _ = stream.write_all(&case.request);
    let mut answer = Vec::new();
    let expected = case.response.len();
    if case.after != "open" {
        let ended = read_until(&mut stream, &mut answer, |_| false);
        return (answer, ended);
    }
    if case.name.starts_with("watch-") {
        return watch(stream, case);
    }
    // Numbers may be shorter than those of the recording; a line end is always the last.
    let stats = case.response.starts_with(b"STAT ");
    let lines = case.response.iter().filter(|byte| **byte == b'\n').count();
    let enough = |bytes: &[u8]| {
        if stats {
            return bytes.ends_with(b"END\r\n");
        }
        let seen = bytes.iter().filter(|byte| **byte == b'\n').count();
        seen >= lines && (bytes.len() >= expected || bytes.ends_with(b"\n"))
    };
    if read_until(&mut stream, &mut answer, enough) {
        return (answer, true);
    }
    let before = answer.len();
    let _ = stream.write_all(b"mn\r\n");
    let answered = |bytes: &[u8]| bytes.len() > before && bytes.ends_with(b"MN\r\n");
    let ended = read_until(&mut stream, &mut answer, answered);
    (answer, ended)
}

/// What is answered on a connection that becomes a log, which it is when nothing answers a `mn`.
fn watch(mut stream: TcpStream, case: &Case) -> (Vec<u8>, bool) {
    let mut answer = Vec::new();
    // Behind another request the answer was not there yet when the recording looked.
    let all = case.response.len()
        + match &case.answer_to_mn[..] {
            SILENCE => 0,
            late => late.len(),
        };
    if read_until(&mut stream, &mut answer, |bytes| bytes.len() >= all) {
        return (answer, true);
    }
    let _ = stream.write_all(b"mn\r\n");
    let limit = Some(Duration::from_millis(50));
    stream.set_read_timeout(limit).expect("a time limit");
    let mut chunk = [0; 64];
    if let Ok(length) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..length]);
    }
    (answer, false)
}

/// Takes out what differs from run to run.
fn normalised(case: &Case, bytes: &[u8]) -> String {
    let mut lines: Vec<String> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let (line, end) = match line {
                [line @ .., b'\r', b'\n'] => (line, "\\r\\n"),
                [line @ .., b'\n'] => (line, "\\n"),
                line => (line, ""),
            };
            let line = line.escape_ascii().to_string();
            let words: Vec<String> = line
                .split(' ')
                .enumerate()
                .map(|(place, word)| normalised_word(&line, place, word))
                .collect();
            words.join(" ") + end
        })
        .collect();
    // In the hash table there is no order.
    if case.name.ends_with("dump-hash") {
        lines.sort();
    }
    lines.join("\n")
}

fn normalised_word(line: &str, place: usize, word: &str) -> String {
    let number = |digits: &str| digits.parse::<u64>().ok();
    // Explicit CAS uniques have the top bit set and are part of the request; 0 means failure.
    let natural = |cas: u64| (1..1 << 32).contains(&cas) && cas != 777;
    if line.starts_with("VALUE ") && place == 4 {
        return "CAS".to_string();
    }
    if let Some(cas) = word.strip_prefix("cas=").and_then(number) {
        return if cas == 0 {
            word.to_string()
        } else {
            "cas=CAS".to_string()
        };
    }
    if let Some(cas) = word.strip_prefix('c').and_then(number) {
        return if natural(cas) {
            "cCAS".to_string()
        } else {
            word.to_string()
        };
    }
    for (name, shown) in [("exp=", "exp=TIME"), ("la=", "la=TIME")] {
        let time = word.strip_prefix(name).and_then(number);
        if time.is_some_and(|time| time > 1_000_000_000) {
            return shown.to_string();
        }
    }
    match word.strip_prefix('t').and_then(number) {
        // Counted from the second in which the server was started, or to a year far off.
        Some(ttl) if ttl > u64::from(u32::MAX / 2) => "tPAST".to_string(),
        Some(ttl) if ttl > 100_000_000 => "tFAR".to_string(),
        _ => word.to_string(),
    }
}

/// The names in an answer to `stats`, with their values where `values` asks for them.
fn stat_lines(bytes: &[u8], values: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .filter_map(|line| line.strip_prefix("STAT "))
        .map(|line| {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            // `stats conns` starts names with the number of a descriptor.
            let name = name.trim_start_matches(|letter: char| letter.is_ascii_digit());
            match name {
                "tcpport" | "oldest" | "temporary_ttl" => name.to_string(),
                _ if values => format!("{name} {value}"),
                _ => name.to_string(),
            }
        })
        .collect()
}

/// Why the answer is not the real server's, if it is not.
fn difference(case: &Case, answer: &[u8], ended: bool) -> Option<String> {
    if case.response.starts_with(b"STAT ") && case.name != "stats-sizes" {
        // The embedded server has fewer, and one of its own; the others mean the same.
        let values = case.name == "stats-settings";
        let real = stat_lines(&case.response, values);
        let ours = stat_lines(answer, values);
        let invented: Vec<_> = ours
            .iter()
            .filter(|line| !real.contains(line) && *line != "memlatch_version")
            .collect();
        return (!invented.is_empty() || ours.is_empty()).then(|| format!("{invented:?}"));
    }
    let mut expected = case.response.clone();
    let ends = case.after != "open" || case.answer_to_mn == b"eof";
    if !ends && case.answer_to_mn != SILENCE {
        expected.extend_from_slice(&case.answer_to_mn);
    }
    let (expected, found) = (normalised(case, &expected), normalised(case, answer));
    if found == expected && ended == ends {
        return None;
    }
    Some(format!(
        "expected {expected:?} found {found:?} ended {ended}"
    ))
}

#[test]
fn embedded_server_answers_like_newest_memcached() {
    let mut wrong = String::new();
    let mut played = 0;
    let mut running: Option<(String, Server)> = None;
    for case in cases(NEWEST) {
        let excepted = |(start, _): &(&str, &str)| case.name.starts_with(start);
        if NOT_PLAYED.iter().any(excepted) {
            continue;
        }
        played += 1;
        let server = match running.take() {
            Some((args, server)) if args == case.args && !case.name.starts_with("oom-") => server,
            _ => builder(&case.args).start().expect("a server"),
        };
        // A second that ends in the middle of a row changes what is left of an expiry.
        let outcome = (0..3)
            .map(|_| {
                let (answer, ended) = play(&server, &case);
                difference(&case, &answer, ended)
            })
            .take_while(Option::is_some)
            .collect::<Vec<_>>();
        if let [.., Some(last)] = &outcome[..] {
            if outcome.len() == 3 {
                let _ = writeln!(wrong, "{}: {last}", case.name);
            }
        }
        running = Some((case.args, server));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(played >= 237, "{played}");
}

#[test]
fn every_exception_is_still_needed() {
    let cases = cases(NEWEST);
    for (start, _) in NOT_PLAYED {
        assert!(
            cases.iter().any(|case| case.name.starts_with(start)),
            "{start}"
        );
    }
}

/// What one connection asks for while others watch.
const WATCHED: &[u8] = b"set a 0 30 3\r\nabc\r\nadd a 0 0 1\r\nx\r\ncas a 0 0 1 99\r\nx\r\n\
cas zz 0 0 1 99\r\nx\r\nreplace zz 0 0 1\r\nx\r\nappend a 0 0 1\r\nx\r\nprepend a 0 0 1\r\nx\r\n\
ms a 2 T10\r\nab\r\nms b 2 ME\r\nab\r\nms b 2 MA\r\nab\r\nmd a x\r\nmd a C1\r\nmd a I\r\n\
md a q\r\ndelete b\r\nmg vv N30 v\r\nma nn N30 J5\r\nma nn N30\r\nset AA%20\x01\xc3 0 -1 1\r\nx\r\n\
ms Zm9v 3 b\r\nabc\r\nmd Zm9v b\r\ntouch a 3\r\ncas a 0 -1 0 0\r\n\r\nmd vv I\r\nmg vv v\r\n\
incr nn 1\r\nset rr 0 0 2\r\n99\r\nincr rr 9\r\nma rr MD D1 v\r\nflush_all\r\nmn\r\n";

/// The log of memcached 1.6.45, without times, numbers and descriptors, and with the two
/// lifetimes that lie in the past cut short.
const DELETIONS: &str = "\
type=deleted key=a cmd=md clsid=1 size=0
type=deleted key=a cmd=md clsid=1 size=0
type=deleted key=b cmd=delete clsid=1 size=4
type=deleted key=foo cmd=md clsid=1 size=3
";
const MUTATIONS: &str = "\
type=item_store key=a status=stored cmd=set ttl=30 clsid=1 size=3
type=item_store key=a status=not_stored cmd=add ttl=0 clsid=1 size=1
type=item_store key=a status=exists cmd=cas ttl=0 clsid=1 size=1
type=item_store key=zz status=not_found cmd=cas ttl=0 clsid=1 size=1
type=item_store key=zz status=not_stored cmd=replace ttl=0 clsid=1 size=1
type=item_store key=a status=stored cmd=append ttl=30 clsid=1 size=4
type=item_store key=a status=stored cmd=prepend ttl=30 clsid=1 size=5
type=item_store key=a status=stored cmd=set ttl=10 clsid=1 size=2
type=item_store key=b status=stored cmd=add ttl=0 clsid=1 size=2
type=item_store key=b status=stored cmd=append ttl=0 clsid=1 size=4
type=item_store key=a status=stored cmd=set ttl=0 clsid=1 size=0
type=item_store key=nn status=stored cmd=add ttl=0 clsid=1 size=1
type=item_store key=AA%2520%01%C3 status=stored cmd=set ttl=PAST clsid=1 size=1
type=item_store key=foo status=stored cmd=set ttl=0 clsid=1 size=3
type=item_store key=a status=not_found cmd=cas ttl=PAST clsid=1 size=0
type=item_store key=rr status=stored cmd=set ttl=0 clsid=1 size=2
";

/// The lines of a log, without what differs from run to run. The last is that of the key `end`.
fn log(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let done = |bytes: &[u8]| bytes.ends_with(b"\n") && memmem(bytes, b" key=end ");
    assert!(!read_until(&mut stream, &mut bytes, done));
    let mut text = String::new();
    let mut decoder = WatchDecoder::new(Limits::SERVER);
    let mut rest = &bytes[..];
    let mut last = 0;
    while let Some((line, length)) = decoder.decode(rest).expect("a log") {
        rest = &rest[length..];
        let WatchLine::Event(event) = line else {
            assert_eq!(line, WatchLine::Started);
            continue;
        };
        assert!(event.gid > last, "they are numbered");
        last = event.gid;
        if event.key() == Some(UriKey::from_raw(b"end")) {
            break;
        }
        let fields = event.fields.escape_ascii().to_string();
        let words = fields.split(' ').filter(|word| !word.starts_with("cfd="));
        let words: Vec<&str> = words
            .map(|word| match word.strip_prefix("ttl=").map(str::len) {
                Some(10) => "ttl=PAST",
                _ => word,
            })
            .collect();
        let _ = writeln!(
            text,
            "type={} {}",
            event.kind.escape_ascii(),
            words.join(" ")
        );
    }
    text
}

fn memmem(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn watcher(server: &Server, streams: &str) -> TcpStream {
    let mut stream = connect(server);
    let request = format!("watch {streams}\r\n");
    stream.write_all(request.as_bytes()).expect("a server");
    let mut ok = [0; 4];
    stream.read_exact(&mut ok).expect("an answer");
    assert_eq!(&ok, b"OK\r\n");
    stream
}

#[test]
fn watchers_get_memcacheds_lines() {
    let server = Server::start().expect("a server");
    let [deletions, mutations, both] =
        ["deletions", "mutations", "mutations deletions"].map(|name| watcher(&server, name));
    let mut stream = connect(&server);
    let requests = [WATCHED, b"set end 0 0 0\r\n\r\ndelete end\r\nmn\r\n"].concat();
    stream.write_all(&requests).expect("a server");
    assert_eq!(log(deletions), DELETIONS);
    assert_eq!(log(mutations), MUTATIONS);
    let lines = DELETIONS.lines().count() + MUTATIONS.lines().count();
    assert_eq!(log(both).lines().count(), lines);
}

#[test]
fn watchers_learn_of_evictions() {
    let server = Server::builder()
        .memory_limit(340)
        .start()
        .expect("a server");
    let evictions = watcher(&server, "evictions");
    let mut stream = connect(&server);
    stream
        .write_all(
            b"set a 0 30 3\r\nabc\r\nset b 0 0 1\r\nx\r\nget a\r\nget b\r\nset big 0 0 150\r\n",
        )
        .expect("a server");
    stream.write_all(&[b'x'; 150]).expect("a server");
    stream
        .write_all(b"\r\nset end 0 0 0\r\n\r\nmn\r\n")
        .expect("a server");
    let done = |bytes: &[u8]| bytes.ends_with(b"MN\r\n");
    assert!(!read_until(&mut stream, &mut Vec::new(), done));
    assert!(server.evict("end"));
    assert_eq!(
        log(evictions),
        "type=eviction key=a fetch=yes ttl=30 la=0 clsid=1 size=3\n"
    );
}
