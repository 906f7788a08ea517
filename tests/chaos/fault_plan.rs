//! Faults of the server, of the clients and of the way between them, and their ends.

use super::clock_log::ClockLog;
use super::history::event::{Fault, What};
use super::history::recorder::{Recorder, now};
use super::memcached::RealServer;
use super::mode::Mode;
use super::plan::{PROXIED, Post};
use super::proxy::{Mood, Proxy};
use super::rng::Rng;
use super::workers::{self, Worker};
use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};
use std::thread::sleep;
use std::time::Instant;

/// Time for which the server is left alone after a restart or a flush, so that something is held
/// again: the guard waits first.
const REST: Duration = Duration::from_secs(15);
const REST_WITHOUT_GUARD: Duration = Duration::from_secs(4);

/// When the server forgets for the first time: some locks have been held by then.
const FIRST_LOSS: Duration = Duration::from_secs(2);

/// The latest time after its second at which a flush takes effect, on a server that runs.
const FLUSH_EFFECT: Duration = Duration::from_millis(2500);

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    ContinueServer,
    StartServer,
    /// A process, by its number.
    Continue(u32),
    Calm(usize),
    SetClock,
    /// A flush has taken effect by now, unless the server did not run.
    FlushOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Stopped,
    Down,
}

/// All that faults are done to.
#[derive(Debug)]
pub(crate) struct FaultPlan<'a> {
    pub(crate) server: &'a mut RealServer,
    pub(crate) crew: &'a mut Vec<Worker>,
    pub(crate) proxies: &'a [Proxy],
    pub(crate) clock: &'a mut ClockLog,
    pub(crate) recorder: &'a Recorder,
    pub(crate) dice: &'a mut Rng,
    pub(crate) faults: &'a mut BTreeMap<&'static str, u64>,
    /// The number of the next process.
    pub(crate) next: &'a mut u32,
    pub(crate) mode: Mode,
}

/// The state of a storm.
#[derive(Debug)]
struct Storm {
    state: State,
    remedies: BinaryHeap<Reverse<(Instant, Remedy)>>,
    /// When the server may forget everything again.
    rested: Instant,
    /// Since when the server has run.
    runs_since: Instant,
}

