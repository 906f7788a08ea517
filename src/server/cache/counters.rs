//! Counters and sums by slab class.

use super::{Cache, list_of};
use crate::server::item::{Queue, Second};

/// Counters of one class, under memcached's names.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ClassCounters {
    pub(crate) evicted: u64,
    pub(crate) evicted_nonzero: u64,
    pub(crate) evicted_time: Second,
    pub(crate) evicted_unfetched: u64,
    pub(crate) evicted_active: u64,
    pub(crate) outofmemory: u64,
    pub(crate) reclaimed: u64,
    pub(crate) expired_unfetched: u64,
    pub(crate) moves_to_cold: u64,
    pub(crate) moves_to_warm: u64,
    pub(crate) moves_within_lru: u64,
    pub(crate) direct_reclaims: u64,
}

impl ClassCounters {
    fn add(&mut self, other: &Self) {
        self.evicted += other.evicted;
        self.evicted_unfetched += other.evicted_unfetched;
        self.evicted_active += other.evicted_active;
        self.reclaimed += other.reclaimed;
        self.expired_unfetched += other.expired_unfetched;
        self.moves_to_cold += other.moves_to_cold;
        self.moves_to_warm += other.moves_to_warm;
        self.moves_within_lru += other.moves_within_lru;
        self.direct_reclaims += other.direct_reclaims;
    }
}

/// The values of one class in `stats items`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ClassSummary {
    /// Hot, warm, cold, temporary.
    pub(crate) lengths: [usize; 4],
    pub(crate) ages: [Second; 4],
    pub(crate) bytes: usize,
}

impl Cache {
    pub(crate) fn class_counters(&self, class: u8) -> &ClassCounters {
        &self.counters[usize::from(class)]
    }

    pub(crate) fn totals(&self) -> ClassCounters {
        let mut totals = ClassCounters::default();
        for counters in &self.counters {
            totals.add(counters);
        }
        totals
    }

    pub(crate) fn reset_counters(&mut self) {
        self.counters.fill(ClassCounters::default());
    }

    pub(crate) fn summary(&self, class: u8, now: Second) -> ClassSummary {
        let mut summary = ClassSummary::default();
        for queue in Queue::ALL {
            let list = self.lists[list_of(class, queue)];
            summary.lengths[queue as usize] = list.length;
            summary.bytes += list.bytes;
            if let Some(oldest) = list.old {
                summary.ages[queue as usize] = now.saturating_sub(self.item(oldest).time);
            }
        }
        summary
    }
}
