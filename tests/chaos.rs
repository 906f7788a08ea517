//! Processes that want locks of a real memcached beside a cache in use, while the server is
//! stopped, killed, started and flushed, the processes are stopped and killed, and the bytes
//! between them are held up and cut off. Each writes down its holdings, and the histories are
//! judged in the end: no two hold a lock at once, tokens rise, every loss is reported, no call
//! waits for too long or removes what is another's, and nothing is left.
//!
//! `scripts/chaos 600` runs it for ten minutes on each version; as an ordinary test it takes about
//! twenty seconds on each.
//!
//! | variable | meaning |
//! |---|---|
//! | `MEMLATCH_CHAOS_SECONDS` | how long faults are done on each version (10) |
//! | `MEMLATCH_CHAOS_SERVER` | the version of memcached (`all`) |
//! | `MEMLATCH_CHAOS_SEED` | what the faults and the choices follow from, as far as processes allow |
//! | `MEMLATCH_CHAOS_MODE` | `inside`, one of the modes in `tests/chaos/mode.rs`, or `all` (`inside`) |
//! | `MEMLATCH_CHAOS_CLOCK` | `1`: the wall clock of this machine is set back and forth as well |
#![cfg(all(target_os = "linux", feature = "tokio"))]

#[path = "chaos/clock_log.rs"]
mod clock_log;
#[path = "chaos/eviction_load.rs"]
mod eviction_load;
#[path = "chaos/fault_plan.rs"]
mod fault_plan;
#[path = "history/mod.rs"]
mod history;
#[path = "chaos/mode.rs"]
mod mode;
#[path = "chaos/plan.rs"]
mod plan;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/run.rs"]
mod run;
mod support;
#[path = "chaos/worker.rs"]
mod worker;
#[path = "chaos/workers.rs"]
mod workers;

use core::fmt::Display;
use core::time::Duration;
use memcached::Binary;
use mode::{MODES, Mode};
use run::Outcome;
use std::env;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{cut, memcached, rng, traffic};

/// Number of violations that are shown. The first one is what counts.
const TOLD: usize = 10;

#[test]
#[ignore = "what the processes of the other tests run"]
fn worker() {
    worker::work(&plan::Post::told());
}

#[test]
fn chaos_on_the_oldest_server() {
    chaos_on(0);
}

#[test]
fn chaos_on_the_middle_server() {
    chaos_on(1);
}

#[test]
fn chaos_on_the_newest_server() {
    chaos_on(2);
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<u64> {
    let text = variable(name)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}")))
}

fn modes() -> Vec<Mode> {
    match variable("MEMLATCH_CHAOS_MODE").as_deref() {
        None => vec![Mode::Inside],
        Some("all") => MODES.to_vec(),
        Some(name) => match name.parse() {
            Ok(mode) => vec![mode],
            Err(()) => {
                let known = MODES.map(Mode::as_str).join(", ");
                panic!("MEMLATCH_CHAOS_MODE is {name}; it must be one of {known}, or all")
            }
        },
    }
}

/// One version, one after the other: each run has all there is of the machine.
fn chaos_on(suite: usize) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let found = memcached::required();
    if let Some(wanted) = variable("MEMLATCH_CHAOS_SERVER").filter(|wanted| wanted != "all") {
        let known = found.iter().any(|binary| binary.version == wanted);
        assert!(known, "no memcached {wanted} here");
        if found
            .get(suite)
            .is_none_or(|binary| binary.version != wanted)
        {
            return;
        }
    }
    // In CI a missing version is a failure of `required` itself.
    let Some(binary) = found.get(suite) else {
        return;
    };
    let seed = number("MEMLATCH_CHAOS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        u64::from(now.map_or(0, |now| now.subsec_nanos()))
    });
    let seconds = number("MEMLATCH_CHAOS_SECONDS").unwrap_or(10);
    let set_clock = variable("MEMLATCH_CHAOS_CLOCK").as_deref() == Some("1");
    for mode in modes() {
        say(format_args!(
            "memcached {}, {mode}, {seconds} s, seed {seed}",
            binary.version
        ));
        let length = Duration::from_secs(seconds);
        let outcome = run::run(binary, mode, seed, length, set_clock);
        tell(binary, mode, seed, &outcome);
        let violations = &outcome.report.violations;
        if let Some(first) = violations.first() {
            let kept = outcome.kept.unwrap_or_default();
            panic!(
                "memcached {}, {mode}, seed {seed}: {} violations, the first: {first}; the history \
                 is in {}",
                binary.version,
                violations.len(),
                kept.display()
            );
        }
        let holdings = outcome.report.holdings;
        assert!(holdings > 10 * seconds, "only {holdings} holdings");
    }
}

