//! The embedded server beside a real memcached 1.6.45, under random sequences.
//!
//! Each lane has a server of each kind and asks both for the same: stores, reads that bump and
//! reads that do not, counters, deletes, marks, flushes (at once, delayed, to a second in the past),
//! and more than there is room for. The answers have to be the same to the byte, CAS uniques and the
//! time since the last access included. So have the queues: their lengths, the moves between them,
//! and the order of the cold items.
//!
//! Both count whole seconds, so they must agree on which second it is. The embedded server's clock
//! is moved by hand to the second that the real one states in the same flight as its answers. A
//! flight during which the real server's second changes, or its maintainer thread wakes up, proves
//! nothing: its lane is given up, counted, and replaced by another. Nothing rests on a sleep.
//!
//! | variable | meaning |
//! |---|---|
//! | `MEMLATCH_DIFFERENTIAL_SECONDS` | how long flights are compared (15) |
//! | `MEMLATCH_DIFFERENTIAL_FIRST` | the seed of the first lane; the others count on from it (the clock) |
//! | `MEMLATCH_DIFFERENTIAL_SEED` | only this lane, with all that is asked on stderr |
#![cfg(all(feature = "server", unix))]

use crate::support::{memcached, rng};
use core::fmt::Write as _;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use memcached::{Binary, RealServer};
use memlatch::server::Server;
use rng::Rng;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

/// The version whose behaviour the embedded server has.
const VERSION: &str = "1.6.45";

const LANES: u64 = 12;
const FLIGHTS: u32 = 16;

/// At least so many flights have to be compared.
const ENOUGH: u64 = 60;

/// Longest time until there are enough.
const PATIENCE: Duration = Duration::from_secs(180);

/// Longest time for which the queues of both may differ. The maintainer thread sleeps for up to a
/// second.
const SETTLING: Duration = Duration::from_secs(6);

/// One worker and no background work but the maintainer's; a flight is carried out in one go.
const ARGS: [&str; 8] = [
    "-m",
    "2",
    "-t",
    "1",
    "-R",
    "1000",
    "-o",
    "no_lru_crawler,slab_automove=0",
];

/// Classes of the items here: small, a little larger, and some of which few fit into a page.
const CLASSES: [u8; 4] = [1, 2, 5, 28];
const VALUES: [usize; 4] = [3, 45, 160, 51_000];

struct Wire(TcpStream);

impl Wire {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("a time limit");
        stream.set_nodelay(true).expect("a connection");
        Self(stream)
    }

    /// Sends groups of requests in one go and returns the answers to each.
    fn ask<const GROUPS: usize>(&mut self, groups: [&str; GROUPS]) -> [String; GROUPS] {
        self.try_ask(groups).unwrap_or_else(|error| {
            let asked = groups.join("");
            let asked: String = asked.chars().take(3000).collect();
            panic!("{error} from {:?} after {asked}", self.0.peer_addr())
        })
    }

    fn try_ask<const GROUPS: usize>(
        &mut self,
        groups: [&str; GROUPS],
    ) -> std::io::Result<[String; GROUPS]> {
        let mut bytes = String::new();
        for group in groups {
            bytes.push_str(group);
            bytes.push_str("mn\r\n");
        }
        // Beside it, so that neither side waits for the other to read.
        let mut writer = self.0.try_clone()?;
        let mut answer = Vec::new();
        thread::scope(|scope| -> std::io::Result<()> {
            let writer = scope.spawn(move || writer.write_all(bytes.as_bytes()));
            let mut chunk = [0; 64 * 1024];
            while answer
                .windows(6)
                .filter(|end| *end == b"\r\nMN\r\n")
                .count()
                + usize::from(answer.starts_with(b"MN\r\n"))
                < GROUPS
            {
                let length = self.0.read(&mut chunk)?;
                if length == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                answer.extend_from_slice(&chunk[..length]);
            }
            writer.join().expect("no panic")
        })?;
        let text = String::from_utf8(answer).expect("plain answers");
        let mut parts = text.split("MN\r\n");
        Ok(core::array::from_fn(|_| {
            parts.next().expect("a part").to_owned()
        }))
    }
}

