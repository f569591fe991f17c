//! How long a value lives: the draw of its life, and the eight bytes that remember it.
//!
//! Time is counted in ticks of one millisecond since the clock's zero. A [`Stamp`] packs the tick
//! of expiry (42 bits: 139 years) and the drawn life (22 bits of floating point) into one word that
//! is never zero, so that an `Option` of an entry costs nothing. Reading whether a value is fresh is
//! one shift and one compare; the time of storing, which only `age` asks for, is the difference.

use super::ahead::Ahead;
use super::backoff::BackOff;
use crate::words::tick::{BELOW as LIFE_BITS, Tick};
use std::num::NonZeroU64;
use std::time::Duration;

/// A life that does not end: 69 years. Longer ones saturate to it, and no clock gets there.
pub(crate) const NEVER: u64 = 1 << 41;

const MANTISSA_BITS: u32 = 17;

/// A duration in whole ticks, rounded up (a life is never rounded to nothing), `NEVER` at most.
pub(crate) fn ticks(d: Duration) -> u64 {
    let millis = d.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(NEVER).min(NEVER)
}

/// The same rounded down, for limits that must not be exceeded.
pub(crate) fn whole_ticks(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(NEVER).min(NEVER)
}

/// Ticks as a duration; `NEVER` and beyond as [`Duration::MAX`].
pub(crate) fn duration(ticks: u64) -> Duration {
    if ticks >= NEVER { Duration::MAX } else { Duration::from_millis(ticks) }
}

/// When a value expires and how long its life was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(NonZeroU64);

impl Stamp {
    /// A value stored at `now` that lives for `life` ticks.
    #[inline]
    pub(crate) fn new(now: Tick, life: u64) -> Self {
        let life = life.min(NEVER);
        Self::pack(now + life, life)
    }

    /// A value of this age that lives for `left` more ticks. One that lives for ever is as if
    /// stored now: its age would not fit.
    pub(crate) fn restored(now: Tick, left: u64, age: u64) -> Self {
        if left >= NEVER {
            return Self::new(now, NEVER);
        }
        Self::pack(now + left, left.saturating_add(age).min(NEVER))
    }

    /// A value of this age whose life ended so many ticks ago.
    pub(crate) fn over(now: Tick, over_for: u64, age: u64) -> Self {
        // ticks do not go back that far: then the first tick stands for it
        let expiry = now.saturating_sub(over_for).max(1);
        Self::pack(expiry, age.saturating_sub(over_for).min(NEVER))
    }

    #[inline]
    fn pack(expiry: Tick, life: u64) -> Self {
        Self::of(expiry, encode(life))
    }

    #[inline]
    fn of(expiry: Tick, code: u64) -> Self {
        debug_assert!(expiry < 1 << (64 - LIFE_BITS));
        let word = expiry << LIFE_BITS | code;
        // clocks start above zero, so the expiry is at least 1
        Self(NonZeroU64::new(word).unwrap_or(NonZeroU64::MIN))
    }

    #[inline]
    pub(crate) fn is_fresh(self, now: Tick) -> bool {
        now < self.expiry()
    }

    /// Whether it never expires: then the clock need not be read.
    #[inline]
    pub(crate) fn is_for_ever(self) -> bool {
        // no clock gets that far, so a life that ends has an earlier expiry
        self.expiry() >= NEVER
    }

    /// Whether it is fresh by what the [clock shows](crate::words::clock::shown): one comparison.
    #[inline]
    pub(crate) fn outlasts(self, shown: u64) -> bool {
        self.0.get() > shown
    }

    #[inline]
    pub(crate) fn expiry(self) -> Tick {
        self.0.get() >> LIFE_BITS
    }

    /// How long ago the value was stored. Exact for drawn lives; after [`cut`](Self::cut) it may be
    /// short by a part in 65,536 of the life.
    #[inline]
    pub(crate) fn age(self, now: Tick) -> u64 {
        (now + self.life()).saturating_sub(self.expiry())
    }

    /// How long it lives from when it was stored, as it was drawn.
    #[inline]
    pub(crate) fn life(self) -> u64 {
        decode(self.0.get() & ((1 << LIFE_BITS) - 1))
    }

    /// How much of the life is left.
    #[inline]
    pub(crate) fn fresh_for(self, now: Tick) -> u64 {
        // a life of NEVER that was begun some time ago still does not end
        if self.is_for_ever() { NEVER } else { self.expiry().saturating_sub(now) }
    }

    /// When the value was stored, as exactly as its [`age`](Self::age).
    pub(crate) fn born(self) -> Tick {
        self.expiry().saturating_sub(self.life())
    }