#[allow(clippy::print_stdout, reason = "chaos says what it has seen")]
fn say(text: impl Display) {
    println!("chaos: {text}");
}

fn listed<K: Display>(counts: impl IntoIterator<Item = (K, u64)>) -> String {
    let counts = counts.into_iter().map(|(what, n)| format!("{what} {n}"));
    let counts: Vec<_> = counts.collect();
    if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    }
}

fn json<K: Display>(counts: impl IntoIterator<Item = (K, u64)>) -> String {
    let counts = counts
        .into_iter()
        .map(|(what, n)| format!("\"{what}\":{n}"));
    format!("{{{}}}", counts.collect::<Vec<_>>().join(","))
}

fn tell(binary: &Binary, mode: Mode, seed: u64, outcome: &Outcome) {
    let Outcome {
        report,
        faults,
        stormed,
        freed,
        evicted,
        clock,
        ..
    } = outcome;
    let faults = || faults.iter().map(|(what, n)| (*what, *n));
    let losses = || report.losses.iter().map(|(what, n)| (*what, *n));
    let seconds = stormed.as_secs();
    let in_seconds = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
    for (what, text) in [
        ("version", binary.version.clone()),
        ("mode", mode.to_string()),
        ("seconds", seconds.to_string()),
        (
            "holdings",
            format!(
                "{} ({:.0} a second), {} more were over before they began",
                report.holdings,
                report.holdings as f64 / stormed.as_secs_f64().max(1.0),
                report.late
            ),
        ),
        ("not granted", listed(report.refusals.clone())),
        ("releases", listed(report.releases.clone())),
        ("faults", listed(faults())),
        ("evicted items", evicted.to_string()),
        (
            "wall clock",
            clock.clone().unwrap_or_else(|| "set back and forth".into()),
        ),
        ("losses told", listed(losses())),
        (
            "latest",
            format!(
                "a loss told {:.3} s behind its deadline, a call {:.3} s behind its limit, all free \
                 {:.1} s behind the end",
                in_seconds(report.latest_loss),
                in_seconds(report.latest_return),
                freed.as_secs_f64()
            ),
        ),
        ("overlaps", report.overlaps.to_string()),
        (
            "caught by token",
            format!(
                "{}, {} writes refused",
                report.caught, report.refused_writes
            ),
        ),
        ("tokens fallen", report.fallen.to_string()),
        ("freed in error", report.claimed.to_string()),
        ("violations", report.violations.len().to_string()),
    ] {
        say(format_args!("{what:>15}  {text}"));
    }
    for violation in report.violations.iter().take(TOLD) {
        say(format_args!("VIOLATION {violation}"));
    }
    say(format_args!(
        "{{\"version\":\"{}\",\"mode\":\"{mode}\",\"seed\":{seed},\"seconds\":{seconds},\
         \"holdings\":{},\"late\":{},\"faults\":{},\"losses\":{},\"evicted\":{evicted},\
         \"overlaps\":{},\"caught\":{},\"fallen\":{},\"claimed\":{},\"violations\":{}}}",
        binary.version,
        report.holdings,
        report.late,
        json(faults()),
        json(losses()),
        report.overlaps,
        report.caught,
        report.fallen,
        report.claimed,
        report.violations.len()
    ));
}
