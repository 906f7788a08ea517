//! One connection of the blocking API.

mod dump;

use super::address::Address;
use super::buffers::Buffers;
pub(crate) use super::buffers::ReplyObserver;
use super::connect::{AddressIter, ConnectOptions, MAX_ADDRESSES};
use super::error::{NetCause, NetError};
#[cfg(feature = "tls")]
use super::tls::BlockingTlsStream;
use crate::wire::{Flight, Replies};
use core::net::SocketAddr;
use core::time::Duration;
#[cfg(unix)]
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Instant;
use std::vec::Vec;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(BlockingTlsStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// Limits each read and each write.
    fn set_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                stream.socket().set_read_timeout(Some(limit))?;
                stream.socket().set_write_timeout(Some(limit))
            }
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

    /// Returns whether there is nothing to read: neither unrequested bytes nor the end of the
    /// stream.
    #[cfg(unix)]
    fn is_quiet(&mut self) -> bool {
        use rustix::io::Errno;
        use rustix::net::{RecvFlags, recv};
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut byte = [0];
        let peeked = match self {
            Self::Tcp(stream) => recv(stream, &mut byte, flags),
            Self::Unix(stream) => recv(stream, &mut byte, flags),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                return stream
                    .is_quiet(|socket| recv(socket, &mut [0], flags) != Err(Errno::AGAIN));
            }
        };
        matches!(peeked, Err(Errno::AGAIN))
    }

    /// Always true: this cannot be seen here without waiting. The next exchange finds out.
    #[cfg(not(unix))]
    fn is_quiet(&mut self) -> bool {
        true
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write_all(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// A connection that carries one flight at a time, and before it at most one flight without a
/// waiting caller.
#[derive(Debug)]
pub(crate) struct Connection<T> {
    stream: Stream,
    buffers: Buffers<T>,
    /// The present time limit of reads and writes, kept to save the calls that set it. Zero before
    /// the first exchange.
    limit: Duration,
    /// A flight failed: the next bytes to arrive belong to no flight.
    dirty: bool,
}

impl<T: ReplyObserver> Connection<T> {
    /// Resolves the name to addresses; none for a Unix socket. The system's resolver has no time
    /// limit.
    pub(crate) fn resolve(
        address: &Address,
        dialing: &ConnectOptions,
    ) -> Result<Vec<SocketAddr>, NetError> {
        if let Some(found) = dialing.resolved() {
            return Ok(found);
        }
        let Some(host) = address.host() else {
            return Ok(Vec::new());
        };
        let found = host.to_socket_addrs();
        let found = found.map_err(|error| NetError::unsent(NetCause::Connect(error)))?;
        Ok(found.take(MAX_ADDRESSES).collect())
    }

    /// Connects to the first of these addresses that can be reached, which are what the name leads
    /// to, within `limit`.
    pub(crate) fn dial(
        address: &Address,
        found: &[SocketAddr],
        dialing: &ConnectOptions,
        limit: Duration,
    ) -> Result<Self, NetError> {
        Self::open(address, found, dialing, limit).map(Self::over)
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            buffers: Buffers::new(),
            limit: Duration::ZERO,
            dirty: false,
        }
    }

    fn open(
        address: &Address,
        found: &[SocketAddr],
        dialing: &ConnectOptions,
        limit: Duration,
    ) -> Result<Stream, NetError> {
        let failed = |error| NetError::unsent(NetCause::Connect(error));
        match address {
            Address::Tcp { .. } => {
                let deadline = Instant::now() + limit;
                let stream = open_tcp(found, dialing, limit, deadline)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(feature = "tls")]
            Address::Tls { .. } => {
                let deadline = Instant::now() + limit;
                let tls = dialing.tls().map_err(failed)?;
                let stream = open_tcp(found, dialing, limit, deadline)?;
                let stream = BlockingTlsStream::connect(stream, tls, limit, deadline);
                Ok(Stream::Tls(stream.map_err(failed)?))
            }
            #[cfg(not(feature = "tls"))]
            Address::Tls { .. } => Err(failed(io::ErrorKind::Unsupported.into())),
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

    /// Returns whether the connection can carry another flight: the last one is complete, and the
    /// server has neither closed the connection nor sent anything unrequested. Costs a system call.
    /// A flight that was sent ahead must be [settled](Self::settle) first.
    pub(crate) fn is_reusable(&mut self) -> bool {
        !self.dirty && self.stream.is_quiet()
    }

    /// Returns whether a flight was begun and not completed.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Returns whether the reply to a flight that was sent ahead is outstanding.
    pub(crate) const fn has_ahead(&self) -> bool {
        self.buffers.has_ahead()
    }

    /// Sends the flight, of one request with one reply, and leaves the reply to be read before
    /// those to the next flight. Returns whether that went well: if not, the connection is of no
    /// further use. Not for a connection that [has one](Self::has_ahead) already.
    pub(crate) fn send_ahead(&mut self, limit: Duration, subject: impl FnOnce() -> T) -> bool {
        self.dirty = true;
        let sent = self
            .set_limit(limit)
            .and_then(|()| self.stream.write_all(self.buffers.flight.bytes()));
        if sent.is_ok() {
            self.buffers.sent_ahead(subject());
            self.dirty = false;
        }
        sent.is_ok()
    }

    /// Reads the reply to the flight sent ahead, if there is one, within `limit`. Returns whether
    /// that went well: if not, the connection is of no further use.
    pub(crate) fn settle(&mut self, limit: Duration, elapsed: impl Fn() -> Duration) -> bool {
        if !self.has_ahead() {
            return true;
        }
        self.dirty = true;
        self.buffers.clear();
        if limit.is_zero() || self.set_limit(limit).is_err() {
            return false;
        }
        let settled = self.read_until(Buffers::is_settled, limit, elapsed);
        self.dirty = settled.is_err();
        !self.dirty
    }

    /// The flight to be filled for the next exchange.
    pub(crate) fn next_flight(&mut self) -> &mut Flight {
        self.buffers.clear();
        &mut self.buffers.flight
    }

    /// Sends the flight and reads all its replies, within `limit`; `elapsed` returns how much of
    /// the limit has passed.
    ///
    /// # Errors
    /// [`NetError::sent`] says whether the server may have seen any of the flight. The connection
    /// is unusable afterwards.
    pub(crate) fn exchange(
        &mut self,
        limit: Duration,
        elapsed: impl Fn() -> Duration,
    ) -> Result<Replies<'_>, NetError> {
        self.dirty = true;
        self.set_limit(limit)
            .map_err(|error| NetError::unsent(NetCause::Io(error)))?;
        self.run(limit, elapsed).map_err(NetError::sent)?;
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

    fn run(&mut self, limit: Duration, elapsed: impl Fn() -> Duration) -> Result<(), NetCause> {
        if let Err(error) = self.stream.write_all(self.buffers.flight.bytes()) {
            let cause = failed(error, limit);
            if matches!(cause, NetCause::Timeout(_)) {
                return Err(cause);
            }
            // The last bytes of the server say more than the fact that it closed the connection.
            return Err(match self.stream.read(self.buffers.room()) {
                Ok(read) => {
                    self.buffers.received(read);
                    self.buffers.final_error().unwrap_or(cause)
                }
                // An alert of TLS.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => NetCause::Io(error),
                Err(_) => cause,
            });
        }
        self.read_until(Buffers::is_complete, limit, elapsed)
    }

    /// Reads until all is there, within `limit`.
    fn read_until(
        &mut self,
        mut is_there: impl FnMut(&mut Buffers<T>) -> Result<bool, NetCause>,
        limit: Duration,
        elapsed: impl Fn() -> Duration,
    ) -> Result<(), NetCause> {
        loop {
            match self.stream.read(self.buffers.room()) {
                Ok(0) => return Err(self.buffers.closed()),
                Ok(read) => {
                    self.buffers.received(read);
                    if is_there(&mut self.buffers)? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, limit)),
            }
            // The limit of the socket applies to each read; a server that sends a byte now and then
            // is held to the same limit for all of them. The limit is not so strict that replies in
            // close succession each cost the system calls that set it.
            let left = limit.saturating_sub(elapsed());
            if left.is_zero() {
                return Err(NetCause::Timeout(limit));
            }
            if left + limit / 64 < self.limit {
                self.set_limit(left).map_err(NetCause::Io)?;
            }
        }
    }
}

fn failed(error: io::Error, limit: Duration) -> NetCause {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NetCause::Timeout(limit),
        _ => NetCause::Io(error),
    }
}

fn open_tcp(
    found: &[SocketAddr],
    dialing: &ConnectOptions,
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, NetError> {
    let failed = |error| NetError::unsent(NetCause::Connect(error));
    let stream = reach(found.iter().copied(), limit, deadline)?;
    dialing.tune(&stream).map_err(failed)?;
    Ok(stream)
}

/// A connection to the first of the addresses that can be reached.
fn reach(
    addresses: impl IntoIterator<Item = SocketAddr>,
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, NetError> {
    let mut candidates = AddressIter::new(addresses, limit);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (address, share) = candidates.next(left)?;
        // A wait of no time at all is none that the system knows.
        match TcpStream::connect_timeout(&address, share.max(Duration::from_micros(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => candidates.failed(error),
        }
    }
}

#[cfg(test)]
mod tests;
