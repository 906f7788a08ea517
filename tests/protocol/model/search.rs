//! Every interleaving of what clients, server and network may do, breadth first.

use core::hash::{Hash, Hasher};
use std::collections::HashSet;
use std::time::Instant;

use super::client::Granted;
use super::rules::{Beginning, Bounds, Fault, FlushKind};
use super::server::Violation;
use super::world::{
    Budget, CLIENTS, Client, FRESH, Flight, Late, NONE, Notes, Phase, Request, Sentinel,
    SentinelState, Server, World,
};

/// An action that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Tick {
        stall: bool,
    },
    /// The client opens a connection and sends the handshake, or reads the clock on one.
    Read(u8),
    Acquire(u8),
    Repeat(u8),
    TakeOver(u8),
    Look(u8),
    Renew(u8),
    Release(u8),
    Found(u8),
    SetReady(u8),
    /// The client gives up an attempt, a grant that is over, or one of another run.
    GiveUp(u8),
    /// The server carries out the next command of the flight.
    CarryOut(u8),
    /// The same, and the connection breaks before the answers arrive.
    LoseAnswer(u8),
    /// The connection breaks; the request comes late, if at all.
    Break(u8),
    CarryOutLate(u8),
    Restart {
        identity: u8,
    },
    WarmRestart {
        ahead: u8,
    },
    Flush {
        delay: u8,
        horizon: u8,
        spare: bool,
    },
    FlushWithPastTime,
    EvictSentinel,
    Bump,
    StatsReset,
}

