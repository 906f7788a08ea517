//! A small memcached that exists to judge the lock rules by.
//!
//! It shares no code with the crate: requests are split by hand and items live in a `HashMap`.
//! Its behavior follows measurements of 1.6.18, 1.6.38 and 1.6.45. It panics on every request
//! that the rules must never send, so each test that uses it also tests that.

use core::time::Duration;
use std::collections::HashMap;

/// True time, in nanoseconds since the beginning of the test. Only the test itself can see it:
/// clients have clocks that run apart, the server has a second that lags.
pub(crate) type Time = u64;

pub(crate) const SECOND: Time = 1_000_000_000;

/// The second of every wall clock at true time 0.
pub(crate) const EPOCH: u64 = 1_795_337_329;

/// The client number of requests typed in by hand, which may touch any item.
pub(crate) const NOBODY: usize = usize::MAX;

pub(crate) fn nanos(duration: Duration) -> Time {
    u64::try_from(duration.as_nanos()).expect("the tests last less than centuries")
}

pub(crate) fn secs(seconds: f64) -> Time {
    nanos(Duration::from_secs_f64(seconds))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1.6.45: meta commands with `E`.
    Meta,
    /// 1.6.18: meta commands, no `E`.
    MetaWithoutE,
    /// 1.5.22: no meta commands at all.
    Classic,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Meta, Self::MetaWithoutE, Self::Classic];

    fn version(self) -> &'static str {
        match self {
            Self::Meta => "1.6.45",
            Self::MetaWithoutE => "1.6.18",
            Self::Classic => "1.5.22",
        }
    }
}

/// The server's idea of the time: a whole second, copied by a timer from a clock that is right.
#[derive(Debug, Clone)]
struct Clock {
    /// The second of the wall clock when the process started; its times count from there.
    started_second: u64,
    /// The monotonic clock's second at that moment.
    started_monotonic: u64,
    /// The monotonic clock at true time 0: where in its second the process finds itself.
    phase: Time,
    /// The server's idea of the present second.
    second: u64,
    next_tick: Time,
    /// The timer's interval. A real one is 1.0008 s, so that now and then a tick falls across
    /// the edge of a second and the server's second is two behind just before.
    interval: Time,
    /// The time until which the timer does not run, although requests are served.
    stalled_until: Time,
    /// The latest time this clock has seen.
    seen: Time,
}

impl Clock {
    fn started(at: Time, phase: Time, interval: Time) -> Self {
        let mut clock = Self {
            started_second: EPOCH + at / SECOND,
            started_monotonic: (at + phase) / SECOND,
            phase,
            second: 0,
            next_tick: at,
            interval,
            stalled_until: 0,
            seen: at,
        };
        clock.advance(at);
        clock
    }

    /// The second it would be if the timer ran right now.
    fn truth(&self, at: Time) -> u64 {
        self.started_second + (at + self.phase) / SECOND - self.started_monotonic
    }

