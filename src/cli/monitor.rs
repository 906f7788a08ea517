//! The time during which the command runs and the lock must be held.

use super::child::Child;
use super::failure::{Failure, code};
use super::rules::{GRACE, Leftovers, OnLost, Rules};
use super::signals::{Arrival, ENDING, STOPPING, Signals};
use super::stderr::{self, Verbosity};
use super::supervisor::Report;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use memlatch::{LockGuard, LossReason};
use nix::sys::signal::{Signal, raise};
use std::ffi::OsString;
use std::io;
use tokio::time::{Instant, sleep};

/// The clock of leases goes on while the machine sleeps, timers do not. So a timer is never set
/// further ahead than this.
const LOOK: Duration = Duration::from_secs(1);

/// After this time it is said why nothing seems to happen.
const REMARK: Duration = Duration::from_secs(2);

/// The time that a command may take to stop after the terminal has asked for it.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The end of a command.
pub(super) struct ChildExit {
    /// Its exit code, as shells have it.
    pub(super) code: u8,
    /// The lock was not held to its end.
    pub(super) lost: bool,
}

/// A command that runs, the lock it runs under, and what is to be done when the one is lost
/// before the other ends.
pub(super) struct ChildMonitor<'a> {
    child: Child,
    argv: &'a [OsString],
    guard: &'a LockGuard,
    signals: &'a mut Signals,
    voice: Verbosity,
    rules: Rules,
    phase: MonitorState,
    /// The process id of the command, for messages.
    pid: i32,
    /// The exit code of the command, once it has ended.
    code: Option<u8>,
    /// A signal has asked this process to end.
    asked_to_end: bool,
    /// When what the command has left running is killed.
    leftovers_end: Option<Instant>,
    /// When something is to be said about a command that is stopped, or that has ended and left
    /// something running.
    remark_at: Option<Instant>,
    /// The signal that has stopped the command.
    stopped_by: Option<i32>,
    has_told_stop: bool,
    /// When the terminal has asked the job to stop.
    stop_asked: Option<Instant>,
    /// The end of the lease that was sent to the supervisor.
    lease_sent: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MonitorState {
    /// The lock is held.
    Holding,
    /// The lock is lost or about to be, and the command was asked to end. At this instant it is
    /// made to.
    Ending { kill_at: Instant },
    /// The lock is lost or about to be, and the command was killed.
    Killed,
    /// The lock is lost, and the command goes on as it was meant to.
    Regardless,
}

enum Event {
    Report(io::Result<Report>),
    Signal(Arrival),
    Lost(LossReason),
    Time,
}

impl<'a> ChildMonitor<'a> {
    pub(super) fn new(
        child: Child,
        argv: &'a [OsString],
        guard: &'a LockGuard,
        signals: &'a mut Signals,
        voice: Verbosity,
        rules: Rules,
    ) -> Self {
        Self {
            child,
            argv,
            guard,
            signals,
            voice,
            rules,
            phase: MonitorState::Holding,
            pid: 0,
            code: None,
            asked_to_end: false,
            leftovers_end: None,
            remark_at: None,
            stopped_by: None,
            has_told_stop: false,
            stop_asked: None,
            lease_sent: None,
        }
    }

