//! The behavior that a command sees under util-linux's `flock FILE COMMAND` and under
//! `memlatch run NAME COMMAND`: the same uses, run under both and compared.

use crate::terminal::Terminal;
use crate::tool::{Bench, newest, not_run, until};
use core::fmt::{self, Display};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// The two programs that hold a lock while a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locker {
    Flock,
    Memlatch,
}

/// One use of both.
struct Use {
    what: &'static str,
    /// A script of sh(1) that starts `$L`, which is the locker with its options and the name of
    /// the lock. What the command experiences goes to the file `seen`; so do the streams, and the
    /// exit code of the script.
    script: &'static str,
    /// Options for both, in `$L`.
    options: &'static str,
    /// It runs on a terminal of its own, as the leader of a session.
    on_terminal: Option<Keys>,
    expected: Expected,
}

/// The keys to type when the file `ready` is there.
type Keys = &'static str;

enum Expected {
    /// Both the same, with this in it.
    Same(&'static str),
    /// An intended difference.
    Different {
        flock: &'static str,
        memlatch: &'static str,
        reason: &'static str,
    },
}

use Expected::{Different, Same};

const fn used(what: &'static str, script: &'static str, expected: Expected) -> Use {
    Use {
        what,
        script,
        options: "",
        on_terminal: None,
        expected,
    }
}

const fn typed(what: &'static str, keys: Keys, script: &'static str, expected: Expected) -> Use {
    Use {
        what,
        script,
        options: "",
        on_terminal: Some(keys),
        expected,
    }
}

const fn with(
    what: &'static str,
    options: &'static str,
    script: &'static str,
    expected: Expected,
) -> Use {
    Use {
        what,
        script,
        options,
        on_terminal: None,
        expected,
    }
}

/// The uses that are compared. grep(1) shows which signals a command finds ignored or blocked: it
/// changes none.
const USES: &[Use] = &[
    used(
        "standard input is a file",
        "echo one >in; $L cat <in",
        Same("one"),
    ),
    used(
        "the position in it is shared",
        "printf 'one\\ntwo\\n' >in; { $L sh -c 'read a; echo $a'; :; } <in",
        Same("one"),
    ),
    used("standard input is a pipe", "echo one | $L cat", Same("one")),
    with(
        "standard input is closed",
        "-o",
        "$L sh -c '[ -e /proc/$$/fd/0 ] || echo closed' <&-",
        Same("closed"),
    ),
    with(
        "standard output is closed",
        "-o",
        "$L sh -c '[ -e /proc/$$/fd/1 ] || echo closed >&2' >&-",
        Same("closed"),
    ),
    with(
        "standard error is closed",
        "-o",
        "$L sh -c '[ -e /proc/$$/fd/2 ] || echo closed' 2>&-",
        Same("closed"),
    ),
    with(
        "all three are closed",
        "-o",
        "$L sh -c 'for n in 0 1 2; do [ -e /proc/$$/fd/$n ] || echo closed $n >>late; done' \
           <&- >&- 2>&-; cat late",
        Same("closed 0\nclosed 1\nclosed 2"),
    ),
    used(
        "standard output is a file that is appended to",
        "echo one >to; $L echo two >>to; cat to",
        Same("one\ntwo"),
    ),
    used(
        "standard output and error are told apart",
        "$L sh -c 'echo out; echo err >&2' 2>errors; sed 's/^/2: /' errors",
        Same("out\n2: err"),
    ),
    used(
        "the reader of standard output goes",
        "$L sh -c 'yes; echo $? >end' | head -n 1; until [ -s end ]; do sleep 0.02; done; cat end",
        Same("y\n141"),
    ),
    used(
        "an open descriptor is inherited",
        "echo seven >in; $L sh -c 'cat <&7' 7<in",
        Same("seven"),
    ),
    with(
        "no other descriptor is inherited",
        "-o",
        "$L ls /proc/self/fd 5>/dev/null | sort -n | tr '\\n' ' '",
        // The last one is of ls(1).
        Same("0 1 2 3 5 "),
    ),
    used(
        "the descriptor of the lock",
        "$L sh -c 'ls /proc/$$/fd | sort -n | tr \"\\n\" \" \"' | sed 's/ 10 / /'",
        Different {
            flock: "0 1 2 3",
            memlatch: "0 1 2",
            reason: "the lock is not a descriptor",
        },
    ),
    used(
        "signals are as usual",
        "$L grep -E '^Sig(Blk|Ign)' /proc/self/status | sed 's/\\t........./ /'",
        Same("SigBlk: 0000000\nSigIgn: 0000000"),
    ),
    used(
        "SIGPIPE is ignored",
        "env --ignore-signal=PIPE $L grep -E '^Sig(Blk|Ign)' /proc/self/status | sed 's/\\t........./ /'",
        Same("SigIgn: 0001000"),
    ),
    used(
        "SIGHUP, SIGINT and SIGQUIT are ignored, as by nohup",
        "env --ignore-signal=HUP,INT,QUIT $L grep -E '^Sig(Blk|Ign)' /proc/self/status | sed 's/\\t........./ /'",
        Same("SigIgn: 0000007"),
    ),
    used(
        "SIGCHLD is ignored",
        "env --ignore-signal=CHLD $L sh -c 'grep -E ^SigIgn /proc/self/status; exit 7' >out; \
           echo $?; sed 's/\\t........./ /' out",
        Same("7\nSigIgn: 0000000"),
    ),
    used(
        "SIGTERM and SIGUSR1 are blocked",
        "env --block-signal=TERM,USR1 $L grep -E '^Sig(Blk|Ign)' /proc/self/status | sed 's/\\t........./ /'",
        Same("SigBlk: 0004200\nSigIgn: 0000000"),
    ),
    used(
        "signals are blocked and SIGPIPE is ignored",
        "env --block-signal=USR2 --ignore-signal=PIPE $L grep -E '^Sig(Blk|Ign)' /proc/self/status | sed 's/\\t........./ /'",
        Same("SigBlk: 0000800\nSigIgn: 0001000"),
    ),
    used(
        "death by signals",
        "for s in HUP INT KILL SEGV TERM USR1 RTMIN; do \
           $L bash -c \"ulimit -c 0; kill -$s \\$\\$\"; echo $s $?; done",
        Same("HUP 129\nINT 130\nKILL 137\nSEGV 139\nTERM 143\nUSR1 138\nRTMIN 162"),
    ),
    used(
        "the mask for new files",
        "umask 027; $L sh -c umask",
        Same("0027"),
    ),
    used(
        "the folder",
        "mkdir -p deep/er; cd deep/er; $L pwd | sed 's/.*deep/deep/'",
        Same("deep/er"),
    ),
    used(
        "limits and niceness",
        "ulimit -c 1234; ulimit -n 77; nice -n 3 $L sh -c 'ulimit -c; ulimit -n; nice'",
        Same("1234\n77\n3"),
    ),
    used(
        "the environment",
        "A='one two' B= env -u _ $L env | grep -vE '^(MEMLATCH_|PWD=|_=)' | sort | md5sum",
        Same(" -"),
    ),
    used(
        "variables that are added",
        "env -i PATH=\"$PATH\" MEMLATCH_SERVER=$MEMLATCH_SERVER MEMLATCH_RESTART_GUARD=off $L env \
           | sed -n 's/=.*//p' | sort | tr '\\n' ' '",
        Different {
            flock: "MEMLATCH_RESTART_GUARD MEMLATCH_SERVER PATH",
            memlatch: "MEMLATCH_NAME MEMLATCH_RESTART_GUARD MEMLATCH_SERVER MEMLATCH_TOKEN PATH",
            reason: "the fencing token is for the command",
        },
    ),
    used(
        "words are handed on as they are",
        "$L printf '<%s>' '' 'a b' '*' '$A' '-n' '--' \"it's\" '\\'",
        Same("<><a b><*><$A><-n><--><it's><\\>"),
    ),
    used(
        "the name that the command is called by",
        "$L sh -c 'tr \"\\0\" \" \" </proc/$$/cmdline; cat /proc/$$/comm'",
        Same("sh\n"),
    ),
    used(
        "a script without a first line",
        "printf 'echo script $1\\n' >s; chmod +x s; $L ./s one",
        Same("script one"),
    ),
    used(
        "session and process group",
        "$L sh -c 'cut -d\" \" -f5,6 /proc/$$/stat' >child; cut -d' ' -f5,6 /proc/$$/stat | \
           cmp -s - child && echo equal",
        Same("equal"),
    ),
    used(
        "the parent",
        "$L sh -c 'tr \"\\0\" \" \" </proc/$PPID/cmdline' | grep -oE 'flock|__supervisor'",
        Different {
            flock: "flock",
            memlatch: "__supervisor",
            reason: "the supervisor is to outlive memlatch, and to be the parent of all",
        },
    ),
    used(
        "one inside the other",
        "echo in | $L $M run inner flock inner sh -c 'cat; echo $PPID >p; exit 9'; echo $?",
        Same("in\n9"),
    ),
    used(
        "the same lock inside",
        "$L $L1 -n sh -c 'echo got it'; echo $?",
        Same("1"),
    ),
    with(
        "held by another, and not waited for",
        "-n",
        "$L1 sh -c 'touch held; until [ -e go ]; do sleep 0.02; done' & \
           until [ -e held ]; do sleep 0.02; done; $L echo got it; echo $?; touch go; wait",
        Same("1"),
    ),
    with(
        "an exit code of one's own for that",
        "-n -E 42",
        "$L1 sh -c 'touch held; until [ -e go ]; do sleep 0.02; done' & \
           until [ -e held ]; do sleep 0.02; done; $L echo got it; echo $?; touch go; wait",
        Same("42"),
    ),
    with(
        "held by another for too long",
        "-w 0.3",
        "$L1 sh -c 'touch held; until [ -e go ]; do sleep 0.02; done' & \
           until [ -e held ]; do sleep 0.02; done; $L echo got it; echo $?; touch go; wait",
        Same("1"),
    ),
    with(
        "held by another for a while",
        "-w 25",
        "$L1 sh -c 'touch held; until [ -e go ]; do sleep 0.02; done' & \
           until [ -e held ]; do sleep 0.02; done; (touch go) & $L echo got it; echo $?; wait",
        Same("got it\n0"),
    ),
    used(
        "a line for the shell",
        "SHELL=/bin/sh $L -c 'echo one; exit 3'; echo $?",
        Same("one\n3"),
    ),
    used(
        "a line for another shell",
        "SHELL=/bin/echo $L -c 'a  b'",
        Same("-c a  b"),
    ),
    used(
        "a command that is not there",
        "$L no-such-command 2>/dev/null; echo $?",
        Different {
            flock: "69",
            memlatch: "127",
            reason: "as shells have it; 69 is for the server",
        },
    ),
    used(
        "background processes keep the lock",
        "$L sh -c '(until [ -e go ]; do sleep 0.02; done) >/dev/null 2>&1 & echo $$ >pid' & \
           until [ -s pid ]; do sleep 0.02; done; \
           while [ -e /proc/$(cat pid) ]; do sleep 0.02; done; \
           $L1 -n true; echo $?; touch go; $L1 -w 25 true; echo $?; wait",
        Same("1\n0"),
    ),
    used(
        "background processes and the end of the program",
        "$L sh -c '(until [ -e go ]; do sleep 0.02; done; touch gone) >/dev/null 2>&1 & exit 4' & \
           p=$!; [ $L0 = flock ] || touch go; wait $p; echo $?; [ -e gone ] && echo gone; \
           touch go; until [ -e gone ]; do sleep 0.02; done",
        Different {
            flock: "4\n",
            memlatch: "4\ngone",
            reason: "a process must renew the lock for them; --leftovers leave does not wait",
        },
    ),
    used(
        "orphans",
        "$L sh -c '(sh -c \"until [ -e gone ]; do sleep 0.02; done; \
             tr \\\"\\\\0\\\" \\\" \\\" </proc/\\$(cut -d\\\" \\\" -f4 /proc/\\$\\$/stat)/cmdline >parent; touch done\" &) \
             ; :'& until [ -e done ]; do touch gone; sleep 0.02; done; wait; \
           grep -o __supervisor parent || echo other",
        Different {
            flock: "other",
            memlatch: "__supervisor",
            reason: "it is a subreaper, to know when they end",
        },
    ),
    used(
        "timeout(1) ends it",
        "timeout 0.5 $L sh -c 'while :; do sleep 0.02; done'; echo $?",
        Same("124"),
    ),
    typed(
        "standard input is a terminal",
        "typed\n",
        "$L sh -c '[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all three >out; touch ready; read a'; \
           cat out",
        Same("all three"),
    ),
    typed(
        "what is typed is read",
        "typed\n",
        "$L sh -c 'touch ready; read a; echo got-$a >out'; cat out",
        Same("got-typed"),
    ),
    typed(
        "a password is asked for on the terminal, with data on standard input",
        "secret\n",
        "echo data | $L sh -c 'stty -echo </dev/tty; touch ready; read x </dev/tty; read y; \
           stty echo </dev/tty; echo got-$x-$y >out'; cat out",
        Same("got-secret-data"),
    ),
    typed(
        "the command is in the foreground",
        "",
        "$L sh -c 'echo $(cut -d\" \" -f5,6,7,8 /proc/$$/stat) >c' </dev/null; \
           set -- $(cat c); [ $1 = $4 ] && echo foreground; [ $2 = $$ ] && echo session; \
           [ $3 = $(cut -d' ' -f7 /proc/$$/stat) ] && echo terminal",
        Same("foreground\nsession\nterminal"),
    ),
    typed(
        "with `tostop`, the command writes to the terminal",
        "",
        "stty tostop; echo | $L sh -c 'echo out >/dev/tty; stty sane </dev/tty; echo done >out'; cat out",
        Same("done"),
    ),
    typed(
        "an interrupt of the terminal reaches the command once",
        "\x03",
        "trap : INT; $L sh -c 'trap \"echo told >>out\" INT; touch ready; \
           until [ -s out ]; do sleep 0.02; done; exit 5'; until [ -s out ]; do sleep 0.02; done; cat out",
        Same("told"),
    ),
    typed(
        "an interrupt of the terminal ends the command",
        "\x03",
        "trap : INT; $L sh -c 'touch ready; while :; do sleep 0.02; done'; echo code $?",
        Different {
            flock: "code 130",
            memlatch: "code 130",
            reason: "flock is ended by it, memlatch waits for the command",
        },
    ),
    typed(
        "a hang-up of the terminal",
        "",
        "trap : HUP; $L sh -c 'trap \"exit 5\" HUP; kill -HUP $$; sleep 1'; echo $?",
        Same("5"),
    ),
    typed(
        "a job of a shell is stopped by Ctrl-Z and continued by fg",
        "\x1a",
        "exec bash -c 'set -m; $L sh -c \"touch ready; until [ -e go ]; do sleep 0.02; done; exit 5\"; \
           s=$?; [ $s = 147 ] || [ $s = 148 ] && echo stopped; touch go; fg >/dev/null; echo $?'",
        Same("stopped\n5"),
    ),
    typed(
        "a job in the background that reads from the terminal is stopped",
        "typed\n",
        "exec bash -c 'set -m; $L sh -c \"read a </dev/tty; echo got-\\$a\" & \
           until [ \"$(jobs -s)\" ]; do sleep 0.02; done; touch ready; fg >/dev/null'",
        Same("got-typed"),
    ),
];

impl Display for Locker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flock => "flock",
            Self::Memlatch => "memlatch",
        })
    }
}

