//! `memlatch demo`: processes that raise one counter, without a lock and with one.

mod counter;
mod report;
mod worker;

pub(super) use worker::{DemoWorker, worker};

use super::duration;
use super::failure::{Failure, code};
use super::options::GlobalOptions;
use super::output;
use super::select::{Either, race};
use super::server;
use super::signals::{ENDING, Signals};
use super::style::Styler;
use core::time::Duration;
use counter::SharedCounter;
use memlatch::{Client, ClientBuilder};
use report::{Phase, Report};
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The time that the workers may take to get ready, and to report after their time is up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest phase: a demo that outlasts its audience is a mistake in a number.
const LONGEST: Duration = Duration::from_secs(600);

/// See what a lock is good for: processes raise one counter, without a lock and with one
///
/// Uses a server of its own unless --server or MEMLATCH_SERVER names one. Exits with 1 if an
/// update was lost under the lock or a fencing token did not rise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch demo
  memlatch demo --workers 8 --seconds 5")]
pub(super) struct Demo {
    /// Number of processes, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) workers: u32,

    /// Length of each of the two phases
    #[arg(long, value_name = "DURATION", default_value = "3", value_parser = duration::parse)]
    pub(super) seconds: Duration,
}

pub(super) async fn demo(global: &GlobalOptions, options: &Demo) -> Result<u8, Failure> {
    if options.seconds.is_zero() || options.seconds > LONGEST {
        return Err(Failure::usage(
            "--seconds must be more than 0 and at most 600",
        ));
    }
    let mut signals = Signals::listen(&ENDING)
        .map_err(|error| Failure::system("cannot receive signals", &error))?;
    // Dropping the demo ends its processes and removes its files.
    match race(both_phases(global, options), signals.ending()).await {
        Either::A(done) => done,
        Either::B(signal) => Ok(code::of_signal(signal as i32)),
    }
}

async fn both_phases(global: &GlobalOptions, options: &Demo) -> Result<u8, Failure> {
    let place = DemoServer::new(global)?;
    let arena =
        SharedCounter::create().map_err(|error| Failure::system("cannot make a file", &error))?;
    let lock = format!("memlatch-demo/{}", std::process::id());
    server::check(global, &lock)?;
    // Whatever is wrong with the server is better said once than by every worker, and a server
    // that must be waited for is not to be waited for during the measurement.
    let client = place.builder(global)?.build().await?;
    let _ = client.lock(&lock).acquire().await?.release().await?;

    let paint = Styler::for_stdout();
    output::print(&report::opening(options, &place.describe(), paint))?;
    let crew = Workers {
        global,
        options,
        place: &place,
        arena: &arena,
    };
    let free = crew.work(None).await?;
    output::print(&report::row("without lock", &free, paint))?;
    arena
        .reset()
        .map_err(|error| Failure::system("cannot write a file", &error))?;
    let locked = crew.work(Some(&lock)).await?;
    output::print(&report::row("with lock", &locked, paint))?;

    let log = arena
        .log()
        .map_err(|error| Failure::system("cannot read a file", &error))?;
    let report = Report::new(&free, &locked, &log, options.workers);
    output::print(&report.text(paint))?;
    client.shutdown(Duration::from_secs(1)).await;
    Ok(if report.is_good() {
        code::SUCCESS
    } else {
        code::FAILED
    })
}

/// The server of the demo.
struct DemoServer {
    url: String,
    guard: bool,
    #[cfg(feature = "server")]
    own: Option<memlatch::server::Server>,
}

impl DemoServer {
    fn new(global: &GlobalOptions) -> Result<Self, Failure> {
        if let Some(url) = global.named_server() {
            return Ok(Self {
                url: url.to_owned(),
                guard: global.restart_guard(),
                #[cfg(feature = "server")]
                own: None,
            });
        }
        Self::own()
    }

    #[cfg(feature = "server")]
    fn own() -> Result<Self, Failure> {
        let server = memlatch::server::Server::start()
            .map_err(|error| Failure::system("cannot start a server", &error))?;
        Ok(Self {
            url: server.address(),
            // No client can have held a lock there before.
            guard: false,
            own: Some(server),
        })
    }

