//! Events, put together into what became of each attempt to hold a lock.

use super::event::{Event, Fate, Fault, Instant, NotGranted, Released, What};
use super::spans::Spans;
use super::violation::{Violation, Who};
use memlatch::LossReason;
use std::collections::{BTreeMap, HashMap};

/// One attempt to hold a lock, from asking for it to giving it back.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub process: u32,
    pub key: u32,
    pub number: u64,
    pub asked: Instant,
    pub limit: Option<u64>,
    pub refused: Option<(Instant, NotGranted)>,
    pub granted: Option<Grant>,
    pub lost: Vec<Loss>,
    pub release: Option<Release>,
    pub released: Option<(Instant, Released)>,
}

#[derive(Debug, Clone, Copy)]
pub struct Grant {
    pub at: Instant,
    pub token: Option<u64>,
    /// The last deadline that is known.
    pub until: Instant,
}

#[derive(Debug, Clone, Copy)]
pub struct Loss {
    pub at: Instant,
    pub reason: LossReason,
    pub until: Instant,
}

#[derive(Debug, Clone, Copy)]
pub struct Release {
    pub at: Instant,
    /// The deadline at that instant.
    pub until: Instant,
    pub dropped: bool,
}

/// The pauses and the end of a process.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// When it did not run.
    pub pauses: Spans,
    /// When it was killed or left.
    pub end: Option<Instant>,
}

/// All that happened.
#[derive(Debug, Default)]
pub struct History {
    /// By key, and by the instant of asking.
    pub attempts: Vec<Attempt>,
    pub lives: BTreeMap<u32, Life>,
    /// When the server may have forgotten everything.
    pub forgotten: Vec<(Instant, Instant)>,
    /// The last event.
    pub over: Instant,
}

impl Attempt {
    fn new(event: &Event, limit: Option<u64>) -> Self {
        Self {
            process: event.process,
            key: event.key,
            number: event.holding,
            asked: event.at,
            limit,
            refused: None,
            granted: None,
            lost: Vec::new(),
            release: None,
            released: None,
        }
    }

    /// When the call returned.
    pub fn returned(&self) -> Option<Instant> {
        let refused = self.refused.as_ref().map(|(at, _)| *at);
        self.granted.map(|grant| grant.at).or(refused)
    }

    /// The time during which the holder, whose process ended then, had a valid guard. `None` where
    /// there is none.
    pub fn believed(&self, end: Option<Instant>) -> Option<(Instant, Instant)> {
        let grant = self.granted?;
        let loss = self.lost.first();
        let over = match (&self.release, loss) {
            // Valid to the last, whatever its deadlines were in between.
            (Some(release), None) if release.until > release.at => release.at,
            _ => {
                let release = self.release.map(|release| release.at);
                let told = loss.map(|loss| loss.at);
                let ends = [Some(grant.until), release, told, end];
                ends.into_iter().flatten().min()?
            }
        };
        (grant.at < over).then_some((grant.at, over))
    }

    pub fn who(&self, end: Option<Instant>) -> Who {
        Who {
            process: self.process,
            key: self.key,
            holding: self.number,
            token: self.granted.and_then(|grant| grant.token),
            believed: self.believed(end),
        }
    }

    /// Takes in what came next. `None` where it cannot come then.
    fn take(&mut self, event: &Event) -> Option<()> {
        let at = event.at;
        match &event.what {
            What::Granted { token, until } if self.returned().is_none() => {
                self.granted = Some(Grant {
                    at,
                    token: *token,
                    until: *until,
                });
            }
            What::NotGranted(why) if self.returned().is_none() => {
                self.refused = Some((at, why.clone()));
            }
            What::Until(until) => self.granted.as_mut()?.until = *until,
            What::Release { until, dropped } if self.release.is_none() => {
                let grant = self.granted.as_mut()?;
                let release = Release {
                    at,
                    until: *until,
                    dropped: *dropped,
                };
                // Where it is not valid any more, the last deadline is one from before.
                if release.until > at {
                    grant.until = release.until;
                }
                self.release = Some(release);
            }
            What::Released(outcome) if self.released.is_none() => {
                self.release?;
                self.released = Some((at, outcome.clone()));
            }
            What::Lost { reason, until } => {
                self.granted?;
                self.lost.push(Loss {
                    at,
                    reason: *reason,
                    until: *until,
                });
            }
            _ => return None,
        }
        Some(())
    }
}

