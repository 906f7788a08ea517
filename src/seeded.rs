//! Bugs that can be planted, so that it is seen that the tests find them.
//!
//! Compiled with `--cfg seeded_bugs` alone, which `scripts/seeded-bugs` does; nothing of it is in
//! any other build. Each bug is a line or two at the place where it would be, behind that cfg. The
//! environment variable `MEMLATCH_SEEDED_BUG` names the one that is planted. Which test must find
//! which bug stands in the script.

use std::sync::OnceLock;

macro_rules! bugs {
    ($($(#[$what:meta])+ $name:ident,)+) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[$what])+ $name,)+
        }

        impl Bug {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

bugs! {
    /// A lease counts from the answer to the acquisition, not from before it was sent.
    LeaseFromReply,
    /// A renewed lease counts from the answer.
    RenewedLeaseFromReply,
    /// The lease of an attempt that was repeated counts from the repetition.
    LeaseFromRepetition,
    /// The expiry comes without the seconds that pay for the server's whole ones.
    ExpiryWithoutMargin,
    /// The expiry of a record is relative, so that a server that lags forgets it early.
    RelativeExpiry,
    /// A stall that was found out does not shorten what is believed.
    StallIgnored,
    /// An answer that comes when the lease is over is a grant all the same.
    GrantAfterDeadline,
    /// A release deletes whatever is there.
    BlindRelease,
    /// A renewal prolongs whatever is there.
    BlindRenewal,
    /// A renewal leaves the CAS unique as it is, so that a late one sets the expiry back.
    RenewalKeepsCas,
    /// Where the answer to a renewal was lost, the next one takes the lock for lost.
    LostAnswerIsLoss,
    /// A CAS unique is used for a renewal on another run of the server.
    RenewalOnAnotherRun,
    /// A CAS unique is used for a release on another run of the server.
    ReleaseOnAnotherRun,
    /// A renewal begins although the guard has given the lock back.
    RenewalAfterRelease,
    /// A server that may have forgotten locks grants them at once.
    NoColdGuard,
    /// The sentinel is read in front of the storing of the record.
    SentinelBeforeAcquire,
    /// A sentinel vouches for the time since its birth, whatever has saved it from a flush.
    BirthAlone,
    /// The counters of a server with a memory file (`-e`) are believed.
    WarmCounters,
    /// A flush that is still to come does not spoil the counters.
    PendingFlushBelieved,
    /// The instance word is no part of what tells a run of the server from another.
    TwinIsTheSame,
    /// The birth of a sentinel is a second that may have passed before it was stored.
    EarlyBirth,
    /// How long a memory must reach back does not count what clocks may run apart.
    MemoryWithoutDrift,
    /// A lock is taken over after its lease, without what clocks may run apart.
    WatchWithoutDrift,
    /// A watch goes on over a restart of the server, where CAS uniques start anew.
    WatchOutlivesRestart,
    /// A watch goes on over a renewal.
    WatchOutlivesRenewal,
    /// An acquisition that was not answered is not taken back.
    UnknownNotUndone,
    /// A CAS unique that a request on its way still names is used again, without a record.
    LeanTokenReused,
    /// The token is the CAS unique of the record.
    TokenFromCas,
    /// The counter of tokens starts at 1.
    TokenFromOne,
    /// A token below the birth of the sentinel is as good as any.
    TokenBelowBirth,
    /// A counter that a request made long after it was sent is as good as any.
    LateCounterBelieved,
    /// The reply to a caller who has left goes to the next one.
    ReplyToTheNext,
    /// A connection on which an answer is still to come is used again.
    DirtyConnection,
    /// A line may be one byte longer than the longest one.
    LineLimitOffByOne,
    /// The longest value is refused.
    ValueLimitOffByOne,
    /// The length of a value is cut to 32 bits.
    LengthTruncated,
    /// A lease of more than 30 days is taken, for 30 days.
    LongLeaseAccepted,
}

impl Bug {
    /// Whether this is the one.
    pub(crate) fn planted(self) -> bool {
        static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();
        let planted = PLANTED.get_or_init(|| {
            let name = std::env::var("MEMLATCH_SEEDED_BUG").ok()?;
            Some(Self::named(&name).unwrap_or_else(|| panic!("no seeded bug is called {name}")))
        });
        *planted == Some(self)
    }

    /// What is wrong, where this is the one; else what is right.
    pub(crate) fn choose<T>(self, wrong: T, right: T) -> T {
        if self.planted() { wrong } else { right }
    }
}
