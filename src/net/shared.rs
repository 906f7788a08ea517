//! One connection for many concurrent callers.
//!
//! It has no background task and no channel. A caller writes its requests directly if nothing else
//! is outstanding, and together with those of others if many callers are active. One of the waiting
//! callers is the driver: it reads for all and wakes those whose replies have arrived. When it has
//! its own replies it leaves, and the next caller drives.
//!
//! [`Pipeline`] matches replies to callers.

mod quiet;

pub(crate) use quiet::ReplyObserver;

use super::error::{NetCause, NetError};
use super::pipeline::{FlightId, FlightStatus, Pipeline, PipelineError, SubmitError};
use crate::wire::{DecodeError, Flight, Limits, Replies};
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use quiet::QuietFlights;
use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::string::{String, ToString};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec;
use std::vec::Vec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

/// The number of flights that may be outstanding together. Further callers wait until one
/// completes.
const MAX_FLIGHTS: usize = 4096;

/// The number of bytes per read: the replies to some hundred flights.
const READ: usize = 16 * 1024;

/// The number of checks of a connection in the time for which a server may keep a flight waiting.
pub(crate) const LOOKS: u32 = 8;

/// A connection that carries the flights of many callers.
pub(crate) struct SharedConnection<S> {
    state: Mutex<State<S>>,
    /// The time for which a server may keep a flight waiting before the connection counts as dead.
    patience: Duration,
}

impl<S> fmt::Debug for SharedConnection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").finish_non_exhaustive()
    }
}

struct State<S> {
    stream: S,
    pipeline: Pipeline,
    /// The flight that is being written, before it joins the others.
    flight: Flight,
    input: Box<[u8]>,
    /// The caller that reads for all, if there is one.
    driver: Option<(FlightId, Waker)>,
    /// The other callers, by age. A caller that has not been polled yet is not among them.
    waiting: VecDeque<(FlightId, Waker)>,
    /// The caller that, in its next turn, sends everything written until then.
    flusher: Option<FlightId>,
    /// The callers for whose flights there was no room.
    backlog: Vec<Waker>,
    /// Flights without a waiting caller.
    quiet: QuietFlights,
    /// The stream takes no more bytes for now. The driver waits for it to take some.
    blocked: bool,
    /// The reason for which the connection ended, unless the pipeline knows it.
    end: Option<CloseReason>,
    /// The flights that were submitted last at each of the last [looks](SharedConnection::watch),
    /// oldest first.
    submitted: [Option<FlightId>; LOOKS as usize],
}

/// The reason for which a connection ended, as each outstanding caller receives it.
enum CloseReason {
    Io(io::ErrorKind, String),
    Timeout(Duration),
}

/// A flight under way. Dropping it gives up its replies.
pub(crate) struct FlightFuture<'a, S> {
    connection: &'a SharedConnection<S>,
    ticket: FlightId,
    /// Others have had the chance to add their requests to the same write.
    yielded: bool,
    /// Nothing remains to be abandoned on drop.
    over: bool,
}

impl<S> SharedConnection<S> {
    pub(crate) fn new(stream: S, limits: Limits, patience: Duration) -> Self {
        Self {
            state: Mutex::new(State {
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
            }),
            patience,
        }
    }

    /// The stream, for something else than flights.
    pub(crate) fn into_stream(self) -> S {
        let state = self.state.into_inner();
        state.unwrap_or_else(PoisonError::into_inner).stream
    }

    /// The state that a panic of another caller leaves is sound: code of a caller runs between two
    /// changes, never within one.
    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SharedConnection<S> {
    /// Returns whether it is known that no flight can be sent any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().pipeline.ended().is_some()
    }

