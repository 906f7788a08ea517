//! Spans of time in which a process did not run.

use super::event::Instant;

/// Spans without gaps or overlaps between them, and how long they are up to each.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    spans: Vec<(Instant, Instant)>,
    /// The length of all spans before.
    before: Vec<u64>,
}

impl Spans {
    /// Merges spans that may overlap and come in any order.
    pub fn new(mut spans: Vec<(Instant, Instant)>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<(Instant, Instant)> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        let mut sum = 0;
        let before = merged.iter().map(|(from, to)| {
            let before = sum;
            sum += to - from;
            before
        });
        Self {
            before: before.collect(),
            spans: merged,
        }
    }

    /// The part of the time up to this instant that they cover.
    fn covered(&self, until: Instant) -> u64 {
        let begun = self.spans.partition_point(|(from, _)| *from < until);
        match begun.checked_sub(1) {
            None => 0,
            Some(last) => {
                let (from, to) = self.spans[last];
                self.before[last] + until.min(to) - from
            }
        }
    }

    /// The part of the time between two instants that they leave.
    pub fn left(&self, from: Instant, to: Instant) -> u64 {
        let covered = self.covered(to).saturating_sub(self.covered(from));
        to.saturating_sub(from).saturating_sub(covered)
    }
}

#[test]
fn spans_reduce_the_rest() {
    let spans = Spans::new(vec![(50, 60), (10, 20), (15, 30)]);
    assert_eq!(spans.left(0, 100), 70);
    assert_eq!(spans.left(12, 14), 0);
    assert_eq!(spans.left(25, 55), 20);
    assert_eq!(spans.left(0, 10), 10);
    assert_eq!(spans.left(60, 61), 1);
    assert_eq!(spans.left(9, 8), 0);
    assert_eq!(Spans::default().left(3, 9), 6);
}
