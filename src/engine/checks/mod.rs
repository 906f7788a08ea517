//! The checks of a server: each is a function of the server's report and of the client's settings,
//! and of nothing else.

mod memory;
mod persistence;
mod security;
mod service;
mod trend;

use super::check::{Check, CheckContext, Peer, Severity};
use crate::proto::ServerReport;
use core::time::Duration;
use std::format;
use std::string::String;
use std::vec::Vec;
pub(super) use trend::change;

/// Returns all checks, in an order for reading: those that make locks unsafe first.
pub(super) fn all(survey: &ServerReport, peers: &[Peer], terms: &CheckContext) -> Vec<Check> {
    Vec::from([
        service::version(survey),
        service::proxy(survey),
        service::instances(survey, peers),
        service::cas(survey),
        memory::eviction(survey, terms),
        memory::out_of_memory(survey),
        memory::page_moves(survey, terms),
        memory::item_size(survey),
        memory::extstore(survey),
        persistence::flush(survey),
        persistence::restart(survey, terms),
        persistence::memory_file(survey),
        service::connections(survey),
        service::idle_timeout(survey, terms),
        service::threads(survey),
        service::round_trip(survey, terms),
        service::clock(survey, terms),
        security::encryption(terms),
        security::authentication(survey, terms),
        security::shutdown_command(survey),
        security::key_dump(survey),
    ])
}

/// Returns a finding without advice.
fn found(
    id: &'static str,
    verdict: Severity,
    seen: impl Into<String>,
    meaning: impl Into<String>,
) -> Check {
    Check {
        id,
        severity: verdict,
        observed: seen.into(),
        meaning: meaning.into(),
        advice: None,
    }
}

impl Check {
    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Returns the finding of a check whose data the server does not report.
fn not_reported(id: &'static str, what: &str) -> Check {
    let seen = format!("the server does not report {what}");
    let meaning = "nothing can be said about it; ask the operator of the server";
    found(id, Severity::Note, seen, meaning)
}

/// Formats a duration, in whole seconds if it has some.
fn length(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{duration:.1?}"),
        seconds => format!("{seconds} s"),
    }
}

/// Formats a number with its noun: `1 item`, `2 items`.
fn count(number: u64, one: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{number} {one}{many}")
}

#[cfg(test)]
mod tests {
    use super::super::check::TransportSecurity;
    use super::*;
    use crate::proto::{GeneralStats, ItemStats, Lease, ProbeStep, ServerProbe, SettingStats};
    use crate::proto::{Instant, Namespace};
    use crate::wire::Replies;
    use std::collections::BTreeSet;

    pub(super) const SENTINEL: &str = "s1 ready 1795333900 00000000000000ff 1 1795333798 -";
    pub(super) const NOW: u64 = 1_795_337_400;

    /// The report of memcached 1.6.45 an hour after its start, with its default settings except `-o
    /// temporary_ttl=21`.
    const ANSWERS: [&str; 5] = [
        "VERSION 1.6.45\r\nEN\r\nNF\r\n",
        "VA 51 c7 t352146247 l3500\r\ns1 ready 1795333900 00000000000000ff 1 1795333798 -\r\n\
         VA 5 c8\r\n10000\r\n",
        "STAT pid 1\r\nSTAT uptime 3602\r\nSTAT time 1795337400\r\nSTAT max_connections 1024\r\n\
         STAT curr_connections 2\r\nSTAT rejected_connections 0\r\nSTAT listen_disabled_num 0\r\n\
         STAT reserved_fds 20\r\nSTAT threads 4\r\nSTAT idle_kicks 0\r\nSTAT evictions 0\r\n\
         STAT store_no_memory 0\r\nSTAT cmd_flush 0\r\nSTAT slabs_moved 0\r\nSTAT bytes 61\r\n\
         STAT limit_maxbytes 67108864\r\nEND\r\n",
        "STAT inter 127.0.0.1\r\nSTAT oldest 0\r\nSTAT evictions on\r\nSTAT cas_enabled yes\r\n\
         STAT shutdown_command no\r\nSTAT auth_enabled_sasl no\r\nSTAT auth_enabled_ascii no\r\n\
         STAT item_size_max 1048576\r\nSTAT maxconns_fast yes\r\nSTAT slab_automove 1\r\n\
         STAT flush_enabled yes\r\nSTAT dump_enabled yes\r\nSTAT lru_crawler yes\r\nSTAT temp_lru yes\r\n\
         STAT temporary_ttl 21\r\nSTAT idle_timeout 0\r\nSTAT ext_item_size 512\r\n\
         STAT proxy_enabled no\r\nSTAT memory_file (null)\r\nEND\r\n",
        "STAT items:1:number 1\r\nSTAT items:1:number_temp 0\r\nSTAT items:1:evicted 0\r\n\
         STAT items:1:evicted_nonzero 0\r\nSTAT items:1:evicted_time 0\r\n\
         STAT items:1:outofmemory 0\r\nEND\r\n",
    ];

