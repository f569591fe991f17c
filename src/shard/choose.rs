//! Asking the policy, which is told what entries weigh where that is the bound.

use super::Shard;
use crate::parts::eviction::{Admission, Bulk, Policy, SlotId};
use crate::parts::group::Hash;
use crate::parts::weights::{Weighed, Weights};

impl<K, V> Shard<K, V> {
    /// A newcomer of so many units is about to be stored.
    #[inline]
    pub(super) fn arrive(&mut self, hash: Hash, units: u64) -> Admission {
        let mean = self.mean();
        let Some(weights) = self.aside.weights() else {
            return self.policy.arrive(&mut self.table, hash.bits(), Bulk::AVERAGE);
        };
        let slots = &mut Weighed { slots: &mut self.table, weights, mean };
        self.policy.arrive(slots, hash.bits(), Bulk::of(units, mean))
    }

    /// It has been given a slot that was free.
    #[inline]
    pub(super) fn place(&mut self, id: SlotId, admission: Admission) {
        self.policy.place(&mut self.table, id, admission);
    }

    /// It has been given a dead slot.
    pub(super) fn revive(&mut self, id: SlotId, admission: Admission) {
        self.policy.revive(&mut self.table, id, admission);
    }

    /// Who goes.
    #[inline]
    pub(super) fn choose(&mut self) -> Option<SlotId> {
        let mean = self.mean();
        let Some(weights) = self.aside.weights() else {
            return self.policy.evict(&mut self.table);
        };
        self.policy.evict(&mut Weighed { slots: &mut self.table, weights, mean })
    }

    /// Whether it has clearly less than falls to it of a bound on weight.
    #[inline]
    pub(super) fn falls_short(&self) -> bool {
        self.aside.weights().is_some_and(Weights::fall_short)
    }

    /// Whether it has more than falls to it, as far as that is known.
    pub(crate) fn exceeds_its_share(&self) -> bool {
        self.aside.weights().is_none_or(Weights::exceed)
    }

    /// What an entry weighs in the mean.
    fn mean(&self) -> u64 {
        self.aside.weights().map_or(1, Weights::sum) / (self.table.live() as u64).max(1)
    }
}
