//! The flags of a meta request, as a list.

use super::flag::{Flag, FlagError, MAX_OPAQUE_LENGTH};
use super::token::Tokens;
use bytes::BytesMut;

/// The most flags that can be sent with one request.
///
/// Servers up to 1.6.38 take 19 words a line, later ones 20, command, key and length included. An
/// `ms` with more is refused *and its value read as the next command*, so there is no way to make
/// one.
pub const MAX_FLAGS: usize = 15;

/// The flags of a request: a list to be sent, or the words of a line that was read.
#[derive(Debug, Clone, Copy)]
pub struct Flags<'a>(Repr<'a>);

#[derive(Debug, Clone, Copy)]
enum Repr<'a> {
    List(&'a [Flag<'a>]),
    /// The rest of a line, without its line end.
    Line(&'a [u8]),
}

impl<'a> Flags<'a> {
    /// Flags to be sent, in this order.
    ///
    /// That no letter stands twice is left to the caller; a server answers it with an error and
    /// stays in step. [`Flags::new`] looks.
    ///
    /// # Panics
    /// When there are more than [`MAX_FLAGS`].
    #[must_use]
    pub const fn list(flags: &'a [Flag<'a>]) -> Self {
        assert!(
            flags.len() <= MAX_FLAGS,
            "more flags than every server takes"
        );
        Self(Repr::List(flags))
    }

    /// Flags to be sent, in this order, checked.
    ///
    /// # Errors
    /// When there are too many, when a letter stands twice, or `k` beside `b`.
    pub fn new(flags: &'a [Flag<'a>]) -> Result<Self, FlagError> {
        if flags.len() > MAX_FLAGS {
            return Err(FlagError::TooMany);
        }
        let mut letters = FlagSet::default();
        for flag in flags {
            letters.add(flag.letter())?;
        }
        letters.check()?;
        Ok(Self(Repr::List(flags)))
    }

    /// The flags in the rest of a request line, as strictly as [`Flags::new`].
    ///
    /// # Errors
    /// The first flag that a server would refuse, a letter that stands twice included.
    pub fn parse(line: &'a [u8]) -> Result<Self, FlagError> {
        let mut letters = FlagSet::default();
        for (index, word) in Tokens(line).enumerate() {
            letters.add(word[0])?;
            Flag::parse(word)?;
            if index >= MAX_FLAGS {
                return Err(FlagError::TooMany);
            }
        }
        letters.check()?;
        Ok(Self(Repr::Line(line)))
    }

    /// The rest of a request line that the request parser has judged by the server's own, more
    /// lenient rules: what is no flag to `Flag::read` is passed over.
    pub(super) const fn from_line(line: &'a [u8]) -> Self {
        Self(Repr::Line(line))
    }

    /// The letter after `M`, known or not. The newest servers look at nothing after it.
    pub(crate) fn mode_letter(&self) -> Option<u8> {
        match self.0 {
            Repr::List(list) => list.iter().find_map(|flag| match flag {
                Flag::Mode(mode) => Some(mode.letter()),
                _ => None,
            }),
            Repr::Line(line) => Tokens(line)
                .find(|word| word[0] == b'M')
                .map(|word| word.get(1).copied().unwrap_or(b' ')),
        }
    }

    /// Returns `true` if the token after `O` is longer than a server takes.
    pub(super) fn opaque_is_too_long(&self) -> bool {
        match self.0 {
            Repr::List(_) => false,
            Repr::Line(line) => {
                let mut words = Tokens(line);
                words.any(|word| word[0] == b'O' && word.len() > MAX_OPAQUE_LENGTH + 1)
            }
        }
    }

    /// The flags in the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = Flag<'a>> + use<'a> {
        let (list, line) = match self.0 {
            Repr::List(list) => (list, &b""[..]),
            Repr::Line(line) => (&[][..], line),
        };
        list.iter()
            .copied()
            .chain(Tokens(line).filter_map(|word| Flag::read(word).ok()))
    }

    /// Appends them, with a space in front of each.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self.0 {
            Repr::List(list) => list.iter().for_each(|flag| flag.encode(out)),
            Repr::Line(_) => self.iter().for_each(|flag| flag.encode(out)),
        }
    }

    /// Returns `true` if `q` stands among them.
    pub(super) fn are_quiet(&self) -> bool {
        match self.0 {
            Repr::List(list) => list.iter().any(|flag| matches!(flag, Flag::Quiet)),
            Repr::Line(_) => self.has(b'q'),
        }
    }

    /// Returns `true` if a flag with this letter stands among them.
    #[must_use]
    pub fn has(&self, letter: u8) -> bool {
        self.iter().any(|flag| flag.letter() == letter)
    }
}

impl PartialEq for Flags<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Flags<'_> {}

/// The letters that have been seen.
#[derive(Default)]
struct FlagSet(u128);

impl FlagSet {
    fn add(&mut self, letter: u8) -> Result<(), FlagError> {
        // A byte above 0x7f is a duplicate to older servers and unknown to newer ones.
        let bit = 1u128.checked_shl(u32::from(letter));
        let bit = bit.ok_or(FlagError::Unknown)?;
        if self.0 & bit != 0 {
            return Err(FlagError::Duplicate);
        }
        self.0 |= bit;
        Ok(())
    }

