//! From the words on the command line to an exit code.

mod args;
mod child;
mod demo;
mod doctor;
mod duration;
mod failure;
mod output;
mod race;
mod run;
mod secrets;
mod serve;
mod server;
mod signals;
mod status;
mod trace;
mod utc;
mod watch;

use args::{Args, Verb};
use clap::Parser;
use clap::error::ErrorKind;
use failure::{Failure, code};
use output::Voice;
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let mut words = std::env::args_os();
    // Before the parser of options: what follows is somebody else's command line.
    if words.nth(1).is_some_and(|first| first == child::HELPER) {
        return child::become_command(words).into();
    }
    match Args::try_parse() {
        Ok(args) => dispatch(args),
        Err(error) => refuse(&error),
    }
    .into()
}

/// What becomes of a command line that is not understood, or that asks for help.
fn refuse(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // If nobody reads it, nobody misses it.
            let _ = error.print();
            return code::SUCCESS;
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::complain(
                "a subcommand is missing: run, status, doctor, serve or demo (see `memlatch --help`)",
            );
            return code::USAGE;
        }
        _ => {}
    }
    let text = error.render().to_string();
    // What is wrong comes first, then tips, then the usage, for which there is --help.
    let told: Vec<&str> = text
        .split("\n\n")
        .take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more"))
        .flat_map(str::lines)
        .map(str::trim)
        .collect();
    let told = told.join(" ");
    let told = shortened(told.strip_prefix("error: ").unwrap_or(&told));
    output::complain(&format!("{told} (see `{} --help`)", verb_asked()));
    code::USAGE
}

/// Long text without its middle: it is somebody's argument, and what is wrong stands around it.
fn shortened(text: &str) -> String {
    const ENDS: usize = 300;
    let length = text.chars().count();
    if length <= 2 * ENDS {
        return text.to_owned();
    }
    let begin = text.chars().take(ENDS);
    begin
        .chain(" … ".chars())
        .chain(text.chars().skip(length - ENDS))
        .collect()
}

/// `memlatch run`, if that is how the command line begins.
fn verb_asked() -> String {
    let verbs = ["run", "status", "serve", "demo", "doctor"];
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let verb = verbs
        .into_iter()
        .find(|verb| words.iter().take(8).any(|word| word == verb));
    verb.map_or_else(|| "memlatch".to_owned(), |verb| format!("memlatch {verb}"))
}

fn dispatch(args: Args) -> u8 {
    let voice = Voice {
        quiet: args.global.quiet,
        detailed: args.global.verbose > 0,
    };
    trace::install(voice, args.global.verbose);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::system("cannot start", &error).report(),
    };
    let global = &args.global;
    let done = runtime.block_on(async {
        match args.verb {
            Verb::Run(options) => run::run(global, options, voice).await,
            Verb::Status(options) => status::status(global, options).await,
            Verb::Serve(options) => serve::serve(options, voice).await,
            Verb::Demo(options) => demo::demo(global, &options).await,
            Verb::Doctor(options) => doctor::doctor(global, &options).await,
            Verb::DemoWorker(options) => demo::worker(global, &options).await,
        }
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
