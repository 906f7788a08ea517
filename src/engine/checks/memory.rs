//! Checks whether the server keeps the items it stores.

use super::super::check::{Check, CheckContext, Severity};
use super::{count, found, not_reported};
use crate::proto::{LARGEST_ITEM, ServerReport, SettingStats};
use std::format;
use std::string::String;

/// The granularity of an item's last use: memcached notes the use of an item that is used often
/// only once a minute, so the item may seem that much older than it is.
const USE_NOTED: u64 = 60;

/// The first release that is known to have page moves which keep items that are exempt from
/// eviction. Earlier ones drop all items of the page (1.6.18 did, 1.6.38 did not; the releases in
/// between were not tried).
const KEEPS_MOVED: (u64, u64, u64) = (1, 6, 38);

/// Memory counts as nearly full from this many percent on.
const NEARLY_FULL: u64 = 90;

fn start_option(terms: &CheckContext) -> String {
    format!(
        "start the server with -o temporary_ttl={0}, or -M, and give it more memory (-m); \
         `lru temp_ttl {0}` sets it while the server runs",
        terms.seconds_to_live()
    )
}

/// Returns whether items that live as long as the longest lease are exempt from eviction.
fn is_exempt(config: &SettingStats, terms: &CheckContext) -> bool {
    let limit = config.exempt_up_to();
    limit.is_some_and(|limit| limit >= terms.seconds_to_live())
}

/// Checks whether locks stay when memory is short.
pub(super) fn keeps_locks(survey: &ServerReport, terms: &CheckContext) -> bool {
    let config = survey.settings.as_ref();
    config.is_some_and(|config| config.evictions == Some(false) || is_exempt(config, terms))
}

/// Returns the number of dropped items, by the higher of two counters: `stats reset` does not clear
/// both.
fn evicted(survey: &ServerReport) -> Option<u64> {
    let general = survey.general.as_ref().and_then(|stats| stats.evictions);
    let items = survey.items.as_ref().map(|items| items.evicted);
    general.max(items)
}

pub(super) fn eviction(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "eviction";
    let Some(config) = survey.settings.as_ref().filter(|s| s.evictions.is_some()) else {
        return match evicted(survey) {
            Some(evicted @ 1..) => found(
                ID,
                Severity::Warning,
                format!(
                    "{}, and the server does not report what is exempt",
                    count(evicted, "eviction")
                ),
                "the server drops items when memory is short, and may drop locks with them",
            )
            .advise(start_option(terms)),
            _ => not_reported(ID, "what it does when memory is short"),
        };
    };
    if config.evictions == Some(false) {
        let meaning = "nothing is dropped before its time; when memory is short, locks are refused";
        return found(ID, Severity::Fine, "no evictions (-M)", meaning);
    }
    let needed = terms.seconds_to_live();
    let evicted = evicted(survey);
    if let Some(limit) = config.exempt_up_to().filter(|limit| *limit >= needed) {
        let exempt = survey.items.as_ref().and_then(|items| items.number_temp);
        let exempt = exempt.map_or(String::new(), |number| format!(", {number} at present"));
        let seen = format!("items with up to {limit} s to live are exempt{exempt}");
        return match evicted {
            Some(evicted @ 1..) => found(
                ID,
                Severity::Note,
                format!("{seen}; {} among the others", count(evicted, "eviction")),
                "locks stay. The sentinel does not: when it is dropped, nothing is granted for the \
                 length of the longest lease. Lean locks are not exempt either",
            )
            .advise("give the server more memory (-m)"),
            _ => found(
                ID,
                Severity::Fine,
                seen,
                "locks stay when memory is short; locks without a record are not exempt",
            ),
        };
    }
    let why = match config.exempt_up_to() {
        Some(limit) => {
            format!("only items with up to {limit} s to live are exempt, not {needed} s")
        }
        None if config.temp_lru.is_none() => {
            "the server does not report what is exempt from eviction".into()
        }
        None => "nothing is exempt from eviction".into(),
    };
    let check = match evicted {
        Some(evicted @ 1..) => dropped(survey, evicted, &why, terms),
        Some(0) => found(
            ID,
            Severity::Warning,
            format!("{why}; no item was evicted so far"),
            "when memory is short, the server drops locks that are held, and a second holder may \
             come before the first one's next renewal",
        ),
        _ => found(
            ID,
            Severity::Warning,
            format!("{why}; the server does not report how many items were evicted"),
            "when memory is short, the server drops locks that are held",
        ),
    };
    check.advise(start_option(terms))
}