impl World {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let beginning = bounds.beginning;
        let old = Sentinel {
            state: SentinelState::Ready,
            identity: 1,
            instance: 1,
            unique: 2,
            age: bounds.old_birth(),
            idle: bounds.old_item(),
            flushed: false,
        };
        let mut server = Server {
            identity: 1,
            uptime: bounds.long_uptime(),
            sentinel: old,
            ..Server::default()
        };
        let mut client = Client::default();
        match beginning {
            Beginning::Quiet => {}
            Beginning::FlushedBefore => {
                server.horizon = 1;
                server.horizon_age = bounds.old_flush();
                server.cmd_flush = 1;
            }
            Beginning::FirstUse => server.sentinel = Sentinel::default(),
            Beginning::Connected | Beginning::AfterTwin => {
                let flushes = (beginning == Beginning::AfterTwin).into();
                client.connected = true;
                client.instance = old.instance;
                client.notes = Notes {
                    taken: true,
                    identity: server.identity,
                    horizon: flushes,
                    cmd_flush: flushes,
                    earlier_run: beginning == Beginning::AfterTwin,
                };
            }
        }
        Self {
            server,
            clients: [client; CLIENTS],
            late: Default::default(),
            budget: Budget {
                breaks: bounds.breaks,
                restarts: bounds.restarts,
                warm_restarts: bounds.warm_restarts,
                flushes: bounds.flushes,
                evictions: bounds.evictions,
                bumps: bounds.bumps,
                stats_resets: bounds.stats_resets,
            },
        }
    }

    /// Everything that can happen next.
    pub(crate) fn actions(&self, bounds: &Bounds, out: &mut Vec<Action>) {
        out.clear();
        for who in 0..self.clients.len() {
            self.client_actions(who, bounds, out);
        }
        for (index, late) in self.late.iter().enumerate() {
            if late.request != Request::Nothing {
                out.push(Action::CarryOutLate(index as u8));
            }
        }
        self.disturbances(bounds, out);
        out.push(Action::Tick { stall: false });
        if self.server.lag < bounds.lag {
            out.push(Action::Tick { stall: true });
        }
    }

    fn client_actions(&self, who: usize, bounds: &Bounds, out: &mut Vec<Action>) {
        let client = &self.clients[who];
        let me = who as u8;
        if client.flight != Flight::None {
            out.push(Action::CarryOut(me));
            if self.budget.breaks > 0 {
                out.push(Action::Break(me));
                if client.flight.steps(bounds).len() == usize::from(client.step) + 1 {
                    out.push(Action::LoseAnswer(me));
                }
            }
            return;
        }
        if client.phase == Phase::Hold && client.valid == 0 {
            out.push(Action::GiveUp(me));
        }
        if !client.connected {
            out.push(Action::Read(me));
            return;
        }
        let same_run = client.same_run(&client.own, self.server.identity, bounds);
        match client.phase {
            Phase::Idle => {
                if self.reading_tells_more(client) {
                    out.push(Action::Read(me));
                }
                out.push(Action::Acquire(me));
                let watch = &client.watch;
                if watch.record.unique != NONE {
                    out.push(Action::Look(me));
                    let ripe = watch.wait == 0 || bounds.has(Fault::TakeoverWithoutWaiting);
                    let seen_here = watch.record.same_link
                        || bounds.has(Fault::InstanceNotCompared)
                            && watch.record.identity == self.server.identity;
                    if ripe && seen_here {
                        out.push(Action::TakeOver(me));
                    }
                }
            }
            Phase::Unknown => {
                if client.asked > 0 {
                    out.push(Action::Repeat(me));
                }
                out.push(Action::GiveUp(me));
            }
            Phase::Hold if !same_run => out.push(Action::GiveUp(me)),
            Phase::Hold => {
                if client.valid > 0 {
                    out.push(Action::Renew(me));
                }
                out.push(Action::Release(me));
            }
            Phase::Release if same_run => out.push(Action::Release(me)),
            Phase::Release => out.push(Action::GiveUp(me)),
            Phase::ReleaseLook => out.push(Action::Look(me)),
            Phase::Found => out.push(Action::Found(me)),
            Phase::Ready => out.push(Action::SetReady(me)),
            Phase::Acquire | Phase::Renew => unreachable!("a flight is on its way"),
        }
    }

    /// True if the regular reading of the clock could change what the client knows. A reading that
    /// cannot is left out: what happens to the server while it runs could as well happen before it.
    fn reading_tells_more(&self, client: &Client) -> bool {
        let server = &self.server;
        let notes = &client.notes;
        let noted = notes.taken
            && notes.identity == server.identity
            && notes.horizon == server.horizon
            && notes.cmd_flush == server.cmd_flush;
        !noted || client.instance != server.sentinel.instance
    }

    fn disturbances(&self, bounds: &Bounds, out: &mut Vec<Action>) {
        let server = &self.server;
        let budget = &self.budget;
        let has_sentinel = server.sentinel.state != SentinelState::Absent;
        if budget.restarts > 0 {
            // As a new run, or with pid and start of any earlier one.
            let used =
                bounds.restarts - budget.restarts + bounds.warm_restarts - budget.warm_restarts;
            for identity in 1..=used + 2 {
                out.push(Action::Restart { identity });
            }
        }
        if budget.warm_restarts > 0 {
            out.push(Action::WarmRestart { ahead: 0 });
            out.push(Action::WarmRestart {
                ahead: bounds.lease + 2,
            });
        }
        // A later flush moves the horizon of an earlier one, which may bring items back. That the
        // earlier one lies back by the longest lease is assumed.
        let recent = server.horizon != NONE && server.horizon_age < bounds.old_flush();
        if budget.flushes > 0 {
            let mut horizons = [FRESH, NONE, NONE];
            for (client, horizon) in self.clients.iter().zip(&mut horizons[1..]) {
                // Another run that began alike is flushed at the same uptime.
                let notes = &client.notes;
                if notes.earlier_run && notes.identity == server.identity {
                    *horizon = notes.horizon;
                }
            }
            for horizon in horizons.into_iter().filter(|&horizon| horizon != NONE) {
                for delay in 0..=bounds.flush_delay {
                    if delay > 0 && recent && !bounds.flush_undone_by_later {
                        continue;
                    }
                    out.push(Action::Flush {
                        delay,
                        horizon,
                        spare: false,
                    });
                }
                let fresh = has_sentinel && server.sentinel.idle == 0;
                let lag_is_allowed_for = server.lag <= bounds.lag_at_flush;
                if fresh && lag_is_allowed_for && bounds.flush_kind == FlushKind::MaySpareThisSecond
                {
                    out.push(Action::Flush {
                        delay: 0,
                        horizon,
                        spare: true,
                    });
                }
            }
        }
        if budget.flushes > 0 && bounds.past_flush {
            out.push(Action::FlushWithPastTime);
        }
        if budget.evictions > 0 && has_sentinel {
            out.push(Action::EvictSentinel);
        }
        if budget.bumps > 0 && has_sentinel && server.sentinel.idle > 0 {
            out.push(Action::Bump);
        }
        if budget.stats_resets > 0 && server.cmd_flush > 0 {
            out.push(Action::StatsReset);
        }
    }

    /// Lets `action` happen.
    pub(crate) fn act(&mut self, action: Action, bounds: &Bounds) -> Result<Granted, Violation> {
        let mut granted = Granted::No;
        match action {
            Action::Tick { stall } => self.tick(stall, bounds),
            Action::Read(who) => {
                let client = &mut self.clients[usize::from(who)];
                client.connected = true;
                client.send(Flight::Read, Request::Nothing);
            }
            Action::Acquire(who) => self.acquire(who.into(), NONE, bounds),
            Action::Repeat(who) => {
                let identity = self.server.identity;
                let client = &mut self.clients[usize::from(who)];
                client.own.identity = identity;
                client.own.instance = client.instance;
                client.own.same_link = true;
                self.store(who.into(), NONE);
            }
            Action::TakeOver(who) => {
                let over = self.clients[usize::from(who)].watch.record.unique;
                self.acquire(who.into(), over, bounds);
            }
            Action::Look(who) => {
                self.clients[usize::from(who)].send(Flight::Look, Request::Nothing);
            }
            Action::Renew(who) => self.renew(who.into(), bounds),
            Action::Release(who) => {
                let client = &mut self.clients[usize::from(who)];
                client.valid = 0;
                client.phase = Phase::Release;
                let unique = client.own.unique;
                client.send(Flight::Request, Request::Delete { unique });
            }
            Action::Found(who) => self.found(who.into(), bounds),
            Action::SetReady(who) => self.set_ready(who.into(), bounds),
            Action::GiveUp(who) => {
                let client = &mut self.clients[usize::from(who)];
                if client.phase == Phase::Unknown {
                    client.asked = 0;
                    client.phase = Phase::ReleaseLook;
                } else {
                    client.finish();
                }
            }
            Action::CarryOut(who) => granted = self.carry_out_next(who.into(), true, bounds)?,
            Action::LoseAnswer(who) => {
                self.budget.breaks -= 1;
                self.carry_out_next(who.into(), false, bounds)?;
                self.disconnect(who.into());
            }
            Action::Break(who) => {
                self.budget.breaks -= 1;
                let request = self.clients[usize::from(who)].request;
                if request != Request::Nothing {
                    if let Some(room) = self.late.iter_mut().find(|late| **late == Late::default())
                    {
                        *room = Late {
                            client: who,
                            request,
                        };
                        self.late.sort_unstable();
                    }
                }
                self.disconnect(who.into());
            }
            Action::CarryOutLate(index) => {
                let late = core::mem::take(&mut self.late[usize::from(index)]);
                self.late.sort_unstable();
                self.carry_out(late.client.into(), late.request, bounds)?;
            }
            Action::Restart { identity } => {
                self.budget.restarts -= 1;
                self.restart(identity);
            }
            Action::WarmRestart { ahead } => {
                self.budget.warm_restarts -= 1;
                let used = bounds.restarts - self.budget.restarts + bounds.warm_restarts
                    - self.budget.warm_restarts;
                let identity = if bounds.warm_pid_changes {
                    used + 1
                } else {
                    self.server.identity
                };
                self.warm_restart(identity, ahead, bounds);
            }
            Action::Flush {
                delay,
                horizon,
                spare,
            } => {
                self.budget.flushes -= 1;
                self.flush(delay, horizon, spare, bounds);
            }
            Action::FlushWithPastTime => {
                self.budget.flushes -= 1;
                self.flush_with_past_time(FRESH, bounds);
            }
            Action::EvictSentinel => {
                self.budget.evictions -= 1;
                self.server.sentinel = Sentinel::default();
            }
            Action::Bump => {
                self.budget.bumps -= 1;
                if self.server.sentinel.flushed {
                    self.server.sentinel = Sentinel::default();
                } else {
                    self.server.sentinel.idle = 0;
                }
            }
            Action::StatsReset => {
                self.budget.stats_resets -= 1;
                self.server.cmd_flush = 0;
            }
        }
        self.renumber();
        if self
            .clients
            .iter()
            .filter(|client| client.valid > 0)
            .count()
            > 1
        {
            return Err("two guards are valid");
        }
        Ok(granted)
    }

    fn carry_out_next(
        &mut self,
        who: usize,
        answered: bool,
        bounds: &Bounds,
    ) -> Result<Granted, Violation> {
        let client = &self.clients[who];
        let steps = client.flight.steps(bounds);
        let step = usize::from(client.step);
        self.carry_out_step(who, steps[step], bounds)?;
        self.clients[who].step += 1;
        if step + 1 == steps.len() && answered {
            return Ok(self.answer(who, bounds));
        }
        Ok(Granted::No)
    }
}

