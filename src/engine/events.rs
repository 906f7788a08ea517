//! What happens to a client's locks, counted and told: by both fronts, in the same words.
//!
//! Every event and span has the target `memlatch` and a name of its own; `docs/events.md` lists
//! them with their levels and fields. A field means the same wherever it occurs. No event bears a
//! password, what proves a record to be ours, or anything of another client's record.

use super::clock;
use super::connect_error::ConnectError;
use super::error::{Cause, LockError};
use super::stats::{ClientStats, Counters};
use crate::net::{Address, NetCause, NetError};
use crate::proto::{
    GrantKind, Instant, LossReason, ReleaseStatus, RenewOutcome, ServerInstance, WaitPolicy,
};
use core::fmt;
use core::time::Duration;
use std::string::{String, ToString};
use tracing::Span;

/// What has happened to one client.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// Where, as told.
    server: String,
    counts: Counters,
}

/// How a lock ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HoldEnd {
    /// It was given back.
    Released,
    /// It was given back, and nobody waits for the answer.
    ReleasedQuietly,
    /// Another in this process has it.
    HandedOff,
    /// It was taken apart, for another process.
    Detached,
    Lost(LossReason),
    /// Giving it back was given up.
    ReleaseFailed,
}

/// Renewals that begin later than the client should let them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateRenewals {
    /// How many.
    pub(crate) count: u64,
    /// The longest time by which one is late.
    pub(crate) longest: Duration,
    /// The renewals before were in time.
    pub(crate) first: bool,
}