/// Returns the finding that items were dropped, and locks are not exempt.
fn dropped(survey: &ServerReport, evicted: u64, why: &str, terms: &CheckContext) -> Check {
    const ID: &str = "eviction";
    let evictions = count(evicted, "eviction");
    let items = survey.items.as_ref();
    let with_ttl = items.map_or(String::new(), |items| {
        format!(", {} of items with a time to live", items.evicted_nonzero)
    });
    let age = items.and_then(|items| items.evicted_time);
    match age {
        Some(age) if age >= terms.seconds_to_live() + USE_NOTED => found(
            ID,
            Severity::Warning,
            format!("{why}; {evictions}{with_ttl}, none used in its last {age} s"),
            "so far only items were dropped that had not been used for longer than a lock lives; \
             under more load it is locks",
        ),
        Some(age) => found(
            ID,
            Severity::Unsafe,
            format!("{why}; {evictions}{with_ttl}, one of them used {age} s before"),
            "items as young as locks are dropped: a lock that is held can be granted to another",
        ),
        None => found(
            ID,
            Severity::Unsafe,
            format!("{why}; {evictions}{with_ttl}"),
            "items are dropped, and how young they are is not told: a lock that is held can be \
             granted to another",
        ),
    }
}

pub(super) fn out_of_memory(survey: &ServerReport) -> Check {
    const ID: &str = "out-of-memory";
    let Some(general) = &survey.general else {
        return not_reported(ID, "whether it ran out of memory");
    };
    let refused = general
        .store_no_memory
        .max(survey.items.as_ref().map(|items| items.outofmemory));
    let full = general.bytes.zip(general.limit_maxbytes);
    let percent = full
        .filter(|(_, limit)| *limit > 0)
        .map(|(bytes, limit)| bytes.saturating_mul(100) / limit);
    let without_eviction = survey
        .settings
        .as_ref()
        .is_some_and(|config| config.evictions == Some(false));
    let used = percent.map_or(String::new(), |percent| {
        format!(", {percent} % of the memory in use")
    });
    match (refused, percent) {
        (Some(refused @ 1..), _) => found(
            ID,
            Severity::Warning,
            format!(
                "{} refused for want of memory{used}",
                count(refused, "item")
            ),
            "locks cannot be had while memory is short; those that are held stay and are renewed",
        )
        .advise("give the server more memory (-m)"),
        (_, Some(percent)) if without_eviction && percent >= NEARLY_FULL => found(
            ID,
            Severity::Warning,
            format!("nothing refused{used}, and no evictions (-M)"),
            "when memory is full, locks are refused",
        )
        .advise("give the server more memory (-m)"),
        (Some(_), _) => found(
            ID,
            Severity::Fine,
            format!("nothing refused{used}"),
            "there was memory for every lock so far",
        ),
        (None, _) => not_reported(ID, "whether it ran out of memory"),
    }
}

pub(super) fn page_moves(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "page-moves";
    const ADVICE: &str =
        "start the server with -o no_slab_automove, and leave `slabs reassign` alone";
    let moved = survey.general.as_ref().and_then(|stats| stats.slabs_moved);
    let automove = survey.settings.as_ref().and_then(|s| s.slab_automove);
    let Some(moved) = moved else {
        return not_reported(ID, "whether it moves memory between size classes");
    };
    let exempt = survey.settings.as_ref().is_some_and(|config| {
        let stays = survey.is_at_least(KEEPS_MOVED) == Some(true);
        stays && is_exempt(config, terms)
    });
    let lost = survey
        .general
        .as_ref()
        .and_then(|stats| stats.slab_reassign_evictions_nomem)
        .filter(|lost| *lost > 0);
    let pages = count(moved, "page");
    if automove == Some(2) {
        let meaning = "each eviction moves a page of memory, and drops locks that stand in it";
        return found(ID, Severity::Warning, "slab_automove is 2", meaning).advise(ADVICE);
    }
    match (moved, lost) {
        (_, Some(lost)) => found(
            ID,
            Severity::Warning,
            format!(
                "{pages} moved, and {} dropped with them",
                count(lost, "item")
            ),
            "a page that moves to another size class takes the locks in it away",
        )
        .advise(ADVICE),
        (0, None) => found(
            ID,
            Severity::Fine,
            "no page moved",
            "no lock was lost because memory moved between size classes",
        ),
        _ if exempt => found(
            ID,
            Severity::Note,
            format!("{pages} moved"),
            "locks in a page that moves are kept, because they are exempt from eviction",
        ),
        _ => found(
            ID,
            Severity::Warning,
            format!("{pages} moved"),
            "locks in a page that moves to another size class may be dropped",
        )
        .advise(ADVICE),
    }
}

