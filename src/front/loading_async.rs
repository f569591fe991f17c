//! The cache that owns an async loader.

use super::cache::Cache;
use super::call::Call;
use super::gather::Gather;
use super::loader::AsyncLoader;
use super::outcome::plain;
use super::warm::{CHUNK, Warmed, warm_async};
use super::{future, gather, many};
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Purpose};
use crate::rules::loaded::LoadCx;
use crate::rules::many::Many;
use crate::words::error::LoadError;
use crate::words::runtime::Runtime;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;
use std::sync::Arc;

/// A [`Cache`] that owns an async loader (read-through), from
/// [`build_loading_async`](crate::CacheBuilder::build_loading_async): the async form of
/// [`LoadingCache`](crate::LoadingCache).
///
/// It is a `Cache` as well, by `Deref`: a hit through it starts a refresh that is due, as one through
/// [`load`](Self::load) does.
///
/// A miss is loaded as part of its caller's future; if that is dropped, another caller that waits takes over.
/// With [`detached_loads`](crate::CacheBuilder::detached_loads) it is loaded by a task, which keeps running
/// if the caller is dropped. A refresh runs as a task on the cache's [`Runtime`]: with the feature `tokio`,
/// the runtime that the cache was built in. When the last handle to the cache is dropped, its tasks drop the
/// loader's future and end (those of [`warm`](Self::warm) after what they are loading).
///
/// With [`soft_timeout`](crate::CacheBuilder::soft_timeout) a miss that can be served a stale value is
/// loaded by such a task too. Its caller waits for that as others do, and may go away without ending it.
///
/// ```
/// use larder::{AsyncLoader, Cache, LoadCx, Loaded, RefreshAhead, SteppingRuntime};
/// use std::{convert::Infallible, time::Duration};
///
/// struct Users;
///
/// impl AsyncLoader<u64, String> for Users {
///     type Error = Infallible;
///
///     async fn load(&self, id: &u64, _: &LoadCx<String>) -> Result<Loaded<String>, Infallible> {
///         Ok(Loaded::new(format!("user {id}")))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = Cache::builder()
///     .max_entries(100_000)
///     .time_to_live(Duration::from_secs(300))
///     .refresh_ahead(RefreshAhead::At(0.8))
///     .runtime(SteppingRuntime::new()) // leave it out inside of tokio, with the feature `tokio`
///     .build_loading_async(Users)?;
/// assert_eq!(users.load(&42).await?, "user 42");
/// # Ok(()) }
/// ```
pub struct AsyncLoadingCache<K, V, L, S = ahash::RandomState> {
    pub(super) cache: Cache<K, V, S>,
    pub(super) loader: Arc<L>,
    pub(super) runtime: Arc<dyn Runtime>,
    /// None where each miss is loaded by itself.
    gather: Option<Arc<Gather<K, V, S>>>,
    /// Tells how many handles there are.
    handles: Arc<()>,
}

impl<K, V, L, S> AsyncLoadingCache<K, V, L, S> {
    pub(crate) fn over(
        cache: Cache<K, V, S>,
        loader: Arc<L>,
        runtime: Arc<dyn Runtime>,
        gather: Option<Gather<K, V, S>>,
    ) -> Self {
        Self { cache, loader, runtime, gather: gather.map(Arc::new), handles: Arc::new(()) }
    }

    /// Returns the loader that the cache was built with.
    pub fn loader(&self) -> &L {
        &self.loader
    }
}

