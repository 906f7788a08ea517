//! Acquiring a lock: trying, waiting, and what to clean up when it comes to nothing.

use super::attempt::Attempt;
use super::founding::{Founded, Founding};
use super::grant::{Acquired, Grant, Leftover, Origin, Refusal, Request};
use super::incarnation::{Incarnation, ServerView};
use super::items::{
    Compared, Failure, LockItem, Remembered, Stored, push_look_at_memory, push_read_lock,
    push_release, read_compared, read_fence, read_lock, read_memory, read_stored,
};
use super::legacy::Legacy;
use super::loss::LossReason;
use super::moment::{Moment, Now};
use super::observation::Observation;
use super::operation::{Interruption, Operation, Pause, Sealed, Step};
use super::raising::{Raised, Raising, TokenBound};
use super::record::{HolderRecord, Nonce, is_ours, nonce_of};
use super::stamina::Stamina;
use crate::wire::{DecodeError, Flight, Replies, TimeLeft};
use core::time::Duration;

/// How often in a row the lock may turn out free behind a refusal, or vanish behind a success,
/// before it is left alone for a moment.
const QUICK_RETRIES: u8 = 3;

/// How often sentinels are made before the server counts as one that forgets at once.
const FOUNDINGS: u8 = 3;

/// For how long a server may drop what it has just stored before it counts as one that always does.
/// In the second in which a delayed flush takes effect, all do.
const FORGETS_FOR: Duration = Duration::from_secs(5);

/// How long it is left alone each time.
const FORGOTTEN_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
enum Stage {
    /// Ask for the time first: the last answer is too old to build an expiry on.
    Calibrate,
    /// Try to store the record.
    Attempt,
    /// See whether the holder is still there.
    Look,
    /// Take back the record that has this CAS unique.
    Undo { cas: u64, then: AfterUndo },
    /// Make a sentinel.
    Found(Founding),
    /// Draw a token above this one: the counter was made by somebody who knew the time less well.
    Raise { grant: Grant, raising: Raising },
}

#[derive(Debug, Clone)]
enum AfterUndo {
    /// The server has forgotten its sentinel.
    Found,
    /// The server's memory is younger than it must be by this much.
    Wait(Duration),
    /// So says the sentinel. The counters, which were not asked for, may show more.
    AskCounters(Duration),
    /// The answer came when the lease was over.
    Retry,
    /// Something else is wrong.
    Fail(Failure),
}

/// Acquires a lock.
///
/// The flight is `add` of the record, a look at the lock, a fencing token and a look at the
/// sentinel. The lock is held if and only if the look finds our nonce, whatever `add` said: an
/// attempt whose answer was lost is repeated as it was and recognised. A lease counts from the
/// first time its attempt was sent.
///
/// A record that stays the same for longer than the lease it states is taken over: then `cas` with
/// its CAS unique stands in place of `add`, and all else is the same. So is the record of a holder
/// in the same process that [hands it on](Self::inherit).
#[derive(Debug)]
pub struct Acquire<'a> {
    request: Request<'a>,
    first_nonce: Nonce,
    next_nonce: Nonce,
    attempt: Option<Attempt>,
    stage: Stage,
    /// The record in the way.
    observation: Observation,
    /// By when the lock is free unless its holder renews it, by the last look.
    free_by: Option<Moment>,
    /// The CAS unique of the record that the next attempt replaces, where, and how that came about.
    replace: Option<(Incarnation, u64, Origin)>,
    legacy: Legacy,
    stamina: Stamina,
    quick_retries: u8,
    /// Since when the server has dropped whatever it stored.
    forgets: Option<Moment>,
    /// Sentinels made since one was last seen.
    foundings: u8,
    /// The server's clock was read for the attempt to come.
    calibrated: bool,
    /// A flight has been written and nothing heard of it yet.
    prepared: bool,
    /// Nothing is attempted any more.
    looking_last: bool,
}

