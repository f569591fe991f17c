//! How the source is asked: for how long, how often at once, on whose time.

use super::CacheBuilder;
use crate::words::runtime::Runtime;
use std::sync::Arc;
use std::time::Duration;

impl<K, V, S> CacheBuilder<K, V, S> {
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
    /// [`get_or_insert_with`](crate::Cache::get_or_insert_with) waits in the line like all others, for as long as
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
    /// [`detached_loads`](Self::detached_loads)); if it was the probe, the next load is the probe. Loads that began
    /// before the breaker opened do not count when they end. A load that the probe's loader starts is a part of the
    /// probe. [`get_or_insert_with`](crate::Cache::get_or_insert_with) cannot fail: it is neither counted nor
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
    /// [`Runtime`](crate::Runtime), and its caller waits as others do. A panic of the loader is then
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

    /// Has each `load` of an [`AsyncLoadingCache`](crate::AsyncLoadingCache) that misses run as a task on the
    /// cache's [`Runtime`](crate::Runtime), instead of as a part of its caller's future. So a caller that is
    /// dropped, since its client hung up or for a timeout around it, does not take the load along: it goes on, its
    /// result is stored for whoever comes next, and it ends at [`load_timeout`](Self::load_timeout) at the latest.
    /// Without this, a source that is slower than its callers are patient is asked by each of them, and nothing is
    /// ever cached ([`Stats::abandoned`](crate::Stats::abandoned) counts such loads). The circuit breaker too hears
    /// then what becomes of a load.
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
    /// - [`load_many`](crate::AsyncLoadingCache::load_many), and `load` with [`batch`](Self::batch);
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
    /// not shown the previous value of what is gathered: see [`Loader::load_many`](crate::Loader::load_many).
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

    /// Where a cache with a loader of its own runs its loads in the background; see [`Runtime`](crate::Runtime) for
    /// what holds unless this is said. An [`AsyncLoadingCache`](crate::AsyncLoadingCache) keeps the tokio runtime
    /// that it was built in: one in a `static`, which several runtimes use in turn (as tests do), runs them in the
    /// first of these, and loads nothing in the background once that has ended. (With
    /// [`detached_loads`](Self::detached_loads) its callers wait for that runtime while it is there, and load
    /// themselves once it has ended.)
    pub fn runtime(mut self, runtime: impl Runtime) -> Self {
        self.settings.runtime = Some(Arc::new(runtime));
        self
    }
}
