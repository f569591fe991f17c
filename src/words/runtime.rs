//! The trait for what runs a cache's background work.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Runs a cache's background work: the refreshes of a [`LoadingCache`](crate::LoadingCache) or an
/// [`AsyncLoadingCache`](crate::AsyncLoadingCache), their [`warm`](crate::LoadingCache::warm), and the loads
/// that [`soft_timeout`](crate::CacheBuilder::soft_timeout) and
/// [`detached_loads`](crate::CacheBuilder::detached_loads) move off their callers.
///
/// You seldom have to write one. A cache with a [`Loader`](crate::Loader) has a few threads of its own; one
/// with an [`AsyncLoader`](crate::AsyncLoader) uses the tokio runtime that it was built in (feature `tokio`,
/// with which `tokio::runtime::Handle` is a `Runtime`); and for tests there is
/// [`SteppingRuntime`](crate::SteppingRuntime). Pass any other to
/// [`CacheBuilder::runtime`](crate::CacheBuilder::runtime).
///
/// All methods must return at once: they run in calls of the cache whose callers have their answer already,
/// or do not want to wait for long. No lock is held during the call, so a runtime may run the work on the
/// spot. The work catches its own panics. A runtime may drop work without running it, when it is shut down,
/// say: the cache then goes on as if the load had never begun.
///
/// ```
/// use larder::{Refused, Runtime};
/// use std::{future::Future, pin::Pin, thread};
///
/// /// A thread for each job.
/// struct Threads;
///
/// impl Runtime for Threads {
///     fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
///         thread::Builder::new().spawn(job).map(drop).map_err(|_| Refused)
///     }
///
///     fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
///         Err(Refused) // no executor; only caches with an `AsyncLoader` ask for it
///     }
/// }
/// ```
pub trait Runtime: Send + Sync + 'static {
    /// Runs `job`, which may block, on some thread.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it will not, because it is shut down or full. The caller then does the job itself,
    /// which [`Stats::refused`](crate::Stats::refused) counts; a refresh for which no slot of
    /// [`max_concurrent_loads`](crate::CacheBuilder::max_concurrent_loads) is free is left to the next
    /// caller. A runtime that is full for a while should say so beforehand, by [`is_busy`](Self::is_busy),
    /// and spare its callers that.
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused>;

    /// Polls `task` to its end.
    ///
    /// # Errors
    ///
    /// As [`spawn_blocking`](Self::spawn_blocking). An async caller then does the work itself; if the call is
    /// not async, as `get` and `refresh` are not, it is left to the next caller.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused>;

    /// Returns whether it is too busy now for work that can wait. A hit whose value is due is then served and
    /// leaves the refresh to a later hit, and a stale value is served without being revalidated;
    /// [`Stats::refused`](crate::Stats::refused) counts what was left. Work that somebody asked for, by
    /// `refresh` or `warm`, is given to it all the same.
    ///
    /// `false` by default: then it [refuses](Refused) the work that it cannot take, and callers do it. Each
    /// such hit asks, with no lock held, so the answer has to be cheap.
    fn is_busy(&self) -> bool {
        false
    }
}

impl<R: Runtime + ?Sized> Runtime for Arc<R> {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        (**self).spawn_blocking(job)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        (**self).spawn(task)
    }

    fn is_busy(&self) -> bool {
        (**self).is_busy()
    }
}

/// The error of a [`Runtime`] that takes no more work: it is shut down, or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the runtime takes no more work: it is shut down or full")
    }
}

impl std::error::Error for Refused {}

/// Sends work to this tokio runtime. Its shutdown drops what has not run by then.
#[cfg(feature = "tokio")]
impl Runtime for tokio::runtime::Handle {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        // Of a runtime that was shut down the handle takes it all the same and drops it, which is
        // as good: what is dropped has not begun.
        drop(Self::spawn_blocking(self, job));
        Ok(())
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        drop(Self::spawn(self, task));
        Ok(())
    }
}