pub(super) fn item_size(survey: &ServerReport) -> Check {
    const ID: &str = "item-size";
    let most = survey.settings.as_ref().and_then(|s| s.item_size_max);
    match most {
        None => not_reported(ID, "how large an item may be"),
        Some(most) if most < LARGEST_ITEM => found(
            ID,
            Severity::Unsafe,
            format!("items of up to {} (-I)", count(most, "byte")),
            "locks with long names or labels are refused",
        )
        .advise(format!("start the server with -I {LARGEST_ITEM} or more")),
        Some(most) => found(
            ID,
            Severity::Fine,
            format!("items of up to {}", count(most, "byte")),
            "the largest lock fits in",
        ),
    }
}

pub(super) fn extstore(survey: &ServerReport) -> Check {
    const ID: &str = "extstore";
    let Some(general) = &survey.general else {
        return not_reported(ID, "whether items may lie on a disk");
    };
    if !general.extstore {
        let meaning = "no lock waits for a disk";
        return found(ID, Severity::Fine, "all items are in memory", meaning);
    }
    let least = survey.settings.as_ref().and_then(|s| s.ext_item_size);
    match least {
        Some(least) if least >= LARGEST_ITEM => found(
            ID,
            Severity::Fine,
            format!("items from {} on may lie on a disk", count(least, "byte")),
            "locks are smaller",
        ),
        Some(least) if least >= LARGEST_ITEM / 2 => found(
            ID,
            Severity::Note,
            format!("items from {} on may lie on a disk", count(least, "byte")),
            "locks are smaller, unless their names and labels are very long",
        ),
        _ => found(
            ID,
            Severity::Warning,
            match least {
                Some(least) => format!("items from {} on may lie on a disk", count(least, "byte")),
                None => "items may lie on a disk".into(),
            },
            "a lock that lies on a disk is lost when the disk fails, and slow otherwise",
        )
        .advise(format!(
            "start the server with -o ext_item_size={LARGEST_ITEM}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, survey, terms, with_general, with_items, with_settings};
    use super::*;
    use Severity::{Fine, Note, Unsafe, Warning};

    /// Returns a report in which nothing is exempt and this many items were dropped, the last one
    /// unused for `age`.
    fn evicting(number: u64, age: Option<u64>) -> ServerReport {
        let mut survey = with_settings(|config| config.temp_lru = Some(false));
        survey.general.as_mut().expect("told").evictions = Some(number);
        let items = survey.items.as_mut().expect("told");
        items.evicted = number;
        items.evicted_time = age;
        survey
    }

    #[test]
    fn evictable_locks_are_unsafe() {
        let eviction = |survey: &ServerReport| eviction(survey, &terms());
        expect(
            &eviction(&survey()),
            Fine,
            "up to 21 s to live are exempt, 0 at present",
        );
        let never = with_settings(|config| config.evictions = Some(false));
        expect(&eviction(&never), Fine, "-M");
        let others = with_general(|stats| stats.evictions = Some(7));
        expect(&eviction(&others), Note, "7 evictions among the others");

        let check = eviction(&evicting(0, None));
        expect(&check, Warning, "nothing is exempt");
        let advice = check.advice.expect("advice");
        assert!(advice.contains("temporary_ttl=21") && advice.contains("lru temp_ttl 21"));
        let low = with_settings(|config| config.temporary_ttl = Some(20));
        expect(
            &eviction(&low),
            Warning,
            "up to 20 s to live are exempt, not 21 s",
        );

        expect(
            &eviction(&evicting(5, Some(81))),
            Warning,
            "none used in its last 81 s",
        );
        expect(
            &eviction(&evicting(5, Some(80))),
            Unsafe,
            "used 80 s before",
        );
        expect(&eviction(&evicting(5, None)), Unsafe, "5 evictions");
        // `stats reset` clears one counter only.
        let mut half = evicting(5, Some(3));
        half.general.as_mut().expect("told").evictions = Some(0);
        expect(&eviction(&half), Unsafe, "5 evictions");
    }

    #[test]
    fn longer_lease_needs_higher_limit() {
        let mut longer = terms();
        longer.longest = crate::proto::Lease::new(core::time::Duration::from_secs(99)).expect("ok");
        let check = eviction(&survey(), &longer);
        expect(&check, Warning, "not 110 s");
    }

    #[test]
    fn evictions_without_settings_are_reported() {
        let mut silent = evicting(5, Some(3));
        silent.settings = None;
        expect(
            &eviction(&silent, &terms()),
            Warning,
            "5 evictions, and the server does not report",
        );
        let mut silent = survey();
        silent.settings = None;
        expect(&eviction(&silent, &terms()), Note, "does not report");
    }

    #[test]
    fn memory_refusals_are_reported() {
        expect(&out_of_memory(&survey()), Fine, "0 % of the memory");
        let refused = with_general(|stats| stats.store_no_memory = Some(1));
        expect(&out_of_memory(&refused), Warning, "1 item refused");
        let refused = with_items(|items| items.outofmemory = 2);
        expect(&out_of_memory(&refused), Warning, "2 items refused");
        let mut full = with_general(|stats| stats.bytes = stats.limit_maxbytes);
        expect(&out_of_memory(&full), Fine, "100 %");
        full.settings.as_mut().expect("told").evictions = Some(false);
        expect(&out_of_memory(&full), Warning, "100 %");
        let none = with_general(|stats| stats.limit_maxbytes = Some(0));
        expect(&out_of_memory(&none), Fine, "nothing refused");
    }

    #[test]
    fn page_moves_matter_for_evictable_locks() {
        let page_moves = |survey: &ServerReport| page_moves(survey, &terms());
        expect(&page_moves(&survey()), Fine, "no page");
        let mut moved = with_general(|stats| stats.slabs_moved = Some(2));
        expect(&page_moves(&moved), Note, "2 pages moved");
        moved.release = Some((1, 6, 18));
        expect(&page_moves(&moved), Warning, "2 pages moved");
        moved.release = None;
        expect(&page_moves(&moved), Warning, "2 pages moved");
        let mut moved = with_settings(|config| config.temp_lru = Some(false));
        moved.general.as_mut().expect("told").slabs_moved = Some(1);
        expect(&page_moves(&moved), Warning, "1 page moved");
        let lost = with_general(|stats| stats.slab_reassign_evictions_nomem = Some(9));
        expect(&page_moves(&lost), Warning, "9 items dropped");
        let eager = with_settings(|config| config.slab_automove = Some(2));
        expect(&page_moves(&eager), Warning, "slab_automove is 2");
    }

    #[test]
    fn too_small_item_size_is_unsafe() {
        expect(&item_size(&survey()), Fine, "1048576 bytes");
        let least = with_settings(|config| config.item_size_max = Some(1024));
        expect(&item_size(&least), Fine, "1024 bytes");
        let small = with_settings(|config| config.item_size_max = Some(1023));
        expect(&item_size(&small), Unsafe, "1023 bytes");
    }

    #[test]
    fn external_storage_matters_for_lock_items() {
        expect(&extstore(&survey()), Fine, "in memory");
        let with_disk = |least| {
            let mut survey = with_general(|stats| stats.extstore = true);
            survey.settings.as_mut().expect("told").ext_item_size = least;
            extstore(&survey)
        };
        expect(&with_disk(Some(1024)), Fine, "1024 bytes");
        expect(&with_disk(Some(512)), Note, "512 bytes");
        expect(&with_disk(Some(100)), Warning, "100 bytes");
        expect(&with_disk(None), Warning, "disk");
    }
}
