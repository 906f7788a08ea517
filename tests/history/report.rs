//! The findings of a check of a history.

use super::violation::Violation;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Report {
    /// Acquisitions that came to a holding.
    pub holdings: u64,
    /// Grants whose guard was not valid any more when the acquisition returned.
    pub late: u64,
    /// Acquisitions that came to none, by their outcome.
    pub refusals: BTreeMap<String, u64>,
    pub losses: BTreeMap<&'static str, u64>,
    pub releases: BTreeMap<String, u64>,
    /// Holdings that began while another was valid.
    pub overlaps: u64,
    /// Overlaps in which a resource that checks the token refuses one of the two.
    pub caught: u64,
    /// Writes that such a resource refused.
    pub refused_writes: u64,
    /// Holdings with a lower token than one that was over before they began.
    pub fallen: u64,
    /// Releases that said that the lock had been held to the end, and another had it in between.
    pub claimed: u64,
    /// The longest time by which a loss was reported after its deadline, and by which an
    /// acquisition returned behind its limit, while the process ran.
    pub latest_loss: u64,
    pub latest_return: u64,
    pub violations: Vec<Violation>,
}

impl Report {
    /// Takes in what was found in another part of the history.
    pub fn add(&mut self, other: Self) {
        fn sum<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (what, count) in from {
                *into.entry(what).or_default() += count;
            }
        }
        self.holdings += other.holdings;
        self.late += other.late;
        sum(&mut self.refusals, other.refusals);
        sum(&mut self.losses, other.losses);
        sum(&mut self.releases, other.releases);
        self.overlaps += other.overlaps;
        self.caught += other.caught;
        self.refused_writes += other.refused_writes;
        self.fallen += other.fallen;
        self.claimed += other.claimed;
        self.latest_loss = self.latest_loss.max(other.latest_loss);
        self.latest_return = self.latest_return.max(other.latest_return);
        self.violations.extend(other.violations);
    }
}
