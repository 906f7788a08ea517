//! The protocol as a model: what two clients and a server do, in every order.
//!
//! | module | what it has |
//! |---|---|
//! | `rules` | the bounds of a search, and the faults that can be planted |
//! | `world` | one state |
//! | `server` | its clock, what it carries out, what it forgets |
//! | `client` | what is sent, and what follows from the answers |
//! | `search` | all orders, breadth first |
//! | `progress` | from any state on, the lock is granted |
//!
//! The model is written from `docs/wire-format.md` and not from the code. In each state two guards
//! must not be valid at once, and no client may release, renew or take over what is another's. The
//! searches here visit all states within their bounds; `scripts/model` has larger ones.

mod client;
mod progress;
mod rules;
mod search;
mod server;
mod world;

use progress::{Other, ticks_to_grant};
use rules::{Beginning, Bounds, Fault, FlushKind};
use search::{Report, search, search_and_visit};
use world::World;

const CALM: Bounds = Bounds::CALM;
const CONNECTED: Bounds = Bounds {
    beginning: Beginning::Connected,
    ..CALM
};
const FIRST_USE: Bounds = Bounds {
    beginning: Beginning::FirstUse,
    ..CALM
};
const FLUSHED_BEFORE: Bounds = Bounds {
    beginning: Beginning::FlushedBefore,
    ..CALM
};

/// More states than any search of `cargo test` has.
const LIMIT: usize = 4_000_000;

#[allow(clippy::print_stdout, reason = "a search says what it has covered")]
fn tell(bounds: &Bounds, report: &Report) {
    println!(
        "{}{} states, {} steps, depth {}, {:.1} s; granted by age {}, by horizon {}, by notes {}; \
         takeovers {}; {bounds:?}",
        if report.complete {
            ""
        } else {
            "only the first "
        },
        report.states,
        report.steps,
        report.depth,
        report.seconds,
        report.by_age,
        report.by_horizon,
        report.by_notes,
        report.takeovers,
    );
}

/// Visits states, `limit` at most, and finds nothing.
fn holds_up_to(bounds: &Bounds, limit: usize) -> Report {
    let report = search(bounds, limit);
    tell(bounds, &report);
    if let Some((violation, trace)) = &report.violation {
        panic!("{violation}: {trace:#?}\n{bounds:?}");
    }
    assert!(report.by_age > 0 && report.takeovers > 0, "{report:?}");
    report
}

/// Visits all states and finds nothing.
fn holds(bounds: &Bounds) -> Report {
    let report = holds_up_to(bounds, LIMIT);
    assert!(report.complete, "more than {LIMIT} states: {bounds:?}");
    report
}

/// Finds that a promise is broken where the faults are planted.
fn finds(faults: &[Fault], bounds: &Bounds) -> &'static str {
    let planted = faults
        .iter()
        .fold(*bounds, |bounds, &fault| bounds.with(fault));
    let report = search(&planted, LIMIT);
    tell(&planted, &report);
    let Some((violation, trace)) = report.violation else {
        panic!("not found: {faults:?} in {bounds:?}");
    };
    assert!(!trace.is_empty());
    violation
}

/// The first client gets the lock from each state on, within `ticks`. Every eighth state is tried.
fn grants(bounds: &Bounds, other: Other, ticks: u8) {
    let mut longest = 0;
    let mut number = 0_u32;
    let report = search_and_visit(bounds, LIMIT, |world| {
        number += 1;
        if number % 8 != 1 {
            return;
        }
        match ticks_to_grant(*world, other, bounds) {
            Some(ticks) => longest = longest.max(ticks),
            None => panic!("never granted from here on: {world:#?}"),
        }
    });
    tell(bounds, &report);
    assert!(report.complete && report.violation.is_none(), "{report:?}");
    assert!(longest <= ticks, "{longest} ticks, {bounds:?}");
}

mod promises {
    use super::{Bounds, CALM, FIRST_USE, FLUSHED_BEFORE, FlushKind, holds};

    #[test]
    fn lost_replies_and_late_requests() {
        holds(&Bounds { breaks: 1, ..CALM });
    }

    #[test]
    fn flush_and_foreign_bump() {
        let report = holds(&Bounds {
            flushes: 1,
            bumps: 1,
            ..CALM
        });
        assert!(report.by_horizon > 0, "{report:?}");
    }

    #[test]
    fn flush_on_the_oldest_server() {
        holds(&Bounds {
            flush_kind: FlushKind::Everything,
            flushes: 1,
            ..CALM
        });
    }

    #[test]
    fn delayed_flush() {
        holds(&Bounds {
            flushes: 1,
            flush_delay: 1,
            ..CALM
        });
    }

