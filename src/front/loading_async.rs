//! The cache that owns an async loader.
//!
//! The signatures of its methods state that their futures are `Send`, which an `async fn` cannot state. Without
//! that, the compiler infers it for each caller's future with lifetimes erased: for values of `&'static str` it
//! asks for a loader of `&'a str` for any `'a`, which no loader is. A stated bound is taken as it is.
#![allow(clippy::manual_async_fn, reason = "an `async fn` cannot say that its future is `Send`")]

use super::at::{At, or_fallback};
use super::cache::Cache;
use super::call::Call;
use super::gather::Gather;
use super::loader::AsyncLoader;
use super::outcome::plain;
use super::warm::{CHUNK, Warmed, warm_async};
use super::{future, gather, many};
use crate::engine::lead::Lead;
use crate::engine::look::{Looked, Purpose};
use crate::rules::got::Got;
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
///
/// # Naming its type
///
/// The loader is a part of the type, and neither a closure's type nor that of an async function's future can
/// be written down. For a field, a `static` or the state of a server, implement [`AsyncLoader`] for a type of
/// your own. With `axum`:
///
/// ```
/// use axum::extract::{Path, State};
/// use axum::{Router, http::StatusCode, routing::get};
/// use larder::{AsyncLoader, AsyncLoadingCache, Cache, LoadCx, LoadError, Loaded};
/// use std::{io, time::Duration};
///
/// # struct Db;
/// # impl Db {
/// #     async fn user(&self, id: u64) -> io::Result<Option<String>> { Ok(Some(format!("user {id}"))) }
/// # }
/// struct FromDb(Db); // a connection pool, in real life
///
/// impl AsyncLoader<u64, String> for FromDb {
///     type Error = io::Error;
///
///     async fn load(&self, id: &u64, _: &LoadCx<String>) -> io::Result<Loaded<String>> {
///         Ok(self.0.user(*id).await?.into()) // an `Option`: there may be none
///     }
/// }
///
/// type Users = AsyncLoadingCache<u64, String, FromDb>;
///
/// async fn show(State(users): State<Users>, Path(id): Path<u64>) -> Result<String, StatusCode> {
///     users.load(&id).await.map_err(|error| match error {
///         LoadError::NotFound => StatusCode::NOT_FOUND,
///         _ => StatusCode::BAD_GATEWAY,
///     })
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use larder::SteppingRuntime as TheRuntime;
/// let users: Users = Cache::builder()
///     .max_entries(100_000)
///     .negative_ttl(Duration::from_secs(5))
///     .load_timeout(Duration::from_secs(30))
///     .detached_loads() // a client that hangs up does not take the load with it
///     .max_concurrent_loads(32)
///     .runtime(TheRuntime::new()) // leave it out inside of tokio, with the feature `tokio`
///     .build_loading_async(FromDb(Db))?;
/// let app: Router = Router::new().route("/users/{id}", get(show)).with_state(users);
/// # Ok(()) }
/// ```
///
/// A function pointer can be named too, if its future is boxed:
/// `AsyncFnLoader<fn(u64) -> Pin<Box<dyn Future<Output = io::Result<String>> + Send>>>`; and so can a closure in
/// a `Box<dyn Fn(u64) -> Pin<Box<dyn Future<Output = io::Result<String>> + Send>> + Send + Sync>`. Where a
/// [`Cache`] is asked for, hand over a handle of the cache inside: `Cache::clone(&users)`.
pub struct AsyncLoadingCache<K, V, L, S = ahash::RandomState> {
    pub(super) cache: Cache<K, V, S>,
    pub(super) loader: Arc<L>,
    pub(super) runtime: Arc<dyn Runtime>,
    /// `None` without `batch`.
    gather: Option<Arc<Gather<K, V, S>>>,
    /// Its reference count is the number of handles to this loading cache.
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

    /// Starts a call for one key with settings of its own, as [`Cache::at`] does. In addition it can load with
    /// the cache's own loader: [`At::read_through`].
    pub fn at<'a, Q: ?Sized>(&'a self, key: &'a Q) -> At<'a, K, V, S, Q, &'a Self> {
        At::new(&self.cache.store, key, self)
    }
}

