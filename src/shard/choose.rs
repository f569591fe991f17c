//! Asking the policy, with the weights of entries if the bound is on weight.

use super::Shard;
use crate::parts::eviction::{Admission, Bulk, Policy, SlotId, Slots};
use crate::parts::group::Hash;
use crate::parts::table::Table;
use crate::parts::weights::Weights;

impl<K, V> Shard<K, V> {
    /// Announces a newcomer of so many units.
    #[inline]
    pub(super) fn arrive(&mut self, hash: Hash, units: u64) -> Admission {
        let bulk = self.bulk(units);
        match self.aside.weights() {
            None => self.policy.arrive(&mut self.table, hash.bits(), bulk),
            Some(weights) => {
                let slots = &mut Weighed { slots: &mut self.table, weights };
                self.policy.arrive(slots, hash.bits(), bulk)
            }
        }
    }

    /// The newcomer has been given a dead slot.
    pub(super) fn revive(&mut self, id: SlotId, admission: Admission, units: u64) {
        let bulk = self.bulk(units);
        self.policy.revive(&mut self.table, id, admission, bulk);
    }

    /// Chooses the entry to evict.
    #[inline]
    pub(super) fn choose(&mut self) -> Option<SlotId> {
        match self.aside.weights() {
            None => self.policy.evict(&mut self.table),
            Some(weights) => self.policy.evict(&mut Weighed { slots: &mut self.table, weights }),
        }
    }

    fn bulk(&self, units: u64) -> Bulk {
        let weights = self.aside.weights();
        weights.map_or(Bulk::AVERAGE, |weights| weights.bulk(units, self.table.live()))
    }

    /// Whether the shard has clearly less than its share of a bound on weight.
    #[inline]
    pub(super) fn falls_short(&self) -> bool {
        self.aside.weights().is_some_and(Weights::are_short)
    }

    /// Whether the shard has more than its share. Also true if a unit is an entry: then any shard may lose
    /// one.
    pub(crate) fn exceeds_its_share(&self) -> bool {
        self.aside.weights().is_none_or(Weights::are_above_share)
    }
}

/// A table that tells its policy the weights of its entries.
struct Weighed<'a, T> {
    slots: &'a mut Table<T>,
    weights: &'a Weights,
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
