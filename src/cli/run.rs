//! `memlatch run`: a command under a lock.

use super::child::{self, Child};
use super::duration;
use super::failure::{Failure, code};
use super::headings::{LOCK, WAITING};
use super::leases::{DefaultLease, Leases};
use super::monitor::ChildMonitor;
use super::options::GlobalOptions;
use super::rules::{GRACE, Leftovers, OnLost, Rules};
use super::select::{Either, race};
use super::server;
use super::signals::{FORWARDED, STOPPING, Signals};
use super::stderr::{self, Verbosity};
use super::wait_limit::WaitLimit;
use core::time::Duration;
use memlatch::{Client, Lock, LockGuard, LossReason, ReleaseOutcome};
use std::ffi::OsString;
use tokio::time::{Instant, timeout};

/// The time limit for cleanup when the server does not answer. A lock that is left there runs
/// out with its lease.
const WAY_OUT: Duration = Duration::from_secs(1);

/// Run a command while holding a lock
///
/// The command runs as it would without memlatch: same streams, terminal, process group and signal
/// settings. Its environment has MEMLATCH_NAME, the fencing token as MEMLATCH_TOKEN, and
/// MEMLATCH_SERVER. The lock is renewed for as long as the command and what it has started run, and
/// released then.
///
/// SIGTERM, SIGHUP, SIGINT and SIGQUIT are passed on to the command and all that it has started
/// (those of the terminal's keys it gets by itself), other signals to the command. When memlatch
/// itself is killed, all of them get SIGTERM, and SIGKILL after a quarter of the lease or 2 seconds,
/// whichever is less; when it is stopped, or blocked by a full pipe at its standard error, they get
/// SIGTERM shortly before the lease ends, and SIGKILL with its end. Not covered: processes that
/// memlatch may not signal, such as those of sudo or
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
  1    another holder has the lock (-n) or had it for too long (-w); -E changes the code.
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
    /// Do not wait when another holder has the lock [env: MEMLATCH_NO_WAIT=on|off]
    ///
    /// Nor for a server that may have forgotten locks, because it was started or flushed within the
    /// longest lease (69).
    #[arg(short, long, conflicts_with = "wait", help_heading = WAITING)]
    pub(super) no_wait: bool,

    /// Longest wait for the lock [default: for ever] [env: MEMLATCH_WAIT]
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse, help_heading = WAITING)]
    pub(super) wait: Option<Duration>,

    /// Exit code when the lock is not to be had, 0 to 255 [env: MEMLATCH_CONFLICT_EXIT_CODE]
    #[arg(short = 'E', long, value_name = "N", default_value_t = 1, help_heading = WAITING)]
    pub(super) conflict_exit_code: u8,

    /// Time for which the lock outlives this process and its machine
    /// [default: 10s, or --max-lease if that is shorter] [env: MEMLATCH_LEASE]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) lease: Option<Duration>,

    /// Signal to the command when the lock is lost, or about to be: SIGTERM and 2 seconds later
    /// SIGKILL, SIGKILL at once, or nothing [env: MEMLATCH_ON_LOST]
    #[arg(long, value_enum, value_name = "term|kill|ignore", default_value_t = OnLost::Term)]
    pub(super) on_lost: OnLost,

    /// Treatment of processes that the command leaves running when it ends by itself: they are
    /// waited for, with the lock held; they get SIGTERM and, after --grace, SIGKILL; or the lock is
    /// released at once [env: MEMLATCH_LEFTOVERS]
    #[arg(long, value_enum, value_name = "wait|end|leave", default_value_t = Leftovers::Wait)]
    pub(super) leftovers: Leftovers,

    /// Time that such processes may take to end after SIGTERM [env: MEMLATCH_GRACE]
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(super) grace: Duration,

    /// Longest time to hold the lock: then the command is ended as --on-lost says
    /// [default: no limit] [env: MEMLATCH_MAX_HOLD]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) max_hold: Option<Duration>,

    /// Shortest time for which the lock stays taken, also when the command ends sooner, so that hosts
    /// whose clocks differ do not run it twice [default: not at all] [env: MEMLATCH_MIN_HOLD]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) min_hold: Option<Duration>,

    /// Label of the holder, as the status shows it [env: MEMLATCH_LABEL]
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