impl<'a> Acquire<'a> {
    /// An acquisition whose first attempt bears `nonce`, the next one the nonce after it, and so
    /// on.
    #[must_use]
    pub const fn new(request: Request<'a>, nonce: Nonce) -> Self {
        Self {
            stamina: Stamina::new(&request, nonce.seed()),
            request,
            first_nonce: nonce,
            next_nonce: nonce,
            attempt: None,
            stage: Stage::Attempt,
            observation: Observation::new(),
            free_by: None,
            replace: None,
            legacy: Legacy::None,
            quick_retries: 0,
            forgets: None,
            foundings: 0,
            calibrated: false,
            prepared: false,
            looking_last: false,
        }
    }

    /// What the caller should take back if it gives up now: the attempt that was sent and not
    /// answered, or was granted and not yet undone.
    #[must_use]
    pub fn leftover(&self) -> Option<Leftover> {
        #[cfg(seeded_bugs)]
        if crate::seeded::Bug::UnknownNotUndone.planted() {
            return None;
        }
        self.attempt.as_ref()?.leftover(&self.request)
    }

    /// A holder in the same process hands on the lock: its record, with this CAS unique as far as
    /// is known, is replaced with the next flight. To be called while nothing is under way.
    ///
    /// [`take_settled`](Self::take_settled) tells the holder what it was worth. If the acquisition
    /// is given up before that, the record may still stand, and somebody must release it.
    pub fn inherit(&mut self, grant: &Grant, cas: u64) {
        self.legacy = Legacy::of(grant);
        self.replace = Some((grant.incarnation, cas, Origin::HandedOn));
        self.quick_retries = 0;
        self.stage = Stage::Attempt;
    }

    /// The caller's patience ends, and it is the turn of others: the next flight only looks at who
    /// holds the lock, and the answer is a refusal even if nobody does. To be called while nothing
    /// is under way, and not behind [`inherit`](Self::inherit).
    pub fn look_last(&mut self) {
        if self.leftover().is_none() {
            self.looking_last = true;
            self.stage = Stage::Look;
        }
    }

    /// By when the lock that stands in the way is free, unless its holder renews or releases it:
    /// by the last look at it, if it told.
    #[must_use]
    pub const fn free_by(&self) -> Option<Moment> {
        self.free_by
    }

    /// Whether the record that was handed on was still that holder's, when that has become clear.
    /// Says it once.
    pub fn take_settled(&mut self) -> Option<Result<(), LossReason>> {
        self.legacy.take_settled()
    }

    /// Whether a record is that of an attempt of this acquisition, the last one or one before.
    fn is_earlier(&self, value: &[u8]) -> bool {
        if self.first_nonce.next() == self.next_nonce {
            // There was only one: to compare takes less than to read.
            return is_ours(value, self.first_nonce);
        }
        nonce_of(value).is_some_and(|nonce| nonce.is_between(self.first_nonce, self.next_nonce))
    }

    fn refusal(&self, item: LockItem<'_>) -> Refusal {
        match item {
            LockItem::Held { value, left, .. } => Refusal {
                holder: match self.request.tell_holder {
                    true => HolderRecord::parse(value),
                    false => None,
                },
                left,
            },
            LockItem::Free => Refusal::NOBODY,
        }
    }

    /// Somebody else holds it, on this run of the server.
    fn held(&mut self, on: Incarnation, item: LockItem<'_>, now: Moment) -> Step<Acquired> {
        let LockItem::Held { value, cas, left } = item else {
            return self.retry(on, now);
        };
        if self.legacy.is(value, cas) && self.quick_retries < QUICK_RETRIES {
            // Renewed meanwhile.
            self.quick_retries += 1;
            self.replace = Some((on, cas, Origin::HandedOn));
            self.stage = Stage::Attempt;
            return Step::Send;
        }
        self.legacy.settle(on, Err(LossReason::TakenOver));
        self.observation.held(on, value, cas, now);
        self.free_by = earlier(self.observation.ripe_at(), runs_out(left, now));
        self.calibrated = false;
        if self.stamina.is_over(now) {
            return Step::Done(Acquired::Refused(self.refusal(item)));
        }
        self.quick_retries = 0;
        self.stage = Stage::Look;
        let (lease, ripe) = (self.observation.lease(), self.observation.ripe_at());
        let holder = self.observation.holder();
        self.stamina.wait(holder, lease, left, ripe, now)
    }

