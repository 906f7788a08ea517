//! One flag of a meta request: a letter, with its argument glued on.

use super::number::{self, put_i64, put_u64};
use bytes::BytesMut;
use core::fmt;

/// The longest opaque token, in bytes, without its letter.
///
/// memcached's `protocol.txt` says 32; the server counts the letter (`MFLAG_MAX_OPAQUE_LENGTH`).
pub const MAX_OPAQUE_LENGTH: usize = 31;

/// A token that the server sends back unchanged with the reply to the request that carried it.
///
/// Cannot be made of anything that a server would read as more than this token: 0 to [`MAX_OPAQUE_LENGTH`] bytes without spaces or control bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opaque<'a>(&'a [u8]);

impl<'a> Opaque<'a> {
    /// Checks `token` and wraps it; `None` when it is too long or not plain.
    #[must_use]
    pub fn new(token: &'a [u8]) -> Option<Self> {
        let plain = token.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
        (plain && token.len() <= MAX_OPAQUE_LENGTH).then_some(Self(token))
    }

    /// The bytes of the token.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The argument of the flag `M` (1.6.0 and later).
///
/// Older servers take small letters for `ma` as well; 1.6.45 does not. Of the argument 1.6.40 and
/// later look at the first letter alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// `E` of `ms`: add.
    Add,
    /// `A` of `ms`: append.
    Append,
    /// `P` of `ms`: prepend.
    Prepend,
    /// `R` of `ms`: replace.
    Replace,
    /// `S` of `ms`: set.
    Set,
    /// `I` or `+` of `ma`.
    Increment,
    /// `D` or `-` of `ma`.
    Decrement,
}

impl Mode {
    /// The mode that this letter stands for, if any.
    #[must_use]
    pub const fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'E' => Self::Add,
            b'A' => Self::Append,
            b'P' => Self::Prepend,
            b'R' => Self::Replace,
            b'S' => Self::Set,
            b'I' | b'+' => Self::Increment,
            b'D' | b'-' => Self::Decrement,
            _ => return None,
        })
    }

    /// The letter that we write.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Add => b'E',
            Self::Append => b'A',
            Self::Prepend => b'P',
            Self::Replace => b'R',
            Self::Set => b'S',
            Self::Increment => b'I',
            Self::Decrement => b'D',
        }
    }
}

