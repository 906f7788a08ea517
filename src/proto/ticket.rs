//! A held lock as a line of text, to be handed to another process.

use super::grant::{Grant, GrantKind};
use super::lease::{Lease, LeaseError};
use super::loss::LossReason;
use super::name::{LockKeys, NameError, Namespace};
use super::owner_id::{CasOwner, OwnerId};
use super::record::{Nonce, Owner, from_word, to_word};
use super::server_instance::InstanceWord;
use super::server_instance::ServerInstance;
use super::time::Instant;
use crate::wire::parse_u64;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// The first word, so that later layouts can be distinguished.
const LAYOUT: &str = "p1";

/// The number of words, the layout among them.
const WORDS: usize = 15;

/// The data with which a process can renew and release a held lock.
///
/// Made by `LockGuard::detach`; `LockGuard::attach` turns it into a guard again, in this or in
/// another process. As text it is one line:
///
/// ```text
/// p1 <prefix> <name> <nonce> <CAS unique> <pid and start of the server> <lease in ms>
///    <fencing token or -> <since> <expiry> <pid, host and label of the holder>
/// ```
///
/// The words are those of the [record](super::Record), and escaped as they are there; in place of
/// the nonce, a lock without a record has `t` and the 16 hex digits of its token. Nothing in it
/// depends on the clock of the process that it comes from. If the guard had lost the lock already,
/// the reason stands in place of the CAS unique: its record may still be at the server, but the
/// holder has stopped its work, so no guard is made of it again.
///
/// **It is a capability.** Keep it from everyone who must not release the lock, and out of command
/// lines, which others on the machine can read: a pipe or an inherited file is a good way. `Debug`
/// leaves out the parts needed to use it; `Display` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct LockTicket {
    prefix: String,
    name: String,
    instance: ServerInstance,
    owner_id: OwnerId,
    owner: Owner,
    lease: Lease,
    acquired_at: u64,
    cas: u64,
    token: Option<u64>,
    expiry: u64,
    lost: Option<LossReason>,
}

impl LockTicket {
    /// The parts of the lock called `name` that `grant` is about, whose item has the CAS unique
    /// `cas` and the expiry `expiry` as far as is known.
    #[must_use]
    pub fn new(namespace: &Namespace, name: &str, grant: &Grant, cas: u64, expiry: u64) -> Self {
        Self {
            prefix: namespace.prefix().to_owned(),
            name: name.to_owned(),
            instance: grant.instance,
            owner_id: grant.owner_id,
            owner: grant.owner.clone(),
            lease: grant.lease,
            acquired_at: grant.acquired_at,
            cas,
            token: grant.token,
            expiry,
            lost: None,
        }
    }

    /// The same of a lock that was lost before, for this reason.
    #[must_use]
    pub const fn lost_before(mut self, reason: Option<LossReason>) -> Self {
        self.lost = reason;
        if reason.is_some() {
            self.cas = 0;
        }
        self
    }

    /// The reason for which the lock was lost before it was detached, if it was.
    #[must_use]
    pub const fn lost(&self) -> Option<LossReason> {
        self.lost
    }

    /// The prefix of the client that the lock is held by.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the lock.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease.duration()
    }

    /// The fencing token, if one was drawn.
    #[must_use]
    pub const fn fencing_token(&self) -> Option<u64> {
        self.token
    }

    /// The keys of the lock, in the namespace that it is held in.
    ///
    /// # Errors
    /// None, for parts that were made or parsed.
    pub fn keys(&self) -> Result<LockKeys, NameError> {
        Namespace::new(&self.prefix)?.keys(self.name.as_bytes())
    }

    /// The grant to renew at `now`. Until it was renewed, no process considers it valid.
    #[must_use]
    pub fn grant(&self, now: Instant) -> Grant {
        Grant {
            instance: self.instance,
            owner_id: self.owner_id,
            owner: self.owner.clone(),
            lease: self.lease,
            acquired_at: self.acquired_at,
            cas: self.cas,
            token: self.token,
            expiry: self.expiry,
            sent_at: now,
            // The request that its holder may have waited for has long arrived.
            may_be_replayed: false,
            valid_until: now,
            kind: GrantKind::Attached,
        }
    }
}

impl fmt::Debug for LockTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockParts")
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("server", &self.instance)
            .field("lease", &self.lease.duration())
            .field("fencing_token", &self.token)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for LockTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LAYOUT)?;
        for text in [&self.prefix, &self.name] {
            let escaped = to_word(text.as_bytes());
            write!(f, " {}", String::from_utf8_lossy(&escaped))?;
        }
        match self.owner_id {
            OwnerId::Nonce(nonce) => write!(f, " {nonce:x}")?,
            OwnerId::Cas(token) => write!(f, " t{:016x}", token.first())?,
        }
        match self.lost {
            Some(reason) => write!(f, " {}", reason.as_str())?,
            None => write!(f, " {}", self.cas)?,
        }
        write!(
            f,
            " {} {} {} {}",
            self.instance.pid,
            self.instance.started,
            self.instance.word,
            self.lease.duration().as_millis()
        )?;
        match self.token {
            Some(token) => write!(f, " {token}")?,
            None => f.write_str(" -")?,
        }
        let owner = String::from_utf8_lossy(self.owner.words());
        write!(f, " {} {} {owner}", self.acquired_at, self.expiry)
    }
}

