//! The pipeline against a model of its intended behaviour.
//!
//! For each flight, the model knows its bytes and the bytes with which an honest server replies to
//! each of its requests. So it knows at any time exactly what remains to be sent and which flights
//! have which replies. After a false reply of the server, less can be said; see [`Model::judge`].

use super::input::Input;
use super::reply::WIDE;
use crate::net::{FlightId, FlightStatus, Pipeline, SubmitError};
use crate::wire::{
    Flag, Flags, Flight, Key, Keys, Limits, Opaque, Replies, ReplyDecoder, Request, Store,
    StoreVerb,
};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::BytesMut;

const MOST: usize = 8;

/// No reply reaches a request that it does not belong to, whatever is given up when, and however
/// sending and receiving interleave; what was given up unsent is never sent; the fate of a flight
/// is what the model says.
pub fn pipeline(data: &[u8]) {
    let mut input = Input::new(data);
    let mut model = Model::new();
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        match input.below(16) {
            0..=4 => model.submit(&mut input),
            5 | 6 => model.abandon(input.byte()),
            7..=9 => model.send(usize::from(input.byte())),
            10..=13 => model.receive(usize::from(input.byte())),
            14 => model.lie(&mut input),
            _ if input.below(4) == 0 => {
                model.pipeline.end();
                model.ended = true;
            }
            _ => model.receive(usize::MAX),
        }
        model.judge();
    }
    model.finish();
}

/// A flight that the pipeline has taken.
#[derive(Debug)]
struct TrackedFlight {
    number: u32,
    ticket: FlightId,
    /// Its caller has left.
    abandoned: bool,
    /// The start of its bytes in the stream of all sent bytes.
    begin: usize,
    end: usize,
    /// The end of each of its requests, and the reply of an honest server to it.
    requests: Vec<(usize, Vec<u8>)>,
    /// The end of its replies in all bytes that an honest server ever sends.
    answered_at: Option<usize>,
}

impl TrackedFlight {
    fn answer(&self) -> Vec<u8> {
        let answers = self.requests.iter().flat_map(|request| &request.1);
        answers.copied().collect()
    }
}

