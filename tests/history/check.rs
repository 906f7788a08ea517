//! The rules, each looked at for the whole history. `n` events cost `n log n`.

use super::event::{Instant, NotGranted, Released};
use super::holdings::{Attempt, History};
use super::report::Report;
use super::violation::{Violation, Who};
use core::time::Duration;
use memlatch::LossReason;
use std::collections::BTreeMap;

/// The rules that a history must keep.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// True if two may hold a lock at once. Then each time is counted, and must be caught by
    /// the fencing token.
    pub overlaps: bool,
    /// True if a lock may be lost early though the server has not forgotten everything.
    pub evictions: bool,
    /// True if the counters of fencing tokens may be evicted. One that is lost twice within two
    /// seconds may begin lower; that is counted then.
    pub counters: bool,
    /// True if clients do not wait after a restart. Counters that begin twice within a few seconds
    /// may begin with the same numbers then; what comes of it is counted.
    pub unguarded: bool,
    /// The longest time of one exchange with the server.
    pub operation_timeout: Duration,
    /// Time that a busy machine may take on top of any time limit.
    pub slack: Duration,
}

impl Rules {
    /// A server that forgets nothing but everything at once, and a guard that waits then.
    pub const STRICT: Self = Self {
        overlaps: false,
        evictions: false,
        counters: false,
        unguarded: false,
        operation_timeout: Duration::from_secs(1),
        slack: Duration::from_secs(2),
    };
}

/// Looks for broken rules.
pub fn check(history: &History, rules: &Rules) -> Report {
    let mut checker = Checker {
        history,
        rules,
        report: Report::default(),
    };
    for attempt in &history.attempts {
        checker.count(attempt);
        checker.returned_in_time(attempt);
        if attempt.granted.is_some() {
            checker.told(attempt);
            checker.freed_in_time(attempt);
            checker.explained(attempt);
        }
    }
    let of_keys = history.attempts.chunk_by(|one, other| one.key == other.key);
    for attempts in of_keys {
        let mut holdings: Vec<Holding<'_>> = attempts
            .iter()
            .filter_map(|attempt| {
                let who = attempt.who(history.end_of(attempt.process));
                let (from, to) = who.believed?;
                Some(Holding {
                    attempt,
                    who,
                    from,
                    to,
                    refused: 0,
                })
            })
            .collect();
        holdings.sort_unstable_by_key(|one| (one.from, one.who.process, one.who.holding));
        checker.write_to_resource(&mut holdings);
        checker.one_at_a_time(&holdings);
        checker.tokens_rise(&holdings);
        checker.freed_their_own(&holdings);
    }
    checker.report
}

struct Checker<'h> {
    history: &'h History,
    rules: &'h Rules,
    report: Report,
}

/// One holding, from its grant until its guard was not valid any more.
struct Holding<'h> {
    attempt: &'h Attempt,
    who: Who,
    from: Instant,
    to: Instant,
    /// Number of its writes that the resource refused.
    refused: u64,
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