    #[test]
    fn restart_with_any_identity() {
        let report = holds(&Bounds {
            restarts: 1,
            ..CALM
        });
        assert!(report.by_horizon > 0, "{report:?}");
    }

    #[test]
    fn warm_restart_with_clock_forward() {
        holds(&Bounds {
            warm_restarts: 1,
            ..CALM
        });
    }

    #[test]
    fn eviction_of_the_sentinel() {
        let report = holds(&Bounds {
            evictions: 1,
            ..CALM
        });
        assert!(report.by_horizon > 0, "{report:?}");
    }

    #[test]
    fn sentinel_eviction_after_flush() {
        let report = holds(&Bounds {
            evictions: 1,
            ..FLUSHED_BEFORE
        });
        assert!(report.by_notes > 0, "{report:?}");
    }

    /// Items go at once, and the horizon shows that time.
    #[test]
    fn flush_with_past_time() {
        holds(&Bounds {
            flushes: 1,
            past_flush: true,
            ..CALM
        });
    }

    #[test]
    fn first_use_of_a_server() {
        let report = holds(&FIRST_USE);
        assert!(report.by_horizon > 0, "{report:?}");
    }
}

mod grants {
    use super::{Bounds, CALM, Other, World, grants, ticks_to_grant};
    use super::{CONNECTED, FIRST_USE, LIMIT, search_and_visit};

    /// The longest lease, and the tick in which it ends.
    const WAIT: u8 = CALM.lease + 1;

    #[test]
    fn grant_follows_any_single_fault() {
        for bounds in [
            Bounds { breaks: 1, ..CALM },
            Bounds {
                evictions: 1,
                ..CALM
            },
            FIRST_USE,
        ] {
            grants(&bounds, Other::Ends, WAIT);
        }
    }

    /// The lease of the other client is waited for, and the sentinel that it has half founded.
    #[test]
    fn grant_follows_dead_client() {
        grants(&Bounds { breaks: 1, ..CALM }, Other::Stops, 2 * WAIT);
    }

    #[test]
    fn flush_within_longest_lease() {
        grants(&Bounds { flushes: 1, ..CALM }, Other::Ends, WAIT);
    }

    /// An evicted sentinel means nothing, by what a client noted or because the server was not
    /// flushed since its start.
    #[test]
    fn evicted_sentinel_costs_no_wait() {
        for beginning in [CONNECTED, CALM] {
            let bounds = Bounds {
                evictions: 1,
                ..beginning
            };
            let mut without_sentinel = 0;
            let report = search_and_visit(&bounds, LIMIT, |world| {
                let absent = world.server.sentinel == Default::default();
                if absent && world.late == World::default().late {
                    without_sentinel += 1;
                    assert_eq!(Some(0), ticks_to_grant(*world, Other::Ends, &bounds));
                }
            });
            assert!(report.complete && without_sentinel > 0, "{report:?}");
        }
    }

    #[test]
    fn first_use_costs_no_wait() {
        let world = World::new(&FIRST_USE);
        assert_eq!(Some(0), ticks_to_grant(world, Other::Ends, &FIRST_USE));
    }
}

/// Each fault is found, where it needs one, with the rule switched off that covers it as well.
mod planted {
    use super::Fault::{self, *};
    use super::{Beginning, Bounds, CALM, CONNECTED, FIRST_USE, LIMIT, finds, search};

    const FLUSH: Bounds = Bounds {
        flushes: 1,
        ..CONNECTED
    };
    const RESTART: Bounds = Bounds {
        restarts: 1,
        ..CONNECTED
    };
    const WARM_RESTART: Bounds = Bounds {
        warm_restarts: 1,
        ..CONNECTED
    };

    fn two_guards(faults: &[Fault], bounds: &Bounds) {
        assert_eq!("two guards are valid", finds(faults, bounds));
    }

    #[test]
    fn age_by_birth_only() {
        two_guards(&[AgeByBirthOnly], &Bounds { bumps: 1, ..FLUSH });
    }

    #[test]
    fn sentinel_read_that_bumps() {
        two_guards(&[SentinelReadBumps, AgeByBirthOnly], &FLUSH);
    }

    #[test]
    fn second_not_rounded_up() {
        two_guards(&[SecondNotRoundedUp], &Bounds { bumps: 1, ..FLUSH });
    }

    /// So it is as well where the clock stands still for longer than is allowed for.
    #[test]
    fn lag_not_allowed_for() {
        let bounds = Bounds {
            bumps: 1,
            lag: 1,
            lag_at_flush: 1,
            ..FLUSH
        };
        two_guards(&[LagNotAllowedFor], &bounds);
    }

    #[test]
    fn sentinel_before_record() {
        two_guards(&[SentinelBeforeRecord], &FLUSH);
    }

