//! Runs one operation to its end on fake time.

use super::rng::Rng;
use super::server::{EPOCH, FakeServer, Kind, NOBODY, SECOND, Time, nanos, secs};
use alloc::collections::VecDeque;
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest, Action, FlightError, Grant, Handshake, Instant, Lease,
    LockKeys, Namespace, Nonce, Now, Operation, Owner, RecordAcquire, ServerError, ServerState,
    SleepReason, WaitPolicy,
};
use memlatch::wire::{Flight, FlightDecoder, Limits, Replies};

/// The fate of a flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It takes the usual time.
    Answered,
    /// It takes this long to the server, and this long back.
    Slow(Duration, Duration),
    /// It is sent and never carried out.
    Lost,
    /// It is carried out, and the answer is lost.
    Mute,
    /// The client gives up on it, and it is carried out this long after it was sent.
    Late(Duration),
    /// Not a byte of it leaves.
    Unsent,
    /// The answer is this.
    Instead(Vec<u8>),
    /// The answer is spoilt, in a way that follows from this number.
    Spoilt(u64),
}

/// The end of an operation.
#[derive(Debug)]
pub(crate) enum End<T> {
    Done(T),
    GaveUp { unknown: bool },
}

/// One flight of an operation, as sent.
#[derive(Debug, Clone)]
pub(crate) struct Flown {
    pub(crate) bytes: String,
    pub(crate) sent: Time,
}

/// The record of what an operation did.
#[derive(Debug)]
pub(crate) struct Run<T> {
    pub(crate) end: End<T>,
    pub(crate) flights: Vec<Flown>,
    pub(crate) pauses: Vec<(Duration, SleepReason)>,
}

impl<T: core::fmt::Debug> Run<T> {
    #[track_caller]
    pub(crate) fn outcome(self) -> T {
        match self.end {
            End::Done(outcome) => outcome,
            End::GaveUp { unknown } => panic!("gave up (unknown: {unknown}): {:?}", self.flights),
        }
    }
}

impl Run<AcquireOutcome> {
    #[track_caller]
    pub(crate) fn granted(self) -> Grant {
        match self.outcome() {
            AcquireOutcome::Granted(grant) => grant,
            other => panic!("not granted: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn failed(self) -> ServerError {
        match self.outcome() {
            AcquireOutcome::Failed(failure) => failure,
            other => panic!("did not fail: {other:?}"),
        }
    }
}

/// The clock of one client and what that client knows of the server.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: usize,
    /// The drift of its clock against true time, in millionths.
    pub(crate) ppm: i64,
    /// The error of its wall clock; `None` when it is nowhere near the truth.
    pub(crate) wall_error: Option<i64>,
    pub(crate) view: Option<ServerState>,
    /// The run of the server that it is connected to.
    pub(crate) connection: Option<u64>,
}

impl Client {
    pub(crate) fn new(id: usize) -> Self {
        Self {
            id,
            ppm: 0,
            wall_error: None,
            view: None,
            connection: None,
        }
    }

    pub(crate) fn moment(&self, at: Time) -> Instant {
        let gained = i128::from(at) * i128::from(self.ppm) / 1_000_000;
        let local = i128::from(at) + gained + self.origin();
        Instant::from_nanos(u64::try_from(local).expect("a time after the origin"))
    }

    /// Every client counts from an origin of its own, so that mixing them up shows.
    fn origin(&self) -> i128 {
        (self.id as i128 + 1) * 1_000_000 * i128::from(SECOND)
    }

    /// The first true time at which the client's clock shows `moment`.
    pub(crate) fn true_time(&self, moment: Instant) -> Time {
        let local = i128::from(moment.as_nanos()) - self.origin();
        let rate = 1_000_000 + i128::from(self.ppm);
        let mut at = u64::try_from(local * 1_000_000 / rate).unwrap_or(u64::MAX / 4);
        while self.moment(at) < moment {
            at += 1;
        }
        at
    }

    pub(crate) fn now(&self, at: Time) -> Now {
        let wall = EPOCH + at / SECOND;
        Now {
            monotonic: self.moment(at),
            unix_seconds: self
                .wall_error
                .map_or(0, |error| wall.saturating_add_signed(error)),
        }
    }

