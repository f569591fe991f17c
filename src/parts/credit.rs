//! Room on its way from whoever went to whoever comes.

use super::budget::Budget;

/// Units taken from the budget, or set free by an eviction, for an entry that is not stored yet.
/// What is left of them goes back when it is dropped.
pub(crate) struct Credit<'b> {
    budget: &'b Budget,
    units: u64,
    may_take_own: bool,
}

impl<'b> Credit<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { budget, units: 0, may_take_own: false }
    }

    /// The same for one that has asked other shards: now its own may be taken from, however little that
    /// has.
    pub(crate) fn at_last(budget: &'b Budget) -> Self {
        Self { may_take_own: true, ..Self::new(budget) }
    }

    /// Whether its own shard may be taken from though that has less than falls to it.
    pub(crate) fn may_take_own(&self) -> bool {
        self.may_take_own
    }

    pub(crate) fn add(&mut self, units: u64) {
        self.units += units;
    }

    /// Whether `units` could be had now. Nothing is taken.
    pub(crate) fn could_cover(&self, units: u64) -> bool {
        units <= self.units + (self.budget.max() - self.budget.used())
    }

    /// Pays `units`, all or nothing, out of what is held and of what the budget has left.
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
