//! Where a server is.

use core::fmt;
use core::str::FromStr;
use std::borrow::ToOwned;
use std::path::PathBuf;
use std::string::String;

/// memcached's port where none is given.
pub const DEFAULT_PORT: u16 = 11211;

/// Where a server is: `memcached://host:port`, `memcacheds://host:port` for TLS (with the feature
/// `tls`), `unix:///path`, or `host:port` alone.
///
/// The port may be left out (11211, with TLS as well). IPv6 addresses stand in brackets when a port follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name or an IP address.
        host: String,
        /// The port.
        port: u16,
    },
    /// TLS over TCP, and nothing else.
    Tls {
        /// A name or an IP address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |why| AddressError {
            address: text.chars().take(200).collect(),
            why,
        };
        if text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(fail("it holds spaces or control characters"));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(fail("a Unix socket needs an absolute path"));
            }
            if !cfg!(unix) {
                return Err(fail("this system has no Unix sockets"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let (encrypted, rest) = match text.split_once("://") {
            Some(("memcached", rest)) => (false, rest),
            Some(("memcacheds", _)) if !cfg!(feature = "tls") => {
                return Err(fail("TLS is not built in; enable the feature `tls`"));
            }
            Some(("memcacheds", rest)) => (true, rest),
            Some(_) => return Err(fail("the scheme is unknown")),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(fail("user and password do not belong into the address"));
        }
        if rest.contains('/') {
            return Err(fail("nothing may follow the port"));
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, after)) => match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(fail("a colon and the port must follow the bracket")),
            },
            None => match rest.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() {
            return Err(fail("the host is missing"));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(fail("the port is not a number from 1 to 65535")),
                Ok(port) => port,
            },
        };
        let host = host.to_owned();
        Ok(if encrypted {
            Self::Tls { host, port }
        } else {
            Self::Tcp { host, port }
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Tcp { host, port } => ("memcached", host, port),
            Self::Tls { host, port } => ("memcacheds", host, port),
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    address: String,
    why: &'static str,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no server address: {}; write memcached://host:port, memcacheds://host:port for TLS, or unix:///path",
            self.address, self.why
        )
    }
}

impl core::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn addresses_in_all_their_spellings() {
        for (text, shown) in [
            (
                "memcached://cache.example:11212",
                "memcached://cache.example:11212",
            ),
            (
                "memcached://cache.example",
                "memcached://cache.example:11211",
            ),
            ("127.0.0.1:11213", "memcached://127.0.0.1:11213"),
            ("localhost", "memcached://localhost:11211"),
            ("memcached://[::1]:11214/", "memcached://[::1]:11214"),
            ("::1", "memcached://[::1]:11211"),
            ("[::1]", "memcached://[::1]:11211"),
            ("unix:///run/mc.sock", "unix:///run/mc.sock"),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "the host is missing"),
            (":11211", "the host is missing"),
            ("memcached://h:0", "not a number from 1 to 65535"),
            ("memcached://h:65536", "not a number from 1 to 65535"),
            ("memcached://h:1/x", "nothing may follow"),
            ("redis://h:1", "the scheme is unknown"),
            ("unix://run/mc.sock", "an absolute path"),
            ("h:1\r\nflush_all", "control characters"),
            ("user:secret@h:1", "do not belong into the address"),
            ("[::1]x", "must follow the bracket"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("memcached://host:port"), "{error}");
        }
    }

    #[test]
    fn addresses_with_tls_need_it_built_in() {
        for (text, shown) in [
            (
                "memcacheds://cache.example",
                "memcacheds://cache.example:11211",
            ),
            ("memcacheds://[::1]:11214/", "memcacheds://[::1]:11214"),
        ] {
            let parsed = text.parse::<Address>();
            if cfg!(feature = "tls") {
                let address = parsed.expect(text);
                assert!(matches!(address, Address::Tls { .. }));
                assert_eq!(address.to_string(), shown);
                assert_eq!(shown.parse(), Ok(address));
            } else {
                let error = parsed.expect_err(text).to_string();
                assert!(error.contains("enable the feature `tls`"), "{error}");
            }
        }
    }
}
