//! The time for which a server has remembered everything, as far as one client can show it.
//!
//! Three things show it: a [sentinel](super::sentinel), the server's own account of its start and
//! its last flush, and counters that have not changed since they were read before. Each covers a
//! span of the server's seconds; spans that overlap are one. So a sentinel that was evicted and
//! founded anew does not make a memory look young that the counters show to be whole.

use super::lease::Lease;
use super::sentinel::{memory_lacking, unflushed_from};
use super::server_stats::{FlushTime, SettingStats, StatsSummary};
use core::time::Duration;

/// `time - uptime` of `stats` is up to this much earlier than the start of the server in its own
/// time base: memcached counts its uptime from 2, and starts somewhere within a second.
pub(super) const UPTIME_AHEAD: u64 = 3;

/// The most by which a reading may be later than the second that `stats` reported: the rest of that
/// second, and as much as the server's timer may be behind.
const NOTED_LATER: u64 = 3;

/// The most seconds for which the server's clock may have stood still at a flush that is judged by
/// its horizon alone. It costs nothing to be generous: a sentinel that is founded after the flush is
/// old long before.
const STALL_AT_FLUSH: u64 = 60;

/// The counters that change with each flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlushCounters {
    flushes: u64,
    /// The flush horizon. It distinguishes two flushes between which the statistics were reset.
    oldest: u64,
}

/// Counters that were read.
#[derive(Debug, Clone, Copy)]
struct CounterSnapshot {
    counters: FlushCounters,
    /// The second in which they were read first, or the one after it: what is known to cover it
    /// was seen behind them.
    at: u64,
    /// The horizon may not be that of the last flush.
    is_hidden: bool,
}

/// The seconds from `from` to `to` of the server, in which it has dropped nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

