//! Whole locks, measured: memlatch, bare sockets that send the same bytes, and other clients.
//!
//! [`variants`] are ways to acquire and release one lock; [`crowds`] do it with many tasks
//! concurrently. The bytes for the bare sockets are learnt from memlatch itself, through the
//! [`tap`].

pub mod arguments;
pub mod crowds;
pub mod floor;
pub mod json;
pub mod rounds;
pub mod tap;
pub mod variants;

use std::error::Error;

/// Whatever goes wrong ends the measurement.
pub type Failure = Box<dyn Error + Send + Sync>;

pub type Result<T> = std::result::Result<T, Failure>;

/// The servers to be measured against, as `host:port`.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    pub memcached: String,
    pub redis: Option<String>,
    /// The command that does pairs with pymemcache: it gets the server's port.
    pub pymemcache: Option<Vec<String>>,
}

/// The lease of every lock here: memlatch's default.
pub const LEASE: std::time::Duration = std::time::Duration::from_secs(10);
