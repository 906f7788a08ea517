//! Who holds a lock, as seen from outside.

use crate::lock::{HolderRecord, Identity, Inspected};
use crate::wire::TimeLeft;
use core::fmt;
use core::time::Duration;
use std::string::String;

/// Who holds a lock, by what the server said at one instant. It may be over already.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The host name the holder gave; empty if the record is not one of ours.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// What it calls itself; empty if nothing.
    pub label: String,
    /// The lease it asked for.
    pub lease: Duration,
    /// Second of the server's clock (Unix time base) at which it acquired the lock.
    pub since_unix: u64,
    /// How long it has held the lock, by the server's clock.
    pub held_for: Duration,
    /// When the record runs out unless it is renewed: at most this much later. Unknown where the
    /// server speaks the classic protocol only.
    pub expires_in: Option<Duration>,
    /// The last fencing token drawn for the name. The holder's own is not higher.
    pub last_token: Option<u64>,
    /// The CAS unique of the record.
    pub cas: u64,
    /// Which holding it is, to tell it from the next.
    pub(crate) identity: Identity,
}

impl Holder {
    pub(crate) fn from_record(record: HolderRecord, left: Option<TimeLeft>) -> Self {
        Self {
            host: record.host,
            pid: record.pid,
            label: record.label,
            lease: record.lease,
            since_unix: record.since,
            held_for: Duration::ZERO,
            expires_in: match left {
                Some(TimeLeft::Seconds(left)) => Some(Duration::from_secs(left.into())),
                Some(TimeLeft::Expired) => Some(Duration::ZERO),
                Some(TimeLeft::Never) | None => None,
            },
            last_token: None,
            cas: 0,
            identity: Identity::of_nonce(record.nonce),
        }
    }

    /// What an inspection found, if anybody holds the lock.
    pub(crate) fn from_inspected(inspected: Inspected) -> Option<Self> {
        let Inspected::Held {
            holder,
            cas,
            identity,
            left,
            last_token,
            second,
            ..
        } = inspected
        else {
            return None;
        };
        Some(Self {
            last_token,
            cas,
            identity,
            ..Self::seen(holder, left, second)
        })
    }

    /// What a record says, if there is one of ours, seen in that second of the server's.
    pub(crate) fn seen(
        holder: Option<HolderRecord>,
        left: Option<TimeLeft>,
        second: Option<u64>,
    ) -> Self {
        let known = holder.unwrap_or_else(|| HolderRecord {
            // Somebody's item without our record, such as that of another kind of client.
            nonce: crate::lock::Nonce::from_random([0; 16]),
            lease: Duration::ZERO,
            since: second.unwrap_or(0),
            pid: 0,
            host: String::new(),
            label: String::new(),
        });
        let held_for = second.unwrap_or(0).saturating_sub(known.since);
        Self {
            held_for: Duration::from_secs(held_for),
            ..Self::from_record(known, left)
        }
    }
}

impl Holder {
    /// Whether `later` is the same holding of the lock, seen again. A renewal does not end one;
    /// whoever gives the lock back and acquires it anew begins another.
    #[must_use]
    pub fn is_same_holding(&self, later: &Self) -> bool {
        self.identity == later.identity
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() {
            return f.write_str("an unknown client");
        }
        write!(f, "{} pid {}", self.host, self.pid)?;
        if !self.label.is_empty() {
            write!(f, " \"{}\"", self.label.escape_debug())?;
        }
        Ok(())
    }
}