    /// Whether this is still the stamp of the value that had the stamp `before`, expired early since or not.
    /// Compares when the values were stored, as far as stamps tell: another value counts as the same if it was
    /// stored within the 65,536th of a life by which a [`cut`](Self::cut) may be off.
    pub(crate) fn is_still(self, before: Self) -> bool {
        let later = self.born().checked_sub(before.born());
        let is_cut = self.expiry() < before.expiry();
        self == before || is_cut && later.is_some_and(|later| later <= self.life() >> 16)
    }

    /// The same value, expired at `now` or when it was before, whichever is earlier.
    pub(crate) fn cut(self, now: Tick) -> Self {
        if !self.is_fresh(now) {
            return self;
        }
        Self::pack(now, self.age(now))
    }
}

/// 5 bits of exponent, 17 of mantissa: exact below 131 s, and to one part in 65,536 above; the
/// lives that people write down (300 s, an hour, a day) are exact too.
#[inline]
fn encode(life: u64) -> u64 {
    let bits = 64 - life.leading_zeros();
    let exponent = bits.saturating_sub(MANTISSA_BITS);
    u64::from(exponent) << MANTISSA_BITS | life >> exponent
}

#[inline]
fn decode(code: u64) -> u64 {
    let exponent = code >> MANTISSA_BITS;
    (code & ((1 << MANTISSA_BITS) - 1)) << exponent
}

/// A share of one, from 0.0 to 1.0, in units of 2^-32: the draw needs no floating point.
pub(crate) fn share(fraction: f64) -> u64 {
    #[allow(clippy::cast_sign_loss)] // clamped
    let share = (fraction.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64;
    share
}

/// What may be done with a value, by the time since its expiry and its stale windows (RFC 5861).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Served as it is.
    Fresh,
    /// Served while somebody reloads it.
    Revalidate,
    /// Served if the load that its callers wait for fails.
    ErrorOnly,
    /// Never served again, whether or not it is freed yet.
    Gone,
}

/// For how many ticks after its expiry a value may still be served. Both windows count from there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Windows {
    /// `stale_while_revalidate`.
    pub(crate) revalidate: u64,
    /// `stale_if_error`.
    pub(crate) on_error: u64,
}

impl Windows {
    #[inline]
    pub(crate) fn is_any(self) -> bool {
        self.longest() > 0
    }

    #[inline]
    pub(crate) fn longest(self) -> u64 {
        self.revalidate.max(self.on_error)
    }

    /// The new stamp of a value that another process may have removed: expired, and past the window in which it
    /// would be served without asking the tier. `None` if that window has no end.
    pub(crate) fn doubted(self, stamp: Stamp, now: Tick) -> Option<Stamp> {
        let asked_from = stamp.expiry().saturating_add(self.revalidate);
        if now >= asked_from {
            return Some(stamp);
        }
        (self.revalidate < now).then(|| Stamp::over(now, self.revalidate, stamp.age(now)))
    }

    /// The end of the last window of a value whose life ends at `expiry`. No use of the value moves it.
    #[inline]
    pub(crate) fn end(self, expiry: Tick) -> Tick {
        expiry + self.longest()
    }

    /// The age at `now` of a value whose life ended, or will end, at `expiry`.
    pub(crate) fn age(self, expiry: Tick, now: Tick) -> Age {
        match now.checked_sub(expiry) {
            None => Age::Fresh,
            Some(since) if since < self.revalidate => Age::Revalidate,
            Some(since) if since < self.on_error => Age::ErrorOnly,
            Some(_) => Age::Gone,
        }
    }
}

/// Draws lives of the cache's own TTL in their encoded form. That is possible if all of them have one exponent:
/// then equal steps of the code are equal steps of the life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    ttl: u64,
    /// The code of the longest life.
    top: u64,
    /// How many codes there are; zero if the lives have more than one exponent.
    codes: u64,
    exponent: u64,
}

impl Draw {
    pub(crate) fn new(ttl: u64, jitter: u64) -> Self {
        let ttl = ttl.min(NEVER);
        let off =
            if ttl < NEVER { ((u128::from(ttl) * u128::from(jitter)) >> 32) as u64 } else { 0 };
        let (top, bottom) = (encode(ttl), encode(ttl.saturating_sub(off).max(1)));
        let exponent = top >> MANTISSA_BITS;
        // without jitter the TTL must be exact
        let is_even = bottom >> MANTISSA_BITS == exponent && (jitter > 0 || decode(top) == ttl);
        let codes = if is_even && ttl > 0 { top - bottom + 1 } else { 0 };
        Self { ttl, top, codes, exponent }
    }
}

