//! One connection of the blocking front.

use super::address::Address;
use super::buffers::Buffers;
use super::dial::tune;
use super::error::{NetCause, NetError};
use crate::wire::{Flight, Replies};
use core::time::Duration;
#[cfg(unix)]
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Instant;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// Limits each read and each write.
    fn set_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))
            }
        }
    }

    /// Whether there is nothing to be read: neither unasked bytes nor the end.
    #[cfg(unix)]
    fn is_quiet(&self) -> bool {
        use rustix::io::Errno;
        use rustix::net::{RecvFlags, recv};
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut byte = [0];
        let peeked = match self {
            Self::Tcp(stream) => recv(stream, &mut byte, flags),
            Self::Unix(stream) => recv(stream, &mut byte, flags),
        };
        matches!(peeked, Err(Errno::AGAIN))
    }

    /// Cannot be told without waiting: the next exchange finds out.
    #[cfg(not(unix))]
    fn is_quiet(&self) -> bool {
        true
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// A connection that carries one flight at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffers: Buffers,
    /// What reads and writes are limited to at present, to spare the calls that set it. Nothing
    /// before the first exchange.
    limit: Duration,
    /// A flight went wrong: the next bytes to arrive belong to nobody.
    dirty: bool,
}

impl Connection {
    /// Connects, within `limit`. A name that must be looked up may take longer: the system's
    /// resolver knows no limit. `patience` is for acknowledgements, see [`tune`].
    pub(crate) fn dial(
        address: &Address,
        limit: Duration,
        patience: Duration,
    ) -> Result<Self, NetError> {
        Ok(Self {
            stream: Self::open(address, limit, patience)?,
            buffers: Buffers::new(),
            limit: Duration::ZERO,
            dirty: false,
        })
    }

    fn open(address: &Address, limit: Duration, patience: Duration) -> Result<Stream, NetError> {
        let failed = |error| NetError::unsent(NetCause::Connect(error));
        match address {
            Address::Tcp { host, port } => {
                let deadline = Instant::now() + limit;
                let mut last = NetError::unsent(NetCause::NoAddress);
                for address in (host.as_str(), *port).to_socket_addrs().map_err(failed)? {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(NetError::unsent(NetCause::Timeout(limit)));
                    }
                    match TcpStream::connect_timeout(&address, left) {
                        Ok(stream) => {
                            tune(&stream, patience).map_err(failed)?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                            last = NetError::unsent(NetCause::Timeout(limit));
                        }
                        Err(error) => last = failed(error),
                    }
                }
                Err(last)
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let connect = || {
                    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                    // The time that a server too busy to accept is waited for, on Linux.
                    socket.set_write_timeout(Some(limit))?;
                    socket.connect(&SockAddr::unix(path)?)?;
                    Ok(UnixStream::from(socket))
                };
                connect().map(Stream::Unix).map_err(failed)
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(failed(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Whether the connection can carry another flight: the last one is over, and the server has
    /// neither closed it nor said anything unasked. Costs a system call.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.dirty && self.stream.is_quiet()
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
    pub(crate) fn exchange(&mut self, limit: Duration) -> Result<Replies<'_>, NetError> {
        self.dirty = true;
        self.set_limit(limit)
            .map_err(|error| NetError::unsent(NetCause::Io(error)))?;
        self.run(limit).map_err(NetError::sent)?;
        self.dirty = false;
        Ok(self.buffers.replies())
    }

    fn set_limit(&mut self, limit: Duration) -> io::Result<()> {
        if limit != self.limit {
            self.stream.set_timeout(limit)?;
            self.limit = limit;
        }
        Ok(())
    }

    fn run(&mut self, limit: Duration) -> Result<(), NetCause> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NetCause::Timeout(limit),
            _ => NetCause::Io(error),
        };
        let deadline = Instant::now() + limit;
        let mut chunk = [0; 4096];
        if let Err(error) = self.stream.write_all(self.buffers.flight.bytes()) {
            let cause = failed(error);
            // What the server said before it hung up tells more than that it did.
            if let (NetCause::Io(_), Ok(read)) = (&cause, self.stream.read(&mut chunk)) {
                return Err(NetCause::last_word(&chunk[..read]).unwrap_or(cause));
            }
            return Err(cause);
        }
        loop {
            let read = match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(failed)?,
            };
            if read == 0 {
                return Err(self.buffers.closed());
            }
            self.buffers.input.extend_from_slice(&chunk[..read]);
            if self.buffers.is_complete()? {
                return Ok(());
            }
            // The limit of the socket is one per read; a server that sends a byte now and then is
            // held to the same limit for all of them.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NetCause::Timeout(limit));
            }
            self.set_limit(left).map_err(failed)?;
        }
    }
}
