//! The rules by which histories are judged find what they are for: histories that are good, and the
//! same broken on purpose.
#![cfg(all(target_os = "linux", feature = "tokio"))]

#[path = "history/mod.rs"]
mod history;
mod support;

use history::check::{Rules, check};
use history::event::{Event, Fate, Fault, Instant, NotGranted, Released, What};
use history::holdings::History;
use history::reader::{self, ReadError};
use history::recorder::Recorder;
use history::report::Report;
use history::violation::Violation;
use memlatch::LossReason;
use rng::Rng;
use std::fs;
use std::path::PathBuf;
use support::rng;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// The lease of all locks here.
const LEASE: u64 = 2 * SECOND;

/// The time of the clock at the beginning.
const BEGIN: Instant = 1000 * SECOND;

fn event(at: Instant, process: u32, key: u32, holding: u64, what: What) -> Event {
    Event {
        at,
        process,
        key,
        holding,
        what,
    }
}

/// The events of one holding.
#[derive(Debug, Clone, Copy)]
struct Script {
    process: u32,
    key: u32,
    holding: u64,
}

impl Script {
    fn at(self, at: Instant, what: What) -> Event {
        event(at, self.process, self.key, self.holding, what)
    }

    fn granted(self, at: Instant, token: u64) -> Vec<Event> {
        let begin = What::Begin {
            limit: Some(SECOND),
        };
        let granted = What::Granted {
            token: Some(token),
            until: at + LEASE,
        };
        vec![self.at(at - MILLI, begin), self.at(at, granted)]
    }

    fn released(self, at: Instant, outcome: Released) -> Vec<Event> {
        let release = What::Release {
            until: at + SECOND,
            dropped: false,
        };
        vec![
            self.at(at, release),
            self.at(at + MILLI, What::Released(outcome)),
        ]
    }

    fn dropped(self, at: Instant) -> Event {
        let until = at + SECOND;
        self.at(
            at,
            What::Release {
                until,
                dropped: true,
            },
        )
    }

    fn lost(self, at: Instant, reason: LossReason) -> Event {
        self.at(at, What::Lost { reason, until: at })
    }
}

fn script(process: u32, holding: u64) -> Script {
    Script {
        process,
        key: 7,
        holding,
    }
}

/// Some processes that hold some locks, one after the other, and all that may happen to holders.
/// All processes end at the end.
fn good(seed: u64) -> Vec<Event> {
    const PROCESSES: u32 = 5;
    let mut dice = Rng::new(seed, 0);
    let mut events = Vec::new();
    let mut holdings = 0;
    let mut over = BEGIN;
    for key in 0..20 {
        let mut token = 1 + dice.below(1000);
        let mut at = BEGIN + dice.below(SECOND);
        for _ in 0..25 {
            holdings += 1;
            token += 1 + dice.below(3);
            // One that is killed or stopped is not seen again.
            let (fatal, ends) = (dice.chance(2), dice.below(10));
            let process = if fatal || ends == 9 {
                100 + holdings as u32
            } else {
                1 + dice.below(u64::from(PROCESSES)) as u32
            };
            let script = Script {
                process,
                key,
                holding: holdings,
            };
            at += 2 * MILLI + dice.below(100 * MILLI);
            events.extend(script.granted(at, token));
            if dice.chance(30) {
                at += LEASE / 3;
                events.push(script.at(at, What::Until(at + LEASE)));
            }
            let until = match &events[events.len() - 1].what {
                What::Until(until) | What::Granted { until, .. } => *until,
                _ => at,
            };
            if fatal {
                let killed = at + dice.below(LEASE / 2);
                events.push(event(killed, process, 0, 0, What::Process(Fate::Killed)));
                at = until + SECOND;
                continue;
            }
            at += dice.below(LEASE / 2);
            match ends {
                0..5 => {
                    events.extend(script.released(at, Released::Freed));
                    at += MILLI;
                }
                5..8 => events.push(script.dropped(at)),
                8 => {
                    at = until + dice.below(SECOND);
                    events.push(script.lost(at, LossReason::Expired));
                }
                _ => {
                    // Stopped beyond its deadline, and the loss reported when it went on.
                    let stopped = event(at, process, 0, 0, What::Process(Fate::Stopped));
                    at = until + 10 * SECOND;
                    let went_on = event(at, process, 0, 0, What::Process(Fate::Continued));
                    events.extend([stopped, went_on]);
                    at += MILLI;
                    events.push(script.lost(at, LossReason::Unreachable));
                }
            }
        }
        over = over.max(at + SECOND);
    }
    for process in 1..=PROCESSES {
        events.push(event(over, process, 0, 0, What::Process(Fate::Ended)));
    }
    events
}

