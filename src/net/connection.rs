//! One connection of the async front.

use super::address::Address;
use super::buffers::Buffers;
use super::dial::tune;
use super::error::{NetCause, NetError};
use crate::wire::{Flight, Replies};
use core::time::Duration;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::timeout;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A connection that carries one flight at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffers: Buffers,
    /// A flight is under way, or one went wrong: the next bytes to arrive belong to nobody.
    ///
    /// Set before the first byte is written and cleared behind the last one read, so that
    /// neither a dropped future nor a forgotten one can leave a connection that looks clean.
    dirty: bool,
}

impl Connection {
    /// Connects, within `limit`.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn dial(address: &Address, limit: Duration) -> Result<Self, NetError> {
        let stream = match timeout(limit, Self::open(address, limit)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(NetError::unsent(NetCause::Connect(error))),
            Err(_) => return Err(NetError::unsent(NetCause::Timeout(limit))),
        };
        Ok(Self {
            stream,
            buffers: Buffers::new(),
            dirty: false,
        })
    }

    async fn open(address: &Address, limit: Duration) -> io::Result<Stream> {
        match address {
            Address::Tcp { host, port } => {
                // Tries the addresses of the name one after the other.
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                tune(&stream, limit)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(unix)]
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether the connection can carry another flight: the last one is over, and the server has
    /// neither closed it nor said anything unasked. Costs no system call.
    pub(crate) fn is_reusable(&self) -> bool {
        let mut byte = [0];
        let peeked = match &self.stream {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.try_read(&mut byte),
        };
        let quiet = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        quiet && !self.dirty
    }

    /// Whether a flight was begun and not ended.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The flight to be filled for the next exchange.
    pub(crate) fn next_flight(&mut self) -> &mut Flight {
        self.buffers.clear();
        &mut self.buffers.flight
    }

    /// Sends the flight and reads all its replies, within `limit`.
    ///
    /// # Errors
    /// [`NetError::sent`] tells whether the server may have seen any of it. The connection is of
    /// no further use then.
    ///
    /// # Cancel safety
    /// A dropped exchange leaves the connection dirty, and so unusable: its replies reach nobody.
    /// What was sent may still be carried out.
    pub(crate) async fn exchange(&mut self, limit: Duration) -> Result<Replies<'_>, NetError> {
        self.dirty = true;
        let buffers = &mut self.buffers;
        let exchange = async {
            match &mut self.stream {
                Stream::Tcp(stream) => run(stream, buffers).await,
                #[cfg(unix)]
                Stream::Unix(stream) => run(stream, buffers).await,
            }
        };
        match timeout(limit, exchange).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => return Err(NetError::sent(cause)),
            Err(_) => return Err(NetError::sent(NetCause::Timeout(limit))),
        }
        self.dirty = false;
        Ok(self.buffers.replies())
    }
}

async fn run<S>(stream: &mut S, buffers: &mut Buffers) -> Result<(), NetCause>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A flight is far smaller than any socket buffer, and the server answers nothing big: the
    // write cannot wait for a read.
    stream
        .write_all(buffers.flight.bytes())
        .await
        .map_err(NetCause::Io)?;
    loop {
        let read = stream
            .read_buf(&mut buffers.input)
            .await
            .map_err(NetCause::Io)?;
        if read == 0 {
            return Err(buffers.closed());
        }
        if buffers.is_complete()? {
            return Ok(());
        }
    }
}
