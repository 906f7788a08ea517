//! The holder of a lock, as other clients see it.

use crate::proto::{HolderRecord, InspectOutcome, SessionId};
use crate::wire::TimeLeft;
use core::fmt;
use core::time::Duration;
use std::string::String;

/// The holder of a lock, by what the server reported at one instant. It may be out of date.
///
/// `Debug` shows nothing that would let another client pass for the holder, such as the CAS unique
/// of a lock [without a record](crate::Lock::without_record).
///
/// # Example
/// ```
/// # #[cfg(all(feature = "tokio", feature = "server"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = memlatch::server::Server::start()?;
/// # let client = memlatch::Client::connect(server.address()).await?;
/// let guard = client.lock("invoices/42").label("writer").acquire().await?;
/// let holder = client.holder("invoices/42").await?.expect("it is held");
/// assert_eq!((holder.label.as_str(), holder.pid), ("writer", std::process::id()));
/// println!("held by {holder}, last fencing token {:?}", holder.last_fencing_token);
/// # drop(guard);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "tokio", feature = "server")))]
/// # fn main() {}
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The host name that the holder recorded; empty if the record is not one of this crate.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// Its label; empty if it has none.
    pub label: String,
    /// The lease that it requested.
    pub lease: Duration,
    /// Second of the server's clock (Unix time base) at which it acquired the lock.
    pub acquired_at_unix: u64,
    /// The time for which it has held the lock, by the server's clock.
    pub held_for: Duration,
    /// The time until the record expires unless it is renewed: at most this long. Unknown if the
    /// server supports the classic protocol only.
    pub expires_in: Option<Duration>,
    /// The last fencing token that was drawn for the name. The holder's own is not higher.
    pub last_fencing_token: Option<u64>,
    /// The CAS unique of the record.
    pub cas_unique: u64,
    /// The session of the holder, which distinguishes it from the next one.
    pub(crate) session: SessionId,
}

impl Holder {
    pub(crate) fn from_record(record: HolderRecord, left: Option<TimeLeft>) -> Self {
        Self {
            host: record.host,
            pid: record.pid,
            label: record.label,
            lease: record.lease,
            acquired_at_unix: record.acquired_at,
            held_for: Duration::ZERO,
            expires_in: match left {
                Some(TimeLeft::Seconds(left)) => Some(Duration::from_secs(left.into())),
                Some(TimeLeft::Expired) => Some(Duration::ZERO),
                Some(TimeLeft::Never) | None => None,
            },
            last_fencing_token: None,
            cas_unique: 0,
            session: SessionId::from_nonce(record.nonce),
        }
    }

    /// Returns the holder that an inspection found, if the lock is held.
    pub(crate) fn from_inspected(inspected: InspectOutcome) -> Option<Self> {
        let InspectOutcome::Held {
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
            last_fencing_token: last_token,
            cas_unique: cas,
            session: identity,
            ..Self::seen(holder, left, second)
        })
    }

    /// Returns the content of a record, if it is one of this crate, seen in that second of the
    /// server's clock.
    pub(crate) fn seen(
        holder: Option<HolderRecord>,
        left: Option<TimeLeft>,
        second: Option<u64>,
    ) -> Self {
        let known = holder.unwrap_or_else(|| HolderRecord {
            // An item without a record of this crate, such as that of another kind of client.
            nonce: crate::proto::Nonce::from_random([0; 16]),
            lease: Duration::ZERO,
            acquired_at: second.unwrap_or(0),
            pid: 0,
            host: String::new(),
            label: String::new(),
        });
        let held_for = second.unwrap_or(0).saturating_sub(known.acquired_at);
        Self {
            held_for: Duration::from_secs(held_for),
            ..Self::from_record(known, left)
        }
    }
}

