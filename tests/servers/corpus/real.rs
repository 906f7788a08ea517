//! Requests at the ends of what can be built, sent to the real servers.
//!
//! Whatever a server thinks of one of them: it answers once, in a way that fits, and what comes
//! behind is the next request and nothing else.

use crate::corpus::exchange::{Rules, Told, understand};
use crate::corpus::memcached;
use bytes::BytesMut;
use core::time::Duration;
use memlatch::wire::{
    Automove, ClassIds, CrawlerCommand, Decimal, Flag, Flags, Key, Keys, LruCommand, LruMode,
    MAX_KEY_LENGTH, Mode, Opaque, ReplySyntax, Request, SlabClasses, SlabsCommand, Store,
    StoreVerb,
};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The most flags there can be, with all that a letter can have behind it.
fn flags<'a>(mode: Mode, opaque: Opaque<'a>) -> [Flag<'a>; 15] {
    [
        Flag::Mode(mode),
        Flag::Opaque(opaque),
        Flag::ReturnCas,
        Flag::ReturnTtl,
        Flag::ReturnSize,
        Flag::ReturnKey,
        Flag::ReturnValue,
        Flag::ReturnClientFlags,
        Flag::ReturnLastAccess,
        Flag::ReturnHit,
        Flag::Ttl(i64::MAX),
        Flag::ClientFlags(u32::MAX),
        Flag::CompareCas(u64::MAX),
        Flag::NoBump,
        Flag::Invalidate,
    ]
}

/// Values that a server would obey if it took them for commands.
const VALUES: [&[u8]; 4] = [
    b"",
    b"flush_all\r\nflush_all",
    b"\r\nbogus\r\n",
    b"\n\nms k 3\r\n",
];

fn with_key(key: Key<'_>, mut check: impl FnMut(&Request<'_>)) {
    let opaque = Opaque::new(&[b'o'; 31]).expect("a plain token");
    for value in VALUES {
        for exptime in [i64::MIN, -1, 0, 2_592_001, i64::MAX] {
            for verb in [
                StoreVerb::Set,
                StoreVerb::Add,
                StoreVerb::Replace,
                StoreVerb::Append,
                StoreVerb::Prepend,
                StoreVerb::Cas(u64::MAX),
            ] {
                check(&Request::Store(Store {
                    verb,
                    key,
                    client_flags: u32::MAX,
                    exptime,
                    value,
                    noreply: false,
                }));
            }
            check(&Request::Touch {
                key,
                exptime,
                noreply: false,
            });
            check(&Request::GetAndTouch {
                with_cas: true,
                exptime,
                keys: Keys::list(&[key, key]),
            });
        }
        for mode in [Mode::Add, Mode::Append, Mode::Replace, Mode::Set] {
            for length in [0, 1, 15] {
                check(&Request::MetaSet {
                    key,
                    flags: Flags::list(&flags(mode, opaque)[..length]),
                    value,
                });
            }
        }
    }
    for length in [0, 1, 15] {
        let all = flags(Mode::Increment, opaque);
        let flags = Flags::list(&all[..length]);
        check(&Request::MetaGet { key, flags });
        check(&Request::MetaDelete { key, flags });
        check(&Request::MetaArithmetic { key, flags });
    }
    for add in [false, true] {
        check(&Request::Arithmetic {
            add,
            key,
            delta: u64::MAX,
            noreply: false,
        });
    }
    check(&Request::Delete {
        key,
        noreply: false,
    });
    check(&Request::MetaDebug { key, base64: true });
    check(&Request::Stats {
        group: Keys::list(&[key]),
    });
}

