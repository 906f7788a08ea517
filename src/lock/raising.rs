//! Raising a counter of fencing tokens that was made too low.

use super::incarnation::Dialect;
use super::items::{FENCE_TTL, Failure, Stored};
use super::items::{push_fence, push_gets, push_store, read_fence, read_gets, read_stored};
use super::name::LockKeys;
use crate::wire::{DecodeError, Flight, Replies, StoreVerb, parse_u64};

/// How often it is tried; others draw tokens in between, and then it fails.
const TRIES: u8 = 16;

/// Draws a token above a bound from a counter that is below it.
///
/// The counter is replaced by `cas`, not added to: a request that is carried out late, behind its
/// repetition, then does nothing, where adding twice would make the counter run ahead of the
/// server's clock, and the next one start behind it.
#[derive(Debug, Clone)]
pub(super) struct Raising {
    above: u64,
    next: Next,
    tries: u8,
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Read,
    Replace { cas: u64 },
    Draw,
}

/// What came of one flight of a raising.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raised {
    Token(u64),
    Again,
    Failed(Failure),
}

impl Raising {
    pub(super) const fn new(above: u64) -> Self {
        Self {
            above,
            next: Next::Read,
            tries: 0,
        }
    }

    pub(super) fn prepare(&self, dialect: Dialect, keys: &LockKeys, flight: &mut Flight) {
        let first = self.above.saturating_add(1);
        match self.next {
            Next::Read => push_gets(flight, keys.fence()),
            Next::Replace { cas } => {
                let mut digits = itoa::Buffer::new();
                let value = digits.format(first).as_bytes();
                push_store(flight, StoreVerb::Cas(cas), keys.fence(), value, FENCE_TTL);
            }
            Next::Draw => push_fence(flight, dialect, keys, first),
        }
    }

    pub(super) fn interpret(
        &mut self,
        replies: &mut Replies<'_>,
        dialect: Dialect,
    ) -> Result<Raised, DecodeError> {
        self.tries += 1;
        self.next = match self.next {
            Next::Read => match read_gets(replies)? {
                Err(failure) => return Ok(Raised::Failed(failure)),
                Ok(None) => Next::Draw,
                Ok(Some((value, cas))) => match parse_u64(value.trim_ascii_end()) {
                    None => return Ok(Raised::Failed(Failure::ForeignItem)),
                    Some(last) if last > self.above => Next::Draw,
                    Some(_) => Next::Replace { cas },
                },
            },
            Next::Replace { .. } => match read_stored(replies)? {
                Stored::Yes => return Ok(Raised::Token(self.above.saturating_add(1))),
                Stored::Failed(failure) => return Ok(Raised::Failed(failure)),
                Stored::No => Next::Read,
            },
            Next::Draw => match read_fence(replies, dialect)? {
                Err(failure) => return Ok(Raised::Failed(failure)),
                Ok(token) if token > self.above => return Ok(Raised::Token(token)),
                Ok(_) => Next::Read,
            },
        };
        Ok(if self.tries < TRIES {
            Raised::Again
        } else {
            Raised::Failed(Failure::ForgottenAtOnce)
        })
    }
}
