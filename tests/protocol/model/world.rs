//! One state of the world: a server with one lock and its sentinel, and two clients.
//!
//! All times are relative to the present and stop counting where they no longer matter, and CAS
//! uniques, nonces, instance words and flush horizons are numbered in the order in which they
//! appear. So the number of leases, attempts and seconds in a history is not bounded.

pub(crate) const CLIENTS: usize = 2;

/// "None" in all fields that hold a number of something.
pub(crate) const NONE: u8 = 0;
/// A CAS unique of an earlier run. The server counts from the start again, so it may be that of
/// any item: it compares equal to each.
pub(crate) const STALE: u8 = 1;
/// A number that was just drawn, before the state is renumbered.
pub(crate) const FRESH: u8 = 15;

pub(crate) fn same_unique(left: u8, right: u8) -> bool {
    left == right || left == STALE || right == STALE
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Lock {
    /// Which client stored it, counted from 1; 0 is no item.
    pub(crate) owner: u8,
    pub(crate) nonce: u8,
    pub(crate) unique: u8,
    /// Expiry minus the server's second.
    pub(crate) left: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum SentinelState {
    #[default]
    Absent,
    New,
    Ready,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sentinel {
    pub(crate) state: SentinelState,
    /// Stands for pid and start.
    pub(crate) identity: u8,
    pub(crate) instance: u8,
    pub(crate) unique: u8,
    /// The server's second minus the birth.
    pub(crate) age: i8,
    /// The server's second minus the item's `time`: `l`.
    pub(crate) idle: i8,
    /// A flush has ended it and nothing has touched it since.
    pub(crate) flushed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// Stands for pid and start.
    pub(crate) identity: u8,
    pub(crate) uptime: i8,
    /// By how many ticks its second is behind.
    pub(crate) lag: u8,
    /// `oldest` of `stats settings`, as a number to compare; 0: never flushed.
    pub(crate) horizon: u8,
    /// The server's second minus `oldest`; negative: the flush is pending.
    pub(crate) horizon_age: i8,
    /// The horizon is that of a delayed flush.
    pub(crate) delayed: bool,
    pub(crate) cmd_flush: u8,
    pub(crate) lock: Lock,
    pub(crate) sentinel: Sentinel,
}

/// The one request of a flight that changes something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Request {
    #[default]
    Nothing,
    /// `add`, or `cas` where a CAS unique is given.
    Store {
        nonce: u8,
        over: u8,
        left: u8,
    },
    Renew {
        unique: u8,
        left: u8,
    },
    Delete {
        unique: u8,
    },
    AddSentinel {
        instance: u8,
        age: i8,
    },
    SetReady {
        unique: u8,
        instance: u8,
        age: i8,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    #[default]
    Idle,
    /// Asked for the lock.
    Acquire,
    /// The answer to that was lost.
    Unknown,
    Hold,
    Renew,
    /// Has a record to remove.
    Release,
    /// Looks whether its record is still there.
    ReleaseLook,
    /// Has a sentinel to found.
    Found,
    /// Has a birth to set.
    Ready,
}

/// A flight on the way to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Flight {
    #[default]
    None,
    /// The handshake, and the regular reading of the server's clock.
    Read,
    /// One request, which shows the record as well.
    Request,
    /// The same, and the sentinel.
    Acquire,
    /// The same, with evidence.
    AcquireWithEvidence,
    /// The record alone.
    Look,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum RecordReading {
    #[default]
    None,
    /// With the nonce of this attempt or grant.
    Ours,
    /// Of an earlier attempt of this client.
    Leftover,
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum SentinelReading {
    #[default]
    Absent,
    New,
    /// Of another pid or start.
    Foreign,
    Young,
    Old,
}

/// The answers of a flight so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replies {
    pub(crate) done: bool,
    pub(crate) missing: bool,
    pub(crate) record: RecordReading,
    pub(crate) record_unique: u8,
    pub(crate) record_nonce: u8,
    pub(crate) sentinel: SentinelReading,
    pub(crate) sentinel_unique: u8,
    pub(crate) instance: u8,
    /// `stats` and `stats settings` show that nothing was forgotten: the server was not flushed for
    /// long, and has run for long.
    pub(crate) unflushed: bool,
    /// The same: nothing differs from the notes.
    pub(crate) as_noted: bool,
    pub(crate) cmd_flush: u8,
    pub(crate) horizon: u8,
    pub(crate) pending: bool,
}

/// A record of this client's own, and the run of the server that it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Own {
    pub(crate) nonce: u8,
    pub(crate) unique: u8,
    pub(crate) identity: u8,
    pub(crate) instance: u8,
    /// The connection is still the one on which that was read.
    pub(crate) same_link: bool,
}

/// Another client's record, as it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    pub(crate) record: Own,
    /// Ticks until its lease is certainly over.
    pub(crate) wait: u8,
}

/// The answers to `stats` and `stats settings` when the sentinel was old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Notes {
    pub(crate) taken: bool,
    pub(crate) identity: u8,
    pub(crate) horizon: u8,
    pub(crate) cmd_flush: u8,
    /// Taken from an earlier run of the server.
    pub(crate) earlier_run: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) phase: Phase,
    pub(crate) connected: bool,
    /// The instance word that was read on this connection.
    pub(crate) instance: u8,
    pub(crate) flight: Flight,
    /// Number of commands of the flight that the server has carried out.
    pub(crate) step: u8,
    pub(crate) request: Request,
    pub(crate) replies: Replies,
    /// The rest of the lease that was asked for.
    pub(crate) asked: u8,
    /// Ticks for which the guard is valid.
    pub(crate) valid: u8,
    pub(crate) own: Own,
    /// Found the sentinel when the record is removed.
    pub(crate) then_found: bool,
    /// CAS unique of the sentinel that is to become ready.
    pub(crate) unique: u8,
    /// That sentinel is of another run and gets another instance word.
    pub(crate) refound: bool,
    pub(crate) watch: Watch,
    pub(crate) notes: Notes,
    /// The sentinel was young when it was last read.
    pub(crate) young: bool,
    /// The instance word to found with, where a fault keeps it.
    pub(crate) drawn: u8,
}

