//! TLS: the trusted certificates, the client's own certificate, and streams of both APIs over one
//! and the same session.

#[cfg(feature = "blocking")]
mod blocking;
mod error;
mod session;
#[cfg(feature = "tokio")]
mod stream;
#[cfg(test)]
mod tests;

#[cfg(feature = "blocking")]
pub(crate) use blocking::BlockingTlsStream;
#[cfg(feature = "tokio")]
pub(crate) use stream::AsyncTlsStream;

use core::fmt;
use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use session::Session;
use std::borrow::ToOwned;
use std::format;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// The largest file that is read. The authorities of a whole system take a tenth of it.
const LARGEST_FILE: u64 = 4 << 20;

/// The mark that some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The user's settings for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// The authorities to trust, in place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// A certificate with those that lead to its authority, and its key.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have, in place of the host's.
    pub(crate) server_name: Option<String>,
}

/// The TLS configuration for one server.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The setting that cannot be used, and the reason.
    pub(crate) fn new(options: &TlsOptions, host: &str) -> Result<Self, String> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            format!(
                "`{name}` is neither a DNS name nor an IP address that a certificate can be for"
            )
        })?;
        // Never that of the process: other crates may have set another one, or none.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS is not to be had: {error}"))?
            .with_root_certificates(match &options.ca_file {
                Some(file) => authorities_of(file)?,
                None => authorities_of_the_system()?,
            });
        let mut config =
            match &options.client_certificate {
                None => config.with_no_client_auth(),
                Some((certificate, key)) => {
                    let chain = certificates_of(certificate)?;
                    let secret = key_of(key)?;
                    config.with_client_auth_cert(chain, secret).map_err(|error| {
                    format!(
                        "the key in `{}` and the certificate in `{}` cannot be used together: \
                         {error}",
                        key.display(),
                        certificate.display()
                    )
                })?
                }
            };
        // memcached that asks for certificates ends every session that is resumed: it gives them no
        // id context, without which OpenSSL refuses. A client connects too seldom to miss it.
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    fn session(&self) -> io::Result<Session> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map(Session::new)
            .map_err(|error| error::of_error(&error, true))
    }
}

fn certificates_of(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("`{}` holds no certificates as PEM: {error}", file.display());
    let text = contents(file)?;
    let certificates = CertificateDer::pem_slice_iter(&text);
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Nothing that the file holds is part of the error.
fn key_of(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&contents(file)?).map_err(|_| {
        format!(
            "`{}` holds no private key as PEM that is not encrypted",
            file.display()
        )
    })
}

/// The bytes of a file that is not larger than any of these files is, without a byte order mark.
fn contents(file: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("`{}` cannot be read: {error}", file.display());
    let mut bytes = Vec::new();
    let open = File::open(file).map_err(failed)?;
    let read = open.take(LARGEST_FILE + 1).read_to_end(&mut bytes);
    read.map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!(
            "`{}` is larger than {LARGEST_FILE} bytes; certificates and keys are not",
            file.display()
        ));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

fn authorities_of(file: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates_of(file)? {
        store.add(certificate).map_err(|error| {
            format!(
                "`{}` holds a certificate that is none of an authority: {error}",
                file.display()
            )
        })?;
    }
    Ok(store)
}

fn authorities_of_the_system() -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // System stores also hold old certificates that cannot be parsed any more.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "this system has no certificates of authorities{why}; install them, or name a CA file"
        ));
    }
    Ok(store)
}
