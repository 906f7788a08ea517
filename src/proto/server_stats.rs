//! Statistics of a server: the three groups of `stats` that matter to locks, as numbers.
//!
//! Every field is what the server said, or nothing. Lines that are not known are skipped, so that
//! servers of other releases and makers can be read as well.

use super::failure::ServerError;
use super::server_clock::LONG_PAST;
use crate::wire::{DecodeError, Flight, Key, Keys, Replies, Reply, Request, parse_u64};

/// memcached's clock stands at 62 when a server starts and shows an uptime of 2.
pub(super) const CLOCK_AHEAD: u64 = 60;

/// The first bytes of the names of a proxy's own statistics, of memcached's proxy and of mcrouter.
/// A server has none of them.
const PROXY_STATS: &[u8] = b"proxy_";

/// Asks for the general statistics.
pub(super) fn push_stats(flight: &mut Flight) {
    flight.push_here(&Request::Stats {
        group: Keys::list(&[]),
    });
}

/// Asks for a group of statistics.
pub(super) fn push_group(flight: &mut Flight, group: &'static [u8]) {
    if let Ok(group) = Key::new(group) {
        flight.push(&Request::Stats {
            group: Keys::list(&[group]),
        });
    }
}

/// Passes every line of a group of statistics to `each`. Returns whether the server returned the
/// group: a refusal is a valid reply as well.
fn read_group(
    replies: &mut Replies<'_>,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<bool, DecodeError> {
    loop {
        match replies.next_reply()? {
            Reply::Stat { name, value } => each(name, value),
            Reply::End => return Ok(true),
            Reply::Error(_) | Reply::Ok | Reply::Reset => return Ok(false),
            _ => return Err(DecodeError::UnexpectedReply),
        }
    }
}

/// `yes` and `no`, `on` and `off`.
fn switch(value: &[u8]) -> Option<bool> {
    match value {
        b"yes" | b"on" => Some(true),
        b"no" | b"off" => Some(false),
        _ => None,
    }
}

/// `stats`: counters since the start, or since the last `stats reset`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GeneralStats {
    /// The server's process id.
    pub pid: Option<u64>,
    /// Seconds since the start, and about two more.
    pub uptime: Option<u64>,
    /// The server's second.
    pub time: Option<u64>,
    /// Connections at present, this one among them.
    pub curr_connections: Option<u64>,
    /// Connections so far, this one among them.
    pub total_connections: Option<u64>,
    /// The most connections.
    pub max_connections: Option<u64>,
    /// Connections that were refused because there were too many.
    pub rejected_connections: Option<u64>,
    /// Number of times that no connections were accepted because there were too many.
    pub listen_disabled_num: Option<u64>,
    /// Descriptors that the server keeps for itself.
    pub reserved_fds: Option<u64>,
    /// Number of threads that serve connections.
    pub threads: Option<u64>,
    /// Connections that were closed because nothing came on them.
    pub idle_kicks: Option<u64>,
    /// Items that were dropped because memory was short.
    pub evictions: Option<u64>,
    /// Items that were refused because memory was short.
    pub store_no_memory: Option<u64>,
    /// Number of times that the cache was flushed.
    pub cmd_flush: Option<u64>,
    /// Pages that moved from one size class to another.
    pub slabs_moved: Option<u64>,
    /// Items that were dropped because their page moved (reported by 1.6.18).
    pub slab_reassign_evictions_nomem: Option<u64>,
    /// Bytes in items.
    pub bytes: Option<u64>,
    /// The most bytes in items.
    pub limit_maxbytes: Option<u64>,
    /// `true` if items may lie on a disk.
    pub extstore: bool,
    /// `true` if these are statistics of a proxy.
    pub is_proxy: bool,
}