/// The disturbances that are left, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) breaks: u8,
    pub(crate) restarts: u8,
    pub(crate) warm_restarts: u8,
    pub(crate) flushes: u8,
    pub(crate) evictions: u8,
    pub(crate) bumps: u8,
    pub(crate) stats_resets: u8,
}

/// A request on a connection that its client has given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Late {
    pub(crate) client: u8,
    pub(crate) request: Request,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) clients: [Client; CLIENTS],
    pub(crate) late: [Late; 2],
    pub(crate) budget: Budget,
}

/// Gives numbers in the order in which they are asked for.
struct Numbers {
    map: [u8; FRESH as usize + 1],
    next: u8,
}

impl Numbers {
    /// The first `kept` numbers keep their meaning.
    fn new(kept: u8) -> Self {
        let mut map = [u8::MAX; FRESH as usize + 1];
        for number in 0..kept {
            map[number as usize] = number;
        }
        Self { map, next: kept }
    }

    fn renumber(&mut self, number: &mut u8) {
        let new = &mut self.map[*number as usize];
        if *new == u8::MAX {
            *new = self.next;
            self.next += 1;
            assert!(self.next < FRESH, "more numbers than there is room for");
        }
        *number = *new;
    }
}

impl World {
    /// Makes states equal that differ only in how things are numbered.
    pub(crate) fn renumber(&mut self) {
        let mut uniques = Numbers::new(2);
        let mut nonces = Numbers::new(1);
        let mut instances = Numbers::new(1);
        let mut horizons = Numbers::new(1);

        let server = &mut self.server;
        uniques.renumber(&mut server.lock.unique);
        nonces.renumber(&mut server.lock.nonce);
        uniques.renumber(&mut server.sentinel.unique);
        instances.renumber(&mut server.sentinel.instance);
        horizons.renumber(&mut server.horizon);

        for client in &mut self.clients {
            uniques.renumber(&mut client.unique);
            instances.renumber(&mut client.instance);
            instances.renumber(&mut client.drawn);
            for own in [&mut client.own, &mut client.watch.record] {
                nonces.renumber(&mut own.nonce);
                uniques.renumber(&mut own.unique);
                instances.renumber(&mut own.instance);
            }
            nonces.renumber(&mut client.replies.record_nonce);
            uniques.renumber(&mut client.replies.record_unique);
            uniques.renumber(&mut client.replies.sentinel_unique);
            instances.renumber(&mut client.replies.instance);
            horizons.renumber(&mut client.replies.horizon);
            horizons.renumber(&mut client.notes.horizon);
        }

        let waiting = self.clients.iter_mut().map(|client| &mut client.request);
        let late = self.late.iter_mut().map(|late| &mut late.request);
        for request in waiting.chain(late) {
            match request {
                Request::Nothing => {}
                Request::Store { nonce, over, .. } => {
                    nonces.renumber(nonce);
                    uniques.renumber(over);
                }
                Request::Renew { unique, .. } | Request::Delete { unique } => {
                    uniques.renumber(unique);
                }
                Request::AddSentinel { instance, .. } => instances.renumber(instance),
                Request::SetReady {
                    unique, instance, ..
                } => {
                    uniques.renumber(unique);
                    instances.renumber(instance);
                }
            }
        }
    }
}
