//! One run of a server process, and what that server can do.

use super::escape::nibble;
use core::fmt;

/// 64 random bits that name one creation of the sentinel, and with it one server instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InstanceWord(u64);

impl InstanceWord {
    /// An instance word of these bits, which must be random.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Reads the 16 lower-case hex digits that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        let digits: &[u8; 16] = word.try_into().ok()?;
        let mut bits = 0;
        for digit in digits {
            bits = bits << 4 | u64::from(nibble(*digit)?);
        }
        Some(Self(bits))
    }
}

impl fmt::Display for InstanceWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One run of a server process, from its start to its end.
///
/// CAS uniques start anew with each instance, so one that was granted by a different instance may
/// belong to another client's record. No request that names a CAS unique goes to any instance other
/// than the one it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerInstance {
    /// The server's process id.
    pub pid: u64,
    /// The second at which it started, in its own time base (`time - uptime` of `stats`).
    pub started: u64,
    /// The instance word of its sentinel. In a container every server has the process id 1, and a
    /// machine without a clock of its own starts it in the same second each time.
    pub word: InstanceWord,
}

impl ServerInstance {
    /// Returns `true` if process id and start are the same: the same run, unless the two only look
    /// alike.
    #[must_use]
    pub fn is_same_process(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl fmt::Display for ServerInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pid {} started at {}, instance {}",
            self.pid, self.started, self.word
        )
    }
}

/// Which of memcached's text protocols the lock speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `mg`, `md` and `ma`, stable since memcached 1.6.10.
    Meta,
    /// `add`, `gets`, `cas` and `incr`, on any server.
    Classic,
}

/// The capabilities of a server, as found by asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The protocol to speak.
    pub protocol: Protocol,
    /// `true` if a request may name the CAS unique that an item gets (flag `E`, memcached 1.6.27
    /// and later).
    pub explicit_cas: bool,
}
