//! The server: its clock, what it does with a request, and what it forgets.

use super::rules::{Bounds, Fault, FlushKind};
use super::world::{
    FRESH, Flight, Lock, NONE, Notes, Phase, RecordReading, Request, STALE, Sentinel,
    SentinelReading, SentinelState, Server, World, same_unique,
};

/// A promise that was broken.
pub(crate) type Violation = &'static str;

/// A command of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The command that changes something, and the look at the record (or the sentinel) right after
    /// it. Anything that comes between the two can as well come before or after both: only the
    /// requester and the forgetting server remove its record.
    Request,
    Look,
    Sentinel,
    Stats,
    Settings,
}

impl Flight {
    pub(crate) fn steps(self, bounds: &Bounds) -> &'static [Step] {
        use Step::{Look, Request, Sentinel, Settings, Stats};
        let sentinel_first = bounds.has(Fault::SentinelBeforeRecord);
        match self {
            Self::None => &[],
            Self::Look => &[Look],
            Self::Request => &[Request],
            Self::Read if bounds.has(Fault::NotesBehindSentinel) => &[Sentinel, Stats, Settings],
            Self::Read => &[Stats, Settings, Sentinel],
            Self::Acquire if sentinel_first => &[Sentinel, Request],
            Self::Acquire => &[Request, Sentinel],
            Self::AcquireWithEvidence if sentinel_first => &[Sentinel, Request, Stats, Settings],
            Self::AcquireWithEvidence if bounds.has(Fault::EvidenceBeforeRecord) => {
                &[Stats, Settings, Request, Sentinel]
            }
            Self::AcquireWithEvidence => &[Request, Sentinel, Stats, Settings],
        }
    }
}

impl Server {
    /// True in the very second in which a delayed flush takes effect: an item stored then is
    /// flushed too.
    fn storing_is_vain(&self) -> bool {
        self.horizon != NONE && self.delayed && self.horizon_age == 0
    }

    fn put_lock(&mut self, lock: Lock) {
        self.lock = lock;
        if lock.left == 0 || self.storing_is_vain() {
            self.lock = Lock::default();
        }
    }

    fn put_sentinel(&mut self, sentinel: Sentinel) {
        self.sentinel = sentinel;
        if self.storing_is_vain() {
            self.sentinel = Sentinel::default();
        }
    }

    /// Any command that finds an item that was flushed removes it.
    fn touch_sentinel(&mut self) {
        if self.sentinel.flushed {
            self.sentinel = Sentinel::default();
        }
    }

    fn read_sentinel(&mut self, bounds: &Bounds) -> SentinelReading {
        self.touch_sentinel();
        let sentinel = &mut self.sentinel;
        let idle = sentinel.idle;
        if bounds.has(Fault::SentinelReadBumps) && sentinel.state != SentinelState::Absent {
            sentinel.idle = 0;
        }
        let foreign = sentinel.identity != self.identity;
        match sentinel.state {
            SentinelState::Absent => SentinelReading::Absent,
            _ if foreign && !bounds.has(Fault::WarmRestartNotDetected) => SentinelReading::Foreign,
            SentinelState::New => SentinelReading::New,
            SentinelState::Ready => {
                let old_item = idle >= bounds.old_item() || bounds.has(Fault::AgeByBirthOnly);
                if sentinel.age >= bounds.old_birth() && old_item {
                    SentinelReading::Old
                } else {
                    SentinelReading::Young
                }
            }
        }
    }
}

impl World {
    /// A tick of real time. The server's second stands still meanwhile where `stall` says so.
    pub(crate) fn tick(&mut self, stall: bool, bounds: &Bounds) {
        for client in &mut self.clients {
            client.asked = client.asked.saturating_sub(1);
            client.valid = client.valid.saturating_sub(1);
            client.watch.wait = client.watch.wait.saturating_sub(1);
        }
        if stall {
            self.server.lag += 1;
        } else {
            let seconds = self.server.lag + 1;
            self.server.lag = 0;
            self.pass(seconds, bounds);
        }
    }

