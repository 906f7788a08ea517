//! `flush_all` on servers with a busy cache. What must not be: the lock is gone, and the sentinel
//! still says that nothing was forgotten.

use super::either::{Client, Guard};
use super::memcached::{Binary, RealServer};
use super::pair::{Look, Pair, on_each, pause};
use super::rng::Rng;
use super::traffic::Traffic;
use super::{number, on_each_version, say, seed};
use core::iter::repeat;
use core::ops::AddAssign;
use core::time::Duration;
use memlatch::{Protocol, ReleaseOutcome};
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

/// The longest lease. A third of it is behind the pauses before a flush, so that no renewal brings
/// the loss to light before the contender has tried.
const LEASE: Duration = Duration::from_millis(3600);

/// The pause between the holder's grant and the flush, in milliseconds.
const PAUSE: core::ops::Range<u64> = 500..1150;

/// Past the effect of a flush by so much, what is there was not flushed.
const SETTLED: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone, Copy)]
enum Flush {
    Now,
    Twice,
    Later,
    LaterAndNow,
}

const FLUSHES: [Flush; 6] = [
    // What is done most often is most often tried.
    Flush::Now,
    Flush::Later,
    Flush::Now,
    Flush::Twice,
    Flush::Now,
    Flush::LaterAndNow,
];

impl Flush {
    fn request(self) -> &'static [u8] {
        match self {
            Self::Now => b"flush_all\r\n",
            Self::Twice => b"flush_all\r\nflush_all\r\n",
            Self::Later => b"flush_all 2\r\n",
            Self::LaterAndNow => b"flush_all 1\r\nflush_all\r\n",
        }
    }

    /// When it has taken effect for certain.
    fn settled(self) -> Duration {
        match self {
            Self::Later => Duration::from_secs(2) + SETTLED,
            _ => SETTLED,
        }
    }
}

/// The findings about the pairs of one protocol.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Flushes, counted once for each pair.
    flushed: u64,
    /// The lock outlived the flush.
    survived: u64,
    /// The lock was gone and the sentinel of before still there, …
    kept: u64,
    /// … and its item was not bumped for the longest lease.
    kept_idle: u64,
    /// Two valid guards at once.
    two_valid: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.flushed += other.flushed;
        self.survived += other.survived;
        self.kept += other.kept;
        self.kept_idle += other.kept_idle;
        self.two_valid += other.two_valid;
    }
}

/// Reads of the items of the locks by other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    Reads,
    Nothing,
}

/// One server, flushed again and again.
fn flush_one(binary: &Binary, number_of_server: u64, foreign: Foreign, flushes: u64) -> [Tally; 2] {
    let seed = seed() + number_of_server;
    let server = binary.start(&[]);
    let mut pairs = Pair::all(&server, LEASE, true);
    let keys: Vec<_> = pairs
        .iter()
        .flat_map(|pair| [pair.sentinel_key(), pair.lock_key()])
        .collect();
    let read = match foreign {
        Foreign::Reads => keys.clone(),
        Foreign::Nothing => Vec::new(),
    };
    let traffic = Traffic::start(server.address(), seed, 2, read);
    let mut dice = Rng::new(seed, 1);
    let mut tallies = [Tally::default(); 2];
    for round in 0..flushes {
        let flush = FLUSHES[round as usize % FLUSHES.len()];
        let guards = on_each(&mut pairs, |pair, ()| pair.hold(), repeat(()));
        traffic.wait_until_busy(&keys, |request| server.command(request));
        pause(&mut dice, PAUSE);
        // Others get their locks, and look at the sentinel for that.
        let exchange = |pair: &mut Pair, ()| {
            pair.exchange();
            pair.look(&server)
        };
        let looks = on_each(&mut pairs, exchange, repeat(()));
        server.command(flush.request());
        let flushed = Instant::now();
        // By turns one that knows the server from before, and one that does not.
        let contend = |pair: &mut Pair, (held, before)| {
            let contender = match round % 2 {
                0 => pair.contender.clone(),
                _ => pair.newcomer(),
            };
            contend(pair, &contender, &server, flush, flushed, held, &before)
        };
        let seen = on_each(&mut pairs, contend, guards.into_iter().zip(looks));
        for (pair, tally) in pairs.iter().zip(seen) {
            tallies[usize::from(pair.protocol == Some(Protocol::Classic))] += tally;
        }
    }
    tallies
}