impl Holder {
    /// Returns whether `later` is the same session, seen again. A renewal does not end a session; a
    /// holder that releases the lock and acquires it again begins another.
    #[must_use]
    pub fn is_same_session(&self, later: &Self) -> bool {
        self.session == later.session
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("host", &self.host)
            .field("pid", &self.pid)
            .field("label", &self.label)
            .field("lease", &self.lease)
            .field("acquired_at_unix", &self.acquired_at_unix)
            .field("held_for", &self.held_for)
            .field("expires_in", &self.expires_in)
            .field("last_fencing_token", &self.last_fencing_token)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() {
            return f.write_str("an unknown client");
        }
        write!(f, "{} pid {}", self.host.escape_debug(), self.pid)?;
        if !self.label.is_empty() {
            write!(f, " \"{}\"", self.label.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LockEntry;
    use crate::engine::clock::{self, Nonces};
    use crate::proto::{
        AcquireOutcome, CasOwner, Grant, GrantKind, Instant, Lease, LockTicket, Namespace, Nonce,
        Owner, OwnerId, Record, ServerInstance,
    };
    use std::format;
    use std::string::ToString;

    const NONCE: Nonce = Nonce::from_random(*b"0123456789abcdef");

    /// Returns all printed text about a lock that is shown by this proof.
    fn shown(proof: OwnerId, cas: u64) -> String {
        let grant = Grant {
            instance: ServerInstance {
                pid: 7,
                started: 1,
                word: crate::proto::InstanceWord::from_bits(1),
            },
            owner_id: proof,
            owner: Owner::new("host", 7, "label"),
            lease: Lease::new(Duration::from_secs(9)).expect("in range"),
            acquired_at: 1,
            cas,
            token: Some(1),
            expiry: 13,
            sent_at: Instant::from_nanos(0),
            may_be_replayed: true,
            valid_until: Instant::from_nanos(9_000_000_000),
            kind: GrantKind::Free,
        };
        let record = Record::new(NONCE, Duration::from_secs(9), 1, &grant.owner);
        let parsed = HolderRecord::parse(record.as_bytes()).expect("a record");
        let holder = Holder {
            cas_unique: cas,
            session: SessionId::from_owner_id(proof),
            ..Holder::from_record(parsed.clone(), None)
        };
        let listed = LockEntry {
            name: "L".into(),
            is_hashed: false,
            holder: holder.clone(),
        };
        let namespace = Namespace::new("p:").expect("plain");
        let parts = LockTicket::new(&namespace, "L", &grant, cas, 13);
        let identity = holder.session;
        let leftover = grant.orphan();
        let acquired = AcquireOutcome::Granted(grant.clone());
        format!(
            "{proof:?} {grant:?} {record:?} {parsed:?} {holder:?} {listed:?} {parts:?} {identity:?} \
             {leftover:?} {acquired:?} {NONCE:?} {holder}"
        )
    }

    /// The log does not reveal how to pass for the holder.
    #[test]
    fn debug_output_hides_holder_secrets() {
        let token = CasOwner::new(NONCE);
        for (proof, cas) in [
            (OwnerId::Nonce(NONCE), 5),
            (OwnerId::Cas(token), u64::MAX - 255),
        ] {
            let text = shown(proof, cas);
            let digits = format!("{NONCE:x}");
            assert_eq!(digits, "30313233343536373839616263646566");
            for secret in [
                digits.clone(),
                u128::from_str_radix(&digits, 16)
                    .expect("digits")
                    .to_string(),
            ] {
                assert!(!text.contains(&secret), "{text}");
            }
            if cas > 5 {
                assert!(!text.contains(&cas.to_string()), "{text}");
            }
            // The useful fields are still there.
            assert!(text.contains("host") && text.contains("label"), "{text}");
        }
        let nonces = Nonces::new().expect("random");
        let drawn = format!("{:x}", nonces.draw(clock::monotonic()));
        let shown = format!("{nonces:?}");
        assert!(
            !shown.contains(&drawn) && !shown.contains(|c: char| c.is_ascii_digit()),
            "{shown}"
        );
    }
}
