//! From the options to a client of the server.

use super::failure::Failure;
use super::options::{DEFAULT_SERVER, GlobalOptions};
use super::{leases, tls_auth};
use memlatch::net::Address;
use memlatch::proto::{LockKeys, Namespace};
use memlatch::{Client, ClientBuilder, DEFAULT_LEASE};

/// A client as the options describe it.
pub(super) fn builder(global: &GlobalOptions) -> Result<ClientBuilder<Client>, Failure> {
    let longest = leases::longest_or_default(global)?;
    let builder = Client::builder()
        .default_lease(longest.min(DEFAULT_LEASE))
        .max_lease(longest)
        .server(global.named_server().unwrap_or(DEFAULT_SERVER))
        .prefix(global.prefix())
        .restart_guard(global.restart_guard());
    tls_auth::apply(&global.secrets, builder)
}

/// The keys of a lock. Finds mistakes in the address, the prefix and the name before anything is
/// sent, so that they are not hidden by a server that cannot be reached.
pub(super) fn check(global: &GlobalOptions, name: &str) -> Result<LockKeys, Failure> {
    let namespace = check_address(global)?;
    namespace.keys(name.as_bytes()).map_err(Failure::usage)
}

/// The same where no lock has been named.
pub(super) fn check_address(global: &GlobalOptions) -> Result<Namespace, Failure> {
    let server = global.named_server().unwrap_or(DEFAULT_SERVER);
    server.parse::<Address>().map_err(Failure::usage)?;
    Namespace::new(global.prefix()).map_err(Failure::usage)
}
