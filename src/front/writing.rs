//! `write_through`, and fences around writes made by other means.

use super::cache::Cache;
use crate::engine::store::Store;
use crate::engine::writing::{Fence, Leave};
use crate::rules::expiry::ticks;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Writes a value to the source, and then to the cache: `write` is called first, and the value is stored,
    /// with the cache's settings, only if `write` succeeds.
    ///
    /// Until `write` is done the old value is served, as the source may still do. If `write` fails, the entry
    /// is removed: a failed write may have taken effect all the same, so the next caller asks the source. No
    /// load that overlaps the write is stored, since nobody knows whether it read before the write or after.
    /// If two writes of one key overlap, or if the key is inserted, removed or expired during a write,
    /// nothing is left in the cache: nobody knows in which order the source saw them. For writes done by
    /// others, or of many rows, see [`writing`](Self::writing).
    ///
    /// The new value has no [tags](crate::At::tag), whatever the old one had: if `remove_tag` is to find it,
    /// set them with [`at(&key).tag(..).write_through(..)`](crate::At::write_through). With a second
    /// [`tier`](crate::CacheBuilder::tier) that does not keep up, this blocks its thread as
    /// [`insert`](Self::insert) does.
    ///
    /// ```
    /// use larder::Cache;
    /// # struct Db;
    /// # impl Db { fn update(&self, _: u64, _: &str) -> std::io::Result<()> { Ok(()) } }
    /// # let db = Db;
    /// let users: Cache<u64, String> = Cache::new(1_000);
    /// users.write_through(42, "Ada".to_owned(), |id, name| db.update(*id, name))?;
    /// assert_eq!(users.get(&42).unwrap(), "Ada");
    /// # Ok::<_, std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `write`, as they are.
    ///
    /// # Panics
    ///
    /// If `write` does; that counts as a failed write.
    pub fn write_through<E>(
        &self,
        key: K,
        value: V,
        write: impl FnOnce(&K, &V) -> Result<(), E>,
    ) -> Result<(), E> {
        write_through(&self.store, key, value, None, iter::empty(), write)
    }

    /// The async form of [`write_through`](Self::write_through); `write` is given clones. If this future is
    /// dropped before it is done, that counts as a failed write: the entry is removed, since nobody knows
    /// whether the write arrived. (It awaits only `write`: if a second tier does not keep up, it blocks its
    /// thread, for 50 ms at most, as [`insert`](Self::insert) does.)
    ///
    /// ```
    /// # use larder::Cache;
    /// # async fn update(id: u64, name: String) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn handler(users: &Cache<u64, String>) -> Result<(), std::io::Error> {
    /// users.write_through_async(42, "Ada".to_owned(), update).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `write`, as they are.
    ///
    /// # Panics
    ///
    /// If `write` or its future does.
    pub async fn write_through_async<E, F, Fut>(&self, key: K, value: V, write: F) -> Result<(), E>
    where
        F: FnOnce(K, V) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        write_through_async(&self.store, key, value, None, iter::empty(), write).await
    }

    /// Returns a fence to hold around a write that is done by other means: a transaction, a message to
    /// another service, a statement that touches many rows. From now until the fence is dropped, no load of
    /// the key is stored; the cached value is removed now, and again at the end.
    ///
    /// Others may read and load meanwhile; they get what the source has, but it is not cached. The fence is
    /// owned by the caller, `'static`, and may be sent to where the write ends. If the source reads from
    /// replicas that lag behind, see [`WriteFence::hold_for`].
    ///
    /// ```
    /// use larder::Cache;
    /// # fn in_a_transaction() -> std::io::Result<()> { Ok(()) }
    /// let users: Cache<u64, String> = Cache::new(1_000);
    /// users.insert(42, "Ada".to_owned());
    /// {
    ///     let _fence = users.writing(&42);
    ///     in_a_transaction()?; // whatever comes of it
    ///     let read = users.get_or_load(&42, || Ok::<_, std::io::Error>("Ada".to_owned()));
    ///     assert_eq!(read.unwrap(), "Ada"); // before the commit, or after? nobody knows
    /// }
    /// assert_eq!(users.get(&42), None);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn writing<Q>(&self, key: &Q) -> WriteFence<K, V, S>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let hash = self.store.hash(key);
        WriteFence { fence: Fence::raise(&self.store, hash, key.to_key(), Leave::Nothing) }
    }
}

/// Writes to the source, and then to the cache with this TTL and these tags.
pub(super) fn write_through<'t, K, V, S, E>(
    store: &Arc<Store<K, V, S>>,
    key: K,
    value: V,
    ttl: Option<u64>,
    tags: impl Iterator<Item = &'t str> + Clone,
    write: impl FnOnce(&K, &V) -> Result<(), E>,
) -> Result<(), E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    let hash = store.hash(&key);
    let fence = Fence::raise(store, hash, key, Leave::Standing);
    write(fence.key(), &value)?;
    fence.put(value, ttl, tags);
    fence.lower(Leave::Standing);
    Ok(())
}

/// The async form of [`write_through`].
pub(super) async fn write_through_async<'t, K, V, S, E, F, Fut>(
    store: &Arc<Store<K, V, S>>,
    key: K,
    value: V,
    ttl: Option<u64>,
    tags: impl Iterator<Item = &'t str> + Clone,
    write: F,
) -> Result<(), E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    F: FnOnce(K, V) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let hash = store.hash(&key);
    let fence = Fence::raise(store, hash, key, Leave::Standing);
    write(fence.key().clone(), value.clone()).await?;
    fence.put(value, ttl, tags);
    fence.lower(Leave::Standing);
    Ok(())
}

/// A write in progress, from [`Cache::writing`]: until it is dropped, no load of its key is stored. It keeps
/// the cache alive. A fence that is forgotten (`mem::forget`) keeps its key uncached for ever.
#[must_use = "the fence ends when it is dropped: bind it to a name for as long as the write takes"]
pub struct WriteFence<K, V, S = ahash::RandomState> {
    fence: Fence<K, V, S>,
}

impl<K, V, S> WriteFence<K, V, S> {
    /// Keeps the fence in force for `lag` after it is dropped, for sources that are read from replicas: until
    /// these have caught up, a load may bring the old value. The cached value is removed when the fence is
    /// dropped, and again when that time is over, by the cache's clock. If set more than once, the last `lag`
    /// counts.
    ///
    /// The time is kept by the process's one background thread (with a manual clock, by
    /// [`advance`](crate::ManualClock::advance)), which holds only a weak reference to the cache meanwhile.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let users: Cache<u64, &str> = Cache::builder().max_entries(10).clock(clock).build()?;
    /// let load = || users.get_or_load(&42, || Ok::<_, Infallible>("from a replica"));
    ///
    /// drop(users.writing(&42).hold_for(Duration::from_millis(200))); // the write was done in here
    /// assert_eq!((load().unwrap(), users.get(&42)), ("from a replica", None));
    /// hand.advance(Duration::from_millis(200));
    /// assert_eq!((load().unwrap(), users.get(&42)), ("from a replica", Some("from a replica")));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn hold_for(mut self, lag: Duration) -> Self {
        self.fence.hold_for(ticks(lag));
        self
    }
}

impl<K, V, S> fmt::Debug for WriteFence<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys are the user's data: never in logs
        f.debug_struct("WriteFence").finish_non_exhaustive()
    }
}
