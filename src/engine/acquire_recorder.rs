//! The record of one call that would acquire a lock.

use super::clock;
use super::error::LockError;
use super::events::{HoldInfo, Telemetry};
use crate::proto::{GrantKind, Instant, WaitPolicy};

/// The recorder of one call that would acquire a lock. If it is dropped before the outcome is
/// known, the call was cancelled.
#[derive(Debug)]
pub(crate) struct AcquireRecorder<'a> {
    telemetry: &'a Telemetry,
    name: &'a str,
    wait: WaitPolicy,
    began: Instant,
    /// The first try of the call has failed.
    waits: bool,
    /// The event that the lock is held was emitted.
    reported: bool,
    ended: bool,
}

impl<'a> AcquireRecorder<'a> {
    pub(crate) const fn new(
        telemetry: &'a Telemetry,
        name: &'a str,
        wait: WaitPolicy,
        began: Instant,
    ) -> Self {
        Self {
            telemetry,
            name,
            wait,
            began,
            waits: false,
            reported: false,
            ended: false,
        }
    }

    /// Records that the call has to wait, for any reason.
    pub(crate) fn waits(&mut self) {
        if !self.waits {
            self.waits = true;
            self.telemetry.counts.waiting.add();
        }
    }

    /// Records that the call has to wait for the holder of the lock or for earlier waiters;
    /// `free_by` is the instant by which the lock is free, if it is known.
    pub(crate) fn waits_for_holder(&mut self, free_by: Option<Instant>) {
        self.waits();
        if !core::mem::replace(&mut self.reported, true) {
            self.telemetry.waiting(self.name, free_by);
        }
    }

    /// Records the end of the call: with the lock, without it because others have it, or with an
    /// error.
    pub(crate) fn ended(&mut self, result: Result<Option<HoldInfo<'_>>, &LockError>) {
        self.ended = true;
        self.end_wait();
        let counts = &self.telemetry.counts;
        let outcome = match result {
            Ok(Some(held)) => return self.acquired(held),
            Ok(None) if self.wait == WaitPolicy::Try => {
                counts.contended.add();
                "contended"
            }
            Ok(None) => {
                counts.timed_out.add();
                "timed-out"
            }
            Err(error) if error.is_unknown() => {
                counts.unknown.add();
                "unknown"
            }
            Err(_) => {
                counts.failed.add();
                "failed"
            }
        };
        self.telemetry.not_acquired(self.name, outcome, self.began);
    }

    fn acquired(&self, held: HoldInfo<'_>) {
        let counts = &self.telemetry.counts;
        counts.acquired.add();
        if self.waits {
            counts.acquired_after_wait.add();
        }
        let how = match held.kind {
            GrantKind::Handoff => {
                counts.handoffs.add();
                "handed-off"
            }
            GrantKind::Takeover => {
                counts.takeovers.add();
                "taken-over"
            }
            GrantKind::Free | GrantKind::Attached if self.waits => "waited",
            GrantKind::Free | GrantKind::Attached => "first-try",
        };
        self.telemetry.acquired(held, how, self.began);
    }

    fn end_wait(&self) {
        if self.waits {
            let counts = &self.telemetry.counts;
            counts.waiting.subtract();
            let now = clock::monotonic();
            counts
                .wait_time
                .add(now.as_nanos().saturating_sub(self.began.as_nanos()));
        }
    }
}

impl Drop for AcquireRecorder<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end_wait();
            self.telemetry.counts.cancelled.add();
            self.telemetry
                .not_acquired(self.name, "cancelled", self.began);
        }
    }
}
