//! Runs the program, bounded in time, and looks at what it leaves.

use crate::memcached::{self, RealServer};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

/// Longer than anything takes on a machine that is busy with other things as well.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The longest time that still counts as "at once".
pub(crate) const AT_ONCE: Duration = Duration::from_secs(4);

/// The newest server there is, for tests that take their time.
pub(crate) fn newest() -> Option<RealServer> {
    let newest = memcached::required().pop()?;
    Some(newest.start(&[]))
}

/// Takes away what the environment of the tests may say to the program.
fn forget_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MEMLATCH_") {
            command.env_remove(name);
        }
    }
}

/// Says that a test is not run here. CI has all that is needed.
pub(crate) fn not_run(why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "CI must run this test: {why}"
    );
    #[allow(clippy::print_stderr)]
    {
        eprintln!("NOT RUN: {why}");
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < end, "it is still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether a process runs. A zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The letter that `ps` shows.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns whether processes started from here ignore this signal from their beginning, as they do
/// when the tests run in the background of a script.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> (signal as i32 - 1) & 1 == 1)
}

/// A folder of one test, and the program run in it.
pub(crate) struct Bench {
    folder: PathBuf,
    server: String,
}

impl Bench {
    pub(crate) fn new(server: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "command-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&folder).expect("a folder");
        Self {
            folder,
            server: server.to_owned(),
        }
    }

    /// A name that no other test uses.
    pub(crate) fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn make(&self, name: &str) {
        File::create(self.path(name)).expect("a file");
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Waits for a file that the command under the lock writes.
    pub(crate) fn await_file(&self, name: &str) {
        until(name, || self.has(name));
    }

    /// Waits for a file with a process id in it.
    pub(crate) fn await_pid(&self, name: &str) -> i32 {
        let mut pid = None;
        until(name, || {
            let text = fs::read_to_string(self.path(name)).unwrap_or_default();
            // Without the end of the line, the number may not be whole.
            pid = text.strip_suffix('\n').and_then(|text| text.parse().ok());
            pid.is_some()
        });
        pid.expect("a process id")
    }

    /// The program, in the folder, with the server and without what the environment of the tests
    /// may say.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.environment(Command::new(env!("CARGO_BIN_EXE_memlatch")));
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Any program with this folder and environment.
    pub(crate) fn environment(&self, mut command: Command) -> Command {
        forget_variables(&mut command);
        command
            .current_dir(&self.folder)
            .env_remove("SHELL")
            .env("MEMLATCH_SERVER", &self.server)
            .env("MEMLATCH_RESTART_GUARD", "off");
        command
    }

    /// A script of sh(1) with the program as `$M`, to be run in the folder.
    pub(crate) fn script(&self, script: &str) -> Command {
        let mut command = self.environment(Command::new("sh"));
        command
            .args(["-c", script])
            .env("M", env!("CARGO_BIN_EXE_memlatch"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, words: &[&str]) -> Running {
        self.spawn(&mut self.command(words))
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> Running {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let number = RUN.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            self.path(&format!("out-{number}")),
            self.path(&format!("err-{number}")),
        );
        let began = Instant::now();
        // Files and not pipes: a process that outlives the program cannot keep the test waiting.
        let child = command
            .stdout(File::create(&out).expect("a file"))
            .stderr(File::create(&err).expect("a file"))
            .spawn()
            .expect("the program can be started");
        Running {
            child,
            began,
            out,
            err,
        }
    }

    /// The program on a terminal of its own, with what is typed there as a pipe. Nothing where
    /// script(1) is missing.
    pub(crate) fn on_terminal(&self, words: &str) -> Option<Child> {
        let terminal = self.terminal_command(words)?.stdin(Stdio::piped()).spawn();
        terminal.ok()
    }

    /// The command that runs the program on a terminal of its own, on which nothing is typed.
    /// `None` where script(1) is missing.
    pub(crate) fn terminal_command(&self, words: &str) -> Option<Command> {
        let version = Command::new("script").arg("--version").output();
        if version.is_err() {
            return None;
        }
        let line = format!("exec '{}' {words}", env!("CARGO_BIN_EXE_memlatch"));
        let mut terminal = Command::new("script");
        forget_variables(&mut terminal);
        terminal
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(&self.folder)
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env("MEMLATCH_SERVER", &self.server)
            .env("MEMLATCH_RESTART_GUARD", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Some(terminal)
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Done {
        self.start(words).finish()
    }

    /// A lock that is held by a running command until [`let_go`](Self::let_go).
    pub(crate) fn hold(&self, name: &str) -> Running {
        let script = "touch held; until [ -e let-go ]; do sleep 0.05; done";
        let words = ["run", "--label", "the holder", name, "sh", "-c", script];
        let running = self.start(&words);
        self.await_file("held");
        running
    }

    pub(crate) fn let_go(&self) {
        self.make("let-go");
    }

    /// Checks that the lock is free.
    pub(crate) fn assert_free(&self, name: &str) {
        let done = self.run(&["run", "-n", name, "true"]);
        assert_eq!(done.code(), 0, "{name} is not free: {}", done.err);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

pub(crate) struct Running {
    child: Child,
    began: Instant,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the program runs");
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).expect("the file")).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).expect("the file")).into_owned()
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Done {
        let began = Instant::now();
        let mut status = None;
        while status.is_none() {
            assert!(
                began.elapsed() < LIMIT,
                "it does not end; it said: {}{}",
                self.out(),
                self.err()
            );
            thread::sleep(Duration::from_millis(2));
            status = self.child.try_wait().expect("our child");
        }
        let (out, err) = (self.out(), self.err());
        assert!(!err.contains("panicked"), "{err}");
        Done {
            status: status.expect("it has ended"),
            out,
            err,
            took: began.elapsed(),
            lived: self.began.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Politely, so that what it started ends too.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            thread::sleep(Duration::from_millis(50));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
    /// The time waited for its end.
    pub(crate) took: Duration,
    /// The time that it ran.
    pub(crate) lived: Duration,
}

impl Done {
    /// The exit code.
    pub(crate) fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("no exit code: {self:?}"))
    }

    /// Checks for an exit code and one line that says why.
    pub(crate) fn assert_refused(&self, code: i32, says: &str) {
        assert_eq!(self.code(), code, "{self:?}");
        assert!(self.err.starts_with("memlatch: "), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.contains(says), "`{says}` is missing: {self:?}");
        assert!(self.err.len() < 1500, "{self:?}");
    }
}
