//! A session over a socket that takes and gives as it likes, with the server in memory.

use super::session::Session;
use super::{Tls, TlsOptions};
use core::sync::atomic::{AtomicU32, Ordering};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::string::ToString;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

/// The other end: what was sent to it and what it has to say.
struct Wire {
    server: ServerConnection,
    /// The number of bytes that it accepts; `None` is a broken socket.
    takes: Option<usize>,
    answers: Vec<u8>,
    heard: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.server.wants_write() {
            self.server.write_tls(&mut self.answers)?;
        }
        // Never more than a few at a time.
        let length = self.answers.len().min(buffer.len()).min(7);
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..length].copy_from_slice(&self.answers[..length]);
        self.answers.drain(..length);
        Ok(length)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(takes) = &mut self.takes else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let length = bytes.len().min(*takes);
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        *takes -= length;
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            self.server.read_tls(&mut rest)?;
            let state = self.server.process_new_packets();
            let state = state.map_err(io::Error::other)?;
            let mut heard = vec![0; state.plaintext_bytes_to_read()];
            self.server.reader().read_exact(&mut heard)?;
            self.heard.extend_from_slice(&heard);
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client and a server that have agreed.
fn agreed() -> (Session, Wire) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["server".to_string()]).expect("a plain name");
    let certificate = params.self_signed(&key).expect("a certificate");
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = std::format!("memlatch-session-{}-{number}.pem", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, certificate.pem()).expect("a file");
    let options = TlsOptions {
        ca_file: Some(file.clone()),
        ..TlsOptions::default()
    };
    let tls = Tls::new(&options, "server").expect("a usable file");
    let _ = std::fs::remove_file(file);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .expect("a certificate");
    let mut wire = Wire {
        server: ServerConnection::new(Arc::new(config)).expect("a server"),
        takes: Some(usize::MAX),
        answers: Vec::new(),
        heard: Vec::new(),
    };
    let mut session = tls.session().expect("a session");
    while !session.shake(&mut wire).expect("an agreement") {}
    (session, wire)
}

/// Reads what is there.
fn read(session: &mut Session, wire: &mut Wire) -> io::Result<usize> {
    let mut buffer = [0; 64];
    loop {
        if let Some(length) = session.read(wire, &mut buffer)? {
            return Ok(length);
        }
    }
}

#[test]
fn accepted_bytes_arrive_when_writable() {
    let (mut session, mut wire) = agreed();
    wire.takes = Some(5);
    let taken = session.write(&mut wire, b"mg a\r\n").expect("room inside");
    assert_eq!(taken, 6);
    let flushed = session.flush(&mut wire).expect_err("no room outside");
    assert_eq!(flushed.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(wire.heard, b"");
    wire.takes = Some(usize::MAX);
    session.flush(&mut wire).expect("room");
    assert_eq!(wire.heard, b"mg a\r\n");
}

/// An error means to the caller that nothing was sent.
#[test]
fn accepted_bytes_never_count_as_unsent() {
    let (mut session, mut wire) = agreed();
    wire.takes = None;
    let taken = session
        .write(&mut wire, b"mg a\r\n")
        .expect("it may arrive");
    assert_eq!(taken, 6);
    assert!(session.flush(&mut wire).is_err());
    // If there is no more room inside, no byte was accepted.
    wire.takes = Some(0);
    let much = vec![b'x'; 1 << 20];
    while session.write(&mut wire, &much).is_ok() {}
    let error = session.write(&mut wire, b"x").expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn session_tickets_are_not_data() {
    let (mut session, mut wire) = agreed();
    let quiet = read(&mut session, &mut wire).expect_err("tickets alone");
    assert_eq!(quiet.kind(), io::ErrorKind::WouldBlock);
    wire.server.writer().write_all(b"EN\r\n").expect("room");
    assert_eq!(read(&mut session, &mut wire).expect("a reply"), 4);
    wire.server.send_close_notify();
    assert_eq!(read(&mut session, &mut wire).expect("the end"), 0);
}

/// Bytes that were changed on the way are not accepted as a reply.
#[test]
fn tampered_bytes_are_an_error() {
    let (mut session, mut wire) = agreed();
    let _ = read(&mut session, &mut wire);
    wire.server.writer().write_all(b"EN\r\n").expect("room");
    wire.server.write_tls(&mut wire.answers).expect("room");
    let last = wire.answers.len() - 1;
    wire.answers[last] ^= 1;
    let error = read(&mut session, &mut wire).expect_err("tampered with");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("TLS failed"), "{error}");
}