    /// The lock was free after all: tries again, at once a few times and then with pauses.
    fn retry(&mut self, on: Incarnation, now: Moment) -> Step<Acquired> {
        self.legacy.settle(on, Err(LossReason::Vanished));
        self.observation.free();
        self.stage = Stage::Attempt;
        self.quick_retries += 1;
        if self.quick_retries <= QUICK_RETRIES {
            return Step::Send;
        }
        self.quick_retries = 0;
        self.calibrated = false;
        if self.stamina.is_over(now) {
            return Step::Done(Acquired::Refused(Refusal::NOBODY));
        }
        self.stamina.wait(0, None, None, None, now)
    }

    /// The attempt is settled: its record is not at the server.
    fn close_attempt(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.open = false;
        }
    }

    fn undo(&mut self, cas: u64, then: AfterUndo) -> Step<Acquired> {
        self.stage = Stage::Undo { cas, then };
        Step::Send
    }

    fn fail(&mut self, failure: Failure) -> Step<Acquired> {
        Step::Done(Acquired::Failed(failure))
    }

    /// The server drops what it has just stored: tries again for a while, with pauses.
    fn forgotten(&mut self, now: Moment) -> Step<Acquired> {
        self.quick_retries = 0;
        self.foundings = 0;
        let since = *self.forgets.get_or_insert(now);
        if self.stamina.is_over(now) || now.since(since) > FORGETS_FOR {
            return self.fail(Failure::ForgottenAtOnce);
        }
        self.stage = Stage::Attempt;
        self.stamina.pause(now, FORGOTTEN_PAUSE, Pause::YoungMemory)
    }

    fn wait_for_memory(&mut self, lacking: Duration, now: Moment) -> Step<Acquired> {
        self.stage = Stage::Attempt;
        let until = now.after(lacking);
        if self.stamina.ends(now).is_some_and(|end| end < until) {
            return Step::Done(Acquired::YoungMemory { lacking });
        }
        Step::Pause {
            until,
            why: Pause::YoungMemory,
        }
    }

    /// Sees to it that there is an attempt to be sent: the one that is open, or a new one.
    fn begin_attempt(&mut self, server: &ServerView, now: Now) -> Result<(), Failure> {
        let replace = self.replace.take();
        let repeat = self.attempt.as_ref().is_some_and(|attempt| {
            attempt.open && attempt.is_alive(&self.request, server, now.moment)
        });
        if !repeat {
            let over = replace.filter(|(on, ..)| server.is_run(*on));
            let over = over.map(|(_, cas, origin)| (cas, origin));
            let nonce = self.next_nonce;
            let attempt = Attempt::new(nonce, over, &self.request, server, now)?;
            self.next_nonce = nonce.next();
            self.attempt = Some(attempt);
        }
        Ok(())
    }

    fn interpret_attempt(
        &mut self,
        server: &mut ServerView,
        replies: &mut Replies<'_>,
        sent: Moment,
        received: Moment,
    ) -> Result<Step<Acquired>, DecodeError> {
        let dialect = server.capabilities.dialect;
        #[cfg(seeded_bugs)]
        let early = crate::seeded::Bug::SentinelBeforeAcquire
            .planted()
            .then(|| read_memory(replies, server, false, sent, received))
            .transpose()?;
        let stored = read_stored(replies)?;
        let item = read_lock(replies, dialect)?;
        let token = match self.request.fencing {
            true => read_fence(replies, dialect)?.map(Some),
            false => Ok(None),
        };
        let evidence = self
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.evidence);
        let memory = read_memory(replies, server, evidence, sent, received)?;
        #[cfg(seeded_bugs)]
        let memory = early.unwrap_or(memory);
        let Some(attempt) = &self.attempt else {
            return Err(DecodeError::UnexpectedReply);
        };
        if matches!(item, Ok(LockItem::Held { .. })) {
            self.forgets = None;
        }
        if matches!(memory, Ok(Remembered::From { .. })) {
            // In a long wait the server may be flushed any number of times.
            self.foundings = 0;
        }
        let item = match item {
            Ok(item) => item,
            Err(failure) => return Ok(self.fail(failure)),
        };
        let on = attempt.incarnation;
        let cas = match item {
            LockItem::Held { value, cas, .. } if attempt.is_of(value) => cas,
            _ => {
                self.close_attempt();
                return Ok(match (item, stored) {
                    (LockItem::Held { value, cas, .. }, _) if self.is_earlier(value) => {
                        self.legacy.settle(on, Ok(()));
                        self.undo(cas, AfterUndo::Retry)
                    }
                    (LockItem::Held { .. }, _) => self.held(on, item, received),
                    (LockItem::Free, Stored::No) => self.retry(on, received),
                    (LockItem::Free, Stored::Failed(failure)) => self.fail(failure),
                    (LockItem::Free, Stored::Yes) if self.quick_retries >= QUICK_RETRIES => {
                        self.forgotten(received)
                    }
                    (LockItem::Free, Stored::Yes) => {
                        self.quick_retries += 1;
                        Step::Send
                    }
                });
            }
        };
        let mut grant = attempt.grant(&self.request, cas);
        self.legacy.settle(on, Ok(()));
        #[cfg(seeded_bugs)]
        if crate::seeded::Bug::LeaseFromReply.planted() {
            grant.valid_until = self.request.lease.valid_until(received);
        }
        #[cfg(seeded_bugs)]
        if crate::seeded::Bug::LeaseFromRepetition.planted() {
            grant.valid_until = self.request.lease.valid_until(sent);
        }
        if let Some(kept) = server.clock.kept_until(grant.expiry, received) {
            grant.valid_until = grant.valid_until.min(kept);
        }
        #[cfg(seeded_bugs)]
        if crate::seeded::Bug::NoColdGuard.planted() {
            self.request.memory = None;
        }
        if let Some(longest) = self.request.memory {
            let lacking = match memory {
                Err(failure) => return Ok(self.undo(cas, AfterUndo::Fail(failure))),
                Ok(Remembered::Unfounded) => {
                    return Ok(self.undo(cas, AfterUndo::Found));
                }
                // Asked again, with the flush horizon.
                Ok(Remembered::Unclear) => {
                    let lacking = longest.max(self.request.lease).memory_needed();
                    return Ok(self.undo(cas, AfterUndo::AskCounters(lacking)));
                }
                Ok(Remembered::From { from, second, .. }) => {
                    let longest = longest.max(self.request.lease);
                    server.memory.lacking(second, from, longest)
                }
            };
            if !lacking.is_zero() {
                // Others may have bumped the sentinel.
                let then = match evidence {
                    true => AfterUndo::Wait(lacking),
                    false => AfterUndo::AskCounters(lacking),
                };
                return Ok(self.undo(cas, then));
            }
        }
        let drawn = match token {
            Ok(drawn) => drawn,
            Err(failure) => return Ok(self.undo(cas, AfterUndo::Fail(failure))),
        };
        grant.token = drawn.map(|drawn| drawn.token);
        // Counters from before the server's memory began count nanoseconds of its clock up to
        // then at most. One that was made since counts from more, unless its maker knew the
        // clock less well, or made it late.
        let bound = drawn.map(|drawn| match memory {
            Ok(Remembered::From { floor, second, .. }) => TokenBound::of(drawn, floor, second),
            _ => TokenBound::of(
                drawn,
                0,
                server.clock.second_at_least(received).unwrap_or(0),
            ),
        });
        #[cfg(seeded_bugs)]
        let (bound, token) =
            crate::seeded::Bug::TokenFromCas.choose((None, Some(cas)), (bound, grant.token));
        #[cfg(seeded_bugs)]
        let grant = Grant { token, ..grant };
        Ok(self.grant(grant, bound, received))
    }

    /// The lock is ours; so that it is held, the token must be above those from before, and the
    /// lease must not be over.
    fn grant(&mut self, grant: Grant, bound: Option<TokenBound>, now: Moment) -> Step<Acquired> {
        #[cfg(seeded_bugs)]
        let now = crate::seeded::Bug::GrantAfterDeadline.choose(grant.sent, now);
        if now >= grant.valid_until {
            return self.undo(grant.cas, AfterUndo::Retry);
        }
        if let Some(bound) = bound.filter(|bound| bound.is_missed_by(grant.token)) {
            let raising = Raising::new(bound);
            self.stage = Stage::Raise { grant, raising };
            return Step::Send;
        }
        self.close_attempt();
        Step::Done(Acquired::Granted(grant))
    }

    /// What a look has found. If our own record, then by a request that was carried out late.
    fn looked(&mut self, server: &ServerView, item: LockItem<'_>, now: Moment) -> Step<Acquired> {
        let on = server.incarnation;
        let LockItem::Held { value, cas, .. } = item else {
            return self.retry(on, now);
        };
        if self.observation.is(on, cas) {
            // Not ours the last time either.
            return self.held(on, item, now);
        }
        if let Some(attempt) = &mut self.attempt {
            if attempt.is_of(value) && attempt.is_alive(&self.request, server, now) {
                attempt.open = true;
                self.stage = Stage::Attempt;
                return Step::Send;
            }
        }
        let granted = self.attempt.as_ref().map(|attempt| attempt.incarnation);
        if self.is_earlier(value) && granted.is_some_and(|granted| server.is_run(granted)) {
            self.legacy.settle(on, Ok(()));
            return self.undo(cas, AfterUndo::Retry);
        }
        self.held(on, item, now)
    }

    fn after_undo(&mut self, server: &ServerView, then: AfterUndo, now: Moment) -> Step<Acquired> {
        let on = server.incarnation;
        match then {
            AfterUndo::Found if self.foundings >= FOUNDINGS => self.forgotten(now),
            AfterUndo::Found => {
                self.foundings += 1;
                // On the connection by which the server is known: it is the run with this name.
                self.stage = Stage::Found(Founding::new(on.instance));
                Step::Send
            }
            AfterUndo::AskCounters(_) if self.quick_retries < QUICK_RETRIES => {
                self.quick_retries += 1;
                self.stage = Stage::Attempt;
                Step::Send
            }
            AfterUndo::Wait(lacking) | AfterUndo::AskCounters(lacking) => {
                self.wait_for_memory(lacking, now)
            }
            AfterUndo::Retry if self.stamina.is_over(now) => Step::GiveUp { unknown: false },
            AfterUndo::Retry => self.retry(on, now),
            AfterUndo::Fail(failure) => self.fail(failure),
        }
    }
}

