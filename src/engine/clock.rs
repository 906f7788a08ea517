//! The clock of the leases, and the source of nonces.

use crate::proto::{Instant, Nonce, Now};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the present instant and second.
pub(crate) fn now() -> Now {
    Now {
        monotonic: monotonic(),
        unix_seconds: unix_seconds(),
    }
}

/// Returns the second of the wall clock, a timer tick late at most.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn unix_seconds() -> u64 {
    // Every flight reads it, and whole seconds suffice: the coarse clock does not read the
    // hardware.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    u64::try_from(time.tv_sec).unwrap_or(0)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns the present instant, on a clock that goes on while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn monotonic() -> Instant {
    // `std::time::Instant` stands still during suspend on Linux (rust-lang/rust#87906): a lease
    // measured with it would still look valid on a machine that slept through its end.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds * 1_000_000_000 + nanos)
}

/// Returns the present instant: the later of the times that have passed by the monotonic and the
/// wall clock, so that a suspend which the first does not count still ends leases. A wall clock
/// that is set forward ends them too early, which is the safe side.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn moment() -> Instant {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<(Instant, SystemTime)> = OnceLock::new();
    static LAST: AtomicU64 = AtomicU64::new(0);
    let (instant, wall) = START.get_or_init(|| (Instant::now(), SystemTime::now()));
    let walled = wall.elapsed().unwrap_or_default();
    let passed = instant.elapsed().max(walled).as_nanos();
    let passed = u64::try_from(passed).unwrap_or(u64::MAX);
    Instant::from_nanos(LAST.fetch_max(passed, Ordering::AcqRel).max(passed))
}

/// Nonces of one client: 128 random bits, counted up, and the nanosecond at which each was drawn.
///
/// The nanosecond distinguishes the nonces of two copies of a virtual machine that were resumed
/// from the same state: they count the same, and go on at different instants. A forked process
/// draws none (`engine/process.rs`).
pub(crate) struct Nonces {
    base: u128,
    drawn: AtomicU64,
}

/// Hides the bits, as the drawn nonces do.
impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl Nonces {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self {
            base: u128::from_be_bytes(bytes),
            drawn: AtomicU64::new(0),
        })
    }

    /// Returns a nonce with room after it for 2^32 attempts of one operation, drawn at `now`.
    pub(crate) fn draw(&self, now: Instant) -> Nonce {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        // The instant is put into the upper 32 bits, as far as it fits there.
        let drawn = u128::from(drawn) << 32 ^ u128::from(now.as_nanos()) << 96;
        Nonce::from_random(self.base.wrapping_add(drawn).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::CasOwner;
    use std::collections::{BTreeSet, HashSet};
    use std::format;

    #[test]
    fn monotonic_clock_advances() {
        let before = monotonic();
        std::thread::sleep(core::time::Duration::from_millis(5));
        assert!(monotonic().since(before) >= core::time::Duration::from_millis(5));
    }

    #[test]
    fn nonces_differ_between_all_draws() {
        let clients = [
            Nonces::new().expect("random"),
            Nonces::new().expect("random"),
        ];
        let drawn: BTreeSet<_> = clients
            .iter()
            .flat_map(|nonces| (0..100).map(|_| format!("{:x}", nonces.draw(monotonic()))))
            .collect();
        assert_eq!(drawn.len(), 200);
    }

    /// Two copies of a virtual machine count on from the same state.
    #[test]
    fn copied_client_draws_other_nonces() {
        let original = Nonces::new().expect("random");
        let copy = Nonces {
            base: original.base,
            drawn: AtomicU64::new(0),
        };
        for number in 0..100 {
            let now = Instant::from_nanos(7_000_000_000 + number * 1_000_000);
            let later = now.after(core::time::Duration::from_nanos(1));
            let (one, other) = (original.draw(now), copy.draw(later));
            assert_ne!(one, other);
            assert_ne!(CasOwner::new(one), CasOwner::new(other));
        }
    }

    /// Two nonces of one client differ even if they were drawn at the same instant.
    #[test]
    fn recordless_tokens_of_a_client_differ() {
        let nonces = Nonces::new().expect("random");
        let now = monotonic();
        let tokens: HashSet<_> = (0..1000).map(|_| CasOwner::new(nonces.draw(now))).collect();
        assert_eq!(tokens.len(), 1000);
    }
}