/// The lock that an event is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HoldInfo<'a> {
    pub(crate) name: &'a str,
    pub(crate) token: Option<u64>,
    /// How it came to its holder.
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

    /// How often what has happened, with so many locks held.
    pub(crate) fn stats(&self, held: u64) -> ClientStats {
        self.counts.read(held)
    }

    pub(crate) fn quiet_failures(&self) -> u64 {
        self.counts.quiet_failures.get()
    }

    /// What happens from the call on until the lock is acquired, or is not.
    pub(crate) fn acquire_span(&self, name: &str) -> Span {
        match debug_enabled() {
            true => self.span_to_acquire(name),
            false => Span::none(),
        }
    }

    /// What happens while a lock is given back at the server.
    pub(crate) fn release_span(&self, name: &str) -> Span {
        match debug_enabled() {
            true => self.span_to_release(name),
            false => Span::none(),
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

    /// A lock that was held has ended, after so many nanoseconds.
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
            // Told by `release_failed`.
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
        tracing::debug!(
            name: "detached",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            token = held.token,
            held = ?Duration::from_nanos(nanos),
            "taken apart"
        );
    }

    /// A guard was made of the parts of a lock.
    pub(crate) fn attached(&self, held: HoldInfo<'_>) {
        self.counts.attached.add();
        tracing::debug!(
            name: "attached",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            token = held.token,
            remaining = ?held.remaining(),
            "taken up"
        );
    }

    #[cold]
    fn emit_lost(&self, held: HoldInfo<'_>, reason: LossReason, nanos: u64) {
        tracing::warn!(
            name: "lock_lost",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            reason = reason.as_str(),
            token = held.token,
            held = ?Duration::from_nanos(nanos),
            "lock lost: {reason}"
        );
    }

    #[cold]
    fn emit_released(&self, held: HoldInfo<'_>, outcome: &str, nanos: u64) {
        tracing::debug!(
            name: "released",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            outcome,
            token = held.token,
            held = ?Duration::from_nanos(nanos),
            "released"
        );
    }

    /// A lock could not be given back. `will_retry`: the renewer tries again.
    pub(crate) fn release_failed(&self, held: HoldInfo<'_>, error: &LockError, will_retry: bool) {
        tracing::warn!(
            name: "release_failed",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            error = %Redacted(error),
            will_retry,
            "a lock could not be given back"
        );
    }

    /// A release that nobody waited for was refused or not answered.
    pub(crate) fn quiet_release_failed(&self, held: HoldInfo<'_>) {
        self.counts.quiet_failures.add();
        tracing::warn!(
            name: "quiet_release_failed",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            "a quiet release came to nothing; releasing once more"
        );
    }

    /// What an abandoned acquisition may have left was looked for.
    pub(crate) fn acquire_undone(&self, name: &str, outcome: &Result<ReleaseStatus, LockError>) {
        let failed = |error: &dyn fmt::Display| {
            tracing::warn!(
                name: "acquire_undo_failed",
                target: "memlatch",
                name = %name,
                server = %self.server,
                error = %error,
                "an acquisition could not be taken back"
            );
        };
        let outcome = match outcome {
            Ok(ReleaseStatus::Released) => "removed",
            Ok(ReleaseStatus::AlreadyLost(_)) => "not-there",
            Ok(ReleaseStatus::Failed(failure)) => return failed(failure),
            Err(error) => return failed(&Redacted(error)),
        };
        tracing::debug!(
            name: "acquire_undone",
            target: "memlatch",
            name = %name,
            server = %self.server,
            outcome,
            "took back an acquisition"
        );
    }

    /// A renewal was answered, or not: then for this reason, if that is known.
    pub(crate) fn renewal(
        &self,
        held: HoldInfo<'_>,
        renewed: Option<&RenewOutcome>,
        silence: Option<&ConnectError>,
    ) {
        let failed = |error: &dyn fmt::Display| {
            self.counts.renewals_failed.add();
            tracing::debug!(
                name: "renewal_failed",
                target: "memlatch",
                name = %held.name,
                server = %self.server,
                error = %error,
                remaining = ?held.remaining(),
                "not renewed"
            );
        };
        match (renewed, silence) {
            (Some(RenewOutcome::Renewed { .. }), _) => {
                self.counts.renewals.add();
                tracing::trace!(
                    name: "renewed",
                    target: "memlatch",
                    name = %held.name,
                    server = %self.server,
                    remaining = ?held.remaining(),
                    "renewed"
                );
            }
            // That is told as the loss that it is.
            (Some(RenewOutcome::Lost(_)), _) => {}
            (Some(RenewOutcome::Failed(failure)), _) => failed(failure),
            (None, Some(silence)) => failed(&Redacted(silence)),
            (None, None) => failed(&"no answer"),
        }
    }

    /// Renewals are begun late, though the server was not asked before.
    pub(crate) fn renewals_late(&self, late: LateRenewals, locks: usize) {
        self.counts.renewals_late.add_many(late.count);
        if late.first {
            tracing::warn!(
                name: "falling_behind",
                target: "memlatch",
                server = %self.server,
                late = ?late.longest,
                locks,
                "renewals fall behind: too many locks for this client, or too short leases"
            );
        }
    }

    /// The end of a lock is near.
    pub(crate) fn lease_expiring(&self, held: HoldInfo<'_>, remaining: Duration, unanswered: bool) {
        let how = match unanswered {
            true => "not answered",
            false => "refused",
        };
        tracing::warn!(
            name: "lease_expiring",
            target: "memlatch",
            name = %held.name,
            server = %self.server,
            remaining = ?remaining,
            "renewals are {how}; the lock is lost if that goes on"
        );
    }

    /// The server has not remembered everything for long enough.
    pub(crate) fn restart_guard_wait(&self, wait: Duration) {
        tracing::warn!(
            name: "restart_guard_wait",
            target: "memlatch",
            server = %self.server,
            retry_after = ?wait,
            "the server was started or flushed recently; waiting until no lock from before \
             can still be held"
        );
    }

    /// Others use a longer lease under the prefix than this client does.
    pub(crate) fn longer_lease(&self, own: Duration, longest: Duration) {
        tracing::warn!(
            name: "longer_lease",
            target: "memlatch",
            server = %self.server,
            own = ?own,
            longest = ?longest,
            "another client uses a longer lease, which restarts of the server are waited for from \
             now on; give all clients of a prefix the same max_lease"
        );
    }

    pub(crate) fn server_restarted(&self, before: ServerInstance, now: ServerInstance) {
        self.counts.server_restarts.add();
        tracing::warn!(
            name: "server_restarted",
            target: "memlatch",
            server = %self.server,
            old_instance = %before,
            new_instance = %now,
            "the server was restarted: what was held there is lost"
        );
    }

    /// A connection is there, and the handshake was made.
    pub(crate) fn connected(&self) {
        self.counts.connections_opened.add();
        tracing::debug!(
            name: "connected",
            target: "memlatch",
            server = %self.server,
            "connected"
        );
    }

    /// A connection is not there any more, and not because the client wanted so.
    pub(crate) fn disconnected(&self) {
        self.counts.connections_lost.add();
        tracing::debug!(
            name: "disconnected",
            target: "memlatch",
            server = %self.server,
            "a connection has ended"
        );
    }

    /// A flight was not sent, or not answered.
    pub(crate) fn request_failed(&self, error: &NetError) {
        tracing::debug!(
            name: "request_failed",
            target: "memlatch",
            server = %self.server,
            error = %Redacted(error),
            "no answer"
        );
    }
}

