//! Real memcached servers for tests.
//!
//! `scripts/fetch-memcached` puts servers of several versions to
//! `target/memcached/<version>/memcached`. [`required`] lists them, and
//! [`Binary::start`] runs one on a port of its own:
//!
//! ```ignore
//! for binary in memcached::required() {
//!     let server = binary.start(&[]);
//!     let client = connect(&server.url());
//! }
//! ```
//!
//! A server ends when its [`RealServer`] is dropped, and also when the test
//! process dies in any other way, `kill -9` included: see [`Process`].
//!
//! [`Binary::start_in`] runs one with a wall clock or a process id of its own,
//! see [`Surroundings`].
//!
//! | variable | meaning |
//! |---|---|
//! | `MEMLATCH_MEMCACHED_DIR` | where `<version>/memcached` is looked for (`target/memcached`) |
//! | `MEMLATCH_MEMCACHED` | more binaries, a list of paths like `PATH` |
//! | `MEMLATCH_REQUIRE_MEMCACHED`, `CI` | with either, [`required`] fails when versions are missing |

use core::cmp::Ordering;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU32, Ordering as Atomic};
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, process, thread};

/// The versions that `scripts/fetch-memcached` is after: what Debian's three
/// suites hold. The last one moves on from time to time.
pub const EXPECTED: [&str; 3] = ["1.6.18", "1.6.38", "1.6.45"];

/// The time limit for a server's first reply.
const START_LIMIT: Duration = Duration::from_secs(5);

/// The time for which [`RealServer::command`] waits for bytes.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// The number of ports that are tried before [`Binary::start`] fails.
const PORTS_TRIED: u32 = 20;

/// An executable memcached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binary {
    /// As the server reports it: `1.6.45`.
    pub version: String,
    /// The executable, or a script that becomes it.
    pub path: PathBuf,
}

/// Every memcached there is to test against, the oldest version first.
///
/// # Panics
/// When a binary named by `MEMLATCH_MEMCACHED` does not run.
pub fn installed() -> Vec<Binary> {
    let mut found = Vec::new();
    // A folder that is not there holds no servers.
    for entry in fs::read_dir(folder()).into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path().join("memcached");
        if version.starts_with(|c: char| c.is_ascii_digit()) && path.is_file() {
            found.push(Binary { version, path });
        }
    }
    if let Some(list) = env::var_os("MEMLATCH_MEMCACHED") {
        for path in env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()) {
            let version = ask_version(&path);
            found.push(Binary { version, path });
        }
    }
    found.sort_by(|a, b| compare_versions(&a.version, &b.version));
    found
}

/// Like [`installed`], for tests that need the servers.
///
/// # Panics
/// When fewer than three versions are there and the environment (`CI` or
/// `MEMLATCH_REQUIRE_MEMCACHED`) says that this is an error. Otherwise the
/// missing versions are named on stderr.
pub fn required() -> Vec<Binary> {
    let found = installed();
    let mut versions: Vec<&str> = found.iter().map(|b| b.version.as_str()).collect();
    versions.dedup();
    if versions.len() < EXPECTED.len() {
        let missing: Vec<&str> = EXPECTED
            .into_iter()
            .filter(|version| !versions.contains(version))
            .collect();
        let message = format!(
            "memcached {} not found in {} (found: {}); run scripts/fetch-memcached",
            missing.join(", "),
            folder().display(),
            if versions.is_empty() {
                "none".to_owned()
            } else {
                versions.join(", ")
            },
        );
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        assert!(
            !is_set("CI") && !is_set("MEMLATCH_REQUIRE_MEMCACHED"),
            "{message}"
        );
        note(&message);
    }
    found
}

fn folder() -> PathBuf {
    env::var_os("MEMLATCH_MEMCACHED_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/memcached"),
        PathBuf::from,
    )
}

#[allow(clippy::print_stderr, reason = "a test has no other way to tell")]
fn note(message: &str) {
    eprintln!("{message}");
}

