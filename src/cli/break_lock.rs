//! `memlatch break`: ending the session of another client.

use super::failure::{Failure, code};
use super::headings::OUTPUT;
use super::options::GlobalOptions;
use super::output;
use super::stderr::{self, Verbosity};
use super::{format_holder, server, text};
use memlatch::{BreakOutcome, Holder};
use serde_json::{Map, Value};
use std::io::{self, IsTerminal};

/// Break a lock: end its holder's hold on it
///
/// Shows the holder, asks, and removes the record, if it is still that of the same holder by
/// then. The holder learns of it with its next renewal, at most a third of its lease later, and
/// works on until then. Where the resource checks fencing tokens, it is kept out.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch break nightly
  memlatch break --yes nightly

Exit codes:
  0    broken, or free already
  1    not broken: it has changed hands meanwhile, or the answer was no
  64   the command line cannot be used
  69   the server is unreachable or unfit")]
pub(super) struct Break {
    /// The lock's name
    name: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// One JSON object in place of text
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

pub(super) async fn break_lock(
    global: &GlobalOptions,
    options: Break,
    voice: Verbosity,
) -> Result<u8, Failure> {
    let name = &options.name;
    let keys = server::check(global, name)?;
    if !options.yes && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "break asks before it breaks a lock, and gets no answer: standard input is no \
             terminal; --yes breaks it without asking",
        ));
    }
    let client = server::builder(global)?.build().await?;
    let told = |outcome: &str, holder: Option<&Holder>| {
        let mut fields = format_holder::object(name, holder, &client.server());
        fields.insert("outcome".to_owned(), outcome.into());
        BreakReport {
            json: options.json,
            fields,
        }
    };
    let shown_name = text::one_line(name);
    let Some(holder) = client.holder(name).await? else {
        told("free", None).tell(&format!("{shown_name}  free already\n"))?;
        return Ok(code::SUCCESS);
    };
    if !options.json {
        let columns = text::terminal_width();
        output::print(&format_holder::readable(
            name,
            Some(&holder),
            &keys,
            columns,
        ))?;
    }
    if !options.yes && !is_wanted(&holder)? {
        told("declined", Some(&holder)).tell("")?;
        voice.note("left as it is");
        return Ok(code::FAILED);
    }
    match client.break_lock(name, &holder).await? {
        BreakOutcome::Broken => {
            told("broken", Some(&holder)).tell(&format!("{shown_name}  broken\n"))?;
            Ok(code::SUCCESS)
        }
        BreakOutcome::Changed { holder } => {
            told("changed", Some(&holder)).tell("")?;
            stderr::print_error(&format!(
                "lock `{name}`: it has changed hands and is held by {holder} now; not broken"
            ));
            Ok(code::FAILED)
        }
        // It was released, or has expired.
        _ => {
            told("free", None).tell(&format!("{shown_name}  free already\n"))?;
            Ok(code::SUCCESS)
        }
    }
}

/// The last line of the output.
struct BreakReport {
    json: bool,
    fields: Map<String, Value>,
}

impl BreakReport {
    fn tell(self, text: &str) -> Result<(), Failure> {
        if self.json {
            output::print(&format_holder::line(self.fields))
        } else {
            output::print(text)
        }
    }
}

/// Asks on the terminal.
fn is_wanted(holder: &Holder) -> Result<bool, Failure> {
    let when = if holder.lease.is_zero() {
        "with its next renewal".to_owned()
    } else {
        format!(
            "with its next renewal, at most {:.1?} later",
            holder.lease / 3
        )
    };
    stderr::ask(&format!(
        "The holder learns of it {when}, and works on until then. Only where fencing tokens are \
         checked is it kept out.\nBreak it? [y/N] "
    ));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::system("cannot read the answer", &error))?;
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}
