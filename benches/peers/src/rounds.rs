//! Rounds: every variant once, in another order each time.

use crate::Result;

/// A generator for shuffling, by a seed that is printed: the same seed gives the same orders.
#[derive(Debug)]
pub struct Shuffler(u64);

impl Shuffler {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The value below which so much of a sorted series lies.
///
/// # Errors
/// The series is empty.
pub fn quantile(sorted: &[u64], part: f64) -> Result<u64> {
    let last = sorted.len().checked_sub(1).ok_or("nothing was measured")?;
    Ok(sorted[(last as f64 * part).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffle_is_complete_and_seeded() {
        let order = |seed| {
            let mut order: Vec<usize> = (0..20).collect();
            Shuffler::new(seed).shuffle(&mut order);
            order
        };
        assert_eq!(order(5), order(5));
        assert_ne!(order(5), order(6));
        let mut sorted = order(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
