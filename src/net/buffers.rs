//! What goes out and what comes in on one connection, for one flight at a time.

use super::error::NetCause;
use crate::wire::{DecodeError, Flight, FlightDecoder, Limits, Replies};
use std::vec;
use std::vec::Vec;

/// Room for the replies to most flights.
const FIRST_INPUT: usize = 4096;

/// The most that is kept of one flight's replies. The largest is that to `stats`: about 3 kB.
const MOST_INPUT: usize = 64 * 1024;

/// Buffers that are reused from flight to flight.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) flight: Flight,
    /// What came, and room for more. Initialised once, so that no flight has to.
    input: Vec<u8>,
    /// How much came: `filled` <= `input.len()`.
    filled: usize,
    decoder: FlightDecoder,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            flight: Flight::new(),
            input: vec![0; FIRST_INPUT],
            filled: 0,
            decoder: FlightDecoder::new(Limits::LOCK),
        }
    }

    /// Empties everything for the next flight.
    pub(crate) fn clear(&mut self) {
        self.flight.clear();
        self.filled = 0;
        self.decoder = FlightDecoder::new(Limits::LOCK);
    }

    /// Where the next bytes go. There always is room for one.
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

    fn input(&self) -> &[u8] {
        &self.input[..self.filled]
    }

    /// Whether all replies are there, after more input has arrived.
    pub(crate) fn is_complete(&mut self) -> Result<bool, NetCause> {
        let input = &self.input[..self.filled];
        match self.decoder.advance(self.flight.shapes(), input) {
            Ok(Some(length)) if length == self.filled => Ok(true),
            Ok(Some(_)) => Err(NetCause::TooMuch),
            Ok(None) if self.filled > MOST_INPUT => Err(NetCause::TooMuch),
            Ok(None) => Ok(false),
            Err(error) => Err(self.strange(error)),
        }
    }

    /// The end of the stream. What stands in the buffer may be half a line that tells who is at
    /// the other end.
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

    /// What the server says to all requests at once, if it does.
    pub(crate) fn last_word(&self) -> Option<NetCause> {
        NetCause::last_word(self.input())
    }

    /// The replies, once complete.
    pub(crate) fn replies(&self) -> Replies<'_> {
        Replies::new(self.input())
    }
}