fn judged_by(events: &[Event], rules: &Rules) -> Report {
    check(&History::new(events).expect("it fits together"), rules)
}

fn judged(events: &[Event]) -> Report {
    judged_by(events, &Rules::STRICT)
}

/// The rules that an otherwise good history breaks with these events.
fn broken_by(extra: Vec<Event>) -> Vec<&'static str> {
    let mut events = good(1);
    // Whatever the key 7 of the good history was about is in the way.
    events.retain(|event| event.key != 7);
    events.extend(extra);
    let report = judged(&events);
    report.violations.iter().map(Violation::rule).collect()
}

/// A process of its own that ends long after everything.
fn ended(process: u32, at: Instant) -> Event {
    event(at, process, 0, 0, What::Process(Fate::Ended))
}

#[test]
fn valid_histories_pass() {
    for seed in 0..50 {
        let report = judged(&good(seed));
        assert_eq!(report.violations, [], "seed {seed}");
        assert_eq!(report.holdings, 500);
        assert_eq!(report.overlaps, 0);
        assert_eq!(report.refused_writes, 0);
        assert!(report.losses["expired"] > 0 && report.losses["unreachable"] > 0);
        assert!(report.releases["freed"] > 0 && report.releases["dropped"] > 0);
    }
}

#[test]
fn file_order_does_not_matter() {
    let events = good(3);
    let mut turned: Vec<Event> = Vec::new();
    for process in (0..1000).rev() {
        turned.extend(events.iter().filter(|one| one.process == process).cloned());
    }
    assert_eq!(turned.len(), events.len());
    assert_eq!(judged(&turned).violations, []);
}

/// A holder that keeps the lock until its release, and one that comes before that.
fn overlap(second_token: Option<u64>) -> Vec<Event> {
    let (first, second) = (script(50, 1), script(51, 1));
    let mut events = first.granted(BEGIN, 1);
    events.extend(second.granted(BEGIN + SECOND, 2));
    events[3].what = What::Granted {
        token: second_token,
        until: BEGIN + SECOND + LEASE,
    };
    events.push(first.dropped(BEGIN + SECOND + 5 * MILLI));
    events.push(second.dropped(BEGIN + SECOND + 9 * MILLI));
    events
}

#[test]
fn double_holding_is_found() {
    assert_eq!(broken_by(overlap(Some(2))), ["overlap"]);
}

#[test]
fn distant_double_holding_is_found() {
    // The first holding is long, and the one right before the third has ended.
    let mut events = overlap(Some(2));
    let third = script(52, 1);
    events.extend(third.granted(BEGIN + SECOND + 12 * MILLI, 3));
    events.push(third.dropped(BEGIN + SECOND + 13 * MILLI));
    for event in &mut events {
        if event.process == 50 && matches!(event.what, What::Release { .. }) {
            event.at = BEGIN + SECOND + 20 * MILLI;
        }
    }
    assert_eq!(broken_by(events), ["overlap", "overlap"]);
}

