//! The holdings of all tasks, written down, so that two that overlap are found.

use core::fmt::Debug;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use memlatch::{ErrorKind, Holder, LockError, LockGuard, LossReason, ReleaseOutcome};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The start of the keys of the locks.
pub(crate) const PREFIX: &str = "soak:";

/// The longest lease. Those of the names are different, and none is longer.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Number of violations that are shown. The first one is what counts.
const TOLD: usize = 20;

#[derive(Debug)]
pub(crate) struct Ledger {
    pages: Vec<Page>,
    began: Instant,
    /// The last entry of a holding, in milliseconds since the beginning.
    last_grant: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
    violations: Mutex<Vec<String>>,
    violated: AtomicBool,
    /// The longest time of a call that was not cut short, beyond its own time limit.
    slowest: AtomicU64,
}

/// All about one name.
#[derive(Debug)]
struct Page {
    name: String,
    lease: Duration,
    /// Number of labels that were handed out.
    labels: AtomicU64,
    held: Mutex<Holdings>,
}

#[derive(Debug, Default)]
struct Holdings {
    /// The highest fencing token of any holder of the lock.
    token: u64,
    entered: u64,
    guards: Vec<(u64, Arc<LockGuard>)>,
}

/// A lock that a task holds, until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    book: Arc<Ledger>,
    page: usize,
    entry: u64,
    guard: Option<Arc<LockGuard>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        let page = |(number, name)| Page {
            name,
            // A lease shows whose record an answer is about, too.
            lease: LEASE - Duration::from_millis(5) * number,
            labels: AtomicU64::new(0),
            held: Mutex::default(),
        };
        Self {
            pages: (0..).zip(names).map(page).collect(),
            began: Instant::now(),
            last_grant: AtomicU64::new(0),
            counts: Mutex::default(),
            violations: Mutex::default(),
            violated: AtomicBool::new(false),
            slowest: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self, page: usize) -> &str {
        &self.pages[page].name
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pages.iter().map(|page| page.name.as_str())
    }

    pub(crate) fn lease(&self, page: usize) -> Duration {
        self.pages[page].lease
    }

    /// A label of its own for a task that wants this lock.
    pub(crate) fn label(&self, page: usize) -> String {
        let page = &self.pages[page];
        let number = page.labels.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}#{number}", page.name)
    }

    pub(crate) fn count(&self, what: impl Into<String>) {
        *lock(&self.counts).entry(what.into()).or_default() += 1;
    }

    pub(crate) fn count_of(&self, what: &str) -> u64 {
        lock(&self.counts).get(what).copied().unwrap_or(0)
    }

    /// All that was counted under names with this beginning, in one line.
    pub(crate) fn counted(&self, group: &str) -> String {
        let counts = lock(&self.counts);
        let of_group = counts.iter().filter_map(|(what, count)| {
            let what = what.strip_prefix(group)?;
            Some(format!("{what} {count}"))
        });
        of_group.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn violation(&self, text: &str) {
        self.violated.store(true, Ordering::Relaxed);
        let mut violations = lock(&self.violations);
        if violations.len() < TOLD {
            let at = self.began.elapsed();
            violations.push(format!("at {at:.3?}: {text}"));
        }
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.violated.load(Ordering::Relaxed)
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub(crate) fn last_grant(&self) -> Instant {
        self.began + Duration::from_millis(self.last_grant.load(Ordering::Relaxed))
    }

    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_millis(self.slowest.load(Ordering::Relaxed))
    }

    /// Records that a call has taken so long beyond its time limit. All its waits for the server
    /// have limits, of a second each.
    pub(crate) fn took(&self, what: &str, length: Duration) {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(millis, Ordering::Relaxed);
        if length > Duration::from_secs(10) {
            self.violation(&format!("{what} took {length:?} longer than it may"));
        }
    }

    /// An answer about the holder of a lock must be about this lock.
    pub(crate) fn check_holder(&self, page: usize, holder: &Holder) {
        let page = &self.pages[page];
        let number = holder.label.strip_prefix(page.name.as_str());
        let number = number.and_then(|rest| rest.strip_prefix('#')?.parse().ok());
        let known = 1..=page.labels.load(Ordering::Relaxed);
        if !number.is_some_and(|number| known.contains(&number))
            || holder.lease != page.lease
            || holder.pid != std::process::id()
        {
            self.violation(&format!("asked for {}, answered {holder:?}", page.name));
        }
    }

    /// Counts an error, if it is one that a server in trouble may cause.
    pub(crate) fn check_error(&self, page: usize, error: &LockError) {
        if let Some(holder) = error.holder() {
            self.check_holder(page, holder);
        }
        let kind = error.kind();
        self.count(format!("error {kind:?}"));
        match kind {
            ErrorKind::Timeout
            | ErrorKind::RestartGuard
            | ErrorKind::Unavailable
            | ErrorKind::Unknown => {}
            _ => self.violation(&format!("{}: {error}", self.pages[page].name)),
        }
    }

    /// Records the grant of a lock. Returns `None` if it is over by now.
    pub(crate) fn enter(self: &Arc<Self>, page: usize, guard: LockGuard) -> Option<Holding> {
        let Page { name, held, .. } = &self.pages[page];
        if guard.name() != name || guard.key() != format!("{PREFIX}lock:{name}").as_bytes() {
            self.violation(&format!("asked for {name}, was granted {guard:?}"));
        }
        let guard = Arc::new(guard);
        let mut held = lock(held);
        if !guard.is_valid() {
            drop(held);
            self.count("late");
            return None;
        }
        let token = guard.fencing_token().unwrap_or(0);
        if token <= held.token {
            self.violation(&format!("{name}: token {token} behind {}", held.token));
        }
        held.token = held.token.max(token);
        for (_, other) in &held.guards {
            if other.is_valid() && guard.is_valid() {
                self.violation(&format!("two hold {name}: {guard:?}, {other:?}"));
            }
        }
        held.entered += 1;
        let entry = held.entered;
        held.guards.push((entry, Arc::clone(&guard)));
        drop(held);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_grant.fetch_max(now, Ordering::Relaxed);
        self.count("granted");
        Some(Holding {
            book: Arc::clone(self),
            page,
            entry,
            guard: Some(guard),
        })
    }

    /// Looks for names with two valid guards, long after they came.
    pub(crate) fn audit(&self) {
        for page in &self.pages {
            let held = lock(&page.held);
            let valid = || held.guards.iter().filter(|(_, guard)| guard.is_valid());
            // Looked at once more, because one may end and another begin between two looks.
            if valid().count() > 1 && valid().count() > 1 {
                let all: Vec<_> = valid().collect();
                self.violation(&format!("two hold {}: {all:?}", page.name));
            }
        }
    }
}

