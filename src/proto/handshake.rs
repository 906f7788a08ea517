//! The requests to a server before the first lock operation on a connection: they authenticate the
//! client, ask for the server's identity, capabilities, time and memory, and ensure that there is a
//! sentinel.

use super::failure::ServerError;
use super::items::{push_delete_password, read_delete_password};
use super::lease::Lease;
use super::longest_lease::{RaiseLongestLease, push_longest_lease, read_longest_lease};
use super::memory_probe::{
    MemoryReading, push_sentinel_with_cas, read_sentinel_with_cas, remembered,
};
use super::name::Namespace;
use super::record::Nonce;
use super::sentinel::Sentinel;
use super::sentinel_init::{InitStep, SentinelInit};
use super::server_clock::ServerClock;
use super::server_instance::InstanceWord;
use super::server_instance::{Capabilities, Protocol, ServerInstance};
use super::server_state::ServerState;
use super::server_stats::SettingStats;
use super::server_stats::StatsSummary;
use super::server_stats::{push_group, push_stats};
use super::time::{Instant, Now};
use crate::wire::{
    Credentials, DecodeError, ErrorSource, Flag, Flags, Flight, Replies, Reply, Request, parse_u64,
};

/// The first exchange on every connection.
#[derive(Debug)]
pub struct Handshake<'a> {
    namespace: &'a Namespace,
    /// The longest lease that this client asks for.
    longest_lease: Lease,
    /// The protocol to speak, where the caller has chosen.
    forced_protocol: Option<Protocol>,
    /// The credentials to send before anything else, until they were sent.
    credentials: Option<Credentials<'a>>,
    /// The server has accepted the password, and may have stored it.
    authenticated: bool,
    /// The instance word of a sentinel that is made here.
    instance: InstanceWord,
    phase: Phase,
}

/// The next request, with what is known by then.
#[derive(Debug)]
enum Phase {
    /// The identity of the server.
    Identify,
    /// The age of its memory.
    ReadSentinel(ServerIdentified),
    /// Make the sentinel.
    InitSentinel(SentinelInit, ServerIdentified),
    /// Raise the longest lease.
    RaiseLongestLease(RaiseLongestLease, ServerState),
    Done,
}

/// A server that has identified itself.
#[derive(Debug)]
struct ServerIdentified {
    view: ServerState,
    stats: StatsSummary,
    /// The step about the longest lease that is due.
    raise: Option<RaiseLongestLease>,
}

/// The next step after one flight of a handshake.
type HandshakeStep = Result<Option<Result<ServerState, ServerError>>, DecodeError>;

impl<'a> Handshake<'a> {
    /// A handshake for the locks of this namespace, by a client that requests leases of at most
    /// `longest`. The nonce must be one that was never used; it names the server instance, unless
    /// another client has already done so.
    ///
    /// `protocol` is for servers behind a proxy that understands the classic commands only: then no
    /// other command is sent. Otherwise the server is asked.
    #[must_use]
    pub const fn new(
        namespace: &'a Namespace,
        longest: Lease,
        protocol: Option<Protocol>,
        nonce: Nonce,
    ) -> Self {
        Self {
            namespace,
            longest_lease: longest,
            forced_protocol: protocol,
            credentials: None,
            authenticated: false,
            instance: InstanceWord::from_bits(nonce.mixed()),
            phase: Phase::Identify,
        }
    }

    /// Begins with these credentials, for a server that wants some (`-Y`).
    #[must_use]
    pub const fn authenticate(mut self, credentials: Option<Credentials<'a>>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Returns `true` if the outstanding flight contains a password, which the peer may repeat in
    /// its reply.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.credentials.is_some()
    }