    #[test]
    fn evidence_before_record() {
        let bounds = Bounds {
            evictions: 1,
            ..FLUSH
        };
        two_guards(&[EvidenceBeforeRecord], &bounds);
    }

    #[test]
    fn notes_behind_sentinel() {
        two_guards(
            &[NotesBehindSentinel, NotesWithoutFlushAge],
            &Bounds { flushes: 1, ..CALM },
        );
    }

    #[test]
    fn notes_with_pending_flush() {
        let bounds = Bounds {
            lease: 2,
            flush_delay: 2,
            ..FLUSH
        };
        two_guards(&[NotesWithPendingFlush, NotesWithoutFlushAge], &bounds);
    }

    #[test]
    fn notes_without_uptime() {
        two_guards(&[NotesWithoutUptime], &RESTART);
    }

    #[test]
    fn notes_without_flush_age() {
        let bounds = Bounds {
            beginning: Beginning::AfterTwin,
            flushes: 1,
            ..CALM
        };
        two_guards(&[NotesWithoutFlushAge], &bounds);
    }

    #[test]
    fn flush_horizon_ignored() {
        let bounds = Bounds {
            stats_resets: 1,
            ..FLUSH
        };
        two_guards(&[FlushHorizonIgnored], &bounds);
    }

    #[test]
    fn flush_count_ignored() {
        let bounds = Bounds {
            past_flush: true,
            ..FLUSH
        };
        two_guards(&[FlushCountIgnored], &bounds);
    }

    /// The count of flushes covers these two rules, unless it is reset.
    #[test]
    fn flush_age_and_count_ignored() {
        two_guards(&[FlushAgeIgnored, FlushCountIgnored], &FLUSH);
    }

    #[test]
    fn flush_lag_and_count_ignored() {
        let bounds = Bounds { lag: 2, ..FLUSH };
        two_guards(&[FlushLagIgnored, FlushCountIgnored], &bounds);
    }

    /// The second flush is delayed and hides the first one.
    #[test]
    fn pending_flush_and_count_ignored() {
        let bounds = Bounds {
            flushes: 2,
            flush_delay: 2,
            flush_undone_by_later: true,
            ..CONNECTED
        };
        two_guards(&[PendingFlushIgnored, FlushCountIgnored], &bounds);
    }

    #[test]
    fn warm_server_counts_as_fresh() {
        two_guards(&[WarmServerCountsAsFresh], &WARM_RESTART);
    }

    #[test]
    fn warm_restart_not_detected() {
        two_guards(&[WarmRestartNotDetected], &WARM_RESTART);
    }

    #[test]
    fn birth_too_early() {
        two_guards(&[BirthTooEarly], &Bounds { lag: 2, ..FLUSH });
    }

    #[test]
    fn sentinel_created_in_one_step() {
        let bounds = Bounds {
            flushes: 1,
            ..FIRST_USE
        };
        two_guards(&[FoundingInOneStep, AgeByBirthOnly], &bounds);
    }

    #[test]
    fn instance_not_compared() {
        let violation = finds(&[InstanceNotCompared], &RESTART);
        assert!(violation.starts_with("another's record"), "{violation}");
    }

    #[test]
    fn guard_off() {
        two_guards(&[GuardOff], &FLUSH);
        two_guards(&[GuardOff], &RESTART);
    }

    #[test]
    fn blind_release() {
        let violation = finds(&[BlindRelease], &CONNECTED);
        assert_eq!("another's record is released", violation);
    }

    #[test]
    fn lease_from_reply() {
        two_guards(&[LeaseFromReply], &CONNECTED);
    }

    #[test]
    fn renewal_keeps_unique() {
        let violation = finds(&[RenewalKeepsUnique], &CONNECTED);
        assert_eq!("a valid lock is taken over", violation);
    }

    #[test]
    fn takeover_without_waiting() {
        let violation = finds(&[TakeoverWithoutWaiting], &CONNECTED);
        assert_eq!("a valid lock is taken over", violation);
    }

    /// The age of the last flush covers that rule, except for twins.
    #[test]
    fn notes_are_covered_by_flush_age() {
        let report = search(&FLUSH.with(NotesBehindSentinel), LIMIT);
        assert!(report.complete && report.violation.is_none(), "{report:?}");
    }
}

/// Cases outside of the promise, which the model must find.
mod outside {
    use super::{Bounds, CONNECTED, finds};

    /// The pid stays the same, in a container for example, so that nothing shows the warm restart.
    #[test]
    fn warm_restart_with_same_pid() {
        let bounds = Bounds {
            warm_restarts: 1,
            warm_pid_changes: false,
            ..CONNECTED
        };
        assert_eq!("two guards are valid", finds(&[], &bounds));
    }

