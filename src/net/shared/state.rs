//! The state of a shared connection: its stream, the outstanding flights and the waiting callers.

use super::LOOKS;
use super::quiet::QuietFlights;
use crate::net::NetCause;
use crate::net::pipeline::{FlightId, FlightStatus, Pipeline, PipelineError};
use crate::wire::{DecodeError, Flight, Limits};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of flights that may be outstanding together. Further callers wait until one
/// completes.
pub(super) const MAX_FLIGHTS: usize = 4096;

/// The number of bytes per read: the replies to some hundred flights.
const READ: usize = 16 * 1024;

/// State that the callers of a connection share.
pub(super) struct State<S> {
    pub(super) stream: S,
    pub(super) pipeline: Pipeline,
    /// The flight that is being written, before it joins the others.
    pub(super) flight: Flight,
    pub(super) input: Box<[u8]>,
    /// The caller that reads for all, if there is one.
    pub(super) driver: Option<(FlightId, Waker)>,
    /// The other callers, by age. A caller that has not been polled yet is not among them.
    pub(super) waiting: VecDeque<(FlightId, Waker)>,
    /// The caller that, in its next turn, sends everything written until then.
    pub(super) flusher: Option<FlightId>,
    /// The callers for whose flights there was no room.
    pub(super) backlog: Vec<Waker>,
    /// Flights without a waiting caller.
    pub(super) quiet: QuietFlights,
    /// The stream takes no more bytes for now. The driver waits for it to take some.
    pub(super) blocked: bool,
    /// The reason for which the connection ended, unless the pipeline knows it.
    pub(super) end: Option<CloseReason>,
    /// The flights that were submitted last at each of the last [looks](super::SharedConnection::watch),
    /// oldest first.
    pub(super) submitted: [Option<FlightId>; LOOKS as usize],
}

/// The reason for which a connection ended, as each outstanding caller receives it.
pub(super) enum CloseReason {
    Io(io::ErrorKind, String),
    Timeout(Duration),
}

impl<S> State<S> {
    pub(super) fn new(stream: S, limits: Limits) -> Self {
        Self {
            stream,
            pipeline: Pipeline::new(limits, MAX_FLIGHTS),
            flight: Flight::new(),
            input: vec![0; READ].into_boxed_slice(),
            driver: None,
            flusher: None,
            waiting: VecDeque::new(),
            backlog: Vec::new(),
            quiet: QuietFlights::default(),
            blocked: false,
            end: None,
            submitted: [None; LOOKS as usize],
        }
    }

    pub(super) fn is_over(&self, id: FlightId) -> bool {
        !matches!(self.pipeline.status(id), FlightStatus::Pending)
    }

    /// Keeps the waker of one that waits.
    pub(super) fn wait(&mut self, id: FlightId, waker: &Waker) {
        if self.waiting.back().is_none_or(|(last, _)| *last < id) {
            return self.waiting.push_back((id, waker.clone()));
        }
        match self.waiting.binary_search_by_key(&id, |(who, _)| *who) {
            Ok(place) => self.waiting[place].1.clone_from(waker),
            Err(place) => self.waiting.insert(place, (id, waker.clone())),
        }
    }

    pub(super) fn forget(&mut self, id: FlightId) {
        if self.waiting.front().is_none_or(|(first, _)| *first > id) {
            return;
        }
        if let Ok(place) = self.waiting.binary_search_by_key(&id, |(who, _)| *who) {
            self.waiting.remove(place);
        }
    }

    /// A caller goes, with its replies or without. Returns whether nothing of its flight was sent.
    pub(super) fn leave(&mut self, id: FlightId) -> bool {
        let unsent = self.pipeline.abandon(id);
        self.forget(id);
        if self.driver.as_ref().is_some_and(|(who, _)| *who == id) {
            self.driver = None;
        }
        let gathered = self.flusher == Some(id);
        if gathered {
            self.flusher = None;
        }
        if self.driver.is_none() || gathered {
            // One of the remaining callers must read for all, or send what they have written.
            if let Some((_, waker)) = self.waiting.front() {
                waker.wake_by_ref();
            }
        }
        if !self.pipeline.is_full() {
            self.backlog.drain(..).for_each(Waker::wake);
        }
        unsent
    }

