//! Acquiring a lock without a record, by one request of one line.

use super::acquire::runs_out;
use super::grant::{Acquired, Grant, Leftover, Origin, Refusal, Request};
use super::incarnation::{Incarnation, ServerView};
use super::items::{
    Compared, Failure, push_lean_attempt, push_release, read_compared, read_lean_attempt,
};
use super::moment::{Moment, Now};
use super::operation::{Interruption, Operation, Sealed, Step};
use super::proof::{LeanToken, Proof, mark_of};
use super::record::Nonce;
use super::stamina::Stamina;
use crate::wire::{DecodeError, Flight, Replies, TimeLeft};

/// How often items that an answer of ours was too late for, or that an earlier attempt left, are
/// taken back before the server counts as one that nothing can be acquired on.
const UNDONE: u8 = 8;

/// One attempt: a CAS unique and what was sent with it.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    cas: u64,
    expiry: u64,
    incarnation: Incarnation,
    /// The first time it was sent; repeating it does not prolong the lease.
    sent: Moment,
    /// An item of it may stand at the server.
    open: bool,
    /// The same, before the flight that is under way.
    open_before: bool,
    /// A request that names the CAS unique may still be carried out, so the next attempt gets
    /// another.
    echoes: bool,
}

/// Acquires a lock without a record.
///
/// `mg` makes an empty item with the CAS unique that we choose, where there is none, and says
/// which one the item has: the lock is held if and only if that is ours, so an attempt whose answer
/// was lost is repeated as it was and recognised. A look at a lock that is held and the attempt to
/// get it are the same request.
#[derive(Debug)]
pub struct LeanAcquire<'a> {
    request: Request<'a>,
    token: LeanToken,
    attempt: Option<Attempt>,
    /// An item of ours is being taken back, which has this CAS unique.
    undo: Option<u64>,
    /// How often that was.
    undone: u8,
    /// By when the lock is free unless its holder renews it, by the last look.
    free_by: Option<Moment>,
    /// A flight has been written and nothing heard of it yet.
    prepared: bool,
    stamina: Stamina,
}

impl<'a> LeanAcquire<'a> {
    /// An acquisition whose token comes from `nonce`.
    #[must_use]
    pub const fn new(request: Request<'a>, nonce: Nonce) -> Self {
        Self {
            stamina: Stamina::new(&request, nonce.seed()),
            request,
            token: LeanToken::new(nonce),
            attempt: None,
            undo: None,
            undone: 0,
            free_by: None,
            prepared: false,
        }
    }

