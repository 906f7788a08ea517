//! The output of `acquire`, evaluated by shells in the ways that people write it.

use crate::tool::{Bench, Done, newest};
use std::os::unix::fs::symlink;
use std::process::Command;

/// The shells that are here; there is always one.
fn shells() -> Vec<&'static str> {
    let mut shells = vec!["sh", "dash", "bash"];
    shells.retain(|shell| Command::new(shell).args(["-c", ":"]).output().is_ok());
    assert!(shells.contains(&"sh"), "every Unix has it");
    shells
}

/// Runs a script with the program in its search path.
fn script(bench: &Bench, words: &[&str], script: &str) -> Done {
    let bin = bench.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).expect("a folder");
        symlink(env!("CARGO_BIN_EXE_memlatch"), bin.join("memlatch")).expect("a link");
    }
    let path = std::env::var("PATH").expect("a search path");
    let path = format!("{}:{path}", bin.display());
    // What runs the program without what the environment of the tests says runs a shell as well.
    let mut command = Command::new(words[0]);
    for (name, value) in bench.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .args(&words[1..])
        .args(["-c", script])
        .env("PATH", path)
        .env("MEMLATCH_QUIET", "on")
        .current_dir(bench.path("."))
        .stdin(std::process::Stdio::null());
    bench.spawn(&mut command).finish()
}

/// Another holds `ev`: none of these goes on, with `set -e` and without.
const FORMS: [&str; 20] = [
    r#"eval "$(memlatch acquire -n ev)""#,
    r#"eval $(memlatch acquire -n ev)"#,
    r#"held=$(memlatch acquire -n ev); eval "$held""#,
    r#"export held=$(memlatch acquire -n ev); eval "$held""#,
    r#"held=$(memlatch acquire -n ev) || exit; eval "$held""#,
    r#"held=$(memlatch acquire -n ev) && eval "$held" || exit"#,
    r#"if held=$(memlatch acquire -n ev); then eval "$held"; else exit 3; fi"#,
    r#"eval "$(memlatch acquire -n ev)" || true"#,
    r#"work() { eval "$(memlatch acquire -n ev)"; echo WENT-ON; }; work"#,
    r#"( eval "$(memlatch acquire -n ev)"; echo WENT-ON ); exit 1"#,
    r#"eval "$(memlatch acquire -w 0.1 ev)""#,
    r#"eval "$(memlatch acquire -n -E 7 ev)""#,
    r#"eval "$(memlatch acquire -n --bogus ev)""#,
    r#"eval "$(memlatch acquire -n --lease 1ms ev)""#,
    r#"eval "$(memlatch --server 127.0.0.1:1 acquire -n free)""#,
    r#"eval "$(MEMLATCH_WAIT=soon memlatch acquire free)""#,
    r#"eval "$(memlatch renew 'p1 nonsense')""#,
    // Without descriptors to spare, it cannot start.
    r#"ulimit -n 5; eval "$(memlatch acquire -n free)""#,
    r#"ulimit -n 7; eval "$(memlatch acquire -n free)""#,
    r#"ulimit -n 8; eval "$(memlatch acquire -n free)""#,
];

#[test]
fn failed_acquisition_stops_every_form() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("ev");
    // A file that a careless pattern would find.
    bench.make("mi)");
    for shell in shells() {
        for form in FORMS {
            for set in ["", "set -e\n", "set -eu\n"] {
                let done = script(&bench, &[shell], &format!("{set}{form}\necho WENT-ON"));
                assert_eq!(done.out, "", "{shell} {set:?} {form}: {done:?}");
                assert_ne!(done.code(), 0, "{shell} {set:?} {form}: {done:?}");
            }
        }
        // The code that was asked for, 0 as well.
        for code in [0, 7] {
            let form = format!("eval \"$(memlatch acquire -n -E {code} ev)\"; echo WENT-ON");
            let done = script(&bench, &[shell], &form);
            assert_eq!(
                (done.code(), done.out.as_str()),
                (code, ""),
                "{shell}: {done:?}"
            );
        }
    }
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
}

