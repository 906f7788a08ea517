//! The lease of one lock and the longest lease under the prefix: one rule for all verbs.

use super::failure::Failure;
use super::format_holder;
use super::options::GlobalOptions;
use super::stderr::Verbosity;
use core::time::Duration;
use memlatch::DEFAULT_LEASE;
use memlatch::proto::Lease;

/// The lease of a verb to which none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultLease {
    /// The library's default, or the longest lease where that is shorter. For locks that are
    /// renewed.
    Usual,
    /// The longest lease. For locks that are not renewed, and for the doctor.
    Longest,
}

/// The leases that a verb uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leases {
    /// The lease of the lock.
    pub(super) lease: Duration,
    /// The longest lease that this process takes any user of the prefix to have.
    pub(super) longest: Duration,
    /// The lease is longer than the default longest lease, and nothing else has set that.
    is_raised: bool,
}

impl Leases {
    /// Combines `--lease` and `--max-lease`.
    ///
    /// # Errors
    /// One of them is out of range, or the lease is longer than a longest lease that was set.
    pub(super) fn new(
        global: &GlobalOptions,
        lease: Option<Duration>,
        default: DefaultLease,
    ) -> Result<Self, Failure> {
        let set = longest(global)?;
        if let Some(lease) = lease {
            Lease::new(lease).map_err(|error| Failure::usage(format!("--lease: {error}")))?;
        }
        let longest = set.unwrap_or(DEFAULT_LEASE);
        match lease {
            Some(lease) if lease > longest => match set {
                Some(_) => Err(Failure::usage(format!(
                    "--lease: {0} is longer than the longest lease under the prefix (--max-lease \
                     or MEMLATCH_MAX_LEASE, {1}); set that to at least {0} for all users of the \
                     prefix, or take a lease of at most {1}",
                    format_holder::seconds(lease),
                    format_holder::seconds(longest)
                ))),
                None => Ok(Self {
                    lease,
                    longest: lease,
                    is_raised: true,
                }),
            },
            _ => Ok(Self {
                lease: lease.unwrap_or(match default {
                    DefaultLease::Usual => longest.min(DEFAULT_LEASE),
                    DefaultLease::Longest => longest,
                }),
                longest,
                is_raised: false,
            }),
        }
    }

    /// Says that this lease is longer than others expect.
    pub(super) fn note(&self, name: &str, voice: Verbosity) {
        if self.is_raised {
            let lease = format_holder::seconds(self.lease);
            voice.note(&format!(
                "lock `{name}`: the lease of {lease} is longer than the longest lease that others \
                 expect ({}); set MEMLATCH_MAX_LEASE={} for all its users, so that each waits that \
                 long behind a restart of the server",
                format_holder::seconds(DEFAULT_LEASE),
                super::duration::text(self.lease)
            ));
        }
    }
}

/// The longest lease that was set, if one was.
fn longest(global: &GlobalOptions) -> Result<Option<Duration>, Failure> {
    if let Some(longest) = global.max_lease {
        Lease::new(longest).map_err(|error| Failure::usage(format!("--max-lease: {error}")))?;
    }
    Ok(global.max_lease)
}

/// The longest lease where no lease is given.
pub(super) fn longest_or_default(global: &GlobalOptions) -> Result<Duration, Failure> {
    Ok(longest(global)?.unwrap_or(DEFAULT_LEASE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        global: GlobalOptions,
    }

    fn leases(
        lease: Option<u64>,
        longest: Option<u64>,
        default: DefaultLease,
    ) -> Option<(u64, u64, bool)> {
        let mut args = Options::try_parse_from(["memlatch"]).expect("usable");
        args.global.max_lease = longest.map(Duration::from_secs);
        let leases = Leases::new(&args.global, lease.map(Duration::from_secs), default).ok()?;
        let (lease, longest) = (leases.lease.as_secs(), leases.longest.as_secs());
        Some((lease, longest, leases.is_raised))
    }

    #[test]
    fn longest_lease_default_is_shared() {
        use DefaultLease::{Longest, Usual};
        for (lease, longest, default, expected) in [
            (None, None, Usual, Some((10, 10, false))),
            (None, None, Longest, Some((10, 10, false))),
            (None, Some(60), Usual, Some((10, 60, false))),
            (None, Some(60), Longest, Some((60, 60, false))),
            (None, Some(5), Usual, Some((5, 5, false))),
            (None, Some(5), Longest, Some((5, 5, false))),
            (Some(7), None, Usual, Some((7, 10, false))),
            (Some(60), None, Usual, Some((60, 60, true))),
            (Some(60), None, Longest, Some((60, 60, true))),
            (Some(60), Some(60), Usual, Some((60, 60, false))),
            (Some(7), Some(60), Longest, Some((7, 60, false))),
            (Some(61), Some(60), Usual, None),
            (Some(61), Some(60), Longest, None),
            (Some(0), None, Usual, None),
            (None, Some(0), Usual, None),
            (None, Some(40 * 86_400), Usual, None),
        ] {
            let found = leases(lease, longest, default);
            assert_eq!(found, expected, "{lease:?} {longest:?} {default:?}");
        }
    }
}