/// A contender tries to get what the holder of a pair had before the flush.
fn contend(
    pair: &mut Pair,
    contender: &Client,
    server: &RealServer,
    flush: Flush,
    flushed: Instant,
    held: Guard,
    before: &Look,
) -> Tally {
    let mut tally = Tally {
        flushed: 1,
        ..Tally::default()
    };
    let granted = pair.contend(contender, &held, |pair| {
        // First the clock: what is seen behind it is later.
        let settled = flushed.elapsed() > flush.settled();
        let look = pair.look(server);
        if is_kept(before, &look) && tally.kept == 0 {
            tally.kept = 1;
            tally.kept_idle = u64::from(look.idle > Some(LEASE.as_secs()));
        }
        settled && look.lock && held.is_valid()
    });
    match granted {
        Some((guard, two)) => {
            tally.two_valid = u64::from(two);
            // It is not the holder's to release any more.
            let _ = held.release();
            let outcome = guard.release().expect("the server is there");
            assert_eq!(outcome, ReleaseOutcome::Released, "{pair}");
        }
        None => {
            tally.survived = 1;
            let outcome = held.release().expect("the server is there");
            assert_eq!(outcome, ReleaseOutcome::Released, "{pair}");
        }
    }
    tally
}

/// The sentinel stays, the lock is gone.
fn is_kept(before: &Look, now: &Look) -> bool {
    before.lock && !now.lock && before.sentinel.is_some() && before.sentinel == now.sentinel
}

/// Flushes servers of each version, and prints what was seen.
fn flush_all(foreign: Foreign) -> Vec<(String, [Tally; 2])> {
    let flushes = number("MEMLATCH_WORLD_FLUSHES", 7);
    let servers = number("MEMLATCH_WORLD_SERVERS", 1);
    let tallies = on_each_version(|binary| {
        let mut sum = [Tally::default(); 2];
        thread::scope(|scope| {
            let threads: Vec<_> = (0..servers)
                .map(|number| scope.spawn(move || flush_one(binary, number, foreign, flushes)))
                .collect();
            for thread in threads {
                let tallies = thread.join().unwrap_or_else(|cause| resume_unwind(cause));
                sum[0] += tallies[0];
                sum[1] += tallies[1];
            }
        });
        (binary.version.clone(), sum)
    });
    let reader = match foreign {
        Foreign::Reads => "read by others",
        Foreign::Nothing => "not read by others",
    };
    say(format_args!(
        "{:<8} {:<8} {:<18} {:>8} {:>8} {:>14} {:>10} {:>10}",
        "version",
        "protocol",
        "sentinel",
        "flushes",
        "survived",
        "sentinel stays",
        "looks old",
        "two valid"
    ));
    for (version, of_dialects) in &tallies {
        for (protocol, tally) in ["meta", "classic"].iter().zip(of_dialects) {
            say(format_args!(
                "{version:<8} {protocol:<8} {reader:<18} {:>8} {:>8} {:>14} {:>10} {:>10}",
                tally.flushed, tally.survived, tally.kept, tally.kept_idle, tally.two_valid
            ));
        }
    }
    tallies
}

/// Checks the tallies, once all of them were shown.
fn judge(foreign: Foreign) {
    for (version, tallies) in flush_all(foreign) {
        for (protocol, tally) in ["meta", "classic"].iter().zip(tallies) {
            let what = format!("memcached {version}, {protocol}, {foreign:?}: {tally:?}");
            assert_eq!(tally.two_valid, 0, "{what}");
            assert!(tally.survived < tally.flushed, "{what}");
            // A plain read of the classic protocol bumps, and may save the sentinel.
            if foreign == Foreign::Nothing && *protocol == "meta" {
                assert_eq!(tally.kept, 0, "{what}");
            }
        }
    }
}

#[test]
fn busy_cache_flush_leaves_one_guard() {
    judge(Foreign::Nothing);
}

#[test]
fn bumped_sentinel_flush_leaves_one_guard() {
    judge(Foreign::Reads);
}