    /// Returns whether a flight is outstanding or a result of one has not been fetched.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state();
        state.pipeline.next_due().is_some() || !state.quiet.is_settled()
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.pipeline.end();
        state.wake_all();
    }

    /// Ends the connection if a flight has been outstanding for longer than the time limit, and
    /// returns whether any is outstanding. Must be called [`LOOKS`] times in every time limit for
    /// as long as one is: one clock for all instead of a timer for each, which would cost more than
    /// the exchange.
    pub(crate) fn watch(&self) -> bool {
        let mut state = self.state();
        state.look();
        let due = state.pipeline.next_due();
        // A flight that existed at the oldest recorded check has waited for the whole time limit.
        let old = state.submitted[0];
        state.submitted.rotate_left(1);
        state.submitted[LOOKS as usize - 1] = state.pipeline.last_submitted();
        if due.is_some() && due <= old {
            state.fail(CloseReason::Timeout(self.patience));
            return false;
        }
        due.is_some()
    }

    /// Sends the flight that `write` fills, after those of other callers.
    ///
    /// `write` is called once, when there is room for the flight, with an argument that says
    /// whether the caller had to wait for room. Its error is passed on, and nothing is sent then.
    /// With `look`, the stream is checked first for an end that came while no caller read from it.
    ///
    /// # Errors
    /// The connection has ended, or there was no room within `limit`; nothing was sent.
    ///
    /// # Cancel safety
    /// Nothing of this flight is sent before the future completes; flights of other callers may be.
    pub(crate) async fn begin<E>(
        &self,
        look: bool,
        limit: Duration,
        write: impl FnOnce(&mut Flight, bool) -> Result<(), E>,
    ) -> Result<Result<FlightFuture<'_, S>, E>, NetError> {
        let mut write = Some(write);
        {
            let mut state = self.state();
            if look {
                state.look();
            }
            // There nearly always is room.
            if !state.pipeline.is_full() {
                if let Some(write) = write.take() {
                    return self.submit(&mut state, |flight| write(flight, false));
                }
            }
        }
        let begun = timeout(limit, poll_fn(|cx| self.poll_begin(cx, &mut write)));
        begun.await.unwrap_or_else(|_| {
            if limit >= self.patience {
                self.state().fail(CloseReason::Timeout(limit));
            }
            Err(NetError::unsent(NetCause::Timeout(limit)))
        })
    }

    fn poll_begin<E>(
        &self,
        cx: &mut Context<'_>,
        write: &mut Option<impl FnOnce(&mut Flight, bool) -> Result<(), E>>,
    ) -> Poll<Result<Result<FlightFuture<'_, S>, E>, NetError>> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.pipeline.is_full() {
            // All of them may have been abandoned, so that no caller reads.
            state.look();
            state.call_driver();
            if state.pipeline.is_full() && state.pipeline.ended().is_none() {
                if !state
                    .backlog
                    .iter()
                    .any(|waker| waker.will_wake(cx.waker()))
                {
                    state.backlog.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        match write.take() {
            Some(write) => Poll::Ready(self.submit(state, |flight| write(flight, true))),
            None => Poll::Pending,
        }
    }

    fn submit<E>(
        &self,
        state: &mut State<S>,
        write: impl FnOnce(&mut Flight) -> Result<(), E>,
    ) -> Result<Result<FlightFuture<'_, S>, E>, NetError> {
        if state.pipeline.ended().is_some() {
            return Err(NetError::unsent(state.cause()));
        }
        state.flight.clear();
        if let Err(error) = write(&mut state.flight) {
            return Ok(Err(error));
        }
        match state.pipeline.submit(&state.flight) {
            Ok(ticket) => Ok(Ok(FlightFuture {
                connection: self,
                ticket,
                yielded: false,
                over: false,
            })),
            Err(SubmitError::Ended | SubmitError::Full | SubmitError::Unanswerable) => {
                Err(NetError::unsent(NetCause::Closed))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FlightFuture<'_, S> {
    /// Waits for the replies, up to `limit`, and passes them to `read`. If the limit is the whole
    /// time limit for a server, its end also ends the connection. Without a limit,
    /// [`SharedConnection::watch`] enforces the time limit.
    ///
    /// # Errors
    /// [`NetError::sent`] says whether the server may have seen any of the flight. An error that
    /// `read` finds in the replies ends the connection.
    ///
    /// # Cancel safety
    /// Dropping the future removes the flight if nothing of it has been sent. Otherwise the server
    /// may execute it, and its replies are discarded. Other callers are not affected.
    pub(crate) async fn replies<T>(
        mut self,
        limit: Option<Duration>,
        read: impl FnOnce(&mut Replies<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, NetError> {
        let mut read = Some(read);
        let Some(limit) = limit else {
            return poll_fn(|cx| self.poll(cx, &mut read)).await;
        };
        let answered = timeout(limit, poll_fn(|cx| self.poll(cx, &mut read))).await;
        answered.unwrap_or_else(|_| {
            let mut state = self.connection.state();
            self.over = true;
            let unsent = state.leave(self.ticket);
            if limit >= self.connection.patience {
                state.fail(CloseReason::Timeout(limit));
            }
            Err(NetError {
                sent: !unsent,
                cause: NetCause::Timeout(limit),
            })
        })
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut Option<impl FnOnce(&mut Replies<'_>) -> Result<T, DecodeError>>,
    ) -> Poll<Result<T, NetError>> {
        let mut guard = self.connection.state();
        let state = &mut *guard;
        if !state.blocked && !state.pipeline.outgoing().is_empty() {
            let others = state.pipeline.len() - state.quiet.len() > 1;
            match state.flusher {
                Some(gatherer) if gatherer != self.ticket => {}
                None if others && !self.yielded && state.pipeline.is_unsent(self.ticket) => {
                    // Several callers often arrive together. The others get one turn to add their
                    // requests.
                    self.yielded = true;
                    state.flusher = Some(self.ticket);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                _ => {
                    state.flusher = None;
                    state.flush(cx);
                    if state.blocked {
                        state.call_driver();
                    }
                }
            }
        }
        if !state.is_over(self.ticket) {
            match &mut state.driver {
                Some((driver, _)) if *driver != self.ticket => {
                    state.wait(self.ticket, cx.waker());
                    return Poll::Pending;
                }
                Some((_, waker)) => waker.clone_from(cx.waker()),
                none => {
                    *none = Some((self.ticket, cx.waker().clone()));
                    state.forget(self.ticket);
                }
            }
            state.flush(cx);
            state.read(cx, Some(self.ticket));
            if !state.is_over(self.ticket) {
                return Poll::Pending;
            }
        }
        let (Some(read), false) = (read.take(), self.over) else {
            return Poll::Pending;
        };
        let result = match state.pipeline.status(self.ticket) {
            FlightStatus::Answered(mut replies) => Some(read(&mut replies)),
            _ => None,
        };
        self.over = true;
        let unsent = state.pipeline.is_unsent(self.ticket);
        let result = match result {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => {
                state.pipeline.refuse(error);
                state.wake_all();
                Err(NetError::sent(NetCause::unexpected(error)))
            }
            None => Err(NetError {
                sent: !unsent,
                cause: state.cause(),
            }),
        };
        state.leave(self.ticket);
        Poll::Ready(result)
    }
}

impl<S> Drop for FlightFuture<'_, S> {
    fn drop(&mut self) {
        if !self.over {
            self.connection.state().leave(self.ticket);
        }
    }
}

impl<S> State<S> {
    fn is_over(&self, ticket: FlightId) -> bool {
        !matches!(self.pipeline.status(ticket), FlightStatus::Pending)
    }

    /// Keeps the waker of one that waits.
    fn wait(&mut self, ticket: FlightId, waker: &Waker) {
        if self.waiting.back().is_none_or(|(last, _)| *last < ticket) {
            return self.waiting.push_back((ticket, waker.clone()));
        }
        match self.waiting.binary_search_by_key(&ticket, |(who, _)| *who) {
            Ok(place) => self.waiting[place].1.clone_from(waker),
            Err(place) => self.waiting.insert(place, (ticket, waker.clone())),
        }
    }

    fn forget(&mut self, ticket: FlightId) {
        if self
            .waiting
            .front()
            .is_none_or(|(first, _)| *first > ticket)
        {
            return;
        }
        if let Ok(place) = self.waiting.binary_search_by_key(&ticket, |(who, _)| *who) {
            self.waiting.remove(place);
        }
    }

    /// A caller goes, with its replies or without. Returns whether nothing of its flight was sent.
    fn leave(&mut self, ticket: FlightId) -> bool {
        let unsent = self.pipeline.abandon(ticket);
        self.forget(ticket);
        if self.driver.as_ref().is_some_and(|(who, _)| *who == ticket) {
            self.driver = None;
        }
        let gathered = self.flusher == Some(ticket);
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

    fn call_driver(&self) {
        if let Some((_, waker)) = &self.driver {
            waker.wake_by_ref();
        }
    }

    /// Wakes those whose replies are there: they are the oldest ones.
    fn wake_answered(&mut self) {
        while let Some((ticket, _)) = self.waiting.front() {
            if !self.is_over(*ticket) {
                return;
            }
            if let Some((_, waker)) = self.waiting.pop_front() {
                waker.wake();
            }
        }
    }

    /// Ends the connection.
    fn fail(&mut self, end: CloseReason) {
        if self.pipeline.ended().is_none() {
            self.end = Some(end);
            self.pipeline.end();
        }
        self.wake_all();
    }

    fn wake_all(&mut self) {
        self.settle_quiet();
        self.call_driver();
        self.waiting.drain(..).for_each(|(_, waker)| waker.wake());
        self.backlog.drain(..).for_each(Waker::wake);
    }

    /// Returns the reason for which the connection ended.
    fn cause(&self) -> NetCause {
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
    fn flush(&mut self, cx: &mut Context<'_>) {
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
    fn look(&mut self) {
        if self.driver.is_none() {
            self.read(&mut Context::from_waker(Waker::noop()), None);
        }
    }

    /// Reads the available bytes, until the flight `until` is complete.
    fn read(&mut self, cx: &mut Context<'_>, until: Option<FlightId>) {
        while self.pipeline.ended().is_none() && !until.is_some_and(|ticket| self.is_over(ticket)) {
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

#[cfg(test)]
mod tests;