#[test]
fn double_holding_is_caught_by_tokens() {
    let rules = Rules {
        overlaps: true,
        ..Rules::STRICT
    };
    let report = judged_by(&overlap(Some(2)), &rules);
    assert_eq!(report.violations, []);
    assert_eq!((report.overlaps, report.caught), (1, 1));
    // The one that came first writes once more behind the other's first write.
    assert_eq!(report.refused_writes, 1);
    // The call that was granted first may return later: then it writes nothing.
    let mut turned = overlap(Some(2));
    turned[1].what = What::Granted {
        token: Some(3),
        until: BEGIN + LEASE,
    };
    let report = judged_by(&turned, &rules);
    assert_eq!(report.violations, []);
    assert_eq!((report.overlaps, report.caught), (1, 1));
    assert_eq!(report.refused_writes, 2);
}

/// Two hold the lock at once, with equal tokens or none.
#[test]
fn double_holding_despite_tokens_is_found() {
    let rules = Rules {
        overlaps: true,
        ..Rules::STRICT
    };
    let rules_of = |events: &[Event]| -> Vec<_> {
        let report = judged_by(events, &rules);
        assert_eq!((report.overlaps, report.caught), (1, 0));
        report.violations.iter().map(Violation::rule).collect()
    };
    assert_eq!(rules_of(&overlap(Some(1))), ["not-caught", "token-twice"]);
    assert_eq!(rules_of(&overlap(None)), ["not-caught"]);
}

#[test]
fn falling_token_is_found() {
    let (first, second) = (script(50, 1), script(51, 1));
    let mut events = first.granted(BEGIN, 9);
    events.extend(first.released(BEGIN + MILLI, Released::Freed));
    events.extend(second.granted(BEGIN + SECOND, 8));
    events.extend(second.released(BEGIN + SECOND + MILLI, Released::Freed));
    assert_eq!(broken_by(events), ["token-fell"]);
}

/// A token may be lower than one granted before if its request is older.
#[test]
fn earlier_request_may_have_lower_token() {
    let rules = Rules {
        overlaps: true,
        ..Rules::STRICT
    };
    let (first, second) = (script(50, 1), script(51, 1));
    let mut events = second.granted(BEGIN + SECOND, 8);
    events[0].at = BEGIN;
    events.push(second.dropped(BEGIN + SECOND + MILLI));
    events.extend(first.granted(BEGIN + 2 * MILLI, 9));
    events.push(first.dropped(BEGIN + 3 * MILLI));
    assert_eq!(judged_by(&events, &rules).violations, []);
    events[0].at = BEGIN + 3 * MILLI;
    let report = judged_by(&events, &rules);
    let broken: Vec<_> = report.violations.iter().map(Violation::rule).collect();
    assert_eq!(broken, ["token-fell"]);
    let counters = Rules {
        counters: true,
        ..rules
    };
    let report = judged_by(&events, &counters);
    assert_eq!(report.violations, []);
    assert_eq!(report.fallen, 1);
}

#[test]
fn repeated_token_is_found() {
    let (first, second) = (script(50, 1), script(51, 1));
    let mut events = first.granted(BEGIN, 9);
    events.extend(first.released(BEGIN + MILLI, Released::Freed));
    events.extend(second.granted(BEGIN + SECOND, 9));
    events.extend(second.released(BEGIN + SECOND + MILLI, Released::Freed));
    assert_eq!(broken_by(events), ["token-twice"]);
}

#[test]
fn unreported_loss_is_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    events.push(ended(50, BEGIN + LEASE + 5 * SECOND));
    assert_eq!(broken_by(events.clone()), ["not-told"]);
    // It did not run for most of that time, as itself or as the driver says.
    let pause = |what| event(BEGIN + LEASE + 4 * SECOND, 50, 0, 0, what);
    let mut paused = events.clone();
    paused.push(pause(What::Paused { since: BEGIN }));
    assert!(broken_by(paused).is_empty());
    let mut stopped = events.clone();
    stopped.push(event(BEGIN, 50, 0, 0, What::Process(Fate::Stopped)));
    stopped.push(pause(What::Process(Fate::Continued)));
    assert!(broken_by(stopped).is_empty());
    // It was killed before it had to be.
    events.push(event(
        BEGIN + LEASE + SECOND,
        50,
        0,
        0,
        What::Process(Fate::Killed),
    ));
    events.retain(|event| event.what != What::Process(Fate::Ended));
    assert!(broken_by(events).is_empty());
}