/// The builder's settings for lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    /// `time_to_live` in ticks; `NEVER` if unset.
    pub(crate) ttl: u64,
    /// Share of a TTL that the draw may take off it, as [`share`] makes it.
    pub(crate) jitter: u64,
    /// `time_to_idle` in ticks; `NEVER` if unset.
    pub(crate) idle: u64,
    /// `negative_ttl`: how long a cached "not found" lives; zero if it is not stored.
    pub(crate) negative: u64,
    /// For how long expired values may still be served.
    pub(crate) windows: Windows,
    /// The pauses after failed loads.
    pub(crate) back_off: BackOff,
    /// When fresh values are refreshed.
    pub(crate) ahead: Ahead,
    /// For `ttl` and `jitter`.
    pub(crate) draw: Draw,
}

impl Lives {
    /// Draws the life of one value stored at `now`: uniformly from `[ttl * (1 - jitter), ttl]`. Jitter only
    /// shortens, so the TTL remains an upper bound. `ttl` is not zero, `random` is 64 random bits.
    #[inline]
    pub(crate) fn stamp(&self, now: Tick, ttl: u64, random: u64) -> Stamp {
        let Draw { ttl: usual, top, codes, exponent } = self.draw;
        if ttl == usual && codes > 0 {
            let below = ((u128::from(random) * u128::from(codes)) >> 64) as u64;
            let code = top - below;
            return Stamp::of(now + ((code & ((1 << MANTISSA_BITS) - 1)) << exponent), code);
        }
        self.stamp_unusual(now, ttl, random)
    }

