//! The command line.

use super::bench::Bench;
use super::break_lock::Break;
use super::completions::Completions;
use super::doctor::Doctor;
use super::duration;
use super::list::List;
use super::man::Manual;
use super::status::Status;
use super::tickets::{Acquire, Release, Renew};
use super::tls_auth::ConnectionSecrets;
use super::wait::Wait;
use super::watch::Watch;
use clap::builder::styling::Styles;
use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum};
use core::time::Duration;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is talked to when nobody says otherwise.
pub(super) const DEFAULT_SERVER: &str = "memcached://127.0.0.1:11211";

/// Headings of groups of options in `--help`.
pub(super) const WAITING: &str = "Waiting";
pub(super) const LOCK: &str = "Lock";
pub(super) const OUTPUT: &str = "Output";
pub(super) const CONNECTION: &str = "Connection";

/// What the program is called.
pub(super) const NAME: &str = "memlatch";

/// Distributed locks on memcached
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    styles = Styles::plain(),
    disable_help_subcommand = true,
    after_long_help = "\
Examples:
  memlatch run nightly -- ./report.sh
  memlatch status nightly
  memlatch --server memcached://cache.internal:11211 doctor

Exit codes: 64 usage, 69 server unreachable or unfit; `memlatch run --help` has those of run.
What stands on the command line wins over variables. An empty variable is one that is not set.",
    after_help = "\
Exit codes: 64 usage, 69 server unreachable or unfit; `memlatch run --help` has those of run.
What stands on the command line wins over variables. An empty variable is one that is not set."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: GlobalOptions,
    #[command(subcommand)]
    pub(super) verb: Command,
}

/// Options of every subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct GlobalOptions {
    /// The server: memcached://HOST:PORT, memcacheds://HOST:PORT (TLS), unix:///PATH, or HOST:PORT
    /// [default: memcached://127.0.0.1:11211]
    #[arg(long, global = true, value_name = "URL", env = "MEMLATCH_SERVER", help_heading = CONNECTION)]
    pub(super) server: Option<String>,

    /// What the keys of all locks start with [default: memlatch:]
    #[arg(long, global = true, value_name = "PREFIX", env = "MEMLATCH_PREFIX", help_heading = LOCK)]
    pub(super) prefix: Option<String>,

    /// Whether nothing is granted on a server that was started or flushed within the last lease:
    /// on or off [default: on] [env: MEMLATCH_RESTART_GUARD]
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

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(Run),
    Acquire(Acquire),
    Renew(Renew),
    Release(Release),
    Status(Status),
    Wait(Wait),
    List(List),
    Watch(Watch),
    Break(Break),
    Bench(Bench),
    Doctor(Doctor),
    Serve(Serve),
    Demo(Demo),
    Completions(Completions),
    #[command(name = "man")]
    Manual(Manual),
    #[command(name = "__demo-worker", hide = true)]
    DemoWorker(DemoWorker),
}

/// The definition of the command line.
pub(super) fn definition() -> clap::Command {
    Args::command()
}

/// The names of the subcommands that there are for users.
pub(super) fn verbs() -> Vec<String> {
    definition()
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| sub.get_name().to_owned())
        .collect()
}

/// `a, b or c`.
pub(super) fn enumeration(names: &[String], conjunction: &str) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [names @ .., last] => format!("{} {conjunction} {last}", names.join(", ")),
    }
}

/// Run a command while holding a lock
///
/// The command runs as it would without memlatch: same streams, terminal, process group and signal
/// settings. Its environment has MEMLATCH_NAME, the fencing token as MEMLATCH_TOKEN, and
/// MEMLATCH_SERVER. The lock is renewed for as long as the command and what it has started run, and
/// given back then.
///
/// SIGTERM, SIGHUP, SIGINT and SIGQUIT are passed on to the command and all that it has started
/// (those of the terminal's keys it gets by itself), other signals to the command. When memlatch
/// itself is killed, all of them get SIGTERM, and SIGKILL after a quarter of the lease or 2 seconds,
/// whichever is less. Not covered: processes that memlatch may not signal, such as those of sudo or
/// su, and processes that outlive memlatch when its supervisor is killed at the same time. When the
/// supervisor alone is killed, memlatch kills the command and all that it has started. Where /proc
/// does not list processes, only the command itself is signalled; on systems other than Linux it
/// alone is waited for as well.
///
/// A command that is stopped keeps the lock, which is renewed. When the terminal stops the job
/// (Ctrl-Z), memlatch stops as well and renews nothing: if the lease has run out when the job is
/// continued, the lock is lost.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "memlatch run [OPTIONS] NAME [--] COMMAND [ARGS]...\n       \
                      memlatch run [OPTIONS] NAME -c STRING",
    after_long_help = "\
Examples:
  memlatch run nightly -- ./report.sh
  memlatch run -n -E 0 nightly -- ./report.sh    # do nothing while another runs it
  memlatch run -w 5m deploy -c 'make && make install'

