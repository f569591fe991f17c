//! Floor 6: the builder.

mod bounds;
mod lives;
mod loads;
mod check;
mod plan;
mod settings;
mod tier;

use crate::engine::store::{Plan, Store};
use crate::front::background::{ByTasks, ByThreads};
use crate::front::cache::Cache;
use crate::front::gather::Gather;
use crate::front::loader::{AsyncFnLoader, AsyncLoader, FnLoader, Loader};
use crate::front::loading::LoadingCache;
use crate::front::loading_async::AsyncLoadingCache;
use crate::parts::notifier::Notifier;
use crate::rules::event::Event;
use crate::rules::expiry::ticks;
use crate::rules::loaded::Loaded;
use crate::words::clock::Clock;
use crate::words::error::ConfigError;
use crate::words::pool::Pool;
use crate::words::removal::Removal;
use crate::words::runtime::Runtime;
use settings::Settings;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use tier::started;

/// Builds a [`Cache`]: it needs a bound, and everything else has a default.
///
/// ```
/// use larder::Cache;
/// use std::time::Duration;
///
/// let cache: Cache<u64, String> = Cache::builder()
///     .max_entries(10_000)
///     .time_to_live(Duration::from_secs(300))
///     .jitter(0.1)
///     .build()?;
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct CacheBuilder<K, V, S = ahash::RandomState> {
    settings: Settings<K, V>,
    hasher: S,
}

impl<K, V> Cache<K, V> {
    /// Creates a cache of at most `max_entries` entries, which live until they are evicted or removed. All
    /// other settings have their defaults.
    pub fn new(max_entries: u64) -> Self {
        Self::over(Store::new(Self::builder().max_entries(max_entries).into_plan()))
    }

    /// Starts building a cache with settings of your own: see [`CacheBuilder`].
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder { settings: Settings::default(), hasher: ahash::RandomState::new() }
    }
}

