//! Callers that come, wait and go in any order, over a stream that takes and gives bytes as it
//! likes. A caller is polled when it was woken, so that a wake-up that is missing hangs the test.

mod ends;

use super::state::MAX_FLIGHTS;
use super::*;
use crate::wire::{Flag, Flags, Key, MetaStatus, Reply, ReplyFlag, Request, RequestDecoder};
use bytes::{Buf, BytesMut};
use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::io;
use std::sync::Arc;
use std::task::Wake;
use std::vec;
use std::vec::Vec;
use tokio::io::ReadBuf;

/// The other end of the stream.
#[derive(Debug, Default)]
struct Peer {
    /// The number of bytes that it still accepts, and returns.
    takes: usize,
    gives: usize,
    /// The bytes accepted by a stream that keeps them until it is flushed, as an encrypting one
    /// does; `None` for a stream without such a buffer.
    held: Option<BytesMut>,
    arrived: BytesMut,
    answers: BytesMut,
    closed: bool,
    /// Closed in such a way that reading fails.
    reset: bool,
    /// The numbers asked for by whole requests, in order.
    asked: Vec<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Peer {
    /// Replies to what has arrived, except for the last `kept` replies.
    fn serve(&mut self) {
        loop {
            let mut decoder = RequestDecoder::new(Limits::SERVER);
            let Ok(Some((request, length))) = decoder.decode(&self.arrived) else {
                return;
            };
            match &request {
                Request::MetaGet { key, .. } => {
                    let name = core::str::from_utf8(key.as_bytes()).expect("digits");
                    self.asked.push(name.parse().expect("a number"));
                    self.answers
                        .extend_from_slice(format!("HD k{name}\r\n").as_bytes());
                }
                other => panic!("{other:?}"),
            }
            self.arrived.advance(length);
        }
    }

    /// Lets go of what is held, as far as the other end takes it. Returns whether that is all.
    fn let_go(&mut self) -> bool {
        let Some(held) = &mut self.held else {
            return true;
        };
        let length = self.takes.min(held.len());
        self.takes -= length;
        self.arrived.extend_from_slice(&held.split_to(length));
        self.held.as_ref().is_none_or(BytesMut::is_empty)
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Peer>>);

impl Wire {
    fn peer(&self) -> MutexGuard<'_, Peer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut peer = self.peer();
        let length = peer.gives.min(peer.answers.len()).min(buffer.remaining());
        if length == 0 {
            if peer.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if peer.closed {
                return Poll::Ready(Ok(()));
            }
            peer.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        peer.gives -= length;
        let bytes = peer.answers.split_to(length);
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut peer = self.peer();
        if peer.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        peer.let_go();
        let length = match &peer.held {
            Some(held) => HELD - held.len(),
            None => peer.takes,
        };
        let length = length.min(bytes.len());
        if length == 0 {
            peer.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match &mut peer.held {
            Some(held) => held.extend_from_slice(&bytes[..length]),
            None => {
                peer.takes -= length;
                peer.arrived.extend_from_slice(&bytes[..length]);
            }
        }
        if !peer.let_go() {
            peer.writer = Some(cx.waker().clone());
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut peer = self.peer();
        if peer.let_go() {
            return Poll::Ready(Ok(()));
        }
        peer.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

type Connection = SharedConnection<Wire>;

/// The largest number of bytes held back.
const HELD: usize = 50;

/// As many bytes as are ever written.
const MUCH: usize = 1 << 40;

/// Far beyond what any test takes: time stands still.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Requests a number and returns the reply.
async fn ask(connection: &Connection, number: u64) -> Result<u64, NetError> {
    let flight = connection.begin(true, LIMIT, |flight, _| {
        let name = format!("{number}");
        let key = Key::new(name.as_bytes()).expect("digits");
        let flags = Flags::list(&[Flag::ReturnKey]);
        flight.push(&Request::MetaGet { key, flags });
        Ok::<(), Infallible>(())
    });
    let Begun::InFlight(flight) = flight.await?;
    flight
        .replies(Some(LIMIT), |replies| match replies.next_reply()? {
            Reply::Meta(meta) if meta.status == MetaStatus::Done => {
                let Some(ReplyFlag::Key(key)) = meta.flags.iter().next() else {
                    return Err(DecodeError::UnexpectedReply);
                };
                let name = core::str::from_utf8(key).expect("digits");
                Ok(name.parse().expect("a number"))
            }
            _ => Err(DecodeError::UnexpectedReply),
        })
        .await
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Caller<'a> {
    future: Pin<Box<dyn Future<Output = Result<u64, NetError>> + 'a>>,
    woken: Arc<Woken>,
}

/// Callers of one connection, by the number that each asks for.
struct Crowd<'a> {
    connection: &'a Connection,
    wire: Wire,
    callers: BTreeMap<u64, Caller<'a>>,
    next: u64,
    results: BTreeMap<u64, Result<u64, NetError>>,
}

impl<'a> Crowd<'a> {
    fn new(connection: &'a Connection, wire: &Wire) -> Self {
        Self {
            connection,
            wire: wire.clone(),
            callers: BTreeMap::new(),
            next: 0,
            results: BTreeMap::new(),
        }
    }

    fn come(&mut self) {
        let woken = Arc::new(Woken::default());
        woken.0.store(true, Ordering::Relaxed);
        let caller = Caller {
            future: Box::pin(ask(self.connection, self.next)),
            woken,
        };
        self.callers.insert(self.next, caller);
        self.next += 1;
    }

    /// The number of the caller in this place, counted round.
    fn number(&self, place: usize) -> Option<u64> {
        let count = self.callers.len();
        self.callers.keys().nth(place.checked_rem(count)?).copied()
    }

    fn poll(&mut self, number: u64) {
        let Some(caller) = self.callers.get_mut(&number) else {
            return;
        };
        caller.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&caller.woken));
        let mut cx = Context::from_waker(&waker);
        if let Poll::Ready(result) = caller.future.as_mut().poll(&mut cx) {
            self.callers.remove(&number);
            self.results.insert(number, result);
        }
    }

    fn go(&mut self, number: u64) {
        self.callers.remove(&number);
    }

    /// Polls all woken callers, until none is left.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let woken = self
                .callers
                .iter()
                .find(|(_, caller)| caller.woken.0.load(Ordering::Relaxed));
            let Some((number, _)) = woken else {
                return;
            };
            let number = *number;
            self.poll(number);
        }
        panic!("callers wake each other for ever");
    }

    /// Lets the peer accept, answer and return everything from now on.
    fn settle(&mut self) {
        loop {
            let asked = {
                let mut peer = self.wire.peer();
                peer.takes = MUCH;
                peer.gives = MUCH;
                peer.serve();
                peer.wake();
                peer.asked.len()
            };
            let before = self.results.len();
            self.run();
            self.wire.peer().serve();
            if self.results.len() == before && self.wire.peer().asked.len() == asked {
                return;
            }
        }
    }
}

/// A connection on a runtime whose time stands still.
fn with_connection(test: impl FnOnce(&Connection, &Wire)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let wire = Wire::default();
    let connection = SharedConnection::new(wire.clone(), Limits::LOCK, LIMIT);
    test(&connection, &wire);
}

#[derive(Debug, Clone)]
enum Act {
    Come,
    Poll(usize),
    Run,
    Go(usize),
    Take(usize),
    Serve,
    Give(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Come),
        4 => (0..8usize).prop_map(Act::Poll),
        2 => Just(Act::Run),
        2 => (0..8usize).prop_map(Act::Go),
        2 => (1..40usize).prop_map(Act::Take),
        2 => Just(Act::Serve),
        2 => (1..40usize).prop_map(Act::Give),
    ]
}

