//! The words of one line.
//!
//! memcached separates words by 0x20 and by nothing else; several in a row count as one
//! (`proto_text.c`, `tokenize_command`).

use super::number;
use nom::combinator::map_opt;
use nom::{IResult, Parser};

/// Parsers here never say why they failed: the line as a whole is what is wrong.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, ()>;

/// The next word, with the spaces in front of it.
///
/// By hand: every line goes through here, and nom's `take_while` takes twice as many instructions
/// in a build without LTO.
pub(crate) fn word(line: &[u8]) -> Parsed<'_, &[u8]> {
    let is_space = |byte: &u8| *byte == b' ';
    let Some(start) = line.iter().position(|byte| !is_space(byte)) else {
        return Err(nom::Err::Error(()));
    };
    let line = &line[start..];
    let length = line.iter().position(is_space).unwrap_or(line.len());
    let (found, rest) = line.split_at(length);
    Ok((rest, found))
}

/// The next word, which must be a `u64`.
pub(crate) fn number_u64(line: &[u8]) -> Parsed<'_, u64> {
    map_opt(word, number::parse_u64).parse_complete(line)
}

/// The next word, which must be a `u32`.
pub(crate) fn number_u32(line: &[u8]) -> Parsed<'_, u32> {
    map_opt(word, number::parse_u32).parse_complete(line)
}

/// The next word, which must be a signed number.
pub(crate) fn number_i64(line: &[u8]) -> Parsed<'_, i64> {
    map_opt(word, number::parse_i64).parse_complete(line)
}

/// Returns `true` if nothing but spaces is left.
pub(crate) fn at_end(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b' ')
}

/// The words of a line, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (rest, found) = word(self.0).ok()?;
        self.0 = rest;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn only_spaces_separate_words() {
        let words: Vec<_> = Tokens(b"  a\tb  c ").collect();
        assert_eq!(words, [&b"a\tb"[..], b"c"]);
        assert_eq!(number_u64(b" 12 x"), Ok((&b" x"[..], 12)));
        assert!(number_u64(b" 12x").is_err());
        assert!(at_end(b"   "));
        assert!(!at_end(b"  x"));
    }
}
