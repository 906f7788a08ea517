//! Socket options that every TCP connection gets.

use core::time::Duration;
use socket2::{SockRef, TcpKeepalive};
use std::io;

/// Idle time before the first keepalive probe, and between two of them.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Sets what a connection for small, urgent exchanges needs: no delay for small writes, an early
/// notice when the peer has gone, and no waiting for acknowledgements beyond `patience`.
pub(crate) fn tune<'s, S>(stream: &'s S, patience: Duration) -> io::Result<()>
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
    socket.set_tcp_user_timeout(Some(patience.max(Duration::from_secs(1))))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = patience;
    Ok(())
}
