//! Errors of TLS, with advice on how to correct them.

use core::fmt;
use rustls::{AlertDescription, CertificateError, Error};
use std::format;
use std::io;
use std::string::String;

/// An error of TLS in plain words.
#[derive(Debug)]
struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for TlsError {}

/// The server closed the connection before TLS was agreed upon.
pub(super) fn hung_up() -> io::Error {
    let text = "the server hung up during the TLS handshake; does it speak TLS (-Z) at this port?";
    io::Error::new(io::ErrorKind::UnexpectedEof, TlsError(text.into()))
}

/// The server did not say enough in time.
pub(super) fn silent(limit: core::time::Duration) -> io::Error {
    let text = format!(
        "the TLS handshake was not over within {limit:?}; does the server speak TLS (-Z) at this \
         port?"
    );
    io::Error::new(io::ErrorKind::TimedOut, TlsError(text))
}

/// Translates an error, from during the handshake or after it.
pub(super) fn of_error(error: &Error, handshaking: bool) -> io::Error {
    let text = match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => refusal(*alert),
        Error::InvalidMessage(_) if handshaking => {
            "TLS failed: what the server says is not TLS; a server without TLS is at memcached://, \
             not at memcacheds://"
                .into()
        }
        error => format!("TLS failed: {error}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, TlsError(text))
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "the certificate of the server comes from an authority that is not trusted; name the \
             CA file of the right one"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of the server has expired, or the clock of this machine is wrong \
             ({error})"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
            "the certificate of the server is not valid yet, or the clock of this machine is \
             wrong ({error})"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the certificate of the server is for another name ({error}); connect to one that \
                 it is for, or say which one it must have"
            )
        }
        error => format!("the certificate of the server cannot be accepted: {error}"),
    }
}

/// The server ended it.
fn refusal(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => {
            "the server wants a client certificate, and none was given".into()
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            format!("the server does not accept the client certificate ({alert:?})")
        }
        // All that servers of TLS 1.2 say when they miss one.
        Alert::HandshakeFailure => {
            "the server refused the TLS handshake; it may want a client certificate, or ciphers \
             that are too weak"
                .into()
        }
        Alert::ProtocolVersion => "the server speaks neither TLS 1.2 nor TLS 1.3".into(),
        alert => format!("the server ended TLS ({alert:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_error_repeats_nothing() {
        for error in [
            Error::InvalidCertificate(CertificateError::Expired),
            Error::AlertReceived(AlertDescription::BadCertificate),
            Error::DecryptError,
        ] {
            let told = of_error(&error, true);
            assert!(core::error::Error::source(&told).is_none(), "{told}");
        }
    }
}
