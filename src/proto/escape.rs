//! Bytes as words of a key or a record: percent escapes and hexadecimal digits.

use alloc::vec::Vec;

/// Writes everything that is not a visible ASCII character as `%XX`.
pub(super) fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (index, byte) in text.iter().enumerate() {
        let plain = byte.is_ascii_graphic() && *byte != b'%' && !(*byte == b'#' && index == 0);
        if plain {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&hex(*byte, b"0123456789ABCDEF"));
        }
    }
    out
}

/// Undoes [`escape`]; what is no escape stays as it is.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *byte == b'%');
        let value = digits.and_then(|digits| {
            let digits = core::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match value {
            Some(value) => {
                out.push(value);
                rest = &tail[2..];
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    out
}

/// The two digits of a byte.
pub(super) fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]
}

/// The value of a hexadecimal digit as we write them: in lower case.
pub(super) const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_survives_round_trip() {
        for text in [&b"a b%c"[..], b"#x", b"", &[0xff, 0x20, b'%']] {
            assert_eq!(unescape(&escape(text)), text);
        }
        assert_eq!(unescape(b"%zz%4"), b"%zz%4");
    }
}
