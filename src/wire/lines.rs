//! Where a line ends.

use super::error::DecodeError;

/// Looks for the end of the first line of a growing buffer and remembers how far it has looked.
#[derive(Debug, Clone)]
pub(super) struct LineScan {
    /// Bytes at the start of the buffer known to hold no line end. 0 <= `scanned` <= buffer.
    scanned: usize,
}

impl LineScan {
    pub(super) const fn new() -> Self {
        Self { scanned: 0 }
    }

    /// The position of the LF that ends the first line, or `None` while it is not there. Every
    /// byte is looked at once, however small the pieces in which they come.
    pub(super) fn end(
        &mut self,
        buffer: &[u8],
        limit: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let until = buffer.len().min(limit);
        let from = self.scanned.min(until);
        match memchr::memchr(b'\n', &buffer[from..until]) {
            Some(found) => {
                // Remembered so that a value that trickles in does not cost a search each time.
                self.scanned = from + found;
                Ok(Some(from + found))
            }
            None if buffer.len() >= limit => Err(DecodeError::LineTooLong),
            None => {
                self.scanned = buffer.len();
                Ok(None)
            }
        }
    }

    /// The next buffer starts with another line.
    pub(super) fn forget(&mut self) {
        self.scanned = 0;
    }

    /// The first line, without its line end, and its length with it. For grammars in which a line
    /// is all there is.
    pub(super) fn take<'a>(
        &mut self,
        buffer: &'a [u8],
        limit: usize,
    ) -> Result<Option<(&'a [u8], usize)>, DecodeError> {
        let Some(end) = self.end(buffer, limit)? else {
            return Ok(None);
        };
        self.forget();
        let line = &buffer[..end];
        Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_looked_at_twice() {
        let mut lines = LineScan::new();
        assert_eq!(lines.end(b"abc", 9), Ok(None));
        assert_eq!(lines.scanned, 3);
        // What was looked at is not looked at again, whatever it is now.
        assert_eq!(lines.end(b"\nbcd", 9), Ok(None));
        assert_eq!(lines.end(b"abcd\n", 9), Ok(Some(4)));
        assert_eq!(lines.end(b"abcd\nvalue", 9), Ok(Some(4)));
        lines.forget();
        assert_eq!(lines.take(b"ab\r\ncd", 9), Ok(Some((&b"ab"[..], 4))));
        assert_eq!(lines.take(b"cd\n", 9), Ok(Some((&b"cd"[..], 3))));
    }

    #[test]
    fn a_line_ends_within_the_limit_or_not_at_all() {
        let mut lines = LineScan::new();
        assert_eq!(lines.end(b"abc\n", 4), Ok(Some(3)));
        lines.forget();
        assert_eq!(lines.end(b"abcd\n", 4), Err(DecodeError::LineTooLong));
        lines.forget();
        assert_eq!(lines.end(b"abc", 4), Ok(None));
        assert_eq!(lines.end(b"abcd", 4), Err(DecodeError::LineTooLong));
    }
}
