//! The settings for expiry, stale windows, back-off and refreshes.

use super::CacheBuilder;
use crate::rules::ahead::RefreshAhead;
use std::time::Duration;

impl<K, V, S> CacheBuilder<K, V, S> {
    /// Sets how long a value is fresh after it was stored; for ever, by default. Counted in milliseconds,
    /// rounded up; more than 69 years means for ever; zero stores nothing. (Where a second
    /// [`tier`](Self::tier) has a longer time to live of its own, this is how long a copy is kept before the
    /// tier is asked again.)
    #[doc(alias("expire_after_write", "expires_in", "ttl_secs"))]
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(ttl);
        self
    }

    /// Spreads expiries: each value's life is drawn once, uniformly from `[ttl * (1 - fraction), ttl]`, so
    /// that values stored together do not expire together. It only ever shortens a life. From 0.0 (the
    /// default) to 1.0; 0.1 is a good value.
    ///
    /// Values that are given a life of their own, by [`at(..).ttl(..)`](crate::At::ttl) or
    /// [`Loaded::ttl`](crate::Loaded::ttl), are jittered too, also where there is no
    /// [`time_to_live`](Self::time_to_live). A cached "not found" is not.
    ///
    /// An example: 10,000 values were loaded in one second, and all are asked for all the time. Without
    /// jitter the source gets 10,000 loads in the second in which they expire; with 0.1 at most 381.
    ///
    #[doc = include_str!("../../benches/plots/jitter.svg")]
    ///
    /// (`cargo run --release --manifest-path benches/policies/Cargo.toml --bin jitter`)
    #[doc(alias = "jitter_max_duration")]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.settings.jitter = Some(fraction);
        self
    }

    /// Expires a value that no hit has used for `idle` (sliding expiry), whatever is left of its time to
    /// live, which hits do not prolong. `peek`, `contains` and `entries` do not count as hits. In whole
    /// milliseconds, rounded up. Costs twelve more bytes per entry. Refused together with a second
    /// [`tier`](Self::tier), which does not know what is used elsewhere.
    #[doc(alias("expire_after_access", "sliding"))]
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.settings.idle = Some(idle);
        self
    }

    /// Serves a value at once for `window` after its expiry, while one caller reloads it: the first who finds
    /// it expired, and only that caller waits. (A cache that owns its loader reloads in the background, and
    /// nobody waits.) As in RFC 5861. In whole milliseconds, rounded up; zero, the default, serves nothing
    /// stale.
    ///
    /// The window begins at the expiry and has a fixed end: no use of the value prolongs it. An
    /// [`expire`](crate::Cache::expire) ends a life early, and the window begins then; a removed value is
    /// never served again. A value that expired by [`time_to_idle`](Self::time_to_idle), and a cached "not
    /// found", have no window. [`get`](crate::Cache::get), [`contains`](crate::Cache::contains) and
    /// [`entries`](crate::Cache::entries) return fresh values only; [`peek`](crate::Cache::peek) also returns
    /// a value within a window.
    ///
    /// ```
    /// use larder::{Cache, Clock, How, StaleWhy};
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let cache: Cache<String, u32> = Cache::builder()
    ///     .max_entries(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_while_revalidate(Duration::from_secs(30))
    ///     .clock(clock)
    ///     .build()?;
    /// cache.insert("price".to_owned(), 10);
    /// hand.advance(Duration::from_secs(60));
    /// let price = cache.at("price").load(|_| {
    ///     // this caller came first and loads; another one does not wait for it
    ///     let other = cache.at("price").load(|_| -> Result<u32, String> { unreachable!() });
    ///     assert_eq!(other.unwrap().how, How::Stale(StaleWhy::Revalidating));
    ///     Ok::<_, String>(11)
    /// });
    /// assert_eq!(price.unwrap().value, 11);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.settings.revalidate = window;
        self
    }

    /// Serves a value for `window` after its expiry if reloading it fails, panics under another caller or
    /// times out. Callers wait for that load first, unless they are still within
    /// [`stale_while_revalidate`](Self::stale_while_revalidate). (RFC 5861.) In whole milliseconds, rounded
    /// up; zero, the default, serves no stale value in place of an error.
    ///
    /// Both windows begin at the expiry, so this one has an effect only if it is the longer one. It has a
    /// fixed end too, and applies to the same values: a cached "not found" has no window, and callers who ask
    /// for its key after [`negative_ttl`](Self::negative_ttl) get the error. After a failed load the cache
    /// pauses before the next one (see [`error_backoff`](Self::error_backoff)), and callers get the stale
    /// value at once.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let cache: Cache<String, u32> = Cache::builder()
    ///     .max_entries(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_if_error(Duration::from_secs(3600))
    ///     .clock(clock)
    ///     .build()?;
    /// cache.insert("price".to_owned(), 10);
    /// hand.advance(Duration::from_secs(100));
    /// assert_eq!(cache.get_or_load("price", || Err("the source is away")).unwrap(), 10);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    #[doc(alias("fail_safe", "result_fallback"))]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.settings.on_error = window;
        self
    }

    /// Sets the pause before the cache loads a key again after a load of it has failed, panicked or timed
    /// out: `min` after the first failure, twice as long after each further one in a row, `max` at the most.
    /// During the pause callers get the stale value, if a window allows one, or else the last error, at once.
    /// A successful load of the key, or a write to it, ends the pause and resets the count of failures. (Three
    /// kinds of calls load all the same: those whose loader has another error type,
    /// [forced](crate::At::force) ones, and [`refresh`](crate::LoadingCache::refresh).)
    ///
    /// By default, the pause is one second if the cache has a value to serve meanwhile: a stale one, or a
    /// fresh one that was to be refreshed ahead. Otherwise there is no pause, and the next call loads. Zero
    /// for both means no pause at all. In whole milliseconds, rounded up.
    ///
    /// A shard remembers the failures of 128 keys. Beyond that it forgets those whose pause ends soonest.
    #[doc(alias = "fail_safe_throttle_duration")]
    pub fn error_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.settings.back_off = Some((min, max));
        self
    }

    /// Sets how long the answer "the source has no such value" is cached (negative caching), in whole
    /// milliseconds, rounded up. Zero, the default, does not cache it. Jitter does not shorten it, and no
    /// stale window follows.
    #[doc(alias = "cache_none")]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.settings.negative = ttl;
        self
    }

    /// Reloads a value that is asked for shortly before it expires, so that nobody has to wait when it does:
    /// see [`RefreshAhead`]. [`RefreshAhead::Never`] by default.
    ///
    /// A cache that owns its loader ([`build_loading`](Self::build_loading)) does so in the background, and
    /// every caller is served the old value at once.
    ///
    /// In any other cache, a closure never runs in the background. The first caller with a closure who finds
    /// the value due waits for its own load, and all others are served the value at once:
    ///
    /// - `get_or_load`, `get_or_load_optional` and [`at`](crate::Cache::at)`(..).load`: if the load fails,
    ///   that caller too is served the value that is still fresh. If it would not begin at all, because no slot
    ///   of [`max_concurrent_loads`](Self::max_concurrent_loads) is free or the
    ///   [`circuit_breaker`](Self::circuit_breaker) is open, the value is a hit as any other (with a second
    ///   tier, which is asked first, it counts as a load that was refused).
    /// - `get_or_load_many`: what is due is loaded with what is missing, in one call of the loader, and
    ///   the same holds for each key.
    /// - `get_or_insert_with`: the value is made anew, whatever the breaker says; if no slot is free, the caller
    ///   is served the one that is there.
    /// - `get`, and every other call without a closure, starts no refresh.
    ///
    /// Their async forms do the same. A caller with `force`, or with a `max_age` that the value exceeds,
    /// loads as for a miss.
    ///
    /// No refresh of a key begins while a load of it is in flight, so there is only one at a time.
    #[doc(alias("refresh_after_write", "eager_refresh"))]
    pub fn refresh_ahead(mut self, when: RefreshAhead) -> Self {
        self.settings.refresh_ahead = when;
        self
    }
}