fn play(crowd: &mut Crowd<'_>, act: &Act) {
    match act {
        Act::Come => crowd.come(),
        Act::Poll(place) => {
            if let Some(number) = crowd.number(*place) {
                crowd.poll(number);
            }
        }
        Act::Run => crowd.run(),
        Act::Go(place) => {
            if let Some(number) = crowd.number(*place) {
                crowd.go(number);
            }
        }
        Act::Take(bytes) => {
            let mut peer = crowd.wire.peer();
            peer.takes += bytes;
            peer.wake();
        }
        Act::Serve => crowd.wire.peer().serve(),
        Act::Give(bytes) => {
            let mut peer = crowd.wire.peer();
            peer.gives += bytes;
            peer.serve();
            peer.wake();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn each_caller_gets_its_own_reply(
        holds in any::<bool>(),
        acts in prop::collection::vec(act(), 0..60),
    ) {
        with_connection(|connection, wire| {
            wire.peer().held = holds.then(BytesMut::new);
            let mut crowd = Crowd::new(connection, wire);
            for act in &acts {
                play(&mut crowd, act);
            }
            crowd.settle();
            assert!(crowd.callers.is_empty(), "still waiting: {:?}", crowd.callers.keys());
            for (number, result) in &crowd.results {
                assert_eq!(result.as_ref().ok(), Some(number), "{result:?}");
            }
            // Nothing was sent twice.
            let mut asked = wire.peer().asked.clone();
            let count = asked.len();
            asked.sort_unstable();
            asked.dedup();
            assert_eq!(asked.len(), count);
        });
    }

    #[test]
    fn ended_stream_reports_what_was_sent(
        holds in any::<bool>(),
        acts in prop::collection::vec(act(), 0..40),
        later in prop::collection::vec(act(), 0..10),
    ) {
        with_connection(|connection, wire| {
            wire.peer().held = holds.then(BytesMut::new);
            let mut crowd = Crowd::new(connection, wire);
            for act in &acts {
                play(&mut crowd, act);
            }
            {
                let mut peer = wire.peer();
                peer.closed = true;
                peer.gives = MUCH;
                peer.serve();
                peer.wake();
            }
            for act in &later {
                play(&mut crowd, act);
            }
            crowd.run();
            assert!(crowd.callers.is_empty(), "still waiting: {:?}", crowd.callers.keys());
            let (asked, arrived) = {
                let peer = wire.peer();
                (peer.asked.clone(), peer.arrived.clone())
            };
            let partial = core::str::from_utf8(&arrived).expect("a request");
            for (number, result) in &crowd.results {
                match result {
                    Ok(answer) => assert_eq!(answer, number),
                    Err(error) => {
                        let whole = asked.contains(number);
                        let part = partial.starts_with(&format!("mg {number} "));
                        assert!(error.sent || !(whole || part), "{number}: {error:?}");
                    }
                }
            }
            assert!(!is_alive(connection));
        });
    }
}

/// Returns whether the connection is usable, after a check at a time when no caller reads. The
/// driver may leave at any point.
fn is_alive(connection: &SharedConnection<Wire>) -> bool {
    let mut state = connection.state();
    state.look();
    state.pipeline.ended().is_none()
}

#[test]
fn driver_may_leave_at_any_poll() {
    for polls in 0..6 {
        with_connection(|connection, wire| {
            let mut crowd = Crowd::new(connection, wire);
            for _ in 0..3 {
                crowd.come();
            }
            for _ in 0..polls {
                crowd.poll(0);
            }
            crowd.run();
            crowd.go(0);
            crowd.settle();
            let answers: Vec<_> = crowd.results.values().flatten().copied().collect();
            assert_eq!(answers, [1, 2], "after {polls} polls");
        });
    }
}

/// An encrypting stream accepts bytes before it can send them. The driver ensures that they are
/// sent.
#[test]
fn buffered_bytes_leave_when_writable() {
    for goes in [false, true] {
        with_connection(|connection, wire| {
            wire.peer().held = Some(BytesMut::new());
            let mut crowd = Crowd::new(connection, wire);
            wire.peer().takes = MUCH;
            crowd.come();
            crowd.poll(0);
            wire.peer().takes = 0;
            crowd.come();
            crowd.run();
            assert_eq!(wire.peer().arrived, "mg 0 k\r\n");
            assert!(connection.state().pipeline.outgoing().is_empty());
            if goes {
                crowd.go(1);
            }
            {
                let mut peer = wire.peer();
                peer.takes = MUCH;
                let writer = peer.writer.take();
                writer.expect("somebody waits for room").wake();
            }
            crowd.run();
            assert_eq!(wire.peer().arrived, "mg 0 k\r\nmg 1 k\r\n");
        });
    }
}

/// Several callers often arrive together: their requests are sent together.
#[test]
fn concurrent_requests_share_a_write() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        wire.peer().takes = MUCH;
        crowd.come();
        crowd.poll(0);
        assert_eq!(
            wire.peer().arrived,
            "mg 0 k\r\n",
            "alone it is sent at once"
        );
        for number in 1..4 {
            crowd.come();
            crowd.poll(number);
        }
        assert_eq!(
            wire.peer().arrived,
            "mg 0 k\r\n",
            "the others are waited for"
        );
        crowd.poll(1);
        assert_eq!(
            wire.peer().arrived,
            "mg 0 k\r\nmg 1 k\r\nmg 2 k\r\nmg 3 k\r\n"
        );
        crowd.settle();
        assert_eq!(crowd.results.len(), 4);
    });
}