/// But for those that end the server, or that a release in the field dies of.
fn of_administrators(mut check: impl FnMut(&Request<'_>)) {
    let decimal = |number| Decimal::new(number).expect("finite");
    for number in [-1.0, 0.25, f64::MAX] {
        check(&Request::Slabs(SlabsCommand::Automove {
            setting: Automove::Ratio(decimal(number)),
            noreply: false,
        }));
        check(&Request::Lru {
            command: LruCommand::Tune {
                hot_percent: 20,
                warm_percent: 60,
                hot_factor: decimal(number),
                warm_factor: decimal(2.0),
            },
            noreply: false,
        });
    }
    for command in [
        LruCommand::Mode(LruMode::Flat),
        LruCommand::Mode(LruMode::Segmented),
        LruCommand::TemporaryTtl(i32::MAX),
        LruCommand::TemporaryTtl(i32::MIN),
    ] {
        check(&Request::Lru {
            command,
            noreply: false,
        });
    }
    // A dump that is asked for while the crawler is still at something may never be answered, so
    // that here nothing is crawled but what is dumped.
    let none = SlabClasses::Some(ClassIds::list(&[255]));
    check(&Request::LruCrawler(CrawlerCommand::Crawl(none)));
    for classes in [none, SlabClasses::Hash] {
        check(&Request::LruCrawler(CrawlerCommand::Metadump(classes)));
        check(&Request::LruCrawler(CrawlerCommand::Mgdump(classes)));
    }
    for setting in [Automove::Off, Automove::On, Automove::Window(60)] {
        check(&Request::Slabs(SlabsCommand::Automove {
            setting,
            noreply: false,
        }));
    }
    check(&Request::Slabs(SlabsCommand::Reassign {
        source: 1,
        destination: 2,
    }));
    check(&Request::RefreshCerts);
    check(&Request::Verbosity {
        level: 0,
        noreply: false,
    });
    check(&Request::FlushAll {
        delay: Some(-1),
        noreply: false,
    });
}

/// What a server says to this, until something says that it was all.
fn ask(stream: &mut TcpStream, bytes: &[u8], is_all: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    stream.write_all(bytes).expect("a server");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !is_all(&answer) {
        let length = stream.read(&mut chunk).unwrap_or(0);
        let before = answer.escape_ascii();
        assert!(
            length > 0,
            "no more than {before} for {}",
            bytes.escape_ascii()
        );
        answer.extend_from_slice(&chunk[..length]);
    }
    answer
}

fn connect(server: &memcached::RealServer) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("a server");
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).expect("a time limit");
    stream
}

#[test]
fn buildable_request_is_one_command() {
    let long = [b'k'; MAX_KEY_LENGTH];
    let high: Vec<u8> = (0x80..=0xff).collect();
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let mut stream = connect(&server);
        let mut asked = 0;
        let mut check = |request: &Request<'_>| {
            asked += 1;
            let mut bytes = BytesMut::new();
            request.encode(&mut bytes);
            let mut told = vec![Told::Request(*request, b"")];
            let answer = if request.grammar() == ReplySyntax::Replies {
                told.push(Told::Request(Request::MetaNoop, b""));
                bytes.extend_from_slice(b"mn\r\n");
                ask(&mut stream, &bytes, |answer| answer.ends_with(b"MN\r\n"))
            } else {
                std::thread::sleep(Duration::from_millis(50));
                // One that ends with its first line says so, one that does not with its last.
                ask(&mut connect(&server), &bytes, |mut answer| {
                    while let Some(rest) = answer.strip_prefix(b"OK\r\n") {
                        answer = rest;
                    }
                    answer.ends_with(b"\r\n")
                })
            };
            let rules = Rules {
                as_the_parser: true,
                password: false,
            };
            if let Err(why) = understand(&told, &answer, answer.len(), rules) {
                let answer = answer.escape_ascii();
                panic!("{}: {why}: {answer} for {request:?}", binary.version);
            }
        };
        for key in [
            &b"L"[..],
            &long,
            &high,
            b"HTTP/1.1",
            b"noreply2",
            b"\xc3\xb6",
        ] {
            with_key(Key::new(key).expect("a plain key"), &mut check);
        }
        of_administrators(&mut check);
        assert!(asked > 1000, "{asked}");
    }
}
