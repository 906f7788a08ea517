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

extern crate alloc;

#[path = "lock_rules/acquiring.rs"]
mod acquiring;
#[path = "lock_rules/arbitrary_replies.rs"]
mod arbitrary_replies;
#[path = "lock_rules/clock.rs"]
mod clock;
#[path = "lock_rules/contention.rs"]
mod contention;
#[path = "lock_rules/driver.rs"]
mod driver;
#[path = "lock_rules/fencing.rs"]
mod fencing;
#[path = "lock_rules/handshake.rs"]
mod handshake;
#[path = "lock_rules/holding.rs"]
mod holding;
#[path = "lock_rules/lean.rs"]
mod lean;
#[path = "lock_rules/memory.rs"]
mod memory;
#[path = "lock_rules/min_hold.rs"]
mod min_hold;
#[path = "lock_rules/others.rs"]
mod others;
#[path = "lock_rules/parts.rs"]
mod parts;
#[path = "lock_rules/protocol_violations.rs"]
mod protocol_violations;
#[path = "lock_rules/remembering.rs"]
mod remembering;
#[path = "lock_rules/resource.rs"]
mod resource;
#[path = "lock_rules/rng.rs"]
mod rng;
#[path = "lock_rules/server.rs"]
mod server;
#[path = "lock_rules/takeover.rs"]
mod takeover;
#[path = "lock_rules/together.rs"]
mod together;
#[path = "lock_rules/verifying.rs"]
mod verifying;
