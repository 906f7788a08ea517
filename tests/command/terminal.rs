//! Pseudo-terminals: a program as a shell on a terminal would start it.

use crate::tool::Bench;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// A terminal with a session of its own on it.
pub(crate) struct Terminal {
    master: OwnedFd,
    session: Child,
    shown: Vec<u8>,
}

impl Terminal {
    /// Runs a script of sh(1) as the leader of a session on a new terminal, with the program as
    /// `$M`. All three streams are the terminal.
    pub(crate) fn run(bench: &Bench, script: &str) -> Self {
        Self::start(bench, &["sh", "-c", script])
    }

    /// Runs any program so.
    pub(crate) fn start(bench: &Bench, words: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal of ours");
        unlockpt(&master).expect("a terminal to use");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(&name, flags, Mode::empty()).expect("the other end");
        let stream = || Stdio::from(slave.try_clone().expect("a descriptor"));
        // setsid(1) of util-linux makes its standard input the controlling terminal.
        let mut command = bench.environment(Command::new("setsid"));
        let session = command
            .args(["--ctty", "--wait"])
            .args(words)
            .env("M", env!("CARGO_BIN_EXE_memlatch"))
            .env("TERM", "xterm")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("setsid(1) of util-linux");
        Self {
            master,
            session,
            shown: Vec::new(),
        }
    }

    /// Types something.
    pub(crate) fn type_keys(&self, keys: &str) {
        let written = rustix::io::write(&self.master, keys.as_bytes());
        assert_eq!(written.ok(), Some(keys.len()));
    }

    /// The text that is shown, up to now.
    pub(crate) fn shown(&mut self) -> String {
        self.read(Duration::ZERO);
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    fn read(&mut self, limit: Duration) {
        let mut limit = limit;
        loop {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let wait = Timespec::try_from(limit).expect("a short time");
            if poll(&mut fds, Some(&wait)).unwrap_or(0) == 0 {
                return;
            }
            let mut bytes = [0; 4096];
            match rustix::io::read(&self.master, &mut bytes) {
                Ok(count) if count > 0 => self.shown.extend_from_slice(&bytes[..count]),
                // The other end is not open any more.
                _ => return,
            }
            limit = Duration::ZERO;
        }
    }

    /// Waits for the end of the session's leader.
    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + crate::tool::LIMIT;
        loop {
            self.read(Duration::from_millis(5));
            if let Some(status) = self.session.try_wait().expect("our child") {
                return (status, self.shown());
            }
            assert!(Instant::now() < end, "no end; it shows {}", self.shown());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Closing the master hangs up, which ends the processes that are left on the terminal.
        if let Ok(None) = self.session.try_wait() {
            let _ = self.session.kill();
            let _ = self.session.wait();
        }
    }
}
