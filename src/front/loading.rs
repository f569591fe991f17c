//! The cache that owns a blocking loader (read-through).

use super::at::{At, or_fallback};
use super::cache::Cache;
use super::call::Call;
use super::gather::Gather;
use super::loader::Loader;
use super::outcome::plain;
use super::warm::{CHUNK, Warmed, warm};
use super::{blocking, gather, many};
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

/// A [`Cache`] that owns its loader (read-through), from
/// [`build_loading`](crate::CacheBuilder::build_loading): callers pass only the key, and the cache itself can
/// reload values that are asked for before they expire.
///
/// It is a `Cache` as well, by `Deref`: everything that a `Cache` can do is there, and a hit through it
/// starts a refresh that is due, as one through [`load`](Self::load) does. A clone is a handle to the same
/// cache, and so is a clone of the `Cache` inside. Dropping the last one drops all that is stored and stops
/// the cache's own threads; what is being loaded in the background by then is not stored anywhere.
///
/// ```
/// use larder::{Cache, RefreshAhead};
/// use std::{num::ParseIntError, time::Duration};
///
/// let users = Cache::builder()
///     .max_entries(100_000)
///     .time_to_live(Duration::from_secs(300))
///     .refresh_ahead(RefreshAhead::At(0.8)) // the last minute of each value is for its refresh
///     .build_loading_fn(|id: &String| id.parse::<u64>())?;
///
/// assert_eq!(users.load("42")?, 42);
/// assert_eq!(users.get("42"), Some(42));
/// users.remove("42");
/// assert!(users.load("none").is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # What runs where
///
/// A miss is loaded by its caller, on its own thread, and others wait for it, as with
/// [`get_or_load`](Cache::get_or_load). A refresh runs on the cache's [`Runtime`]: unless one was given, a
/// pool of at most eight threads (`larder-loader`) that start when there is something to do and end after ten
/// idle seconds. A caller that finds a value due gets it at once and waits for nothing: while that pool is
/// 1,024 loads behind, or another runtime [says](Runtime::is_busy) that it is busy, the refresh is left to a
/// later hit. Only if the runtime refuses the work, because it was shut down, does that caller do it itself,
/// if a slot of `max_concurrent_loads` is free. A key has one load at a time, whoever began it, and a refresh
/// is fenced like every load: it does not replace what was written after it began.
///
/// With [`soft_timeout`](crate::CacheBuilder::soft_timeout) a miss that can be served a stale value is
/// loaded there too, and its caller waits for that load as others do.
///
/// # Naming its type
///
/// The loader is a part of the type, and a closure's type cannot be written down. For a field or a `static`,
/// implement [`Loader`] for a type of your own (`LoadingCache<u64, String, Users>`), or give
/// [`build_loading_fn`](crate::CacheBuilder::build_loading_fn) a function pointer:
///
/// ```
/// use larder::{Cache, FnLoader, LoadingCache};
/// use std::{io, sync::LazyLock};
///
/// type Load = fn(&String) -> io::Result<String>;
///
/// static PAGES: LazyLock<LoadingCache<String, String, FnLoader<Load>>> = LazyLock::new(|| {
///     let builder = Cache::builder().max_entries(1_000);
///     builder.build_loading_fn(render as Load).expect("a bound is all it needs")
/// });
///
/// fn render(path: &String) -> io::Result<String> {
///     Ok(format!("page {path}"))
/// }
///
/// assert_eq!(PAGES.load("/").unwrap(), "page /");
/// ```
///
/// Where a [`Cache`] is asked for, as by [`WriteBehind::builder`](crate::WriteBehind::builder), hand over a
/// handle of the cache inside: `Cache::clone(&pages)`, since `pages.clone()` is another `LoadingCache`.
pub struct LoadingCache<K, V, L, S = ahash::RandomState> {
    pub(super) cache: Cache<K, V, S>,
    pub(super) loader: Arc<L>,
    pub(super) runtime: Arc<dyn Runtime>,
    /// `None` without `batch`.
    gather: Option<Arc<Gather<K, V, S>>>,
    /// Its reference count is the number of handles to this loading cache.
    handles: Arc<()>,
}

