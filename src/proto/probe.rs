//! A look at the server itself: what it says that bears on locks, and what it does not say.

use super::failure::ServerError;
use super::handshake::release;
use super::items::{push_delete_password, read_delete_password};
use super::lease::Lease;
use super::longest_lease::{push_longest_lease, read_longest_lease};
use super::memory::Memory;
use super::memory_probe::{push_sentinel_with_cas, read_sentinel_with_cas};
use super::name::Namespace;
use super::sentinel::{Sentinel, SentinelState, complete_since, unflushed_from};
use super::server_instance::InstanceWord;
use super::server_instance::Protocol;
use super::server_stats::StatsSummary;
use super::server_stats::{GeneralStats, ItemStats, SettingStats};
use super::server_stats::{push_group, push_stats};
use super::time::Instant;
use crate::wire::{Credentials, DecodeError, Flag, Flags, Flight, Replies, Reply, Request};
use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

/// An item of a lock is smaller than this: a key of at most 250 bytes, a record below 512, and what
/// the server keeps with each item. memcached takes no lower limit for the size of items.
pub const LARGEST_ITEM: u64 = 1024;

/// By how much the birth of a sentinel is ahead of the server's second that its founder has read: the most
/// that a client knows of the clock behind one reading.
const BORN_AHEAD: u64 = 3;

/// The longest version that is kept. Those of memcached have a dozen bytes.
const LONGEST_VERSION: usize = 100;

/// The report of a server about itself. A value that it does not report is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// The release, in the server's words.
    pub version: String,
    /// Its three numbers.
    pub release: Option<(u64, u64, u64)>,
    /// `true` if the server knows the meta commands.
    pub meta: bool,
    /// `true` if a request may name the CAS unique that an item gets.
    pub explicit_cas: bool,
    /// The sentinel of the namespace.
    pub sentinel: Option<Sentinel>,
    /// `true` if the sentinel has a CAS unique, if there is one.
    pub has_cas: Option<bool>,
    /// The longest lease that its clients say they use.
    pub longest: Option<Lease>,
    /// `stats`.
    pub general: Option<GeneralStats>,
    /// `stats settings`.
    pub settings: Option<SettingStats>,
    /// `stats items`.
    pub items: Option<ItemStats>,
    /// The shortest that an answer has taken.
    pub round_trip: Duration,
}

impl ServerReport {
    /// The protocol that a client speaks with it.
    const fn protocol(&self) -> Protocol {
        if self.meta {
            Protocol::Meta
        } else {
            Protocol::Classic
        }
    }

    /// For how long a lock that is asked for now would not be granted by a client with a restart
    /// guard that sees this server for the first time and uses no longer lease than this one. `None`
    /// when the server does not say enough.
    #[must_use]
    pub fn memory_lacking(&self, longest: Lease) -> Option<Duration> {
        let (memory, from) = self.memory()?;
        let time = self.general.as_ref()?.time?;
        let from = from.unwrap_or(time + BORN_AHEAD);
        Some(memory.lacking(time, from, longest))
    }

    /// For how many seconds the server has dropped nothing, as far as such a client sees. `None`
    /// when nothing shows it.
    #[must_use]
    pub fn memory_age(&self) -> Option<u64> {
        let (_, from) = self.memory()?;
        Some(self.general.as_ref()?.time?.saturating_sub(from?))
    }

    /// The memory of this server as a client knows it that sees it for the first time, and from when on
    /// that shows that nothing was dropped, if it does.
    fn memory(&self) -> Option<(Memory, Option<u64>)> {
        let general = self.general.as_ref()?;
        let (time, uptime) = (general.time?, general.uptime?);
        let started = time.checked_sub(uptime)?;
        let oldest = self.settings.as_ref().and_then(|settings| settings.oldest);
        let mut memory = Memory::new();
        memory.longest_lease_seen(self.longest);
        let stats = StatsSummary {
            pid: general.pid?,
            uptime,
            time,
            flushes: general.cmd_flush,
        };
        let by_counters = memory.counters_read(&stats, self.settings.as_ref(), false);
        let by_sentinel = match self.sentinel? {
            Sentinel::Foreign => return None,
            Sentinel::Absent => None,
            Sentinel::Present {
                record,
                second,
                idle,
            } => {
                let is_here =
                    (general.pid, started) == (Some(record.instance.pid), record.instance.started);
                let flushed = match idle {
                    Some(idle) => complete_since(record.created_at, second.unwrap_or(time), idle),
                    None => unflushed_from(started, oldest.unwrap_or(0)).max(record.created_at),
                };
                (is_here && record.state == SentinelState::Ready).then_some(flushed)
            }
        };
        let by_sentinel = by_sentinel.map(|from| memory.sentinel_seen(from, time));
        let from = match (by_sentinel, by_counters) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Some((memory, from))
    }

