//! Checks whether the server is of the right kind, and serves all clients in time.

use super::super::check::{Check, CheckContext, Identity, Peer, Severity};
use super::{count, found, length, not_reported};
use crate::proto::{GeneralStats, Sentinel, ServerReport};
use core::time::Duration;
use std::borrow::ToOwned;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// Connections count as nearly used up from this many percent on.
const NEARLY_FULL: u64 = 80;

/// The number of other files that the server's limit counts as well. It has this many, or a few
/// less, besides those that `reserved_fds` reports (seen on 1.6.18, 1.6.38 and 1.6.45).
const OWN_FILES: u64 = 8;

/// The maximum difference in seconds of clocks that agree.
const CLOCKS_AGREE: u64 = 5;

/// The releases with a change that matters to locks, and the defect of the releases before them.
const RELEASES: [((u64, u64, u64), &str); 3] = [
    (
        (1, 6, 10),
        "no meta commands before 1.6.10, so locks speak the classic protocol",
    ),
    ((1, 6, 27), "no locks without a record before 1.6.27"),
    (
        (1, 6, 44),
        "with passwords (-Y), an empty line ends a server before 1.6.44",
    ),
];

pub(super) fn version(survey: &ServerReport) -> Check {
    const ID: &str = "version";
    let seen = format!("memcached {}", survey.version);
    let password = survey.settings.as_ref().and_then(|s| s.auth_enabled);
    let mut lacks: Vec<String> = RELEASES
        .iter()
        .filter(|(release, _)| survey.is_at_least(*release) == Some(false))
        .filter(|(release, _)| *release != (1, 6, 44) || password == Some(true))
        .map(|(_, lack)| String::from(*lack))
        .collect();
    if survey.release.is_none() {
        lacks.push("a release that nothing is known of".into());
    }
    if survey.release == Some((1, 6, 20)) {
        lacks.push("1.6.20 mixes up two flags of meta replies".into());
    }
    if lacks.is_empty() {
        return match (survey.meta, survey.explicit_cas) {
            (true, true) => found(
                ID,
                Severity::Fine,
                seen,
                "it knows all that locks make use of",
            ),
            (meta, _) => found(
                ID,
                Severity::Note,
                seen,
                if meta {
                    "it does not let requests name CAS uniques, so no lock is without a record"
                } else {
                    "it does not know the meta commands, so locks speak the classic protocol"
                },
            ),
        };
    }
    found(ID, Severity::Note, seen, lacks.join("; "))
}

pub(super) fn proxy(survey: &ServerReport) -> Check {
    const ID: &str = "proxy";
    const ADVICE: &str = "set the address of the memcached server itself";
    let config = survey.settings.as_ref();
    let is_proxy = survey.general.as_ref().is_some_and(|stats| stats.is_proxy);
    if is_proxy || config.and_then(|config| config.proxy_enabled) == Some(true) {
        return found(
            ID,
            Severity::Unsafe,
            "a proxy answers (`stats` or `stats settings` say so)",
            "locks are refused there: restarts of the servers behind it go unnoticed, and it may send a name to another \
             server at any time: two may hold a lock. What else is told here is told of the proxy",
        )
        .advise(ADVICE);
    }
    match (&survey.general, config) {
        (None, _) => found(
            ID,
            Severity::Unsafe,
            "it does not report its pid, uptime and time (`stats`)",
            "locks are refused there, because restarts would go unnoticed; it may be a proxy",
        )
        .advise(ADVICE),
        (Some(_), None) => found(
            ID,
            Severity::Warning,
            "it does not report its settings (`stats settings`)",
            "it may be a proxy, or a managed service, and what is dangerous in its config is \
             not seen here",
        )
        .advise("ask the operator of the server"),
        (Some(_), Some(_)) => found(
            ID,
            Severity::Fine,
            "a memcached server answers",
            "what it says of itself is true of the place where locks are kept",
        ),
    }
}

