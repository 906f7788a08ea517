//! The `memlatch` command as its users meet it: the real program against real servers.

#![cfg(all(unix, feature = "cli", feature = "server"))]

#[path = "command/bench.rs"]
mod bench;
#[path = "command/break_lock.rs"]
mod break_lock;
#[path = "command/child.rs"]
mod child;
#[path = "command/completions.rs"]
mod completions;
#[path = "command/conflict.rs"]
mod conflict;
#[path = "command/demo.rs"]
mod demo;
#[path = "command/doctor.rs"]
mod doctor;
#[path = "command/environment.rs"]
mod environment;
#[path = "command/eval.rs"]
mod eval;
#[path = "command/json.rs"]
mod json;
#[path = "command/leases.rs"]
mod leases;
#[path = "command/list.rs"]
mod list;
#[path = "command/loss.rs"]
mod loss;
#[cfg(target_os = "linux")]
#[path = "command/parity.rs"]
mod parity;
#[path = "command/patience.rs"]
mod patience;
#[path = "command/refusals.rs"]
mod refusals;
#[path = "command/script.rs"]
mod script;
#[path = "command/secrets.rs"]
mod secrets;
#[path = "command/serve.rs"]
mod serve;
#[path = "command/status.rs"]
mod status;
#[cfg(target_os = "linux")]
#[path = "command/supervisor.rs"]
mod supervisor;
mod support;
#[cfg(target_os = "linux")]
#[path = "command/terminal.rs"]
mod terminal;
#[path = "command/tool.rs"]
mod tool;
#[path = "command/wait.rs"]
mod wait;
#[path = "command/watch.rs"]
mod watch;
#[path = "command/width.rs"]
mod width;

#[cfg(feature = "tls")]
use support::certificates;
use support::memcached;
