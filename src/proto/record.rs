//! The record: what the item of a held lock says.

use super::escape::{escape, nibble, unescape};
use super::lease::Lease;
use crate::wire::{format_u64, parse_u64};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// The first word of every record, so that later layouts can be distinguished.
const LAYOUT: &[u8] = b"m1";

/// Longest host and label, in bytes; longer ones are cut.
const MAX_WORD: usize = 64;

/// More than the longest record: layout, nonce, two numbers, pid, and two escaped words.
const CAPACITY: usize = 512;

/// 128 random bits that stand for one attempt to acquire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(u128);

impl Nonce {
    /// A nonce from 16 random bytes. They must come from a source that never repeats, such as
    /// the operating system's.
    #[must_use]
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The nonce for the attempt that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Returns `true` if this is `first` or one of the nonces after it, up to and without `end`.
    pub(super) const fn is_between(self, first: Self, end: Self) -> bool {
        self.0.wrapping_sub(first.0) < end.0.wrapping_sub(first.0)
    }

    /// All of the bits in fewer, to seed what need not be secret. Nonces that differ in the upper 32
    /// bits or in the second lowest ones keep differing.
    pub(super) const fn seed(self) -> u64 {
        ((self.0 >> 64) as u64).rotate_left(32) ^ self.0 as u64
    }

    /// 64 bits of which each depends on all others: nonces of one client differ in few bits only.
    pub(super) const fn mixed(self) -> u64 {
        // The finalizer of MurmurHash3.
        let mut bits = self.seed();
        bits ^= bits >> 33;
        bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
        bits ^= bits >> 33;
        bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        bits ^ bits >> 33
    }

    fn hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        let mut rest = self.0;
        for eight in digits.rchunks_exact_mut(8) {
            eight.copy_from_slice(&eight_hex_digits(rest as u32));
            rest >>= 32;
        }
        digits
    }

    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        let digits: &[u8; 32] = word.try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(u128::from_be_bytes(bytes)))
    }
}

/// A number as eight hexadecimal digits. All at once, for every attempt to acquire writes 32 and
/// compares 32.
const fn eight_hex_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Half of the digits are moved up until each has a byte of its own.
    let halves = number as u64;
    let halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    let halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (halves | halves << 4) & (ONES * 0x0f);
    // 10 and more carry into the high half when 6 is added.
    let letters = (digits + ONES * 6) >> 4 & ONES;
    let letter_offset = (b'a' - b'0' - 10) as u64;
    (digits + ONES * b'0' as u64 + letters * letter_offset).to_be_bytes()
}

/// Hidden: any client that knows the nonce can pass for the holder.
impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// All 32 digits, as in the record.
impl fmt::LowerHex for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The owner of locks: the part of a record that stays the same. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Owner {
    /// ` <pid> <host> <label>`, escaped.
    tail: Arc<[u8]>,
}

impl Owner {
    /// An owner. Host and label are for people; they are cut after 64 bytes.
    #[must_use]
    pub fn new(host: &str, pid: u32, label: &str) -> Self {
        let mut tail = Vec::new();
        tail.push(b' ');
        tail.extend_from_slice(itoa::Buffer::new().format(pid).as_bytes());
        for word in [host, label] {
            tail.push(b' ');
            let text = &word.as_bytes()[..word.len().min(MAX_WORD)];
            tail.extend_from_slice(&to_word(text));
        }
        Self { tail: tail.into() }
    }

    /// An owner of what its record says: pid, host and label. `None` if no record could say that.
    pub(super) fn from_words([pid, host, label]: [&[u8]; 3]) -> Option<Self> {
        let number = u32::try_from(parse_u64(pid)?).ok()?;
        if itoa::Buffer::new().format(number).as_bytes() != pid {
            return None;
        }
        for word in [host, label] {
            from_word(word).filter(|text| text.len() <= MAX_WORD)?;
        }
        let tail = [b" ", pid, b" ", host, b" ", label].concat();
        Some(Self { tail: tail.into() })
    }

    /// Its words in a record: pid, host and label.
    pub(super) fn words(&self) -> &[u8] {
        self.tail.trim_ascii_start()
    }

    /// The label of the owner; empty if none.
    #[must_use]
    pub fn label(&self) -> String {
        let word = self.tail.rsplit(|byte| *byte == b' ').next();
        text(word.unwrap_or_default())
    }
}

/// A text as one word of a record.
pub(super) fn to_word(text: &[u8]) -> Vec<u8> {
    // An empty word would vanish between two spaces.
    match text {
        b"" => b"-".into(),
        b"-" => b"%2D".into(),
        text => escape(text),
    }
}

/// The text of a word, if it is one that [`to_word`] writes.
pub(super) fn from_word(word: &[u8]) -> Option<Vec<u8>> {
    let text = match word {
        b"-" => Vec::new(),
        word => unescape(word),
    };
    (to_word(&text) == word).then_some(text)
}

