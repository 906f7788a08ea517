//! One connection for many concurrent callers.
//!
//! It has no background task and no channel. A caller writes its requests directly if nothing else
//! is outstanding, and together with those of others if many callers are active. One of the waiting
//! callers is the driver: it reads for all and wakes those whose replies have arrived. When it has
//! its own replies it leaves, and the next caller drives.
//!
//! [`Pipeline`](super::pipeline::Pipeline) matches replies to callers.

mod quiet;
mod state;

pub(crate) use quiet::ReplyObserver;

use super::error::{NetCause, NetError};
use super::pipeline::{FlightId, FlightStatus, SubmitError};
use crate::wire::{DecodeError, Flight, Limits, Replies};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;
use state::{CloseReason, State};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

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

/// The outcome of [`SharedConnection::begin`].
pub(crate) enum Begun<'a, S, E> {
    InFlight(FlightFuture<'a, S>),
    /// Nothing was sent, for the reason that `write` gave.
    Skipped(E),
}

/// A flight under way. Dropping it gives up its replies.
pub(crate) struct FlightFuture<'a, S> {
    connection: &'a SharedConnection<S>,
    id: FlightId,
    /// Others have had the chance to add their requests to the same write.
    yielded: bool,
    /// Nothing remains to be abandoned on drop.
    over: bool,
}

impl<S> SharedConnection<S> {
    pub(crate) fn new(stream: S, limits: Limits, patience: Duration) -> Self {
        Self {
            state: Mutex::new(State::new(stream, limits)),
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
    /// whether the caller had to wait for room. If it returns an error, nothing is sent.
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
    ) -> Result<Begun<'_, S, E>, NetError> {
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
    ) -> Poll<Result<Begun<'_, S, E>, NetError>> {
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
    ) -> Result<Begun<'_, S, E>, NetError> {
        if state.pipeline.ended().is_some() {
            return Err(NetError::unsent(state.cause()));
        }
        state.flight.clear();
        if let Err(error) = write(&mut state.flight) {
            return Ok(Begun::Skipped(error));
        }
        match state.pipeline.submit(&state.flight) {
            Ok(id) => Ok(Begun::InFlight(FlightFuture {
                connection: self,
                id,
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
            let unsent = state.leave(self.id);
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
                Some(gatherer) if gatherer != self.id => {}
                None if others && !self.yielded && state.pipeline.is_unsent(self.id) => {
                    // Several callers often arrive together. The others get one turn to add their
                    // requests.
                    self.yielded = true;
                    state.flusher = Some(self.id);
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
        if !state.is_over(self.id) {
            match &mut state.driver {
                Some((driver, _)) if *driver != self.id => {
                    state.wait(self.id, cx.waker());
                    return Poll::Pending;
                }
                Some((_, waker)) => waker.clone_from(cx.waker()),
                none => {
                    *none = Some((self.id, cx.waker().clone()));
                    state.forget(self.id);
                }
            }
            state.flush(cx);
            state.read(cx, Some(self.id));
            if !state.is_over(self.id) {
                return Poll::Pending;
            }
        }
        let (Some(read), false) = (read.take(), self.over) else {
            return Poll::Pending;
        };
        let result = match state.pipeline.status(self.id) {
            FlightStatus::Answered(mut replies) => Some(read(&mut replies)),
            _ => None,
        };
        self.over = true;
        let unsent = state.pipeline.is_unsent(self.id);
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
        state.leave(self.id);
        Poll::Ready(result)
    }
}

impl<S> Drop for FlightFuture<'_, S> {
    fn drop(&mut self) {
        if !self.over {
            self.connection.state().leave(self.id);
        }
    }
}

#[cfg(test)]
mod tests;
