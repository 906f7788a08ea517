//! Measures how locks change hands, and what waiting costs:
//!
//! ```text
//! waiting handoffs     64 tasks of one process wait for one lock
//! waiting between      two processes take turns
//! waiting failover     a holder is killed, and another process waits
//! waiting crowd        1000 tasks wait for 1000 locks that another process holds
//! ```
//!
//! Options of all: `--memcached HOST:PORT`; `--rounds`, `--kills`, `--seconds` where they apply.
//! Each result is a line of JSON on standard output.

use memlatch::{Client, Lock};
use memlatch_peers::arguments::Arguments;
use memlatch_peers::json::Object;
use memlatch_peers::rounds::quantile;
use memlatch_peers::variants::current_thread;
use memlatch_peers::{Failure, LEASE, Result};
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;

const TASKS: usize = 64;
const LOCKS: usize = 1000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waiting: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = Arguments::read()?;
    let what = arguments.word("what to measure")?;
    let server = arguments.servers()?.memcached;
    let runtime = current_thread()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match what.as_str() {
            "handoffs" => handoffs(&arguments, &server).await,
            "between" => between(&arguments, &server).await,
            "failover" => failover(&arguments, &server).await,
            "crowd" => crowd(&arguments, &server).await,
            // The other processes.
            "turns" => turns(&arguments, &server).await,
            "hold" => hold(&arguments, &server).await,
            other => Err(format!("there is nothing called {other} to measure").into()),
        }
    })
}

/// Nanoseconds on a clock that all processes share.
fn clock() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Processor time of this process, in nanoseconds.
fn processor() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Which request the server was asked how often: the sum of these of its counters.
fn counted(server: &str, names: &[&str]) -> Result<u64> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"stats\r\n")?;
    let mut sum = 0;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let mut words = line.split(' ').skip(1);
        match (words.next(), words.next()) {
            (None, _) => break,
            (Some(name), Some(number)) if names.contains(&name) => sum += number.parse::<u64>()?,
            _ => {}
        }
    }
    Ok(sum)
}

/// Attempts to acquire, and handovers: each stores a record, or fails to. Those without a record
/// are looks that may make an item.
fn tries(server: &str, lean: bool) -> Result<u64> {
    counted(server, &[if lean { "cmd_get" } else { "cmd_set" }])
}

async fn connect(server: &str) -> Result<Client> {
    Ok(Client::builder()
        .server(server)
        .restart_guard(false)
        .build()
        .await?)
}

/// A pair on a lock without contention, in nanoseconds.
async fn pair(lock: &Lock) -> Result<u64> {
    let began = clock();
    let guard = lock.acquire().await?;
    is_released(guard.release().await?)?;
    Ok(clock() - began)
}

fn is_released(outcome: memlatch::ReleaseOutcome) -> Result<()> {
    match outcome {
        memlatch::ReleaseOutcome::Released => Ok(()),
        other => Err(format!("not held to the end: {other:?}").into()),
    }
}

// ---- within a process ----------------------------------------------------------------

