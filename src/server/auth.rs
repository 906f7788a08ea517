//! ASCII authentication (`-Y`): nothing but `set <any> 0 0 <n>` with `user password` as value.

use super::replies::client_error;
use crate::wire::{Credentials, Reply, parse_u32};
use alloc::string::String;

/// The longest line before the server gives up on it.
const LINE: usize = 2048;
/// The longest value.
const TOKEN: usize = 16_384;
/// A line shorter than this, its LF not counted, ends the connection without a word (1.6.44 and
/// later).
const SHORTEST_LINE: usize = 6;

/// The meaning of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AuthStep {
    /// More have to come.
    Wait,
    Close,
    /// So many bytes are answered like this.
    Answer(usize, Reply<'static>),
    /// So many bytes were the right ones.
    Admit(usize),
}

/// Judges the start of a connection that is not authenticated yet.
pub(crate) fn judge(buffer: &[u8], accounts: &[(String, String)]) -> AuthStep {
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        return if buffer.len() > LINE {
            AuthStep::Close
        } else {
            AuthStep::Wait
        };
    };
    let start = end + 1;
    if end < SHORTEST_LINE {
        return AuthStep::Close;
    }
    let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
    let length = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .nth(4)
        .and_then(parse_u32);
    let Some(length) = length.filter(|_| line.starts_with(b"set")) else {
        return AuthStep::Answer(start, client_error("unauthenticated"));
    };
    let length = length as usize;
    if length > TOKEN {
        return AuthStep::Answer(start, client_error("auth token too long"));
    }
    let total = start + length + 2;
    let Some(block) = buffer.get(start..total) else {
        return AuthStep::Wait;
    };
    let Some(token) = block.strip_suffix(b"\r\n") else {
        return AuthStep::Answer(total, client_error("bad command line termination"));
    };
    let Some(credentials) = Credentials::from_value(token) else {
        return AuthStep::Answer(total, client_error("bad authentication token format"));
    };
    let known = accounts
        .iter()
        .any(|(user, password)| credentials.are(user.as_bytes(), password.as_bytes()));
    if known {
        AuthStep::Admit(total)
    } else {
        AuthStep::Answer(total, client_error("authentication failure"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn only_matching_credentials_authenticate() {
        let accounts = [("user".to_string(), "pass word".to_string())];
        let good = b"set x 0 0 14\r\nuser pass word\r\n";
        for end in 0..good.len() {
            assert_eq!(judge(&good[..end], &accounts), AuthStep::Wait);
        }
        assert_eq!(judge(good, &accounts), AuthStep::Admit(good.len()));
        for (bytes, text) in [
            (&b"get a\r\n"[..], "unauthenticated"),
            (b"set x 0 0 20000\r\n", "auth token too long"),
            (
                b"set x 0 0 6\r\nuserpa\r\n",
                "bad authentication token format",
            ),
            (b"set x 0 0 6\r\nuser ppp", "bad command line termination"),
            (b"set x 0 0 6\r\nuser p\r\n", "authentication failure"),
        ] {
            assert_eq!(
                judge(bytes, &accounts),
                AuthStep::Answer(bytes.len(), client_error(text))
            );
        }
        for short in [&b"mn\r\n"[..], b"mn x\r\n", b"get a\n"] {
            assert_eq!(judge(short, &accounts), AuthStep::Close);
        }
    }
}
