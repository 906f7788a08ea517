//! The command that runs under the lock, and its supervisor.

use super::failure::{Failure, code};
use super::output;
use super::startup::{self, Inherited};
use super::supervisor::{self, FRAME, Order, Report, Strangers};
use core::sync::atomic::AtomicBool;
use core::time::Duration;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, execvp, getpid, getppid};
use rustix::io::FdFlags;
use rustix::process::{WaitOptions, WaitStatus, wait, waitpid};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// First word of a command line that turns this program into another one, see
/// [`become_command`].
pub(super) const HELPER: &str = "__child";

/// How often is looked whether killed processes are gone.
const POLL: Duration = Duration::from_millis(20);

/// A command that was started, and whatever it has started.
#[derive(Debug)]
pub(super) struct Child {
    link: UnixStream,
    supervisor: Pid,
    /// What this process had started before, when it was another program.
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

    /// Leaves alone what the command has left running.
    pub(super) fn leave(self) {
        self.order(Order::Leave);
    }

    fn order(&self, order: Order) {
        // The connection has room for thousands, and a supervisor that is gone is noticed by the
        // missing report.
        let _ = self.link.try_write(&order.encode());
        self.continue_supervisor();
    }

    /// Lets a supervisor that was stopped go on: stopped, it neither reads orders nor tells of the
    /// end of the command.
    pub(super) fn continue_supervisor(&self) {
        if status_of(self.supervisor).is_ok_and(|status| status.is_some_and(WaitStatus::stopped)) {
            let _ = kill(self.supervisor, Signal::SIGCONT);
        }
    }

    /// How many processes run that the command has started, where the system tells.
    pub(super) fn count(&self) -> usize {
        supervisor::descendants(self.supervisor, &Strangers::default()).len()
    }

    /// Kills all that the command has started after its supervisor was killed, and waits until
    /// they are gone. Where the system does not tell them, this is `command` alone, if it has
    /// become a child of this process.
    pub(super) async fn kill_orphans(self, command: Option<i32>) {
        loop {
            let command = command.filter(|pid| matches!(status_of(Pid::from_raw(*pid)), Ok(None)));
            supervisor::signal_all(getpid(), &self.strangers, command, Signal::SIGKILL as i32);
            reap();
            let left = supervisor::descendants(getpid(), &self.strangers);
            if left.is_empty() && command.is_none() {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// Why no command could be started, for the error number that the supervisor has reported.
    pub(super) fn refusal(argv: &[OsString], errno: i32) -> Failure {
        cannot_run(argv, &io::Error::from_raw_os_error(errno))
    }
}

/// Asks for the exit codes of all children that have ended, for as long as the runtime lives.
///
/// Orphans become children of this process if it is process 1, or if a supervisor was killed. The
/// handler also makes an end of being told by the system that children are to vanish unasked, which
/// is inherited if SIGCHLD is ignored.
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

/// How a child has changed its state since this was last asked, if it has; an error if it is no
/// child of this process, or no longer.
fn status_of(child: Pid) -> rustix::io::Result<Option<WaitStatus>> {
    let child = rustix::process::Pid::from_raw(child.as_raw());
    let status = waitpid(child, WaitOptions::NOHANG | WaitOptions::UNTRACED)?;
    Ok(status.map(|(_, status)| status))
}

fn reap() {
    while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
}

/// This program as the helper that becomes the command. The detour exists because only a process
/// itself can set its signals, and ask to be ended together with its parent.
pub(super) fn helper(argv: &[OsString], inherited: Inherited) -> Command {
    let mut command = supervisor::own_program();
    command
        .arg(HELPER)
        .arg(getpid().to_string())
        .arg(inherited.encode())
        .args(argv);
    command
}

/// Lets this process become the command, with signals and streams as `memlatch` has inherited
/// them, and have it ended by SIGTERM should its parent die. Returns only if it cannot.
pub(super) fn become_command(mut words: impl Iterator<Item = OsString>) -> u8 {
    let mut word = || words.next().and_then(|word| word.into_string().ok());
    let parent = word().and_then(|word| word.parse().ok());
    let inherited = word().and_then(|word| Inherited::decode(&word));
    let argv: Vec<OsString> = words.collect();
    let (Some(parent), Some(inherited)) = (parent, inherited) else {
        output::print_error("this subcommand is for internal use");
        return code::USAGE;
    };
    if !tie_to(parent, Signal::SIGTERM) {
        return code::of_signal(Signal::SIGTERM as i32);
    }
    let error = restore(inherited).map_or_else(|error| error, |()| execute(&argv));
    cannot_run(&argv, &error).report()
}

/// Restores streams and signals as they were when `memlatch` was started.
fn restore(inherited: Inherited) -> io::Result<()> {
    for (n, stream) in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
    .into_iter()
    .enumerate()
    {
        if inherited.closed_streams >> n & 1 == 1 {
            rustix::io::fcntl_setfd(stream, FdFlags::CLOEXEC)?;
        }
    }
    if !inherited.sigpipe_ignored {
        // Rust's runtime ignores it. What is handled gets its default when another program is
        // executed.
        signal_hook::flag::register(Signal::SIGPIPE as i32, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(inherited.blocked_signals().thread_set_mask()?)
}

/// Replaces this process by another program. Returns only if that fails.
fn execute(argv: &[OsString]) -> io::Error {
    let words = argv
        .iter()
        .map(|word| CString::new(word.clone().into_vec()));
    match words.collect::<Result<Vec<_>, _>>() {
        Ok(words) => match words.first() {
            Some(program) => match execvp(program, &words) {
                Err(errno) => errno.into(),
            },
            None => io::ErrorKind::NotFound.into(),
        },
        Err(error) => error.into(),
    }
}

/// Has this process sent `signal` when its parent dies. Says whether the parent is there still.
///
/// Where the system cannot do that, this process is on its own when its parent is killed.
pub(super) fn tie_to(parent: i32, signal: Signal) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = nix::sys::prctl::set_pdeathsig(signal);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = signal;
    // One that died before the request was made is not told of.
    getppid() == Pid::from_raw(parent)
}

fn cannot_run(argv: &[OsString], error: &io::Error) -> Failure {
    if startup::is_shortage(error) {
        return Failure::system("cannot start a process for the command", error);
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => code::NOT_FOUND,
        _ => code::CANNOT_EXECUTE,
    };
    let why = error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| Errno::from_raw(number).desc().to_owned(),
    );
    let program = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    Failure::new(code, format!("{}: {why}", program.to_string_lossy()))
}
