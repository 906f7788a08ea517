//! Flags of a meta reply.

use super::number::{self, put_i64, put_u64};
use super::token::{Tokens, word};
use bytes::BytesMut;

/// One flag of a meta reply.
///
/// They come in the order in which the request asked for them; then `Z`, `X` and `W`, unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyFlag<'a> {
    /// `W`: this caller won the right to fill the item. It alone does not say that this caller
    /// created it: after `md I` the next reader gets it as well, together with `X`.
    Won,
    /// `X`: the item is stale (`md I` has been there).
    Stale,
    /// `Z`: another caller has won before.
    WonBefore,
    /// `b`: the key in front of it is base64.
    Base64,
    /// `c`: the CAS unique. 0 on a failed `ms`, and always where the server runs without CAS.
    Cas(u64),
    /// `f`: the client flags.
    ClientFlags(u32),
    /// `h`: whether the item was fetched before.
    Hit(bool),
    /// `k`: the key.
    Key(&'a [u8]),
    /// `l`: seconds since the last access.
    LastAccess(u32),
    /// `O`: the token of the request.
    Opaque(&'a [u8]),
    /// `s`: the size of the value; on a failed `ms`, of the one that was not stored.
    Size(u64),
    /// `t`: seconds left as printed: -1 is for ever, and a time that has passed appears as a
    /// number close to 2^32 (the server prints it unsigned).
    Ttl(i64),
}

impl<'a> ReplyFlag<'a> {
    /// Reads one flag of a reply; `None` when the letter or its argument is unknown.
    #[must_use]
    pub fn parse(word: &'a [u8]) -> Option<Self> {
        let (letter, argument) = word.split_first()?;
        Some(match letter {
            b'W' => Self::Won,
            b'X' => Self::Stale,
            b'Z' => Self::WonBefore,
            b'b' => Self::Base64,
            b'c' => Self::Cas(number::parse_u64(argument)?),
            b'f' => Self::ClientFlags(number::parse_u32(argument)?),
            b'h' => match argument {
                b"0" => Self::Hit(false),
                b"1" => Self::Hit(true),
                _ => return None,
            },
            b'k' => Self::Key(argument),
            b'l' => Self::LastAccess(number::parse_u32(argument)?),
            b'O' => Self::Opaque(argument),
            b's' => Self::Size(number::parse_u64(argument)?),
            b't' => Self::Ttl(number::parse_i64(argument)?),
            _ => return None,
        })
    }

    /// Appends a space and the flag.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut letter = |letter| out.extend_from_slice(&[b' ', letter]);
        match self {
            Self::Won => letter(b'W'),
            Self::Stale => letter(b'X'),
            Self::WonBefore => letter(b'Z'),
            Self::Base64 => letter(b'b'),
            Self::Cas(number) => {
                letter(b'c');
                put_u64(out, *number);
            }
            Self::ClientFlags(number) => {
                letter(b'f');
                put_u64(out, u64::from(*number));
            }
            Self::Hit(hit) => {
                letter(b'h');
                out.extend_from_slice(if *hit { b"1" } else { b"0" });
            }
            Self::Key(key) => {
                letter(b'k');
                out.extend_from_slice(key);
            }
            Self::LastAccess(number) => {
                letter(b'l');
                put_u64(out, u64::from(*number));
            }
            Self::Opaque(token) => {
                letter(b'O');
                out.extend_from_slice(token);
            }
            Self::Size(number) => {
                letter(b's');
                put_u64(out, *number);
            }
            Self::Ttl(seconds) => {
                letter(b't');
                put_i64(out, *seconds);
            }
        }
    }
}

/// The flags of a reply: a list to be sent, or the words of a line that was read.
#[derive(Debug, Clone, Copy)]
pub struct ReplyFlags<'a>(Repr<'a>);

#[derive(Debug, Clone, Copy)]
enum Repr<'a> {
    List(&'a [ReplyFlag<'a>]),
    /// Every word of it has been parsed once and found good.
    Line {
        line: &'a [u8],
        /// The flags that nearly every caller needs, found while parsing.
        cas: Option<u64>,
        ttl: Option<TimeLeft>,
        last_access: Option<u32>,
    },
}

