//! The command line.

use super::bench::Bench;
use super::break_lock::Break;
use super::completions::Completions;
use super::demo::{Demo, DemoWorker};
use super::doctor::Doctor;
use super::list::List;
use super::man::Manual;
use super::options::{GlobalOptions, NAME};
use super::run::Run;
use super::serve::Serve;
use super::status::Status;
use super::tickets::{Acquire, Release, Renew};
use super::wait::Wait;
use super::watch::Watch;
use clap::builder::styling::Styles;
use clap::{CommandFactory, Parser, Subcommand};

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

#[cfg(test)]
mod tests {
    use super::super::headings::{CONNECTION, LOCK, WAITING};
    use super::super::subcommands;
    use super::*;

    fn run(words: &[&str]) -> (GlobalOptions, Run) {
        let args = Args::try_parse_from(words).expect("a usable command line");
        match args.verb {
            Command::Run(run) => (args.global, run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn command_definition_is_valid() {
        definition().debug_assert();
    }

    #[test]
    fn internal_options_are_hidden() {
        let verbs = subcommands::names(&definition());
        assert!(verbs.iter().any(|verb| verb == "run"), "{verbs:?}");
        assert!(!verbs.iter().any(|verb| verb.starts_with('_')), "{verbs:?}");
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
    fn help_examples_parse() {
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
    fn every_option_has_a_group() {
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
    fn separator_stands_before_or_after_name() {
        let (_, after) = run(&["memlatch", "run", "x", "--", "-odd"]);
        assert_eq!(after.words, ["x", "--", "-odd"]);
        let (_, before) = run(&["memlatch", "run", "--", "-x", "ls"]);
        assert_eq!(before.words, ["-x", "ls"]);
    }

    #[test]
    fn global_options_stand_anywhere() {
        let (before, _) = run(&["memlatch", "--server", "h:1", "run", "x", "ls"]);
        let (after, _) = run(&["memlatch", "run", "--server", "h:1", "x", "ls"]);
        assert_eq!(before.named_server(), Some("h:1"));
        assert_eq!(after.named_server(), Some("h:1"));
    }
}
