//! Coarse time, counted in events and small enough to fit in one byte beside each entry.

/// A clock that events drive. It moves on once every `period` events; a change of the period
/// leaves what was stamped before comparable, because a stamp counts ticks and not events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    now: u32,
    left: u32,
    period: u32,
}

/// The greatest age that is told apart. A stamp is one byte, so an age past 255 would look young
/// again; whoever visits a stamp older than this sets it back to this age. The 64 ticks between
/// are the time there is for a visit.
pub(super) const OLDEST: u8 = 192;

impl Ticks {
    pub(super) fn new(period: u32) -> Self {
        let period = period.max(1);
        Self { now: 0, left: period, period }
    }

    pub(super) fn set_period(&mut self, period: u32) {
        self.period = period.max(1);
        self.left = self.left.min(self.period);
    }

    /// One more event.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.period;
            self.now = self.now.wrapping_add(1);
        }
    }

    #[inline]
    pub(super) fn now(&self) -> u32 {
        self.now
    }

    /// What is written beside an entry.
    #[inline]
    pub(super) fn stamp(&self) -> u8 {
        self.now as u8
    }

    /// The stamp of what is as old as can be told.
    #[inline]
    pub(super) fn oldest(&self) -> u8 {
        self.stamp().wrapping_sub(OLDEST)
    }

    /// Ticks since `stamp`, at most [`OLDEST`].
    #[inline]
    pub(super) fn age(&self, stamp: u8) -> u8 {
        self.stamp().wrapping_sub(stamp).min(OLDEST)
    }

    /// `stamp`, or a younger one that has the age [`OLDEST`].
    #[inline]
    pub(super) fn clamp(&self, stamp: u8) -> u8 {
        self.stamp().wrapping_sub(self.age(stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_up_to_the_oldest() {
        let mut ticks = Ticks::new(3);
        let stamp = ticks.stamp();
        for event in 0..3 * 255_u32 {
            assert_eq!(u32::from(ticks.age(stamp)), (event / 3).min(192));
            ticks.advance();
        }
    }

    #[test]
    fn a_stamp_that_is_visited_in_time_never_looks_young_again() {
        let mut ticks = Ticks::new(1);
        let mut stamp = ticks.stamp();
        for event in 0..10_000 {
            if event % 60 == 0 {
                stamp = ticks.clamp(stamp);
            }
            assert!(event < 192 || ticks.age(stamp) == OLDEST);
            ticks.advance();
        }
    }

    #[test]
    fn a_shorter_period_takes_effect_at_once() {
        let mut ticks = Ticks::new(1_000);
        ticks.set_period(0);
        ticks.advance();
        ticks.advance();
        assert_eq!(ticks.now(), 2);
    }
}