    fn advance(&mut self, to: Time) {
        assert!(to >= self.seen, "the test lets time run backwards");
        self.seen = to;
        loop {
            // A tick that fell into a stall comes when the stall is over.
            let tick = self.next_tick.max(self.stalled_until);
            if tick > to {
                return;
            }
            self.second = self.truth(tick);
            self.next_tick = tick + self.interval;
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) value: Vec<u8>,
    /// The server's second at which it is dead; `None` is never.
    pub(crate) expiry: Option<u64>,
    pub(crate) cas: u64,
    /// The server's second in which it was stored or last accessed.
    time: u64,
    /// When it got that CAS unique.
    since: Time,
    /// The client that stored it.
    by: usize,
    /// `md … I` was here, and no client was chosen to refill it yet, or one was.
    stale: Option<Refill>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refill {
    Wanted,
    Given,
}

/// The server's answer to `stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stats {
    Told,
    /// `ERROR`, as a proxy may answer.
    Refused,
    /// This one is not among them.
    Without(&'static str),
    /// With this line besides.
    With(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) struct FakeServer {
    pub(crate) kind: Kind,
    pub(crate) version: Option<&'static str>,
    pub(crate) stats: Stats,
    /// `-C` switches it off.
    pub(crate) cas_enabled: bool,
    /// `-M` and full.
    pub(crate) memory_full: bool,
    /// True if it is an error of the test that a client changes what another has stored. Not
    /// where replies are spoilt.
    pub(crate) guards_owners: bool,
    /// Values that any client may remove: the lock is broken.
    pub(crate) condemned: Vec<Vec<u8>>,
    /// Keys that are evicted as soon as they are stored.
    pub(crate) forgets: Vec<Vec<u8>>,
    pub(crate) flushes: u64,
    /// `-e`.
    pub(crate) memory_file: bool,
    /// True if `stats settings` is answered.
    pub(crate) tells_settings: bool,
    pub(crate) evictions: u64,
    pub(crate) slabs_moved: u64,
    pub(crate) pid: u64,
    /// Which run of the server this is; connections do not outlive it.
    pub(crate) generation: u64,
    /// Every request line that was carried out, and by whom.
    pub(crate) log: Vec<(usize, String)>,
    /// Records that were replaced by another client's.
    pub(crate) takeovers: usize,
    items: HashMap<Vec<u8>, Item>,
    last_cas: u64,
    clock: Clock,
    /// Once the server's second has come to it: items from then or before are gone.
    horizon: Option<u64>,
    now: Time,
}

impl FakeServer {
    /// A server that was started at true time 0 with a clock that is as right as it can be.
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with_clock(kind, 0, SECOND)
    }

    /// The same with a clock that starts `phase` into its second and ticks every `interval`.
    pub(crate) fn with_clock(kind: Kind, phase: Time, interval: Time) -> Self {
        Self {
            kind,
            version: None,
            stats: Stats::Told,
            cas_enabled: true,
            memory_full: false,
            guards_owners: true,
            condemned: Vec::new(),
            forgets: Vec::new(),
            flushes: 0,
            memory_file: false,
            tells_settings: true,
            evictions: 0,
            slabs_moved: 0,
            pid: 4711,
            generation: 0,
            log: Vec::new(),
            takeovers: 0,
            items: HashMap::new(),
            last_cas: 1,
            clock: Clock::started(0, phase, interval),
            horizon: None,
            now: 0,
        }
    }

    /// Ends and starts again: everything is forgotten, CAS uniques start anew.
    pub(crate) fn restart(&mut self, at: Time) {
        self.clock.advance(at);
        self.clock = Clock::started(at, self.clock.phase, self.clock.interval);
        self.items.clear();
        self.last_cas = 1;
        self.pid += 1;
        self.generation += 1;
        self.horizon = None;
        (self.flushes, self.evictions, self.slabs_moved) = (0, 0, 0);
    }

    /// The same with the process id and the second of the start that it had before, as in a container
    /// on a machine without a clock of its own.
    pub(crate) fn restart_as_twin(&mut self, at: Time) {
        let (pid, started) = (self.pid, self.clock.started_second);
        self.restart(at);
        self.pid = pid;
        self.clock.started_second = started;
        self.clock.second = started;
    }

    /// `flush_all` by another program.
    pub(crate) fn flush(&mut self, at: Time) {
        self.clock.advance(at);
        if self.kind != Kind::Meta {
            // Before 1.6.25, by the CAS unique as well.
            self.items.clear();
        }
        self.horizon = Some(self.clock.second - 1);
        self.flushes += 1;
    }

    /// `flush_all` with a time that is past by so many seconds: all newer items go at once.
    pub(crate) fn flush_with_past_time(&mut self, at: Time, seconds: u64) {
        self.clock.advance(at);
        self.items.clear();
        self.horizon = Some(self.clock.second - seconds);
        self.flushes += 1;
    }

    /// `flush_all` with a time from before the server's start.
    pub(crate) fn set_back_horizon(&mut self) {
        self.flushes += 1;
        self.horizon = None;
    }

    /// `flush_all N` by another program.
    pub(crate) fn flush_later(&mut self, at: Time, seconds: u64) {
        self.clock.advance(at);
        self.horizon = Some(self.clock.second + seconds - 1);
        self.flushes += 1;
    }

    /// Reads an item, as another program.
    pub(crate) fn read(&mut self, at: Time, key: &[u8]) {
        self.clock.advance(at);
        self.bump(key);
    }

    fn bump(&mut self, key: &[u8]) {
        self.drop_dead(key);
        let second = self.clock.second;
        if let Some(item) = self.items.get_mut(key) {
            item.time = second;
        }
    }

    /// Memory is short, and it hits this one.
    pub(crate) fn evict(&mut self, key: &[u8]) {
        self.evictions += u64::from(self.items.remove(key).is_some());
    }

    /// Removes an item, as another program. Unlike an eviction it shows in no counter that we read.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.items.remove(key);
    }

    /// Stores an item, as another program.
    pub(crate) fn set(&mut self, at: Time, key: &[u8], value: &[u8], exptime: i64) {
        self.clock.advance(at);
        self.now = at;
        self.items.remove(key);
        self.store(key, value, exptime, NOBODY);
    }

    /// Stores a sentinel that was founded long ago, in the second `birth`.
    pub(crate) fn found(&mut self, at: Time, key: &str, birth: u64) {
        let value = format!(
            "s1 ready {birth} 00000000000000aa {} {} -",
            self.pid,
            self.clock.started_second - 2
        );
        let expiry = i64::from(i32::MAX);
        self.set(at, key.as_bytes(), value.as_bytes(), expiry);
        let second = self.clock.second;
        if let Some(item) = self.items.get_mut(key.as_bytes()) {
            item.time = birth.min(second);
        }
    }

    /// The timer does not run until then.
    pub(crate) fn stall(&mut self, at: Time, until: Time) {
        self.clock.advance(at);
        self.clock.stalled_until = until;
    }

    /// The server's idea of the present second.
    pub(crate) fn second(&mut self, at: Time) -> u64 {
        self.clock.advance(at);
        self.clock.second
    }

    /// The item, if it is alive.
    pub(crate) fn item(&mut self, at: Time, key: &[u8]) -> Option<&Item> {
        self.clock.advance(at);
        self.drop_dead(key);
        self.items.get(key)
    }

    fn drop_dead(&mut self, key: &[u8]) {
        let second = self.clock.second;
        let flushed = self.horizon.filter(|horizon| *horizon <= second);
        let dead = |item: &Item| {
            item.expiry.is_some_and(|expiry| expiry <= second)
                || flushed.is_some_and(|horizon| item.time <= horizon)
        };
        if self.items.get(key).is_some_and(dead) {
            self.items.remove(key);
        }
    }

    fn next_cas(&mut self) -> u64 {
        if !self.cas_enabled {
            return 0;
        }
        self.last_cas += 1;
        self.last_cas
    }

    fn expiry(&self, exptime: i64) -> Option<u64> {
        match exptime {
            0 => None,
            ..0 => Some(0),
            1..=2_592_000 => Some(self.clock.second + exptime.unsigned_abs()),
            absolute => {
                assert!(i32::try_from(absolute).is_ok(), "exptime beyond 32 bits");
                Some(absolute.unsigned_abs())
            }
        }
    }

    fn store(&mut self, key: &[u8], value: &[u8], exptime: i64, by: usize) {
        let item = Item {
            value: value.into(),
            expiry: self.expiry(exptime),
            cas: self.next_cas(),
            time: self.clock.second,
            since: self.now,
            by,
            stale: None,
        };
        self.items.insert(key.into(), item);
        if self.forgets.iter().any(|forgotten| forgotten == key) {
            self.evict(key);
        }
    }

    /// Carries out the requests that `by` sent, all at this moment, and gives the replies.
    pub(crate) fn handle(&mut self, at: Time, by: usize, requests: &[u8]) -> Vec<u8> {
        self.clock.advance(at);
        self.now = at;
        let mut out = Vec::new();
        let mut rest = requests;
        while !rest.is_empty() {
            let line = take_line(&mut rest);
            self.log.push((by, line.clone()));
            let words: Vec<&str> = line.split(' ').collect();
            assert!(
                !words.contains(&"noreply") && !words.contains(&""),
                "a request that can go wrong: {line}"
            );
            match words[0] {
                "version" => {
                    let version = self.version.unwrap_or(self.kind.version());
                    out.extend_from_slice(format!("VERSION {version}\r\n").as_bytes());
                }
                "add" => {
                    assert_eq!(words.len(), 5, "{line}");
                    let value = take_value(&mut rest, words[4]);
                    let reply = self.add(words[1], &value, number(words[3]), by);
                    out.extend_from_slice(reply);
                }
                "cas" => {
                    assert_eq!(words.len(), 6, "{line}");
                    let value = take_value(&mut rest, words[4]);
                    let reply = self.compare_and_store(&words, &value, by);
                    out.extend_from_slice(reply);
                }
                "gets" => self.gets(&words[1..], &mut out),
                "incr" => self.incr(&words, &mut out),
                "stats" => match &words[1..] {
                    [] => self.tell_stats(&mut out),
                    ["settings"] => self.tell_settings(&mut out),
                    _ => panic!("the rules must never send this: {line}"),
                },
                "mn" | "mg" | "md" | "ma" => self.meta(&words, by, &mut out),
                _ => panic!("the rules must never send this: {line}"),
            }
        }
        out
    }

    fn add(&mut self, key: &str, value: &[u8], exptime: i64, by: usize) -> &'static [u8] {
        if self.memory_full {
            // The server looks for memory before it looks whether it needs any.
            return b"SERVER_ERROR out of memory storing object\r\n";
        }
        self.drop_dead(key.as_bytes());
        if self.items.contains_key(key.as_bytes()) {
            if self.kind == Kind::Meta {
                // From 1.6.27 on a refusal uses up a number as well.
                self.next_cas();
            }
            return b"NOT_STORED\r\n";
        }
        self.store(key.as_bytes(), value, exptime, by);
        b"STORED\r\n"
    }

