//! The files that the processes of the demo share.

use core::sync::atomic::{AtomicU32, Ordering};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// Digits of the counter, which has the same length at all times so that one write replaces it.
const DIGITS: usize = 20;

/// A folder with a counter and a log. Removed when dropped.
#[derive(Debug)]
pub(super) struct SharedCounter {
    folder: PathBuf,
}

impl SharedCounter {
    pub(super) fn create() -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!(
            "memlatch-demo-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        ));
        // Fails if the path exists already.
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let arena = Self { folder };
        arena.reset()?;
        Ok(arena)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets the counter to 0.
    pub(super) fn reset(&self) -> io::Result<()> {
        let file = File::create(self.folder.join("counter"))?;
        write_counter(&file, 0)
    }

    pub(super) fn counter(&self) -> io::Result<u64> {
        CounterHandle::open(&self.folder)?.read()
    }

    /// All holdings in the order in which they were written down, as tokens and workers.
    pub(super) fn log(&self) -> io::Result<Vec<(u64, u32)>> {
        let text = fs::read_to_string(self.folder.join("log"))?;
        text.lines()
            .map(|line| {
                let (token, worker) = line.split_once(' ')?;
                Some((token.parse().ok()?, worker.parse().ok()?))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| io::Error::other("the log of the holdings is garbled"))
    }
}

impl Drop for SharedCounter {
    fn drop(&mut self) {
        // It is among temporary files, which are cleared at some time.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A worker's view of the arena.
#[derive(Debug)]
pub(super) struct CounterHandle {
    counter: File,
    log: File,
}

impl CounterHandle {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let open = |name: &str, options: &mut OpenOptions| options.open(folder.join(name));
        Ok(Self {
            counter: open("counter", OpenOptions::new().read(true).write(true))?,
            log: open("log", OpenOptions::new().append(true).create(true))?,
        })
    }

    pub(super) fn read(&self) -> io::Result<u64> {
        let mut digits = [0; DIGITS];
        self.counter.read_exact_at(&mut digits, 0)?;
        let text = core::str::from_utf8(&digits).ok();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| io::Error::other("the counter is garbled"))
    }

    pub(super) fn write(&self, value: u64) -> io::Result<()> {
        write_counter(&self.counter, value)
    }

    /// Notes that `worker` holds the lock with this token. In one write, so that lines of several
    /// processes stand one after the other.
    pub(super) fn note(&mut self, token: u64, worker: u32) -> io::Result<()> {
        self.log.write_all(format!("{token} {worker}\n").as_bytes())
    }
}

fn write_counter(file: &File, value: u64) -> io::Result<()> {
    file.write_all_at(format!("{value:0DIGITS$}").as_bytes(), 0)
}
