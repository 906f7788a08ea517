//! A server that sends arbitrary replies, with its clock and the network in front of it.

use super::input::Input;
use crate::proto::{
    Capabilities, Handshake, InstanceWord, Instant, Lease, LockKeys, Namespace, Nonce, Now, Owner,
    Protocol, ServerClock, ServerInstance, ServerState,
};
use crate::wire::{self, FlightDecoder, Limits, Replies, Reply, RequestDecoder};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// A second of the server's clock at which most stories begin.
const EPOCH: u64 = 1_795_337_329;

/// More flights than any operation may need without a pause in between.
pub(super) const BREATHLESS: usize = 40;

pub(super) struct TestKeys {
    pub(super) namespace: Namespace,
    pub(super) keys: LockKeys,
    pub(super) owner: Owner,
}

impl TestKeys {
    pub(super) fn new() -> Self {
        let namespace = Namespace::new("").expect("no prefix is one");
        Self {
            keys: namespace.keys(b"L").expect("a plain name"),
            namespace,
            owner: Owner::new("h", 1, ""),
        }
    }
}

/// The server, the network and the clock.
pub(super) struct SimulatedServer<'a> {
    pub(super) input: Input<'a>,
    pub(super) now: Instant,
    /// The server's second at moment 0.
    pub(super) epoch: u64,
    /// The last flight: its bytes, the time it was sent, the reply.
    pub(super) flight: Vec<u8>,
    pub(super) last_sent: Instant,
    pub(super) answer: Vec<u8>,
    /// The reply to the last flight that stored a record.
    pub(super) attempted: Vec<u8>,
    /// When each record was first sent, by the nonce in it.
    pub(super) attempts: Vec<(Vec<u8>, Instant)>,
    /// The token of the outstanding flight, and of the last one with a reply: a token that is sent
    /// after that belongs to another attempt.
    pub(super) lean: (Option<Vec<u8>>, Option<Vec<u8>>),
    /// A request that removes something was sent, with or without a reply.
    pub(super) removing: bool,
    /// The earliest second from which on any reply so far shows that the server remembers
    /// everything.
    pub(super) remembers_from: Option<u64>,
}

