//! What is written where: answers to stdout, everything else to stderr, a line each.

use super::failure::{Failure, code};
use nix::sys::signal::Signal;
use std::io::{self, IsTerminal, Write};

/// How much is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice {
    pub(super) quiet: bool,
    pub(super) detailed: bool,
}

impl Voice {
    /// Something that the user may want to know although nothing is wrong.
    pub(super) fn note(self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// Something for users who asked for details.
    pub(super) fn detail(self, text: &str) {
        if self.detailed {
            complain(text);
        }
    }
}

/// One line on stderr.
pub(super) fn complain(text: &str) {
    let line = format!("memlatch: {}\n", one_line(text));
    // There is nowhere to say that nothing can be said.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Text on stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        // The reader has what it wanted, as in `memlatch … | head -1`.
        io::ErrorKind::BrokenPipe => Failure::silent(code::of_signal(Signal::SIGPIPE as i32)),
        _ => Failure::new(
            code::INPUT_OUTPUT,
            format!("cannot write to standard output: {error}"),
        ),
    })
}

/// `text` with its control characters written out, so that neither names nor records of others
/// can break lines or steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Colours, where they are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// Colours for stdout if that is a terminal and <https://no-color.org> is not asked for.
    pub(super) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self(!refused && !dumb && io::stdout().is_terminal())
    }

    fn wrap(self, style: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line("a\r\nb\x1b[31m"), "a\\r\\nb\\u{1b}[31m");
        assert_eq!(one_line("Rüdiger's \"lock\""), "Rüdiger's \"lock\"");
    }
}
