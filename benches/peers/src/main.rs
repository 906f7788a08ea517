//! Measures whole locks:
//!
//! ```text
//! memlatch-peers pairs --core same|cross --cpu N   one lock without contention
//! memlatch-peers crowd                             many tasks at once
//! memlatch-peers wire                              round trips and bytes of a pair
//! memlatch-peers syscalls --strace PATH            system calls of a pair
//! memlatch-peers one VARIANT COUNT                 so many pairs, and nothing else
//! ```
//!
//! Options of all: `--memcached HOST:PORT`, `--redis HOST:PORT`, `--pymemcache 'COMMAND…'`,
//! `--rounds`, `--count` (pairs in a round, of each task), `--seed`, `--only PART` (of a name).
//!
//! Each result is a line of JSON on standard output.

use memlatch_peers::arguments::Arguments;
use memlatch_peers::json::Object;
use memlatch_peers::rounds::{Shuffler, quantile};
use memlatch_peers::tap::Tap;
use memlatch_peers::variants::{Kind, Shapes, Variant};
use memlatch_peers::{Result, Servers, crowds, variants};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Pairs before each measurement, so that caches and buffers are warm.
const WARM_UP: usize = 50;

/// So many pairs at once where there may be any number: bare sockets move their expiry along
/// between two series only.
const CHUNK: usize = 2000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memlatch-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = Arguments::read()?;
    let what = arguments.word("what to measure")?;
    let servers = arguments.servers()?;
    if let Some(cpu) = arguments.option("cpu") {
        // Before anything else: threads and processes inherit it.
        let mut only = CpuSet::new();
        only.set(cpu.parse()?);
        sched_setaffinity(None, &only)?;
    }
    match what.as_str() {
        "pairs" => pairs(&arguments, &servers),
        "crowd" => crowd(&arguments, &servers),
        "wire" => wire(&arguments, &servers),
        "syscalls" => syscalls(&arguments, &servers),
        "one" => one(&mut arguments, &servers),
        other => Err(format!("there is nothing called {other} to measure").into()),
    }
}

fn shuffler(arguments: &Arguments) -> Result<Shuffler> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = arguments.number("seed", now.as_secs())?;
    eprintln!("seed {seed}");
    Ok(Shuffler::new(seed))
}

fn kinds(arguments: &Arguments, servers: &Servers) -> Vec<Kind> {
    let part = arguments.option("only").unwrap_or_default();
    variants::KINDS
        .iter()
        .filter(|kind| kind.name.contains(part) && kind.is_possible(servers))
        .copied()
        .collect()
}

/// One lock without contention.
fn pairs(arguments: &Arguments, servers: &Servers) -> Result<()> {
    let rounds = arguments.number("rounds", 15)?;
    let count = arguments.number("count", 1500)? as usize;
    let core = arguments.option("core").unwrap_or("free");
    let mut shuffler = shuffler(arguments)?;
    let shapes = Shapes::learn(servers)?;
    same_bytes(servers, &shapes)?;

    let mut measured = Vec::new();
    for kind in kinds(arguments, servers) {
        let variant = kind.connect(servers, &shapes)?;
        measured.push((kind.name, variant, Vec::new(), Vec::new()));
    }
    let mut latencies = Vec::with_capacity(count);
    let mut order: Vec<usize> = (0..measured.len()).collect();
    for round in 0..rounds {
        eprint!("\r{core} core, round {} of {rounds} ", round + 1);
        shuffler.shuffle(&mut order);
        for &index in &order {
            let (name, variant, p50, p99) = &mut measured[index];
            let about = |error| format!("{name}: {error}");
            variant.pairs(WARM_UP, &mut latencies).map_err(about)?;
            latencies.clear();
            variant.pairs(count, &mut latencies).map_err(about)?;
            latencies.sort_unstable();
            p50.push(quantile(&latencies, 0.5)?);
            p99.push(quantile(&latencies, 0.99)?);
            latencies.clear();
        }
    }
    eprintln!();
    for (name, _, p50, p99) in measured {
        let line = Object::default()
            .text("what", "pair")
            .text("core", core)
            .text("name", name)
            .number("count", count)
            .numbers("p50", &p50)
            .numbers("p99", &p99);
        println!("{}", line.end());
    }
    Ok(())
}

