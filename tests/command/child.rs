//! The command that runs under the lock.

use crate::memcached;
use crate::tool::{Bench, is_ignored, newest, runs, state, until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// The script of a test's command, which runs until it is let go.
const UNTIL_LET_GO: &str = "until [ -e let-go ]; do sleep 0.05; done";

#[test]
fn exit_code_is_passed_on() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -KILL $$", 128 + 9),
            ("kill -TERM $$", 128 + 15),
        ] {
            let done = bench.run(&["run", "-n", "x", "--", "sh", "-c", script]);
            assert_eq!(done.code(), code, "{server}: {script}: {done:?}");
            assert_eq!(done.err, "", "{server}: {script}");
        }
        bench.assert_free("x");
    }
}

#[test]
fn environment_has_name_token_and_server() {
    for binary in memcached::required() {
        let server = binary.start(&[]);
        let bench = Bench::new(&server.url());
        let script = r#"echo "$MEMLATCH_NAME $MEMLATCH_TOKEN $MEMLATCH_SERVER""#;
        let mut last = 0;
        for _ in 0..3 {
            let done = bench.run(&["run", "a name", "sh", "-c", script]);
            let told = done.out.strip_prefix("a name ").expect("the name");
            let (token, url) = told.trim_end().split_once(' ').expect("token and server");
            let token: u64 = token.parse().expect("a number");
            assert!(token > last, "{server}: {token} does not rise above {last}");
            assert_eq!(url, server.url());
            last = token;
        }
    }
}

#[test]
fn streams_are_inherited() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    fs::write(bench.path("in"), "through\n").expect("a file");
    let input = fs::File::open(bench.path("in")).expect("the file");
    let mut command = bench.command(&["run", "x", "sh", "-c", "cat; echo aside >&2"]);
    let done = bench.spawn(command.stdin(input)).finish();
    assert_eq!(
        (done.out.as_str(), done.err.as_str()),
        ("through\n", "aside\n")
    );
}

#[test]
fn shell_line_stands_beside_name() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let line = "echo one; exit 3";
    for words in [
        ["run", "-c", line, "x"],
        ["run", "x", "-c", line],
        ["run", "--command", line, "x"],
        ["run", "x", "--command", line],
    ] {
        let done = bench.run(&words);
        assert_eq!((done.code(), done.out.as_str()), (3, "one\n"), "{done:?}");
    }
    let mut command = bench.command(&["run", "-c", line, "x"]);
    let echo = bench.spawn(command.env("SHELL", "/bin/echo")).finish();
    assert_eq!(echo.out, format!("-c {line}\n"));
}

/// Everything after the name is the command's.
#[test]
fn command_keeps_its_own_options() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let words = ["run", "x", "echo", "-n", "--quiet", "--", "-E", "--help"];
    assert_eq!(bench.run(&words).out, "--quiet -- -E --help");
}

#[test]
fn unexecutable_command_frees_the_lock() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    fs::write(bench.path("data"), "no program").expect("a file");
    for (program, code, says) in [
        (
            "no-such-program",
            127,
            "no-such-program: No such file or directory",
        ),
        ("./nor-this", 127, "./nor-this: No such file or directory"),
        ("", 127, "No such file or directory"),
        ("./data", 126, "./data: Permission denied"),
        ("/", 126, "/: Permission denied"),
    ] {
        let done = bench.run(&["run", "-n", "x", "--", program]);
        done.assert_refused(code, says);
        bench.assert_free("x");
    }
}

#[test]
fn forwarded_signal_ends_command_and_lock() {
    let Some(server) = newest() else { return };
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        if is_ignored(signal) {
            continue;
        }
        let bench = Bench::new(&server.url());
        let name = signal.as_str().trim_start_matches("SIG");
        let script =
            format!("trap 'touch told; exit 3' {name}; touch held; while :; do sleep 0.05; done");
        let running = bench.start(&["run", "x", "sh", "-c", &script]);
        bench.await_file("held");
        running.signal(signal);
        let done = running.finish();
        assert_eq!(done.code(), 3, "{signal}: {done:?}");
        assert!(bench.has("told"), "{signal}");
        bench.assert_free("x");
    }
}

/// `sh -c 'a | b'`: the shell is not the one that works.
#[test]
fn signals_reach_the_commands_children() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "sleep 60 & echo $! >pid; wait; :";
    let running = bench.start(&["run", "x", "sh", "-c", script]);
    let pid = bench.await_pid("pid");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish().code(), 128 + 15);
    until("what it has started has ended", || !runs(pid));
    bench.assert_free("x");
}

