//! The settings that bound a cache.

use super::CacheBuilder;

impl<K, V, S> CacheBuilder<K, V, S> {
    /// Bounds the cache to `entries` entries, cached "not found" included. Zero stores nothing; loads are
    /// still shared.
    #[doc(alias = "max_capacity")]
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.settings.max_entries = Some(entries);
        self
    }

    /// Bounds the total weight of all entries to `weight`, in the units of the [`weigher`](Self::weigher):
    /// bytes, say. The budget is for the cache as a whole: one entry may take all of it. A cached "not found"
    /// weighs 1.
    ///
    /// Of two entries that are asked for equally often, the heavier one is evicted first, since that gives
    /// more hits: to stay, an entry of twice the mean weight or more has to be hit twice as often as one of
    /// the mean weight, and an entry of an eighth of it or less only an eighth as often. (In ten rows of
    /// traces, with made-up sizes from 64 bytes to 256 KiB, 52 of 100 calls are hits instead of 45, and 44
    /// per cent of the bytes are hits instead of 45.)
    ///
    /// An insert that has to evict others takes some 0.2 µs. If its shard holds clearly less than its part of
    /// the bound, it evicts in other shards, one after the other; such inserts take turns.
    #[doc(alias("max_capacity", "weight_capacity"))]
    pub fn max_weight(mut self, weight: u64) -> Self {
        self.settings.max_weight = Some(weight);
        self
    }

    /// Sets no bound: entries leave only by expiry and removal, and the cache grows with whatever the process
    /// is asked for. (One exception, in bounded caches too: of more than 2,048 keys in a shard that have the
    /// very same hash, some are evicted, since a flood of such keys would make every look-up slow.)
    pub fn unbounded(mut self) -> Self {
        self.settings.unbounded = true;
        self
    }

    /// Sets the function that weighs an entry. It is called once per stored value, before the value is
    /// stored, with no lock held. Its number is taken as it is: entries of weight zero are not bounded, and
    /// an entry heavier than the whole budget is refused and reported as
    /// [`Rejected`](crate::RemovalCause::Rejected).
    ///
    /// If the compiler does not know yet what the cache holds, begin with `Cache::<K, V>::builder()`, or write
    /// the arguments' types:
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let pages = Cache::<String, String>::builder()
    ///     .max_weight(64 << 20) // bytes
    ///     .weigher(|path, page| (path.len() + page.len()) as u64)
    ///     .build()?;
    /// pages.insert("/".to_owned(), "<h1>".to_owned());
    /// assert_eq!(pages.weight(), 5);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    #[doc(alias = "weighter")]
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.settings.weigher = Some(Box::new(weigher));
        self
    }
}
