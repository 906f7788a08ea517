//! Hundreds of tasks fight for locks while the server is stopped, continued, killed and started
//! again at random, and callers go at any moment in any way. No caller may get another's answer, no
//! two guards of a lock may be valid at once, no lock may outlive its lease, nothing may grow.
//!
//! `scripts/soak 600` runs it for ten minutes; as an ordinary test it takes a few seconds.
//!
//! | variable | meaning |
//! |---|---|
//! | `MEMLATCH_SOAK_SECONDS` | how long (10) |
//! | `MEMLATCH_SOAK_SEED` | what the random choices follow from, as far as threads allow |
//! | `MEMLATCH_SOAK_SERVER` | the version of memcached (the newest there is) |
#![cfg(all(target_os = "linux", feature = "tokio"))]

#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/ledger.rs"]
mod ledger;
#[path = "soak/memory_sampler.rs"]
mod memory_sampler;
mod support;
#[path = "soak/worker.rs"]
mod worker;

use core::future::Future;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use faults::FaultPlan;
use ledger::{LEASE, Ledger, PREFIX};
use memcached::{Binary, RealServer};
use memlatch::{Client, Protocol};
use rng::Rng;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};
use support::{cut, memcached, rng};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use worker::{FREE_WITHIN, Order, Player};

/// Number of tasks that share one client on a runtime of two threads.
const FIGHTERS: usize = 256;

/// Number of tasks that share another one, which speaks the classic protocol, on a runtime of one
/// thread.
const OTHERS: usize = 32;

/// Number of tasks that only ask for the holder, besides.
const INQUIRERS: usize = 8;

/// The names that are fought for, and behind them those that always have the same holders.
const NAMES: usize = 64;
const KEPT: usize = 8;

/// The places of the runtimes, that of two threads and that of one.
const MANY: usize = 0;
const SINGLE: usize = 1;

/// Longest time until all tasks have dropped everything.
const PARK: Duration = Duration::from_secs(10);

/// Between two looks whether anything was left behind.
const STORM: Duration = Duration::from_secs(60);

struct Settings {
    length: Duration,
    seed: u64,
    binary: Binary,
}

impl Settings {
    /// `None` where there is no server.
    fn read() -> Option<Self> {
        let number = |name: &str| {
            let text = env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}")))
        };
        let version = env::var("MEMLATCH_SOAK_SERVER");
        let version = version.ok().filter(|version| !version.is_empty());
        let mut found = memcached::required();
        let binary = match version {
            None => found.pop()?,
            Some(version) => {
                let at = found.iter().position(|binary| binary.version == version);
                found.swap_remove(at.unwrap_or_else(|| panic!("no memcached {version} here")))
            }
        };
        let random = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(now.map_or(0, |now| now.subsec_nanos()))
        };
        Some(Self {
            length: Duration::from_secs(number("MEMLATCH_SOAK_SECONDS").unwrap_or(10)),
            seed: number("MEMLATCH_SOAK_SEED").unwrap_or_else(random),
            binary,
        })
    }
}

/// All who play, and the runtimes they live on.
struct Arena {
    book: Arc<Ledger>,
    seed: u64,
    orders: watch::Sender<Order>,
    parked: Arc<AtomicUsize>,
    players: Vec<JoinHandle<()>>,
    /// Each with the number of tasks that live on it while nothing is under way.
    runtimes: [(Handle, usize); 2],
    clients: Vec<Client>,
}

impl Arena {
    /// Makes a client on one of the runtimes, which no other task drives yet.
    fn join(&mut self, place: (usize, &Runtime), url: &str, protocol: Option<Protocol>) -> Client {
        let (place, runtime) = place;
        let mut builder = Client::builder().server(url).prefix(PREFIX);
        builder = builder.default_lease(LEASE);
        if let Some(protocol) = protocol {
            builder = builder.protocol(protocol);
        }
        let client = runtime.block_on(builder.build()).expect("the server is up");
        self.clients.push(client.clone());
        // Its keeper.
        self.runtimes[place].1 += 1;
        client
    }

    fn play<F>(&mut self, place: usize, client: &Client, role: impl FnOnce(Player) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let player = Player {
            book: Arc::clone(&self.book),
            client: client.clone(),
            dice: Rng::new(self.seed, self.players.len() as u64 + 1),
            orders: self.orders.subscribe(),
            parked: Arc::clone(&self.parked),
        };
        let (runtime, tasks) = &mut self.runtimes[place];
        self.players.push(runtime.spawn(role(player)));
        *tasks += 1;
    }

