//! Floor 6: assembly.

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
use crate::rules::ahead::RefreshAhead;
use crate::rules::event::Event;
use crate::rules::expiry::ticks;
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
use std::time::Duration;
use tier::started;

/// Builds a [`Cache`]: one bound, and whatever else differs from the defaults.
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
    /// A cache of at most `max_entries` entries that live until they are evicted or removed, with
    /// all other settings at their defaults.
    pub fn new(max_entries: u64) -> Self {
        Self::over(Store::new(Self::builder().max_entries(max_entries).into_plan()))
    }

    /// Everything that can be set: see [`CacheBuilder`].
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder { settings: Settings::default(), hasher: ahash::RandomState::new() }
    }
}

impl<K, V, S> CacheBuilder<K, V, S> {
    /// Bounds the cache to `entries` entries, cached "not found" included. Zero stores nothing; loads are
    /// still shared.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.settings.max_entries = Some(entries);
        self
    }

    /// Bounds the weight of all entries together to `weight`, in the units of the
    /// [`weigher`](Self::weigher): bytes, say. The budget is the whole cache's: one entry may take
    /// all of it. A cached "not found" weighs 1.
    ///
    /// Of two entries that are asked for equally often, the heavier one is evicted first, since that leaves
    /// more calls that find their value: to stay, an entry of twice the mean weight or more has to be hit
    /// twice as often as one of the mean, and one of an eighth of it or less an eighth as often. (In ten
    /// rows of traces, with made-up sizes from 64 bytes to 256 KiB, 52 calls of 100 are hits instead of 45,
    /// and 44 per cent of the bytes are hits instead of 45.)
    ///
    /// An insert that has to evict others takes some 0.2 µs. If its shard holds clearly less than its part of
    /// the bound, it evicts in other shards, one after the other; such inserts take turns.
    pub fn max_weight(mut self, weight: u64) -> Self {
        self.settings.max_weight = Some(weight);
        self
    }

    /// No bound at all: entries leave only by expiry and removal, and the cache holds whatever the process
    /// is asked for. (One exception, which holds for bounded caches too: of more than 2,048 keys in a shard
    /// that have the very same hash, some are evicted, or a flood of such keys would make every look-up slow.)
    pub fn unbounded(mut self) -> Self {
        self.settings.unbounded = true;
        self
    }

    /// Says what an entry weighs. Called once per stored value, before it is stored, with no lock held. The
    /// number is taken as it is: entries of weight zero are not bounded, and one beyond the whole
    /// budget is refused and reported as [`Rejected`](crate::RemovalCause::Rejected).
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.settings.weigher = Some(Box::new(weigher));
        self
    }

    /// How long a value is fresh after it was stored. Unset, for ever. Counted in milliseconds,
    /// rounded up; what is longer than 69 years is for ever; zero stores nothing. (Where a second
    /// [`tier`](Self::tier) has a longer time to live of its own, this is how long a copy is kept before the
    /// tier is asked again.)
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(ttl);
        self
    }

    /// Spreads expiries: each value's life is drawn once, uniformly from
    /// `[ttl * (1 - fraction), ttl]`, so that what was stored together does not expire together. It
    /// only ever shortens. From 0.0 (the default) to 1.0; 0.1 is a good value.
    ///
    /// Values that are given a life of their own, by [`at(..).ttl(..)`](crate::At::ttl) or
    /// [`Loaded::ttl`](crate::Loaded::ttl), are jittered too, also where there is no
    /// [`time_to_live`](Self::time_to_live). A cached "not found" is not.
    ///
    /// An example: 10,000 values were loaded in one second, and all are asked for all the time. Without
    /// jitter the source gets 10,000 loads in the second in which they expire; with 0.1 at most 381.
    ///
    #[doc = include_str!("../../benches/plots/jitter.svg")]
    ///
    /// (`cargo run --release --manifest-path benches/policies/Cargo.toml --bin jitter`)
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.settings.jitter = Some(fraction);
        self
    }

    /// Sliding expiry: a value that no hit has used for `idle` expires, whatever is left of its time
    /// to live, which no hit prolongs. `peek`, `contains` and `entries` are no hits. In whole
    /// milliseconds, rounded up. Costs twelve bytes an entry more. Refused beside a second
    /// [`tier`](Self::tier), which does not know what is used elsewhere.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.settings.idle = Some(idle);
        self
    }

    /// For `window` after a value has expired, callers get it at once, while one of them loads the next one:
    /// the first who finds it expired, and that caller waits for its load. (A cache with a loader of its own
    /// loads in the background, and nobody waits.) As in RFC 5861. In whole milliseconds, rounded up; zero,
    /// the default, serves nothing stale.
    ///
    /// The window begins at the expiry and has a fixed end: no use of the value prolongs it. An
    /// [`expire`](Cache::expire) ends a life early, and the window begins then; a removed value is never
    /// served again. A value that expired by [`time_to_idle`](Self::time_to_idle), and a cached "not found",
    /// have no window. [`get`](Cache::get), [`contains`](Cache::contains) and [`entries`](Cache::entries)
    /// know fresh values only; [`peek`](Cache::peek) shows what is in a window.
    ///
    /// ```
    /// use larder::{Cache, Clock, How, StaleWhy};
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let cache: Cache<String, u32> = Cache::builder()
    ///     .max_entries(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_while_revalidate(Duration::from_secs(30))
    ///     .clock(clock)
    ///     .build()?;
    /// cache.insert("price".to_owned(), 10);
    /// hand.advance(Duration::from_secs(60));
    /// let price = cache.at("price").load(|_| {
    ///     // this caller came first and loads; another one does not wait for it
    ///     let other = cache.at("price").load(|_| -> Result<u32, String> { unreachable!() });
    ///     assert_eq!(other.unwrap().how, How::Stale(StaleWhy::Revalidating));
    ///     Ok::<_, String>(11)
    /// });
    /// assert_eq!(price.unwrap().value, 11);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.settings.revalidate = window;
        self
    }

    /// For `window` after its expiry a value is served stale if the load of its successor fails,
    /// panics under another caller or times out. Callers wait for that load first, unless they are
    /// still within [`stale_while_revalidate`](Self::stale_while_revalidate). (RFC 5861.) In whole
    /// milliseconds, rounded up; zero, the default, serves no value for an error.
    ///
    /// Both windows begin at the expiry, so this one has an effect only if it is the longer one. It has a
    /// fixed end too, and is for the same values: a cached "not found" has none, and who asks for its key after
    /// [`negative_ttl`](Self::negative_ttl) gets the error. After a failed load the cache pauses before the next one
    /// (see [`error_backoff`](Self::error_backoff)), and callers get the stale value at once.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let cache: Cache<String, u32> = Cache::builder()
    ///     .max_entries(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_if_error(Duration::from_secs(3600))
    ///     .clock(clock)
    ///     .build()?;
    /// cache.insert("price".to_owned(), 10);
    /// hand.advance(Duration::from_secs(100));
    /// assert_eq!(cache.get_or_load("price", || Err("the source is away")).unwrap(), 10);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.settings.on_error = window;
        self
    }

    /// The pause after a load of a key has failed, panicked or timed out, before the cache loads that key
    /// again: `min` after the first failure, twice as long after each further one in a row, `max` at the
    /// most. During the pause callers get the stale value, if a window allows one, or else the last error,
    /// at once. A successful load of the key, or a write to it, ends the pause and the count of failures.
    /// (Two kinds of callers load in spite of it: those whose loader has another type of error, and
    /// [forced](crate::At::force) ones.)
    ///
    /// Unset, there is a pause of one second while the cache has a value to serve meanwhile: a stale one, or a
    /// fresh one that was to be refreshed ahead. In all other cases there is none: the next call loads. Zero for
    /// both means no pause at all. In whole milliseconds, rounded up.
    ///
    /// A shard remembers the failures of 128 keys. Beyond that it forgets those whose pause ends the soonest.
    pub fn error_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.settings.back_off = Some((min, max));
        self
    }

    /// How long "the source has no such value" is cached, in whole milliseconds, rounded up. Zero, the
    /// default, does not keep it. No jitter is taken off, and no stale window follows.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.settings.negative = ttl;
        self
    }

    /// Loads a value that is asked for again while it is still fresh, so that nobody waits when it
    /// expires: see [`RefreshAhead`]. [`RefreshAhead::Never`] by default.
    ///
    /// A cache with a loader of its own ([`build_loading`](Self::build_loading)) does so in the
    /// background, and every caller is served the old value at once.
    ///
    /// In one without, a closure never runs in the background. The first caller with a closure at hand who
    /// finds the value due waits for its own load, and all others are served the value at once:
    ///
    /// - `get_or_load`, `get_or_load_optional` and [`at`](crate::Cache::at)`(..).load`: if the load fails,
    ///   or no slot of [`max_concurrent_loads`](Self::max_concurrent_loads) is free for it, that caller
    ///   too is served the value that is still fresh.
    /// - `get_or_load_many`: what is due is loaded with what is missing, in one call of the loader, and
    ///   the same holds for each key.
    /// - `get_or_insert_with`: it is made anew; where there is no slot, the caller is served the value
    ///   that is there.
    /// - `get` and whoever else has nothing to load with starts no refresh.
    ///
    /// So do their async forms. One who says `force`, or a `max_age` that the value exceeds, loads as for
    /// a miss.
    ///
    /// No refresh of a key begins while a load of it is in flight, so there is one at a time.
    pub fn refresh_ahead(mut self, when: RefreshAhead) -> Self {
        self.settings.refresh_ahead = when;
        self
    }

    /// How long a load may hold its key: 60 s by default, in whole milliseconds, rounded up. (Up to some ten
    /// milliseconds more: the clock is coarse, and a load is to have all of its time.) Then those who wait get
    /// [`TimedOut`](crate::LoadError::TimedOut), the next caller loads, and the late result is not stored.
    ///
    /// An async loader is dropped, and its caller gets `TimedOut` like those who wait. A blocking loader
    /// cannot be interrupted: it runs to its end, and its own caller gets what it brings, `Ok` included,
    /// although the others got `TimedOut` and the cache does not store it. The same holds for an async one that
    /// was not polled at that time and is done when it is, and for the maker of `get_or_insert_with_async`,
    /// which has no error to return.
    ///
    /// Set it below the time for which the callers of async loads wait themselves (a timeout around the
    /// handler, a client that hangs up). Whoever goes away takes its load along, nothing is cached, and the
    /// next caller begins anew: a source that is slower than the patience of each of them is asked by each,
    /// and [`circuit_breaker`](Self::circuit_breaker) does not hear of it, only
    /// [`Stats::abandoned`](crate::Stats::abandoned). A load that is to be finished although its caller may
    /// go runs in a task of its own: say [`detached_loads`](Self::detached_loads) in a cache with an async
    /// loader, and elsewhere put a `tokio::spawn` around the call.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = timeout;
        self
    }

    /// How many loads run at once, at most, over all keys. Unset, as many as there are callers who
    /// miss. A good value is what the source can take at a time: the size of a connection pool, say.
    ///
    /// A caller whose load finds no free slot gets a stale value, if a window allows one
    /// ([`StaleWhy::Overloaded`](crate::StaleWhy::Overloaded)). If not, its load waits in line, first come,
    /// first served, threads and tasks alike: until there is a slot, or until the caller's
    /// [`timeout`](crate::At::timeout) is over, which is then an
    /// [`Overloaded`](crate::LoadError::Overloaded) error. Others who want the same key wait for that load,
    /// unless they can be served a stale value. [`load_timeout`](Self::load_timeout) counts from when the load
    /// begins, not from when it gets in line. If the caller goes away, and others wait for the key, one of
    /// them takes its place in the line. (A [detached](Self::detached_loads) load stands there without them.)
    /// Refreshes in the background begin only when no miss waits.
    ///
    /// A load that a loader starts itself, on its thread or as a part of its task, uses the slot of the
    /// outer load, so that loads inside loads do not wait for each other. (If a loader spawns a task that
    /// loads, and waits for it, they can; `load_timeout` ends that.) At `load_timeout` a hung load loses its
    /// slot, as it loses its key: the source may then still be busy with one load more than this.
    ///
    /// [`get_or_insert_with`](Cache::get_or_insert_with) waits in the line like all others, for as long as
    /// that takes.
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.settings.max_loads = Some(loads);
        self
    }

    /// Stops all loads for a while when the source fails: after `failures` failures in a row, over all keys,
    /// the breaker is open for `open_for` (whole milliseconds, rounded up). Callers who would load then get a
    /// stale value, if a window allows one, or [`CircuitOpen`](crate::LoadError::CircuitOpen), at once and
    /// without a call to the source. After that time one load is let through as a probe. If it succeeds, all
    /// loads are let through again; if it fails, the breaker is open for another `open_for`.
    ///
    /// A failure is an error from a loader, a panic of one, or a load that reaches its
    /// [`load_timeout`](Self::load_timeout). The answer that there is no such value is a success. A future
    /// that is dropped is neither (so let `load_timeout` be shorter than what callers wait, or say
    /// [`detached_loads`](Self::detached_loads)); if it was the probe, the next load is the probe. Loads that began before
    /// the breaker opened do not count when they end. A load that the probe's loader starts is a part of the
    /// probe. [`get_or_insert_with`](Cache::get_or_insert_with) cannot fail: it is neither counted nor
    /// stopped.
    ///
    /// The idea: M. Nygard, *Release It!* (2007).
    pub fn circuit_breaker(mut self, failures: u32, open_for: Duration) -> Self {
        self.settings.breaker = Some((failures, open_for));
        self
    }

    /// How long callers who can be served a stale value wait for a load: `timeout` after the load began they
    /// get that value instead, and the load goes on. In whole milliseconds, rounded up, and up to some ten
    /// more, as [`load_timeout`](Self::load_timeout); none by default. Has no effect where no stale window is
    /// set.
    ///
    /// The one who loads with a closure of its own is not interrupted. The `load` of a cache that owns its
    /// loader is freed as well: where a stale value may be served, the loader runs on the cache's
    /// [`Runtime`], and its caller waits as others do. A panic of the loader is then
    /// [`Panicked`](crate::LoadError::Panicked), or the stale value. (With a
    /// [`SteppingRuntime`](crate::SteppingRuntime) somebody has to step meanwhile, or to advance the clock.
    /// Of threads of its own a cache has eight: where more loads than that are slow at once, the others
    /// wait for a thread, and their callers no longer than `timeout`.) Its caller still loads itself what
    /// the runtime refuses, what is loaded inside another load or for [`batch`](Self::batch) or
    /// `load_many`, and what has nothing stale that may be served (unless that is
    /// [detached](Self::detached_loads)).
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.settings.soft_timeout = Some(timeout);
        self
    }

    /// Has each `load` of an [`AsyncLoadingCache`] that misses run as a task on the cache's [`Runtime`], instead
    /// of as a part of its caller's future. So a caller that is dropped, since its client hung up or for a
    /// timeout around it, does not take the load along: it goes on, its result is stored for whoever comes
    /// next, and it ends at [`load_timeout`](Self::load_timeout) at the latest. Without this, a source that is
    /// slower than its callers are patient is asked by each of them, and nothing is ever cached
    /// ([`Stats::abandoned`](crate::Stats::abandoned) counts such loads). The circuit breaker too hears then
    /// what becomes of a load.
    ///
    /// ```
    /// use larder::{Cache, SteppingRuntime};
    /// use std::{convert::Infallible, time::Duration};
    /// use tokio::time::timeout;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = SteppingRuntime::new(); // leave it out inside of tokio, with the feature `tokio`
    /// let reports = Cache::builder()
    ///     .max_entries(1_000)
    ///     .load_timeout(Duration::from_secs(10))
    ///     .detached_loads()
    ///     .max_concurrent_loads(8) // the source's own limit: see below
    ///     .runtime(runtime.clone())
    ///     .build_loading_async_fn(|year: u32| async move {
    ///         Ok::<_, Infallible>(format!("report of {year}"))
    ///     })?;
    /// // a caller with no patience at all
    /// assert!(timeout(Duration::ZERO, reports.load(&2026)).await.is_err());
    /// runtime.run_until_stalled(); // its load goes on
    /// assert_eq!(reports.get(&2026).unwrap(), "report of 2026");
    /// # Ok(()) }
    /// ```
    ///
    /// All else is as for a miss: there is one load a key, whose caller waits for it with all who come
    /// meanwhile; an error reaches all of them; a later write wins. A panic of the loader is
    /// [`Panicked`](crate::LoadError::Panicked) for its caller too. When the last handle to the cache is
    /// dropped, its loads end.
    ///
    /// **How many.** Without this there are at most as many loads as callers who wait. With it, loads whose callers
    /// have left go on, so there may be as many as began within `load_timeout`: set
    /// [`max_concurrent_loads`](Self::max_concurrent_loads). A load stands in that line without its caller too,
    /// as a miss does; one for which nobody waits any more leaves it after `load_timeout`, and counts as
    /// [`overloaded`](crate::Stats::overloaded).
    ///
    /// **What it costs.** A task for each miss. The loader has neither the task-locals nor the tracing span of
    /// its caller. The runtime has to run while callers wait (with a
    /// [`SteppingRuntime`](crate::SteppingRuntime) somebody has to step).
    ///
    /// **What stays with its caller:**
    ///
    /// - calls that bring a closure (`get_or_load_async`, [`at`](crate::Cache::at)), which may borrow;
    /// - [`load_many`](AsyncLoadingCache::load_many), and `load` with [`batch`](Self::batch);
    /// - loads that begin inside another load, and go on as long as that does;
    /// - callers who are served stale, or refused by the circuit breaker, at once;
    /// - loads that the runtime refused, or took and dropped;
    /// - loads that begin anew because their key was written while they stood in line.
    ///
    /// For a [`LoadingCache`](crate::LoadingCache) the setting says nothing: a thread that waits cannot be dropped.
    ///
    /// [`soft_timeout`](Self::soft_timeout) sends a load out in the same way where a stale value may be served, so
    /// that its caller can be, after that time; the two go together.
    pub fn detached_loads(mut self) -> Self {
        self.settings.detached_loads = true;
        self
    }

    /// Has a cache with a loader of its own gather the misses of single `load`s into calls of its
    /// `load_many`: the first caller that misses waits for up to `wait`, or until `keys` are there, and
    /// then loads them all at once. It is for sources to which a query for a hundred keys is hardly more work
    /// than one for a single key; each miss takes up to `wait` longer. Counted in milliseconds, rounded up,
    /// and by a coarse clock, so a few milliseconds more; with a [manual clock](crate::Clock::manual) somebody has
    /// to advance it meanwhile, from another thread where a thread waits.
    ///
    /// Each key is still loaded once, whoever asks for it and how. Refreshes are not gathered. A loader is
    /// not shown the previous value of what is gathered: see [`Loader::load_many`].
    ///
    /// **Not for loaders that ask their own cache for other keys.** All keys of a batch are in flight until
    /// its call of the loader returns. So a call that waits for a key of another batch, whose call waits for a
    /// key of this one, waits until `load_timeout`, though no key depends on itself; and with
    /// [`max_concurrent_loads`](Self::max_concurrent_loads) batches may wait for each other's slots as well.
    /// Such a loader asks the source for the other keys, or another cache.
    ///
    /// ```
    /// use larder::{Cache, LoadCx, Loaded, Loader};
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// struct Rows;
    ///
    /// impl Loader<u64, String> for Rows {
    ///     type Error = Infallible;
    ///
    ///     fn load(&self, id: &u64, _: &LoadCx<String>) -> Result<Loaded<String>, Infallible> {
    ///         Ok(Loaded::new(format!("row {id}")))
    ///     }
    ///
    ///     fn load_many(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<String>)>, Infallible> {
    ///         // SELECT .. WHERE id IN (..)
    ///         Ok(ids.iter().map(|id| (*id, Loaded::new(format!("row {id}")))).collect())
    ///     }
    /// }
    ///
    /// let rows = Cache::builder()
    ///     .max_entries(10_000)
    ///     .batch(100, Duration::from_millis(2))
    ///     .build_loading(Rows)?;
    /// std::thread::scope(|scope| {
    ///     for id in 0..20 {
    ///         let rows = &rows;
    ///         scope.spawn(move || assert_eq!(rows.load(&id).unwrap(), format!("row {id}")));
    ///     }
    /// });
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn batch(mut self, keys: usize, wait: Duration) -> Self {
        self.settings.batch = Some((keys, wait));
        self
    }

    /// Where a cache with a loader of its own runs its loads in the background; see [`Runtime`] for what
    /// holds unless this is said. An [`AsyncLoadingCache`] keeps the tokio runtime that it was built in: one
    /// in a `static`, which several runtimes use in turn (as tests do), runs them in the first of these, and
    /// loads nothing in the background once that has ended. (With [`detached_loads`](Self::detached_loads) its
    /// callers wait for that runtime while it is there, and load themselves once it has ended.)
    pub fn runtime(mut self, runtime: impl Runtime) -> Self {
        self.settings.runtime = Some(Arc::new(runtime));
        self
    }

    /// Into how many independently locked parts the cache is split: a hint, clamped to `1..=1024` and to the
    /// bound. The default is eight a core; fewer, if a shard would hold less than 512 entries; more, if it
    /// would hold over 8,192. Where the bound is a weight, that is taken for bytes: fewer, if a shard would
    /// hold less than 512 entries of 32 KiB; more, if it would hold over 8,192 entries of 1 KiB. A cache
    /// without a bound is split like one of two million entries.
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = Some(shards);
        self
    }

    /// Another hasher than the default, which is keyed by the operating system's randomness and
    /// withstands callers that choose their keys to collide.
    pub fn hasher<S2: BuildHasher>(self, hasher: S2) -> CacheBuilder<K, V, S2> {
        CacheBuilder { settings: self.settings, hasher }
    }

    /// The clock that all times are read from. [`Clock::system`] by default; [`Clock::manual`] for
    /// tests that must not wait.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = Some(clock);
        self
    }

    /// Where the cache's own chance begins, for tests that have to come out the same each time. What is done
    /// by one thread, in the same order, then has the same outcome:
    ///
    /// - In one shard the draws of [`jitter`](Self::jitter) are the same, the first value's, the second's and
    ///   so on.
    /// - With several [`shards`](Self::shards) each has a row of draws of its own, and the key's hash says
    ///   which shard it falls into. The default hasher is keyed at random in every cache, so give a
    ///   [`hasher`](Self::hasher) with fixed keys as well, and say `shards`, whose default depends on the
    ///   number of cores.
    /// - Which entry is evicted, the draws of [`RefreshAhead::CostAware`] and the lives in a second
    ///   [`tier`](Self::tier) depend on the key's hash too: with a fixed hasher (and for the latter two at
    ///   the same times, so with a [manual clock](Clock::manual)) they are the same.
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

    /// A name for `Debug` and whatever reports on the cache.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// A listener that is called once with every value that leaves the cache, and the cause. It runs on the
    /// thread that made the value leave, with no lock held, so it may use the cache; removals by one thread
    /// come in their order. What expires while nobody uses the cache leaves on a thread of larder's. A panic in
    /// it is caught and counted in the [`Stats`](crate::Stats). What is still
    /// stored when the cache is dropped is dropped with it, unreported.
    ///
    /// A listener that holds a handle of its own cache keeps that alive for ever: give it an
    /// [`Invalidator`](crate::Invalidator), or a [`Weak`](std::sync::Weak) of what owns the cache.
    ///
    /// Begin with `Cache::<K, V>::builder()`, or say the argument's type, where the compiler does not
    /// know yet what the cache holds:
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
    pub fn on_removal(mut self, listener: impl Fn(Removal<K, V>) + Send + Sync + 'static) -> Self {
        self.settings.listener = Some(Box::new(listener));
        self
    }

    /// A handler that is called with every [`Event`]: what goes wrong, or right again, and what no caller may
    /// hear of otherwise, as a refresh in the background that fails. It is for logs and alarms.
    ///
    /// It runs on the thread on which that is noticed, with no lock held, and holds up what that thread
    /// does: let it be quick. In an outage there may be as many events as there are misses. Whoever waits for
    /// a load that failed has been told before. Events of several threads come in no order, so `CircuitClosed` may
    /// come before the `CircuitOpened` that it ended; for the present state ask [`explain`](Cache::explain).
    ///
    /// It may use the cache, but not load: what is not cached is [`Recursive`](crate::LoadError::Recursive)
    /// there, what `get_or_insert_with` makes is returned and not stored, and no refresh begins. On hearing that
    /// a second tier lags it cannot wait for that either: `tier_flush` and `remove_everywhere` are
    /// [`Refused`](crate::TierError::Refused) then. (In other events they block the thread that told.) Of what it
    /// causes itself on its thread it is not told. A panic in it is caught, and counted in
    /// [`Stats::listener_panics`](crate::Stats::listener_panics).
    ///
    /// A handler that holds a handle of its own cache keeps that alive for ever, as a
    /// [listener](Self::on_removal) does. Without an event it costs a miss one look at a list of the thread's own,
    /// and with a circuit breaker a lock; a hit nothing.
    ///
    /// ```
    /// use larder::{Cache, Event};
    /// use std::{io, time::Duration};
    ///
    /// # fn select_user(id: &u64) -> Result<String, io::Error> { Ok(format!("user {id}")) }
    /// let users = Cache::builder()
    ///     .max_entries(10_000)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_while_revalidate(Duration::from_secs(30))
    ///     .circuit_breaker(10, Duration::from_secs(5))
    ///     .on_event(|event| match event {
    ///         // a refresh is nobody's call: its error would be lost
    ///         Event::LoadFailed { key, failures, error, .. } => {
    ///             let error = error.downcast_ref::<io::Error>();
    ///             eprintln!("users: load of {key} failed, {failures} in a row: {error:?}");
    ///         }
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

    /// The cache.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the setting and says what it accepts: none or two of
    /// `max_entries`, `max_weight` and `unbounded`; a weigher without a weight or the other way
    /// round; a jitter outside `0.0..=1.0`; a zero `load_timeout`, `soft_timeout`, `time_to_idle`,
    /// `max_concurrent_loads` or `circuit_breaker`; a stale window without a `time_to_live` to count
    /// from; an `error_backoff` whose first pause is zero and the longest is not, or above the longest
    /// one; a `batch` of no keys or of no time; a refresh point that is not between 0.0 and 1.0, or a
    /// `beta` that is negative or no number. [`NoThread`](ConfigError::NoThread) where a second tier needs a
    /// thread and there is none to be had, and [`Tier`](ConfigError::Tier) where it will not serve another
    /// cache; a second tier and a `time_to_idle`. What concerns a loader (`batch`, `runtime`) is
    /// ignored by a cache without one.
    pub fn build(self) -> Result<Cache<K, V, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.settings.check()?;
        Ok(Cache::over(started(self.into_plan())?))
    }

    /// A cache that loads by itself (read-through): see [`LoadingCache`].
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
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

    /// A cache that loads by itself, by a closure: [`build_loading`](Self::build_loading) where the
    /// value and its error are all there is to say. The closure knows of one key at a time: `load_many`
    /// and `warm` call it for each, one that fails takes no other with it, and `batch` is ignored.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_loading_fn<E, F>(
        self,
        load: F,
    ) -> Result<LoadingCache<K, V, FnLoader<F>, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(&K) -> Result<V, E> + Send + Sync + 'static,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.build_loading(FnLoader(load))
    }

    /// A cache that loads by itself, by awaiting: see [`AsyncLoadingCache`]. With the feature `tokio`
    /// it takes the runtime that this is called in, unless [`runtime`](Self::runtime) names another
    /// one.
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

    /// A cache that loads by itself, by awaiting what a closure makes of a key:
    /// [`build_loading_async`](Self::build_loading_async) where the value and its error are all there is
    /// to say. The closure gets a clone of the key, so that its future may keep it. It knows of one key at
    /// a time: `load_many` calls it for up to 32 keys at once, `warm` for four; one that fails takes no
    /// other with it, and `batch` is ignored.
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
    /// # Errors
    ///
    /// As [`build_loading_async`](Self::build_loading_async).
    pub fn build_loading_async_fn<E, F, Fut>(
        self,
        load: F,
    ) -> Result<AsyncLoadingCache<K, V, AsyncFnLoader<F>, S>, ConfigError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.build_loading_async(AsyncFnLoader(load))
    }

    fn into_plan(self) -> Plan<K, V, S> {
        self.settings.plan(self.hasher)
    }
}

/// The runtime that this is called in.
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
        let said = &self.settings;
        f.debug_struct("CacheBuilder")
            .field("name", &said.name)
            .field("max_entries", &said.max_entries)
            .field("max_weight", &said.max_weight)
            .field("unbounded", &said.unbounded)
            .field("time_to_live", &said.ttl)
            .field("jitter", &said.jitter)
            .field("time_to_idle", &said.idle)
            .field("negative_ttl", &said.negative)
            .field("stale_while_revalidate", &said.revalidate)
            .field("stale_if_error", &said.on_error)
            .field("error_backoff", &said.back_off)
            .field("refresh_ahead", &said.refresh_ahead)
            .field("load_timeout", &said.load_timeout)
            .field("max_concurrent_loads", &said.max_loads)
            .field("circuit_breaker", &said.breaker)
            .field("soft_timeout", &said.soft_timeout)
            .field("detached_loads", &said.detached_loads)
            .field("shards", &said.shards)
            .finish_non_exhaustive()
    }
}