/// A request that was given up before it was sent is never sent.
#[test]
fn cancelled_request_is_never_sent() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        for number in 0..3 {
            crowd.come();
            crowd.poll(number);
        }
        crowd.go(1);
        crowd.settle();
        assert_eq!(wire.peer().asked, [0, 2]);
        assert_eq!(crowd.results.len(), 2);
    });
}

/// A panic in one caller's code is that caller's alone.
#[test]
fn caller_panic_spares_other_callers() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        crowd.come();
        crowd.poll(0);
        let clumsy = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            let mut begun = Box::pin(
                connection.begin(true, LIMIT, |_, _| -> Result<(), ()> { panic!("clumsy") }),
            );
            let _ = begun.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }));
        assert!(clumsy.is_err());
        crowd.come();
        crowd.settle();
        assert_eq!(crowd.results.len(), 2);
        assert!(
            crowd
                .results
                .iter()
                .all(|(n, r)| r.as_ref().ok() == Some(n))
        );
    });
}

/// An error that one caller finds in its replies ends the connection for all immediately: no caller
/// is left waiting, whichever one drives.
#[test]
fn one_callers_error_reaches_all() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        wire.peer().takes = MUCH;
        for number in 0..4 {
            crowd.come();
            crowd.poll(number);
        }
        crowd.run();
        {
            // A flag that no server sends, in a line that is whole.
            let mut peer = wire.peer();
            peer.gives = MUCH;
            peer.answers.extend_from_slice(b"HD k0\r\nHD ?\r\n");
            peer.wake();
        }
        // Another caller drives by the time the second one looks at its reply.
        crowd.poll(0);
        crowd.poll(2);
        crowd.poll(1);
        crowd.run();
        assert!(crowd.callers.is_empty(), "{:?}", crowd.callers.keys());
        let answered: Vec<_> = crowd.results.values().map(Result::is_ok).collect();
        assert_eq!(answered, [true, false, false, false]);
    });
}