    const fn check(&self) -> Result<(), FlagError> {
        const KEY: u128 = 1 << b'k';
        const BASE64: u128 = 1 << b'b';
        if self.0 & KEY != 0 && self.0 & BASE64 != 0 {
            return Err(FlagError::RawKey);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::flag::{Mode, Opaque};
    use super::*;
    use alloc::vec::Vec;

    fn opaque(token: &[u8]) -> Opaque<'_> {
        Opaque::new(token).expect("a plain token")
    }

    #[test]
    fn request_flags_survive_round_trip() {
        let all = [
            Flag::Base64,
            Flag::Quiet,
            Flag::ReturnValue,
            Flag::ReturnTtl,
            Flag::ReturnCas,
            Flag::ReturnSize,
            Flag::ReturnClientFlags,
            Flag::ReturnLastAccess,
            Flag::ReturnHit,
            Flag::NoBump,
            Flag::Opaque(opaque(b"x7")),
            Flag::CompareCas(u64::MAX),
            Flag::ExplicitCas(1 << 63),
            Flag::ClientFlags(u32::MAX),
            Flag::Invalidate,
            Flag::ReturnKey,
            Flag::RemoveValue,
            Flag::Ttl(-1),
            Flag::Vivify(86_400),
            Flag::Recache(30),
            Flag::Initial(1_795_337_329_000_000_000),
            Flag::Delta(1),
            Flag::Mode(Mode::Add),
            Flag::OldLength(3),
            Flag::ProxyHint(opaque(b"x")),
            Flag::PathHint(opaque(b"")),
        ];
        for part in all.chunks(MAX_FLAGS) {
            let mut line = BytesMut::new();
            part.iter().for_each(|flag| flag.encode(&mut line));
            let parsed = Flags::parse(&line).expect("what we encode is well formed");
            assert_eq!(parsed.iter().collect::<Vec<_>>(), part);
            assert_eq!(Flags::new(part), Ok(parsed));
            assert_eq!(parsed, Flags::list(part));
        }
    }

    #[test]
    fn modes_have_distinct_letters() {
        for letter in 0..=u8::MAX {
            match Mode::from_letter(letter) {
                Some(mode) if letter == b'+' => assert_eq!(mode, Mode::Increment),
                Some(mode) if letter == b'-' => assert_eq!(mode, Mode::Decrement),
                Some(mode) => assert_eq!(mode.letter(), letter),
                None => assert!(!b"EAPRSID".contains(&letter)),
            }
        }
    }

    #[test]
    fn equal_flags_keep_their_order() {
        let list = Flags::list(&[Flag::ReturnCas, Flag::Ttl(30)]);
        assert_eq!(Flags::parse(b" c  T30 "), Ok(list));
        for other in [&b"T30 c"[..], b"c", b"c T30 q", b"c T31", b"c N30"] {
            assert_ne!(Flags::parse(other), Ok(list), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn letter_is_found_in_any_form() {
        let list = [Flag::ReturnKey, Flag::Mode(Mode::Add), Flag::Quiet];
        let loud = Flags::list(&list[..2]);
        assert!(!loud.are_quiet() && !Flags::from_line(b"k ME").are_quiet());
        for flags in [Flags::list(&list), Flags::from_line(b"k ME q")] {
            assert!(flags.has(b'k') && flags.has(b'M') && flags.has(b'q'));
            assert!(!flags.has(b'E') && !flags.has(b'v'));
            assert!(flags.are_quiet());
            assert_eq!(flags.mode_letter(), Some(b'E'));
        }
        // The newest servers look at one letter and at nothing after it.
        assert_eq!(Flags::from_line(b"v MXE").mode_letter(), Some(b'X'));
        assert_eq!(Flags::from_line(b"v M").mode_letter(), Some(b' '));
        assert_eq!(Flags::from_line(b"v").mode_letter(), None);
        assert_eq!(Flags::list(&list[..1]).mode_letter(), None);
    }

    #[test]
    fn flags_are_refused_like_memcached() {
        for (line, error) in [
            (&b"t t"[..], FlagError::Duplicate),
            (b"!", FlagError::Unknown),
            (b"\xff", FlagError::Unknown),
            (b"T", FlagError::BadNumber),
            (b"T3000000000", FlagError::BadNumber),
            (b"Cx", FlagError::BadNumber),
            (b"Fx", FlagError::BadNumber),
            (b"Dx", FlagError::BadDelta),
            (b"J-", FlagError::BadInitial),
            (b"M", FlagError::BadMode),
            (b"MEE", FlagError::BadMode),
            (b"Me", FlagError::BadMode),
            (
                b"O12345678901234567890123456789012",
                FlagError::OpaqueTooLong,
            ),
        ] {
            assert_eq!(Flags::parse(line), Err(error), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn refused_flag_names_the_reason() {
        for error in [
            FlagError::Unknown,
            FlagError::Duplicate,
            FlagError::BadNumber,
            FlagError::BadDelta,
            FlagError::BadInitial,
            FlagError::BadMode,
            FlagError::OpaqueTooLong,
            FlagError::ForbiddenByte,
            FlagError::TooMany,
            FlagError::RawKey,
        ] {
            assert!(!alloc::format!("{error}").is_empty());
        }
        assert_eq!(Flag::parse(b""), Err(FlagError::Unknown));
    }
}
