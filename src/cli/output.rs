//! Answers, which go to stdout. Everything else goes to stderr, see [`stderr`](super::stderr).

use super::failure::{Failure, code};
use super::startup;
use nix::sys::signal::Signal;
use std::io::{self, Write};

/// Text on stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = startup::check_stdout();
    let written = written
        .and_then(|()| out.write_all(text.as_bytes()))
        .and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        // The reader has what it wanted, as in `memlatch … | head -1`.
        io::ErrorKind::BrokenPipe => Failure::silent(code::of_signal(Signal::SIGPIPE as i32)),
        _ => Failure::new(
            code::INPUT_OUTPUT,
            format!("cannot write to standard output: {error}"),
        ),
    })
}
