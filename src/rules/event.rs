//! Events: failures and recoveries, as a handler for logs and alarms is told of them.

use super::loaded::LoadReason;
use super::tier::TierError;
use std::any::Any;
use std::fmt;

/// A failure or a recovery, as [`on_event`](crate::CacheBuilder::on_event) is told of it: for logs and
/// alarms. Hits, misses and removals are not events: see [`Stats`](crate::Stats) and
/// [`on_removal`](crate::CacheBuilder::on_removal). Nor are loads that did not begin, which
/// [`overloaded`](crate::Stats::overloaded) and [`circuit_open`](crate::Stats::circuit_open) count.
///
/// `Display` formats it as one line, if keys are `Debug`. It has the text of a loader's error if that is a
/// `&'static str`, a `String`, a `std::io::Error` or a `Box<dyn Error + Send + Sync>`; of any other type,
/// `downcast_ref` gets at it:
///
/// ```
/// use larder::{Cache, LoadError};
/// use std::sync::{Arc, Mutex};
///
/// let lines = Arc::new(Mutex::new(Vec::new()));
/// let log = Arc::clone(&lines);
/// let users: Cache<u64, String> = Cache::builder()
///     .max_entries(1_000)
///     .on_event(move |event| log.lock().unwrap().push(format!("users: {event}")))
///     .build()?;
/// let _: Result<_, LoadError<&str>> = users.get_or_load(&42, || Err("the database is away"));
/// assert_eq!(*lines.lock().unwrap(), ["users: the load of 42 failed (Miss, 1 in a row): the database is away"]);
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, K> {
    /// A loader returned an error. If one call loaded several keys, there is an event for each.
    #[non_exhaustive]
    LoadFailed {
        /// The key that was to be loaded.
        key: &'a K,
        /// Why it was. Of a [`Refresh`](LoadReason::Refresh) that fails, no caller hears.
        reason: LoadReason,
        /// How many loads of the key have failed in a row, this one included: errors, panics, timeouts.
        failures: u32,
        /// The loader's error, of whatever type that has: `error.downcast_ref::<MyError>()`.
        error: &'a (dyn Any + Send + Sync),
    },
    /// A loader panicked; or `Clone`, a weigher or the like did while its result was stored.
    #[non_exhaustive]
    LoadPanicked {
        /// The key that was to be loaded.
        key: &'a K,
        /// Why it was.
        reason: LoadReason,
        /// How many loads of the key have failed in a row, this one included.
        failures: u32,
    },
    /// A load reached [`load_timeout`](crate::CacheBuilder::load_timeout), and so lost its key, if a write had
    /// not taken it before. Reported when somebody notices: a caller who waits for it, the next caller, or
    /// the load itself when it is done. If it fails after that, that is another event.
    #[non_exhaustive]
    LoadTimedOut {
        /// The key that was to be loaded.
        key: &'a K,
        /// Why it was.
        reason: LoadReason,
        /// How many loads of the key have failed in a row, this one included.
        failures: u32,
    },
    /// The future of a load was dropped before it was done, as
    /// [`Stats::abandoned`](crate::Stats::abandoned) counts.
    #[non_exhaustive]
    LoadAbandoned {
        /// The key that was to be loaded.
        key: &'a K,
        /// Why it was.
        reason: LoadReason,
    },
    /// A loader answered [`unchanged`](crate::Loaded::unchanged) where nothing was cached: a mistake in the
    /// loader.
    #[non_exhaustive]
    NothingToRenew {
        /// The key that was to be loaded.
        key: &'a K,
    },
    /// The [`circuit_breaker`](crate::CacheBuilder::circuit_breaker) opened, or opened again after a failed
    /// probe: the source is left alone for a while. If loads hang, this is reported when the next load
    /// notices, or [`explain`](crate::Cache::explain) does.
    CircuitOpened,
    /// The probe succeeded: loads go to the source as before.
    CircuitClosed,
    /// The second [`Tier`](crate::Tier) did not answer a question, and the source is asked instead.
    #[non_exhaustive]
    TierFailed {
        /// What it said.
        error: &'a TierError,
    },
    /// The second tier did not accept some changes. Those that are still of use are tried again.
    #[non_exhaustive]
    TierLags {
        /// How many changes it was given at once.
        changes: usize,
        /// How often in a row it has failed to take these.
        failures: u32,
        /// What it said.
        error: &'a TierError,
    },
    /// The second tier left out an entry that it cannot store or read, and that is absent there therefore:
    /// if the types and the codec of the cache do not suit each other, that is every entry, and the tier is of
    /// no use. The error says what to do about it. Of the entries of one kind
    /// ([`Unreadable`](TierError::Unreadable), and all others) the first is told, the second, the fourth and
    /// so on, each time the number has doubled. [`Stats::tier_skipped`](crate::Stats::tier_skipped) counts
    /// all of them.
    #[non_exhaustive]
    TierSkipped {
        /// How many of this kind there have been, this one included.
        entries: u64,
        /// What is wrong with it.
        error: &'a TierError,
    },
    /// The [`Runtime`](crate::Runtime) refused a load in the background, or a
    /// [`warm`](crate::LoadingCache::warm): it is shut down. ([`Stats::refused`](crate::Stats::refused)
    /// counts this, and also work that a busy runtime was not given, which is not an event.)
    RuntimeRefused,
    /// The removal listener panicked.
    ListenerPanicked,
}

/// The text of a type-erased error, if it is of one of the usual types for errors of any kind.
fn text_of(error: &(dyn Any + Send + Sync)) -> Option<&dyn fmt::Display> {
    if let Some(text) = error.downcast_ref::<&'static str>() {
        return Some(text);
    }
    if let Some(text) = error.downcast_ref::<String>() {
        return Some(text);
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return Some(error);
    }
    let boxed = error.downcast_ref::<Box<dyn std::error::Error + Send + Sync>>()?;
    Some(boxed)
}

impl<K: fmt::Debug> fmt::Display for Event<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadFailed { key, reason, failures, error } => {
                write!(f, "the load of {key:?} failed ({reason:?}, {failures} in a row)")?;
                match text_of(*error) {
                    Some(text) => write!(f, ": {text}"),
                    None => Ok(()),
                }
            }
            Self::LoadPanicked { key, reason, failures } => {
                write!(f, "the load of {key:?} panicked ({reason:?}, {failures} in a row)")
            }
            Self::LoadTimedOut { key, reason, failures } => {
                write!(f, "the load of {key:?} timed out ({reason:?}, {failures} in a row)")
            }
            Self::LoadAbandoned { key, reason } => {
                write!(f, "the load of {key:?} was dropped before it was done ({reason:?})")
            }
            Self::NothingToRenew { key } => {
                write!(f, "the loader said `unchanged` of {key:?}, and nothing was cached")
            }
            Self::CircuitOpened => f.write_str("the circuit breaker opened"),
            Self::CircuitClosed => f.write_str("the circuit breaker closed"),
            Self::TierFailed { error } => write!(f, "the second tier did not answer: {error}"),
            Self::TierLags { changes, failures, error } => write!(
                f,
                "changes not taken by the second tier: {changes} (attempt {failures}): {error}"
            ),
            Self::TierSkipped { entries, error } => write!(f, "{error} ({entries} so far)"),
            Self::RuntimeRefused => f.write_str("the runtime refused work in the background"),
            Self::ListenerPanicked => f.write_str("the removal listener panicked"),
        }
    }
}
