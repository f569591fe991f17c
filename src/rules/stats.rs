//! The counters of a cache.

use std::time::Duration;

/// Makes fields, differences and names out of one list of counters.
macro_rules! stats {
    ($($(#[$about:meta])* $count:ident,)*) => {
        /// A snapshot of a cache's counters, all counted since it was built.
        ///
        /// `hits + stale_hits + misses` is the number of look-ups: `get` and every form of `get_or_load`
        /// counts as one, `peek`, `contains` and `entries` as none. An answer from a cached "not found" is a
        /// hit.
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
            $($(#[$about])* pub $count: u64,)*
            /// Total time spent in loaders, by the cache's own coarse clock: a few milliseconds off for one
            /// load, right for the sum of many.
            pub load_time: Duration,
        }

        impl Stats {
            /// Returns all counts with their field names, for whatever exports metrics. They come in the
            /// order of this page, without [`load_time`](Self::load_time), which is no count. Future versions
            /// may have more.
            ///
            /// ```
            /// use larder::Cache;
            ///
            /// let users: Cache<u64, String> = Cache::new(100);
            /// users.get(&42);
            /// for (name, count) in users.stats().counts() {
            ///     println!("cache_{name}_total{{cache=\"users\"}} {count}"); // cache_misses_total{..} 1
            /// }
            /// # assert!(users.stats().counts().any(|count| count == ("misses", 1)));
            /// ```
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($count), self.$count)),*].into_iter()
            }

            /// Returns the difference to an earlier snapshot of the same cache: what happened in between.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self {
                    $($count: self.$count.saturating_sub(earlier.$count),)*
                    load_time: self.load_time.saturating_sub(earlier.load_time),
                }
            }
        }
    };
}

stats! {
    /// Look-ups that the cache answered.
    hits,
    /// Look-ups that were answered with an expired value, at once or after a load that failed. Counted when
    /// they are answered; zero if no stale window is set.
    stale_hits,
    /// Look-ups that found nothing that could be served, or a value whose refresh was due and which the
    /// caller set out to load itself (`refresh_ahead` in a cache without a loader of its own).
    misses,
    /// Loaders that were run.
    loads,
    /// Of these, how many returned an error or panicked.
    load_failures,
    /// Loads that reached `load_timeout`, and so lost their key, if a write had not taken it before.
    load_timeouts,
    /// Loads whose future was dropped before it was done: the caller that ran it hung up, had a timeout
    /// around its call, or set one with [`At::timeout`](crate::At::timeout). Nothing was stored, the circuit
    /// breaker was told nothing, and the next caller began anew. If there are many, callers are less patient
    /// than the source requires: see [`detached_loads`](crate::CacheBuilder::detached_loads), with which only
    /// a runtime that is shut down abandons loads, and [`load_timeout`](crate::CacheBuilder::load_timeout).
    abandoned,
    /// Loads that did not begin because all slots of `max_concurrent_loads` were taken: the caller's
    /// `timeout` was over before one was free, or the caller was served a value instead that was stale, or
    /// only due for its refresh; or, for a [detached](crate::CacheBuilder::detached_loads) load, nobody waited
    /// for it any more, and its `load_timeout` was over.
    overloaded,
    /// Loads that did not begin because the circuit breaker was open, those among them by which a caller would
    /// have refreshed a value that was due: it is served that value, which is a hit (without a second tier).
    circuit_open,
    /// Look-ups that waited for another caller's load, counted when the wait begins. They are misses, except
    /// for those that were served a stale value in the end.
    joined,
    /// Loads that nobody has to wait for: of values that were due (`refresh_ahead`), and, in a cache that owns
    /// its loader, of those within `stale_while_revalidate` and those that its `refresh` was called for. There
    /// they run in the background; elsewhere the caller who found the value due runs them.
    refreshes,
    /// Background loads that the [`Runtime`](crate::Runtime) refused, or was too
    /// [busy](crate::Runtime::is_busy) for: the caller did them instead, or left them to the next one, who
    /// may count another. Above zero, the runtime is shut down or too small.
    refused,
    /// Loads whose result was not stored because something newer happened to the key meanwhile; of a load of
    /// many keys, one for each such key.
    fenced,
    /// Loads that answered `unchanged` and renewed the life of the cached value.
    unchanged,
    /// Loads that were shown a validator and brought another value: the old one had changed.
    changed,
    /// Misses that the second [`Tier`](crate::Tier) answered: no loader was called.
    tier_hits,
    /// Misses that the tier did not answer: it had nothing, nothing fresh, or nothing that this caller
    /// accepts.
    tier_misses,
    /// Keys for which the tier failed to answer; if it was asked for many at once, each counts. Changes that
    /// fail are tried again, and not counted here; nor are entries that it left out.
    tier_errors,
    /// Entries that the tier left out, as it reported, because it could not write them so that they can be
    /// read back, or could not read them. If it grows with every load, the tier is of no use: the
    /// [event](crate::Event::TierSkipped) says why.
    tier_skipped,
    /// Changes by other processes that the tier reported.
    tier_news,
    /// Values stored, by `insert` and by loads.
    insertions,
    /// Values that were replaced by a newer one of the same key.
    replaced,
    /// Values taken out by `remove`, `remove_if`, `clear`, the removal of a tag, a write at the source, a time to
    /// live of zero, or a load that found none.
    removed,
    /// Values freed because their life was over.
    expired,
    /// Values evicted to make room for others.
    evicted,
    /// Values refused because they alone weigh more than the whole cache may.
    rejected,
    /// Panics of the removal listener and of the event handler.
    listener_panics,
}

impl Stats {
    /// Returns the share of the look-ups that the cache answered, from 0.0 to 1.0; 0.0 before the first.
    #[doc(alias = "hit_rate")]
    pub fn hit_ratio(&self) -> f64 {
        let answered = self.hits + self.stale_hits;
        let lookups = answered + self.misses;
        if lookups == 0 { 0.0 } else { answered as f64 / lookups as f64 }
    }

    /// Returns the mean time that a loader ran; zero before the first.
    pub fn mean_load_time(&self) -> Duration {
        if self.loads == 0 {
            return Duration::ZERO;
        }
        nanos(self.load_time.as_nanos() / u128::from(self.loads))
    }

    /// Returns the total time that callers would have waited without the cache: hits times the mean load
    /// time.
    pub fn saved_time(&self) -> Duration {
        nanos(
            self.mean_load_time()
                .as_nanos()
                .saturating_mul(u128::from(self.hits + self.stale_hits)),
        )
    }

    /// Estimates for how many lives values stay unchanged at the source, on average: the number of loads that
    /// were shown a validator, divided by the number of those that brought another value. At 1.0 each load
    /// found a change (or there were no such loads), and the time to live is not too short. At 10.0 a
    /// `time_to_live` ten times as long would spare nine loads of ten, but would serve values that did change
    /// for longer. Infinite where nothing ever changed.
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