/// Two sums over the bytes of a state. It is for this machine and this run only.
#[derive(Default)]
struct Fingerprint {
    left: u64,
    right: u64,
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u8(byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        let byte = u64::from(byte) + 1;
        self.left = (self.left.rotate_left(7) ^ byte).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.right = (self.right ^ byte)
            .wrapping_mul(0xD6E8_FEB8_6659_FD93)
            .rotate_left(29);
    }

    fn write_i8(&mut self, byte: i8) {
        self.write_u8(byte as u8);
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.write_u8(discriminant as u8);
    }

    fn finish(&self) -> u64 {
        self.left
    }
}

fn fingerprint(world: &World) -> u128 {
    let mut sums = Fingerprint::default();
    world.hash(&mut sums);
    u128::from(sums.left ^ sums.left >> 31) << 64 | u128::from(sums.right ^ sums.right >> 29)
}

/// Takes a fingerprint as it is.
#[derive(Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints only");
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = (number >> 64) as u64 ^ number as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Fingerprints = HashSet<u128, core::hash::BuildHasherDefault<AsItIs>>;

/// The findings of a search.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// The longest shortest way to a state.
    pub(crate) depth: usize,
    pub(crate) by_age: usize,
    pub(crate) by_horizon: usize,
    pub(crate) by_notes: usize,
    pub(crate) takeovers: usize,
    /// The broken promise, and how it comes to it.
    pub(crate) violation: Option<(Violation, Vec<Action>)>,
    /// True if all states were visited.
    pub(crate) complete: bool,
    pub(crate) seconds: f64,
}

