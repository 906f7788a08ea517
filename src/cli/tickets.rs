//! `memlatch acquire`, `renew` and `release`: a lock that is held between commands, for scripts.

use super::failure::{Failure, code};
use super::headings::{LOCK, OUTPUT, WAITING};
use super::leases::{self, DefaultLease, Leases};
use super::options::GlobalOptions;
use super::output;
use super::select::{Either, race};
use super::shell::{self, Variables};
use super::signals::{ENDING, Signals};
use super::stderr::Verbosity;
use super::wait_limit::WaitLimit;
use super::{duration, format_holder, server, text};
use core::time::Duration;
use memlatch::{Client, ErrorKind, LockGuard, LockTicket, ReleaseOutcome};
use serde_json::{Value, json};
use std::io::Read;

/// The time limit for cleanup when the server does not answer.
const WAY_OUT: Duration = Duration::from_secs(1);

/// The first word of every ticket.
const LAYOUT: &str = "p1 ";

/// No parts are longer than this.
const LONGEST_PARTS: u64 = 8192;

/// Acquire a lock, and leave it held when this command ends
///
/// Prints assignments for the shell: MEMLATCH_NAME, the fencing token as MEMLATCH_TOKEN, and
/// MEMLATCH_PARTS, by which `memlatch renew` and `memlatch release` know the lock. It is not renewed
/// meanwhile, and free when its lease has run out. Any program that has the parts can release the
/// lock.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  held=$(memlatch acquire --no-wait --max-lease 5m nightly) || exit
  eval \"$held\"
  ./first-half && memlatch renew nightly >&2 && ./second-half
  status=$?
  memlatch release nightly
  exit \"$status\"

Stop where it is not held: `|| exit` does, and where a script evaluates what is printed then, that
ends it, and MEMLATCH_PARTS is unset. A line `held=$(...) && eval \"$held\"` alone goes on;
write `held=$(...) && eval \"$held\" || exit`.

Exit codes:
  0    it is held
  1    another holder has the lock (-n) or had it for too long (-w); -E changes the code
  64   the command line cannot be used
  69   the server is unreachable, unfit, or was started or flushed too recently

DURATION is in seconds (5, 0.5) or has a unit: 500ms, 10s, 2m, 1h, 1d.")]
pub(super) struct Acquire {
    /// The lock's name
    name: String,

    /// Do not wait when another holder has the lock [env: MEMLATCH_NO_WAIT=on|off]
    #[arg(short, long, conflicts_with = "wait", help_heading = WAITING)]
    pub(super) no_wait: bool,

    /// Longest wait for the lock [default: for ever] [env: MEMLATCH_WAIT]
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse, help_heading = WAITING)]
    pub(super) wait: Option<Duration>,

    /// Exit code when the lock is not to be had, 0 to 255 [env: MEMLATCH_CONFLICT_EXIT_CODE]
    #[arg(short = 'E', long, value_name = "N", default_value_t = code::FAILED, help_heading = WAITING)]
    pub(super) conflict_exit_code: u8,

    /// Time for which the lock is held without being renewed
    /// [default: the longest lease, --max-lease] [env: MEMLATCH_LEASE]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, help_heading = LOCK)]
    pub(super) lease: Option<Duration>,

    /// Label of the holder, as the status shows it [env: MEMLATCH_LABEL]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        help_heading = LOCK
    )]
    pub(super) label: String,

    /// One JSON object in place of assignments
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

/// The lock that `memlatch acquire` has left held.
#[derive(Debug, clap::Args)]
struct Parts {
    /// The lock's name, which must be the one that the variables are about; or the parts that
    /// `memlatch acquire` has printed, `-` to read them from standard input, where others on the
    /// machine cannot see them [default: the parts in the variable MEMLATCH_PARTS]
    #[arg(value_name = "NAME|PARTS")]
    lock: Option<String>,
}

/// Renew a lock that `memlatch acquire` has left held
///
/// Its lease runs anew from now on. Prints the assignments again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch renew nightly >&2 || exit

Exit codes:
  0    it is held
  64   the command line cannot be used
  69   the server is unreachable: the lock is as it was
  120  it is not held any more")]
pub(super) struct Renew {
    #[command(flatten)]
    parts: Parts,