impl GeneralStats {
    /// Reads the reply to `stats`. `None` if the server refuses it, or reports nothing that
    /// distinguishes it from other instances.
    pub(super) fn read(replies: &mut Replies<'_>) -> Result<Option<Self>, DecodeError> {
        let mut stats = Self::default();
        let told = read_group(replies, |name, value| {
            let field = match name {
                b"pid" => &mut stats.pid,
                b"uptime" => &mut stats.uptime,
                b"time" => &mut stats.time,
                b"curr_connections" => &mut stats.curr_connections,
                b"total_connections" => &mut stats.total_connections,
                b"max_connections" => &mut stats.max_connections,
                b"rejected_connections" => &mut stats.rejected_connections,
                b"listen_disabled_num" => &mut stats.listen_disabled_num,
                b"reserved_fds" => &mut stats.reserved_fds,
                b"threads" => &mut stats.threads,
                b"idle_kicks" => &mut stats.idle_kicks,
                b"evictions" => &mut stats.evictions,
                b"store_no_memory" => &mut stats.store_no_memory,
                b"cmd_flush" => &mut stats.cmd_flush,
                b"slabs_moved" => &mut stats.slabs_moved,
                b"slab_reassign_evictions_nomem" => &mut stats.slab_reassign_evictions_nomem,
                b"bytes" => &mut stats.bytes,
                b"limit_maxbytes" => &mut stats.limit_maxbytes,
                _ => {
                    stats.extstore |= name.starts_with(b"extstore_");
                    stats.is_proxy |= name.starts_with(PROXY_STATS);
                    return;
                }
            };
            *field = parse_u64(value);
        })?;
        // Times are 32 bits wide; what says otherwise is no memcached server.
        let time = stats.time.filter(|time| u32::try_from(*time).is_ok());
        let sound = stats.pid.is_some() && stats.uptime.is_some() && stats.uptime <= time;
        Ok((told && sound).then_some(stats))
    }

    /// Returns `true` if the server's clock was ever set: it does not stand in January 1970.
    #[must_use]
    pub fn is_clock_set(&self) -> Option<bool> {
        self.time.map(|time| time > LONG_PAST)
    }
}

/// `stats settings`: the options with which the server was started, and later changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingStats {
    /// `true` if items have CAS uniques (not with `-C`).
    pub cas_enabled: Option<bool>,
    /// `true` if items are dropped when memory is short (not with `-M`).
    pub evictions: Option<bool>,
    /// `true` if some items are exempt from that (`-o temporary_ttl=N`).
    pub temp_lru: Option<bool>,
    /// Items stored with at most so many seconds to live are, if any.
    pub temporary_ttl: Option<u64>,
    /// `true` if connections over the limit receive an error (`-o maxconns_fast`, the default).
    pub maxconns_fast: Option<bool>,
    /// After how many seconds without a request a connection is closed; 0 is never.
    pub idle_timeout: Option<u64>,
    /// The most bytes that one item may take (`-I`).
    pub item_size_max: Option<u64>,
    /// `true` if clients may empty the cache (not with `-F`).
    pub flush_enabled: Option<bool>,
    /// The server's clock at the last time that the cache was emptied, or will be; 0 is never.
    pub oldest: Option<u64>,
    /// Moves of pages between size classes: 0 never, 1 slowly, 2 at each
    /// eviction.
    pub slab_automove: Option<u64>,
    /// `true` if clients may end the server (`-A`).
    pub shutdown_command: Option<bool>,
    /// `true` if clients may list all keys (not with `-X`).
    pub dump_enabled: Option<bool>,
    /// `true` if there is a crawler, without which keys cannot be listed (not with
    /// `-o no_lru_crawler`).
    pub lru_crawler: Option<bool>,
    /// `true` if clients must send a password (`-Y`, or SASL).
    pub auth_enabled: Option<bool>,
    /// `true` if the server is a proxy in front of others.
    pub proxy_enabled: Option<bool>,
    /// The least bytes of an item that may lie on a disk.
    pub ext_item_size: Option<u64>,
    /// `true` if items outlive a restart (`-e`).
    pub memory_file: Option<bool>,
    /// `true` if the server listens where only this machine can reach it.
    pub local_only: Option<bool>,
}

