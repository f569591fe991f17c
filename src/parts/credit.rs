//! Room on its way from evicted entries to a new one.

use super::budget::Budget;

/// Units taken from the budget, or set free by an eviction, for an entry that is not stored yet. Its drop
/// gives back what is left of them.
pub(crate) struct Credit<'b> {
    budget: &'b Budget,
    units: u64,
    may_take_own: bool,
}

impl<'b> Credit<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { budget, units: 0, may_take_own: false }
    }

    /// The same for an insert that has asked other shards: now it may take from its own, however little that
    /// has.
    pub(crate) fn at_last(budget: &'b Budget) -> Self {
        Self { may_take_own: true, ..Self::new(budget) }
    }

    /// Whether it may take from its own shard though that has less than its share.
    pub(crate) fn may_take_own(&self) -> bool {
        self.may_take_own
    }

    pub(crate) fn add(&mut self, units: u64) {
        self.units += units;
    }

    /// Whether `units` could be paid now. Takes nothing.
    pub(crate) fn could_cover(&self, units: u64) -> bool {
        units <= self.units + (self.budget.max() - self.budget.used())
    }

    /// Pays `units`, all or nothing, out of what it holds and what the budget has left.
    #[inline]
    pub(crate) fn pay(&mut self, units: u64) -> bool {
        if self.units >= units {
            self.units -= units;
            return true;
        }
        if !self.budget.try_take(units - self.units) {
            return false;
        }
        self.units = 0;
        true
    }
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.units);
    }
}
