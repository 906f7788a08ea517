//! The address of a server.

use core::fmt;
use core::net::Ipv6Addr;
use core::str::FromStr;
use std::borrow::ToOwned;
use std::path::PathBuf;
use std::string::String;

/// memcached's port where none is given.
pub const DEFAULT_PORT: u16 = 11211;

/// The address of a server: `memcached://host:port`, `memcacheds://host:port` for TLS (with the
/// feature `tls`), `unix:///path`, or `host:port` alone.
///
/// The port may be left out (11211, with TLS as well). IPv6 addresses stand in brackets when a port
/// follows. Schemes are accepted in any case.
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

impl Address {
    /// The name and the port to be looked up; none for a Unix socket.
    #[cfg(any(feature = "tokio", feature = "blocking"))]
    pub(crate) fn host(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port } => Some((host, *port)),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |why| AddressError {
            address: shown(text),
            why,
        };
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(fail("it holds spaces or control characters"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let is = |name: &str| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
        if is("unix") {
            return unix(rest).map_err(fail);
        }
        let encrypted = is("memcacheds");
        if scheme.is_some() && !encrypted && !is("memcached") {
            return Err(fail("the scheme is unknown"));
        }
        if encrypted && !cfg!(feature = "tls") {
            return Err(fail("TLS is not built in; enable the feature `tls`"));
        }
        let (host, port) = host_and_port(rest, scheme.is_some()).map_err(fail)?;
        let host = host.to_owned();
        Ok(if encrypted {
            Self::Tls { host, port }
        } else {
            Self::Tcp { host, port }
        })
    }
}

/// The address in an error: without a password, and with an end.
fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    // All but the host and what follows it may be part of a password, slashes among it.
    let rest = match rest.rsplit_once('@') {
        Some((_, host)) => ["...@", host].concat(),
        None => rest.to_owned(),
    };
    let whole = match scheme {
        Some(scheme) => [scheme, "://", &rest].concat(),
        None => rest,
    };
    whole.chars().take(LONGEST).collect()
}

fn unix(path: &str) -> Result<Address, &'static str> {
    if !path.starts_with('/') {
        return Err("a Unix socket needs an absolute path, so three slashes in all");
    }
    if !cfg!(unix) {
        return Err("this system has no Unix sockets");
    }
    if path.contains(is_hidden) {
        return Err("it holds characters that cannot be seen");
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

/// Characters outside of ASCII that a terminal does not show as what they are, such as those that
/// turn the direction of writing.
fn is_hidden(c: char) -> bool {
    !c.is_ascii() && c.escape_debug().count() > 1
}

fn host_and_port(rest: &str, with_scheme: bool) -> Result<(&str, u16), &'static str> {
    if rest.contains('@') {
        return Err("user and password do not belong into the address");
    }
    if rest.contains([',', ';']) {
        return Err("it names several servers; name one");
    }
    if !with_scheme && rest.starts_with(['/', '.']) {
        return Err("it is a path; a Unix socket begins with unix:///");
    }
    let slashed = rest
        .split_once(':')
        .is_some_and(|(_, after)| after.starts_with('/'));
    if !with_scheme && slashed {
        return Err("two slashes must follow the scheme");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("nothing may follow the port: no path, query or fragment");
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("the bracket is not closed")?;
            if !is_ipv6(host) {
                return Err("what stands in brackets is no IPv6 address");
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("a colon and the port must follow the bracket"),
            }
        }
        None => match rest.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                if !is_ipv6(rest) {
                    return Err(
                        "it has several colons; with a port, an IPv6 address stands in \
                                brackets, as in [::1]:11211",
                    );
                }
                (rest, None)
            }
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if !host.contains(':') && !host.bytes().all(is_of_a_host) {
        return Err("a host consists of letters, digits, dots, dashes and underscores");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some("") => return Err("the port is missing behind the colon"),
        Some(port) => match port.parse() {
            // Not a sign, which `parse` would take.
            Ok(number @ 1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => return Err("the port is not a number from 1 to 65535"),
        },
    };
    Ok((host, port))
}

/// Returns whether the text is an IPv6 address, with the zone of a link-local one after `%`.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "zone"));
    let plain = !zone.is_empty() && zone.bytes().all(is_of_a_host);
    plain && address.parse::<Ipv6Addr>().is_ok()
}

/// A name, an IPv4 address, or the part of a name; `Dev_1.example`.
const fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
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

/// The reason why a text is no [`Address`].
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
            self.address.escape_debug(),
            self.why
        )
    }
}

impl core::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_address_notation_parses() {
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
            ("UNIX:///run/mc.sock", "unix:///run/mc.sock"),
            (
                "MEMCACHED://Cache.Example",
                "memcached://Cache.Example:11211",
            ),
            ("Memcached://h:1/", "memcached://h:1"),
            ("h.:011211", "memcached://h.:11211"),
            ("my_cache-1", "memcached://my_cache-1:11211"),
            ("[fe80::1%eth0]:1", "memcached://[fe80::1%eth0]:1"),
            ("fe80::1%2", "memcached://[fe80::1%2]:11211"),
            ("::ffff:127.0.0.1", "memcached://[::ffff:127.0.0.1]:11211"),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn malformed_address_names_the_error() {
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
            ("[::1", "bracket is not closed"),
            ("[cache]:1", "no IPv6 address"),
            ("[::1%]:1", "no IPv6 address"),
            ("2001:db8:::1:11211", "[::1]:11211"),
            ("a:1:2", "[::1]:11211"),
            ("a:1,b:2", "several servers"),
            ("memcached://a,b", "several servers"),
            ("a;b", "several servers"),
            ("a b", "spaces"),
            ("h:1\u{a0}", "spaces"),
            ("h:", "the port is missing"),
            ("memcached://h:/", "the port is missing"),
            ("h:+1", "not a number from 1 to 65535"),
            ("h:11211x", "not a number from 1 to 65535"),
            ("memcached://h:1?timeout=5", "no path, query or fragment"),
            ("memcached://h#x", "no path, query or fragment"),
            ("memcached:/h:1", "two slashes"),
            ("memcached://", "the host is missing"),
            ("unix:/run/mc.sock", "two slashes"),
            ("/run/mc.sock", "unix:///"),
            ("./mc.sock", "unix:///"),
            ("unix:///run/\u{202e}mc", "cannot be seen"),
            ("h\u{202e}:1", "letters, digits"),
            ("b\u{fc}cher.example", "letters, digits"),
            ("http://h:1", "the scheme is unknown"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("memcached://host:port"), "{error}");
        }
    }

    #[test]
    fn passwords_and_control_characters_are_hidden() {
        for text in [
            "user:secret@h:1",
            "memcached://user:secret@h:1",
            "memcached://user:se/cret@h:1/",
            "memcacheds://user:sec:ret@[::1]:1",
        ] {
            let error = text.parse::<Address>().expect_err(text);
            for shown in [error.to_string(), std::format!("{error:?}")] {
                assert!(
                    !shown.contains("sec") && !shown.contains("user:"),
                    "{shown}"
                );
            }
        }
        let error = "h\u{202e}\u{7f}:1".parse::<Address>().expect_err("hidden");
        assert!(
            error.to_string().contains("`h\\u{202e}\\u{7f}:1`"),
            "{error}"
        );
    }

    #[test]
    fn tls_addresses_need_the_feature() {
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