impl SettingStats {
    /// Reads the answer to `stats settings`. `None` when the server refuses it, or says something
    /// else.
    pub(super) fn read(replies: &mut Replies<'_>) -> Result<Option<Self>, DecodeError> {
        let mut settings = Self::default();
        let mut on_socket = false;
        let told = read_group(replies, |name, value| match name {
            b"cas_enabled" => settings.cas_enabled = switch(value),
            b"evictions" => settings.evictions = switch(value),
            b"temp_lru" => settings.temp_lru = switch(value),
            b"temporary_ttl" => settings.temporary_ttl = parse_u64(value),
            b"maxconns_fast" => settings.maxconns_fast = switch(value),
            b"idle_timeout" => settings.idle_timeout = parse_u64(value),
            b"item_size_max" => settings.item_size_max = parse_u64(value),
            b"flush_enabled" => settings.flush_enabled = switch(value),
            b"oldest" => settings.oldest = parse_u64(value),
            b"slab_automove" => settings.slab_automove = parse_u64(value),
            b"shutdown_command" => settings.shutdown_command = switch(value),
            b"dump_enabled" => settings.dump_enabled = switch(value),
            b"lru_crawler" => settings.lru_crawler = switch(value),
            // The former is the name of the file with the passwords.
            b"auth_enabled_ascii" | b"auth_enabled_sasl" => {
                let other = settings.auth_enabled == Some(true);
                settings.auth_enabled = Some(other || value != b"no");
            }
            b"proxy_enabled" => settings.proxy_enabled = switch(value),
            b"ext_item_size" => settings.ext_item_size = parse_u64(value),
            b"memory_file" => settings.memory_file = Some(value != b"(null)"),
            b"domain_socket" => on_socket = value != b"NULL",
            b"inter" => settings.local_only = Some(is_local(value)),
            _ => {}
        })?;
        if on_socket {
            settings.local_only = Some(true);
        }
        Ok((told && settings != Self::default()).then_some(settings))
    }

    /// Items that are stored with so many seconds to live, and no more, are exempt from eviction.
    #[must_use]
    pub fn exempt_up_to(&self) -> Option<u64> {
        self.temporary_ttl.filter(|_| self.temp_lru == Some(true))
    }

    /// When the cache was emptied last, or will be: seconds before the uptime, or behind it.
    #[must_use]
    pub fn flush_time(&self, uptime: u64) -> Option<FlushTime> {
        let oldest = self.oldest.filter(|oldest| *oldest > 0)?;
        let clock = uptime.saturating_add(CLOCK_AHEAD);
        Some(match oldest.checked_sub(clock) {
            Some(left @ 1..) => FlushTime::In(left),
            _ => FlushTime::Ago(clock - oldest),
        })
    }
}

/// When a cache is emptied, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushTime {
    /// It was.
    Ago(u64),
    /// A client has scheduled it (`flush_all` with a delay).
    In(u64),
}

/// Returns `true` if all addresses in a list are this machine's own. Nothing in it means any
/// address.
fn is_local(addresses: &[u8]) -> bool {
    addresses.split(|byte| *byte == b',').all(|address| {
        let host = address.strip_prefix(b"[").unwrap_or(address);
        host == b"::1"
            || host.starts_with(b"::1]")
            || host.starts_with(b"127.")
            || host.starts_with(b"localhost")
    })
}

/// `stats items`: of all size classes together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemStats {
    /// Items at present.
    pub number: u64,
    /// Items that are exempt from eviction at present, where some can be.
    pub number_temp: Option<u64>,
    /// Items that were dropped because memory was short.
    pub evicted: u64,
    /// The evicted items that had a time to live.
    pub evicted_nonzero: u64,
    /// In each size class that ever dropped one: for how many seconds the last one had not been
    /// used. This is the least of them.
    pub evicted_time: Option<u64>,
    /// Number of times that there was no memory for an item.
    pub outofmemory: u64,
}

/// The statistics of one size class read so far.
#[derive(Debug, Clone, Copy, Default)]
struct SizeClass {
    id: u64,
    evicted: u64,
    evicted_time: Option<u64>,
}