/// If there is no room, callers wait for it, and do not lose their turn to callers that leave.
#[test]
fn full_connection_admits_next_when_free() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        let most = MAX_FLIGHTS as u64;
        for number in 0..most + 5 {
            crowd.come();
            crowd.poll(number);
        }
        assert_eq!(connection.state().pipeline.len() as u64, most);
        // One of those that wait for room goes.
        crowd.go(most + 1);
        {
            let mut peer = wire.peer();
            (peer.takes, peer.gives) = (MUCH, MUCH);
            peer.wake();
        }
        while crowd.results.len() < most as usize + 4 {
            wire.peer().serve();
            wire.peer().wake();
            let before = crowd.results.len();
            for number in 0..most + 5 {
                let woken = crowd.callers.get(&number);
                if woken.is_some_and(|caller| caller.woken.0.load(Ordering::Relaxed)) {
                    crowd.poll(number);
                }
            }
            assert!(crowd.results.len() >= before);
            assert!(wire.peer().asked.len() <= most as usize + 5);
        }
        assert!(
            crowd
                .results
                .iter()
                .all(|(n, r)| r.as_ref().ok() == Some(n))
        );
    });
}

/// Replies without a waiting caller do not block the others for ever.
#[test]
fn abandoned_replies_make_room() {
    with_connection(|connection, wire| {
        wire.peer().takes = MUCH;
        let mut crowd = Crowd::new(connection, wire);
        for number in 0..MAX_FLIGHTS as u64 {
            crowd.come();
            crowd.poll(number);
            crowd.poll(number);
        }
        for number in 0..MAX_FLIGHTS as u64 {
            crowd.go(number);
        }
        crowd.come();
        crowd.settle();
        let last = MAX_FLIGHTS as u64;
        assert_eq!(
            crowd.results.get(&last).and_then(|r| r.as_ref().ok()),
            Some(&last)
        );
    });
}

/// A stream that ended while no caller read from it is noticed before anything is sent on it.
#[test]
fn earlier_stream_end_is_noticed() {
    with_connection(|connection, wire| {
        assert!(is_alive(connection));
        wire.peer().closed = true;
        assert!(!is_alive(connection));
        let mut crowd = Crowd::new(connection, wire);
        crowd.come();
        crowd.run();
        assert!(matches!(
            crowd.results.get(&0),
            Some(Err(NetError { sent: false, .. }))
        ));
    });
}

/// Unrequested bytes from a server end the connection.
#[test]
fn unrequested_bytes_end_the_connection() {
    with_connection(|connection, wire| {
        {
            let mut peer = wire.peer();
            peer.gives = MUCH;
            peer.answers
                .extend_from_slice(b"ERROR Too many open connections\r\n");
        }
        assert!(!is_alive(connection));
    });
}
