//! When a held lock is renewed, and what its renewals change.

use super::{LockState, RenewError};
use crate::engine::clock;
use crate::engine::connect_error::ConnectError;
use crate::proto::{Instant, RenewOutcome};
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::boxed::Box;

impl LockState {
    /// Returns when to renew a lease that was requested at `sent`; or the end of the lock, if a
    /// renewal would not make that any later.
    pub(crate) fn due(&self, sent: Instant) -> Instant {
        self.due_earlier(sent, Duration::ZERO)
    }

    /// Returns the same, earlier by `earlier` if the lock is to be renewed.
    pub(crate) fn due_earlier(&self, sent: Instant, earlier: Duration) -> Instant {
        if self.is_final() {
            return self.hold_deadline;
        }
        let due = self.lease.renew_at(sent);
        sent.after(due.since(sent).saturating_sub(earlier))
    }

    /// Begins a renewal. Returns the CAS unique for the request, or `None` if the lock has ended.
    ///
    /// If the guard ends the lock first, no renewal begins any more; if it ends it later, it waits
    /// for [`Inner::renewing`](super::Inner::renewing) before it releases.
    pub(crate) fn begin_renewal(&self, now: Instant) -> Option<u64> {
        let (cas, found) = {
            let mut state = self.state();
            let found = self.check_time(&mut state, now);
            let begins = state.loss.is_none() && !state.renewing;
            state.renewing |= begins;
            (begins.then_some(state.cas), found)
        };
        self.emit_lost(found);
        cas
    }

    /// Applies the outcome of the renewal; `None` is no reply, for the reason `silence` if that is
    /// known.
    pub(crate) fn end_renewal(
        &self,
        renewed: Option<&RenewOutcome>,
        silence: Option<&ConnectError>,
    ) {
        let mut state = self.state();
        // If it had ended already, no renewal was begun.
        let begun = core::mem::take(&mut state.renewing);
        state.renew_error = match (renewed, silence) {
            (Some(RenewOutcome::Failed(failure)), _) => Some(RenewError::Rejected(failure.clone())),
            (None, Some(silence)) => Some(RenewError::Unreachable(silence.duplicate())),
            (None, None) => Some(RenewError::NoReply),
            (Some(RenewOutcome::Renewed { .. } | RenewOutcome::Lost(_)), _) => None,
        }
        .map(Box::new);
        let lost = match renewed {
            Some(RenewOutcome::Renewed {
                cas,
                expiry,
                valid_until,
                ..
            }) => {
                // Also when the guard has ended it meanwhile: its release needs the value.
                state.cas = *cas;
                state.expiry = *expiry;
                state.expiry_warned = false;
                if state.loss.is_none() {
                    let valid_until = self.hold_deadline.min(*valid_until);
                    self.valid_until
                        .store(valid_until.as_nanos(), Ordering::Release);
                }
                None
            }
            Some(RenewOutcome::Lost(reason)) if state.loss.is_none() => {
                self.end_locked(&mut state, *reason, clock::monotonic());
                Some(*reason)
            }
            Some(RenewOutcome::Lost(_) | RenewOutcome::Failed(_)) | None => None,
        };
        drop(state);
        if begun {
            self.telemetry.renewal(self.info(), renewed, silence);
        }
        self.emit_lost(lost);
    }

    /// Returns whether to warn now that the end is near: the last renewal failed, and less than
    /// half of the lease remains. Returns `true` only once, until a renewal is answered again.
    pub(crate) fn take_expiry_warning(&self, now: Instant) -> bool {
        let mut state = self.state();
        let near = self.remaining(now) < self.lease.duration() / 2;
        let first =
            state.renew_error.is_some() && near && state.loss.is_none() && !state.expiry_warned;
        state.expiry_warned |= first;
        first
    }
}