    /// Waits until all players have dropped what they were doing.
    fn park(&self) {
        self.orders.send_replace(Order::Pause);
        let players = self.players.len();
        let parked = || self.parked.load(Ordering::Relaxed);
        if !within(PARK, || parked() == players) {
            let parked = parked();
            self.book
                .violation(&format!("{parked} of {players} paused within {PARK:?}"));
        }
    }

    /// All players have gone: what they held must be free when its lease is over, and nothing may
    /// be under way any more. Returns how long it took.
    fn look_for_leaks(&self, server: &RealServer) -> Duration {
        let began = Instant::now();
        let mut left = Vec::new();
        if !within(FREE_WITHIN, || {
            left = locks_on(server, &self.book);
            left.is_empty()
        }) {
            self.book
                .violation(&format!("after {FREE_WITHIN:?} there are still {left:?}"));
        }
        let took = began.elapsed();
        for (runtime, tasks) in &self.runtimes {
            let alive = || runtime.metrics().num_alive_tasks();
            if !within(FREE_WITHIN, || alive() == *tasks) {
                let alive = alive();
                self.book
                    .violation(&format!("{alive} tasks where {tasks} should be"));
            }
        }
        took
    }

    /// Everything can be had.
    fn acquire_all(&self, runtime: &Handle) {
        runtime.block_on(async {
            for (page, name) in self.book.names().enumerate() {
                let client = &self.clients[page % self.clients.len()];
                let lock = client.lock(name).lease(self.book.lease(page));
                let lock = lock.label(self.book.label(page));
                match lock.acquire_timeout(Duration::from_secs(15)).await {
                    Ok(guard) => drop(self.book.enter(page, guard)),
                    Err(error) => self.book.violation(&format!("in the end: {error}")),
                }
            }
        });
    }
}

/// The keys of the locks that a server holds, and of any other items that should not be there.
fn locks_on(server: &RealServer, book: &Ledger) -> Vec<String> {
    let looks: String = book
        .names()
        .map(|name| format!("mg {PREFIX}lock:{name} k t\r\n"))
        .collect();
    let answers = server.command(looks.as_bytes());
    let answers = String::from_utf8_lossy(&answers).into_owned();
    let mut left: Vec<String> = answers
        .lines()
        .filter(|line| !line.starts_with("EN"))
        .map(str::to_owned)
        .collect();
    let known: BTreeSet<_> = book
        .names()
        .flat_map(|name| {
            [
                format!("{PREFIX}lock:{name}"),
                format!("{PREFIX}fence:{name}"),
            ]
        })
        .chain(["sentinel", "longest"].map(|item| format!("{PREFIX}{item}")))
        .collect();
    for line in dump(server).lines() {
        let key = line
            .strip_prefix("key=")
            .and_then(|rest| rest.split(' ').next());
        let key = key.map(|key| key.replace("%3A", ":").replace("%2F", "/"));
        if let Some(key) = key.filter(|key| !known.contains(key)) {
            left.push(format!("{key}, which is nobody's"));
        }
    }
    left
}

