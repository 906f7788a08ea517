//! The measured cases, shared by `benches/codec.rs` (nanoseconds),
//! `scripts/instructions` and `tests/allocations.rs` (allocations).
//!
//! Keys and records are as long as those of real locks: 21 and 82 bytes; CAS uniques have ten
//! digits.

use bytes::BytesMut;
use core::hint::black_box;
use core::time::Duration;
use memlatch::proto::{
    AcquireOutcome, AcquireRequest as LockRequest, Action, Capabilities, Grant, HolderRecord,
    InstanceWord, Instant, Lease, LockKeys, Namespace, Nonce, Now, Operation, Owner, Protocol,
    Record, RecordAcquire, Release, ReleaseStatus, Renew, RenewOutcome, SampleClock, ServerClock,
    ServerInstance, ServerState, WaitPolicy, is_ours,
};
use memlatch::wire::{
    Flag, Flags, Flight, FlightDecoder, Key, Keys, Limits, Prepared, PreparedStore, Replies, Reply,
    ReplyDecoder, Request, RequestDecoder, Store, StoreVerb,
};

/// Does something with each case.
pub(crate) trait Runner {
    /// `name` is `what/case`; `body` does it once and may be called any number of times.
    fn case(&mut self, name: &'static str, body: impl FnMut());
}

const KEY: &[u8] = b"memlatch:lock:jobs/42";
const FENCE: &[u8] = b"memlatch:fence:jobs/42";
const SENTINEL: &[u8] = b"memlatch:sentinel";
const CAS: u64 = 1_234_567_890;
/// The server's second.
const SECOND: u64 = 1_795_337_329;
const EXPIRY: u64 = SECOND + 13;
const SEED: u64 = SECOND * 1_000_000_000;
const RECORD: &[u8] =
    b"m1 0123456789abcdef0011223344556677 10000 1795337329 4711 worker-7 nightly%20import";

/// Every case there is.
pub(crate) fn all(runner: &mut impl Runner) {
    encode(runner);
    encode_flights(runner);
    encode_prepared(runner);
    decode(runner);
    parse(runner);
    lock(runner, "meta", Protocol::Meta);
    lock(runner, "classic", Protocol::Classic);
    record(runner);
}

fn key(bytes: &[u8]) -> Key<'_> {
    Key::new(bytes).expect("a plain key")
}

fn add<'a>(key: Key<'a>, value: &'a [u8]) -> Request<'a> {
    Request::Store(Store {
        verb: StoreVerb::Add,
        key,
        client_flags: 0,
        exptime: EXPIRY as i64,
        value,
        noreply: false,
    })
}

const LOOK: &[Flag<'static>] = &[Flag::ReturnTtl, Flag::ReturnCas, Flag::ReturnValue];
const SENTINEL_FLAGS: &[Flag<'static>] = &[
    Flag::NoBump,
    Flag::ReturnTtl,
    Flag::ReturnLastAccess,
    Flag::ReturnValue,
];
const FENCE_FLAGS: &[Flag<'static>] = &[
    Flag::Vivify(86_400),
    Flag::Initial(SEED),
    Flag::Delta(1),
    Flag::ReturnValue,
];
const RELEASE: &[Flag<'static>] = &[Flag::CompareCas(CAS)];
const RENEW: &[Flag<'static>] = &[
    Flag::CompareCas(CAS),
    Flag::Invalidate,
    Flag::Ttl(EXPIRY as i64),
    Flag::ExplicitCas(CAS),
];

/// The four requests that acquire.
fn acquire_requests() -> [Request<'static>; 4] {
    [
        add(key(KEY), RECORD),
        Request::MetaGet {
            key: key(KEY),
            flags: Flags::list(LOOK),
        },
        Request::MetaArithmetic {
            key: key(FENCE),
            flags: Flags::list(FENCE_FLAGS),
        },
        Request::MetaGet {
            key: key(SENTINEL),
            flags: Flags::list(SENTINEL_FLAGS),
        },
    ]
}

fn release_request() -> Request<'static> {
    Request::MetaDelete {
        key: key(KEY),
        flags: Flags::list(RELEASE),
    }
}

fn renew_request() -> Request<'static> {
    Request::MetaDelete {
        key: key(KEY),
        flags: Flags::list(RENEW),
    }
}

fn classic_release() -> Request<'static> {
    Request::Store(Store {
        verb: StoreVerb::Cas(CAS),
        key: key(KEY),
        client_flags: 0,
        exptime: 2_592_001,
        value: b"",
        noreply: false,
    })
}