#[test]
fn loss_only_seen_by_release_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    let at = BEGIN + LEASE + 3 * SECOND;
    let release = What::Release {
        until: at,
        dropped: false,
    };
    events.push(lost.at(at, release));
    let outcome = Released::AlreadyLost(LossReason::Expired);
    events.push(lost.at(at, What::Released(outcome)));
    assert_eq!(broken_by(events), ["not-told"]);
}

#[test]
fn late_loss_report_is_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    events.push(lost.lost(BEGIN + LEASE + 3 * SECOND, LossReason::Expired));
    assert_eq!(broken_by(events.clone()), ["told-late"]);
    // A deadline that was moved counts from where it was moved to.
    let at = BEGIN + SECOND;
    events.insert(2, lost.at(at, What::Until(at + LEASE)));
    assert!(broken_by(events).is_empty());
}

#[test]
fn repeated_loss_report_is_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    for later in [0, 1] {
        let at = BEGIN + LEASE + later * MILLI;
        events.push(lost.lost(at, LossReason::Expired));
    }
    assert_eq!(broken_by(events), ["told-twice"]);
}

#[test]
fn valid_guard_after_loss_is_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    let at = BEGIN + LEASE - MILLI;
    let what = What::Lost {
        reason: LossReason::Expired,
        until: at + MILLI,
    };
    events.push(lost.at(at, what));
    assert_eq!(broken_by(events), ["lost-but-valid"]);
}

#[test]
fn loss_of_released_lock_is_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    events.extend(lost.released(BEGIN + MILLI, Released::Freed));
    events.push(lost.lost(BEGIN + 5 * MILLI, LossReason::Expired));
    assert_eq!(broken_by(events), ["lost-after-release"]);
    // No call had released it.
    let mut events = lost.granted(BEGIN, 1);
    events.push(lost.lost(BEGIN + 5 * MILLI, LossReason::Released));
    assert_eq!(broken_by(events), ["lost-after-release"]);
}

#[test]
fn release_of_lost_lock_is_found() {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    events.push(lost.lost(BEGIN + LEASE, LossReason::Expired));
    events.extend(lost.released(BEGIN + LEASE + MILLI, Released::Freed));
    assert_eq!(broken_by(events), ["freed-after-loss"]);
    // The loss was never reported, and the lock was lost all the same.
    let mut events = lost.granted(BEGIN, 1);
    events.extend(lost.released(BEGIN + LEASE + MILLI, Released::Freed));
    events[2].what = What::Release {
        until: BEGIN + LEASE + MILLI,
        dropped: false,
    };
    assert_eq!(broken_by(events), ["freed-after-loss"]);
}

/// Told before its deadline.
fn early(reason: LossReason) -> Vec<Event> {
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    events.push(lost.lost(BEGIN + SECOND, reason));
    events
}

#[test]
fn unexplained_loss_is_found() {
    let forgetting = |at, fault| event(at, 0, 0, 0, What::Server(fault));
    for reason in [
        LossReason::TakenOver,
        LossReason::Missing,
        LossReason::ServerRestarted,
    ] {
        assert_eq!(broken_by(early(reason)), ["unexplained"]);
        let mut explained = early(reason);
        explained.push(forgetting(BEGIN + MILLI, Fault::Forgetting));
        explained.push(forgetting(BEGIN + 2 * MILLI, Fault::Forgotten));
        assert!(broken_by(explained).is_empty());
        // Before it was asked for, nothing could be forgotten.
        let mut before = early(reason);
        before.push(forgetting(BEGIN - 9 * MILLI, Fault::Forgetting));
        before.push(forgetting(BEGIN - 8 * MILLI, Fault::Forgotten));
        assert_eq!(broken_by(before), ["unexplained"]);
        let evictions = Rules {
            evictions: true,
            ..Rules::STRICT
        };
        assert_eq!(judged_by(&early(reason), &evictions).violations, []);
    }
    assert!(broken_by(early(LossReason::Unreachable)).is_empty());
    // The release may be the first to hear of it.
    let lost = script(50, 1);
    let mut events = lost.granted(BEGIN, 1);
    let outcome = Released::AlreadyLost(LossReason::Missing);
    events.extend(lost.released(BEGIN + MILLI, outcome));
    assert_eq!(broken_by(events), ["unexplained"]);
}