impl Use {
    /// Returns what is seen under one of the two.
    fn observe(&self, locker: Locker, server: &str) -> String {
        let bench = Bench::new(server);
        // The name of the lock of flock(1) is a file, also from within other folders.
        let file = bench.path("lock");
        let file = file.display();
        // Uses that run at the same time must not meet each other's lock.
        let name = bench.name();
        let (own, plain) = match locker {
            Locker::Flock => (
                format!("flock {} {file}", self.options),
                format!("flock {file}"),
            ),
            Locker::Memlatch => {
                let options = self.options.replace("-o", "");
                (format!("$M run {options} {name}"), format!("$M run {name}"))
            }
        };
        // Both take options before the name of the lock only.
        let verb = if locker == Locker::Flock {
            "flock"
        } else {
            "run"
        };
        let with = |option: &str| plain.replacen(verb, &format!("{verb} {option}"), 1);
        let script = self
            .script
            .replace("$L1 -n", &with("-n"))
            .replace("$L1 -w 25", &with("-w 25"))
            .replace("$L1", &plain)
            .replace("$L0", &locker.to_string())
            .replace("$L", &own);
        match self.on_terminal {
            None => {
                let done = bench.spawn(&mut bench.script(&script)).finish();
                format!("{}{}", done.out, done.err)
            }
            Some(keys) => {
                let mut terminal = Terminal::run(&bench, &script);
                if !keys.is_empty() {
                    until(self.what, || {
                        // Something that reads, or the other side may block.
                        terminal.shown();
                        bench.has("ready")
                    });
                    terminal.type_keys(keys);
                }
                let (_, shown) = terminal.finish();
                // A shell shows the command line of a job.
                let own: Vec<&str> = own.split_whitespace().collect();
                shown.replace('\r', "").replace(&own.join(" "), "LOCKER")
            }
        }
    }