/// 64 tasks that acquire one lock repeatedly: from the call that releases it to the return of the
/// call that acquires it, in turn with pairs on a lock without contention.
async fn handoffs(arguments: &Arguments, server: &str) -> Result<()> {
    let rounds = arguments.number("rounds", 15)?;
    type Mode = (&'static str, fn(Lock) -> Lock);
    let modes: [Mode; 2] = [
        ("handover", |lock| lock),
        ("release-and-acquire", Lock::without_record),
    ];
    let client = connect(server).await?;
    for (name, mode) in modes {
        let idle = mode(client.lock(format!("idle-{name}")).lease(LEASE));
        let wanted = mode(client.lock(format!("wanted-{name}")).lease(LEASE));
        let (mut pairs, mut handoffs, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut latencies = Vec::with_capacity(2000);
            for _ in 0..2000 {
                latencies.push(pair(&idle).await?);
            }
            latencies.sort_unstable();
            pairs.push(quantile(&latencies, 0.5)?);

            let lean = name != "handover";
            let before = tries(server, lean)?;
            let mut times = within(&wanted, 40).await?;
            attempts.push((tries(server, lean)? - before) as f64 / times.len() as f64);
            times.sort_unstable();
            handoffs.push(quantile(&times, 0.5)?);
        }
        let ratios: Vec<f64> = handoffs
            .iter()
            .zip(&pairs)
            .map(|(h, p)| *h as f64 / *p as f64)
            .collect();
        let line = Object::default()
            .text("what", "handoff")
            .text("name", name)
            .numbers("pair", &pairs)
            .numbers("p50", &handoffs)
            .number("ratio", median(ratios))
            .number("tries", median(attempts));
        println!("{}", line.end());
    }
    client.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Has each task take the lock so often, and returns how long it took to change hands.
async fn within(lock: &Lock, each: usize) -> Result<Vec<u64>> {
    let times = Rc::new(RefCell::new(Vec::with_capacity(TASKS * each)));
    let released = Rc::new(Cell::new(None));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (lock, times, released) = (lock.clone(), Rc::clone(&times), Rc::clone(&released));
            tokio::task::spawn_local(async move {
                for _ in 0..each {
                    let guard = lock.acquire().await?;
                    if let Some(released) = released.take() {
                        times.borrow_mut().push(clock() - released);
                    }
                    // A lock is taken to do something; the others come to wait meanwhile.
                    tokio::task::yield_now().await;
                    released.set(Some(clock()));
                    is_released(guard.release().await?)?;
                }
                Ok::<(), Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    // The last ones have no waiter after them.
    Ok(times.take())
}

// ---- between processes ---------------------------------------------------------------

/// Another process of this program; it ends when its standard input does.
fn process(words: &[&str], server: &str) -> Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(words).args(["--memcached", server]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// Two processes take turns for one lock, with a few milliseconds of work under it and between.
async fn between(arguments: &Arguments, server: &str) -> Result<()> {
    let turns = arguments.number("rounds", 400)?.to_string();
    let before = tries(server, false)?;
    let mut children = Vec::new();
    for _ in 0..2 {
        children.push(process(&["turns", "--rounds", &turns], server)?);
    }
    // The start of the wait, the grant, the release, and the holder.
    let mut held: Vec<(u64, u64, u64, usize)> = Vec::new();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err("a process has failed".into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let numbers: Vec<u64> = line
                .split(' ')
                .map(str::parse)
                .collect::<std::result::Result<_, _>>()?;
            held.push((numbers[0], numbers[1], numbers[2], number));
        }
    }
    let attempts = (tries(server, false)? - before) as f64 / held.len() as f64;
    held.sort_unstable_by_key(|(_, granted, ..)| *granted);
    let mut times: Vec<u64> = held
        .windows(2)
        // The other one was waiting when it was released.
        .filter(|two| two[0].3 != two[1].3 && two[1].0 < two[0].2)
        .map(|two| two[1].1.saturating_sub(two[0].2))
        .collect();
    times.sort_unstable();
    let line = Object::default()
        .text("what", "between")
        .text("name", "memlatch")
        .number("count", times.len())
        .number("p50_ms", quantile(&times, 0.5)? as f64 / 1e6)
        .number("p99_ms", quantile(&times, 0.99)? as f64 / 1e6)
        .number("tries", attempts);
    println!("{}", line.end());
    Ok(())
}

/// One of the two.
async fn turns(arguments: &Arguments, server: &str) -> Result<()> {
    let client = connect(server).await?;
    let lock = client.lock("between").lease(LEASE);
    let mut random = u64::from(std::process::id()) | 1;
    let mut pause = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_micros(2000 + random % 3000))
    };
    let mut lines = String::new();
    for _ in 0..arguments.number("rounds", 400)? {
        let wanted = clock();
        let guard = lock.acquire().await?;
        let granted = clock();
        pause().await;
        let given_back = clock();
        is_released(guard.release().await?)?;
        lines.push_str(&format!("{wanted} {granted} {given_back}\n"));
        pause().await;
    }
    std::io::stdout().write_all(lines.as_bytes())?;
    Ok(())
}

/// Holds locks until it is killed or its standard input ends.
async fn hold(arguments: &Arguments, server: &str) -> Result<()> {
    let client = connect(server).await?;
    let millis = arguments.number("lease", LEASE.as_millis() as u64)?;
    let name = arguments.option("name").unwrap_or("held");
    let mut guards = Vec::new();
    for number in 0..arguments.number("locks", 1)? {
        let lock = client
            .lock(format!("{name}-{number}"))
            .lease(Duration::from_millis(millis));
        guards.push(lock.acquire().await?);
    }
    println!("held");
    let over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    over.await??;
    for guard in guards {
        is_released(guard.release().await?)?;
    }
    Ok(())
}

/// A process that holds locks by now.
fn holder(words: &[&str], server: &str) -> Result<Child> {
    let mut child = process(words, server)?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("no standard output")?;
    BufReader::new(output).read_line(&mut line)?;
    if line.trim() != "held" {
        return Err("a holder has failed".into());
    }
    Ok(child)
}

/// From the end of a holder to the next one.
async fn failover(arguments: &Arguments, server: &str) -> Result<()> {
    let client = connect(server).await?;
    for (millis, kills) in [
        (200, arguments.number("kills", 200)?),
        (10_000, arguments.number("long", 6)?),
    ] {
        if kills == 0 {
            continue;
        }
        let mut times = Vec::new();
        for kill in 0..kills {
            let name = format!("failover-{millis}-{kill}");
            let lease = millis.to_string();
            let mut child = holder(&["hold", "--lease", &lease, "--name", &name], server)?;
            let lock = client
                .lock(format!("{name}-0"))
                .lease(Duration::from_millis(millis));
            let waiter = tokio::task::spawn_local(async move {
                let guard = lock.acquire().await?;
                Ok::<_, Failure>((clock(), guard))
            });
            // Renewed twice, and then killed at any point of the third part.
            let third = millis * 1000 / 3;
            let phase = kill.wrapping_mul(0x9e37_79b9_7f4a_7c15) % third;
            tokio::time::sleep(Duration::from_micros(2 * third + phase)).await;
            let killed = clock();
            child.kill()?;
            child.wait()?;
            let (acquired, guard) = waiter.await??;
            times.push(acquired.saturating_sub(killed));
            is_released(guard.release().await?)?;
        }
        times.sort_unstable();
        let line = Object::default()
            .text("what", "failover")
            .text("name", &format!("lease-{millis}"))
            .number("count", times.len())
            .number("p50_ms", quantile(&times, 0.5)? as f64 / 1e6)
            .number("p99_ms", quantile(&times, 0.99)? as f64 / 1e6)
            .number("max_ms", quantile(&times, 1.0)? as f64 / 1e6);
        println!("{}", line.end());
    }
    Ok(())
}

/// 1000 tasks that wait for as many locks.
async fn crowd(arguments: &Arguments, server: &str) -> Result<()> {
    let seconds = arguments.number("seconds", 15)?;
    let locks = LOCKS.to_string();
    let mut child = holder(&["hold", "--locks", &locks, "--name", "crowd"], server)?;
    // All that the server counts; what the holder asks is measured without the waiters.
    let names = [
        "cmd_get",
        "cmd_set",
        "cmd_touch",
        "delete_hits",
        "delete_misses",
        "incr_hits",
        "incr_misses",
    ];
    let span = Duration::from_secs(seconds);
    let before = counted(server, &names)?;
    tokio::time::sleep(span).await;
    let holders = counted(server, &names)? - before;

    let client = connect(server).await?;
    let tasks: Vec<_> = (0..LOCKS)
        .map(|number| {
            let lock = client.lock(format!("crowd-{number}")).lease(LEASE);
            tokio::task::spawn_local(
                async move { lock.acquire().await.map(|guard| guard.release()) },
            )
        })
        .collect();
    // Until they look at the pace that they keep.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (began, busy, before) = (clock(), processor(), counted(server, &names)?);
    tokio::time::sleep(span).await;
    let passed = (clock() - began) as f64;
    let busy = (processor() - busy) as f64;
    let requests = counted(server, &names)? - before;
    for task in tasks {
        task.abort();
    }
    drop(child.stdin.take());
    child.wait()?;
    let line = Object::default()
        .text("what", "waiters")
        .text("name", "memlatch")
        .number(
            "requests_per_second",
            (requests.saturating_sub(holders)) as f64 * 1e9 / passed,
        )
        .number("of_a_core", busy / passed);
    println!("{}", line.end());
    Ok(())
}
