//! All that the command starts, and what becomes of it.

use crate::terminal::Terminal;
use crate::tool::{Bench, Running, is_ignored, newest, not_run, runs, state, until};
use core::time::Duration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Command;
use std::thread::sleep;

/// Starts a process in a session of its own, whose parent ends at once, as daemons do. It needs
/// some time to end after SIGTERM, and notes when it has.
const DAEMON: &str = "(setsid sh -c 'trap \"until [ -e let-go ]; do sleep 0.02; done; touch cleaned; exit\" TERM; \
     echo $$ >daemon; while :; do sleep 0.02; done' >/dev/null 2>&1 &)";

/// A process that SIGTERM does not end.
const STUBBORN: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ >daemon; while :; do sleep 0.02; done' >/dev/null 2>&1 &)";

/// The same, and says that it runs.
const STUBBORN_WORKER: &str = "trap '' TERM; echo $$ >pid; while :; do sleep 0.02; done";

/// Reports that it runs, and does so until it is ended.
const WORKER: &str = "echo $$ >pid; while :; do sleep 0.02; done";

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process runs");
}

/// The only child of a process.
fn child_of(pid: i32) -> i32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).expect("a process that runs");
    children.trim().parse().expect("one child")
}

/// Checks that the lock has another holder.
fn assert_held(bench: &Bench, name: &str) {
    let done = bench.run(&["run", "-n", name, "true"]);
    assert_eq!(done.code(), 1, "{name} is free: {}", done.err);
}

/// Returns whether the lock is free.
fn is_free(bench: &Bench, name: &str) -> bool {
    bench.run(&["run", "-n", name, "true"]).code() == 0
}

fn wait_for_end(running: Running, code: i32, bench: &Bench) {
    let done = running.finish();
    assert_eq!(done.code(), code, "{done:?}");
    bench.assert_free("x");
}

/// `kill -9` of memlatch: the lock is not renewed, so nothing may go on, wherever it has gone.
#[test]
fn killed_memlatch_ends_all_processes() {
    let Some(server) = newest() else { return };
    for daemon in [DAEMON, STUBBORN] {
        let bench = Bench::new(&server.url());
        let script =
            format!("{daemon}\nsh -c 'echo $$ >inner; while :; do sleep 0.02; done' & {WORKER}");
        let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", &script]);
        let pids = ["pid", "inner", "daemon"].map(|name| bench.await_pid(name));
        bench.let_go();
        running.signal(Signal::SIGKILL);
        assert!(running.finish().status.code().is_none());
        for pid in pids {
            until("it has ended", || !runs(pid));
        }
    }
}

/// A command that is stopped cannot act on a signal before it is continued.
#[test]
fn killed_memlatch_ends_stopped_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", WORKER]);
    let pid = bench.await_pid("pid");
    signal(pid, Signal::SIGSTOP);
    running.signal(Signal::SIGKILL);
    assert!(running.finish().status.code().is_none());
    until("it has ended", || !runs(pid));
}

/// A memlatch that is stopped renews nothing, and cannot end the command. It is done by the end of
/// the lease, politely first, and not before where it goes on in time.
#[test]
fn stopped_memlatch_ends_command_with_lease() {
    let Some(server) = newest() else { return };
    let polite = format!("trap 'touch told; exit 3' TERM; {WORKER}");
    for (way, script) in [
        ("term", polite.as_str()),
        ("term", STUBBORN_WORKER),
        ("kill", WORKER),
    ] {
        let bench = Bench::new(&server.url());
        let words = ["--lease", "2s", "--on-lost", way, "x", "sh", "-c", script];
        let running = bench.start(&[&["run"], &words[..]].concat());
        let pid = bench.await_pid("pid");
        running.signal(Signal::SIGSTOP);
        sleep(Duration::from_millis(500));
        running.signal(Signal::SIGCONT);
        sleep(Duration::from_secs(2));
        assert!(runs(pid), "{way}: it was renewed behind the pause");
        running.signal(Signal::SIGSTOP);
        until("it has ended", || !runs(pid));
        // The record stays for the rest of the lease, and longer.
        assert_held(&bench, "x");
        assert_eq!(bench.has("told"), script == polite, "{way} {script}");
        running.signal(Signal::SIGCONT);
        let done = running.finish();
        assert_eq!(done.code(), 120, "{done:?}");
        until("its record has expired", || is_free(&bench, "x"));
    }
}

