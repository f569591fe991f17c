//! The calls that concern the second tier.

use crate::engine::store::Store;
use crate::front::cache::Cache;
use crate::rules::tier::TierError;
use crate::words::block_on::block_on;
use equivalent::Equivalent;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

impl<K, V, S> Cache<K, V, S> {
    /// Returns how many changes the second [`Tier`](crate::Tier) has not confirmed yet; until then it is not
    /// asked for their keys. Zero without a tier. If this stays above zero, the tier cannot be reached.
    pub fn tier_pending(&self) -> usize {
        self.store.unsettled()
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Removes a key's value as [`remove`](Self::remove) does, and waits until the second
    /// [`Tier`](crate::Tier) has confirmed it, so that no process that shares the tier finds the value there
    /// any more. Blocks the thread for that time; [`remove_everywhere_async`](Self::remove_everywhere_async)
    /// does not. Returns the value if this process had it.
    ///
    /// ```
    /// use larder::{Cache, MemoryTier};
    ///
    /// let users: Cache<u64, String> =
    ///     Cache::builder().max_entries(100).tier(MemoryTier::new()).build()?;
    /// users.insert(42, "Ada".to_owned());
    /// assert_eq!(users.remove_everywhere(&42).unwrap().unwrap(), "Ada");
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the first attempt, if it failed: the key is removed here, other processes may still find
    /// it in the tier, and the removal is tried again in the background until it arrives.
    /// [`TierError::NoTier`] if the cache has no tier; the key is removed then too.
    pub fn remove_everywhere<Q>(&self, key: &Q) -> Result<Option<V>, TierError>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let (value, made) = self.remove_and_tell(key);
        block_on(made).map(|()| value)
    }

    /// The async form of [`remove_everywhere`](Self::remove_everywhere): the key is removed when this is
    /// first polled.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn remove_everywhere_async<Q>(&self, key: &Q) -> Result<Option<V>, TierError>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let (value, made) = self.remove_and_tell(key);
        made.await.map(|()| value)
    }

    /// Waits until the second [`Tier`](crate::Tier) has confirmed all changes that this cache has made so
    /// far: what was inserted, loaded, removed, expired. Blocks the thread for that time;
    /// [`tier_flush_async`](Self::tier_flush_async) does not. A loaded value that the tier does not take is
    /// not tried again: the tier may do without it, and this call does not wait for it.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, if it failed and is to be repeated; attempts go on in the background. If
    /// all that failed were loaded values, nothing is, and this is `Ok`. [`TierError::NoTier`]
    /// if the cache has no tier; [`TierError::Refused`] on the thread that talks to the tier (in an event's
    /// handler, say, or in the `Drop` of a value), which would wait for itself.
    pub fn tier_flush(&self) -> Result<(), TierError> {
        block_on(self.store.when_all_made())
    }

    /// The async form of [`tier_flush`](Self::tier_flush).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn tier_flush_async(&self) -> Result<(), TierError> {
        self.store.when_all_made().await
    }

    fn remove_and_tell<Q>(
        &self,
        key: &Q,
    ) -> (Option<V>, impl Future<Output = Result<(), TierError>> + Send + use<Q, K, V, S>)
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let store: &Arc<Store<K, V, S>> = &self.store;
        let value = store.remove(store.hash(key), key, store.named(key).as_ref());
        (value, store.when_all_made())
    }
}
