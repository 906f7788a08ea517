//! Failures of a subcommand: one line of text and an exit code.

use super::stderr;
use core::fmt::Display;
use memlatch::{ErrorKind, LockError};
use std::io;

/// Exit codes. Those from 64 on are of `sysexits.h` or of the shell, but for [`LOST`](code::LOST).
pub(super) mod code {
    pub(crate) const SUCCESS: u8 = 0;
    pub(crate) const FAILED: u8 = 1;
    /// A server is no place for locks.
    pub(crate) const UNSAFE: u8 = 2;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const SYSTEM: u8 = 71;
    pub(crate) const INPUT_OUTPUT: u8 = 74;
    /// The lock was lost while the command ran.
    pub(crate) const LOST: u8 = 120;
    pub(crate) const CANNOT_EXECUTE: u8 = 126;
    pub(crate) const NOT_FOUND: u8 = 127;

    /// The code of a process that a signal has ended.
    pub(crate) fn of_signal(number: i32) -> u8 {
        u8::try_from(128 + number).unwrap_or(255)
    }
}

#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    /// Nothing where the code says it all.
    text: Option<String>,
}

impl Failure {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: Some(text.into()),
        }
    }

    pub(super) fn silent(code: u8) -> Self {
        Self { code, text: None }
    }

    pub(super) fn usage(text: impl Display) -> Self {
        Self::new(code::USAGE, text.to_string())
    }

    pub(super) fn system(what: &str, error: &io::Error) -> Self {
        Self::new(code::SYSTEM, format!("{what}: {error}"))
    }

    /// The code to end with.
    pub(super) const fn code(&self) -> u8 {
        self.code
    }

    /// Says it, and returns the code to end with.
    pub(super) fn report(self) -> u8 {
        if let Some(text) = self.text {
            stderr::print_error(&text);
        }
        self.code
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::InvalidInput => Self::new(code::USAGE, text),
            ErrorKind::Authentication => Self::new(
                code::UNAVAILABLE,
                format!("{text}; --auth-file names a file with them"),
            ),
            ErrorKind::RestartGuard => {
                // In whole seconds, and one for the time until then.
                let wait = error.retry_after().unwrap_or_default().as_secs() + 2;
                Self::new(
                    code::UNAVAILABLE,
                    format!("{text}; -w {wait} waits for that"),
                )
            }
            _ => Self::new(code::UNAVAILABLE, text),
        }
    }
}