fn number(stats: &str, name: &str) -> u64 {
    let mut lines = stats.lines();
    lines
        .find_map(|line| {
            line.strip_prefix("STAT ")?
                .strip_prefix(name)?
                .strip_prefix(' ')
        })
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name} in {stats}"))
}

/// The counters of the queues of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Queues {
    counts: BTreeMap<String, String>,
    cold: String,
}

/// Asks for the second and for the queues.
fn look() -> String {
    let mut bytes = "stats\r\nstats items\r\n".to_owned();
    for class in CLASSES {
        let _ = write!(bytes, "stats cachedump {class} 0\r\n");
    }
    bytes
}

impl Queues {
    fn read(answer: &str) -> Self {
        // Not `reclaimed`: a dead item may be found by a read as well as by the maintainer.
        const COUNTS: [&str; 11] = [
            "number_hot",
            "number_warm",
            "number_cold",
            "mem_requested",
            "evicted",
            "evicted_nonzero",
            "evicted_unfetched",
            "outofmemory",
            "moves_to_cold",
            "moves_to_warm",
            "moves_within_lru",
        ];
        let counts = answer.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("STAT items:")?.split_once(' ')?;
            let (_, kind) = name.split_once(':')?;
            let is_counted = COUNTS.contains(&kind);
            is_counted.then(|| (name.to_owned(), value.to_owned()))
        });
        let cold = answer.lines().filter_map(|line| {
            // Without the expiry, which is on the clock of each.
            let key = line.strip_prefix("ITEM ")?.split(';').next()?;
            Some(format!("{key}\n"))
        });
        Self {
            counts: counts.collect(),
            cold: cold.collect(),
        }
    }
}

impl Queues {
    /// True if the maintainer has put items into a warm queue from a cold one and from elsewhere
    /// since `before`. The real one wakes up for either in an order that its pauses decide, and the
    /// order in the queue depends on it.
    fn is_unordered_since(&self, before: &Self) -> bool {
        let count = |queues: &Self, class: u8, kind: &str| -> i64 {
            let value = queues.counts.get(&format!("{class}:{kind}"));
            value.map_or(0, |value| value.parse().expect("a number"))
        };
        CLASSES.into_iter().any(|class| {
            let more = |kind| count(self, class, kind) - count(before, class, kind);
            let from_cold = more("moves_to_cold") - more("number_cold");
            let from_elsewhere = more("moves_to_warm") - from_cold + more("moves_within_lru");
            from_cold > 0 && from_elsewhere > 0
        })
    }
}

/// The reason why a lane is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    /// The real server's second changed in a flight, or it is not known in which one the
    /// maintainer woke up.
    Second,
    /// The maintainer woke up in a flight, or it is not known in which order it moved items.
    Maintainer,
    /// The queues did not become the same.
    Queues,
}

struct Lane {
    seed: u64,
    dice: Rng,
    _server: RealServer,
    real: Wire,
    own_server: Server,
    own: Wire,
    /// The uptime that both servers agree on.
    second: u64,
    /// The requests so far.
    history: String,
    shows: bool,
}

impl Lane {
    fn new(binary: &Binary, seed: u64, shows: bool) -> Self {
        let server = binary.start(&ARGS);
        let builder = Server::builder().memory_limit(2 << 20);
        let own_server = builder.uptime(Duration::ZERO).manual_clock().start();
        let own_server = own_server.expect("a free port");
        Self {
            seed,
            dice: Rng::new(seed, 0),
            real: Wire::to(server.address()),
            own: Wire::to(own_server.socket_addr().expect("a port")),
            _server: server,
            own_server,
            second: 2,
            history: String::new(),
            shows,
        }
    }

