//! The lock rules on fake time, against a fake server, through the public interface without I/O.
//!
//! | module | what it tests |
//! |---|---|
//! | `acquiring` | trying, waiting, lost answers, what is left over |
//! | `takeover` | following a holder that is dead, or that hands its lock on |
//! | `memory` | servers that have forgotten: restarts, flushes, evictions |
//! | `remembering` | evidence that a server remembers everything |
//! | `handshake` | the handshake |
//! | `clock` | what is known of the server's clock |
//! | `holder_operations` | renewing, releasing, inspecting |
//! | `min_hold` | names that stay taken behind a release |
//! | `parts` | a held lock as a line of text |
//! | `verifying` | asking whether a lock is still held |
//! | `batch` | several operations in one flight |
//! | `fencing` | tokens |
//! | `break_and_wait` | breaking a lock, waiting for its end |
//! | `resource` | what a resource does with them |
//! | `lean` | locks without a record |
//! | `protocol_violations` | reconstructions of how a promise could break |
//! | `arbitrary_replies` | replies that no server should give |
//! | `contention` | random histories of several clients: never two valid guards |
//!
//! `server` is the fake and panics on requests that must never be sent; `driver` runs one
//! operation to its end.

mod acquiring;
mod arbitrary_replies;
mod batch;
mod break_and_wait;
mod clock;
mod contention;
mod driver;
mod fencing;
mod handshake;
mod holder_operations;
mod lean;
mod memory;
mod min_hold;
mod parts;
mod protocol_violations;
mod remembering;
mod resource;
mod rng;
mod server;
mod takeover;
mod verifying;