pub(super) async fn run(
    global: &GlobalOptions,
    options: Run,
    voice: Verbosity,
) -> Result<u8, Failure> {
    let job = RunConfig::new(global, options, voice)?;
    let mut signals = Signals::listen(&FORWARDED)
        .map_err(|error| Failure::system("cannot receive signals", &error))?;
    child::reap_in_background()
        .map_err(|error| Failure::system("cannot receive signals", &error))?;
    let mut patience = job.patience();
    let connecting = patience.connect(global, |builder| builder.max_lease(job.leases.longest));
    let client = match race(connecting, signals.ending()).await {
        Either::A(client) => client?,
        Either::B(signal) => return Ok(code::of_signal(signal as i32)),
    };
    let done = job.run(&client, &mut signals, &mut patience).await;
    // Also removes the record that an abandoned acquisition may have left.
    let left_behind = !client.shutdown(WAY_OUT).await;
    // After a worse error was reported, this one is not reported.
    if left_behind && matches!(done, Ok(code) if code != code::LOST) {
        voice.note(&format!(
            "lock `{}`: the server does not answer; it is free when its lease has run out",
            job.name
        ));
    }
    done
}

/// The command to run, and its lock.
struct RunConfig {
    name: String,
    argv: Vec<OsString>,
    options: Run,
    leases: Leases,
    voice: Verbosity,
}

impl RunConfig {
    fn new(global: &GlobalOptions, mut options: Run, voice: Verbosity) -> Result<Self, Failure> {
        let mut words = core::mem::take(&mut options.words).into_iter();
        let name = words.next().unwrap_or_default();
        let name = name.into_string().map_err(|name| {
            Failure::usage(format!(
                "the lock name {} is not UTF-8",
                name.to_string_lossy()
            ))
        })?;
        let argv = command_line(words.collect(), options.command.take())?;
        server::check(global, &name)?;
        let leases = Leases::new(global, options.lease, DefaultLease::Usual)?;
        if options.max_hold.is_some_and(|longest| longest.is_zero()) {
            return Err(Failure::usage("--max-hold: it must be more than 0"));
        }
        leases.note(&name, voice);
        Ok(Self {
            name,
            argv,
            options,
            leases,
            voice,
        })
    }

    async fn run(
        &self,
        client: &Client,
        signals: &mut Signals,
        patience: &mut WaitLimit,
    ) -> Result<u8, Failure> {
        let mut lock = client
            .lock(&self.name)
            .lease(self.leases.lease)
            .label(&self.options.label);
        if let Some(longest) = self.options.max_hold {
            lock = lock.max_hold(longest.saturating_add(self.reserve()));
        }
        if let Some(shortest) = self.options.min_hold {
            lock = lock.min_hold(shortest);
        }
        let began = Instant::now();
        self.voice.detail(&format!(
            "lock `{}`: asking {} for it",
            self.name,
            client.server()
        ));
        let guard = match race(self.acquire(&lock, patience), signals.ending()).await {
            Either::A(guard) => guard?,
            Either::B(signal) => return Ok(code::of_signal(signal as i32)),
        };
        let Some(guard) = guard else {
            // As flock(1) has it, the code says it all.
            self.voice.detail(&format!(
                "lock `{}`: not to be had within {:.1?}",
                self.name,
                began.elapsed()
            ));
            return Ok(self.options.conflict_exit_code);
        };
        self.voice.detail(&format!(
            "lock `{}`: held after {:.1?}, token {}",
            self.name,
            began.elapsed(),
            token(&guard)
        ));
        let environment = [
            ("MEMLATCH_NAME", self.name.clone()),
            ("MEMLATCH_TOKEN", token(&guard)),
            ("MEMLATCH_SERVER", client.server()),
        ];
        let rules = self.rules(Instant::now());
        // While this process is stopped, no lock is renewed, and the command must not run.
        let added = STOPPING.iter().try_for_each(|signal| signals.add(*signal));
        added.map_err(|error| Failure::system("cannot receive signals", &error))?;
        let ended = match Child::spawn(&self.argv, &environment, rules.unattended_grace()) {
            Ok(child) => {
                let argv = &self.argv;
                let watch = ChildMonitor::new(child, argv, &guard, signals, self.voice, rules);
                watch.until_the_end().await
            }
            Err(failure) => Err(failure),
        };
        let back = self.give_back(guard, signals).await;
        let ended = ended?;
        match back {
            _ if ended.lost => return Ok(code::LOST),
            LockOutcome::Free => {}
            LockOutcome::Lost(reason) => {
                // It happened too shortly before the end to be noticed by a renewal.
                stderr::print_error(&format!(
                    "lock `{}`: lost while the command ran: {reason}",
                    self.name
                ));
                return Ok(code::LOST);
            }
            LockOutcome::Unknown(why) => self
                .voice
                .note(&format!("{why}; it is free when its lease has run out")),
        }
        Ok(ended.code)
    }

