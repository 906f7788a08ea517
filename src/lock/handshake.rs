//! What is asked of a server before the first lock operation on a connection: to let us in, who it
//! is, what it can do, what time it has, and that there is a sentinel.

use super::founding::{Founded, Founding};
use super::incarnation::{Capabilities, Dialect, Incarnation, ServerView};
use super::items::{Failure, Stats, push_gets, push_stats, read_gets};
use super::items::{push_forget_password, read_forget_password};
use super::moment::{Moment, Now};
use super::name::Namespace;
use super::sentinel::Sentinel;
use super::server_clock::ServerClock;
use crate::wire::{
    Blame, Credentials, DecodeError, Flag, Flags, Flight, Replies, Reply, Request, parse_u64,
};

/// The first exchange on every connection.
#[derive(Debug)]
pub struct Handshake<'a> {
    namespace: &'a Namespace,
    /// The dialect to speak, where the caller has chosen.
    forced: Option<Dialect>,
    /// What to say before anything else, until it was said.
    credentials: Option<Credentials<'a>>,
    /// The server has accepted the password, and may have stored it.
    authenticated: bool,
    view: Option<ServerView>,
    founding: Founding,
}

impl<'a> Handshake<'a> {
    /// A handshake for the locks of this namespace.
    ///
    /// `dialect` is for servers behind something that understands the classic commands only;
    /// otherwise the server is asked.
    #[must_use]
    pub const fn new(namespace: &'a Namespace, dialect: Option<Dialect>) -> Self {
        Self {
            namespace,
            forced: dialect,
            credentials: None,
            authenticated: false,
            view: None,
            founding: Founding::new(),
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
        if let Some(view) = &self.view {
            self.founding
                .prepare(self.namespace, view, now.moment, flight);
            return;
        }
        if self.authenticated {
            push_forget_password(flight, self.namespace);
        }
        flight.push_here(&Request::Version);
        // On an item that never exists: the answer tells whether the server knows `mg`. Not `mn`: a
        // server that wants credentials hangs up on so short a line without a word, and one that
        // does not sends at once what it has to say up to it, and the rest by itself.
        flight.push_here(&Request::MetaGet {
            key: self.namespace.probe(),
            flags: Flags::list(&[Flag::ReturnValue]),
        });
        // On an item that never exists: the answer tells whether the server knows `E`.
        flight.push_here(&Request::MetaDelete {
            key: self.namespace.probe(),
            flags: Flags::list(&[Flag::CompareCas(1), Flag::ExplicitCas(1)]),
        });
        push_gets(flight, self.namespace.sentinel());
        push_stats(flight);
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
    ) -> Result<Option<Result<ServerView, Failure>>, DecodeError> {
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
        if let Some(view) = &mut self.view {
            let founded = self.founding.interpret(replies, view, sent, received)?;
            return Ok(match founded {
                Founded::Again => None,
                Founded::Yes => self.view.take().map(Ok),
                Founded::Failed(failure) => Some(Err(failure)),
            });
        }
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
        let meta = matches!(replies.next_reply()?, Reply::Meta(_)) && stable;
        let explicit_cas = match replies.next_reply()? {
            Reply::Meta(_) => true,
            Reply::Error(error) if error.blame != Blame::Server => false,
            Reply::Error(error) => return Ok(Some(Err(Failure::from_reply(&error)))),
            _ => return Err(DecodeError::UnexpectedReply),
        };
        let sentinel = match read_gets(replies)? {
            Ok(Some((_, 0))) => return Ok(Some(Err(Failure::NoCas))),
            Ok(Some((value, _))) => Sentinel::from_value(value),
            Ok(None) => Sentinel::Absent,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        let stats = match Stats::read(replies)? {
            Ok(stats) => stats,
            Err(failure) => return Ok(Some(Err(failure))),
        };
        let own = if meta {
            Dialect::Meta
        } else {
            Dialect::Classic
        };
        let dialect = self.forced.unwrap_or(own);
        let mut clock = ServerClock::new();
        clock.observe(stats.time, sent, received);
        let view = ServerView {
            incarnation: Incarnation {
                pid: stats.pid,
                started: stats.time - stats.uptime,
            },
            capabilities: Capabilities {
                dialect,
                explicit_cas: explicit_cas && dialect == Dialect::Meta,
            },
            clock,
        };
        Ok(match sentinel {
            Sentinel::Present { .. } => Some(Ok(view)),
            Sentinel::Foreign => Some(Err(Failure::ForeignItem)),
            Sentinel::Absent | Sentinel::Unborn => {
                self.view = Some(view);
                None
            }
        })
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
        let mut handshake = Handshake::new(&namespace, None).authenticate(Some(credentials));
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
}
