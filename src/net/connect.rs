//! Connection setup: the time limit for each address of a name, and the socket options of every
//! connection.

use super::error::{NetCause, NetError};
#[cfg(feature = "tls")]
use super::tls::Tls;
use core::net::SocketAddr;
use core::time::Duration;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::vec::Vec;

/// Idle time before the first keepalive probe, and between two of them.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The shortest time without an acknowledgement after which a peer counts as dead: a peer may delay
/// an acknowledgement for up to 200 ms.
const MIN_TIMEOUT: Duration = Duration::from_millis(250);

/// The number of addresses of a name that are tried.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// The options for a new connection, besides its address.
#[derive(Debug, Clone)]
pub(crate) struct ConnectOptions {
    /// The time for which bytes may remain unacknowledged before the connection counts as dead.
    pub(crate) timeout: Duration,
    /// For addresses that want it.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    /// The addresses to which all names resolve, for tests.
    #[cfg(test)]
    pub(crate) names: Option<Names>,
}

/// Addresses that a test can change.
#[cfg(test)]
pub(crate) type Names = std::sync::Arc<std::sync::Mutex<Vec<SocketAddr>>>;

impl ConnectOptions {
    /// For exchanges with this limit, about leases of this length. Where the network swallows what
    /// is sent, that is known early enough for another try within the lease, unless that is
    /// shorter than half a second.
    pub(crate) fn new(operation_timeout: Duration, lease: Duration) -> Self {
        Self {
            timeout: operation_timeout.min(lease / 2).max(MIN_TIMEOUT),
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(test)]
            names: None,
        }
    }

    /// The replacement of the system's resolver.
    #[cfg(test)]
    pub(crate) fn resolved(&self) -> Option<Vec<SocketAddr>> {
        let names = self.names.as_ref()?;
        Some(names.lock().expect("no test panics with it").clone())
    }

    /// The replacement of the system's resolver: none.
    #[cfg(not(test))]
    pub(crate) const fn resolved(&self) -> Option<Vec<SocketAddr>> {
        None
    }

    /// The TLS configuration for an address that requires TLS. Such an address has no other code
    /// path.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> io::Result<&Tls> {
        self.tls.as_ref().ok_or(io::ErrorKind::Unsupported.into())
    }

    /// Sets the options of a connection for small, urgent exchanges: no delay for small writes, an
    /// early notice when the peer has gone, and a time limit for acknowledgements.
    pub(crate) fn tune<'s, S>(&self, stream: &'s S) -> io::Result<()>
    where
        SockRef<'s>: From<&'s S>,
    {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEPALIVE)
                .with_interval(KEEPALIVE),
        )?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(self.timeout))?;
        Ok(())
    }
}

/// The addresses of a name to try, one after the other. Each has its share of the time, so that an
/// address that drops all packets does not use up the time of the next one.
#[derive(Debug)]
pub(crate) struct AddressIter {
    /// The next one comes last.
    addresses: Vec<SocketAddr>,
    limit: Duration,
    /// The failure of the last address.
    failure: NetError,
}

impl AddressIter {
    pub(crate) fn new(addresses: impl IntoIterator<Item = SocketAddr>, limit: Duration) -> Self {
        let mut addresses: Vec<_> = addresses.into_iter().take(MAX_ADDRESSES).collect();
        addresses.reverse();
        Self {
            addresses,
            limit,
            failure: NetError::unsent(NetCause::NoAddress),
        }
    }

    /// Returns the next address and the time limit for it, when `left` remains of the whole limit.
    ///
    /// # Errors
    /// The reason why no address could be reached.
    pub(crate) fn next(&mut self, left: Duration) -> Result<(SocketAddr, Duration), NetError> {
        let count = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        match self.addresses.pop() {
            Some(_) if left.is_zero() => Err(NetError::unsent(NetCause::Timeout(self.limit))),
            Some(address) => Ok((address, left / count)),
            None => Err(core::mem::replace(
                &mut self.failure,
                NetError::unsent(NetCause::NoAddress),
            )),
        }
    }