pub(super) fn instances(survey: &ServerReport, peers: &[Peer]) -> Check {
    const ID: &str = "instances";
    let place = |peer: &Peer| match peer.address {
        Some(address) => address.to_string(),
        None => "the socket".to_owned(),
    };
    let mut seen: Vec<String> = Vec::new();
    let mut identities: Vec<_> = Identity::of(survey).into_iter().collect();
    for peer in peers {
        if let Some(identity) = peer.identity {
            let (pid, started) = identity.run;
            let mut text = format!("{}: pid {pid} started at {started}", place(peer));
            if let Some(instance) = identity.instance {
                text = format!("{text}, instance {instance}");
            }
            if !seen.contains(&text) {
                seen.push(text);
            }
            identities.push(identity);
        }
    }
    let differ = |pair: &[Identity]| pair[0].is_apart_from(&pair[1]);
    if identities.windows(2).any(differ) {
        return found(
            ID,
            Severity::Unsafe,
            format!(
                "connections lead to different servers ({})",
                seen.join(", ")
            ),
            "a lock on one is not seen on the others: two may hold it. The name has addresses of \
             several servers, or something spreads connections over them",
        )
        .advise("set the address of one server, the same for all clients");
    }
    if identities.is_empty() {
        return not_reported(ID, "which run of it answers");
    }
    let mut silent: Vec<_> = peers
        .iter()
        .filter(|peer| peer.identity.is_none())
        .map(place)
        .collect();
    silent.dedup();
    if !silent.is_empty() {
        return found(
            ID,
            Severity::Note,
            format!("no answer from {}", silent.join(", ")),
            "which server it leads to is not known",
        );
    }
    found(
        ID,
        Severity::Fine,
        format!("{} connections lead to the same server", peers.len()),
        "a lock there is seen by all clients of this address",
    )
}

pub(super) fn cas(survey: &ServerReport) -> Check {
    const ID: &str = "cas";
    let set = survey.settings.as_ref().and_then(|s| s.cas_enabled);
    // The data of an item counts for more than a setting.
    match survey
        .has_cas
        .map_or(set, |has| Some(has && set != Some(false)))
    {
        Some(true) => found(
            ID,
            Severity::Fine,
            "items have CAS uniques",
            "no client can release or renew another's lock",
        ),
        Some(false) => found(
            ID,
            Severity::Unsafe,
            "items have no CAS uniques (-C)",
            "no lock could be released safely, so none is granted",
        )
        .advise("start the server without -C"),
        None => not_reported(ID, "whether items have CAS uniques"),
    }
}

pub(super) fn connections(survey: &ServerReport) -> Check {
    const ID: &str = "connections";
    const ADVICE: &str = "allow more connections (-c), or let clients keep fewer";
    const REFUSED: &str = "a client that finds no connection cannot renew, and loses its locks";
    let general = survey.general.as_ref();
    let used = general.and_then(|stats| stats.curr_connections);
    let most = general.and_then(|stats| stats.max_connections);
    let Some((used, most)) = used.zip(most) else {
        return not_reported(ID, "how many connections there are");
    };
    let reserved = general.and_then(|stats| stats.reserved_fds);
    let (usable, seen) = match reserved {
        Some(reserved) => {
            let usable = most.saturating_sub(reserved).saturating_sub(OWN_FILES);
            (usable, format!("{used} of about {usable} (-c {most})"))
        }
        None => (most, format!("{used} of {most}")),
    };
    let free = usable.saturating_sub(used);
    let rejected = general.and_then(|stats| stats.rejected_connections);
    let paused = general.and_then(|stats| stats.listen_disabled_num);
    let fast = survey.settings.as_ref().and_then(|s| s.maxconns_fast);
    let share = usable.saturating_mul(100 - NEARLY_FULL) / 100;
    match (rejected, paused) {
        (Some(rejected @ 1..), _) => found(
            ID,
            Severity::Warning,
            format!("{seen}; {} refused", count(rejected, "connection")),
            REFUSED,
        )
        .advise(ADVICE),
        (_, Some(paused @ 1..)) => found(
            ID,
            Severity::Warning,
            format!("{seen}; none taken for a while, {}", count(paused, "time")),
            REFUSED,
        )
        .advise(ADVICE),
        _ if free < share => found(
            ID,
            Severity::Warning,
            format!("{seen}; {free} left"),
            REFUSED,
        )
        .advise(ADVICE),
        _ if fast == Some(false) => found(
            ID,
            Severity::Note,
            format!("{seen}; too many would be left waiting (no_maxconns_fast)"),
            "a client that is one too many gets no answer, in place of a refusal",
        ),
        _ => found(ID, Severity::Fine, seen, "there is room for more clients"),
    }
}