    /// Writes the requests of the next flight.
    pub fn prepare(&mut self, now: Now, flight: &mut Flight) {
        if let Some(credentials) = self.credentials {
            // Alone: the server answers the last one only of the requests that come with it.
            flight.push_here(&Request::Authenticate {
                key: self.namespace.probe(),
                credentials,
            });
            return;
        }
        match &mut self.phase {
            Phase::Identify | Phase::Done => self.push_identify(flight),
            Phase::ReadSentinel(ServerIdentified { view, .. }) => {
                let protocol = view.capabilities.protocol;
                push_sentinel_with_cas(flight, protocol, self.namespace.sentinel());
                push_longest_lease(flight, protocol, self.namespace.longest());
            }
            Phase::InitSentinel(founding, ServerIdentified { view, .. }) => {
                founding.prepare(self.namespace, view, now.monotonic, flight);
            }
            Phase::RaiseLongestLease(raise, view) => {
                raise.prepare(self.namespace, view.capabilities.protocol, flight);
            }
        }
    }

    fn push_identify(&self, flight: &mut Flight) {
        if self.authenticated {
            push_delete_password(flight, self.namespace);
        }
        flight.push_here(&Request::Version);
        if self.forced_protocol != Some(Protocol::Classic) {
            // On an item that never exists: the reply shows whether the server knows `mg`. Not
            // `mn`: a server that requires credentials closes the connection on so short a line
            // without a reply, and a server that does not require them immediately sends its
            // replies up to it, and the rest separately.
            flight.push_here(&Request::MetaGet {
                key: self.namespace.probe(),
                flags: Flags::list(&[Flag::ReturnValue]),
            });
            // On an item that never exists: the reply shows whether the server knows `E`.
            flight.push_here(&Request::MetaDelete {
                key: self.namespace.probe(),
                flags: Flags::list(&[Flag::CompareCas(1), Flag::ExplicitCas(1)]),
            });
        }
        push_stats(flight);
        push_group(flight, b"settings");
    }