#[derive(Debug)]
struct Model {
    pipeline: Pipeline,
    numbers: u32,
    /// In the order in which they were submitted; without those that were withdrawn.
    flights: Vec<TrackedFlight>,
    /// Tickets of flights that were withdrawn.
    withdrawn: Vec<FlightId>,
    /// All bytes that were sent or remain to be sent.
    stream: Vec<u8>,
    sent: usize,
    /// All that the server has sent, and how much of it has been received.
    answers: Vec<u8>,
    received: usize,
    /// The position from which on the replies are not to be trusted.
    lie: Option<usize>,
    ended: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            pipeline: Pipeline::new(Limits::LOCK, MOST),
            numbers: 0,
            flights: Vec::new(),
            withdrawn: Vec::new(),
            stream: Vec::new(),
            sent: 0,
            answers: Vec::new(),
            received: 0,
            lie: None,
            ended: false,
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        self.numbers += 1;
        let (mut flight, mut requests) = (Flight::new(), Vec::new());
        let mut quiet = false;
        let mut answered = false;
        for _ in 0..=input.below(4) {
            let answer = request(self.numbers, input, &mut flight, &mut quiet);
            answered |= answer.is_some() && !quiet;
            requests.push((flight.bytes().len(), answer.unwrap_or_default()));
        }
        let full = self.pipeline.len() >= MOST;
        match self.pipeline.submit(&flight) {
            Ok(ticket) => {
                assert!(
                    !self.ended && answered && !quiet && !full,
                    "it should not be taken"
                );
                let begin = self.stream.len();
                self.stream.extend_from_slice(flight.bytes());
                requests.iter_mut().for_each(|request| request.0 += begin);
                self.flights.push(TrackedFlight {
                    number: self.numbers,
                    ticket,
                    abandoned: false,
                    begin,
                    end: self.stream.len(),
                    requests,
                    answered_at: None,
                });
            }
            Err(SubmitError::Ended) => assert!(self.ended),
            Err(SubmitError::Unanswerable) => assert!(quiet || !answered),
            Err(SubmitError::Full) => assert!(full),
        }
    }

    fn abandon(&mut self, which: u8) {
        let here: Vec<usize> = (0..self.flights.len())
            .filter(|at| !self.flights[*at].abandoned)
            .collect();
        let Some(&at) = here.get(usize::from(which) % here.len().max(1)) else {
            return;
        };
        let known = &mut self.flights[at];
        known.abandoned = true;
        let (ticket, unsent) = (known.ticket, known.begin >= self.sent);
        assert_eq!(
            self.pipeline.abandon(ticket),
            unsent,
            "flight {}",
            known.number
        );
        if unsent {
            let gone = self.flights.remove(at);
            let length = gone.end - gone.begin;
            self.stream.drain(gone.begin..gone.end);
            for later in &mut self.flights[at..] {
                later.begin -= length;
                later.end -= length;
                later
                    .requests
                    .iter_mut()
                    .for_each(|request| request.0 -= length);
            }
            self.withdrawn.push(ticket);
        }
        assert!(!self.pipeline.abandon(ticket), "gone is gone");
    }

    fn send(&mut self, length: usize) {
        let length = length.min(self.pipeline.outgoing().len());
        self.pipeline.sent(length);
        let before = self.sent;
        self.sent += length;
        for known in &mut self.flights {
            for (end, answer) in &known.requests {
                if (before + 1..=self.sent).contains(end) {
                    self.answers.extend_from_slice(answer);
                }
            }
            if (before + 1..=self.sent).contains(&known.end) {
                known.answered_at = Some(self.answers.len());
            }
        }
    }

    /// Inserts unrequested bytes between the replies.
    fn lie(&mut self, input: &mut Input<'_>) {
        let bytes: &[u8] = match input.below(8) {
            0 => b"MN\r\n",
            1 => b"VA 6 c1\r\n999999\r\n",
            2 => b"END\r\n",
            3 => b"what?\r\n",
            4 => b"\n",
            _ => {
                let length = input.below(24);
                input.take(length)
            }
        };
        if !bytes.is_empty() {
            self.lie.get_or_insert(self.answers.len());
            self.answers.extend_from_slice(bytes);
        }
    }

    fn receive(&mut self, length: usize) {
        if self.ended {
            assert_eq!(
                self.pipeline.received(b"MN\r\n").err(),
                self.pipeline.ended()
            );
            return;
        }
        let to = self.received.saturating_add(length).min(self.answers.len());
        let bytes = &self.answers[self.received..to];
        let before = self.received;
        let received = self.pipeline.received(bytes);
        self.received = to;
        self.ended = self.pipeline.ended().is_some();
        assert_eq!(received.is_err(), self.ended);
        if !self.ended {
            let Ok(newly) = received else { return };
            let honest = self.lie.is_none_or(|lie| to <= lie);
            let answered = |known: &&TrackedFlight| {
                known.answered_at.is_some_and(|at| before < at && at <= to)
            };
            let expected = self.flights.iter().filter(answered).count();
            assert!(
                !honest || newly >= expected,
                "{newly} answered, not {expected}"
            );
            return;
        }
        assert_eq!(received, Err(self.pipeline.ended().expect("it has ended")));
        let honest = self.lie.is_none_or(|lie| to <= lie);
        assert!(!honest, "an honest server is not understood: {received:?}");
    }

    /// Compares everything that can be asked with what should be said.
    fn judge(&self) {
        let outgoing = self.pipeline.outgoing();
        let expected = if self.ended {
            &b""[..]
        } else {
            &self.stream[self.sent..]
        };
        assert_eq!(outgoing, expected, "what is to be sent");
        assert!(self.pipeline.len() <= MOST);
        assert_eq!(self.pipeline.ended().is_some(), self.ended);
        let trusted = self.received.min(self.lie.unwrap_or(usize::MAX));
        for known in &self.flights {
            let number = known.number;
            let fate = self.pipeline.status(known.ticket);
            if known.abandoned {
                assert!(
                    matches!(fate, FlightStatus::Unknown),
                    "{number} was given up"
                );
                continue;
            }
            if known.answered_at.is_some_and(|at| at <= trusted) {
                let FlightStatus::Answered(replies) = fate else {
                    panic!("{number} is answered, not {fate:?}");
                };
                let (found, expected) = (written(replies), known.answer());
                assert!(
                    found == expected,
                    "{number} got {}, not {}",
                    found.escape_ascii(),
                    expected.escape_ascii()
                );
                continue;
            }
            // After a false reply a flight may seem complete, but only if its last request was
            // sent.
            let lied = self.received > trusted;
            match fate {
                // The last reply may come before the server has read requests without a reply at
                // the end.
                FlightStatus::Answered(replies) => {
                    let whole = written(replies) == known.answer();
                    assert!(known.begin < self.sent && (lied || whole), "{number}");
                }
                FlightStatus::Pending => assert!(!self.ended, "{number} waits for ever"),
                FlightStatus::NotSent => {
                    assert!(self.ended && known.begin >= self.sent, "{number}");
                }
                FlightStatus::Unknown => assert!(self.ended && known.begin < self.sent, "{number}"),
            }
        }
        for ticket in &self.withdrawn {
            assert!(matches!(
                self.pipeline.status(*ticket),
                FlightStatus::Unknown
            ));
        }
    }

    /// Checks that every flight has its replies in the end if there was no fault.
    fn finish(&mut self) {
        if self.ended || self.lie.is_some() {
            return;
        }
        self.send(usize::MAX);
        self.receive(usize::MAX);
        self.judge();
        assert!(!self.ended, "an honest server is not understood");
        while self.flights.iter().any(|known| !known.abandoned) {
            self.abandon(0);
        }
        assert!(self.pipeline.is_empty(), "everybody has left");
    }
}

