//! The API, async and blocking, against real memcached servers, the embedded one and scripted peers.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod async_lock;
mod auth;
mod blocking;
mod cancellation;
mod connection_faults;
mod contention;
mod diagnose;
mod guard;
mod lazy;
mod lean;
mod lock_all;
mod loss;
mod quiet_release;
mod sockets;
mod stats;
mod tls;
mod waiting;
