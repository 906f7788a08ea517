//! Several locks that are taken together: in which order, how many, and when to start over.

use super::acquire::LockOptions;
use super::error::{Cause, LockError};
use super::lock_state::ReleaseOutcome;
use crate::proto::{Instant, LossReason, WaitPolicy};
use core::fmt;
use core::time::Duration;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// The most locks that are taken together. They are acquired one behind the other, a round trip
/// each at least; who needs more wants a lock for all of them.
pub(crate) const MAX_NAMES: usize = 64;

/// What a release of several locks found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lock that was lost before its release may have been held by two"]
pub enum MultiReleaseOutcome {
    /// All were ours to the end and are free now.
    Released,
    /// Some had been lost before; the others are free now.
    AlreadyLost {
        /// Their names, and how they were lost; in the order in which they were taken.
        lost: Vec<(String, LossReason)>,
    },
}

/// Why these locks cannot be taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MultiLockError {
    Empty,
    TooMany,
    /// One of them is named twice.
    Twice,
}

impl fmt::Display for MultiLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "no lock is named of those to be taken together; name 1 to {MAX_NAMES}"
            ),
            Self::TooMany => write!(
                f,
                "too many locks are named to be taken together; at most {MAX_NAMES} are allowed"
            ),
            Self::Twice => f.write_str(
                "named twice among the locks to be taken together; name it once, because a lock \
                 that is held already would be waited for",
            ),
        }
    }
}

/// Takes names from a list, no more than it takes to see that they are too many.
pub(crate) fn names<I>(names: I) -> impl Iterator<Item = String>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    names
        .into_iter()
        .take(MAX_NAMES + 1)
        .map(|name| name.as_ref().into())
}

/// Puts locks into the order in which they are taken: that of the bytes of their keys, which is
/// the same for every client, whatever order the names were given in. So no two who take several
/// wait for each other in a circle: who waits for a key holds lower ones only.
pub(crate) fn sort_by_key<T>(locks: &mut [T], wish: impl Fn(&T) -> &LockOptions) {
    // Names that cannot be used come first; whoever takes the locks finds them before the others.
    locks.sort_by(|a, b| key(wish(a)).cmp(&key(wish(b))));
}

fn key(wish: &LockOptions) -> Option<&[u8]> {
    let keys = wish.keys.as_ref().ok()?;
    Some(keys.lock().as_bytes())
}

/// Checks that locks, which are in order, can be taken together.
pub(crate) fn check<T>(locks: &[T], wish: impl Fn(&T) -> &LockOptions) -> Result<(), LockError> {
    let error = |error| LockError::new(Cause::Set(error));
    if locks.is_empty() {
        return Err(error(MultiLockError::Empty));
    }
    if locks.len() > MAX_NAMES {
        return Err(error(MultiLockError::TooMany));
    }
    for two in locks.windows(2) {
        let (first, second) = (wish(&two[0]), wish(&two[1]));
        if key(first).is_some() && key(first) == key(second) {
            return Err(error(MultiLockError::Twice).about(&second.name));
        }
    }
    Ok(())
}

/// Between the loss of a lock that was taken already and the next start: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(640));

/// The starts of an acquisition of several locks.
#[derive(Debug)]
pub(crate) struct RestartBackoff {
    patience: WaitPolicy,
    failed: u32,
}

impl RestartBackoff {
    pub(crate) const fn new(patience: WaitPolicy) -> Self {
        Self {
            patience,
            failed: 0,
        }
    }

    /// One was lost while the others were acquired. When to start over, if there is time.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let (shortest, longest) = PAUSES;
        let pause = shortest.saturating_mul(2u32.saturating_pow(self.failed));
        self.failed += 1;
        let at = now.after(pause.min(longest));
        match self.patience {
            WaitPolicy::Try => None,
            WaitPolicy::Until(end) => Some(at).filter(|at| *at < end),
            WaitPolicy::Forever => Some(at),
        }
    }
}

