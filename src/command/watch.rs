//! The time during which the command runs and the lock must be held.

use super::args::OnLost;
use super::child::{self, Child};
use super::failure::Failure;
use super::output;
use super::signals::Signals;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use memlatch::{LockGuard, LossReason};
use nix::sys::signal::{Signal, raise};
use std::io;
use std::process::ExitStatus;
use tokio::time::{Instant, sleep};

/// How long a command that was asked to end may take for it.
const GRACE: Duration = Duration::from_secs(2);

/// How long before the end of a lease that is not being renewed the command is asked to end, at
/// most.
const WARNING: Duration = Duration::from_secs(2);

/// The clock of leases goes on while the machine sleeps, timers do not. So a timer is never set
/// further ahead than this.
const LOOK: Duration = Duration::from_secs(1);

/// How often is looked whether the last process of a group is gone.
const POLL: Duration = Duration::from_millis(20);

/// How a command ended.
pub(super) struct Ended {
    /// Its exit code, as shells have it.
    pub(super) code: u8,
    /// The lock was not held to its end.
    pub(super) lost: bool,
}

/// A command that runs, the lock it runs under, and what is to be done when the one is lost
/// before the other ends.
pub(super) struct Watch<'a> {
    pub(super) child: Child,
    pub(super) guard: &'a LockGuard,
    pub(super) signals: &'a mut Signals,
    pub(super) lease: Duration,
    pub(super) on_lost: OnLost,
}

#[derive(Clone, Copy)]
enum Phase {
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
    Ended(io::Result<ExitStatus>),
    Signal(Signal),
    Lost(LossReason),
    Time,
}

impl Watch<'_> {
    /// Waits for the end of the command, passes signals on to it, and ends it ahead of the end of
    /// a lease that is not renewed.
    pub(super) async fn until_the_end(mut self) -> Result<Ended, Failure> {
        if self.child.is_grouped() {
            // Ctrl-Z stops us and not the command, which must not run while nobody renews.
            let added = self.signals.add(Signal::SIGTSTP);
            added.map_err(|error| Failure::system("cannot receive signals", &error))?;
        }
        let mut phase = Phase::Holding;
        loop {
            phase = match self.event(phase).await {
                Event::Ended(status) => return self.ended(status, phase).await,
                Event::Signal(signal) => {
                    self.signalled(signal, phase);
                    phase
                }
                Event::Lost(reason) => self.lost(reason),
                Event::Time => self.look(phase),
            };
        }
    }

    async fn event(&mut self, phase: Phase) -> Event {
        let timer = match phase {
            Phase::Holding => {
                let safe = self.guard.remaining().saturating_sub(self.margin());
                safe.clamp(Duration::from_millis(1), LOOK)
            }
            Phase::Ending { kill_at } => kill_at.saturating_duration_since(Instant::now()),
            Phase::Killed | Phase::Regardless => LOOK,
        };
        let holding = matches!(phase, Phase::Holding);
        let mut ended = pin!(self.child.ended());
        let mut lost = pin!(self.guard.lost());
        let mut timer = pin!(sleep(timer));
        poll_fn(|cx| {
            if let Poll::Ready(status) = ended.as_mut().poll(cx) {
                return Poll::Ready(Event::Ended(status));
            }
            if let Poll::Ready(signal) = self.signals.poll_next(cx) {
                return Poll::Ready(Event::Signal(signal));
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

    /// How long before the end of the lease the command is ended.
    fn margin(&self) -> Duration {
        let warning = (self.lease / 4).min(WARNING);
        match self.on_lost {
            OnLost::Term => warning,
            // SIGKILL needs less time than a polite end, which leaves more for a last renewal.
            OnLost::Kill => warning / 4,
            OnLost::Ignore => Duration::ZERO,
        }
    }

    fn signalled(&self, signal: Signal, phase: Phase) {
        match signal {
            Signal::SIGTSTP => {
                self.child.signal(Signal::SIGSTOP);
                // Returns when somebody lets us go on. What became of the lock is seen next.
                let _ = raise(Signal::SIGSTOP);
            }
            Signal::SIGCONT => {
                // A command that was stopped for longer than the lease is not let go on.
                let regardless =
                    matches!(phase, Phase::Regardless) || matches!(self.on_lost, OnLost::Ignore);
                if regardless || self.guard.is_valid() {
                    self.child.forward(signal);
                }
            }
            other => self.child.forward(other),
        }
    }

    fn lost(&self, reason: LossReason) -> Phase {
        self.act(&format!("lost: {reason}"), GRACE)
    }

    /// The time has come for something, or for nothing.
    fn look(&self, phase: Phase) -> Phase {
        match phase {
            Phase::Holding => {
                let left = self.guard.remaining();
                if self.on_lost == OnLost::Ignore || left > self.margin() || left.is_zero() {
                    // When nothing is left, the loss itself is about to be told, with its reason.
                    return phase;
                }
                let why = format!("it could not be renewed and ends in {left:.1?}");
                // Gone by the end of the lease, with something to spare for getting there.
                self.act(&why, left - left / 4)
            }
            Phase::Ending { kill_at } if Instant::now() >= kill_at => {
                self.child.signal(Signal::SIGKILL);
                Phase::Killed
            }
            other => other,
        }
    }

    fn act(&self, why: &str, grace: Duration) -> Phase {
        let name = self.guard.name();
        let (what, phase) = match self.on_lost {
            OnLost::Ignore => ("the command runs on without it", Phase::Regardless),
            OnLost::Kill => ("killing the command", Phase::Killed),
            OnLost::Term => {
                let kill_at = Instant::now() + grace;
                ("ending the command", Phase::Ending { kill_at })
            }
        };
        match phase {
            Phase::Killed => self.child.signal(Signal::SIGKILL),
            Phase::Ending { .. } => {
                self.child.signal(Signal::SIGTERM);
                // A process that is stopped ends only when it goes on.
                self.child.signal(Signal::SIGCONT);
            }
            Phase::Holding | Phase::Regardless => {}
        }
        output::complain(&format!("lock `{name}`: {why}; {what}"));
        phase
    }

    async fn ended(self, status: io::Result<ExitStatus>, phase: Phase) -> Result<Ended, Failure> {
        if let Phase::Ending { kill_at } = phase {
            // The command is gone; what it started may need its time as well.
            while self.child.has_company() && Instant::now() < kill_at {
                sleep(POLL).await;
            }
            self.child.signal(Signal::SIGKILL);
        }
        let status = status.map_err(|error| {
            self.child.signal(Signal::SIGKILL);
            Failure::system("cannot wait for the command", &error)
        })?;
        let mut lost = !matches!(phase, Phase::Holding);
        if !lost && !self.guard.is_valid() {
            // Both at once.
            let reason = self.guard.lost().await;
            let name = self.guard.name();
            output::complain(&format!(
                "lock `{name}`: lost: {reason}; the command has ended"
            ));
            lost = true;
        }
        Ok(Ended {
            code: child::exit_code(status),
            lost,
        })
    }
}
