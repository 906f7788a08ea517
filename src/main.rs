//! The `memlatch` command: run a command under a lock, see its holder, try it all out.
//!
//! An ordinary user of the library's public API.

#[cfg(not(unix))]
compile_error!("the `memlatch` command needs Unix signals and process groups");

#[cfg(unix)]
mod cli;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    cli::main()
}
