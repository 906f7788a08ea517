//! A histogram of durations in a fixed amount of memory.

use core::time::Duration;

/// Buckets for each doubling: what is read from them is off by 3 % at most.
const PARTS: usize = 32;

/// log2 of that.
const PART_BITS: u32 = PARTS.trailing_zeros();

/// Doublings: from a nanosecond to 18 minutes. What takes longer counts as that.
const DOUBLINGS: usize = 40;

/// Lengths of time, counted in buckets that grow with them.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; PARTS * DOUBLINGS],
            total: 0,
            longest: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, length: Duration) {
        self.counts[bucket(length)] += 1;
        self.total += 1;
        self.longest = self.longest.max(length);
    }

    /// Adds what another has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    pub(super) const fn longest(&self) -> Duration {
        self.longest
    }

    /// The length that this part of all, from 0 to 1, did not exceed.
    pub(super) fn percentile(&self, part: f64) -> Duration {
        let wanted = (part * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return end(index).min(self.longest);
            }
        }
        self.longest
    }

    /// The counts between each power of two and the next, from the first that has any to
    /// the last, with where they begin.
    pub(super) fn doublings(&self) -> Vec<(Duration, u64)> {
        let sums: Vec<u64> = self
            .counts
            .chunks(PARTS)
            .map(|chunk| chunk.iter().sum())
            .collect();
        let first = sums.iter().position(|sum| *sum > 0);
        let last = sums.iter().rposition(|sum| *sum > 0);
        let (Some(first), Some(last)) = (first, last) else {
            return Vec::new();
        };
        (first..=last)
            .map(|index| (start(index * PARTS), sums[index]))
            .collect()
    }
}

/// The bucket of a length. Below 32 ns each has its own; from there on the five bits after the
/// first one select it.
fn bucket(length: Duration) -> usize {
    let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let bits = (nanos | 1).ilog2();
    let index = match bits.checked_sub(PART_BITS) {
        None => nanos as usize,
        Some(shift) => {
            let part = (nanos >> shift) as usize - PARTS;
            (shift as usize + 1) * PARTS + part
        }
    };
    index.min(PARTS * DOUBLINGS - 1)
}

/// The start of a bucket.
fn start(index: usize) -> Duration {
    let (doubling, part) = (index / PARTS, (index % PARTS) as u64);
    Duration::from_nanos(match doubling.checked_sub(1) {
        None => part,
        Some(shift) => (PARTS as u64 + part) << shift,
    })
}

/// The last length that belongs to it.
fn end(index: usize) -> Duration {
    start(index + 1).saturating_sub(Duration::from_nanos(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_falls_into_its_bucket() {
        let mut last = 0;
        for exponent in 0..40 {
            for offset in [-1i64, 0, 1, 77] {
                let nanos = ((1i64 << exponent) + offset).max(0) as u64;
                let length = Duration::from_nanos(nanos);
                let index = bucket(length);
                if index == PARTS * DOUBLINGS - 1 {
                    continue;
                }
                assert!(start(index) <= length && length <= end(index), "{nanos}");
                // Not off by more than a part of a doubling.
                let width = end(index) - start(index);
                assert!(
                    width.as_nanos() * PARTS as u128 <= length.as_nanos(),
                    "{nanos}"
                );
                last = last.max(index);
            }
        }
        assert!(last > 1000);
        assert_eq!(bucket(Duration::MAX), PARTS * DOUBLINGS - 1);
    }

    #[test]
    fn percentile_bounds_its_share() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(0.5), Duration::ZERO);
        assert_eq!(histogram.doublings(), []);
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        assert_eq!(histogram.total(), 1000);
        for (part, micros) in [(0.5, 500), (0.9, 900), (0.99, 990), (0.999, 999)] {
            let exact = Duration::from_micros(micros);
            let found = histogram.percentile(part);
            assert!(found >= exact && found < exact + exact / 30, "{found:?}");
        }
        assert_eq!(histogram.percentile(1.0), Duration::from_micros(1000));
        assert_eq!(histogram.longest(), Duration::from_micros(1000));
        let mut both = histogram.clone();
        both.merge(&histogram);
        assert_eq!(both.total(), 2000);
        assert_eq!(both.percentile(0.9), histogram.percentile(0.9));
        let doublings = histogram.doublings();
        assert_eq!(doublings.iter().map(|(_, sum)| sum).sum::<u64>(), 1000);
        assert!(doublings.windows(2).all(|pair| pair[0].0 * 2 == pair[1].0));
    }

    #[test]
    fn thousandfold_count_needs_no_more_memory() {
        let mut histogram = Histogram::new();
        let room = histogram.counts.len();
        for nanos in 0..100_000 {
            histogram.add(Duration::from_nanos(nanos * nanos));
        }
        assert_eq!((histogram.counts.len(), histogram.total()), (room, 100_000));
    }
}
