//! The standard alphabet with padding, which is how `b` keys travel.

use alloc::vec::Vec;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes that `text` stands for; `None` where memcached cannot decode it, nothing included.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if text.is_empty() || text.len() % 4 != 0 || padding > 2 {
        return None;
    }
    let digits = &text[..text.len() - padding];
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for place in 0..4 {
            let digit = group
                .get(place)
                .map_or(Some(0), |letter| value_of(*letter))?;
            bits = bits << 6 | digit;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for length in 0..70u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let text = encode(&bytes);
            assert_eq!(decode(&text), (length > 0).then_some(bytes));
        }
        assert_eq!(encode(b"foo"), b"Zm9v");
        assert_eq!(encode(b"a"), b"YQ==");
        // memcached does not mind bits that the padding cuts off.
        assert_eq!(decode(b"YR=="), Some(b"a".to_vec()));
        for bad in [&b""[..], b"YQ", b"YQ=", b"!!!!", b"Y===", b"Y=Q="] {
            assert_eq!(decode(bad), None, "{}", bad.escape_ascii());
        }
    }
}