    /// Moves the embedded server's clock.
    fn advance_to(&mut self, second: u64) {
        self.own_server
            .advance_clock(Duration::from_secs(second - self.second));
        self.second = second;
    }

    fn note(&mut self, text: &str) {
        if self.shows {
            memcached_note(text);
        }
        self.history.push_str(text);
    }

    fn own_queues(&mut self) -> Queues {
        let [answer] = self.own.ask([&look()]);
        Queues::read(&answer)
    }

    fn real_queues(&mut self) -> (u64, Queues) {
        let [answer] = self.real.ask([&look()]);
        (number(&answer, "uptime"), Queues::read(&answer))
    }

    /// Waits until the real server's maintainer has done what the embedded server's does, and has
    /// the latter do it in the same second. `after` is the least second to return in.
    fn settle(&mut self, after: u64) -> Result<(), GivenUp> {
        let limit = Instant::now() + SETTLING.max(Duration::from_secs(after));
        let mut before = self.own_queues();
        let mut last = self.second;
        // Whether it is not known in which second the real server's maintainer woke up.
        let mut is_unsure = false;
        let mut is_unordered = false;
        loop {
            let (second, real) = self.real_queues();
            if second > self.second {
                is_unsure |= real != before && last != second || second > last + 1;
                self.advance_to(second);
                before = self.own_queues();
            } else if real != before {
                self.own_server.run_lru_maintainer();
                let after = self.own_queues();
                is_unordered |= after.is_unordered_since(&before);
                // An item that the real maintainer bumps where it is shows in no count.
                is_unsure = true;
                before = after;
            }
            last = second;
            if real == before && second >= after {
                return if is_unordered {
                    Err(GivenUp::Maintainer)
                } else if is_unsure {
                    self.compare_times()
                } else {
                    Ok(())
                };
            }
            if Instant::now() > limit {
                let seed = self.seed;
                self.note(&format!(
                    "seed {seed}: queues differ in second {second}\n{before:?}\n{real:?}\n"
                ));
                return Err(GivenUp::Queues);
            }
            thread::sleep(Duration::from_millis(15));
        }
    }

    /// Compares the times of all items. Dead items are found by it.
    fn compare_times(&mut self) -> Result<(), GivenUp> {
        let mut bytes = String::new();
        for size in 0..4 {
            for number in 0..60 {
                let _ = write!(bytes, "mg k{size}{number} u l\r\n");
            }
            let _ = write!(bytes, "mg n{size} u l\r\n");
        }
        let [begin, real, end] = self.real.ask(["stats\r\n", &bytes, "stats\r\n"]);
        let [own] = self.own.ask([&bytes]);
        let second = number(&begin, "uptime");
        let is_same = second == self.second && second == number(&end, "uptime") && real == own;
        if is_same {
            Ok(())
        } else {
            Err(GivenUp::Second)
        }
    }

    /// One flight to both servers.
    fn fly(&mut self, flight: u32) -> Result<(), GivenUp> {
        let requests = requests(&mut self.dice, flight);
        let render = |time: u64| -> String {
            let rendered = requests.iter().map(|request| request.render(time));
            rendered.collect()
        };
        let [now] = self.real.ask(["stats\r\n"]);
        let bytes = render(number(&now, "time"));
        let [begin, real, end] = self.real.ask([&look(), &bytes, "stats\r\n"]);
        let same = |name: &str| number(&begin, name) == number(&end, name);
        if !same("uptime") || number(&now, "uptime") != number(&begin, "uptime") {
            return Err(GivenUp::Second);
        }
        if !same("lru_maintainer_juggles") {
            return Err(GivenUp::Maintainer);
        }
        let settled = self.second;
        self.advance_to(number(&begin, "uptime"));
        let [own] = self.own.ask(["stats\r\n"]);
        let bytes = render(number(&own, "time"));
        let [own_begin, own] = self.own.ask([&look(), &bytes]);
        if Queues::read(&begin) != Queues::read(&own_begin) {
            let is_new_second = self.second != settled;
            return Err(if is_new_second {
                GivenUp::Second
            } else {
                GivenUp::Queues
            });
        }
        let shown: String = requests.iter().map(Request::show).collect();
        let second = self.second;
        self.note(&format!("second {second}:\n{shown}"));
        if self.shows {
            self.note(&format!("answers:\n{real}"));
        }
        assert!(
            real == own,
            "seed {}: memcached answers\n{}\nand the embedded server\n{}\nafter\n{}",
            self.seed,
            marked(&real, &own),
            marked(&own, &real),
            self.history
        );
        Ok(())
    }

