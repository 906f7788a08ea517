//! Signals that arrive.

use super::startup;
use core::future::poll_fn;
use core::task::{Context, Poll};
use nix::sys::signal::Signal;
use std::io;

/// Signals that ask a program to end.
pub(super) const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// The ending signals, and all others that are forwarded to a command under a lock.
pub(super) const FORWARDED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Signals by which a terminal stops a job.
pub(super) const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// A signal that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) signal: Signal,
    /// The terminal has sent it, so all processes of the group have got it.
    pub(super) from_terminal: bool,
}

/// Signals that are received rather than left to what the system does with them.
#[derive(Debug)]
pub(super) struct Signals {
    source: Source,
}

impl Signals {
    /// Receives `kinds`, for the rest of the process's life. Threads that run already are not
    /// covered.
    pub(super) fn listen(kinds: &[Signal]) -> io::Result<Self> {
        let mut signals = Self {
            source: Source::new()?,
        };
        for kind in kinds {
            signals.add(*kind)?;
        }
        Ok(signals)
    }

    /// Receives one more.
    ///
    /// A signal that was ignored or blocked when the process began stays so, here and in whatever
    /// is started: that is what `nohup`, and shells for what they put into the background, rely
    /// on.
    pub(super) fn add(&mut self, kind: Signal) -> io::Result<()> {
        if startup::ignores(kind) || startup::inherited().blocked_signals().contains(kind) {
            return Ok(());
        }
        self.source.add(kind)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        self.source.poll(cx).map(|arrival| arrival.signal)
    }

    /// The next one, with its origin.
    pub(super) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        self.source.poll(cx)
    }

    /// The next one that asks to end; others are passed over.
    pub(super) async fn ending(&mut self) -> Signal {
        loop {
            let kind = poll_fn(|cx| self.poll_next(cx)).await;
            if ENDING.contains(&kind) {
                return kind;
            }
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
use with_origin::Source;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use without_origin::Source;

/// A descriptor to read signals from, which also names their senders.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod with_origin {
    use super::Arrival;
    use core::task::{Context, Poll, ready};
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    use std::io;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Source {
        set: SigSet,
        fd: AsyncFd<SignalFd>,
    }

    impl Source {
        pub(super) fn new() -> io::Result<Self> {
            let set = SigSet::empty();
            let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
            let fd = SignalFd::with_flags(&set, flags)?;
            // Its replacement is newer than the oldest tokio that is supported.
            #[allow(deprecated)]
            let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
            Ok(Self { set, fd })
        }

        pub(super) fn add(&mut self, kind: Signal) -> io::Result<()> {
            self.set.add(kind);
            self.fd.get_ref().set_mask(&self.set)?;
            // A blocked signal waits for the descriptor to be read.
            Ok(self.set.thread_block()?)
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
            // An error means that the runtime is ending.
            while let Ok(mut ready) = ready!(self.fd.poll_read_ready(cx)) {
                if let Ok(Some(info)) = ready.get_inner().read_signal() {
                    let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                    if let Ok(signal) = Signal::try_from(number) {
                        return Poll::Ready(Arrival {
                            signal,
                            // Positive codes are the kernel's own.
                            from_terminal: info.ssi_code > 0,
                        });
                    }
                } else {
                    ready.clear_ready();
                }
            }
            Poll::Pending
        }
    }
}

/// Handlers, which do not receive the sender of a signal.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod without_origin {
    use super::Arrival;
    use core::task::{Context, Poll};
    use nix::sys::signal::Signal;
    use std::io;
    use tokio::signal::unix::{self, SignalKind, signal};

    #[derive(Debug)]
    pub(super) struct Source {
        streams: Vec<(Signal, unix::Signal)>,
    }

    impl Source {
        pub(super) fn new() -> io::Result<Self> {
            let streams = Vec::new();
            Ok(Self { streams })
        }

        pub(super) fn add(&mut self, kind: Signal) -> io::Result<()> {
            let stream = signal(SignalKind::from_raw(kind as i32))?;
            self.streams.push((kind, stream));
            Ok(())
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
            for (signal, stream) in &mut self.streams {
                if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                    return Poll::Ready(Arrival {
                        signal: *signal,
                        from_terminal: is_a_key(*signal) && in_foreground(),
                    });
                }
            }
            Poll::Pending
        }
    }

    /// A terminal sends these when a key is pressed or its size changes.
    fn is_a_key(signal: Signal) -> bool {
        matches!(
            signal,
            Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGWINCH
        )
    }

    fn in_foreground() -> bool {
        let terminal = std::fs::File::open("/dev/tty");
        terminal.is_ok_and(|terminal| {
            rustix::termios::tcgetpgrp(&terminal).ok() == Some(rustix::process::getpgrp())
        })
    }
}
