//! Fencing on the side of the resource: rejecting writes that come too late.
//!
//! A holder that was paused, or whose request was delayed, can reach the resource when another
//! client already holds the lock. The resource recognises it by the fencing token that goes with
//! each write: tokens rise with each acquisition, so a token that is lower than an earlier one
//! belongs to an earlier holder.
//!
//! This module needs no client, no server and no features: a resource that never acquires a lock
//! itself uses it with `default-features = false`.
//!
//! | where the data is | what to use |
//! |---|---|
//! | in this process | [`Fenced`] around it, in a mutex where threads share it |
//! | in this process, written by one thread or task that does nothing in between | [`FencingGuard`], or [`check`] |
//! | in a database | the token in the row: `UPDATE … SET …, token = ? WHERE id = ? AND token <= ?` |
//! | in a file, or behind a service | the token beside the data, compared under whatever makes the write atomic: see `examples/fencing_*.rs` |
//!
//! **Check and write must be one step.** Between a check that passed and the write after it,
//! another holder can arrive, be checked and write; then the first holder's write is the late one,
//! and no check follows. If the two cannot be one step, a check still rejects most late writes, but
//! guarantees nothing.
//!
//! The highest token must live as long as the data. A guard that starts at 0 with its process
//! accepts any first token: keep the token with the data, and start from it
//! ([`Fenced::with_highest`], [`FencingGuard::with_highest`]).
//!
//! A holder without a token ([`Request::without_record`](super::AcquireRequest::without_record), or
//! fencing switched off) cannot be distinguished from an older one: a resource that checks tokens
//! rejects such writes.

use core::fmt;
#[cfg(target_has_atomic = "64")]
use core::sync::atomic::{AtomicU64, Ordering};

/// A write was refused: its token is older than one that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleToken {
    /// The token that came with the write.
    pub token: u64,
    /// The highest that was seen.
    pub highest: u64,
}

impl fmt::Display for StaleToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fencing token {} is stale: a later holder has been here with {}",
            self.token, self.highest
        )
    }
}

impl core::error::Error for StaleToken {}

/// Compares a token with the highest token so far, for callers that keep the highest token
/// themselves.
///
/// Equal tokens pass: one holder writes many times.
///
/// # Errors
/// The token is lower.
pub const fn check(token: u64, highest: u64) -> Result<(), StaleToken> {
    if token < highest {
        return Err(StaleToken { token, highest });
    }
    Ok(())
}

/// A value that only the latest holder may write.
///
/// Check and write are one step: [`access`](Self::access) borrows the value for as long as the
/// writer writes, and no other token is checked meanwhile. Threads share it in a mutex:
///
/// ```
/// use memlatch::fencing::Fenced;
/// use std::sync::Mutex;
///
/// let balance = Mutex::new(Fenced::new(100));
///
/// *balance.lock().expect("not poisoned").access(33)? += 10;
/// // Another holder comes, with a higher token …
/// *balance.lock().expect("not poisoned").access(34)? = 0;
/// // … and the first one, which was paused, is rejected.
/// assert!(balance.lock().expect("not poisoned").access(33).is_err());
/// # Ok::<(), memlatch::fencing::StaleToken>(())
/// ```
///
/// With an async mutex the guard may be held over an `await`; then the next holder waits until the
/// previous holder's write is complete, and their writes do not mix.
#[derive(Debug, Clone, Default)]
pub struct Fenced<T> {
    highest: u64,
    value: T,
}

impl<T> Fenced<T> {
    /// A value that was not yet written with a token.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self::with_highest(value, 0)
    }

    /// A value that was last written with this token.
    #[must_use]
    pub const fn with_highest(value: T, highest: u64) -> Self {
        Self { highest, value }
    }

    /// Lends the value to the holder with this token, and rejects any lower token from now on,
    /// whether or not anything is written.
    ///
    /// # Errors
    /// A higher token was used before.
    pub const fn access(&mut self, token: u64) -> Result<&mut T, StaleToken> {
        match check(token, self.highest) {
            Ok(()) => {
                self.highest = token;
                Ok(&mut self.value)
            }
            Err(stale) => Err(stale),
        }
    }

    /// The value, to be read: that takes no token.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// The highest token seen, 0 when there was none. To be kept with the value.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// The value, and the highest token seen.
    #[must_use]
    pub fn into_parts(self) -> (T, u64) {
        (self.value, self.highest)
    }
}