impl FaultPlan<'_> {
    /// Does one thing after the other for so long, and ends all of it. Says what went wrong with
    /// the processes.
    pub(crate) fn storm(&mut self, length: Duration) -> Vec<String> {
        let began = Instant::now();
        let end = began + length;
        let mut storm = Storm {
            state: State::Up,
            remedies: BinaryHeap::new(),
            rested: began + FIRST_LOSS.min(length / 4),
            runs_since: began,
        };
        let mut wrong = Vec::new();
        let mut next = began;
        while wrong.is_empty() {
            let remedy = storm.remedies.peek().map(|Reverse((at, _))| *at);
            let at = remedy.map_or(next, |remedy| remedy.min(next));
            if at >= end {
                sleep(end.saturating_duration_since(Instant::now()));
                break;
            }
            sleep(at.saturating_duration_since(Instant::now()));
            if remedy == Some(at) {
                if let Some(Reverse((_, remedy))) = storm.remedies.pop() {
                    self.remedy(&mut storm, remedy);
                }
            } else {
                self.fault(&mut storm);
                next = Instant::now() + self.dice.millis(50..700);
            }
            for worker in self.crew.iter_mut() {
                if let Some(status) = worker.ended() {
                    let process = worker.post().process;
                    wrong.push(format!("process {process} ended with {status}"));
                }
            }
        }
        while let Some(Reverse((at, remedy))) = storm.remedies.pop() {
            if remedy == Remedy::FlushOver {
                sleep(at.saturating_duration_since(Instant::now()));
            }
            self.remedy(&mut storm, remedy);
        }
        wrong
    }

    fn count(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    fn write(&self, fault: Fault) {
        self.recorder.write(now(), 0, 0, What::Server(fault));
    }

    /// Short in so many percent of all cases, and long in the others.
    fn length(&mut self, short: u64) -> Duration {
        if self.dice.chance(short) {
            self.dice.millis(100..900)
        } else {
            self.dice.millis(900..6000)
        }
    }

    fn fault(&mut self, storm: &mut Storm) {
        let later = |length| Instant::now() + length;
        let forgetful = !self.mode.is_flooded();
        if forgetful && storm.state != State::Down && Instant::now() >= storm.rested {
            let guarded = self.mode.restart_guard();
            storm.rested = later(if guarded { REST } else { REST_WITHOUT_GUARD });
            return self.forget(storm);
        }
        match self.dice.below(100) {
            0..12 => {
                if storm.state == State::Up {
                    let length = self.length(75);
                    self.write(Fault::Stopped);
                    self.server.stop_signal();
                    storm.state = State::Stopped;
                    storm.remedy(later(length), Remedy::ContinueServer);
                    self.count("server stopped");
                }
            }
            12..38 => {
                let (at, length) = (workers::choose(self.crew, self.dice), self.length(60));
                self.stop(storm, at, length);
            }
            38..50 => {
                let at = workers::choose(self.crew, self.dice);
                self.crew[at].kill(self.recorder);
                let post = Post {
                    process: *self.next,
                    seed: self.dice.next(),
                    ..self.crew[at].post().clone()
                };
                *self.next += 1;
                self.crew[at] = Worker::start(post);
                self.count("client killed");
            }
            50..56 => {
                let hours = self.dice.below(7200) as i64 - 3600;
                if self.clock.set(hours) {
                    let longest = ClockLog::LONGEST.as_millis() as u64;
                    let length = self.dice.millis(100..longest);
                    storm.remedy(later(length), Remedy::SetClock);
                    self.count("wall clock set");
                }
            }
            _ => {
                let at = self.dice.below(PROXIED.len() as u64) as usize;
                let proxy = &self.proxies[at];
                let (mood, what) = match self.dice.below(10) {
                    0..3 => (Mood::Slow(60), "delayed"),
                    // Longer than a client waits for an answer.
                    3..5 => (Mood::Slow(5000), "delayed for long"),
                    5..8 => (Mood::Split, "split"),
                    8..9 => (Mood::Cut, "cut in mid-exchange"),
                    _ => {
                        proxy.cut_all();
                        (Mood::Calm, "cut")
                    }
                };
                proxy.be(mood);
                let length = self.length(75);
                storm.remedy(later(length), Remedy::Calm(at));
                self.count(what);
            }
        }
    }

    fn stop(&mut self, storm: &mut Storm, at: usize, length: Duration) {
        let worker = &mut self.crew[at];
        if !worker.is_stopped() {
            worker.stop(self.recorder);
            let process = worker.post().process;
            storm.remedy(Instant::now() + length, Remedy::Continue(process));
            self.count("client stopped");
        }
    }

    /// The server is restarted or flushed. Often, some of those who hold locks then do not run for
    /// long enough to learn of it, and keep valid guards to the end of their leases.
    fn forget(&mut self, storm: &mut Storm) {
        if self.dice.chance(60) {
            for at in 0..self.crew.len() / 2 {
                let length = self.dice.millis(2000..6000);
                self.stop(storm, at, length);
            }
        }
        if storm.state == State::Up && self.dice.chance(60) {
            let (requests, delay, what): (&[u8], _, _) = match self.dice.below(10) {
                0..4 => (b"flush_all\r\n", 0, "server flushed"),
                4..6 => (b"flush_all\r\nflush_all\r\n", 0, "server flushed twice"),
                6..8 => (b"flush_all 1\r\n", 1, "server flushed later"),
                _ => (b"flush_all 3\r\n", 3, "server flushed later"),
            };
            self.write(Fault::Forgetting);
            self.server.command(requests);
            let over = Instant::now() + Duration::from_secs(delay) + FLUSH_EFFECT;
            storm.remedy(over, Remedy::FlushOver);
            return self.count(what);
        }
        // Now and then it is killed while it is stopped.
        self.write(Fault::Forgetting);
        self.server.kill();
        storm.state = State::Down;
        let down = self.dice.millis(0..1000);
        storm.remedy(Instant::now() + down, Remedy::StartServer);
        self.count("server restarted");
    }

    fn remedy(&mut self, storm: &mut Storm, remedy: Remedy) {
        match remedy {
            Remedy::ContinueServer => {
                if storm.state == State::Stopped {
                    self.server.continue_signal();
                    storm.state = State::Up;
                    storm.runs_since = Instant::now();
                    self.write(Fault::Continued);
                }
            }
            Remedy::StartServer => {
                self.server.restart();
                storm.state = State::Up;
                storm.runs_since = Instant::now();
                self.write(Fault::Forgotten);
            }
            Remedy::Continue(process) => {
                let stopped =
                    |worker: &&mut Worker| worker.post().process == process && worker.is_stopped();
                // It may have been killed meanwhile.
                if let Some(worker) = self.crew.iter_mut().find(stopped) {
                    worker.go_on(self.recorder);
                }
            }
            Remedy::Calm(at) => self.proxies[at].be(Mood::Calm),
            Remedy::SetClock => drop(self.clock.set(0)),
            Remedy::FlushOver => {
                let ran = storm.runs_since.elapsed();
                if storm.state == State::Stopped || ran < FLUSH_EFFECT {
                    storm.remedy(Instant::now() + FLUSH_EFFECT, remedy);
                } else {
                    self.write(Fault::Forgotten);
                }
            }
        }
    }
}

impl Storm {
    fn remedy(&mut self, at: Instant, remedy: Remedy) {
        self.remedies.push(Reverse((at, remedy)));
    }
}
