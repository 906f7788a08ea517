//! Bounds on what a peer may send.

/// Limits on what a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line, in bytes, its line end included.
    pub line: usize,
    /// The longest value, in bytes.
    pub value: usize,
}

impl Limits {
    /// Enough for the replies to lock requests, with room to spare: ours are below 200 bytes.
    pub const LOCK: Self = Self {
        line: 2048,
        value: 4096,
    };

    /// The limits of memcached itself by default: 2 KiB of line (retrievals may be longer, see
    /// [`RequestDecoder`](super::RequestDecoder)) and items of 1 MiB.
    pub const SERVER: Self = Self {
        line: 2048,
        value: 1024 * 1024,
    };
}
