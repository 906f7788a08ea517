//! `memlatch serve`: the embedded server as a program.

use super::duration;
use super::failure::Failure;
use super::stderr::Verbosity;
use core::time::Duration;
use std::path::PathBuf;

/// Serve memcached from this process, for tests and demos
///
/// Takes memcached's own short options, so that what starts memcached can start this instead, and
/// prints the address it listens on. Ends on SIGINT or SIGTERM. Accepted without effect, because
/// they mean nothing here: -t, -u, -U, -v, and all of -o but temporary_ttl and
/// idle_timeout.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch serve -p 0
  memlatch serve -s /tmp/memcached.sock -m 16")]
pub(super) struct Serve {
    /// Address to listen on, with or without a port
    #[arg(short = 'l', value_name = "ADDR", default_value = "127.0.0.1")]
    pub(super) listen: String,

    /// Port to listen on; 0 or -1 takes a free one. It is written to the file that
    /// MEMCACHED_PORT_FILENAME names
    #[arg(short = 'p', value_name = "PORT", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=65_535))]
    pub(super) port: Option<i32>,

    /// Listen on a Unix socket at this path, and on no port
    #[arg(short = 's', value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,

    /// Memory for items, in megabytes
    #[arg(short = 'm', value_name = "MB", default_value_t = 64)]
    pub(super) memory: u32,

    /// Refuse new items rather than evict old ones when memory is short
    #[arg(short = 'M')]
    pub(super) no_evictions: bool,

    /// Run without CAS (locks are impossible then)
    #[arg(short = 'C')]
    pub(super) no_cas: bool,

    /// Refuse flush_all
    #[arg(short = 'F')]
    pub(super) no_flush: bool,

    /// Obey the shutdown command
    #[arg(short = 'A')]
    pub(super) shutdown: bool,

    /// Serve only clients that authenticate with a line user:password of this file
    #[arg(short = 'Y', value_name = "FILE")]
    pub(super) accounts: Option<PathBuf>,

    /// Most that one item may take, with k or m for kilo- and megabytes
    #[arg(short = 'I', value_name = "SIZE", default_value = "1m")]
    pub(super) item_size: String,

    /// Most connections at once
    #[arg(short = 'c', value_name = "N", default_value_t = 1024, value_parser = connections)]
    pub(super) connections: usize,

    /// temporary_ttl=N protects items with at most N seconds to live from eviction, idle_timeout=N
    /// ends connections that were idle for longer than N seconds
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(super) extended: Vec<String>,

    /// Listen where other machines can reach it, too
    #[arg(long)]
    pub(super) allow_remote: bool,

    /// Time for which the server appears to have run; with more than the longest lease, clients do
    /// not wait before they grant a first lock. Only for servers that hold no lock of an earlier run
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration::parse)]
    pub(super) uptime: Duration,

    #[arg(short = 't', hide = true, value_name = "N")]
    threads: Option<String>,
    #[arg(short = 'u', hide = true, value_name = "USER")]
    user: Option<String>,
    /// There is no UDP, so that only 0 can be meant
    #[arg(short = 'U', hide = true, value_name = "PORT", value_parser = ["0"])]
    udp_port: Option<String>,
    /// Refuse watch
    #[arg(short = 'W')]
    pub(super) no_watch: bool,
    /// Refuse dumps of all keys
    #[arg(short = 'X')]
    pub(super) no_dump: bool,
}

/// At least one connection, as memcached wants it.
fn connections(text: &str) -> Result<usize, String> {
    let connections = text.parse().ok().filter(|connections| *connections > 0);
    connections.ok_or_else(|| "not a number of connections above 0".to_owned())
}

#[cfg(not(feature = "server"))]
pub(super) async fn serve(_: Serve, _: Verbosity) -> Result<u8, Failure> {
    Err(Failure::usage(WITHOUT))
}

/// The error where there is no embedded server.
#[cfg(not(feature = "server"))]
pub(super) const WITHOUT: &str = "this memlatch was built without the embedded server; \
    cargo install memlatch --features cli,server builds one that has it";

#[cfg(feature = "server")]
pub(super) use with_server::serve;

#[cfg(feature = "server")]
mod with_server {
    use super::{Failure, Serve, Verbosity};
    use crate::cli::failure::code;
    use crate::cli::output;
    use crate::cli::signals::Signals;
    use core::future::poll_fn;
    use core::net::{IpAddr, Ipv4Addr, SocketAddr};
    use core::task::Poll;
    use core::time::Duration;
    use memlatch::net::DEFAULT_PORT;
    use memlatch::server::{Server, ServerBuilder};
    use nix::sys::signal::Signal;
    use std::path::Path;
    use tokio::time::{MissedTickBehavior, interval};