    pub(super) fn call_driver(&self) {
        if let Some((_, waker)) = &self.driver {
            waker.wake_by_ref();
        }
    }

    /// Wakes those whose replies are there: they are the oldest ones.
    fn wake_answered(&mut self) {
        while let Some((id, _)) = self.waiting.front() {
            if !self.is_over(*id) {
                return;
            }
            if let Some((_, waker)) = self.waiting.pop_front() {
                waker.wake();
            }
        }
    }

    /// Ends the connection.
    pub(super) fn fail(&mut self, end: CloseReason) {
        if self.pipeline.ended().is_none() {
            self.end = Some(end);
            self.pipeline.end();
        }
        self.wake_all();
    }

    pub(super) fn wake_all(&mut self) {
        self.settle_quiet();
        self.call_driver();
        self.waiting.drain(..).for_each(|(_, waker)| waker.wake());
        self.backlog.drain(..).for_each(Waker::wake);
    }

    /// Returns the reason for which the connection ended.
    pub(super) fn cause(&self) -> NetCause {
        match (&self.end, self.pipeline.ended()) {
            (Some(CloseReason::Io(kind, text)), _) => {
                NetCause::Io(io::Error::new(*kind, text.clone()))
            }
            (Some(CloseReason::Timeout(limit)), _) => NetCause::Timeout(*limit),
            (None, Some(PipelineError::Decode(error))) => self.strange(error),
            (None, Some(PipelineError::Unasked | PipelineError::TooMuch)) => {
                NetCause::final_error(self.pipeline.undecoded()).unwrap_or(NetCause::TooMuch)
            }
            // The undecoded bytes may be half a line that shows what kind of server the peer is.
            (None, _) if !self.pipeline.undecoded().is_empty() => {
                self.strange(DecodeError::UnknownReply)
            }
            (None, _) => NetCause::Closed,
        }
    }

    fn strange(&self, error: DecodeError) -> NetCause {
        NetCause::strange(error, self.pipeline.undecoded())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    /// Writes the outgoing bytes, as far as the stream accepts them.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        self.blocked = false;
        while !self.pipeline.outgoing().is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, self.pipeline.outgoing());
            match written {
                Poll::Pending => {
                    self.blocked = true;
                    return;
                }
                Poll::Ready(Ok(0)) => return self.fail_write(&io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(length)) => self.pipeline.sent(length),
                Poll::Ready(Err(error)) => return self.fail_write(&error),
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            // A stream that encrypts may have taken everything and still hold some of it.
            Poll::Pending => self.blocked = true,
            Poll::Ready(Err(error)) => self.fail_write(&error),
        }
    }

    /// Reads what arrived while no caller was reading, such as the end of the stream.
    pub(super) fn look(&mut self) {
        if self.driver.is_none() {
            self.read(&mut Context::from_waker(Waker::noop()), None);
        }
    }

    /// Reads the available bytes, until the flight `until` is complete.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, until: Option<FlightId>) {
        while self.pipeline.ended().is_none() && !until.is_some_and(|id| self.is_over(id)) {
            let mut buffer = ReadBuf::new(&mut self.input);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail_io(&error),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    self.pipeline.end();
                    return self.wake_all();
                }
                Poll::Ready(Ok(())) => match self.pipeline.received(buffer.filled()) {
                    Ok(_) => {
                        self.settle_quiet();
                        self.wake_answered();
                    }
                    Err(_) => return self.wake_all(),
                },
            }
        }
    }

    /// The last bytes of the server say more than the fact that it closed the connection.
    fn fail_write(&mut self, error: &io::Error) {
        self.read(&mut Context::from_waker(Waker::noop()), None);
        self.fail_io(error);
    }

    fn fail_io(&mut self, error: &io::Error) {
        self.fail(CloseReason::Io(error.kind(), error.to_string()));
    }
}
