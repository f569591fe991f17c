//! Room on its way from whoever went to whoever comes.

use super::budget::Budget;

/// Units taken from the budget, or set free by an eviction, for an entry that is not stored yet.
/// What is left of them goes back when it is dropped.
pub(crate) struct Credit<'b> {
    budget: &'b Budget,
    units: u64,
    has_turn: bool,
}

impl<'b> Credit<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { budget, units: 0, has_turn: false }
    }

    /// The same for one whose turn it is to take the room of other shards than its own.
    pub(crate) fn in_turn(budget: &'b Budget) -> Self {
        Self { has_turn: true, ..Self::new(budget) }
    }

    /// Whether other shards were asked already, or are being asked.
    pub(crate) fn has_turn(&self) -> bool {
        self.has_turn
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
