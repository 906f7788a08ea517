//! TLS over a stream of the blocking API.

use super::session::Session;
use super::{Tls, error};
use core::time::Duration;
use std::boxed::Box;
use std::io;
use std::net::TcpStream;
use std::time::Instant;

/// A stream to a server, encrypted.
#[derive(Debug)]
pub(crate) struct BlockingTlsStream {
    socket: TcpStream,
    // It is large, and streams without TLS are not to grow by it.
    session: Box<Session>,
}

impl BlockingTlsStream {
    /// Makes the handshake, until the deadline of the whole `limit`. A server that sends a byte now
    /// and then is held to it as well.
    pub(crate) fn connect(
        mut socket: TcpStream,
        tls: &Tls,
        limit: Duration,
        deadline: Instant,
    ) -> io::Result<Self> {
        let mut session = Box::new(tls.session()?);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(error::silent(limit));
            }
            socket.set_read_timeout(Some(left))?;
            socket.set_write_timeout(Some(left))?;
            match session.shake(&mut socket) {
                Ok(false) => {}
                Ok(true) => return Ok(Self { socket, session }),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(error::silent(limit));
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads at most once from the socket; what holds nothing for the caller is an interruption.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.session.read(&mut self.socket, buffer)?;
        read.ok_or_else(|| io::ErrorKind::Interrupted.into())
    }

    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.session.write(&mut self.socket, bytes)?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[taken..];
        }
        self.session.flush(&mut self.socket)
    }

    /// Returns whether there is nothing to read, session tickets aside: neither unrequested bytes
    /// nor the end of the stream. `arrived` says whether the socket has anything.
    #[cfg(unix)]
    pub(crate) fn is_quiet(&mut self, arrived: impl Fn(&TcpStream) -> bool) -> bool {
        /// Servers send two tickets. More than these is no silence.
        const MOST_READS: usize = 8;
        for _ in 0..MOST_READS {
            if !self.session.is_quiet() {
                return false;
            }
            if !arrived(&self.socket) {
                return true;
            }
            if !self.session.take_in(&mut self.socket) {
                return false;
            }
        }
        false
    }
}
