//! Acquiring a lock: when it is somebody's turn to ask, and what comes of it.

use super::drive::Bound;
use super::guard::LockGuard;
use super::signal::Signal;
use super::{Core, HeldLock, Link};
use crate::front::{Asked, Cause, Leave, LockError, News, Place, Seat, Standing, clock};
use crate::net::pool::Pool;
use crate::proto::{
    AcquireOutcome, Action, Contended, Instant, LockKeys, Now, SleepReason, WaitPolicy,
};
use std::sync::Arc;

type Connections = Pool<Seat<Link>>;
type Acquiring<'a, W> = crate::front::Acquiring<'a, Connections, HeldLock, W>;

impl News for Signal {
    fn tell(&self) {
        self.give();
    }
}

/// A place in the line of those who wait in this process, if one was needed. Dropping it gives it
/// back.
pub(super) struct Waiting<'a> {
    core: &'a Core,
    keys: &'a LockKeys,
    /// Whether the lock can be handed on to who waits.
    inherits: bool,
    place: Option<Place<Signal>>,
    /// It is of no use to wait any longer when one of these is lost.
    beside: &'a [LockGuard],
}

impl<'a> Waiting<'a> {
    pub(super) const fn new(
        core: &'a Core,
        keys: &'a LockKeys,
        inherits: bool,
        beside: &'a [LockGuard],
    ) -> Self {
        Self {
            core,
            keys,
            inherits,
            place: None,
            beside,
        }
    }

    fn join(&mut self) {
        if self.place.is_none() {
            let (queues, registry) = (&self.core.queues, &self.core.site.registry);
            let holder = || registry.find(self.keys);
            self.place = Some(queues.join(self.keys, self.inherits, holder));
        }
    }

    /// Gives the place back with the lock in hand.
    pub(super) fn won(mut self, lock: &Arc<HeldLock>) {
        self.leave(Leave::Holding(Arc::clone(lock), clock::moment()));
    }

    fn leave(&mut self, how: Leave<HeldLock>) {
        if let Some(place) = self.place.take() {
            if let Some(unwanted) = self.core.queues.leave(self.keys, place, how) {
                self.core.site.release_legacy(unwanted);
                self.core.wake.give();
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave(Leave::GivingUp);
    }
}

impl Core {
    /// Runs an acquisition to its end, from `now` on.
    pub(super) fn acquire<W: Fn()>(
        &self,
        asked: &Asked<'_, Connections, HeldLock>,
        acquiring: &mut Acquiring<'_, W>,
        waiting: &mut Waiting<'_>,
        patience: WaitPolicy,
        mut now: Now,
    ) -> Result<AcquireOutcome, LockError> {
        let nobody = AcquireOutcome::Contended(Contended {
            holder: None,
            free_in: None,
        });
        let (mut bound, ends) = match patience {
            WaitPolicy::Until(end) => (Bound::Patience(end), Some(end)),
            WaitPolicy::Try | WaitPolicy::Forever => (Bound::Open, None),
        };
        if self.queues.has_line(asked.keys) {
            if patience == WaitPolicy::Try {
                return Ok(nobody);
            }
            // Who is counted among those who wait has its place.
            waiting.join();
            acquiring.account.waits_for_holder(None);
        }
        let mut pause = None;
        let mut failure = None;
        loop {
            if pause.is_some() || waiting.place.is_some() {
                let turn = self.turn(waiting, acquiring, pause, ends)?;
                if turn == Turn::Pointless {
                    return Ok(nobody);
                }
                if turn == Turn::TooLate && !acquiring.acquire.probe_only() {
                    return Ok(nobody);
                }
                now = clock::now();
                bound.resume(now.monotonic);
            }
            let step = self.step(&mut acquiring.acquire, now, bound, &mut failure);
            if let Some(lock) = acquiring.settle() {
                // Who handed it on waits for this.
                lock.changed.give();
                self.done.give();
            }
            match step {
                Ok(Action::Transmit) => {
                    pause = None;
                    now = clock::now();
                }
                Ok(Action::Sleep { until, why }) => {
                    self.site.note_pause(why, until.since(clock::moment()));
                    if why == SleepReason::Contended {
                        waiting.join();
                        let free_by = acquiring.acquire.free_by();
                        acquiring.account.waits_for_holder(free_by);
                    }
                    acquiring.account.waits();
                    pause = Some(until);
                }
                Ok(Action::Done(acquired)) => {
                    if matches!(acquired, AcquireOutcome::Failed(_)) {
                        waiting.leave(Leave::Failed);
                    }
                    return Ok(acquired);
                }
                Ok(Action::Fail { unknown }) => {
                    waiting.leave(Leave::Failed);
                    return Err(self.site.given_up(unknown, failure));
                }
                Err(error) => {
                    waiting.leave(Leave::Failed);
                    return Err(error);
                }
            }
        }
    }

    /// Waits until the acquisition may go on: its pause is over, and it is its turn to ask. A
    /// shutdown ends the wait.
    fn turn<W: Fn()>(
        &self,
        waiting: &Waiting<'_>,
        acquiring: &mut Acquiring<'_, W>,
        mut pause: Option<Instant>,
        ends: Option<Instant>,
    ) -> Result<Turn, LockError> {
        // A shutdown tells everybody in a line; who is in none hears of it by the signal for that.
        let news = match &waiting.place {
            Some(place) => &*place.news,
            None => &self.closing,
        };
        let mut seen = news.seen();
        loop {
            if self.site.registry.is_closed() {
                return Err(LockError::new(Cause::Closed));
            }
            let now = clock::moment();
            let beside = waiting.beside.iter();
            // Looked at once in a second at least, which is how long a signal lets wait.
            if beside
                .map(LockGuard::held)
                .any(|held| held.over(now).is_some())
            {
                return Ok(Turn::Pointless);
            }
            let standing = match &waiting.place {
                Some(place) => self.queues.standing(waiting.keys, place, now),
                None => Standing::Contend(now),
            };
            let until = match standing {
                Standing::Inherit(lock) => {
                    acquiring.inherit(lock);
                    return Ok(Turn::Mine);
                }
                Standing::Contend(from) => {
                    let from = pause.map_or(from, |pause| pause.max(from));
                    if from <= now {
                        return Ok(Turn::Mine);
                    }
                    from
                }
                Standing::Wait(_) if ends.is_some_and(|ends| ends <= now) => {
                    return Ok(Turn::TooLate);
                }
                Standing::Wait(until) => {
                    let never = Instant::from_nanos(u64::MAX);
                    until.unwrap_or(never).min(ends.unwrap_or(never))
                }
            };
            news.wait(seen, until);
            let told = news.seen();
            if told != seen {
                // What was waited for may have come about.
                pause = None;
                seen = told;
            }
        }
    }
}

/// Whether it is somebody's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Mine,
    /// His patience ended before.
    TooLate,
    /// What was to be held besides is lost.
    Pointless,
}