fn ask_version(path: &Path) -> String {
    let output = Command::new(path)
        .arg("-V")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().strip_prefix("memcached ") {
        Some(version) => version.to_owned(),
        None => panic!(
            "{} -V does not report a version of memcached: {text:?}",
            path.display()
        ),
    }
}

/// `1.6.9` comes before `1.6.18`.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |version: &str| -> Vec<u64> {
        version
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

impl Binary {
    /// Starts a server on a free port of 127.0.0.1 and waits until it answers.
    /// `args` come last, so that they win over the defaults.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn start(&self, args: &[&str]) -> RealServer {
        self.start_in(&Surroundings::default(), args)
    }

    /// Like [`start`](Self::start), in other surroundings than those of the test.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn start_in(&self, surroundings: &Surroundings, args: &[&str]) -> RealServer {
        for _ in 0..PORTS_TRIED {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut server = RealServer::new(self, Endpoint::Tcp(address), args);
            server.surroundings = surroundings.clone();
            match server.launch() {
                Ok(()) => return server,
                Err(StartError::PortTaken) => {}
                Err(StartError::Failed(why)) => panic!("memcached {}: {why}", self.version),
            }
        }
        panic!(
            "memcached {}: {PORTS_TRIED} ports tried, all were taken",
            self.version
        )
    }

    /// Starts a server on a Unix socket at `path` and waits until it answers.
    /// The socket goes away with the server.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn start_unix(&self, path: &Path, args: &[&str]) -> RealServer {
        let mut server = RealServer::new(self, Endpoint::Unix(path.to_owned()), args);
        server.launch_or_panic();
        server
    }
}

/// The differences between the surroundings of a server and those of the test.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// A namespace of process ids, in which the server is number 1 at each start. Needs root and
    /// `unshare` of util-linux: see [`can_have_process_id_1`].
    pub process_id_1: bool,
    /// The wall clock, as faketime(1) takes it: `+3600` seconds off, or `@2026-01-01 00:00:00` at
    /// each start. Other clocks are as they are. Needs Debian's `faketime`: see [`faketime`].
    pub wall_clock: Option<String>,
}

/// Returns whether servers can be started as process 1. Prints a line if not.
///
/// # Panics
/// When it is not possible, and the environment (`CI`) says that this is an error.
pub fn can_have_process_id_1() -> bool {
    let mut command = Command::new("unshare");
    command.args(PROCESS_ID_1).arg("true");
    let status = command.stderr(Stdio::null()).status();
    let possible = status.is_ok_and(|status| status.success());
    possible || missing("root, or `unshare` of util-linux")
}

/// Finds libfaketime. Prints a line if it is missing.
///
/// # Panics
/// When it is missing, and the environment (`CI`) says that this is an error.
pub fn faketime() -> Option<PathBuf> {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = libraries
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|library| library.is_file());
    if found.is_none() {
        missing("Debian's `faketime`");
    }
    found
}

/// The arguments of `unshare` for that.
pub const PROCESS_ID_1: [&str; 3] = ["--pid", "--fork", "--kill-child=SIGKILL"];

fn missing(what: &str) -> bool {
    let is_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    let message = format!("a part of this test needs {what} and is not run");
    assert!(!is_ci, "{message}");
    note(&message);
    false
}

/// A running memcached. Dropping it ends the server.
#[derive(Debug)]
pub struct RealServer {
    binary: Binary,
    endpoint: Endpoint,
    args: Vec<String>,
    surroundings: Surroundings,
    process: Option<Process>,
}

#[derive(Clone, Debug)]
enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum StartError {
    PortTaken,
    Failed(String),
}

impl RealServer {
    fn new(binary: &Binary, endpoint: Endpoint, args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self {
            binary: binary.clone(),
            endpoint,
            args,
            surroundings: Surroundings::default(),
            process: None,
        }
    }

