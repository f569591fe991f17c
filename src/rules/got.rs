//! A value with its metadata, and how it was obtained.

use std::sync::Arc;
use std::time::Duration;

/// A value with its age, its remaining life and how it was obtained: what [`at`](crate::Cache::at),
/// [`peek`](crate::Cache::peek) and [`entries`](crate::Cache::entries) return.
///
/// Age and remaining life are as of when the value was found, or had landed. A call that waits after that, as one
/// for many keys does for the last of them, does not count that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Got<V> {
    /// The value.
    pub value: V,
    /// How it was obtained: from the cache, from a load, from somebody else's load.
    pub how: How,
    /// How long ago it was stored; zero for a value that was loaded just now. For a value from a second tier:
    /// how long ago it was loaded, by whatever process.
    pub age: Duration,
    /// How much longer it counts as fresh: [`Duration::MAX`] if nothing ends its life, zero for a stale value
    /// and for one that was not stored. With `time_to_idle` a hit prolongs it.
    pub fresh_for: Duration,
    /// The value's version at the source (an `ETag`, say), as the loader gave it.
    pub validator: Option<Arc<str>>,
}

impl<V> Got<V> {
    pub(crate) fn new(
        value: V,
        how: How,
        age: Duration,
        fresh_for: Duration,
        validator: Option<Arc<str>>,
    ) -> Self {
        Self { value, how, age, fresh_for, validator }
    }
}

/// How a value was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum How {
    /// It was in the cache, within its life.
    Fresh,
    /// This caller's loader loaded it.
    Loaded,
    /// Another caller was loading it already, and this one waited for that load.
    Joined,
    /// The second [`Tier`](crate::Tier) had it, and no loader was called.
    Tier,
    /// It had expired, and was served all the same: within a stale window that was set on the builder.
    Stale(StaleWhy),
    /// It is the value that the caller gave to [`At::fallback`](crate::At::fallback).
    Fallback,
}

/// Why an expired value was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleWhy {
    /// Within `stale_while_revalidate`: another caller is loading its successor.
    Revalidating,
    /// The load failed, timed out, or panicked under another caller, and the value was still within a stale
    /// window.
    LoadFailed,
    /// The last load failed, and the source is left alone for a while.
    BackOff,
    /// The load takes longer than `soft_timeout`, or than this caller waits, and goes on.
    SoftTimeout,
    /// All slots of [`max_concurrent_loads`](crate::CacheBuilder::max_concurrent_loads) are taken. Or its
    /// successor should be loaded in the background, and the [`Runtime`](crate::Runtime::is_busy) is too
    /// busy.
    Overloaded,
    /// The source is left alone by the
    /// [`circuit_breaker`](crate::CacheBuilder::circuit_breaker).
    CircuitOpen,
    /// `peek` shows values of any age.
    Expired,
}