/// Whether anybody may listen to what every acquisition and every release tells. Where nobody does,
/// which is the usual case, that is kept out of their way.
#[inline]
fn debug_enabled() -> bool {
    tracing::level_enabled!(tracing::Level::DEBUG)
}

/// There is no client yet that this could be told of.
pub(crate) fn plaintext_password(server: &Address) {
    tracing::warn!(
        name: "plaintext_password",
        target: "memlatch",
        server = %server,
        "the password goes over the network unencrypted"
    );
}

/// What comes of one call that would acquire a lock. Dropped before that is known, the call was
/// abandoned.
#[derive(Debug)]
pub(crate) struct AcquireRecorder<'a> {
    telemetry: &'a Telemetry,
    name: &'a str,
    patience: WaitPolicy,
    began: Instant,
    /// It is not its first try any more.
    waits: bool,
    /// That somebody holds the lock was told.
    reported: bool,
    ended: bool,
}

impl<'a> AcquireRecorder<'a> {
    pub(crate) const fn new(
        chronicle: &'a Telemetry,
        name: &'a str,
        patience: WaitPolicy,
        began: Instant,
    ) -> Self {
        Self {
            telemetry: chronicle,
            name,
            patience,
            began,
            waits: false,
            reported: false,
            ended: false,
        }
    }

    /// It has to wait, for whatever.
    pub(crate) fn waits(&mut self) {
        if !self.waits {
            self.waits = true;
            self.telemetry.counts.waiting.add();
        }
    }

    /// It has to wait for who holds the lock or stands in line for it; the lock is free by then, if
    /// that is known.
    pub(crate) fn waits_for_holder(&mut self, free_by: Option<Instant>) {
        self.waits();
        if !core::mem::replace(&mut self.reported, true) {
            let left = || free_by.map(|free_by| free_by.since(clock::monotonic()));
            tracing::debug!(
                name: "waiting",
                target: "memlatch",
                name = %self.name,
                server = %self.telemetry.server,
                free_in = left().map(tracing::field::debug),
                "waiting for the holder"
            );
        }
    }

    /// The call is over: with the lock, without because others have it, or with an error.
    pub(crate) fn ended(&mut self, result: Result<Option<HoldInfo<'_>>, &LockError>) {
        self.ended = true;
        self.end_wait();
        let counts = &self.telemetry.counts;
        let outcome = match result {
            Ok(Some(held)) => return self.acquired(held),
            Ok(None) if self.patience == WaitPolicy::Try => {
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
        self.not_acquired(outcome);
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
        if debug_enabled() {
            self.emit_acquired(held, how);
        }
    }

    #[cold]
    fn emit_acquired(&self, held: HoldInfo<'_>, how: &str) {
        tracing::debug!(
            name: "acquired",
            target: "memlatch",
            name = %self.name,
            server = %self.telemetry.server,
            token = held.token,
            waited = ?self.waited(),
            method = how,
            "acquired"
        );
    }

    #[cold]
    fn not_acquired(&self, outcome: &str) {
        tracing::debug!(
            name: "not_acquired",
            target: "memlatch",
            name = %self.name,
            server = %self.telemetry.server,
            outcome,
            waited = ?self.waited(),
            "not acquired"
        );
    }

    fn waited(&self) -> Duration {
        clock::monotonic().since(self.began)
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
            self.not_acquired("cancelled");
        }
    }
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

/// An error without anything that the other side may have sent by mistake: that could be the record
/// of another client.
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
    fn what_a_server_sent_by_mistake_is_not_told() {
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
