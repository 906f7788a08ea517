//! Checks whether the server has forgotten its items, or is about to.

use super::super::check::{Check, CheckContext, Severity};
use super::{count, found, length, not_reported};
use crate::proto::{FlushTime, Sentinel, SentinelState, ServerReport};
use core::time::Duration;
use std::format;
use std::string::String;

pub(super) fn flush(survey: &ServerReport) -> Check {
    const ID: &str = "flush";
    const ADVICE: &str = "find out who says `flush_all`; started with -F, the server refuses it";
    let config = survey.settings.as_ref();
    let flushes = survey.general.as_ref().and_then(|stats| stats.cmd_flush);
    let uptime = survey.general.as_ref().and_then(|stats| stats.uptime);
    let when = config
        .zip(uptime)
        .and_then(|(config, uptime)| config.flush_time(uptime));
    let refused = config.and_then(|config| config.flush_enabled) == Some(false);
    match (when, flushes) {
        (Some(FlushTime::In(left)), _) => found(
            ID,
            Severity::Unsafe,
            format!("the cache will be emptied in {left} s (`flush_all` with a delay)"),
            "all locks that are held then are lost at once",
        )
        .advise("say `flush_all` now, which takes the place of the delayed one, or wait for it"),
        (None, None) => not_reported(ID, "whether the cache was emptied"),
        (when, flushes) => {
            let ago = match when {
                Some(FlushTime::Ago(seconds)) => {
                    format!(
                        ", the last time {} ago",
                        length(Duration::from_secs(seconds))
                    )
                }
                _ => String::new(),
            };
            match flushes {
                Some(flushes @ 1..) => found(
                    ID,
                    Severity::Warning,
                    format!("the cache was emptied {}{ago}", count(flushes, "time")),
                    "each time, all locks are lost, and nothing is granted for the longest lease",
                )
                .advise(ADVICE),
                // A client has sent `stats reset` since.
                _ if !ago.is_empty() => found(
                    ID,
                    Severity::Warning,
                    format!("the cache was emptied{ago}"),
                    "each time, all locks are lost, and nothing is granted for the longest lease",
                )
                .advise(ADVICE),
                _ if refused => found(
                    ID,
                    Severity::Fine,
                    "the cache cannot be emptied (-F)",
                    "no client can drop all locks at once",
                ),
                _ => found(
                    ID,
                    Severity::Fine,
                    "the cache was not emptied since the server started",
                    "any client can drop all locks by `flush_all`; -F forbids it",
                ),
            }
        }
    }
}

pub(super) fn restart(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "restart";
    let (Some(sentinel), Some(general)) = (survey.sentinel, &survey.general) else {
        return not_reported(ID, "how long it has remembered everything");
    };
    let uptime = general.uptime.unwrap_or(0);
    let running = format!("running for {uptime} s");
    let seen = match sentinel {
        Sentinel::Foreign => {
            return found(
                ID,
                Severity::Unsafe,
                "the item under the sentinel's key is foreign",
                "no lock is granted under this prefix",
            )
            .advise("choose another prefix");
        }
        Sentinel::Present { record, .. } if record.state == SentinelState::Ready => {
            let age = survey.memory_age().unwrap_or(0);
            format!("{running}, and nothing forgotten for {age} s")
        }
        Sentinel::Present { .. } => {
            format!("{running}, and the first client is at work on the sentinel")
        }
        Sentinel::Absent => format!("{running}, without a sentinel yet"),
    };
    let Some(lacking) = survey.memory_lacking(terms.longest) else {
        return not_reported(ID, "how long it has remembered everything");
    };
    let wait = length(lacking);
    match (lacking.is_zero(), terms.restart_guard) {
        (true, true) => found(
            ID,
            Severity::Fine,
            seen,
            "no lock from before the last restart or flush can still be held",
        ),
        (false, true) => found(
            ID,
            Severity::Note,
            seen,
            format!(
                "a lock from before the last restart or flush may still be held; the first one is \
                 granted in {wait}"
            ),
        ),
        (true, false) => found(
            ID,
            Severity::Note,
            format!("{seen}; the restart guard is off"),
            "behind the next restart, two may hold a lock until the first one's next renewal",
        )
        .advise("leave the restart guard on"),
        (false, false) => found(
            ID,
            Severity::Warning,
            format!("{seen}; the restart guard is off"),
            format!(
                "a lock from before the last restart or flush may still be held for {wait}, and is \
                 granted to others already"
            ),
        )
        .advise("leave the restart guard on"),
    }
}

