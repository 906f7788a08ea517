//! The two kinds of socket as one.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            #[cfg(unix)]
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    /// Answers are written whole; waiting for more to send would only delay them.
    pub(crate) fn send_at_once(&self) {
        if let Self::Tcp(stream) = self {
            // It fails when the peer has gone already, and then it does not matter.
            let _ = stream.set_nodelay(true);
        }
    }

    /// Ends the connection for both sides; a thread that waits for bytes of it wakes up.
    pub(crate) fn end(&self) {
        // It fails when the peer was faster, which is as good.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    pub(crate) const fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// For how long a read waits.
    pub(crate) fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    /// The other side, as `stats conns` shows it.
    pub(crate) fn peer(&self) -> String {
        match self {
            Self::Tcp(stream) => stream
                .peer_addr()
                .map_or_else(|_| "tcp:unknown".to_string(), |addr| format!("tcp:{addr}")),
            #[cfg(unix)]
            Self::Unix(_) => "unix:".to_string(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok(Stream::Unix(stream))
            }
        }
    }
    /// Closes all connections that were made and not accepted yet.
    pub(crate) fn turn_away(&self) {
        if self.set_nonblocking(true).is_err() {
            return;
        }
        loop {
            match self.accept() {
                Ok(stream) => drop(stream),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // An option that could be set can be reset.
        let _ = self.set_nonblocking(false);
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(nonblocking),
            #[cfg(unix)]
            Self::Unix(listener) => listener.set_nonblocking(nonblocking),
        }
    }
}
