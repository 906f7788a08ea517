//! Logging and counting of the events of a client's locks, the same in both APIs.
//!
//! Every event and span has the target `memlatch` and a name of its own; `docs/events.md` lists
//! them with their levels and fields. A field has the same meaning in all events. No event contains
//! a password, an owner's proof of its record, or any part of another client's record.

use super::clock;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::stats::{ClientStats, Counters};
use crate::net::{Address, NetCause, NetError};
use crate::proto::{GrantKind, Instant, LossReason, ReleaseStatus, RenewOutcome, ServerInstance};
use core::fmt;
use core::time::Duration;
use std::string::{String, ToString};
use tracing::Span;

/// Emits an event of this client, about the lock of this name if there is one.
macro_rules! event {
    ($telemetry:expr, $level:ident, $event:literal, $lock:expr; $($rest:tt)+) => {
        tracing::$level!(
            name: $event,
            target: "memlatch",
            name = %$lock,
            server = %$telemetry.server,
            $($rest)+
        )
    };
    ($telemetry:expr, $level:ident, $event:literal; $($rest:tt)+) => {
        tracing::$level!(
            name: $event,
            target: "memlatch",
            server = %$telemetry.server,
            $($rest)+
        )
    };
}

/// The events and counts of one client.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// The address of the server, as configured.
    server: String,
    pub(super) counts: Counters,
}

/// The end of a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HoldEnd {
    /// It was released.
    Released,
    /// It was released quietly, without a caller that waits for the reply.
    ReleasedQuietly,
    /// It was handed off to another waiter in this process.
    HandedOff,
    /// It was detached, for another process.
    Detached,
    Lost(LossReason),
    /// Its release was given up.
    ReleaseFailed,
}

/// Renewals that begin later than the client should let them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateRenewals {
    /// The number of late renewals.
    pub(crate) count: u64,
    /// The longest delay among them.
    pub(crate) longest: Duration,
    /// The renewals before were in time.
    pub(crate) first: bool,
}

/// The lock that an event is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HoldInfo<'a> {
    pub(crate) name: &'a str,
    pub(crate) token: Option<u64>,
    /// The kind of grant by which its holder got it.
    pub(crate) kind: GrantKind,
    pub(crate) valid_until: Instant,
}

impl HoldInfo<'_> {
    fn remaining(&self) -> Duration {
        self.valid_until.since(clock::monotonic())
    }
}

impl Telemetry {
    pub(crate) fn new(server: &Address) -> Self {
        Self {
            server: server.to_string(),
            counts: Counters::default(),
        }
    }

    /// Returns the counts, with the number of locks that are held now.
    pub(crate) fn stats(&self, held: u64) -> ClientStats {
        self.counts.read(held)
    }

    pub(crate) fn quiet_failures(&self) -> u64 {
        self.counts.quiet_failures.get()
    }

    /// Returns the span of an acquisition: from the call until the lock is acquired or the call
    /// ends.
    pub(crate) fn acquire_span(&self, name: &str) -> Span {
        if debug_enabled() {
            self.span_to_acquire(name)
        } else {
            Span::none()
        }
    }

    /// Returns the span of a release at the server.
    pub(crate) fn release_span(&self, name: &str) -> Span {
        if debug_enabled() {
            self.span_to_release(name)
        } else {
            Span::none()
        }
    }

    #[cold]
    fn span_to_acquire(&self, name: &str) -> Span {
        tracing::debug_span!(target: "memlatch", "acquire", name = %name, server = %self.server)
    }

    #[cold]
    fn span_to_release(&self, name: &str) -> Span {
        tracing::debug_span!(target: "memlatch", "release", name = %name, server = %self.server)
    }

    /// Records that a call waits for the holder of the lock or for earlier waiters; `free_by` is
    /// the instant by which the lock is free, if it is known.
    pub(super) fn waiting(&self, name: &str, free_by: Option<Instant>) {
        let left = || free_by.map(|free_by| free_by.since(clock::monotonic()));
        event!(self, debug, "waiting", name;
            free_in = left().map(tracing::field::debug),
            "waiting for the holder"
        );
    }

    /// Records that a call which began at `began` acquired the lock by this method.
    pub(super) fn acquired(&self, held: HoldInfo<'_>, method: &str, began: Instant) {
        if debug_enabled() {
            self.emit_acquired(held, method, began);
        }
    }

    #[cold]
    fn emit_acquired(&self, held: HoldInfo<'_>, method: &str, began: Instant) {
        event!(self, debug, "acquired", held.name;
            token = held.token,
            waited = ?clock::monotonic().since(began),
            method,
            "acquired"
        );
    }

    /// Records that a call which began at `began` ended without the lock.
    #[cold]
    pub(super) fn not_acquired(&self, name: &str, outcome: &str, began: Instant) {
        event!(self, debug, "not_acquired", name;
            outcome,
            waited = ?clock::monotonic().since(began),
            "not acquired"
        );
    }

