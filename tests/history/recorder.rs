//! The writer of a process's own history.

use super::event::{Event, Instant, What};
use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The present.
pub fn now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("since boot");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).expect("below a second")
}

/// So many nanoseconds.
pub fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// An instant, and the deadline that a guard has at it. `remaining` is asked between two looks at
/// the clock, and anew where those are far apart because the process was stopped in between.
pub fn deadline(remaining: impl Fn() -> Duration) -> (Instant, Instant) {
    let mut tries = 0;
    loop {
        let before = now();
        let left = nanos(remaining());
        tries += 1;
        if now() - before < 1_000_000 || tries == 100 {
            // The instant is the earlier one, so the deadline is not too late.
            return (before, before + left);
        }
    }
}

/// The file of one process.
#[derive(Debug)]
pub struct Recorder {
    process: u32,
    file: File,
}

impl Recorder {
    pub fn file(folder: &Path, process: u32) -> PathBuf {
        folder.join(format!("{process}.history"))
    }

    /// # Panics
    /// When the file cannot be made.
    pub fn create(folder: &Path, process: u32) -> Self {
        let path = Self::file(folder, process);
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        Self {
            process,
            file: file.expect("a file for the history"),
        }
    }

    /// Writes down an event of this process.
    pub fn write(&self, at: Instant, key: u32, holding: u64, what: What) {
        self.write_about(self.process, at, key, holding, what);
    }

    /// Writes down an event of another process.
    pub fn write_about(&self, process: u32, at: Instant, key: u32, holding: u64, what: What) {
        let event = Event {
            at,
            process,
            key,
            holding,
            what,
        };
        // One call for a whole line: a process that is killed has written it or not, and nearly
        // never a part of it.
        let line = format!("{event}\n");
        let written = (&self.file).write(line.as_bytes()).expect("a history");
        assert_eq!(written, line.len(), "the disk is full");
    }
}
