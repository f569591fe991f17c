//! The plain calls of a cache.

use super::at::At;
use super::call::Call;
use super::entries::Entries;
use super::outcome::{optional, plain};
use super::{blocking, future, many};
use crate::engine::look::{Looked, Purpose};
use crate::engine::store::Store;
use crate::rules::altered::Altered;
use crate::rules::explain::Explanation;
use crate::rules::got::Got;
use crate::rules::many::Many;
use crate::rules::stats::Stats;
use crate::words::error::LoadError;
use crate::words::optional::OptionalExt;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// A bounded, concurrent cache: a map whose entries expire and are evicted, and that loads what it does not
/// have.
///
/// A `Cache` is a handle: cloning it costs one reference count, all clones are the same cache, and dropping
/// the last one drops every entry. (With a second [`tier`](crate::CacheBuilder::tier) that drop also blocks
/// its thread, for a second at most, while changes are on their way there.) Threads and tasks share it as it
/// is; a thread that waits in [`get_or_load`](Self::get_or_load) and a task that waits in
/// [`get_or_load_async`](Self::get_or_load_async) for the same key wait for the same load.
///
/// Keys are looked up in borrowed form: a `Cache<String, V>` takes `&str`. Values are returned as clones, so
/// put large ones into an [`Arc`].
///
/// # User code and locks
///
/// No lock is held while a loader, weigher, predicate, listener or a `Drop` of yours runs: they may use the
/// cache. Three things run under a shard's lock, and must not call the cache, nor another one whose values call
/// this one:
///
/// - `Eq` of keys, under the shared or the exclusive lock;
/// - `Clone` of keys and values in `get`, `peek`, `entries` and the like, under the shared lock. (In a shard that is
///   written to now and then, a `get` that finds nobody inside has it to itself: another reader of that shard
///   then waits for one `Clone`, and shares the lock with those who come after. So put what is slow to clone
///   into an [`Arc`].)
/// - `Hash` of keys, in one case: with a second [`tier`](crate::CacheBuilder::tier), when the tier reports a
///   change by another process. (Otherwise no lock is held over it: hashes are stored.)
///
/// A panic in any of them leaves the cache valid.
pub struct Cache<K, V, S = ahash::RandomState> {
    pub(super) store: Arc<Store<K, V, S>>,
}

impl<K, V, S> Cache<K, V, S> {
    pub(crate) fn over(store: Arc<Store<K, V, S>>) -> Self {
        Self { store }
    }

    /// Returns how many entries are stored, including cached "not found", and expired entries that are not
    /// freed yet. Never more than `max_entries`. Reads one counter.
    #[doc(alias("entry_count", "estimated_size"))]
    pub fn len(&self) -> u64 {
        self.store.len()
    }

    /// Whether [`len`](Self::len) is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the total weight of the stored entries, in the weigher's units (without a weigher, one per
    /// entry). Never more than `max_weight`; an insert in progress counts as soon as it has made its room.
    /// Reads one counter.
    #[doc(alias = "weighted_size")]
    pub fn weight(&self) -> u64 {
        self.store.weight()
    }

    /// Returns the bound, in the unit of [`weight`](Self::weight): `max_entries` or `max_weight`, whichever
    /// is set. `None` for a cache without a bound, or of `max_weight(u64::MAX)`, which is the same.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache: Cache<u64, u64> = Cache::new(100);
    /// assert_eq!(cache.capacity(), Some(100));
    /// ```
    #[doc(alias("max_capacity", "policy"))]
    pub fn capacity(&self) -> Option<u64> {
        self.store.capacity()
    }

    /// Returns the current counters. Takes each shard's lock in shared mode, for a moment.
    #[doc(alias = "record_stats")]
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Returns the name given by [`CacheBuilder::name`](crate::CacheBuilder::name).
    pub fn name(&self) -> Option<&str> {
        self.store.name.as_deref()
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the value of a key, if it is cached and fresh. Counts as a look-up and as a use. Takes a
    /// shard's lock in shared mode, allocates nothing and waits for no load. Looks in this process only, even
    /// if there is a second [`tier`](crate::CacheBuilder::tier).
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let cache: Cache<String, u32> = Cache::new(100);
    /// cache.insert("one".to_owned(), 1);
    /// assert_eq!(cache.get("one"), Some(1));
    /// assert_eq!(cache.get("two"), None);
    /// ```
    #[doc(alias("get_if_present", "try_get"))]
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        match self.store.get(self.store.hash(key), key, Purpose::Get) {
            Looked::Value(value) => Some(value),
            Looked::Missing | Looked::Nothing => None,
        }
    }

