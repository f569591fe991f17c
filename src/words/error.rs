//! The errors: of building a cache, of a load, of a second tier.

use std::fmt;
use std::sync::Arc;

/// Why a load brought no value.
///
/// Every caller that waited for one load gets the same outcome: [`Loader`](Self::Loader) holds the loader's
/// own error behind an [`Arc`], so cloning is cheap and does not require `E: Clone`.
///
/// `LoadError<E>` is a [`std::error::Error`] wherever `E` is `Debug + Display`, so `?` converts it into
/// `Box<dyn Error>` or `anyhow::Error`, even with `E = String` or `E = anyhow::Error`. This error's text
/// includes the loader's text, in its alternate form (`{:#}`), in which `anyhow::Error` lists its causes;
/// [`loader`](Self::loader) returns the error itself. ([`source`](std::error::Error::source) returns neither
/// that error nor its source: `E` may be any type, and is shared.)
///
/// ```
/// use larder::{Cache, LoadError};
///
/// let cache: Cache<String, u32> = Cache::new(100);
/// let error = cache.get_or_load("answer", || Err("the database is away")).unwrap_err();
/// match &error {
///     LoadError::Loader(cause) => assert_eq!(**cause, "the database is away"),
///     other => panic!("{other}"),
/// }
/// assert_eq!(error.to_string(), "the loader failed: the database is away");
/// ```
///
/// With `anyhow` on both sides, the loader's error is found in two steps:
///
/// ```
/// # use larder::{Cache, LoadError};
/// # use std::io;
/// # let cache: Cache<String, u32> = Cache::new(100);
/// fn read() -> anyhow::Result<u32> {
///     Err(io::Error::from(io::ErrorKind::NotFound))?
/// }
///
/// let error: anyhow::Error = cache.get_or_load("answer", read).unwrap_err().into();
/// let cause = error.downcast_ref::<LoadError<anyhow::Error>>().and_then(LoadError::loader);
/// assert!(cause.is_some_and(|cause| cause.is::<io::Error>()));
/// ```
///
/// A function with an error type of its own has its loader return that type, and takes the whole error in as
/// one more variant (it needs no `Clone`: the loader's error is behind an `Arc`):
///
/// ```
/// use larder::{Cache, LoadError};
///
/// #[derive(thiserror::Error, Debug)]
/// enum Error {
///     #[error("the database: {0}")]
///     Database(#[from] std::io::Error),
///     #[error(transparent)]
///     Load(#[from] LoadError<Error>),
/// }
///
/// fn select(id: u64) -> Result<String, Error> {
///     # if id == 7 { return Err(std::io::Error::other("gone").into()) }
///     Ok(format!("user {id}")) // with `?` for whatever the database returns
/// }
///
/// fn user(users: &Cache<u64, String>, id: u64) -> Result<String, Error> {
///     Ok(users.get_or_load(&id, || select(id))?)
/// }
/// # let users = Cache::new(100);
/// # assert_eq!(user(&users, 1).unwrap(), "user 1");
/// # let text = user(&users, 7).unwrap_err().to_string();
/// # assert_eq!(text, "the loader failed: the database: gone");
/// ```
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader returned this error; it is the same one for every caller that waited.
    #[error("the loader failed: {0:#}")]
    Loader(Arc<E>),
    /// The source has no such value: the loader said so now, or did within `negative_ttl`.
    /// [`OptionalExt`](crate::OptionalExt) makes a `None` of it.
    #[error("the source has no value for this key")]
    NotFound,
    /// The load took longer than `load_timeout`, and the key is free: the next call loads again. Or it took
    /// longer than the [`At::timeout`](crate::At::timeout) of this one caller, and goes on.
    #[error(
        "the load did not finish within the cache's `load_timeout`, or within the `timeout` of this \
         call; the next call loads again or waits on, raise the timeout if the source is that slow"
    )]
    TimedOut,
    /// As many loads as [`max_concurrent_loads`](crate::CacheBuilder::max_concurrent_loads) allows were
    /// running, and no slot was free within the time that this caller waits.
    #[error(
        "no slot of the cache's `max_concurrent_loads` was free in time; try again later, raise the \
         limit if the source can take it, or wait longer"
    )]
    Overloaded,
    /// The last loads failed, so the source is left alone for a while: the
    /// [`circuit_breaker`](crate::CacheBuilder::circuit_breaker) is open.
    #[error(
        "the source was not asked: its last loads failed and the cache's `circuit_breaker` is open; \
         try again when it has had time to recover"
    )]
    CircuitOpen,
    /// The loader that this caller waited for panicked. The key is free: the next call loads again.
    #[error("the loader that this call waited for panicked; the next call loads again")]
    Panicked,
    /// The loader of a key asked the cache for that same key, and would wait for itself. Or a handler of
    /// [`on_event`](crate::CacheBuilder::on_event) asked for a key that is not cached.
    #[error(
        "this call would wait for itself: a loader asked for the key that it is loading (load it from \
         the source there, or ask for another key), or a handler of `on_event` for one that is not cached"
    )]
    Recursive,
    /// The loader answered [`Loaded::unchanged`](crate::Loaded::unchanged), but it had been shown no
    /// value that could be unchanged.
    #[error(
        "the loader answered `unchanged`, but nothing is cached that it could renew; answer so only \
         where `LoadCx::stale` shows a value"
    )]
    NothingToRenew,
}