    fn compare_and_store(&mut self, words: &[&str], value: &[u8], by: usize) -> &'static [u8] {
        let (key, unique) = (words[1].as_bytes(), unique(words[5]));
        if self.memory_full {
            return b"SERVER_ERROR out of memory storing object\r\n";
        }
        self.drop_dead(key);
        match self.items.get(key) {
            None => b"NOT_FOUND\r\n",
            Some(item) if item.cas != unique => b"EXISTS\r\n",
            Some(item) => {
                if self.is_abandoned(item, value) {
                    self.takeovers += item.by.abs_diff(by).min(1);
                } else {
                    self.check_owner(item, by, words);
                }
                self.store(key, value, number(words[3]), by);
                b"STORED\r\n"
            }
        }
    }

    /// True if a record may be replaced by another: its guard cannot be valid any more, however
    /// slow the clock is that its holder measures the lease with.
    fn is_abandoned(&self, item: &Item, with: &[u8]) -> bool {
        let stated = |value: &[u8]| {
            let value = core::str::from_utf8(value).ok()?;
            let words: Vec<&str> = value.split(' ').collect();
            let lease = words.get(2)?.parse::<Time>().ok()?;
            (words[0] == "m1" && words.len() == 7).then_some(lease * SECOND / 1000)
        };
        let stood = self.now - item.since;
        let over = stated(&item.value).is_some_and(|lease| stood >= lease * 100 / 99);
        over && stated(with).is_some()
    }

    /// We never release or renew another's lock, and break none but that which is meant. The
    /// sentinel and the counters of tokens belong to all clients.
    fn check_owner(&self, item: &Item, by: usize, words: &[&str]) {
        let everybodys = words[1].ends_with("sentinel")
            || words[1].ends_with("longest")
            || words[1].contains("fence:");
        let condemned = self.condemned.contains(&item.value);
        let free = by == NOBODY || everybodys || condemned || !self.guards_owners;
        assert!(
            item.by == by || free,
            "client {by} changes what client {} stored: {words:?}",
            item.by
        );
    }

    fn gets(&mut self, keys: &[&str], out: &mut Vec<u8>) {
        for key in keys {
            self.bump(key.as_bytes());
            if let Some(item) = self.items.get(key.as_bytes()) {
                let head = format!("VALUE {key} 0 {} {}\r\n", item.value.len(), item.cas);
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(&item.value);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"END\r\n");
    }

    /// Adds to a counter and gives its new value; `None` when the item is no number.
    fn count(&mut self, key: &[u8], delta: u64) -> Option<u64> {
        let cas = self.next_cas();
        let item = self.items.get_mut(key).expect("looked up before");
        let text = core::str::from_utf8(&item.value).ok()?;
        let sum = text.trim_end().parse::<u64>().ok()?.wrapping_add(delta);
        // The stored text keeps its width.
        let width = item.value.len();
        item.value = format!("{sum:<width$}").into_bytes();
        item.cas = cas;
        Some(sum)
    }

    fn incr(&mut self, words: &[&str], out: &mut Vec<u8>) {
        let key = words[1].as_bytes();
        self.drop_dead(key);
        if !self.items.contains_key(key) {
            out.extend_from_slice(b"NOT_FOUND\r\n");
            return;
        }
        match self.count(key, words[2].parse().expect("a delta")) {
            Some(sum) => out.extend_from_slice(format!("{sum}\r\n").as_bytes()),
            None => out.extend_from_slice(NOT_NUMERIC),
        }
    }

    fn tell_stats(&self, out: &mut Vec<u8>) {
        if self.stats == Stats::Refused {
            out.extend_from_slice(b"ERROR\r\n");
            return;
        }
        let time = self.clock.second;
        // All three versions say an uptime of 2 in the moment of their start.
        let uptime = time - self.clock.started_second + 2;
        for (name, value) in [
            ("pid", self.pid),
            ("uptime", uptime),
            ("time", time),
            ("curr_connections", 3),
            ("cmd_get", 0),
            ("cmd_flush", self.flushes),
            ("slabs_moved", self.slabs_moved),
            ("evictions", self.evictions),
        ] {
            if self.stats != Stats::Without(name) {
                out.extend_from_slice(format!("STAT {name} {value}\r\n").as_bytes());
            }
        }
        if let Stats::With(line) = self.stats {
            out.extend_from_slice(format!("STAT {line}\r\n").as_bytes());
        }
        out.extend_from_slice(b"END\r\n");
    }

    fn tell_settings(&self, out: &mut Vec<u8>) {
        if self.stats == Stats::Refused || !self.tells_settings {
            out.extend_from_slice(b"ERROR\r\n");
            return;
        }
        // The clock stands at 62 at the start.
        let oldest = self
            .horizon
            .map_or(0, |horizon| horizon + 62 - self.clock.started_second);
        let file = if self.memory_file {
            "/a/file"
        } else {
            "(null)"
        };
        let lines = format!(
            "STAT maxbytes 1\r\nSTAT oldest {oldest}\r\nSTAT memory_file {file}\r\nEND\r\n"
        );
        out.extend_from_slice(lines.as_bytes());
    }

    fn meta(&mut self, words: &[&str], by: usize, out: &mut Vec<u8>) {
        let flags = words.get(2..).unwrap_or_default();
        let argument = |letter: char| flags.iter().find_map(|flag| flag.strip_prefix(letter));
        for letter in ['k', 'b', 'q', 'x', 'R'] {
            assert!(
                argument(letter).is_none(),
                "the rules must never send {words:?}"
            );
        }
        match words[0] {
            "mg" => {
                let harmless = |flag: &&str| matches!(*flag, "t" | "c" | "v" | "u" | "l");
                let known = match flags {
                    // With a CAS unique that no server gives by itself.
                    [n, e, rest @ ..] if n.starts_with('N') => {
                        let chosen = e.strip_prefix('E').map(unique);
                        rest == ["t", "c"] && chosen.is_some_and(|cas| cas >> 63 == 1)
                    }
                    flags => flags.iter().all(harmless),
                };
                assert!(known, "the rules must never send {words:?}");
            }
            "md" => assert!(argument('C').is_some(), "unconditional: {words:?}"),
            _ => {}
        }
        if self.kind == Kind::Classic {
            out.extend_from_slice(b"ERROR\r\n");
            return;
        }
        if words[0] == "mn" {
            out.extend_from_slice(b"MN\r\n");
            return;
        }
        let key = words[1].as_bytes();
        self.drop_dead(key);
        match words[0] {
            "mg" => {
                if let Some(ttl) = argument('N').filter(|_| !self.items.contains_key(key)) {
                    if self.memory_full {
                        out.extend_from_slice(b"EN\r\n");
                        return;
                    }
                    assert_eq!(self.kind, Kind::Meta, "no `E` there: {words:?}");
                    self.store(key, b"", number(ttl), by);
                    if let Some(item) = self.items.get_mut(key) {
                        item.cas = argument('E').map(unique).expect("checked above");
                    }
                }
                self.meta_get(key, flags, out);
            }
            "md" => {
                let compare = unique(argument('C').expect("checked above"));
                let explicit = argument('E').map(unique);
                if explicit.is_some() && self.kind == Kind::MetaWithoutE {
                    out.extend_from_slice(b"CLIENT_ERROR invalid or duplicate flag\r\n");
                    return;
                }
                let expiry = argument('T').map(|ttl| self.expiry(number(ttl)));
                let cas = self.next_cas();
                if let Some(item) = self.items.get(key).filter(|item| item.cas == compare) {
                    self.check_owner(item, by, words);
                }
                match self.items.get_mut(key) {
                    None => out.extend_from_slice(b"NF\r\n"),
                    Some(item) if item.cas != compare => out.extend_from_slice(b"EX\r\n"),
                    Some(item) => {
                        if argument('I').is_some() {
                            // Or a renewal that is carried out late would still be taken.
                            assert_ne!(explicit, Some(compare), "kept: {words:?}");
                            item.stale = Some(Refill::Wanted);
                            item.cas = explicit.unwrap_or(cas);
                            item.since = self.now;
                            item.expiry = expiry.unwrap_or(item.expiry);
                        } else {
                            assert!(expiry.is_none(), "a `T` without `I`: {words:?}");
                            self.items.remove(key);
                        }
                        out.extend_from_slice(b"HD\r\n");
                    }
                }
            }
            _ => {
                let delta = argument('D').map_or(1, |delta| delta.parse().expect("a delta"));
                assert_eq!(argument('v'), Some(""), "the number is wanted: {words:?}");
                assert_eq!(argument('T'), None, "`T` of `ma` may hit a dead item");
                assert_eq!(argument('E'), None, "`E` of `ma` may hit a dead item");
                let sum = if self.items.contains_key(key) {
                    self.count(key, delta)
                } else if self.memory_full {
                    out.extend_from_slice(b"SERVER_ERROR Out of memory allocating new item\r\n");
                    return;
                } else {
                    let ttl = argument('N').expect("the rules make their counters on demand");
                    let initial = argument('J').unwrap_or("0");
                    self.store(key, initial.as_bytes(), number(ttl), by);
                    initial.parse().ok()
                };
                match sum {
                    None => out.extend_from_slice(NOT_NUMERIC),
                    Some(sum) => {
                        let length = sum.to_string().len();
                        let left = self.items.get(key).and_then(|item| item.expiry);
                        let left =
                            left.map_or(-1, |expiry| expiry as i64 - self.clock.second as i64);
                        let left = argument('t').map_or(String::new(), |_| format!(" t{left}"));
                        out.extend_from_slice(format!("VA {length}{left}\r\n{sum}\r\n").as_bytes());
                    }
                }
            }
        }
    }

    fn meta_get(&mut self, key: &[u8], flags: &[&str], out: &mut Vec<u8>) {
        let second = self.clock.second;
        if key.ends_with(b"sentinel") {
            assert!(
                flags.contains(&"u"),
                "an access that outlives a flush: {flags:?}"
            );
        }
        let Some(item) = self.items.get_mut(key) else {
            out.extend_from_slice(b"EN\r\n");
            return;
        };
        let mut head = if flags.contains(&"v") {
            format!("VA {}", item.value.len())
        } else {
            "HD".to_owned()
        };
        for flag in flags {
            match *flag {
                "t" => match item.expiry {
                    None => head.push_str(" t-1"),
                    Some(expiry) => {
                        let left = i128::from(expiry) - i128::from(second);
                        head.push_str(&format!(" t{left}"));
                    }
                },
                "c" => head.push_str(&format!(" c{}", item.cas)),
                "l" => head.push_str(&format!(" l{}", second - item.time)),
                _ => {}
            }
        }
        if !flags.contains(&"u") {
            item.time = second;
        }
        match item.stale {
            None => {}
            Some(Refill::Wanted) => {
                head.push_str(" X W");
                item.stale = Some(Refill::Given);
            }
            Some(Refill::Given) => head.push_str(" Z X"),
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(b"\r\n");
        if flags.contains(&"v") {
            out.extend_from_slice(&item.value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The birth that a sentinel says, unless it is new.
pub(crate) fn birth(value: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(value).expect("text");
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!((words.len(), words[0]), (7, "s1"), "{text}");
    (words[1] == "ready").then(|| words[2].parse().expect("a birth"))
}

const NOT_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

fn take_line(rest: &mut &[u8]) -> String {
    let end = rest
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .expect("a flight ends with a line end");
    let line = core::str::from_utf8(&rest[..end]).expect("plain keys and names");
    *rest = &rest[end + 2..];
    line.to_owned()
}

fn take_value(rest: &mut &[u8], length: &str) -> Vec<u8> {
    let length: usize = length.parse().expect("a length");
    let value = rest[..length].to_vec();
    assert_eq!(&rest[length..length + 2], b"\r\n", "a value ends with CRLF");
    *rest = &rest[length + 2..];
    value
}

fn number(word: &str) -> i64 {
    word.parse().expect("a number")
}

fn unique(word: &str) -> u64 {
    let unique = word.parse().expect("a CAS unique");
    assert_ne!(unique, 0, "a CAS unique of 0 matches every item under -C");
    unique
}

#[test]
fn fake_server_replies_like_memcached() {
    let mut server = FakeServer::new(Kind::Meta);
    let at = secs(100.5);
    let expiry = EPOCH + 110;
    let acquire = format!(
        "add L 0 {expiry} 5\r\nnonce\r\nmg L t c v\r\nma F N86400 J17 D1 t v\r\nmg S t v\r\n"
    );
    let told = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert_eq!(
        told(server.handle(at, 1, acquire.as_bytes())),
        "STORED\r\nVA 5 t10 c2\r\nnonce\r\nVA 2 t86400\r\n17\r\nEN\r\n"
    );
    server.set(at, b"S", b"17", 2_145_916_800);
    assert_eq!(
        told(server.handle(at, 2, acquire.as_bytes())),
        format!(
            "NOT_STORED\r\nVA 5 t10 c2\r\nnonce\r\nVA 2 t86400\r\n18\r\nVA 2 t{}\r\n17\r\n",
            2_145_916_800 - EPOCH - 100
        )
    );
    let renew = format!("md L C2 I T{} E9\r\nmg L t c v\r\nmg L t\r\n", expiry + 10);
    assert_eq!(
        told(server.handle(at, 1, renew.as_bytes())),
        "HD\r\nVA 5 t20 c9 X W\r\nnonce\r\nHD t20 Z X\r\n"
    );
    assert_eq!(told(server.handle(at, 1, b"md L C3\r\n")), "EX\r\n");
    assert_eq!(told(server.handle(at, 1, b"md L C9\r\n")), "HD\r\n");
    assert_eq!(told(server.handle(at, 1, b"md L C9\r\n")), "NF\r\n");
    let classic = b"add L 0 1 1\r\nx\r\ngets L\r\nincr L 1\r\nincr M 1\r\nincr F 5\r\n";
    let replies = told(server.handle(at, 1, classic));
    assert!(replies.starts_with("STORED\r\nVALUE L 0 1 "), "{replies}");
    assert!(
        replies.ends_with("\r\nx\r\nEND\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nNOT_FOUND\r\n23\r\n"),
        "{replies}"
    );
    assert!(server.item(at, b"L").is_some());
    assert!(
        server.item(at + SECOND, b"L").is_none(),
        "its second has come"
    );
    let reply = told(server.handle(at + SECOND, 1, b"cas F 0 2592001 0 9\r\n\r\n"));
    assert_eq!(reply, "EXISTS\r\n");
    let unique = server.item(at + SECOND, b"F").expect("a counter").cas;
    let request = format!("cas F 0 2592001 0 {unique}\r\n\r\ngets F\r\n");
    let reply = told(server.handle(at + SECOND, 1, request.as_bytes()));
    assert_eq!(reply, "STORED\r\nEND\r\n", "an expiry long past");
}

#[test]
fn fake_clock_is_never_ahead() {
    let mut server = FakeServer::with_clock(Kind::Meta, secs(0.7), 1_000_800_000);
    // Started 0.7 s into a second: ticks come there, so the second is up to one behind.
    assert_eq!(server.second(secs(0.5)), EPOCH);
    assert_eq!(server.second(secs(1.1)), EPOCH + 1);
    server.stall(secs(1.2), secs(5.4));
    assert_eq!(server.second(secs(5.3)), EPOCH + 1);
    assert_eq!(server.second(secs(5.4)), EPOCH + 6);
    server.restart(secs(7.9));
    assert_eq!(server.second(secs(7.9)), EPOCH + 7);
    let stats = server.handle(secs(8.0), 1, b"stats\r\n");
    let stats = String::from_utf8(stats).expect("text");
    assert!(
        stats.contains("STAT uptime 2\r\n"),
        "as all versions say: {stats}"
    );
}

#[test]
fn fake_server_panics_on_forbidden_requests() {
    for request in [
        "set L 0 0 1\r\nx\r\n",
        "ms L 1\r\nx\r\n",
        "touch L 10\r\n",
        "gat 10 L\r\n",
        "delete L\r\n",
        "replace L 0 0 1\r\nx\r\n",
        "append L 0 0 1\r\nx\r\n",
        "flush_all\r\n",
        "mg L T10\r\n",
        "mg L N10\r\n",
        "mg L v k b\r\n",
        "md L\r\n",
        "md L C0\r\n",
        "md L q C1\r\n",
        "md L C1 x\r\n",
        "cas L 0 0 1 0\r\nx\r\n",
        "add L 0 0 1 noreply\r\nx\r\n",
        "ma L N10 J1 T10 v\r\n",
        // Another client's item.
        "md theirs C2\r\n",
        "cas theirs 0 0 1 2\r\nx\r\n",
    ] {
        let outcome = std::panic::catch_unwind(|| {
            let mut server = FakeServer::new(Kind::Meta);
            server.handle(0, 7, b"add theirs 0 0 1\r\nx\r\n");
            server.handle(0, 1, request.as_bytes());
        });
        assert!(outcome.is_err(), "{request}");
    }
}