impl<'a> SimulatedServer<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        let mut input = Input::endless(data);
        let epoch = match input.below(8) {
            0 => input.number(),
            1 => u64::from(i32::MAX.unsigned_abs()) - u64::from(input.byte()),
            _ => EPOCH,
        };
        let now = match input.below(8) {
            0 => input.number(),
            _ => 1000 * SECOND,
        };
        Self {
            input,
            now: Instant::from_nanos(now),
            epoch,
            flight: Vec::new(),
            last_sent: Instant::from_nanos(0),
            answer: Vec::new(),
            attempted: Vec::new(),
            attempts: Vec::new(),
            lean: (None, None),
            removing: false,
            remembers_from: None,
        }
    }

    pub(super) fn lease(&mut self) -> Lease {
        let millis = [100, 999, 1000, 3000, 10_000, 60_000, 2_592_000_000];
        Lease::new(Duration::from_millis(self.input.pick(&millis))).expect("in range")
    }

    fn second(&self) -> u64 {
        self.epoch.wrapping_add(self.now.as_nanos() / SECOND)
    }

    pub(super) fn unix(&mut self) -> Now {
        let unix_seconds = match self.input.below(8) {
            0 => self.input.number(),
            near => self.second().wrapping_add(near as u64),
        };
        Now {
            monotonic: self.now,
            unix_seconds,
        }
    }

    /// Lets time pass: mostly little, sometimes much.
    pub(super) fn pass(&mut self) {
        let nanos = match self.input.below(16) {
            0 => u64::from(self.input.byte()) * SECOND,
            1..=4 => u64::from(self.input.byte()) * 10_000_000,
            _ => 1_000_000,
        };
        self.now = self.now.after(Duration::from_nanos(nanos));
    }

    /// Returns the known state of the server: from a handshake, or generated.
    pub(super) fn greet(&mut self) -> Option<ServerState> {
        if self.input.flip() {
            return Some(self.view());
        }
        let names = TestKeys::new();
        let forced = self
            .input
            .pick(&[None, None, Some(Protocol::Classic), Some(Protocol::Meta)]);
        let mut handshake = Handshake::new(
            &names.namespace,
            self.lease(),
            forced,
            Nonce::from_random([9; 16]),
        );
        for _ in 0..BREATHLESS {
            let mut flight = wire::Flight::new();
            let now = self.unix();
            handshake.prepare(now, &mut flight);
            let length = self.exchange(&flight)?;
            let answer = self.answer.clone();
            let mut replies = Replies::new(&answer[..length]);
            match handshake.interpret(&mut replies, now.monotonic, self.now) {
                Ok(None) => {}
                Ok(Some(Ok(view))) => return Some(view),
                Ok(Some(Err(_))) | Err(_) => return None,
            }
        }
        panic!("a handshake without end");
    }

    pub(super) fn view(&mut self) -> ServerState {
        let mut clock = ServerClock::new();
        for _ in 0..self.input.below(3) {
            let sent = self.now;
            self.pass();
            clock.observe(self.second(), sent, self.now);
        }
        let incarnation = ServerInstance {
            pid: u64::from(self.input.byte() % 4),
            started: self.epoch.min(u64::from(u32::MAX)),
            word: InstanceWord::from_bits(u64::from(self.input.byte() % 4)),
        };
        let protocols = [Protocol::Meta, Protocol::Meta, Protocol::Classic];
        let capabilities = Capabilities {
            protocol: self.input.pick(&protocols),
            explicit_cas: self.input.flip(),
        };
        ServerState::new(incarnation, capabilities, clock)
    }

    /// Sends a flight. Returns how many bytes of `answer` are its replies; `None` if they are
    /// incomplete, or are not valid replies.
    pub(super) fn exchange(&mut self, flight: &wire::Flight) -> Option<usize> {
        self.last_sent = self.now;
        self.lean.0 = None;
        self.flight = flight.bytes().into();
        self.answer.clear();
        let mut rest = flight.bytes();
        while let Ok(Some((request, length))) = RequestDecoder::new(Limits::SERVER).decode(rest) {
            rest = &rest[length..];
            self.note(&request);
            self.reply_to(&request);
        }
        assert!(rest.is_empty(), "no requests: {}", rest.escape_ascii());
        if self.input.below(16) == 0 {
            self.spoil();
        }
        self.note_memory();
        self.pass();
        let lean = flight.bytes().starts_with(b"mg ") && flight.bytes().contains(&b'E');
        if lean || flight.bytes().windows(5).any(|bytes| bytes == b"\r\nm1 ") {
            self.attempted.clone_from(&self.answer);
        }
        if self.input.below(32) == 0 {
            return None;
        }
        let mut decoder = FlightDecoder::new(Limits::LOCK);
        decoder
            .advance(flight.shapes(), &self.answer)
            .ok()
            .flatten()
    }

    /// Notes from when on the server remembers everything by its own word, at the earliest.
    fn note_memory(&mut self) {
        let mut replies = Replies::new(&self.answer);
        let (mut time, mut uptime) = (None, None);
        let mut froms = Vec::new();
        while let Ok(reply) = replies.next_reply() {
            match reply {
                Reply::Meta(meta) => froms.extend(birth(meta.data)),
                Reply::Value(value) => froms.extend(birth(value.data)),
                Reply::Stat { name, value } => {
                    let value = core::str::from_utf8(value).ok();
                    let value = value.and_then(|text| text.parse::<u64>().ok());
                    match name {
                        b"time" => time = value,
                        b"uptime" => uptime = value,
                        _ => {}
                    }
                }
                Reply::End => {
                    if let (Some(time), Some(uptime)) = (time.take(), uptime.take()) {
                        froms.extend(
                            time.checked_sub(uptime)
                                .map(|start| start.saturating_add(3)),
                        );
                    }
                }
                _ => {}
            }
        }
        self.remembers_from = froms.into_iter().chain(self.remembers_from).min();
    }

    fn note(&mut self, request: &wire::Request<'_>) {
        if let wire::Request::Store(store) = request {
            if let Some(nonce) = store
                .value
                .strip_prefix(b"m1 ")
                .and_then(|rest| rest.get(..32))
            {
                if !self.attempts.iter().any(|attempt| attempt.0 == nonce) {
                    self.attempts.push((nonce.into(), self.now));
                }
            }
            self.removing |= store.value.is_empty();
        }
        if let wire::Request::MetaGet { flags, .. } = request {
            if let Some(cas) = chosen(*flags) {
                let name: Vec<u8> = format!("{cas}").into_bytes();
                if self.lean.1.take().as_ref() == Some(&name) {
                    self.attempts.retain(|attempt| attempt.0 != name);
                }
                self.lean.0 = Some(name.clone());
                if !self.attempts.iter().any(|attempt| attempt.0 == name) {
                    self.attempts.push((name, self.now));
                }
            }
        }
        self.removing |=
            matches!(request, wire::Request::MetaDelete { flags, .. } if !flags.has(b'I'));
    }

    /// Generates a reply to a request: mostly a valid one.
    fn reply_to(&mut self, request: &wire::Request<'_>) {
        if self.input.below(48) == 0 {
            let length = self.input.below(64);
            let raw = self.input.take(length);
            self.answer.extend_from_slice(raw);
            return;
        }
        let error = self.input.below(40);
        let text: String = match (error, request) {
            (0, _) => "SERVER_ERROR out of memory storing object\r\n".into(),
            (1, _) => "ERROR\r\n".into(),
            (2, _) => "CLIENT_ERROR invalid flag\r\n".into(),
            (3, _) => "HD\r\n".into(),
            (_, wire::Request::Store(_)) => {
                let lines = ["STORED", "STORED", "NOT_STORED", "EXISTS", "NOT_FOUND"];
                format!("{}\r\n", self.input.pick(&lines))
            }
            (_, wire::Request::MetaDelete { .. }) => {
                format!(
                    "{}\r\n",
                    self.input.pick(&["HD", "HD", "NF", "EX", "HD c7"])
                )
            }
            (_, wire::Request::MetaArithmetic { .. }) => {
                let number = self.any_number(EPOCH * SECOND);
                format!("VA {} t5\r\n{number}\r\n", number.len())
            }
            (_, wire::Request::Arithmetic { .. }) => {
                format!("{}\r\n", self.any_number(EPOCH * SECOND))
            }
            (_, wire::Request::MetaGet { flags, .. }) if chosen(*flags).is_some() => {
                let asked = chosen(*flags).unwrap_or(0);
                let cas = self.input.pick(&[asked, asked, asked ^ 1, 7]);
                let cas = self.any_number(cas);
                let left = u64::from(self.input.byte());
                format!("HD t{} c{cas}\r\n", self.any_number(left))
            }
            (_, wire::Request::MetaGet { key, .. }) => match self.item(key.as_bytes()) {
                None => "EN\r\n".into(),
                Some(value) => {
                    let left = match key.as_bytes() {
                        b"sentinel" => 2_147_483_647u64.wrapping_sub(self.second()),
                        _ => u64::from(self.input.byte()),
                    };
                    let left = self.any_number(left);
                    let idle = self.input.pick(&[0, 10_000, 10_000, 100_000_000]);
                    let idle = self.any_number(idle);
                    let cas = self.any_number(7);
                    format!("VA {} t{left} l{idle} c{cas}\r\n{value}\r\n", value.len())
                }
            },
            (_, wire::Request::Get { keys, .. }) => {
                let mut text = String::new();
                for key in keys.iter() {
                    if let Some(value) = self.item(key.as_bytes()) {
                        let cas = self.any_number(7);
                        text += &format!("VALUE {key} 0 {} {cas}\r\n{value}\r\n", value.len());
                    }
                }
                text + "END\r\n"
            }
            (_, wire::Request::Stats { .. }) => {
                let mut text = String::new();
                let second = self.second();
                let oldest = self.input.pick(&[0, 0, 67, 1 << 40]);
                for (name, value) in [
                    ("oldest", oldest),
                    ("pid", 1),
                    ("uptime", second.wrapping_sub(self.epoch)),
                    ("time", second),
                    ("cmd_flush", 0),
                    ("evictions", 0),
                    ("slabs_moved", 0),
                ] {
                    let value = self.any_number(value);
                    text += &format!("STAT {name} {value}\r\n");
                }
                text + "END\r\n"
            }
            (_, wire::Request::Version) => {
                let versions = ["1.6.45", "1.6.9", "1.4.15", "x", ""];
                format!("VERSION {}\r\n", self.input.pick(&versions))
            }
            (_, wire::Request::MetaNoop) => "MN\r\n".into(),
            _ => "OK\r\n".into(),
        };
        self.answer.extend_from_slice(text.as_bytes());
    }

    /// A number as it should be, or any other.
    fn any_number(&mut self, honest: u64) -> String {
        match self.input.below(16) {
            0 => format!("{}", self.input.number()),
            1 => format!("-{}", self.input.byte()),
            2 => format!("{}", honest.wrapping_add(self.input.number())),
            _ => format!("{honest}"),
        }
    }

    /// Generates the value under a key.
    fn item(&mut self, key: &[u8]) -> Option<String> {
        if self.input.below(3) == 0 {
            return None;
        }
        if key == b"sentinel" {
            let age = self.input.pick(&[0, 1, 100_000, 100_000, 10_000_000]);
            let born = self.second().saturating_sub(age);
            let state = self
                .input
                .pick(&["ready", "ready", "ready", "new", "moving"]);
            let born = self.any_number(born);
            let instance = self.input.byte() % 4;
            let pid = u64::from(self.input.byte() % 4);
            let started = self.epoch.min(u64::from(u32::MAX));
            let started = self.any_number(started);
            return Some(format!(
                "s1 {state} {born} {instance:016x} {pid} {started} -"
            ));
        }
        if key == b"longest" {
            return Some(self.any_number(10_000));
        }
        if key.starts_with(b"fence:") {
            return Some(self.any_number(EPOCH * SECOND));
        }
        let which = self.input.below(8);
        let ours = self
            .attempts
            .len()
            .checked_sub(1 + which / 4)
            .map(|at| &self.attempts[at].0);
        match (which, ours) {
            (0, _) => Some("m1 00000000000000000000000000000001 10000 1 1 h -".into()),
            (1, _) => Some(String::new()),
            (2, Some(nonce)) => Some(format!("m1 {}", String::from_utf8_lossy(nonce))),
            (_, Some(nonce)) => Some(format!("m1 {} 1 1 1 h -", String::from_utf8_lossy(nonce))),
            (_, None) => Some("hello".into()),
        }
    }

    /// Damages the reply.
    fn spoil(&mut self) {
        let at = self.input.byte();
        let at = usize::from(at) % (self.answer.len() + 1);
        match self.input.below(3) {
            0 => self.answer.truncate(at),
            1 if at < self.answer.len() => self.answer[at] = self.input.byte(),
            _ => {
                let length = self.input.below(16);
                let raw = self.input.take(length);
                self.answer.splice(at..at, raw.iter().copied());
            }
        }
    }
}

/// The birth that the value of a sentinel says.
pub(super) fn birth(value: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(value).ok()?;
    text.strip_prefix("s1 ready ")?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

/// The CAS unique that an item is to get, if it is made by this request.
fn chosen(flags: wire::Flags<'_>) -> Option<u64> {
    flags.iter().find_map(|flag| match flag {
        wire::Flag::ExplicitCas(cas) => Some(cas),
        _ => None,
    })
}