    #[cfg(not(feature = "server"))]
    fn own() -> Result<Self, Failure> {
        Err(Failure::usage(format!(
            "{}; or name a server with --server",
            super::serve::WITHOUT
        )))
    }

    fn builder(&self, global: &GlobalOptions) -> Result<ClientBuilder<Client>, Failure> {
        if !self.is_own() {
            return server::builder(global);
        }
        Ok(Client::builder()
            .server(&self.url)
            .prefix(global.prefix())
            .restart_guard(self.guard))
    }

    #[cfg(feature = "server")]
    fn is_own(&self) -> bool {
        self.own.is_some()
    }

    #[cfg(not(feature = "server"))]
    fn is_own(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        if self.is_own() {
            return format!("{}, embedded in this process", self.url);
        }
        self.url.clone()
    }
}

/// The workers of a phase and what they need to know.
struct Workers<'a> {
    global: &'a GlobalOptions,
    options: &'a Demo,
    place: &'a DemoServer,
    arena: &'a SharedCounter,
}

impl Workers<'_> {
    /// Lets all workers work at the same time, and adds up what they did.
    async fn work(&self, lock: Option<&str>) -> Result<Phase, Failure> {
        let mut workers = Vec::new();
        for index in 1..=self.options.workers {
            let worker = self.start(index, lock);
            workers.push(worker.map_err(|error| Failure::system("cannot start a worker", &error))?);
        }
        // They begin together, whatever their start took.
        for worker in &mut workers {
            worker.expect("ready", PATIENCE).await?;
        }
        for worker in &mut workers {
            // One that has died meanwhile is noticed by its silence.
            let _ = worker.stdin.write_all(b"go\n").await;
        }
        let mut attempted = 0;
        for worker in &mut workers {
            let told = worker
                .expect("done", self.options.seconds + PATIENCE)
                .await?;
            let count: u64 = told.parse().unwrap_or(0);
            attempted += count;
        }
        for worker in &mut workers {
            let ended = timeout(PATIENCE, worker.process.wait()).await;
            if !matches!(ended, Ok(Ok(status)) if status.success()) {
                return Err(broken("a worker did not end well"));
            }
        }
        let counter = self
            .arena
            .counter()
            .map_err(|error| Failure::system("cannot read a file", &error))?;
        Ok(Phase {
            attempted,
            counter,
            length: self.options.seconds,
        })
    }

    fn start(&self, index: u32, lock: Option<&str>) -> io::Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut words: Vec<OsString> = Vec::new();
        for (name, value) in [
            ("--server", self.place.url.clone().into()),
            ("--prefix", self.global.prefix().into()),
            (
                "--restart-guard",
                if self.place.guard { "on" } else { "off" }.into(),
            ),
            ("--parent", std::process::id().to_string().into()),
            ("--index", index.to_string().into()),
            ("--folder", self.arena.folder().into()),
            (
                "--length",
                format!("{}ms", self.options.seconds.as_millis()).into(),
            ),
        ] {
            words.extend([OsString::from(name), value]);
        }
        // Secrets for another server are not for the demo's own.
        let (secrets, variables) = self.global.secrets.words();
        if !self.place.is_own() {
            words.extend(secrets);
        }
        for variable in variables {
            command.env_remove(variable);
        }
        if let Some(lock) = lock {
            words.extend(["--lock".into(), lock.into()]);
        }
        let mut process = command
            .arg("__demo-worker")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("the worker has no pipes"));
        };
        Ok(Worker {
            process,
            stdin,
            told: BufReader::new(stdout).lines(),
        })
    }
}

struct Worker {
    process: Child,
    stdin: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Waits until the worker says `word`, and returns what follows it.
    async fn expect(&mut self, word: &str, limit: Duration) -> Result<String, Failure> {
        match timeout(limit, self.told.next_line()).await {
            Ok(Ok(Some(line))) => match line.strip_prefix(word) {
                Some(rest) => Ok(rest.trim().to_owned()),
                None => Err(broken("a worker said something unexpected")),
            },
            Ok(_) => Err(broken("a worker has ended too early")),
            Err(_) => Err(broken("a worker does not answer")),
        }
    }
}

fn broken(why: &str) -> Failure {
    Failure::new(code::SYSTEM, format!("the demo was cut short: {why}"))
}
