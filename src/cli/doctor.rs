//! `memlatch doctor`.

use super::duration;
use super::failure::{Failure, code};
use super::headings::OUTPUT;
use super::leases::{DefaultLease, Leases};
use super::options::GlobalOptions;
use super::output;
use super::style::Styler;
use super::{format_holder, server, text};
use core::fmt::Write;
use core::time::Duration;
use memlatch::{Check, Client, ClientBuilder, Diagnosis, Severity, TemporaryLru};
use serde_json::{Value, json};

/// Check whether a server is a good place for locks
///
/// Asks for the server's settings and counters, stores nothing, and reports what may lose locks there
/// and what to do about it. `--verbose` explains what is fine as well.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch doctor
  memlatch doctor --server unix:///run/memcached.sock --fix
  memlatch doctor --watch 10s --json

Exit codes: 0 all is fine (there may be notes), 1 there are warnings, 2 locks are unsafe there,
64 usage, 69 server unreachable.")]
pub(super) struct Doctor {
    /// The lease to judge the server for, where others use no longer one [default: the longest lease,
    /// --max-lease]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    lease: Option<Duration>,

    /// Look twice, so long apart, and report what has happened meanwhile
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    watch: Option<Duration>,

    /// Have the server keep locks when memory is short (`lru temp_ttl`), until its next restart
    #[arg(long)]
    fix: bool,

