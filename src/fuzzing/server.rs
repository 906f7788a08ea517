//! The embedded server against any bytes.

use super::input::{Input, cuts, hash};
use super::reply::WIDE;
use crate::server::in_memory::InMemoryServer;
use crate::wire::{MetadumpDecoder, MgdumpDecoder, ReplyDecoder};
use alloc::vec::Vec;

/// The memory for the items of a small server.
const SMALL: usize = 640;

/// More than fits a small server.
const FILLER: &[u8] = b"ms 1 9 T60\r\n123456789\r\nms 2 9\r\n123456789\r\nms 3 9\r\n123456789\r\n\
    ms 4 9 T60\r\n123456789\r\nms 5 9\r\n123456789\r\nms 6 9\r\n123456789\r\n\
    ms 7 9 T60\r\n123456789\r\nms 8 9\r\n123456789\r\nms 9 9\r\n123456789\r\n\
    ms a 9 T60\r\n123456789\r\nms b 9\r\n123456789\r\nms c 9\r\n123456789\r\n";

/// Checks that the server never panics, keeps to its memory, sends only valid replies, and sends
/// the same replies however the bytes arrive.
///
/// The first byte configures the server, the second says whether its clock runs; the rest is the
/// input from a client.
pub fn server(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, pace) = (input.byte(), input.byte());
    let sent = input.rest();
    let whole = talk(options, &[sent.len()], sent, 0);
    let cuts = cuts(sent.len(), 5, hash(sent));
    if pace & 1 == 1 {
        talk(options, &cuts, sent, pace);
        return;
    }
    // Until a client has authenticated, only the last reply to a batch is sent.
    let with_auth = options >> 5 & 1 == 1;
    if !with_auth && !depends_on_time_or_pieces(sent) {
        // Its clock may have ticked in between, so one more look is taken.
        let same =
            (0..3).any(|_| talk(options, &cuts, sent, 0) == talk(options, &[sent.len()], sent, 0));
        assert!(
            same,
            "cut at {cuts:?} it is answered {}, whole {}",
            talk(options, &cuts, sent, 0).escape_ascii(),
            whole.escape_ascii()
        );
    }
}

/// Returns whether a reply may differ with the clock, with the connections, or with the pieces in
/// which input arrives: `stats` shows numbers of the process, and the place at which a connection
/// is closed depends on the bytes that can be read.
fn depends_on_time_or_pieces(sent: &[u8]) -> bool {
    let has = |word: &[u8]| has(sent, word);
    has(b"stats") || has(b"HTTP/") || has(b"\x80") || sent.len() > 2000
}

fn has(sent: &[u8], word: &[u8]) -> bool {
    sent.windows(word.len()).any(|window| window == word)
}

/// Returns the checked replies on one connection to a fresh server.
fn talk(options: u8, cuts: &[usize], sent: &[u8], pace: u8) -> Vec<u8> {
    let bit = |number: u8| options >> number & 1 == 1;
    let small = bit(0);
    let with_auth = bit(5);
    let server = InMemoryServer::new(|builder| {
        let builder = builder
            .cas(!bit(2))
            .evictions(!bit(1))
            .shutdown_command(bit(3));
        let builder = builder.flush_enabled(!bit(4));
        let builder = if small {
            builder.memory_limit(SMALL).max_item_size(SMALL / 2)
        } else {
            builder
        };
        let builder = if bit(6) {
            builder.temporary_ttl(core::time::Duration::from_secs(61))
        } else {
            builder
        };
        if with_auth {
            builder.auth([("user", "password")])
        } else {
            builder
        }
    });
    if small && !with_auth {
        // So that there is something to evict.
        server.converse([(FILLER, false)].into_iter());
    }
    let mut begin = 0;
    let chunks = cuts.iter().enumerate().map(|(number, end)| {
        let chunk = &sent[begin..*end];
        begin = *end;
        (chunk, pace >> (number % 8) & 1 == 1)
    });
    let answers = server.converse(chunks);
    let (bytes, pages) = server.used();
    // Each of at most 63 classes gets one page whatever the limit.
    let (limit, page) = if small {
        (SMALL, SMALL)
    } else {
        (64 << 20, 1 << 20)
    };
    assert!(
        bytes <= pages && (pages <= limit + 63 * page || has(sent, b"cache_memlimit")),
        "{bytes} bytes in pages of {pages}"
    );
    if !keys_hold_line_ends(sent) {
        read(&answers);
    }
    answers
}

/// Returns whether a key may be stored that, shown unescaped, is more than one word. Real servers
/// show such keys, too.
fn keys_hold_line_ends(sent: &[u8]) -> bool {
    sent.windows(2).any(|pair| pair == b" b")
}

/// Reads replies to their end.
fn read(answers: &[u8]) {
    let mut decoder = ReplyDecoder::new(WIDE);
    let mut rest = answers;
    while !rest.is_empty() {
        // The lines of a dump are in other grammars; its end is one that replies have.
        let dumped = if rest.starts_with(b"key=") {
            let dumped = MetadumpDecoder::new(WIDE).decode(rest);
            Some(dumped.map(|line| line.map(|(_, length)| length)))
        } else if rest.starts_with(b"mg ") {
            let dumped = MgdumpDecoder::new(WIDE).decode(rest);
            Some(dumped.map(|line| line.map(|(_, length)| length)))
        } else {
            None
        };
        if let Some(Ok(Some(length))) = dumped {
            rest = &rest[length..];
            continue;
        }
        match decoder.decode(rest) {
            Ok(Some((_, length))) => rest = &rest[length..],
            Ok(None) => panic!("half an answer: {}", rest.escape_ascii()),
            // Behind a refused key memcached 1.6.45 ends its line twice, and so do we.
            Err(_) if rest.starts_with(b"\r\n") => {
                let before = &answers[..answers.len() - rest.len()];
                assert!(before.ends_with(b"CLIENT_ERROR bad command line format\r\n"));
                rest = &rest[2..];
                decoder = ReplyDecoder::new(WIDE);
            }
            Err(error) => panic!("{error}: {}", rest.escape_ascii()),
        }
    }
}