    /// Returns the number of flights that were compared until there were enough, and why it ended.
    fn run(&mut self, is_enough: impl Fn() -> bool) -> (u64, Option<GivenUp>) {
        for flight in 0..FLIGHTS {
            if is_enough() {
                return (flight.into(), None);
            }
            let wait = match self.dice.below(6) {
                0 => 2 + self.dice.below(3),
                1..4 => 1,
                _ => 0,
            };
            let outcome = self
                .settle(self.second + wait)
                .and_then(|()| self.fly(flight));
            if let Err(why) = outcome {
                return (flight.into(), Some(why));
            }
        }
        (FLIGHTS.into(), None)
    }
}

/// With the lines marked that the other does not have at that place.
fn marked(answer: &str, other: &str) -> String {
    let mut text = String::new();
    let mut others = other.lines();
    for line in answer.lines() {
        let sign = if others.next() == Some(line) {
            ' '
        } else {
            '>'
        };
        let line = line.get(..100).unwrap_or(line);
        let _ = writeln!(text, "{sign} {line}");
    }
    text
}

#[allow(clippy::print_stderr, reason = "a test has no other way to tell")]
fn memcached_note(text: &str) {
    eprint!("{text}");
}

/// A request. `absolute` stands where `TIME` is in the text, in seconds from now.
struct Request {
    text: String,
    absolute: i64,
}

impl Request {
    fn render(&self, time: u64) -> String {
        let absolute = i64::try_from(time).expect("small") + self.absolute;
        self.text.replace("TIME", &absolute.to_string())
    }

    /// Without long values.
    fn show(&self) -> String {
        let text = self
            .text
            .replace("TIME", &format!("now{:+}", self.absolute));
        let mut shown = String::new();
        for line in text.lines() {
            let _ = writeln!(shown, "    {}", line.get(..60).unwrap_or(line));
        }
        shown
    }
}

/// Keys of one size of items each.
fn key(dice: &mut Rng) -> (String, usize) {
    let size = match dice.below(20) {
        0..12 => 0,
        12..16 => 1,
        16..19 => 2,
        _ => 3,
    };
    (
        format!("k{size}{}", dice.below(if size == 0 { 8 } else { 4 })),
        size,
    )
}

fn exptime(dice: &mut Rng) -> String {
    match dice.below(8) {
        0 => "TIME".to_owned(),
        1 => "-1".to_owned(),
        2 => "2592001".to_owned(),
        3 | 4 => dice.below(6).to_string(),
        _ => "0".to_owned(),
    }
}

/// The requests of one flight to both servers.
fn requests(dice: &mut Rng, flight: u32) -> Vec<Request> {
    // First something to have, and from then on mostly reads: what has been flushed or is about to
    // expire never becomes warm.
    if flight == 0 || dice.chance(75) {
        quiet(dice, flight == 0)
    } else {
        wild(dice)
    }
}

