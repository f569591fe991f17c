//! A cache with a second tier, and what has to be running for it.

use super::CacheBuilder;
use crate::engine::store::{Plan, Store};
use crate::engine::tier::Behind;
use crate::front::tier::worker;
use crate::rules::tier::Tier;
use crate::words::error::ConfigError;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

impl<K, V, S> CacheBuilder<K, V, S> {
    /// A second tier behind the cache, which several processes may share: what is not cached here is asked
    /// for there before it is loaded, and what is stored, removed or expired here is told to it. All calls
    /// stay as they are. `RedisTier` (feature `redis`) is one, [`MemoryTier`](crate::MemoryTier) one for
    /// tests, [`Tier`] how to write another.
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
    /// - **A load** asks the tier within its flight: of one process at most one question and one load of a
    ///   key are on their way. The copy lives for this cache's `time_to_live`, and no longer than what is left
    ///   of its life there. Where the tier has a longer time to live of its own, copies are taken again
    ///   when theirs is over: **then that one bounds the age of what is served**, and this cache's only says
    ///   how often the tier is asked; [`max_age`](crate::At::max_age) bounds it for one call. A load with
    ///   [`force`](crate::At::force) and a refresh go to the source. Questions take no slot
    ///   and no part in the circuit breaker: these are about the source. What the tier has past its life is
    ///   given to the loader, and served where `stale_if_error` allows it.
    /// - **`get`** looks in the process only.
    /// - **Changes** (`insert`, what was loaded, `remove`, `expire`, tags, `clear`, writes) reach the tier in
    ///   the background, in their order, by a thread of the cache's own (`larder-tier`), and are tried again
    ///   until they arrive: [`remove_everywhere`](crate::Cache::remove_everywhere) and
    ///   [`tier_flush`](crate::Cache::tier_flush) wait for that. Until then the tier is not asked for these keys.
    ///   `remove_if` removes there what it found here. Dropping the last handle has what is left tried once
    ///   more, and blocks the thread that drops it while that takes, for a second at most; what does not arrive
    ///   then is lost.
    /// - **Others' changes** take the copy out here, as fast as the tier tells of them, and fence off what is
    ///   being loaded. If it may have missed some, nothing counts as fresh until it was asked for again.
    ///   A tier that evicts tells of that too, and the copies of what it evicts go: it should hold what
    ///   its processes hold. The removal listener then runs on a thread of the tier's, and what it loads
    ///   comes from the source. After an outage that is a load of everything that is asked for: see
    ///   [`max_concurrent_loads`](Self::max_concurrent_loads).
    /// - **A tier that fails** costs its callers its timeout and nothing else: they load.
    ///
    /// A snapshot does not know what others removed since it was written: restore it with
    /// `Snapshot::revalidate`. A change of many keys at once, `expire_tag` say, keeps the tier from being
    /// asked for anything until it has arrived. A load waits for the tier's answer until
    /// [`load_timeout`](Self::load_timeout), or until its caller's own [`timeout`](crate::At::timeout): a
    /// tier should have a shorter one of its own.
    ///
    /// # When it does not keep up
    ///
    /// Changes that the tier has not confirmed wait in memory. While more than 32,768 wait, `insert`,
    /// `remove`, `expire`, `remove_if` and `write_through` **block their thread** until the tier has taken
    /// some, each call for 50 ms at most and with no lock held; the async forms too. (Once a call has waited
    /// in vain, or while the tier fails, none waits until the tier takes changes again.) What was loaded is
    /// not told to the tier then. More than 65,536 changes become one: everything is removed there.
    pub fn tier<T>(mut self, tier: T) -> Self
    where
        K: Hash + Send + Sync + 'static,
        V: Send + Sync + 'static,
        T: Tier<K, V>,
    {
        self.settings.tier = Some(Behind::new(Arc::new(tier)));
        self
    }
}

/// A store, and what it needs to be running.
pub(super) fn started<K, V, S>(plan: Plan<K, V, S>) -> Result<Arc<Store<K, V, S>>, ConfigError>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    if let Some(tier) = &plan.tier {
        let (tier, outgoing) = (Arc::clone(tier.tier()), Arc::clone(tier.outgoing()));
        worker::start(tier, outgoing).map_err(|error| ConfigError::NoThread(error.kind()))?;
    }
    let store = Store::new(plan);
    store.listen().map_err(ConfigError::Tier)?;
    Ok(store)
}
