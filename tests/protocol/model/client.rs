//! The client: what it sends, and what follows from the answers.

use super::rules::{Bounds, Fault};
use super::world::{
    Client, FRESH, Flight, NONE, Notes, Own, Phase, RecordReading, Replies, Request,
    SentinelReading, Watch, World,
};

impl Client {
    pub(crate) fn send(&mut self, flight: Flight, request: Request) {
        self.flight = flight;
        self.request = request;
    }

    /// True if requests may name the CAS unique that was read with `own`: only on the run of the
    /// server on which it was read.
    pub(crate) fn same_run(&self, own: &Own, identity: u8, bounds: &Bounds) -> bool {
        let same_instance = own.instance != NONE && own.instance == self.instance;
        own.same_link
            || own.identity == identity && (same_instance || bounds.has(Fault::InstanceNotCompared))
    }

    /// The client needs nothing that it still knows of its record.
    pub(crate) fn finish(&mut self) {
        self.valid = 0;
        self.asked = 0;
        self.own = Own::default();
        self.phase = if self.then_found {
            Phase::Found
        } else {
            Phase::Idle
        };
        self.then_found = false;
    }

    fn watch(&mut self, replies: &Replies, identity: u8, bounds: &Bounds) {
        let seen = Own {
            nonce: replies.record_nonce,
            unique: replies.record_unique,
            identity,
            instance: self.instance,
            same_link: true,
        };
        let known = self.watch.record;
        let same_record = known.nonce == seen.nonce || bounds.has(Fault::InstanceNotCompared);
        let same_unique = super::world::same_unique(known.unique, seen.unique);
        let keep = known.unique != NONE
            && same_unique
            && same_record
            && self.same_run(&known, identity, bounds);
        self.watch = Watch {
            record: seen,
            wait: if keep {
                self.watch.wait
            } else {
                bounds.lease + 1
            },
        };
    }
}

impl World {
    /// Sends the request for the lock, in place of the record with the CAS unique `over`.
    pub(crate) fn acquire(&mut self, who: usize, over: u8, bounds: &Bounds) {
        let identity = self.server.identity;
        let client = &mut self.clients[who];
        client.own = Own {
            nonce: FRESH,
            unique: NONE,
            identity,
            instance: client.instance,
            same_link: true,
        };
        client.asked = bounds.lease + 1;
        client.watch = Watch::default();
        self.store(who, over);
    }

    /// Sends it with the nonce and for the rest of the lease that it has.
    pub(crate) fn store(&mut self, who: usize, over: u8) {
        let lag = self.server.lag;
        let client = &mut self.clients[who];
        client.phase = Phase::Acquire;
        let flight = if client.young {
            Flight::AcquireWithEvidence
        } else {
            Flight::Acquire
        };
        let request = Request::Store {
            nonce: client.own.nonce,
            over,
            left: client.asked + lag,
        };
        client.send(flight, request);
    }

    pub(crate) fn renew(&mut self, who: usize, bounds: &Bounds) {
        let lag = self.server.lag;
        let client = &mut self.clients[who];
        client.phase = Phase::Renew;
        client.asked = bounds.lease + 1;
        let request = Request::Renew {
            unique: client.own.unique,
            left: client.asked + lag,
        };
        client.send(Flight::Request, request);
    }

    pub(crate) fn found(&mut self, who: usize, bounds: &Bounds) {
        let age = self.birth_now(bounds);
        let client = &mut self.clients[who];
        let instance = if client.drawn == NONE {
            FRESH
        } else {
            client.drawn
        };
        if bounds.has(Fault::InstanceReused) {
            client.drawn = instance;
        }
        client.send(Flight::Request, Request::AddSentinel { instance, age });
    }

    pub(crate) fn set_ready(&mut self, who: usize, bounds: &Bounds) {
        let age = self.birth_now(bounds);
        let client = &mut self.clients[who];
        let request = Request::SetReady {
            unique: client.unique,
            instance: if client.refound { FRESH } else { NONE },
            age,
        };
        client.send(Flight::Request, request);
    }

    /// The server's second minus a second that has not begun yet.
    fn birth_now(&self, bounds: &Bounds) -> i8 {
        if bounds.has(Fault::BirthTooEarly) {
            0
        } else {
            -1 - self.server.lag as i8
        }
    }

