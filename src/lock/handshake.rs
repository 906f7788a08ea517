//! What is asked of a server before the first lock operation on a connection: to let us in, who it
//! is, what it can do, what time it has, what it remembers, and that there is a sentinel.

use super::founding::{Founded, Founding};
use super::incarnation::{Capabilities, Dialect, Incarnation, ServerView};
use super::items::{
    Failure, Remembered, push_forget_password, push_group, push_sentinel_with_cas, push_stats,
    read_forget_password, read_sentinel_with_cas, remembered,
};
use super::lease::Lease;
use super::longest::{RaiseLongest, push_longest, read_longest};
use super::memory::Stats;
use super::moment::{Moment, Now};
use super::name::Namespace;
use super::record::Nonce;
use super::sentinel::{Instance, Sentinel};
use super::server_clock::ServerClock;
use super::statistics::SettingStats;
use crate::wire::{
    Blame, Credentials, DecodeError, Flag, Flags, Flight, Replies, Reply, Request, parse_u64,
};

/// The first exchange on every connection.
#[derive(Debug)]
pub struct Handshake<'a> {
    namespace: &'a Namespace,
    /// The longest lease that this client asks for.
    longest: Lease,
    /// The dialect to speak, where the caller has chosen.
    forced: Option<Dialect>,
    /// What to say before anything else, until it was said.
    credentials: Option<Credentials<'a>>,
    /// The server has accepted the password, and may have stored it.
    authenticated: bool,
    /// The instance word of a sentinel that is made here.
    instance: Instance,
    stage: Stage,
}

/// What is asked next, with what is known by then.
#[derive(Debug)]
enum Stage {
    /// Who the server is.
    Identify,
    /// What it remembers.
    Look(Greeted),
    /// Make the sentinel.
    Found(Founding, Greeted),
    /// Raise the longest lease.
    Raise(RaiseLongest, ServerView),
    Done,
}

/// A server that has said who it is.
#[derive(Debug)]
struct Greeted {
    view: ServerView,
    stats: Stats,
    /// What is to be done about the longest lease.
    raise: Option<RaiseLongest>,
}

/// What came of one flight of a handshake.
type Answer = Result<Option<Result<ServerView, Failure>>, DecodeError>;

impl<'a> Handshake<'a> {
    /// A handshake for the locks of this namespace, by a client that asks for leases of at most
    /// `longest`. The nonce must be one that was never used; it names the run of the server, if
    /// nobody has done so yet.
    ///
    /// `dialect` is for servers behind something that understands the classic commands only: then
    /// no other is sent. Otherwise the server is asked.
    #[must_use]
    pub const fn new(
        namespace: &'a Namespace,
        longest: Lease,
        dialect: Option<Dialect>,
        nonce: Nonce,
    ) -> Self {
        Self {
            namespace,
            longest,
            forced: dialect,
            credentials: None,
            authenticated: false,
            instance: Instance::from_bits(nonce.mixed()),
            stage: Stage::Identify,
        }
    }

    /// Begins with these credentials, for a server that wants some (`-Y`).
    #[must_use]
    pub const fn authenticate(mut self, credentials: Option<Credentials<'a>>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Whether the flight under way holds a password, which whoever answers may repeat.
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
        match &mut self.stage {
            Stage::Identify | Stage::Done => self.push_identify(flight),
            Stage::Look(Greeted { view, .. }) => {
                let dialect = view.capabilities.dialect;
                push_sentinel_with_cas(flight, dialect, self.namespace.sentinel());
                push_longest(flight, dialect, self.namespace.longest());
            }
            Stage::Found(founding, Greeted { view, .. }) => {
                founding.prepare(self.namespace, view, now.moment, flight);
            }
            Stage::Raise(raise, view) => {
                raise.prepare(self.namespace, view.capabilities.dialect, flight);
            }
        }
    }