    pub(super) fn survey() -> ServerReport {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut surveyor = ServerProbe::new(&namespace, None);
        let at = Instant::from_nanos(0);
        for answer in ANSWERS {
            let mut replies = Replies::new(answer.as_bytes());
            let surveyed = surveyor.interpret(&mut replies, at, at.after(MILLI));
            if let ProbeStep::Done(survey) = surveyed.expect("sound answers") {
                return *survey;
            }
        }
        panic!("all was asked");
    }

    const MILLI: Duration = Duration::from_millis(1);

    /// Returns a client with the default settings, on the server's machine.
    pub(super) fn terms() -> CheckContext {
        CheckContext {
            longest: Lease::new(Duration::from_secs(10)).expect("in range"),
            restart_guard: true,
            operation_timeout: Duration::from_secs(1),
            renewal: Duration::from_secs(3),
            way: TransportSecurity::Local,
            password: false,
            unix_seconds: NOW,
        }
    }

    /// Returns the report with a changed value.
    pub(super) fn with_general(change: impl FnOnce(&mut GeneralStats)) -> ServerReport {
        let mut survey = survey();
        change(survey.general.as_mut().expect("told"));
        survey
    }

    pub(super) fn with_settings(change: impl FnOnce(&mut SettingStats)) -> ServerReport {
        let mut survey = survey();
        change(survey.settings.as_mut().expect("told"));
        survey
    }

    pub(super) fn with_items(change: impl FnOnce(&mut ItemStats)) -> ServerReport {
        let mut survey = survey();
        change(survey.items.as_mut().expect("told"));
        survey
    }

    /// Asserts on a finding: its severity, a part of its text, and that it has advice if an action
    /// is needed.
    #[track_caller]
    pub(super) fn expect(check: &Check, verdict: Severity, part: &str) {
        assert_eq!(check.severity, verdict, "{check:?}");
        assert!(
            check.observed.contains(part),
            "`{part}` is missing: {check:?}"
        );
        assert!(!check.meaning.is_empty(), "{check:?}");
        assert!(
            verdict < Severity::Warning || check.advice.is_some(),
            "{check:?}"
        );
    }

    #[test]
    fn good_server_passes_all_checks() {
        let checks = all(&survey(), &[], &terms());
        for check in &checks {
            assert_eq!(check.severity, Severity::Fine, "{check:?}");
        }
        let ids: BTreeSet<&str> = checks.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks.len());
        for id in ids {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(id.bytes().all(plain), "{id}");
        }
    }

    #[test]
    fn silent_server_is_not_fine() {
        let mut survey = survey();
        survey.general = None;
        survey.settings = None;
        survey.items = None;
        survey.sentinel = None;
        survey.has_cas = None;
        for check in all(&survey, &[], &terms()) {
            let by_itself = ["version", "round-trip", "encryption"].contains(&check.id);
            let fine = check.severity == Severity::Fine;
            assert_eq!(fine, by_itself, "{check:?}");
        }
    }

    #[test]
    fn numbers_and_lengths_are_readable() {
        assert_eq!(count(1, "item"), "1 item");
        assert_eq!(count(0, "item"), "0 items");
        assert_eq!(length(Duration::from_millis(10_900)), "10 s");
        assert_eq!(length(Duration::from_micros(1500)), "1.5ms");
    }
}
