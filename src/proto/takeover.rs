//! Watching a record until its holder cannot consider it valid any more.
//!
//! memcached counts whole seconds and keeps an item for a few of them longer than its lease, so
//! that it never forgets one too early. A waiter for a lock need not wait for that: the record
//! states the lease, and a holder that renews gives it another CAS unique.

use super::lease::{Lease, watch_needed};
use super::owner_id::holder_fingerprint;
use super::record::lease_of;
use super::server_instance::ServerInstance;
use super::time::Instant;

/// The record in a contender's way, as the contender sees it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TakeoverWatch {
    seen: Option<ObservedHolder>,
}

#[derive(Debug, Clone, Copy)]
struct ObservedHolder {
    /// CAS uniques start anew with each run of a server.
    instance: ServerInstance,
    cas: u64,
    /// When the answer arrived that showed this CAS unique first.
    since: Instant,
    /// The lease that the record states; `None` for an item that is no record.
    lease: Option<Lease>,
    /// A number that stays the same for as long as the same holder has the lock.
    holder: u64,
}

impl TakeoverWatch {
    pub(super) const fn new() -> Self {
        Self { seen: None }
    }

    /// The lock was held with this value and CAS unique, by an answer that arrived at `received`.
    pub(super) fn observe_held(
        &mut self,
        incarnation: ServerInstance,
        value: &[u8],
        cas: u64,
        received: Instant,
    ) {
        let holder = holder_fingerprint(value, cas);
        let same = |seen: &ObservedHolder| {
            seen.instance == incarnation && seen.cas == cas && seen.holder == holder
        };
        if !self.seen.as_ref().is_some_and(same) {
            self.seen = Some(ObservedHolder {
                instance: incarnation,
                cas,
                since: received,
                lease: lease_of(value),
                holder,
            });
        }
    }

    /// Returns `true` if this is what was seen last.
    pub(super) fn is(&self, incarnation: ServerInstance, cas: u64) -> bool {
        self.seen
            .is_some_and(|seen| seen.instance == incarnation && seen.cas == cas)
    }

    /// The holder's number; 0 if the lock is free.
    pub(super) fn holder(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.holder)
    }

    /// Records that the lock was free.
    pub(super) const fn observe_free(&mut self) {
        self.seen = None;
    }

    /// The lease that the record states.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.seen?.lease
    }

    /// The instant from which on the lock may be taken over, if the record stays as it is.
    pub(super) fn takeover_at(&self) -> Option<Instant> {
        let seen = self.seen?;
        Some(seen.since.after(watch_needed(seen.lease?)))
    }

    /// The CAS unique to take the lock over from, if a request to this server instance that is sent
    /// at `now` may do that.
    pub(super) fn takeover_cas(&self, incarnation: ServerInstance, now: Instant) -> Option<u64> {
        let seen = self.seen.filter(|seen| seen.instance == incarnation)?;
        (now >= self.takeover_at()?).then_some(seen.cas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::InstanceWord;
    use core::time::Duration;

    const HERE: ServerInstance = ServerInstance {
        pid: 1,
        started: 1,
        word: InstanceWord::from_bits(1),
    };
    const THERE: ServerInstance = ServerInstance {
        pid: 1,
        started: 1,
        word: InstanceWord::from_bits(2),
    };
    const RECORD: &[u8] = b"m1 00000000000000000000000000000007 200 1795337329 1 host -";

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn record_expires_after_lease_and_drift() {
        let mut seen = TakeoverWatch::new();
        assert_eq!(seen.takeover_cas(HERE, at(u64::MAX / 1_000_000)), None);
        seen.observe_held(HERE, RECORD, 5, at(1000));
        seen.observe_held(HERE, RECORD, 5, at(1150));
        let ripe = seen.takeover_at().expect("it states a lease");
        assert!(ripe > at(1204) && ripe < at(1205), "{ripe:?}");
        assert_eq!(seen.takeover_cas(HERE, at(1204)), None);
        assert_eq!(seen.takeover_cas(HERE, at(1205)), Some(5));
    }

    #[test]
    fn any_change_restarts_the_takeover_wait() {
        let mut seen = TakeoverWatch::new();
        seen.observe_held(HERE, RECORD, 5, at(1000));
        seen.observe_held(HERE, RECORD, 6, at(1200));
        assert_eq!(seen.takeover_cas(HERE, at(1300)), None);
        assert_eq!(seen.takeover_cas(HERE, at(1405)), Some(6));
        seen.observe_free();
        assert_eq!(seen.takeover_cas(HERE, at(9000)), None);
        seen.observe_held(HERE, RECORD, 6, at(2000));
        assert_eq!(seen.takeover_cas(HERE, at(2100)), None);
    }

    #[test]
    fn takeover_wait_forgets_other_runs() {
        let mut seen = TakeoverWatch::new();
        seen.observe_held(HERE, RECORD, 5, at(1000));
        assert_eq!(seen.takeover_cas(THERE, at(9000)), None);
        // The same number, by chance.
        seen.observe_held(THERE, RECORD, 5, at(9000));
        assert_eq!(seen.takeover_cas(THERE, at(9100)), None);
        assert_eq!(seen.takeover_cas(THERE, at(9205)), Some(5));
    }

    #[test]
    fn value_without_lease_is_never_expired() {
        let too_long = b"m1 00000000000000000000000000000007 99999999999 1 1 host -";
        let too_short = b"m1 00000000000000000000000000000007 0 1 1 host -";
        let short_nonce = b"m1 07 200 1795337329 1 host -";
        for value in [
            &b""[..],
            b"7",
            b"m2 x 200 1 1 host -",
            too_long,
            too_short,
            short_nonce,
        ] {
            let mut seen = TakeoverWatch::new();
            seen.observe_held(HERE, value, 5, at(1000));
            assert_eq!(seen.takeover_at(), None, "{}", value.escape_ascii());
        }
        let lease = Duration::from_millis(200);
        let mut seen = TakeoverWatch::new();
        seen.observe_held(HERE, RECORD, 5, at(1000));
        assert_eq!(seen.lease().map(Lease::duration), Some(lease));
    }
}