/// Before the first renewal, and after a signal that was passed on.
#[test]
fn early_stop_ends_command_with_lease() {
    let Some(server) = newest() else { return };
    let script = format!("trap 'touch told' HUP; {WORKER}");
    for is_signaled in [false, true] {
        let bench = Bench::new(&server.url());
        let running = bench.start(&["run", "--lease", "3s", "x", "sh", "-c", &script]);
        let pid = bench.await_pid("pid");
        if is_signaled {
            running.signal(Signal::SIGHUP);
            bench.await_file("told");
        }
        running.signal(Signal::SIGSTOP);
        until("it has ended", || !runs(pid));
        running.signal(Signal::SIGCONT);
        let done = running.finish();
        assert_eq!(done.code(), 120, "{done:?}");
    }
}

/// A command that is to ignore the loss is not ended by it.
#[test]
fn stopped_memlatch_spares_loss_ignoring_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "echo $$ >pid; until [ -e let-go ]; do sleep 0.02; done; exit 5";
    let words = [
        "run",
        "--lease",
        "1s",
        "--on-lost",
        "ignore",
        "x",
        "sh",
        "-c",
        script,
    ];
    let running = bench.start(&words);
    let pid = bench.await_pid("pid");
    running.signal(Signal::SIGSTOP);
    until("its record has expired", || is_free(&bench, "x"));
    assert!(runs(pid));
    bench.let_go();
    running.signal(Signal::SIGCONT);
    wait_for_end(running, 120, &bench);
}

/// The supervisor can be killed as well; memlatch is there still.
#[test]
fn killed_supervisor_ends_everything() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!("{STUBBORN}\n{WORKER}");
    let running = bench.start(&["run", "x", "sh", "-c", &script]);
    let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
    signal(child_of(running.pid()), Signal::SIGKILL);
    running
        .finish()
        .assert_refused(71, "supervisor of the command was killed");
    for pid in pids {
        assert!(!runs(pid));
    }
    bench.assert_free("x");
}

/// The supervisor is stopped; it would neither act on an order nor report the command's end.
#[test]
fn stopped_supervisor_is_continued() {
    let Some(server) = newest() else { return };
    let worker = format!("echo $PPID >supervisor; {WORKER}");
    let short = "echo $PPID >supervisor; until [ -e let-go ]; do sleep 0.02; done; exit 5";
    for (script, code) in [(worker.as_str(), 120), (worker.as_str(), 143), (short, 5)] {
        let bench = Bench::new(&server.url());
        let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", script]);
        signal(bench.await_pid("supervisor"), Signal::SIGSTOP);
        match code {
            120 => server.flush_all(),
            143 => running.signal(Signal::SIGTERM),
            _ => bench.let_go(),
        }
        wait_for_end(running, code, &bench);
    }
}

/// A shell that becomes memlatch by `exec` may have started something before, which is none of the
/// command's business.
#[test]
fn earlier_processes_outlive_the_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!(
        "sh -c 'sleep 60 & echo $! >inner; wait' & echo $! >stranger; \
         until [ -s inner ]; do sleep 0.02; done; \
         exec $M run x sh -c 'echo $PPID >supervisor; {}; {WORKER}'",
        STUBBORN.replace('\'', "'\\''")
    );
    let running = bench.spawn(&mut bench.script(&script));
    let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
    let strangers = ["inner", "stranger"].map(|name| bench.await_pid(name));
    signal(bench.await_pid("supervisor"), Signal::SIGKILL);
    let done = running.finish();
    let survivors = strangers.map(runs);
    for pid in strangers.into_iter().filter(|pid| runs(*pid)) {
        signal(pid, Signal::SIGKILL);
    }
    done.assert_refused(71, "supervisor of the command was killed");
    assert!(!pids.into_iter().any(runs));
    assert_eq!(survivors, [true; 2]);
    bench.assert_free("x");
}