    const MEGABYTE: usize = 1024 * 1024;

    /// The largest file of accounts that is read.
    const LARGEST_ACCOUNTS: u64 = 1024 * 1024;

    /// The interval in which an end of the server by a client is checked.
    const POLL: Duration = Duration::from_millis(50);

    pub(in crate::cli) async fn serve(options: Serve, voice: Verbosity) -> Result<u8, Failure> {
        let builder = builder(&options)?;
        let mut signals = Signals::listen(&[Signal::SIGINT, Signal::SIGTERM])
            .map_err(|error| Failure::system("cannot receive signals", &error))?;
        let server = builder
            .start()
            .map_err(|error| Failure::system("cannot serve", &error))?;
        tell_port(&server).map_err(|error| {
            Failure::system(
                "cannot write the file that MEMCACHED_PORT_FILENAME names",
                &error,
            )
        })?;
        output::print(&format!("{}\n", server.address()))?;
        voice.note("serving memcached for tests and demos, until SIGINT or SIGTERM");
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll_fn(|cx| {
            while ticks.poll_tick(cx).is_ready() {
                if server.is_stopped() {
                    return Poll::Ready(());
                }
            }
            signals.poll_next(cx).map(|_| ())
        })
        .await;
        Ok(code::SUCCESS)
    }

    fn builder(options: &Serve) -> Result<ServerBuilder, Failure> {
        let memory = options.memory as usize * MEGABYTE;
        let item_size = size(&options.item_size)?;
        if item_size > memory / 2 {
            return Err(Failure::usage(format!(
                "-I {} -m {}: one item may take at most half of the memory; raise -m or lower -I",
                options.item_size, options.memory
            )));
        }
        let mut builder = Server::builder()
            .memory_limit(memory)
            .evictions(!options.no_evictions)
            .cas(!options.no_cas)
            .flush_enabled(!options.no_flush)
            .shutdown_command(options.shutdown)
            .watch_enabled(!options.no_watch)
            .dump_enabled(!options.no_dump)
            .max_connections(options.connections)
            .max_item_size(item_size)
            // Started anew on the same address it has forgotten the locks of the run before.
            .uptime(options.uptime)
            .allow_remote(options.allow_remote);
        if let Some(path) = &options.accounts {
            builder = builder.auth(accounts(path)?);
        }
        for extended in options.extended.iter().flat_map(|list| list.split(',')) {
            builder = extend(builder, extended)?;
        }
        if let Some(path) = &options.socket {
            return Ok(builder.unix_socket(path));
        }
        // The range of the option leaves -1 as the only one that does not fit.
        let port = options.port.map(|port| u16::try_from(port).unwrap_or(0));
        let address = address(&options.listen, port)?;
        if !address.ip().is_loopback() && !options.allow_remote {
            return Err(Failure::usage(format!(
                "-l {}: other machines can reach that, and this server is made for tests; use a \
                 loopback address such as 127.0.0.1, or add --allow-remote",
                options.listen
            )));
        }
        Ok(builder.listen(address))
    }

    /// Options of `-o` that change nothing here: they are about speed, memory or background work
    /// that there is none of, or they are what this server does anyway.
    const WITHOUT_EFFECT: [&str; 17] = [
        "hash_algorithm",
        "hashpower",
        "lru_crawler",
        "lru_crawler_sleep",
        "lru_crawler_tocrawl",
        "lru_maintainer",
        "maxconns_fast",
        "modern",
        "no_drop_privileges",
        "no_hashexpand",
        "no_slab_reassign",
        "read_buf_mem_limit",
        "slab_automove",
        "slab_reassign",
        "tail_repair_time",
        "watcher_logbuf_size",
        "worker_logbuf_size",
    ];