    /// All commands of a client's flight were carried out, and the answers are there.
    pub(crate) fn answer(&mut self, who: usize, bounds: &Bounds) -> Granted {
        let identity = self.server.identity;
        let client = &mut self.clients[who];
        let replies = client.replies;
        let flight = client.flight;
        client.replies = Replies::default();
        client.flight = Flight::None;
        client.step = 0;
        match flight {
            Flight::None => unreachable!("no flight"),
            Flight::Read => {
                client.read(&replies, identity, bounds);
                return Granted::No;
            }
            Flight::Look if client.phase == Phase::Idle => {
                client.look(&replies, identity, bounds);
                return Granted::No;
            }
            Flight::Look | Flight::Request | Flight::Acquire | Flight::AcquireWithEvidence => {}
        }
        let mut granted = Granted::No;
        match client.phase {
            Phase::Acquire => granted = client.acquired(&replies, identity, bounds),
            Phase::Renew => client.renewed(&replies, bounds),
            Phase::Release => match replies.record {
                RecordReading::Ours if !replies.done => client.phase = Phase::ReleaseLook,
                _ => client.finish(),
            },
            Phase::ReleaseLook => {
                if replies.record == RecordReading::Ours {
                    client.own.unique = replies.record_unique;
                    client.own.identity = identity;
                    client.own.same_link = true;
                    client.phase = Phase::Release;
                } else {
                    client.finish();
                }
            }
            Phase::Found => match replies.sentinel {
                SentinelReading::New | SentinelReading::Foreign => {
                    client.unique = replies.sentinel_unique;
                    client.refound = replies.sentinel == SentinelReading::Foreign;
                    client.phase = Phase::Ready;
                }
                SentinelReading::Young | SentinelReading::Old => {
                    client.instance = replies.instance;
                    client.young = replies.sentinel == SentinelReading::Young;
                    client.phase = Phase::Idle;
                }
                SentinelReading::Absent => {}
            },
            Phase::Ready => {
                client.unique = NONE;
                client.refound = false;
                client.instance = replies.instance;
                client.young = true;
                client.phase = Phase::Idle;
            }
            Phase::Idle | Phase::Unknown | Phase::Hold => unreachable!("nothing was sent"),
        }
        granted
    }
}

impl Client {
    fn read(&mut self, replies: &Replies, identity: u8, bounds: &Bounds) {
        self.instance = replies.instance;
        self.young = replies.sentinel != SentinelReading::Old;
        let pending = replies.pending && !bounds.has(Fault::NotesWithPendingFlush);
        match replies.sentinel {
            SentinelReading::Old if !pending => {
                self.notes = Notes {
                    taken: true,
                    identity,
                    horizon: replies.horizon,
                    cmd_flush: replies.cmd_flush,
                    earlier_run: false,
                };
            }
            SentinelReading::Old | SentinelReading::Young => {}
            SentinelReading::Absent | SentinelReading::New | SentinelReading::Foreign => {
                if self.phase == Phase::Idle {
                    self.phase = Phase::Found;
                }
            }
        }
    }

    fn look(&mut self, replies: &Replies, identity: u8, bounds: &Bounds) {
        match replies.record {
            RecordReading::Other => self.watch(replies, identity, bounds),
            _ => self.watch = Watch::default(),
        }
    }

    fn acquired(&mut self, replies: &Replies, identity: u8, bounds: &Bounds) -> Granted {
        let sentinel = replies.sentinel;
        self.instance = replies.instance;
        self.young = sentinel != SentinelReading::Old;
        let unfounded = !matches!(sentinel, SentinelReading::Young | SentinelReading::Old);
        match replies.record {
            RecordReading::None | RecordReading::Other => {
                self.finish();
                self.look(replies, identity, bounds);
                return Granted::No;
            }
            RecordReading::Ours | RecordReading::Leftover => {}
        }
        let ours = replies.record == RecordReading::Ours;
        self.own = Own {
            nonce: replies.record_nonce,
            unique: replies.record_unique,
            identity,
            instance: self.instance,
            same_link: true,
        };
        let granted = match sentinel {
            _ if !ours || self.asked == 0 => Granted::No,
            _ if bounds.has(Fault::GuardOff) => Granted::ByAge,
            SentinelReading::Old => Granted::ByAge,
            SentinelReading::Young if replies.unflushed => Granted::ByHorizon,
            SentinelReading::Young if replies.as_noted => Granted::ByNotes,
            _ => Granted::No,
        };
        if granted == Granted::No {
            self.asked = 0;
            self.phase = Phase::Release;
            self.then_found = ours && unfounded;
        } else {
            self.phase = Phase::Hold;
            self.valid = self.lease_from(bounds);
            self.asked = 0;
        }
        granted
    }

    fn lease_from(&self, bounds: &Bounds) -> u8 {
        if bounds.has(Fault::LeaseFromReply) {
            bounds.lease + 1
        } else {
            self.asked
        }
    }

    fn renewed(&mut self, replies: &Replies, bounds: &Bounds) {
        if replies.record == RecordReading::Ours {
            self.own.unique = replies.record_unique;
            if replies.done && self.valid > 0 {
                self.valid = self.valid.max(self.lease_from(bounds));
            }
            self.asked = 0;
            self.phase = Phase::Hold;
        } else {
            self.finish();
        }
    }
}

/// The end of an acquisition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    No,
    /// The sentinel was old.
    ByAge,
    /// By `stats`: the server was not flushed for long, and has run for long.
    ByHorizon,
    /// By `stats`: nothing differs from the notes.
    ByNotes,
}