impl<K, V, S> CacheBuilder<K, V, S> {
    /// Sets the number of shards, the independently locked parts of the cache: a hint, clamped to `1..=1024`
    /// and to the bound. The default is sixteen per core; fewer, if a shard would hold less than 512 entries;
    /// more, if it would hold over 8,192. A bound by weight is taken for bytes: fewer, if a shard would hold
    /// less than 512 entries of 32 KiB; more, if it would hold over 8,192 entries of 1 KiB. A cache without a
    /// bound is split like one of two million entries.
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = Some(shards);
        self
    }

    /// Replaces the default hasher, which is keyed by the operating system's randomness and withstands
    /// callers who choose their keys to collide.
    #[doc(alias = "build_with_hasher")]
    pub fn hasher<S2: BuildHasher>(self, hasher: S2) -> CacheBuilder<K, V, S2> {
        CacheBuilder { settings: self.settings, hasher }
    }

    /// Sets the clock that all times are read from: [`Clock::system`] by default, [`Clock::manual`] for tests
    /// that must not wait.
    #[doc(alias("ticker", "external_clock"))]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = Some(clock);
        self
    }

    /// Seeds the cache's random numbers, for tests that have to come out the same each time. The same calls
    /// by one thread, in the same order, then have the same outcome:
    ///
    /// - In one shard the draws of [`jitter`](Self::jitter) are the same: for the first value, the second and
    ///   so on.
    /// - With several [`shards`](Self::shards) each has its own sequence of draws, and the key's hash decides
    ///   which shard it falls into. The default hasher is keyed at random in every cache, so set a
    ///   [`hasher`](Self::hasher) with fixed keys as well, and `shards`, whose default depends on the number
    ///   of cores.
    /// - Which entry is evicted, the draws of [`RefreshAhead::CostAware`](crate::RefreshAhead::CostAware) and the
    ///   lives in a second [`tier`](Self::tier) depend on the key's hash too: with a fixed hasher (and for the
    ///   latter two at the same times, so with a [manual clock](Clock::manual)) they are the same.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::hash::{BuildHasherDefault, DefaultHasher};
    /// use std::time::Duration;
    ///
    /// let life = || {
    ///     let rates = Cache::builder()
    ///         .max_entries(10_000)
    ///         .shards(8)
    ///         .time_to_live(Duration::from_secs(60))
    ///         .jitter(0.5)
    ///         .clock(Clock::manual().0)
    ///         .hasher(BuildHasherDefault::<DefaultHasher>::default()) // the same hashes each time
    ///         .seed(7)
    ///         .build()?;
    ///     (0..10).for_each(|key| rates.insert(key, 1.08));
    ///     Ok::<_, larder::ConfigError>(rates.peek(&9).unwrap().fresh_for)
    /// };
    /// assert_eq!(life()?, life()?);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Names the cache, for `Debug` and whatever reports on it.
    #[doc(alias = "cache_name")]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets a listener that is called once for every value that leaves the cache, with the cause. It runs on the
    /// thread that made the value leave, with no lock held, so it may use the cache; removals by one thread are
    /// reported in order. (If the listener itself removes something, that is reported at once, by a nested call,
    /// before the remaining removals of the outer call.) Values that expire while nobody uses the cache are
    /// reported on a thread of larder's. A panic in the listener is caught and counted in the
    /// [`Stats`](crate::Stats). Values still stored when the cache is dropped are dropped with it, unreported.
    ///
    /// A listener that holds a handle of its own cache keeps the cache alive for ever: give it an
    /// [`Invalidator`](crate::Invalidator), which it can [upgrade](crate::Invalidator::upgrade).
    ///
    /// If the compiler does not know yet what the cache holds, begin with `Cache::<K, V>::builder()` or write
    /// the argument's type:
    ///
    /// ```
    /// use larder::{Cache, Removal};
    ///
    /// let files = Cache::builder()
    ///     .max_entries(1)
    ///     .on_removal(|gone: Removal<u32, String>| println!("{}: {:?}", gone.key, gone.cause))
    ///     .build()?;
    /// files.insert(1, "a".to_owned());
    /// files.insert(2, "b".to_owned()); // 1: Evicted
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    #[doc(alias("eviction_listener", "lifecycle", "removal_listener", "on_evict"))]
    pub fn on_removal(mut self, listener: impl Fn(Removal<K, V>) + Send + Sync + 'static) -> Self {
        self.settings.listener = Some(Box::new(listener));
        self
    }

    /// Sets a handler, for logs and alarms, that is called with every [`Event`]: failures and recoveries,
    /// even those that no caller hears of, such as a background refresh that fails.
    ///
    /// It runs on the thread that notices the event, with no lock held, and delays that thread: keep it
    /// quick. In an outage there may be as many events as there are misses. Callers who wait for a failed
    /// load have been told before. Events of different threads come in no particular order, so
    /// `CircuitClosed` may come before the `CircuitOpened` that it ended; for the current state ask
    /// [`explain`](Cache::explain).
    ///
    /// The handler may use the cache, but not load: loading a key that is not cached fails with
    /// [`Recursive`](crate::LoadError::Recursive), what `get_or_insert_with` makes is returned but not
    /// stored, and no refresh begins. When told that a second tier lags or leaves entries out, it cannot wait
    /// for that tier either: `tier_flush` and `remove_everywhere` then fail with
    /// [`Refused`](crate::TierError::Refused). (In other events they block the thread that reports.) It is not
    /// told of what it causes itself on its thread. A panic in it is caught, and counted in
    /// [`Stats::listener_panics`](crate::Stats::listener_panics).
    ///
    /// A handler that holds a handle of its own cache keeps the cache alive for ever, as a
    /// [listener](Self::on_removal) does. A miss without an event costs one look at a thread-local list, and
    /// one lock if there is a circuit breaker; a hit costs nothing.
    ///
    /// ```
    /// use larder::{Cache, Event};
    /// use std::time::Duration;
    ///
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # impl std::fmt::Display for DbError {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("away") }
    /// # }
    /// # fn select_user(id: &u64) -> Result<String, DbError> { Ok(format!("user {id}")) }
    /// let users = Cache::builder()
    ///     .max_entries(10_000)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_while_revalidate(Duration::from_secs(30))
    ///     .circuit_breaker(10, Duration::from_secs(5))
    ///     .on_event(|event| match event {
    ///         // `Display` includes the text of common error types; one of your own is downcast
    ///         Event::LoadFailed { key, failures, error, .. } => match error.downcast_ref::<DbError>() {
    ///             Some(error) => eprintln!("users: load of {key} failed, {failures} in a row: {error}"),
    ///             None => eprintln!("users: load of {key} failed, {failures} in a row"),
    ///         },
    ///         event => eprintln!("users: {event}"), // "users: the circuit breaker opened"
    ///     })
    ///     .build_loading_fn(|id: &u64| select_user(id))?;
    /// # assert_eq!(users.load(&42).unwrap(), "user 42");
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn on_event(mut self, handler: impl Fn(Event<'_, K>) + Send + Sync + 'static) -> Self {
        self.settings.notifier = Some(Arc::new(Notifier::new(Box::new(handler))));
        self
    }

    /// Builds the cache.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the setting and says what it accepts, for: none or two of `max_entries`,
    /// `max_weight` and `unbounded`; a weigher without a `max_weight` or the other way round; a jitter
    /// outside `0.0..=1.0`; a zero `load_timeout`, `soft_timeout`, `time_to_idle`, `max_concurrent_loads` or
    /// `circuit_breaker`; a stale window without a `time_to_live` to count from; an `error_backoff` whose
    /// first pause is longer than its longest one, or is zero when the longest is not; a `batch` of no keys
    /// or of no time; a `soft_timeout` without a stale window; a refresh point that is not between 0.0 and
    /// 1.0, or a `beta` that is negative or not finite; a second tier together with a `time_to_idle`. [`NoThread`](ConfigError::NoThread) if the
    /// thread that a second tier needs cannot be started, and [`Tier`](ConfigError::Tier) if the tier will
    /// not serve this cache. [`NeedsLoader`](ConfigError::NeedsLoader) for `batch` and `detached_loads`,
    /// which the other `build_..` methods accept; `runtime` is ignored by a cache without a loader.
    pub fn build(self) -> Result<Cache<K, V, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.settings.check()?;
        self.settings.check_without_loader()?;
        Ok(Cache::over(started(self.into_plan())?))
    }

    /// Builds a read-through cache, which loads by itself: see [`LoadingCache`].
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), but for [`NeedsLoader`](ConfigError::NeedsLoader).
    pub fn build_loading<L>(mut self, loader: L) -> Result<LoadingCache<K, V, L, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        L: Loader<K, V>,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.settings.check()?;
        let runtime = self.settings.runtime.take().unwrap_or_else(|| Arc::new(Pool::new()));
        let loader = Arc::new(loader);
        let gather = self.settings.batch.map(|(most, wait)| Gather::new(most, ticks(wait)));
        let mut plan = self.into_plan();
        plan.refresher = Some(Box::new(ByThreads {
            loader: Arc::clone(&loader),
            runtime: Arc::clone(&runtime),
        }));
        Ok(LoadingCache::over(Cache::over(started(plan)?), loader, runtime, gather))
    }

    /// Builds a read-through cache whose loader is a closure: [`build_loading`](Self::build_loading) for
    /// loaders that need the key and nothing else. The closure loads one key at a time: `load_many` and
    /// `warm` call it for each key, a key that fails takes no other with it, and `batch` is ignored.
    ///
    /// It may return a plain value, an `Option` of one (`None`: the source has no such value), or a
    /// [`Loaded`], which says more. For the latter two, say what the cache holds: from what the closure
    /// returns the compiler could also conclude that it holds `Option`s.
    ///
    /// ```
    /// use larder::{Cache, Loaded};
    /// use std::{io, time::Duration};
    ///
    /// # fn fetch_rate(_: &str) -> io::Result<(f64, Duration)> { Ok((1.08, Duration::from_secs(20))) }
    /// # fn select_name(id: u64) -> io::Result<Option<String>> { Ok((id != 7).then(|| "Ada".to_owned())) }
    /// let rates = Cache::<String, f64>::builder()
    ///     .max_entries(1_000)
    ///     .time_to_live(Duration::from_secs(60)) // where the source says nothing else
    ///     .build_loading_fn(|pair: &String| {
    ///         let (rate, holds) = fetch_rate(pair)?;
    ///         Ok::<_, io::Error>(Loaded::new(rate).ttl(holds))
    ///     })?;
    /// assert_eq!(rates.load("EURUSD")?, 1.08);
    ///
    /// let names = Cache::<u64, String>::builder()
    ///     .max_entries(1_000)
    ///     .negative_ttl(Duration::from_secs(5)) // so long "there is none" is not asked again
    ///     .build_loading_fn(|id: &u64| select_name(*id))?;
    /// assert_eq!(names.load(&1)?, "Ada");
    /// assert!(names.load(&7).unwrap_err().is_not_found());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A closure has no type that can be written down: for a field or a `static`, see
    /// [`LoadingCache`](LoadingCache#naming-its-type).
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_loading_fn<R, E, F>(
        self,
        load: F,
    ) -> Result<LoadingCache<K, V, FnLoader<F>, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(&K) -> Result<R, E> + Send + Sync + 'static,
        R: Into<Loaded<V>>,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.build_loading(FnLoader(load))
    }

    /// Builds a read-through cache with an async loader: see [`AsyncLoadingCache`]. With the feature `tokio`
    /// it uses the tokio runtime that this is called in, unless [`runtime`](Self::runtime) sets another one.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and [`ConfigError::NoRuntime`] where there is none.
    pub fn build_loading_async<L>(
        mut self,
        loader: L,
    ) -> Result<AsyncLoadingCache<K, V, L, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        L: AsyncLoader<K, V>,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.settings.check()?;
        let runtime =
            self.settings.runtime.take().or_else(surrounding).ok_or(ConfigError::NoRuntime)?;
        let loader = Arc::new(loader);
        let gather = self.settings.batch.map(|(most, wait)| Gather::new(most, ticks(wait)));
        let detaches = self.settings.detached_loads;
        let mut plan = self.into_plan();
        plan.detaches = detaches;
        plan.refresher =
            Some(Box::new(ByTasks { loader: Arc::clone(&loader), runtime: Arc::clone(&runtime) }));
        Ok(AsyncLoadingCache::over(Cache::over(started(plan)?), loader, runtime, gather))
    }

    /// Builds a read-through cache whose loader is an async function, or a closure that returns a future:
    /// [`build_loading_async`](Self::build_loading_async) for loaders that need the key and nothing else. It
    /// gets a clone of the key, so that its future may keep it. It loads one key at a time: `load_many` calls
    /// it for up to 32 keys at once, `warm` for four; a key that fails takes no other with it, and `batch` is
    /// ignored.
    ///
    /// What it returns may be a plain value, an `Option` of one, or a [`Loaded`]: as with
    /// [`build_loading_fn`](Self::build_loading_fn), for the latter two say what the cache holds.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder::{Cache, RefreshAhead};
    /// use std::time::Duration;
    ///
    /// async fn select_user(id: u64) -> Result<String, std::io::Error> {
    ///     Ok(format!("user {id}")) // a query, in real life
    /// }
    ///
    /// # use larder::SteppingRuntime as TheRuntime;
    /// let users = Cache::builder()
    ///     .max_entries(100_000)
    ///     .time_to_live(Duration::from_secs(300))
    ///     .refresh_ahead(RefreshAhead::At(0.8))
    ///     .runtime(TheRuntime::new()) // leave it out inside of tokio, with the feature `tokio`
    ///     .build_loading_async_fn(select_user)?;
    /// assert_eq!(users.load(&42).await?, "user 42");
    /// # Ok(()) }
    /// ```
    ///
    /// A closure that owns a handle (of a connection pool, say) is called many times, and its futures may
    /// outlive the call: let it clone the handle for each of them. (`async move |id| db.user(id).await` is
    /// refused: its futures would borrow from it.)
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use larder::SteppingRuntime as TheRuntime;
    /// use larder::Cache;
    ///
    /// # #[derive(Clone)]
    /// # struct Db;
    /// # impl Db {
    /// #     async fn user(&self, id: u64) -> std::io::Result<Option<String>> {
    /// #         Ok((id != 7).then(|| format!("user {id}")))
    /// #     }
    /// # }
    /// # let db = Db;
    /// let users = Cache::<u64, String>::builder()
    ///     .max_entries(100_000)
    ///     .runtime(TheRuntime::new()) // leave it out inside of tokio, with the feature `tokio`
    ///     .build_loading_async_fn(move |id| {
    ///         let db = db.clone();
    ///         async move { db.user(id).await } // an `Option`: there may be none
    ///     })?;
    /// assert_eq!(users.load(&42).await?, "user 42");
    /// assert!(users.load(&7).await.unwrap_err().is_not_found());
    /// # Ok(()) }
    /// ```
    ///
    /// Neither closures nor async functions have a type that can be written down: for a field, the state of a
    /// server or a `static`, see [`AsyncLoadingCache`](AsyncLoadingCache#naming-its-type).
    ///
    /// # Errors
    ///
    /// As [`build_loading_async`](Self::build_loading_async).
    pub fn build_loading_async_fn<R, E, F, Fut>(
        self,
        load: F,
    ) -> Result<AsyncLoadingCache<K, V, AsyncFnLoader<F>, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send,
        R: Into<Loaded<V>>,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.build_loading_async(AsyncFnLoader(load))
    }

    fn into_plan(self) -> Plan<K, V, S> {
        self.settings.plan(self.hasher)
    }
}

