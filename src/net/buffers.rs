//! The output and input of one connection, for one flight at a time and at most one that was sent
//! ahead of it.

use super::error::NetCause;
use super::verdict::succeeded;
use crate::wire::{DecodeError, Flight, FlightDecoder, Limits, Replies, ReplyCount};
use std::vec;
use std::vec::Vec;

/// Room for the replies to most flights.
const FIRST_INPUT: usize = 4096;

/// The most that is kept of one flight's replies. The largest is that to `stats`: about 3 kB.
const MOST_INPUT: usize = 64 * 1024;

/// The observer of a flight that was sent ahead. If the server did not do what the flight
/// requested, or may not have done it, the observer is dropped without a call: this covers every
/// way in which a connection can end.
pub(crate) trait ReplyObserver {
    /// The server says that it did it.
    fn done(self);
}

/// A flight of one request with one reply, without a waiting caller.
#[derive(Debug)]
struct QuietFlight<T> {
    subject: T,
    decoder: FlightDecoder,
}

/// Buffers that are reused from flight to flight.
#[derive(Debug)]
pub(crate) struct Buffers<T> {
    pub(crate) flight: Flight,
    /// The flight that was sent before the current one; its reply comes first.
    ahead: Option<QuietFlight<T>>,
    /// The received bytes, and room for more. Initialised once, so that no flight has to do it.
    input: Vec<u8>,
    /// The number of received bytes: `filled` <= `input.len()`.
    filled: usize,
    /// The start of the replies to the flight, after the reply to the one ahead: `start` <=
    /// `filled`.
    start: usize,
    decoder: FlightDecoder,
}

impl<T: ReplyObserver> Buffers<T> {
    pub(crate) fn new() -> Self {
        Self {
            flight: Flight::new(),
            ahead: None,
            input: vec![0; FIRST_INPUT],
            filled: 0,
            start: 0,
            decoder: FlightDecoder::new(Limits::LOCK),
        }
    }

    /// Empties everything for the next flight. The reply to a flight that was sent ahead remains
    /// outstanding.
    pub(crate) fn clear(&mut self) {
        self.flight.clear();
        self.filled = 0;
        self.start = 0;
        self.decoder = FlightDecoder::new(Limits::LOCK);
    }

    /// Returns the room for the next bytes, which is never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.filled == self.input.len() {
            self.input.resize(self.filled * 2, 0);
        }
        &mut self.input[self.filled..]
    }

    /// So many bytes have come into the [`room`](Self::room).
    pub(crate) const fn received(&mut self, length: usize) {
        self.filled += length;
    }

    /// Returns the bytes received for the flight.
    fn input(&self) -> &[u8] {
        &self.input[self.start..self.filled]
    }

    /// Records that the flight was sent and that no caller waits for it. Its reply comes before
    /// those to the next flight.
    pub(crate) fn sent_ahead(&mut self, subject: T) {
        self.ahead = Some(QuietFlight {
            subject,
            decoder: FlightDecoder::new(Limits::LOCK),
        });
    }

    /// Returns whether the reply to a flight that was sent ahead is outstanding.
    pub(crate) const fn has_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Returns whether the reply to the flight sent ahead has arrived and nothing else, after more
    /// input has arrived. Must be called only if no other flight was sent.
    pub(crate) fn is_settled(&mut self) -> Result<bool, NetCause> {
        let settled = self.take_ahead()?;
        if settled && self.start < self.filled {
            return Err(NetCause::TooMuch);
        }
        Ok(settled)
    }

    /// Takes in the reply to the flight sent ahead. Returns whether it is there. How much a server
    /// may send in its place is bounded by the limits of one reply.
    fn take_ahead(&mut self) -> Result<bool, NetCause> {
        let Some(ahead) = &mut self.ahead else {
            return Ok(true);
        };
        let input = &self.input[..self.filled];
        match ahead.decoder.advance(&[ReplyCount::One], input) {
            Ok(Some(length)) => {
                let done = succeeded(&mut Replies::new(&input[..length]));
                self.start = length;
                if let Some(ahead) = self.ahead.take().filter(|_| done) {
                    ahead.subject.done();
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(self.strange(error)),
        }
    }

    /// Returns whether all replies have arrived, after more input has arrived.
    pub(crate) fn is_complete(&mut self) -> Result<bool, NetCause> {
        if self.ahead.is_some() && !self.take_ahead()? {
            return Ok(false);
        }
        let input = &self.input[self.start..self.filled];
        match self.decoder.advance(self.flight.shapes(), input) {
            Ok(Some(length)) if length == input.len() => Ok(true),
            Ok(Some(_)) => Err(NetCause::TooMuch),
            Ok(None) if input.len() > MOST_INPUT => Err(NetCause::TooMuch),
            Ok(None) => Ok(false),
            Err(error) => Err(self.strange(error)),
        }
    }

    /// Returns the cause for the end of the stream. The buffer may hold half a line that shows what
    /// kind of server the peer is.
    pub(crate) fn closed(&self) -> NetCause {
        if self.input().is_empty() {
            NetCause::Closed
        } else {
            self.strange(DecodeError::UnknownReply)
        }
    }

    fn strange(&self, error: DecodeError) -> NetCause {
        NetCause::strange(error, self.input())
    }

    /// Returns the error with which the server replies to all requests together, if there is one.
    pub(crate) fn final_error(&mut self) -> Option<NetCause> {
        if let Err(cause) = self.take_ahead() {
            return Some(cause);
        }
        NetCause::final_error(self.input())
    }

    /// The replies, once complete.
    pub(crate) fn replies(&self) -> Replies<'_> {
        Replies::new(self.input())
    }
}
