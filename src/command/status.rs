//! `memlatch status`.

use super::args::{Global, Status};
use super::failure::{Failure, code};
use super::{output, server, utc};
use core::fmt::Write;
use core::time::Duration;
use memlatch::Holder;
use memlatch::lock::LockKeys;
use serde_json::{Value, json};

pub(super) async fn status(global: &Global, options: Status) -> Result<u8, Failure> {
    let name = options.name;
    let keys = server::check(global, &name)?;
    let client = server::builder(global)?.build().await?;
    let holder = client.holder(&name).await?;
    let text = if options.json {
        format!("{}\n", object(&name, holder.as_ref(), &client.server()))
    } else {
        readable(&name, holder.as_ref(), &keys)
    };
    output::print(&text)?;
    Ok(code::SUCCESS)
}

fn readable(name: &str, holder: Option<&Holder>, keys: &LockKeys) -> String {
    let mut text = output::one_line(name);
    let Some(holder) = holder else {
        text.push_str("  free\n");
        return text;
    };
    // The words of the record may come from anybody.
    let _ = writeln!(text, "  held by {}", output::one_line(&holder.to_string()));
    let seconds = |length: Duration| match length.subsec_nanos() {
        0 => format!("{} s", length.as_secs()),
        _ => format!("{length:?}"),
    };
    let mut line = |title: &str, value: &str| {
        let _ = writeln!(text, "  {title:<12}{value}");
    };
    if holder.since_unix > 0 {
        let since = utc::text(holder.since_unix);
        let ago = seconds(holder.held_for);
        line("since", &format!("{since} ({ago} ago)"));
    }
    if !holder.lease.is_zero() {
        line("lease", &seconds(holder.lease));
    }
    if let Some(left) = holder.expires_in {
        line("expires in", &format!("{} unless renewed", seconds(left)));
    }
    if let Some(token) = holder.last_token {
        line("last token", &token.to_string());
    }
    line("key", &String::from_utf8_lossy(keys.lock().as_bytes()));
    text
}

/// All fields are always there; what is not known is `null`.
fn object(name: &str, holder: Option<&Holder>, server: &str) -> Value {
    let text = |pick: fn(&Holder) -> &str| holder.map(pick).filter(|text| !text.is_empty());
    json!({
        "name": name,
        "held": holder.is_some(),
        "host": text(|holder| &holder.host),
        "pid": holder.map(|holder| holder.pid).filter(|pid| *pid != 0),
        "label": text(|holder| &holder.label),
        "since_unix": holder.map(|holder| holder.since_unix),
        "held_for_seconds": holder.map(|holder| holder.held_for.as_secs()),
        "lease_seconds": holder.map(|holder| holder.lease.as_secs_f64()),
        "expires_in_seconds": holder.and_then(|holder| holder.expires_in).map(|left| left.as_secs()),
        "last_token": holder.and_then(|holder| holder.last_token),
        "server": server,
    })
}