/// When an item is gone whose time was this at that instant. The server counts whole seconds.
pub(super) fn runs_out(left: Option<TimeLeft>, now: Moment) -> Option<Moment> {
    match left? {
        TimeLeft::Seconds(left) => Some(now.after(Duration::from_secs(u64::from(left) + 1))),
        TimeLeft::Expired => Some(now),
        TimeLeft::Never => None,
    }
}

fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Sealed for Acquire<'_> {}

impl Operation for Acquire<'_> {
    type Outcome = Acquired;

    fn prepare(
        &mut self,
        server: &ServerView,
        now: Now,
        flight: &mut Flight,
    ) -> Result<(), Acquired> {
        let dialect = server.capabilities.dialect;
        let keys = self.request.keys;
        self.prepared = true;
        if matches!(self.stage, Stage::Look) && !self.looking_last {
            if let Some(cas) = self.observation.ripe(server.incarnation, now.moment) {
                self.replace = Some((server.incarnation, cas, Origin::TakenOver));
                self.stage = Stage::Attempt;
            }
        }
        let stale = server.clock.is_stale(now.moment) && !self.calibrated;
        if matches!(self.stage, Stage::Attempt) && stale {
            self.stage = Stage::Calibrate;
        }
        match &mut self.stage {
            Stage::Calibrate => {
                push_look_at_memory(flight, dialect, self.request.namespace, false);
            }
            Stage::Attempt => {
                self.begin_attempt(server, now).map_err(Acquired::Failed)?;
                if let Some(attempt) = &mut self.attempt {
                    attempt.push(&self.request, server, now.moment, flight);
                }
            }
            Stage::Look => push_read_lock(flight, dialect, keys),
            Stage::Undo { cas, .. } => {
                let granted = self.attempt.as_ref().map(|attempt| attempt.incarnation);
                if granted.is_some_and(|granted| server.is_run(granted)) {
                    push_release(flight, dialect, keys, *cas);
                } else {
                    // The record died with the server that had it. A look stands in for the
                    // release, and what follows the undo is decided on the new server.
                    self.close_attempt();
                    self.stage = Stage::Look;
                    push_read_lock(flight, dialect, keys);
                }
            }
            Stage::Found(founding) => {
                founding.prepare(self.request.namespace, server, now.moment, flight);
            }
            Stage::Raise { grant, raising } if server.is_run(grant.incarnation) => {
                raising.prepare(dialect, keys, flight);
            }
            Stage::Raise { .. } => {
                self.close_attempt();
                self.stage = Stage::Look;
                push_read_lock(flight, dialect, keys);
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
        let dialect = server.capabilities.dialect;
        let step = match &mut self.stage {
            Stage::Calibrate => match read_memory(replies, server, false, sent, received)? {
                Ok(Remembered::From { .. } | Remembered::Unclear) => {
                    self.foundings = 0;
                    // Once: a clock that runs backwards never becomes fresh, and what is known of
                    // it makes for a later expiry.
                    self.calibrated = true;
                    self.stage = Stage::Attempt;
                    Step::Send
                }
                Ok(Remembered::Unfounded) => self.after_undo(server, AfterUndo::Found, received),
                Err(failure) => self.fail(failure),
            },
            Stage::Attempt => self.interpret_attempt(server, replies, sent, received)?,
            Stage::Look => match read_lock(replies, dialect)? {
                Err(failure) => self.fail(failure),
                Ok(LockItem::Free) if self.looking_last => {
                    Step::Done(Acquired::Refused(Refusal::NOBODY))
                }
                Ok(LockItem::Free) => {
                    self.observation.free();
                    self.stage = Stage::Attempt;
                    Step::Send
                }
                Ok(item) => self.looked(server, item, received),
            },
            Stage::Undo { then, .. } => {
                let then = then.clone();
                match read_compared(replies)? {
                    // Without memory even the classic release fails; the record then runs out.
                    Compared::Failed(failure) => self.fail(failure),
                    Compared::Done | Compared::Other | Compared::Missing => {
                        self.close_attempt();
                        self.after_undo(server, then, received)
                    }
                }
            }
            Stage::Raise { grant, raising } => match raising.interpret(replies, dialect)? {
                Raised::Again => Step::Send,
                // Others have drawn a token between each look and its replacement.
                Raised::Failed(Failure::ForgottenAtOnce) if !self.stamina.is_over(received) => {
                    let cas = grant.cas;
                    self.undo(cas, AfterUndo::Retry)
                }
                Raised::Failed(failure) => {
                    let cas = grant.cas;
                    self.undo(cas, AfterUndo::Fail(failure))
                }
                Raised::Token(token) => {
                    let mut grant = grant.clone();
                    grant.token = Some(token);
                    self.grant(grant, None, received)
                }
            },
            Stage::Found(founding) => match founding.interpret(replies, server, sent, received)? {
                Founded::Again => Step::Send,
                Founded::Failed(Failure::ForgottenAtOnce) => self.forgotten(received),
                Founded::Failed(failure) => self.fail(failure),
                Founded::Yes => {
                    self.stage = Stage::Attempt;
                    Step::Send
                }
            },
        };
        self.prepared = false;
        let unknown = self.leftover().is_some();
        Ok(self.stamina.answered(step, received, unknown))
    }

    fn interrupted(&mut self, how: Interruption, now: Now) -> Step<Acquired> {
        let now = now.moment;
        let prepared = core::mem::take(&mut self.prepared);
        match (&mut self.stage, how) {
            (Stage::Attempt, Interruption::NotSent) if prepared => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.not_sent();
                }
            }
            (Stage::Attempt, Interruption::Unanswered) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.not_answered();
                }
            }
            // The next flight may go to another run of the server, whose handshake names it.
            (Stage::Found(_), _) => self.stage = Stage::Attempt,
            // Whether it was raised is not known; asked again, the lock is found to be ours.
            (Stage::Raise { .. }, _) => self.stage = Stage::Attempt,
            _ => {}
        }
        let unknown = self.leftover().is_some();
        self.stamina.unanswered(now, unknown)
    }
}