    /// One option of `-o`.
    fn extend(builder: ServerBuilder, option: &str) -> Result<ServerBuilder, Failure> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let seconds = || {
            let seconds = value.parse().map(Duration::from_secs);
            seconds.map_err(|_| Failure::usage(format!("-o {option}: not a number of seconds")))
        };
        match name {
            "temporary_ttl" => Ok(builder.temporary_ttl(seconds()?)),
            "idle_timeout" => Ok(builder.idle_timeout(seconds()?)),
            "" => Ok(builder),
            _ if WITHOUT_EFFECT.contains(&name) => Ok(builder),
            _ => Err(Failure::usage(format!(
                "-o {option}: the embedded server has temporary_ttl and idle_timeout; use a real \
                 memcached for the others"
            ))),
        }
    }

    /// Writes the port for the process that started this one, as memcached does: whole, or not at
    /// all.
    fn tell_port(server: &Server) -> std::io::Result<()> {
        let (Some(path), Some(address)) = (
            std::env::var_os("MEMCACHED_PORT_FILENAME"),
            server.socket_addr(),
        ) else {
            return Ok(());
        };
        let family = if address.is_ipv4() { "INET" } else { "INET6" };
        let mut unfinished = path.clone();
        unfinished.push(".lck");
        std::fs::write(&unfinished, format!("TCP {family}: {}\n", address.port()))?;
        std::fs::rename(unfinished, path)
    }

    /// `-l` and `-p` together. Without `-l`, unlike memcached, only this machine is served.
    pub(super) fn address(listen: &str, port: Option<u16>) -> Result<SocketAddr, Failure> {
        let ip = |text: &str| match text {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => {
                let inner = text
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'));
                inner.unwrap_or(text).parse().ok()
            }
        };
        if let Some(ip) = ip(listen) {
            return Ok(SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)));
        }
        let parts = listen.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((ip(host)?, port.parse().ok()?)));
        match (parts, port) {
            (Some((ip, own)), None) => Ok(SocketAddr::new(ip, own)),
            (Some((ip, own)), Some(port)) if own == port => Ok(SocketAddr::new(ip, own)),
            (Some((_, own)), Some(port)) => Err(Failure::usage(format!(
                "-l {listen} and -p {port} name two ports, {own} and {port}; leave one out"
            ))),
            (None, _) => Err(Failure::usage(format!(
                "-l {listen}: not one IP address; write 127.0.0.1, 127.0.0.1:11211 or [::1]:11211"
            ))),
        }
    }

    /// `-I`: bytes, or with k or m.
    pub(super) fn size(text: &str) -> Result<usize, Failure> {
        let lower = text.to_ascii_lowercase();
        let (number, unit) = match lower.strip_suffix(['k', 'm']) {
            Some(number) if lower.ends_with('k') => (number, 1024),
            Some(number) => (number, MEGABYTE),
            None => (lower.as_str(), 1),
        };
        let bytes = number.parse::<usize>().ok();
        bytes
            .and_then(|number| number.checked_mul(unit))
            .filter(|bytes| (1024..=1024 * MEGABYTE).contains(bytes))
            .ok_or_else(|| {
                Failure::usage(format!(
                    "-I {text}: not a size from 1k to 1024m; write 500k or 2m"
                ))
            })
    }

    /// The lines `user:password` of a file, as memcached reads them.
    fn accounts(path: &Path) -> Result<Vec<(String, String)>, Failure> {
        let fail = |why: String| Failure::usage(format!("-Y {}: {why}", path.display()));
        let text = crate::cli::files::read_text(path, LARGEST_ACCOUNTS).map_err(fail)?;
        let accounts: Option<Vec<_>> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (user, password) = line.split_once(':')?;
                Some((user.to_owned(), password.to_owned()))
            })
            .collect();
        accounts
            .filter(|accounts| !accounts.is_empty())
            .ok_or_else(|| fail("every line must be user:password".to_owned()))
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::with_server::{address, size};

    #[test]
    fn addresses_and_ports_go_together() {
        for (listen, port, shown) in [
            ("127.0.0.1", None, "127.0.0.1:11211"),
            ("127.0.0.1", Some(0), "127.0.0.1:0"),
            ("127.0.0.1:5000", None, "127.0.0.1:5000"),
            ("127.0.0.1:5000", Some(5000), "127.0.0.1:5000"),
            ("localhost", Some(1), "127.0.0.1:1"),
            ("localhost:7", None, "127.0.0.1:7"),
            ("::1", Some(5), "[::1]:5"),
            ("[::1]", None, "[::1]:11211"),
            ("[::1]:6", None, "[::1]:6"),
        ] {
            let address = address(listen, port).expect(listen);
            assert_eq!(address.to_string(), shown);
        }
        for (listen, port) in [
            ("", None),
            ("x", None),
            ("127.0.0.1,127.0.0.2", None),
            ("127.0.0.1:70000", None),
            ("127.0.0.1:1", Some(2)),
        ] {
            assert!(address(listen, port).is_err(), "{listen}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1m").expect("a size"), 1024 * 1024);
        assert_eq!(size("500K").expect("a size"), 500 * 1024);
        assert_eq!(size("2048").expect("a size"), 2048);
        for text in ["", "m", "0", "1g", "-1m", "99999999999999m"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