/// One request each, from typed request to bytes.
fn encode(runner: &mut impl Runner) {
    let [add_record, look, fence, sentinel] = acquire_requests();
    let gets = [key(KEY)];
    let gets = Request::Get {
        with_cas: true,
        keys: Keys::list(&gets),
    };
    let mut out = BytesMut::with_capacity(1024);
    runner.case("encode/from-parts", || {
        out.clear();
        let key = Key::new(black_box(KEY)).expect("a plain key");
        add(key, black_box(b"0123456789abcdef")).encode(&mut out);
        black_box(&out);
    });
    for (name, request) in [
        ("encode/add", &add_record),
        ("encode/look", &look),
        ("encode/fence", &fence),
        ("encode/sentinel", &sentinel),
        ("encode/release", &release_request()),
        ("encode/renew", &renew_request()),
        ("encode/gets", &gets),
        ("encode/classic-release", &classic_release()),
    ] {
        runner.case(name, || {
            out.clear();
            black_box(request).encode(&mut out);
            black_box(&out);
        });
    }
}

/// The same through a [`Flight`], which also notes what replies will come.
fn encode_flights(runner: &mut impl Runner) {
    let acquire = acquire_requests();
    let renew = [renew_request(), acquire[1], acquire[3]];
    let release = [release_request()];
    let mut flight = Flight::new();
    for (name, requests) in [
        ("encode/acquire-flight", &acquire[..]),
        ("encode/renew-flight", &renew),
        ("encode/release-flight", &release),
    ] {
        runner.case(name, || {
            flight.clear();
            for request in black_box(requests) {
                flight.push(request);
            }
            black_box(&flight);
        });
    }
}

/// The same from requests that were written beforehand, as the lock does it.
fn encode_prepared(runner: &mut impl Runner) {
    let [_, look, fence, sentinel] = acquire_requests();
    let store = Store {
        verb: StoreVerb::Add,
        key: key(KEY),
        client_flags: 0,
        exptime: 0,
        value: b"",
        noreply: false,
    };
    let mut room = BytesMut::new();
    let add = PreparedStore::new(&store, &mut room).expect("an `add`");
    let rest = Prepared::new(&[look, fence, sentinel], [b'J'], &mut room).expect("a seed");
    let poll = Prepared::new(&[look], [], &mut room).expect("a look");
    let release = Prepared::new(&[release_request()], [b'C'], &mut room).expect("a CAS unique");
    let mut flight = Flight::new();
    runner.case("prepared/acquire", || {
        flight.clear();
        flight.push_prepared_store(black_box(&add), EXPIRY as i64, black_box(RECORD));
        flight.push_prepared(black_box(&rest), [black_box(SEED)]);
        black_box(&flight);
    });
    runner.case("prepared/look", || {
        flight.clear();
        flight.push_prepared(black_box(&poll), []);
        black_box(&flight);
    });
    runner.case("prepared/release", || {
        flight.clear();
        flight.push_prepared(black_box(&release), [black_box(CAS)]);
        black_box(&flight);
    });
}

/// The replies to [`acquire_requests`], as the server sends them.
fn acquire_replies() -> Vec<u8> {
    let mut bytes = Vec::from(b"STORED\r\n");
    bytes.extend_from_slice(&va_record());
    bytes.extend_from_slice(b"VA 19 t86300\r\n1795337329000000001\r\n");
    bytes.extend_from_slice(b"VA 10 t350579471\r\n1795330000\r\n");
    bytes
}