    /// The address of a server on TCP.
    ///
    /// # Panics
    /// When the server listens on a Unix socket.
    pub fn address(&self) -> SocketAddr {
        match &self.endpoint {
            Endpoint::Tcp(address) => *address,
            Endpoint::Unix(path) => panic!("{} has no TCP address", path.display()),
        }
    }

    /// `memcached://127.0.0.1:PORT`, or `unix:///path`.
    pub fn url(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp(address) => format!("memcached://{address}"),
            Endpoint::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// The version of the binary.
    pub fn version(&self) -> &str {
        &self.binary.version
    }

    /// The process id of the server, as this process knows it.
    ///
    /// # Panics
    /// After [`kill`](Self::kill).
    pub fn pid(&self) -> u32 {
        let process = self.process.as_ref().expect("the server was killed");
        process.inner.unwrap_or(process.server.id())
    }

    /// Returns whether the process still exists.
    pub fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| matches!(process.server.try_wait(), Ok(None)))
    }

    /// Sends `bytes` on a connection of their own and returns the answer,
    /// however many commands they are. If the server closes the connection,
    /// that is the end of the answer.
    ///
    /// # Panics
    /// When the server cannot be reached or stays silent.
    pub fn command(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self
            .connect(COMMAND_LIMIT)
            .unwrap_or_else(|e| panic!("{self}: {e}"));
        let mut answer = Vec::new();
        // The server may close before it has read everything; what it said
        // until then counts.
        if stream.write_all(&[bytes, b"version\r\n"].concat()).is_err() {
            let _ = stream.read_to_end(&mut answer);
            return answer;
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return answer,
                Ok(n) => answer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return answer,
                Err(error) => panic!(
                    "{self}: {error} after {:?} in answer to {:?}",
                    String::from_utf8_lossy(&answer),
                    String::from_utf8_lossy(bytes),
                ),
            }
            if let Some(body) = answer.strip_suffix(b"\r\n") {
                let last = body
                    .iter()
                    .rposition(|&byte| byte == b'\n')
                    .map_or(0, |at| at + 1);
                if body[last..].starts_with(b"VERSION ") {
                    answer.truncate(last);
                    return answer;
                }
            }
        }
    }

    /// Empties the cache, as an operator might.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn flush_all(&self) {
        let answer = self.command(b"flush_all\r\n");
        assert_eq!(
            answer,
            b"OK\r\n",
            "{self}: flush_all: {}",
            String::from_utf8_lossy(&answer)
        );
    }

    /// Freezes the server (SIGSTOP). On return every thread of it stands still.
    pub fn stop_signal(&self) {
        send_signal("STOP", self.pid());
        let deadline = Instant::now() + START_LIMIT;
        while !all_threads_stopped(self.pid()) {
            assert!(Instant::now() < deadline, "{self} does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn continue_signal(&self) {
        send_signal("CONT", self.pid());
    }

    /// Ends the server at once (SIGKILL). All it held is lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills the server and starts it again, empty, at the same address and
    /// with the same arguments. After [`kill`](Self::kill) it only starts it.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn restart(&mut self) {
        self.kill();
        // A client trusts a connection that answered in the last 10 ms; no supervisor restarts a
        // server faster (systemd waits 100 ms), but this process could.
        thread::sleep(Duration::from_millis(20));
        self.launch_or_panic();
    }

    /// Kills the server and starts it again at the same address, with other arguments.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn restart_with(&mut self, args: &[&str]) {
        self.args = args.iter().map(|&arg| arg.to_owned()).collect();
        self.restart();
    }

    /// Lets the server end in its own time, so that one with `-e` keeps its memory (SIGUSR1), and
    /// starts it again in other surroundings.
    ///
    /// # Panics
    /// When the server does not end or does not start.
    pub fn restart_warm(&mut self, surroundings: Surroundings) {
        send_signal("USR1", self.pid());
        let deadline = Instant::now() + START_LIMIT;
        while self.is_running() {
            assert!(Instant::now() < deadline, "{self} does not end");
            thread::sleep(Duration::from_millis(5));
        }
        self.surroundings = surroundings;
        self.restart();
    }

    fn launch_or_panic(&mut self) {
        // Something may sit on the port for a moment only.
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.launch() {
                Ok(()) => return,
                Err(StartError::PortTaken) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(StartError::PortTaken) => panic!("{self}: its address is taken"),
                Err(StartError::Failed(why)) => panic!("{self}: {why}"),
            }
        }
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let mut command: Vec<String> = match &self.endpoint {
            Endpoint::Tcp(address) => {
                vec![
                    "-l".into(),
                    address.ip().to_string(),
                    "-p".into(),
                    address.port().to_string(),
                ]
            }
            Endpoint::Unix(path) => vec!["-s".into(), path.display().to_string()],
        };
        command.extend(["-U", "0", "-m", "16", "-t", "2"].map(str::to_owned));
        if runs_as_root() {
            command.extend(["-u", "root"].map(str::to_owned));
        }
        command.extend_from_slice(&self.args);

        let mut process = Process::spawn(&self.binary.path, &command, &self.surroundings)
            .map_err(|error| StartError::Failed(error.to_string()))?;
        // The process id that the server reports.
        let pid = if self.surroundings.process_id_1 {
            1
        } else {
            process.server.id()
        };
        let deadline = Instant::now() + START_LIMIT;
        let mut reached = 0;
        loop {
            match process.server.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    let errors = process.errors();
                    return Err(
                        if errors.contains("in use") || errors.contains("failed to listen") {
                            StartError::PortTaken
                        } else {
                            StartError::Failed(format!("it ended with {status}: {errors}"))
                        },
                    );
                }
                Err(error) => return Err(StartError::Failed(error.to_string())),
            }
            match self.probe() {
                Probe::Pid(found) if found == pid => break,
                // Another server was faster; this one is about to find out.
                Probe::Pid(_) | Probe::Unreachable => reached = 0,
                // With TLS or a password it does not identify itself. If it were another server,
                // the one started here would have ended by now.
                Probe::Reached if reached == 3 => break,
                Probe::Reached => reached += 1,
            }
            if Instant::now() > deadline {
                let errors = process.errors();
                return Err(StartError::Failed(format!(
                    "no answer at {} within {START_LIMIT:?}: {errors}",
                    self.url()
                )));
            }
            thread::sleep(Duration::from_millis(if reached == 0 { 5 } else { 50 }));
        }
        if self.surroundings.process_id_1 {
            process.inner = only_child(process.server.id());
        }
        self.process = Some(process);
        Ok(())
    }

    /// Identifies the server at the address.
    fn probe(&self) -> Probe {
        let Ok(mut stream) = self.connect(Duration::from_millis(500)) else {
            return Probe::Unreachable;
        };
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        if stream.write_all(b"stats\r\n").is_ok() {
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                answer.extend_from_slice(&chunk[..n]);
                if answer.ends_with(b"END\r\n") || !answer.starts_with(b"STAT ") {
                    break;
                }
            }
        }
        String::from_utf8_lossy(&answer)
            .lines()
            .find_map(|line| line.strip_prefix("STAT pid ")?.parse().ok())
            .map_or(Probe::Reached, Probe::Pid)
    }

    fn connect(&self, limit: Duration) -> io::Result<Box<dyn Stream>> {
        match &self.endpoint {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, limit)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Ok(Box::new(stream))
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.kill();
        if let Endpoint::Unix(path) = &self.endpoint {
            let _ = fs::remove_file(path);
        }
    }
}

