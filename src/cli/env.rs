//! Options that were given as variables. What stands on the command line wins over them, and an
//! empty variable is one that is not set.

use super::args::{Args, Command};
use super::duration;
use super::failure::Failure;
use super::rules::{Leftovers, OnLost};
use super::run::Run;
use super::text::shortened;
use super::tickets::Acquire;
use super::wait::Wait;
use clap::parser::ValueSource;
use clap::{ArgMatches, ValueEnum};
use core::fmt::Display;
use core::time::Duration;
use std::env;

/// Fills in the values missing on the command line. `matches` holds the values that it has.
pub(super) fn apply(args: &mut Args, matches: &ArgMatches) -> Result<(), Failure> {
    let global = &mut args.global;
    if global.restart_guard.is_none() {
        global.restart_guard = value("MEMLATCH_RESTART_GUARD", switch)?;
    }
    if global.max_lease.is_none() {
        global.max_lease = value("MEMLATCH_MAX_LEASE", duration::parse)?;
    }
    if !global.quiet && global.verbose == 0 {
        let quiet = value("MEMLATCH_QUIET", switch)?.unwrap_or(false);
        let verbose = value("MEMLATCH_VERBOSE", verbosity)?.unwrap_or(0);
        if quiet && verbose > 0 {
            return Err(exclusive("MEMLATCH_QUIET", "MEMLATCH_VERBOSE"));
        }
        (global.quiet, global.verbose) = (quiet, verbose);
    }
    let own = matches.subcommand().map_or(matches, |(_, own)| own);
    match &mut args.verb {
        Command::Run(options) => run(options, own),
        Command::Acquire(options) => acquire(options, own),
        Command::Wait(options) => wait(options, own),
        _ => Ok(()),
    }
}

fn run(options: &mut Run, matches: &ArgMatches) -> Result<(), Failure> {
    whether_to_wait(&mut options.no_wait, &mut options.wait)?;
    if options.max_hold.is_none() {
        options.max_hold = value("MEMLATCH_MAX_HOLD", duration::parse)?;
    }
    if options.min_hold.is_none() {
        options.min_hold = value("MEMLATCH_MIN_HOLD", duration::parse)?;
    }
    unless_given(&mut options.on_lost, "on_lost", matches, || {
        value("MEMLATCH_ON_LOST", on_lost)
    })?;
    unless_given(&mut options.leftovers, "leftovers", matches, || {
        value("MEMLATCH_LEFTOVERS", leftovers)
    })?;
    unless_given(&mut options.grace, "grace", matches, || {
        value("MEMLATCH_GRACE", duration::parse)
    })?;
    conflict_exit_code(&mut options.conflict_exit_code, matches)?;
    lease_and_label(&mut options.lease, &mut options.label, matches)
}

fn acquire(options: &mut Acquire, matches: &ArgMatches) -> Result<(), Failure> {
    whether_to_wait(&mut options.no_wait, &mut options.wait)?;
    conflict_exit_code(&mut options.conflict_exit_code, matches)?;
    lease_and_label(&mut options.lease, &mut options.label, matches)
}

fn whether_to_wait(no_wait: &mut bool, wait: &mut Option<Duration>) -> Result<(), Failure> {
    if !*no_wait && wait.is_none() {
        *no_wait = value("MEMLATCH_NO_WAIT", switch)?.unwrap_or(false);
        *wait = patience()?;
        if *no_wait && wait.is_some() {
            return Err(exclusive("MEMLATCH_NO_WAIT", "MEMLATCH_WAIT"));
        }
    }
    Ok(())
}

fn lease_and_label(
    lease: &mut Option<Duration>,
    label: &mut String,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    if lease.is_none() {
        *lease = value("MEMLATCH_LEASE", duration::parse)?;
    }
    unless_given(label, "label", matches, || {
        value("MEMLATCH_LABEL", |text| Ok::<_, String>(text.to_owned()))
    })
}

fn wait(options: &mut Wait, matches: &ArgMatches) -> Result<(), Failure> {
    if options.wait.is_none() {
        options.wait = patience()?;
    }
    conflict_exit_code(&mut options.conflict_exit_code, matches)
}

fn patience() -> Result<Option<Duration>, Failure> {
    value("MEMLATCH_WAIT", duration::parse)
}

fn conflict_exit_code(code: &mut u8, matches: &ArgMatches) -> Result<(), Failure> {
    unless_given(code, "conflict_exit_code", matches, || {
        value("MEMLATCH_CONFLICT_EXIT_CODE", |text| {
            text.parse().map_err(|_| "write a number from 0 to 255")
        })
    })
}

/// Puts a variable in the place of a default value.
fn unless_given<T>(
    option: &mut T,
    id: &str,
    matches: &ArgMatches,
    value: impl FnOnce() -> Result<Option<T>, Failure>,
) -> Result<(), Failure> {
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        if let Some(value) = value()? {
            *option = value;
        }
    }
    Ok(())
}

/// The parsed value of a variable, if it is set.
fn value<T, E: Display>(
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let text = match env::var_os(name) {
        Some(text) if !text.is_empty() => text,
        _ => return Ok(None),
    };
    let shown = shortened(&text.to_string_lossy());
    let wrong = |why: &dyn Display| Failure::usage(format!("the variable {name}={shown}: {why}"));
    match text.to_str().map(parse) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(why)) => Err(wrong(&why)),
        None => Err(wrong(&"not UTF-8")),
    }
}

fn exclusive(one: &str, other: &str) -> Failure {
    Failure::usage(format!(
        "the variables {one} and {other} exclude each other; unset one of them"
    ))
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" | "1" => Ok(true),
        "off" | "0" => Ok(false),
        _ => Err("write on or off"),
    }
}

fn verbosity(text: &str) -> Result<u8, &'static str> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "2" => Ok(2),
        _ => Err("write 0, 1 or 2"),
    }
}

fn on_lost(text: &str) -> Result<OnLost, &'static str> {
    OnLost::from_str(text, false).map_err(|_| "write term, kill or ignore")
}

fn leftovers(text: &str) -> Result<Leftovers, &'static str> {
    Leftovers::from_str(text, false).map_err(|_| "write wait, end or leave")
}