    /// The server's second goes on.
    pub(crate) fn pass(&mut self, seconds: u8, bounds: &Bounds) {
        let ahead = seconds as i8;
        let server = &mut self.server;
        server.uptime = (server.uptime + ahead).min(bounds.long_uptime());
        server.lock.left = server.lock.left.saturating_sub(seconds);
        if server.lock.left == 0 {
            server.lock = Lock::default();
        }
        if server.sentinel.state != SentinelState::Absent {
            let sentinel = &mut server.sentinel;
            sentinel.idle = (sentinel.idle + ahead).min(bounds.old_item());
            if sentinel.state == SentinelState::Ready {
                sentinel.age = (sentinel.age + ahead).min(bounds.old_birth());
            }
        }
        if server.horizon != NONE {
            let pending = server.horizon_age < 0;
            let old = bounds.old_flush().max(bounds.old_horizon());
            server.horizon_age = (server.horizon_age + ahead).min(old);
            if pending && server.horizon_age >= 0 {
                self.forget(false, bounds);
            }
        }
        let waiting = self.clients.iter_mut().map(|client| &mut client.request);
        let late = self.late.iter_mut().map(|late| &mut late.request);
        for request in waiting.chain(late) {
            match request {
                Request::Store { left, .. } | Request::Renew { left, .. } => {
                    *left = left.saturating_sub(seconds);
                }
                Request::AddSentinel { age, .. } | Request::SetReady { age, .. } => {
                    *age = (*age + ahead).min(bounds.old_birth());
                }
                Request::Nothing | Request::Delete { .. } => {}
            }
        }
    }

    /// A flush takes effect. An item of this second may be spared.
    fn forget(&mut self, spare: bool, bounds: &Bounds) {
        let server = &mut self.server;
        server.lock = Lock::default();
        if spare && server.sentinel.idle < server.horizon_age {
            return;
        }
        if bounds.flush_undone_by_later && server.sentinel.idle >= server.horizon_age {
            server.sentinel.flushed = true;
        } else {
            server.sentinel = Sentinel::default();
        }
    }

    /// `flush_all`, at once or with a delay of `delay` seconds. `horizon` is what `oldest` is
    /// from then on.
    pub(crate) fn flush(&mut self, delay: u8, horizon: u8, spare: bool, bounds: &Bounds) {
        let server = &mut self.server;
        let again = server.horizon != NONE && !server.delayed && server.horizon_age == 1;
        if delay > 0 || !again {
            server.horizon = horizon;
        }
        server.delayed = delay > 0;
        // `oldest` is the second before that of an immediate flush.
        server.horizon_age = 1 - delay as i8;
        server.cmd_flush += 1;
        if server.horizon_age < 0 {
            // Not flushed any more: the horizon lies ahead of the present.
            server.sentinel.flushed = false;
        } else {
            let spare = spare && delay == 0 && bounds.flush_kind == FlushKind::MaySpareThisSecond;
            self.forget(spare, bounds);
        }
    }

    /// `flush_all` with a time of the past, long ago. `horizon` is what `oldest` is from then on.
    pub(crate) fn flush_with_past_time(&mut self, horizon: u8, bounds: &Bounds) {
        let server = &mut self.server;
        server.horizon = horizon;
        server.delayed = true;
        server.horizon_age = bounds.old_flush().max(bounds.old_horizon());
        server.cmd_flush += 1;
        self.forget(false, bounds);
    }

    /// The server is started anew and has nothing. `identity` stands for its pid and start.
    pub(crate) fn restart(&mut self, identity: u8) {
        self.server = Server {
            identity,
            ..Server::default()
        };
        self.late = Default::default();
        for who in 0..self.clients.len() {
            self.disconnect(who);
            let client = &mut self.clients[who];
            for unique in [&mut client.own.unique, &mut client.watch.record.unique] {
                if *unique != NONE {
                    *unique = STALE;
                }
            }
            client.notes.earlier_run = client.notes.taken;
        }
    }