    /// Takes in a handshake.
    pub(crate) fn connected(&mut self, fresh: ServerState, generation: u64) {
        self.connection = Some(generation);
        match &mut self.view {
            Some(view) => {
                view.update(fresh);
            }
            None => self.view = Some(fresh),
        }
    }
}

type Hook = Box<dyn FnOnce(&mut FakeServer, Time)>;

/// A request that its sender has given up on.
#[derive(Debug)]
struct LateRequest {
    due: Time,
    by: usize,
    generation: u64,
    bytes: Vec<u8>,
}

/// A server, its clients, and true time.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) server: FakeServer,
    pub(crate) clients: Vec<Client>,
    pub(crate) namespace: Namespace,
    /// The fates of the next flights.
    pub(crate) fates: VecDeque<Fate>,
    /// The fate of the flights after them.
    pub(crate) usual: Fate,
    /// No client can connect before this.
    pub(crate) unreachable_until: Time,
    /// One way.
    pub(crate) trip: Duration,
    /// The fate of the flights of handshakes.
    pub(crate) greeting: Fate,
    /// The time that a client waits for an answer.
    pub(crate) patience: Duration,
    /// Number of handshakes.
    handshakes: u64,
    late: Vec<LateRequest>,
    timed: Vec<(Time, Hook)>,
    before_flight: Vec<(usize, Hook)>,
}

impl World {
    /// A server that has been up for more than a quarter of an hour and has an old sentinel, and
    /// two clients. It is a quarter past a full second.
    pub(crate) fn new(kind: Kind) -> Self {
        let mut world = Self::fresh(kind);
        world.now = secs(1000.25);
        let sentinel = text(world.namespace.sentinel().as_bytes());
        world.server.found(world.now, &sentinel, EPOCH);
        let longest = world.namespace.longest().as_bytes().to_vec();
        world.server.set(world.now, &longest, b"100", 0);
        world
    }

    /// A server that was started a moment ago and knows nothing.
    pub(crate) fn fresh(kind: Kind) -> Self {
        Self {
            now: secs(0.25),
            server: FakeServer::new(kind),
            clients: (0..2).map(Client::new).collect(),
            namespace: Namespace::new(memlatch::proto::DEFAULT_PREFIX).expect("plain"),
            fates: VecDeque::new(),
            usual: Fate::Answered,
            unreachable_until: 0,
            trip: Duration::from_micros(200),
            greeting: Fate::Answered,
            patience: Duration::from_millis(200),
            handshakes: 0,
            late: Vec::new(),
            timed: Vec::new(),
            before_flight: Vec::new(),
        }
    }

    /// Does this at that time, or as soon as the run gets there.
    pub(crate) fn at(&mut self, time: Time, hook: impl FnOnce(&mut FakeServer, Time) + 'static) {
        self.timed.push((time, Box::new(hook)));
    }

    /// Does this just before the flight of this number (from 0) of the next run is prepared.
    pub(crate) fn before_flight(
        &mut self,
        number: usize,
        hook: impl FnOnce(&mut FakeServer, Time) + 'static,
    ) {
        self.before_flight.push((number, Box::new(hook)));
    }

    /// Lets time pass, and what is due happen in its order.
    pub(crate) fn advance(&mut self, to: Time) {
        assert!(to >= self.now, "the test lets time run backwards");
        loop {
            let hook = (0..self.timed.len())
                .map(|index| (self.timed[index].0, index))
                .min();
            let late = (0..self.late.len())
                .map(|index| (self.late[index].due, index))
                .min();
            match (hook, late) {
                (Some((due, index)), other)
                    if due <= to && other.is_none_or(|(later, _)| due <= later) =>
                {
                    let (_, hook) = self.timed.swap_remove(index);
                    self.now = self.now.max(due);
                    hook(&mut self.server, self.now);
                }
                (_, Some((due, index))) if due <= to => {
                    let request = self.late.swap_remove(index);
                    self.now = self.now.max(due);
                    // It died with the process that had it in its buffers.
                    if request.generation == self.server.generation {
                        self.server.handle(self.now, request.by, &request.bytes);
                    }
                }
                _ => break,
            }
        }
        self.now = to;
    }