/// Ways to a system that does not show which processes run: words before a shell, and what that
/// does first.
const UNTOLD: [(&[&str], &str); 2] = [
    (&["--mount"], "umount -l /proc"),
    // The numbers in /proc are those of another namespace.
    (&["--pid", "--fork", "--kill-child"], ":"),
];

/// Runs a script in which processes are not shown. `None` where that cannot be arranged.
fn untold(bench: &Bench, (words, first): (&[&str], &str), script: &str) -> Option<Running> {
    let possible = Command::new("unshare")
        .args(words)
        .args(["sh", "-c", first])
        .output();
    if !possible.as_ref().is_ok_and(|done| done.status.success()) {
        not_run(&format!(
            "`unshare {words:?}` needs root and util-linux: {possible:?}"
        ));
        return None;
    }
    let mut command = bench.environment(Command::new("unshare"));
    command
        .args(words)
        .args(["sh", "-c", &format!("{first}; exec $M {script}")])
        .env("M", env!("CARGO_BIN_EXE_memlatch"))
        .stdin(std::process::Stdio::null());
    Some(bench.spawn(&mut command))
}

/// The command itself is known, whatever the system shows.
#[test]
fn command_ends_without_proc() {
    let Some(server) = newest() else { return };
    let handler = "trap \"echo >ended; exit 3\" TERM; touch held; while :; do sleep 0.02; done";
    let stubborn = "trap \"\" TERM; touch held; while :; do sleep 0.02; done";
    for way in UNTOLD {
        for (script, code) in [("kill", 120), ("term", 120), ("max", 120), ("exit", 5)] {
            let bench = Bench::new(&server.url());
            let line = match script {
                "kill" => format!("run --on-lost kill --lease 1s x sh -c '{stubborn}'"),
                "term" => format!("run --lease 1s x sh -c '{handler}'"),
                "max" => format!("run --max-hold 500ms x sh -c '{stubborn}'"),
                _ => "run x sh -c 'touch held; exit 5'".to_owned(),
            };
            let Some(running) = untold(&bench, way, &line) else {
                return;
            };
            bench.await_file("held");
            if code == 120 && script != "max" {
                server.flush_all();
            }
            let done = running.finish();
            assert_eq!(done.code(), code, "{way:?} {line}: {done:?}");
            assert_eq!(bench.has("ended"), script == "term", "{way:?} {line}");
            bench.assert_free("x");
        }
    }
}

/// The same for a signal, and for the supervisor's end.
#[test]
fn signals_reach_command_without_proc() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let handler = "trap \"exit 3\" TERM; touch held; while :; do sleep 0.02; done";
    let line = format!("run x sh -c '{handler}'");
    let Some(running) = untold(&bench, UNTOLD[0], &line) else {
        return;
    };
    bench.await_file("held");
    running.signal(Signal::SIGTERM);
    wait_for_end(running, 3, &bench);

    let bench = Bench::new(&server.url());
    let script = format!("trap \"\" TERM; echo $PPID >supervisor; {WORKER}");
    let line = format!("run x sh -c '{script}'");
    let Some(running) = untold(&bench, UNTOLD[0], &line) else {
        return;
    };
    let pid = bench.await_pid("pid");
    signal(bench.await_pid("supervisor"), Signal::SIGKILL);
    running
        .finish()
        .assert_refused(71, "supervisor of the command was killed");
    assert!(!runs(pid));
    bench.assert_free("x");
}

/// All processes get the signal, and the lock is held until the last of them is gone.
#[test]
fn lock_outlasts_signalled_processes() {
    let Some(server) = newest() else { return };
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
    ] {
        if is_ignored(signal) {
            continue;
        }
        let bench = Bench::new(&server.url());
        let name = signal.as_str().trim_start_matches("SIG");
        // A shell ignores SIGINT and SIGQUIT for what it puts into the background.
        let script = format!("{}\n{WORKER}", DAEMON.replace("TERM;", &format!("{name};")))
            .replace("setsid sh", "setsid env --default-signal sh");
        let running = bench.start(&["run", "x", "sh", "-c", &script]);
        let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
        running.signal(signal);
        until("the command has ended", || !runs(pids[0]));
        assert!(runs(pids[1]), "{signal}");
        assert_held(&bench, "x");
        bench.let_go();
        wait_for_end(running, 128 + signal as i32, &bench);
        assert!(bench.has("cleaned") && !runs(pids[1]), "{signal}");
    }
}

