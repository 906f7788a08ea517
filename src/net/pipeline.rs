//! The pairing of replies with requests on one connection, without I/O.
//!
//! Flights of many callers are sent one after the other; their replies arrive in the same order, in
//! pieces of any size. A caller may leave at any time. One caller must never get the reply of
//! another, so:
//!
//! - a flight that was sent is paired with its replies whether or not its caller is still there;
//! - a flight of which nothing was sent is removed when its caller leaves;
//! - after the first byte that cannot be attributed, no byte is: every flight that was sent, even
//!   in part, has an unknown outcome.

use crate::wire::{DecodeError, Flight, FlightDecoder, Limits, Replies, ReplyCount};
use bytes::{Buf, BytesMut};
use core::fmt;
use std::collections::VecDeque;
use std::vec::Vec;

/// The most replies to one flight, in bytes.
const MAX_REPLIES: usize = 64 * 1024;

/// The identifier of a flight, held by its caller while the flight is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlightId(u64);

/// The state or outcome of a flight.
#[derive(Debug)]
pub enum FlightStatus<'a> {
    /// Its replies are not all there yet.
    Pending,
    /// Its replies.
    Answered(Replies<'a>),
    /// The connection ended before a byte of it was sent.
    NotSent,
    /// The connection ended when at least a part of it was sent and its replies were not all
    /// there.
    Unknown,
}

/// The reason for which a pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipelineError {
    /// The stream ended.
    Closed,
    /// The server sent something that is no reply to what is in flight.
    Decode(DecodeError),
    /// The server sent something although nothing was in flight.
    Unasked,
    /// The replies to one flight are larger than any flight's may be.
    TooMuch,
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Decode(error) => error.fmt(f),
            Self::Unasked => f.write_str("the server sent something unasked"),
            Self::TooMuch => f.write_str("the server sent more than any answer needs"),
        }
    }
}

impl core::error::Error for PipelineError {}

/// The reason for which a flight is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many flights are under way as the pipeline takes.
    Full,
    /// The pipeline has ended.
    Ended,
    /// The end of this flight's replies cannot be recognised: it has no reply at all, or requests
    /// with `q` and no `mn` after them.
    Unanswerable,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many requests are under way on this connection",
            Self::Ended => "the connection has ended",
            Self::Unanswerable => "the end of the replies to this flight cannot be told",
        })
    }
}

impl core::error::Error for SubmitError {}

#[derive(Debug, Default)]
struct Slot {
    shapes: Vec<ReplyCount>,
    /// The start of its bytes in the stream of all submitted bytes.
    begin: u64,
    end: u64,
    /// The end of its last request with a reply. `begin` <= `asked` <= `end`.
    asked: u64,
    /// The replies, once `answered`.
    replies: BytesMut,
    answered: bool,
    /// No caller waits for it any more.
    abandoned: bool,
}

/// Pairs replies with flights.
///
/// The driver writes [`outgoing`](Self::outgoing), reports how many bytes were accepted
/// ([`sent`](Self::sent)), passes in the bytes it read ([`received`](Self::received)), and reports
/// the end of the stream ([`end`](Self::end)). The order of these calls depends only on the driver
/// and the network.
pub struct Pipeline {
    limits: Limits,
    most: usize,
    /// Submitted and not sent. Its first byte is number `sent` of all bytes.
    outgoing: BytesMut,
    sent: u64,
    /// Received bytes that are not yet attributed: the replies of slot number `answered`, as far as
    /// they have arrived.
    input: BytesMut,
    decoder: FlightDecoder,
    /// Flights whose callers have not come back yet, oldest first.
    slots: VecDeque<Slot>,
    /// The id of the first slot.
    first: u64,
    /// The number of slots with all their replies. 0 <= `answered` <= slots; they precede all
    /// others.
    answered: usize,
    /// Slots to be used again, with their memory.
    spare: Vec<Slot>,
    ended: Option<PipelineError>,
}

