//! Making the sentinel, and setting its birth.

use super::incarnation::{Incarnation, ServerView};
use super::items::{
    Failure, Remembered, Stored, push_sentinel_with_cas, push_stats, push_store,
    read_sentinel_with_cas, read_stored, remembered,
};
use super::memory::Stats;
use super::moment::Moment;
use super::name::Namespace;
use super::sentinel::{Instance, SENTINEL_EXPIRY, Sentinel, SentinelRecord, SentinelState};
use crate::wire::{DecodeError, Flight, Replies, StoreVerb};
use alloc::string::ToString;

/// How often it is tried before the server counts as one that keeps no sentinel.
const TRIES: u8 = 4;

/// Makes the sentinel, in two steps.
///
/// First it is stored without a birth; nothing follows from it then. The second step names the CAS
/// unique of what was stored and sets a birth that the server has not passed yet when the answer to
/// the first has come, so it lies behind the storing. It is right whenever it is carried out, and by
/// whichever client: as long as that very item stands, nothing was forgotten since.
///
/// A sentinel of another run of the server, which a warm restart (`-e`) has kept, is replaced in the
/// same two steps.
#[derive(Debug, Clone)]
pub(super) struct Founding {
    /// The instance word of a sentinel that is made here.
    instance: Instance,
    found: Option<Found>,
    tries: u8,
}

/// A sentinel that is to be replaced.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// The run of the server on which it was found: a CAS unique means nothing to another.
    on: Incarnation,
    cas: u64,
    /// Its value, if this run of the server bears it.
    record: Option<SentinelRecord>,
}

/// What came of one flight of a founding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Founded {
    Yes,
    Again,
    Failed(Failure),
}

impl Founding {
    /// A founding whose sentinel bears this instance word, unless another client is faster. The word
    /// must never have gone out on a connection that may have led to another run of the server.
    pub(super) const fn new(instance: Instance) -> Self {
        Self {
            instance,
            found: None,
            tries: 0,
        }
    }

    /// A founding that goes on from a sentinel that was found without a birth, or with the mark of
    /// another run of the server.
    pub(super) fn from_found(
        instance: Instance,
        server: &ServerView,
        record: SentinelRecord,
        cas: u64,
    ) -> Self {
        let mut founding = Self::new(instance);
        founding.found(server, record, cas);
        founding
    }

    fn found(&mut self, server: &ServerView, record: SentinelRecord, cas: u64) {
        self.found = Some(Found {
            on: server.incarnation,
            cas,
            record: Some(record).filter(|record| server.incarnation.is_like(&record.run)),
        });
    }

    pub(super) fn prepare(
        &mut self,
        namespace: &Namespace,
        server: &ServerView,
        now: Moment,
        flight: &mut Flight,
    ) {
        let sentinel = namespace.sentinel();
        self.found = self.found.filter(|found| server.is_run(found.on));
        let new = SentinelRecord::new(Incarnation {
            instance: self.instance,
            ..server.incarnation
        });
        let (verb, record) = match self.found {
            None => (StoreVerb::Add, new),
            Some(Found { cas, record, .. }) => {
                let present = server.clock.second_at_most(now).unwrap_or(SENTINEL_EXPIRY);
                #[cfg(seeded_bugs)]
                let present = crate::seeded::Bug::EarlyBirth
                    .choose(server.clock.second_at_least(now).unwrap_or(0), present);
                let record = record.map_or(new, |record| record.ready(present));
                (StoreVerb::Cas(cas), record)
            }
        };
        let value = record.to_string();
        push_store(flight, verb, sentinel, value.as_bytes(), SENTINEL_EXPIRY);
        let dialect = server.capabilities.dialect;
        push_sentinel_with_cas(flight, dialect, sentinel);
        // For the time, which the classic protocol tells in no other way.
        push_stats(flight);
    }

    pub(super) fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        server: &mut ServerView,
        sent: Moment,
        received: Moment,
    ) -> Result<Founded, DecodeError> {
        let stored = read_stored(replies)?;
        let found = read_sentinel_with_cas(replies, server.capabilities.dialect)?;
        let stats = match Stats::read(replies)? {
            Ok(stats) => stats,
            Err(failure) => return Ok(Founded::Failed(failure)),
        };
        server.clock.observe(stats.time, sent, received);
        self.tries += 1;
        let (mut sentinel, cas) = match (stored, found) {
            (Stored::Failed(failure), _) | (_, Err(failure)) => {
                return Ok(Founded::Failed(failure));
            }
            (_, Ok(found)) => found,
        };
        if let Sentinel::Present { record, second, .. } = &mut sentinel {
            second.get_or_insert(stats.time);
            self.found(server, *record, cas);
            if record.state == SentinelState::Ready && server.incarnation.is_like(&record.run) {
                server.rename(record.run.instance);
            }
        } else {
            self.found = None;
        }
        match remembered(server, &sentinel, Some(stats), None) {
            Err(failure) => Ok(Founded::Failed(failure)),
            Ok(Remembered::From { .. } | Remembered::Unclear) => Ok(Founded::Yes),
            Ok(Remembered::Unfounded) if self.tries < TRIES => Ok(Founded::Again),
            Ok(Remembered::Unfounded) => Ok(Founded::Failed(Failure::ForgottenAtOnce)),
        }
    }
}
