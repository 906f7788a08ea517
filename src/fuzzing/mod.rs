//! The bodies of the fuzz targets, private to this project.
//!
//! Each is an ordinary function from bytes to a panic or none, so that ordinary CI compiles it and
//! runs it over the transcripts and a few thousand made-up inputs. The crate in `fuzz/` does
//! nothing but call them; `scripts/fuzz` runs it.
//!
//! A target panics when something is wrong and says what. An input that once made one panic
//! stands in `REGRESSIONS` below.

mod differential;
mod input;
mod lock_flow;
mod pipeline;
mod reference_codec;
mod reply;
mod request;
mod round_trip;
mod server;
mod simulated_server;

pub use differential::differential;
pub use lock_flow::lock_flow;
pub use pipeline::pipeline;
pub use reply::reply;
pub use request::request;
pub use round_trip::round_trip;
pub use server::server;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("reply", reply),
    ("request", request),
    ("round_trip", round_trip),
    ("pipeline", pipeline),
    ("server", server),
    ("differential", differential),
    ("lock_flow", lock_flow),
];

#[cfg(test)]
mod tests {
    use super::*;
    use input::Input;
    use std::path::Path;
    use std::string::String;
    use std::vec::Vec;

    /// Inputs that were findings.
    const REGRESSIONS: &[(&str, &[u8])] = &[
        // Written without the mode, which the server goes by: `ms` became a plain set.
        ("request", b"ms a 1 MEE\r\nx\r\n"),
        // Written as `MD`, which means the same: the target took it for another mode.
        ("request", b"ma \x00n M-\n\n:"),
        // A sentinel that is never there, and one that does not show the second: flight after
        // flight without a pause.
        ("lock_flow", b"nc"),
        ("lock_flow", b"ma n q\r\nmn\r\nslabs reMEassign 1 2\r\n"),
        // Written without the space, and then no reply: `Reply::encode` takes every text that
        // begins with a colon for one that stood close to its word.
        ("reply", b"SERVER_ERROR :x\r\n"),
        ("reply", b"ERROR :x\r\n"),
        ("reply", b"CLIENT_ERROR :x\r\n"),
        // An earlier record of this client that reappears each time it was removed; and one that a
        // different server instance shows, where it is neither held nor removed.
        ("lock_flow", b"md\r\nincr n noreply\rmn\r\nversion\r\n"),
        ("lock_flow", b"cas a\r\n"),
        // A server whose seconds go back, so that what is known of its clock stays stale.
        ("lock_flow", b"m a v\nstats bogus\r\nshutdown now\r\n"),
        ("lock_flow", b"mD\rEN\nn a C99\x01\x00\x00\x03 q\r&\nmn\x0e"),
        // Removed, and then looked for once more on a run that only looks the same.
        (
            "lock_flow",
            b"lru_craw;ler ;ler \x9d\x8d\x9e\x8cl O a\x00H\xff\xfflru_craw;ler ;ler \x9d\x8d\x9e\x8cl O a\xff\xff\xff\xff\xffll\r\n\xff2l\r\n",
        ),
        // A lock without a record on a server that is spoken to in the classic protocol.
        (
            "lock_flow",
            b"N2147483644 S\xff\xff\xff\xff\xff\xff\xff\x03F\n",
        ),
    ];

    /// The number of generated inputs for each target.
    const MADE_UP: u64 = 3000;

    fn target(name: &str) -> Target {
        let found = TARGETS.iter().find(|target| target.0 == name);
        found.expect("a target of that name").1
    }

