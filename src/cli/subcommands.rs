//! Names of the subcommands.

use clap::Command;

/// The names of the subcommands in `definition` that are meant for users.
pub(super) fn names(definition: &Command) -> Vec<String> {
    definition
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| sub.get_name().to_owned())
        .collect()
}