    /// The one that [`next`](Self::next) gave could not be reached.
    pub(crate) fn failed(&mut self, error: io::Error) {
        self.failure = NetError::unsent(match error.kind() {
            io::ErrorKind::TimedOut => NetCause::Timeout(self.limit),
            _ => NetCause::Connect(error),
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use socket2::{Domain, Socket, Type};
    use std::net::{TcpListener, TcpStream};

    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 11211))
    }

    /// Two addresses with the same port: one swallows all attempts to connect, the other is alive.
    pub(crate) struct HalfDead {
        pub(crate) dead: SocketAddr,
        pub(crate) alive: SocketAddr,
        _listeners: (Socket, TcpListener),
        _queue: Vec<Socket>,
    }

    impl HalfDead {
        pub(crate) fn new() -> Self {
            // No process accepts connections, and the queue is full: the system drops every further
            // one.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            socket.bind(&any.into()).expect("a free port");
            socket.listen(0).expect("a queue");
            let dead = socket.local_addr().expect("an address");
            let dead = dead.as_socket().expect("an address of IP");
            let mut queue = Vec::new();
            for _ in 0..3 {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                client.set_nonblocking(true).expect("a socket option");
                let _ = client.connect(&dead.into());
                queue.push(client);
            }
            assert!(
                TcpStream::connect_timeout(&dead, SECOND / 5).is_err(),
                "it was to be dead"
            );
            let alive = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), dead.port()));
            let listener = TcpListener::bind(alive).expect("the other address is free");
            Self {
                dead,
                alive,
                _listeners: (socket, listener),
                _queue: queue,
            }
        }
    }

    #[test]
    fn addresses_share_the_connect_timeout() {
        let mut candidates = AddressIter::new([1, 2, 3].map(address), SECOND * 3);
        let next = candidates.next(SECOND * 3).ok();
        assert_eq!(next, Some((address(1), SECOND)));
        // Time that the first address did not use remains for the others.
        candidates.failed(io::ErrorKind::ConnectionRefused.into());
        let next = candidates.next(SECOND * 3).ok();
        assert_eq!(next, Some((address(2), SECOND * 3 / 2)));
        candidates.failed(io::ErrorKind::TimedOut.into());
        let next = candidates.next(SECOND).ok();
        assert_eq!(next, Some((address(3), SECOND)));
        candidates.failed(io::ErrorKind::ConnectionRefused.into());
        let error = candidates.next(SECOND).expect_err("that was the last");
        assert!(matches!(error.cause, NetCause::Connect(_)), "{error:?}");
    }

    #[test]
    fn expired_timeout_tries_nothing() {
        let mut candidates = AddressIter::new([1, 2].map(address), SECOND);
        let error = candidates.next(Duration::ZERO).expect_err("no time");
        assert!(matches!(error.cause, NetCause::Timeout(SECOND)));
        let error = AddressIter::new([], SECOND).next(SECOND).expect_err("none");
        assert!(matches!(error.cause, NetCause::NoAddress));
        let mut many = AddressIter::new((0..=255).map(address), SECOND);
        let (_, share) = many.next(SECOND * 16).expect("some");
        assert_eq!(share, SECOND);
    }

    #[test]
    fn unacknowledged_data_ends_before_lease() {
        let patience = |operation, lease| ConnectOptions::new(operation, lease).timeout;
        assert_eq!(patience(SECOND, SECOND * 10), SECOND);
        assert_eq!(patience(SECOND * 60, SECOND * 10), SECOND * 5);
        assert_eq!(patience(SECOND, SECOND), SECOND / 2);
        assert_eq!(patience(SECOND, SECOND / 10), MIN_TIMEOUT);
        assert_eq!(patience(SECOND / 100, SECOND), MIN_TIMEOUT);
    }

    #[test]
    fn connection_has_socket_options() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).expect("a connection");
        let dialing = ConnectOptions::new(SECOND, SECOND * 10);
        dialing.tune(&stream).expect("socket options");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(SECOND));
    }
}