pub(super) fn idle_timeout(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "idle-timeout";
    match survey.settings.as_ref().and_then(|s| s.idle_timeout) {
        None => not_reported(ID, "whether it closes connections that are not used"),
        Some(0) => found(
            ID,
            Severity::Fine,
            "no connection is closed for want of use",
            "connections last from one lock to the next",
        ),
        Some(seconds) => {
            let closed = survey.general.as_ref().and_then(|stats| stats.idle_kicks);
            let closed = closed.map_or(String::new(), |closed| format!(", {closed} so far"));
            let seen =
                format!("connections are closed after {seconds} s without a request{closed}");
            if Duration::from_secs(seconds) <= terms.renewal {
                let meaning = format!(
                    "while a lock is held, its connection is used every {} only: it is closed and \
                     made anew, which takes two more round trips each time",
                    length(terms.renewal)
                );
                found(ID, Severity::Note, seen, meaning)
                    .advise("start the server with a longer idle_timeout, or with none")
            } else {
                let meaning = "renewals keep the connections of holders; the others \
                               connect anew when they come back";
                found(ID, Severity::Fine, seen, meaning)
            }
        }
    }
}

pub(super) fn threads(survey: &ServerReport) -> Check {
    const ID: &str = "threads";
    match survey.general.as_ref().and_then(|stats| stats.threads) {
        None => not_reported(ID, "how many threads serve connections"),
        Some(1) => found(
            ID,
            Severity::Note,
            "1 thread serves all connections",
            "a long request of one client holds up the renewals of all",
        ),
        Some(threads) => found(
            ID,
            Severity::Fine,
            format!("{} serve connections", count(threads, "thread")),
            "one that is held up holds up its own connections only",
        ),
    }
}

pub(super) fn round_trip(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "round-trip";
    let (shortest, limit) = (survey.round_trip, terms.operation_timeout);
    let seen = format!("the fastest of a few answers took {shortest:.1?}");
    if shortest > limit / 2 {
        return found(
            ID,
            Severity::Warning,
            seen,
            format!("answers that take more than {limit:?} are given up, renewals among them"),
        )
        .advise("find out what keeps the server or the network, or raise operation_timeout");
    }
    let meaning = format!("well below what a client waits for ({limit:?})");
    found(ID, Severity::Fine, seen, meaning)
}

