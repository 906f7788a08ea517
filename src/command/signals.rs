//! Signals that arrive.

use core::future::poll_fn;
use core::task::{Context, Poll};
use nix::sys::signal::Signal;
use std::io;
use tokio::signal::unix::{self, SignalKind, signal};

/// Signals that ask a program to end.
pub(super) const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// Those and all others that a command under a lock is told of.
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

/// Signals that are received rather than left to what the system does with them.
#[derive(Debug)]
pub(super) struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    /// Receives `kinds`, for the rest of the process's life.
    pub(super) fn listen(kinds: &[Signal]) -> io::Result<Self> {
        let mut signals = Self {
            streams: Vec::with_capacity(kinds.len()),
        };
        for kind in kinds {
            signals.add(*kind)?;
        }
        Ok(signals)
    }

    /// Receives one more.
    ///
    /// A signal that was being ignored when the process began stays ignored, here and in whatever
    /// is started: that is what `nohup`, and shells for what they put into the background, rely
    /// on.
    pub(super) fn add(&mut self, kind: Signal) -> io::Result<()> {
        if ignored() >> (kind as i32 - 1) & 1 == 0 {
            let stream = signal(SignalKind::from_raw(kind as i32))?;
            self.streams.push((kind, stream));
        }
        Ok(())
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (kind, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                return Poll::Ready(*kind);
            }
        }
        Poll::Pending
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

/// The signals that are ignored, as a set of bits, where the system tells.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}