#[test]
fn slow_acquisition_is_found() {
    let long = script(50, 1);
    let begin = What::Begin {
        limit: Some(SECOND),
    };
    let asked = long.at(BEGIN, begin);
    let refused = |at| long.at(at, What::NotGranted(NotGranted::Timeout));
    let in_time = vec![asked.clone(), refused(BEGIN + 4 * SECOND)];
    assert!(broken_by(in_time).is_empty());
    let mut late = vec![asked.clone(), refused(BEGIN + 4 * SECOND + MILLI)];
    assert_eq!(broken_by(late.clone()), ["too-long"]);
    late.push(event(
        BEGIN + SECOND + MILLI,
        50,
        0,
        0,
        What::Paused { since: BEGIN },
    ));
    assert!(broken_by(late).is_empty());
    // It has not returned at all.
    let never = vec![asked, ended(50, BEGIN + 5 * SECOND)];
    assert_eq!(broken_by(never), ["too-long"]);
}

#[test]
fn release_of_foreign_lock_is_found() {
    let (first, second) = (script(50, 1), script(51, 1));
    let with = |outcome| {
        let mut events = first.granted(BEGIN, 1);
        events.extend(second.granted(BEGIN + SECOND, 2));
        events.push(second.dropped(BEGIN + SECOND + MILLI));
        events.extend(first.released(BEGIN + SECOND + 5 * MILLI, outcome));
        events
    };
    let claim = with(Released::Freed);
    assert_eq!(broken_by(claim.clone()), ["overlap", "freed-under-another"]);
    assert_eq!(broken_by(with(Released::Cancelled)), ["overlap"]);
    // Where two may hold it, it is counted.
    let rules = Rules {
        overlaps: true,
        ..Rules::STRICT
    };
    let report = judged_by(&claim, &rules);
    assert_eq!(report.violations, []);
    assert_eq!((report.overlaps, report.claimed), (1, 1));
}

/// A grant whose deadline has passed when it arrives overlaps with no other.
#[test]
fn expired_grant_never_counts_as_held() {
    let (late, other) = (script(50, 1), script(51, 1));
    let mut events = late.granted(BEGIN, 1);
    events[1].what = What::Granted {
        token: Some(1),
        until: BEGIN,
    };
    events.push(late.at(
        BEGIN + SECOND,
        What::Release {
            until: BEGIN + SECOND,
            dropped: true,
        },
    ));
    events.extend(other.granted(BEGIN - MILLI, 2));
    events.push(other.dropped(BEGIN + MILLI));
    let report = judged(&events);
    assert_eq!(report.violations, []);
    assert_eq!((report.holdings, report.late), (1, 1));
}

/// A killed process holds its locks until its death or their deadline, whichever is first.
#[test]
fn killed_holder_counts_until_deadline() {
    let (first, second) = (script(50, 1), script(51, 1));
    let killed = |at| event(at, 50, 0, 0, What::Process(Fate::Killed));
    let with = |death, next| {
        let mut events = first.granted(BEGIN, 1);
        events.push(killed(death));
        events.extend(second.granted(next, 2));
        events.push(second.dropped(next + MILLI));
        broken_by(events)
    };
    assert!(with(BEGIN + SECOND, BEGIN + SECOND).is_empty());
    assert_eq!(with(BEGIN + SECOND, BEGIN + SECOND - 1), ["overlap"]);
    assert!(with(BEGIN + 2 * LEASE, BEGIN + LEASE).is_empty());
}

