//! A process that wants locks, holds them for a while and releases them in one of the ways there
//! are, and writes down its holdings.

use super::cut::Cut;
use super::history::event::{NotGranted, Released, What};
use super::history::recorder::{Recorder, deadline, nanos, now};
use super::plan::{self, Post};
use super::rng::Rng;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use memlatch::{
    Client, ErrorKind, Lock, LockError, LockGuard, MultiLock, MultiLockGuard, Protocol,
    ReleaseOutcome,
};
use std::io::Read;
use std::sync::Arc;
use std::thread;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Between two looks of the process at whether it runs, …
const BEAT: Duration = Duration::from_millis(50);

/// … and how far apart two may be before they are reported.
const LATE: Duration = Duration::from_millis(200);

/// Runs until standard input ends.
pub(crate) fn work(post: &Post) {
    // No other process would end or continue this one if the driver were killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .expect("the system knows this signal");
    let recorder = Arc::new(Recorder::create(&post.folder, post.process));
    let (leave, left) = watch::channel(false);
    thread::spawn(move || {
        // Whatever happens to it, it is the end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        leave.send_replace(true);
    });
    let over = Arc::new(AtomicBool::new(false));
    let heart = {
        let (recorder, over) = (Arc::clone(&recorder), Arc::clone(&over));
        thread::spawn(move || beat(&recorder, &over))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(contend(post, &recorder, left));
    over.store(true, Ordering::Relaxed);
    heart.join().expect("the heart");
    let ended = What::Process(super::history::event::Fate::Ended);
    recorder.write(now(), 0, 0, ended);
}

/// Writes down when the process did not run, whatever the reason.
fn beat(recorder: &Recorder, over: &AtomicBool) {
    let mut last = now();
    while !over.load(Ordering::Relaxed) {
        thread::sleep(BEAT);
        let present = now();
        if present - last > nanos(LATE) {
            recorder.write(present, 0, 0, What::Paused { since: last });
        }
        last = present;
    }
}

async fn contend(post: &Post, recorder: &Arc<Recorder>, mut left: watch::Receiver<bool>) {
    let Some(client) = connect(post, &mut left).await else {
        return;
    };
    let holdings = Arc::new(AtomicU64::new(1));
    let mut tasks = Vec::new();
    for task in 0..plan::TASKS {
        let contender = Contender {
            client: client.clone(),
            recorder: Arc::clone(recorder),
            holdings: Arc::clone(&holdings),
            dice: Rng::new(post.seed, u64::from(task) + 1),
            cold: plan::cold(post.slot, task),
            round: post.round,
        };
        tasks.push(tokio::spawn(contender.run(left.clone())));
    }
    for task in tasks {
        task.await.expect("nothing panics");
    }
    // A lock that is not released in time runs out with its lease, which the driver waits for.
    client.shutdown(Duration::from_secs(3)).await;
}

/// A client, as soon as there is a server. `None` when ordered to leave before.
async fn connect(post: &Post, left: &mut watch::Receiver<bool>) -> Option<Client> {
    loop {
        let mut builder = Client::builder()
            .server(&post.url)
            .prefix(plan::PREFIX)
            .default_lease(plan::LONGEST)
            .restart_guard(post.guard);
        if post.slot == plan::CLASSIC {
            builder = builder.protocol(Protocol::Classic);
        }
        tokio::select! {
            built = builder.build() => match built {
                Ok(client) => return Some(client),
                Err(error) if error.is_unavailable() || error.is_unknown() => {}
                // In the second of a delayed flush.
                Err(error) if error.kind() == ErrorKind::UnsupportedServer => {}
                Err(error) => panic!("{error}"),
            },
            _ = left.wait_for(|left| *left) => return None,
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Longest time of a call that tries once, but for one operation timeout: a call without an answer
/// waits for another one, and may have to connect twice.
const TRY: Duration = Duration::from_secs(3);

/// Longest time to make a guard of its parts.
const HAND_ON: Duration = Duration::from_secs(1);

struct Contender {
    client: Client,
    recorder: Arc<Recorder>,
    /// The number of the next acquisition of this process.
    holdings: Arc<AtomicU64>,
    dice: Rng,
    cold: Vec<u32>,
    round: u32,
}

/// An acquisition that is under way. Dropped, it was cancelled.
struct Asking {
    recorder: Arc<Recorder>,
    key: u32,
    number: u64,
    answered: bool,
}

impl Asking {
    fn write(&mut self, answer: NotGranted) {
        self.answered = true;
        let what = What::NotGranted(answer);
        self.recorder.write(now(), self.key, self.number, what);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.answered {
            self.write(NotGranted::Cancelled);
        }
    }
}

/// A guard, and what was written down about it last. Dropped, it releases the lock.
struct Holding {
    recorder: Arc<Recorder>,
    key: u32,
    number: u64,
    guard: Option<LockGuard>,
    until: u64,
    /// The guard was taken apart at this instant, with this deadline.
    apart: Option<(u64, u64)>,
}

impl Holding {
    fn begin(mut asking: Asking, guard: LockGuard) -> Self {
        asking.answered = true;
        let (at, until) = deadline(|| guard.remaining());
        let token = guard.fencing_token();
        let what = What::Granted { token, until };
        asking.recorder.write(at, asking.key, asking.number, what);
        Self {
            recorder: Arc::clone(&asking.recorder),
            key: asking.key,
            number: asking.number,
            guard: Some(guard),
            until,
            apart: None,
        }
    }

    fn guard(&self) -> &LockGuard {
        self.guard.as_ref().expect("not given back yet")
    }

    fn write(&self, at: u64, what: What) {
        self.recorder.write(at, self.key, self.number, what);
    }

    /// Writes down a deadline that has moved.
    fn look(&mut self) {
        let (at, until) = deadline(|| self.guard().remaining());
        // A guard that is not valid any more is about to report why.
        if until > at && until.abs_diff(self.until) > 100_000 {
            self.write(at, What::Until(until));
            self.until = until;
        }
    }

    /// Holds the lock for so long, or until it is lost, and asks the server about it now and then.
    /// Returns whether it is held still.
    async fn hold(&mut self, length: Duration, lease: Duration, dice: &mut Rng) -> bool {
        let end = tokio::time::Instant::now() + length;
        let look = (lease / 8).max(Duration::from_millis(15));
        loop {
            let next = end.min(tokio::time::Instant::now() + look);
            let asks = dice.below(10);
            let wait = async {
                tokio::time::sleep_until(next).await;
                // Their findings are reported by `lost`.
                match asks {
                    0 => drop(self.guard().verify().await),
                    1 => drop(self.guard().renew().await),
                    _ => {}
                }
            };
            tokio::select! {
                biased;
                reason = self.guard().lost() => {
                    let (at, until) = deadline(|| self.guard().remaining());
                    self.write(at, What::Lost { reason, until });
                    return false;
                }
                () = wait => self.look(),
            }
            if next == end {
                return true;
            }
        }
    }

    /// Takes the guard apart and makes one of the parts again. `None` where that fails: the lock
    /// runs out by itself then.
    async fn hand_on(mut self, client: &Client) -> Option<Self> {
        self.apart = Some(deadline(|| self.guard().remaining()));
        let parts = self.guard.take()?.detach();
        let made = timeout(HAND_ON, LockGuard::attach(client, &parts)).await;
        self.guard = Some(made.ok()?.ok()?);
        self.apart = None;
        self.look();
        Some(self)
    }

    /// Writes down the release, and lets go of the guard.
    fn end(&mut self, dropped: bool) -> Option<LockGuard> {
        let guard = self.guard.take()?;
        let (at, until) = deadline(|| guard.remaining());
        self.write(at, What::Release { until, dropped });
        Some(guard)
    }

    async fn release(mut self, cut: Cut) {
        let (recorder, key, number) = (Arc::clone(&self.recorder), self.key, self.number);
        // Nothing comes between the look at the guard and the release.
        let releasing = async move {
            let guard = self.end(false).expect("not given back yet");
            guard.release().await
        };
        let outcome = match cut.apply(releasing).await {
            None => Released::Cancelled,
            Some(Ok(ReleaseOutcome::Released)) => Released::Freed,
            Some(Ok(ReleaseOutcome::AlreadyLost { reason })) => Released::AlreadyLost(reason),
            Some(Err(error)) => Released::Failed(format!("{:?}", error.kind())),
        };
        recorder.write(now(), key, number, What::Released(outcome));
    }

    fn release_quietly(mut self) {
        if let Some(guard) = self.end(true) {
            guard.release_quietly();
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some((at, until)) = self.apart {
            let dropped = true;
            return self.write(at, What::Release { until, dropped });
        }
        drop(self.end(true));
    }
}

/// The locks that are asked for: one, or several together.
enum Wanted {
    One(Lock),
    All(MultiLock),
}

impl Wanted {
    async fn try_acquire(&self) -> Result<Option<Vec<LockGuard>>, LockError> {
        Ok(match self {
            Self::One(lock) => lock.try_acquire().await?.map(|guard| vec![guard]),
            Self::All(set) => set.try_acquire().await?.map(MultiLockGuard::into_guards),
        })
    }

    async fn acquire_timeout(&self, limit: Duration) -> Result<Vec<LockGuard>, LockError> {
        Ok(match self {
            Self::One(lock) => vec![lock.acquire_timeout(limit).await?],
            Self::All(set) => set.acquire_timeout(limit).await?.into_guards(),
        })
    }

    async fn acquire(&self) -> Result<Vec<LockGuard>, LockError> {
        Ok(match self {
            Self::One(lock) => vec![lock.acquire().await?],
            Self::All(set) => set.acquire().await?.into_guards(),
        })
    }
}

impl Contender {
    async fn run(mut self, mut left: watch::Receiver<bool>) {
        tokio::select! {
            // What it is doing is dropped then.
            _ = left.wait_for(|left| *left) => {}
            () = async {
                loop {
                    sleep(self.dice.millis(0..250)).await;
                    self.round().await;
                }
            } => {}
        }
    }

    /// One name, or two together, wanted once.
    async fn round(&mut self) {
        let cold = self.cold[self.dice.below(self.cold.len() as u64) as usize];
        let hot = plan::hot(self.dice.next());
        let keys = match self.dice.below(100) {
            0..12 => vec![hot],
            12..20 => vec![cold, hot],
            _ => vec![cold],
        };
        let lease = plan::lease(keys[0]);
        let holdings = self.acquire(&keys, lease).await;
        let longest = u64::try_from(lease.as_micros()).expect("short");
        let length = match self.dice.below(100) {
            0..15 => Duration::ZERO,
            15..75 => self.dice.micros(0..5000),
            75..93 => self.dice.micros(0..longest / 2),
            _ => self.dice.micros(0..longest * 3 / 2),
        };
        let mut work = Vec::new();
        for mut holding in holdings {
            let (client, mut dice) = (self.client.clone(), Rng::new(self.dice.next(), 0));
            work.push(Box::pin(async move {
                let held = holding.hold(length, lease, &mut dice).await;
                if held && dice.chance(5) {
                    let Some(whole) = holding.hand_on(&client).await else {
                        return;
                    };
                    holding = whole;
                }
                match dice.below(100) {
                    0..55 => holding.release(Cut::Never).await,
                    55..65 => holding.release(Cut::draw(&mut dice)).await,
                    65..75 => holding.release_quietly(),
                    _ => drop(holding),
                }
            }));
        }
        match (work.pop(), work.pop()) {
            (Some(one), Some(other)) => drop(tokio::join!(one, other)),
            (Some(one), None) => one.await,
            _ => {}
        }
    }

    /// The locks of this request, with a limit now and then on how long they are held.
    fn wanted(&mut self, keys: &[u32], lease: Duration) -> Wanted {
        let mut names = keys.iter().map(|key| plan::name(self.round, *key));
        if keys.len() > 1 {
            return Wanted::All(self.client.lock_all(names).lease(lease));
        }
        let lock = self.client.lock(names.next().expect("one")).lease(lease);
        Wanted::One(match self.dice.below(100) {
            0..5 => lock.max_hold(self.dice.millis(20..2000)),
            5..10 => lock.min_hold(self.dice.millis(20..1000)),
            _ => lock,
        })
    }

    /// Acquires the locks of these keys: all of them or none.
    async fn acquire(&mut self, keys: &[u32], lease: Duration) -> Vec<Holding> {
        let wanted = self.wanted(keys, lease);
        let cut = if self.dice.chance(15) {
            Cut::draw(&mut self.dice)
        } else {
            Cut::Never
        };
        let begin = |limit: Option<Duration>| {
            let limit = limit.map(nanos);
            let asking = keys.iter().map(|&key| {
                let number = self.holdings.fetch_add(1, Ordering::Relaxed);
                let recorder = Arc::clone(&self.recorder);
                recorder.write(now(), key, number, What::Begin { limit });
                Asking {
                    recorder,
                    key,
                    number,
                    answered: false,
                }
            });
            asking.collect::<Vec<_>>()
        };
        let (asking, granted) = match self.dice.below(10) {
            0..4 => {
                // One behind the other.
                let asking = begin(Some(TRY * u32::try_from(keys.len()).expect("few")));
                let tried = cut.apply(async move { wanted.try_acquire().await }).await;
                (asking, tried.map(Result::transpose))
            }
            4..7 => {
                let most = if self.dice.chance(80) { 300 } else { 3000 };
                let limit = self.dice.millis(0..most);
                let asking = begin(Some(limit));
                let waited = async move { wanted.acquire_timeout(limit).await };
                (asking, cut.apply(waited).await.map(Some))
            }
            _ => {
                // No call waits for ever: some names are not free for seconds.
                let cut = match cut {
                    Cut::Never | Cut::AtPoll(_) | Cut::AtWake(_) => {
                        Cut::Timeout(self.dice.millis(50..2000))
                    }
                    cut => cut,
                };
                let asking = begin(None);
                let acquired = cut.apply(async move { wanted.acquire().await }).await;
                (asking, acquired.map(Some))
            }
        };
        let answer = match granted {
            // Dropped, they say so.
            None => return Vec::new(),
            Some(None) => NotGranted::Refused,
            Some(Some(Err(error))) => failure(&error),
            Some(Some(Ok(guards))) => {
                // They may be in another order.
                let guard = |asking: &Asking, guards: &mut Vec<LockGuard>| {
                    let name = plan::name(self.round, asking.key);
                    let at = guards.iter().position(|guard| guard.name() == name);
                    guards.swap_remove(at.expect("all of them"))
                };
                let mut guards = guards;
                let holdings = asking.into_iter().map(|asking| {
                    let guard = guard(&asking, &mut guards);
                    Holding::begin(asking, guard)
                });
                return holdings.collect();
            }
        };
        for mut asking in asking {
            asking.write(answer.clone());
        }
        Vec::new()
    }
}

fn failure(error: &LockError) -> NotGranted {
    if error.is_timeout() {
        NotGranted::Timeout
    } else {
        NotGranted::Failed(format!("{:?}", error.kind()))
    }
}
