//! Metadata of an item, as `me` and `lru_crawler metadump` report it.

use super::number::{self, put_i64, put_u64};
use super::token::{Tokens, word};
use bytes::BytesMut;

/// The fields that both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemMetadata {
    /// `exp`: -1 when the item does not expire. Otherwise the seconds left with `me` (with the
    /// wrong sign up to 1.6.23), the Unix second with `metadump`.
    pub exp: i64,
    /// `la`: the last access. Seconds ago with `me`, the Unix second with `metadump`.
    pub last_access: u64,
    /// `cas`: the CAS unique.
    pub cas: u64,
    /// `fetch`: whether the item was fetched since it was stored.
    pub fetched: bool,
    /// `cls`: the slab class.
    pub class: u32,
    /// `size`: the memory the item takes, header and key included.
    pub size: u64,
}

impl ItemMetadata {
    /// The facts at the start of `line`, and what stands after them.
    pub(super) fn parse(line: &[u8]) -> Option<(Self, &[u8])> {
        let (line, exp) = field(line, b"exp=")?;
        let (line, last_access) = field(line, b"la=")?;
        let (line, cas) = field(line, b"cas=")?;
        let (line, fetch) = field(line, b"fetch=")?;
        let (line, class) = field(line, b"cls=")?;
        let (line, size) = field(line, b"size=")?;
        let facts = Self {
            exp: number::parse_i64(exp)?,
            last_access: number::parse_u64(last_access)?,
            cas: number::parse_u64(cas)?,
            fetched: match fetch {
                b"yes" => true,
                b"no" => false,
                _ => return None,
            },
            class: number::parse_u32(class)?,
            size: number::parse_u64(size)?,
        };
        Some((facts, line))
    }

    /// Appends the facts, each with a space in front of it.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(b" exp=");
        put_i64(out, self.exp);
        out.extend_from_slice(b" la=");
        put_u64(out, self.last_access);
        out.extend_from_slice(b" cas=");
        put_u64(out, self.cas);
        out.extend_from_slice(if self.fetched {
            b" fetch=yes"
        } else {
            b" fetch=no"
        });
        out.extend_from_slice(b" cls=");
        put_u64(out, u64::from(self.class));
        out.extend_from_slice(b" size=");
        put_u64(out, self.size);
    }
}

/// The next word, which must start with this name.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (rest, found) = word(line).ok()?;
    Some((rest, found.strip_prefix(name)?))
}

/// The answer to `me`: `ME <key> exp=… la=… cas=… fetch=… cls=… size=…`.
///
/// ```
/// use memlatch::wire::{DebugItem, Limits, Reply, ReplyDecoder};
///
/// let line = b"ME a exp=100 la=0 cas=190 fetch=no cls=1 size=61\r\n";
/// let reply = ReplyDecoder::new(Limits::LOCK).decode(line)?;
/// let Some((Reply::Debug(fields), _)) = reply else { panic!() };
/// let item = DebugItem::parse(fields).expect("well formed");
/// assert_eq!((item.key, item.facts.exp, item.facts.size), (&b"a"[..], 100, 61));
/// # Ok::<(), memlatch::wire::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugItem<'a> {
    /// The key; in base64 when it was stored as such.
    pub key: &'a [u8],
    /// Its metadata.
    pub facts: ItemMetadata,
    /// Fields that no release had so far, as they stand.
    pub more: &'a [u8],
}

impl<'a> DebugItem<'a> {
    /// Reads what stands after `ME `; `None` when a field is missing or malformed.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (line, key) = word(line).ok()?;
        let (facts, line) = ItemMetadata::parse(line)?;
        let more = trim(line);
        Tokens(more)
            .all(|word| word.contains(&b'='))
            .then_some(Self { key, facts, more })
    }

    /// Appends what stands after `ME `.
    pub fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.key);
        self.facts.encode(out);
        if !self.more.is_empty() {
            out.extend_from_slice(b" ");
            out.extend_from_slice(self.more);
        }
    }
}

/// Without the spaces around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn me_reply_survives_round_trip() {
        for line in [
            &b"a exp=100 la=0 cas=190 fetch=no cls=1 size=61"[..],
            b"AAFiMw== exp=-1 la=4 cas=18446744073709551615 fetch=yes cls=63 size=66",
            b"a exp=-100 la=0 cas=0 fetch=no cls=1 size=61 new=1 newer=2",
        ] {
            let item = DebugItem::parse(line).expect("well formed");
            let mut out = BytesMut::new();
            item.encode(&mut out);
            assert_eq!(&out[..], line);
        }
    }

    #[test]
    fn other_text_is_no_me_reply() {
        for line in [
            &b""[..],
            b"a",
            b"a exp=x la=0 cas=190 fetch=no cls=1 size=61",
            b"a exp=1 la=-1 cas=190 fetch=no cls=1 size=61",
            b"a exp=1 la=0 cas= fetch=no cls=1 size=61",
            b"a exp=1 la=0 cas=1 fetch=maybe cls=1 size=61",
            b"a exp=1 la=0 cas=1 fetch=no cls=4294967296 size=61",
            b"a exp=1 la=0 cas=1 fetch=no cls=1 size=",
            b"a la=0 exp=1 cas=1 fetch=no cls=1 size=1",
            b"a exp=1 la=0 cas=1 fetch=no cls=1 size=1 odd",
        ] {
            assert_eq!(DebugItem::parse(line), None, "{}", line.escape_ascii());
        }
    }
}