pub(super) fn memory_file(survey: &ServerReport) -> Check {
    const ID: &str = "memory-file";
    match survey.settings.as_ref().and_then(|s| s.memory_file) {
        None => not_reported(ID, "whether items outlive a restart"),
        Some(false) => found(
            ID,
            Severity::Fine,
            "no item outlives a restart",
            "a restart drops all locks, which their holders notice",
        ),
        Some(true) => found(
            ID,
            Severity::Unsafe,
            "items outlive a restart that is ordered (-e)",
            "the server's clock jumps by what its wall clock was set forward meanwhile: it drops \
             locks before their leases are over, and where its process id is the same (1 in a \
             container) nothing shows that",
        )
        .advise("start it without -e"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, survey, terms, with_general, with_settings};
    use super::*;
    use crate::proto::SentinelRecord;
    use Severity::{Fine, Note, Unsafe, Warning};

    fn sentinel(state: SentinelState, birth: u64) -> Sentinel {
        let text = crate::engine::checks::tests::SENTINEL;
        let record = SentinelRecord::parse(text.as_bytes()).expect("a sentinel");
        Sentinel::Present {
            record: SentinelRecord {
                state,
                created_at: birth,
                ..record
            },
            second: None,
            idle: None,
        }
    }

    #[test]
    fn flush_is_reported_with_its_time() {
        expect(&flush(&survey()), Fine, "not emptied");
        let forbidden = with_settings(|config| config.flush_enabled = Some(false));
        expect(&flush(&forbidden), Fine, "-F");
        let mut emptied = with_general(|stats| stats.cmd_flush = Some(2));
        expect(&flush(&emptied), Warning, "emptied 2 times");
        emptied.settings.as_mut().expect("told").oldest = Some(3602 + 60 - 30);
        expect(&flush(&emptied), Warning, "2 times, the last time 30 s ago");
        emptied.general.as_mut().expect("told").cmd_flush = Some(0);
        expect(&flush(&emptied), Warning, "emptied, the last time 30 s ago");
        let pending = with_settings(|config| config.oldest = Some(3602 + 60 + 99));
        expect(&flush(&pending), Unsafe, "in 99 s");
        let mut silent = with_general(|stats| stats.cmd_flush = None);
        expect(&flush(&silent), Note, "does not report");
        silent.settings = None;
        expect(&flush(&silent), Note, "does not report");
    }

    #[test]
    fn young_memory_is_reported_with_wait() {
        expect(&restart(&survey(), &terms()), Fine, "forgotten for 3599 s");
        let mut unguarded = terms();
        unguarded.restart_guard = false;
        expect(&restart(&survey(), &unguarded), Note, "guard is off");

        let mut young = survey();
        let born = super::super::tests::NOW - 4;
        young.sentinel = Some(sentinel(SentinelState::Ready, born));
        // The sentinel was evicted: the counters show the memory of an hour.
        expect(&restart(&young, &terms()), Fine, "forgotten for 3599 s");
        young.general.as_mut().expect("told").cmd_flush = Some(1);
        let check = restart(&young, &terms());
        expect(&check, Note, "nothing forgotten for 4 s");
        assert!(check.meaning.contains("granted in 7 s"), "{check:?}");
        expect(&restart(&young, &unguarded), Warning, "guard is off");

        let mut absent = survey();
        absent.sentinel = Some(Sentinel::Absent);
        expect(&restart(&absent, &terms()), Fine, "without a sentinel yet");
        absent.general.as_mut().expect("told").cmd_flush = Some(1);
        let check = restart(&absent, &terms());
        expect(&check, Note, "without a sentinel yet");
        assert!(check.meaning.contains("granted in 14 s"), "{check:?}");

        let mut foreign = survey();
        foreign.sentinel = Some(Sentinel::Foreign);
        expect(&restart(&foreign, &terms()), Unsafe, "key is foreign");
        let mut unborn = survey();
        unborn.sentinel = Some(sentinel(SentinelState::New, 0));
        expect(&restart(&unborn, &terms()), Fine, "at work");
    }

    #[test]
    fn warm_restart_file_is_noted() {
        expect(&memory_file(&survey()), Fine, "no item");
        let kept = with_settings(|config| config.memory_file = Some(true));
        expect(&memory_file(&kept), Unsafe, "-e");
    }
}