impl<K, V, L, S, Q> At<'_, K, V, S, Q, &AsyncLoadingCache<K, V, L, S>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToKey<K> + Sync,
{
    /// Returns or loads the value with the cache's own loader, as [`AsyncLoadingCache::load`] does
    /// ([detached](crate::CacheBuilder::detached_loads), where that is set), with the settings made here; also
    /// tells how it was obtained. With [`force`](Self::force) it is a [`refresh`](AsyncLoadingCache::refresh)
    /// whose result the caller waits for.
    ///
    /// ```
    /// use larder::{Cache, How};
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use larder::SteppingRuntime as TheRuntime;
    /// let stock = Cache::builder()
    ///     .max_entries(10_000)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .runtime(TheRuntime::new()) // leave it out inside of tokio, with the feature `tokio`
    ///     .build_loading_async_fn(|item: String| async move { Ok::<_, Infallible>(item.len()) })?;
    /// let shown = stock.load("lamp").await?; // up to a minute old
    /// let sold = stock.at("lamp").max_age(Duration::from_secs(1)).read_through().await?;
    /// let renewed = stock.at("lamp").force().read_through().await?;
    /// assert_eq!((shown, sold.value, renewed.how), (4, 4, How::Loaded));
    /// # Ok(()) }
    /// ```
    ///
    /// It heeds [`max_age`](Self::max_age), [`force`](Self::force), [`fallback`](Self::fallback) and
    /// [`timeout`](Self::timeout), after which a detached load goes on. It ignores [`ttl`](Self::ttl),
    /// [`tag`](Self::tag) and [`keep_life`](Self::keep_life), which are the loader's to set, and does not
    /// [`batch`](crate::CacheBuilder::batch).
    ///
    /// # Errors
    ///
    /// As [`AsyncLoadingCache::load`]; with [`timeout`](Self::timeout) those that it names.
    ///
    /// # Panics
    ///
    /// As [`AsyncLoadingCache::load`].
    pub fn read_through(self) -> impl Future<Output = Result<Got<V>, LoadError<L::Error>>> + Send {
        async move {
            let (store, key, loader) = (self.store, self.key, &self.owner.loader);
            let hash = store.hash(key);
            let call = Call { ttl: None, may_offload: true, ..self.call::<L::Error>(hash) };
            if let Some(found) = self.look(hash, &call) {
                return found;
            }
            let load = |lead: &mut Lead<K, V, S>| {
                let (cx, key) = (lead.cx(), lead.key().clone());
                async move { loader.load(&key, &cx).await }
            };
            let fallback = self.fallback;
            let finish = |result| or_fallback(result, fallback);
            future::load(store, hash, key, call, load, finish).await
        }
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
    pub fn load<Q>(&self, key: &Q) -> impl Future<Output = Result<V, LoadError<L::Error>>> + Send
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K> + Sync,
    {
        async move {
            let store = &self.cache.store;
            let hash = store.hash(key);
            match store.get(hash, key, Purpose::Load) {
                Looked::Value(value) => return Ok(value),
                Looked::Missing => return Err(LoadError::NotFound),
                Looked::Nothing => {}
            }
            if let Some(gather) = self.gather.as_ref().filter(|_| !self.loader.is_of_one_key()) {
                let load = |keys: Vec<K>| async move { self.loader.load_many(&keys).await };
                // boxed: seldom used, and larger than the rest of the future
                return plain(Box::pin(gather::load_async(store, gather, hash, key, load)).await);
            }
            let load = |lead: &mut Lead<K, V, S>| {
                let (cx, key) = (lead.cx(), lead.key().clone());
                async move { self.loader.load(&key, &cx).await }
            };
            future::load(store, hash, key, Call::of_owner::<L::Error>(), load, plain).await
        }
    }

    /// Returns the values of many keys: from the cache, and with one call of the loader's `load_many` for
    /// those that are neither cached nor being loaded, as [`Cache::get_or_load_many`] says. Each key has its
    /// own load in flight, shared with single calls. A closure as loader is called for each key, up to 32 at
    /// once.
    ///
    /// # Panics
    ///
    /// If the loader does, in this task.
    #[doc(alias = "get_all")]
    pub fn load_many(&self, keys: &[K]) -> impl Future<Output = Many<K, V, L::Error>> + Send {
        async move {
            if self.loader.is_of_one_key() {
                let load = |key: K| async move { self.loader.load(&key, &LoadCx::of_many()).await };
                // boxed: seldom used, and larger than the rest of the future
                return Box::pin(many::load_each_async(&self.cache.store, keys, load)).await;
            }
            let load = |keys: Vec<K>| async move { self.loader.load_many(&keys).await };
            many::load_async(&self.cache.store, keys, load, |reply| reply).await
        }
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
    /// and stays if the load fails. To wait for the new value, await
    /// `at(key).force().read_through()`.
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
