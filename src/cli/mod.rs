//! From the words on the command line to an exit code.

mod args;
mod bench;
mod break_lock;
mod child;
mod completions;
mod demo;
mod doctor;
mod duration;
mod env;
mod exec;
mod failure;
mod files;
mod format_holder;
mod headings;
mod leases;
mod list;
mod log;
mod man;
mod monitor;
mod options;
mod output;
mod process_tree;
mod rules;
mod run;
mod select;
mod serve;
mod server;
mod shell;
mod signals;
mod startup;
mod status;
mod stderr;
mod style;
mod subcommands;
mod supervisor;
mod table;
mod text;
mod tickets;
mod time_format;
mod tls_auth;
mod wait;
mod wait_limit;
mod watch;

use args::{Args, Command};
use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use failure::{Failure, code};
use options::NAME;
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use stderr::Verbosity;
use tokio::runtime::Runtime;

pub(crate) fn main() -> ExitCode {
    let mut words = std::env::args_os();
    // Before the parser of options: the words after it are the command line of another program.
    match words.nth(1) {
        Some(first) if first == supervisor::SUPERVISOR => {
            return supervisor::supervise(words).into();
        }
        Some(first) if first == exec::HELPER => return exec::become_command(words).into(),
        _ => {}
    }
    stop_scripts_at_panics();
    match parse() {
        Ok(Ok(args)) => dispatch(args),
        Ok(Err(failure)) => not_begun(failure.report()),
        Err(error) => not_begun(refuse(&error)),
    }
    .into()
}

/// A panic must not let the script go on that evaluates what is printed.
fn stop_scripts_at_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        not_begun(code::SYSTEM);
    }));
}

/// The end of a command that could not begin, or that was only asked for help.
fn not_begun(code: u8) -> u8 {
    if code != code::SUCCESS {
        shell::print_end_unless_parsed(code);
    }
    code
}

/// Parses the command line; variables fill in what it does not set.
fn parse() -> Result<Result<Args, Failure>, clap::Error> {
    let mut definition = args::definition();
    let mut matches = definition.try_get_matches_from_mut(std::env::args_os())?;
    let seen = matches.clone();
    let mut args =
        Args::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut definition))?;
    Ok(env::apply(&mut args, &seen).map(|()| args))
}

/// Reports a command line that is not understood, or that asks for help.
fn refuse(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Without a reader the output is not needed.
            let _ = error.print();
            return code::SUCCESS;
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let verbs = subcommands::names(&args::definition());
            stderr::print_error(&format!(
                "a subcommand is missing: {} (see `memlatch --help`)",
                text::enumeration(&verbs, "or")
            ));
            return code::USAGE;
        }
        _ => {}
    }
    let text = error.render().to_string();
    // The error comes first, then tips, then the usage, for which there is --help.
    let told: Vec<&str> = text
        .split("\n\n")
        .take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more"))
        .flat_map(str::lines)
        .map(str::trim)
        .collect();
    let mut told = told.join(" ");
    if let Some(hint) = hint(error) {
        told.push_str("; ");
        told.push_str(&hint);
    }
    let told = text::shortened(told.strip_prefix("error: ").unwrap_or(&told));
    stderr::print_error(&format!("{told} (see `{} --help`)", verb_asked()));
    code::USAGE
}

/// A hint for words at the wrong place.
fn hint(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text(ContextKind::InvalidSubcommand)?;
            let alike = error.get(ContextKind::SuggestedSubcommand).is_some();
            let is_command = std::env::args_os().len() > 2;
            (!alike && is_command).then(|| {
                format!("to run a command under the lock `{name}`: memlatch run {name} -- COMMAND")
            })
        }
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg)?;
            let asked = verb_asked();
            let verb = asked.strip_prefix(NAME)?.trim();
            let mut words = std::env::args_os().skip(1);
            let before = words.position(|other| other == verb);
            let at = std::env::args_os().skip(1).position(|other| other == word);
            if word.starts_with('-') {
                let misplaced = !verb.is_empty() && at < before;
                misplaced
                    .then(|| format!("options of {verb} stand behind it: memlatch {verb} {word}"))
            } else {
                (verb == "acquire").then(|| {
                    "acquire runs no command; memlatch run NAME -- COMMAND does".to_owned()
                })
            }
        }
        _ => None,
    }
}

/// `memlatch run`, if that is how the command line begins.
fn verb_asked() -> String {
    let verbs = subcommands::names(&args::definition());
    let is_verb = |word: &OsString| verbs.iter().any(|verb| word == verb.as_str());
    // Behind options and their values, of which there are few.
    let verb = std::env::args_os().skip(1).take(8).find(is_verb);
    match verb.as_ref().and_then(|verb| verb.to_str()) {
        Some(verb) => format!("{} {verb}", NAME),
        None => NAME.to_owned(),
    }
}

/// The least number of pairs of descriptors that a runtime and a connection need.
const PAIRS: usize = 4;

/// The runtime. Parts of it panic where the system has no descriptors to spare.
fn runtime() -> io::Result<Runtime> {
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    drop(pairs?);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn dispatch(args: Args) -> u8 {
    let voice = Verbosity {
        quiet: args.global.quiet,
        detailed: args.global.verbose > 0,
    };
    log::install(voice, args.global.verbose);
    if let Err(failure) = startup::check_descriptors() {
        return not_begun(failure.report());
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return not_begun(Failure::system("cannot start", &error).report()),
    };
    let global = &args.global;
    let done = runtime.block_on(async {
        match args.verb {
            Command::Run(options) => run::run(global, options, voice).await,
            Command::Acquire(options) => tickets::acquire(global, options, voice).await,
            Command::Renew(options) => tickets::renew(global, &options).await,
            Command::Release(options) => tickets::release(global, &options).await,
            Command::Status(options) => status::status(global, options).await,
            Command::Wait(options) => wait::wait(global, options, voice).await,
            Command::List(options) => list::list(global, options, voice).await,
            Command::Watch(options) => watch::watch(global, options, voice).await,
            Command::Break(options) => break_lock::break_lock(global, options, voice).await,
            Command::Bench(options) => bench::bench(global, options, voice).await,
            Command::Serve(options) => serve::serve(options, voice).await,
            Command::Demo(options) => demo::demo(global, &options).await,
            Command::Completions(options) => {
                completions::completions(&options, &args::definition())
            }
            Command::Manual(options) => man::manual(&options, args::definition()),
            Command::Doctor(options) => doctor::doctor(global, &options).await,
            Command::DemoWorker(options) => demo::worker(global, &options).await,
        }
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
