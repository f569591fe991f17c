//! The setting for a second tier, and starting what it needs.

use super::CacheBuilder;
use crate::engine::store::{Plan, Store};
use crate::engine::tier::StoreTier;
use crate::front::tier::worker;
use crate::rules::tier::Tier;
use crate::words::error::ConfigError;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

impl<K, V, S> CacheBuilder<K, V, S> {
    /// Puts a second tier behind the cache, which several processes may share: a load asks the tier before
    /// the source, and what is stored, removed or expired here is sent to the tier. All calls stay as they
    /// are. `RedisTier` (feature `redis`) is such a tier, [`MemoryTier`](crate::MemoryTier) is one for tests,
    /// and [`Tier`] is the trait for writing another.
    ///
    /// ```
    /// use larder::{Cache, How, MemoryTier};
    /// use std::time::Duration;
    ///
    /// let tier = MemoryTier::new(); // or a `RedisTier`
    /// let process = || {
    ///     Cache::builder()
    ///         .max_entries(1_000)
    ///         .time_to_live(Duration::from_secs(60))
    ///         .jitter(0.1)
    ///         .tier(tier.join()) // as another process would
    ///         .build()
    /// };
    /// let (one, other): (Cache<String, u32>, Cache<String, u32>) = (process()?, process()?);
    /// one.insert("answer".to_owned(), 42);
    /// one.tier_flush().unwrap(); // it reaches the tier a moment later
    /// let got = other.at("answer").load(|_| Err::<u32, _>("not called")).unwrap();
    /// assert_eq!((got.value, got.how), (42, How::Tier));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    ///
    /// - **A load** asks the tier first, as a part of the one load of its key: each process asks the tier and
    ///   the source for a key at most once at a time. The copy lives for this cache's `time_to_live`, but no
    ///   longer than the entry has left in the tier. If the tier has a longer time to live of its own, an
    ///   expired copy is taken from there again: **then the tier's time to live bounds the age of what is
    ///   served**, and this cache's only says how often the tier is asked; [`max_age`](crate::At::max_age)
    ///   bounds the age for one call. A load with [`force`](crate::At::force), and an explicit `refresh`, go
    ///   to the source; [`refresh_ahead`](Self::refresh_ahead) does so too, unless the tier keeps the value
    ///   for at least as long as a new one would live here (its share is then a share of this cache's
    ///   `time_to_live`). `max_concurrent_loads` and `circuit_breaker` are about the source: they neither
    ///   limit nor count requests to the tier. A value that has expired in the tier is shown to the loader,
    ///   and served where `stale_if_error` allows it.
    /// - **`get` and [`alter`](crate::Cache::alter)** look in this process only: `alter` is a read-modify-write
    ///   among the threads of one process, and not among processes.
    /// - **Changes** (`insert`, what was loaded, `remove`, `expire`, tags, `clear`, writes) are sent to the
    ///   tier in the background, in their order, by a thread of the cache's own (`larder-tier`), with retries
    ///   until they arrive. [`remove_everywhere`](crate::Cache::remove_everywhere) and
    ///   [`tier_flush`](crate::Cache::tier_flush) wait for that. Until a change has arrived, the tier is not
    ///   asked for its key; until a change of many keys has (`remove_tag`, `expire_tag`, `clear`), it is not
    ///   asked for anything. `remove_if` removes from the tier what it found in this process. When the last
    ///   handle is dropped, the remaining changes are tried once more, also those behind some that fail. That
    ///   blocks the dropping thread for a second at most. After that second the first failure ends it, and
    ///   what has not arrived is lost.
    /// - **Changes by others**: as soon as the tier reports one, the copy here is removed, and a load of that
    ///   key in flight here is not stored. The removal listener is then called on a thread of the tier's; if
    ///   it loads something, that comes from the source. If the tier says that it may have missed changes
    ///   (after a lost connection, say), no copy here is served any more until it has been asked for again,
    ///   from the tier or, if the tier does not have it, from the source; only while the tier cannot be asked
    ///   does `stale_if_error` serve it. [`max_concurrent_loads`](Self::max_concurrent_loads) limits how many
    ///   of these loads run at once. If the tier evicts an entry, it reports a removal, and the copies go: so
    ///   the tier should have room for everything that its processes hold together.
    /// - **A tier that fails** costs its callers its timeout and nothing else: they load from the source. A
    ///   load waits for the tier's answer until [`load_timeout`](Self::load_timeout), or until its caller's
    ///   own [`timeout`](crate::At::timeout): a tier should have a shorter timeout of its own.
    ///
    /// A snapshot does not know what others removed since it was written: restore it with
    /// `Snapshot::revalidate`.
    ///
    /// # When it does not keep up
    ///
    /// Changes that the tier has not confirmed wait in memory. While more than 32,768 wait, `insert`,
    /// `remove`, `expire`, `remove_if` and `write_through` **block their thread** until the tier has taken
    /// some, each call for 50 ms at most and with no lock held; the async forms too. (Once a call has waited
    /// in vain, or while the tier fails, no call waits until the tier takes changes again.) Loaded values are
    /// not sent to the tier then. More than 65,536 changes collapse into one that removes everything there.
    #[doc(alias("l2", "distributed_cache", "backplane"))]
    pub fn tier<T>(mut self, tier: T) -> Self
    where
        K: Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        T: Tier<K, V>,
    {
        self.settings.tier = Some(StoreTier::new(Arc::new(tier)));
        self
    }
}

/// Makes the store; with a second tier, also starts the thread that sends it changes, and subscribes to its
/// news.
pub(super) fn started<K, V, S>(plan: Plan<K, V, S>) -> Result<Arc<Store<K, V, S>>, ConfigError>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    if let Some(tier) = &plan.tier {
        let (tier, outgoing) = (Arc::clone(tier.tier()), Arc::clone(tier.outgoing()));
        worker::start(tier, outgoing, plan.clock.clone(), plan.notifier.clone())
            .map_err(|error| ConfigError::NoThread(error.kind()))?;
    }
    let store = Store::new(plan);
    store.listen().map_err(ConfigError::Tier)?;
    Ok(store)
}
