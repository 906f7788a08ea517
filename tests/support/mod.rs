//! Helpers that the tests have in common.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

#[cfg(all(feature = "tokio", feature = "blocking"))]
pub mod apis;
pub mod balancer;
#[cfg(feature = "tls")]
pub mod certificates;
#[cfg(feature = "tokio")]
pub mod cut;
#[cfg(all(feature = "tokio", feature = "blocking"))]
pub mod either;
#[cfg(feature = "tls")]
pub mod gateway;
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub mod log;
pub mod memcached;
#[cfg(all(unix, feature = "server"))]
pub mod peer;
pub mod rng;
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub mod test_server;
pub mod traffic;