    /// The server is started anew with its items, and its clock is `ahead` by so many seconds.
    pub(crate) fn warm_restart(&mut self, identity: u8, ahead: u8, bounds: &Bounds) {
        self.server.identity = identity;
        self.server.cmd_flush = 0;
        self.late = Default::default();
        for who in 0..self.clients.len() {
            self.disconnect(who);
        }
        let seconds = self.server.lag + ahead;
        self.server.lag = 0;
        if seconds > 0 {
            self.pass(seconds, bounds);
        }
    }

    /// The connection is gone, and with it the answers that were on their way.
    pub(crate) fn disconnect(&mut self, who: usize) {
        let client = &mut self.clients[who];
        let on_its_way = client.flight != Flight::None && client.flight != Flight::Read;
        client.phase = match client.phase {
            Phase::Acquire => Phase::Unknown,
            Phase::Renew => Phase::Hold,
            Phase::Release if on_its_way => Phase::ReleaseLook,
            Phase::Ready => Phase::Found,
            phase => phase,
        };
        client.connected = false;
        client.instance = NONE;
        client.own.same_link = false;
        client.watch.record.same_link = false;
        client.unique = NONE;
        client.refound = false;
        client.flight = Flight::None;
        client.step = 0;
        client.request = Request::Nothing;
        client.replies = Default::default();
    }

    /// Carries out a request, with or without a client that waits for its answer. Returns whether
    /// it did what it asks.
    pub(crate) fn carry_out(
        &mut self,
        who: usize,
        request: Request,
        bounds: &Bounds,
    ) -> Result<bool, Violation> {
        let me = who as u8 + 1;
        let lock = self.server.lock;
        let free = lock.owner == 0;
        Ok(match request {
            Request::Nothing => false,
            Request::Store { nonce, over, left } => {
                let stored = Lock {
                    owner: me,
                    nonce,
                    unique: FRESH,
                    left,
                };
                if over == NONE {
                    if free {
                        self.server.put_lock(stored);
                    }
                    free
                } else if !free && same_unique(lock.unique, over) {
                    let holder = &self.clients[lock.owner as usize - 1];
                    if lock.owner != me && holder.valid > 0 && holder.own.nonce == lock.nonce {
                        return Err("a valid lock is taken over");
                    }
                    self.server.put_lock(stored);
                    true
                } else {
                    false
                }
            }
            Request::Renew { unique, left } => {
                if free || !same_unique(lock.unique, unique) {
                    return Ok(false);
                }
                if lock.owner != me {
                    return Err("another's record is renewed");
                }
                let kept = bounds.has(Fault::RenewalKeepsUnique);
                self.server.put_lock(Lock {
                    left,
                    unique: if kept { lock.unique } else { FRESH },
                    ..lock
                });
                true
            }
            Request::Delete { unique } => {
                let blind = bounds.has(Fault::BlindRelease);
                if free || !(blind || same_unique(lock.unique, unique)) {
                    return Ok(false);
                }
                if lock.owner != me {
                    return Err("another's record is released");
                }
                self.server.lock = Lock::default();
                true
            }
            Request::AddSentinel { instance, age } => {
                self.server.touch_sentinel();
                let absent = self.server.sentinel.state == SentinelState::Absent;
                if absent {
                    let one_step = bounds.has(Fault::FoundingInOneStep);
                    self.server.put_sentinel(Sentinel {
                        state: if one_step {
                            SentinelState::Ready
                        } else {
                            SentinelState::New
                        },
                        identity: self.server.identity,
                        instance,
                        unique: FRESH,
                        age: if one_step { age } else { 0 },
                        idle: 0,
                        flushed: false,
                    });
                }
                absent
            }
            Request::SetReady {
                unique,
                instance,
                age,
            } => {
                self.server.touch_sentinel();
                let old = self.server.sentinel;
                let absent = old.state == SentinelState::Absent;
                if absent || !same_unique(old.unique, unique) {
                    return Ok(false);
                }
                self.server.put_sentinel(Sentinel {
                    state: SentinelState::Ready,
                    identity: self.server.identity,
                    instance: if instance == NONE {
                        old.instance
                    } else {
                        instance
                    },
                    unique: FRESH,
                    age,
                    idle: 0,
                    flushed: false,
                });
                true
            }
        })
    }