    /// The instance word of the sentinel, if there is one that is ready.
    #[must_use]
    pub fn instance_word(&self) -> Option<InstanceWord> {
        match self.sentinel? {
            Sentinel::Present { record, .. } if record.state == SentinelState::Ready => {
                Some(record.instance.word)
            }
            _ => None,
        }
    }

    /// The process id and the start time, which distinguish a server instance from others.
    #[must_use]
    pub fn process(&self) -> Option<(u64, u64)> {
        let general = self.general.as_ref()?;
        Some((general.pid?, general.time?.checked_sub(general.uptime?)?))
    }

    /// Returns `true` if the server is of this release or a later one. `None` when it does not say.
    #[must_use]
    pub fn is_at_least(&self, release: (u64, u64, u64)) -> Option<bool> {
        self.release.map(|own| own >= release)
    }
}

/// The next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Sentinel,
    General,
    Settings,
    Items,
}

/// The next step after one flight of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeStep {
    /// There is more to ask.
    More,
    /// All was asked.
    Done(Box<ServerReport>),
    /// The server does not serve us.
    Failed(ServerError),
}

/// Asks a server about itself, on a connection of its own.
///
/// It is no [`Operation`](super::Operation), because those come after a
/// [`Handshake`](super::Handshake), which rejects just those servers that most need a probe, and
/// which creates the sentinel whose absence is informative. Nothing is stored.
///
/// Each group of statistics has a flight of its own: a proxy may close the connection on a request
/// for an unknown group, and `stats items` of a server with all its 63 size classes alone is nearly
/// as long as the replies to one flight may be.
#[derive(Debug)]
pub struct ServerProbe<'a> {
    namespace: &'a Namespace,
    credentials: Option<Credentials<'a>>,
    /// The server has accepted the password, and may have stored it.
    authenticated: bool,
    phase: Phase,
    /// Only identifies the server instance.
    brief: bool,
    report: ServerReport,
}

impl<'a> ServerProbe<'a> {
    /// A survey with the sentinel of this namespace. Begins with the credentials, if there are some.
    #[must_use]
    pub const fn new(namespace: &'a Namespace, credentials: Option<Credentials<'a>>) -> Self {
        Self {
            namespace,
            credentials,
            authenticated: false,
            phase: Phase::Greeting,
            brief: false,
            report: ServerReport {
                version: String::new(),
                release: None,
                meta: false,
                explicit_cas: false,
                sentinel: None,
                has_cas: None,
                longest: None,
                general: None,
                settings: None,
                items: None,
                round_trip: Duration::MAX,
            },
        }
    }

    /// Requests no more than what identifies the server instance.
    #[must_use]
    pub const fn briefly(mut self) -> Self {
        self.brief = true;
        self
    }