    fn push_identify(&self, flight: &mut Flight) {
        if self.authenticated {
            push_forget_password(flight, self.namespace);
        }
        flight.push_here(&Request::Version);
        if self.forced != Some(Dialect::Classic) {
            // On an item that never exists: the answer tells whether the server knows `mg`. Not
            // `mn`: a server that wants credentials hangs up on so short a line without a word, and
            // one that does not sends at once what it has to say up to it, and the rest by itself.
            flight.push_here(&Request::MetaGet {
                key: self.namespace.probe(),
                flags: Flags::list(&[Flag::ReturnValue]),
            });
            // On an item that never exists: the answer tells whether the server knows `E`.
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
        sent: Moment,
        received: Moment,
    ) -> Answer {
        if self.credentials.is_some() {
            return match replies.next_reply()? {
                Reply::Stored => {
                    self.credentials = None;
                    self.authenticated = true;
                    Ok(None)
                }
                Reply::Error(error) => Ok(Some(Err(Failure::from_reply(&error)))),
                _ => Err(DecodeError::UnexpectedReply),
            };
        }
        match core::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Identify | Stage::Done => self.identified(replies, sent, received),
            Stage::Look(greeted) => self.looked(replies, greeted, sent, received),
            Stage::Found(mut founding, mut greeted) => {
                let view = &mut greeted.view;
                Ok(match founding.interpret(replies, view, sent, received)? {
                    Founded::Again => {
                        self.stage = Stage::Found(founding, greeted);
                        None
                    }
                    Founded::Yes => self.remembers(greeted),
                    Founded::Failed(failure) => Some(Err(failure)),
                })
            }
            Stage::Raise(mut raise, mut view) => {
                let raised = raise.interpret(replies, view.capabilities.dialect)?;
                Ok(match raised {
                    None => {
                        self.stage = Stage::Raise(raise, view);
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

    /// The server has said who it is.
    fn identified(&mut self, replies: &mut Replies<'_>, sent: Moment, received: Moment) -> Answer {
        if self.authenticated {
            read_forget_password(replies)?;
        }
        let version = match replies.next_reply()? {
            Reply::Version(version) => version,
            Reply::Error(error) => return Ok(Some(Err(Failure::from_reply(&error)))),
            _ => return Err(DecodeError::UnexpectedReply),
        };
        // The meta commands of 1.6.0 to 1.6.9 were experimental and answered differently.
        let stable = !matches!(release(version), Some((1, 6, patch)) if patch < 10);
        let (mut meta, mut explicit_cas) = (false, false);
        if self.forced != Some(Dialect::Classic) {
            meta = matches!(replies.next_reply()?, Reply::Meta(_)) && stable;
            explicit_cas = match replies.next_reply()? {
                Reply::Meta(_) => true,
                Reply::Error(error) if error.blame != Blame::Server => false,
                Reply::Error(error) => return Ok(Some(Err(Failure::from_reply(&error)))),
                _ => return Err(DecodeError::UnexpectedReply),
            };
        }
        let stats = match Stats::read(replies)? {
            Ok(stats) => stats,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        let settings = SettingStats::read(replies)?;
        let own = match meta {
            true => Dialect::Meta,
            false => Dialect::Classic,
        };
        let dialect = self.forced.unwrap_or(own);
        let mut clock = ServerClock::new();
        clock.observe(stats.time, sent, received);
        let incarnation = Incarnation {
            pid: stats.pid,
            started: stats.started(),
            instance: self.instance,
        };
        let capabilities = Capabilities {
            dialect,
            explicit_cas: explicit_cas && dialect == Dialect::Meta,
        };
        let mut view = ServerView::new(incarnation, capabilities, clock);
        view.memory.counters_read(&stats, settings.as_ref(), true);
        self.stage = Stage::Look(Greeted {
            view,
            stats,
            raise: None,
        });
        Ok(None)
    }

    /// The server has shown its sentinel and the longest lease.
    fn looked(
        &mut self,
        replies: &mut Replies<'_>,
        mut greeted: Greeted,
        sent: Moment,
        received: Moment,
    ) -> Answer {
        let Greeted { view, stats, raise } = &mut greeted;
        let dialect = view.capabilities.dialect;
        let found = read_sentinel_with_cas(replies, dialect)?;
        let longest = match read_longest(replies, dialect)? {
            Ok(longest) => longest,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        view.memory
            .longest_lease_seen(longest.map(|(lease, _)| lease));
        *raise = RaiseLongest::after(longest, self.longest);
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
            if view.incarnation.is_like(&record.run) {
                view.incarnation.instance = record.run.instance;
            }
        }
        match remembered(view, &sentinel, Some(*stats), None) {
            Err(failure) => Ok(Some(Err(failure))),
            Ok(Remembered::From { .. } | Remembered::Unclear) => Ok(self.remembers(greeted)),
            Ok(Remembered::Unfounded) => {
                let instance = self.instance;
                let founding = match sentinel {
                    Sentinel::Present { record, .. } => {
                        Founding::from_found(instance, view, record, cas)
                    }
                    Sentinel::Absent | Sentinel::Foreign => Founding::new(instance),
                };
                self.stage = Stage::Found(founding, greeted);
                Ok(None)
            }
        }
    }

    /// There is a sentinel.
    fn remembers(&mut self, greeted: Greeted) -> Option<Result<ServerView, Failure>> {
        let Greeted { view, raise, .. } = greeted;
        let Some(raise) = raise else {
            return Some(Ok(view));
        };
        self.stage = Stage::Raise(raise, view);
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
    fn releases_are_read_with_whatever_follows_them() {
        assert_eq!(release(b"1.6.45"), Some((1, 6, 45)));
        assert_eq!(release(b"1.6.9-rc1"), Some((1, 6, 9)));
        assert_eq!(release(b"1.6.45_proxy"), Some((1, 6, 45)));
        assert_eq!(release(b"1.6"), None);
        assert_eq!(release(b"mcrouter 1"), None);
    }

    fn handshake(namespace: &Namespace, dialect: Option<Dialect>) -> Handshake<'_> {
        let lease = Lease::new(core::time::Duration::from_secs(10)).expect("in range");
        Handshake::new(namespace, lease, dialect, Nonce::from_random([7; 16]))
    }

    fn answered(handshake: &mut Handshake<'_>, answer: &[u8]) -> Option<Result<(), Failure>> {
        let mut flight = Flight::new();
        let now = Now {
            moment: Moment::from_nanos(0),
            unix_seconds: 0,
        };
        handshake.prepare(now, &mut flight);
        assert_eq!(flight.bytes(), b"set p:probe 0 2592001 9\r\nuser pass\r\n");
        assert!(handshake.is_secret());
        let answer = handshake.interpret(&mut Replies::new(answer), now.moment, now.moment);
        answer.ok()?.map(|over| over.map(|_| ()))
    }

    #[test]
    fn nothing_is_asked_before_the_server_has_let_us_in() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let credentials = Credentials::new(b"user", b"pass").expect("plain");
        let mut handshake = handshake(&namespace, None).authenticate(Some(credentials));
        for (answer, failure) in [
            (
                "CLIENT_ERROR authentication failure",
                Failure::AuthenticationRefused,
            ),
            (
                "CLIENT_ERROR unauthenticated",
                Failure::AuthenticationRequired,
            ),
            (
                "SERVER_ERROR out of memory storing object",
                Failure::OutOfMemory,
            ),
            (
                "ERROR Too many open connections",
                Failure::TooManyConnections,
            ),
            ("ERROR", Failure::Refused("ERROR".into())),
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
            moment: Moment::from_nanos(0),
            unix_seconds: 0,
        };
        handshake.prepare(now, &mut flight);
        assert!(flight.bytes().starts_with(b"delete p:probe\r\nversion\r\n"));
    }

    #[test]
    fn classic_dialect_sends_no_meta_command() {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut handshake = handshake(&namespace, Some(Dialect::Classic));
        let now = Now {
            moment: Moment::from_nanos(0),
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
            let over = handshake.interpret(&mut replies, now.moment, now.moment);
            if let Some(view) = over.expect("sound answers") {
                let view = view.expect("a server for locks");
                assert_eq!(view.capabilities.dialect, Dialect::Classic);
                assert_eq!(view.incarnation.instance, Instance::from_bits(7));
                return;
            }
        }
        panic!("the handshake is not over");
    }
}