    /// One JSON object in place of assignments
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

/// Give back a lock that `memlatch acquire` has left held
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch release nightly    # by MEMLATCH_PARTS, if that is of this lock
  memlatch release - < parts

Exit codes:
  0    it was held to the end, and is free now
  64   the command line cannot be used
  69   the server is unreachable: the lock is free when its lease has run out
  120  it was not held any more")]
pub(super) struct Release {
    #[command(flatten)]
    parts: Parts,

    /// One JSON object on standard output
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

pub(super) async fn acquire(
    global: &GlobalOptions,
    options: Acquire,
    voice: Verbosity,
) -> Result<u8, Failure> {
    let json = options.json;
    let done = acquired(global, options, voice).await;
    let code = match &done {
        Ok(Acquired::Held) => None,
        Ok(Acquired::NotHeld(code)) => Some(*code),
        Err(failure) => Some(failure.code()),
    };
    if let Some(code) = code.filter(|_| !json) {
        // The variables may hold values of another lock.
        shell::print_end(code, Variables::Stale);
    }
    done.map(|acquired| match acquired {
        Acquired::Held => code::SUCCESS,
        Acquired::NotHeld(code) => code,
    })
}

/// The outcome of an attempt to acquire a lock.
enum Acquired {
    Held,
    /// And the code to end with, which may be 0.
    NotHeld(u8),
}

async fn acquired(
    global: &GlobalOptions,
    options: Acquire,
    voice: Verbosity,
) -> Result<Acquired, Failure> {
    let name = &options.name;
    server::check(global, name)?;
    let leases = Leases::new(global, options.lease, DefaultLease::Longest)?;
    leases.note(name, voice);
    let mut signals = Signals::listen(&ENDING)
        .map_err(|error| Failure::system("cannot receive signals", &error))?;
    let ended_by = |signal| Acquired::NotHeld(code::of_signal(signal as i32));
    let mut patience = WaitLimit::of(options.no_wait, options.wait, voice);
    let connecting = patience.connect(global, |builder| builder.max_lease(leases.longest));
    let client = match race(connecting, signals.ending()).await {
        Either::A(client) => client?,
        Either::B(signal) => return Ok(ended_by(signal)),
    };
    let acquiring = held(&client, &options, leases.lease, &mut patience, voice);
    let done = match race(acquiring, signals.ending()).await {
        Either::A(done) => done,
        Either::B(signal) => Ok(ended_by(signal)),
    };
    // Also removes the record that an abandoned acquisition may have left.
    client.shutdown(WAY_OUT).await;
    done
}

/// Acquires the lock and prints it.
async fn held(
    client: &Client,
    options: &Acquire,
    lease: Duration,
    patience: &mut WaitLimit,
    voice: Verbosity,
) -> Result<Acquired, Failure> {
    let name = &options.name;
    let lock = client.lock(name).lease(lease).label(&options.label);
    let guard = patience.acquire(&lock).await?;
    let Some(guard) = guard else {
        // As flock(1) has it, the code says it all.
        voice.detail(&format!("lock `{name}`: not to be had"));
        return Ok(Acquired::NotHeld(options.conflict_exit_code));
    };
    let remaining = guard.remaining();
    let server = client.server();
    let parts = guard.detach();
    if let Err(failure) = tell(&parts, remaining, &server, options.json) {
        // A lock that was not reported is of no use.
        if let Ok(guard) = LockGuard::attach(client, &parts).await {
            drop(guard);
        }
        return Err(failure);
    }
    Ok(Acquired::Held)
}

pub(super) async fn renew(global: &GlobalOptions, options: &Renew) -> Result<u8, Failure> {
    let done = renewed(global, options).await;
    if let (Err(failure), false) = (&done, options.json) {
        let variables = match failure.code() {
            code::LOST => Variables::Stale,
            _ => Variables::Kept,
        };
        shell::print_end(failure.code(), variables);
    }
    done.map(|()| code::SUCCESS)
}

async fn renewed(global: &GlobalOptions, options: &Renew) -> Result<(), Failure> {
    let parts = options.parts.read()?;
    let (client, guard) = taken_up(global, &parts).await??;
    let remaining = guard.remaining();
    let server = client.server();
    let parts = guard.detach();
    let told = tell(&parts, remaining, &server, options.json);
    client.shutdown(WAY_OUT).await;
    told
}

pub(super) async fn release(global: &GlobalOptions, options: &Release) -> Result<u8, Failure> {
    let parts = options.parts.read()?;
    let name = text::one_line(parts.name());
    let (client, guard) = match taken_up(global, &parts).await? {
        Ok(held) => held,
        Err(lost) => {
            if options.json {
                let object = json!({ "name": parts.name(), "released": false });
                output::print(&text::json_line(&object))?;
            }
            return Ok(lost.report());
        }
    };
    let outcome = guard.release().await;
    client.shutdown(WAY_OUT).await;
    let lost = match outcome? {
        ReleaseOutcome::Released => None,
        ReleaseOutcome::AlreadyLost { reason } => Some(reason),
    };
    if options.json {
        let object = json!({ "name": parts.name(), "released": lost.is_none() });
        output::print(&text::json_line(&object))?;
    }
    match lost {
        None => Ok(code::SUCCESS),
        Some(reason) => Err(Failure::new(
            code::LOST,
            format!("lock `{name}`: not held any more: {reason}"),
        )),
    }
}

/// The lock with these parts, renewed; or why it is lost.
async fn taken_up(
    global: &GlobalOptions,
    parts: &LockTicket,
) -> Result<Result<(Client, LockGuard), Failure>, Failure> {
    if global.prefix.is_some() && global.prefix() != parts.prefix() {
        return Err(Failure::usage(format!(
            "the lock is held under the prefix `{}`, not under `{}`; leave out --prefix",
            text::one_line(parts.prefix()),
            text::one_line(global.prefix()),
        )));
    }
    // A held lock stays held, however short the longest lease is set by now.
    let longest = leases::longest_or_default(global)?.max(parts.lease());
    let builder = server::builder(global)?
        .prefix(parts.prefix())
        .max_lease(longest);
    let client = builder.build().await?;
    match LockGuard::attach(&client, parts).await {
        Ok(guard) => Ok(Ok((client, guard))),
        Err(error) if error.kind() == ErrorKind::Lost => {
            Ok(Err(Failure::new(code::LOST, error.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

impl Parts {
    fn read(&self) -> Result<LockTicket, Failure> {
        let named = match self.lock.as_deref() {
            None | Some("") => return parse(&in_environment()?),
            Some("-") => return parse(&on_standard_input()?),
            Some(parts) if parts.starts_with(LAYOUT) => return parse(parts),
            Some(name) => name,
        };
        let parts = parse(&in_environment()?)?;
        if parts.name() == named {
            return Ok(parts);
        }
        Err(Failure::usage(format!(
            "the lock `{named}` is not the one that was acquired: MEMLATCH_PARTS is of `{}`. What \
             memlatch acquire prints for `{named}` was not evaluated",
            parts.name()
        )))
    }
}

fn parse(text: &str) -> Result<LockTicket, Failure> {
    text.trim_end_matches(['\r', '\n'])
        .parse()
        .map_err(|error| Failure::usage(format!("the parts of the lock: {error}")))
}

fn in_environment() -> Result<String, Failure> {
    let parts = std::env::var("MEMLATCH_PARTS").ok();
    parts.filter(|parts| !parts.is_empty()).ok_or_else(|| {
        Failure::usage(
            "the parts of the lock are missing; give what memlatch acquire has printed as \
             MEMLATCH_PARTS, in the environment, on standard input (-) or as an argument",
        )
    })
}

fn on_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let input = std::io::stdin().lock();
    let read = input.take(LONGEST_PARTS).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::new(
            code::INPUT_OUTPUT,
            format!("cannot read standard input: {error}"),
        )
    })?;
    Ok(text)
}

/// Prints what the next command needs.
fn tell(
    parts: &LockTicket,
    remaining: Duration,
    server: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let text = if as_json {
        text::json_line(&object(parts, remaining, server))
    } else {
        shell::assignments(parts)
    };
    output::print(&text)
}

fn object(parts: &LockTicket, remaining: Duration, server: &str) -> Value {
    json!({
        "name": parts.name(),
        "token": parts.fencing_token().map(format_holder::word),
        "parts": parts.to_string(),
        "lease_seconds": parts.lease().as_secs_f64(),
        "remaining_seconds": remaining.as_secs_f64(),
        "server": server,
    })
}
