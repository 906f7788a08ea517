//! Histories that contenders for locks write down themselves, and the rules that they must keep.
//!
//! Every process writes its events to a file of its own ([`recorder`]), one line each with one
//! `write`, so that a process that is killed loses a line at most. When all are done the files are
//! read ([`reader`]), put together into holdings ([`holdings`]) and judged ([`check`]).
//!
//! All instants are of `CLOCK_BOOTTIME`, which the processes of one machine share and which the
//! library measures leases with.
//!
//! **A believed holding** (field `believed`) begins when the acquisition has returned, and ends at
//! the first of these: its release begins; its loss is reported; its guard stops being valid. The
//! last one is known from the deadlines that the holder wrote down while it held the lock, so a
//! process that is killed holds until its death or its last known deadline, and one that is stopped
//! until that deadline: its guard is not valid afterwards.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file takes this module in as its own and uses a part of it"
)]

pub mod check;
pub mod event;
pub mod holdings;
pub mod reader;
pub mod recorder;
pub mod report;
pub mod spans;
pub mod violation;
