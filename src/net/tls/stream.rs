//! TLS over a stream of the async API.

use super::session::Session;
use super::{Tls, error};
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::boxed::Box;
use std::io::{self, Read, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

/// A stream to a server, encrypted.
#[derive(Debug)]
pub(crate) struct AsyncTlsStream<S> {
    socket: S,
    // It is large, and streams without TLS are not to grow by it.
    session: Box<Session>,
}

/// A socket that says `WouldBlock` in place of `PendingRenewal`, while the waker is kept.
struct PollAdapter<'a, 'c, S> {
    socket: &'a mut S,
    cx: &'a mut Context<'c>,
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl<S: AsyncRead + Unpin> Read for PollAdapter<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        now(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for PollAdapter<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut *self.socket).poll_flush(self.cx))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncTlsStream<S> {
    /// Makes the handshake, until the deadline of the whole `limit`.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    pub(crate) async fn connect(
        socket: S,
        tls: &Tls,
        limit: Duration,
        deadline: Instant,
    ) -> io::Result<Self> {
        let mut stream = Self {
            socket,
            session: Box::new(tls.session()?),
        };
        let shaken = poll_fn(|cx| {
            loop {
                match stream.with(cx, |session, socket| session.shake(socket)) {
                    Poll::Ready(Ok(false)) => {}
                    over => return over.map_ok(|_| ()),
                }
            }
        });
        timeout_at(deadline, shaken)
            .await
            .unwrap_or_else(|_| Err(error::silent(limit)))?;
        Ok(stream)
    }

    fn with<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Session, &mut PollAdapter<'_, '_, S>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut socket = PollAdapter {
            socket: &mut self.socket,
            cx,
        };
        later(act(&mut self.session, &mut socket))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for AsyncTlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            let into = buffer.initialize_unfilled();
            match stream.with(cx, |session, socket| session.read(socket, into)) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(length))) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AsyncTlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        stream.with(cx, |session, socket| session.write(socket, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .with(cx, |session, socket| session.flush(socket))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.session.close();
        match stream.with(cx, |session, socket| session.flush(socket)) {
            Poll::Ready(Ok(())) => Pin::new(&mut stream.socket).poll_shutdown(cx),
            other => other,
        }
    }
}
