//! Checks of the change between two reports of a server.

use super::super::check::{Check, CheckContext, Severity};
use super::memory::keeps_locks;
use super::{count, found, not_reported};
use crate::proto::{GeneralStats, ServerReport};
use std::format;
use std::string::String;
use std::vec::Vec;

const ID: &str = "change";

pub(in super::super) fn change(
    before: &ServerReport,
    after: &ServerReport,
    terms: &CheckContext,
) -> Check {
    let (Some(old), Some(new)) = (&before.general, &after.general) else {
        return not_reported(ID, "its counters");
    };
    let seconds = new
        .time
        .zip(old.time)
        .map(|(new, old)| new.saturating_sub(old));
    let within = seconds.map_or("meanwhile".into(), |seconds| format!("within {seconds} s"));
    if started(old) != started(new) || old.pid != new.pid {
        return found(
            ID,
            Severity::Unsafe,
            format!("the server was restarted {within}, or another one answers"),
            "all locks that were held then are lost",
        )
        .advise("find out why it ends, and whether several servers share its address");
    }
    // A client may have sent `stats reset`, so a count may be lower than before.
    let grown = |field: fn(&GeneralStats) -> Option<u64>| {
        let (old, new) = (field(old).unwrap_or(0), field(new).unwrap_or(0));
        new.saturating_sub(old)
    };
    let kept = keeps_locks(after, terms);
    let mut verdict = Severity::Fine;
    let mut seen: Vec<String> = Vec::new();
    let mut meaning = "nothing was dropped or refused";
    for (grown, one, worse, means) in [
        (
            grown(|stats| stats.rejected_connections),
            "refused connection",
            Severity::Warning,
            "clients that find no connection cannot renew, and lose their locks",
        ),
        (
            grown(|stats| stats.store_no_memory),
            "item refused for want of memory",
            Severity::Warning,
            "locks cannot be had",
        ),
        (
            grown(|stats| stats.evictions),
            "eviction",
            if kept {
                Severity::Note
            } else {
                Severity::Warning
            },
            if kept {
                "other items are dropped, and maybe the sentinel; locks are exempt"
            } else {
                "items are dropped just now, and locks are not exempt"
            },
        ),
        (
            grown(|stats| stats.cmd_flush),
            "`flush_all`",
            Severity::Unsafe,
            "all locks that were held then are lost",
        ),
    ] {
        if grown == 0 {
            continue;
        }
        seen.push(match one.strip_prefix("item ") {
            Some(rest) => format!("{} {rest}", count(grown, "item")),
            None => count(grown, one),
        });
        if worse >= verdict {
            (verdict, meaning) = (worse, means);
        }
    }
    let check = if seen.is_empty() {
        found(ID, verdict, format!("nothing {within}"), meaning)
    } else {
        found(
            ID,
            verdict,
            format!("{} {within}", seen.join(", ")),
            meaning,
        )
    };
    match verdict {
        Severity::Fine => check,
        _ => check.advise("see what the checks about it advise"),
    }
}

/// Returns when a server was started, by its report.
fn started(stats: &GeneralStats) -> u64 {
    let started = stats.time.zip(stats.uptime);
    started.map_or(0, |(time, uptime)| time.saturating_sub(uptime))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, survey, terms, with_general, with_settings};
    use super::*;
    use Severity::{Fine, Note, Unsafe, Warning};

    /// Returns the report two seconds later, with a changed value.
    fn later(mut survey: ServerReport, differ: impl FnOnce(&mut GeneralStats)) -> Check {
        let before = super::super::tests::survey();
        let general = survey.general.as_mut().expect("told");
        general.time = general.time.map(|time| time + 2);
        general.uptime = general.uptime.map(|uptime| uptime + 2);
        differ(general);
        change(&before, &survey, &terms())
    }

    #[test]
    fn changes_get_the_worst_rating() {
        expect(&later(survey(), |_| ()), Fine, "nothing within 2 s");
        let check = later(survey(), |stats| stats.evictions = Some(1));
        expect(&check, Note, "1 eviction within 2 s");
        let bare = with_settings(|config| config.temp_lru = Some(false));
        let check = later(bare, |stats| stats.evictions = Some(7));
        expect(&check, Warning, "7 evictions within 2 s");
        let check = later(survey(), |stats| {
            stats.rejected_connections = Some(2);
            stats.store_no_memory = Some(3);
            stats.cmd_flush = Some(1);
        });
        let all = "2 refused connections, 3 items refused for want of memory, 1 `flush_all`";
        expect(&check, Unsafe, all);
        assert!(check.meaning.contains("lost"), "{check:?}");
    }

    #[test]
    fn changed_run_is_a_restart() {
        for check in [
            later(survey(), |stats| stats.pid = Some(2)),
            later(survey(), |stats| stats.uptime = Some(3)),
        ] {
            expect(&check, Unsafe, "restarted within 2 s");
        }
    }

    #[test]
    fn decreased_or_missing_counters_prove_nothing() {
        let before = with_general(|stats| stats.evictions = Some(9));
        expect(&change(&before, &survey(), &terms()), Fine, "nothing");
        let mut silent = survey();
        silent.general = None;
        expect(
            &change(&survey(), &silent, &terms()),
            Note,
            "does not report",
        );
    }
}
