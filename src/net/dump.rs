//! The reply to a dump of all items, read as a stream: there may be millions of lines, and none is
//! kept here.

use super::error::NetCause;
use crate::wire::{DumpLine, DumpedItem, Limits, MetadumpDecoder};
use core::ops::Range;
use core::time::Duration;
use std::boxed::Box;
use std::vec;

#[cfg(feature = "tokio")]
use super::error::NetError;
#[cfg(feature = "tokio")]
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
#[cfg(feature = "tokio")]
use tokio::time::{Instant, timeout_at};

/// Much more than the longest line, so that little is moved.
const ROOM: usize = 64 * 1024;

/// The longest time for a dump, however fast its lines follow each other. A server sends a million
/// items in a second or so.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// The part of a dump that has arrived and was not yet read.
#[derive(Debug)]
pub(crate) struct DumpBuffer {
    decoder: MetadumpDecoder,
    input: Box<[u8]>,
    /// The unread bytes: a range within `input`.
    there: Range<usize>,
}

impl DumpBuffer {
    pub(crate) fn new() -> Self {
        Self {
            decoder: MetadumpDecoder::new(Limits::LOCK),
            input: vec![0; ROOM].into_boxed_slice(),
            there: 0..0,
        }
    }

    /// Returns the room for the next bytes, which is never empty: a line is much shorter than the
    /// buffer.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.input.copy_within(self.there.clone(), 0);
        self.there = 0..self.there.len();
        &mut self.input[self.there.end..]
    }

    /// So many bytes have come into the [`room`](Self::room).
    pub(crate) const fn received(&mut self, length: usize) {
        self.there.end += length;
    }

    /// Hands the lines that are there to `take`, up to the one that is the last by what it says.
    pub(crate) fn take_lines<T>(
        &mut self,
        mut take: impl FnMut(&DumpLine<'_, DumpedItem<'_>>) -> Option<T>,
    ) -> Result<Option<T>, NetCause> {
        loop {
            let input = &self.input[self.there.clone()];
            let decoded = self.decoder.decode(input);
            let found = decoded.map_err(|error| NetCause::strange(error, input))?;
            let Some((line, length)) = found else {
                return Ok(None);
            };
            self.there.start += length;
            if let Some(last) = take(&line) {
                // Whatever else comes belongs to no request.
                return if self.there.is_empty() {
                    Ok(Some(last))
                } else {
                    Err(NetCause::TooMuch)
                };
            }
        }
    }
}

/// Sends the request for a dump, alone on this stream, and passes the lines of the reply to `take`,
/// up to the line that its content marks as the last. Each piece of the reply may take as long as
/// `limit`.
///
/// # Cancel safety
/// The stream is unusable after the future was dropped.
#[cfg(feature = "tokio")]
pub(crate) async fn dump<S: AsyncRead + AsyncWrite + Unpin, T>(
    stream: &mut S,
    request: &[u8],
    limit: Duration,
    mut take: impl FnMut(&DumpLine<'_, DumpedItem<'_>>) -> Option<T>,
) -> Result<T, NetError> {
    let failed = |error| NetError::sent(NetCause::Io(error));
    let late = |limit| NetError::sent(NetCause::Timeout(limit));
    let began = Instant::now();
    let write = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    let written = timeout_at(began + limit, write).await;
    written.map_err(|_| late(limit))?.map_err(failed)?;
    let mut input = DumpBuffer::new();
    loop {
        let deadline = (Instant::now() + limit).min(began + LONGEST);
        let read = timeout_at(deadline, stream.read(input.room())).await;
        let read = read.map_err(|_| {
            late(if deadline == began + LONGEST {
                LONGEST
            } else {
                limit
            })
        })?;
        match read.map_err(failed)? {
            0 => return Err(NetError::sent(NetCause::Closed)),
            length => input.received(length),
        }
        if let Some(last) = input.take_lines(&mut take).map_err(NetError::sent)? {
            return Ok(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    /// Millions of lines that come in pieces of any size pass through one small buffer.
    #[test]
    fn split_lines_are_passed_on_whole() {
        let line = |number: usize| {
            std::format!("key=k{number} exp=-1 la=5 cas=2 fetch=no cls=1 size=63 flags=0 \n")
        };
        let mut sent: String = (0..3000).map(line).collect();
        sent.push_str("END\r\n");
        for piece in [1, 7, 4096, ROOM] {
            let mut input = DumpBuffer::new();
            let mut rest = sent.as_bytes();
            let mut seen = 0;
            let over = loop {
                let room = input.room();
                let length = piece.min(rest.len()).min(room.len());
                assert!(length > 0, "{piece}: it never ends");
                room[..length].copy_from_slice(&rest[..length]);
                rest = &rest[length..];
                input.received(length);
                let taken = input.take_lines(|line| match line {
                    DumpLine::Item(item) => {
                        let key: Vec<u8> = item.key.bytes().collect();
                        assert_eq!(key, std::format!("k{seen}").as_bytes());
                        seen += 1;
                        None
                    }
                    DumpLine::End => Some(()),
                    other => panic!("{other:?}"),
                });
                if taken.expect("sound lines").is_some() {
                    break seen;
                }
            };
            assert_eq!((over, rest.len()), (3000, 0), "{piece}");
        }
    }

    #[test]
    fn other_text_is_no_dump() {
        for (text, cause) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP"),
            (&[b'k'; 4096], "kkk"),
            (b"END\r\nmore", ""),
            (b"ERROR Too many open connections\r\n", ""),
        ] {
            let mut input = DumpBuffer::new();
            input.room()[..text.len()].copy_from_slice(text);
            input.received(text.len());
            let taken = input.take_lines(|line| matches!(line, DumpLine::End).then_some(()));
            match taken {
                Err(NetCause::Decode { start, .. }) => assert!(start.starts_with(cause)),
                Err(NetCause::TooMuch) => assert!(text.starts_with(b"END")),
                // An error line is a line, for the rules to understand.
                Ok(None) => assert!(text.starts_with(b"ERROR")),
                other => panic!("{other:?}"),
            }
        }
    }
}
