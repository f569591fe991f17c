//! How large the window ought to be. It follows the gradient of the hit ratio.
//!
//! A key that comes back soon after the window let it go would have been a hit in a window a
//! little larger; one that comes back soon after the main queue let it go, in a main queue a
//! little larger. Weighing the two against each other steers the split between them. Without it
//! the mean hit ratio over our thirteen tuning traces falls from 50.1 to 48.6.

/// The window's target size, in halves of an entry: it grows by whole ones and shrinks by one and
/// a half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    halves: usize,
    capacity: usize,
}

/// A twentieth of the capacity, in halves of an entry.
fn start(capacity: usize) -> usize {
    capacity / 10
}

impl Target {
    /// Starts at a twentieth of the capacity; anywhere near is as good, it moves soon.
    pub(super) fn new(capacity: usize) -> Self {
        let mut target = Self { halves: start(capacity), capacity };
        target.limit();
        target
    }

    /// Between 1 % and 90 % of the capacity, and never less than one entry.
    fn limit(&mut self) {
        let least = (self.capacity / 50).max(2);
        let most = self.capacity.saturating_mul(9) / 5;
        self.halves = self.halves.clamp(least, most.max(least));
    }

    /// A key that the window let go came back soon.
    pub(super) fn grow(&mut self) {
        self.halves += 2;
        self.limit();
    }

    /// A key that the main queue let go came back soon.
    pub(super) fn shrink(&mut self) {
        self.halves = self.halves.saturating_sub(3);
        self.limit();
    }

    /// Nothing has come back soon for a long time, so nothing speaks for what it was set to: it goes
    /// an eighth of the way back to where it started.
    pub(super) fn relax(&mut self) {
        let start = start(self.capacity);
        self.halves -= self.halves.saturating_sub(start).div_ceil(8);
        self.limit();
    }

    /// The shard turned out to hold another number of entries: the share is kept.
    pub(super) fn rescale(&mut self, capacity: usize) {
        let halves = self.halves as u64 * capacity as u64 / self.capacity.max(1) as u64;
        let halves = halves as usize;
        *self = Self { halves, capacity };
        self.limit();
    }

    /// Whether a window of `len` entries is to give one up.
    #[inline]
    pub(super) fn reached(&self, len: usize) -> bool {
        2 * len + 2 > self.halves
    }

    /// Whether the window is to have less than a seventh of the capacity.
    #[inline]
    pub(super) fn is_small(&self) -> bool {
        self.halves.saturating_mul(7) < self.capacity.saturating_mul(2)
    }

    /// Whether it is to have more than three eighths.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.halves.saturating_mul(4) > self.capacity.saturating_mul(3)
    }

    /// How many entries the main queue holds when the window is as large as it should be.
    pub(super) fn main(&self) -> usize {
        self.capacity.saturating_sub(self.halves / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_a_twentieth_and_stays_within_its_bounds() {
        let mut target = Target::new(1_000);
        assert_eq!(target.main(), 950);
        assert!(target.reached(50) && !target.reached(49));
        for _ in 0..10_000 {
            target.grow();
        }
        assert_eq!(target.main(), 100);
        for _ in 0..10_000 {
            target.shrink();
        }
        assert_eq!(target.main(), 990);
    }

    #[test]
    fn the_smallest_caches_have_a_window_of_one() {
        for capacity in 0..4 {
            let target = Target::new(capacity);
            assert!(target.reached(1));
            assert_eq!(target.main(), capacity.saturating_sub(1));
        }
    }

    #[test]
    fn what_nothing_speaks_for_is_given_up() {
        let mut target = Target::new(1_000);
        (0..500).for_each(|_| target.grow());
        assert_eq!(target.main(), 450);
        (0..50).for_each(|_| target.relax());
        assert_eq!(target.main(), 950);
        (0..50).for_each(|_| target.shrink());
        target.relax();
        assert_eq!(target.main(), 990, "a small window stays small");
    }

    #[test]
    fn a_small_window_and_a_large_one_are_told_apart_whatever_the_capacity() {
        let at = |percent: usize| Target { halves: 20 * percent, capacity: 1_000 };
        assert!(at(14).is_small() && !at(15).is_small());
        assert!(at(38).is_large() && !at(37).is_large());
        for capacity in [0, 1, usize::MAX] {
            assert!(!Target::new(capacity).is_large() || capacity < 2, "{capacity}");
        }
    }

    #[test]
    fn rescaling_keeps_the_share() {
        let mut target = Target::new(1_000);
        for _ in 0..250 {
            target.grow();
        }
        target.rescale(2_000);
        assert_eq!(target.main(), 1_400);
    }
}