/// What came of the releases of several locks, in the order in which they were taken: the first
/// error, or what they found.
pub(crate) fn outcome(
    released: impl IntoIterator<Item = (Arc<str>, Result<ReleaseOutcome, LockError>)>,
) -> Result<MultiReleaseOutcome, LockError> {
    let mut lost = Vec::new();
    for (name, outcome) in released {
        match outcome? {
            ReleaseOutcome::Released => {}
            ReleaseOutcome::AlreadyLost { reason } => lost.push((String::from(&*name), reason)),
        }
    }
    Ok(match lost.is_empty() {
        true => MultiReleaseOutcome::Released,
        false => MultiReleaseOutcome::AlreadyLost { lost },
    })
}

/// Whether an acquisition that ended with this error leaves a server that answers.
pub(crate) fn server_responded(error: &LockError) -> bool {
    !error.is_unavailable() && !error.is_unknown()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Namespace;
    use std::format;
    use std::string::ToString;

    fn in_order(given: &[&str]) -> Vec<LockOptions> {
        let namespace = Namespace::new("p:").expect("a plain prefix");
        let mut wishes: Vec<_> = names(given.iter().copied())
            .map(|name| LockOptions::new(&name, &namespace))
            .collect();
        sort_by_key(&mut wishes, |wish| wish);
        wishes
    }

    fn order(given: &[&str]) -> Vec<String> {
        let wishes = in_order(given);
        wishes.iter().map(|wish| wish.name.to_string()).collect()
    }

    fn wrong(given: &[&str]) -> Option<String> {
        let checked = check(&in_order(given), |wish| wish);
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn the_order_is_that_of_the_keys() {
        // What is escaped starts with `%` in the key.
        let expected = ["\u{fc}", "A", "a", "a/1", "b"];
        assert_eq!(order(&expected), expected);
        let mut backwards = expected;
        backwards.reverse();
        assert_eq!(order(&backwards), expected);
    }

    #[test]
    fn what_cannot_be_taken_together_is_told() {
        assert_eq!(wrong(&["a", "b"]), None);
        let text = wrong(&[]).expect("nothing is named");
        assert!(text.contains("1 to 64"), "{text}");
        let text = wrong(&["b", "a", "c", "b"]).expect("named twice");
        assert!(text.starts_with("lock `b`: named twice"), "{text}");
        let many: Vec<_> = (0..65).map(|number| format!("{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(wrong(&many[..64]), None);
        let text = wrong(&many).expect("too many");
        assert!(text.contains("at most 64"), "{text}");
        // What is wrong with a name is told by its own check.
        assert_eq!(wrong(&["", "", "a"]), None);
    }

    #[test]
    fn an_endless_list_is_not_read_to_its_end() {
        assert_eq!(names(core::iter::repeat("a")).count(), MAX_NAMES + 1);
    }

    #[test]
    fn it_starts_over_for_as_long_as_there_is_time() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert_eq!(RestartBackoff::new(WaitPolicy::Try).next(at(0)), None);
        let mut starts = RestartBackoff::new(WaitPolicy::Until(at(100)));
        assert_eq!(starts.next(at(0)), Some(at(10)));
        assert_eq!(starts.next(at(50)), Some(at(70)));
        assert_eq!(starts.next(at(70)), None);
        let mut starts = RestartBackoff::new(WaitPolicy::Forever);
        let last = (0..100).map(|_| starts.next(at(0))).last();
        assert_eq!(last, Some(Some(at(640))));
    }

    #[test]
    fn the_first_error_counts_and_every_loss_is_told() {
        let reason = LossReason::Missing;
        let lost = || Ok(ReleaseOutcome::AlreadyLost { reason });
        let released = || Ok(ReleaseOutcome::Released);
        let failed = || Err(LockError::new(Cause::Closed).about("c"));
        let all = |results: [Result<ReleaseOutcome, LockError>; 3]| {
            outcome(["a", "b", "c"].map(Arc::from).into_iter().zip(results))
        };
        let found = all([released(), released(), released()]);
        assert_eq!(found.expect("no error"), MultiReleaseOutcome::Released);
        let found = all([lost(), released(), lost()]).expect("no error");
        let names = [("a".into(), reason), ("c".into(), reason)];
        let lost_two = MultiReleaseOutcome::AlreadyLost { lost: names.into() };
        assert_eq!(found, lost_two);
        let error = all([lost(), released(), failed()]).expect_err("one failed");
        assert!(error.to_string().starts_with("lock `c`"), "{error}");
    }
}
