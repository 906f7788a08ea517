//! A file that takes writes of the latest holder only: its first line has the fencing token it was
//! written with. Comparing and writing are one step because a lock file is locked over both, on
//! this machine; the distributed lock says whose turn it is among all machines.
//!
//! Starts a server of its own, or uses the one that is named:
//!
//! ```text
//! cargo run --example fencing_file --features server -- memcached://127.0.0.1:11211
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

#[path = "fencing/paused.rs"]
mod paused;

use memlatch::fencing::{self, StaleToken};
use rustix::fs::{FlockOperation, flock};
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug)]
enum Refused {
    Stale(StaleToken),
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale(stale) => stale.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for Refused {}

impl From<StaleToken> for Refused {
    fn from(stale: StaleToken) -> Self {
        Self::Stale(stale)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A file whose first line is `token N`, with `.lock` and `.new` beside it.
struct FencedFile {
    path: PathBuf,
}

impl FencedFile {
    /// The token in the first line, and what is below it.
    fn read(&self) -> io::Result<(u64, String)> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((0, String::new()));
            }
            text => text?,
        };
        // A foreign first line must not pass for "no token yet".
        let parts = text.split_once('\n').and_then(|(first, rest)| {
            let token = first.strip_prefix("token ")?.parse().ok()?;
            Some((token, rest.to_owned()))
        });
        parts.ok_or_else(|| io::Error::other("the first line is not `token N`"))
    }

    fn write(&self, token: u64, text: &str) -> Result<(), Refused> {
        // Not the file itself is locked, because that is replaced below. `std::fs::File::lock`
        // does the same from Rust 1.89 on.
        let lock = File::create(self.path.with_extension("lock"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;

        let (highest, _) = self.read()?;
        fencing::check(token, highest)?;

        // Token and text change at once, or not at all.
        let path = self.path.with_extension("new");
        let mut new = File::create(&path)?;
        write!(new, "token {token}\n{text}")?;
        new.sync_all()?;
        fs::rename(&path, &self.path)?;
        // The name is on the disk when the folder is.
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        // Closing unlocks. The lock file stays: a process that removed it could lock another file
        // than the next one does.
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = std::env::temp_dir().join(format!("memlatch-fencing-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let report = FencedFile {
        path: folder.join("report"),
    };

    let late = paused::holder("examples/fencing_file", |who, token| {
        let outcome = report.write(token, &format!("written by {who}\n"));
        match &outcome {
            Ok(()) => println!("    the file takes the write of {who}"),
            Err(refused) => println!("    the file refuses the write of {who}: {refused}"),
        }
        outcome
    })?;

    assert!(
        matches!(late, Err(Refused::Stale(_))),
        "the late writer must be refused: {late:?}"
    );
    let (token, text) = report.read()?;
    print!("token {token}\n{text}");
    assert_eq!(text, "written by the second worker\n");
    fs::remove_dir_all(&folder)?;
    Ok(())
}