/// Visits all states, at most `limit`, until a promise is broken.
pub(crate) fn search(bounds: &Bounds, limit: usize) -> Report {
    search_and_visit(bounds, limit, |_| ())
}

/// The same, with a look at each state.
pub(crate) fn search_and_visit(
    bounds: &Bounds,
    limit: usize,
    mut visit: impl FnMut(&World),
) -> Report {
    let begin = Instant::now();
    let mut report = Report {
        states: 1,
        steps: 0,
        depth: 0,
        by_age: 0,
        by_horizon: 0,
        by_notes: 0,
        takeovers: 0,
        violation: None,
        complete: true,
        seconds: 0.0,
    };
    let mut seen = Fingerprints::default();
    // From which state, and by which of its actions, each was reached first.
    let mut origins: Vec<(u32, u8)> = vec![(0, 0)];
    let mut actions = Vec::new();
    let first = World::new(bounds);
    seen.insert(fingerprint(&first));
    let mut level = vec![(first, 0_u32)];
    'levels: while !level.is_empty() {
        let mut next_level = Vec::new();
        for (world, number) in level {
            visit(&world);
            world.actions(bounds, &mut actions);
            for (index, &action) in actions.iter().enumerate() {
                report.steps += 1;
                let mut next = world;
                match next.act(action, bounds) {
                    Ok(granted) => {
                        report.by_age += usize::from(granted == Granted::ByAge);
                        report.by_horizon += usize::from(granted == Granted::ByHorizon);
                        report.by_notes += usize::from(granted == Granted::ByNotes);
                        report.takeovers += usize::from(matches!(action, Action::TakeOver(_)));
                    }
                    Err(violation) => {
                        let mut trace = vec![action];
                        trace.extend(way_to(number, &origins, bounds).into_iter().rev());
                        trace.reverse();
                        report.violation = Some((violation, trace));
                        report.depth += 1;
                        break 'levels;
                    }
                }
                if seen.insert(fingerprint(&next)) {
                    if origins.len() >= limit {
                        report.complete = false;
                        break 'levels;
                    }
                    next_level.push((next, origins.len() as u32));
                    origins.push((number, index as u8));
                }
            }
        }
        report.depth += usize::from(!next_level.is_empty());
        level = next_level;
    }
    report.states = origins.len();
    report.seconds = begin.elapsed().as_secs_f64();
    report
}

/// The actions that lead to a state.
fn way_to(mut number: u32, origins: &[(u32, u8)], bounds: &Bounds) -> Vec<Action> {
    let mut choices = Vec::new();
    while number != 0 {
        let (from, choice) = origins[number as usize];
        choices.push(choice);
        number = from;
    }
    let mut world = World::new(bounds);
    let mut actions = Vec::new();
    let mut way = Vec::new();
    for choice in choices.into_iter().rev() {
        world.actions(bounds, &mut actions);
        let action = actions[usize::from(choice)];
        way.push(action);
        world.act(action, bounds).expect("as it was before");
    }
    way
}