/// A process that is asked to end and does not is killed when its time is over.
#[test]
fn stubborn_leftovers_are_killed() {
    let Some(server) = newest() else { return };
    for words in [
        &["run", "--grace", "200ms", "x", "sh", "-c"][..],
        &[
            "run",
            "--grace",
            "200ms",
            "--leftovers",
            "end",
            "x",
            "sh",
            "-c",
        ],
    ] {
        let bench = Bench::new(&server.url());
        let ends = words.contains(&"end");
        let work = if ends {
            "until [ -e daemon ]; do sleep 0.02; done"
        } else {
            WORKER
        };
        let script = format!("{STUBBORN}\n{work}");
        let running = bench.start(&[words, &[&script]].concat());
        let pid = bench.await_pid("daemon");
        if !ends {
            bench.await_file("pid");
            running.signal(Signal::SIGTERM);
        }
        wait_for_end(running, if ends { 0 } else { 143 }, &bench);
        assert!(!runs(pid));
    }
}

/// The default: as with flock(1), the lock is held for as long as anything runs under it.
#[test]
fn leftovers_keep_the_lock_by_default() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let leftover = "(setsid sh -c 'echo $$ >daemon; until [ -e let-go ]; do sleep 0.02; done' &)";
    let script = format!("{leftover}; echo $$ >pid; exit 5");
    let running = bench.start(&["run", "x", "sh", "-c", &script]);
    let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
    until("the command has ended", || !runs(pids[0]));
    assert_held(&bench, "x");
    until("it is said", || {
        running.err().contains("that it has left running")
    });
    bench.let_go();
    wait_for_end(running, 5, &bench);
    assert!(!runs(pids[1]));
}

/// The same, and then a signal that asks to end.
#[test]
fn awaited_leftovers_get_signals() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!("{DAEMON}; echo $$ >pid");
    let running = bench.start(&["run", "x", "sh", "-c", &script]);
    let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
    until("the command has ended", || !runs(pids[0]));
    running.signal(Signal::SIGTERM);
    bench.let_go();
    wait_for_end(running, 0, &bench);
    assert!(bench.has("cleaned") && !runs(pids[1]));
}

#[test]
fn leftovers_end_if_requested() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!("{DAEMON}; until [ -e daemon ]; do sleep 0.02; done; exit 6");
    let mut command = bench.command(&["run", "x", "sh", "-c", &script]);
    let running = bench.spawn(command.env("MEMLATCH_LEFTOVERS", "end"));
    let pid = bench.await_pid("daemon");
    bench.let_go();
    wait_for_end(running, 6, &bench);
    assert!(bench.has("cleaned") && !runs(pid));
}

#[test]
fn leftovers_stay_if_requested() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!("{DAEMON}; until [ -e daemon ]; do sleep 0.02; done; exit 6");
    let running = bench.start(&["run", "--leftovers", "leave", "x", "sh", "-c", &script]);
    let pid = bench.await_pid("daemon");
    wait_for_end(running, 6, &bench);
    assert!(runs(pid) && !bench.has("let-go"));
    signal(pid, Signal::SIGKILL);
}

/// A loss ends what the command has left, too.
#[test]
fn loss_ends_the_leftovers() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = format!("{DAEMON}; echo $$ >pid; exit 6");
    let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", &script]);
    let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
    until("the command has ended", || !runs(pids[0]));
    bench.let_go();
    server.flush_all();
    let done = running.finish();
    assert_eq!(done.code(), 120, "{done:?}");
    assert!(bench.has("cleaned") && !runs(pids[1]));
}