impl fmt::Display for RealServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memcached {} at {}", self.binary.version, self.url())
    }
}

enum Probe {
    Unreachable,
    Reached,
    Pid(u32),
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A server and the watcher that outlives this process to end it.
///
/// The watcher holds the reading end of a pipe whose writing end is here. The
/// server writes its process id into the pipe before it becomes memcached. When
/// this process is gone, however it went, the pipe closes and the watcher kills
/// the server.
#[derive(Debug)]
struct Process {
    server: Child,
    /// The server itself, where the above is its parent in another namespace.
    inner: Option<u32>,
    watcher: Child,
    /// Held open, and closed by the system at the latest.
    _pipe: OwnedFd,
    /// The stderr output of the server.
    log: PathBuf,
}

/// Own group, signals ignored: what ends a test run must not end the watcher.
const WATCHER: &str = r#"
    trap '' HUP INT TERM
    if read -r pid; then
        read -r _
        kill -KILL "$pid"
    fi
    rm -f -- "$0"
"#;

/// `echo` goes to the watcher. The server itself has no part in the pipe.
const SERVER: &str = r#"echo "$$"; exec "$0" "$@" >/dev/null"#;

impl Process {
    fn spawn(binary: &Path, args: &[String], surroundings: &Surroundings) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "memlatch-memcached-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Atomic::Relaxed)
        );
        let log = env::temp_dir().join(name);
        let errors = File::create(&log)?;