/// Keeps items alive: they are read often, some change, and now and then there is a flush.
fn quiet(dice: &mut Rng, is_first: bool) -> Vec<Request> {
    let mut texts = Vec::new();
    for number in 0..8 {
        for (size, length) in [(0, 3), (1, 45)] {
            let stored = is_first && number < 4 << (1 - size) || !is_first && dice.chance(10);
            if stored {
                let value = "v".repeat(length);
                texts.push(format!("set k{size}{number} 0 0 {length}\r\n{value}\r\n"));
            }
        }
    }
    if is_first {
        texts.push("set n0 0 0 2\r\n10\r\n".to_owned());
    }
    for _ in 0..2 + dice.below(6) {
        let key = format!("k{}{}", dice.below(2), dice.below(8));
        // An item that was not read lately takes two reads to be moved.
        let reads = 1 + dice.below(2) as usize;
        texts.push(match dice.below(10) {
            0 => format!("add {key} 0 0 0\r\n\r\n"),
            1 => "incr n0 1\r\nmg n0 u l\r\n".to_owned(),
            2 => format!("touch {key} 0\r\n"),
            3..6 => format!("mg {key} l h\r\n").repeat(reads),
            6..8 => format!("gets {key}\r\n").repeat(reads),
            _ => format!("mg {key} u l\r\n"),
        });
    }
    let flushed = !is_first && dice.chance(15);
    if flushed {
        texts.push("flush_all\r\n".to_owned());
    }
    if flushed || dice.chance(30) {
        for number in 0..8 {
            texts.push(format!(
                "mg k0{number} u t l c\r\nmg k1{number} u t l c\r\n"
            ));
        }
    }
    let absolute = 0;
    texts
        .into_iter()
        .map(|text| Request { text, absolute })
        .collect()
}

/// Everything that there is.
fn wild(dice: &mut Rng) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut push = |dice: &mut Rng, text: String| {
        let absolute = i64::try_from(dice.below(9)).expect("small") - 3;
        requests.push(Request { text, absolute });
    };
    let mut large = 0;
    let fills = dice.chance(15);
    for _ in 0..4 + dice.below(20) {
        let (mut key, mut size) = key(dice);
        if fills && large < 5 && dice.chance(50) {
            size = 3;
            key = format!("k3{}", dice.below(60));
        }
        if size == 3 {
            large += 1;
            if large > 5 {
                continue;
            }
        }
        let length = VALUES[size] - usize::from(key.len() > 3);
        let value = "v".repeat(length);
        let ttl = exptime(dice);
        let cas = 1 + dice.below(40);
        let text = match dice.below(40) {
            0..6 => format!("set {key} 0 {ttl} {length}\r\n{value}\r\n"),
            6..8 => format!("add {key} 0 {ttl} {length}\r\n{value}\r\n"),
            8 => format!("cas {key} 0 {ttl} {length} {cas}\r\n{value}\r\n"),
            9 => format!("ms {key} {length} T{ttl} C{cas} I c\r\n{value}\r\n"),
            10 => format!("ms {key} {length} T{ttl} ME c s\r\n{value}\r\n"),
            11 => format!("replace {key} 0 {ttl} {length}\r\n{value}\r\n"),
            12..15 => format!("mg {key} u t l c h f s\r\n"),
            15..22 => format!("mg {key} t l c h\r\n"),
            22..26 => format!("gets {key}\r\nget {key}\r\n"),
            26 => format!("mg {key} T{ttl} t\r\n"),
            27 => format!("mg {key} N{ttl} t c\r\n"),
            28 => format!("touch {key} {ttl}\r\n"),
            29 => format!("gat {ttl} {key}\r\n"),
            30 => format!("md {key} I T{ttl}\r\nmg {key} u t c\r\n"),
            31 => format!("md {key} I\r\n"),
            32 => format!("md {key} x\r\n"),
            33 => format!("delete {key}\r\n"),
            34 => format!(
                "set n{size} 0 0 2\r\n{}\r\n",
                [" 9", "98", "10", "00"][dice.below(4) as usize]
            ),
            35..37 => format!("ma n{size} N{ttl} J9 D{} v t c\r\n", dice.below(40)),
            37 => format!("incr n{size} 1\r\n"),
            38 => format!("me {key}\r\n"),
            _ => format!("append {key} 0 0 1\r\nx\r\n"),
        };
        push(dice, text);
        if dice.chance(4) {
            flush(dice, &mut push);
        }
    }
    if dice.chance(30) {
        flush(dice, &mut push);
        if dice.chance(60) {
            for size in 0..3 {
                for number in 0..8 {
                    push(dice, format!("mg k{size}{number} u t l c\r\n"));
                }
                push(dice, format!("mg n{size} u l\r\n"));
            }
        }
    }
    requests
}