/// Does not show the outgoing bytes: they may contain a password.
impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("flights", &self.slots.len())
            .field("answered", &self.answered)
            .field("unsent", &self.outgoing.len())
            .field("undecoded", &self.input.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A pipeline for a fresh connection, which takes at most `most` flights at a time and
    /// replies within these limits.
    #[must_use]
    pub fn new(limits: Limits, most: usize) -> Self {
        Self {
            limits,
            most,
            outgoing: BytesMut::new(),
            sent: 0,
            input: BytesMut::new(),
            decoder: FlightDecoder::new(limits),
            slots: VecDeque::new(),
            first: 0,
            answered: 0,
            spare: Vec::new(),
            ended: None,
        }
    }

    /// Adds a flight after all others.
    ///
    /// # Errors
    /// See [`SubmitError`]; the flight was not added then.
    pub fn submit(&mut self, flight: &Flight) -> Result<FlightId, SubmitError> {
        if self.ended.is_some() {
            return Err(SubmitError::Ended);
        }
        if flight.shapes().is_empty() || !flight.is_answerable() {
            return Err(SubmitError::Unanswerable);
        }
        if self.is_full() {
            return Err(SubmitError::Full);
        }
        let mut slot = self.spare.pop().unwrap_or_default();
        slot.shapes.clear();
        slot.shapes.extend_from_slice(flight.shapes());
        slot.replies.clear();
        slot.answered = false;
        slot.abandoned = false;
        slot.begin = self.sent + self.outgoing.len() as u64;
        self.outgoing.extend_from_slice(flight.bytes());
        slot.end = self.sent + self.outgoing.len() as u64;
        slot.asked = slot.begin + flight.asked() as u64;
        self.slots.push_back(slot);
        Ok(FlightId(self.first + self.slots.len() as u64 - 1))
    }

    /// Removes the caller of a flight, with or without its replies.
    ///
    /// A flight of which nothing was sent is not sent any more; returns whether that is so. The
    /// replies to any other flight are consumed when they arrive, and discarded. Flights that were
    /// abandoned before are ignored.
    pub fn abandon(&mut self, id: FlightId) -> bool {
        let Some(place) = self.place(id) else {
            return false;
        };
        let slot = &mut self.slots[place];
        if slot.abandoned {
            return false;
        }
        slot.abandoned = true;
        let unsent = slot.begin >= self.sent && !slot.answered;
        if unsent {
            self.withdraw(place);
        }
        self.sweep();
        unsent
    }

    /// Takes the bytes of an unsent flight out of those to be sent.
    fn withdraw(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        let length = slot.end - slot.begin;
        let from = usize::try_from(slot.begin - self.sent).unwrap_or(usize::MAX);
        let to = usize::try_from(slot.end - self.sent).unwrap_or(usize::MAX);
        // An empty flight has no replies; its slot completes in its turn.
        slot.end = slot.begin;
        slot.asked = slot.begin;
        slot.shapes.clear();
        self.outgoing.copy_within(to.., from);
        self.outgoing.truncate(self.outgoing.len() - (to - from));
        for later in self.slots.range_mut(place + 1..) {
            later.begin -= length;
            later.end -= length;
            later.asked -= length;
        }
        // It may stand where the next replies are looked for.
        self.pass_empty();
    }

    /// The bytes to be sent next.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        if self.ended.is_some() {
            return &[];
        }
        &self.outgoing
    }

    /// The first `length` bytes of [`outgoing`](Self::outgoing) were sent.
    pub fn sent(&mut self, length: usize) {
        let length = length.min(self.outgoing.len());
        self.outgoing.advance(length);
        self.sent += length as u64;
    }

    /// Accepts bytes from the server. Returns the number of flights that they completed.
    ///
    /// # Errors
    /// The bytes are no replies to the outstanding flights; the pipeline has ended and the
    /// connection must be closed. Flights that were complete before keep their replies.
    pub fn received(&mut self, bytes: &[u8]) -> Result<usize, PipelineError> {
        if let Some(end) = self.ended {
            return Err(end);
        }
        self.input.extend_from_slice(bytes);
        let before = self.answered;
        loop {
            self.pass_empty();
            let Some(slot) = self.slots.get_mut(self.answered) else {
                break;
            };
            // A flight of which nothing was sent can have no reply.
            if slot.begin >= self.sent && !self.input.is_empty() {
                return Err(self.fail(PipelineError::Unasked));
            }
            let length = match self.decoder.advance(&slot.shapes, &self.input) {
                // Nor can the last request be, before it was sent.
                Ok(Some(_)) if slot.asked > self.sent => {
                    return Err(self.fail(PipelineError::Unasked));
                }
                Ok(Some(length)) => length,
                Ok(None) if self.input.len() > MAX_REPLIES => {
                    return Err(self.fail(PipelineError::TooMuch));
                }
                Ok(None) => break,
                Err(error) => return Err(self.fail(PipelineError::Decode(error))),
            };
            if !slot.abandoned {
                slot.replies.extend_from_slice(&self.input[..length]);
            }
            slot.answered = true;
            self.input.advance(length);
            self.decoder = FlightDecoder::new(self.limits);
            self.answered += 1;
        }
        if self.answered == self.slots.len() && !self.input.is_empty() {
            return Err(self.fail(PipelineError::Unasked));
        }
        let newly = self.answered - before;
        self.sweep();
        Ok(newly)
    }

    /// Returns the received bytes that are not, or not yet, the complete replies of a flight.
    #[must_use]
    pub fn undecoded(&self) -> &[u8] {
        &self.input
    }

    /// Ends the pipeline because replies that were handed out do not match their requests, so that
    /// no later byte can be trusted.
    pub fn refuse(&mut self, error: DecodeError) {
        self.fail(PipelineError::Decode(error));
    }

    /// Records the end of the stream.
    pub fn end(&mut self) {
        self.fail(PipelineError::Closed);
    }

    /// Returns the reason for which the pipeline ended, if it has.
    #[must_use]
    pub const fn ended(&self) -> Option<PipelineError> {
        self.ended
    }

    /// Returns the state or outcome of a flight. That of an abandoned flight is not available.
    #[must_use]
    pub fn status(&self, id: FlightId) -> FlightStatus<'_> {
        let slot = self.place(id).map(|place| &self.slots[place]);
        match slot.filter(|slot| !slot.abandoned) {
            Some(slot) if slot.answered => FlightStatus::Answered(Replies::new(&slot.replies)),
            Some(_) if self.ended.is_none() => FlightStatus::Pending,
            Some(slot) if slot.begin >= self.sent => FlightStatus::NotSent,
            _ => FlightStatus::Unknown,
        }
    }

    /// The flight whose replies come next, whether or not its caller is still there.
    #[must_use]
    pub fn next_due(&self) -> Option<FlightId> {
        let waits = self.ended.is_none() && self.answered < self.slots.len();
        waits.then(|| FlightId(self.first + self.answered as u64))
    }

    /// The flight that was submitted last, if there ever was one.
    #[must_use]
    pub fn last_submitted(&self) -> Option<FlightId> {
        let submitted = self.first + self.slots.len() as u64;
        submitted.checked_sub(1).map(FlightId)
    }

    /// Returns whether nothing of a flight was sent, so that [`abandon`](Self::abandon) would
    /// remove it.
    #[must_use]
    pub fn is_unsent(&self, id: FlightId) -> bool {
        let slot = self.place(id).map(|place| &self.slots[place]);
        slot.is_some_and(|slot| slot.begin >= self.sent && !slot.answered && !slot.abandoned)
    }

    /// Returns whether the pipeline has reached its limit of outstanding flights.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.most
    }

    /// Returns the number of flights that are outstanding or whose callers have not yet fetched the
    /// replies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether no flight is outstanding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn place(&self, id: FlightId) -> Option<usize> {
        let place = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        (place < self.slots.len()).then_some(place)
    }

    fn fail(&mut self, end: PipelineError) -> PipelineError {
        *self.ended.get_or_insert(end)
    }

    /// Passes over withdrawn flights where the next replies are looked for.
    fn pass_empty(&mut self) {
        while let Some(slot) = self.slots.get_mut(self.answered) {
            if slot.end > slot.begin {
                return;
            }
            slot.answered = true;
            self.answered += 1;
        }
    }

    /// Frees the places of flights that are over and given up.
    fn sweep(&mut self) {
        self.pass_empty();
        while let Some(slot) = self.slots.front() {
            if !(slot.abandoned && slot.answered) {
                return;
            }
            self.spare.extend(self.slots.pop_front());
            self.first += 1;
            self.answered -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Flag, Flags, Key, Opaque, Reply, Request};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::string::String;
    use std::vec;

    /// Writes a number with a fixed length, so that no number is a part of another.
    fn digits(number: u64) -> String {
        std::format!("{number:06}")
    }

    /// A flight that asks for its own number, in one of several shapes.
    fn flight(number: u64, kind: u8) -> Flight {
        let name = digits(number);
        let key = Key::new(name.as_bytes()).expect("digits");
        let opaque = Flag::Opaque(Opaque::new(name.as_bytes()).expect("digits"));
        let mut flight = Flight::new();
        match kind % 4 {
            0 => flight.push(&Request::MetaGet {
                key,
                flags: Flags::list(&[Flag::ReturnValue]),
            }),
            1 => flight.push(&Request::Get {
                with_cas: false,
                keys: crate::wire::Keys::list(&[key, key]),
            }),
            2 => {
                let flags = [Flag::Quiet, opaque];
                for _ in 0..2 {
                    flight.push(&Request::MetaDelete {
                        key,
                        flags: Flags::list(&flags),
                    });
                }
                flight.push(&Request::MetaNoop);
            }
            _ => {
                flight.push(&Request::Version);
                flight.push(&Request::MetaDelete {
                    key,
                    flags: Flags::list(&[opaque]),
                });
            }
        }
        flight
    }

    /// Returns the replies of a server to the complete requests in `bytes`, and leaves the rest.
    fn serve(bytes: &mut Vec<u8>) -> Vec<u8> {
        let mut answers = String::new();
        while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
            let line: Vec<u8> = bytes.drain(..end + 2).collect();
            let line = String::from_utf8(line).expect("ours is ASCII");
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["mg", key, ..] => {
                    answers += &std::format!("VA {} c1\r\n{key}\r\n", key.len());
                }
                ["get", key, _] => {
                    let length = key.len();
                    answers += &std::format!("VALUE {key} 0 {length}\r\n{key}\r\n").repeat(2);
                    answers += "END\r\n";
                }
                // Every second of the quiet ones has something to say.
                ["md", key, "q", opaque] if key.ends_with(['1', '3', '5', '7', '9']) => {
                    answers += &std::format!("NF {opaque}\r\n");
                }
                ["md", _, "q", _] => {}
                ["md", _, opaque] => answers += &std::format!("HD {opaque}\r\n"),
                ["mn"] => answers += "MN\r\n",
                ["version"] => answers += "VERSION 1.6.45\r\n",
                _ => panic!("not one of ours: {line}"),
            }
        }
        answers.into_bytes()
    }

    /// Every number that stands in the replies.
    fn numbers(mut replies: Replies<'_>) -> Vec<String> {
        let mut found = Vec::new();
        while let Ok(reply) = replies.next_reply() {
            let text = match reply {
                Reply::Meta(meta) if !meta.data.is_empty() => meta.data.to_vec(),
                Reply::Meta(meta) => meta
                    .flags
                    .iter()
                    .find_map(|flag| match flag {
                        crate::wire::ReplyFlag::Opaque(token) => Some(token.to_vec()),
                        _ => None,
                    })
                    .expect("every md has one"),
                Reply::Value(value) => value.data.to_vec(),
                _ => continue,
            };
            found.push(String::from_utf8(text).expect("digits"));
        }
        found
    }

    #[derive(Debug, Clone)]
    enum Event {
        Submit(u8),
        Abandon(usize),
        Send(usize),
        Serve,
        Receive(usize),
        End,
        Garbage(u8),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => any::<u8>().prop_map(Event::Submit),
            2 => any::<usize>().prop_map(Event::Abandon),
            4 => (0usize..60).prop_map(Event::Send),
            3 => Just(Event::Serve),
            4 => (0usize..60).prop_map(Event::Receive),
            1 => Just(Event::End),
            1 => any::<u8>().prop_map(Event::Garbage),
        ]
    }

    fn run(events: Vec<Event>) {
        let mut pipeline = Pipeline::new(Limits::LOCK, 16);
        let mut ids: BTreeMap<u64, FlightId> = BTreeMap::new();
        let mut abandoned: Vec<u64> = Vec::new();
        let (mut number, mut at_server, mut on_the_way) = (0, Vec::new(), Vec::new());
        let (mut seen, mut honest) = (String::new(), true);
        for event in events {
            match event {
                Event::Submit(kind) => {
                    number += 1;
                    match pipeline.submit(&flight(number, kind)) {
                        Ok(id) => {
                            ids.insert(number, id);
                        }
                        Err(SubmitError::Full) => assert_eq!(pipeline.len(), 16),
                        Err(SubmitError::Ended) => assert!(pipeline.ended().is_some()),
                        Err(error) => panic!("{error}"),
                    }
                }
                Event::Abandon(which) => {
                    let keys: Vec<_> = ids.keys().copied().collect();
                    let Some(key) = keys.get(which % keys.len().max(1)) else {
                        continue;
                    };
                    let id = ids.remove(key).expect("it is one of them");
                    if pipeline.abandon(id) {
                        abandoned.push(*key);
                    }
                    assert!(!pipeline.abandon(id), "gone is gone");
                }
                Event::Send(length) => {
                    let length = length.min(pipeline.outgoing().len());
                    let bytes = &pipeline.outgoing()[..length];
                    seen.push_str(core::str::from_utf8(bytes).expect("ASCII"));
                    at_server.extend_from_slice(bytes);
                    pipeline.sent(length);
                }
                Event::Serve => on_the_way.extend(serve(&mut at_server)),
                Event::Receive(length) => {
                    let length = length.min(on_the_way.len());
                    let bytes: Vec<u8> = on_the_way.drain(..length).collect();
                    let open = pipeline.ended().is_none();
                    let received = pipeline.received(&bytes);
                    if honest && open {
                        received.expect("an honest server is understood");
                    }
                }
                Event::End => pipeline.end(),
                Event::Garbage(byte) => {
                    if byte < 8 {
                        on_the_way.extend_from_slice(b"what?\r\n");
                        honest = false;
                    }
                }
            }
            for (number, id) in &ids {
                match pipeline.status(*id) {
                    FlightStatus::Pending => assert!(pipeline.ended().is_none()),
                    FlightStatus::Answered(replies) => {
                        for found in numbers(replies) {
                            assert_eq!(found, digits(*number), "a stranger's reply");
                        }
                    }
                    FlightStatus::NotSent => {
                        assert!(pipeline.ended().is_some());
                        assert!(!mentions(&seen, *number), "{number} was sent");
                    }
                    FlightStatus::Unknown => assert!(pipeline.ended().is_some()),
                }
            }
        }
        for number in abandoned {
            assert!(
                !mentions(&seen, number),
                "{number} was sent after it was given up"
            );
        }
        if honest && pipeline.ended().is_none() {
            let length = pipeline.outgoing().len();
            at_server.extend_from_slice(pipeline.outgoing());
            pipeline.sent(length);
            on_the_way.extend(serve(&mut at_server));
            pipeline.received(&on_the_way).expect("an honest server");
            for id in ids.values() {
                assert!(matches!(pipeline.status(*id), FlightStatus::Answered(_)));
                pipeline.abandon(*id);
            }
            assert!(pipeline.is_empty(), "everybody has left");
        }
    }

    fn mentions(sent: &str, number: u64) -> bool {
        let number = digits(number);
        sent.split_whitespace().any(|word| word == number)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn callers_get_only_own_replies(events in prop::collection::vec(event(), 0..120)) {
            run(events);
        }
    }

    #[test]
    fn reply_before_request_ends_pipeline() {
        let mut pipeline = Pipeline::new(Limits::LOCK, 4);
        assert_eq!(pipeline.received(b"MN\r\n"), Err(PipelineError::Unasked));
        let mut pipeline = Pipeline::new(Limits::LOCK, 4);
        let id = pipeline.submit(&flight(1, 0)).expect("room");
        pipeline.sent(3);
        assert_eq!(pipeline.received(b"EN\r\n"), Err(PipelineError::Unasked));
        assert!(matches!(pipeline.status(id), FlightStatus::Unknown));
        assert_eq!(
            pipeline.submit(&flight(2, 0)).err(),
            Some(SubmitError::Ended)
        );
        assert!(pipeline.outgoing().is_empty());
    }

    #[test]
    fn unanswerable_flight_is_refused() {
        let mut pipeline = Pipeline::new(Limits::LOCK, 4);
        let mut quit = Flight::new();
        quit.push(&Request::Quit);
        assert_eq!(
            pipeline.submit(&quit).err(),
            Some(SubmitError::Unanswerable)
        );
        let mut open = Flight::new();
        open.push(&Request::MetaDelete {
            key: Key::new(b"a").expect("plain"),
            flags: Flags::list(&[Flag::Quiet]),
        });
        assert_eq!(
            pipeline.submit(&open).err(),
            Some(SubmitError::Unanswerable)
        );
    }

    #[test]
    fn buffers_are_reused_and_bounded() {
        let mut pipeline = Pipeline::new(Limits::LOCK, 4);
        for number in 0..1000 {
            let id = pipeline.submit(&flight(number, 0)).expect("room");
            let mut bytes = pipeline.outgoing().to_vec();
            pipeline.sent(bytes.len());
            assert_eq!(pipeline.received(&serve(&mut bytes)), Ok(1));
            assert!(matches!(pipeline.status(id), FlightStatus::Answered(_)));
            pipeline.abandon(id);
        }
        assert!(pipeline.spare.len() <= 4 && pipeline.slots.is_empty());

        let mut stats = Flight::new();
        stats.push(&Request::Stats {
            group: crate::wire::Keys::list(&[]),
        });
        let mut pipeline = Pipeline::new(Limits::LOCK, 4);
        pipeline.submit(&stats).expect("room");
        pipeline.sent(100);
        let line = vec![b'x'; 1000];
        let line = [b"STAT a ", &line[..], b"\r\n"].concat();
        let end = (0..100).find_map(|_| pipeline.received(&line).err());
        assert_eq!(end, Some(PipelineError::TooMuch));
    }
}
