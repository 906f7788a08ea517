//! `memlatch list`: which locks are held.

use super::failure::{Failure, code};
use super::headings::OUTPUT;
use super::options::GlobalOptions;
use super::output;
use super::stderr::Verbosity;
use super::style::{Glyphs, Styler};
use super::{format_holder, server, table, text};
use memlatch::{LockEntry, LockList, MAX_LISTED};

/// List the locks that are held
///
/// The server is asked for all its items, which takes it a second or so for a million of them; it
/// must not run with -X. Of more than 10000 locks, the first are shown, and stderr says so. A name
/// too long to stand in a key is not known: it is shown as # and its SHA-256. LAST_TOKEN is the
/// last fencing token that was drawn: that of the holder, or a later one of an attempt that was
/// refused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch list invoices/
  memlatch list --json | jq -r .name

Numbers of 64 bits, such as last_token, are strings in JSON.")]
pub(super) struct List {
    /// Prefix of the names [default: all]
    #[arg(
        value_name = "NAME_PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    start: String,

    /// One JSON object for each lock, a line each, in place of a table
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

pub(super) async fn list(
    global: &GlobalOptions,
    options: List,
    voice: Verbosity,
) -> Result<u8, Failure> {
    server::check_address(global)?;
    let client = server::builder(global)?.build().await?;
    let listing = client.list(&options.start).await?;
    let text = if options.json {
        let address = client.server();
        listing
            .locks
            .iter()
            .map(|lock| line(lock, &address))
            .collect()
    } else {
        table(&listing)
    };
    output::print(&text)?;
    if listing.locks.is_empty() {
        voice.note("no locks");
    }
    note_missing(&listing, voice);
    Ok(code::SUCCESS)
}

/// Says so where there are more locks than those listed.
pub(super) fn note_missing(listing: &LockList, voice: Verbosity) {
    if !listing.is_complete {
        voice.note(&format!(
            "there are more than {MAX_LISTED} locks; these are the first of them"
        ));
    }
}

fn line(lock: &LockEntry, address: &str) -> String {
    format_holder::line(format_holder::entry_object(lock, address))
}

fn table(listing: &LockList) -> String {
    if listing.locks.is_empty() {
        return String::new();
    }
    let glyphs = Glyphs::of_the_locale();
    let lines = table::lines(&listing.locks, false, text::terminal_width(), glyphs);
    let paint = Styler::for_stdout();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        match number {
            0 => text.push_str(&paint.bold(line)),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