impl ItemStats {
    /// Reads the answer to `stats items`. `None` when the server refuses it.
    pub(super) fn read(replies: &mut Replies<'_>) -> Result<Option<Self>, DecodeError> {
        let mut items = Self::default();
        let mut class = SizeClass::default();
        let told = read_group(replies, |name, value| {
            let mut parts = name.splitn(3, |byte| *byte == b':');
            let (Some(b"items"), Some(id), Some(name)) = (parts.next(), parts.next(), parts.next())
            else {
                return;
            };
            let (Some(id), Some(value)) = (parse_u64(id), parse_u64(value)) else {
                return;
            };
            if id != class.id {
                items.close(class);
                class = SizeClass {
                    id,
                    ..SizeClass::default()
                };
            }
            match name {
                b"number" => items.number = items.number.saturating_add(value),
                b"number_temp" => {
                    let others = items.number_temp.unwrap_or(0);
                    items.number_temp = Some(others.saturating_add(value));
                }
                b"evicted" => class.evicted = value,
                b"evicted_time" => class.evicted_time = Some(value),
                b"evicted_nonzero" => {
                    items.evicted_nonzero = items.evicted_nonzero.saturating_add(value);
                }
                b"outofmemory" => items.outofmemory = items.outofmemory.saturating_add(value),
                _ => {}
            }
        })?;
        items.close(class);
        Ok(told.then_some(items))
    }

    /// All lines of a class were read.
    fn close(&mut self, class: SizeClass) {
        self.evicted = self.evicted.saturating_add(class.evicted);
        if let Some(time) = class.evicted_time.filter(|_| class.evicted > 0) {
            self.evicted_time = Some(self.evicted_time.map_or(time, |least| least.min(time)));
        }
    }
}

/// The part of the general statistics that every client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatsSummary {
    pub(super) pid: u64,
    pub(super) uptime: u64,
    pub(super) time: u64,
    /// Number of flushes, those with a delay included.
    pub(super) flushes: Option<u64>,
}

impl StatsSummary {
    /// The server's start, in its own time base.
    pub(super) const fn started(&self) -> u64 {
        self.time - self.uptime
    }