impl<E> LoadError<E> {
    /// Returns the loader's own error, if that is what happened.
    pub fn loader(&self) -> Option<&E> {
        match self {
            Self::Loader(cause) => Some(cause),
            _ => None,
        }
    }

    /// Whether the source has no such value.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound)
    }

    /// Whether the load ran out of time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut)
    }

    /// Whether there was no slot for the load in time.
    pub fn is_overloaded(&self) -> bool {
        matches!(self, Self::Overloaded)
    }

    /// Whether the circuit breaker kept the load from the source.
    pub fn is_circuit_open(&self) -> bool {
        matches!(self, Self::CircuitOpen)
    }

    /// Whether the loader panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked)
    }

    /// Whether a fallback may replace it: not the source's own answer that it has no such value, nor a mistake
    /// in the program.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Self::NotFound | Self::Recursive)
    }

    /// Whether the loader asked for its own key.
    pub fn is_recursive(&self) -> bool {
        matches!(self, Self::Recursive)
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(cause) => Self::Loader(Arc::clone(cause)),
            Self::NotFound => Self::NotFound,
            Self::TimedOut => Self::TimedOut,
            Self::Overloaded => Self::Overloaded,
            Self::CircuitOpen => Self::CircuitOpen,
            Self::Panicked => Self::Panicked,
            Self::Recursive => Self::Recursive,
            Self::NothingToRenew => Self::NothingToRenew,
        }
    }
}

/// Why a second [`Tier`](crate::Tier) could not do what it was asked. A load never returns this: if the tier
/// fails, it asks the source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// There is no connection, or it was lost. The text says what the client said, without credentials.
    #[error("the second tier cannot be reached: {0}")]
    Unreachable(Arc<str>),
    /// It did not answer in time.
    #[error("the second tier did not answer in time")]
    TimedOut,
    /// It refused; the text says why.
    #[error("the second tier refused: {0}")]
    Refused(Arc<str>),
    /// It was set up with something that it does not accept; the text says what.
    #[error("the second tier cannot be set up: {0}")]
    Invalid(Arc<str>),
    /// An entry cannot be turned into bytes from which it can be read back; the text says why, and what to
    /// do. No call returns this: the tier leaves the entry out, and the cache's handler is
    /// [told](crate::Event::TierSkipped).
    #[error("the second tier cannot store an entry: {0}")]
    Unencodable(Arc<str>),
    /// What is stored cannot be read as an entry; the text says why. No call returns this either: it counts
    /// as absent, and the handler is told.
    #[error("the second tier cannot read an entry: {0}")]
    Unreadable(Arc<str>),
    /// The cache was built without a tier.
    #[error("the cache has no second tier: say `tier(..)` when it is built")]
    NoTier,
}

