//! The step in which a process of this program becomes the command.

use super::failure::{Failure, code};
use super::startup::{self, Inherited};
use super::stderr;
use core::sync::atomic::AtomicBool;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, execvp, getpid, getppid};
use rustix::io::FdFlags;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// First word of a command line that turns this program into another one, see
/// [`become_command`].
pub(super) const HELPER: &str = "__child";

/// This program, to be started once more.
pub(super) fn own_program() -> Command {
    // Unlike its path, this is there still when the file has been replaced by a newer one.
    let own = Path::new("/proc/self/exe");
    let path = if own.exists() {
        own.to_path_buf()
    } else if let Ok(path) = std::env::current_exe() {
        path
    } else {
        let name = std::env::args_os().next();
        // The process that is started finds the program by this name once more.
        return Command::new(name.as_deref().unwrap_or(OsStr::new("memlatch")));
    };
    let mut command = Command::new(path);
    command.arg0("memlatch");
    command
}

/// This program as the helper that becomes the command. The detour exists because only a process
/// itself can set its signals, and ask to be ended together with its parent.
pub(super) fn helper(argv: &[OsString], inherited: Inherited) -> Command {
    let mut command = own_program();
    command
        .arg(HELPER)
        .arg(getpid().to_string())
        .arg(inherited.encode())
        .args(argv);
    command
}

/// Lets this process become the command, with signals and streams as `memlatch` has inherited
/// them, and have it ended by SIGTERM should its parent die. Returns only if it cannot.
pub(super) fn become_command(mut words: impl Iterator<Item = OsString>) -> u8 {
    let mut word = || words.next().and_then(|word| word.into_string().ok());
    let parent = word().and_then(|word| word.parse().ok());
    let inherited = word().and_then(|word| Inherited::decode(&word));
    let argv: Vec<OsString> = words.collect();
    let (Some(parent), Some(inherited)) = (parent, inherited) else {
        stderr::print_error("this subcommand is for internal use");
        return code::USAGE;
    };
    if !tie_to(parent, Signal::SIGTERM) {
        return code::of_signal(Signal::SIGTERM as i32);
    }
    let error = restore(inherited).map_or_else(|error| error, |()| execute(&argv));
    cannot_run(&argv, &error).report()
}

/// Restores streams and signals as they were when `memlatch` was started.
fn restore(inherited: Inherited) -> io::Result<()> {
    for (n, stream) in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
    .into_iter()
    .enumerate()
    {
        if inherited.closed_streams >> n & 1 == 1 {
            rustix::io::fcntl_setfd(stream, FdFlags::CLOEXEC)?;
        }
    }
    if !inherited.sigpipe_ignored {
        // Rust's runtime ignores it. What is handled gets its default when another program is
        // executed.
        signal_hook::flag::register(Signal::SIGPIPE as i32, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(inherited.blocked_signals().thread_set_mask()?)
}

/// Replaces this process by another program. Returns only if that fails.
fn execute(argv: &[OsString]) -> io::Error {
    let words = argv
        .iter()
        .map(|word| CString::new(word.clone().into_vec()));
    match words.collect::<Result<Vec<_>, _>>() {
        Ok(words) => match words.first() {
            Some(program) => match execvp(program, &words) {
                Err(errno) => errno.into(),
            },
            None => io::ErrorKind::NotFound.into(),
        },
        Err(error) => error.into(),
    }
}

/// Has this process sent `signal` when its parent dies. Says whether the parent is there still.
///
/// If the system cannot do that, this process is on its own when its parent is killed.
pub(super) fn tie_to(parent: i32, signal: Signal) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = nix::sys::prctl::set_pdeathsig(signal);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = signal;
    // The end of a parent before the request was made is not reported.
    getppid() == Pid::from_raw(parent)
}

/// The failure of a command that could not be started.
pub(super) fn cannot_run(argv: &[OsString], error: &io::Error) -> Failure {
    if startup::is_shortage(error) {
        return Failure::system("cannot start a process for the command", error);
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => code::NOT_FOUND,
        _ => code::CANNOT_EXECUTE,
    };
    let why = error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| Errno::from_raw(number).desc().to_owned(),
    );
    let program = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    Failure::new(code, format!("{}: {why}", program.to_string_lossy()))
}