/// A number as it is written: without signs and without zeros in front.
fn number(written: &str) -> Option<u64> {
    let number = parse_u64(written.as_bytes())?;
    (written == "0" || !written.starts_with('0')).then_some(number)
}

/// A reason why a text is not a lock ticket. It contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not begin with the word `p1`: it is of another layout, or something else.
    Layout,
    /// It has more words than it should, or fewer.
    WordCount {
        /// The number that it has.
        count: usize,
    },
    /// One of the words is not what it should be.
    Word {
        /// Which, counted from 1.
        number: usize,
        /// The value expected.
        expected: &'static str,
    },
    /// The prefix or the name is none.
    Name(NameError),
    /// The lease is none.
    Lease(LeaseError),
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => write!(
                f,
                "not the parts of a lock, or of a later version: they begin with `{LAYOUT} `"
            ),
            Self::WordCount { count } => write!(
                f,
                "the parts of a lock are {WORDS} words with single spaces between them, not {count}"
            ),
            Self::Word { number, expected } => {
                write!(f, "word {number} of the parts of a lock must be {expected}")
            }
            Self::Name(error) => write!(f, "in the parts of a lock: {error}"),
            Self::Lease(error) => write!(f, "in the parts of a lock: {error}"),
        }
    }
}

impl core::error::Error for TicketError {}

const NUMBER: &str = "a decimal number";

/// Reads the line that `Display` writes, with or without an end of line.
impl FromStr for LockTicket {
    type Err = TicketError;

    fn from_str(line: &str) -> Result<Self, TicketError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.split(' ').next() != Some(LAYOUT) {
            return Err(TicketError::Layout);
        }
        let count = line.split(' ').count();
        let mut words = [""; WORDS];
        if count != WORDS {
            return Err(TicketError::WordCount { count });
        }
        for (slot, word) in words.iter_mut().zip(line.split(' ')) {
            *slot = word;
        }
        let wrong = |index: usize, expected| TicketError::Word {
            number: index + 1,
            expected,
        };
        let escaped = |index: usize| {
            let text = from_word(words[index].as_bytes());
            let text = text.and_then(|text| String::from_utf8(text).ok());
            text.ok_or(wrong(index, "a text escaped as in records"))
        };
        let numbered = |index: usize| number(words[index]).ok_or(wrong(index, NUMBER));
        let prefix = escaped(1)?;
        let name = escaped(2)?;
        let namespace = Namespace::new(&prefix).map_err(TicketError::Name)?;
        namespace.keys(name.as_bytes()).map_err(TicketError::Name)?;
        let lost = LossReason::named(words[4]);
        let cas = match lost {
            Some(_) => 0,
            None => numbered(4)?,
        };
        let proof = match words[3].strip_prefix('t') {
            None => Nonce::parse(words[3].as_bytes()).map(OwnerId::Nonce),
            Some(token) => CasOwner::parse(token.as_bytes()).map(OwnerId::Cas),
        };
        let proof = proof.ok_or(wrong(3, "32 hex digits, or `t` and the 16 of a token"))?;
        // A record is known by its nonce, whatever its CAS unique is by now. But 0 is none.
        let fits = match proof {
            _ if lost.is_some() => true,
            OwnerId::Nonce(_) => cas != 0,
            OwnerId::Cas(token) => token.matches(cas),
        };
        if !fits {
            return Err(wrong(
                4,
                "a CAS unique of the item that the word before shows",
            ));
        }
        let incarnation = ServerInstance {
            pid: numbered(5)?,
            started: numbered(6)?,
            word: InstanceWord::parse(words[7].as_bytes()).ok_or(wrong(7, "16 hex digits"))?,
        };
        let lease = Lease::new(Duration::from_millis(numbered(8)?)).map_err(TicketError::Lease)?;
        if matches!(proof, OwnerId::Cas(_)) {
            lease.check_recordless().map_err(TicketError::Lease)?;
        }
        let token = match words[9] {
            "-" => None,
            written => Some(
                number(written)
                    .filter(|token| i64::try_from(*token).is_ok())
                    .ok_or(wrong(9, "a fencing token (63 bits), or -"))?,
            ),
        };
        let since = numbered(10)?;
        let expiry = numbered(11)?;
        if i32::try_from(expiry).is_err() {
            return Err(wrong(11, "an expiry, which has 31 bits"));
        }
        let owner = [words[12], words[13], words[14]].map(str::as_bytes);
        let owner = Owner::from_words(owner).ok_or(wrong(
            12,
            "a pid, followed by a host and a label as in records",
        ))?;
        Ok(Self {
            prefix,
            name,
            instance: incarnation,
            owner_id: proof,
            owner,
            lease,
            acquired_at: since,
            cas,
            token,
            expiry,
            lost,
        })
    }
}
