//! A way into servers that speak no TLS, by TLS.

use super::certificates::{Authority, Pair};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Something that speaks TLS and passes everything on to a server that does not.
pub struct Gateway {
    address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// The number of them that have ended.
    ended: Arc<AtomicUsize>,
    /// Raised to have all connections closed.
    hang_up: Arc<AtomicUsize>,
}

impl Gateway {
    pub fn new(
        pair: &Pair,
        version: &'static rustls::SupportedProtocolVersion,
        clients: Option<&Authority<'_>>,
        server: SocketAddr,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(&pair.certificate).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("a version");
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                let root = CertificateDer::from_pem_file(&authority.file).expect("a file");
                roots.add(root).expect("an authority");
                let roots = Arc::new(roots);
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider);
                config.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let config = config.with_single_cert(chain, key).expect("a certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let gateway = Self {
            address: listener.local_addr().expect("an address"),
            connections: Arc::default(),
            ended: Arc::default(),
            hang_up: Arc::default(),
        };
        let connections = Arc::clone(&gateway.connections);
        let ended = Arc::clone(&gateway.ended);
        let hang_up = Arc::clone(&gateway.hang_up);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Read first: whatever is counted is ended by the next hang-up.
                let generation = hang_up.load(Ordering::SeqCst);
                connections.fetch_add(1, Ordering::SeqCst);
                let config = Arc::clone(&config);
                let (ended, hang_up) = (Arc::clone(&ended), Arc::clone(&hang_up));
                thread::spawn(move || {
                    let session = rustls::ServerConnection::new(config).expect("a session");
                    // Whatever goes wrong, the client notices.
                    let client = rustls::StreamOwned::new(session, stream);
                    let _ = pass_on(client, server, || {
                        hang_up.load(Ordering::SeqCst) != generation
                    });
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        gateway
    }

    pub fn url(&self) -> String {
        format!("memcacheds://{}", self.address)
    }

    /// Ends all connections that there are, and returns when they are closed.
    pub fn hang_up(&self) {
        let open = self.connections.load(Ordering::SeqCst);
        self.hang_up.fetch_add(1, Ordering::SeqCst);
        while self.ended.load(Ordering::SeqCst) < open {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn pass_on(
    mut client: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    server: SocketAddr,
    hangs_up: impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let pause = Some(Duration::from_millis(1));
    while client.conn.is_handshaking() {
        if let Err(error) = client.conn.complete_io(&mut client.sock) {
            // An alert that unread bytes follow may be lost on its way.
            client.sock.shutdown(Shutdown::Write)?;
            while client.sock.read(&mut [0; 4096])? > 0 {}
            return Err(error);
        }
    }
    client.sock.set_read_timeout(pause)?;
    server.set_read_timeout(pause)?;
    let mut chunk = [0; 4096];
    let waits = |error: &std::io::Error| {
        matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        )
    };
    while !hangs_up() {
        match client.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => server.write_all(&chunk[..length])?,
            Err(error) if waits(&error) => {}
            Err(error) => return Err(error),
        }
        match server.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => {
                client.write_all(&chunk[..length])?;
                client.flush()?;
            }
            Err(error) if waits(&error) => {}
            Err(error) => return Err(error),
        }
    }
    client.conn.send_close_notify();
    client.flush()
}
