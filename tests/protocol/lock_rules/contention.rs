//! Random histories of several clients that fight for one lock while the network and the server
//! do what networks and servers do. Whatever happens, no two of them have a valid guard at once.
//!
//! A guard is valid from the moment the client learns of its grant to its deadline, on its own
//! clock, or to the moment it sends its release. The histories follow from their seeds.

use super::driver::{Client, Names, longest, nonce, whole};
use super::rng::Rng;
use super::server::{FakeServer, Kind, SECOND, Time, secs};
use alloc::collections::BTreeMap;
use core::time::Duration;
use memlatch::proto::{
    Acquire, AcquireOutcome, AcquireRequest, Action, FlightError, Grant, Handshake, Instant, Lease,
    Nonce, Now, Operation, OwnerId, Release, ReleaseStatus, Renew, RenewOutcome, SampleClock,
    ServerError, ServerState, WaitPolicy,
};
use memlatch::wire::{DecodeError, Flight, Replies};

/// The faults that can happen in a history. Times are in seconds, chances in thousandths of all
/// flights.
#[derive(Debug, Clone)]
struct FaultPlan {
    histories: u64,
    length: f64,
    leases: (f64, f64),
    /// Between two acquisitions of one client.
    longest_rest: f64,
    /// The drift of clocks against true time, in millionths.
    drift: u64,
    longest_trip: f64,
    /// The time limit for an answer.
    patience: f64,
    lost: u64,
    mute: u64,
    unsent: u64,
    /// Given up, and carried out later.
    late: u64,
    latest: f64,
    /// The client stands still when an answer comes.
    paused: u64,
    longest_pause: f64,
    /// Mean time between two of what goes wrong at the server; 0 is never.
    faults: f64,
    fault_kinds: &'static [Fault],
    longest_stall: f64,
    /// The timer of the server; a real one is 1.0008 s.
    tick: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Restart,
    Flush,
    /// Delayed.
    FlushLater,
    LoseSentinel,
    /// A restart behind which process id and start are the same.
    Twin,
    /// Another program reads all items.
    Reads,
    Stall,
}

impl FaultPlan {
    /// Nothing goes wrong, and clocks agree.
    const FAIR: Self = Self {
        histories: 10,
        length: 40.0,
        leases: (0.1, 4.0),
        longest_rest: 1.0,
        drift: 0,
        longest_trip: 0.002,
        patience: 0.3,
        lost: 0,
        mute: 0,
        unsent: 0,
        late: 0,
        latest: 0.0,
        paused: 0,
        longest_pause: 0.0,
        faults: 0.0,
        fault_kinds: &[],
        longest_stall: 0.0,
        tick: 1.0008,
    };

    /// Slow and lossy.
    const ROUGH: Self = Self {
        histories: 30,
        length: 60.0,
        drift: 9_900,
        longest_trip: 0.25,
        lost: 20,
        mute: 30,
        unsent: 10,
        late: 20,
        latest: 6.0,
        paused: 20,
        longest_pause: 6.0,
        ..Self::FAIR
    };

    fn forgets(&self) -> bool {
        let forgetful = [Fault::Restart, Fault::Flush, Fault::FlushLater, Fault::Twin];
        self.fault_kinds.iter().any(|kind| forgetful.contains(kind))
    }

    fn most_drift(&self) -> i64 {
        i64::try_from(self.drift).expect("at most one hundredth")
    }
}