/// Why [`build`](crate::CacheBuilder::build) refused: which setting, and what it accepts.
///
/// ```
/// use larder::{Cache, ConfigError};
///
/// let error = Cache::<u64, u64>::builder().build().unwrap_err();
/// assert_eq!(error, ConfigError::NoBound);
/// ```
#[derive(thiserror::Error, Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing says how large the cache may grow.
    #[error(
        "the cache has no bound: call one of `max_entries(n)`, `max_weight(w)` with `weigher(f)`, \
         or `unbounded()`"
    )]
    NoBound,
    /// More than one bound was given.
    #[error("`{first}` and `{second}` both bound the cache: keep one of them")]
    TwoBounds {
        /// The bound that was set first.
        first: &'static str,
        /// The bound that was set as well.
        second: &'static str,
    },
    /// A weigher, but no `max_weight`.
    #[error("`weigher` needs a budget to hold the weights to: call `max_weight(w)`")]
    WeigherWithoutMaxWeight,
    /// A `max_weight`, but no weigher.
    #[error("`max_weight` needs to know what an entry weighs: call `weigher(|key, value| ..)`")]
    MaxWeightWithoutWeigher,
    /// A stale window, but no time to live from whose end it could count.
    #[error(
        "`{setting}` is a window after the end of a time to live, and there is none: call \
         `time_to_live(d)` (with `Duration::MAX` if each value brings its own), or leave the window out"
    )]
    WindowWithoutTimeToLive {
        /// The window's name on the builder.
        setting: &'static str,
    },
    /// A `soft_timeout`, but no stale window: nobody could be served a stale value when it is over.
    #[error(
        "`soft_timeout` serves a stale value while a load is slow, and no stale value may be served: \
         call `stale_if_error(d)` or `stale_while_revalidate(d)`, or leave it out (`load_timeout` limits \
         the wait for a load, `at(..).timeout(..)` that of one caller)"
    )]
    SoftTimeoutWithoutWindow,
    /// A setting for loads that the cache makes by itself, and no loader to make them with.
    #[error(
        "`{setting}` is for a cache with a loader of its own: end with {}, or leave it out",
        loading_builds(setting)
    )]
    NeedsLoader {
        /// The setting's name on the builder.
        setting: &'static str,
    },
    /// A cache with an `AsyncLoader` has nothing to run its refreshes on, or an `AsyncWriteBehind`
    /// nothing to write with.
    #[error(
        "a cache with an `AsyncLoader`, or a queue with an `AsyncWriter`, needs a runtime for its \
         work: build it inside of a tokio runtime with larder's feature `tokio`, or, for a cache, \
         call `runtime(..)`"
    )]
    NoRuntime,
    /// The thread that sends changes to a second tier could not be started.
    #[error("the thread that a second tier needs could not be started: {0}")]
    NoThread(std::io::ErrorKind),
    /// A time to idle together with a second tier: uses are counted in one process, but several use what the
    /// tier keeps.
    #[error(
        "`time_to_idle` counts the uses in this process, and `tier` keeps what others use: keep one of \
         them"
    )]
    TimeToIdleWithTier,
    /// The second tier refuses this cache.
    #[error(transparent)]
    Tier(TierError),
    /// A number outside of what its setting accepts.
    #[error("`{setting}` is {given}, but accepts {accepts}")]
    OutOfRange {
        /// The setting's name on the builder.
        setting: &'static str,
        /// What was given.
        given: Given,
        /// What the setting accepts, in words.
        accepts: &'static str,
    },
}

/// The builds with which a setting has an effect: `batch` needs a loader of many keys, which a closure is not, and
/// only the loads of tasks can be detached.
fn loading_builds(setting: &str) -> &'static str {
    match setting {
        "detached_loads" => "`build_loading_async(..)` or `build_loading_async_fn(..)`",
        _ => "`build_loading(..)` or `build_loading_async(..)`",
    }
}

/// The value that a [`ConfigError::OutOfRange`] refused, as it was given.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Given {
    /// A share or a factor.
    Number(f64),
    /// A length of time.
    Duration(std::time::Duration),
    /// A count.
    Count(u64),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Duration(duration) => fmt::Debug::fmt(duration, f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    fn text<E: fmt::Display>(error: E) -> String {
        LoadError::Loader(Arc::new(error)).to_string()
    }

    #[test]
    fn the_text_tells_the_loaders_error_with_its_causes() {
        let chain = || anyhow::anyhow!("connection refused").context("selecting user 42");
        let told = "the loader failed: selecting user 42: connection refused";
        assert_eq!(text(chain()), told);
        // carried on by `?`, it is told once
        let carried = anyhow::Error::from(LoadError::Loader(Arc::new(chain())));
        assert_eq!(format!("{carried:#}"), told);
        assert_eq!(text(String::from("away")), "the loader failed: away");
        assert_eq!(text(std::io::Error::other("away")), "the loader failed: away");
    }
}