    /// Carries out the next command of a client's flight.
    pub(crate) fn carry_out_step(
        &mut self,
        who: usize,
        step: Step,
        bounds: &Bounds,
    ) -> Result<(), Violation> {
        match step {
            Step::Request => {
                let request = self.clients[who].request;
                let done = self.carry_out(who, request, bounds)?;
                self.clients[who].request = Request::Nothing;
                self.clients[who].replies.done = done;
                if let Request::AddSentinel { .. } | Request::SetReady { .. } = request {
                    self.show_sentinel(who, bounds);
                } else {
                    self.show_record(who);
                }
            }
            Step::Look => self.show_record(who),
            Step::Sentinel => self.show_sentinel(who, bounds),
            Step::Stats => {
                let server = &self.server;
                let client = &mut self.clients[who];
                let Notes {
                    taken,
                    identity,
                    cmd_flush,
                    ..
                } = client.notes;
                let long = server.uptime >= bounds.long_uptime();
                let replies = &mut client.replies;
                let uncounted = server.cmd_flush == 0 || bounds.has(Fault::FlushCountIgnored);
                replies.unflushed = long && uncounted;
                replies.as_noted = taken
                    && identity == server.identity
                    && cmd_flush == server.cmd_flush
                    && (long || bounds.has(Fault::NotesWithoutUptime));
                replies.cmd_flush = server.cmd_flush;
            }
            Step::Settings => {
                let server = &self.server;
                let client = &mut self.clients[who];
                let noted = client.notes.horizon;
                let replies = &mut client.replies;
                let memory_file = bounds.warm_restarts > 0;
                let pending = server.horizon_age < 0;
                let old_horizon = server.horizon == NONE
                    || server.horizon_age >= bounds.old_horizon()
                    || bounds.has(Fault::FlushHorizonIgnored)
                    || !pending && bounds.has(Fault::FlushAgeIgnored)
                    || pending && bounds.has(Fault::PendingFlushIgnored);
                replies.unflushed &=
                    old_horizon && (!memory_file || bounds.has(Fault::WarmServerCountsAsFresh));
                replies.as_noted &= server.horizon == noted
                    && (server.horizon == NONE
                        || server.horizon_age >= bounds.old_flush()
                        || bounds.has(Fault::NotesWithoutFlushAge));
                replies.horizon = server.horizon;
                replies.pending = server.horizon != NONE && pending;
            }
        }
        Ok(())
    }

    fn show_record(&mut self, who: usize) {
        let lock = self.server.lock;
        let client = &mut self.clients[who];
        client.replies.record = if lock.owner == 0 {
            RecordReading::None
        } else if usize::from(lock.owner) != who + 1 {
            RecordReading::Other
        } else if lock.nonce == client.own.nonce {
            RecordReading::Ours
        } else {
            RecordReading::Leftover
        };
        client.replies.record_unique = lock.unique;
        client.replies.record_nonce = lock.nonce;
    }

    fn show_sentinel(&mut self, who: usize, bounds: &Bounds) {
        let reading = self.server.read_sentinel(bounds);
        let sentinel = self.server.sentinel;
        let replies = &mut self.clients[who].replies;
        replies.sentinel = reading;
        match reading {
            SentinelReading::Absent => {}
            SentinelReading::New | SentinelReading::Foreign => {
                replies.sentinel_unique = sentinel.unique;
            }
            SentinelReading::Young | SentinelReading::Old => {
                replies.instance = sentinel.instance;
            }
        }
    }
}