        let mut watcher = Command::new("/bin/sh")
            .args(["-c", WATCHER])
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = OwnedFd::from(watcher.stdin.take().expect("stdin is a pipe"));

        let server = pipe.try_clone().and_then(|pipe| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", SERVER]);
            if surroundings.process_id_1 {
                command.arg("unshare").args(PROCESS_ID_1);
            }
            if let Some(clock) = &surroundings.wall_clock {
                let library = faketime().expect("looked for before");
                command
                    .env("LD_PRELOAD", library)
                    .env("FAKETIME", clock)
                    .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                    .env("DONT_FAKE_MONOTONIC", "1");
            }
            command
                .arg(binary)
                .args(args)
                .stdin(Stdio::null())
                .stdout(pipe)
                .stderr(errors)
                .spawn()
        });
        match server {
            Ok(server) => Ok(Self {
                server,
                inner: None,
                watcher,
                _pipe: pipe,
                log,
            }),
            Err(error) => {
                // Nothing was written to the pipe: the watcher just ends.
                drop(pipe);
                let _ = watcher.wait();
                Err(error)
            }
        }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.log)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its parent is left to notice, and ends behind it.
        let ended = self.inner.is_some_and(|pid| {
            let is_ours = only_child(self.server.id()) == Some(pid);
            is_ours && try_signal("KILL", pid)
        });
        if !ended {
            let _ = self.server.kill();
        }
        // The watcher is killed before the server is reaped: from then on the process id may belong
        // to another process.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        let _ = self.server.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// A port without a listener that the system does not assign to outgoing connections: it is still
/// free when a server returns after a restart, and no client connects to itself while the server is
/// down.
fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let outgoing = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768_u32);
    if outgoing >= FIRST + 1000 {
        for _ in 0..1000 {
            // Test processes that run side by side begin at different ports.
            let spread = process::id().wrapping_mul(7919);
            let offset = spread.wrapping_add(COUNT.fetch_add(1, Atomic::Relaxed));
            let port = (FIRST + offset % (outgoing - FIRST)) as u16;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("the system has a free port")
        .port()
}

fn runs_as_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        // Uid: real, effective, saved, file system
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
    })
}

fn send_signal(name: &str, pid: u32) {
    let sent = try_signal(name, pid);
    assert!(sent, "cannot send SIG{name} to process {pid}");
}

fn try_signal(name: &str, pid: u32) -> bool {
    // The shell has a `kill` of its own, the system may have none.
    let status = Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$0" "$1""#, name, &pid.to_string()])
        .status();
    status.is_ok_and(|status| status.success())
}

fn only_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

/// True if the system does not report it.
fn all_threads_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        // 12 (name, which may hold anything) S ...
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("T", |(_, rest)| rest);
        state.starts_with(['T', 't'])
    })
}