/// The tokio runtime that this is called in.
#[cfg(feature = "tokio")]
fn surrounding() -> Option<Arc<dyn Runtime>> {
    Some(Arc::new(tokio::runtime::Handle::try_current().ok()?))
}

#[cfg(not(feature = "tokio"))]
fn surrounding() -> Option<Arc<dyn Runtime>> {
    None
}

impl<K, V, S> fmt::Debug for CacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("CacheBuilder")
            .field("name", &settings.name)
            .field("max_entries", &settings.max_entries)
            .field("max_weight", &settings.max_weight)
            .field("unbounded", &settings.unbounded)
            .field("time_to_live", &settings.ttl)
            .field("jitter", &settings.jitter)
            .field("time_to_idle", &settings.idle)
            .field("negative_ttl", &settings.negative)
            .field("stale_while_revalidate", &settings.revalidate)
            .field("stale_if_error", &settings.on_error)
            .field("error_backoff", &settings.back_off)
            .field("refresh_ahead", &settings.refresh_ahead)
            .field("load_timeout", &settings.load_timeout)
            .field("max_concurrent_loads", &settings.max_loads)
            .field("circuit_breaker", &settings.breaker)
            .field("breaker_counts", &settings.counted)
            .field("soft_timeout", &settings.soft_timeout)
            .field("detached_loads", &settings.detached_loads)
            .field("shards", &settings.shards)
            .finish_non_exhaustive()
    }
}
