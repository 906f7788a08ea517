//! `memlatch status`: shows the holder of a lock.

use super::failure::{Failure, code};
use super::headings::OUTPUT;
use super::options::GlobalOptions;
use super::{format_holder, output, server, text};

/// Show the holder of a lock
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch status nightly
  memlatch status --json nightly | jq -r .last_token")]
pub(super) struct Status {
    /// The lock's name
    name: String,

    /// One JSON object in place of text
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

pub(super) async fn status(global: &GlobalOptions, options: Status) -> Result<u8, Failure> {
    let name = options.name;
    let keys = server::check(global, &name)?;
    let client = server::builder(global)?.build().await?;
    let holder = client.holder(&name).await?;
    let shown = if options.json {
        format_holder::line(format_holder::object(
            &name,
            holder.as_ref(),
            &client.server(),
        ))
    } else {
        format_holder::readable(&name, holder.as_ref(), &keys, text::terminal_width())
    };
    output::print(&shown)?;
    Ok(code::SUCCESS)
}
