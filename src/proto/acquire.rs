//! Acquiring a lock, in the way that was asked for and that the server can do.

use super::acquire_record::RecordAcquire;
use super::acquire_recordless::RecordlessAcquire;
use super::grant::{AcquireOutcome, AcquireRequest, Grant, OrphanedAttempt};
use super::loss::LossReason;
use super::operation::{Action, FlightError, Operation, Sealed};
use super::record::Nonce;
use super::server_instance::Protocol;
use super::server_state::ServerState;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, Replies};

/// Acquires a lock: with a record, or without one where [`AcquireRequest::without_record`] says so and the server
/// can do it.
#[derive(Debug)]
pub struct Acquire<'a> {
    kind: AcquireKind<'a>,
    /// The request and its nonce, for as long as the other kind may still be chosen.
    without_record: Option<(AcquireRequest<'a>, Nonce)>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is kept in place, so that acquiring allocates nothing"
)]
enum AcquireKind<'a> {
    Record(RecordAcquire<'a>),
    Recordless(RecordlessAcquire<'a>),
}

impl<'a> Acquire<'a> {
    /// An acquisition whose attempts bear `nonce` and those after it, or a token made of it.
    #[must_use]
    pub fn new(request: AcquireRequest<'a>, nonce: Nonce) -> Self {
        if request.without_record {
            Self {
                without_record: Some((request.clone(), nonce)),
                kind: AcquireKind::Recordless(RecordlessAcquire::new(request, nonce)),
            }
        } else {
            Self {
                without_record: None,
                kind: AcquireKind::Record(RecordAcquire::new(request, nonce)),
            }
        }
    }

    /// The attempt that the caller should undo if it gives up now: what was sent and not answered,
    /// or was granted and not yet undone.
    #[must_use]
    pub fn orphan(&self) -> Option<OrphanedAttempt> {
        match &self.kind {
            AcquireKind::Record(acquire) => acquire.orphan(),
            AcquireKind::Recordless(acquire) => acquire.orphan(),
        }
    }

    /// See [`RecordAcquire::accept_handoff`]. A lock with a record cannot become one without a
    /// record: the offered lock is left to its releaser.
    pub fn accept_handoff(&mut self, grant: &Grant, cas: u64) {
        if let AcquireKind::Record(acquire) = &mut self.kind {
            acquire.accept_handoff(grant, cas);
        }
    }

    /// See [`RecordAcquire::take_handoff_result`].
    pub fn take_handoff_result(&mut self) -> Option<Result<(), LossReason>> {
        match &mut self.kind {
            AcquireKind::Record(acquire) => acquire.take_handoff_result(),
            AcquireKind::Recordless(_) => None,
        }
    }

    /// See [`RecordAcquire::free_by`].
    #[must_use]
    pub const fn free_by(&self) -> Option<Instant> {
        match &self.kind {
            AcquireKind::Record(acquire) => acquire.free_by(),
            AcquireKind::Recordless(acquire) => acquire.free_by(),
        }
    }

    /// See [`RecordAcquire::probe_only`]. Returns whether there is anything to be looked at.
    pub fn probe_only(&mut self) -> bool {
        match &mut self.kind {
            AcquireKind::Record(acquire) => {
                acquire.probe_only();
                true
            }
            AcquireKind::Recordless(_) => false,
        }
    }
}

impl Sealed for Acquire<'_> {}

impl Operation for Acquire<'_> {
    type Outcome = AcquireOutcome;

    fn poll_transmit(
        &mut self,
        server: &ServerState,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), AcquireOutcome> {
        let capabilities = server.capabilities;
        if !capabilities.explicit_cas || capabilities.protocol != Protocol::Meta {
            // The item that an attempt without a record may have left was on another server
            // instance, which has ended.
            if let Some((request, nonce)) = self.without_record.take() {
                self.kind = AcquireKind::Record(RecordAcquire::new(request, nonce));
            }
        }
        match &mut self.kind {
            AcquireKind::Record(acquire) => acquire.poll_transmit(server, now, flight),
            AcquireKind::Recordless(acquire) => acquire.poll_transmit(server, now, flight),
        }
    }

    fn handle_replies(
        &mut self,
        server: &mut ServerState,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<Action<AcquireOutcome>, DecodeError> {
        match &mut self.kind {
            AcquireKind::Record(acquire) => acquire.handle_replies(server, replies, sent, received),
            AcquireKind::Recordless(acquire) => {
                acquire.handle_replies(server, replies, sent, received)
            }
        }
    }

    fn handle_failure(&mut self, how: FlightError, now: Now) -> Action<AcquireOutcome> {
        match &mut self.kind {
            AcquireKind::Record(acquire) => acquire.handle_failure(how, now),
            AcquireKind::Recordless(acquire) => acquire.handle_failure(how, now),
        }
    }
}