    /// Records the end of a lock that was held for so many nanoseconds.
    pub(crate) fn ended(&self, held: HoldInfo<'_>, how: HoldEnd, nanos: u64) {
        let counts = &self.counts;
        counts.hold_time.add(nanos);
        let outcome = match how {
            HoldEnd::Released => "released",
            HoldEnd::ReleasedQuietly => {
                counts.released_quietly.add();
                "sent"
            }
            HoldEnd::HandedOff => "handed-off",
            HoldEnd::Detached => {
                counts.detached.add();
                return self.emit_detached(held, nanos);
            }
            HoldEnd::Lost(reason) => {
                counts.lost(reason);
                return self.emit_lost(held, reason, nanos);
            }
            // Logged by `release_failed`.
            HoldEnd::ReleaseFailed => {
                counts.release_failures.add();
                return;
            }
        };
        counts.released.add();
        if debug_enabled() {
            self.emit_released(held, outcome, nanos);
        }
    }

    #[cold]
    fn emit_detached(&self, held: HoldInfo<'_>, nanos: u64) {
        event!(self, debug, "detached", held.name;
            token = held.token,
            held = ?Duration::from_nanos(nanos),
            "detached"
        );
    }

    /// Records that a guard was made of a lock's ticket.
    pub(crate) fn attached(&self, held: HoldInfo<'_>) {
        self.counts.attached.add();
        event!(self, debug, "attached", held.name;
            token = held.token,
            remaining = ?held.remaining(),
            "attached"
        );
    }

    #[cold]
    fn emit_lost(&self, held: HoldInfo<'_>, reason: LossReason, nanos: u64) {
        event!(self, warn, "lock_lost", held.name;
            reason = reason.as_str(),
            token = held.token,
            held = ?Duration::from_nanos(nanos),
            "lock lost: {reason}"
        );
    }

    #[cold]
    fn emit_released(&self, held: HoldInfo<'_>, outcome: &str, nanos: u64) {
        event!(self, debug, "released", held.name;
            outcome,
            token = held.token,
            held = ?Duration::from_nanos(nanos),
            "released"
        );
    }

    /// Records a failed release. `will_retry`: the renewer tries again.
    pub(crate) fn release_failed(&self, held: HoldInfo<'_>, error: &LockError, will_retry: bool) {
        event!(self, warn, "release_failed", held.name;
            error = %Redacted(error),
            will_retry,
            "a lock could not be released"
        );
    }

    /// Records a quiet release that was refused or not answered.
    pub(crate) fn quiet_release_failed(&self, held: HoldInfo<'_>) {
        self.counts.quiet_failures.add();
        event!(self, warn, "quiet_release_failed", held.name;
            "a quiet release failed; releasing once more"
        );
    }

    /// Records the outcome of undoing an abandoned acquisition.
    pub(crate) fn acquire_undone(&self, name: &str, outcome: &Result<ReleaseStatus, LockError>) {
        let failed = |error: &dyn fmt::Display| {
            event!(self, warn, "acquire_undo_failed", name;
                error = %error,
                "an abandoned acquisition could not be undone"
            );
        };
        let outcome = match outcome {
            Ok(ReleaseStatus::Released) => "removed",
            Ok(ReleaseStatus::AlreadyLost(_)) => "not-there",
            Ok(ReleaseStatus::Failed(failure)) => return failed(failure),
            Err(error) => return failed(&Redacted(error)),
        };
        event!(self, debug, "acquire_undone", name;
            outcome,
            "undid an abandoned acquisition"
        );
    }

    /// Records a renewal that was answered, or that got no reply for this reason, if it is known.
    pub(crate) fn renewal(
        &self,
        held: HoldInfo<'_>,
        renewed: Option<&RenewOutcome>,
        silence: Option<&ConnectError>,
    ) {
        let failed = |error: &dyn fmt::Display| {
            self.counts.renewals_failed.add();
            event!(self, debug, "renewal_failed", held.name;
                error = %error,
                remaining = ?held.remaining(),
                "not renewed"
            );
        };
        match (renewed, silence) {
            (Some(RenewOutcome::Renewed { .. }), _) => {
                self.counts.renewals.add();
                event!(self, trace, "renewed", held.name;
                    remaining = ?held.remaining(),
                    "renewed"
                );
            }
            // Logged as the loss of the lock.
            (Some(RenewOutcome::Lost(_)), _) => {}
            (Some(RenewOutcome::Failed(failure)), _) => failed(failure),
            (None, Some(silence)) => failed(&Redacted(silence)),
            (None, None) => failed(&"no answer"),
        }
    }

    /// Records that renewals begin late, though the server was not asked before.
    pub(crate) fn renewals_late(&self, late: LateRenewals, locks: usize) {
        self.counts.renewals_late.add_many(late.count);
        if late.first {
            event!(self, warn, "falling_behind";
                late = ?late.longest,
                locks,
                "renewals fall behind: too many locks for this client, or too short leases"
            );
        }
    }

