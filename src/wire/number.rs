//! Decimal numbers as memcached writes them: no sign on unsigned ones, no separators.

use bytes::BytesMut;

/// Reads the whole of `digits` as a `u64`. `None` when empty, not all digits, or too large.
#[must_use]
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    match split_u64(digits)? {
        (value, []) => Some(value),
        _ => None,
    }
}

/// Reads digits up to a space or the end as a `u64`, and returns what follows them, the space
/// included. `None` as for [`parse_u64`].
#[inline]
pub(super) fn split_u64(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    let mut rest = text;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let Some(number) = eight_digits(*eight) else {
            break;
        };
        value = value.wrapping_mul(100_000_000).wrapping_add(number);
        rest = behind;
    }
    while let [byte, behind @ ..] = rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            if *byte == b' ' {
                break;
            }
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        rest = behind;
    }
    let digits = text.len() - rest.len();
    match digits {
        // So many always fit.
        1..=19 => Some((value, rest)),
        // Or none at all, which are no number either.
        _ => Some((twenty_digits(&text[..digits])?, rest)),
    }
}

/// The number that twenty digits make, unless it is too large.
#[cold]
fn twenty_digits(digits: &[u8]) -> Option<u64> {
    match digits.split_last_chunk() {
        Some((nineteen, [last])) if nineteen.len() == 19 => parse_u64(nineteen)?
            .checked_mul(10)?
            .checked_add(u64::from(*last - b'0')),
        _ => None,
    }
}

/// `0` eight times.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The number that eight digits make; `None` when one of them is no digit.
///
/// All eight at once: neighbours are joined to numbers below 100, these to numbers below 10,000,
/// and these to one.
const fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let digits = u64::from_le_bytes(text) ^ ZEROS;
    // A digit is now below 10: adding 6 to it carries into no high half.
    if (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & HIGH != 0 {
        return None;
    }
    let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// Reads the whole of `digits` as a `u32`.
#[must_use]
pub fn parse_u32(digits: &[u8]) -> Option<u32> {
    u32::try_from(parse_u64(digits)?).ok()
}

/// Reads the whole of `text` as an `i64`, with an optional minus sign.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match split_i64(text)? {
        (value, []) => Some(value),
        _ => None,
    }
}

/// Reads a number as [`parse_i64`] does, up to a space or the end, and returns what follows it.
#[inline(always)]
pub(super) fn split_i64(text: &[u8]) -> Option<(i64, &[u8])> {
    if let [b'-', digits @ ..] = text {
        return split_negative(digits);
    }
    let (value, rest) = split_u64(text)?;
    Some((i64::try_from(value).ok()?, rest))
}

#[cold]
fn split_negative(digits: &[u8]) -> Option<(i64, &[u8])> {
    let (value, rest) = split_u64(digits)?;
    Some((0i64.checked_sub_unsigned(value)?, rest))
}

/// Writes `value` in decimal.
#[inline]
pub(crate) fn format_u64(buffer: &mut itoa::Buffer, value: u64) -> &[u8] {
    let digits = match u32::try_from(value) {
        // Seconds, lengths and most CAS uniques: half the size, and a good deal faster.
        Ok(value) => buffer.format(value),
        Err(_) => buffer.format(value),
    };
    digits.as_bytes()
}

/// Appends `value` in decimal.
#[inline]
pub fn put_u64(out: &mut BytesMut, value: u64) {
    out.extend_from_slice(format_u64(&mut itoa::Buffer::new(), value));
}

/// Appends `value` in decimal, with a minus sign where it is negative.
#[inline]
pub fn put_i64(out: &mut BytesMut, value: i64) {
    if value < 0 {
        out.extend_from_slice(b"-");
    }
    put_u64(out, value.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_parse_up_to_their_limits() {
        assert_eq!(parse_u64(b"0"), Some(0));
        assert_eq!(parse_u64(b"00000000000000000007"), Some(7));
        assert_eq!(
            parse_u64(b"9999999999999999999"),
            Some(9_999_999_999_999_999_999)
        );
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"99999999999999999999"), None);
        assert_eq!(parse_u64(b"000000000000000000000"), None);
        for bad in [&b""[..], b"-1", b"+1", b" 1", b"1 ", b"1a", b"\xff"] {
            assert_eq!(parse_u64(bad), None, "{bad:?}");
        }
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u32(b"4294967296"), None);
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"-9223372036854775809"), None);
        assert_eq!(parse_i64(b"9223372036854775808"), None);
        assert_eq!(parse_i64(b"-"), None);
        assert_eq!(parse_i64(b"--1"), None);
        assert_eq!(parse_i64(b"-1 "), None);
    }

    #[test]
    fn any_other_byte_spoils_the_number() {
        for length in 1..=19 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = [b'0'; 19];
                    text[at] = byte;
                    let text = &text[..length];
                    let read = parse_u64(text).is_some();
                    assert_eq!(read, byte.is_ascii_digit(), "{}", text.escape_ascii());
                }
            }
            for byte in 0..=u8::MAX {
                let read = parse_u64(&[byte; 19][..length]).is_some();
                assert_eq!(read, byte.is_ascii_digit(), "{length} times {byte:#x}");
            }
        }
    }

    #[test]
    fn every_digit_count_survives_round_trip() {
        let check = |value: u64| {
            let mut out = BytesMut::new();
            put_u64(&mut out, value);
            assert_eq!(out, alloc::format!("{value}"));
            assert_eq!(parse_u64(&out), Some(value));
        };
        let mut power = 1u64;
        for _ in 0..=19 {
            for value in [
                power - 1,
                power,
                power + 1,
                power.wrapping_mul(9),
                power / 7 * 6,
            ] {
                check(value);
            }
            power = power.wrapping_mul(10);
        }
        (0..100_000).for_each(check);
        (99_990_000..100_010_000).for_each(check);
        check(u64::MAX);
    }

    #[test]
    fn numbers_survive_round_trip() {
        let mut out = BytesMut::new();
        put_u64(&mut out, u64::MAX);
        put_i64(&mut out, i64::MIN);
        assert_eq!(&out[..], b"18446744073709551615-9223372036854775808");
    }
}