/// The text of an escaped word of a record.
fn text(word: &[u8]) -> String {
    let word = if word == b"-" { b"" } else { word };
    match String::from_utf8(unescape(word)) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({})", self.tail.trim_ascii().escape_ascii())
    }
}

/// A record as it is stored: one line of words, version first.
///
/// `m1 <nonce> <lease in ms> <server second of the acquisition> <pid> <host> <label>`
#[derive(Clone)]
pub struct Record {
    bytes: [u8; CAPACITY],
    /// 0 <= `length` <= `CAPACITY`; the rest of `bytes` means nothing.
    length: usize,
}

impl Record {
    /// A record with the lease rounded up to milliseconds. Allocates nothing.
    #[must_use]
    pub fn new(nonce: Nonce, lease: Duration, since: u64, owner: &Owner) -> Self {
        let mut record = Self::empty();
        record.lay_out(nonce, lease, since, owner);
        record
    }

    /// Room for one record.
    pub(super) fn empty() -> Self {
        Self {
            bytes: [0; CAPACITY],
            length: 0,
        }
    }

    /// Writes the record that [`new`](Self::new) makes in place of what is there. It is not moved,
    /// and so its whole capacity is not copied.
    pub(super) fn lay_out(&mut self, nonce: Nonce, lease: Duration, since: u64, owner: &Owner) {
        self.length = 0;
        self.put(LAYOUT);
        self.put(b" ");
        self.put(&nonce.hex());
        let rest = u64::from(lease.subsec_nanos().div_ceil(1_000_000));
        let millis = lease.as_secs().saturating_mul(1000).saturating_add(rest);
        for number in [millis, since] {
            self.put(b" ");
            self.put(format_u64(&mut itoa::Buffer::new(), number));
        }
        self.put(&owner.tail);
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        // `CAPACITY` is more than all parts at their longest; cutting is what a mistake there
        // would cost, and the nonce stands in front.
        let end = end.min(CAPACITY);
        let room = end - self.length;
        self.bytes[self.length..end].copy_from_slice(&bytes[..room]);
        self.length = end;
    }

    /// The bytes to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The part after the nonce, which is hidden.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = split_record(self.as_bytes()).map_or(&[][..], |(_, rest)| rest);
        write!(f, "Record(.. {})", rest.escape_ascii())
    }
}

/// Returns `true` if a stored value is the record of the attempt with this nonce.
#[must_use]
pub fn is_ours(value: &[u8], nonce: Nonce) -> bool {
    value
        .strip_prefix(LAYOUT)
        .and_then(|rest| rest.strip_prefix(b" "))
        .and_then(|rest| rest.strip_prefix(&nonce.hex()))
        .is_some_and(|rest| rest.first() == Some(&b' '))
}

/// The nonce in a stored value, if it is a record.
pub(super) fn nonce_of(value: &[u8]) -> Option<Nonce> {
    let rest = value.strip_prefix(LAYOUT)?.strip_prefix(b" ")?;
    Nonce::parse(rest.get(..32)?).filter(|_| rest.get(32) == Some(&b' '))
}

/// The nonce in a stored value, as it is written, and what follows it, if that looks like a record.
fn split_record(value: &[u8]) -> Option<(&[u8; 32], &[u8])> {
    let rest = value.strip_prefix(LAYOUT)?.strip_prefix(b" ")?;
    let (digits, rest) = rest.split_first_chunk::<32>()?;
    Some((digits, rest.strip_prefix(b" ")?))
}

/// The lease that a stored value states, if it is a record and the lease can be one.
pub(super) fn lease_of(value: &[u8]) -> Option<Lease> {
    let (_, rest) = split_record(value)?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let millis = parse_u64(&rest[..end])?;
    Lease::new(Duration::from_millis(millis)).ok()
}

/// A number that is another for another record, as a rule, and takes less than to read the nonce.
pub(super) fn record_fingerprint(value: &[u8]) -> Option<u64> {
    let (digits, _) = split_record(value)?;
    let mut mark = 0u64;
    for eight in digits.chunks_exact(8) {
        let eight = eight.try_into().map_or(0, u64::from_le_bytes);
        mark = (mark ^ eight)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
    Some(mark)
}

/// The holder of a lock, as a stored record describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HolderRecord {
    /// The nonce of the attempt that won.
    pub nonce: Nonce,
    /// The lease that the holder asked for.
    pub lease: Duration,
    /// Second of the server's clock (Unix time base) at which the lock was acquired.
    pub acquired_at: u64,
    /// The holder's process id on its host.
    pub pid: u32,
    /// The holder's host name.
    pub host: String,
    /// The label of the holder; empty if none.
    pub label: String,
}

