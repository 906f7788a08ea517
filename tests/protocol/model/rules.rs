//! The scope of one search: its bounds, the kind of server, and the planted faults.

/// A deviation from the protocol that the search must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    /// The age of the memory is `second - birth` alone.
    AgeByBirthOnly,
    /// The sentinel is read without `u`, so that each reading bumps it.
    SentinelReadBumps,
    /// The sentinel is read ahead of the record.
    SentinelBeforeRecord,
    /// `stats` and `stats settings` are read ahead of the record.
    EvidenceBeforeRecord,
    /// Notes are taken from `stats` answered behind the sentinel.
    NotesBehindSentinel,
    /// Notes are taken although a delayed flush is pending.
    NotesWithPendingFlush,
    /// Evidence by notes does not ask for the server's uptime.
    NotesWithoutUptime,
    /// Evidence by notes does not ask how long ago the last flush was.
    NotesWithoutFlushAge,
    /// Evidence without notes counts on a server that keeps its items over a restart.
    WarmServerCountsAsFresh,
    /// Evidence without notes ignores `oldest`: `cmd_flush` alone shows flushes.
    FlushHorizonIgnored,
    /// Evidence without notes ignores `cmd_flush`: `oldest` alone shows flushes.
    FlushCountIgnored,
    /// Evidence without notes does not ask how long ago the last flush was.
    FlushAgeIgnored,
    /// Evidence without notes does not allow for a second that lags at the last flush.
    FlushLagIgnored,
    /// Evidence without notes counts although a delayed flush is pending, which hides the one
    /// before it.
    PendingFlushIgnored,
    /// The birth is the second that the server shows, not one that has not begun yet.
    BirthTooEarly,
    /// The sentinel is founded by one `add` that already bears its birth.
    FoundingInOneStep,
    /// The client draws one instance word and uses it for each founding.
    InstanceReused,
    /// Pid and start alone distinguish the runs of the server.
    InstanceNotCompared,
    /// A sentinel that bears another pid or start counts as one of this run.
    WarmRestartNotDetected,
    /// Locks are granted whatever the sentinel says.
    GuardOff,
    /// A release removes the record without comparing the CAS unique.
    BlindRelease,
    /// The lease counts from the reply.
    LeaseFromReply,
    /// A renewal keeps the CAS unique.
    RenewalKeepsUnique,
    /// A contender takes a lock over without waiting for the lease of its record.
    TakeoverWithoutWaiting,
    /// The age by `l` does not allow for the second being rounded down.
    SecondNotRoundedUp,
    /// The age by `l` does not allow for a second that lags.
    LagNotAllowedFor,
}

/// The treatment by `flush_all` of an item that was stored or bumped in the second of the flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushKind {
    /// memcached 1.6.18: everything stored before goes.
    Everything,
    /// memcached 1.6.25 and later: it may survive.
    MaySpareThisSecond,
}

/// The beginning of histories. The server has run for long in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// The sentinel is old, and the clients know nothing yet.
    Quiet,
    /// The same, and the server was flushed once, long ago.
    FlushedBefore,
    /// There is no sentinel yet.
    FirstUse,
    /// The sentinel is old, and the clients are connected and have read all that there is.
    Connected,
    /// The same, but their notes are from an earlier run with the same pid and start, which was
    /// flushed once.
    AfterTwin,
}

/// Number of times each disturbance may happen in one history, and the scope of the search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The longest lease, in ticks. Each lease is this long.
    pub(crate) lease: u8,
    pub(crate) beginning: Beginning,
    pub(crate) flush_kind: FlushKind,
    /// Connections that break with a request unanswered; what was not carried out may be later.
    pub(crate) breaks: u8,
    pub(crate) restarts: u8,
    /// Restarts that keep the items, with the clock set forward or not.
    pub(crate) warm_restarts: u8,
    /// A warm restart changes the pid. Off: pid 1 in a container, which is outside of the promise.
    pub(crate) warm_pid_changes: bool,
    pub(crate) flushes: u8,
    /// Delayed flushes among them are allowed, by up to this many ticks.
    pub(crate) flush_delay: u8,
    /// An item that a flush has ended comes back when a later flush moves the horizon.
    pub(crate) flush_undone_by_later: bool,
    /// A flush may name a time of the past: all items go at once, and the horizon shows that time.
    pub(crate) past_flush: bool,
    /// Evictions of the sentinel. Eviction of the lock is outside of the promise.
    pub(crate) evictions: u8,
    /// Reads by strangers that bump the sentinel.
    pub(crate) bumps: u8,
    pub(crate) stats_resets: u8,
    /// By how many ticks the server's second may lag.
    pub(crate) lag: u8,
    /// By how many ticks it may lag at a flush that spares the sentinel: the margin of `l`.
    pub(crate) lag_at_flush: u8,
    /// Faults planted, as bits.
    pub(crate) faults: u32,
}

impl Bounds {
    /// A server that behaves, connections that hold.
    pub(crate) const CALM: Self = Self {
        lease: 1,
        beginning: Beginning::Quiet,
        flush_kind: FlushKind::MaySpareThisSecond,
        breaks: 0,
        restarts: 0,
        warm_restarts: 0,
        warm_pid_changes: true,
        flushes: 0,
        flush_delay: 0,
        flush_undone_by_later: false,
        past_flush: false,
        evictions: 0,
        bumps: 0,
        stats_resets: 0,
        lag: 0,
        lag_at_flush: 0,
        faults: 0,
    };

    #[must_use]
    pub(crate) const fn with(mut self, fault: Fault) -> Self {
        self.faults |= 1 << fault as u8;
        self
    }

    pub(crate) const fn has(&self, fault: Fault) -> bool {
        self.faults & (1 << fault as u8) != 0
    }

    /// `second - birth` from which on the memory is old. A birth is a second that had not begun.
    pub(crate) const fn old_birth(&self) -> i8 {
        self.lease as i8
    }

    /// `l` from which on the memory is old: `time` is rounded down and lags.
    pub(crate) const fn old_item(&self) -> i8 {
        let lag = if self.has(Fault::LagNotAllowedFor) {
            0
        } else {
            self.lag_at_flush as i8
        };
        let round = if self.has(Fault::SecondNotRoundedUp) {
            0
        } else {
            1
        };
        self.lease as i8 + lag + round
    }

    /// Ticks of uptime behind which no lease of an earlier run is left.
    pub(crate) const fn long_uptime(&self) -> i8 {
        self.lease as i8 + 1
    }

    /// `second - oldest` behind which the last flush alone shows that no lease from before it is
    /// left.
    pub(crate) const fn old_horizon(&self) -> i8 {
        let lag = if self.has(Fault::FlushLagIgnored) {
            0
        } else {
            self.lag as i8
        };
        self.lease as i8 + 2 + lag
    }

    /// `second - oldest` behind which no lease from before the flush is left. An immediate flush
    /// sets `oldest` to the second before its own.
    pub(crate) const fn old_flush(&self) -> i8 {
        self.lease as i8 + 2 + self.lag_at_flush as i8
    }
}