/// The record of the holder, with the seconds left and the CAS unique.
fn va_record() -> Vec<u8> {
    let mut bytes = format!("VA {} t13 c{CAS}\r\n", RECORD.len()).into_bytes();
    bytes.extend_from_slice(RECORD);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Replies, from bytes to typed reply, and where a caller wants it the CAS unique out of that.
fn decode(runner: &mut impl Runner) {
    let va_record = va_record();
    let acquire = acquire_replies();
    let look = &acquire[..b"STORED\r\n".len() + va_record.len()];
    for (name, bytes) in [
        ("decode/hd", &b"HD\r\n"[..]),
        ("decode/hd-cas", b"HD c1234567890\r\n"),
        ("decode/hd-cas-ttl", b"HD c1234567890 t30\r\n"),
        (
            "decode/va-16",
            b"VA 16 t30 c1234567890\r\n0123456789abcdef\r\n",
        ),
        ("decode/va-record", &va_record),
        ("decode/stored", b"STORED\r\n"),
        ("decode/not-stored", b"NOT_STORED\r\n"),
        ("decode/en", b"EN\r\n"),
        ("decode/ns", b"NS\r\n"),
        ("decode/ex", b"EX\r\n"),
        ("decode/nf", b"NF\r\n"),
        ("decode/mn", b"MN\r\n"),
        ("decode/number", b"1795337329000000001\r\n"),
        ("decode/stat", b"STAT uptime 12345\r\n"),
        (
            "decode/error",
            b"SERVER_ERROR out of memory storing object\r\n",
        ),
    ] {
        runner.case(name, || {
            let mut decoder = ReplyDecoder::new(Limits::LOCK);
            black_box(decoder.decode(black_box(bytes)).expect("well formed"));
        });
    }
    runner.case("decode/half-line", || {
        let mut decoder = ReplyDecoder::new(Limits::LOCK);
        black_box(decoder.decode(black_box(b"HD c12345")).expect("no error"));
    });
    runner.case("decode/half-value", || {
        let mut decoder = ReplyDecoder::new(Limits::LOCK);
        let half = black_box(&b"VA 16 t30 c1234567890\r\n01234567"[..]);
        black_box(decoder.decode(half).expect("no error"));
        black_box(decoder.decode(half).expect("no error"));
    });
    runner.case("decode/hd-cas-read", || {
        let mut decoder = ReplyDecoder::new(Limits::LOCK);
        let decoded = decoder.decode(black_box(b"HD c1234567890\r\n"));
        if let Ok(Some((Reply::Meta(meta), _))) = decoded {
            black_box(meta.flags.cas());
        }
    });
    for (name, bytes) in [
        (
            "decode/value-end",
            &b"VALUE memlatch:lock:jobs/42 0 16 1234567890\r\n0123456789abcdef\r\nEND\r\n"[..],
        ),
        ("decode/stored-va-record", look),
        ("decode/acquire-replies", &acquire),
    ] {
        runner.case(name, || {
            let mut decoder = ReplyDecoder::new(Limits::LOCK);
            let mut rest = black_box(bytes);
            while let Some((reply, length)) = decoder.decode(rest).expect("well formed") {
                black_box(reply);
                rest = &rest[length..];
            }
        });
    }
    // As the APIs do it: once to see that all are there, once to read them.
    let mut flight = Flight::new();
    acquire_requests()
        .iter()
        .for_each(|request| flight.push(request));
    runner.case("decode/acquire-flight", || {
        let mut decoder = FlightDecoder::new(Limits::LOCK);
        let bytes = black_box(&acquire[..]);
        black_box(
            decoder
                .advance(flight.shapes(), bytes)
                .expect("well formed"),
        );
        let mut replies = Replies::new(bytes);
        for _ in 0..4 {
            black_box(replies.next_reply().expect("well formed"));
        }
    });
}

/// Requests, as the embedded server reads them.
fn parse(runner: &mut impl Runner) {
    let [add, look, fence, sentinel] = acquire_requests();
    let bytes = |requests: &[Request<'_>]| {
        let mut out = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut out));
        out
    };
    for (name, bytes) in [
        ("parse/add", bytes(&[add])),
        ("parse/look", bytes(&[look])),
        ("parse/fence", bytes(&[fence])),
        ("parse/sentinel", bytes(&[sentinel])),
        ("parse/release", bytes(&[release_request()])),
        ("parse/renew", bytes(&[renew_request()])),
        ("parse/classic-release", bytes(&[classic_release()])),
        ("parse/acquire-flight", bytes(&[add, look, fence, sentinel])),
    ] {
        runner.case(name, || {
            let mut decoder = RequestDecoder::new(Limits::SERVER);
            let mut rest = black_box(&bytes[..]);
            while let Some((request, length)) = decoder.decode(rest).expect("well formed") {
                black_box(request);
                rest = &rest[length..];
            }
        });
    }
}

const NONCE: [u8; 16] = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
];

const SENTINEL_VALUE: &str = "s1 ready 1795240000 00000000000000aa 7 1795237329 -";

/// The record of another client.
const THEIRS: &[u8] =
    b"m1 fedcba98765432100011223344556677 10000 1795337320 815 worker-8 nightly%20import";

fn owner() -> Owner {
    Owner::new("worker-7", 4711, "nightly import")
}

fn lease() -> Lease {
    Lease::new(Duration::from_secs(10)).expect("in range")
}

/// A lock on a server whose clock has been read just now.
struct Site {
    namespace: Namespace,
    keys: LockKeys,
    owner: Owner,
    view: ServerState,
    now: Now,
    received: Instant,
}

