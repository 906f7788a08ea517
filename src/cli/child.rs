//! The command that runs under the lock, and its supervisor.

use super::exec::cannot_run;
use super::failure::Failure;
use super::process_tree::{self, Strangers};
use super::startup;
use super::supervisor::{self, FRAME, Order, Report};
use core::time::Duration;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid};
use rustix::net::SendFlags;
use rustix::process::{WaitOptions, WaitStatus, wait, waitpid};
use std::ffi::OsString;
use std::io;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// The interval in which killed processes are checked.
const POLL: Duration = Duration::from_millis(20);

/// A command that was started, and whatever it has started.
#[derive(Debug)]
pub(super) struct Child {
    link: UnixStream,
    supervisor: Pid,
    /// Processes that this process had started before, when it was another program.
    strangers: Strangers,
    /// The beginning of a report.
    partial: Vec<u8>,
}

impl Child {
    /// Starts `argv` with these additions to the environment. `margin` is how long it may take to
    /// end after SIGTERM when this process is killed.
    pub(super) fn spawn(
        argv: &[OsString],
        environment: &[(&str, String)],
        margin: Duration,
    ) -> Result<Self, Failure> {
        let strangers = Strangers::observe();
        // Should the supervisor be killed, its children come here.
        supervisor::adopt_orphans();
        let started = supervisor::start(argv, environment, startup::inherited(), margin);
        let (link, pid) = started.map_err(|error| cannot_run(argv, &error))?;
        let link = link
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(link))
            .map_err(|error| Failure::system("cannot talk to the supervisor", &error))?;
        Ok(Self {
            link,
            supervisor: pid,
            strangers,
            partial: Vec::with_capacity(FRAME),
        })
    }

    /// The next report; an error if the supervisor has ended without a last one. May be dropped
    /// and called again.
    pub(super) async fn report(&mut self) -> io::Result<Report> {
        loop {
            if let Ok(frame) = <[u8; FRAME]>::try_from(self.partial.as_slice()) {
                self.partial.clear();
                return Report::decode(frame).ok_or(io::ErrorKind::InvalidData.into());
            }
            self.link.readable().await?;
            let mut bytes = [0; FRAME];
            let missing = FRAME - self.partial.len();
            match self.link.try_read(&mut bytes[..missing]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.partial.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a signal to the command and whatever it has started.
    pub(super) fn signal(&self, signal: Signal) {
        self.order(Order::SignalAll(signal as i32));
    }

    /// Sends a signal to the command alone.
    pub(super) fn signal_command(&self, signal: Signal) {
        self.order(Order::SignalCommand(signal as i32));
    }

    /// The lock is certain for so long. If nothing else is heard until then, as happens if this
    /// process is stopped, the supervisor ends the command and whatever it has started.
    pub(super) fn hold_for(&self, remaining: Duration) {
        let millis = remaining.as_millis().try_into().unwrap_or(i32::MAX);
        self.order(Order::HoldFor(millis));
    }

    /// Kills the command and whatever it has started when this time has passed.
    pub(super) fn kill_after(&self, grace: Duration) {
        let millis = grace.as_millis().try_into().unwrap_or(i32::MAX);
        self.order(Order::KillAfter(millis));
    }

    /// Leaves alone what the command has left running.
    pub(super) fn leave(self) {
        self.order(Order::Leave);
    }

    fn order(&self, order: Order) {
        // Not by the runtime, which does not know at first that the connection can be written to.
        // It has room for hundreds of orders, and a supervisor that is gone is noticed by the
        // missing report.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = rustix::net::send(&self.link, &order.encode(), flags);
        self.continue_supervisor();
    }

    /// Continues a supervisor that was stopped: a stopped supervisor neither reads orders nor
    /// reports the end of the command.
    pub(super) fn continue_supervisor(&self) {
        if status_of(self.supervisor).is_ok_and(|status| status.is_some_and(WaitStatus::stopped)) {
            let _ = kill(self.supervisor, Signal::SIGCONT);
        }
    }

    /// The number of running processes that the command has started, where the system reports them.
    pub(super) fn count(&self) -> usize {
        process_tree::descendants(self.supervisor, &Strangers::default()).len()
    }

    /// Kills all processes that the command has started after its supervisor was killed, and waits
    /// until they have ended. If the system does not list them, this is `command` alone, if it has
    /// become a child of this process.
    pub(super) async fn kill_orphans(self, command: Option<i32>) {
        // Its children come here when it has ended, which is after the end of the connection.
        while matches!(status_of(self.supervisor), Ok(None)) {
            sleep(POLL).await;
        }
        loop {
            let command = command.filter(|pid| matches!(status_of(Pid::from_raw(*pid)), Ok(None)));
            process_tree::signal_all(getpid(), &self.strangers, command, Signal::SIGKILL as i32);
            reap();
            let left = process_tree::descendants(getpid(), &self.strangers);
            if left.is_empty() && command.is_none() {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// The failure of a command that could not be started, for the error number that the supervisor
    /// has reported.
    pub(super) fn refusal(argv: &[OsString], errno: i32) -> Failure {
        cannot_run(argv, &io::Error::from_raw_os_error(errno))
    }
}

/// Collects the exit codes of all children that have ended, for as long as the runtime lives.
///
/// Orphans become children of this process if it is process 1, or if a supervisor was killed. If
/// SIGCHLD is ignored, which is inherited, the system removes ended children unasked; the handler
/// prevents that too.
pub(super) fn reap_in_background() -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_unblock()?;
    tokio::spawn(async move {
        reap();
        while ended.recv().await.is_some() {
            reap();
        }
    });
    Ok(())
}

/// The change of a child's state since the last call, if any; an error if it is no
/// child of this process, or no longer.
fn status_of(child: Pid) -> rustix::io::Result<Option<WaitStatus>> {
    let child = rustix::process::Pid::from_raw(child.as_raw());
    let status = waitpid(child, WaitOptions::NOHANG | WaitOptions::UNTRACED)?;
    Ok(status.map(|(_, status)| status))
}

fn reap() {
    while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
}
