//! Those who wait for the same lock in this process, in the order in which they came.
//!
//! Only the first of them asks the server, and not even that one for as long as the lock is held
//! in this process: who holds it hands it on.

use super::held::Held;
use crate::lock::{LockKeys, Moment};
use core::borrow::Borrow;
use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// How often in a row a lock is handed on before other processes get a chance.
const TURNS: u32 = 64;

/// How long the first in the line then leaves the lock alone. Others who see a lock change hands
/// look at it about every millisecond.
const YIELD: Duration = Duration::from_millis(2);

/// How somebody who waits is told that something has changed. What is told while he does not wait
/// is not lost on him.
pub(crate) trait News: Default {
    fn tell(&self);
}

/// The lines of a client, by the key of their lock.
#[derive(Debug)]
pub(crate) struct Queues<L, N> {
    lines: Mutex<Lines<L, N>>,
    /// How many lines there are, for those who would find none. Written under `lines`.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Lines<L, N> {
    by_key: HashMap<Key, Line<L, N>>,
    /// How many have ever joined one.
    joined: u64,
    /// What lines and places leave for later ones, so that waiting allocates nothing.
    spare_lines: Vec<VecDeque<Waiter<N>>>,
    spare_news: Vec<Arc<N>>,
}

/// How much is kept for later.
const SPARE: usize = 64;

/// Lines are found by the bytes of the lock's key.
#[derive(Debug)]
struct Key(LockKeys);

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.0.lock().as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<[u8]>::borrow(self) == Borrow::<[u8]>::borrow(other)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(state);
    }
}

/// A line. There is somebody in it, always.
#[derive(Debug)]
struct Line<L, N> {
    /// Who holds the lock in this process, as far as is known. The lock may be lost by now.
    holder: Option<Arc<L>>,
    /// What a holder has handed on to the first one.
    estate: Option<Arc<L>>,
    waiting: VecDeque<Waiter<N>>,
    /// How often in a row the lock was handed on.
    turns: u32,
    /// Before this, the first one leaves the lock to others.
    yields_until: Moment,
    /// Asking the server has failed. Each of them asks by himself then, or the last one would be
    /// told only after all the others.
    dispersed: bool,
}

#[derive(Debug)]
struct Waiter<N> {
    number: u64,
    news: Arc<N>,
    /// Whether the lock can be handed on to him.
    inherits: bool,
}

/// A place in a line, to be given back by [`Queues::leave`].
#[derive(Debug)]
pub(crate) struct Place<N> {
    number: u64,
    pub(crate) news: Arc<N>,
}

/// What somebody in a line may do.
#[derive(Debug)]
pub(crate) enum Standing<L> {
    /// Wait for news, and until this instant at most.
    Wait(Option<Moment>),
    /// Ask the server, not before this instant.
    Contend(Moment),
    /// Replace the record of this lock, which was handed on.
    Inherit(Arc<L>),
}

/// Why somebody leaves a line.
#[derive(Debug)]
pub(crate) enum Leave<L> {
    /// With the lock.
    Holding(Arc<L>),
    /// The server does not answer, or cannot serve.
    Failed,
    /// For reasons of his own.
    GivingUp,
}

impl<L, N: News> Line<L, N> {
    fn tell_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.news.tell();
        }
    }
}