    /// Returns `true` if the outstanding flight contains a password, which the peer may repeat in
    /// its reply.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.credentials.is_some()
    }

    /// Writes the requests of the next flight.
    pub fn prepare(&self, flight: &mut Flight) {
        if let Some(credentials) = self.credentials {
            // Alone: the server answers the last one only of the requests that come with it.
            return flight.push(&Request::Authenticate {
                key: self.namespace.probe(),
                credentials,
            });
        }
        match self.phase {
            Phase::Greeting => {
                let probe = self.namespace.probe();
                if self.authenticated {
                    push_delete_password(flight, self.namespace);
                }
                flight.push(&Request::Version);
                // As in the handshake, on an item that never exists.
                flight.push(&Request::MetaGet {
                    key: probe,
                    flags: Flags::list(&[Flag::ReturnValue]),
                });
                flight.push(&Request::MetaDelete {
                    key: probe,
                    flags: Flags::list(&[Flag::CompareCas(1), Flag::ExplicitCas(1)]),
                });
            }
            Phase::Sentinel => {
                let protocol = self.report.protocol();
                push_sentinel_with_cas(flight, protocol, self.namespace.sentinel());
                push_longest_lease(flight, protocol, self.namespace.longest());
            }
            Phase::General => push_stats(flight),
            Phase::Settings => push_group(flight, b"settings"),
            Phase::Items => push_group(flight, b"items"),
        }
    }

    /// Takes in the replies to the flight, which was sent and answered at these instants.
    ///
    /// # Errors
    /// A reply that is none of memcached's; the connection must be closed. What was learnt before
    /// is there for [`cut_short`](Self::cut_short).
    pub fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> Result<ProbeStep, DecodeError> {
        self.report.round_trip = self.report.round_trip.min(received.since(sent));
        if self.credentials.is_some() {
            return match replies.next_reply()? {
                Reply::Stored => {
                    self.credentials = None;
                    self.authenticated = true;
                    Ok(ProbeStep::More)
                }
                Reply::Error(error) => Ok(ProbeStep::Failed(ServerError::from_reply(&error))),
                _ => Err(DecodeError::UnexpectedReply),
            };
        }
        let survey = &mut self.report;
        self.phase = match self.phase {
            Phase::Greeting => {
                if self.authenticated {
                    read_delete_password(replies)?;
                }
                if let Some(failure) = greeting(survey, replies)? {
                    return Ok(ProbeStep::Failed(failure));
                }
                Phase::Sentinel
            }
            Phase::Sentinel => {
                sentinel(survey, replies)?;
                Phase::General
            }
            Phase::General => {
                survey.general = GeneralStats::read(replies)?;
                if self.brief {
                    return Ok(ProbeStep::Done(Box::new(survey.clone())));
                }
                Phase::Settings
            }
            Phase::Settings => {
                survey.settings = SettingStats::read(replies)?;
                Phase::Items
            }
            Phase::Items => {
                survey.items = ItemStats::read(replies)?;
                return Ok(ProbeStep::Done(Box::new(survey.clone())));
            }
        };
        Ok(ProbeStep::More)
    }

    /// The server closed the connection or sent an unexpected reply. Returns what is known by then,
    /// if it is enough to show that there is a server.
    #[must_use]
    pub fn cut_short(self) -> Option<ServerReport> {
        (self.phase != Phase::Greeting).then_some(self.report)
    }
}

/// Reads the replies to the first flight.
fn greeting(
    survey: &mut ServerReport,
    replies: &mut Replies<'_>,
) -> Result<Option<ServerError>, DecodeError> {
    let version = match replies.next_reply()? {
        Reply::Version(version) => version,
        Reply::Error(error) => return Ok(Some(ServerError::from_reply(&error))),
        _ => return Err(DecodeError::UnexpectedReply),
    };
    survey.release = release(version);
    let kept = &version[..version.len().min(LONGEST_VERSION)];
    survey.version = String::from_utf8_lossy(kept).into_owned();
    let stable = survey.is_at_least((1, 6, 10)) != Some(false);
    survey.meta = matches!(replies.next_reply()?, Reply::Meta(_)) && stable;
    survey.explicit_cas = matches!(replies.next_reply()?, Reply::Meta(_)) && survey.meta;
    Ok(None)
}

