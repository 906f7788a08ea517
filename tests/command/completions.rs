//! `memlatch completions` and `memlatch man`.

use crate::tool::Bench;
use std::process::Command;

/// The documented subcommands.
const VERBS: [&str; 15] = [
    "run",
    "acquire",
    "renew",
    "release",
    "status",
    "wait",
    "list",
    "watch",
    "break",
    "bench",
    "doctor",
    "serve",
    "demo",
    "completions",
    "man",
];

#[test]
fn every_shell_completes_all_subcommands() {
    // Neither needs a server.
    let bench = Bench::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = bench.run(&["completions", shell]);
        assert_eq!((done.code(), done.err.as_str()), (0, ""), "{shell}");
        for verb in VERBS {
            assert!(done.out.contains(verb), "{shell}: {verb}");
        }
        assert!(done.out.contains("conflict-exit-code"), "{shell}");
        assert!(!done.out.contains("demo-worker"), "{shell}");
    }
    bench
        .run(&["completions", "tcsh"])
        .assert_refused(64, "bash, elvish, fish, powershell, zsh");
    bench.run(&["completions"]).assert_refused(64, "SHELL");
}

#[test]
fn bash_completes_matching_subcommands() {
    let bench = Bench::new("");
    let script = r#"
        set -eu
        source /dev/stdin <<< "$("$1" completions bash)"
        COMP_WORDS=(memlatch sta) COMP_CWORD=1
        _memlatch memlatch sta memlatch
        echo "${COMPREPLY[@]}"
    "#;
    let words = ["-c", script, "bash", env!("CARGO_BIN_EXE_memlatch")];
    let Ok(output) = Command::new("bash").args(words).output() else {
        // No bash, nothing to complete.
        return;
    };
    let (out, err) = (&output.stdout, &output.stderr);
    let said = String::from_utf8_lossy(out);
    assert_eq!(said.trim(), "status", "{}", String::from_utf8_lossy(err));
    drop(bench);
}

#[test]
fn manual_describes_every_subcommand() {
    let bench = Bench::new("");
    let whole = bench.run(&["man"]);
    assert_eq!((whole.code(), whole.err.as_str()), (0, ""));
    let titles = whole.out.lines().filter(|line| line.starts_with(".TH "));
    assert_eq!(titles.count(), 1);
    for verb in VERBS {
        let heading = format!(".SH \"MEMLATCH {}\"", verb.to_uppercase());
        assert!(whole.out.contains(&heading), "{heading}");
        let own = bench.run(&["man", verb]);
        assert_eq!((own.code(), own.err.as_str()), (0, ""), "{verb}");
        let title = format!(".TH memlatch-{verb} 1");
        assert!(own.out.contains(&title), "{verb}: {}", own.out);
    }
    assert!(!whole.out.contains("demo-worker"), "{}", whole.out);
    // Options of all subcommands stand once.
    assert_eq!(whole.out.matches("restart\\-guard\\fR \\fI").count(), 1);
    assert!(whole.out.contains("lost while the command ran"));
    bench.run(&["man", "bogus"]).assert_refused(
        64,
        "there is no subcommand `bogus`; the subcommands are run, ",
    );
    bench
        .run(&["man", "__demo-worker"])
        .assert_refused(64, "there is no subcommand");
}
