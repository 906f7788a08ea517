//! Keeping the server from evicting locks: `lru temp_ttl`.

use super::failure::ServerError;
use super::lease::Lease;
use super::operation::{Action, FlightError, Operation, Sealed};
use super::server_clock::seconds_to_live;
use super::server_state::ServerState;
use super::server_stats::SettingStats;
use super::server_stats::push_group;
use super::time::{Instant, Now};
use crate::wire::{DecodeError, Flight, LruCommand, Replies, Reply, Request};
use alloc::string::{String, ToString};

/// The outcome of asking a server to exempt locks from eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemporaryLru {
    /// It does so already, for all items stored with up to so many seconds to live.
    Already {
        /// Its limit.
        seconds: u64,
    },
    /// It does so from now on.
    Enabled {
        /// Its limit.
        seconds: u64,
        /// The limit that it had before, if it had one.
        before: Option<u64>,
    },
    /// It does not.
    Refused {
        /// The reason, in the server's words if it gives any.
        answer: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Look,
    Set { before: Option<u64> },
    LookAgain { before: Option<u64> },
}

/// Asks a server to exempt all items from eviction that are stored with no more seconds to live than
/// locks with this lease.
///
/// A limit that is higher already stays: others may have set it. Whether the server took it is
/// looked up afterwards, for an `OK` alone proves nothing.
#[derive(Debug)]
pub struct EnableTemporaryLru {
    seconds: u64,
    phase: Phase,
}

impl EnableTemporaryLru {
    /// For locks with leases up to this one.
    #[must_use]
    pub fn new(longest: Lease) -> Self {
        Self {
            seconds: seconds_to_live(longest),
            phase: Phase::Look,
        }
    }
}

impl Sealed for EnableTemporaryLru {}

impl Operation for EnableTemporaryLru {
    type Outcome = Result<TemporaryLru, ServerError>;

    fn poll_transmit(
        &mut self,
        _server: &ServerState,
        _now: Now,
        flight: &mut Flight,
    ) -> Result<(), Self::Outcome> {
        match self.phase {
            Phase::Set { .. } => flight.push(&Request::Lru {
                // Leases end long before 32 bits do.
                command: LruCommand::TemporaryTtl(i32::try_from(self.seconds).unwrap_or(i32::MAX)),
                noreply: false,
            }),
            Phase::Look | Phase::LookAgain { .. } => push_group(flight, b"settings"),
        }
        Ok(())
    }

    fn handle_replies(
        &mut self,
        _server: &mut ServerState,
        replies: &mut Replies<'_>,
        _sent: Instant,
        _received: Instant,
    ) -> Result<Action<Self::Outcome>, DecodeError> {
        let refused = |answer: &str| {
            let answer = answer.to_string();
            Action::Done(Ok(TemporaryLru::Refused { answer }))
        };
        if let Phase::Set { before } = self.phase {
            return match replies.next_reply()? {
                Reply::Ok => {
                    self.phase = Phase::LookAgain { before };
                    Ok(Action::Transmit)
                }
                Reply::Error(error) => Ok(refused(&error.to_string())),
                _ => Err(DecodeError::UnexpectedReply),
            };
        }
        let settings = SettingStats::read(replies)?;
        // An unknown value may be higher, and must not be lowered.
        let Some(settings) = settings.filter(|settings| settings.temp_lru.is_some()) else {
            return Ok(refused(
                "the server does not report by `stats settings` what it exempts from eviction",
            ));
        };
        if settings.proxy_enabled == Some(true) {
            return Ok(refused(
                "a proxy answers, whose settings are not those of the servers behind it",
            ));
        }
        let set = settings.exempt_up_to();
        let enough = set.filter(|set| *set >= self.seconds);
        Ok(match (self.phase, enough) {
            (Phase::LookAgain { before }, Some(seconds)) => {
                Action::Done(Ok(TemporaryLru::Enabled { seconds, before }))
            }
            (Phase::LookAgain { .. }, None) => {
                refused("the server says OK to `lru temp_ttl` and does not do it")
            }
            (_, Some(seconds)) => Action::Done(Ok(TemporaryLru::Already { seconds })),
            (_, None) => {
                self.phase = Phase::Set { before: set };
                Action::Transmit
            }
        })
    }