/// The activity of a client.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are three of them")]
enum Activity<'a> {
    Nothing,
    Watching(SampleClock<'a>),
    Acquiring(Acquire<'a>),
    Renewing(Renew<'a>),
    Releasing(Release<'a>),
}

/// The outcome of a step of any activity.
#[derive(Debug)]
enum Outcome {
    Watched(Result<(), ServerError>),
    Acquired(AcquireOutcome),
    Renewed(RenewOutcome),
    Released(ReleaseStatus),
}

/// Does the same with whatever operation it is.
macro_rules! dispatch {
    ($activity:expr, |$operation:ident, $wrap:ident| $work:expr) => {
        match $activity {
            Activity::Nothing => panic!("nothing is being done"),
            Activity::Watching($operation) => {
                let $wrap = Outcome::Watched;
                $work
            }
            Activity::Acquiring($operation) => {
                let $wrap = Outcome::Acquired;
                $work
            }
            Activity::Renewing($operation) => {
                let $wrap = Outcome::Renewed;
                $work
            }
            Activity::Releasing($operation) => {
                let $wrap = Outcome::Released;
                $work
            }
        }
    };
}

fn rewrap<T>(step: Action<T>, wrap: impl FnOnce(T) -> Outcome) -> Action<Outcome> {
    match step {
        Action::Transmit => Action::Transmit,
        Action::Sleep { until, why } => Action::Sleep { until, why },
        Action::Done(outcome) => Action::Done(wrap(outcome)),
        Action::Fail { unknown } => Action::Fail { unknown },
    }
}

impl Activity<'_> {
    #[expect(
        clippy::result_large_err,
        reason = "the outcome of an operation is no error"
    )]
    fn prepare(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Outcome> {
        dispatch!(self, |op, wrap| op
            .poll_transmit(server, now, flight)
            .map_err(wrap))
    }

    fn interpret(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<Outcome>, DecodeError> {
        dispatch!(self, |op, wrap| {
            let step = op.handle_replies(server, replies, sent, received)?;
            Ok(rewrap(step, wrap))
        })
    }

    fn interrupted(&mut self, how: FlightError, now: Now) -> Action<Outcome> {
        dispatch!(self, |op, wrap| rewrap(op.handle_failure(how, now), wrap))
    }
}

/// A flight under way.
#[derive(Debug)]
struct Awaited {
    number: u64,
    flight: Flight,
    sent: Instant,
    greeting: bool,
}

/// A lock that a client has.
#[derive(Debug, Clone, Copy)]
struct Held<'a> {
    grant: &'a Grant,
    lease: Lease,
    cas: u64,
    sent: Instant,
    valid_until: Instant,
    /// When its holder is done with it.
    leave: Time,
}

#[derive(Debug)]
struct Actor<'a> {
    client: Client,
    activity: Activity<'a>,
    handshake: Option<Handshake<'a>>,
    awaited: Option<Awaited>,
    held: Option<Held<'a>>,
    lease: Lease,
    /// The true time at which its guard stops being valid.
    believes_until: Time,
    /// The attempt that it holds the lock by, and the true time at which that was first sent or
    /// last renewed.
    proof: OwnerId,
    asked_at: Time,
}

#[derive(Debug)]
enum Event {
    /// A client goes on: its pause or its rest is over.
    Go(usize),
    /// A flight reaches the server; its answer takes so long, or is lost.
    Arrive {
        client: usize,
        generation: u64,
        number: u64,
        bytes: Vec<u8>,
        back: Option<Time>,
    },
    Answer {
        client: usize,
        number: u64,
        bytes: Vec<u8>,
    },
    Timeout {
        client: usize,
        number: u64,
    },
    /// A deadline comes.
    Check {
        client: usize,
        until: Time,
    },
    Fault,
}

struct History<'a> {
    weather: &'a FaultPlan,
    kind: Kind,
    seed: u64,
    names: &'a Names,
    dice: Rng,
    now: Time,
    server: FakeServer,
    actors: Vec<Actor<'a>>,
    /// By time, and in the order in which they were planned.
    events: BTreeMap<(Time, u64), Event>,
    planned: u64,
    flights: u64,
    attempts: u64,
    grants: u64,
    /// Grants without a record.
    lean_grants: u64,
    renewals: u64,
    last_token: u64,
    /// When the server last forgot something that it should not.
    forgot: Time,
    /// The time until which a delayed flush makes it forget.
    forgets_until: Time,
    trace: Vec<String>,
}

impl<'a> History<'a> {
    fn new(weather: &'a FaultPlan, kind: Kind, seed: u64, names: &'a Names) -> Self {
        let mut dice = Rng::new(seed);
        let phase = dice.within(0..SECOND);
        let mut history = Self {
            weather,
            kind,
            seed,
            names,
            now: 0,
            server: FakeServer::with_clock(kind, phase, secs(weather.tick)),
            actors: Vec::new(),
            events: BTreeMap::new(),
            planned: 0,
            flights: 0,
            attempts: 0,
            grants: 0,
            lean_grants: 0,
            renewals: 0,
            last_token: 0,
            forgot: 0,
            forgets_until: 0,
            trace: Vec::new(),
            dice,
        };
        // All agree on the longest lease, as they must.
        for id in 0..3 {
            let mut client = Client::new(id);
            let drift = history.dice.within(0..2 * weather.drift + 1);
            let drift = i64::try_from(drift).expect("at most one hundredth");
            client.ppm = drift - weather.most_drift();
            let length = history.seconds(weather.leases.0, weather.leases.1);
            history.actors.push(Actor {
                client,
                activity: Activity::Nothing,
                handshake: None,
                awaited: None,
                held: None,
                lease: Lease::new(Duration::from_nanos(length)).expect("in range"),
                believes_until: 0,
                proof: OwnerId::Nonce(Nonce::from_random([0; 16])),
                asked_at: 0,
            });
            let first = history.seconds(0.0, 1.0);
            history.plan(first, Event::Go(id));
        }
        if weather.faults > 0.0 {
            let first = history.seconds(2.0, 2.0 + 2.0 * weather.faults);
            history.plan(first, Event::Fault);
        }
        history
    }

