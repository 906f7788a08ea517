//! A dump of all items, on a connection that is used for nothing else.

use super::super::dump::{DumpBuffer, LONGEST};
use super::super::error::{NetCause, NetError};
use super::{Connection, ReplyObserver, failed};
use crate::wire::{DumpLine, DumpedItem};
use core::time::Duration;
use std::io;
use std::time::Instant;

impl<T: ReplyObserver> Connection<T> {
    /// Sends the flight, which requests a dump, and passes the lines of the reply to `take`, up to
    /// the line that its content marks as the last. Each piece of the reply may take as long as
    /// `limit`.
    ///
    /// # Errors
    /// The connection is unusable afterwards.
    pub(crate) fn dump<L>(
        &mut self,
        limit: Duration,
        mut take: impl FnMut(&DumpLine<'_, DumpedItem<'_>>) -> Option<L>,
    ) -> Result<L, NetError> {
        let io = |error| NetError::sent(failed(error, limit));
        self.dirty = true;
        self.set_limit(limit).map_err(io)?;
        let began = Instant::now();
        self.stream
            .write_all(self.buffers.flight.bytes())
            .map_err(io)?;
        let mut input = DumpBuffer::new();
        loop {
            match self.stream.read(input.room()) {
                Ok(0) => return Err(NetError::sent(NetCause::Closed)),
                Ok(length) => input.received(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
            if let Some(last) = input.take_lines(&mut take).map_err(NetError::sent)? {
                self.dirty = false;
                return Ok(last);
            }
            if began.elapsed() >= LONGEST {
                return Err(NetError::sent(NetCause::Timeout(LONGEST)));
            }
        }
    }
}