pub(super) fn clock(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "clock";
    let general = survey.general.as_ref();
    let Some(time) = general.and_then(|stats| stats.time) else {
        return not_reported(ID, "what time it has");
    };
    if general.and_then(GeneralStats::is_clock_set) == Some(false) {
        return found(
            ID,
            Severity::Unsafe,
            "stands in January 1970",
            "locks are refused there: memcached takes every expiry for a relative time, and a lock \
             would outlive its holder by weeks",
        )
        .advise("set the clock of the server's machine, then restart memcached");
    }
    let apart = time.abs_diff(terms.unix_seconds);
    if apart <= CLOCKS_AGREE {
        let meaning = "leases go by the server's clock, whatever it says";
        return found(ID, Severity::Fine, "agrees with this machine's", meaning);
    }
    let side = if time > terms.unix_seconds {
        "ahead of"
    } else {
        "behind"
    };
    let second = match survey.sentinel {
        Some(Sentinel::Present { record, .. }) if record.created_at > time => {
            "; and the sentinel was born later than the server's clock says it is"
        }
        _ => "",
    };
    found(
        ID,
        Severity::Note,
        format!("{apart} s {side} this machine's{second}"),
        "no lock depends on that: leases go by the server's clock. Times that are shown to people \
         are off by as much",
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, expect, survey, terms, with_general, with_settings};
    use super::*;
    use crate::proto::InstanceWord;
    use Severity::{Fine, Note, Unsafe, Warning};

    #[test]
    fn missing_features_are_noted() {
        let of = |version: &str, release, meta, explicit_cas| {
            let mut survey = survey();
            survey.version = version.into();
            survey.release = release;
            survey.meta = meta;
            survey.explicit_cas = explicit_cas;
            survey
        };
        expect(&version(&survey()), Fine, "1.6.45");
        for (survey, part) in [
            (
                of("1.5.22", Some((1, 5, 22)), false, false),
                "classic protocol",
            ),
            (
                of("1.6.18", Some((1, 6, 18)), true, false),
                "without a record",
            ),
            (of("1.6.20", Some((1, 6, 20)), true, false), "two flags"),
            (
                of("1.6.45", Some((1, 6, 45)), false, false),
                "classic protocol",
            ),
            (
                of("1.6.45", Some((1, 6, 45)), true, false),
                "without a record",
            ),
            (of("of theirs", None, true, true), "nothing is known"),
        ] {
            let check = version(&survey);
            expect(&check, Note, "memcached ");
            assert!(check.meaning.contains(part), "{check:?}");
        }
        let mut old = with_settings(|config| config.auth_enabled = Some(true));
        old.release = Some((1, 6, 38));
        assert!(version(&old).meaning.contains("1.6.44"));
        old.settings = None;
        expect(&version(&old), Fine, "1.6.45");
    }

    #[test]
    fn proxy_is_reported_unsafe() {
        expect(&proxy(&survey()), Fine, "memcached");
        let proxied = with_settings(|config| config.proxy_enabled = Some(true));
        expect(&proxy(&proxied), Unsafe, "a proxy answers");
        let mut counting = survey();
        counting.general.as_mut().expect("statistics").is_proxy = true;
        expect(&proxy(&counting), Unsafe, "a proxy answers");
        let mut silent = survey();
        silent.settings = None;
        expect(&proxy(&silent), Warning, "stats settings");
        silent.general = None;
        expect(&proxy(&silent), Unsafe, "pid");
    }

    #[test]
    fn connections_to_different_servers_are_unsafe() {
        let peer = |last: u8, identity| Peer {
            address: Some(([127, 0, 0, last], 11211).into()),
            identity,
        };
        let own = Identity::of(&survey());
        let with = |change: fn(&mut Identity)| {
            own.map(|mut identity| {
                change(&mut identity);
                identity
            })
        };
        let other = with(|identity| identity.run.0 += 1);
        // Process 1 in two containers, which were started in the same second.
        let twin = with(|identity| identity.instance = Some(InstanceWord::from_bits(1)));
        let spread = [peer(1, twin), peer(1, own), peer(1, twin), peer(1, own)];
        expect(
            &instances(&survey(), &spread),
            Unsafe,
            "instance 0000000000000001",
        );
        // No client has used them yet: they count connections separately.
        let counted = |counts: [u64; 4]| {
            let mut survey = survey();
            survey.sentinel = Some(Sentinel::Absent);
            survey.general.as_mut().expect("told").total_connections = Some(70);
            let peers = counts.map(|count| {
                survey.general.as_mut().expect("told").total_connections = Some(count);
                peer(1, Identity::of(&survey))
            });
            survey.general.as_mut().expect("told").total_connections = Some(70);
            instances(&survey, &peers)
        };
        expect(&counted([71, 72, 75, 76]), Fine, "4 connections");
        expect(&counted([90, 71, 91, 72]), Unsafe, "different servers");
        expect(&counted([20, 71, 21, 72]), Unsafe, "different servers");
        expect(&counted([71, 71, 72, 72]), Unsafe, "different servers");
        let alike = [peer(1, own), peer(1, own)];
        expect(&instances(&survey(), &alike), Fine, "2 connections");
        let silent = [peer(1, own), peer(2, None)];
        expect(&instances(&survey(), &silent), Note, "127.0.0.2:11211");
        let spread = [peer(1, own), peer(1, other), peer(2, None)];
        expect(&instances(&survey(), &spread), Unsafe, "different servers");
        expect(
            &instances(&survey(), &spread[1..]),
            Unsafe,
            "127.0.0.1:11211",
        );
    }

    #[test]
    fn server_without_cas_is_unsafe() {
        expect(&cas(&survey()), Fine, "CAS");
        let without = with_settings(|config| config.cas_enabled = Some(false));
        expect(&cas(&without), Unsafe, "-C");
        let mut shown = survey();
        shown.has_cas = Some(false);
        expect(&cas(&shown), Unsafe, "-C");
        shown.has_cas = None;
        expect(&cas(&shown), Fine, "CAS");
        shown.settings = None;
        expect(&cas(&shown), Note, "does not report");
        shown.has_cas = Some(true);
        expect(&cas(&shown), Fine, "CAS");
    }

    #[test]
    fn scarce_connections_are_reported() {
        expect(&connections(&survey()), Fine, "2 of about 996 (-c 1024)");
        let refused = with_general(|stats| stats.rejected_connections = Some(1));
        expect(&connections(&refused), Warning, "1 connection refused");
        let paused = with_general(|stats| stats.listen_disabled_num = Some(3));
        expect(&connections(&paused), Warning, "3 times");
        // A fifth of 996 is 199.
        let used = |used| with_general(|stats| stats.curr_connections = Some(used));
        expect(&connections(&used(797)), Fine, "797");
        expect(&connections(&used(798)), Warning, "198 left");
        expect(&connections(&used(5000)), Warning, "0 left");
        let slow = with_settings(|config| config.maxconns_fast = Some(false));
        expect(&connections(&slow), Note, "no_maxconns_fast");
        let odd = with_general(|stats| {
            stats.max_connections = Some(0);
            stats.reserved_fds = Some(u64::MAX);
        });
        expect(&connections(&odd), Fine, "2 of about 0");
        let exact = with_general(|stats| stats.reserved_fds = None);
        expect(&connections(&exact), Fine, "2 of 1024");
        let silent = with_general(|stats| stats.max_connections = None);
        expect(&connections(&silent), Note, "does not report");
    }

    #[test]
    fn idle_timeout_below_renewal_is_reported() {
        let with = |seconds| {
            let survey = with_settings(|config| config.idle_timeout = Some(seconds));
            idle_timeout(&survey, &terms())
        };
        expect(&with(0), Fine, "no connection");
        expect(&with(3), Note, "after 3 s without a request, 0 so far");
        expect(&with(4), Fine, "after 4 s");
    }

    #[test]
    fn one_thread_is_noted() {
        expect(&threads(&survey()), Fine, "4 threads");
        let one = with_general(|stats| stats.threads = Some(1));
        expect(&threads(&one), Note, "1 thread");
    }

    #[test]
    fn slow_replies_are_reported() {
        let mut slow = survey();
        expect(&round_trip(&slow, &terms()), Fine, "1.0ms");
        slow.round_trip = Duration::from_millis(500);
        expect(&round_trip(&slow, &terms()), Fine, "500.0ms");
        slow.round_trip = Duration::from_millis(501);
        expect(&round_trip(&slow, &terms()), Warning, "501.0ms");
    }

    #[test]
    fn clocks_that_differ_are_noted() {
        let at = |time| clock(&with_general(|stats| stats.time = Some(time)), &terms());
        expect(&at(NOW + 5), Fine, "agrees");
        expect(&at(NOW + 6), Note, "6 s ahead of");
        expect(&at(NOW - 3600), Note, "3600 s behind");
        expect(&at(1_000_000_000), Note, "born later");
        expect(&at(2_592_001), Unsafe, "January 1970");
        expect(&at(2_592_002), Note, "behind");
    }
}
