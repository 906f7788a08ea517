//! `memlatch wait`: until a lock is free.

use super::failure::{Failure, code};
use super::headings::{OUTPUT, WAITING};
use super::options::GlobalOptions;
use super::output;
use super::stderr::Verbosity;
use super::wait_limit::WaitLimit;
use super::{duration, format_holder, server};
use core::time::Duration;
use std::time::Instant;

/// Wait until a lock is free, without acquiring it
///
/// Another may have it again when this ends. Free means the same to `wait`, `status` and `run -n`:
/// the server has no record of a holder. That of a holder that died is there for its lease and up to
/// 5 s more; `run` may take the lock over a little sooner. A server that was started or flushed a
/// short time ago grants nothing for the longest lease, free or not (69).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch wait -w 10m nightly && ./publish.sh
  memlatch wait -w 0 nightly || echo held

Exit codes:
  0    the lock is free
  1    it was held for too long (-w); -E changes the code
  64   the command line cannot be used
  69   the server is unreachable or unfit

DURATION is in seconds (5, 0.5) or has a unit: 500ms, 10s, 2m, 1h, 1d.")]
pub(super) struct Wait {
    /// The lock's name
    name: String,

    /// Longest wait; 0 looks once [default: for ever] [env: MEMLATCH_WAIT]
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse, help_heading = WAITING)]
    pub(super) wait: Option<Duration>,

    /// Exit code when it is still held then, 0 to 255 [env: MEMLATCH_CONFLICT_EXIT_CODE]
    #[arg(short = 'E', long, value_name = "N", default_value_t = code::FAILED, help_heading = WAITING)]
    pub(super) conflict_exit_code: u8,

    /// Print one JSON object at the end, with the holder and the time waited
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

pub(super) async fn wait(
    global: &GlobalOptions,
    options: Wait,
    voice: Verbosity,
) -> Result<u8, Failure> {
    let name = &options.name;
    server::check(global, name)?;
    let began = Instant::now();
    let mut patience = WaitLimit::new(options.wait, voice);
    let client = patience.connect(global, |builder| builder).await?;
    voice.detail(&format!(
        "lock `{name}`: waiting until {} has it free",
        client.server()
    ));
    let holder = loop {
        match client.wait_until_free(name, patience.left()).await {
            Ok(holder) => break holder,
            Err(error) => patience.bear(error).await?,
        }
    };
    let waited = began.elapsed();
    if options.json {
        let mut fields = format_holder::object(name, holder.as_ref(), &client.server());
        fields.insert("waited_seconds".to_owned(), waited.as_secs_f64().into());
        output::print(&format_holder::line(fields))?;
    }
    // As with flock(1), the code says it all.
    Ok(match holder {
        None => {
            voice.detail(&format!("lock `{name}`: free after {waited:.1?}"));
            code::SUCCESS
        }
        Some(holder) => {
            voice.detail(&format!(
                "lock `{name}`: still held by {holder} after {waited:.1?}"
            ));
            options.conflict_exit_code
        }
    })
}
