//! The standard alphabet with padding, which is how `b` keys travel.

use alloc::borrow::Cow;
use alloc::vec::Vec;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes that `text` stands for; `None` where memcached cannot decode it, nothing included.
///
/// As in memcached: bytes outside of the alphabet are passed over, a padding sign counts as a zero
/// wherever it stands, and what follows a group with padding is not looked at.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| is_digit(*byte))
        .collect();
    if digits.is_empty() || digits.len() % 4 != 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0u32, |bits, digit| {
            bits << 6 | value_of(*digit).unwrap_or(0)
        });
        let padding = group.iter().filter(|digit| **digit == b'=').count();
        let length = 3usize.checked_sub(padding).filter(|length| *length > 0)?;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=length]);
        if padding > 0 {
            break;
        }
    }
    Some(bytes)
}

fn is_digit(byte: u8) -> bool {
    byte == b'=' || value_of(byte).is_some()
}

/// `bytes` as text.
pub(crate) fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = bits >> (18 - 6 * place) & 63;
            text.push(if place <= group.len() {
                ALPHABET[digit as usize]
            } else {
                b'='
            });
        }
    }
    text
}

fn value_of(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// A key as replies show it: in base64 if it came like that.
pub(super) fn shown_key(key: &[u8], binary: bool) -> Cow<'_, [u8]> {
    if binary {
        Cow::Owned(encode(key))
    } else {
        Cow::Borrowed(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_survives_round_trip() {
        for length in 0..70u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let text = encode(&bytes);
            assert_eq!(decode(&text), (length > 0).then_some(bytes));
        }
        assert_eq!(encode(b"foo"), b"Zm9v");
        assert_eq!(encode(b"a"), b"YQ==");
        // memcached does not mind bits that the padding cuts off.
        assert_eq!(decode(b"YR=="), Some(b"a".to_vec()));
        for (strange, plain) in [
            (&b"Zm9v!!"[..], &b"foo"[..]),
            (b"Z-m_9\xffv", b"foo"),
            (b"YQ==Zm9v", b"a"),
            // The padding sign is a zero.
            (b"Y=Q=", b"`"),
        ] {
            assert_eq!(
                decode(strange),
                Some(plain.to_vec()),
                "{}",
                strange.escape_ascii()
            );
        }
        for bad in [
            &b""[..],
            b"YQ",
            b"YQ=",
            b"!!!!",
            b"Y===",
            b"====",
            b"Zm9v!Y===",
        ] {
            assert_eq!(decode(bad), None, "{}", bad.escape_ascii());
        }
    }
}