impl Holding {
    pub(crate) fn page(&self) -> usize {
        self.page
    }

    pub(crate) fn guard(&self) -> &LockGuard {
        self.guard.as_ref().expect("not taken yet")
    }

    /// Ends the holding: from here on the guard does not count as valid.
    fn end(&mut self) -> Option<Arc<LockGuard>> {
        let mut held = lock(&self.book.pages[self.page].held);
        held.guards.retain(|(entry, _)| *entry != self.entry);
        self.guard.take()
    }

    /// The guard, to be released.
    pub(crate) fn take(mut self) -> Option<LockGuard> {
        self.end().and_then(Arc::into_inner)
    }

    /// Waits until it is lost, and looks whether it may have been.
    pub(crate) async fn lost(&self) {
        let guard = self.guard();
        let deadline = Instant::now() + guard.remaining();
        let reason = guard.lost().await;
        let early = Instant::now() < deadline;
        self.book.count(format!("lost {}", reason.as_str()));
        self.check_loss("lost", reason, early);
        if guard.is_valid() {
            self.book.violation(&format!("lost and valid: {guard:?}"));
        }
    }

    fn check_loss(&self, what: &str, reason: LossReason, early: bool) {
        let name = self.book.name(self.page);
        check_loss(&self.book, name, what, reason, early);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// The tasks neither flush, evict nor take over: only a restart may end a lock early.
fn check_loss(book: &Ledger, name: &str, what: &str, reason: LossReason, early: bool) {
    let natural = match reason {
        LossReason::ServerRestarted => true,
        // A better reading of the server's clock may shorten the lease.
        LossReason::Expired | LossReason::Unreachable => true,
        LossReason::TakenOver | LossReason::Missing => !early,
        _ => false,
    };
    if !natural {
        let early = if early { " early" } else { "" };
        book.violation(&format!("{name}: {what}{early}: {reason}"));
    }
}

/// Checks the outcome of a release against a guard that had `left` when it began.
pub(crate) fn check_release(
    book: &Ledger,
    page: usize,
    outcome: &Result<ReleaseOutcome, LockError>,
    left: Duration,
    took: Duration,
) {
    match outcome {
        Ok(ReleaseOutcome::Released) => book.count("release released"),
        Ok(ReleaseOutcome::AlreadyLost { reason }) => {
            book.count(format!("release {}", reason.as_str()));
            check_loss(book, book.name(page), "released", *reason, took < left);
        }
        Err(error) => {
            book.count("release failed");
            book.check_error(page, error);
        }
    }
}