    /// The same for any TTL.
    #[inline(never)]
    fn stamp_unusual(&self, now: Tick, ttl: u64, random: u64) -> Stamp {
        if self.jitter == 0 || ttl >= NEVER {
            return Stamp::new(now, ttl);
        }
        // two factors of at most 2^32 each, and a TTL below 2^41
        let share = ((random >> 32) * self.jitter) >> 32;
        let off = ((u128::from(ttl) * u128::from(share)) >> 32) as u64;
        // down to what a stamp holds exactly, so that ages are exact; one tick at least, for zero
        // would mean "do not store"
        let code = encode((ttl - off.min(ttl)).max(1));
        Stamp::of(now + decode(code), code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_option_of_a_stamp_is_eight_bytes() {
        assert_eq!(size_of::<Option<Stamp>>(), 8);
    }

    #[test]
    fn usual_lives_are_exact() {
        for seconds in [0, 1, 59, 131, 300, 3_600, 86_400] {
            let life = seconds * 1_000;
            assert_eq!(decode(encode(life)), life, "{seconds} s");
        }
        assert_eq!(decode(encode(NEVER)), NEVER);
    }

    #[test]
    fn durations_saturate_and_are_never_rounded_to_nothing() {
        assert_eq!(ticks(Duration::MAX), NEVER);
        assert_eq!(ticks(Duration::ZERO), 0);
        assert_eq!(ticks(Duration::from_nanos(1)), 1);
        assert_eq!(duration(NEVER), Duration::MAX);
    }

    #[test]
    fn what_is_doubted_is_served_to_nobody_who_has_not_asked() {
        let windows = Windows { revalidate: 50, on_error: 80 };
        for (stored, life, now) in [(1_000, 100, 1_020), (1_000, 100, 1_120), (1_000, 10, 1_070)] {
            let stamp = windows.doubted(Stamp::new(stored, life), now).unwrap();
            assert_eq!(windows.age(stamp.expiry(), now), Age::ErrorOnly, "{stored} {life} {now}");
            assert!(stamp.age(now) >= now - stored && stamp.born() <= stored);
        }
        let gone = Windows::default().doubted(Stamp::new(1_000, 100), 1_020).unwrap();
        assert_eq!(Windows::default().age(gone.expiry(), 1_020), Age::Gone);
        let endless = Windows { revalidate: NEVER, on_error: 0 };
        assert_eq!(endless.doubted(Stamp::new(1_000, 100), 1_020), None);
    }

    #[test]
    fn both_windows_count_from_the_expiry() {
        use Age::{ErrorOnly, Fresh, Gone, Revalidate};
        let ages = |revalidate, on_error| {
            let windows = Windows { revalidate, on_error };
            assert_eq!(windows.is_any(), revalidate + on_error > 0);
            let ages = [99, 100, 104, 105, 109, 110].map(|now| windows.age(100, now));
            for (now, age) in [99, 100, 104, 105, 109, 110].into_iter().zip(ages) {
                assert_eq!(age == Gone, now >= windows.end(100));
            }
            ages
        };
        assert_eq!(ages(0, 0), [Fresh, Gone, Gone, Gone, Gone, Gone]);
        assert_eq!(ages(5, 0), [Fresh, Revalidate, Revalidate, Gone, Gone, Gone]);
        assert_eq!(ages(0, 5), [Fresh, ErrorOnly, ErrorOnly, Gone, Gone, Gone]);
        assert_eq!(ages(5, 10), [Fresh, Revalidate, Revalidate, ErrorOnly, ErrorOnly, Gone]);
        assert_eq!(ages(10, 5), [Fresh, Revalidate, Revalidate, Revalidate, Revalidate, Gone]);
        assert_eq!(ages(NEVER, 5)[5], Revalidate);
        let windows = Windows { revalidate: NEVER, on_error: NEVER };
        assert_eq!(windows.age(NEVER + NEVER - 1, NEVER - 1), Fresh);
    }

    #[test]
    fn never_is_fresh_at_the_end_of_every_clock() {
        let stamp = Stamp::new(1, NEVER);
        assert!(stamp.is_fresh(NEVER - 1));
        assert_eq!(duration(stamp.fresh_for(1_000)), Duration::MAX);
        assert_eq!(stamp.age(1_001), 1_000);
        let late = Stamp::new(NEVER - 1, NEVER);
        assert!(late.is_fresh(NEVER - 1));
    }

    #[test]
    fn the_usual_lives_are_drawn_evenly() {
        // of one exponent, and of two
        for (ttl, jitter) in [(300_000, 0.1), (60_000, 0.5), (270_000, 0.1), (1, 1.0), (7, 0.0)] {
            let jitter = share(jitter);
            let draw = Draw::new(ttl, jitter);
            let (windows, back_off) = (Windows::default(), BackOff::default());
            let (idle, negative, ahead) = (NEVER, 0, Ahead::Never);
            let lives = Lives { ttl, jitter, idle, negative, windows, back_off, ahead, draw };
            let off = ((u128::from(ttl) * u128::from(jitter)) >> 32) as u64;
            let life = |random| lives.stamp(1, ttl, random).expiry() - 1;
            let longest = life(0);
            assert_eq!(longest, ttl);
            let shortest = life(u64::MAX);
            assert!(shortest >= (ttl - off).max(1) - (ttl >> 16), "{shortest}");
            let middle = life(u64::MAX / 2);
            assert!(middle.abs_diff(ttl - off / 2) <= 1 + (ttl >> 15), "{ttl}: {middle}");
        }
    }

    #[test]
    fn a_life_that_is_not_drawn_is_exact() {
        let ttl = (1 << 30) + 1;
        let draw = Draw::new(ttl, 0);
        let (windows, back_off) = (Windows::default(), BackOff::default());
        let (idle, negative, ahead) = (NEVER, 0, Ahead::Never);
        let lives = Lives { ttl, jitter: 0, idle, negative, windows, back_off, ahead, draw };
        assert_eq!(lives.stamp(5, ttl, 9).expiry(), 5 + ttl);
        assert_eq!(lives.stamp(5, NEVER, 9).expiry(), 5 + NEVER);
    }

    proptest! {
        #[test]
        fn a_life_ends_at_its_tick(now in 1..NEVER / 2, life in 1..NEVER / 2, later in 0..NEVER / 2) {
            let stamp = Stamp::new(now, life);
            prop_assert!(stamp.is_fresh(now + life - 1));
            prop_assert!(!stamp.is_fresh(now + life));
            let age = stamp.age(now + later);
            prop_assert!(age <= later && later - age <= life >> 16);
        }

        #[test]
        fn cut_never_prolongs(now in 1..1_u64 << 40, life in 1..1_u64 << 40, at in 0..1_u64 << 40) {
            let stamp = Stamp::new(now, life);
            let cut = stamp.cut(now + at);
            prop_assert_eq!(cut.expiry(), stamp.expiry().min(now + at));
        }

        #[test]
        fn jitter_only_shortens(
            ttl in 1..NEVER,
            usual in prop_oneof![Just(None), (1..NEVER).prop_map(Some)],
            jitter in 0.0..=1.0_f64,
            random: u64,
        ) {
            let (windows, back_off) = (Windows::default(), BackOff::default());
            let jitter_share = share(jitter);
            let lives = Lives {
                ttl,
                jitter: jitter_share,
                idle: NEVER,
                negative: 0,
                windows,
                back_off,
                ahead: Ahead::Never,
                draw: Draw::new(usual.unwrap_or(ttl), jitter_share),
            };
            let life = lives.stamp(1, ttl, random).expiry() - 1;
            prop_assert!(life <= ttl && life >= 1);
            let least = ttl as f64 * (1.0 - jitter);
            prop_assert!(life as f64 >= least * (1.0 - 1.0 / 32_768.0) - 1.0, "{life} of {ttl}");
        }
    }
}
