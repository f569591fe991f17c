//! Refresh-ahead: when a value that is still fresh is loaded again, so that nobody has to wait when it expires.

use super::expiry::{Stamp, share};
use crate::words::tick::Tick;

/// When a value is loaded again before its life is over, for
/// [`refresh_ahead`](crate::CacheBuilder::refresh_ahead).
///
/// A hit starts the refresh, so only values that are asked for are refreshed. A value that nobody asks for
/// any more expires; one that is asked for now and then, but not in the last part of its life, is loaded by
/// the next caller who misses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub enum RefreshAhead {
    /// Never: a value expires, and then a caller waits for the next one. The default.
    #[default]
    Never,
    /// At the first hit after this share of the value's own life (its TTL, less jitter) has passed: above 0.0
    /// and below 1.0. At 0.8, a value that lives for a minute is loaded again by the first hit in its last
    /// twelve seconds. Leave enough time for the load.
    At(f64),
    /// At a random moment, which is earlier the longer the value took to load: a hit refreshes if
    /// `now - delta * beta * ln(random) >= expiry`, where `delta` is the time that this value's own load
    /// took and `random` is uniform from 0 to 1. You need not tune it to the source: a value that loads in
    /// 200 ms is refreshed about a second before its end, one that takes ten seconds about a minute before.
    /// If no hit comes in that time, the next caller who misses loads it.
    ///
    /// This is `XFetch`: A. Vattani, F. Chierichetti and K. Lowenstein, "Optimal probabilistic cache stampede
    /// prevention", VLDB 2015; with one difference: all hits within a 64th of `delta` share one draw, so that
    /// a popular value is not refreshed earlier than others. A key that is asked for 1,000 times a second,
    /// lives for 60 s and takes 200 ms to load is loaded 2 % more often than necessary, and nobody ever waits
    /// for it.
    ///
    /// Load times are measured in whole milliseconds, from 1 ms to 65 s, and kept beside the value, which
    /// costs three bytes per entry. A value stored by `insert` counts as having taken the mean time of the
    /// cache's loads.
    CostAware {
        /// How eager to be: above 1.0 refreshes earlier than the load time asks for, below 1.0 later.
        beta: f64,
    },
}

/// The same, prepared for the check at each hit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ahead {
    Never,
    /// A share of the life, as [`share`] makes it.
    At(u64),
    CostAware(f64),
}

/// `-ln(random)` is never more than this: `random` is 2^-53 at least.
const MOST: f64 = 37.0;

impl Ahead {
    pub(crate) fn new(when: RefreshAhead) -> Self {
        match when {
            RefreshAhead::CostAware { beta } if beta > 0.0 => Self::CostAware(beta),
            RefreshAhead::At(fraction) => Self::At(share(fraction)),
            RefreshAhead::Never | RefreshAhead::CostAware { .. } => Self::Never,
        }
    }

    #[inline]
    pub(crate) fn is_never(self) -> bool {
        matches!(self, Self::Never)
    }

    /// Whether the time that a value took to load is kept beside it.
    pub(crate) fn needs_costs(self) -> bool {
        matches!(self, Self::CostAware(_))
    }

    /// How long before its expiry a value that took `took` to load can be due at the earliest.
    pub(crate) fn horizon(self, took: u64) -> u64 {
        match self {
            #[allow(clippy::cast_sign_loss)] // nothing here is below zero
            Self::CostAware(beta) => (took.max(1) as f64 * beta * MOST) as u64,
            Self::Never | Self::At(_) => 0,
        }
    }
}

/// The tick at which a value is past this share of its life; of a longer life, only the last `longest` ticks
/// count.
#[inline]
pub(crate) fn point(share: u64, stamp: Stamp, longest: u64) -> Tick {
    if stamp.is_for_ever() {
        return Tick::MAX;
    }
    let life = stamp.life().min(longest);
    let passed = (u128::from(life) * u128::from(share)).div_ceil(1 << 32) as u64;
    stamp.expiry().saturating_sub(life) + passed
}

/// `XFetch`: whether a hit so long before the expiry refreshes, with 64 random bits.
pub(crate) fn is_drawn(beta: f64, left: u64, took: u64, random: u64) -> bool {
    // 53 bits, as many as a float holds; never zero, which has no logarithm
    let random = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    left as f64 <= took.max(1) as f64 * beta * -random.ln()
}

/// How many draws there are in the time that a load takes, however many hits.
const DRAWS: u64 = 64;

/// The draw of a key for now. It needs no state that threads would share: it is a hash of the time, and so the
/// same for all hits of one 64th of the load time. With a draw of its own for every hit, a key would be
/// refreshed the earlier the hotter it is, by the logarithm of its rate, for no benefit: with 64, one refresh in
/// 10^10 comes so late that somebody has to wait (that is, no draw succeeds while there is time for the load:
/// `exp(-64 / e)`).
pub(crate) fn draw(key: u64, took: u64, now: Tick) -> u64 {
    mix(mix(key) ^ (now / (took / DRAWS).max(1)))
}

/// Spreads the bits: splitmix64's finalizer (Steele, Lea, Flood 2014).
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::expiry::NEVER;

    #[test]
    fn a_share_is_passed_at_its_tick() {
        let stamp = Stamp::new(1_000, 60_000);
        let at = |fraction, age: u64| 1_000 + age >= point(share(fraction), stamp, NEVER);
        assert!(!at(0.9, 53_999));
        assert!(at(0.9, 54_000));
        assert!(at(0.9, 60_000));
        assert!(!at(0.5, 29_999));
        assert!(at(0.5, 30_000));
        assert!(at(f64::MIN_POSITIVE, 0), "as early as can be");
        assert!(!at(1.0 - 1e-9, 59_999));
        assert!(at(1.0 - 1e-9, 60_000));
    }

    #[test]
    fn what_does_not_end_is_never_due() {
        assert_eq!(point(share(0.1), Stamp::new(1, NEVER), NEVER), Tick::MAX);
        assert!(point(share(0.1), Stamp::new(1, NEVER - 2), NEVER) < NEVER / 9);
    }

    #[test]
    fn the_draw_is_that_of_the_paper() {
        // P(-ln r >= left / (delta * beta)) = exp(-left / (delta * beta))
        for (beta, left, took) in [(1.0, 200, 200), (1.0, 600, 200), (2.0, 600, 200), (0.5, 10, 0)]
        {
            let draws = 200_000;
            let due = (0..draws).filter(|&n| is_drawn(beta, left, took, mix(n))).count();
            let expected = (-(left as f64) / (took.max(1) as f64 * beta)).exp();
            let found = due as f64 / draws as f64;
            assert!((found - expected).abs() < 0.005, "{found} instead of {expected}");
        }
    }

    #[test]
    fn nothing_is_due_beyond_the_horizon() {
        for (beta, took) in [(1.0, 200), (3.0, 0), (0.1, 65_000)] {
            let ahead = Ahead::new(RefreshAhead::CostAware { beta });
            let horizon = ahead.horizon(took);
            assert!(!is_drawn(beta, horizon + 1, took, 0), "the smallest draw there is");
        }
        assert!(Ahead::new(RefreshAhead::CostAware { beta: 0.0 }).is_never());
    }
}
