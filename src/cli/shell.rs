//! The output of `acquire` and `renew`, for a shell to evaluate.

use super::output;
use memlatch::proto::LockTicket;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};

/// The variables that are set while a lock is held.
const VARIABLES: &str = "MEMLATCH_NAME MEMLATCH_TOKEN MEMLATCH_PARTS";

/// Assignments for a lock that is held.
pub(super) fn assignments(parts: &LockTicket) -> String {
    let token = parts.fencing_token().map(|token| token.to_string());
    format!(
        "export MEMLATCH_NAME={} MEMLATCH_TOKEN={} MEMLATCH_PARTS={}\n",
        quoted(parts.name()),
        token.unwrap_or_default(),
        quoted(&parts.to_string())
    )
}

/// The state of the variables when a command has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variables {
    /// They are about another lock, or about one that is not held any more.
    Stale,
    /// They may still be about a lock that is held.
    Kept,
}

/// A line that ends the script that evaluates it with this code. An interactive shell continues,
/// and the evaluation fails there.
///
/// `eval` of nothing succeeds, so that a failure that prints nothing lets `eval "$(...)"` continue
/// without the lock. The line contains nothing that a shell expands to file names, for scripts that
/// omit the quotes.
fn end(code: u8, variables: Variables) -> String {
    let unset = match variables {
        Variables::Stale => format!("unset {VARIABLES}; "),
        Variables::Kept => String::new(),
    };
    format!(
        "{unset}echo $- | grep -q i || exit {code}; (exit {})\n",
        code.max(1)
    )
}

/// Prints it, unless the output is not evaluated.
pub(super) fn print_end(code: u8, variables: Variables) {
    if !io::stdout().is_terminal() {
        // It fails if there is no reader.
        let _ = output::print(&end(code, variables));
    }
}

/// The same for a command line that is not understood: whether that of a command whose output is
/// evaluated, as far as can be seen.
pub(super) fn print_end_unless_parsed(code: u8) {
    let mut words = std::env::args_os().skip(1);
    let is = |word: &OsStr, names: &[&str]| names.iter().any(|name| word == *name);
    let asked = words.any(|word| is(&word, &["acquire", "renew"]));
    if asked && !std::env::args_os().any(|word| is(&word, &["--json"])) {
        print_end(code, Variables::Kept);
    }
}

/// A word for the shell, whatever is in it; also where what is printed is split into words and put
/// together again with single spaces.
fn quoted(text: &str) -> String {
    let mut text = text.replace('\'', r"'\''");
    while text.contains("  ") {
        text = text.replace("  ", " '' ");
    }
    format!("'{text}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_word_stays_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a   b"), "'a '' '' b'");
        assert_eq!(quoted("it's $(rm)"), r"'it'\''s $(rm)'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn end_contains_no_glob_characters() {
        for variables in [Variables::Stale, Variables::Kept] {
            let end = end(42, variables);
            assert!(!end.contains(['*', '?', '[']), "{end}");
            assert!(
                end.contains("exit 42;") && end.lines().count() == 1,
                "{end}"
            );
        }
        assert!(super::end(0, Variables::Stale).ends_with("exit 0; (exit 1)\n"));
    }
}
