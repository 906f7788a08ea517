//! Options of every subcommand.

use super::duration;
use super::headings::{CONNECTION, LOCK, OUTPUT};
use super::tls_auth::ConnectionSecrets;
use clap::ArgAction;
use core::time::Duration;

/// The server if no option and no variable names one.
pub(super) const DEFAULT_SERVER: &str = "memcached://127.0.0.1:11211";

/// The name of the program.
pub(super) const NAME: &str = "memlatch";

/// Options of every subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct GlobalOptions {
    /// The server: memcached://HOST:PORT, memcacheds://HOST:PORT (TLS), unix:///PATH, or HOST:PORT
    /// [default: memcached://127.0.0.1:11211]
    #[arg(long, global = true, value_name = "URL", env = "MEMLATCH_SERVER", help_heading = CONNECTION)]
    pub(super) server: Option<String>,

    /// Prefix of the keys of all locks [default: memlatch:]
    #[arg(long, global = true, value_name = "PREFIX", env = "MEMLATCH_PREFIX", help_heading = LOCK)]
    pub(super) prefix: Option<String>,

    /// Grant no lock on a server that was started or flushed within the last lease: on or off
    /// [default: on] [env: MEMLATCH_RESTART_GUARD]
    #[arg(long, global = true, value_name = "on|off", value_parser = switch, help_heading = LOCK)]
    pub(super) restart_guard: Option<bool>,

    /// The longest lease that any user of the prefix takes; the same for all of them. The restart
    /// guard waits for it [default: 10s] [env: MEMLATCH_MAX_LEASE]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) max_lease: Option<Duration>,

    #[command(flatten)]
    pub(super) secrets: ConnectionSecrets,

    /// Say on stderr what is done; twice for more [env: MEMLATCH_VERBOSE=0|1|2]
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet", help_heading = OUTPUT)]
    pub(super) verbose: u8,

    /// Say nothing on stderr but errors [env: MEMLATCH_QUIET=on|off]
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(super) quiet: bool,
}

impl GlobalOptions {
    /// The server that was named, if one was.
    pub(super) fn named_server(&self) -> Option<&str> {
        self.server.as_deref().filter(|server| !server.is_empty())
    }

    pub(super) fn prefix(&self) -> &str {
        let given = self.prefix.as_deref().filter(|prefix| !prefix.is_empty());
        given.unwrap_or(memlatch::proto::DEFAULT_PREFIX)
    }

    pub(super) fn restart_guard(&self) -> bool {
        self.restart_guard.unwrap_or(true)
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}