    /// The second flush is delayed, so the horizon of the first is forgotten: what it has ended and
    /// nothing has touched since is back.
    #[test]
    fn flush_undone_by_a_later_one() {
        let bounds = Bounds {
            flushes: 2,
            flush_delay: 2,
            flush_undone_by_later: true,
            ..CONNECTED
        };
        assert_eq!("two guards are valid", finds(&[], &bounds));
    }

    /// A flush with a time of the past, and its count is reset.
    #[test]
    fn past_flush_and_stats_reset() {
        let bounds = Bounds {
            flushes: 1,
            past_flush: true,
            stats_resets: 1,
            ..CONNECTED
        };
        assert_eq!("two guards are valid", finds(&[], &bounds));
    }
}

/// Larger bounds: `scripts/model`.
mod larger {
    use super::holds_up_to;
    use super::{Beginning, Bounds, CALM, FIRST_USE, FLUSHED_BEFORE, Fault, FlushKind, finds};

    /// Not all states where there are more than that; the search says so.
    fn holds(bounds: &Bounds) {
        holds_up_to(bounds, 24_000_000);
    }

    #[test]
    #[ignore = "minutes"]
    fn two_answers_lost() {
        holds(&Bounds { breaks: 2, ..CALM });
    }

    #[test]
    #[ignore = "minutes"]
    fn flush_while_the_second_lags() {
        let flush = Bounds { flushes: 1, ..CALM };
        holds(&Bounds { lag: 2, ..flush });
        holds(&Bounds {
            lag: 1,
            lag_at_flush: 1,
            bumps: 1,
            ..flush
        });
    }

    #[test]
    #[ignore = "minutes"]
    fn flush_and_late_requests() {
        for flush_kind in [FlushKind::Everything, FlushKind::MaySpareThisSecond] {
            holds(&Bounds {
                flush_kind,
                flushes: 1,
                breaks: 1,
                ..CALM
            });
        }
    }

    #[test]
    #[ignore = "minutes"]
    fn delayed_flush_of_both_kinds() {
        for flush_kind in [FlushKind::Everything, FlushKind::MaySpareThisSecond] {
            holds(&Bounds {
                flush_kind,
                flushes: 1,
                flush_delay: 2,
                ..CALM
            });
        }
    }

    #[test]
    #[ignore = "minutes"]
    fn two_flushes() {
        holds(&Bounds { flushes: 2, ..CALM });
    }

    #[test]
    #[ignore = "minutes"]
    fn flush_and_eviction() {
        holds(&Bounds {
            flushes: 1,
            evictions: 1,
            ..FLUSHED_BEFORE
        });
    }

    #[test]
    #[ignore = "minutes"]
    fn restart_with_eviction_or_late_requests() {
        let restart = Bounds {
            restarts: 1,
            ..CALM
        };
        holds(&Bounds {
            evictions: 1,
            ..restart
        });
        holds(&Bounds {
            breaks: 1,
            ..restart
        });
    }

    #[test]
    #[ignore = "minutes"]
    fn restart_and_flush_after_twin() {
        holds(&Bounds {
            beginning: Beginning::AfterTwin,
            flushes: 1,
            evictions: 1,
            ..CALM
        });
    }

    #[test]
    #[ignore = "minutes"]
    fn two_restarts() {
        holds(&Bounds {
            restarts: 2,
            ..CALM
        });
    }

    #[test]
    #[ignore = "minutes"]
    fn warm_restart_with_eviction_or_lateness() {
        let warm = Bounds {
            warm_restarts: 1,
            ..CALM
        };
        holds(&Bounds {
            evictions: 1,
            ..warm
        });
        holds(&Bounds { breaks: 1, ..warm });
    }

    #[test]
    #[ignore = "minutes"]
    fn first_use_with_flush_or_lateness() {
        holds(&Bounds {
            flushes: 1,
            ..FIRST_USE
        });
        holds(&Bounds {
            breaks: 1,
            ..FIRST_USE
        });
    }

    #[test]
    #[ignore = "minutes"]
    fn leases_of_two_ticks() {
        holds(&Bounds {
            lease: 2,
            flushes: 1,
            ..CALM
        });
        holds(&Bounds {
            lease: 2,
            restarts: 1,
            ..CALM
        });
    }

    /// One word for two runs with the same pid and start shows nothing.
    #[test]
    #[ignore = "half a minute"]
    fn planted_instance_reused() {
        let bounds = Bounds {
            restarts: 1,
            ..FIRST_USE
        };
        let violation = finds(&[Fault::InstanceReused], &bounds);
        assert!(violation.starts_with("another's record"), "{violation}");
    }
}