    fn rules(&self, held_since: Instant) -> Rules {
        let limit = self.options.max_hold;
        Rules {
            lease: self.leases.lease,
            on_lost: self.options.on_lost,
            leftovers: self.options.leftovers,
            grace: self.options.grace,
            limit: limit.and_then(|longest| Some((held_since.checked_add(longest)?, longest))),
        }
    }

    /// The time for which the lock is held beyond `--max-hold`: as long as the command may take to
    /// end, and not so short that this looks like a lease that is not renewed.
    fn reserve(&self) -> Duration {
        match self.options.on_lost {
            OnLost::Ignore => Duration::ZERO,
            OnLost::Term | OnLost::Kill => GRACE + self.rules(Instant::now()).margin(),
        }
    }

    fn patience(&self) -> WaitLimit {
        WaitLimit::of(self.options.no_wait, self.options.wait, self.voice)
    }

    /// The lock, unless it is not to be had.
    async fn acquire(
        &self,
        lock: &Lock,
        patience: &mut WaitLimit,
    ) -> Result<Option<LockGuard>, Failure> {
        loop {
            let Some(guard) = patience.acquire(lock).await? else {
                return Ok(None);
            };
            // This process may have stood still for longer than the lease.
            if guard.is_valid() {
                return Ok(Some(guard));
            }
        }
    }

    async fn give_back(&self, guard: LockGuard, signals: &mut Signals) -> LockOutcome {
        let releasing = timeout(WAY_OUT, guard.release());
        match race(releasing, signals.ending()).await {
            Either::A(Ok(Ok(ReleaseOutcome::Released))) => LockOutcome::Free,
            Either::A(Ok(Ok(ReleaseOutcome::AlreadyLost { reason }))) => LockOutcome::Lost(reason),
            Either::A(Ok(Err(error))) => LockOutcome::Unknown(error.to_string()),
            // The renewer continues with it until the client is shut down.
            Either::A(Err(_)) | Either::B(_) => LockOutcome::Free,
        }
    }
}

/// The state of the lock at the end.
enum LockOutcome {
    Free,
    Lost(LossReason),
    Unknown(String),
}

fn token(guard: &LockGuard) -> String {
    guard
        .fencing_token()
        .map_or_else(String::new, |token| token.to_string())
}

/// The command to run, from what follows the name and from `-c` before it.
fn command_line(
    mut words: Vec<OsString>,
    mut line: Option<OsString>,
) -> Result<Vec<OsString>, Failure> {
    let first = words.first().and_then(|word| word.to_str());
    match first {
        // flock(1) takes it on this side of the name as well, with exactly one word.
        Some("-c" | "--command") if line.is_none() => {
            if words.len() != 2 {
                return Err(Failure::usage(
                    "-c takes exactly one command line, as one word: -c 'a && b'",
                ));
            }
            line = words.pop();
            words.clear();
        }
        Some("--") => {
            words.remove(0);
        }
        Some(option) if option.starts_with('-') && !matches!(option, "-" | "-c" | "--command") => {
            return Err(Failure::usage(format!(
                "`{option}` stands behind the name; options stand before it: memlatch run {option} \
                 NAME -- COMMAND. A command that begins with a dash stands behind --"
            )));
        }
        _ => {}
    }
    match line {
        Some(_) if !words.is_empty() => Err(Failure::usage(
            "there is both a command and -c; write one of them",
        )),
        Some(line) => {
            let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| "/bin/sh".into());
            Ok(vec![shell, "-c".into(), line])
        }
        None if words.is_empty() => Err(Failure::usage(
            "the command to run is missing; write memlatch run NAME -- COMMAND",
        )),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str], line: Option<&str>) -> Option<Vec<OsString>> {
        let words = words.iter().map(OsString::from).collect();
        command_line(words, line.map(OsString::from)).ok()
    }

    #[test]
    fn command_parses_with_and_without_separator() {
        let ls = Some(vec!["ls".into(), "--".into()]);
        assert_eq!(parsed(&["ls", "--"], None), ls);
        assert_eq!(parsed(&["--", "ls", "--"], None), ls);
        assert_eq!(parsed(&[], None), None);
        assert_eq!(parsed(&["--"], None), None);
    }

    #[test]
    fn shell_line_stands_beside_name() {
        let before = parsed(&[], Some("a; b")).expect("a command");
        let after = parsed(&["-c", "a; b"], None).expect("a command");
        assert_eq!(before[1..], ["-c", "a; b"]);
        assert_eq!(after, before);
        for (words, line) in [
            (&["ls"][..], Some("a")),
            (&["-c"], None),
            (&["-c", "a", "b"], None),
            (&["-c", "a"], Some("b")),
            (&["-n", "--", "ls"], None),
            (&["--lease", "5s", "ls"], None),
        ] {
            assert_eq!(parsed(words, line), None);
        }
    }
}
