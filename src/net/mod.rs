//! Layer 3: sockets.
//!
//! Streams, time limits, reuse. Knows requests and replies, and nothing of locks.

mod address;
#[cfg(feature = "blocking")]
pub(crate) mod blocking;
#[cfg(feature = "blocking")]
mod buffers;
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub(crate) mod connect;
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub(crate) mod dump;
#[cfg(any(feature = "tokio", feature = "blocking"))]
mod error;
mod pipeline;
#[cfg(feature = "blocking")]
pub(crate) mod pool;
#[cfg(feature = "tokio")]
pub(crate) mod shared;
#[cfg(feature = "tokio")]
pub(crate) mod stream;
#[cfg(all(feature = "tls", any(feature = "tokio", feature = "blocking")))]
pub(crate) mod tls;
#[cfg(any(feature = "tokio", feature = "blocking"))]
mod verdict;

pub use address::{Address, AddressError, DEFAULT_PORT};
#[cfg(any(feature = "tokio", feature = "blocking"))]
pub use error::{NetCause, NetError};
pub use pipeline::{FlightId, FlightStatus, Pipeline, PipelineError, SubmitError};