/// All items, one a line. What is sent behind this command is lost, so it has a connection of its
/// own.
fn dump(server: &RealServer) -> String {
    let limit = Some(Duration::from_secs(5));
    let mut stream = TcpStream::connect(server.address()).expect("the server is up");
    stream.set_read_timeout(limit).expect("a limit");
    stream
        .write_all(b"lru_crawler metadump all\r\n")
        .expect("sent");
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"END\r\n") {
        match stream.read(&mut chunk).expect("a dump") {
            0 => break,
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns whether something comes true in time.
fn within(limit: Duration, mut true_now: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if true_now() {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[allow(clippy::print_stdout, reason = "a soak says what it has seen")]
fn say(text: impl core::fmt::Display) {
    println!("soak: {text}");
}

fn runtimes() -> (Runtime, Runtime) {
    let many = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let single = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    (many.expect("a runtime"), single.expect("a runtime"))
}

#[test]
fn soak() {
    let Some(settings) = Settings::read() else {
        return;
    };
    let (seed, length) = (settings.seed, settings.length);
    // Root is too much for a server; for others it means nothing.
    let mut server = settings.binary.start(&["-u", "nobody"]);
    say(format_args!("seed {seed}, {length:?} on {server}"));

    let (many, single) = runtimes();
    let names = (0..NAMES).map(|n| format!("fought/{n}"));
    let book = Arc::new(Ledger::new(
        names.chain((0..KEPT).map(|n| format!("kept/{n}"))),
    ));
    let mut arena = Arena {
        book: Arc::clone(&book),
        seed,
        orders: watch::Sender::new(Order::Go),
        parked: Arc::default(),
        players: Vec::new(),
        runtimes: [(many.handle().clone(), 0), (single.handle().clone(), 0)],
        clients: Vec::new(),
    };
    let first = arena.join((MANY, &many), &server.url(), None);
    let keeping = arena.join((MANY, &many), &server.url(), None);
    let second = arena.join((SINGLE, &single), &server.url(), Some(Protocol::Classic));
    let kept = NAMES..NAMES + KEPT;
    for page in kept.clone() {
        arena.play(MANY, &keeping, |player| worker::keep(player, page));
    }
    for _ in 0..FIGHTERS {
        arena.play(MANY, &first, |player| worker::fight(player, NAMES as u64));
    }
    for _ in 0..INQUIRERS {
        arena.play(MANY, &first, |player| worker::inquire(player, kept.clone()));
    }
    for _ in 0..OTHERS {
        arena.play(SINGLE, &second, |player| {
            worker::fight(player, NAMES as u64)
        });
    }
    // The second runtime has no other thread to run it.
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let runner = thread::spawn(move || single.block_on(async { drop(finished.await) }));

    let weather = Arc::new(FaultPlan::new());
    let over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (book, weather, over) = (Arc::clone(&book), Arc::clone(&weather), Arc::clone(&over));
        thread::spawn(move || faults::watch(&book, &weather, &over))
    };
    // A fresh server lets the first of them wait, which is not what is to be seen here.
    within(Duration::from_secs(15), || book.count_of("granted") > 0);

    let mut dice = Rng::new(seed, 0);
    let end = Instant::now() + length;
    let mut freed = Duration::ZERO;
    while Instant::now() < end && !book.is_violated() {
        let left = end.saturating_duration_since(Instant::now());
        // No storm is much shorter than the others.
        let storm = if left < STORM * 3 / 2 { left } else { STORM };
        faults::storm(&mut server, &weather, &book, &mut dice, storm);
        weather.pause();
        arena.park();
        freed = freed.max(arena.look_for_leaks(&server));
        arena.acquire_all(many.handle());
        arena.look_for_leaks(&server);
        if Instant::now() < end {
            arena.orders.send_replace(Order::Go);
            weather.resume();
            say(format_args!(
                "{:?} to go, {} granted",
                end - Instant::now(),
                book.count_of("granted")
            ));
        }
    }

    over.store(true, Ordering::Relaxed);
    let samples = watcher.join().expect("the watcher");
    arena.orders.send_replace(Order::Leave);
    many.block_on(async {
        for player in arena.players.drain(..) {
            if let Err(error) = player.await {
                book.violation(&format!("a player ended with {error}"));
            }
        }
        for client in [&first, &keeping, &second] {
            if !client.shutdown(Duration::from_secs(3)).await {
                book.violation("a client had something left to give back");
            }
        }
    });
    drop(finish);
    runner.join().expect("the runner");

    let (usage, grown) = memory_sampler::judge(&samples);
    if let Some(grown) = grown {
        book.violation(&format!("it grows: {grown}"));
    }
    report(&book, &weather, &usage, freed);
    let violations = book.violations();
    for violation in &violations {
        say(format_args!("VIOLATION {violation}"));
    }
    assert!(
        violations.is_empty(),
        "{} with seed {seed} on {server}",
        violations[0]
    );
}

fn report(book: &Ledger, weather: &FaultPlan, usage: &str, freed: Duration) {
    let [stop, restart] = weather.slowest();
    say(format_args!(
        "granted {}, and {} that were over before they were looked at; dropped {}",
        book.count_of("granted"),
        book.count_of("late"),
        book.count_of("dropped")
    ));
    for (title, group) in [
        ("faults", "fault "),
        ("calls cut short", "cut "),
        ("releases", "release "),
        ("losses", "lost "),
        ("errors", "error "),
        ("holders asked for", "asked "),
    ] {
        say(format_args!("{title}: {}", book.counted(group)));
    }
    say(format_args!(
        "granted again {stop:.1?} after a stop and {restart:.1?} after a restart at the latest; \
         no call took more than {:?} longer than told; all was free {freed:.1?} after a pause",
        book.slowest()
    ));
    say(usage);
}