    /// The columns of all transcripts from which seeds are made: what `scripts/fuzz` does.
    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus");
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the transcripts") {
            let path = entry.expect("a folder that can be read").path();
            let text = std::fs::read_to_string(path).expect("a transcript");
            for line in text.lines().skip(1) {
                let columns: Vec<&str> = line.split('\t').collect();
                let column = |number: usize| unescape(columns.get(number).copied().unwrap_or(""));
                seeds.push(match name {
                    "reply" | "differential" => column(4),
                    // Each on another server: see the bits in `server`.
                    "server" => {
                        let options = [u8::try_from(seeds.len() % 32).unwrap_or(0), 0];
                        [&options[..], &column(2), &column(3)].concat()
                    }
                    _ => column(3),
                });
            }
        }
        assert!(seeds.len() > 600, "the transcripts are cut short");
        seeds
    }

    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes().iter().copied();
        while let Some(byte) = rest.next() {
            bytes.push(match (byte, byte == b'\\') {
                (_, true) => match rest.next() {
                    Some(b'r') => b'\r',
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'x') => {
                        let digits: Vec<u8> = rest.by_ref().take(2).collect();
                        let digits = String::from_utf8(digits).expect("hex digits");
                        u8::from_str_radix(&digits, 16).expect("hex digits")
                    }
                    other => other.expect("something behind a backslash"),
                },
                (byte, false) => byte,
            });
        }
        bytes
    }

    /// Pieces of which inputs are made up.
    const WORDS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"  ",
        b"\0",
        b"\x80",
        b"0",
        b"1",
        b"10",
        b"-1",
        b"4294967296",
        b"18446744073709551615",
        b"18446744073709551616",
        b"HD",
        b"VA",
        b"EN",
        b"NF",
        b"NS",
        b"EX",
        b"MN",
        b"ME",
        b"VALUE a 0 1",
        b"END",
        b"STAT a b",
        b"STORED",
        b"ERROR",
        b"ERROR:",
        b":",
        b"CLIENT_ERROR",
        b"SERVER_ERROR",
        b"VERSION 1",
        b"OK",
        b"mg a",
        b"ms a 1",
        b"md a",
        b"ma a",
        b"mn",
        b"me a",
        b"get a",
        b"gets a",
        b"gat 1 a",
        b"set a 0 0 1",
        b"add a 0 0 0",
        b"cas a 0 0 1 2",
        b"append a 0 0 1",
        b"incr a 1",
        b"decr a 1",
        b"touch a 1",
        b"delete a",
        b"noreply",
        b"q",
        b"b",
        b"k",
        b"v",
        b"t",
        b"c2",
        b"C2",
        b"E9",
        b"I",
        b"N30",
        b"T0",
        b"Oab",
        b"D1",
        b"J5",
        b"MA",
        b"ME",
        b"MEE",
        b"S1",
        b"x",
        b"flush_all",
        b"stats",
        b"verbosity 1",
        b"quit",
        b"shutdown",
        b"GET / HTTP/1.1",
        b"noreply noreply",
    ];

    /// An input that is a seed with a few changes, or words at random, or noise.
    fn made_up(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(3) {
            match random.below(4) {
                0 | 1 => bytes.extend_from_slice(&seeds[random.below(seeds.len())]),
                2 => {
                    for _ in 0..random.below(24) {
                        bytes.extend_from_slice(WORDS[random.below(WORDS.len())]);
                        bytes.extend_from_slice([&b" "[..], b"", b"\r\n"][random.below(3)]);
                    }
                }
                _ => bytes.extend((0..random.below(80)).map(|_| random.next().to_le_bytes()[5])),
            }
        }
        bytes.truncate(4096);
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() + 1);
            match random.below(4) {
                0 if at < bytes.len() => bytes[at] = random.next().to_le_bytes()[3],
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => {
                    let word = WORDS[random.below(WORDS.len())];
                    bytes.splice(at..at, word.iter().copied());
                }
            }
        }
        bytes
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, limit: usize) -> usize {
            usize::try_from(self.next() >> 20).unwrap_or(0) % limit.max(1)
        }
    }

    /// Runs a target over all that is at hand, and names the input it panics on.
    fn exercise(name: &str) {
        let body = target(name);
        let run = |data: &[u8]| {
            let shown = Shown(name, data);
            body(data);
            core::mem::forget(shown);
        };
        run(b"");
        for (_, data) in REGRESSIONS.iter().filter(|known| known.0 == name) {
            run(data);
        }
        let seeds = seeds(name);
        seeds.iter().for_each(|seed| run(seed));
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..MADE_UP {
            run(&made_up(&seeds, &mut random));
        }
    }

    /// Says on the way out of a panic what caused it.
    struct Shown<'a>(&'a str, &'a [u8]);

    impl Drop for Shown<'_> {
        #[allow(
            clippy::print_stderr,
            reason = "this is what the person who runs the test needs"
        )]
        fn drop(&mut self) {
            std::eprintln!("(\"{}\", b\"{}\"),", self.0, self.1.escape_ascii());
        }
    }

    macro_rules! exercised {
        ($($name:ident)*) => {
            $(
                #[test]
                fn $name() {
                    exercise(stringify!($name));
                }
            )*
            #[test]
            fn every_fuzz_target_is_listed() {
                let names: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
                assert_eq!(names, [$(stringify!($name)),*]);
                for name in names {
                    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
                    // The packaged crate has no `fuzz/`.
                    assert!(!path.exists() || path.join(name).with_extension("rs").exists());
                }
                for (name, _) in REGRESSIONS {
                    target(name);
                }
            }
        };
    }

    exercised!(reply request round_trip pipeline server differential lock_flow);

    #[test]
    fn input_is_read_to_its_end() {
        let mut input = Input::new(b"\x05abcdefgh");
        assert_eq!(input.byte(), 5);
        assert_eq!(input.take(3), b"abc");
        assert!(input.below(7) < 7);
        assert_eq!(input.take(100), b"efgh");
        assert!(input.is_empty());
        assert_eq!((input.byte(), input.number(), input.below(9)), (0, 0, 0));
    }
}