/// Many tasks at once.
fn crowd(arguments: &Arguments, servers: &Servers) -> Result<()> {
    let rounds = arguments.number("rounds", 15)?;
    let pairs_in_all = arguments.number("count", 38_400)? as usize;
    let mut shuffler = shuffler(arguments)?;
    let shapes = Shapes::learn(servers)?;
    let part = arguments.option("only").unwrap_or_default();
    let mut measured = Vec::new();
    for kind in crowds::KINDS {
        if kind.name.contains(part) && kind.is_possible(servers) {
            measured.push((kind, kind.connect(servers, &shapes)?, Vec::new()));
        }
    }
    let mut order: Vec<usize> = (0..measured.len()).collect();
    for round in 0..rounds {
        eprint!("\rcrowd, round {} of {rounds} ", round + 1);
        shuffler.shuffle(&mut order);
        for &index in &order {
            let (kind, crowd, rates) = &mut measured[index];
            let each = (pairs_in_all / kind.tasks).max(1);
            let about = |error| format!("{}: {error}", kind.name);
            crowd.run(each.div_ceil(20)).map_err(about)?;
            let took = crowd.run(each).map_err(about)?;
            rates.push((each * kind.tasks) as f64 / took.as_secs_f64());
        }
    }
    eprintln!();
    for (kind, _, rates) in measured {
        let rates: Vec<u64> = rates.into_iter().map(|rate| rate as u64).collect();
        let line = Object::default()
            .text("what", "crowd")
            .text("name", kind.name)
            .number("tasks", kind.tasks)
            .numbers("pairs_per_second", &rates);
        println!("{}", line.end());
    }
    Ok(())
}

/// The traffic of a pair.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    round_trips: f64,
    up: f64,
    down: f64,
}

impl Traffic {
    fn is_like(&self, other: &Self) -> bool {
        let bytes = |a: f64, b: f64| (a - b).abs() <= 1.0;
        self.round_trips == other.round_trips
            && bytes(self.up, other.up)
            && bytes(self.down, other.down)
    }
}

fn traffic(kind: &Kind, servers: &Servers, shapes: &Shapes) -> Result<Traffic> {
    const PAIRS: usize = 200;
    let tap = Tap::before(kind.server(servers))?;
    let behind = kind.with_server(servers, &tap.address);
    let mut variant = kind.connect(&behind, shapes)?;
    variant.pairs(WARM_UP, &mut Vec::new())?;
    drop(tap.take());
    variant.pairs(PAIRS, &mut Vec::new())?;
    let bursts = tap.take();
    let each = |number: usize| number as f64 / PAIRS as f64;
    let bytes = |up| {
        let bursts = bursts.iter().filter(|burst| burst.up == up);
        each(bursts.map(|burst| burst.bytes.len()).sum())
    };
    Ok(Traffic {
        round_trips: each(bursts.iter().filter(|burst| burst.up).count()),
        up: bytes(true),
        down: bytes(false),
    })
}

/// The floors are floors only if they send and get what memlatch sends and gets. Numbers that have
/// grown by a digit meanwhile make a byte or so.
fn same_bytes(servers: &Servers, shapes: &Shapes) -> Result<()> {
    const FLOORS: &[(&str, &[&str])] = &[
        (
            "socket",
            &["tokio-socket", "memlatch-blocking", "memlatch-async"],
        ),
        (
            "socket-lean",
            &["memlatch-blocking-lean", "memlatch-async-lean"],
        ),
    ];
    for (floor, others) in FLOORS {
        let floor = Kind::named(floor).ok_or("no floor")?;
        for other in others.iter().filter_map(|name| Kind::named(name)) {
            // A renewer reads the server's clock now and then, which is no part of a pair.
            let mut tries = 5;
            loop {
                let ours = traffic(&floor, servers, shapes)?;
                let theirs = traffic(&other, servers, shapes)?;
                if ours.is_like(&theirs) {
                    break;
                }
                tries -= 1;
                if tries == 0 {
                    let (floor, other) = (floor.name, other.name);
                    let text = format!("{floor} is no floor of {other}: {ours:?}, {theirs:?}");
                    return Err(text.into());
                }
            }
        }
    }
    Ok(())
}