/// Reads the replies about the sentinel and the longest lease.
fn sentinel(survey: &mut ServerReport, replies: &mut Replies<'_>) -> Result<(), DecodeError> {
    let protocol = survey.protocol();
    match read_sentinel_with_cas(replies, protocol)? {
        Ok((sentinel, cas)) => {
            survey.sentinel = Some(sentinel);
            survey.has_cas = Some(true).filter(|_| cas != 0);
        }
        Err(ServerError::NoCas) => survey.has_cas = Some(false),
        // Other replies show better which of them it is.
        Err(_) => {}
    }
    let longest = read_longest_lease(replies, protocol)?.ok().flatten();
    survey.longest = longest.map(|(lease, _)| lease);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn namespace() -> Namespace {
        Namespace::new("p:").expect("a plain prefix")
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn sent(surveyor: &ServerProbe<'_>) -> Vec<u8> {
        let mut flight = Flight::new();
        surveyor.prepare(&mut flight);
        assert!(flight.is_answerable());
        flight.bytes().into()
    }

    fn answer(surveyor: &mut ServerProbe<'_>, bytes: &str) -> Result<ProbeStep, DecodeError> {
        surveyor.interpret(&mut Replies::new(bytes.as_bytes()), at(0), at(3))
    }

    const GREETING: &str = "VERSION 1.6.45\r\nEN\r\nNF\r\n";
    const SENTINEL: &str = "VA 51 c7 t352146247 l100\r\ns1 ready 1795337300 00000000000000ff 1 1795337298 -\r\n\
                            VA 5 c8\r\n20000\r\n";
    const GENERAL: &str = "STAT pid 1\r\nSTAT uptime 102\r\nSTAT time 1795337400\r\n\
                           STAT evictions 0\r\nSTAT cmd_flush 0\r\nEND\r\n";

    #[test]
    fn probe_takes_five_flights() {
        let namespace = namespace();
        let mut surveyor = ServerProbe::new(&namespace, None);
        assert_eq!(
            sent(&surveyor),
            b"version\r\nmg p:probe v\r\nmd p:probe C1 E1\r\n"
        );
        assert_eq!(answer(&mut surveyor, GREETING), Ok(ProbeStep::More));
        assert_eq!(
            sent(&surveyor),
            b"mg p:sentinel u c t l v\r\nmg p:longest c v\r\n"
        );
        assert_eq!(answer(&mut surveyor, SENTINEL), Ok(ProbeStep::More));
        assert_eq!(sent(&surveyor), b"stats\r\n");
        assert_eq!(answer(&mut surveyor, GENERAL), Ok(ProbeStep::More));
        assert_eq!(sent(&surveyor), b"stats settings\r\n");
        let settings = "STAT cas_enabled yes\r\nEND\r\n";
        assert_eq!(answer(&mut surveyor, settings), Ok(ProbeStep::More));
        assert_eq!(sent(&surveyor), b"stats items\r\n");
        let Ok(ProbeStep::Done(survey)) = answer(&mut surveyor, "END\r\n") else {
            panic!("nothing else is to be asked");
        };
        assert_eq!(survey.version, "1.6.45");
        assert!(survey.meta && survey.explicit_cas);
        assert_eq!(survey.has_cas, Some(true));
        assert_eq!(survey.round_trip, Duration::from_millis(3));
        assert!(survey.items.is_some() && survey.settings.is_some());
        let lease = |secs| Lease::new(Duration::from_secs(secs)).expect("in range");
        assert_eq!(survey.longest, Some(lease(20)));
        assert_eq!(survey.memory_lacking(lease(10)), Some(Duration::ZERO));
        let lacking = survey.memory_lacking(lease(97));
        assert_eq!(lacking, Some(Duration::from_secs(0)));
        let lacking = survey.memory_lacking(lease(198));
        assert_eq!(lacking, Some(Duration::from_secs(101)));
    }

    #[test]
    fn counters_show_age_without_sentinel() {
        let namespace = namespace();
        let mut surveyor = ServerProbe::new(&namespace, None);
        let fresh = "VERSION 1.6.9\r\nERROR\r\nERROR\r\n";
        let settings = "STAT oldest 0\r\nSTAT memory_file (null)\r\nEND\r\n";
        for part in [fresh, "END\r\nEND\r\n", GENERAL, settings] {
            assert_eq!(answer(&mut surveyor, part), Ok(ProbeStep::More));
        }
        let mut survey = surveyor.cut_short().expect("a server");
        assert!(!survey.meta && !survey.explicit_cas);
        assert_eq!(survey.sentinel, Some(Sentinel::Absent));
        assert_eq!(survey.items, None);
        let lease = Lease::new(Duration::from_secs(198)).expect("in range");
        // It started 102 s ago or up to three later.
        assert_eq!(survey.memory_lacking(lease), Some(Duration::from_secs(101)));
        for change in [
            |survey: &mut ServerReport| survey.general.as_mut().expect("said").cmd_flush = Some(1),
            |survey: &mut ServerReport| survey.settings.as_mut().expect("said").oldest = Some(163),
            |survey: &mut ServerReport| {
                survey.settings.as_mut().expect("said").memory_file = Some(true);
            },
        ] {
            let mut forgetful = survey.clone();
            change(&mut forgetful);
            let lacking = forgetful.memory_lacking(lease);
            assert_eq!(lacking, Some(Duration::from_secs(200 + BORN_AHEAD)));
        }
        // The flush was 94 s ago, and the server's clock may have stood still for a minute then.
        survey.settings.as_mut().expect("said").oldest = Some(67);
        assert_eq!(survey.memory_lacking(lease), Some(Duration::from_secs(168)));
        survey.settings = None;
        assert_eq!(
            survey.memory_lacking(lease),
            Some(Duration::from_secs(200 + BORN_AHEAD))
        );
        survey.general = None;
        assert_eq!(survey.memory_lacking(lease), None);
    }

    #[test]
    fn refused_statistics_are_facts() {
        let namespace = namespace();
        let mut surveyor = ServerProbe::new(&namespace, None);
        let odd = "VERSION of something else\r\nERROR\r\nCLIENT_ERROR no\r\n";
        assert_eq!(answer(&mut surveyor, odd), Ok(ProbeStep::More));
        let refused = "SERVER_ERROR no\r\nERROR\r\n";
        assert_eq!(answer(&mut surveyor, refused), Ok(ProbeStep::More));
        for _ in 0..2 {
            assert_eq!(answer(&mut surveyor, "ERROR\r\n"), Ok(ProbeStep::More));
        }
        let Ok(ProbeStep::Done(survey)) = answer(&mut surveyor, "SERVER_ERROR no\r\n") else {
            panic!("nothing else is to be asked");
        };
        assert_eq!(survey.version, "of something else");
        assert_eq!((survey.release, survey.sentinel), (None, None));
        assert_eq!((survey.general, survey.settings), (None, None));

        let mut surveyor = ServerProbe::new(&namespace, None);
        assert_eq!(
            answer(&mut surveyor, "CLIENT_ERROR unauthenticated\r\n"),
            Ok(ProbeStep::Failed(ServerError::AuthenticationRequired))
        );
        assert_eq!(surveyor.cut_short(), None);
    }

    #[test]
    fn password_is_sent_first_and_alone() {
        let namespace = namespace();
        let credentials = Credentials::new(b"user", b"pass").expect("plain");
        let mut surveyor = ServerProbe::new(&namespace, Some(credentials));
        assert!(surveyor.is_secret());
        assert_eq!(sent(&surveyor), b"set p:probe 0 2592001 9\r\nuser pass\r\n");
        assert_eq!(
            answer(&mut surveyor, "CLIENT_ERROR authentication failure\r\n"),
            Ok(ProbeStep::Failed(ServerError::AuthenticationFailed))
        );
        assert_eq!(answer(&mut surveyor, "STORED\r\n"), Ok(ProbeStep::More));
        assert!(!surveyor.is_secret());
        assert!(sent(&surveyor).starts_with(b"delete p:probe\r\nversion\r\n"));
    }

    #[test]
    fn any_reply_at_any_stage_handled() {
        let namespace = namespace();
        let long = "STAT items:1:evicted 18446744073709551615\r\nSTAT items:2:evicted 1\r\nEND\r\n";
        let answers = [
            GREETING,
            SENTINEL,
            GENERAL,
            long,
            "ERROR\r\n",
            "END\r\n",
            "\r\n",
            "VA 0 t1\r\n\r\n",
        ];
        for asked in 0..5 {
            for text in answers {
                for end in 0..=text.len() {
                    let mut surveyor = ServerProbe::new(&namespace, None);
                    for before in [GREETING, SENTINEL, GENERAL, "END\r\n"].iter().take(asked) {
                        assert_eq!(answer(&mut surveyor, before), Ok(ProbeStep::More));
                    }
                    let came = answer(&mut surveyor, &text[..end]);
                    if came.is_err() {
                        assert_eq!(surveyor.cut_short().is_some(), asked > 0);
                    }
                }
            }
        }
    }

    #[test]
    fn long_version_is_cut() {
        let namespace = namespace();
        let mut surveyor = ServerProbe::new(&namespace, None);
        let version = "x".repeat(2000);
        let greeting = alloc::format!("VERSION {version}\r\nEN\r\nNF\r\nEND\r\n");
        assert_eq!(answer(&mut surveyor, &greeting), Ok(ProbeStep::More));
        let survey = surveyor.cut_short().expect("a server");
        assert_eq!(survey.version.len(), LONGEST_VERSION);
    }
}