Exit codes:
  the command's own, or 128+N when signal N ended it
  1    somebody else holds the lock (-n) or held it for too long (-w); -E changes the code.
       As with flock(1), nothing is said then without -v
  64   the command line cannot be used
  69   the server is unreachable (-n) or was for too long (-w), is unfit, or was started or
       flushed too recently
  71   the system refuses something
  120  the lock was lost while the command ran, or --max-hold was reached
  126  the command cannot be executed
  127  the command is not there

DURATION is in seconds (5, 0.5) or has a unit: 500ms, 10s, 2m, 1h, 1d."
)]
pub(super) struct Run {
    /// Do not wait when somebody else holds the lock [env: MEMLATCH_NO_WAIT=on|off]
    ///
    /// Nor for a server that may have forgotten locks (69). On a server that evicts, each run of a job
    /// that runs now and then may meet that: what shows the age of the server's memory (the sentinel) is
    /// gone by then, and a new process takes no other evidence of a server that has evicted. For
    /// such jobs use -w with four seconds more than the longest lease, give the server more memory (-m),
    /// or use a memcached for locks alone.
    #[arg(short, long, conflicts_with = "wait", help_heading = WAITING)]
    pub(super) no_wait: bool,

    /// How long to wait for the lock [default: for ever] [env: MEMLATCH_WAIT]
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse, help_heading = WAITING)]
    pub(super) wait: Option<Duration>,

    /// Exit code when the lock is not to be had, 0 to 255 [env: MEMLATCH_CONFLICT_EXIT_CODE]
    #[arg(short = 'E', long, value_name = "N", default_value_t = 1, help_heading = WAITING)]
    pub(super) conflict_exit_code: u8,

    /// How long the lock outlives this process and its machine
    /// [default: 10s, or --max-lease if that is shorter] [env: MEMLATCH_LEASE]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) lease: Option<Duration>,

    /// What the command gets when the lock is lost, or about to be: SIGTERM and 2 seconds later
    /// SIGKILL, SIGKILL at once, or nothing [env: MEMLATCH_ON_LOST]
    #[arg(long, value_enum, value_name = "term|kill|ignore", default_value_t = OnLost::Term)]
    pub(super) on_lost: OnLost,

    /// What happens to processes that the command leaves running when it ends by itself: they are
    /// waited for, with the lock held; they get SIGTERM and, after --grace, SIGKILL; or the lock is
    /// given back at once [env: MEMLATCH_LEFTOVERS]
    #[arg(long, value_enum, value_name = "wait|end|leave", default_value_t = Leftovers::Wait)]
    pub(super) leftovers: Leftovers,

    /// How long such processes may take to end when they were asked to [env: MEMLATCH_GRACE]
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(super) grace: Duration,

    /// How long the lock is held at most: then the command is ended as --on-lost says
    /// [default: no limit] [env: MEMLATCH_MAX_HOLD]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) max_hold: Option<Duration>,

    /// How long the lock stays taken at least, also when the command ends sooner, so that hosts
    /// whose clocks differ do not run it twice [default: not at all] [env: MEMLATCH_MIN_HOLD]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) min_hold: Option<Duration>,

    /// What the holder is called when somebody asks for the status [env: MEMLATCH_LABEL]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        help_heading = LOCK
    )]
    pub(super) label: String,

    /// A command line for $SHELL (or /bin/sh), in place of COMMAND
    #[arg(short, long, value_name = "STRING")]
    pub(super) command: Option<OsString>,

    /// The lock's name and the command with its arguments; options end at NAME
    // One list, so that nothing after the name is taken for an option of ours.
    #[arg(
        value_name = "NAME [--] COMMAND [ARGS]",
        trailing_var_arg = true,
        num_args = 1..,
        required = true
    )]
    pub(super) words: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnLost {
    Term,
    Kill,
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Leftovers {
    Wait,
    End,
    Leave,
}

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

    /// Port to listen on; 0 or -1 takes a free one. The file that MEMCACHED_PORT_FILENAME names is
    /// told which
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

    /// How long the server appears to have run; with more than the longest lease, clients do not
    /// wait before they grant a first lock. Only for servers that hold no lock of an earlier run
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

/// See what a lock is good for: processes raise one counter, without a lock and with one
///
/// Uses a server of its own unless --server or MEMLATCH_SERVER names one. Exits with 1 if an
/// update was lost under the lock or a fencing token did not rise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch demo
  memlatch demo --workers 8 --seconds 5")]
pub(super) struct Demo {
    /// How many processes take part, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) workers: u32,

    /// How long each of the two phases lasts
    #[arg(long, value_name = "DURATION", default_value = "3", value_parser = duration::parse)]
    pub(super) seconds: Duration,
}

/// One process of the demo.
#[derive(Debug, clap::Args)]
pub(super) struct DemoWorker {
    #[arg(long)]
    pub(super) parent: i32,
    #[arg(long)]
    pub(super) index: u32,
    #[arg(long)]
    pub(super) folder: PathBuf,
    #[arg(long, value_parser = duration::parse)]
    pub(super) length: Duration,
    /// The lock to take for each increment; none is taken without.
    #[arg(long)]
    pub(super) lock: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> (GlobalOptions, Run) {
        let args = Args::try_parse_from(words).expect("a usable command line");
        match args.verb {
            Command::Run(run) => (args.global, run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn what_is_not_for_users_is_not_told_them() {
        let verbs = verbs();
        assert!(verbs.iter().any(|verb| verb == "run"), "{verbs:?}");
        assert!(!verbs.iter().any(|verb| verb.starts_with('_')), "{verbs:?}");
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            enumeration(&names, "or")
        };
        assert_eq!(named(&[]), "");
        assert_eq!(named(&["a"]), "a");
        assert_eq!(named(&["a", "b", "c"]), "a, b or c");
    }

    /// The words of an example up to what is for the shell.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                '|' | '&' | ';' | '>' | '<' | '#' | ')' if !quoted => break,
                c => words.last_mut().expect("one").push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_help_has_examples_that_are_understood() {
        let definition = definition();
        let subs = definition
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set());
        for command in subs.chain([&definition]) {
            let help = command.get_after_long_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let examples = help.split("Examples:\n").nth(1).unwrap_or("");
            let examples = examples.split("\n\n").next().unwrap_or("");
            let lines = examples
                .lines()
                .filter_map(|line| line.split_once("memlatch "));
            let mut count = 0;
            for (_, line) in lines {
                let words = words(&format!("memlatch {line}"));
                let parsed = Args::try_parse_from(&words);
                assert!(
                    parsed.is_ok(),
                    "{}: {words:?}: {parsed:?}",
                    command.get_name()
                );
                count += 1;
            }
            assert!(count > 0, "{} has no examples", command.get_name());
        }
    }

    #[test]
    fn options_stand_in_groups() {
        let mut definition = definition();
        definition.build();
        for sub in definition
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set())
        {
            for option in sub.get_opts() {
                let heading = option.get_help_heading();
                let expected = match option.get_id().as_str() {
                    "server" | "auth_file" | "tls_ca" | "tls_cert" | "tls_key" | "tls_name" => {
                        CONNECTION
                    }
                    "prefix" | "restart_guard" | "max_lease" | "label" => LOCK,
                    "wait" | "conflict_exit_code" => WAITING,
                    _ => continue,
                };
                assert_eq!(heading, Some(expected), "{} {option}", sub.get_name());
            }
        }
    }

    #[test]
    fn options_end_at_the_name() {
        let words = [
            "memlatch", "run", "-n", "x", "ls", "-n", "--quiet", "-E", "--",
        ];
        let (global, run) = run(&words);
        assert!(run.no_wait && !global.quiet);
        assert_eq!(run.words, ["x", "ls", "-n", "--quiet", "-E", "--"]);
    }

    #[test]
    fn the_separator_may_stand_on_either_side_of_the_name() {
        let (_, after) = run(&["memlatch", "run", "x", "--", "-odd"]);
        assert_eq!(after.words, ["x", "--", "-odd"]);
        let (_, before) = run(&["memlatch", "run", "--", "-x", "ls"]);
        assert_eq!(before.words, ["-x", "ls"]);
    }

    #[test]
    fn global_options_stand_on_either_side_of_the_verb() {
        let (before, _) = run(&["memlatch", "--server", "h:1", "run", "x", "ls"]);
        let (after, _) = run(&["memlatch", "run", "--server", "h:1", "x", "ls"]);
        assert_eq!(before.named_server(), Some("h:1"));
        assert_eq!(after.named_server(), Some("h:1"));
    }
}
