//! `memlatch man`: the manual, made from the same definition as `--help`.

use super::failure::{Failure, code};
use super::options::NAME;
use super::{output, subcommands, text};
use clap::Command;
use clap_mangen::Man;
use std::io;

/// Print the manual in roff
///
/// Read it with memlatch man | man -l - (or mandoc -l), or install it:
/// memlatch man > /usr/local/share/man/man1/memlatch.1
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch man | man -l -
  memlatch man run | man -l -")]
pub(super) struct Manual {
    /// Only this subcommand, as a page of its own [default: all of them, in one page]
    #[arg(value_name = "SUBCOMMAND")]
    verb: Option<String>,
}

/// Prints the manual of the commands in `definition`.
pub(super) fn manual(options: &Manual, definition: Command) -> Result<u8, Failure> {
    let definition = built(definition);
    let page = match &options.verb {
        None => whole(&definition),
        Some(verb) => match definition.get_subcommands().find(|sub| is(sub, verb)) {
            Some(sub) => separate(sub),
            None => {
                return Err(Failure::usage(format!(
                    "there is no subcommand `{verb}`; the subcommands are {}",
                    text::enumeration(&subcommands::names(&definition), "and")
                )));
            }
        },
    };
    let page = page.map_err(|error| Failure::system("cannot write the manual", &error))?;
    output::print(&String::from_utf8_lossy(&page))?;
    Ok(code::SUCCESS)
}

fn is(sub: &Command, verb: &str) -> bool {
    sub.get_name() == verb && !sub.is_hide_set()
}

/// The definition with everything that clap adds when it parses.
fn built(mut definition: Command) -> Command {
    // The present values of the variables do not belong in a manual.
    definition.build();
    definition
}

/// One page: the program, then a section for each subcommand.
fn whole(definition: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(definition.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for sub in definition
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
    {
        let heading = format!(".SH \"{} {}\"\n", NAME, sub.get_name());
        page.extend_from_slice(heading.to_uppercase().as_bytes());
        // The options of all subcommands stand above.
        let own = sub.clone().mut_args(|option| {
            let shared = option.is_global_set();
            option.hide(shared)
        });
        let man = Man::new(own);
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        if has_visible_options(sub) {
            man.render_options_section(&mut part)?;
        }
        if sub.get_after_help().is_some() || sub.get_after_long_help().is_some() {
            man.render_extra_section(&mut part)?;
        }
        page.extend_from_slice(&one_level_down(&part));
    }
    if definition.get_after_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

fn has_visible_options(sub: &Command) -> bool {
    sub.get_arguments()
        .any(|option| !option.is_global_set() && !option.is_hide_set())
}

/// Sections become subsections, without the preamble that stands once at the top.
fn one_level_down(part: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(part);
    let lines = text.lines().filter(|line| !is_preamble(line));
    let mut out = String::with_capacity(text.len());
    for line in lines {
        match line.strip_prefix(".SH ") {
            Some(title) => {
                out.push_str(".SS ");
                out.push_str(title);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out.into_bytes()
}

/// Which strings stand for an apostrophe: said anew before each part.
fn is_preamble(line: &str) -> bool {
    line.starts_with(".ie \\n(.g .ds Aq") || line.starts_with(".el .ds Aq")
}

/// A page for one subcommand.
fn separate(sub: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(sub.clone()).render(&mut page)?;
    Ok(page)
}
