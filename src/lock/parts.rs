//! A held lock as a line of text, to be handed to another process.

use super::grant::{Grant, Origin};
use super::incarnation::Incarnation;
use super::lease::{Lease, LeaseError};
use super::loss::LossReason;
use super::moment::Moment;
use super::name::{LockKeys, NameError, Namespace};
use super::proof::{LeanToken, Proof};
use super::record::{Nonce, Owner, from_word, to_word};
use super::sentinel::Instance;
use crate::wire::parse_u64;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// The first word, so that later layouts can be told apart.
const LAYOUT: &str = "p1";

/// How many words there are, the layout among them.
const WORDS: usize = 15;

/// What a lock that is held consists of: whoever has it can renew and release the lock.
///
/// Made by `LockGuard::into_parts`; `LockGuard::from_parts` makes a guard of it again, in this or
/// in another process. As text it is one line:
///
/// ```text
/// p1 <prefix> <name> <nonce> <CAS unique> <pid and start of the server> <lease in ms>
///    <fencing token or -> <since> <expiry> <pid, host and label of the holder>
/// ```
///
/// The words are those of the [record](super::Record), and escaped as they are there; in place of the
/// nonce, a lock without a record has `t` and the 16 hex digits of its token. Nothing in it depends
/// on the clock of the process that it comes from. Where the guard had lost the lock already, the
/// reason stands in place of the CAS unique: its record may still be at the server, but the holder
/// has stopped its work, so no guard is made of it again.
///
/// **It is a capability.** Keep it from everybody who must not release the lock, and out of command
/// lines, which others on the machine can read: a pipe or an inherited file is a good way. `Debug`
/// leaves out what it takes to use it; `Display` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct LockParts {
    prefix: String,
    name: String,
    incarnation: Incarnation,
    proof: Proof,
    owner: Owner,
    lease: Lease,
    since: u64,
    cas: u64,
    token: Option<u64>,
    expiry: u64,
    lost: Option<LossReason>,
}

impl LockParts {
    /// The parts of the lock called `name` that `grant` is about, whose item has the CAS unique
    /// `cas` and the expiry `expiry` as far as is known.
    #[must_use]
    pub fn new(namespace: &Namespace, name: &str, grant: &Grant, cas: u64, expiry: u64) -> Self {
        Self {
            prefix: namespace.prefix().to_owned(),
            name: name.to_owned(),
            incarnation: grant.incarnation,
            proof: grant.proof,
            owner: grant.owner.clone(),
            lease: grant.lease,
            since: grant.since,
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

    /// Why the lock had been lost before it was taken apart, if it had.
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

    /// The grant to be renewed at `now`. Until it has been, nobody believes in it.
    #[must_use]
    pub fn grant(&self, now: Moment) -> Grant {
        Grant {
            incarnation: self.incarnation,
            proof: self.proof,
            owner: self.owner.clone(),
            lease: self.lease,
            since: self.since,
            cas: self.cas,
            token: self.token,
            expiry: self.expiry,
            sent: now,
            // What its holder may have waited for has long come.
            echoes: false,
            valid_until: now,
            origin: Origin::TakenUp,
        }
    }
}

impl fmt::Debug for LockParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockParts")
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("server", &self.incarnation)
            .field("lease", &self.lease.duration())
            .field("fencing_token", &self.token)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for LockParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LAYOUT)?;
        for text in [&self.prefix, &self.name] {
            let escaped = to_word(text.as_bytes());
            write!(f, " {}", String::from_utf8_lossy(&escaped))?;
        }
        match self.proof {
            Proof::Nonce(nonce) => write!(f, " {nonce:x}")?,
            Proof::Token(token) => write!(f, " t{:016x}", token.first())?,
        }
        match self.lost {
            Some(reason) => write!(f, " {}", reason.as_str())?,
            None => write!(f, " {}", self.cas)?,
        }
        write!(
            f,
            " {} {} {} {}",
            self.incarnation.pid,
            self.incarnation.started,
            self.incarnation.instance,
            self.lease.duration().as_millis()
        )?;
        match self.token {
            Some(token) => write!(f, " {token}")?,
            None => f.write_str(" -")?,
        }
        let owner = String::from_utf8_lossy(self.owner.words());
        write!(f, " {} {} {owner}", self.since, self.expiry)
    }
}

/// A number as it is written: without signs and without zeros in front.
fn number(written: &str) -> Option<u64> {
    let number = parse_u64(written.as_bytes())?;
    (written == "0" || !written.starts_with('0')).then_some(number)
}

/// Why a text is not the parts of a lock. It says nothing of what the text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartsError {
    /// It does not begin with the word `p1`: it is of another layout, or something else.
    Layout,
    /// It has more words than it should, or fewer.
    WordCount {
        /// How many it has.
        count: usize,
    },
    /// One of the words is not what it should be.
    Word {
        /// Which, counted from 1.
        number: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// The prefix or the name is none.
    Name(NameError),
    /// The lease is none.
    Lease(LeaseError),
}

impl fmt::Display for PartsError {
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

impl core::error::Error for PartsError {}

const NUMBER: &str = "a decimal number";

/// Reads the line that `Display` writes, with or without an end of line.
impl FromStr for LockParts {
    type Err = PartsError;

    fn from_str(line: &str) -> Result<Self, PartsError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.split(' ').next() != Some(LAYOUT) {
            return Err(PartsError::Layout);
        }
        let count = line.split(' ').count();
        let mut words = [""; WORDS];
        if count != WORDS {
            return Err(PartsError::WordCount { count });
        }
        for (slot, word) in words.iter_mut().zip(line.split(' ')) {
            *slot = word;
        }
        let wrong = |index: usize, expected| PartsError::Word {
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
        let namespace = Namespace::new(&prefix).map_err(PartsError::Name)?;
        namespace.keys(name.as_bytes()).map_err(PartsError::Name)?;
        let lost = LossReason::named(words[4]);
        let cas = match lost {
            Some(_) => 0,
            None => numbered(4)?,
        };
        let proof = match words[3].strip_prefix('t') {
            None => Nonce::parse(words[3].as_bytes()).map(Proof::Nonce),
            Some(token) => LeanToken::parse(token.as_bytes()).map(Proof::Token),
        };
        let proof = proof.ok_or(wrong(3, "32 hex digits, or `t` and the 16 of a token"))?;
        // A record is known by its nonce, whatever its CAS unique is by now. But 0 is none.
        let fits = match proof {
            _ if lost.is_some() => true,
            Proof::Nonce(_) => cas != 0,
            Proof::Token(token) => token.is_of(cas),
        };
        if !fits {
            return Err(wrong(
                4,
                "a CAS unique of the item that the word before shows",
            ));
        }
        let incarnation = Incarnation {
            pid: numbered(5)?,
            started: numbered(6)?,
            instance: Instance::parse(words[7].as_bytes()).ok_or(wrong(7, "16 hex digits"))?,
        };
        let lease = Lease::new(Duration::from_millis(numbered(8)?)).map_err(PartsError::Lease)?;
        if matches!(proof, Proof::Token(_)) {
            lease.check_lean().map_err(PartsError::Lease)?;
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
            incarnation,
            proof,
            owner,
            lease,
            since,
            cas,
            token,
            expiry,
            lost,
        })
    }
}