impl Site {
    fn new(protocol: Protocol) -> Self {
        let now = Now {
            monotonic: Instant::from_nanos(5_000_000_000),
            unix_seconds: SECOND,
        };
        let received = Instant::from_nanos(5_000_100_000);
        let mut clock = ServerClock::new();
        clock.observe(SECOND, now.monotonic, received);
        let namespace = Namespace::new("memlatch:").expect("a plain prefix");
        let incarnation = ServerInstance {
            pid: 7,
            started: SECOND - 100_000,
            word: InstanceWord::from_bits(0xaa),
        };
        let capabilities = Capabilities {
            protocol,
            explicit_cas: true,
        };
        let mut view = ServerState::new(incarnation, capabilities, clock);
        // The server has an old sentinel, which a client sees when it connects.
        let mut read = SampleClock::new(&namespace, lease());
        let answer = Answers::new(protocol).clock;
        let step = exchange(
            &mut read,
            &mut view,
            (now, received),
            &mut Flight::new(),
            &answer,
        );
        assert_eq!(step, Action::Done(Ok(())));
        Self {
            keys: namespace.keys(b"jobs/42").expect("a plain name"),
            namespace,
            owner: owner(),
            view,
            now,
            received,
        }
    }

    fn request(&self) -> LockRequest<'_> {
        LockRequest {
            namespace: &self.namespace,
            keys: &self.keys,
            owner: &self.owner,
            lease: lease(),
            fencing: true,
            report_holder: true,
            without_record: false,
            min_memory: Some(lease()),
            wait: WaitPolicy::Try,
            retry_timeout: Duration::from_secs(1),
        }
    }

    fn acquire(&self) -> RecordAcquire<'_> {
        RecordAcquire::new(self.request(), Nonce::from_random(NONCE))
    }
}

/// Sends and answers one flight, as an API does: both passes over the replies included.
fn exchange<O: Operation>(
    operation: &mut O,
    view: &mut ServerState,
    (now, received): (Now, Instant),
    flight: &mut Flight,
    answer: &[u8],
) -> Action<O::Outcome> {
    flight.clear();
    if let Err(outcome) = operation.poll_transmit(view, now, flight) {
        return Action::Done(outcome);
    }
    black_box(flight.bytes());
    let answer = black_box(answer);
    let mut decoder = FlightDecoder::new(Limits::LOCK);
    let length = decoder.advance(flight.shapes(), answer);
    assert_eq!(length, Ok(Some(answer.len())));
    operation
        .handle_replies(view, &mut Replies::new(answer), now.monotonic, received)
        .expect("replies that fit")
}

/// The answers of a server, in one protocol.
struct Answers {
    granted: Vec<u8>,
    refused: Vec<u8>,
    look: Vec<u8>,
    released: Vec<u8>,
    renewed: Vec<u8>,
    clock: Vec<u8>,
}

