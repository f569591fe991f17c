//! The weights of a shard's entries, if there is a weigher.

use super::eviction::{Bulk, SlotId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How much less than its share a shard may have (this is the divisor of the share) before the room for its
/// newcomers is taken from other shards. A fourth or a sixteenth give the same hit ratios; the smaller the
/// part, the more newcomers have to ask other shards.
const SLACK: u64 = 8;

/// A shard's share of a bound on weight. Entries heavier than an eighth of an equal part are not balanced:
/// they stay where they are for as long as they are hit, and only what they leave is shared.
#[derive(Clone, Debug)]
pub(crate) struct WeightPart {
    max: u64,
    shards: u64,
    /// The weight of those entries, in all shards together.
    heavy: Arc<AtomicU64>,
}

impl WeightPart {
    pub(crate) fn of(max: u64, shards: usize) -> Self {
        Self { max, shards: shards as u64, heavy: Arc::default() }
    }

    fn is_heavy(&self, weight: u64) -> bool {
        weight > self.max / self.shards / SLACK
    }

    fn share(&self) -> u64 {
        self.max.saturating_sub(self.heavy.load(Relaxed)) / self.shards
    }
}

/// The weight of each slot's entry, 0 for none, and the sum.
pub(crate) struct Weights {
    of: Vec<u64>,
    sum: u64,
    /// The same without the heavy ones.
    light: u64,
    part: WeightPart,
}

impl Weights {
    pub(crate) fn new(slots: usize, part: WeightPart) -> Self {
        Self { of: vec![0; slots], sum: 0, light: 0, part }
    }

    /// Empty weights of so many slots, for the same part.
    pub(crate) fn sized(&self, slots: usize) -> Self {
        Self::new(slots, self.part.clone())
    }

    #[inline]
    pub(crate) fn of(&self, id: SlotId) -> u64 {
        self.of[id as usize]
    }

    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// A weight relative to the mean of so many entries.
    pub(crate) fn bulk(&self, weight: u64, entries: usize) -> Bulk {
        // in eighths: the mean of small weights is no whole number
        let mean = self.sum.saturating_mul(8) / (entries as u64).max(1);
        Bulk::of(weight, mean)
    }

    /// Whether the shard has clearly less than its share.
    pub(crate) fn are_short(&self) -> bool {
        let share = self.part.share();
        // a single shard has no other to take from
        self.part.shards > 1 && self.light < share - share / SLACK
    }

    /// Whether the shard has more than its share.
    pub(crate) fn are_above_share(&self) -> bool {
        self.light > self.part.share()
    }

    #[inline]
    pub(crate) fn set(&mut self, id: SlotId, weight: u64) {
        let old = std::mem::replace(&mut self.of[id as usize], weight);
        self.sum = self.sum - old + weight;
        if self.part.is_heavy(old) {
            self.part.heavy.fetch_sub(old, Relaxed);
        } else {
            self.light -= old;
        }
        if self.part.is_heavy(weight) {
            self.part.heavy.fetch_add(weight, Relaxed);
        } else {
            self.light += weight;
        }
    }
}

/// Entries that have moved to a larger table are counted by its weights.
impl Drop for Weights {
    fn drop(&mut self) {
        self.part.heavy.fetch_sub(self.sum - self.light, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(all: &[u64]) -> Weights {
        let mut weights = Weights::new(all.len(), WeightPart::of(6_400, 8));
        (0..).zip(all).for_each(|(id, weight)| weights.set(id, *weight));
        weights
    }

    #[test]
    fn bulk_is_told_beside_a_mean_that_is_no_whole_number() {
        let some = weights(&[1, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((some.sum(), some.bulk(2, 10)), (19, Bulk::AVERAGE));
        assert_eq!(some.bulk(4, 10), some.bulk(u64::MAX, 10));
        assert_eq!(some.bulk(0, 10), weights(&[u64::MAX, 0]).bulk(0, 2));
        // nothing divides by nothing
        assert_eq!(weights(&[0, 0]).bulk(9, 2), weights(&[]).bulk(9, 0));
    }

    #[test]
    fn a_shard_is_short_that_has_an_eighth_less_than_falls_to_it() {
        let with = |last| weights(&[100, 100, 100, 100, 100, 100, last]);
        assert!(with(99).are_short() && !with(100).are_short());
        let mut above = weights(&[100; 9]);
        assert!(above.are_above_share());
        above.set(0, 0);
        assert!(!above.are_above_share());
        assert!(!Weights::new(0, WeightPart::of(6_400, 1)).are_short());
    }

    #[test]
    fn what_heavy_entries_leave_is_shared() {
        let mut one = weights(&[3_200, 90, 90, 90, 90]);
        let part = one.part.clone();
        let other = Weights::new(8, part.clone());
        assert_eq!((one.light, part.share()), (360, 400));
        assert!(!one.are_short() && !one.are_above_share() && other.are_short());
        drop(one.sized(8));
        one.set(0, 0);
        assert_eq!((one.light, one.sum(), part.share()), (360, 360, 800));
        one.set(0, 800);
        drop(one);
        assert_eq!(part.share(), 800);
    }
}