impl<K, V, L, S> LoadingCache<K, V, L, S> {
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

impl<K, V, L, S, Q> At<'_, K, V, S, Q, &LoadingCache<K, V, L, S>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
{
    /// Returns or loads the value with the cache's own loader, as [`LoadingCache::load`] does, with the
    /// settings made here; also tells how it was obtained. With [`force`](Self::force) it is a
    /// [`refresh`](LoadingCache::refresh) whose result the caller waits for.
    ///
    /// ```
    /// use larder::{Cache, How};
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// let stock = Cache::builder()
    ///     .max_entries(10_000)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .build_loading_fn(|item: &String| Ok::<_, Infallible>(item.len()))?;
    /// let shown = stock.load("lamp").unwrap(); // up to a minute old
    /// let sold = stock.at("lamp").max_age(Duration::from_secs(1)).read_through().unwrap();
    /// let renewed = stock.at("lamp").force().read_through().unwrap();
    /// assert_eq!((shown, sold.value, renewed.how), (4, 4, How::Loaded));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    ///
    /// It heeds [`max_age`](Self::max_age), [`force`](Self::force), [`fallback`](Self::fallback) and
    /// [`timeout`](Self::timeout). It ignores [`ttl`](Self::ttl), [`tag`](Self::tag) and
    /// [`keep_life`](Self::keep_life): what the cache's own loader brings has the life and the tags that the
    /// loader gives it ([`Loaded::ttl`](crate::Loaded::ttl), [`Loaded::tag`](crate::Loaded::tag)), since a
    /// refresh in the background has no caller who could set them. The key is loaded by itself, also in a
    /// cache with [`batch`](crate::CacheBuilder::batch).
    ///
    /// # Errors
    ///
    /// As [`LoadingCache::load`]; with [`timeout`](Self::timeout) those that it names.
    ///
    /// # Panics
    ///
    /// As [`LoadingCache::load`].
    pub fn read_through(self) -> Result<Got<V>, LoadError<L::Error>> {
        let (store, key, loader) = (self.store, self.key, &self.owner.loader);
        let hash = store.hash(key);
        let call = Call { ttl: None, may_offload: true, ..self.call::<L::Error>(hash) };
        if let Some(found) = self.look(hash, &call) {
            return found;
        }
        let result = blocking::load(store, hash, key, call, |lead| {
            let (cx, key) = (lead.cx(), lead.key().clone());
            lead.run(|| loader.load(&key, &cx))
        });
        or_fallback(result, self.fallback)
    }
}

impl<K, V, L, S> LoadingCache<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the value of a key: from the cache, or loaded, once, however many callers ask. A value that is
    /// due for its refresh is returned as it is, and refreshed in the background.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load`]; [`LoadError::NotFound`] where the loader says that there is no such
    /// value, now or within `negative_ttl`.
    ///
    /// # Panics
    ///
    /// If the loader does, on this thread. If it panics elsewhere, for a caller that
    /// [`soft_timeout`](crate::CacheBuilder::soft_timeout) may free, this returns [`LoadError::Panicked`], or
    /// the stale value.
    pub fn load<Q>(&self, key: &Q) -> Result<V, LoadError<L::Error>>
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
            let load = |keys: &[K]| self.loader.load_many(keys);
            return plain(gather::load(store, gather, hash, key, load));
        }
        plain(blocking::load(store, hash, key, Call::of_owner::<L::Error>(), |lead| {
            let (cx, key) = (lead.cx(), lead.key().clone());
            lead.run(|| self.loader.load(&key, &cx))
        }))
    }

    /// Returns the values of many keys: from the cache, and with one call of the loader's `load_many` for
    /// those that are neither cached nor being loaded, as [`Cache::get_or_load_many`] says. Each key has its
    /// own load in flight, shared with single calls.
    ///
    /// # Panics
    ///
    /// If the loader does, on this thread.
    #[doc(alias = "get_all")]
    pub fn load_many(&self, keys: &[K]) -> Many<K, V, L::Error> {
        let store = &self.cache.store;
        if self.loader.is_of_one_key() {
            return many::load_each(store, keys, |key| self.loader.load(key, &LoadCx::of_many()));
        }
        many::load(store, keys, |keys| self.loader.load_many(keys))
    }

    /// Loads keys in the background, before anybody asks for them, and returns at once: what is not cached is
    /// given to the loader's `load_many`, 32 keys at a time (or as many as
    /// [`batch`](crate::CacheBuilder::batch) says), by four callers at most. The handle tells how far it has
    /// come. When the last handle to this loading cache is dropped, warming ends, after what is being loaded
    /// by then.
    ///
    /// If the runtime refuses the work, all of it is done here, before this returns, with every wait that
    /// loads have. The cache's own pool does so while it is 1,024 loads behind.
    ///
    /// ```
    /// # use larder::Cache;
    /// # use std::convert::Infallible;
    /// let squares = Cache::builder()
    ///     .max_entries(10_000)
    ///     .build_loading_fn(|n: &u64| Ok::<_, Infallible>(n * n))?;
    /// let warmed = squares.warm(0..1_000);
    /// warmed.wait(); // or look at `warmed.left()` now and then
    /// assert_eq!((warmed.loaded(), warmed.failed()), (1_000, 0));
    /// assert_eq!(squares.get(&12), Some(144));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn warm(&self, keys: impl IntoIterator<Item = K>) -> Warmed {
        let chunk = match &self.gather {
            _ if self.loader.is_of_one_key() => 1,
            Some(gather) => gather.most(),
            None => CHUNK,
        };
        warm(&self.cache.store, &self.loader, &self.runtime, keys, chunk, &self.handles)
    }

    /// Loads a key in the background, whether it is cached or not, and however fresh. Waits for nobody; if
    /// the key is being loaded already, that load will do. The cached value is served until the new one
    /// replaces it, and stays if the load fails. To wait for the new value, call
    /// `at(key).force().read_through()`.
    ///
    /// If the runtime refuses the work, as the cache's own pool does while it is 1,024 loads behind, that is
    /// counted as [`refused`](crate::Stats::refused), and the load is done here, before this returns; but if
    /// it would have to wait for a slot of
    /// [`max_concurrent_loads`](crate::CacheBuilder::max_concurrent_loads), nothing is loaded.
    pub fn refresh<Q>(&self, key: &Q)
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let store = &self.cache.store;
        store.refresh(store.hash(key), key);
    }
}

impl<K, V, L, S> Deref for LoadingCache<K, V, L, S> {
    type Target = Cache<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.cache
    }
}

/// As [`Cache`] is.
impl<K, V, L: std::panic::RefUnwindSafe, S> std::panic::RefUnwindSafe for LoadingCache<K, V, L, S> {}
impl<K, V, L: std::panic::RefUnwindSafe, S> std::panic::UnwindSafe for LoadingCache<K, V, L, S> {}

impl<K, V, L, S> Clone for LoadingCache<K, V, L, S> {
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

impl<K, V, L, S> fmt::Debug for LoadingCache<K, V, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadingCache").field("cache", &self.cache).finish_non_exhaustive()
    }
}