/// The knowledge that one client has of one server's memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    span: Option<Span>,
    noted: Option<CounterSnapshot>,
    /// The server does not report its settings.
    hides_settings: bool,
    /// From when on the sentinel that was seen last shows it.
    sentinel_from: Option<u64>,
    /// The longest lease that was seen to be in use.
    longest: Option<Lease>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            span: None,
            noted: None,
            hides_settings: false,
            sentinel_from: None,
            longest: None,
        }
    }

    /// The longest lease that some client is known to use, if any.
    #[must_use]
    pub const fn longest_lease(&self) -> Option<Lease> {
        self.longest
    }

    /// Takes in that a lease as long as this one is in use.
    pub(super) fn longest_lease_seen(&mut self, lease: Option<Lease>) {
        self.longest = self.longest.max(lease);
    }

    /// The longest lease in use, for a client that knows of this one.
    pub(super) fn longest(&self, own: Lease) -> Lease {
        self.longest.map_or(own, |longest| longest.max(own))
    }

    /// Returns `true` if a sentinel alone is not expected to show at `second` that nothing was
    /// dropped for as long as the longest lease.
    pub(super) fn needs_evidence(&self, second: u64, own: Lease) -> bool {
        self.sentinel_from.is_none_or(|from| {
            let from = match self.span {
                Some(span) if from <= span.to => span.from.min(from),
                _ => from,
            };
            !memory_lacking(second, from, self.longest(own)).is_zero()
        })
    }

    /// There is no sentinel, or none that shows anything.
    pub(super) const fn sentinel_missing(&mut self) {
        self.sentinel_from = None;
    }

    /// A sentinel was seen at the server's second `second` that shows that nothing was dropped from
    /// `from` on. Returns from when on that is known.
    pub(super) fn sentinel_seen(&mut self, from: u64, second: u64) -> u64 {
        self.sentinel_from = Some(from);
        match &mut self.span {
            Some(span) if from <= span.to => {
                span.from = span.from.min(from);
                span.to = span.to.max(second);
                span.from
            }
            // Counters may yet join what is older to the present.
            Some(span) if from > second || second - from < span.to - span.from => from,
            span => {
                if from <= second {
                    *span = Some(Span { from, to: second });
                }
                from
            }
        }
    }

    /// Counters were read; `sentinel_follows` if it is only looked at behind them. Returns from when
    /// on they show that nothing was dropped, if they do.
    pub(super) fn counters_read(
        &mut self,
        stats: &StatsSummary,
        settings: Option<&SettingStats>,
        sentinel_follows: bool,
    ) -> Option<u64> {
        let (Some(settings), Some(flushes)) = (settings, stats.flushes) else {
            self.hides_settings = true;
            return None;
        };
        let counters = FlushCounters {
            flushes,
            oldest: settings.oldest.unwrap_or(0),
        };
        // A flush that is still to come hides those before it. One with a time of the past, from
        // before the start, hides all.
        let is_pending = matches!(settings.flush_time(stats.uptime), Some(FlushTime::In(_)));
        let is_hidden = is_pending || (counters.oldest == 0 && flushes > 0);
        let unchanged = self
            .noted
            .filter(|noted| noted.counters == counters && noted.is_hidden == is_hidden);
        self.noted = unchanged.or(Some(CounterSnapshot {
            counters,
            // Of two things in one second, which came first is not known otherwise.
            at: stats.time + u64::from(!sentinel_follows),
            is_hidden,
        }));
        // A flush that is still to come does not change them again. And behind a warm restart they
        // begin anew, while the uptime does not.
        if is_pending || settings.memory_file == Some(true) {
            return None;
        }
        // A flush with a time of the past drops newer items at once, and the horizon shows that time:
        // where one was counted, the horizon proves nothing.
        let by_horizon = (flushes == 0).then(|| {
            let unflushed = match counters.oldest {
                0 => stats.started(),
                oldest => unflushed_from(stats.started(), oldest) + STALL_AT_FLUSH,
            };
            unflushed.max(stats.started() + UPTIME_AHEAD)
        });
        if let Some(from) = by_horizon.filter(|from| *from <= stats.time) {
            self.span = Some(Span {
                from,
                to: stats.time,
            });
            return Some(from);
        }
        if let Some(noted) = unchanged {
            // By themselves the counters show what has been since they were noted, which is all
            // there is where others bump the sentinel again and again.
            let alone = Some(Span {
                from: noted.at + NOTED_LATER,
                to: stats.time,
            });
            let alone = alone.filter(|alone| alone.from <= alone.to);
            let joined = self
                .span
                .filter(|span| noted.at <= span.to)
                .map(|span| Span {
                    from: alone.map_or(span.from, |alone| alone.from.min(span.from)),
                    to: span.to.max(stats.time),
                });
            if let Some(span) = joined.or(alone) {
                self.span = Some(span);
                return Some(span.from);
            }
        }
        // Of a server that has just started, it shows how long is still to be waited.
        by_horizon
    }

    /// From when on no flush has gone unnoticed, where a sentinel may have outlived one: by the
    /// counters, which were read together with the flush horizon before. `None` when that must be
    /// read again.
    pub(super) fn unflushed_from(&self, stats: &StatsSummary) -> Option<u64> {
        let Some(noted) = self.noted else {
            return self.hides_settings.then_some(0);
        };
        if stats.flushes != Some(noted.counters.flushes) {
            return None;
        }
        let horizon = unflushed_from(stats.started(), noted.counters.oldest);
        // A flush that was still to come hides others until it has come.
        let is_hidden = noted.is_hidden && (noted.counters.oldest == 0 || stats.time < horizon);
        Some(if is_hidden { noted.at } else { horizon })
    }

    /// Merges what another connection to the same server instance has found.
    pub(super) fn absorb(&mut self, fresh: &Self) {
        self.longest_lease_seen(fresh.longest);
        self.sentinel_from = fresh.sentinel_from;
        self.hides_settings = fresh.hides_settings;
        let noted = fresh.noted.map(|noted| {
            let is_covered = fresh.span.is_some_and(|span| span.to >= noted.at);
            // Other facts may have been seen earlier in the same second.
            let at = noted.at + u64::from(!is_covered);
            CounterSnapshot { at, ..noted }
        });
        match (self.span, fresh.span) {
            (Some(own), Some(other)) if other.from <= own.to && own.from <= other.to => {
                self.span = Some(Span {
                    from: own.from.min(other.from),
                    to: own.to.max(other.to),
                });
            }
            (None, other) => self.span = other,
            _ => {}
        }
        let same = |own: &CounterSnapshot| {
            let other = noted.map(|other| (other.counters, other.is_hidden));
            other == Some((own.counters, own.is_hidden))
        };
        self.noted = self.noted.filter(same).or(noted);
    }

    /// For how long a lock must not be granted yet at the server's second `second`, if nothing was
    /// dropped from `from` on.
    pub(super) fn lacking(&self, second: u64, from: u64, own: Lease) -> Duration {
        memory_lacking(second, from, self.longest(own))
    }
}
