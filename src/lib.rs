//! Distributed locks on memcached.
//!
//! A [`Client`] makes [`Lock`] handles, and acquiring one returns a [`LockGuard`]. The client renews
//! the lease in the background. The guard reports at any instant whether the lock is still held,
//! carries a fencing token, and reports a loss at its deadline at the latest. The [`blocking`] module
//! has the same methods on `std::net`.
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! # async fn example() -> Result<(), memlatch::LockError> {
//! use memlatch::Client;
//! use std::time::Duration;
//!
//! let client = Client::connect("memcached://127.0.0.1:11211").await?;
//! let lock = client.lock("invoices/42").lease(Duration::from_secs(10));
//! let guard = lock.acquire().await?;
//! let work = async { /* … with `guard.fencing_token()` … */ };
//! guard.run(work).await?;
//! println!("{:?}", guard.release().await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! A process that is paused for longer than its lease loses the lock, and finds out only when it
//! continues. A resource that checks the fencing token, such as by [`fencing`], rejects its late
//! writes. All locks of a client are on one memcached server. After that server was started or
//! flushed, the first acquisition waits once for the longest lease: the *restart guard*.
//!
//! # Modules
//!
//! | module | contents | needs |
//! |---|---|---|
//! | the crate root | locks in async programs | feature `tokio` |
//! | [`blocking`] | locks in programs without a runtime | feature `blocking` |
//! | [`server`] | an embedded memcached, for tests | feature `server` |
//! | [`fencing`] | for the resource that a lock protects: rejects late writes | `alloc` |
//! | [`proto`] | the lock protocol without I/O, for other clients | `alloc` |
//! | [`wire`] | the codec of memcached's two text protocols | `alloc` |
//!
//! The documented API follows semantic versioning; [`proto`] and [`wire`] state which of their items
//! do. Without features, `fencing`, `proto` and `wire` remain. They are `no_std`.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `tokio` (default) | the async API |
//! | `blocking` | the blocking API, without tokio |
//! | `tls` | TLS for both APIs: `memcacheds://` |
//! | `server` | the embedded server, for tests and demos |
//! | `cli` | the `memlatch` command |
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Users paste examples into programs that deny warnings. Most examples are in a function without a caller.
#![doc(test(attr(deny(warnings), allow(dead_code))))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(all(test, feature = "server", any(feature = "tokio", feature = "blocking")))]
mod address_tests;
#[cfg(feature = "tokio")]
mod async_api;
#[cfg(feature = "blocking")]
#[cfg_attr(docsrs, doc(cfg(feature = "blocking")))]
pub mod blocking;
#[cfg(any(feature = "tokio", feature = "blocking"))]
mod engine;
#[cfg(feature = "__fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod proto;
// For tests and the command only; it may change in any release.
#[cfg(feature = "std")]
#[doc(hidden)]
pub mod net;
#[cfg(feature = "server")]
#[cfg_attr(docsrs, doc(cfg(feature = "server")))]
pub mod server;
pub mod wire;

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use async_api::{Client, Lock, LockGuard, MultiLock, MultiLockGuard};
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub use engine::{
    BreakOutcome, Check, ClientBuilder, ClientStats, DEFAULT_LEASE, Diagnosis, DurationStats,
    ErrorKind, Holder, LockEntry, LockError, LockList, LossCounts, MAX_LISTED, MultiReleaseOutcome,
    ReleaseOutcome, Severity,
};
#[doc(inline)]
pub use proto::{LockTicket, LossReason, Protocol, TemporaryLru, TicketError, fencing};

// Compiles the README's code with the other examples.
#[cfg(all(
    doctest,
    feature = "tokio",
    feature = "blocking",
    feature = "tls",
    feature = "server"
))]
#[doc = include_str!("../README.md")]
struct Readme;