/// On a terminal, a key reaches the command by itself; what `kill` sends does not.
#[test]
fn external_signal_arrives_once_on_terminal() {
    let Some(server) = newest() else { return };
    for signal in [
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        let bench = Bench::new(&server.url());
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!(
            "$M run x sh -c 'sh -c \"trap \\\"echo inner >>inner; exit 3\\\" {name}; echo \\$\\$ >inner-pid; \
               while :; do sleep 0.02; done\"; trap \"echo outer >>outer\" {name}; :' & \
             echo $! >memlatch; wait $!; echo $? >code"
        );
        // A job of its own, so that the shell does not ignore anything for it.
        let script = format!("set -m; {script}");
        let terminal = Terminal::run(&bench, &script);
        let memlatch = bench.await_pid("memlatch");
        let inner = bench.await_pid("inner-pid");
        kill(Pid::from_raw(memlatch), signal).expect("memlatch runs");
        bench.await_file("code");
        until("the inner one has ended", || !runs(inner));
        let told = fs::read_to_string(bench.path("inner")).expect("the inner one was told");
        assert_eq!(told, "inner\n", "{signal}");
        bench.assert_free("x");
        terminal.finish();
    }
}

/// Ctrl-Z: the shell gets its prompt, and after `fg` everything goes on.
#[test]
fn terminal_job_stops_and_continues() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "set -m
        $M run --lease 5m x bash -c '(setsid sh -c \"echo \\$\\$ >daemon; until [ -e let-go ]; do sleep 0.02; done\" &)
            echo $$ >pid; until [ -e let-go ]; do sleep 0.02; done; exit 5'
        echo $? >stopped
        until [ -e continue ]; do sleep 0.02; done
        fg
        echo $? >code";
    let terminal = Terminal::start(&bench, &["bash", "-c", script]);
    let pids = ["pid", "daemon"].map(|name| bench.await_pid(name));
    terminal.type_keys("\x1a");
    assert_eq!(bench.await_pid("stopped"), 128 + Signal::SIGSTOP as i32);
    for pid in pids {
        // `D` is a shell whose child was stopped before it became another program: vfork(2) waits.
        until("it stands still", || matches!(state(pid), Some('T' | 'D')));
    }
    bench.let_go();
    bench.make("continue");
    assert_eq!(bench.await_pid("code"), 5);
    let (_, shown) = terminal.finish();
    assert!(!shown.contains("lost"), "{shown}");
    bench.assert_free("x");
}

/// A stopped command must be reported.
#[test]
fn stopped_command_is_reported_once() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let script = "echo $$ >pid; until [ -e let-go ]; do sleep 0.02; done";
    let running = bench.start(&["run", "--lease", "1s", "x", "sh", "-c", script]);
    let pid = bench.await_pid("pid");
    for _ in 0..2 {
        signal(pid, Signal::SIGSTOP);
        until("it is said", || {
            running
                .err()
                .contains(&format!("process {pid}) was stopped by SIGSTOP"))
        });
        assert_held(&bench, "x");
        signal(pid, Signal::SIGCONT);
    }
    bench.let_go();
    let done = running.finish();
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(done.err.lines().count(), 1, "{done:?}");
}

/// Started by a parent that does not want to know of its children.
#[test]
fn exit_code_survives_ignored_sigchld() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for how in ["--ignore-signal=CHLD", "--block-signal=CHLD"] {
        let script = format!("exec env {how} $M run -n x sh -c 'exit 7'");
        let done = bench.spawn(&mut bench.script(&script)).finish();
        assert_eq!((done.code(), done.err.as_str()), (7, ""), "{how}");
    }
}