    /// Warns that the end of a lock is near.
    pub(crate) fn lease_expiring(&self, held: HoldInfo<'_>, remaining: Duration, unanswered: bool) {
        let how = if unanswered {
            "not answered"
        } else {
            "refused"
        };
        event!(self, warn, "lease_expiring", held.name;
            remaining = ?remaining,
            "renewals are {how}; the lock is lost if that goes on"
        );
    }

    /// Records that the server has not remembered everything for long enough.
    pub(crate) fn restart_guard_wait(&self, wait: Duration) {
        event!(self, warn, "restart_guard_wait";
            retry_after = ?wait,
            "the server was started or flushed recently; waiting until no lock from before \
             can still be held"
        );
    }

    /// Records that other clients use a longer lease under the prefix than this client.
    pub(crate) fn longer_lease(&self, own: Duration, longest: Duration) {
        event!(self, warn, "longer_lease";
            own = ?own,
            longest = ?longest,
            "another client uses a longer lease, which restarts of the server are waited for from \
             now on; give all clients of a prefix the same max_lease"
        );
    }

    pub(crate) fn server_restarted(&self, before: ServerInstance, now: ServerInstance) {
        self.counts.server_restarts.add();
        event!(self, warn, "server_restarted";
            old_instance = %before,
            new_instance = %now,
            "the server was restarted: what was held there is lost"
        );
    }

    /// Records that a connection was opened and the handshake made.
    pub(crate) fn connected(&self) {
        self.counts.connections_opened.add();
        event!(self, debug, "connected";
            "connected"
        );
    }

    /// Records that a connection ended, but not by the client's wish.
    pub(crate) fn disconnected(&self) {
        self.counts.connections_lost.add();
        event!(self, debug, "disconnected";
            "a connection has ended"
        );
    }

    /// Records that a flight was not sent, or got no reply.
    pub(crate) fn request_failed(&self, error: &NetError) {
        event!(self, debug, "request_failed";
            error = %Redacted(error),
            "no answer"
        );
    }
}

/// Returns whether a subscriber may receive the events of every acquisition and release. If there
/// is none, the usual case, the client skips their cost.
#[inline]
fn debug_enabled() -> bool {
    tracing::level_enabled!(tracing::Level::DEBUG)
}

/// Warns that a password is sent in plain text. There is no client yet to which the event could
/// belong.
pub(crate) fn plaintext_password(server: &Address) {
    tracing::warn!(
        name: "plaintext_password",
        target: "memlatch",
        server = %server,
        "the password goes over the network unencrypted"
    );
}

/// Runs a future in the span, whenever it is polled.
pub(crate) async fn in_span<F: Future>(
    span: &Span,
    mut future: core::pin::Pin<&mut F>,
) -> F::Output {
    if span.is_disabled() {
        return future.await;
    }
    core::future::poll_fn(|cx| {
        let _entered = span.enter();
        future.as_mut().poll(cx)
    })
    .await
}

/// An error without any text that the peer may have sent by mistake: that could be the record of
/// another client.
struct Redacted<'a, T>(&'a T);

impl fmt::Display for Redacted<'_, NetError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.cause {
            NetCause::Decode { error, .. } => write!(f, "not an answer of memcached's: {error}"),
            _ => self.0.fmt(f),
        }
    }
}

impl fmt::Display for Redacted<'_, ConnectError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ConnectError::Net(error) => Redacted(error).fmt(f),
            ConnectError::Rejected(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Redacted<'_, LockError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.cause() {
            Cause::Unavailable(error) => {
                write!(f, "the server is unavailable: {}", Redacted(error))
            }
            Cause::Unknown(error) => write!(
                f,
                "the request was sent, and its fate is unknown: {}",
                Redacted(error)
            ),
            Cause::Timeout { waited, .. } => write!(f, "still held by another after {waited:.1?}"),
            other => other.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DecodeError;

    #[test]
    fn redacted_errors_omit_server_replies() {
        let strange = || {
            let answer = b"VA 4 m1 0f0f0f0f0f0f0f0f 60000 1795337300 77 elsewhere -";
            NetError::sent(NetCause::strange(DecodeError::MalformedReply, answer))
        };
        let error = LockError::new(Cause::Unknown(strange()));
        assert!(error.to_string().contains("elsewhere"), "{error}");
        let unconnected = ConnectError::Net(strange());
        for told in [
            Redacted(&strange()).to_string(),
            Redacted(&unconnected).to_string(),
            Redacted(&error).to_string(),
        ] {
            assert!(told.contains("malformed"), "{told}");
            assert!(
                !told.contains("elsewhere") && !told.contains("0f0f"),
                "{told}"
            );
        }
        let error = LockError::new(Cause::Closed);
        assert_eq!(Redacted(&error).to_string(), error.to_string());
    }
}