impl<L: AsRef<Held>, N: News> Queues<L, N> {
    pub(crate) fn new() -> Self {
        Self {
            lines: Mutex::new(Lines {
                by_key: HashMap::new(),
                joined: 0,
                spare_lines: Vec::new(),
                spare_news: Vec::new(),
            }),
            count: AtomicUsize::new(0),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines<L, N>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits for anything, which is what most who come and go find.
    pub(crate) fn are_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether somebody waits for this lock.
    pub(crate) fn has_line(&self, keys: &LockKeys) -> bool {
        !self.are_empty() && self.lines().by_key.contains_key(keys.lock().as_bytes())
    }

    /// Takes the last place in the line for a lock. `inherits` says whether the lock can be handed
    /// on to who comes, `holder` who holds it in this process.
    pub(crate) fn join(
        &self,
        keys: &LockKeys,
        inherits: bool,
        holder: impl FnOnce() -> Option<Arc<L>>,
    ) -> Place<N> {
        let mut lines = self.lines();
        let lines = &mut *lines;
        lines.joined += 1;
        let number = lines.joined;
        let news = lines.spare_news.pop().unwrap_or_default();
        let waiter = Waiter {
            number,
            news: Arc::clone(&news),
            inherits,
        };
        match lines.by_key.get_mut(keys.lock().as_bytes()) {
            Some(line) => line.waiting.push_back(waiter),
            None => {
                let mut waiting = lines.spare_lines.pop().unwrap_or_default();
                waiting.push_back(waiter);
                let line = Line {
                    holder: holder(),
                    estate: None,
                    waiting,
                    turns: 0,
                    yields_until: Moment::from_nanos(0),
                    dispersed: false,
                };
                lines.by_key.insert(Key(keys.clone()), line);
                self.count.store(lines.by_key.len(), Ordering::Release);
            }
        }
        Place { number, news }
    }

    /// What who has this place may do now.
    pub(crate) fn standing(&self, keys: &LockKeys, place: &Place<N>, now: Moment) -> Standing<L> {
        let mut lines = self.lines();
        let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) else {
            return Standing::Contend(now);
        };
        let first = line.waiting.front();
        if first.is_none_or(|first| first.number != place.number) {
            return match line.dispersed {
                true => Standing::Contend(now),
                false => Standing::Wait(None),
            };
        }
        if let Some(estate) = line.estate.take() {
            return Standing::Inherit(estate);
        }
        if let Some(holder) = &line.holder {
            let held: &Held = (**holder).as_ref();
            // What it is over by is told to others than those who stand in line.
            if !held.remaining(now).is_zero() {
                return Standing::Wait(Some(held.valid_until()));
            }
            line.holder = None;
        }
        Standing::Contend(line.yields_until)
    }

    /// Gives a place back. Returns what was handed on to somebody who does not want it, where
    /// nobody is left who does.
    pub(crate) fn leave(&self, keys: &LockKeys, place: Place<N>, how: Leave<L>) -> Option<Arc<L>> {
        let key = keys.lock().as_bytes();
        let mut lines = self.lines();
        if lines.spare_news.len() < SPARE {
            // It may be told once more what was meant for the one before, and looks again then.
            lines.spare_news.push(place.news);
        }
        let line = lines.by_key.get_mut(key)?;
        let index = line.waiting.iter();
        let index = index.take_while(|waiter| waiter.number < place.number);
        let index = index.count();
        line.waiting.remove(index);
        match how {
            Leave::Holding(lock) => line.holder = Some(lock),
            Leave::Failed => {
                line.dispersed = true;
                line.waiting.iter().for_each(|waiter| waiter.news.tell());
            }
            Leave::GivingUp if index == 0 => line.tell_first(),
            Leave::GivingUp => {}
        }
        if !line.waiting.is_empty() {
            return None;
        }
        let line = lines.by_key.remove(key)?;
        self.count.store(lines.by_key.len(), Ordering::Release);
        if lines.spare_lines.len() < SPARE {
            lines.spare_lines.push(line.waiting);
        }
        line.estate
    }

    /// Hands a lock, which was ended, on to the first in the line, if there is one who can take it
    /// and it is not time for other processes. Where this returns `false` the lock is to be
    /// released, and [`freed`](Self::freed) to be called after that.
    pub(crate) fn hand_on(&self, keys: &LockKeys, lock: &Arc<L>, now: Moment) -> bool {
        if self.are_empty() {
            return false;
        }
        let mut lines = self.lines();
        let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) else {
            return false;
        };
        if line.turns >= TURNS {
            line.turns = 0;
            line.yields_until = now.after(YIELD);
            return false;
        }
        if line.estate.is_some() || !line.waiting.front().is_some_and(|first| first.inherits) {
            return false;
        }
        line.turns += 1;
        line.holder = None;
        line.estate = Some(Arc::clone(lock));
        line.tell_first();
        true
    }

    /// A lock was released, or lost: nobody in this process holds it.
    pub(crate) fn freed(&self, keys: &LockKeys) {
        if self.are_empty() {
            return;
        }
        let mut lines = self.lines();
        if let Some(line) = lines.by_key.get_mut(keys.lock().as_bytes()) {
            line.holder = None;
            line.turns = 0;
            line.tell_first();
        }
    }

    /// Tells everybody who waits.
    #[cfg(feature = "blocking")]
    pub(crate) fn tell_all(&self) {
        for line in self.lines().by_key.values() {
            line.waiting.iter().for_each(|waiter| waiter.news.tell());
        }
    }
}