#[test]
fn inconsistent_events_are_found() {
    let holder = script(50, 1);
    let good = holder.granted(BEGIN, 1);
    let malformed = |events: &[Event]| {
        let wrong = History::new(events).expect_err("it does not fit together");
        assert_eq!(wrong.rule(), "malformed");
    };
    malformed(&good[1..]);
    malformed(&[good[0].clone(), good[0].clone()]);
    malformed(&[good[0].clone(), good[1].clone(), good[1].clone()]);
    malformed(&[good[0].clone(), holder.dropped(BEGIN)]);
    let mut moved = good.clone();
    moved[1].key = 8;
    malformed(&moved);
}

#[test]
fn events_survive_round_trip() {
    let mut events = good(5);
    let holder = script(50, 1);
    for what in [
        What::Begin { limit: None },
        What::Granted {
            token: None,
            until: 5,
        },
        What::NotGranted(NotGranted::Refused),
        What::NotGranted(NotGranted::Timeout),
        What::NotGranted(NotGranted::Cancelled),
        What::NotGranted(NotGranted::Failed("Unknown".to_owned())),
        What::Released(Released::AlreadyLost(LossReason::ServerRestarted)),
        What::Released(Released::Cancelled),
        What::Released(Released::Failed("Unavailable".to_owned())),
        What::Lost {
            reason: LossReason::TakenOver,
            until: 9,
        },
        What::Paused { since: 3 },
        What::Server(Fault::Stopped),
        What::Server(Fault::Continued),
        What::Server(Fault::Forgetting),
        What::Server(Fault::Forgotten),
    ] {
        events.push(holder.at(BEGIN, what));
    }
    for event in events {
        assert_eq!(event.to_string().parse(), Ok(event));
    }
    for line in [
        "",
        "1 2 3 4",
        "1 2 3 4 granted 5",
        "1 2 3 4 freed 5",
        "1 2 3 4 lost tired 5",
        "1 2 3 4 sold",
        "x 2 3 4 freed",
    ] {
        assert!(line.parse::<Event>().is_err(), "{line}");
    }
}

/// A folder for histories that goes with its user.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("memlatch-history-{name}-{}", std::process::id());
        let folder = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        let _ = fs::remove_dir_all(&folder.0);
        fs::create_dir_all(&folder.0).expect("a folder");
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn only_truncated_last_line_is_dropped() {
    let folder = Folder::new("torn");
    let holder = script(50, 1);
    let driver = Recorder::create(&folder.0, 0);
    let own = Recorder::create(&folder.0, 50);
    let events = holder.granted(BEGIN, 1);
    for event in &events {
        own.write(event.at, event.key, event.holding, event.what.clone());
    }
    let sorted = || {
        let mut read = reader::read(&folder.0)?;
        read.sort_unstable_by_key(|event| event.at);
        Ok::<_, ReadError>(read)
    };
    assert_eq!(sorted().expect("whole lines"), events);

    let file = Recorder::file(&folder.0, 50);
    let mut text = fs::read_to_string(&file).expect("written");
    text.push_str("1000000 50 7 1 fre");
    fs::write(&file, text).expect("torn");
    let error = sorted().expect_err("nobody was killed");
    assert!(matches!(error, ReadError::Torn(_)), "{error:?}");

    let killed = What::Process(Fate::Killed);
    driver.write_about(50, BEGIN + MILLI, 0, 0, killed.clone());
    let mut with_death = events;
    with_death.push(event(BEGIN + MILLI, 50, 0, 0, killed));
    assert_eq!(sorted().expect("killed"), with_death);

    fs::write(&file, "1000000 50 7 1 fre\n").expect("broken");
    let error = sorted().expect_err("a whole line that is none");
    assert!(matches!(error, ReadError::Line(_)), "{error:?}");
}
