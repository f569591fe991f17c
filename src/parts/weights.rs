//! What the entries of a shard weigh, where a weigher says so.

use super::eviction::{Bulk, SlotId, Slots};
use super::table::Table;

/// How much a shard may have less than falls to it, as a part of that, before the room for its newcomers
/// is taken from others. A fourth or a sixteenth give the same hit ratios; the less, the more newcomers
/// have to ask others.
const SLACK: u64 = 8;

/// The weight of each slot's entry, 0 for none, and of all.
pub(crate) struct Weights {
    of: Vec<u64>,
    sum: u64,
    /// What falls to this shard of the cache's bound.
    share: u64,
}

impl Weights {
    pub(crate) fn new(slots: usize, share: u64) -> Self {
        Self { of: vec![0; slots], sum: 0, share }
    }

    /// None of so many slots, for the same share.
    pub(crate) fn sized(&self, slots: usize) -> Self {
        Self::new(slots, self.share)
    }

    #[inline]
    pub(crate) fn of(&self, id: SlotId) -> u64 {
        self.of[id as usize]
    }

    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// What a weight is beside the mean of so many entries.
    pub(crate) fn bulk(&self, weight: u64, entries: usize) -> Bulk {
        // in eighths: the mean of small weights is no whole number
        let mean = self.sum.saturating_mul(8) / (entries as u64).max(1);
        Bulk::of(weight, mean)
    }

    /// Whether the shard has clearly less than falls to it.
    pub(crate) fn are_short(&self) -> bool {
        self.sum < self.share - self.share / SLACK
    }

    /// Whether it has more.
    pub(crate) fn are_above_share(&self) -> bool {
        self.sum > self.share
    }

    #[inline]
    pub(crate) fn set(&mut self, id: SlotId, weight: u64) {
        let old = std::mem::replace(&mut self.of[id as usize], weight);
        self.sum = self.sum - old + weight;
    }
}

/// A table whose policy is told what its entries weigh.
pub(crate) struct Weighed<'a, T> {
    pub(crate) slots: &'a mut Table<T>,
    pub(crate) weights: &'a Weights,
}

impl<T> Slots for Weighed<'_, T> {
    fn is_live(&self, id: SlotId) -> bool {
        self.slots.is_live(id)
    }

    fn free(&mut self, id: SlotId) {
        self.slots.free(id);
    }

    fn heat(&self, id: SlotId) -> u8 {
        self.slots.heat(id)
    }

    fn set_heat(&mut self, id: SlotId, heat: u8) {
        self.slots.set_heat(id, heat);
    }

    fn seen(&self, id: SlotId) -> u8 {
        self.slots.seen(id)
    }

    fn set_seen(&mut self, id: SlotId, seen: u8) {
        self.slots.set_seen(id, seen);
    }

    fn in_main(&self, id: SlotId) -> bool {
        self.slots.in_main(id)
    }

    fn set_in_main(&mut self, id: SlotId, main: bool) {
        self.slots.set_in_main(id, main);
    }

    fn live_heat(&self, id: SlotId) -> Option<u8> {
        self.slots.live_heat(id)
    }

    fn stand(&mut self, id: SlotId, main: bool, heat: u8, seen: u8) {
        self.slots.stand(id, main, heat, seen);
    }

    fn bulk(&self, id: SlotId) -> Bulk {
        self.weights.bulk(self.weights.of(id), self.slots.live())
    }

    fn hash(&self, id: SlotId) -> u32 {
        self.slots.hash(id)
    }

    fn prefetch(&self, id: SlotId) {
        self.slots.prefetch(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(all: &[u64]) -> Weights {
        let mut weights = Weights::new(all.len(), 800);
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
        let with = |sum| weights(&[sum, 0]);
        assert!(with(699).are_short() && !with(700).are_short());
        assert!(with(801).are_above_share() && !with(800).are_above_share());
        let alone = Weights::new(0, 0);
        assert!(!alone.are_short());
    }
}
