//! Locks and their holders, as people and programs are shown them.

use super::{text, time_format};
use core::fmt::Write;
use core::time::Duration;
use memlatch::proto::LockKeys;
use memlatch::{Holder, LockEntry};
use serde_json::{Map, Value, json};

/// A lock in some lines of text, in at most so many columns if a number is given.
pub(super) fn readable(
    name: &str,
    holder: Option<&Holder>,
    keys: &LockKeys,
    columns: Option<usize>,
) -> String {
    let mut lines = Vec::new();
    let name = text::one_line(name);
    match holder {
        None => lines.push((2, format!("{name}  free"))),
        Some(holder) => {
            lines.push((2, format!("{name}  held by {}", describe_holder(holder))));
            facts(holder, keys, &mut lines);
        }
    }
    let mut text = String::new();
    for (indent, line) in lines {
        match columns {
            Some(columns) => text.push_str(&text::wrapped(&line, columns, indent)),
            None => text.push_str(&line),
        }
        text.push('\n');
    }
    text
}

/// The facts of a held lock, a line each with the indent of what does not fit in.
fn facts(holder: &Holder, keys: &LockKeys, lines: &mut Vec<(usize, String)>) {
    let mut line = |title: &str, value: &str| lines.push((14, format!("  {title:<12}{value}")));
    if holder.acquired_at_unix > 0 {
        let since = time_format::text(holder.acquired_at_unix);
        let ago = seconds(holder.held_for);
        line("since", &format!("{since} ({ago} ago)"));
    }
    if !holder.lease.is_zero() {
        line("lease", &seconds(holder.lease));
    }
    if let Some(left) = holder.expires_in {
        let left = seconds(left);
        let kept = if holder.lease.is_zero() {
            ""
        } else {
            "; the server keeps a lock for up to 5 s more than its lease"
        };
        line("free in", &format!("{left} at most, unless renewed{kept}"));
    }
    if let Some(token) = holder.last_fencing_token {
        line("last token", &token.to_string());
    }
    line("key", &String::from_utf8_lossy(keys.lock().as_bytes()));
}

/// A lock as an object. All fields are always there; what is not known is `null`.
pub(super) fn object(name: &str, holder: Option<&Holder>, server: &str) -> Map<String, Value> {
    let text = |pick: fn(&Holder) -> &str| holder.map(pick).filter(|text| !text.is_empty());
    let value = json!({
        "name": name,
        "held": holder.is_some(),
        "host": text(|holder| &holder.host),
        "pid": holder.map(|holder| holder.pid).filter(|pid| *pid != 0),
        "label": text(|holder| &holder.label),
        "since_unix": holder.and_then(|holder| exact(holder.acquired_at_unix)),
        "held_for_seconds": holder.and_then(|holder| exact(holder.held_for.as_secs())),
        "lease_seconds": holder.map(|holder| holder.lease.as_secs_f64()),
        "expires_in_seconds": holder.and_then(|holder| holder.expires_in).map(|left| left.as_secs()),
        "last_token": holder.and_then(|holder| holder.last_fencing_token).map(word),
        "server": server,
    });
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A number of 64 bits in JSON: as a string, because many readers know doubles only, which round
/// it.
pub(super) fn word(number: u64) -> String {
    number.to_string()
}

/// A number that every reader of JSON gets as it is. What is larger is no time or count, but
/// something that a stranger has written.
pub(super) fn exact(number: u64) -> Option<u64> {
    const LARGEST: u64 = 1 << 53;
    (number <= LARGEST).then_some(number)
}

/// An object as one line.
pub(super) fn line(fields: Map<String, Value>) -> String {
    text::json_line(&Value::Object(fields))
}

/// The holder in a few words, which are untrusted input.
pub(super) fn describe_holder(holder: &Holder) -> String {
    text::one_line(&holder.to_string())
}

/// The host of a holder and what it calls itself.
pub(super) fn where_held(holder: &Holder) -> String {
    if holder.host.is_empty() {
        return describe_holder(holder);
    }
    let mut text = holder.host.clone();
    if !holder.label.is_empty() {
        let _ = write!(text, " \"{}\"", holder.label.escape_debug());
    }
    text::one_line(&text)
}

/// The process id of a holder, where it is known.
pub(super) fn pid(holder: &Holder) -> String {
    if holder.host.is_empty() {
        "-".to_owned()
    } else {
        holder.pid.to_string()
    }
}

/// `5 s`, `1.5s`.
pub(super) fn seconds(length: Duration) -> String {
    match length.subsec_nanos() {
        0 => format!("{} s", length.as_secs()),
        _ => format!("{length:?}"),
    }
}

/// A length of time in its two largest units: `45s`, `3m 12s`, `2h 05m`, `3d 04h`.
pub(super) fn approximate(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// For how long a lock has been held, where that is known.
pub(super) fn held_for(holder: &Holder) -> String {
    if holder.host.is_empty() {
        "-".to_owned()
    } else {
        approximate(holder.held_for)
    }
}

/// The last token of a lock, where there is one.
pub(super) fn token(holder: &Holder) -> String {
    holder
        .last_fencing_token
        .map_or_else(|| "-".to_owned(), |token| token.to_string())
}

/// An entry of a list as an object: the fields of `status`, and whether the name is hashed.
pub(super) fn entry_object(lock: &LockEntry, address: &str) -> Map<String, Value> {
    let mut fields = object(&lock.name, Some(&lock.holder), address);
    fields.insert("hashed".to_owned(), lock.is_hashed.into());
    fields
}

/// The name of an entry, or the hash that replaces it.
pub(super) fn entry_name(lock: &LockEntry) -> String {
    let name = text::one_line(&lock.name);
    if lock.is_hashed {
        format!("{name} (hashed)")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_print_two_units() {
        for (length, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 00s"),
            (3599, "59m 59s"),
            (3600, "1h 00m"),
            (86_399, "23h 59m"),
            (100_000, "1d 03h"),
        ] {
            assert_eq!(approximate(Duration::from_secs(length)), shown);
        }
        assert_eq!(seconds(Duration::from_secs(5)), "5 s");
        assert_eq!(seconds(Duration::from_millis(1500)), "1.5s");
    }
}