    /// One JSON object in place of text
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

/// The column where the text after a severity begins.
const INDENT: usize = 9;

/// The width of the names of checks.
const IDS: usize = 18;

/// The outcome of `--fix`.
enum Fix {
    /// Locks are kept already, or nothing is ever dropped.
    NotNeeded,
    Enabled {
        seconds: u64,
        before: Option<u64>,
    },
    Failed(String),
}

pub(super) async fn doctor(global: &GlobalOptions, options: &Doctor) -> Result<u8, Failure> {
    let leases = Leases::new(global, options.lease, DefaultLease::Longest)?;
    let builder = server::builder(global)?
        .default_lease(leases.lease)
        .max_lease(leases.lease);
    let mut diagnosis = builder.clone().diagnose().await?;
    let mut fixed = None;
    if options.fix {
        let fix = fix(builder.clone(), &diagnosis).await;
        if matches!(fix, Fix::Enabled { .. }) {
            diagnosis = builder.clone().diagnose().await?;
        }
        fixed = Some(fix);
    }
    if let Some(length) = options.watch {
        tokio::time::sleep(length).await;
        diagnosis = builder.diagnose().await?.since(&diagnosis);
    }
    let shown = if options.json {
        text::json_line(&object(&diagnosis, fixed.as_ref()))
    } else {
        let style = Style {
            explain: global.verbose > 0,
            paint: Styler::for_stdout(),
            columns: text::terminal_width().unwrap_or(usize::MAX),
        };
        readable(&diagnosis, fixed.as_ref(), style)
    };
    output::print(&shown)?;
    Ok(match diagnosis.severity() {
        Severity::Fine | Severity::Note => code::SUCCESS,
        Severity::Warning => code::FAILED,
        _ => code::UNSAFE,
    })
}

async fn fix(builder: ClientBuilder<Client>, diagnosis: &Diagnosis) -> Fix {
    let eviction = diagnosis.check("eviction");
    if eviction.is_some_and(|check| check.severity == Severity::Fine) {
        return Fix::NotNeeded;
    }
    let enabled = match builder.build().await {
        Ok(client) => client.enable_temporary_lru().await,
        Err(error) => Err(error),
    };
    match enabled {
        Ok(TemporaryLru::Enabled {
            seconds, before, ..
        }) => Fix::Enabled { seconds, before },
        Ok(TemporaryLru::Already { .. }) => Fix::NotNeeded,
        Ok(TemporaryLru::Refused { answer, .. }) => Fix::Failed(answer),
        Ok(other) => Fix::Failed(format!("{other:?}")),
        Err(error) => Fix::Failed(error.to_string()),
    }
}

/// The format of a diagnosis.
#[derive(Clone, Copy)]
struct Style {
    /// Passed checks are explained as well.
    explain: bool,
    paint: Styler,
    /// The longest line, where there is one.
    columns: usize,
}

/// Failed checks come first, the worst at the top; passed checks follow in short.
fn readable(diagnosis: &Diagnosis, fix: Option<&Fix>, style: Style) -> String {
    let mut text = String::new();
    if let Some(fix) = fix {
        for line in told(fix).lines() {
            put(&mut text, line, style);
        }
        text.push('\n');
    }
    let (mut described, fine): (Vec<&Check>, Vec<&Check>) = diagnosis
        .checks
        .iter()
        .partition(|check| style.explain || check.severity != Severity::Fine);
    described.sort_by_key(|check| core::cmp::Reverse(check.severity));
    for check in described {
        describe(&mut text, check, style);
    }
    if !fine.is_empty() {
        let ids: Vec<&str> = fine.iter().map(|check| check.id).collect();
        let line = format!("{:<INDENT$}{}", "fine", ids.join(", "));
        let line = text::wrapped(&line, style.columns, INDENT);
        let rest = line.strip_prefix("fine").unwrap_or(&line);
        let _ = writeln!(text, "{}{rest}", style.paint.good("fine"));
    }
    let _ = writeln!(
        text,
        "\n{}",
        text::wrapped(&summary(diagnosis), style.columns, 2)
    );
    text
}

/// A line that belongs to the one above it.
fn put(text: &mut String, line: &str, style: Style) {
    let _ = writeln!(text, "{}", text::wrapped(line, style.columns, INDENT));
}

fn told(fix: &Fix) -> String {
    match fix {
        Fix::NotNeeded => "fix      nothing to do: locks are not evicted".to_owned(),
        Fix::Enabled { seconds, before } => {
            let before = before.map_or(String::new(), |before| format!(" in place of {before} s"));
            format!(
                "fix      items with up to {seconds} s to live are exempt from eviction \
                 now{before} (lru temp_ttl {seconds})\n         \
                 The next restart ends that: start the server with -o temporary_ttl={seconds}. \
                 Locks that are held now are exempt once they are taken anew"
            )
        }
        Fix::Failed(why) => format!("fix      not done: {}", text::one_line(why)),
    }
}

fn describe(text: &mut String, check: &Check, style: Style) {
    // The server's words are untrusted input.
    let seen = text::one_line(&check.observed);
    let word = format!("{:<INDENT$}", check.severity);
    let word = match check.severity {
        Severity::Fine => style.paint.good(&word),
        Severity::Note => style.paint.bold(&word),
        _ => style.paint.bad(&word),
    };
    if INDENT + IDS + text::width(&seen) <= style.columns {
        let _ = writeln!(text, "{word}{:<IDS$}{seen}", check.id);
    } else {
        let _ = writeln!(text, "{word}{}", check.id);
        put(text, &format!("{:INDENT$}{}", "", sentence(&seen)), style);
    }
    for line in [Some(&check.meaning), check.advice.as_ref()]
        .into_iter()
        .flatten()
    {
        let line = sentence(&text::one_line(line));
        put(text, &format!("{:INDENT$}{line}", ""), style);
    }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    let mut text: String = first.into_iter().flatten().chain(chars).collect();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn summary(diagnosis: &Diagnosis) -> String {
    let server = text::one_line(&diagnosis.server);
    let count = |verdict| {
        let checks = diagnosis.checks.iter();
        checks.filter(|check| check.severity == verdict).count()
    };
    let mut parts = Vec::new();
    for (verdict, one, many) in [
        (Severity::Unsafe, "danger", "dangers"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Note, "note", "notes"),
    ] {
        match count(verdict) {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            number => parts.push(format!("{number} {many}")),
        }
    }
    let parts = match parts.len() {
        0 => String::new(),
        _ => format!(" ({})", parts.join(", ")),
    };
    let judgement = match diagnosis.severity() {
        Severity::Fine | Severity::Note => "fine for locks",
        Severity::Warning => "good for locks, with warnings",
        _ => "not safe for locks",
    };
    let version = text::one_line(&diagnosis.version);
    let lease = diagnosis.longest_lease;
    format!("{server}, memcached {version}, leases up to {lease:?}: {judgement}{parts}")
}

fn object(diagnosis: &Diagnosis, fix: Option<&Fix>) -> Value {
    let check = |check: &Check| {
        json!({
            "id": check.id,
            "verdict": check.severity.as_str(),
            "seen": check.observed,
            "meaning": check.meaning,
            "advice": check.advice,
        })
    };
    let fix = fix.map(|fix| {
        let (done, seconds, before, why) = match fix {
            Fix::NotNeeded => ("not-needed", None, None, None),
            Fix::Enabled { seconds, before } => ("enabled", Some(seconds), *before, None),
            Fix::Failed(why) => ("failed", None, None, Some(why)),
        };
        let before = before.and_then(format_holder::exact);
        json!({ "outcome": done, "temporary_ttl": seconds, "before": before, "why": why })
    });
    json!({
        "server": diagnosis.server,
        "version": diagnosis.version,
        "verdict": diagnosis.severity().as_str(),
        "longest_lease_seconds": diagnosis.longest_lease.as_secs_f64(),
        "temporary_ttl_needed": diagnosis.temporary_ttl,
        "fix": fix,
        "checks": diagnosis.checks.iter().map(check).collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings_become_sentences() {
        assert_eq!(sentence("locks stay"), "Locks stay.");
        assert_eq!(sentence("`lru` is set."), "`lru` is set.");
        assert_eq!(sentence(""), ".");
    }
}
