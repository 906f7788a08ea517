//! Finds the end of a line.

use super::error::DecodeError;

/// Looks for the end of the first line of a growing buffer and remembers how far it has looked.
#[derive(Debug, Clone)]
pub(super) struct LineScanner {
    /// Bytes at the start of the buffer known to hold no line end. 0 <= `scanned` <= buffer.
    scanned: usize,
}

impl LineScanner {
    pub(super) const fn new() -> Self {
        Self { scanned: 0 }
    }

    /// The position of the LF that ends the first line, or `None` while it is not there. Every
    /// byte is looked at once, however small the pieces in which they come.
    #[inline(always)]
    pub(super) fn end(
        &mut self,
        buffer: &[u8],
        limit: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let until = buffer.len().min(limit);
        let from = self.scanned.min(until);
        match find_line_end(&buffer[from..until]) {
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

/// The first line, without its line end, and what follows it.
#[inline]
pub(super) fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find_line_end(text)?;
    let line = &text[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &text[end + 1..]))
}

/// Number of bytes searched eight at a time. Nearly every line ends within them, and by then
/// `memchr` has hardly begun: it asks first what the processor can do and how long the text is.
const SHORT: usize = 32;

/// The position of the first LF.
#[inline]
fn find_line_end(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LINE_ENDS: u64 = ONES * b'\n' as u64;
    let mut rest = text;
    while text.len() - rest.len() < SHORT {
        let Some((eight, behind)) = rest.split_first_chunk() else {
            let found = rest.iter().position(|byte| *byte == b'\n')?;
            return Some(text.len() - rest.len() + found);
        };
        // A line end becomes a zero byte. Subtracting 1 borrows into the high bit of the first
        // zero byte, and of no byte before it.
        let zero = u64::from_le_bytes(*eight) ^ LINE_ENDS;
        let found = zero.wrapping_sub(ONES) & !zero & (ONES << 7);
        if found != 0 {
            return Some(text.len() - rest.len() + found.trailing_zeros() as usize / 8);
        }
        rest = behind;
    }
    let found = memchr::memchr(b'\n', rest)?;
    Some(text.len() - rest.len() + found)
}

/// Defines a decoder of the lines that answer `$request`: `$parse` reads one of them.
macro_rules! line_decoder {
    ($(#[$doc:meta])+ $name:ident, $request:literal, $line:ty, $parse:path) => {
        $(#[$doc])+
        #[derive(Debug, Clone)]
        pub struct $name {
            limit: usize,
            lines: LineScanner,
        }

        impl $name {
            #[doc = concat!("A decoder for the answer to one `", $request, "`.")]
            #[must_use]
            pub const fn new(limits: Limits) -> Self {
                Self {
                    limit: limits.line,
                    lines: LineScanner::new(),
                }
            }

            /// The line at the start of `buffer` and its length in bytes, or `None` while it is
            /// incomplete.
            ///
            /// # Errors
            /// See [`DecodeError`]; the stream cannot be used any further.
            pub fn decode<'a>(
                &mut self,
                buffer: &'a [u8],
            ) -> Result<Option<($line, usize)>, DecodeError> {
                match self.lines.take(buffer, self.limit)? {
                    Some((line, length)) => Ok(Some(($parse(line)?, length))),
                    None => Ok(None),
                }
            }
        }
    };
}

pub(super) use line_decoder;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of the line end, after bytes that differ from it in one bit and from zero in
    /// none, in texts around the lengths at which the search changes.
    #[test]
    fn line_end_is_found_anywhere() {
        for around in [b'\n' ^ 1, b'\n' ^ 0x80, 0, 0xff, b'\n' + 1, b'\n' - 1] {
            for length in 0..2 * SHORT + 10 {
                let mut text = alloc::vec![around; length];
                assert_eq!(find_line_end(&text), None, "{around} {length}");
                for at in (0..length).rev() {
                    text[at] = b'\n';
                    assert_eq!(find_line_end(&text), Some(at), "{around} {length}");
                }
            }
        }
    }

    #[test]
    fn each_byte_is_scanned_once() {
        let mut lines = LineScanner::new();
        assert_eq!(lines.end(b"abc", 9), Ok(None));
        assert_eq!(lines.scanned, 3);
        // Bytes that were scanned are not scanned again, even if they have changed.
        assert_eq!(lines.end(b"\nbcd", 9), Ok(None));
        assert_eq!(lines.end(b"abcd\n", 9), Ok(Some(4)));
        assert_eq!(lines.end(b"abcd\nvalue", 9), Ok(Some(4)));
        lines.forget();
        assert_eq!(lines.take(b"ab\r\ncd", 9), Ok(Some((&b"ab"[..], 4))));
        assert_eq!(lines.take(b"cd\n", 9), Ok(Some((&b"cd"[..], 3))));
    }

    #[test]
    fn line_ends_within_limit_or_never() {
        let mut lines = LineScanner::new();
        assert_eq!(lines.end(b"abc\n", 4), Ok(Some(3)));
        lines.forget();
        assert_eq!(lines.end(b"abcd\n", 4), Err(DecodeError::LineTooLong));
        lines.forget();
        assert_eq!(lines.end(b"abc", 4), Ok(None));
        assert_eq!(lines.end(b"abcd", 4), Err(DecodeError::LineTooLong));
    }
}
