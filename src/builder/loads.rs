//! The settings for loads: timeouts, limits, the breaker, batches, the runtime.

use super::CacheBuilder;
use crate::words::runtime::Runtime;
use std::sync::Arc;
use std::time::Duration;

impl<K, V, S> CacheBuilder<K, V, S> {
    /// Sets how long a load may hold its key: 60 s by default, in whole milliseconds, rounded up. (It may be
    /// up to some ten milliseconds more: the clock is coarse, and no load gets less than its time.) After
    /// that, those who wait get [`TimedOut`](crate::LoadError::TimedOut), the next caller starts a new load,
    /// and the late result is not stored.
    ///
    /// An async loader is dropped, and its caller gets `TimedOut` like those who wait. A blocking loader
    /// cannot be interrupted: it runs to its end, and its own caller gets its result, `Ok` included, although
    /// the others got `TimedOut` and the cache does not store it. The same holds for an async loader that was
    /// not polled at that time and is ready when it is polled next, and for the `make` of
    /// `get_or_insert_with_async`, which has no error to return.
    ///
    /// Set it below the time for which the callers of async loads wait themselves (a timeout around the
    /// handler, a client that hangs up). A caller that goes away takes its load with it, nothing is cached,
    /// and the next caller begins anew: if the source is slower than callers are willing to wait, each of
    /// them asks it, and [`circuit_breaker`](Self::circuit_breaker) does not hear of it, only
    /// [`Stats::abandoned`](crate::Stats::abandoned) does. To have a load finish even if its caller goes
    /// away, run it in a task of its own: call [`detached_loads`](Self::detached_loads) for a cache with an
    /// async loader, and elsewhere put a `tokio::spawn` around the call.
    #[doc(alias = "factory_hard_timeout")]
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = timeout;
        self
    }

    /// Limits how many loads run at once, over all keys; by default, as many as there are callers who miss. A
    /// good value is what the source can take at a time: the size of a connection pool, say.
    ///
    /// A caller whose load finds no free slot gets a stale value, if a window allows one
    /// ([`StaleWhy::Overloaded`](crate::StaleWhy::Overloaded)). If not, its load waits in a queue (first
    /// come, first served, threads and tasks alike) until a slot is free, or until the caller's
    /// [`timeout`](crate::At::timeout) is over, in which case it gets an
    /// [`Overloaded`](crate::LoadError::Overloaded) error. Others who want the same key wait for that load,
    /// unless they can be served a stale value. [`load_timeout`](Self::load_timeout) counts from when the
    /// load begins, not from when it is queued. If the caller goes away, and others wait for the key, one of
    /// them takes its place in the queue. (A [detached](Self::detached_loads) load keeps its place without
    /// them.) Background refreshes begin only when no miss waits.
    ///
    /// A nested load, which a loader starts on its own thread or as a part of its task, uses the slot of the
    /// outer load, so that nested loads do not wait for each other. (If a loader spawns a task that loads,
    /// and waits for it, they can; `load_timeout` ends that.) At `load_timeout` a hung load loses its slot
    /// along with its key: the source may then still be busy with one load more than the limit.
    ///
    /// [`get_or_insert_with`](crate::Cache::get_or_insert_with) waits in the queue like all others, for as
    /// long as that takes.
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
    /// A failure is an error from a loader (of those that [count](Self::breaker_counts)), a panic of one, or a
    /// load that reaches its [`load_timeout`](Self::load_timeout). The answer "not found" is a success, and so
    /// is an error that does not count. A dropped future is neither (so set `load_timeout` below the time that
    /// callers wait, or call [`detached_loads`](Self::detached_loads)); if it was the probe, the next load is
    /// the probe. Loads that began before the breaker opened do not count when they end. A load nested in the
    /// probe is a part of the probe. [`get_or_insert_with`](crate::Cache::get_or_insert_with) cannot fail: it
    /// is neither counted nor stopped.
    ///
    /// The idea: M. Nygard, *Release It!* (2007).
    pub fn circuit_breaker(mut self, failures: u32, open_for: Duration) -> Self {
        self.settings.breaker = Some((failures, open_for));
        self
    }

    /// Says which errors of loaders the [`circuit_breaker`](Self::circuit_breaker) counts as failures: those
    /// of type `E` for which `counts` returns `true`. To the breaker any other of that type is an answer, as
    /// "not found" is: the source is there, and refuses this one request. Errors of other types all count.
    /// Call it once for each type; of one type the last call holds. Callers get the error in any case, and
    /// [`error_backoff`](Self::error_backoff), which is about one key, heeds it.
    ///
    /// `counts` runs on the thread of the load, before callers hear of the error, with no lock held. It
    /// should only look at the error. If it panics, the error counts.
    ///
    /// ```
    /// use larder::Cache;
    /// use std::time::Duration;
    ///
    /// #[derive(Debug)]
    /// struct Refused {
    ///     status: u16,
    /// }
    ///
    /// let users: Cache<u64, String> = Cache::builder()
    ///     .max_entries(1_000)
    ///     .circuit_breaker(2, Duration::from_secs(5))
    ///     .breaker_counts(|error: &Refused| error.status >= 500)
    ///     .build()?;
    /// for id in 0..9 {
    ///     let error = users.get_or_load(&id, || Err(Refused { status: 400 })).unwrap_err();
    ///     assert_eq!(error.loader().unwrap().status, 400); // asked, each time
    /// }
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    #[doc(alias("is_failure", "should_handle"))]
    pub fn breaker_counts<E: 'static>(
        mut self,
        counts: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.counted.ask(counts);
        self
    }

    /// Limits how long callers who can be served a stale value wait for a load: `timeout` after the load
    /// began they get the stale value instead, and the load goes on. In whole milliseconds, rounded up, and
    /// up to some ten more, as with [`load_timeout`](Self::load_timeout); none by default. It needs a
    /// stale window: without one, [`build`](Self::build) refuses it
    /// ([`SoftTimeoutWithoutWindow`](crate::ConfigError::SoftTimeoutWithoutWindow)).
    ///
    /// A caller that loads with its own closure is not interrupted. In a cache that owns its loader, the
    /// caller of `load` or `read_through` is freed as well: where a stale value may be served, the loader runs
    /// on the cache's [`Runtime`](crate::Runtime), and its caller waits as others do. If the loader panics,
    /// that caller gets [`Panicked`](crate::LoadError::Panicked), or the stale value. (With a
    /// [`SteppingRuntime`](crate::SteppingRuntime) somebody has to step meanwhile, as its
    /// [`run_until`](crate::SteppingRuntime::run_until) does for async calls, or to advance the clock. A cache has
    /// eight threads of its own: if more loads than that are slow at once, the others wait for a thread, but their
    /// callers no longer than `timeout`.) The caller still runs the load itself if the
    /// runtime refuses it, if it is nested in another load or belongs to a [`batch`](Self::batch) or a
    /// `load_many`, or if there is nothing stale that may be served (unless the load is
    /// [detached](Self::detached_loads)).
    #[doc(alias = "factory_soft_timeout")]
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.settings.soft_timeout = Some(timeout);
        self
    }

    /// Runs each `load` of an [`AsyncLoadingCache`](crate::AsyncLoadingCache) that misses (and each
    /// `at(..).read_through()`) as a task on the cache's [`Runtime`](crate::Runtime), instead of as a part of
    /// its caller's future. If the caller is dropped (its client hung up, or a timeout around it ended), the
    /// load goes on, its result is stored for whoever comes next, and it ends at
    /// [`load_timeout`](Self::load_timeout) at the latest. Without this, if the source is slower than callers
    /// are willing to wait, each of them asks it, and nothing is ever cached
    /// ([`Stats::abandoned`](crate::Stats::abandoned) counts such loads). With it, the circuit breaker too
    /// hears how the load ends.
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
    /// Everything else is as for any miss: there is one load per key, whose caller waits for it along with
    /// all who come meanwhile; an error reaches all of them; a later write wins. If the loader panics, its
    /// caller too gets [`Panicked`](crate::LoadError::Panicked). When the last handle to the cache is
    /// dropped, its loads end.
    ///
    /// **How many.** Without this there are at most as many loads as waiting callers. With it, loads whose
    /// callers have left go on, so there may be as many as began within `load_timeout`: set
    /// [`max_concurrent_loads`](Self::max_concurrent_loads). A load keeps its place in that queue, that of a
    /// miss, without its caller too; one for which nobody waits any more leaves it after `load_timeout`, and
    /// counts as [`overloaded`](crate::Stats::overloaded).
    ///
    /// **What it costs.** A task for each miss. The loader has neither the task-locals nor the tracing span of
    /// its caller. The runtime has to run while callers wait (with a
    /// [`SteppingRuntime`](crate::SteppingRuntime) somebody has to step, as its
    /// [`run_until`](crate::SteppingRuntime::run_until) does).
    ///
    /// **What stays with its caller:**
    ///
    /// - calls that bring a closure (`get_or_load_async`, `at(..).load_async`), which may borrow;
    /// - [`load_many`](crate::AsyncLoadingCache::load_many), and `load` with [`batch`](Self::batch);
    /// - loads that begin inside another load, and go on as long as that does;
    /// - callers who are served stale, or refused by the circuit breaker, at once;
    /// - loads that the runtime refused, or took and dropped;
    /// - loads that begin anew because their key was written while they stood in line.
    ///
    /// For a [`LoadingCache`](crate::LoadingCache) the setting has no effect: a thread that waits cannot be
    /// dropped.
    ///
    /// [`soft_timeout`](Self::soft_timeout) runs a load on the runtime in the same way where a stale value
    /// may be served, so that its caller can be served that value after the timeout; the two can be combined.
    #[doc(alias = "allow_timed_out_factory_background_completion")]
    pub fn detached_loads(mut self) -> Self {
        self.settings.detached_loads = true;
        self
    }

    /// Coalesces the misses of single `load`s into calls of the loader's `load_many`, in a cache that owns
    /// its loader: the first caller that misses waits for up to `wait`, or until `keys` keys are there, and
    /// then loads them all at once. It is for sources to which a query for a hundred keys is hardly more work
    /// than one for a single key; each miss takes up to `wait` longer. `wait` is counted in milliseconds,
    /// rounded up, by a coarse clock, so it may be a few milliseconds more; with a [manual
    /// clock](crate::Clock::manual) somebody has to advance the clock meanwhile, from another thread if a
    /// thread waits. Who waits for another caller's key waits for [`load_timeout`](Self::load_timeout) at most
    /// until the loader is called, so set `wait` well below that.
    ///
    /// Each key is still loaded once, whoever asks for it and how. Refreshes are not gathered. The loader is
    /// not shown the previous values of gathered keys: see [`Loader::load_many`](crate::Loader::load_many).
    ///
    /// **Not for loaders that ask their own cache for other keys.** All keys of a batch are in flight until
    /// its call of the loader returns. So if the loader calls of two batches each wait for a key of the
    /// other, both wait until `load_timeout`, though no key depends on itself; and with
    /// [`max_concurrent_loads`](Self::max_concurrent_loads) batches may wait for each other's slots as well.
    /// Such a loader should ask the source for the other keys, or another cache.
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
    #[doc(alias = "data_loader")]
    pub fn batch(mut self, keys: usize, wait: Duration) -> Self {
        self.settings.batch = Some((keys, wait));
        self
    }

    /// Sets where a cache that owns its loader runs its background loads; see [`Runtime`](crate::Runtime) for
    /// the defaults. An [`AsyncLoadingCache`](crate::AsyncLoadingCache) keeps the tokio runtime that it was
    /// built in: a cache in a `static`, which several runtimes use in turn (as tests do), runs its background
    /// loads in the first of these, and loads nothing in the background once that one has ended. (With
    /// [`detached_loads`](Self::detached_loads) its callers wait for that runtime while it is there, and load
    /// themselves once it has ended.) A cache without a loader has no background loads, and ignores this setting:
    /// one function may prepare the builders of both kinds.
    pub fn runtime(mut self, runtime: impl Runtime) -> Self {
        self.settings.runtime = Some(Arc::new(runtime));
        self
    }
}
