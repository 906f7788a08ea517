//! The sentinel: one item per prefix that names a server instance and shows how long that instance
//! has remembered everything.
//!
//! ```text
//! s1 <state> <birth> <instance> <pid> <start> <list>
//! ```
//!
//! Its expiry is a constant, so the seconds left give the server's present second. When it is
//! absent, the server was restarted, flushed or short of memory, and may have forgotten locks whose
//! holders are still within their leases.

use super::lease::Lease;
use super::server_clock::LAST_SECOND;
use super::server_instance::{InstanceWord, ServerInstance};
use crate::wire::{MetaReply, MetaStatus, TimeLeft, parse_u64};
use core::fmt;
use core::time::Duration;

/// The expiry of every sentinel: the last second that memcached's 32-bit times can say.
pub const SENTINEL_EXPIRY: u64 = LAST_SECOND;

/// By how many seconds an item may have been stored later than the server's second said: the rest
/// of that second, and one for a timer that stepped over it. Only a server that serves requests
/// while its timer stands still for longer is further behind.
const STORED_LATER: u64 = 2;

/// The progress of the initialization of a sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentinelState {
    /// It was stored, and its birth is not set yet.
    New,
    /// Its birth is set.
    Ready,
}

/// The value of a sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentinelRecord {
    /// The progress of its initialization.
    pub state: SentinelState,
    /// The server's second from which on it has remembered everything; 0 while it is new.
    pub created_at: u64,
    /// The server instance in which it was created.
    pub instance: ServerInstance,
}

impl SentinelRecord {
    /// A sentinel without a creation time, created in this server instance.
    #[must_use]
    pub const fn new(run: ServerInstance) -> Self {
        Self {
            state: SentinelState::New,
            created_at: 0,
            instance: run,
        }
    }

    /// The same with its birth.
    #[must_use]
    pub const fn ready(self, birth: u64) -> Self {
        Self {
            state: SentinelState::Ready,
            created_at: birth,
            ..self
        }
    }

    /// Reads the value of an item. `None` for what no client of this version has stored; a list of
    /// servers, the last word, is for later versions.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut words = value.split(|byte| *byte == b' ');
        let mut word = || words.next();
        let layout = word()?;
        let state = match word()? {
            b"new" => SentinelState::New,
            b"ready" => SentinelState::Ready,
            _ => return None,
        };
        let birth = parse_u64(word()?)?;
        let instance = InstanceWord::parse(word()?)?;
        let pid = parse_u64(word()?)?;
        let started = parse_u64(word()?)?;
        let list = word()?;
        let whole = layout == b"s1" && list == b"-" && word().is_none();
        let run = ServerInstance {
            pid,
            started,
            word: instance,
        };
        whole.then_some(Self {
            state,
            created_at: birth,
            instance: run,
        })
    }
}

impl fmt::Display for SentinelRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            SentinelState::New => "new",
            SentinelState::Ready => "ready",
        };
        let ServerInstance {
            pid,
            started,
            word: instance,
        } = self.instance;
        write!(
            f,
            "s1 {state} {} {instance} {pid} {started} -",
            self.created_at
        )
    }
}

/// More than the longest value of a sentinel.
const VALUE_CAPACITY: usize = 112;

/// The value of a sentinel that was read last, and what it says: to compare takes less than to read.
#[derive(Debug, Clone)]
pub(super) struct LastSentinel {
    bytes: [u8; VALUE_CAPACITY],
    length: usize,
    record: Option<SentinelRecord>,
}

impl LastSentinel {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; VALUE_CAPACITY],
            length: 0,
            record: None,
        }
    }

    fn read(&mut self, value: &[u8]) -> Option<SentinelRecord> {
        if self.record.is_some() && self.bytes[..self.length] == *value {
            return self.record;
        }
        let record = SentinelRecord::parse(value);
        self.record = record.filter(|_| value.len() <= VALUE_CAPACITY);
        if self.record.is_some() {
            self.length = value.len();
            self.bytes[..value.len()].copy_from_slice(value);
        }
        record
    }
}

impl Default for LastSentinel {
    fn default() -> Self {
        Self::new()
    }
}

/// The outcome of a look at the sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentinel {
    /// There is none.
    Absent,
    /// There is one.
    Present {
        /// Its value.
        record: SentinelRecord,
        /// The server's second, if the reply says.
        second: Option<u64>,
        /// Seconds since it was stored or last accessed by a request that counts as an access, if
        /// the reply says.
        idle: Option<u64>,
    },
    /// The item is no sentinel of this version: another application uses the key.
    Foreign,
}

impl Sentinel {
    /// Reads the reply to `mg <sentinel> u t l v`.
    #[must_use]
    pub fn from_meta(reply: &MetaReply<'_>) -> Self {
        Self::from_meta_as(reply, &mut LastSentinel::default())
    }

    /// The same where `seen` is the value that was read last, which is nearly always the same.
    pub(super) fn from_meta_as(reply: &MetaReply<'_>, seen: &mut LastSentinel) -> Self {
        match reply.status {
            MetaStatus::Miss => Self::Absent,
            MetaStatus::Value => match (seen.read(reply.data), reply.flags.ttl()) {
                (Some(record), Some(TimeLeft::Seconds(left))) => Self::Present {
                    record,
                    second: SENTINEL_EXPIRY.checked_sub(u64::from(left)),
                    idle: reply.flags.last_access().map(u64::from),
                },
                _ => Self::Foreign,
            },
            _ => Self::Foreign,
        }
    }

