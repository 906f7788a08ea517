//! Faults of the server, and the time until locks are granted again.

use super::ledger::Ledger;
use super::memcached::RealServer;
use super::memory_sampler::Sample;
use super::rng::Rng;
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Instant;

/// Time for which a server is left alone after a restart, so that something happens on it.
const REST: Duration = Duration::from_secs(20);

/// Longest time until a lock is granted, after a stop: its holders may have to be waited
/// for until the server expires what they had.
const AFTER_STOP: Duration = Duration::from_secs(8);

/// And behind a restart: the longest lease is waited out, in whole seconds.
const AFTER_RESTART: Duration = Duration::from_secs(15);

/// The state of the server.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing, or a lock was granted since.
    Granting,
    Down,
    /// Up again since then; a lock is to be granted within the time given.
    Recovering(Instant, Duration),
}

#[derive(Debug)]
pub(crate) struct FaultPlan {
    state: Mutex<State>,
    /// The slowest recovery behind a stop and behind a restart.
    slowest: Mutex<[Duration; 2]>,
}

impl FaultPlan {
    /// The server was just started.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::Recovering(Instant::now(), AFTER_RESTART)),
            slowest: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self, down: State, limit: Duration) {
        // A stop while a restart is being waited out does not make that shorter.
        let limit = match down {
            State::Recovering(_, before) => before.max(limit),
            State::Granting | State::Down => limit,
        };
        *self.state() = State::Recovering(Instant::now(), limit);
    }

    /// Looks whether locks are granted as soon as they should be.
    pub(crate) fn watch(&self, book: &Ledger) {
        let mut state = self.state();
        let last = book.last_grant();
        match *state {
            State::Recovering(since, limit) if last > since => {
                let which = usize::from(limit == AFTER_RESTART);
                let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
                slowest[which] = slowest[which].max(last - since);
                *state = State::Granting;
            }
            State::Recovering(since, limit) if since.elapsed() > limit => {
                book.violation(&format!(
                    "nothing granted {limit:?} after the server came back"
                ));
                *state = State::Granting;
            }
            State::Granting if last.elapsed() > AFTER_STOP => {
                book.violation(&format!("nothing granted for {AFTER_STOP:?}"));
                *state = State::Recovering(Instant::now(), AFTER_RESTART);
            }
            _ => {}
        }
    }

    /// Nothing is granted while all players pause.
    pub(crate) fn resume(&self) {
        *self.state() = State::Recovering(Instant::now(), AFTER_RESTART);
    }

    pub(crate) fn pause(&self) {
        *self.state() = State::Down;
    }

    pub(crate) fn slowest(&self) -> [Duration; 2] {
        *self.slowest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops, continues and restarts the server at random for so long. Leaves it running.
pub(crate) fn storm(
    server: &mut RealServer,
    weather: &FaultPlan,
    book: &Ledger,
    dice: &mut Rng,
    length: Duration,
) {
    let end = Instant::now() + length;
    let mut restarted: Option<Instant> = None;
    for number in 0.. {
        let pause = dice.millis(300..4000).min(length / 8);
        if Instant::now() + pause >= end || book.is_violated() {
            break;
        }
        sleep(pause);
        let rested = restarted.is_none_or(|at| at.elapsed() > REST);
        // The second fault of each storm is a restart, so that short storms have both.
        let restart = rested && (number == 1 || (number > 1 && dice.chance(25)));
        let before = core::mem::replace(&mut *weather.state(), State::Down);
        if restart {
            // Now and then it is killed while it is stopped.
            if dice.chance(20) {
                server.stop_signal();
                sleep(dice.millis(100..1000));
            }
            server.kill();
            sleep(dice.millis(0..1000));
            server.restart();
            restarted = Some(Instant::now());
            book.count("fault restart");
            weather.up(before, AFTER_RESTART);
        } else {
            let most = if dice.chance(50) { 500 } else { 3000 };
            server.stop_signal();
            sleep(dice.millis(100..most));
            server.continue_signal();
            book.count("fault stop");
            weather.up(before, AFTER_STOP);
        }
    }
    sleep(end.saturating_duration_since(Instant::now()));
}

/// Looks at everything until ordered to stop, and takes a sample a second.
pub(crate) fn watch(
    book: &Ledger,
    weather: &FaultPlan,
    over: &core::sync::atomic::AtomicBool,
) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::with_capacity(4096);
    let mut second = 0;
    while !over.load(core::sync::atomic::Ordering::Relaxed) {
        book.audit();
        weather.watch(book);
        if began.elapsed().as_secs() > second {
            second = began.elapsed().as_secs();
            samples.extend(Sample::take(second));
        }
        sleep(Duration::from_millis(10));
    }
    samples
}