    /// Takes in the replies. `None` asks for one more flight.
    ///
    /// # Errors
    /// A reply that is none of memcached's; the connection must be closed.
    pub fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> HandshakeStep {
        if self.credentials.is_some() {
            return match replies.next_reply()? {
                Reply::Stored => {
                    self.credentials = None;
                    self.authenticated = true;
                    Ok(None)
                }
                Reply::Error(error) => Ok(Some(Err(ServerError::from_reply(&error)))),
                _ => Err(DecodeError::UnexpectedReply),
            };
        }
        match core::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Identify | Phase::Done => self.identified(replies, sent, received),
            Phase::ReadSentinel(greeted) => self.sentinel_read(replies, greeted, sent, received),
            Phase::InitSentinel(mut founding, mut greeted) => {
                let view = &mut greeted.view;
                Ok(match founding.interpret(replies, view, sent, received)? {
                    InitStep::Retry => {
                        self.phase = Phase::InitSentinel(founding, greeted);
                        None
                    }
                    InitStep::Done => self.remembers(greeted),
                    InitStep::Failed(failure) => Some(Err(failure)),
                })
            }
            Phase::RaiseLongestLease(mut raise, mut view) => {
                let raised = raise.interpret(replies, view.capabilities.protocol)?;
                Ok(match raised {
                    None => {
                        self.phase = Phase::RaiseLongestLease(raise, view);
                        None
                    }
                    Some(Ok(longest)) => {
                        view.memory.longest_lease_seen(Some(longest));
                        Some(Ok(view))
                    }
                    Some(Err(failure)) => Some(Err(failure)),
                })
            }
        }
    }

    /// Continues after the server has identified itself.
    fn identified(
        &mut self,
        replies: &mut Replies<'_>,
        sent: Instant,
        received: Instant,
    ) -> HandshakeStep {
        if self.authenticated {
            read_delete_password(replies)?;
        }
        let version = match replies.next_reply()? {
            Reply::Version(version) => version,
            Reply::Error(error) => return Ok(Some(Err(ServerError::from_reply(&error)))),
            _ => return Err(DecodeError::UnexpectedReply),
        };
        // The meta commands of 1.6.0 to 1.6.9 were experimental and answered differently.
        let stable = !matches!(release(version), Some((1, 6, patch)) if patch < 10);
        let (mut meta, mut explicit_cas) = (false, false);
        if self.forced_protocol != Some(Protocol::Classic) {
            meta = matches!(replies.next_reply()?, Reply::Meta(_)) && stable;
            explicit_cas = match replies.next_reply()? {
                Reply::Meta(_) => true,
                Reply::Error(error) if error.source != ErrorSource::Server => false,
                Reply::Error(error) => return Ok(Some(Err(ServerError::from_reply(&error)))),
                _ => return Err(DecodeError::UnexpectedReply),
            };
        }
        let stats = match StatsSummary::read(replies)? {
            Ok(stats) => stats,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        let settings = SettingStats::read(replies)?;
        let own = if meta {
            Protocol::Meta
        } else {
            Protocol::Classic
        };
        let protocol = self.forced_protocol.unwrap_or(own);
        let mut clock = ServerClock::new();
        clock.observe(stats.time, sent, received);
        let incarnation = ServerInstance {
            pid: stats.pid,
            started: stats.started(),
            word: self.instance,
        };
        let capabilities = Capabilities {
            protocol,
            explicit_cas: explicit_cas && protocol == Protocol::Meta,
        };
        let mut view = ServerState::new(incarnation, capabilities, clock);
        view.memory.counters_read(&stats, settings.as_ref(), true);
        self.phase = Phase::ReadSentinel(ServerIdentified {
            view,
            stats,
            raise: None,
        });
        Ok(None)
    }

    /// The server has shown its sentinel and the longest lease.
    fn sentinel_read(
        &mut self,
        replies: &mut Replies<'_>,
        mut greeted: ServerIdentified,
        sent: Instant,
        received: Instant,
    ) -> HandshakeStep {
        let ServerIdentified { view, stats, raise } = &mut greeted;
        let protocol = view.capabilities.protocol;
        let found = read_sentinel_with_cas(replies, protocol)?;
        let longest = match read_longest_lease(replies, protocol)? {
            Ok(longest) => longest,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        view.memory
            .longest_lease_seen(longest.map(|(lease, _)| lease));
        *raise = RaiseLongestLease::after(longest, self.longest_lease);
        let (mut sentinel, cas) = match found {
            Ok(found) => found,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        if let Sentinel::Present { record, second, .. } = &mut sentinel {
            match second {
                Some(second) => view.clock.observe(*second, sent, received),
                // No later than now, which is all that is asked of it here.
                None => *second = Some(stats.time),
            }
            if view.instance.is_same_process(&record.instance) {
                view.instance.word = record.instance.word;
            }
        }
        match remembered(view, &sentinel, Some(*stats), None) {
            Err(failure) => Ok(Some(Err(failure))),
            Ok(MemoryReading::CompleteSince { .. } | MemoryReading::Ambiguous) => {
                Ok(self.remembers(greeted))
            }
            Ok(MemoryReading::NoSentinel) => {
                let instance = self.instance;
                let founding = match sentinel {
                    Sentinel::Present { record, .. } => {
                        SentinelInit::from_existing(instance, view, record, cas)
                    }
                    Sentinel::Absent | Sentinel::Foreign => SentinelInit::new(instance),
                };
                self.phase = Phase::InitSentinel(founding, greeted);
                Ok(None)
            }
        }
    }

    /// There is a sentinel.
    fn remembers(&mut self, greeted: ServerIdentified) -> Option<Result<ServerState, ServerError>> {
        let ServerIdentified { view, raise, .. } = greeted;
        let Some(raise) = raise else {
            return Some(Ok(view));
        };
        self.phase = Phase::RaiseLongestLease(raise, view);
        None
    }
}

/// The three numbers a version starts with.
pub(super) fn release(version: &[u8]) -> Option<(u64, u64, u64)> {
    let mut parts = version.splitn(3, |byte| *byte == b'.').map(|part| {
        let end = part.iter().position(|byte| !byte.is_ascii_digit());
        parse_u64(&part[..end.unwrap_or(part.len())])
    });
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_number_ignores_suffix() {
        assert_eq!(release(b"1.6.45"), Some((1, 6, 45)));
        assert_eq!(release(b"1.6.9-rc1"), Some((1, 6, 9)));
        assert_eq!(release(b"1.6.45_proxy"), Some((1, 6, 45)));
        assert_eq!(release(b"1.6"), None);
        assert_eq!(release(b"mcrouter 1"), None);
    }

    fn handshake(namespace: &Namespace, protocol: Option<Protocol>) -> Handshake<'_> {
        let lease = Lease::new(core::time::Duration::from_secs(10)).expect("in range");
        Handshake::new(namespace, lease, protocol, Nonce::from_random([7; 16]))
    }

    fn answered(handshake: &mut Handshake<'_>, answer: &[u8]) -> Option<Result<(), ServerError>> {
        let mut flight = Flight::new();
        let now = Now {
            monotonic: Instant::from_nanos(0),
            unix_seconds: 0,
        };
        handshake.prepare(now, &mut flight);
        assert_eq!(flight.bytes(), b"set p:probe 0 2592001 9\r\nuser pass\r\n");
        assert!(handshake.is_secret());
        let answer = handshake.interpret(&mut Replies::new(answer), now.monotonic, now.monotonic);
        answer.ok()?.map(|over| over.map(|_| ()))
    }

    #[test]
    fn nothing_is_sent_before_authentication() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let credentials = Credentials::new(b"user", b"pass").expect("plain");
        let mut handshake = handshake(&namespace, None).authenticate(Some(credentials));
        for (answer, failure) in [
            (
                "CLIENT_ERROR authentication failure",
                ServerError::AuthenticationFailed,
            ),
            (
                "CLIENT_ERROR unauthenticated",
                ServerError::AuthenticationRequired,
            ),
            (
                "SERVER_ERROR out of memory storing object",
                ServerError::OutOfMemory,
            ),
            (
                "ERROR Too many open connections",
                ServerError::TooManyConnections,
            ),
            ("ERROR", ServerError::Rejected("ERROR".into())),
        ] {
            let answer = alloc::format!("{answer}\r\n");
            assert_eq!(
                answered(&mut handshake, answer.as_bytes()),
                Some(Err(failure))
            );
        }
        // Another reply than there can be is an error; the next try is to begin anew.
        assert_eq!(answered(&mut handshake, b"NOT_STORED\r\n"), None);
        assert_eq!(answered(&mut handshake, b"STORED\r\n"), None);
        assert!(!handshake.is_secret());
        let mut flight = Flight::new();
        let now = Now {
            monotonic: Instant::from_nanos(0),
            unix_seconds: 0,
        };
        handshake.prepare(now, &mut flight);
        assert!(flight.bytes().starts_with(b"delete p:probe\r\nversion\r\n"));
    }

    #[test]
    fn classic_dialect_sends_no_meta_command() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut handshake = handshake(&namespace, Some(Protocol::Classic));
        let now = Now {
            monotonic: Instant::from_nanos(0),
            unix_seconds: 0,
        };
        let stats = "STAT pid 1\r\nSTAT uptime 9\r\nSTAT time 1795337309\r\nEND\r\n";
        let first = alloc::format!("VERSION 1.6.45\r\n{stats}STAT oldest 0\r\nEND\r\n");
        let found =
            "VALUE p:sentinel 0 51 7\r\ns1 ready 1795337300 0000000000000007 1 1795337300 -\r\n";
        let founded = alloc::format!("STORED\r\n{found}END\r\n{stats}");
        let raised = "STORED\r\nVALUE p:longest 0 5 8\r\n10000\r\nEND\r\n";
        for answer in [first.as_str(), "END\r\nEND\r\n", &founded, raised] {
            let mut flight = Flight::new();
            handshake.prepare(now, &mut flight);
            for line in flight.bytes().split(|byte| *byte == b'\n') {
                let meta = [&b"mg "[..], b"md ", b"ma ", b"ms ", b"mn"];
                assert!(!meta.iter().any(|verb| line.starts_with(verb)));
            }
            let mut replies = Replies::new(answer.as_bytes());
            let over = handshake.interpret(&mut replies, now.monotonic, now.monotonic);
            if let Some(view) = over.expect("sound answers") {
                let view = view.expect("a server for locks");
                assert_eq!(view.capabilities.protocol, Protocol::Classic);
                assert_eq!(view.instance.word, InstanceWord::from_bits(7));
                return;
            }
        }
        panic!("the handshake is not over");
    }
}