fn flush(dice: &mut Rng, push: &mut impl FnMut(&mut Rng, String)) {
    let delay = match dice.below(10) {
        0..6 => String::new(),
        6 | 7 => format!(" {}", dice.below(4)),
        8 => " TIME".to_owned(),
        _ => [" -1", " 2592001"][usize::from(dice.chance(50))].to_owned(),
    };
    push(dice, format!("flush_all{delay}\r\n"));
}

#[derive(Default)]
struct Tally {
    compared: AtomicU64,
    lanes: AtomicU64,
    given_up: Mutex<Vec<GivenUp>>,
    example: Mutex<String>,
}

fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn embedded_server_matches_memcached_at_random() {
    let found = memcached::required();
    let Some(binary) = found.iter().find(|binary| binary.version == VERSION) else {
        return;
    };
    if let Some(seed) = variable("MEMLATCH_DIFFERENTIAL_SEED") {
        let (compared, given_up) = Lane::new(binary, seed, true).run(|| false);
        memcached_note(&format!(
            "{compared} flights compared, given up: {given_up:?}\n"
        ));
        return;
    }
    let first = variable("MEMLATCH_DIFFERENTIAL_FIRST").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("after 1970").as_nanos() as u64 % 1_000_000_000 * 1000
    });
    memcached_note(&format!("lanes from seed {first}\n"));
    let seconds = variable("MEMLATCH_DIFFERENTIAL_SECONDS").unwrap_or(15);
    let begun = Instant::now();
    let tally = Tally::default();
    let failed = AtomicBool::new(false);
    let is_enough = || {
        let elapsed = begun.elapsed();
        let compared = tally.compared.load(Ordering::Relaxed);
        let is_over = elapsed > Duration::from_secs(seconds);
        compared >= ENOUGH && is_over || elapsed > PATIENCE.max(Duration::from_secs(seconds))
    };
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) && !is_enough() {
                    let seed = first + tally.lanes.fetch_add(1, Ordering::Relaxed);
                    let mut lane = Lane::new(binary, seed, false);
                    let guard = SetOnPanic(&failed);
                    let (compared, given_up) = lane.run(is_enough);
                    drop(guard);
                    tally.compared.fetch_add(compared, Ordering::Relaxed);
                    if let Some(why) = given_up {
                        tally.given_up.lock().expect("no panic").push(why);
                        if why == GivenUp::Queues {
                            *tally.example.lock().expect("no panic") = lane.history;
                        }
                    }
                }
            });
        }
    });
    let compared = tally.compared.into_inner();
    let given_up = tally.given_up.into_inner().expect("no panic");
    let times = |why| given_up.iter().filter(|given_up| **given_up == why).count() as u64;
    let [second, maintainer, queues] =
        [GivenUp::Second, GivenUp::Maintainer, GivenUp::Queues].map(times);
    let counts = format!(
        "{compared} flights compared; lanes given up: {second} for the second, {maintainer} for \
         the maintainer, {queues} for their queues"
    );
    memcached_note(&format!("{counts}\n"));
    assert!(compared >= ENOUGH, "{counts}");
    let example = tally.example.into_inner().expect("no panic");
    assert!(queues * 10 <= compared, "{counts}\n{example}");
}

/// Tells the other lanes that one has failed.
struct SetOnPanic<'a>(&'a AtomicBool);

impl Drop for SetOnPanic<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}