impl Answers {
    fn new(protocol: Protocol) -> Self {
        let stats = format!(
            "STAT pid 7\r\nSTAT uptime 100000\r\nSTAT time {SECOND}\r\nSTAT cmd_flush 0\r\nEND\r\n"
        );
        let settings = "STAT oldest 0\r\nSTAT memory_file (null)\r\nEND\r\n";
        let (item, fence, sentinel): (fn(&[u8]) -> String, _, _) = match protocol {
            Protocol::Meta => (
                |value| format!("VA {} t13 c{CAS}\r\n{}\r\n", value.len(), text(value)),
                "VA 19 t86300\r\n1795337329000000001\r\n",
                format!(
                    "VA {} t352146318 l90000\r\n{SENTINEL_VALUE}\r\n",
                    SENTINEL_VALUE.len()
                ),
            ),
            _ => (
                |value| {
                    let (key, value) = (text(KEY), text(value));
                    format!("VALUE {key} 0 {} {CAS}\r\n{value}\r\nEND\r\n", value.len())
                },
                "NOT_STORED\r\n1795337329000000001\r\n",
                format!(
                    "VALUE {} 0 {} 7\r\n{SENTINEL_VALUE}\r\nEND\r\n{stats}",
                    text(SENTINEL),
                    SENTINEL_VALUE.len()
                ),
            ),
        };
        let (ours, theirs) = (item(RECORD), item(THEIRS));
        let done = match protocol {
            Protocol::Meta => "HD\r\n",
            _ => "STORED\r\n",
        };
        Self {
            granted: format!("STORED\r\n{ours}{fence}{sentinel}").into(),
            refused: format!("NOT_STORED\r\n{theirs}{fence}{sentinel}").into(),
            look: theirs.into(),
            released: done.into(),
            renewed: format!("{done}{ours}{sentinel}").into(),
            clock: match protocol {
                Protocol::Meta => format!("VA 5 c8\r\n10000\r\n{sentinel}{stats}{settings}"),
                _ => {
                    format!("VALUE memlatch:longest 0 5 8\r\n10000\r\nEND\r\n{sentinel}{settings}")
                }
            }
            .into(),
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).expect("ASCII")
}

/// The operations of a lock, from the caller's wish to bytes and from bytes to the outcome.
fn lock(runner: &mut impl Runner, name: &'static str, protocol: Protocol) {
    let meta = name == "meta";
    let pick = |a: &'static str, b: &'static str| if meta { a } else { b };
    let site = Site::new(protocol);
    let mut view = site.view.clone();
    let at = (site.now, site.received);
    let answers = Answers::new(protocol);
    let mut flight = Flight::new();

    let granted = exchange(
        &mut site.acquire(),
        &mut view,
        at,
        &mut flight,
        &answers.granted,
    );
    let Action::Done(AcquireOutcome::Granted(grant)) = granted else {
        panic!("not granted: {granted:?}");
    };
    let grant: Grant = grant;

    runner.case(
        pick("lock/acquire-send", "lock/classic-acquire-send"),
        || {
            flight.clear();
            let mut acquire = black_box(&site).acquire();
            acquire
                .poll_transmit(&view, site.now, &mut flight)
                .expect("something to send");
            black_box((&acquire, flight.bytes()));
        },
    );
    runner.case(
        pick("lock/acquire-granted", "lock/classic-acquire-granted"),
        || {
            let mut acquire = black_box(&site).acquire();
            let step = exchange(&mut acquire, &mut view, at, &mut flight, &answers.granted);
            assert!(matches!(step, Action::Done(AcquireOutcome::Granted(_))));
            let _ = black_box(step);
        },
    );
    runner.case(
        pick("lock/acquire-refused", "lock/classic-acquire-refused"),
        || {
            let mut acquire = black_box(&site).acquire();
            let step = exchange(&mut acquire, &mut view, at, &mut flight, &answers.refused);
            assert!(matches!(step, Action::Done(AcquireOutcome::Contended(_))));
            let _ = black_box(step);
        },
    );
    if meta {
        runner.case("lock/keys", || {
            black_box(site.namespace.keys(black_box(b"jobs/42"))).expect("a plain name");
        });
    }
    let mut waiting = RecordAcquire::new(
        LockRequest {
            wait: WaitPolicy::Forever,
            ..site.request()
        },
        Nonce::from_random(NONCE),
    );
    let step = exchange(&mut waiting, &mut view, at, &mut flight, &answers.refused);
    assert!(matches!(step, Action::Sleep { .. }));
    // One more poll of a lock that is still held by the same holder.
    runner.case(pick("lock/poll", "lock/classic-poll"), || {
        let step = exchange(&mut waiting, &mut view, at, &mut flight, &answers.look);
        assert!(matches!(step, Action::Sleep { .. }));
        let _ = black_box(step);
    });
    runner.case(pick("lock/renew", "lock/classic-renew"), || {
        let mut renew = Renew::new(&site.namespace, &site.keys, &grant, lease(), CAS);
        let step = exchange(&mut renew, &mut view, at, &mut flight, &answers.renewed);
        assert!(matches!(step, Action::Done(RenewOutcome::Renewed { .. })));
        let _ = black_box(step);
    });
    runner.case(pick("lock/release", "lock/classic-release"), || {
        let mut release = Release::new(&site.keys, &grant, CAS, site.received);
        let step = exchange(&mut release, &mut view, at, &mut flight, &answers.released);
        assert!(matches!(step, Action::Done(ReleaseStatus::Released)));
        let _ = black_box(step);
    });
}

/// The record of the holder.
fn record(runner: &mut impl Runner) {
    let owner = owner();
    let nonce = Nonce::from_random(NONCE);
    runner.case("record/new", || {
        let ten = Duration::from_secs(10);
        black_box(Record::new(
            black_box(nonce),
            ten,
            SECOND,
            black_box(&owner),
        ));
    });
    runner.case("record/is-ours", || {
        assert!(is_ours(black_box(RECORD), black_box(nonce)));
    });
    runner.case("record/parse", || {
        black_box(HolderRecord::parse(black_box(RECORD)));
    });
}