impl HolderRecord {
    /// Reads a record; `None` for any other value, such as one of another layout.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut words = value.split(|byte| *byte == b' ');
        if words.next()? != LAYOUT {
            return None;
        }
        let nonce = Nonce::parse(words.next()?)?;
        let lease = Duration::from_millis(parse_u64(words.next()?)?);
        let since = parse_u64(words.next()?)?;
        let pid = u32::try_from(parse_u64(words.next()?)?).ok()?;
        let host = text(words.next()?);
        let label = text(words.next()?);
        Some(Self {
            nonce,
            lease,
            acquired_at: since,
            pid,
            host,
            label,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

    #[test]
    fn nonce_is_plain_hexadecimal() {
        for number in (0..128).map(|bit| 1u128 << bit).chain([
            0,
            u128::MAX,
            NONCE.0,
            !NONCE.0,
            0x9a9a_9a9a_9a9a_9a9a_9a9a_9a9a_9a9a_9a9a,
            0xa9a9_a9a9_a9a9_a9a9_a9a9_a9a9_a9a9_a9a9,
        ]) {
            let hex = Nonce(number).hex();
            assert_eq!(hex, alloc::format!("{number:032x}").as_bytes());
            assert_eq!(Nonce::parse(&hex), Some(Nonce(number)));
            assert_eq!(Nonce::parse(&hex[1..]), None);
        }
        for byte in 0..=u8::MAX {
            let known = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            assert_eq!(Nonce::parse(&[byte; 32]).is_some(), known, "{byte}");
        }
    }

    #[test]
    fn record_never_understates_the_lease() {
        let owner = Owner::new("h", 1, "");
        for (nanos, millis) in [(1, 1), (100_999_000, 101), (101_000_000, 101)] {
            let record = Record::new(NONCE, Duration::from_nanos(nanos), 0, &owner);
            let read = HolderRecord::parse(record.as_bytes()).expect("our own layout");
            assert_eq!(read.lease, Duration::from_millis(millis), "{nanos} ns");
        }
    }

    #[test]
    fn record_is_one_readable_line() {
        let owner = Owner::new("db-7", 4711, "nightly import");
        let record = Record::new(NONCE, Duration::from_secs(10), 1_795_337_329, &owner);
        assert_eq!(
            record.as_bytes(),
            b"m1 0123456789abcdef0011223344556677 10000 1795337329 4711 db-7 nightly%20import"
        );
        let read = HolderRecord::parse(record.as_bytes()).expect("our own layout");
        assert_eq!(read.nonce, NONCE);
        assert_eq!(read.lease, Duration::from_secs(10));
        assert_eq!((read.pid, read.acquired_at), (4711, 1_795_337_329));
        assert_eq!(
            (read.host.as_str(), read.label.as_str()),
            ("db-7", "nightly import")
        );
    }

    #[test]
    fn host_and_label_stay_one_word() {
        for text in [
            "",
            "-",
            " ",
            "a\r\nmg x v",
            "\u{1f512}",
            &"\u{1f512}".repeat(100),
            "%2D",
        ] {
            let record = Record::new(
                NONCE,
                Duration::MAX,
                u64::MAX,
                &Owner::new(text, u32::MAX, text),
            );
            assert!(
                record
                    .as_bytes()
                    .iter()
                    .all(|byte| (b' '..=b'~').contains(byte))
            );
            assert!(record.as_bytes().len() < CAPACITY);
            let read = HolderRecord::parse(record.as_bytes()).expect("our own layout");
            if text.len() <= MAX_WORD {
                assert_eq!((read.host.as_str(), read.label.as_str()), (text, text));
            }
        }
    }

    #[test]
    fn whole_nonce_identifies_our_record() {
        let owner = Owner::new("h", 1, "");
        let record = Record::new(NONCE, Duration::from_secs(1), 0, &owner);
        assert!(is_ours(record.as_bytes(), NONCE));
        assert!(!is_ours(record.as_bytes(), NONCE.next()));
        assert!(!is_ours(&record.as_bytes()[..35], NONCE));
        assert!(!is_ours(b"", NONCE));
        assert_eq!(nonce_of(record.as_bytes()), Some(NONCE));
        assert_eq!(nonce_of(&record.as_bytes()[..35]), None);
        assert!(NONCE.is_between(NONCE, NONCE.next()));
        assert!(!NONCE.next().is_between(NONCE, NONCE.next()));
        assert!(!NONCE.is_between(NONCE, NONCE));
        let last = Nonce(u128::MAX);
        assert!(last.next().is_between(last, last.next().next()));
    }

    #[test]
    fn other_values_are_no_records() {
        for value in [
            &b""[..],
            b"m1",
            b"m2 0123456789abcdef0011223344556677 1 1 1 h -",
            b"m1 0123 1 1 1 h -",
            b"m1 0123456789ABCDEF0011223344556677 1 1 1 h -",
            b"m1 0123456789abcdef0011223344556677 x 1 1 h -",
            b"m1 0123456789abcdef0011223344556677 1 1 1 h",
        ] {
            assert_eq!(HolderRecord::parse(value), None, "{}", value.escape_ascii());
        }
    }
}