fn wire(arguments: &Arguments, servers: &Servers) -> Result<()> {
    let shapes = Shapes::learn(servers)?;
    for kind in kinds(arguments, servers) {
        let traffic = traffic(&kind, servers, &shapes)?;
        let line = Object::default()
            .text("what", "wire")
            .text("name", kind.name)
            .number("round_trips", traffic.round_trips)
            .number("bytes_up", traffic.up)
            .number("bytes_down", traffic.down);
        println!("{}", line.end());
    }
    Ok(())
}

/// The system calls of a pair: those of 2 N pairs less those of N, so that what is done once does
/// not count.
fn syscalls(arguments: &Arguments, servers: &Servers) -> Result<()> {
    let strace = arguments.option("strace").ok_or("--strace PATH?")?;
    let count = arguments.number("count", 1000)?;
    for kind in kinds(arguments, servers) {
        let once = traced(strace, &kind, servers, count)?;
        let mut twice = traced(strace, &kind, servers, 2 * count)?;
        for (name, calls) in once {
            *twice.entry(name).or_default() -= calls;
        }
        let each = |calls: i64| calls as f64 / count as f64;
        let mut line = Object::default()
            .text("what", "syscalls")
            .text("name", kind.name)
            .number("all", each(twice.values().sum()));
        for (name, calls) in twice {
            // Occasional calls are in the sum alone.
            if each(calls).abs() >= 0.05 {
                line = line.number(&name, each(calls));
            }
        }
        println!("{}", line.end());
    }
    Ok(())
}

/// The number of times a process that does so many pairs makes each system call, all its threads
/// and children together.
fn traced(
    strace: &str,
    kind: &Kind,
    servers: &Servers,
    count: u64,
) -> Result<BTreeMap<String, i64>> {
    let summary = std::env::temp_dir().join(format!("memlatch-peers.{}", std::process::id()));
    let mut command = Command::new(strace);
    command
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(&summary)
        .arg(std::env::current_exe()?)
        .args(["one", kind.name, &count.to_string()])
        .args(["--memcached", &servers.memcached]);
    if let Some(redis) = &servers.redis {
        command.args(["--redis", redis]);
    }
    if let Some(pymemcache) = &servers.pymemcache {
        command.args(["--pymemcache", &pymemcache.join(" ")]);
    }
    let status = command.stdin(Stdio::null()).status()?;
    let text = std::fs::read_to_string(&summary);
    // Nothing depends on it any more.
    let _ = std::fs::remove_file(&summary);
    if !status.success() {
        return Err(format!("{} under strace: {status}", kind.name).into());
    }
    let calls: BTreeMap<String, i64> = text?
        .lines()
        .filter_map(|line| {
            let (calls, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), calls.parse().ok()?))
        })
        .filter(|(name, _)| name != "total")
        .collect();
    match calls.is_empty() {
        true => Err("strace has counted nothing".into()),
        false => Ok(calls),
    }
}

/// So many pairs, and nothing else.
fn one(arguments: &mut Arguments, servers: &Servers) -> Result<()> {
    let name = arguments.word("a variant")?;
    let count = arguments.word("a count")?.parse()?;
    let kind = Kind::named(&name).ok_or_else(|| format!("no variant is called {name}"))?;
    let mut variant: Box<dyn Variant> = kind.connect(servers, &Shapes::learn(servers)?)?;
    variant.pairs(WARM_UP, &mut Vec::new())?;
    let mut latencies = Vec::with_capacity(CHUNK);
    let mut left: usize = count;
    while left > 0 {
        latencies.clear();
        let now = left.min(CHUNK);
        variant.pairs(now, &mut latencies)?;
        left -= now;
    }
    Ok(())
}
