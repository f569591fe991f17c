//! What a cache counts.

use std::time::Duration;

/// A snapshot of a cache's counters, all counted since it was built.
///
/// `hits + stale_hits + misses` is the number of look-ups: `get` and every form of `get_or_load` counts as one,
/// `peek`, `contains` and `entries` as none. A cached "not found" that answers is a hit.
///
/// ```
/// use larder::Cache;
///
/// let cache: Cache<u32, u32> = Cache::new(100);
/// cache.get(&1);
/// cache.insert(1, 10);
/// let before = cache.stats();
/// cache.get(&1);
/// assert_eq!(cache.stats().hit_ratio(), 0.5);
/// assert_eq!(cache.stats().since(&before).hits, 1);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that the cache answered.
    pub hits: u64,
    /// Look-ups that were answered with a value past its life, at once or after a load that failed.
    /// Counted when they are answered; zero while no stale window is set.
    pub stale_hits: u64,
    /// Look-ups that found nothing that could be served.
    pub misses: u64,
    /// Loaders that were run.
    pub loads: u64,
    /// Of these, how many returned an error or panicked.
    pub load_failures: u64,
    /// Loads that lost their key at `load_timeout`.
    pub load_timeouts: u64,
    /// Loads whose future was dropped before it was done: whoever ran it hung up, had a timeout around its
    /// call, or said one with [`At::timeout`](crate::At::timeout). Nothing was stored, the circuit breaker was
    /// told nothing, and the next caller began anew. Where they are many, callers have less patience than
    /// the source needs: see [`load_timeout`](crate::CacheBuilder::load_timeout).
    pub abandoned: u64,
    /// Loads that did not begin because all slots of `max_concurrent_loads` were taken: their caller's
    /// `timeout` was over before one was free, or it was served a stale value instead.
    pub overloaded: u64,
    /// Loads that did not begin because the circuit breaker was open.
    pub circuit_open: u64,
    /// Look-ups that waited for another caller's load, counted when the wait begins. They are misses,
    /// but for those that were served a stale value in the end.
    pub joined: u64,
    /// Loads that were started ahead of need: in the background by a cache with a loader of its own,
    /// else on the time of the caller who found the value due.
    pub refreshes: u64,
    /// Background loads that the [`Runtime`](crate::Runtime) refused, or was too
    /// [busy](crate::Runtime::is_busy) for: the caller did them instead, or left them to the next one,
    /// who may count another. Above zero, it is shut down or too small.
    pub refused: u64,
    /// Loads whose result was not stored because something newer happened to the key meanwhile.
    pub fenced: u64,
    /// Loads that came back `unchanged` and renewed the life of the value that was there.
    pub unchanged: u64,
    /// Loads that were shown a validator and brought another value: the old one had changed.
    pub changed: u64,
    /// Misses that the second [`Tier`](crate::Tier) answered: no loader was called.
    pub tier_hits: u64,
    /// Misses that the tier did not answer: it had nothing, nothing fresh, or nothing that this caller
    /// accepts.
    pub tier_misses: u64,
    /// Questions that the tier failed to answer. Changes that fail are tried again, and not counted here.
    pub tier_errors: u64,
    /// Changes by other processes that the tier told of.
    pub tier_news: u64,
    /// Values stored, by `insert` and by loads.
    pub insertions: u64,
    /// Values that a newer one of their key replaced.
    pub replaced: u64,
    /// Values taken out by `remove`, `remove_if`, `clear` or a load that found none.
    pub removed: u64,
    /// Values freed because their life was over.
    pub expired: u64,
    /// Values that had to make room for others.
    pub evicted: u64,
    /// Values refused because they alone weigh more than the cache may.
    pub rejected: u64,
    /// Panics of the removal listener.
    pub listener_panics: u64,
    /// Total time spent in loaders, by the cache's own coarse clock: a few milliseconds off for one
    /// load, right for the sum of many.
    pub load_time: Duration,
}

impl Stats {
    /// Share of the look-ups that the cache answered, from 0.0 to 1.0; 0.0 before the first.
    pub fn hit_ratio(&self) -> f64 {
        let answered = self.hits + self.stale_hits;
        let lookups = answered + self.misses;
        if lookups == 0 { 0.0 } else { answered as f64 / lookups as f64 }
    }

    /// Mean time that a loader ran; zero before the first.
    pub fn mean_load_time(&self) -> Duration {
        if self.loads == 0 {
            return Duration::ZERO;
        }
        nanos(self.load_time.as_nanos() / u128::from(self.loads))
    }

    /// What the callers would have waited in all without the cache: hits times the mean load time.
    pub fn saved_time(&self) -> Duration {
        nanos(
            self.mean_load_time()
                .as_nanos()
                .saturating_mul(u128::from(self.hits + self.stale_hits)),
        )
    }