    pub(crate) fn wait(&mut self, duration: Duration) {
        self.advance(self.now + nanos(duration));
    }

    /// Lets the clients' bytes pass, and gives the answer.
    fn exchange(&mut self, client: usize, bytes: &[u8], fate: &Fate) -> Option<Vec<u8>> {
        let (there, back) = match fate {
            Fate::Slow(there, back) => (*there, *back),
            _ => (self.trip, self.trip),
        };
        let deadline = self.now + nanos(self.patience.max(there + back));
        let generation = self.server.generation;
        if *fate == Fate::Unsent {
            return None;
        }
        self.advance(self.now + nanos(there));
        let reply = match fate {
            Fate::Late(after) => {
                self.late.push(LateRequest {
                    due: self.now - nanos(there) + nanos(*after),
                    by: client,
                    generation,
                    bytes: bytes.into(),
                });
                None
            }
            Fate::Instead(reply) => Some(reply.clone()),
            Fate::Lost => None,
            _ if generation != self.server.generation => None,
            _ => Some(self.server.handle(self.now, client, bytes)),
        };
        let reply = reply.filter(|_| *fate != Fate::Mute);
        let reply = match *fate {
            Fate::Spoilt(seed) => reply.map(|reply| spoil(reply, &mut Rng::new(seed))),
            _ => reply,
        };
        if reply.is_some() {
            self.advance(self.now + nanos(back));
        } else {
            self.advance(deadline);
        }
        reply.filter(|_| generation == self.server.generation)
    }

    /// The handshake that goes before the first flight on every connection. An error is the
    /// server's or `None` for silence.
    pub(crate) fn connect(&mut self, client: usize) -> Result<(), Option<ServerError>> {
        if self.now < self.unreachable_until {
            self.advance(self.now + nanos(Duration::from_millis(1)));
            return Err(None);
        }
        let namespace = self.namespace.clone();
        self.handshakes += 1;
        let mut handshake =
            Handshake::new(&namespace, longest(), None, nonce(self.handshakes << 32));
        loop {
            let (flight, sent) = self.prepare_handshake(client, &mut handshake);
            let fate = self.greeting.clone();
            let reply = self.exchange(client, flight.bytes(), &fate).ok_or(None)?;
            let received = self.clients[client].moment(self.now);
            let mut replies = replies(&flight, &reply, &fate).ok_or(None)?;
            let view = match handshake.interpret(&mut replies, sent, received) {
                Ok(view) => view,
                Err(_) if matches!(fate, Fate::Spoilt(_)) => return Err(None),
                Err(error) => panic!("the fake speaks the protocol: {error}"),
            };
            match view {
                None => {}
                Some(Err(failure)) => return Err(Some(failure)),
                Some(Ok(view)) => {
                    let generation = self.server.generation;
                    self.clients[client].connected(view, generation);
                    return Ok(());
                }
            }
        }
    }

    pub(crate) fn prepare_handshake(
        &mut self,
        client: usize,
        handshake: &mut Handshake<'_>,
    ) -> (Flight, Instant) {
        let now = self.clients[client].now(self.now);
        let mut flight = Flight::new();
        handshake.prepare(now, &mut flight);
        (flight, now.monotonic)
    }

    pub(crate) fn view(&self, client: usize) -> &ServerState {
        self.clients[client].view.as_ref().expect("was connected")
    }

    pub(crate) fn run<O: Operation>(&mut self, operation: &mut O) -> Run<O::Outcome> {
        self.run_as(0, operation)
    }

    /// Does what the operation says until it is over.
    pub(crate) fn run_as<O: Operation>(
        &mut self,
        client: usize,
        operation: &mut O,
    ) -> Run<O::Outcome> {
        let mut flights = Vec::new();
        let mut pauses = Vec::new();
        let mut step = Action::Transmit;
        let end = loop {
            step = match step {
                Action::Done(outcome) => break End::Done(outcome),
                Action::Fail { unknown } => break End::GaveUp { unknown },
                Action::Transmit => self.fly(client, operation, &mut flights),
                Action::Sleep { until, why } => {
                    let until = self.clients[client].true_time(until).max(self.now);
                    pauses.push((Duration::from_nanos(until - self.now), why));
                    self.advance(until);
                    self.fly(client, operation, &mut flights)
                }
            };
            assert!(
                flights.len() + pauses.len() < 5000,
                "no end in sight: {:?}",
                &flights[..10]
            );
        };
        Run {
            end,
            flights,
            pauses,
        }
    }