/// An interactive shell must not end; the evaluation fails in it.
#[test]
fn interactive_shell_stays_without_lock() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("ev");
    for shell in shells() {
        for code in [0, 7] {
            let form = format!(
                "MEMLATCH_PARTS=stale; eval \"$(memlatch acquire -n -E {code} ev)\"; \
                 echo \"rc $? ${{MEMLATCH_PARTS-none}}\""
            );
            let done = script(&bench, &[shell, "-i"], &form);
            let shown = format!("rc {} none\n", if code == 0 { 1 } else { code });
            assert_eq!(done.out, shown, "{shell}: {done:?}");
        }
    }
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
}

/// An outer lock is neither released in place of the inner one nor forgotten by its shell.
#[test]
fn outer_lock_survives_failed_inner_one() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let holder = bench.hold("ev");
    for shell in shells() {
        for inner in [
            r#"( eval "$(memlatch acquire -n ev)"; memlatch release )"#,
            r#"( eval $(memlatch acquire -n ev); memlatch release )"#,
            // Nothing that is printed can stop this one. A release that names its lock is refused.
            r#"held=$(memlatch acquire -n ev) && eval "$held"; memlatch release ev"#,
            r#"held=$(memlatch acquire -n ev) && eval "$held"; memlatch renew ev >&2"#,
        ] {
            let text = format!(
                "held=$(memlatch acquire --max-lease 1m outer) || exit 9\neval \"$held\"\n{inner}\n\
                 echo \"inner $?\"; memlatch run -n outer true && exit 8\n\
                 memlatch release outer || exit 7\nmemlatch run -n outer true"
            );
            let done = script(&bench, &[shell], &text);
            assert_eq!(done.code(), 0, "{shell} {inner}: {done:?}");
            let code = if inner.starts_with('(') { 1 } else { 64 };
            assert_eq!(
                done.out,
                format!("inner {code}\n"),
                "{shell} {inner}: {done:?}"
            );
            if code == 64 {
                assert!(
                    done.err.contains("MEMLATCH_PARTS is of `outer`"),
                    "{done:?}"
                );
            }
        }
    }
    bench.let_go();
    assert_eq!(holder.finish().code(), 0);
}

/// A renewal that fails ends the script; the lock is forgotten only where it is lost.
#[test]
fn failed_renewal_ends_the_script() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for shell in shells() {
        let lost = "eval \"$(memlatch acquire x)\"; memlatch break --yes x >&2\n\
                    trap 'echo \"${MEMLATCH_PARTS-none}\"' EXIT\n\
                    eval \"$(memlatch renew x)\"\necho WENT-ON";
        let done = script(&bench, &[shell], lost);
        assert_eq!(
            (done.code(), done.out.as_str()),
            (120, "none\n"),
            "{done:?}"
        );
        let away = "eval \"$(memlatch acquire x)\"\ntrap 'memlatch release x && echo back' EXIT\n\
                    eval \"$(memlatch --server 127.0.0.1:1 renew x)\"\necho WENT-ON";
        let done = script(&bench, &[shell], away);
        assert_eq!(done.out, "back\n", "{shell}: {done:?}");
    }
}

/// A name comes through, also where the quotes are left out.
#[test]
fn names_come_through_evaluation() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    bench.make("a");
    for shell in shells() {
        for name in [
            "plain",
            "it's $(touch bad) `touch bad`",
            "two  spaces   three",
            "* ?",
        ] {
            for form in [
                r#"eval "$(memlatch acquire "$N")""#,
                r#"eval $(memlatch acquire "$N")"#,
            ] {
                let text = format!(
                    "N='{}'; {form}\n[ \"$MEMLATCH_NAME\" = \"$N\" ] || exit 9\n\
                     memlatch release \"$N\"",
                    name.replace('\'', r"'\''")
                );
                let done = script(&bench, &[shell], &text);
                assert_eq!(done.code(), 0, "{shell} {name} {form}: {done:?}");
                assert!(!bench.has("bad"));
            }
        }
    }
}