impl<'a> ReplyFlags<'a> {
    /// Flags to be sent, in this order.
    #[must_use]
    pub const fn list(flags: &'a [ReplyFlag<'a>]) -> Self {
        Self(Repr::List(flags))
    }

    /// The flags in the rest of a reply line; `None` when one of them is malformed.
    #[must_use]
    // Two callers, so that the compiler would inline it in neither.
    #[inline(always)]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (mut cas, mut ttl, mut last_access) = (None, None, None);
        let mut rest = line;
        loop {
            // Numbers are read where they stand; cutting out their word first takes as long again.
            match rest {
                [] => {
                    return Some(Self(Repr::Line {
                        line,
                        cas,
                        ttl,
                        last_access,
                    }));
                }
                [b' ', behind @ ..] => rest = behind,
                [b'c', argument @ ..] => {
                    let (unique, behind) = number::split_u64(argument)?;
                    cas = cas.or(Some(unique));
                    rest = behind;
                }
                [b't', argument @ ..] => {
                    let (seconds, behind) = number::split_i64(argument)?;
                    ttl = ttl.or(Some(TimeLeft::from_printed(seconds)));
                    rest = behind;
                }
                [b'l', argument @ ..] => {
                    let (seconds, behind) = number::split_u64(argument)?;
                    last_access = last_access.or(Some(u32::try_from(seconds).ok()?));
                    rest = behind;
                }
                _ => {
                    let (behind, flag) = word(rest).ok()?;
                    ReplyFlag::parse(flag)?;
                    rest = behind;
                }
            }
        }
    }

    /// The flags in the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = ReplyFlag<'a>> + use<'a> {
        let (list, line) = match self.0 {
            Repr::List(list) => (list, &b""[..]),
            Repr::Line { line, .. } => (&[][..], line),
        };
        list.iter()
            .copied()
            .chain(Tokens(line).filter_map(ReplyFlag::parse))
    }

    /// The CAS unique, if it was asked for.
    #[must_use]
    pub fn cas(&self) -> Option<u64> {
        match self.0 {
            Repr::Line { cas, .. } => cas,
            Repr::List(list) => list.iter().find_map(|flag| match flag {
                ReplyFlag::Cas(cas) => Some(*cas),
                _ => None,
            }),
        }
    }

    /// The seconds left, if they were asked for.
    #[must_use]
    pub fn ttl(&self) -> Option<TimeLeft> {
        match self.0 {
            Repr::Line { ttl, .. } => ttl,
            Repr::List(list) => list.iter().find_map(|flag| match flag {
                ReplyFlag::Ttl(seconds) => Some(TimeLeft::from_printed(*seconds)),
                _ => None,
            }),
        }
    }

    /// The seconds since the last access, if they were asked for.
    #[must_use]
    pub fn last_access(&self) -> Option<u32> {
        match self.0 {
            Repr::Line { last_access, .. } => last_access,
            Repr::List(list) => list.iter().find_map(|flag| match flag {
                ReplyFlag::LastAccess(seconds) => Some(*seconds),
                _ => None,
            }),
        }
    }
}

impl PartialEq for ReplyFlags<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ReplyFlags<'_> {}

/// The value of the flag `t` in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLeft {
    /// The item does not expire.
    Never,
    /// It expires when the server's clock has advanced this many seconds.
    Seconds(u32),
    /// Its time has passed; the server will not return it again.
    Expired,
}

impl TimeLeft {
    /// Reads the number as the server prints it (see [`ReplyFlag::Ttl`]).
    #[must_use]
    pub fn from_printed(seconds: i64) -> Self {
        match i32::try_from(seconds) {
            Ok(seconds @ 0..) => Self::Seconds(seconds.unsigned_abs()),
            Ok(-1) => Self::Never,
            _ => Self::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn reply_flags_survive_round_trip() {
        let all = [
            ReplyFlag::Won,
            ReplyFlag::Stale,
            ReplyFlag::WonBefore,
            ReplyFlag::Base64,
            ReplyFlag::Cas(7),
            ReplyFlag::ClientFlags(9),
            ReplyFlag::Hit(true),
            ReplyFlag::Key(b"k"),
            ReplyFlag::LastAccess(3),
            ReplyFlag::Opaque(b""),
            ReplyFlag::Size(5),
            ReplyFlag::Ttl(-1),
        ];
        let mut line = BytesMut::new();
        for flag in &all {
            flag.encode(&mut line);
        }
        let parsed = ReplyFlags::parse(&line).expect("what we encode is well formed");
        assert_eq!(parsed.iter().collect::<Vec<_>>(), all);
        assert_eq!(parsed.cas(), Some(7));
        assert_eq!(parsed.ttl(), Some(TimeLeft::Never));
        assert_eq!(parsed.last_access(), Some(3));
        let list = ReplyFlags::list(&all);
        assert_eq!((list.cas(), list.ttl()), (parsed.cas(), parsed.ttl()));
        assert_eq!(list.last_access(), parsed.last_access());
        assert_eq!(parsed, list);
        assert_ne!(parsed, ReplyFlags::list(&all[1..]));
    }

    #[test]
    fn other_text_is_no_reply_flag() {
        for word in [
            &b""[..],
            b"h2",
            b"h",
            b"cx",
            b"f4294967296",
            b"t",
            b"v",
            b"?",
        ] {
            assert_eq!(ReplyFlag::parse(word), None, "{}", word.escape_ascii());
        }
        assert_eq!(ReplyFlag::parse(b"h0"), Some(ReplyFlag::Hit(false)));
        let none = ReplyFlags::list(&[ReplyFlag::Hit(false)]);
        assert_eq!((none.cas(), none.ttl()), (None, None));
        assert_eq!(none.last_access(), None);
        assert_eq!(ReplyFlags::parse(b" c1 z"), None);
    }

    #[test]
    fn unsigned_print_of_past_time_parses() {
        assert_eq!(TimeLeft::from_printed(-1), TimeLeft::Never);
        assert_eq!(TimeLeft::from_printed(0), TimeLeft::Seconds(0));
        // Numbers that no server prints are not accepted as a long time.
        for printed in [4_294_967_221, 1 << 31, 1 << 32, i64::MAX, -2, i64::MIN] {
            assert_eq!(TimeLeft::from_printed(printed), TimeLeft::Expired);
        }
        assert_eq!(
            TimeLeft::from_printed(i64::from(i32::MAX)),
            TimeLeft::Seconds(0x7fff_ffff)
        );
    }
}