impl Checker<'_> {
    fn violation(&mut self, violation: Violation) {
        self.report.violations.push(violation);
    }

    fn who(&self, attempt: &Attempt) -> Who {
        attempt.who(self.history.end_of(attempt.process))
    }

    /// The time that the process of an attempt ran between two instants.
    fn ran(&self, attempt: &Attempt, from: Instant, to: Instant) -> u64 {
        self.history.ran(attempt.process, from, to)
    }

    /// The end of the process, or of the history.
    fn end(&self, attempt: &Attempt) -> Instant {
        let end = self.history.end_of(attempt.process);
        end.unwrap_or(self.history.over)
    }

    fn count(&mut self, attempt: &Attempt) {
        let who = self.who(attempt);
        let report = &mut self.report;
        match (&attempt.granted, &attempt.refused) {
            (Some(_), _) if who.believed.is_none() => report.late += 1,
            (Some(_), _) => report.holdings += 1,
            (None, Some((_, why))) => {
                let what = match why {
                    NotGranted::Refused => "refused",
                    NotGranted::Timeout => "timeout",
                    NotGranted::Cancelled => "cancelled",
                    NotGranted::Failed(kind) => kind,
                };
                *report.refusals.entry(what.to_owned()).or_default() += 1;
            }
            (None, None) => {}
        }
        if let Some(loss) = attempt.lost.first() {
            *report.losses.entry(loss.reason.as_str()).or_default() += 1;
        }
        let how = match (&attempt.release, &attempt.released) {
            (Some(release), None) if release.dropped => "dropped",
            (_, Some((_, outcome))) => match outcome {
                Released::Freed => "freed",
                Released::AlreadyLost(reason) => reason.as_str(),
                Released::Cancelled => "cancelled",
                Released::Failed(kind) => kind,
            },
            _ => return,
        };
        *report.releases.entry(how.to_owned()).or_default() += 1;
    }

    /// Every acquisition was answered within its limit and one operation timeout.
    fn returned_in_time(&mut self, attempt: &Attempt) {
        let Some(limit) = attempt.limit else {
            return;
        };
        let returned = attempt.returned().unwrap_or(self.end(attempt));
        let ran = self.ran(attempt, attempt.asked, returned);
        let over = ran.saturating_sub(limit);
        self.report.latest_return = self.report.latest_return.max(over);
        if over > nanos(self.rules.operation_timeout + self.rules.slack) {
            let who = self.who(attempt);
            self.violation(Violation::TooLong { who, limit, ran });
        }
    }

    /// Every loss was reported, in time, once, and not after the holder had released the lock.
    fn told(&mut self, attempt: &Attempt) {
        let who = self.who(attempt);
        let slack = nanos(self.rules.slack);
        let until = attempt.granted.map_or(0, |grant| grant.until);
        if attempt.lost.len() > 1 {
            let times = attempt.lost.len();
            self.violation(Violation::ToldTwice { who, times });
        }
        let Some(loss) = attempt.lost.first() else {
            // The release of a lost lock reports the loss at the latest.
            let end = attempt.release.map(|release| release.at);
            let ran = self.ran(attempt, until, end.unwrap_or(self.end(attempt)));
            self.report.latest_loss = self.report.latest_loss.max(ran);
            if ran > slack {
                self.violation(Violation::NotTold { who, ran });
            }
            return;
        };
        let released_before = attempt.release.is_some_and(|release| release.at < loss.at);
        if released_before || loss.reason == LossReason::Released {
            self.violation(Violation::LostAfterRelease { who });
            return;
        }
        let ran = self.ran(attempt, until, loss.at);
        self.report.latest_loss = self.report.latest_loss.max(ran);
        if ran > slack {
            self.violation(Violation::ToldLate { who, ran });
        }
        if loss.until > loss.at {
            self.violation(Violation::LostButValid { who });
        }
    }

    /// A release says that the lock was held to the end only where no loss was reported
    /// before.
    fn freed_in_time(&mut self, attempt: &Attempt) {
        let freed = matches!(attempt.released, Some((_, Released::Freed)));
        let known = attempt.release.is_some_and(|release| {
            let told = attempt
                .lost
                .first()
                .is_some_and(|loss| loss.at < release.at);
            told || release.until <= release.at
        });
        if freed && known {
            let who = self.who(attempt);
            self.violation(Violation::FreedAfterLoss { who });
        }
    }

    /// A lock that is lost before its deadline was forgotten by the server.
    fn explained(&mut self, attempt: &Attempt) {
        let until = attempt.granted.map_or(0, |grant| grant.until);
        let told = match (attempt.lost.first(), &attempt.released) {
            (Some(loss), _) => Some((loss.at, loss.reason)),
            (None, Some((at, Released::AlreadyLost(reason)))) => Some((*at, *reason)),
            _ => None,
        };
        let Some((at, reason)) = told else {
            return;
        };
        // That its time is over is known from its deadline, which a better reading of the server's
        // clock may have moved nearer.
        let takes_another = matches!(
            reason,
            LossReason::TakenOver | LossReason::Missing | LossReason::ServerRestarted
        );
        let restarted = reason == LossReason::ServerRestarted;
        let excused = self.rules.evictions || self.history.forgot(attempt.asked, at);
        if takes_another && (at < until || restarted) && !excused {
            let who = self.who(attempt);
            self.violation(Violation::Unexplained { who, reason });
        }
    }

    /// A resource that takes no write with a token below the highest it has seen. Each holder
    /// writes when a holding begins, and once more at its end.
    fn write_to_resource(&mut self, holdings: &mut [Holding<'_>]) {
        let mut writes = Vec::with_capacity(2 * holdings.len());
        for (at, holding) in holdings.iter().enumerate() {
            // At one instant, those who begin are first.
            writes.push((holding.from, false, at));
            writes.push((holding.to - 1, true, at));
        }
        writes.sort_unstable();
        let mut highest = 0;
        for (_, _, at) in writes {
            let holding = &mut holdings[at];
            // A write without a token is not checked: the resource of such a lock knows of none.
            let Some(token) = holding.who.token else {
                continue;
            };
            if token < highest {
                holding.refused += 1;
                self.report.refused_writes += 1;
            }
            highest = highest.max(token);
        }
    }

    /// No two hold a lock at once. For each holding, the one before it with the latest end
    /// is looked at.
    fn one_at_a_time(&mut self, holdings: &[Holding<'_>]) {
        let mut last: Option<&Holding<'_>> = None;
        for holding in holdings {
            if let Some(before) = last.filter(|before| holding.from < before.to) {
                self.report.overlaps += 1;
                let (first, second) = (before.who, holding.who);
                if before.refused > 0 || holding.refused > 0 {
                    self.report.caught += 1;
                } else if !self.rules.unguarded {
                    self.violation(Violation::NotCaught { first, second });
                }
                if !self.rules.overlaps {
                    self.violation(Violation::Overlap { first, second });
                }
            }
            if last.is_none_or(|before| before.to < holding.to) {
                last = Some(holding);
            }
        }
    }

    /// A holder that follows another has a higher token, and no two have the same.
    fn tokens_rise(&mut self, holdings: &[Holding<'_>]) {
        let mut seen: BTreeMap<u64, Who> = BTreeMap::new();
        for holding in holdings {
            let Some(token) = holding.who.token else {
                continue;
            };
            match seen.insert(token, holding.who) {
                Some(_) if self.rules.unguarded => self.report.fallen += 1,
                Some(first) => {
                    let second = holding.who;
                    self.violation(Violation::TokenTwice { first, second });
                }
                None => {}
            }
        }
        // Where two may hold a lock at once, the server may have granted it to one of them long
        // before the answer came, and to others meanwhile.
        let overlaps = self.rules.overlaps;
        let begin = |one: &Holding<'_>| {
            if overlaps {
                one.attempt.asked
            } else {
                one.from
            }
        };
        let mut begun: Vec<&Holding<'_>> = holdings.iter().collect();
        let mut ended = begun.clone();
        begun.sort_unstable_by_key(|one| begin(one));
        ended.sort_unstable_by_key(|one| one.to);
        let mut ended = ended.into_iter().peekable();
        let mut highest: Option<Who> = None;
        for holding in begun {
            while let Some(over) = ended.next_if(|one| one.to <= begin(holding)) {
                if highest.is_none_or(|who| who.token < over.who.token) {
                    highest = Some(over.who);
                }
            }
            let Some(earlier) = highest.filter(|who| holding.who.token < who.token) else {
                continue;
            };
            if self.rules.counters || self.rules.unguarded {
                self.report.fallen += 1;
            } else {
                let later = holding.who;
                self.violation(Violation::TokenFell { earlier, later });
            }
        }
    }

    /// A release that says that the lock was held to the end means that it had no other holder in
    /// between. Where locks may be lost unnoticed it is counted: a release whose answer was lost
    /// and that finds nothing when it is repeated takes it for its own work.
    fn freed_their_own(&mut self, holdings: &[Holding<'_>]) {
        for pair in holdings.windows(2) {
            let (holding, next) = (&pair[0], &pair[1]);
            let freed = matches!(holding.attempt.released, Some((_, Released::Freed)));
            let Some(release) = holding.attempt.release.filter(|_| freed) else {
                continue;
            };
            if next.from >= release.at {
                continue;
            }
            if self.rules.overlaps {
                self.report.claimed += 1;
            } else {
                let (who, other) = (holding.who, next.who);
                self.violation(Violation::FreedUnderAnother { who, other });
            }
        }
    }
}
