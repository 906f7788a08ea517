//! Making the sentinel, and saying when it was born.

use super::incarnation::{Incarnation, ServerView};
use super::items::{Failure, Stats, Stored};
use super::items::{push_gets, push_stats, push_store, read_gets, read_stored};
use super::moment::Moment;
use super::name::Namespace;
use super::sentinel::{SENTINEL_EXPIRY, Sentinel, UNBORN};
use crate::wire::{DecodeError, Flight, Replies, StoreVerb};

/// How often it is tried before the server counts as one that keeps no sentinel.
const TRIES: u8 = 4;

/// `time - uptime` of `stats` is up to this much earlier than the start of the server in its own
/// time base: memcached counts its uptime from 2, and starts somewhere within a second.
pub(super) const UPTIME_AHEAD: u64 = 3;

/// Makes the sentinel, in two steps.
///
/// First it is stored without a birth; nobody takes it for a memory then. The second step names
/// the CAS unique of what was stored and says a birth that lies behind the storing, because it is
/// chosen when the answer to that has come. So it is right whenever it is carried out, and by
/// whomever: as long as that very item stands, nothing was forgotten since.
///
/// The birth is a second that the server has not passed yet. Only where its counters, read when
/// the item stood, show that it has forgotten nothing since its start, it is that start: then a
/// server that has long been running without locks need not be waited for.
#[derive(Debug, Clone)]
pub(super) struct Founding {
    /// The run of the server that it is about, the CAS unique of the item there, and the birth
    /// that the counters allow, if they allow one.
    stored: Option<(Incarnation, u64, Option<u64>)>,
    tries: u8,
}

/// What came of one flight of a founding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Founded {
    Yes,
    Again,
    Failed(Failure),
}

impl Founding {
    pub(super) const fn new() -> Self {
        Self {
            stored: None,
            tries: 0,
        }
    }

    pub(super) fn prepare(
        &mut self,
        namespace: &Namespace,
        server: &ServerView,
        now: Moment,
        flight: &mut Flight,
    ) {
        let sentinel = namespace.sentinel();
        // A CAS unique means nothing to another run of the server.
        let stored = self
            .stored
            .filter(|(incarnation, ..)| *incarnation == server.incarnation);
        self.stored = stored;
        match stored {
            None => push_store(flight, StoreVerb::Add, sentinel, UNBORN, SENTINEL_EXPIRY),
            Some((_, cas, start)) => {
                let present = server.clock.second_at_most(now).unwrap_or(SENTINEL_EXPIRY);
                #[cfg(seeded_bugs)]
                let present = crate::seeded::Bug::EarlyBirth
                    .choose(server.clock.second_at_least(now).unwrap_or(0), present);
                let mut digits = itoa::Buffer::new();
                let born = digits.format(start.unwrap_or(present)).as_bytes();
                push_store(flight, StoreVerb::Cas(cas), sentinel, born, SENTINEL_EXPIRY);
            }
        }
        push_gets(flight, sentinel);
        // Last: what they show, they show of a time when the item stood.
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
        let found = read_gets(replies)?;
        let stats = match Stats::read(replies)? {
            Ok(stats) => stats,
            Err(failure) => return Ok(Founded::Failed(failure)),
        };
        server.clock.observe(stats.time, sent, received);
        self.tries += 1;
        let (value, cas) = match (stored, found) {
            (Stored::Failed(failure), _) | (_, Err(failure)) => {
                return Ok(Founded::Failed(failure));
            }
            (_, Ok(Some((_, 0)))) => return Ok(Founded::Failed(Failure::NoCas)),
            (_, Ok(Some(found))) => found,
            (_, Ok(None)) => {
                self.stored = None;
                return Ok(self.again());
            }
        };
        match Sentinel::from_value(value) {
            Sentinel::Present { .. } => Ok(Founded::Yes),
            Sentinel::Unborn => {
                let start = stats.time - stats.uptime + UPTIME_AHEAD;
                let start = stats.forgot_nothing.then_some(start);
                self.stored = Some((server.incarnation, cas, start));
                Ok(self.again())
            }
            Sentinel::Foreign | Sentinel::Absent => Ok(Founded::Failed(Failure::ForeignItem)),
        }
    }

    fn again(&self) -> Founded {
        if self.tries < TRIES {
            Founded::Again
        } else {
            Founded::Failed(Failure::ForgottenAtOnce)
        }
    }
}
