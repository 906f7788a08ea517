//! Acquiring a lock, in the way that was asked for and that the server can do.

use super::acquire::Acquire;
use super::grant::{Acquired, Grant, Leftover, Request};
use super::incarnation::{Dialect, ServerView};
use super::lean_acquire::LeanAcquire;
use super::loss::LossReason;
use super::moment::{Moment, Now};
use super::operation::{Interruption, Operation, Sealed, Step};
use super::record::Nonce;
use crate::wire::{DecodeError, Flight, Replies};

/// Acquires a lock: with a record, or without one where [`Request::lean`] says so and the server
/// can do it.
#[derive(Debug)]
pub struct Acquisition<'a> {
    way: Way<'a>,
    /// What is asked for and with which nonce, for as long as the other way may still be taken.
    lean: Option<(Request<'a>, Nonce)>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is kept in place, so that acquiring allocates nothing"
)]
enum Way<'a> {
    Full(Acquire<'a>),
    Lean(LeanAcquire<'a>),
}

impl<'a> Acquisition<'a> {
    /// An acquisition whose attempts bear `nonce` and those after it, or a token made of it.
    #[must_use]
    pub fn new(request: Request<'a>, nonce: Nonce) -> Self {
        if request.lean {
            Self {
                lean: Some((request.clone(), nonce)),
                way: Way::Lean(LeanAcquire::new(request, nonce)),
            }
        } else {
            Self {
                lean: None,
                way: Way::Full(Acquire::new(request, nonce)),
            }
        }
    }

    /// What the caller should take back if it gives up now: what was sent and not answered, or was
    /// granted and not yet undone.
    #[must_use]
    pub fn leftover(&self) -> Option<Leftover> {
        match &self.way {
            Way::Full(acquire) => acquire.leftover(),
            Way::Lean(acquire) => acquire.leftover(),
        }
    }

    /// See [`Acquire::inherit`]. A lock without a record cannot be made of one with: what was
    /// handed on is left to whoever did that.
    pub fn inherit(&mut self, grant: &Grant, cas: u64) {
        if let Way::Full(acquire) = &mut self.way {
            acquire.inherit(grant, cas);
        }
    }

    /// See [`Acquire::take_settled`].
    pub fn take_settled(&mut self) -> Option<Result<(), LossReason>> {
        match &mut self.way {
            Way::Full(acquire) => acquire.take_settled(),
            Way::Lean(_) => None,
        }
    }

    /// See [`Acquire::free_by`].
    #[must_use]
    pub const fn free_by(&self) -> Option<Moment> {
        match &self.way {
            Way::Full(acquire) => acquire.free_by(),
            Way::Lean(acquire) => acquire.free_by(),
        }
    }

    /// See [`Acquire::look_last`]. Returns whether there is anything to be looked at.
    pub fn look_last(&mut self) -> bool {
        match &mut self.way {
            Way::Full(acquire) => {
                acquire.look_last();
                true
            }
            Way::Lean(_) => false,
        }
    }
}

impl Sealed for Acquisition<'_> {}

impl Operation for Acquisition<'_> {
    type Outcome = Acquired;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Acquired> {
        let capabilities = server.capabilities;
        if !capabilities.explicit_cas || capabilities.dialect != Dialect::Meta {
            // What a lean attempt may have left was at another server, which is no more.
            if let Some((request, nonce)) = self.lean.take() {
                self.way = Way::Full(Acquire::new(request, nonce));
            }
        }
        match &mut self.way {
            Way::Full(acquire) => acquire.prepare(server, now, flight),
            Way::Lean(acquire) => acquire.prepare(server, now, flight),
        }
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Acquired>, DecodeError> {
        match &mut self.way {
            Way::Full(acquire) => acquire.interpret(server, replies, sent, received),
            Way::Lean(acquire) => acquire.interpret(server, replies, sent, received),
        }
    }

    fn interrupted(&mut self, how: Interruption, now: Now) -> Step<Acquired> {
        match &mut self.way {
            Way::Full(acquire) => acquire.interrupted(how, now),
            Way::Lean(acquire) => acquire.interrupted(how, now),
        }
    }
}
