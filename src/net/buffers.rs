//! What goes out and what comes in on one connection, for one flight at a time.

use super::error::NetCause;
use crate::wire::{DecodeError, Flight, FlightDecoder, Limits, Replies};
use bytes::BytesMut;

/// The most that is kept of one flight's replies. The largest is that to `stats`: about 3 kB.
const MOST_INPUT: usize = 64 * 1024;

/// Buffers that are reused from flight to flight.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) flight: Flight,
    pub(crate) input: BytesMut,
    decoder: FlightDecoder,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            flight: Flight::new(),
            input: BytesMut::with_capacity(4096),
            decoder: FlightDecoder::new(Limits::LOCK),
        }
    }

    /// Empties everything for the next flight.
    pub(crate) fn clear(&mut self) {
        self.flight.clear();
        self.input.clear();
        self.decoder = FlightDecoder::new(Limits::LOCK);
    }

    /// Whether all replies are there, after more input has arrived.
    pub(crate) fn is_complete(&mut self) -> Result<bool, NetCause> {
        match self.decoder.advance(self.flight.shapes(), &self.input) {
            Ok(Some(length)) if length == self.input.len() => Ok(true),
            Ok(Some(_)) => Err(NetCause::TooMuch),
            Ok(None) if self.input.len() > MOST_INPUT => Err(NetCause::TooMuch),
            Ok(None) => Ok(false),
            Err(error) => Err(self.strange(error)),
        }
    }

    /// The end of the stream. What stands in the buffer may be half a line that tells who is at
    /// the other end.
    pub(crate) fn closed(&self) -> NetCause {
        if self.input.is_empty() {
            NetCause::Closed
        } else {
            self.strange(DecodeError::UnknownReply)
        }
    }

    fn strange(&self, error: DecodeError) -> NetCause {
        NetCause::strange(error, &self.input)
    }

    /// The replies, once complete.
    pub(crate) fn replies(&self) -> Replies<'_> {
        Replies::new(&self.input)
    }
}