    /// How many of their lives values stay unchanged at the source, on average: the number of loads that
    /// were shown a validator, divided by the number of those that brought another value. At 1.0 each load
    /// found a change (or there were no such loads), and the time to live is not too short. At 10.0 a
    /// `time_to_live` ten times as long would spare nine loads of ten, but would serve values that did
    /// change for longer. Infinite where nothing ever changed.
    ///
    /// ```
    /// use larder::{Cache, Clock, Loaded};
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let pages: Cache<u32, String> = Cache::builder()
    ///     .max_entries(10)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_if_error(Duration::from_secs(3_600)) // what has expired can be asked about
    ///     .clock(clock)
    ///     .build()?;
    /// for hour in 0..5 {
    ///     let etag = if hour < 4 { "v1" } else { "v2" };
    ///     let page = pages.at(&1).load(|cx| {
    ///         Ok::<_, std::io::Error>(match cx.validator() {
    ///             Some(seen) if seen == etag => Loaded::unchanged(),
    ///             _ => Loaded::new("a page".to_owned()).validator(etag),
    ///         })
    ///     });
    ///     assert!(page.is_ok());
    ///     hand.advance(Duration::from_secs(60));
    /// }
    /// let stats = pages.stats();
    /// assert_eq!((stats.unchanged, stats.changed), (3, 1));
    /// assert_eq!(stats.unchanged_lives(), 4.0); // four minutes would have done
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn unchanged_lives(&self) -> f64 {
        if self.unchanged == 0 {
            return 1.0;
        }
        (self.unchanged + self.changed) as f64 / self.changed as f64
    }

    /// What happened between an earlier snapshot of the same cache and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            stale_hits: self.stale_hits.saturating_sub(earlier.stale_hits),
            misses: self.misses.saturating_sub(earlier.misses),
            loads: self.loads.saturating_sub(earlier.loads),
            load_failures: self.load_failures.saturating_sub(earlier.load_failures),
            load_timeouts: self.load_timeouts.saturating_sub(earlier.load_timeouts),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            overloaded: self.overloaded.saturating_sub(earlier.overloaded),
            circuit_open: self.circuit_open.saturating_sub(earlier.circuit_open),
            joined: self.joined.saturating_sub(earlier.joined),
            refreshes: self.refreshes.saturating_sub(earlier.refreshes),
            refused: self.refused.saturating_sub(earlier.refused),
            fenced: self.fenced.saturating_sub(earlier.fenced),
            unchanged: self.unchanged.saturating_sub(earlier.unchanged),
            changed: self.changed.saturating_sub(earlier.changed),
            tier_hits: self.tier_hits.saturating_sub(earlier.tier_hits),
            tier_misses: self.tier_misses.saturating_sub(earlier.tier_misses),
            tier_errors: self.tier_errors.saturating_sub(earlier.tier_errors),
            tier_news: self.tier_news.saturating_sub(earlier.tier_news),
            insertions: self.insertions.saturating_sub(earlier.insertions),
            replaced: self.replaced.saturating_sub(earlier.replaced),
            removed: self.removed.saturating_sub(earlier.removed),
            expired: self.expired.saturating_sub(earlier.expired),
            evicted: self.evicted.saturating_sub(earlier.evicted),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            listener_panics: self.listener_panics.saturating_sub(earlier.listener_panics),
            load_time: self.load_time.saturating_sub(earlier.load_time),
        }
    }
}

fn nanos(n: u128) -> Duration {
    Duration::from_nanos(u64::try_from(n).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_of_nothing_are_zero() {
        let stats = Stats::default();
        assert_eq!(stats.hit_ratio().to_bits(), 0.0_f64.to_bits());
        assert_eq!(stats.mean_load_time(), Duration::ZERO);
    }

    #[test]
    fn nothing_known_of_changes_is_no_advice_to_live_longer() {
        let lives = |unchanged, changed| {
            Stats { unchanged, changed, ..Stats::default() }.unchanged_lives().to_bits()
        };
        assert_eq!(lives(0, 0), 1.0_f64.to_bits());
        assert_eq!(lives(0, 7), 1.0_f64.to_bits());
        assert_eq!(lives(9, 1), 10.0_f64.to_bits());
        assert_eq!(lives(9, 0), f64::INFINITY.to_bits());
    }

    #[test]
    fn saved_time_is_hits_times_the_mean_load() {
        let stats =
            Stats { hits: 30, loads: 2, load_time: Duration::from_millis(40), ..Stats::default() };
        assert_eq!(stats.saved_time(), Duration::from_millis(600));
    }
}