    /// Returns the value of a key with its age and remaining life, without counting as a look-up or a use:
    /// for inspecting a cache rather than using it. Expired values that are within a stale window are
    /// returned too. Costs what [`get`](Self::get) does: a shard's lock in shared mode.
    #[doc(alias = "get_if_present_quietly")]
    pub fn peek<Q>(&self, key: &Q) -> Option<Got<V>>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.store.peek(self.store.hash(key), key)
    }

    /// Returns whether [`get`](Self::get) would return a value, without counting as a look-up or a use, and
    /// without cloning the value. Another thread may change that before the caller acts on it: to load a
    /// value that is not there, call [`get_or_load`](Self::get_or_load).
    #[doc(alias = "contains_key")]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.store.contains(self.store.hash(key), key)
    }

    /// Stores a value, with the cache's settings. It replaces the key's old value, and a load of the key in
    /// flight will not be stored, since this value is newer. May evict other entries. A value that alone
    /// weighs more than `max_weight` is not stored, and is reported as
    /// [`Rejected`](crate::RemovalCause::Rejected); the old value leaves all the same, as replaced, since it
    /// is no longer the key's value.
    ///
    /// Takes the exclusive lock of the key's shard, for about as long as a look-up takes and, in a full
    /// cache, an eviction. (If the shard has to grow, the insert moves its entries, which takes up to a
    /// millisecond. If the value's weight needs room in other shards, it takes their locks one by one.)
    /// Values that leave are reported and dropped after that, on this thread.
    ///
    /// The new value has no tags, whatever the old one had; [`at(..).tag(..).insert(..)`](At::tag) gives it
    /// some. With a second [`tier`](crate::CacheBuilder::tier) that does not keep up with the changes, this
    /// call blocks its thread until it does, for 50 ms at most and with no lock held.
    ///
    /// # Panics
    ///
    /// If the weigher, the key's `Eq`, or the `Drop` of what left does. The cache is valid after that.
    #[doc(alias("put", "set"))]
    pub fn insert(&self, key: K, value: V) {
        self.store.insert(self.store.hash(&key), key, value, None);
    }

    /// Changes the value of a key depending on its current value (read-modify-write). `change` is given the
    /// fresh value, or `None`, and returns the new one: `Some` stores, `None` removes, and [`Altered::Keep`]
    /// leaves everything as it is. Returns what `change` returned.
    ///
    /// No change is lost. If the key is written, removed, expired or loaded by anybody else after `change`
    /// was given its value, or one of the value's tags is removed or expired, nothing is stored, and `change`
    /// is called again with what is cached then. So it may run more than once, and only its last result
    /// counts. Of several callers who change one key at once, one succeeds in each round. (If the value is
    /// only evicted meanwhile, or expires, the result is stored all the same; with
    /// [`keep_life`](At::keep_life), `change` is called again when it expires.)
    ///
    /// No lock is held while `change` runs, so it may use the cache. What it does itself to the key is
    /// overwritten by what it returns. That holds for its own thread only: if it waits for another thread
    /// that writes the key, it is called again, and if it does so each time, for ever.
    ///
    /// What is stored
    ///
    /// * begins a new life, with the cache's time to live and jitter, or as [`at(key)`](Self::at) sets it:
    ///   with [`ttl`](At::ttl), or with [`keep_life`](At::keep_life) until the old one would have ended. A
    ///   value that is returned unchanged begins a new life too, unless it is returned as `Keep`;
    /// * has the tags of the previous value, or those set by [`at(key)`](Self::at). It has no
    ///   [validator](crate::Loaded::validator), which was the source's name for the previous value;
    /// * is otherwise as if [inserted](Self::insert): a load of the key in flight is not stored, the removal
    ///   listener gets the previous value, and a value that weighs too much takes the previous one with it.
    ///
    /// It sees only what is fresh in this process, not what a second tier has. (The tier is told of the change,
    /// as of an insert; two processes that alter one key at once overwrite each other's changes there, so a
    /// count that they share belongs in the source.) Nor does it see what a
    /// [`WriteBehind`](crate::WriteBehind) queue has yet to write
    /// ([its own `alter`](crate::WriteBehind::alter) does). A value that was evicted begins anew, so a limit
    /// that must hold under a flood of keys needs room for all of them. If `change` is given `None` and
    /// returns `None`, nothing happens, not even to a load.
    ///
    /// It is not a use, as a hit is: with a [`time_to_idle`](crate::CacheBuilder::time_to_idle), a value that
    /// is stored begins a new idle time, and one that is kept does not.
    ///
    /// Blocks as `insert` does. Costs an allocation and, for each call of `change`, a look-up, a write, two
    /// clones of the value and one of the key. While it runs, every other write to the cache takes one more
    /// lock, the same for all of them. It counts neither as a hit nor as a miss.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let visits: Cache<String, u64> = Cache::new(1_000);
    /// let count = |page: &str| visits.alter(page, |n| Some(n.unwrap_or(0) + 1));
    /// count("/");
    /// assert_eq!(count("/"), Some(2));
    ///
    /// // only what is there; and out with what is of no use any more
    /// let take_one = |n: Option<u64>| n.map(|n| n - 1).filter(|n| *n > 0);
    /// assert_eq!(visits.alter("/", take_one), Some(1));
    /// assert_eq!(visits.alter("/", take_one), None);
    /// assert_eq!((visits.alter("/", take_one), visits.get("/")), (None, None));
    /// ```
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    #[doc(alias("and_compute_with", "and_upsert_with", "compute", "update", "upsert", "modify"))]
    pub fn alter<Q, R>(&self, key: &Q, change: impl FnMut(Option<V>) -> R) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        R: Into<Altered<V>>,
    {
        self.at(key).alter(change)
    }

    /// Returns the value of a key; if it is not cached, loads it with `load`, once, however many callers ask.
    ///
    /// The first caller that finds nothing runs its closure; all others, threads and tasks, wait for that one
    /// load and get clones of its value, or its error. Other keys are not held up. On a hit the closure is
    /// not called and nothing is allocated. A load that nobody else waits for allocates nothing either, in a
    /// cache without stale windows, `refresh_ahead`, `max_concurrent_loads`, `circuit_breaker`, a weigher, a
    /// second tier or a loader of its own.
    ///
    /// Where a [stale window](crate::CacheBuilder::stale_while_revalidate) is set, an expired value may be
    /// served instead of waiting, or instead of an error.
    ///
    /// Two deadlocks are not detected, and end only at `load_timeout`: two loaders that ask for each other's
    /// key (a loader that asks for its own key gets an error), and this call within a task, if the load that
    /// it waits for is another task's on the same thread. In async code, call
    /// [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// If the key is written, removed or expired while the load runs, that is newer than the load's result:
    /// the callers who wait get the loaded value, but it is not stored. Callers who come after the write find
    /// what was written, or load again.
    ///
    /// ```
    /// use larder::Cache;
    /// use std::num::ParseIntError;
    /// use std::time::Duration;
    ///
    /// fn from_database(id: &str) -> Result<u64, ParseIntError> {
    ///     id.parse() // stands for a query
    /// }
    ///
    /// let users: Cache<String, u64> = Cache::builder()
    ///     .max_entries(100_000)
    ///     .time_to_live(Duration::from_secs(300))
    ///     .jitter(0.1)
    ///     .build()?;
    ///
    /// assert_eq!(users.get_or_load("42", || from_database("42")).unwrap(), 42);
    /// assert_eq!(users.get("42"), Some(42));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Loader`](LoadError::Loader) with the closure's error, shared by everybody who waited (a failure is
    /// not cached: the next call loads again, unless [`error_backoff`](crate::CacheBuilder::error_backoff)
    /// holds it back); [`NotFound`](LoadError::NotFound) if "not found" is cached;
    /// [`TimedOut`](LoadError::TimedOut) after `load_timeout`, for those who wait;
    /// [`Panicked`](LoadError::Panicked) if the closure that this caller waited for panicked;
    /// [`Recursive`](LoadError::Recursive) inside a loader of the same key;
    /// [`CircuitOpen`](LoadError::CircuitOpen) while a
    /// [`circuit_breaker`](crate::CacheBuilder::circuit_breaker) keeps loads from the source.
    ///
    /// Since other threads may get it too, the closure's error must be `Send + Sync + 'static`:
    /// `anyhow::Error` or `Box<dyn Error + Send + Sync>`, but not `Box<dyn Error>`.
    ///
    /// # Panics
    ///
    /// If `load` does: the panic goes on in the thread that ran it, those who wait get an error,
    /// and the key can be loaded at once.
    #[doc(alias(
        "try_get_with",
        "get_or_set",
        "get_or_create",
        "get_value_or_guard",
        "compute_if_absent"
    ))]
    pub fn get_or_load<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        E: Send + Sync + 'static,
    {
        let hash = self.store.hash(key);
        match self.store.glance(hash, key) {
            Some(value) => Ok(value),
            None => blocking::search(&self.store, hash, key, || load().map(Some)),
        }
    }

    /// The async form of [`get_or_load`](Self::get_or_load), for any runtime.
    ///
    /// The loader's future runs as part of this one. If this one is dropped before it is done,
    /// another caller that waits takes over with its own loader; if nobody waits, nothing is left
    /// behind. At `load_timeout` the loader's future is dropped and the key is free.
    ///
    /// ```
    /// # use larder::{Cache, LoadError};
    /// # async fn from_database(id: u64) -> Result<String, std::io::Error> { Ok(id.to_string()) }
    /// # async fn handler(users: &Cache<u64, String>) -> Result<(), LoadError<std::io::Error>> {
    /// let user = users.get_or_load_async(&42, || from_database(42)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load); here the caller that loads gets
    /// [`TimedOut`](LoadError::TimedOut) too.
    ///
    /// # Panics
    ///
    /// If the loader does.
    #[doc(alias(
        "try_get_with",
        "get_or_set",
        "get_or_create",
        "get_value_or_guard",
        "compute_if_absent"
    ))]
    pub async fn get_or_load_async<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<V, LoadError<E>>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let hash = self.store.hash(key);
        match self.store.get(hash, key, Purpose::Load) {
            Looked::Value(value) => return Ok(value),
            Looked::Missing => return Err(LoadError::NotFound),
            Looked::Nothing => {}
        }
        let call = Call::plain::<E>();
        future::load(&self.store, hash, key, call, |lead| lead.run(load), plain).await
    }

    /// Returns the value of a key; if it is not cached, makes it with `make`, once, however many callers ask.
    /// Like [`get_or_load`](Self::get_or_load), for values that can always be made: if another caller's load
    /// brings no value, or "not found" is cached, this caller calls its own `make`.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let squares: Cache<u64, u64> = Cache::new(1_000);
    /// assert_eq!(squares.get_or_insert_with(&12, || 12 * 12), 144);
    /// ```
    ///
    /// # Panics
    ///
    /// If `make` does.
    #[doc(alias("get_with", "entry", "or_insert_with", "put_if_absent", "memoize"))]
    pub fn get_or_insert_with<Q>(&self, key: &Q, make: impl FnOnce() -> V) -> V
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let hash = self.store.hash(key);
        match self.store.glance(hash, key) {
            Some(value) => value,
            None => blocking::search_or_make(&self.store, hash, key, make),
        }
    }

    /// The async form of [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Panics
    ///
    /// If `make` or its future does.
    #[doc(alias("get_with", "get_or_insert_async"))]
    pub async fn get_or_insert_with_async<Q, F, Fut>(&self, key: &Q, make: F) -> V
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        let hash = self.store.hash(key);
        future::make(&self.store, hash, key, make).await
    }

    /// Like [`get_or_load`](Self::get_or_load), for a source that may not have the value: that answer,
    /// `Ok(None)`, is cached for [`negative_ttl`](crate::CacheBuilder::negative_ttl) and replaces the old
    /// value. Without a `negative_ttl` it is passed on but not cached.
    ///
    /// ```
    /// use larder::{Cache, LoadError};
    /// use std::time::Duration;
    ///
    /// let users: Cache<u64, String> = Cache::builder()
    ///     .max_entries(100)
    ///     .negative_ttl(Duration::from_secs(5))
    ///     .build()?;
    /// let mut asked = 0;
    /// for _ in 0..3 {
    ///     let nobody = users.get_or_load_optional(&7, || {
    ///         asked += 1;
    ///         Ok::<_, std::io::Error>(None)
    ///     });
    ///     assert_eq!(nobody.unwrap(), None);
    /// }
    /// assert_eq!(asked, 1);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load), except for `NotFound`, which is `Ok(None)` here.
    ///
    /// # Panics
    ///
    /// If `load` does.
    #[doc(alias = "optionally_get_with")]
    pub fn get_or_load_optional<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, LoadError<E>>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        E: Send + Sync + 'static,
    {
        let hash = self.store.hash(key);
        match self.store.glance(hash, key) {
            Some(value) => Ok(Some(value)),
            None => blocking::search(&self.store, hash, key, load).optional(),
        }
    }

    /// The async form of [`get_or_load_optional`](Self::get_or_load_optional).
    ///
    /// # Errors
    ///
    /// As there, and [`TimedOut`](LoadError::TimedOut) for the caller that loads too.
    ///
    /// # Panics
    ///
    /// If the loader does.
    #[doc(alias = "optionally_get_with")]
    pub async fn get_or_load_optional_async<Q, E, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> Result<Option<V>, LoadError<E>>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, E>>,
    {
        let hash = self.store.hash(key);
        match self.store.get(hash, key, Purpose::Load) {
            Looked::Value(value) => return Ok(Some(value)),
            Looked::Missing => return Ok(None),
            Looked::Nothing => {}
        }
        let call = Call::plain::<E>();
        future::load(&self.store, hash, key, call, |lead| lead.run(load), optional).await
    }

    /// Returns the values of many keys, with one call of `load` for all that are neither cached nor being
    /// loaded: one query instead of hundreds.
    ///
    /// For other callers each of these keys has a load of its own: whoever wants one of them meanwhile, alone
    /// or in another batch, waits for this call. This call loads its own keys first, and then waits for those
    /// that others were loading already. `load` gets each key once, however often it occurs in `keys`. If
    /// another caller's load ends without an outcome (its future was dropped, say), `load` is called again,
    /// for the keys that are still open.
    ///
    /// A key that is absent from a successful reply is missing at the source; the cache keeps that as "not
    /// found" for [`negative_ttl`](crate::CacheBuilder::negative_ttl). If `load` fails, the keys that it was
    /// called with are in [`failed`](Many::failed), and whatever else was found is returned all the same.
    /// Keys in the reply that were not asked for are stored too, unless something newer may have been written
    /// to them meanwhile, or they weigh more than the cache holds (then they are dropped without a report).
    ///
    /// Counts one look-up per key, and one load per call of `load`.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// fn select(ids: &[u64]) -> Result<Vec<(u64, String)>, std::io::Error> {
    ///     // SELECT id, name FROM users WHERE id IN (..)
    ///     Ok(ids.iter().filter(|id| **id < 100).map(|id| (*id, format!("user {id}"))).collect())
    /// }
    ///
    /// let users: Cache<u64, String> = Cache::new(1_000);
    /// users.insert(1, "user 1".to_owned());
    /// let many = users.get_or_load_many(&[1, 2, 3, 700], select); // asks for 2, 3 and 700
    /// assert_eq!(many.got.len(), 3);
    /// assert_eq!(many.missing, [700]);
    /// assert!(many.error.is_none());
    /// ```
    ///
    /// # Errors
    ///
    /// [`Many::error`] is the first of them, as [`get_or_load`](Self::get_or_load) would return it. Keys
    /// that other callers were loading may fail for reasons of their own.
    ///
    /// # Panics
    ///
    /// If `load` does, or the iterator that it returns: those who wait for any of its keys get
    /// [`Panicked`](LoadError::Panicked), and the keys can be loaded at once.
    #[doc(alias = "get_all")]
    pub fn get_or_load_many<M, E>(
        &self,
        keys: &[K],
        mut load: impl FnMut(&[K]) -> Result<M, E>,
    ) -> Many<K, V, E>
    where
        M: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        many::load(&self.store, keys, |keys| load(keys).map(many::plain))
    }

    /// The async form of [`get_or_load_many`](Self::get_or_load_many), which shares its loads. If it is
    /// dropped, other callers who wait for one of its keys take over that key.
    ///
    /// ```
    /// # use larder::{Cache, LoadError};
    /// # async fn select(ids: Vec<u64>) -> Result<Vec<(u64, String)>, std::io::Error> { Ok(Vec::new()) }
    /// # async fn handler(users: &Cache<u64, String>) -> Result<(), LoadError<std::io::Error>> {
    /// let many = users.get_or_load_many_async(&[1, 2, 3], select).await;
    /// // all or nothing; or look at `many.got`, and at `many.error` for what is not there
    /// let (found, missing) = many.into_result()?;
    /// for (id, got) in found {
    ///     println!("{id}: {}", got.value);
    /// }
    /// println!("no such users: {missing:?}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// In [`Many::error`]; at `load_timeout` the loader's future is dropped and its keys fail with
    /// [`TimedOut`](LoadError::TimedOut).
    ///
    /// # Panics
    ///
    /// If the loader does.
    #[doc(alias = "get_all")]
    pub async fn get_or_load_many_async<M, E, F, Fut>(&self, keys: &[K], load: F) -> Many<K, V, E>
    where
        M: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<M, E>>,
    {
        let reply = |reply: Result<M, E>| reply.map(many::plain);
        many::load_async(&self.store, keys, load, reply).await
    }

    /// Removes a key's value and returns it, if it was fresh. A removed value is never served again, and a
    /// load in flight will not bring it back (its callers get their value, but it is not stored). A cached
    /// "not found" goes too. Takes the exclusive lock of the key's shard, and clones the value only if a
    /// listener gets it as well. With a second tier that does not keep up, it blocks its thread as
    /// [`insert`](Self::insert) does.
    ///
    /// Call it after each write to the source, and let nothing come between the two. An async handler is
    /// dropped at an `await` when its client hangs up: it may never come back from the write, although the
    /// write is done. So do both in the same spawned work, as here; or use [`writing`](Self::writing), which
    /// removes the value however the write ends.
    ///
    /// ```
    /// # use larder::Cache;
    /// # fn write(_: u64, _: &str) -> std::io::Result<()> { Ok(()) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let users: Cache<u64, String> = Cache::new(100);
    /// let cache = users.clone();
    /// let work = move || {
    ///     let written = write(42, "a new name");
    ///     cache.remove(&42); // whatever came of it, and whoever still waits for this
    ///     written
    /// };
    /// tokio::task::spawn_blocking(work).await??;
    /// # Ok(()) }
    /// ```
    #[doc(alias("invalidate", "delete", "evict"))]
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let store = &self.store;
        store.remove(store.hash(key), key, store.named(key).as_ref())
    }

    /// Expires a key's value now; returns whether there was a fresh value. A value that has expired already
    /// is left as it is: its stale windows end when they would have. As with [`remove`](Self::remove), a load
    /// in flight will not be stored, and a cached "not found" is forgotten. Unlike a removed value, an
    /// expired one may still be served within a stale window. Costs what `remove` does, and blocks as it
    /// does.
    #[doc(alias = "soft_invalidate")]
    pub fn expire<Q>(&self, key: &Q) -> bool
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let store = &self.store;
        store.expire(store.hash(key), key, store.named(key).as_ref())
    }

    /// Removes every entry that has this tag; see [`At::tag`] and [`Loaded::tag`](crate::Loaded::tag). As
    /// with [`remove`](Self::remove), a removed value is never served again, and no load in flight with this
    /// tag will be stored, even if its loader names the tag only at the end, or if nobody has named that tag
    /// before.
    ///
    /// Takes the same time however many entries there are: about as long as a look-up. Removed entries
    /// still count in [`len`](Self::len), and take memory, until they are freed: by inserts, which look at
    /// four entries each, by eviction, by [`sweep`](Self::sweep), or in the background within about a
    /// minute. Then they are reported as [`Removed`](crate::RemovalCause::Removed).
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let pages: Cache<String, &str> = Cache::new(1_000);
    /// pages.at("/lamps").tag("products").insert("<li>desk lamp");
    /// pages.at("/sale").tags(["products", "prices"]).insert("<li>desk lamp: 7");
    /// pages.insert("/about".to_owned(), "us");
    ///
    /// pages.remove_tag("prices");
    /// assert_eq!((pages.get("/lamps").is_some(), pages.get("/sale")), (true, None));
    /// pages.remove_tag("products");
    /// assert_eq!((pages.get("/lamps"), pages.get("/about")), (None, Some("us")));
    /// ```
    #[doc(alias("invalidate_tag", "remove_by_tag"))]
    pub fn remove_tag(&self, tag: &str) {
        self.store.remove_tag(tag);
    }

    /// Expires every entry that has this tag, now, in the time that [`remove_tag`](Self::remove_tag) takes.
    /// Unlike removed entries, expired ones may still be served within a stale window, which counts from this
    /// call, or from an earlier end of the entry's life. An entry that is not reloaded while its tags are
    /// expired again and again may lose its windows early: the cache tells eight such expiries apart.
    pub fn expire_tag(&self, tag: &str) {
        self.store.expire_tag(tag);
    }

    /// Removes every entry for which `pred` returns `true`, those within a stale window too; returns how many
    /// there were. (A map's `retain` asks the opposite question.) No load in flight when it is called will be
    /// stored, since nobody knows what it will bring. A cached "not found" stays: it has no value that could be
    /// shown to `pred`.
    ///
    /// Takes a time in proportion to all entries, those that stay included: each is cloned, and `pred` is
    /// shown the clone with no lock held, so it may take its time and may use the cache. (Entries that belong
    /// together are removed at once if they have a [tag](Self::remove_tag).) What is written while it runs is
    /// newer than the call, and may stay; so may what [`alter`](Self::alter) makes of a value meanwhile. With a
    /// second tier that does not keep up, each removal may block this thread as [`insert`](Self::insert) does.
    ///
    /// # Panics
    ///
    /// If `pred` does; some of what was looked at before may be removed by then.
    #[doc(alias("invalidate_entries_if", "retain"))]
    pub fn remove_if(&self, pred: impl FnMut(&K, &V) -> bool) -> u64 {
        self.store.remove_if(pred)
    }

    /// Removes everything. No load in flight will be stored.
    ///
    /// Empties one shard after the other, each under its lock: what is written meanwhile to a shard that was
    /// emptied already stays. Removed values are reported and dropped shard by shard, with no lock held.
    #[doc(alias("invalidate_all", "purge"))]
    pub fn clear(&self) {
        self.store.clear();
    }

    /// Explains why a key is, or is not, fresh: its age and deadlines, the last error and the next try, a
    /// load in flight and how many wait for it, and the state of the circuit breaker and the slots. It is
    /// meant for people to read, and shows neither the key nor the value. It does not count as a look-up or a
    /// use. It takes a shard's lock, and those of breaker and slots, for a moment, and tells what held at
    /// that moment.
    pub fn explain<Q>(&self, key: &Q) -> Explanation
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let store = &self.store;
        store.explain(store.hash(key), key, store.named(key).as_ref())
    }

    /// Starts a call for one key with settings of its own: see [`At`].
    #[doc(alias = "entry")]
    pub fn at<'a, Q: ?Sized>(&'a self, key: &'a Q) -> At<'a, K, V, S, Q> {
        At::new(&self.store, key, ())
    }

    /// Iterates over clones of the fresh entries; see [`Entries`] for what it promises while others write.
    /// Does not count as a look-up or a use.
    #[doc(alias("iter", "keys", "values", "as_map"))]
    pub fn entries(&self) -> Entries<K, V, S> {
        Entries::new(Arc::clone(&self.store))
    }

    /// Frees every entry that has expired or whose tag was removed, now; returns how many values and cached
    /// "not found" there were. Seldom needed: each insert frees a few, and a cache that nobody uses is swept
    /// in the background within a minute. (With a manual clock nothing happens in the background.)
    #[doc(alias("run_pending_tasks", "clean_up"))]
    pub fn sweep(&self) -> u64 {
        self.store.sweep()
    }
}

impl<K, V, S> Clone for Cache<K, V, S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store) }
    }
}

impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys and values are the user's data: never in logs
        f.debug_struct("Cache")
            .field("name", &self.name())
            .field("len", &self.len())
            .field("weight", &self.weight())
            .finish_non_exhaustive()
    }
}