    /// Reads the answer to `stats`. A failure when what is wanted is not in it, or when it is about
    /// a proxy and not about the server that keeps the items.
    pub(super) fn read(
        replies: &mut Replies<'_>,
    ) -> Result<Result<Self, ServerError>, DecodeError> {
        let mut is_proxy = false;
        let (mut pid, mut uptime, mut time) = (None, None, None);
        let mut flushes = None;
        loop {
            match replies.next_reply()? {
                Reply::Stat { name, value } => {
                    let wanted = match name {
                        b"pid" => &mut pid,
                        b"uptime" => &mut uptime,
                        b"time" => &mut time,
                        b"cmd_flush" => &mut flushes,
                        _ => {
                            is_proxy |= name.starts_with(PROXY_STATS);
                            continue;
                        }
                    };
                    *wanted = parse_u64(value);
                }
                Reply::End => break,
                Reply::Error(_) | Reply::Ok | Reply::Reset => return Ok(Err(ServerError::NoStats)),
                _ => return Err(DecodeError::UnexpectedReply),
            }
        }
        // Times are 32 bits wide; what says otherwise is no memcached server.
        let time = time.filter(|time| u32::try_from(*time).is_ok());
        Ok(match (pid, uptime, time) {
            (Some(_), Some(_), Some(..=LONG_PAST)) => Err(ServerError::ClockNotSet),
            _ if is_proxy => Err(ServerError::Proxy),
            (Some(pid), Some(uptime), Some(time)) if uptime <= time => Ok(Self {
                pid,
                uptime,
                time,
                flushes,
            }),
            _ => Err(ServerError::NoStats),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut bytes = String::new();
        for line in lines {
            bytes.push_str("STAT ");
            bytes.push_str(line);
            bytes.push_str("\r\n");
        }
        bytes.push_str("END\r\n");
        bytes.into_bytes()
    }

    #[test]
    fn unknown_statistics_are_skipped() {
        let bytes = lines(&[
            "pid 7",
            "uptime 10",
            "time 1795337329",
            "libevent 2.1.13-stable",
            "rusage_user 0.000000",
            "evictions many",
            "cmd_flush 3",
            "extstore_io_queue 0",
            "empty ",
        ]);
        let stats = GeneralStats::read(&mut Replies::new(&bytes)).expect("statistics");
        let stats = stats.expect("enough of them");
        assert_eq!((stats.pid, stats.uptime), (Some(7), Some(10)));
        assert_eq!((stats.evictions, stats.cmd_flush), (None, Some(3)));
        assert_eq!(stats.threads, None);
        assert!(stats.extstore);
    }

    #[test]
    fn refusals_are_answers() {
        for refusal in ["ERROR\r\n", "CLIENT_ERROR no\r\n", "RESET\r\n", "OK\r\n"] {
            let mut replies = Replies::new(refusal.as_bytes());
            assert_eq!(SettingStats::read(&mut replies), Ok(None), "{refusal}");
        }
        // Statistics of something else.
        let other = lines(&["num_servers 3"]);
        assert_eq!(SettingStats::read(&mut Replies::new(&other)), Ok(None));
        assert_eq!(GeneralStats::read(&mut Replies::new(&other)), Ok(None));
        let wrong = GeneralStats::read(&mut Replies::new(b"STORED\r\n"));
        assert_eq!(wrong, Err(DecodeError::UnexpectedReply));
        assert!(ItemStats::read(&mut Replies::new(b"STAT a 1\r\n")).is_err());
    }

    #[test]
    fn impossible_time_is_none() {
        for time in ["99999999999", "5", "-1"] {
            let bytes = lines(&["pid 7", "uptime 10", &["time ", time].concat()]);
            let stats = GeneralStats::read(&mut Replies::new(&bytes));
            assert_eq!(stats, Ok(None), "{time}");
        }
    }

    #[test]
    fn settings_parse_words_and_numbers() {
        let bytes = lines(&[
            "cas_enabled no",
            "evictions off",
            "temp_lru yes",
            "temporary_ttl 61",
            "auth_enabled_sasl no",
            "auth_enabled_ascii /etc/memcached.users",
            "memory_file (null)",
            "inter 127.0.0.1,::1",
            "domain_socket NULL",
            "oldest 161",
        ]);
        let settings = SettingStats::read(&mut Replies::new(&bytes)).expect("settings");
        let settings = settings.expect("some that are known");
        assert_eq!(settings.cas_enabled, Some(false));
        assert_eq!(settings.evictions, Some(false));
        assert_eq!(settings.exempt_up_to(), Some(61));
        assert_eq!(settings.auth_enabled, Some(true));
        assert_eq!(settings.memory_file, Some(false));
        assert_eq!(settings.local_only, Some(true));
        assert_eq!(settings.proxy_enabled, None);
        // Seen on a server that received `flush_all 100` when it started.
        assert_eq!(settings.flush_time(2), Some(FlushTime::In(99)));
        assert_eq!(settings.flush_time(101), Some(FlushTime::Ago(0)));
        assert_eq!(settings.flush_time(111), Some(FlushTime::Ago(10)));
    }

    #[test]
    fn only_loopback_addresses_are_local() {
        for (addresses, local) in [
            ("127.0.0.1", true),
            ("127.0.0.1:11211,[::1]:11211", true),
            ("::1", true),
            ("NULL", false),
            ("127.0.0.1,10.0.0.5", false),
            ("::", false),
            ("", false),
        ] {
            assert_eq!(is_local(addresses.as_bytes()), local, "{addresses}");
        }
    }

    #[test]
    fn size_classes_are_summed() {
        let bytes = lines(&[
            "items:1:number 5",
            "items:1:evicted 0",
            "items:1:evicted_nonzero 0",
            "items:1:evicted_time 0",
            "items:2:number 2",
            "items:2:number_temp 1",
            "items:2:evicted 9",
            "items:2:evicted_nonzero 4",
            "items:2:evicted_time 70",
            "items:3:evicted 1",
            "items:3:evicted_time 20",
            "items:3:outofmemory 6",
            "items:x:evicted 1",
            "slabs:1:evicted 1",
        ]);
        let items = ItemStats::read(&mut Replies::new(&bytes)).expect("statistics");
        let expected = ItemStats {
            number: 7,
            number_temp: Some(1),
            evicted: 10,
            evicted_nonzero: 4,
            evicted_time: Some(20),
            outofmemory: 6,
        };
        assert_eq!(items, Some(expected));
        let none = ItemStats::read(&mut Replies::new(b"END\r\n")).expect("no items");
        assert_eq!(none, Some(ItemStats::default()));
    }
}
