//! The process between `memlatch` and the command.
//!
//! It starts the command and is its parent. On Linux it is a subreaper: whatever the command starts
//! becomes its child when the parent in between ends. So it knows when the last of them is gone,
//! can signal all of them, and ends them when `memlatch` itself is killed, which it notices by the
//! end of the connection between the two, or stopped, which it notices by a lease of which it hears
//! no renewal.
//!
//! It shares process group, terminal and streams with `memlatch` and the command, blocks all
//! signals, and takes no decision while `memlatch` runs.

use super::exec;
use super::failure::code;
use super::process_tree::{Strangers, signal_all};
use super::startup::Inherited;
use super::stderr;
use core::time::Duration;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

/// First word of a command line that turns this program into the supervisor.
pub(super) const SUPERVISOR: &str = "__supervisor";

/// The interval in which killed processes are looked for again: one may have been started
/// meanwhile.
const KILL_INTERVAL: Duration = Duration::from_millis(20);

/// A message from the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// The command has this process id.
    Started(i32),
    /// No process could be started, with this error number.
    Refused(i32),
    /// This signal has stopped the command.
    Stopped(i32),
    /// The command has been continued.
    Continued,
    /// The command has ended with this exit code, as shells have it.
    Ended(i32),
    /// The command was ended, because no renewal was heard of in time.
    EndedWithLease,
    /// No process is left that the command has started. Nothing follows.
    Empty,
}

/// An order to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Send a signal to the command and to all processes that it has started. SIGKILL is repeated
    /// until none is left.
    SignalAll(i32),
    /// Send a signal to the command alone.
    SignalCommand(i32),
    /// The lock is certain for so many milliseconds. Unless another order of this kind comes before,
    /// the command and all processes that it has started are ended by then.
    HoldFor(i32),
    /// Send SIGKILL to all of them in so many milliseconds.
    KillAfter(i32),
    /// End, and leave alone what runs.
    Leave,
}

/// Length of an encoded report or order.
pub(super) const FRAME: usize = 5;

impl Report {
    fn encode(self) -> [u8; FRAME] {
        match self {
            Self::Started(pid) => frame(b'p', pid),
            Self::Refused(errno) => frame(b'r', errno),
            Self::Stopped(signal) => frame(b's', signal),
            Self::Continued => frame(b'c', 0),
            Self::Ended(code) => frame(b'x', code),
            Self::EndedWithLease => frame(b'l', 0),
            Self::Empty => frame(b'e', 0),
        }
    }

    pub(super) fn decode(frame: [u8; FRAME]) -> Option<Self> {
        let (tag, value) = unframed(frame);
        Some(match tag {
            b'p' => Self::Started(value),
            b'r' => Self::Refused(value),
            b's' => Self::Stopped(value),
            b'c' => Self::Continued,
            b'x' => Self::Ended(value),
            b'l' => Self::EndedWithLease,
            b'e' => Self::Empty,
            _ => return None,
        })
    }
}

impl Order {
    pub(super) fn encode(self) -> [u8; FRAME] {
        match self {
            Self::SignalAll(signal) => frame(b'a', signal),
            Self::SignalCommand(signal) => frame(b'o', signal),
            Self::HoldFor(millis) => frame(b'h', millis),
            Self::KillAfter(millis) => frame(b'k', millis),
            Self::Leave => frame(b'l', 0),
        }
    }

    fn decode(frame: [u8; FRAME]) -> Option<Self> {
        let (tag, value) = unframed(frame);
        Some(match tag {
            b'a' => Self::SignalAll(value),
            b'o' => Self::SignalCommand(value),
            b'h' => Self::HoldFor(value),
            b'k' => Self::KillAfter(value),
            b'l' => Self::Leave,
            _ => return None,
        })
    }
}

fn frame(tag: u8, value: i32) -> [u8; FRAME] {
    let [a, b, c, d] = value.to_le_bytes();
    [tag, a, b, c, d]
}

fn unframed([tag, a, b, c, d]: [u8; FRAME]) -> (u8, i32) {
    (tag, i32::from_le_bytes([a, b, c, d]))
}