    fn seconds(&mut self, from: f64, to: f64) -> Time {
        self.dice.within(secs(from)..secs(to) + 1)
    }

    fn plan(&mut self, delay: Time, event: Event) {
        self.planned += 1;
        self.events.insert((self.now + delay, self.planned), event);
    }

    fn note(&mut self, what: &str) {
        self.trace
            .push(format!("{:>12.6} {what}", self.now as f64 / 1e9));
    }

    fn fail(&self, why: &str) -> ! {
        let from = self.trace.len().saturating_sub(30);
        panic!(
            "{why}\n{:?}, seed {}, the last events:\n{}",
            self.kind,
            self.seed,
            self.trace[from..].join("\n")
        );
    }

    fn run(&mut self) {
        let end = secs(self.weather.length);
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > end {
                return;
            }
            self.now = time;
            match event {
                Event::Go(client) => self.go(client),
                Event::Arrive {
                    client,
                    generation,
                    number,
                    bytes,
                    back,
                } => {
                    // Connections and what is on them die with the process.
                    if generation == self.server.generation {
                        let bytes = self.server.handle(time, client, &bytes);
                        if let Some(back) = back {
                            self.plan(
                                back,
                                Event::Answer {
                                    client,
                                    number,
                                    bytes,
                                },
                            );
                        }
                    }
                }
                Event::Answer {
                    client,
                    number,
                    bytes,
                } => self.answered(client, number, &bytes),
                Event::Timeout { client, number } => self.timed_out(client, number),
                Event::Check { client, until } => self.check(client, until),
                Event::Fault => self.fault(),
            }
        }
    }

    /// When the server last forgot something that it should not.
    fn last_forgot(&self) -> Time {
        self.forgot.max(self.forgets_until.min(self.now))
    }

    fn fault(&mut self) {
        let next = self.seconds(0.0, 2.0 * self.weather.faults);
        self.plan(next, Event::Fault);
        let kinds = self.weather.fault_kinds;
        let kind = kinds[self.dice.within(0..kinds.len() as u64) as usize];
        match kind {
            Fault::Restart => {
                self.server.restart(self.now);
                self.forgot = self.now;
            }
            Fault::Flush => {
                self.server.flush(self.now);
                self.forgot = self.now;
            }
            Fault::FlushLater => {
                // A flush before the delayed one would not count any more: see docs/safety.md.
                if self.now < self.last_forgot() + 20 * SECOND {
                    return;
                }
                let delay = 1 + self.dice.within(0..3);
                self.server.flush_later(self.now, delay);
                // From the second before on, whatever was stored by then is gone.
                self.forgets_until = self.now + (delay + 2) * SECOND;
            }
            Fault::Twin => {
                self.server.restart_as_twin(self.now);
                self.forgot = self.now;
            }
            Fault::Reads => {
                for key in [self.names.sentinel(), self.names.lock(), self.names.fence()] {
                    self.server.read(self.now, key.as_bytes());
                }
            }
            Fault::LoseSentinel => self.server.evict(self.names.sentinel().as_bytes()),
            Fault::Stall => {
                // What is promised is promised from the first tick on that a client has seen.
                let pid = self.server.pid;
                let all_steady = self.actors.iter().all(|actor| {
                    let view = actor.client.view.as_ref();
                    view.is_some_and(|view| view.instance.pid == pid && view.clock.is_steady())
                });
                if !all_steady {
                    return;
                }
                let length = self.seconds(0.1, self.weather.longest_stall);
                self.server.stall(self.now, self.now + length);
            }
        }
        self.note(&format!("{kind:?}"));
    }

    /// A client that has nothing under way does the next thing.
    fn go(&mut self, id: usize) {
        if matches!(self.actors[id].activity, Activity::Nothing) {
            let Some(activity) = self.choose(id) else {
                return;
            };
            self.actors[id].activity = activity;
        }
        self.send(id);
    }

    fn choose(&mut self, id: usize) -> Option<Activity<'a>> {
        let now = self.actors[id].client.moment(self.now);
        let names = self.names;
        if let Some(held) = self.actors[id].held {
            if now >= held.valid_until {
                self.actors[id].held = None;
                self.rest(id);
                return None;
            }
            if self.now < held.leave {
                let (space, keys) = (&names.namespace, &names.keys);
                let renew = Renew::new(space, keys, held.grant, held.lease, held.cas);
                return Some(Activity::Renewing(renew));
            }
            self.actors[id].held = None;
            if self.dice.chance(250) {
                // It stops renewing without a word, and its guard is valid to the end.
                self.note(&format!("{id} stands still"));
                self.rest(id);
                return None;
            }
            self.note(&format!("{id} releases"));
            self.actors[id].believes_until = self.now;
            let give_up = now.after(Duration::from_secs(2));
            let release = Release::new(&names.keys, held.grant, held.cas, give_up);
            return Some(Activity::Releasing(release));
        }
        let steady = |view: &ServerState| view.clock.is_steady();
        let stalls = self.weather.fault_kinds.contains(&Fault::Stall);
        if stalls && !self.actors[id].client.view.as_ref().is_some_and(steady) {
            return Some(Activity::Watching(SampleClock::new(
                &names.namespace,
                longest(),
            )));
        }
        self.attempts += 1;
        let number = u128::from(self.attempts) << 80 | (id as u128) << 64;
        let patience = match self.dice.within(0..4) {
            0 => WaitPolicy::Try,
            1 => WaitPolicy::Until(now.after(Duration::from_nanos(self.seconds(0.0, 5.0)))),
            _ => WaitPolicy::Forever,
        };
        let longest = Duration::from_secs_f64(self.weather.leases.1);
        // Without a record the client does not ask whether the server has forgotten one.
        let lean = !self.weather.forgets() && self.dice.within(0..3) == 0;
        let request = AcquireRequest {
            min_memory: (!lean).then(|| Lease::new(longest).expect("in range")),
            without_record: lean,
            fencing: !lean,
            wait: patience,
            ..names.request(self.actors[id].lease)
        };
        let nonce = Nonce::from_random(number.to_be_bytes());
        Some(Activity::Acquiring(Acquire::new(request, nonce)))
    }

    fn rest(&mut self, id: usize) {
        let length = self.seconds(0.001, self.weather.longest_rest);
        self.plan(length, Event::Go(id));
    }

    fn follow(&mut self, id: usize, step: Action<Outcome>) {
        match step {
            Action::Transmit => self.send(id),
            Action::Sleep { until, .. } => {
                let until = self.actors[id].client.true_time(until);
                // No sleep ends at the very nanosecond.
                let slip = self.dice.within(0..100_000);
                self.plan(until.saturating_sub(self.now) + slip, Event::Go(id));
            }
            Action::Done(outcome) => {
                let activity = core::mem::replace(&mut self.actors[id].activity, Activity::Nothing);
                drop(activity);
                self.done(id, outcome);
            }
            Action::Fail { .. } => {
                let activity = core::mem::replace(&mut self.actors[id].activity, Activity::Nothing);
                self.gave_up(id, &activity);
            }
        }
    }

    fn gave_up(&mut self, id: usize, activity: &Activity<'a>) {
        match activity {
            Activity::Renewing(_) => {
                // It tries again soon, as long as it may.
                let soon = self.seconds(0.01, 0.1);
                self.plan(soon, Event::Go(id));
            }
            Activity::Acquiring(acquire) => {
                let leftover = acquire.orphan().filter(|_| self.dice.chance(700));
                let Some(leftover) = leftover else {
                    self.rest(id);
                    return;
                };
                let now = self.actors[id].client.now(self.now);
                let give_up = now.monotonic.after(Duration::from_secs(1));
                let release = Release::for_orphan(&self.names.keys, &leftover, give_up);
                self.actors[id].activity = Activity::Releasing(release);
                self.send(id);
            }
            _ => self.rest(id),
        }
    }

    fn done(&mut self, id: usize, outcome: Outcome) {
        match outcome {
            Outcome::Acquired(AcquireOutcome::Granted(grant)) => {
                self.grants += 1;
                let lean = grant.record().is_none();
                self.lean_grants += u64::from(lean);
                if let Some(token) = grant.token {
                    // A server whose clock begins anew may give the same ones again.
                    let twins = self.weather.fault_kinds.contains(&Fault::Twin);
                    if token <= self.last_token && !twins {
                        self.fail(&format!(
                            "client {id} got {token} after {}",
                            self.last_token
                        ));
                    }
                    self.last_token = token;
                }
                let lease = self.actors[id].lease;
                let leave = self.seconds(0.0, 3.0 * lease.duration().as_secs_f64());
                self.actors[id].held = Some(Held {
                    cas: grant.cas,
                    sent: grant.sent_at,
                    valid_until: grant.valid_until,
                    leave: self.now + leave,
                    lease,
                    grant: Box::leak(Box::new(grant)),
                });
                self.believe(id, "is granted");
            }
            Outcome::Renewed(RenewOutcome::Renewed {
                cas,
                sent,
                valid_until,
                ..
            }) => {
                self.renewals += 1;
                let held = self.actors[id].held.as_mut().expect("renewed");
                (held.cas, held.sent, held.valid_until) = (cas, sent, valid_until);
                self.believe(id, "has renewed");
            }
            Outcome::Renewed(RenewOutcome::Lost(why)) => {
                self.note(&format!("{id} has lost it: {why}"));
                let actor = &self.actors[id];
                if actor.believes_until > self.now && self.last_forgot() < actor.asked_at {
                    self.fail(&format!(
                        "client {id} lost for no reason what it believed in"
                    ));
                }
                self.actors[id].held = None;
                self.actors[id].believes_until = self.now;
                self.rest(id);
            }
            Outcome::Renewed(RenewOutcome::Failed(_)) => {
                // Late twins of it may get in between again and again. The lease runs on.
                let soon = self.seconds(0.01, 0.1);
                self.plan(soon, Event::Go(id));
            }
            Outcome::Watched(Err(why)) => self.fail(&format!("reading the clock: {why}")),
            Outcome::Watched(Ok(())) => {
                let soon = self.seconds(0.2, 0.4);
                self.plan(soon, Event::Go(id));
            }
            Outcome::Released(what) => {
                self.note(&format!("{id} released: {what:?}"));
                self.rest(id);
            }
            Outcome::Acquired(_) => self.rest(id),
        }
    }

    /// The heart of it: a guard becomes valid, or stays so.
    fn believe(&mut self, id: usize, how: &str) {
        let held = self.actors[id].held.expect("just got it");
        let until = self.actors[id].client.true_time(held.valid_until);
        self.note(&format!("{id} {how}, until {:.6}", until as f64 / 1e9));
        for other in 0..self.actors.len() {
            let believed = self.actors[other].believes_until;
            if other != id && believed > self.now && until > self.now {
                self.fail(&format!(
                    "clients {id} and {other} believe at once, for {:?}",
                    Duration::from_nanos(believed.min(until) - self.now)
                ));
            }
        }
        self.actors[id].believes_until = until;
        self.actors[id].proof = held.grant.owner_id;
        self.actors[id].asked_at = self.actors[id].client.true_time(held.sent);
        if until > self.now {
            self.plan(until - 1 - self.now, Event::Check { client: id, until });
        }
        let renewal = self.actors[id]
            .client
            .true_time(held.lease.renew_at(held.sent));
        let next = renewal.min(held.leave).max(self.now);
        self.plan(next - self.now, Event::Go(id));
    }

    /// The server keeps a record for as long as its guard is valid.
    fn check(&mut self, id: usize, until: Time) {
        let actor = &self.actors[id];
        let proof = actor.proof;
        if actor.believes_until != until || self.last_forgot() >= actor.asked_at {
            return;
        }
        let item = self
            .server
            .item(self.now, self.names.keys.lock().as_bytes());
        if !item.is_some_and(|item| proof.matches(&item.value, item.cas)) {
            self.fail(&format!("client {id} believes in a record that is gone"));
        }
    }

    fn send(&mut self, id: usize) {
        let now = self.actors[id].client.now(self.now);
        let actor = &mut self.actors[id];
        let mut flight = Flight::new();
        let greeting = actor.client.connection != Some(self.server.generation);
        if greeting {
            let names = self.names;
            // Never drawn before: the number of a flight.
            let nonce = nonce(self.flights + 1);
            let handshake = actor
                .handshake
                .get_or_insert_with(|| Handshake::new(&names.namespace, longest(), None, nonce));
            handshake.prepare(now, &mut flight);
        } else {
            let view = actor.client.view.as_ref().expect("connected");
            if let Err(outcome) = actor.activity.prepare(view, now, &mut flight) {
                assert!(flight.is_empty(), "bytes were prepared beside an outcome");
                self.follow(id, Action::Done(outcome));
                return;
            }
        }
        let weather = self.weather;
        if !greeting && self.dice.chance(weather.unsent) {
            let actor = &mut self.actors[id];
            actor.client.connection = None;
            let step = actor.activity.interrupted(FlightError::NotSent, now);
            self.follow(id, step);
            return;
        }
        self.flights += 1;
        let number = self.flights;
        let there = self.seconds(0.0, weather.longest_trip);
        let mut back = Some(self.seconds(0.0, weather.longest_trip));
        let mut timeout = secs(weather.patience);
        let mut arrival = Some(there);
        if self.dice.chance(weather.lost) {
            arrival = None;
        } else if self.dice.chance(weather.mute) {
            back = None;
        } else if self.dice.chance(weather.late) {
            back = None;
            arrival = Some(self.seconds(0.0, weather.latest));
        } else if self.dice.chance(weather.paused) {
            // The whole process stands still, its timers with it.
            let pause = self.seconds(0.0, weather.longest_pause);
            back = back.map(|back| back + pause);
            timeout += pause;
        }
        if let Some(arrival) = arrival {
            self.plan(
                arrival,
                Event::Arrive {
                    client: id,
                    generation: self.server.generation,
                    number,
                    bytes: flight.bytes().into(),
                    back,
                },
            );
        }
        self.plan(timeout, Event::Timeout { client: id, number });
        self.actors[id].awaited = Some(Awaited {
            number,
            flight,
            sent: now.monotonic,
            greeting,
        });
    }

    fn awaited(&mut self, id: usize, number: u64) -> Option<Awaited> {
        let slot = &mut self.actors[id].awaited;
        slot.take_if(|awaited| awaited.number == number)
    }

    fn timed_out(&mut self, id: usize, number: u64) {
        let Some(awaited) = self.awaited(id, number) else {
            return;
        };
        let actor = &mut self.actors[id];
        actor.client.connection = None;
        actor.handshake = None;
        let now = actor.client.now(self.now);
        let how = if awaited.greeting {
            FlightError::NotSent
        } else {
            FlightError::NoReply
        };
        let step = actor.activity.interrupted(how, now);
        self.follow(id, step);
    }

    fn answered(&mut self, id: usize, number: u64, bytes: &[u8]) {
        let Some(awaited) = self.awaited(id, number) else {
            return;
        };
        let mut replies = whole(&awaited.flight, bytes);
        let actor = &mut self.actors[id];
        let now = actor.client.now(self.now);
        if !awaited.greeting {
            let view = actor.client.view.as_mut().expect("connected");
            let step = actor
                .activity
                .interpret(view, &mut replies, awaited.sent, now.monotonic)
                .expect("the fake speaks the protocol");
            self.follow(id, step);
            return;
        }
        let handshake = actor.handshake.as_mut().expect("under way");
        let over = handshake
            .interpret(&mut replies, awaited.sent, now.monotonic)
            .expect("the fake speaks the protocol");
        match over {
            None => self.send(id),
            Some(Ok(view)) => {
                actor.handshake = None;
                // The answer may be one of the run before; then the next flight finds out.
                actor.client.connected(view, self.server.generation);
                if actor.client.view.as_ref().map(|view| view.instance.pid) != Some(self.server.pid)
                {
                    actor.client.connection = None;
                }
                self.send(id);
            }
            Some(Err(_)) => {
                actor.handshake = None;
                let step = actor.activity.interrupted(FlightError::NotSent, now);
                self.follow(id, step);
            }
        }
    }
}

