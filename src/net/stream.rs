//! Streams of the async API: TCP, TLS and Unix sockets alike.

use super::address::Address;
use super::connect::{AddressIter, ConnectOptions, MAX_ADDRESSES};
use super::error::{NetCause, NetError};
#[cfg(feature = "tls")]
use super::tls::AsyncTlsStream;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::vec::Vec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

/// A stream to a server.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(AsyncTlsStream<TcpStream>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    /// Resolves the name to addresses, within `limit`; none for a Unix socket.
    pub(crate) async fn resolve(
        address: &Address,
        dialing: &ConnectOptions,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, NetError> {
        if let Some(found) = dialing.resolved() {
            return Ok(found);
        }
        let Some(host) = address.host() else {
            return Ok(Vec::new());
        };
        match timeout(limit, tokio::net::lookup_host(host)).await {
            Ok(Ok(found)) => Ok(found.take(MAX_ADDRESSES).collect()),
            Ok(Err(error)) => Err(NetError::unsent(NetCause::Connect(error))),
            Err(_) => Err(NetError::unsent(NetCause::Timeout(limit))),
        }
    }

    /// Connects to the first of these addresses that can be reached, which are what the name leads
    /// to, within `limit`.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub(crate) async fn dial(
        address: &Address,
        found: &[SocketAddr],
        dialing: &ConnectOptions,
        limit: Duration,
    ) -> Result<Self, NetError> {
        let deadline = Instant::now() + limit;
        // The inner limits are checked first: they say more exactly what took too long.
        timeout_at(
            deadline,
            Self::open(address, found, dialing, limit, deadline),
        )
        .await
        .unwrap_or(Err(NetError::unsent(NetCause::Timeout(limit))))
    }

    async fn open(
        address: &Address,
        found: &[SocketAddr],
        dialing: &ConnectOptions,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Self, NetError> {
        let failed = |error| NetError::unsent(NetCause::Connect(error));
        match address {
            Address::Tcp { .. } => {
                let stream = open_tcp(found, dialing, limit, deadline).await?;
                Ok(Self::Tcp(stream))
            }
            #[cfg(feature = "tls")]
            Address::Tls { .. } => {
                let tls = dialing.tls().map_err(failed)?;
                let stream = open_tcp(found, dialing, limit, deadline).await?;
                let stream = AsyncTlsStream::connect(stream, tls, limit, deadline).await;
                Ok(Self::Tls(stream.map_err(failed)?))
            }
            #[cfg(not(feature = "tls"))]
            Address::Tls { .. } => Err(failed(io::ErrorKind::Unsupported.into())),
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Ok(Self::Unix(stream))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(failed(io::ErrorKind::Unsupported.into())),
        }
    }
}

async fn open_tcp(
    found: &[SocketAddr],
    dialing: &ConnectOptions,
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, NetError> {
    let failed = |error| NetError::unsent(NetCause::Connect(error));
    let stream = reach(found.iter().copied(), limit, deadline).await?;
    dialing.tune(&stream).map_err(failed)?;
    Ok(stream)
}

/// A connection to the first of the addresses that can be reached.
async fn reach(
    addresses: impl IntoIterator<Item = SocketAddr>,
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, NetError> {
    let mut candidates = AddressIter::new(addresses, limit);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (address, share) = candidates.next(left)?;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => candidates.failed(error),
            Err(_) => candidates.failed(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connect::tests::HalfDead;
    use super::*;

    #[tokio::test]
    async fn silent_address_leaves_time_for_next() {
        let half = HalfDead::new();
        let limit = Duration::from_secs(4);
        let deadline = Instant::now() + limit;
        let stream = reach([half.dead, half.alive], limit, deadline).await;
        let peer = stream.expect("the second one is alive").peer_addr();
        assert_eq!(peer.expect("an address"), half.alive);
        let limit = Duration::from_millis(200);
        let error = reach([half.dead], limit, Instant::now() + limit).await;
        let error = error.expect_err("it is dead");
        assert!(matches!(error.cause, NetCause::Timeout(_)), "{error}");
    }
}