    /// Reads the value alone, which shows neither the present second nor the last access.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Self {
        SentinelRecord::parse(value).map_or(Self::Foreign, |record| Self::Present {
            record,
            second: None,
            idle: None,
        })
    }
}

/// The server's second from which on it has surely remembered everything, if a look at the server's
/// second `second` found a sentinel with this birth, `idle` seconds after its last access.
///
/// A flush in second `s` drops whatever was stored or accessed before `s`. A sentinel that is there
/// was stored or accessed since: no flush in or after that second went unnoticed.
#[must_use]
pub fn complete_since(birth: u64, second: u64, idle: u64) -> u64 {
    birth.max(second.saturating_sub(idle) + STORED_LATER)
}

/// The server's second from which on no flush has dropped anything, if the flush horizon in
/// `stats settings` is `oldest` and the server's start is `started`.
pub(super) fn unflushed_from(started: u64, oldest: u64) -> u64 {
    if oldest == 0 {
        return started;
    }
    // `oldest` counts from 60 s before the start, and is the second before the flush.
    let flushed = started.saturating_add(oldest).saturating_add(1);
    flushed.saturating_sub(super::server_stats::CLOCK_AHEAD) + STORED_LATER
}

/// For how long no lock may be granted yet on a server whose second is `second` and which has
/// remembered everything from second `from` on; nothing when that is long enough.
#[must_use]
pub fn memory_lacking(second: u64, from: u64, longest: Lease) -> Duration {
    let needed = longest.min_memory_seconds();
    Duration::from_secs(from.saturating_add(needed).saturating_sub(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ReplyFlag, ReplyFlags};
    use alloc::string::ToString;

    const VALUE: &[u8] = b"s1 ready 1795337300 00000000000000ff 4711 1795337200 -";

    fn record() -> SentinelRecord {
        SentinelRecord::new(ServerInstance {
            pid: 4711,
            started: 1_795_337_200,
            word: InstanceWord::from_bits(255),
        })
    }

    fn reply<'a>(flags: &'a [ReplyFlag<'a>], data: &'a [u8]) -> MetaReply<'a> {
        MetaReply {
            status: MetaStatus::Value,
            flags: ReplyFlags::list(flags),
            data,
        }
    }

    #[test]
    fn second_follows_from_seconds_left() {
        let flags = [
            ReplyFlag::Ttl(i64::from(i32::MAX) - 1_795_337_329),
            ReplyFlag::LastAccess(7),
        ];
        assert_eq!(
            Sentinel::from_meta(&reply(&flags, VALUE)),
            Sentinel::Present {
                record: record().ready(1_795_337_300),
                second: Some(1_795_337_329),
                idle: Some(7),
            }
        );
    }

    #[test]
    fn value_is_read_as_written() {
        for record in [record(), record().ready(1_795_337_300)] {
            let written = record.to_string();
            assert_eq!(SentinelRecord::parse(written.as_bytes()), Some(record));
        }
        assert_eq!(record().ready(1_795_337_300).to_string().as_bytes(), VALUE);
    }

    #[test]
    fn other_values_are_foreign() {
        for value in [
            &b""[..],
            b"1795337300",
            b"m1 0123456789abcdef0011223344556677 10000 5 4711 h -",
            b"s2 ready 1795337300 00000000000000ff 4711 1795337200 -",
            b"s1 moving 1795337300 00000000000000ff 4711 1795337200 -",
            b"s1 ready 1795337300 00000000000000ff 4711 1795337200 l7",
            b"s1 ready 1795337300 00000000000000ff 4711 1795337200 - x",
            b"s1 ready 1795337300 00000000000000FF 4711 1795337200 -",
            b"s1 ready 1795337300 ff 4711 1795337200 -",
            b"s1 ready 1795337300 00000000000000ff 4711 1795337200",
        ] {
            assert_eq!(
                Sentinel::from_value(value),
                Sentinel::Foreign,
                "{}",
                value.escape_ascii()
            );
        }
        // Its value is that of a sentinel, but it never expires: another client has copied it.
        let never = [ReplyFlag::Ttl(-1)];
        assert_eq!(
            Sentinel::from_meta(&reply(&never, VALUE)),
            Sentinel::Foreign
        );
    }

    #[test]
    fn memory_age_ends_at_last_access() {
        assert_eq!(complete_since(100, 200, 90), 112);
        assert_eq!(complete_since(150, 200, 90), 150);
        assert_eq!(complete_since(150, 200, 0), 202);
        assert_eq!(complete_since(150, 200, 900), 150);
    }

    #[test]
    fn flush_horizon_counts_from_before_start() {
        // Measured: with an uptime of 8, `flush_all` makes it 67. The start is `time - uptime`.
        assert_eq!(unflushed_from(1000, 67), 1008 + STORED_LATER);
        assert_eq!(unflushed_from(1000, 0), 1000);
    }

    #[test]
    fn memory_lacking_covers_the_lease() {
        let lease = |secs| Lease::new(Duration::from_secs(secs)).expect("in range");
        assert_eq!(memory_lacking(100, 100, lease(10)), Duration::from_secs(11));
        assert_eq!(memory_lacking(110, 100, lease(10)), Duration::from_secs(1));
        assert_eq!(memory_lacking(111, 100, lease(10)), Duration::ZERO);
        assert_eq!(memory_lacking(99, 100, lease(1)), Duration::from_secs(3));
        assert_eq!(memory_lacking(u64::MAX, 100, lease(1)), Duration::ZERO);
        assert!(memory_lacking(100, u64::MAX, lease(1)) > Duration::from_secs(1 << 60));
    }
}