    fn handle_failure(&mut self, how: FlightError, _now: Now) -> Action<Self::Outcome> {
        let setting = matches!(self.phase, Phase::Set { .. });
        Action::Fail {
            unknown: setting && how == FlightError::NoReply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Capabilities, InstanceWord, Protocol, ServerClock, ServerInstance};
    use core::time::Duration;

    fn view() -> ServerState {
        let instance = ServerInstance {
            pid: 1,
            started: 1,
            word: InstanceWord::from_bits(1),
        };
        let capabilities = Capabilities {
            protocol: Protocol::Meta,
            explicit_cas: true,
        };
        ServerState::new(instance, capabilities, ServerClock::new())
    }

    const NOW: Now = Now {
        monotonic: Instant::from_nanos(0),
        unix_seconds: 0,
    };

    /// The requests sent, and the outcome of these replies, one after the other.
    fn run(answers: &[&str]) -> (String, Action<Result<TemporaryLru, ServerError>>) {
        let lease = Lease::new(Duration::from_secs(10)).expect("in range");
        let mut operation = EnableTemporaryLru::new(lease);
        let (mut sent, mut step) = (String::new(), Action::Transmit);
        for answer in answers {
            assert_eq!(step, Action::Transmit);
            let mut flight = Flight::new();
            assert_eq!(operation.poll_transmit(&view(), NOW, &mut flight), Ok(()));
            sent.push_str(&String::from_utf8_lossy(flight.bytes()));
            let mut replies = Replies::new(answer.as_bytes());
            let moment = NOW.monotonic;
            let interpreted = operation.handle_replies(&mut view(), &mut replies, moment, moment);
            step = interpreted.expect("sound replies");
        }
        (sent, step)
    }

    const OFF: &str = "STAT temp_lru no\r\nSTAT temporary_ttl 61\r\nEND\r\n";
    const LOW: &str = "STAT temp_lru yes\r\nSTAT temporary_ttl 20\r\nEND\r\n";
    const ON: &str = "STAT temp_lru yes\r\nSTAT temporary_ttl 21\r\nEND\r\n";

    const PROXY: &str = "STAT temp_lru no\r\nSTAT proxy_enabled yes\r\nEND\r\n";

    #[test]
    fn limit_is_set_and_read_back() {
        for (first, before) in [(OFF, None), (LOW, Some(20))] {
            let (sent, step) = run(&[first, "OK\r\n", ON]);
            assert_eq!(
                sent,
                "stats settings\r\nlru temp_ttl 21\r\nstats settings\r\n"
            );
            let seconds = 21;
            let enabled = TemporaryLru::Enabled { seconds, before };
            assert_eq!(step, Action::Done(Ok(enabled)));
        }
    }

    #[test]
    fn higher_limit_is_kept() {
        for seconds in [21, 3600] {
            let told =
                alloc::format!("STAT temp_lru yes\r\nSTAT temporary_ttl {seconds}\r\nEND\r\n");
            let (sent, step) = run(&[&told]);
            assert_eq!(sent, "stats settings\r\n");
            assert_eq!(step, Action::Done(Ok(TemporaryLru::Already { seconds })));
        }
    }

    #[test]
    fn failed_setting_is_reported() {
        for (answers, says) in [
            (&["ERROR\r\n"][..], "does not report"),
            (&["STAT cas_enabled yes\r\nEND\r\n"], "does not report"),
            (&[PROXY], "a proxy answers"),
            (&[OFF, "CLIENT_ERROR not here\r\n"], "CLIENT_ERROR not here"),
            (&[OFF, "OK\r\n", OFF], "does not do it"),
        ] {
            let (_, step) = run(answers);
            let Action::Done(Ok(TemporaryLru::Refused { answer })) = step else {
                panic!("{step:?}");
            };
            assert!(answer.contains(says), "{answer}");
        }
    }

    #[test]
    fn only_unanswered_setting_is_unknown() {
        let lease = Lease::new(Duration::from_secs(10)).expect("in range");
        for (stage, unknown) in [
            (Phase::Look, false),
            (Phase::Set { before: None }, true),
            (Phase::LookAgain { before: None }, false),
        ] {
            let mut operation = EnableTemporaryLru::new(lease);
            operation.phase = stage;
            let step = operation.handle_failure(FlightError::NoReply, NOW);
            assert_eq!(step, Action::Fail { unknown });
            let step = operation.handle_failure(FlightError::NotSent, NOW);
            assert_eq!(step, Action::Fail { unknown: false });
        }
    }
}
