//! The state that the process inherited from its parent and that is changed before `main`.
//!
//! Rust's runtime ignores SIGPIPE and opens `/dev/null` for each of the standard streams that is
//! closed. The command must get both as the parent of `memlatch` left them.

use super::failure::{Failure, code};
use nix::sys::signal::{SigSet, Signal};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Descriptors that every subcommand needs beside those that are open at its start: the runtime
/// (8), a connection, a file, and the pipes for a child process.
const DESCRIPTORS: usize = 20;

/// Runs before `main` and before Rust's runtime. Later, the state that the parent left cannot be
/// seen: SIGPIPE is ignored in either case, and `/dev/null` in place of a closed stream looks like
/// a `/dev/null` from the parent. The unsafe code for it is that of `ctor`: a function pointer in
/// the section that the loader runs. Of the standard library this uses files and memory only, which
/// need no runtime.
#[ctor::ctor]
fn record() {
    let _ = INHERITED.set(Inherited::observe());
}

/// Standard streams and signals, as the parent of this process left them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Bit N is set if descriptor N was closed, for 0 to 2.
    pub(super) closed_streams: u8,
    /// SIGPIPE was ignored.
    pub(super) sigpipe_ignored: bool,
    /// Bit N − 1 is set if signal N was blocked.
    blocked: u64,
}

impl Inherited {
    fn observe() -> Self {
        let streams: [BorrowedFd<'_>; 3] = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        let closed = |fd: &BorrowedFd<'_>| rustix::io::fcntl_getfd(fd).is_err();
        let bits = streams.iter().enumerate();
        Self {
            closed_streams: bits.fold(0, |bits, (n, fd)| bits | u8::from(closed(fd)) << n),
            sigpipe_ignored: is_set(signal_bits("SigIgn:"), Signal::SIGPIPE),
            blocked: signal_bits("SigBlk:"),
        }
    }

    /// The signals that were blocked. Real-time signals are left out: `nix` has no names for them.
    pub(super) fn blocked_signals(self) -> SigSet {
        Signal::iterator()
            .filter(|signal| is_set(self.blocked, *signal))
            .collect()
    }

    /// One word for the command line of a child process.
    pub(super) fn encode(self) -> String {
        let pipe = u8::from(self.sigpipe_ignored);
        format!("{}:{pipe}:{:x}", self.closed_streams, self.blocked)
    }

    /// The reverse of [`encode`](Self::encode).
    pub(super) fn decode(word: &str) -> Option<Self> {
        let mut parts = word.split(':');
        let inherited = Self {
            closed_streams: parts.next()?.parse().ok()?,
            sigpipe_ignored: parts.next()? == "1",
            blocked: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        parts.next().is_none().then_some(inherited)
    }
}

/// The state that this process inherited.
pub(super) fn inherited() -> Inherited {
    // If the linker does not support code before `main`, the runtime's changes are visible.
    *INHERITED.get_or_init(Inherited::observe)
}

/// Returns an error if standard output was closed when the process began: `/dev/null` is open in
/// its place, and a write to it would seem to succeed.
pub(super) fn check_stdout() -> io::Result<()> {
    if inherited().closed_streams & 0b10 == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(
        nix::errno::Errno::EBADF as i32,
    ))
}

/// Returns an error if the process cannot open as many descriptors as every subcommand needs. The
/// runtime panics where it cannot open its own.
pub(super) fn check_descriptors() -> Result<(), Failure> {
    let mut opened = Vec::with_capacity(DESCRIPTORS);
    while opened.len() < DESCRIPTORS {
        match File::open("/dev/null").and_then(|file| file.try_clone().map(|copy| [file, copy])) {
            Ok(files) => opened.extend(files),
            Err(error) if is_shortage(&error) => {
                return Err(Failure::new(
                    code::SYSTEM,
                    format!(
                        "too few file descriptors: {error}; raise the limit (`ulimit -n`) by at \
                         least {}",
                        DESCRIPTORS - opened.len()
                    ),
                ));
            }
            // Without /dev/null there is nothing to count with.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Returns `true` if the system refused a descriptor, a process or memory.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM)
    )
}

/// Returns `true` if `signal` is ignored by this process now, if the system reports it.
pub(super) fn ignores(signal: Signal) -> bool {
    is_set(signal_bits("SigIgn:"), signal)
}

fn is_set(bits: u64, signal: Signal) -> bool {
    bits >> (signal as i32 - 1) & 1 == 1
}

/// A set of signals in `/proc/self/status`; empty where there is none.
fn signal_bits(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_state_survives_round_trip() {
        for inherited in [
            Inherited {
                closed_streams: 0b101,
                sigpipe_ignored: true,
                blocked: 0x4000,
            },
            Inherited {
                closed_streams: 0,
                sigpipe_ignored: false,
                blocked: u64::MAX,
            },
        ] {
            assert_eq!(Inherited::decode(&inherited.encode()), Some(inherited));
        }
        for word in ["", "1", "1:0", "1:0:x", "1:0:0:0", "300:0:0"] {
            assert_eq!(Inherited::decode(word), None, "{word}");
        }
    }
}
