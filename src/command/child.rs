//! The command that runs under the lock, as a process.

use super::failure::{Failure, code};
use super::output;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid, getppid};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

/// First word of a command line that turns this program into another one, see
/// [`become_command`].
pub(super) const HELPER: &str = "__child";

/// A command that was started, and possibly others that it has started.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    pid: Pid,
    /// It has a process group of its own.
    grouped: bool,
    /// It has ended: its process id may belong to somebody else.
    over: bool,
}

impl Child {
    /// Starts `argv` with these additions to the environment. `grouped` gives it a process group
    /// of its own, which the terminal's keys do not reach.
    pub(super) fn spawn(
        argv: &[OsString],
        environment: &[(&str, String)],
        grouped: bool,
    ) -> Result<Self, Failure> {
        let started = match helper(argv) {
            Some(command) => start(command, environment, grouped),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let started = match started {
            // Without /proc there is no helper either; the command runs all the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                start(plain(argv), environment, grouped)
            }
            other => other,
        };
        let process = started.map_err(|error| cannot_run(argv, &error))?;
        let pid = process.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = pid else {
            return Err(Failure::new(
                code::SYSTEM,
                "the command has no process id".to_owned(),
            ));
        };
        Ok(Self {
            process,
            pid: Pid::from_raw(pid),
            grouped,
            over: false,
        })
    }

    /// Waits until the command has ended. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.process.wait().await;
        self.over = true;
        status
    }

    pub(super) fn is_grouped(&self) -> bool {
        self.grouped
    }

    /// Sends a signal to the command and whatever belongs to it.
    pub(super) fn signal(&self, signal: Signal) {
        // Whoever has ended meanwhile needs no signal.
        if self.grouped {
            let _ = killpg(self.pid, signal);
        } else if !self.over {
            // The group is that of the shell we were started from, and ours.
            for pid in descendants(self.pid) {
                let _ = kill(pid, signal);
            }
            let _ = kill(self.pid, signal);
        }
    }

    /// Passes on a signal that was sent to us.
    pub(super) fn forward(&self, signal: Signal) {
        if self.grouped {
            let _ = killpg(self.pid, signal);
        } else if !self.over && !from_the_terminal(signal) {
            let _ = kill(self.pid, signal);
        }
    }

    /// Whether processes are left in the group of the command, which may itself have ended.
    pub(super) fn has_company(&self) -> bool {
        self.grouped && killpg(self.pid, None) != Err(Errno::ESRCH)
    }
}

/// In the terminal's foreground group, these have reached the command before they reach us.
fn from_the_terminal(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH | Signal::SIGCONT
    )
}

/// The exit code that stands for `status`, as shells have it.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(code::FAILED),
        (None, Some(signal)) => code::of_signal(signal),
        (None, None) => code::FAILED,
    }
}

fn start(
    mut command: Command,
    environment: &[(&str, String)],
    grouped: bool,
) -> io::Result<tokio::process::Child> {
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    if grouped {
        command.process_group(0);
    }
    tokio::process::Command::from(command).spawn()
}

fn plain(argv: &[OsString]) -> Command {
    let mut words = argv.iter();
    let mut command = Command::new(words.next().map_or("".as_ref(), OsString::as_os_str));
    command.args(words);
    command
}

/// This program as the helper that becomes the command. The detour exists because only a process
/// itself can ask to be ended together with its parent.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn helper(argv: &[OsString]) -> Option<Command> {
    // Unlike its path, this is there still when the file has been replaced by a newer one.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("memlatch")
        .arg(HELPER)
        .arg(getpid().to_string())
        .args(argv);
    Some(command)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn helper(_: &[OsString]) -> Option<Command> {
    None
}

/// Lets this process become the command that `words` name after the process id of its parent, and
/// have it ended by SIGTERM should that parent die. Returns only if it cannot.
pub(super) fn become_command(mut words: impl Iterator<Item = OsString>) -> u8 {
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok());
    let argv: Vec<OsString> = words.collect();
    let Some(parent) = parent else {
        output::complain("this subcommand is for internal use");
        return code::USAGE;
    };
    if !tie_to(parent, Signal::SIGTERM) {
        return code::of_signal(Signal::SIGTERM as i32);
    }
    cannot_run(&argv, &plain(&argv).exec()).report()
}

/// Has this process sent `signal` when its parent dies. Says whether the parent is there still.
///
/// Where the system cannot do that, this process is on its own when its parent is killed.
pub(super) fn tie_to(parent: i32, signal: Signal) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = nix::sys::prctl::set_pdeathsig(signal);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = signal;
    // One that died before the request was made is not told of.
    getppid() == Pid::from_raw(parent)
}

fn cannot_run(argv: &[OsString], error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => code::NOT_FOUND,
        _ => code::CANNOT_EXECUTE,
    };
    let why = error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| Errno::from_raw(number).desc().to_owned(),
    );
    let program = argv.first().map(|word| word.to_string_lossy());
    Failure::new(code, format!("{}: {why}", program.unwrap_or_default()))
}

/// The processes that `root` has started, and theirs, where the system tells.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        let threads = std::fs::read_dir(format!("/proc/{parent}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children"));
            for child in children.unwrap_or_default().split_ascii_whitespace() {
                if let Ok(child) = child.parse() {
                    found.push(Pid::from_raw(child));
                    open.push(Pid::from_raw(child));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(11 | 0x80)), 139);
    }
}
