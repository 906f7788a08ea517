//! Making the sentinel, and setting its birth.

use super::failure::ServerError;
use super::items::{StoreOutcome, push_store, read_stored};
use super::memory_probe::{
    MemoryReading, push_sentinel_with_cas, read_sentinel_with_cas, remembered,
};
use super::name::Namespace;
use super::sentinel::{SENTINEL_EXPIRY, Sentinel, SentinelRecord, SentinelState};
use super::server_instance::InstanceWord;
use super::server_instance::ServerInstance;
use super::server_state::ServerState;
use super::server_stats::StatsSummary;
use super::server_stats::push_stats;
use super::time::Instant;
use crate::wire::{DecodeError, Flight, Replies, StoreVerb};
use alloc::string::ToString;

/// Number of attempts before the server counts as one that keeps no sentinel.
const MAX_TRIES: u8 = 4;

/// Creates the sentinel, in two steps.
///
/// First it is stored without a creation time; nothing follows from it then. The second step names
/// the CAS unique of the stored item and sets a creation time that the server had not passed yet
/// when the reply to the first step arrived, so it is later than the storing. It is right whenever
/// it is executed, and by whichever client: as long as that very item exists, nothing was forgotten
/// since.
///
/// A sentinel of a different server instance, which a warm restart (`-e`) has kept, is replaced in
/// the same two steps.
#[derive(Debug, Clone)]
pub(super) struct SentinelInit {
    /// The instance word of a sentinel that is made here.
    instance: InstanceWord,
    existing: Option<ExistingSentinel>,
    tries: u8,
}

/// A sentinel that is to be replaced.
#[derive(Debug, Clone, Copy)]
struct ExistingSentinel {
    /// The server instance on which it was found: a CAS unique has no meaning on another.
    instance: ServerInstance,
    cas: u64,
    /// Its value, if it names this server instance.
    record: Option<SentinelRecord>,
}

/// The next step after one flight that initializes a sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InitStep {
    Done,
    Retry,
    Failed(ServerError),
}

impl SentinelInit {
    /// The creation of a sentinel with this instance word, unless another client is faster. The
    /// word must never have been sent on a connection that may have led to a different server
    /// instance.
    pub(super) const fn new(instance: InstanceWord) -> Self {
        Self {
            instance,
            existing: None,
            tries: 0,
        }
    }

    /// The creation of a sentinel that continues from one that was found without a creation time,
    /// or with the mark of a different server instance.
    pub(super) fn from_existing(
        instance: InstanceWord,
        server: &ServerState,
        record: SentinelRecord,
        cas: u64,
    ) -> Self {
        let mut founding = Self::new(instance);
        founding.found(server, record, cas);
        founding
    }

    fn found(&mut self, server: &ServerState, record: SentinelRecord, cas: u64) {
        self.existing = Some(ExistingSentinel {
            instance: server.instance,
            cas,
            record: Some(record).filter(|record| server.instance.is_same_process(&record.instance)),
        });
    }

    pub(super) fn prepare(
        &mut self,
        namespace: &Namespace,
        server: &ServerState,
        now: Instant,
        flight: &mut Flight,
    ) {
        let sentinel = namespace.sentinel();
        self.existing = self
            .existing
            .filter(|found| server.is_instance(found.instance));
        let new = SentinelRecord::new(ServerInstance {
            word: self.instance,
            ..server.instance
        });
        let (verb, record) = match self.existing {
            None => (StoreVerb::Add, new),
            Some(ExistingSentinel { cas, record, .. }) => {
                let present = server
                    .clock
                    .seconds_upper_bound(now)
                    .unwrap_or(SENTINEL_EXPIRY);
                let record = record.map_or(new, |record| record.ready(present));
                (StoreVerb::Cas(cas), record)
            }
        };
        let value = record.to_string();
        push_store(flight, verb, sentinel, value.as_bytes(), SENTINEL_EXPIRY);
        let protocol = server.capabilities.protocol;
        push_sentinel_with_cas(flight, protocol, sentinel);
        // For the time, which the classic protocol returns in no other way.
        push_stats(flight);
    }

    pub(super) fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        server: &mut ServerState,
        sent: Instant,
        received: Instant,
    ) -> Result<InitStep, DecodeError> {
        let stored = read_stored(replies)?;
        let found = read_sentinel_with_cas(replies, server.capabilities.protocol)?;
        let stats = match StatsSummary::read(replies)? {
            Ok(stats) => stats,
            Err(failure) => return Ok(InitStep::Failed(failure)),
        };
        server.clock.observe(stats.time, sent, received);
        self.tries += 1;
        let (mut sentinel, cas) = match (stored, found) {
            (StoreOutcome::Failed(failure), _) | (_, Err(failure)) => {
                return Ok(InitStep::Failed(failure));
            }
            (_, Ok(found)) => found,
        };
        if let Sentinel::Present { record, second, .. } = &mut sentinel {
            second.get_or_insert(stats.time);
            self.found(server, *record, cas);
            if record.state == SentinelState::Ready
                && server.instance.is_same_process(&record.instance)
            {
                server.rename(record.instance.word);
            }
        } else {
            self.existing = None;
        }
        match remembered(server, &sentinel, Some(stats), None) {
            Err(failure) => Ok(InitStep::Failed(failure)),
            Ok(MemoryReading::CompleteSince { .. } | MemoryReading::Ambiguous) => {
                Ok(InitStep::Done)
            }
            Ok(MemoryReading::NoSentinel) if self.tries < MAX_TRIES => Ok(InitStep::Retry),
            Ok(MemoryReading::NoSentinel) => Ok(InitStep::Failed(ServerError::DropsItems)),
        }
    }
}
