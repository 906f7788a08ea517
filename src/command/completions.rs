//! `memlatch completions`: what a shell needs to complete command lines of this program.

use super::args;
use super::failure::{Failure, code};
use super::output;
use clap_complete::Shell;

/// Print completions for a shell
///
/// For the current bash: source <(memlatch completions bash). To have them always, put the output
/// where the shell looks for completions, such as
/// ~/.local/share/bash-completion/completions/memlatch, a folder of zsh's $fpath as _memlatch, or
/// ~/.config/fish/completions/memlatch.fish.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn completions(options: &Completions) -> Result<u8, Failure> {
    let mut definition = args::definition();
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut definition, args::NAME, &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(code::SUCCESS)
}