/// The factor for the number of histories: `MEMLATCH_HISTORIES=100` searches for an hour.
fn thoroughness() -> u64 {
    let asked = std::env::var("MEMLATCH_HISTORIES").ok();
    asked.map_or(1, |times| times.parse().expect("a number"))
}

/// Lives through as many histories as the weather has, with each kind of server.
fn live_through(weather: &FaultPlan) {
    let names = Names::new("L");
    let (mut grants, mut lean_grants, mut renewals, mut takeovers) = (0, 0, 0, 0);
    for kind in Kind::ALL {
        for seed in 0..weather.histories * thoroughness() {
            let mut history = History::new(weather, kind, seed, &names);
            history.run();
            grants += history.grants;
            lean_grants += history.lean_grants;
            renewals += history.renewals;
            takeovers += history.server.takeovers as u64;
        }
    }
    // Histories in which nothing happens show nothing.
    let least = weather.histories * 3 * if weather.forgets() { 1 } else { 3 };
    assert!(grants >= least, "only {grants} grants");
    assert!(
        weather.forgets() || lean_grants >= weather.histories,
        "only {lean_grants} grants without a record"
    );
    assert!(renewals >= weather.histories, "only {renewals} renewals");
    assert!(takeovers > 0, "nobody took a lock over");
}

