//! The one bound of a cache: a number of units, over all shards, never exceeded.
//!
//! A unit is an entry, or a unit of weight if there is a weigher. An insert takes its units before it stores,
//! and evicts first to get them, so that at no moment more is stored than the bound allows. In a full cache
//! that is free: the units of an evicted entry go straight to the entry that needed them, and nobody writes
//! these words, which all shards read.

use crate::words::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    used: AtomicU64,
    /// The number of entries, if units are weights; `None` if a unit is an entry.
    entries: Option<AtomicU64>,
}

impl Budget {
    pub(crate) fn new(max: u64, weighted: bool) -> Self {
        Self { max, used: AtomicU64::new(0), entries: weighted.then(|| AtomicU64::new(0)) }
    }

    #[inline]
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Takes `units`, all or none.
    #[inline]
    pub(crate) fn try_take(&self, units: u64) -> bool {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            // `used <= max` always holds, so the difference cannot wrap
            if units > self.max - used {
                return false;
            }
            let taken = self.used.compare_exchange_weak(
                used,
                used + units,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return true,
                Err(now) => used = now,
            }
        }
    }

    #[inline]
    pub(crate) fn give_back(&self, units: u64) {
        if units > 0 {
            self.used.fetch_sub(units, Ordering::Relaxed);
        }
    }

    /// An entry came; only weighted caches count entries separately.
    #[inline]
    pub(crate) fn entered(&self) {
        if let Some(entries) = &self.entries {
            entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `n` entries left.
    #[inline]
    pub(crate) fn left(&self, n: u64) {
        if let Some(entries) = &self.entries {
            entries.fetch_sub(n, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.as_ref().unwrap_or(&self.used).load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn takes_all_or_none() {
        let budget = Budget::new(10, true);
        assert!(budget.try_take(7));
        assert!(!budget.try_take(4));
        assert!(!budget.try_take(u64::MAX));
        assert!(budget.try_take(3));
        budget.give_back(10);
        assert_eq!((budget.used(), budget.entries()), (0, 0));
    }

    #[test]
    fn an_unbounded_budget_does_not_wrap() {
        let budget = Budget::new(u64::MAX, false);
        assert!(budget.try_take(u64::MAX - 1));
        assert!(!budget.try_take(2));
        assert!(budget.try_take(1));
    }
}
