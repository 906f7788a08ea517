//! A session over any socket, whether it waits or says [`WouldBlock`](io::ErrorKind::WouldBlock).

use super::error;
use rustls::ClientConnection;
use std::io::{self, Read, Write};

#[derive(Debug)]
pub(super) struct Session {
    connection: ClientConnection,
}

impl Session {
    pub(super) const fn new(connection: ClientConnection) -> Self {
        Self { connection }
    }

    /// Continues the handshake, with at most one read. Returns whether it is complete.
    pub(super) fn shake(&mut self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        self.introduce(socket)?;
        if self.connection.is_handshaking() {
            if self.fill(socket)? == 0 {
                return Err(error::hung_up());
            }
            self.introduce(socket)?;
        }
        Ok(!self.connection.is_handshaking())
    }

    /// Sends the bytes of the handshake. A server that closes the connection during the handshake
    /// has sent the reason before.
    fn introduce(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        let Err(error) = self.send(socket) else {
            return Ok(());
        };
        if matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ) {
            return Err(error);
        }
        loop {
            match self.fill(socket) {
                Ok(1..) => {}
                Err(why) if why.kind() == io::ErrorKind::InvalidData => return Err(why),
                Ok(0) | Err(_) => return Err(error),
            }
        }
    }

    /// Reads at most once from the socket. `None` is for bytes that hold nothing for the caller, or
    /// not all of it yet; nothing read is the end.
    ///
    /// An end that was not announced is an end as well: where a reply ends is known without that.
    pub(super) fn read(
        &mut self,
        socket: &mut (impl Read + Write),
        buffer: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if let Some(length) = self.take(buffer)? {
            return Ok(Some(length));
        }
        self.fill(socket)?;
        self.take(buffer)
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.connection.reader().read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                io::ErrorKind::UnexpectedEof => Ok(Some(0)),
                _ => Err(error),
            },
        }
    }

    /// Takes in what one read gives, and returns how much that was.
    fn fill(&mut self, socket: &mut (impl Read + Write)) -> io::Result<usize> {
        let handshaking = self.connection.is_handshaking();
        let length = self.connection.read_tls(socket)?;
        if let Err(error) = self.connection.process_new_packets() {
            // The reason is sent to the server, in case it still listens.
            let _ = self.send(socket);
            return Err(error::of_error(&error, handshaking));
        }
        Ok(length)
    }

    /// Accepts as many of the bytes as there is room for, and sends what it can. Accepted bytes
    /// stay accepted: some may have arrived. The next call then returns the error of the socket.
    pub(super) fn write(
        &mut self,
        socket: &mut (impl Read + Write),
        bytes: &[u8],
    ) -> io::Result<usize> {
        let mut taken = self.connection.writer().write(bytes)?;
        let sent = self.send(socket);
        if taken == 0 {
            sent?;
            taken = self.connection.writer().write(bytes)?;
        }
        Ok(taken)
    }

    /// Sends all that is left to be sent.
    pub(super) fn flush(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        self.send(socket)?;
        socket.flush()
    }

    fn send(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns whether the server has neither sent unrequested bytes nor closed the connection, as
    /// far as was read.
    #[cfg(all(feature = "blocking", unix))]
    pub(super) fn is_quiet(&mut self) -> bool {
        self.connection
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed())
    }

    /// Takes in what has arrived, for its own sake: servers send tickets unasked. Returns whether
    /// there was anything.
    #[cfg(all(feature = "blocking", unix))]
    pub(super) fn take_in(&mut self, socket: &mut (impl Read + Write)) -> bool {
        self.fill(socket).is_ok_and(|length| length > 0)
    }

    /// Announces the end.
    #[cfg(feature = "tokio")]
    pub(super) fn close(&mut self) {
        self.connection.send_close_notify();
    }
}
