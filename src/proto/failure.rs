//! Reasons why a server cannot serve locks.

use super::lease::LeaseError;
use crate::wire::ErrorReply;
use alloc::string::{String, ToString};
use core::fmt;

/// A reason why a server cannot serve locks, or not this one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerError {
    /// The server has no memory for the item and does not evict (`-M`).
    OutOfMemory,
    /// The server runs without CAS (`-C`), so nothing could be released or renewed safely.
    NoCas,
    /// The server does not say its pid, uptime and time.
    NoStats,
    /// A proxy answers, with statistics of its own.
    Proxy,
    /// The addresses of the server's name lead to different servers: which ones.
    SeveralServers(String),
    /// The server's clock stands in January 1970, where memcached takes every expiry for a relative
    /// time: a record would outlive its lease by weeks.
    ClockNotSet,
    /// The server has no connection to spare.
    TooManyConnections,
    /// The server wants a user and a password (`-Y`), and none were given.
    AuthenticationRequired,
    /// The server does not accept the user and the password.
    AuthenticationFailed,
    /// An item under one of the lock's keys has a foreign value: another application uses the
    /// prefix.
    ForeignItem,
    /// Items vanish as soon as they are stored.
    DropsItems,
    /// The lease cannot be expressed on this server.
    Lease(LeaseError),
    /// The server does not list its items (`-X`, or the crawler is switched off).
    DumpRejected(String),
    /// The server was busy with its items for as long as it was asked to list them.
    DumpBusy(String),
    /// The server answered with an error.
    Rejected(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str(
                "the server has no memory left and does not evict (-M); give it more (-m) or free \
                 some",
            ),
            Self::NoCas => f.write_str(
                "the server runs without CAS (-C), so no lock on it could be released safely; \
                 start it without -C",
            ),
            Self::NoStats => f.write_str(
                "the server does not report its pid, uptime and time by `stats`; locks need a \
                 memcached server, not a proxy in front of one",
            ),
            Self::Proxy => f.write_str(
                "a proxy answers (its `stats` have `proxy_` lines); locks need a direct connection \
                 to one memcached server, because restarts behind a proxy go unnoticed; set the \
                 address of that server",
            ),
            Self::SeveralServers(which) => write!(
                f,
                "the name leads to different servers, and a lock on one is not seen on the others: \
                 {which}; set the address of one of them, for all clients (several servers are not \
                 supported)"
            ),
            Self::ClockNotSet => f.write_str(
                "the server's clock stands in January 1970, where an expiry cannot be a point in \
                 time; set the clock of its machine, then restart memcached",
            ),
            Self::TooManyConnections => f.write_str(
                "the server has no connection to spare; raise its limit (-c) or close some",
            ),
            Self::AuthenticationRequired => {
                f.write_str("the server wants a user and a password (-Y), and none were given")
            }
            Self::AuthenticationFailed => f.write_str(
                "the server does not accept the user and the password that were given; they must \
                 be a line user:password of its file (-Y)",
            ),
            Self::ForeignItem => f.write_str(
                "an item under this prefix was not stored by a lock client; choose another prefix",
            ),
            Self::DropsItems => {
                f.write_str("the server forgets items as soon as it has stored them")
            }
            Self::Lease(error) => error.fmt(f),
            Self::DumpRejected(text) => write!(
                f,
                "the server does not list its items, so locks cannot be found without their \
                 names: {text}; it must run without -X and with its LRU crawler"
            ),
            Self::DumpBusy(text) => write!(
                f,
                "the server is busy with its items and cannot list them now: {text}; try again \
                 later"
            ),
            Self::Rejected(text) => write!(f, "the server refused: {text}"),
        }
    }
}

impl core::error::Error for ServerError {}

impl ServerError {
    /// The meaning of an error line.
    pub(super) fn from_reply(error: &ErrorReply<'_>) -> Self {
        if error.is_out_of_memory() {
            Self::OutOfMemory
        } else if error.is_too_many_connections() {
            Self::TooManyConnections
        } else if error.is_unauthenticated() {
            Self::AuthenticationRequired
        } else if error.is_authentication_failure() {
            Self::AuthenticationFailed
        } else {
            Self::Rejected(error.to_string())
        }
    }
}