impl<K, V, L, S> AsyncLoadingCache<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the value of a key: from the cache, or loaded, once, however many callers ask. A value that is
    /// due for its refresh is returned as it is, and refreshed in the background.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load_async`]; [`LoadError::NotFound`] where the loader says that there is
    /// no such value, now or within `negative_ttl`.
    ///
    /// # Panics
    ///
    /// If the loader does, in this task. If it panics elsewhere, for a caller that
    /// [`soft_timeout`](crate::CacheBuilder::soft_timeout) may free or with
    /// [`detached_loads`](crate::CacheBuilder::detached_loads), this returns [`LoadError::Panicked`], or the
    /// stale value.
    pub async fn load<Q>(&self, key: &Q) -> Result<V, LoadError<L::Error>>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let store = &self.cache.store;
        let hash = store.hash(key);
        match store.get(hash, key, Purpose::Load) {
            Looked::Value(value) => return Ok(value),
            Looked::Missing => return Err(LoadError::NotFound),
            Looked::Nothing => {}
        }
        if let Some(gather) = self.gather.as_ref().filter(|_| !self.loader.is_of_one_key()) {
            let load = |keys: Vec<K>| async move { self.loader.load_many(&keys).await };
            // seldom come to, and larger than all the rest
            return plain(Box::pin(gather::load_async(store, gather, hash, key, load)).await);
        }
        let load = |lead: &mut Lead<K, V, S>| {
            let (cx, key) = (lead.cx(), lead.key().clone());
            async move { self.loader.load(&key, &cx).await }
        };
        future::load(store, hash, key, Call::of_owner::<L::Error>(), load, plain).await
    }

    /// Returns the values of many keys: from the cache, and with one call of the loader's `load_many` for
    /// those that are neither cached nor being loaded, as [`Cache::get_or_load_many`] says. Each key has its
    /// own load in flight, shared with single calls. A closure as loader is called for each key, up to 32 at
    /// once.
    ///
    /// # Panics
    ///
    /// If the loader does, in this task.
    pub async fn load_many(&self, keys: &[K]) -> Many<K, V, L::Error> {
        if self.loader.is_of_one_key() {
            let load = |key: K| async move { self.loader.load(&key, &LoadCx::of_many()).await };
            // seldom come to, and larger than the rest
            return Box::pin(many::load_each_async(&self.cache.store, keys, load)).await;
        }
        let load = |keys: Vec<K>| async move { self.loader.load_many(&keys).await };
        many::load_async(&self.cache.store, keys, load, |reply| reply).await
    }

    /// Loads keys in the background, before anybody asks for them, and returns at once: what is not cached is
    /// given to the loader's `load_many`, 32 keys at a time (or as many as
    /// [`batch`](crate::CacheBuilder::batch) says), by four callers at most. The handle tells how far it has
    /// come. When the last handle to this loading cache is dropped, warming ends, after what is being loaded
    /// by then. A closure as loader is called for one key at a time, by each of the four.
    ///
    /// If the runtime refuses the work, all keys count as failed.
    pub fn warm(&self, keys: impl IntoIterator<Item = K>) -> Warmed {
        let chunk = match &self.gather {
            _ if self.loader.is_of_one_key() => 1,
            Some(gather) => gather.most(),
            None => CHUNK,
        };
        warm_async(&self.cache.store, &self.loader, &self.runtime, keys, chunk, &self.handles)
    }

    /// Loads a key in the background, whether it is cached or not, and however fresh. Never waits; if the key
    /// is being loaded already, that load will do. The cached value is served until the new one replaces it,
    /// and stays if the load fails.
    ///
    /// If the runtime refuses the task, nothing is loaded, and
    /// [`refused`](crate::Stats::refused) counts it.
    pub fn refresh<Q>(&self, key: &Q)
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let store = &self.cache.store;
        store.refresh(store.hash(key), key);
    }
}

impl<K, V, L, S> Deref for AsyncLoadingCache<K, V, L, S> {
    type Target = Cache<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.cache
    }
}

/// As [`Cache`] is.
impl<K, V, L: std::panic::RefUnwindSafe, S> std::panic::RefUnwindSafe
    for AsyncLoadingCache<K, V, L, S>
{
}
impl<K, V, L: std::panic::RefUnwindSafe, S> std::panic::UnwindSafe
    for AsyncLoadingCache<K, V, L, S>
{
}

impl<K, V, L, S> Clone for AsyncLoadingCache<K, V, L, S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            loader: Arc::clone(&self.loader),
            runtime: Arc::clone(&self.runtime),
            gather: self.gather.clone(),
            handles: Arc::clone(&self.handles),
        }
    }
}

impl<K, V, L, S> fmt::Debug for AsyncLoadingCache<K, V, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncLoadingCache").field("cache", &self.cache).finish_non_exhaustive()
    }
}