/// The command does not go on without a process that renews the lock.
#[test]
#[cfg(target_os = "linux")]
fn killed_memlatch_ends_the_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "echo $$ >pid; exec sleep 60";
    let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", script]);
    let pid = bench.await_pid("pid");
    running.signal(Signal::SIGKILL);
    assert!(running.finish().status.code().is_none());
    until("the command has ended", || !runs(pid));
    // The lock was not released; it ends with its lease.
    let next = bench.run(&["run", "-w", "20", "x", "true"]);
    assert_eq!(next.code(), 0, "{next:?}");
}

/// As with `nohup`.
#[test]
#[cfg(target_os = "linux")]
fn ignored_signal_stays_ignored() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let mut command = Command::new("sh");
    let script = format!("touch held; {UNTIL_LET_GO}");
    command
        .args(["-c", r#"trap '' HUP; exec "$@""#, "sh"])
        .arg(env!("CARGO_BIN_EXE_memlatch"))
        .args(["--restart-guard", "off", "--server", &server.url()])
        .args(["run", "x", "sh", "-c", &script])
        .current_dir(bench.path(""))
        .stdin(Stdio::null());
    let mut running = bench.spawn(&mut command);
    bench.await_file("held");
    running.signal(Signal::SIGHUP);
    // Its turn would come before that of the next one.
    running.signal(Signal::SIGWINCH);
    std::thread::sleep(core::time::Duration::from_millis(200));
    assert!(!running.is_over());
    bench.let_go();
    assert_eq!(running.finish().code(), 0);
}

/// Ctrl-Z reaches the program alone when the command has a group of its own. It must not go on
/// while the lock is not renewed.
#[test]
#[cfg(target_os = "linux")]
fn command_stops_and_continues_with_memlatch() {
    let Some(server) = newest() else { return };
    if is_ignored(Signal::SIGTSTP) {
        return;
    }
    let bench = Bench::new(&server.url());
    let script = format!("echo $$ >pid; {UNTIL_LET_GO}");
    let running = bench.start(&[
        "run",
        "--max-lease",
        "5m",
        "--lease",
        "5m",
        "x",
        "sh",
        "-c",
        &script,
    ]);
    let pid = bench.await_pid("pid");
    // The program may still be about to listen to this one, and then just stops itself.
    until("both stand still", || {
        if state(running.pid()) == Some('T') && state(pid) != Some('T') {
            running.signal(Signal::SIGCONT);
        }
        running.signal(Signal::SIGTSTP);
        std::thread::sleep(core::time::Duration::from_millis(20));
        state(running.pid()) == Some('T') && state(pid) == Some('T')
    });
    bench.let_go();
    until("both run", || {
        running.signal(Signal::SIGCONT);
        std::thread::sleep(core::time::Duration::from_millis(20));
        state(pid) != Some('T') && state(running.pid()) != Some('T')
    });
    let done = running.finish();
    assert_eq!((done.code(), done.err.as_str()), (0, ""));
    bench.assert_free("x");
}

/// On a terminal it must be able to read what is typed.
#[test]
#[cfg(target_os = "linux")]
fn command_reads_from_the_terminal() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let words = "run x sh -c 'touch held; read word; echo got-$word; exit 5'";
    let Some(mut terminal) = bench.on_terminal(words) else {
        return;
    };
    bench.await_file("held");
    let mut keys = terminal.stdin.take().expect("a pipe");
    keys.write_all(b"typed\n").expect("a terminal");
    let done = terminal.wait_with_output().expect("script ends");
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(shown.contains("got-typed"), "{shown}");
    assert_eq!(done.status.code(), Some(5), "{shown}");
}

/// Once, from the terminal, and not a second time from the program.
#[test]
#[cfg(target_os = "linux")]
fn terminal_interrupt_arrives_once() {
    let Some(server) = newest() else { return };
    if is_ignored(Signal::SIGINT) {
        return;
    }
    let bench = Bench::new(&server.url());
    let words = "run x sh -c 'trap \"echo told >>told\" INT; touch held; \
                 until [ -e let-go ]; do sleep 0.05; done; exit 5'";
    let Some(mut terminal) = bench.on_terminal(words) else {
        return;
    };
    bench.await_file("held");
    let mut keys = terminal.stdin.take().expect("a pipe");
    keys.write_all(b"\x03").expect("a terminal");
    bench.await_file("told");
    bench.let_go();
    let done = terminal.wait_with_output().expect("script ends");
    let shown = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(5), "{shown}");
    let told = fs::read_to_string(bench.path("told")).expect("the file");
    assert_eq!(told, "told\n");
    bench.assert_free("x");
}
