//! Processes that a process has started, directly or not.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Processes that are distinguished from those that run under the lock: number and start.
#[derive(Debug, Default)]
pub(super) struct Strangers(HashMap<Pid, Option<u64>>);

impl Strangers {
    /// All descendants that this process has now.
    pub(super) fn observe() -> Self {
        let all = descendants(Pid::this(), &Self::default()).into_iter();
        Self(all.map(|pid| (pid, start_of(pid))).collect())
    }

    /// Returns false for a later process with the same number.
    fn contains(&self, pid: Pid) -> bool {
        self.0
            .get(&pid)
            .is_some_and(|start| *start == start_of(pid))
    }
}

/// When a process was started, in ticks since the start of the system.
fn start_of(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// Sends a signal to all descendants of `root` except strangers and the processes those have
/// started, parents before their children. If the system does not list them, it is sent to
/// `command` alone, a child that was not waited for yet.
///
/// A signal that cannot be handled is also sent to processes that are started meanwhile. Other
/// signals would then reach processes that a handler starts to clean up.
pub(super) fn signal_all(root: Pid, strangers: &Strangers, command: Option<i32>, signal: i32) {
    const LOOKS: usize = 16;
    let Ok(signal) = Signal::try_from(signal) else {
        return;
    };
    let looks = match signal {
        Signal::SIGKILL | Signal::SIGSTOP => LOOKS,
        _ => 1,
    };
    let mut told = HashSet::new();
    for _ in 0..looks {
        let mut news = false;
        let mut all = descendants(root, strangers);
        if all.is_empty() {
            all.extend(command.map(Pid::from_raw));
        }
        for pid in all {
            if told.insert(pid) {
                news = true;
                // A process that has ended meanwhile needs no signal.
                let _ = kill(pid, signal);
            }
        }
        if !news {
            return;
        }
    }
}

/// The descendants of `root`, parents before their children, without strangers and their
/// descendants. Empty if the system does not list them.
pub(super) fn descendants(root: Pid, strangers: &Strangers) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    // A /proc of another namespace has other numbers.
    let own = std::fs::read_link("/proc/self");
    if own.is_ok_and(|own| own == Path::new(&Pid::this().to_string())) {
        while let Some(parent) = found.get(next) {
            let threads = std::fs::read_dir(format!("/proc/{parent}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(thread.path().join("children"));
                let children = children.unwrap_or_default();
                let children = children.split_ascii_whitespace();
                let children = children.filter_map(|pid| pid.parse().ok().map(Pid::from_raw));
                found.extend(children.filter(|pid| !strangers.contains(*pid)));
            }
            next += 1;
        }
    }
    found.remove(0);
    found
}