/// One flag of a meta request.
///
/// Every letter is accepted with every meta command and ignored where it means nothing; what it
/// means where is said at each variant. All of them are there in 1.6.10, the first release whose
/// meta protocol is stable, unless another one is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flag<'a> {
    /// `b`: the key is base64, with padding; the server works with the bytes it stands for.
    Base64,
    /// `q`: leave out the uninteresting answers: `EN` of `mg`, `HD` of the others, and the `VA` of
    /// `ma`. Errors and all other answers are shown. End such a batch with
    /// [`Request::MetaNoop`](super::Request::MetaNoop).
    Quiet,
    /// `v`: return the value (`mg`, `ma`), and with it `VA` in place of `HD`.
    ReturnValue,
    /// `t`: return the seconds left (`mg`, `ma`), as they are at this place in the line.
    ReturnTtl,
    /// `c`: return the CAS unique (`mg`, `ms`, `ma`; before 1.6.13 the one of `ms` was wrong). `md`
    /// takes it and returns none.
    ReturnCas,
    /// `s`: return the size of the value (`mg`; `ms` from 1.6.20 on, and 1.6.20 itself shows the
    /// CAS unique in its place).
    ReturnSize,
    /// `f`: return the client flags (`mg`).
    ReturnClientFlags,
    /// `l`: return the seconds since the last access (`mg`).
    ReturnLastAccess,
    /// `h`: return whether the item was fetched before (`mg`).
    ReturnHit,
    /// `k`: return the key. On a miss (`EN`) from 1.6.18 on.
    ///
    /// Never together with `b` on `mg`: an item that `mg` or `ma` created, or that `md x` emptied,
    /// lacks the mark that its key is binary, so that the raw bytes come back, line ends included,
    /// and are read as replies. [`Flags::new`](super::Flags::new) refuses the pair.
    ReturnKey,
    /// `u`: do not count as an access (`mg`).
    NoBump,
    /// `O`: return this token. On a miss (`EN`) from 1.6.18 on.
    Opaque(Opaque<'a>),
    /// `C`: act only when the item's CAS unique is this one (`ms`, `md`, `ma`). With `mg`, from
    /// 1.6.40 on: leave out the value when the CAS unique is still this one.
    CompareCas(u64),
    /// `E`: give the item this CAS unique (1.6.27 and later). With `mg` only where it creates the
    /// item. 0 is no CAS unique: `ms` takes it for none given, the others set it.
    ExplicitCas(u64),
    /// `F`: set the client flags (`ms`, and `md` with `x`).
    ClientFlags(u32),
    /// `I`: mark the item stale (`md`), or store in spite of a newer item (`ms` with a lower `C`).
    Invalidate,
    /// `x`: drop the value and the client flags and keep the item (`md`, 1.6.27 and later).
    /// Without `T` what is left never expires.
    RemoveValue,
    /// `T`: set the expiry (`mg`, `ms`, `ma`; `md` with `I`, or with `x`). Seconds: 0 is never,
    /// below 0 at once, over 30 days a Unix second. What is over an `int` is cut off by 1.6.44 and
    /// older (the item may expire at once) and refused by 1.6.45.
    Ttl(i64),
    /// `N`: create the item when it is missing, with this expiry (`mg`, `ma`; from 1.6.20 on `ms`
    /// with the modes `A` and `P`).
    Vivify(i64),
    /// `R`: win the right to refresh when fewer seconds than this are left (`mg`).
    Recache(i64),
    /// `J`: the number that a created counter starts with (`ma`).
    Initial(u64),
    /// `D`: add or subtract this much (`ma`); 1 when it is not given.
    Delta(u64),
    /// `M`: the mode (`ms` and `ma` have different ones).
    Mode(Mode),
    /// `S`: the length, as it was written before 1.6.10. All later servers refuse it.
    OldLength(u64),
    /// `P`: a hint for proxies, ignored by the server (1.6.14 and later).
    ProxyHint(Opaque<'a>),
    /// `L`: another one (1.6.14 and later).
    PathHint(Opaque<'a>),
}

impl<'a> Flag<'a> {
    /// Reads one flag, as strictly as all servers together: what comes out of here can be sent.
    ///
    /// # Errors
    /// Says what a server would refuse, or take for something else than one flag.
    pub fn parse(word: &'a [u8]) -> Result<Self, FlagError> {
        let flag = Self::read(word)?;
        match flag {
            Self::Mode(_) if word.len() > 2 => Err(FlagError::BadMode),
            Self::Opaque(token) | Self::ProxyHint(token) | Self::PathHint(token) => {
                if token.0.len() > MAX_OPAQUE_LENGTH {
                    return Err(FlagError::OpaqueTooLong);
                }
                match Opaque::new(token.0) {
                    Some(_) => Ok(flag),
                    None => Err(FlagError::ForbiddenByte),
                }
            }
            _ => Ok(flag),
        }
    }

    /// Reads one flag as the newest server does: a word of a line, whatever bytes it consists of.
    ///
    /// Encoding one of these returns the bytes that were read.
    pub(super) fn read(word: &'a [u8]) -> Result<Self, FlagError> {
        let Some((letter, argument)) = word.split_first() else {
            return Err(FlagError::Unknown);
        };
        let unsigned = || number::parse_u64(argument).ok_or(FlagError::BadNumber);
        let seconds = || {
            let value = number::parse_i64(argument).ok_or(FlagError::BadNumber)?;
            if i32::try_from(value).is_err() {
                return Err(FlagError::BadNumber);
            }
            Ok(value)
        };
        Ok(match letter {
            b'b' => Self::Base64,
            b'q' => Self::Quiet,
            b'v' => Self::ReturnValue,
            b't' => Self::ReturnTtl,
            b'c' => Self::ReturnCas,
            b's' => Self::ReturnSize,
            b'f' => Self::ReturnClientFlags,
            b'l' => Self::ReturnLastAccess,
            b'h' => Self::ReturnHit,
            b'k' => Self::ReturnKey,
            b'u' => Self::NoBump,
            b'I' => Self::Invalidate,
            b'x' => Self::RemoveValue,
            b'O' => Self::Opaque(Opaque(argument)),
            b'C' => Self::CompareCas(unsigned()?),
            b'E' => Self::ExplicitCas(unsigned()?),
            b'F' => Self::ClientFlags(number::parse_u32(argument).ok_or(FlagError::BadNumber)?),
            b'T' => Self::Ttl(seconds()?),
            b'N' => Self::Vivify(seconds()?),
            b'R' => Self::Recache(seconds()?),
            b'J' => Self::Initial(number::parse_u64(argument).ok_or(FlagError::BadInitial)?),
            b'D' => Self::Delta(number::parse_u64(argument).ok_or(FlagError::BadDelta)?),
            b'M' => {
                let mode = argument.first().copied().and_then(Mode::from_letter);
                Self::Mode(mode.ok_or(FlagError::BadMode)?)
            }
            b'S' => Self::OldLength(unsigned()?),
            b'P' => Self::ProxyHint(Opaque(argument)),
            b'L' => Self::PathHint(Opaque(argument)),
            _ => return Err(FlagError::Unknown),
        })
    }

    /// The letter of the flag.
    #[must_use]
    pub const fn letter(&self) -> u8 {
        match self {
            Self::Base64 => b'b',
            Self::Quiet => b'q',
            Self::ReturnValue => b'v',
            Self::ReturnTtl => b't',
            Self::ReturnCas => b'c',
            Self::ReturnSize => b's',
            Self::ReturnClientFlags => b'f',
            Self::ReturnLastAccess => b'l',
            Self::ReturnHit => b'h',
            Self::ReturnKey => b'k',
            Self::NoBump => b'u',
            Self::Opaque(_) => b'O',
            Self::CompareCas(_) => b'C',
            Self::ExplicitCas(_) => b'E',
            Self::ClientFlags(_) => b'F',
            Self::Invalidate => b'I',
            Self::RemoveValue => b'x',
            Self::Ttl(_) => b'T',
            Self::Vivify(_) => b'N',
            Self::Recache(_) => b'R',
            Self::Initial(_) => b'J',
            Self::Delta(_) => b'D',
            Self::Mode(_) => b'M',
            Self::OldLength(_) => b'S',
            Self::ProxyHint(_) => b'P',
            Self::PathHint(_) => b'L',
        }
    }

    /// Appends a space and the flag.
    #[inline]
    pub fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(&[b' ', self.letter()]);
        self.encode_argument(out);
    }

    fn encode_argument(&self, out: &mut BytesMut) {
        match self {
            Self::CompareCas(number)
            | Self::ExplicitCas(number)
            | Self::Initial(number)
            | Self::Delta(number)
            | Self::OldLength(number) => put_u64(out, *number),
            Self::ClientFlags(number) => put_u64(out, u64::from(*number)),
            Self::Ttl(seconds) | Self::Vivify(seconds) | Self::Recache(seconds) => {
                put_i64(out, *seconds);
            }
            Self::Mode(mode) => out.extend_from_slice(&[mode.letter()]),
            Self::Opaque(token) | Self::ProxyHint(token) | Self::PathHint(token) => {
                out.extend_from_slice(token.0);
            }
            Self::Base64
            | Self::Quiet
            | Self::ReturnValue
            | Self::ReturnTtl
            | Self::ReturnCas
            | Self::ReturnSize
            | Self::ReturnClientFlags
            | Self::ReturnLastAccess
            | Self::ReturnHit
            | Self::ReturnKey
            | Self::NoBump
            | Self::Invalidate
            | Self::RemoveValue => {}
        }
    }
}

/// A reason why a word is not a flag that the server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlagError {
    /// No command knows this letter.
    Unknown,
    /// The letter stands twice.
    Duplicate,
    /// The argument is no number or out of range.
    BadNumber,
    /// The argument of `D` is no number.
    BadDelta,
    /// The argument of `J` is no number.
    BadInitial,
    /// The argument of `M` is no mode of any command.
    BadMode,
    /// A token is over [`MAX_OPAQUE_LENGTH`].
    OpaqueTooLong,
    /// A token holds a space or a control byte.
    ForbiddenByte,
    /// There are more than [`MAX_FLAGS`](super::MAX_FLAGS).
    TooMany,
    /// `k` stands beside `b`, see [`Flag::ReturnKey`].
    RawKey,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no meta command knows this flag",
            Self::Duplicate => "the flag stands twice",
            Self::BadNumber => "the argument is no number or out of range",
            Self::BadDelta => "the delta is no number",
            Self::BadInitial => "the initial value is no number",
            Self::BadMode => "no command knows this mode",
            Self::OpaqueTooLong => "the token is over 31 bytes",
            Self::ForbiddenByte => "the token holds a space or a control byte",
            Self::TooMany => "there are more flags than every server takes",
            Self::RawKey => "with a base64 key the server may return raw bytes for it",
        })
    }
}

impl core::error::Error for FlagError {}
