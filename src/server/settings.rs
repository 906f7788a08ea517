//! Settings of a server, and of its queues.

use super::clock::ClockStart;
use super::item::Second;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// The settings of a server. They survive a restart.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    pub(crate) memory_limit: usize,
    pub(crate) evictions: bool,
    pub(crate) cas: bool,
    pub(crate) flush_enabled: bool,
    pub(crate) shutdown_command: bool,
    pub(crate) watch_enabled: bool,
    pub(crate) dump_enabled: bool,
    pub(crate) max_connections: usize,
    pub(crate) max_item_size: usize,
    pub(crate) temporary_ttl: Option<Second>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) auth: Vec<(String, String)>,
    pub(crate) clock: ClockStart,
}

/// Rules by which items move between queues.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LruSettings {
    /// There are several queues.
    pub(crate) segmented: bool,
    pub(crate) hot_percent: usize,
    pub(crate) warm_percent: usize,
    pub(crate) hot_factor: f64,
    pub(crate) warm_factor: f64,
}

impl LruSettings {
    /// memcached's defaults.
    pub(crate) const DEFAULT: Self = Self {
        segmented: true,
        hot_percent: 20,
        warm_percent: 40,
        hot_factor: 0.2,
        warm_factor: 2.0,
    };
}

/// The limits a store keeps to.
#[derive(Debug, Clone)]
pub(crate) struct StoreLimits {
    pub(crate) memory: usize,
    pub(crate) item: usize,
    pub(crate) evictions: bool,
    pub(crate) cas: bool,
    /// Items with at most this many seconds to live when they are stored are never evicted.
    pub(crate) temporary_ttl: Option<Second>,
    pub(crate) lru: LruSettings,
}
