//! One incarnation of the server: its items, its clock, its numbers.

use super::clock::Clock;
use super::connections::Connections;
use super::detail::Detail;
use super::item::Second;
use super::settings::{LruSettings, ServerConfig, StoreLimits};
use super::store::Store;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// Incarnations in this process. Real servers differ in their pid, so ours have to as well.
static INCARNATIONS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub(crate) struct Engine {
    /// Number of incarnations before this one.
    pub(crate) generation: u64,
    pub(crate) settings: Arc<ServerConfig>,
    pub(crate) registry: Arc<Connections>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    /// The process id shown in `stats`: that of this process for its first server.
    pub(crate) pid: u32,
    pub(crate) verbosity: u64,
    pub(crate) detail: Detail,
    /// The crawler runs.
    pub(crate) crawler: bool,
}

impl Engine {
    pub(crate) fn new(
        settings: Arc<ServerConfig>,
        registry: Arc<Connections>,
        previous: Option<&Self>,
    ) -> Self {
        let clock = match previous {
            Some(previous) => previous.clock.restart(),
            None => Clock::start(settings.clock),
        };
        let store = Store::new(StoreLimits {
            memory: settings.memory_limit,
            item: settings.max_item_size,
            evictions: settings.evictions,
            cas: settings.cas,
            temporary_ttl: settings.temporary_ttl,
            lru: LruSettings::DEFAULT,
        });
        Self {
            generation: previous.map_or(0, |previous| previous.generation + 1),
            settings,
            registry,
            store,
            clock,
            pid: std::process::id().wrapping_add(INCARNATIONS.fetch_add(1, Ordering::Relaxed)),
            verbosity: 0,
            detail: Detail::default(),
            crawler: true,
        }
    }

    /// The second it is, with the queues as they are by then.
    pub(crate) fn begin(&mut self) -> Second {
        let now = self.clock.now();
        self.store.cache.maintain(now);
        now
    }

    /// The second at which an item given this expiry is dead.
    pub(crate) fn deadline(&self, exptime: i64, now: Second) -> Second {
        self.clock.base().deadline(exptime, now)
    }
}
