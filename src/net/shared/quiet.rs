//! Flights without a waiting caller.
//!
//! They are sent with the next write, and their replies are read as they arrive. Only the observers
//! of flights that were not executed, or may not have been, are kept until they are fetched.

use super::{FlightId, FlightStatus, SharedConnection, State};
use crate::net::verdict::succeeded;
use crate::wire::Flight;
use core::any::Any;
use core::future::poll_fn;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::Vec;
use tokio::io::{AsyncRead, AsyncWrite};

/// The observer of a flight, returned if the flight failed.
pub(crate) type ReplyObserver = Arc<dyn Any + Send + Sync>;

/// Flights without a waiting caller, oldest first, and their results.
#[derive(Default)]
pub(super) struct QuietFlights {
    flights: VecDeque<(FlightId, ReplyObserver)>,
    undone: Vec<ReplyObserver>,
}

impl QuietFlights {
    /// Returns the number of outstanding flights.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Returns whether no flight is outstanding and no result waits to be fetched.
    pub(super) fn is_settled(&self) -> bool {
        self.flights.is_empty() && self.undone.is_empty()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SharedConnection<S> {
    /// Adds a flight of one request after all others, to be sent with the next write or by
    /// [`send_quiet`](Self::send_quiet). Returns its observer if that is not possible.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(crate) fn begin_quiet(
        &self,
        subject: ReplyObserver,
        write: impl FnOnce(&mut Flight) -> bool,
    ) -> Result<(), ReplyObserver> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.pipeline.is_full() || state.pipeline.ended().is_some() {
            return Err(subject);
        }
        state.flight.clear();
        if !write(&mut state.flight) {
            return Err(subject);
        }
        match state.pipeline.submit(&state.flight) {
            Ok(id) => {
                state.quiet.flights.push_back((id, subject));
                Ok(())
            }
            Err(_) => Err(subject),
        }
    }

    /// Sends the bytes that remain to be sent, if no other caller does.
    ///
    /// # Cancel safety
    /// The remaining bytes are sent with the next write.
    pub(crate) async fn send_quiet(&self) {
        poll_fn(|cx| self.poll_send_quiet(cx)).await;
    }

