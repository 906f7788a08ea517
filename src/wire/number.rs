//! Decimal numbers as memcached writes them: no sign on unsigned ones, no separators.

use bytes::BytesMut;

/// Reads the whole of `digits` as a `u64`. `None` when empty, not all digits, or too large.
#[must_use]
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    // Nineteen digits always fit; only the twentieth needs the checked path.
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    let mut value: u64 = 0;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = if index < 19 {
            value * 10 + u64::from(digit)
        } else {
            value.checked_mul(10)?.checked_add(u64::from(digit))?
        };
    }
    Some(value)
}

/// Reads the whole of `digits` as a `u32`.
#[must_use]
pub fn parse_u32(digits: &[u8]) -> Option<u32> {
    u32::try_from(parse_u64(digits)?).ok()
}

/// Reads the whole of `text` as an `i64`, with an optional minus sign.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text.split_first() {
        Some((b'-', digits)) => 0i64.checked_sub_unsigned(parse_u64(digits)?),
        _ => i64::try_from(parse_u64(text)?).ok(),
    }
}

/// Appends `value` in decimal.
pub fn put_u64(out: &mut BytesMut, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` in decimal, with a minus sign where it is negative.
pub fn put_i64(out: &mut BytesMut, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_to_the_edge_and_not_beyond() {
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
    }

    #[test]
    fn writes_what_it_reads() {
        let mut out = BytesMut::new();
        put_u64(&mut out, u64::MAX);
        put_i64(&mut out, i64::MIN);
        assert_eq!(&out[..], b"18446744073709551615-9223372036854775808");
    }
}