/// Starts a supervisor that runs `argv` with these additions to the environment. `margin` is how
/// long the command may take to end after SIGTERM when `memlatch` is killed or stopped.
pub(super) fn start(
    argv: &[OsString],
    environment: &[(&str, String)],
    inherited: Inherited,
    margin: Duration,
) -> io::Result<(UnixStream, Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    send_descriptor(&ours, rustix::stdio::stdin())?;
    let mut supervisor = exec::own_program();
    supervisor
        .arg(SUPERVISOR)
        .arg(margin.as_millis().to_string())
        .arg(inherited.encode())
        .args(argv)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(OwnedFd::from(theirs));
    let process = supervisor.spawn()?;
    let pid = i32::try_from(process.id()).map_err(io::Error::other)?;
    Ok((ours, Pid::from_raw(pid)))
}

fn send_descriptor(socket: &UnixStream, fd: impl AsFd) -> io::Result<()> {
    let mut space = [const { core::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [const { core::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let fds = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Is the supervisor, with what [`start`] has put on its command line. Returns when it has ended.
pub(super) fn supervise(mut words: impl Iterator<Item = OsString>) -> u8 {
    let mut word = || words.next().and_then(|word| word.into_string().ok());
    let margin = word().and_then(|word| word.parse().ok());
    let inherited = word().and_then(|word| Inherited::decode(&word));
    let link = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let (Some(margin), Some(inherited), Ok(link)) = (margin, inherited, link) else {
        stderr::print_error("this subcommand is for internal use");
        return code::USAGE;
    };
    let mut link = UnixStream::from(link);
    let argv: Vec<OsString> = words.collect();
    match Supervisor::new(&link, &argv, inherited, Duration::from_millis(margin)) {
        Ok(supervisor) => supervisor.run(link),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let _ = link.write_all(&Report::Refused(errno).encode());
        }
    }
    code::SUCCESS
}

struct Supervisor {
    /// Readable when a child has changed its state.
    children: UnixStream,
    /// The command, until it has ended.
    command: Option<i32>,
    margin: Duration,
    /// The end of the lease, if it is to be watched.
    lease_end: Option<Instant>,
    /// All that run are to be killed, from this instant on.
    kill_at: Option<Instant>,
}

impl Supervisor {
    fn new(
        link: &UnixStream,
        argv: &[OsString],
        inherited: Inherited,
        margin: Duration,
    ) -> io::Result<Self> {
        // Signals to the group are meant for the command. SIGCHLD is the one to be handled.
        let mut blocked = SigSet::all();
        blocked.remove(Signal::SIGCHLD);
        blocked.thread_block()?;
        adopt_orphans();
        let (children, notify) = UnixStream::pair()?;
        children.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(Signal::SIGCHLD as i32, notify)?;
        let stdin = receive_descriptor(link)?;
        let command = exec::helper(argv, inherited)
            .stdin(Stdio::from(stdin))
            .spawn()?;
        Ok(Self {
            children,
            command: i32::try_from(command.id()).ok(),
            margin,
            lease_end: None,
            kill_at: None,
        })
    }

    fn run(mut self, mut link: UnixStream) {
        let pid = self.command.unwrap_or(0);
        let mut connected = link.write_all(&Report::Started(pid).encode()).is_ok();
        loop {
            let mut tell = |report: Report| {
                // The end of the connection is noticed when reading.
                let _ = link.write_all(&report.encode());
            };
            if !self.reap(&mut tell) {
                tell(Report::Empty);
                return;
            }
            if let Some(lease_end) = self.take_unrenewed_lease() {
                tell(Report::EndedWithLease);
                self.end_all(lease_end);
            }
            self.wait(&link, connected);
            // All of them, before the lease is judged: this process may have been stopped.
            while connected {
                match next_order(&mut link) {
                    Ok(Some(Order::Leave)) => return,
                    Ok(Some(order)) => self.obey(order),
                    Ok(None) => break,
                    Err(_) => {
                        connected = false;
                        self.lease_end = None;
                        self.end_all(Instant::now() + self.margin);
                    }
                }
            }
        }
    }

    /// When the command is ended unless a renewal is heard of. While it runs, `memlatch` acts a
    /// little earlier.
    fn end_at(&self) -> Option<Instant> {
        self.lease_end?.checked_sub(self.margin / 4 * 3)
    }

    /// The end of the lease, if the command is to be ended for it now.
    fn take_unrenewed_lease(&mut self) -> Option<Instant> {
        let is_due = self.end_at().is_some_and(|at| at <= Instant::now());
        if is_due { self.lease_end.take() } else { None }
    }

    /// Waits until a child changes its state, an order arrives, or it is time to end or kill.
    fn wait(&mut self, link: &UnixStream, connected: bool) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            signal_descendants(self.command, Signal::SIGKILL as i32);
            self.kill_at = Some(now + KILL_INTERVAL);
        }
        let next = [self.kill_at, self.end_at()];
        let next = next.into_iter().flatten().min();
        let left = next.map(|at| at.saturating_duration_since(now));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [
            PollFd::new(&self.children, PollFlags::IN),
            PollFd::new(link, PollFlags::IN),
        ];
        let fds = if connected {
            &mut fds[..]
        } else {
            &mut fds[..1]
        };
        // An interruption is as good as an event.
        let _ = poll(fds, left.as_ref());
        let mut bytes = [0; 64];
        while matches!((&self.children).read(&mut bytes), Ok(n) if n > 0) {}
    }

    /// Asks for all children that have changed their state. Returns false when there is none left.
    fn reap(&mut self, tell: &mut impl FnMut(Report)) -> bool {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
        loop {
            match wait(options) {
                Ok(Some((pid, status))) => {
                    if self.command == Some(pid.as_raw_nonzero().get()) {
                        self.tell_command(status, tell);
                    }
                }
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn tell_command(&mut self, status: WaitStatus, tell: &mut impl FnMut(Report)) {
        if let Some(signal) = status.stopping_signal() {
            tell(Report::Stopped(signal));
        } else if status.continued() {
            tell(Report::Continued);
        } else {
            self.command = None;
            tell(Report::Ended(exit_code(status)));
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::SignalAll(signal) => {
                // All stop, and no renewal is to be expected.
                if signal == Signal::SIGSTOP as i32 {
                    self.lease_end = None;
                }
                if signal == Signal::SIGKILL as i32 {
                    self.kill_at = Some(Instant::now());
                } else {
                    signal_descendants(self.command, signal);
                }
            }
            Order::SignalCommand(signal) => {
                if let (Some(pid), Ok(signal)) = (self.command, Signal::try_from(signal)) {
                    let _ = kill(Pid::from_raw(pid), signal);
                }
            }
            Order::HoldFor(millis) => self.lease_end = Some(in_millis(millis)),
            Order::KillAfter(millis) => {
                self.lease_end = None;
                self.kill_at.get_or_insert(in_millis(millis));
            }
            Order::Leave => {}
        }
    }

    /// Ends all processes until `kill_at`: the lock is not renewed any more.
    fn end_all(&mut self, kill_at: Instant) {
        signal_descendants(self.command, Signal::SIGTERM as i32);
        // A process that is stopped ends only when it goes on.
        signal_descendants(self.command, Signal::SIGCONT as i32);
        self.kill_at.get_or_insert(kill_at);
    }
}

fn in_millis(millis: i32) -> Instant {
    Instant::now() + Duration::from_millis(millis.try_into().unwrap_or(0))
}

/// An order if there is one; an error if there will be none any more.
fn next_order(link: &mut UnixStream) -> io::Result<Option<Order>> {
    let mut fds = [PollFd::new(link, PollFlags::IN)];
    let none = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if poll(&mut fds, Some(&none)).unwrap_or(0) == 0 {
        return Ok(None);
    }
    let mut frame = [0; FRAME];
    link.read_exact(&mut frame)?;
    Ok(Order::decode(frame))
}

/// The exit code that stands for `status`, as shells have it.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => i32::from(code::of_signal(signal)),
        (None, None) => i32::from(code::FAILED),
    }
}

/// Makes this process the parent of descendants that lose their own, where the system can do that.
pub(super) fn adopt_orphans() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Sends a signal to the command and to all that it has started, from the supervisor.
fn signal_descendants(command: Option<i32>, signal: i32) {
    signal_all(Pid::this(), &Strangers::default(), command, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_and_orders_survive_round_trip() {
        for report in [
            Report::Started(4_000_000),
            Report::Refused(11),
            Report::Stopped(19),
            Report::Continued,
            Report::Ended(255),
            Report::EndedWithLease,
            Report::Empty,
        ] {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        for order in [
            Order::SignalAll(9),
            Order::SignalCommand(10),
            Order::HoldFor(10_000),
            Order::KillAfter(2_000),
            Order::Leave,
        ] {
            assert_eq!(Order::decode(order.encode()), Some(order));
        }
        assert_eq!(Report::decode([0; FRAME]), None);
        assert_eq!(Order::decode([0; FRAME]), None);
    }
}