    /// One attempt at [`send_quiet`](Self::send_quiet).
    pub(crate) fn poll_send_quiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.blocked && state.driver.is_some() {
            // It goes on as soon as the stream takes more.
            return Poll::Ready(());
        }
        state.flush(cx);
        if state.blocked {
            // The driver is woken when the stream accepts more, once the driver itself has
            // registered for it.
            state.call_driver();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// The subjects of flights that were not carried out, or may not have been.
    pub(crate) fn undone(&self) -> Vec<ReplyObserver> {
        core::mem::take(&mut self.state().quiet.undone)
    }
}

impl<S> State<S> {
    /// Processes the replies to flights without a waiting caller.
    pub(super) fn settle_quiet(&mut self) {
        while let Some((id, _)) = self.quiet.flights.front() {
            let id = *id;
            let done = match self.pipeline.status(id) {
                FlightStatus::Pending => return,
                FlightStatus::Answered(mut replies) => succeeded(&mut replies),
                FlightStatus::NotSent | FlightStatus::Unknown => false,
            };
            self.pipeline.abandon(id);
            let subject = self.quiet.flights.pop_front();
            if !done {
                self.quiet
                    .undone
                    .extend(subject.map(|(_, subject)| subject));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::LIMIT;
    use super::super::{Begun, LOOKS};
    use super::*;
    use crate::wire::{Limits, Reply, Request};
    use core::convert::Infallible;
    use core::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn connection() -> (SharedConnection<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1024);
        (SharedConnection::new(ours, Limits::LOCK, LIMIT), theirs)
    }

    fn begin(connection: &SharedConnection<DuplexStream>, number: u8) {
        let begun = connection.begin_quiet(Arc::new(number), |flight| {
            flight.push(&Request::MetaNoop);
            true
        });
        assert!(begun.is_ok());
    }

    fn undone(connection: &SharedConnection<DuplexStream>) -> Vec<u8> {
        let subjects = connection.undone().into_iter();
        let numbers = subjects.map(ReplyObserver::downcast::<u8>);
        numbers.map(|number| *number.expect("a number")).collect()
    }

    #[tokio::test]
    async fn quiet_request_travels_with_next_write() {
        let (connection, mut server) = connection();
        begin(&connection, 1);
        let mut bytes = [0; 64];
        let nothing = core::pin::pin!(server.read(&mut bytes));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(nothing.poll(cx).is_pending(), "not by itself");
        let asked = connection.begin(false, LIMIT, |flight, _| {
            flight.push(&Request::Version);
            Ok::<(), Infallible>(())
        });
        let Begun::InFlight(flight) = asked.await.expect("room");
        let answer = flight.replies(Some(LIMIT), |replies| {
            let reply = replies.next_reply()?;
            Ok(matches!(reply, Reply::Version(b"7")))
        });
        let serve = async {
            let length = server.read(&mut bytes).await.expect("bytes");
            assert_eq!(&bytes[..length], b"mn\r\nversion\r\n");
            server
                .write_all(b"MN\r\nVERSION 7\r\n")
                .await
                .expect("room");
        };
        let (answer, ()) = tokio::join!(answer, serve);
        assert!(answer.expect("an answer"), "each has its own");
        assert_eq!(
            undone(&connection),
            [1],
            "`MN` does not say that it was done"
        );
    }

    #[tokio::test]
    async fn undone_quiet_request_is_reported() {
        let (connection, mut server) = connection();
        for (number, answer) in [(1, &b"HD\r\n"[..]), (2, b"NF\r\n"), (3, b"EX\r\n")] {
            let begun = connection.begin_quiet(Arc::new(number as u8), |flight| {
                let key = crate::wire::Key::new(b"k").expect("plain");
                flight.push(&Request::MetaDelete {
                    key,
                    flags: crate::wire::Flags::list(&[]),
                });
                true
            });
            assert!(begun.is_ok());
            connection.send_quiet().await;
            let mut bytes = [0; 64];
            let length = server.read(&mut bytes).await.expect("bytes");
            assert_eq!(&bytes[..length], b"md k\r\n");
            server.write_all(answer).await.expect("room");
            assert!(!connection.watch(), "all is answered");
        }
        assert_eq!(undone(&connection), [2, 3]);
        assert_eq!(undone(&connection), []);
        // One flight was sent and has no reply; the other was not even sent.
        begin(&connection, 4);
        connection.send_quiet().await;
        begin(&connection, 5);
        drop(server);
        connection.watch();
        assert_eq!(undone(&connection), [4, 5]);
        let refused = connection.begin_quiet(Arc::new(6u8), |_| true);
        assert!(refused.is_err(), "the connection has ended");
    }

    #[tokio::test]
    async fn overdue_quiet_reply_ends_connection() {
        let (connection, mut server) = connection();
        // Of all requests made before the first check, one is answered between any two checks.
        let count = LOOKS as u8 + 4;
        for number in 0..count {
            begin(&connection, number);
        }
        connection.send_quiet().await;
        for look in 0..LOOKS {
            assert!(connection.watch(), "look {look} comes too early for that");
            server.write_all(b"MN\r\n").await.expect("room");
            // A flight that begins later is younger.
            begin(&connection, count);
        }
        assert!(!connection.has_ended());
        assert!(!connection.watch());
        assert!(connection.has_ended());
    }

    #[tokio::test]
    async fn punctual_quiet_replies_keep_connection() {
        let (connection, mut server) = connection();
        begin(&connection, 0);
        for number in 1..LOOKS as u8 * 4 {
            connection.send_quiet().await;
            assert!(connection.watch(), "the last one is under way");
            begin(&connection, number);
            server.write_all(b"MN\r\n").await.expect("room");
        }
        assert!(!connection.has_ended());
    }

    #[tokio::test]
    async fn full_stream_sends_quiet_request_later() {
        let (ours, mut server) = duplex(3);
        let connection = SharedConnection::new(ours, Limits::LOCK, LIMIT);
        begin(&connection, 1);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(connection.poll_send_quiet(cx).is_pending());
        let read = async {
            let mut bytes = [0; 4];
            server.read_exact(&mut bytes).await.expect("bytes");
            assert_eq!(&bytes, b"mn\r\n");
        };
        tokio::join!(connection.send_quiet(), read);
    }
}
