//! Messages, which go to stderr, a line each.

use super::text::one_line;
use std::io::{self, Write};

/// Says how much is written to stderr.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verbosity {
    pub(super) quiet: bool,
    pub(super) detailed: bool,
}

impl Verbosity {
    /// Something that the user may want to know although nothing is wrong.
    pub(super) fn note(self, text: &str) {
        if !self.quiet {
            print_error(text);
        }
    }

    /// A line for users who asked for details.
    pub(super) fn detail(self, text: &str) {
        if self.detailed {
            print_error(text);
        }
    }
}

/// One line on stderr.
pub(super) fn print_error(text: &str) {
    let line = format!("memlatch: {}\n", one_line(text));
    // There is nowhere to say that nothing can be said.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// A question, on stderr as it stands.
pub(super) fn ask(text: &str) {
    let mut err = io::stderr().lock();
    // Without a question the answer is no.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