    /// Returns the difference from what is expected, if there is one.
    fn check(&self, server: &str) -> Option<String> {
        let flock = self.observe(Locker::Flock, server);
        let memlatch = self.observe(Locker::Memlatch, server);
        let right = match self.expected {
            Same(text) => flock == memlatch && memlatch.contains(text),
            Different {
                flock: one,
                memlatch: other,
                ..
            } => flock.contains(one) && memlatch.contains(other),
        };
        (!right).then(|| {
            format!(
                "{}:\n  flock: {flock:?}\n  memlatch: {memlatch:?}",
                self.what
            )
        })
    }
}

#[test]
fn command_behaves_as_under_flock() {
    let Some(server) = newest() else { return };
    if !has_flock() {
        return;
    }
    let server = server.url();
    let next = Mutex::new(USES.iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(next) = next.lock().expect("no panic").next() else {
                        break;
                    };
                    let found = next.check(&server);
                    wrong.lock().expect("no panic").extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each exit code there is.
#[test]
fn exit_codes_equal_those_of_flock() {
    let Some(server) = newest() else { return };
    if !has_flock() {
        return;
    }
    let bench = Bench::new(&server.url());
    // In pieces, each of which ends in time on a busy machine.
    for first in (0..256).step_by(8) {
        let last = first + 7;
        let codes =
            format!("for c in $(seq {first} {last}); do $L sh -c \"exit $c\"; echo $c $?; done");
        let [flock, memlatch] = ["flock lock", "$M run x"].map(|locker| {
            let done = bench.spawn(&mut bench.script(&codes.replace("$L", locker)));
            done.finish().out
        });
        let right: String = (first..=last)
            .map(|code| format!("{code} {code}\n"))
            .collect();
        assert_eq!((&flock, &memlatch), (&right, &right));
    }
}

#[test]
fn table_lists_each_use_once() {
    let names: BTreeSet<_> = USES.iter().map(|one| one.what).collect();
    assert_eq!(names.len(), USES.len());
    assert!(USES.len() >= 20);
    for one in USES {
        if let Different { reason, .. } = one.expected {
            assert!(!reason.is_empty(), "{}", one.what);
        }
    }
}

fn has_flock() -> bool {
    let found = Command::new("flock").arg("--version").output();
    if found.is_err() {
        not_run("flock(1) of util-linux is missing");
    }
    found.is_ok()
}