#[test]
fn one_holder_on_quiet_network() {
    live_through(&FaultPlan::FAIR);
}

#[test]
fn one_holder_on_lossy_networks() {
    live_through(&FaultPlan::ROUGH);
}

#[test]
fn one_holder_over_flushes() {
    live_through(&FaultPlan {
        faults: 8.0,
        fault_kinds: &[
            Fault::Flush,
            Fault::FlushLater,
            Fault::LoseSentinel,
            Fault::Reads,
            Fault::Reads,
        ],
        leases: (0.1, 2.0),
        ..FaultPlan::ROUGH
    });
}

#[test]
fn one_holder_over_restarts() {
    live_through(&FaultPlan {
        faults: 8.0,
        fault_kinds: &[Fault::Restart],
        leases: (0.1, 2.0),
        ..FaultPlan::ROUGH
    });
}

#[test]
fn one_holder_over_identical_servers() {
    live_through(&FaultPlan {
        histories: 20,
        faults: 5.0,
        fault_kinds: &[Fault::Twin, Fault::LoseSentinel],
        leases: (0.1, 1.5),
        drift: 9_900,
        ..FaultPlan::FAIR
    });
}

#[test]
fn one_holder_over_fast_restarts() {
    live_through(&FaultPlan {
        histories: 20,
        faults: 5.0,
        fault_kinds: &[
            Fault::Restart,
            Fault::Flush,
            Fault::LoseSentinel,
            Fault::Reads,
        ],
        leases: (0.1, 1.5),
        drift: 9_900,
        ..FaultPlan::FAIR
    });
}