    fn fly<O: Operation>(
        &mut self,
        client: usize,
        operation: &mut O,
        flights: &mut Vec<Flown>,
    ) -> Action<O::Outcome> {
        while let Some(index) = (0..self.before_flight.len())
            .find(|index| self.before_flight[*index].0 == flights.len())
        {
            let (_, hook) = self.before_flight.swap_remove(index);
            hook(&mut self.server, self.now);
        }
        if self.clients[client].connection != Some(self.server.generation)
            && self.connect(client).is_err()
        {
            let now = self.clients[client].now(self.now);
            return operation.handle_failure(FlightError::NotSent, now);
        }
        let now = self.clients[client].now(self.now);
        let mut flight = Flight::new();
        if let Err(outcome) = operation.poll_transmit(self.view(client), now, &mut flight) {
            assert_eq!(flight.bytes(), b"", "bytes were prepared beside an outcome");
            return Action::Done(outcome);
        }
        flights.push(Flown {
            bytes: String::from_utf8(flight.bytes().into()).expect("plain keys and names"),
            sent: self.now,
        });
        let fate = self.fates.pop_front().unwrap_or(self.usual.clone());
        let reply = self.exchange(client, flight.bytes(), &fate);
        let after = self.clients[client].now(self.now);
        let Some(reply) = reply else {
            self.clients[client].connection = None;
            let how = match fate {
                Fate::Unsent => FlightError::NotSent,
                _ => FlightError::NoReply,
            };
            return operation.handle_failure(how, after);
        };
        let Some(mut replies) = replies(&flight, &reply, &fate) else {
            self.clients[client].connection = None;
            return operation.handle_failure(FlightError::NoReply, after);
        };
        let view = self.clients[client].view.as_mut().expect("was connected");
        match operation.handle_replies(view, &mut replies, now.monotonic, after.monotonic) {
            Ok(step) => step,
            Err(_) => {
                self.clients[client].connection = None;
                operation.handle_failure(FlightError::NoReply, after)
            }
        }
    }

    /// Has `client` hold the lock.
    #[track_caller]
    pub(crate) fn hold(&mut self, client: usize, names: &Names, lease: Lease) -> Grant {
        let request = AcquireRequest {
            min_memory: None,
            ..names.request(lease)
        };
        let mut acquire = RecordAcquire::new(request, nonce(9000 + client as u64));
        self.run_as(client, &mut acquire).granted()
    }

    /// The same with a token and a memory.
    #[track_caller]
    pub(crate) fn hold_fenced(&mut self, client: usize, names: &Names, lease: Lease) -> Grant {
        let mut acquire = RecordAcquire::new(names.request(lease), nonce(9100 + client as u64));
        self.run_as(client, &mut acquire).granted()
    }

    /// The record under the lock key, as text.
    pub(crate) fn record(&mut self, names: &Names) -> Option<String> {
        let item = self.server.item(self.now, names.keys.lock().as_bytes())?;
        Some(String::from_utf8(item.value.clone()).expect("records are text"))
    }

    /// Stores the record of another holder: a record of ours typed in by hand.
    pub(crate) fn other_holds(&mut self, names: &Names, seconds: u64) {
        let expiry = self.server.second(self.now) + seconds;
        let request = format!(
            "add {} 0 {expiry} {}\r\n{OTHER}\r\n",
            names.lock(),
            OTHER.len()
        );
        let reply = self.server.handle(self.now, NOBODY, request.as_bytes());
        assert_eq!(reply, b"STORED\r\n");
    }
}

/// The record of a holder that is no client of the test.
pub(crate) const OTHER: &str =
    "m1 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f 20000 1795337300 77 elsewhere job%207";