/// The replies as they came.
fn written(mut replies: Replies<'_>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    while let Ok(reply) = replies.next_reply() {
        reply.encode(&mut bytes);
    }
    bytes.to_vec()
}

/// Adds a request with this number, and returns the reply of an honest server: `None` if no reply
/// ever comes. `quiet` says whether a `mn` has still to follow.
fn request(
    number: u32,
    input: &mut Input<'_>,
    flight: &mut Flight,
    quiet: &mut bool,
) -> Option<Vec<u8>> {
    // Always as long, so that a part of one is not another.
    let name = format!("{number:06}");
    let key = Key::new(name.as_bytes()).expect("digits");
    let token = Flag::Opaque(Opaque::new(name.as_bytes()).expect("digits"));
    let kind = input.below(12);
    let choice = input.byte();
    let noreply = choice & 0x80 != 0;
    let flags = |flags: &[Flag<'_>], flight: &mut Flight| {
        flight.push(&Request::MetaDelete {
            key,
            flags: Flags::list(flags),
        });
    };
    let value = format!("VALUE {name} 0 6 3\r\n{name}\r\n");
    let mut answer: String = match kind {
        0 => {
            flight.push(&Request::MetaGet {
                key,
                flags: Flags::list(&[Flag::ReturnValue]),
            });
            match choice % 3 {
                0 => "EN\r\n".into(),
                _ => format!("VA 6 c1\r\n{name}\r\n"),
            }
        }
        1 => {
            flight.push(&Request::Get {
                with_cas: true,
                keys: Keys::list(&[key, key]),
            });
            value.repeat(usize::from(choice % 3)) + "END\r\n"
        }
        2 => {
            flags(&[token], flight);
            format!("HD O{name}\r\n")
        }
        3 | 4 => {
            flags(&[Flag::Quiet, token], flight);
            *quiet = true;
            match choice % 2 {
                0 => String::new(),
                _ => format!("NF O{name}\r\n"),
            }
        }
        5 | 6 => {
            flight.push(&Request::MetaNoop);
            *quiet = false;
            "MN\r\n".into()
        }
        7 => {
            flight.push(&Request::Stats {
                group: Keys::list(&[]),
            });
            format!("STAT {name} {name}\r\n").repeat(usize::from(choice % 4)) + "END\r\n"
        }
        8 => {
            flight.push(&Request::Store(Store {
                verb: StoreVerb::Add,
                key,
                client_flags: 0,
                exptime: 0,
                value: b"x\r\ny",
                noreply,
            }));
            "NOT_STORED\r\n".into()
        }
        9 => {
            flight.push(&Request::Delete { key, noreply });
            "DELETED\r\n".into()
        }
        10 => {
            flight.push(&Request::Arithmetic {
                add: true,
                key,
                delta: 1,
                noreply,
            });
            format!("{}\r\n", number + 1_000_000)
        }
        _ => {
            flight.push(&Request::Version);
            format!("VERSION {name}\r\n")
        }
    };
    // `noreply` suppresses replies, except for errors that this server does not make.
    if matches!(kind, 8..=10) && noreply {
        return None;
    }
    // An error ends the replies to anything.
    if choice & 0x70 == 0x70 && !matches!(kind, 3..=6) {
        answer = match kind {
            1 => value.repeat(usize::from(choice % 2)),
            _ => String::new(),
        };
        answer += &format!("SERVER_ERROR out of memory {name}\r\n");
    }
    debug_assert!(matches!(
        ReplyDecoder::new(WIDE).decode(answer.as_bytes()),
        Ok(Some(_)) | Ok(None)
    ));
    Some(answer.into_bytes())
}