#[test]
fn one_holder_over_stalls() {
    live_through(&FaultPlan {
        faults: 5.0,
        fault_kinds: &[Fault::Stall],
        longest_stall: 8.0,
        ..FaultPlan::ROUGH
    });
}

#[test]
fn one_holder_over_stalls_and_flushes() {
    live_through(&FaultPlan {
        faults: 4.0,
        fault_kinds: &[Fault::Stall, Fault::Flush],
        longest_stall: 5.0,
        leases: (0.1, 2.0),
        ..FaultPlan::ROUGH
    });
}

#[test]
fn one_holder_after_long_idleness() {
    live_through(&FaultPlan {
        histories: 10,
        length: 20_000.0,
        longest_rest: 1500.0,
        faults: 60.0,
        fault_kinds: &[Fault::Stall, Fault::Flush],
        longest_stall: 20.0,
        patience: 0.6,
        ..FaultPlan::ROUGH
    });
}

#[test]
fn one_holder_with_long_leases() {
    live_through(&FaultPlan {
        // Takeovers are rare among leases of minutes: two or three in ten histories of each kind.
        histories: 20,
        length: 6000.0,
        leases: (20.0, 200.0),
        longest_rest: 100.0,
        latest: 150.0,
        longest_pause: 150.0,
        faults: 500.0,
        fault_kinds: &[Fault::Flush, Fault::Restart, Fault::LoseSentinel],
        patience: 0.6,
        ..FaultPlan::ROUGH
    });
}

#[test]
fn one_holder_with_late_timers() {
    // The worst tick that was measured took 1.18 s.
    live_through(&FaultPlan {
        tick: 1.18,
        drift: 9_900,
        leases: (0.1, 2.0),
        faults: 10.0,
        fault_kinds: &[Fault::Flush],
        ..FaultPlan::FAIR
    });
}