/// Checks that the replies are those that the flight announces, no more and no less.
pub(crate) fn whole<'a>(flight: &Flight, reply: &'a [u8]) -> Replies<'a> {
    let length = FlightDecoder::new(Limits::LOCK).advance(flight.shapes(), reply);
    assert_eq!(
        length,
        Ok(Some(reply.len())),
        "{} answered by {}",
        flight.bytes().escape_ascii(),
        reply.escape_ascii()
    );
    Replies::new(reply)
}

/// The replies, if they are all there. Those of the fake always are.
fn replies<'a>(flight: &Flight, reply: &'a [u8], fate: &Fate) -> Option<Replies<'a>> {
    if !matches!(fate, Fate::Spoilt(_)) {
        return Some(whole(flight, reply));
    }
    let length = FlightDecoder::new(Limits::LOCK).advance(flight.shapes(), reply);
    Some(Replies::new(&reply[..length.ok()??]))
}

/// Makes of a reply what no server should send.
fn spoil(mut reply: Vec<u8>, dice: &mut Rng) -> Vec<u8> {
    const NUMBERS: [&[u8]; 8] = [
        b"0",
        b"1",
        b"18446744073709551615",
        b"9223372036854775807",
        b"4294967295",
        b"2147483648",
        b"-1",
        b"",
    ];
    for _ in 0..dice.within(1..4) {
        let length = reply.len() as u64;
        let at = dice.within(0..length.max(1)) as usize;
        let to = (at + dice.within(0..40) as usize).min(reply.len());
        match dice.within(0..6) {
            0 if at < reply.len() => reply[at] = dice.next() as u8,
            1 => drop(reply.drain(at.min(to)..to)),
            2 => {
                let copy = reply[at.min(to)..to].to_vec();
                reply.splice(to..to, copy);
            }
            3 => reply.truncate(at),
            // A number becomes another one.
            _ => {
                let digit = |index: &usize| reply[*index].is_ascii_digit();
                let Some(start) = (at..reply.len()).find(digit) else {
                    continue;
                };
                let end = (start..reply.len()).find(|index| !digit(index));
                let number = NUMBERS[dice.within(0..8) as usize];
                reply.splice(start..end.unwrap_or(reply.len()), number.iter().copied());
            }
        }
    }
    reply
}

/// The keys of the locks of a test, and their owner.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) namespace: Namespace,
    pub(crate) keys: LockKeys,
    pub(crate) owner: Owner,
}

impl Names {
    pub(crate) fn new(name: &str) -> Self {
        let namespace = Namespace::new(memlatch::proto::DEFAULT_PREFIX).expect("plain");
        let keys = namespace.keys(name.as_bytes()).expect("plain");
        Self {
            namespace,
            keys,
            owner: Owner::new("db-7", 4711, "nightly"),
        }
    }

    /// Once, with a fencing token, on a server that remembers a lease.
    pub(crate) fn request(&self, lease: Lease) -> AcquireRequest<'_> {
        AcquireRequest {
            namespace: &self.namespace,
            keys: &self.keys,
            owner: &self.owner,
            lease,
            fencing: true,
            report_holder: true,
            without_record: false,
            min_memory: Some(lease),
            wait: WaitPolicy::Try,
            retry_timeout: Duration::from_secs(1),
        }
    }

    pub(crate) fn lock(&self) -> String {
        text(self.keys.lock().as_bytes())
    }

    pub(crate) fn fence(&self) -> String {
        text(self.keys.fence().as_bytes())
    }

    pub(crate) fn sentinel(&self) -> String {
        text(self.namespace.sentinel().as_bytes())
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8(key.into()).expect("plain")
}

/// The longest lease of a client: no longer than any that is tested, so that it changes nothing.
pub(crate) fn longest() -> Lease {
    lease(100)
}

pub(crate) fn lease(millis: u64) -> Lease {
    Lease::new(Duration::from_millis(millis)).expect("in range")
}

/// A nonce with its number in the middle, so that `next` of one is not another.
pub(crate) fn nonce(number: u64) -> Nonce {
    Nonce::from_random((u128::from(number) << 64 | 0xfeed).to_be_bytes())
}
