//! The lock rules on fake time, against a fake server, through the public interface without I/O.
//!
//! | module | what it tests |
//! |---|---|
//! | `acquiring` | trying, waiting, lost answers, what is left over |
//! | `takeover` | following a holder that is dead, or that hands its lock on |
//! | `memory` | servers that have forgotten: restarts, flushes, evictions |
//! | `greeting` | the handshake |
//! | `clock` | what is known of the server's clock |
//! | `holding` | renewing, releasing, inspecting |
//! | `min_hold` | names that stay taken behind a release |
//! | `parts` | a held lock as a line of text |
//! | `verifying` | asking whether a lock is still held |
//! | `together` | several operations in one flight |
//! | `fencing` | tokens |
//! | `others` | breaking a lock, waiting for its end |
//! | `resource` | what a resource does with them |
//! | `lean` | locks without a record |
//! | `breaches` | reconstructions of how a promise could break |
//! | `hostile` | replies that no server should give |
//! | `crowd` | random histories of several clients: never two believers |
//!
//! `server` is the fake and panics on requests that must never be sent; `driver` runs one
//! operation to its end.

mod acquiring;
mod arbitrary_replies;
mod clock;
mod contention;
mod driver;
mod fencing;
mod handshake;
mod holding;
mod lean;
mod memory;
mod min_hold;
mod others;
mod parts;
mod protocol_violations;
mod remembering;
mod resource;
mod rng;
mod server;
mod takeover;
mod together;
mod verifying;
