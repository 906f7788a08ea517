//! Error lines, and the refusals of the commands for administrators.

use core::fmt;

/// An error line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// Whom the server blames.
    pub source: ErrorSource,
    /// Its words, without the word that names the kind. After `ERROR` and `SERVER_ERROR` some
    /// start with a colon.
    pub text: &'a [u8],
}

/// Whom an error line blames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorSource {
    /// `ERROR`: the command is unknown, or the connection is refused
    /// ([`is_too_many_connections`](ErrorReply::is_too_many_connections)).
    Command,
    /// `CLIENT_ERROR`: the request is malformed or not allowed.
    Client,
    /// `SERVER_ERROR`: the server cannot execute the request, mostly because memory is short.
    Server,
}

impl ErrorSource {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "ERROR",
            Self::Client => "CLIENT_ERROR",
            Self::Server => "SERVER_ERROR",
        }
    }
}

impl ErrorReply<'_> {
    /// Returns `true` if the text stands close to the word, as in `ERROR: shutdown not enabled`.
    pub(super) fn is_glued(&self) -> bool {
        self.source != ErrorSource::Client && (self.text == b":" || self.text.starts_with(b": "))
    }

    /// Returns `true` if the server had no memory for the item.
    ///
    /// The wording differs by command and release: `out of memory storing object`,
    /// `Out of memory allocating new item`, `out of memory`.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        const START: &[u8] = b"out of memory";
        self.source == ErrorSource::Server
            && self
                .text
                .get(..START.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(START))
    }

    /// Returns `true` if the server has no connection to spare and is about to close this one.
    #[must_use]
    pub fn is_too_many_connections(&self) -> bool {
        self.source == ErrorSource::Command && self.text == b"Too many open connections"
    }

    /// Returns `true` if the server executes nothing before it receives a user and a password
    /// ([`Request::Authenticate`](super::Request::Authenticate)). Of requests that arrive together,
    /// it answers one only.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.source == ErrorSource::Client && self.text == b"unauthenticated"
    }

    /// Returns `true` if the server did not accept a user and a password.
    #[must_use]
    pub fn is_authentication_failure(&self) -> bool {
        self.source == ErrorSource::Client && self.text == b"authentication failure"
    }
}

impl fmt::Display for ErrorReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source.as_str())?;
        if self.text.is_empty() {
            return Ok(());
        }
        let space = if self.is_glued() { "" } else { " " };
        write!(f, "{space}{}", self.text.escape_ascii())
    }
}

/// An answer of the commands for administrators that says no, in words of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminError<'a> {
    /// The word that the line starts with.
    pub reason: AdminErrorReason,
    /// The server's explanation after it.
    pub text: &'a [u8],
}

/// A reason why the server does not do what was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminErrorReason {
    /// `BUSY`: the crawler or the page mover is at work (`lru_crawler`, `slabs reassign`).
    Busy,
    /// `BADCLASS`: there is no such slab class (`lru_crawler`, `slabs reassign`).
    BadClass,
    /// `NOTSTARTED`: there is nothing to crawl (`lru_crawler`).
    NotStarted,
    /// `NOSPARE`: the slab class has no page to give (`slabs reassign`).
    NoSpare,
    /// `SAME`: source and destination are one (`slabs reassign`).
    Same,
    /// `MEMLIMIT_TOO_SMALL` (`cache_memlimit`).
    MemlimitTooSmall,
    /// `MEMLIMIT_ADJUST_FAILED` (`cache_memlimit`).
    MemlimitAdjustFailed,
    /// `WATCHER_TOO_MANY`: there are twenty already (`watch`).
    WatcherTooMany,
    /// `WATCHER_FAILED` (`watch`).
    WatcherFailed,
    /// `Error`, in lower case: the certificates were not read, or there is no TLS
    /// (`refresh_certs`).
    NoCertificates,
}

impl AdminErrorReason {
    pub(super) const ALL: [Self; 10] = [
        Self::Busy,
        Self::BadClass,
        Self::NotStarted,
        Self::NoSpare,
        Self::Same,
        Self::MemlimitTooSmall,
        Self::MemlimitAdjustFailed,
        Self::WatcherTooMany,
        Self::WatcherFailed,
        Self::NoCertificates,
    ];

    /// The word that the line starts with.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "BUSY",
            Self::BadClass => "BADCLASS",
            Self::NotStarted => "NOTSTARTED",
            Self::NoSpare => "NOSPARE",
            Self::Same => "SAME",
            Self::MemlimitTooSmall => "MEMLIMIT_TOO_SMALL",
            Self::MemlimitAdjustFailed => "MEMLIMIT_ADJUST_FAILED",
            Self::WatcherTooMany => "WATCHER_TOO_MANY",
            Self::WatcherFailed => "WATCHER_FAILED",
            Self::NoCertificates => "Error",
        }
    }
}

impl fmt::Display for AdminError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())?;
        if self.text.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.text.escape_ascii())
    }
}
