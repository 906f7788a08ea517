//! `memlatch completions`: what a shell needs to complete command lines of this program.

use super::failure::{Failure, code};
use super::options::NAME;
use super::output;
use clap::Command;
use clap_complete::Shell;

/// Print completions for a shell
///
/// For the current bash: source <(memlatch completions bash). To have them always, put the output
/// where the shell looks for completions, such as
/// ~/.local/share/bash-completion/completions/memlatch, a folder of zsh's $fpath as _memlatch, or
/// ~/.config/fish/completions/memlatch.fish.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch completions bash > ~/.local/share/bash-completion/completions/memlatch
  memlatch completions fish > ~/.config/fish/completions/memlatch.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints a script that completes the commands in `definition`.
pub(super) fn completions(options: &Completions, definition: &Command) -> Result<u8, Failure> {
    let visible = definition
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set());
    let mut visible = Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(definition.get_arguments().cloned())
        .subcommands(visible.cloned());
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut visible, NAME, &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(code::SUCCESS)
}
