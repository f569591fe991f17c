//! Back-off: the pause before the next attempt of a load or a write that failed.

/// The pause without a setting, in ticks: for how long a stale value is served after a failed load before the
/// source is asked again.
const UNSET: u64 = 1_000;

/// `error_backoff(min, max)` in ticks, if it is set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff(Option<(u64, u64)>);

impl BackOff {
    pub(crate) fn new(min: u64, max: u64) -> Self {
        Self(Some((min, max)))
    }

    /// Whether callers without a stale value get the last error during the pause. Only if `error_backoff` is
    /// set.
    pub(crate) fn answers(self) -> bool {
        self.0.is_some()
    }

    /// How long the next load is held back after so many failures in a row. A timeout counts as a failure: the
    /// next caller would wait for as long as the last one.
    pub(crate) fn hold(self, failures: u32) -> u64 {
        self.0.map_or(UNSET, |bounds| doubled(bounds, failures))
    }
}

/// The pause after so many failures in a row: it doubles with each, from `min` to `max`.
pub(crate) fn doubled((min, max): (u64, u64), failures: u32) -> u64 {
    let factor = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    min.saturating_mul(factor).min(max.max(min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let back_off = BackOff::new(100, 1_000);
        let holds = [1, 2, 3, 4, 5, 64, 65, u32::MAX].map(|n| back_off.hold(n));
        assert_eq!(holds, [100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000]);
        assert_eq!(BackOff::new(0, 0).hold(7), 0);
        assert_eq!(doubled((u64::MAX, u64::MAX), u32::MAX), u64::MAX);
        assert_eq!(doubled((100, 50), 3), 100, "the first is the least");
    }

    #[test]
    fn unset_it_is_a_second() {
        assert_eq!([1, 9].map(|n| BackOff::default().hold(n)), [1_000; 2]);
    }
}