    /// What the caller should take back if it gives up now.
    #[must_use]
    pub fn leftover(&self) -> Option<Leftover> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.open)?;
        Some(Leftover {
            incarnation: attempt.incarnation,
            proof: Proof::Token(self.token),
            moot_after: self.request.lease.valid_until(attempt.sent),
        })
    }

    /// See [`Acquire::free_by`](super::Acquire::free_by).
    #[must_use]
    pub const fn free_by(&self) -> Option<Moment> {
        self.free_by
    }

    /// The attempt to be sent: the one that is open, or a new one.
    fn attempt_for(&mut self, server: &ServerView, now: Now) -> Result<Attempt, Failure> {
        let lease = self.request.lease;
        let open = self.attempt.filter(|attempt| {
            attempt.open
                // To another incarnation it never went, and never will.
                && server.is_run(attempt.incarnation)
                && now.moment < lease.valid_until(attempt.sent)
        });
        if let Some(attempt) = open {
            return Ok(attempt);
        }
        let cas = match self.attempt {
            None => self.token.first(),
            Some(attempt) if attempt.echoes => self.token.after(attempt.cas),
            Some(attempt) => attempt.cas,
        };
        #[cfg(seeded_bugs)]
        let cas = crate::seeded::Bug::LeanTokenReused.choose(self.token.first(), cas);
        Ok(Attempt {
            cas,
            expiry: server.clock.expiry(lease, now).map_err(Failure::Lease)?,
            incarnation: server.incarnation,
            sent: now.moment,
            open: false,
            open_before: false,
            echoes: false,
        })
    }

    fn take_back(&mut self, cas: u64) -> Step<Acquired> {
        self.undone += 1;
        if self.undone > UNDONE {
            return Step::Done(Acquired::Failed(Failure::ForgottenAtOnce));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.echoes = true;
        }
        self.undo = Some(cas);
        Step::Send
    }

    fn attempted(
        &mut self,
        server: &mut ServerView,
        (cas, left): (u64, Option<TimeLeft>),
        (sent, received): (Moment, Moment),
    ) -> Result<Step<Acquired>, DecodeError> {
        let Some(attempt) = &mut self.attempt else {
            return Err(DecodeError::UnexpectedReply);
        };
        if cas != attempt.cas {
            attempt.open = false;
            if self.token.is_of(cas) {
                // An earlier attempt was carried out late.
                return Ok(self.take_back(cas));
            }
            if self.stamina.is_over(received) {
                return Ok(Step::Done(Acquired::Refused(Refusal {
                    holder: None,
                    left,
                })));
            }
            self.free_by = runs_out(left, received);
            let holder = mark_of(b"", cas);
            return Ok(self.stamina.wait(holder, None, left, None, received));
        }
        let attempt = *attempt;
        if let Some(TimeLeft::Seconds(left)) = left {
            // That much before the expiry, which we know.
            let second = attempt.expiry.saturating_sub(left.into());
            server.clock.observe(second, sent, received);
        }
        let mut valid_until = self.request.lease.valid_until(attempt.sent);
        if let Some(kept) = server.clock.kept_until(attempt.expiry, received) {
            valid_until = valid_until.min(kept);
        }
        if received >= valid_until {
            return Ok(self.take_back(cas));
        }
        self.close_attempt();
        Ok(Step::Done(Acquired::Granted(Grant {
            incarnation: attempt.incarnation,
            proof: Proof::Token(self.token),
            owner: self.request.owner.clone(),
            lease: self.request.lease,
            since: 0,
            cas,
            token: None,
            expiry: attempt.expiry,
            sent: attempt.sent,
            echoes: attempt.echoes,
            valid_until,
            origin: Origin::Free,
        })))
    }

    fn close_attempt(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.open = false;
        }
    }
}

impl Sealed for LeanAcquire<'_> {}

impl Operation for LeanAcquire<'_> {
    type Outcome = Acquired;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Acquired> {
        let dialect = server.capabilities.dialect;
        self.prepared = true;
        match self.undo {
            // What was to be taken back died with another incarnation.
            Some(cas) if self.attempt.is_some_and(|a| server.is_run(a.incarnation)) => {
                push_release(flight, dialect, self.request.keys, cas);
            }
            _ => {
                self.undo = None;
                let mut attempt = self.attempt_for(server, now).map_err(Acquired::Failed)?;
                attempt.open_before = attempt.open;
                // From here on it may reach the server; that it was not sent is the exception.
                attempt.open = true;
                push_lean_attempt(flight, self.request.keys, attempt.cas, attempt.expiry);
                self.attempt = Some(attempt);
            }
        }
        Ok(())
    }

    fn interpret(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Acquired>, DecodeError> {
        let step = if self.undo.take().is_some() {
            match read_compared(replies)? {
                Compared::Failed(failure) => Step::Done(Acquired::Failed(failure)),
                Compared::Done | Compared::Other | Compared::Missing => {
                    self.close_attempt();
                    if self.stamina.is_over(received) {
                        Step::GiveUp { unknown: false }
                    } else {
                        Step::Send
                    }
                }
            }
        } else {
            match read_lean_attempt(replies)? {
                Ok(found) => self.attempted(server, found, (sent, received))?,
                Err(failure) => {
                    self.close_attempt();
                    Step::Done(Acquired::Failed(failure))
                }
            }
        };
        self.prepared = false;
        let unknown = self.leftover().is_some();
        Ok(self.stamina.answered(step, received, unknown))
    }

    fn interrupted(&mut self, how: Interruption, now: Now) -> Step<Acquired> {
        let prepared = core::mem::take(&mut self.prepared);
        if let Some(attempt) = self.attempt.as_mut().filter(|_| self.undo.is_none()) {
            match how {
                Interruption::NotSent if prepared => attempt.open = attempt.open_before,
                Interruption::NotSent => {}
                Interruption::Unanswered => attempt.echoes = true,
            }
        }
        let unknown = self.leftover().is_some();
        self.stamina.unanswered(now.moment, unknown)
    }
}
