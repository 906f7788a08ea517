//! Distributed locks on memcached.
//!
//! A [`Client`] hands out [`Lock`]s; an acquired one is a [`LockGuard`], renewed in the
//! background, that says at any instant whether it is still held, carries a fencing token, and
//! reports its loss before its lease ends. The [`blocking`] module has the same verbs on
//! `std::net`.
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
//! # What is here
//!
//! | module | what for | needs |
//! |---|---|---|
//! | the crate root | locks in async programs | feature `tokio` |
//! | [`blocking`] | locks in programs without a runtime | feature `blocking` |
//! | [`server`] | a memcached in this process, for tests | feature `server` |
//! | [`fencing`] | the resource that a lock protects: refuses late writes | `alloc` |
//! | [`proto`] | the protocol of locks without I/O, for clients of one's own | `alloc` |
//! | [`wire`] | the codec of memcached's two text protocols | `alloc` |
//!
//! What is documented here follows semantic versioning; [`proto`] and [`wire`] say what of them does.
//! Without features, `fencing`, `proto` and `wire` are left, as `no_std`.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `tokio` (default) | the async front |
//! | `blocking` | the blocking front, without tokio |
//! | `tls` | TLS for both fronts: `memcacheds://` |
//! | `server` | the embedded server, for tests and demos |
//! | `cli` | the `memlatch` command |
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Examples are pasted into programs that allow no warnings. Most stand in a function that nobody calls.
#![doc(test(attr(deny(warnings), allow(dead_code))))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

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
// For tests and the command. No user of the library needs it, and it may change in any release.
#[cfg(feature = "std")]
#[doc(hidden)]
pub mod net;
#[cfg(seeded_bugs)]
mod seeded;
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

// What the README shows is compiled with the other examples.
#[cfg(all(
    doctest,
    feature = "tokio",
    feature = "blocking",
    feature = "tls",
    feature = "server"
))]
#[doc = include_str!("../README.md")]
struct Readme;