/// Remembers the highest token seen, and refuses lower ones. May be shared between threads.
///
/// It guards nothing by itself: what follows a check that has passed is another step. It is
/// enough where one thread, or one task without an `await` in between, checks and writes; in front
/// of something that checks once more, to refuse most late writes early; and inside a lock that is
/// held over the write. In other cases use [`Fenced`].
///
/// ```
/// use memlatch::fencing::{FencingGuard, StaleToken};
///
/// let guard = FencingGuard::new();
/// guard.check(33)?;
/// guard.check(34)?;
/// guard.check(34)?;
/// assert_eq!(guard.check(33), Err(StaleToken { token: 33, highest: 34 }));
/// # Ok::<(), StaleToken>(())
/// ```
#[cfg(target_has_atomic = "64")]
#[derive(Debug, Default)]
pub struct FencingGuard {
    highest: AtomicU64,
}

#[cfg(target_has_atomic = "64")]
impl FencingGuard {
    /// A guard that has seen no token: any passes first.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_highest(0)
    }

    /// A guard that has seen this one.
    #[must_use]
    pub const fn with_highest(highest: u64) -> Self {
        Self {
            highest: AtomicU64::new(highest),
        }
    }

    /// Takes in the token of a write that is about to be made. Equal tokens pass: one holder
    /// writes many times.
    ///
    /// # Errors
    /// A higher one was seen before.
    pub fn check(&self, token: u64) -> Result<(), StaleToken> {
        // One atomic number changes in one order that all threads agree on, and this reads the
        // last value in it: so once it has returned for a token, no lower one passes, on whatever
        // thread. Any ordering gives that. This one also keeps what follows a check behind it,
        // and shows it all that was done in front of the checks before. What others do behind
        // theirs it cannot order, which is why it guards nothing by itself.
        let highest = self.highest.fetch_max(token, Ordering::AcqRel);
        check(token, highest)
    }

    /// The highest token seen, 0 when there was none. To be kept with the data.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    const STALE: StaleToken = StaleToken {
        token: 33,
        highest: 34,
    };

    #[test]
    fn token_passes_until_higher_one() {
        assert_eq!(check(0, 0), Ok(()));
        assert_eq!(check(34, 34), Ok(()));
        assert_eq!(check(u64::MAX, u64::MAX - 1), Ok(()));
        assert_eq!(check(33, 34), Err(STALE));

        let guard = FencingGuard::new();
        for token in [1, 33, 33, 34] {
            assert_eq!(guard.check(token), Ok(()));
            assert_eq!(guard.highest(), token);
        }
        assert_eq!(guard.check(33), Err(STALE));
        // A refused one leaves no trace.
        assert_eq!(guard.highest(), 34);
        assert_eq!(FencingGuard::with_highest(34).check(33), Err(STALE));
    }

    #[test]
    fn only_latest_holder_writes_fenced_value() {
        let mut value = Fenced::new(Vec::new());
        for (token, passes) in [(33, true), (34, true), (33, false), (34, true)] {
            match value.access(token) {
                Ok(written) => written.push(token),
                Err(stale) => assert_eq!(stale, STALE),
            }
            assert_eq!(value.get().last() == Some(&token), passes, "{token}");
        }
        assert_eq!(value.highest(), 34);
        let (written, highest) = value.into_parts();
        assert_eq!(written, [33, 34, 34]);
        // As kept over a restart of the resource.
        let mut value = Fenced::with_highest(written, highest);
        assert_eq!(value.access(33).err(), Some(STALE));
        // A token that was accepted counts, even if nothing was written.
        assert!(value.access(35).is_ok());
        assert!(value.access(34).is_err());
    }

    #[test]
    fn stale_token_error_names_both() {
        assert_eq!(
            format!("{STALE}"),
            "fencing token 33 is stale: a later holder has been here with 34"
        );
    }
}