impl History {
    /// Puts events together. Those of one process about one attempt must be in their order.
    ///
    /// # Errors
    /// Some do not fit together.
    pub fn new(events: &[Event]) -> Result<Self, Violation> {
        let mut history = Self {
            over: events.iter().map(|event| event.at).max().unwrap_or(0),
            ..Self::default()
        };
        let mut places = HashMap::new();
        for event in events {
            let place = (event.process, event.holding);
            let malformed = || Violation::Malformed(format!("`{event}` does not fit"));
            match &event.what {
                What::Begin { limit } => {
                    let next = history.attempts.len();
                    if places.insert(place, next).is_some() {
                        return Err(malformed());
                    }
                    history.attempts.push(Attempt::new(event, *limit));
                }
                What::Paused { .. } | What::Process(_) | What::Server(_) => {}
                _ => {
                    let at = places.get(&place).ok_or_else(malformed)?;
                    let attempt = &mut history.attempts[*at];
                    let fits = attempt.key == event.key;
                    attempt
                        .take(event)
                        .filter(|()| fits)
                        .ok_or_else(malformed)?;
                }
            }
        }
        history
            .attempts
            .sort_unstable_by_key(|one| (one.key, one.asked));
        history.live(events);
        history.forget(events);
        Ok(history)
    }

    /// When each process did not run, and when it ended.
    fn live(&mut self, events: &[Event]) {
        let mut fates: Vec<&Event> = Vec::new();
        let mut pauses: BTreeMap<u32, Vec<(Instant, Instant)>> = BTreeMap::new();
        for event in events {
            pauses.entry(event.process).or_default();
            match &event.what {
                What::Paused { since } => pauses
                    .entry(event.process)
                    .or_default()
                    .push((*since, event.at)),
                What::Process(_) => fates.push(event),
                _ => {}
            }
        }
        fates.sort_unstable_by_key(|event| event.at);
        let mut stopped = BTreeMap::new();
        for event in fates {
            let process = event.process;
            match event.what {
                What::Process(Fate::Stopped) => drop(stopped.insert(process, event.at)),
                What::Process(Fate::Continued) => {
                    if let Some(since) = stopped.remove(&process) {
                        pauses.entry(process).or_default().push((since, event.at));
                    }
                }
                _ => {
                    let life = self.lives.entry(process).or_default();
                    life.end = life.end.or(Some(event.at));
                }
            }
        }
        for (process, since) in stopped {
            pauses.entry(process).or_default().push((since, self.over));
        }
        for (process, pauses) in pauses {
            self.lives.entry(process).or_default().pauses = Spans::new(pauses);
        }
    }

    /// When the server forgot.
    fn forget(&mut self, events: &[Event]) {
        let of = |fault: Fault| {
            let wanted = What::Server(fault);
            let of_kind = events.iter().filter(move |event| event.what == wanted);
            let mut instants: Vec<_> = of_kind.map(|event| event.at).collect();
            instants.sort_unstable();
            instants
        };
        let mut ends = of(Fault::Forgotten).into_iter();
        for from in of(Fault::Forgetting) {
            let to = ends.next().unwrap_or(self.over);
            self.forgotten.push((from, to));
        }
    }

    pub fn end_of(&self, process: u32) -> Option<Instant> {
        self.lives.get(&process).and_then(|life| life.end)
    }

    /// The time that a process ran between two instants.
    pub fn ran(&self, process: u32, from: Instant, to: Instant) -> u64 {
        match self.lives.get(&process) {
            Some(life) => life.pauses.left(from, to),
            None => to.saturating_sub(from),
        }
    }

    /// True if the server may have forgotten something between two instants.
    pub fn forgot(&self, from: Instant, to: Instant) -> bool {
        let begun = self.forgotten.partition_point(|(begin, _)| *begin <= to);
        let last = begun.checked_sub(1).map(|at| self.forgotten[at]);
        last.is_some_and(|(_, end)| end >= from)
    }
}