/// As process 1 of a container.
#[test]
fn process_1_reaps_orphans() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let possible = Command::new("unshare").args(unshare).arg("true").output();
    if !possible.as_ref().is_ok_and(|done| done.status.success()) {
        not_run(&format!(
            "`unshare --pid` needs root and util-linux: {possible:?}"
        ));
        return;
    }
    // Orphans of the command, and one that has come from outside: its parent is process 1, and it is
    // there until that has waited for it.
    let script = "for i in 1 2 3 4 5; do (sh -c 'echo $$ >>orphans' &); done; touch held; \
                  until [ -s outside ]; do sleep 0.02; done; \
                  until [ $(wc -l <orphans) = 5 ]; do sleep 0.02; done; \
                  for pid in $(cat orphans outside); do \
                  while [ -e /proc/$pid ]; do sleep 0.02; done; done; exit 7";
    let mut command = bench.environment(Command::new("unshare"));
    command
        .args(unshare)
        .arg(env!("CARGO_BIN_EXE_memlatch"))
        .args(["run", "x", "sh", "-c", script])
        .stdin(std::process::Stdio::null());
    let running = bench.spawn(&mut command);
    bench.await_file("held");
    let first = child_of(running.pid());
    let entered = Command::new("nsenter")
        .args(["--pid", "--mount", "--target", &first.to_string()])
        .args(["sh", "-c", "(sh -c 'echo $$ >$0' \"$0\" &)"])
        .arg(bench.path("outside"))
        .status();
    assert!(entered.is_ok_and(|status| status.success()));
    let done = running.finish();
    assert_eq!((done.code(), done.err.as_str()), (7, ""), "{done:?}");
    bench.assert_free("x");
}

/// A process that the system refuses is no fault of the command.
#[test]
fn refused_process_differs_from_bad_command() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    // Root may start as many as it likes, so another user runs the program there, who must
    // be able to reach it.
    let folder = std::env::temp_dir().join(format!("memlatch-refused-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join("memlatch");
    fs::copy(env!("CARGO_BIN_EXE_memlatch"), &program).expect("a copy");
    let become_somebody = if rustix::process::geteuid().is_root() {
        "setpriv --reuid=64007 --regid=64007 --clear-groups"
    } else {
        ""
    };
    let script = format!(
        "cd /; exec {become_somebody} prlimit --nproc=1 '{}' run -n x true",
        program.display()
    );
    let done = bench.spawn(&mut bench.script(&script)).finish();
    let _ = fs::remove_dir_all(&folder);
    done.assert_refused(71, "cannot start a process for the command");
    bench.assert_free("x");
}

/// Every verb says what is missing where there are too few descriptors, and none panics.
#[test]
fn few_descriptors_fail_every_subcommand() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for words in [
        "run -n x true",
        "acquire -n x",
        "renew 'p1 x'",
        "release 'p1 x'",
        "status x",
        "wait -w0 x",
        "list",
        "watch --count 1",
        "break --yes x",
        "doctor",
        "bench --seconds 0.1",
        "serve -p 0",
        "demo --seconds 0.1",
    ] {
        for limit in [6, 9, 13, 17, 21] {
            let script = format!("ulimit -n {limit}; exec $M {words}");
            let done = bench.spawn(&mut bench.script(&script)).finish();
            done.assert_refused(71, "too few file descriptors");
        }
    }
    // Where there are just enough to begin with, a later shortage is no panic either.
    for limit in 22..40 {
        let script = format!("ulimit -n {limit}; exec $M run -n x true");
        let done = bench.spawn(&mut bench.script(&script)).finish();
        assert!(
            matches!(done.code(), 0 | 71) && !done.err.contains("panicked"),
            "{limit}: {done:?}"
        );
    }
}

/// A lock whose parts were lost could not be released.
#[test]
fn without_standard_output_nothing_is_acquired() {
    let Some(server) = newest() else { return };
    let bench = Bench::new(&server.url());
    for script in [
        "exec $M acquire -n x >&-",
        "exec $M acquire -n --json x >&-",
        "exec $M acquire -n x >/dev/full",
        "exec $M acquire -n x </dev/null >&- 2>&-",
    ] {
        let done = bench.spawn(&mut bench.script(script)).finish();
        assert_eq!(done.code(), 74, "{script}: {done:?}");
        bench.assert_free("x");
    }
    // A closed standard error or input is no reason to fail.
    for script in ["exec $M acquire -n a 2>&-", "exec $M acquire -n b <&-"] {
        let done = bench.spawn(&mut bench.script(script)).finish();
        assert_eq!(done.code(), 0, "{script}: {done:?}");
        assert!(done.out.contains("MEMLATCH_PARTS="), "{done:?}");
    }
}