    /// Waits until the command and what it has started are gone, as far as they are to be waited
    /// for, passes signals on to them, and ends them ahead of the end of a lease that is not
    /// renewed.
    pub(super) async fn until_the_end(mut self) -> Result<ChildExit, Failure> {
        loop {
            self.send_lease();
            match self.event().await {
                Event::Report(Ok(Report::Started(pid))) => self.pid = pid,
                Event::Report(Ok(Report::Refused(errno))) => {
                    return Err(Child::refusal(self.argv, errno));
                }
                Event::Report(Ok(Report::Stopped(signal))) => self.stopped(signal),
                Event::Report(Ok(Report::Continued)) => self.stopped_by = None,
                Event::Report(Ok(Report::Ended(code))) => {
                    if self.command_ended(u8::try_from(code).unwrap_or(code::FAILED)) {
                        return Ok(self.leave().await);
                    }
                }
                Event::Report(Ok(Report::EndedWithLease)) => self.ended_with_lease(),
                Event::Report(Ok(Report::Empty)) => return Ok(self.ended().await),
                Event::Report(Err(_)) => return self.without_supervisor().await,
                Event::Signal(arrival) => self.signalled(arrival),
                Event::Lost(reason) => self.lost(reason),
                Event::Time => {
                    if self.look() {
                        return Ok(self.leave().await);
                    }
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        let timer = self.next_look().saturating_duration_since(Instant::now());
        let longest = LOOK.min(self.rules.lease / 4);
        let timer = timer.clamp(Duration::from_millis(1), longest);
        let holding = self.phase == MonitorState::Holding;
        let mut report = pin!(self.child.report());
        let mut lost = pin!(self.guard.lost());
        let mut timer = pin!(sleep(timer));
        poll_fn(|cx| {
            if let Poll::Ready(report) = report.as_mut().poll(cx) {
                return Poll::Ready(Event::Report(report));
            }
            if let Poll::Ready(arrival) = self.signals.poll_arrival(cx) {
                return Poll::Ready(Event::Signal(arrival));
            }
            if holding {
                if let Poll::Ready(reason) = lost.as_mut().poll(cx) {
                    return Poll::Ready(Event::Lost(reason));
                }
            }
            timer.as_mut().poll(cx).map(|()| Event::Time)
        })
        .await
    }

    /// Sends the end of the lease to the supervisor, after each renewal.
    fn send_lease(&mut self) {
        if self.phase != MonitorState::Holding || self.rules.on_lost == OnLost::Ignore {
            return;
        }
        let remaining = self.guard.remaining();
        if remaining.is_zero() {
            // The loss itself is handled next.
            return;
        }
        let lease_end = Instant::now() + remaining;
        // The clock of leases is another one, and may seem to go on a little differently.
        let tolerance = self.rules.lease / 8;
        let has_changed = |sent| lease_end > sent + tolerance || lease_end + tolerance < sent;
        if self.lease_sent.is_none_or(has_changed) {
            self.lease_sent = Some(lease_end);
            self.child.hold_for(remaining);
        }
    }

    /// The supervisor has heard of no renewal in time and has ended the command.
    fn ended_with_lease(&mut self) {
        if self.phase == MonitorState::Holding {
            self.phase = MonitorState::Killed;
            let name = self.guard.name();
            stderr::print_error(&format!(
                "lock `{name}`: this process was stopped or held up for too long to renew it in \
                 time; the command was ended"
            ));
        }
    }

    /// When the next thing is to be done that no event announces.
    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let of_phase = match self.phase {
            MonitorState::Holding => {
                let safe = self.guard.remaining();
                let safe = now + safe.saturating_sub(self.rules.margin());
                let limit = self.rules.limit.map_or(safe, |(limit, _)| limit);
                safe.min(limit)
            }
            MonitorState::Ending { kill_at } => kill_at,
            MonitorState::Killed | MonitorState::Regardless => now + LOOK,
        };
        [self.leftovers_end, self.remark_at]
            .into_iter()
            .flatten()
            .fold(of_phase, Instant::min)
    }

    /// The command has ended. Returns true if nothing else is waited for.
    fn command_ended(&mut self, code: u8) -> bool {
        self.code = Some(code);
        self.stopped_by = None;
        self.remark_at = None;
        match (self.phase, self.rules.leftovers) {
            (MonitorState::Ending { .. } | MonitorState::Killed, _) => {}
            (MonitorState::Holding, _) if self.asked_to_end => self.expect_end_of_leftovers(),
            (_, Leftovers::End) => {
                self.child.signal(Signal::SIGTERM);
                self.child.signal(Signal::SIGCONT);
                self.expect_end_of_leftovers();
            }
            (MonitorState::Holding, Leftovers::Wait) => {}
            // Without the lock there is nothing that they are waited for.
            (MonitorState::Holding, Leftovers::Leave) | (MonitorState::Regardless, _) => {
                return true;
            }
        }
        if self.phase == MonitorState::Holding {
            self.remark_at = Some(Instant::now() + REMARK);
        }
        false
    }

    fn expect_end_of_leftovers(&mut self) {
        self.leftovers_end = Some(Instant::now() + self.rules.grace);
    }

    fn signalled(
        &mut self,
        Arrival {
            signal,
            from_terminal,
        }: Arrival,
    ) {
        match signal {
            _ if STOPPING.contains(&signal) => {
                if from_terminal && self.stopped_by.is_none() {
                    // The command has got it as well, and may restore the terminal first.
                    self.stop_asked = Some(Instant::now());
                } else {
                    self.suspend();
                }
            }
            Signal::SIGCONT => self.resume(),
            _ if ENDING.contains(&signal) => {
                self.asked_to_end = true;
                let is_over = self.code.is_some();
                if !from_terminal {
                    self.child.signal(signal);
                } else if is_over {
                    // The remaining processes do not react to the terminal.
                    self.child.signal(Signal::SIGTERM);
                }
                if is_over && self.phase == MonitorState::Holding && self.leftovers_end.is_none() {
                    self.expect_end_of_leftovers();
                }
            }
            _ if from_terminal => {}
            other => self.child.signal_command(other),
        }
    }

    /// The command was stopped.
    fn stopped(&mut self, signal: i32) {
        self.stopped_by = Some(signal);
        let asked = self.stop_asked.take();
        if asked.is_some_and(|asked| asked.elapsed() < STOP_LIMIT) {
            self.suspend();
        } else if !self.has_told_stop {
            self.remark_at = Some(Instant::now() + REMARK);
        }
    }

    /// Stops whatever the command has started, and this process, until it is continued.
    fn suspend(&mut self) {
        self.stop_asked = None;
        // From this the supervisor also knows that no renewal is to be expected.
        self.child.signal(Signal::SIGSTOP);
        self.lease_sent = None;
        // Returns when this process is continued. The state of the lock is checked next.
        let _ = raise(Signal::SIGSTOP);
    }

    /// Handles that this process was continued.
    fn resume(&mut self) {
        self.stop_asked = None;
        // A command that was stopped for longer than the lease is not let go on.
        let regardless =
            self.phase == MonitorState::Regardless || self.rules.on_lost == OnLost::Ignore;
        if regardless || self.guard.is_valid() {
            self.child.signal(Signal::SIGCONT);
        }
    }

    fn lost(&mut self, reason: LossReason) {
        match self.rules.limit {
            Some((limit, length)) if reason == LossReason::MaxHold || limit <= Instant::now() => {
                self.limit_reached(length);
            }
            _ => self.act(&format!("lost: {reason}"), GRACE),
        }
    }

    fn limit_reached(&mut self, length: Duration) {
        let why = format!("the maximum hold of {length:.1?} was reached (--max-hold)");
        self.act(&why, GRACE);
    }

    /// The time has come for something, or for nothing. Returns true if nothing is waited for any
    /// more.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.child.continue_supervisor();
        if is_due(self.remark_at) {
            self.remark_at = None;
            self.remark();
        }
        match self.phase {
            MonitorState::Holding => {
                let limit = self.rules.limit.filter(|(limit, _)| *limit <= now);
                let left = self.guard.remaining();
                if let Some((_, length)) = limit {
                    self.limit_reached(length);
                } else if self.rules.on_lost != OnLost::Ignore
                    && left <= self.rules.margin()
                    // If no time is left, the loss itself is reported next, with its reason.
                    && !left.is_zero()
                {
                    let why = format!("it could not be renewed and ends in {left:.1?}");
                    // Gone by the end of the lease, with something to spare for getting there.
                    self.act(&why, left - left / 4);
                }
            }
            MonitorState::Ending { kill_at } if kill_at <= now => {
                self.child.signal(Signal::SIGKILL);
                self.phase = MonitorState::Killed;
            }
            _ => {}
        }
        if is_due(self.leftovers_end) {
            self.leftovers_end = None;
            if self.rules.leftovers == Leftovers::Leave {
                return true;
            }
            self.child.signal(Signal::SIGKILL);
        }
        false
    }

    /// Says why nothing seems to happen.
    fn remark(&mut self) {
        let name = self.guard.name();
        if self.code.is_some() {
            let processes = match self.child.count() {
                0 => "processes".to_owned(),
                1 => "1 process".to_owned(),
                count => format!("{count} processes"),
            };
            let then = match self.leftovers_end {
                Some(_) => format!("for at most {:.1?}", self.rules.grace),
                None => "and renewing the lock (see --leftovers)".to_owned(),
            };
            self.voice.note(&format!(
                "lock `{name}`: the command has ended; waiting for {processes} that it has \
                 left running, {then}"
            ));
        } else if let Some(signal) = self.stopped_by {
            self.has_told_stop = true;
            let signal = Signal::try_from(signal).map_or("a signal", Signal::as_str);
            let pid = self.pid;
            self.voice.note(&format!(
                "lock `{name}`: the command (process {pid}) was stopped by {signal}; the lock is \
                 renewed until it goes on and ends"
            ));
        }
    }

    fn act(&mut self, why: &str, grace: Duration) {
        let name = self.guard.name();
        let what = match self.rules.on_lost {
            OnLost::Ignore => {
                self.phase = MonitorState::Regardless;
                "the command runs on without it"
            }
            OnLost::Kill => {
                self.phase = MonitorState::Killed;
                self.child.signal(Signal::SIGKILL);
                "killing the command"
            }
            OnLost::Term => {
                let kill_at = Instant::now() + grace;
                self.phase = MonitorState::Ending { kill_at };
                self.child.signal(Signal::SIGTERM);
                // A process that is stopped ends only when it goes on.
                self.child.signal(Signal::SIGCONT);
                // Also if this process is stopped meanwhile.
                self.child.kill_after(grace);
                "ending the command"
            }
        };
        stderr::print_error(&format!("lock `{name}`: {why}; {what}"));
    }

    /// Processes that the command has left running are left alone.
    async fn leave(self) -> ChildExit {
        let (code, phase) = (self.code, self.phase);
        let guard = self.guard;
        self.child.leave();
        ChildExit {
            code: code.unwrap_or(code::FAILED),
            lost: is_lost(guard, phase).await,
        }
    }

    async fn ended(self) -> ChildExit {
        ChildExit {
            code: self.code.unwrap_or(code::FAILED),
            lost: is_lost(self.guard, self.phase).await,
        }
    }

    /// The supervisor was killed: which processes run is not known any more.
    async fn without_supervisor(self) -> Result<ChildExit, Failure> {
        let command = (self.pid > 0 && self.code.is_none()).then_some(self.pid);
        self.child.kill_orphans(command).await;
        Err(Failure::new(
            code::SYSTEM,
            "the supervisor of the command was killed, so the command was killed as well",
        ))
    }
}

async fn is_lost(guard: &LockGuard, phase: MonitorState) -> bool {
    if phase != MonitorState::Holding {
        return true;
    }
    if guard.is_valid() {
        return false;
    }
    // Both at once.
    let reason = guard.lost().await;
    let name = guard.name();
    stderr::print_error(&format!(
        "lock `{name}`: lost: {reason}; the command has ended"
    ));
    true
}
