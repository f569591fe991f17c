//! What a loader returns, and the context that it is given.

use super::tag::Tag;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A loader's result, with its own TTL, version and tags: returned by loaders, also by those that are closures
/// ([`build_loading_fn`](crate::CacheBuilder::build_loading_fn)), and by the closures of
/// [`At::load`](crate::At::load) and [`At::load_async`](crate::At::load_async). A plain value, or an `Option`
/// of one (`None` is [`missing`](Self::missing)), converts into it.
///
/// ```
/// use larder::{Cache, Loaded};
/// use std::time::Duration;
///
/// let cache: Cache<String, u32> = Cache::new(100);
/// let got = cache.at("rate").load(|_| {
///     // the source says how long its answer is good for
///     Ok::<_, std::io::Error>(Loaded::new(7).ttl(Duration::from_secs(20)))
/// })?;
/// assert_eq!((got.value, got.fresh_for), (7, Duration::from_secs(20)));
/// # Ok::<_, larder::LoadError<std::io::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<V> {
    pub(crate) answer: Answer<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) validator: Option<Arc<str>>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) store: bool,
}

/// The source's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<V> {
    Value(V),
    Missing,
    Unchanged,
}

impl<V> Loaded<V> {
    fn of(answer: Answer<V>) -> Self {
        Self { answer, ttl: None, validator: None, tags: Vec::new(), store: true }
    }

    /// A value, to be stored with the cache's own settings.
    pub fn new(value: V) -> Self {
        Self::of(Answer::Value(value))
    }

    /// The source has no such value: the cached value is removed, and the answer itself is kept for
    /// `negative_ttl`, or for the [`ttl`](Self::ttl) set here.
    pub fn missing() -> Self {
        Self::of(Answer::Missing)
    }

    /// The cached value is still what the source has: it begins a new life, drawn as for a new value, and
    /// keeps its validator and its tags. This is the answer to a conditional request: a `304 Not Modified`
    /// (RFC 9110), an unchanged version column.
    ///
    /// Only for a loader that was shown a value by [`LoadCx::stale`]; without one the load fails with
    /// [`LoadError::NothingToRenew`](crate::LoadError::NothingToRenew). A [`validator`](Self::validator) set
    /// here replaces the old one, and a [`ttl`](Self::ttl) is that of the new life. Renewing does not count
    /// as an insertion, and no value leaves. (If the value was evicted while the source was asked, it has left,
    /// and was reported; it is stored anew then, which is an insertion, and will leave once more.)
    ///
    /// ```
    /// # use larder::{Cache, Clock, Loaded};
    /// # use std::time::Duration;
    /// # let (clock, hand) = Clock::manual();
    /// let pages: Cache<String, String> = Cache::builder()
    ///     .max_entries(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_if_error(Duration::from_secs(3600)) // keeps what has expired, to be asked for
    /// #   .clock(clock)
    ///     .build()?;
    /// let load = || {
    ///     pages.at("/").load(|cx| match cx.validator() {
    ///         Some(etag) if etag == "v1" => Ok::<_, String>(Loaded::unchanged()), // a 304
    ///         _ => Ok(Loaded::new("a page".to_owned()).validator("v1")),
    ///     })
    /// };
    /// load().unwrap();
    /// # hand.advance(Duration::from_secs(90));
    /// // a minute and a half later
    /// let got = load().unwrap();
    /// assert_eq!((got.value.as_str(), got.fresh_for), ("a page", Duration::from_secs(60)));
    /// assert_eq!(pages.stats().unchanged, 1);
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    #[doc(alias = "not_modified")]
    pub fn unchanged() -> Self {
        Self::of(Answer::Unchanged)
    }

    /// Sets this result's own time to live, instead of the cache's (or of `at(..).ttl(..)`). The cache's
    /// jitter shortens it too, unless the value is missing. [`Duration::ZERO`] stores nothing and removes
    /// what was there.
    #[doc(alias = "adaptive_caching")]
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets what the source calls this version of the value, an `ETag` say: it is kept with the value, and
    /// shown by [`Got::validator`](crate::Got::validator). A result that is missing has none.
    #[doc(alias = "etag")]
    #[must_use]
    pub fn validator(mut self, validator: impl Into<Arc<str>>) -> Self {
        self.validator = Some(validator.into());
        self
    }

    /// Adds a tag: a name under which the entry can be removed or expired together with others, by
    /// [`remove_tag`](crate::Cache::remove_tag) and [`expire_tag`](crate::Cache::expire_tag). It is for
    /// loaders that only learn from the source which groups the value belongs to; tags that the caller knows
    /// beforehand are better set by [`At::tag`](crate::At::tag). A result that is missing may have tags too.
    ///
    /// ```
    /// use larder::{Cache, Loaded};
    ///
    /// let pages: Cache<u64, String> = Cache::new(100);
    /// let (text, author) = ("<p>..</p>", 7);
    /// pages.at(&1).load(|_| {
    ///     let page = Loaded::new(text.to_owned()).tag(format!("author {author}"));
    ///     Ok::<_, std::io::Error>(page)
    /// })?;
    /// pages.remove_tag("author 7");
    /// assert_eq!(pages.get(&1), None);
    /// # Ok::<_, larder::LoadError<std::io::Error>>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Hands the result to those who wait for it, and leaves the cache as it is.
    #[must_use]
    pub fn no_store(mut self) -> Self {
        self.store = false;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::missing, Self::new)
    }
}

/// Why a loader was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadReason {
    /// Nothing was cached under the key in this process. (A second tier may still show the loader what it
    /// has.)
    Miss,
    /// The cached value had expired, or was older than this caller's `max_age`. (An expired value that has
    /// been freed since is a [`Miss`](Self::Miss).)
    Expired,
    /// Something was cached, but the caller used [`force`](crate::At::force).
    Forced,
    /// A fresh value is to be replaced before it expires; or somebody called
    /// [`refresh`](crate::LoadingCache::refresh).
    Refresh,
}

/// What a loader can see while it runs: an argument of loaders and of the closures of
/// [`At::load`](crate::At::load) and [`At::load_async`](crate::At::load_async).
pub struct LoadCx<V> {
    reason: LoadReason,
    attempt: u32,
    stale: Option<Arc<V>>,
    validator: Option<Arc<str>>,
    fate: Arc<dyn LoadFate>,
}

/// Lets a loader ask about its own load while it runs.
pub(crate) trait LoadFate: Send + Sync {
    /// Whether its result will not be stored.
    fn is_abandoned(&self) -> bool;
}

/// For loads that cannot be asked about: of many keys in one call.
struct Unwatched;

impl LoadFate for Unwatched {
    fn is_abandoned(&self) -> bool {
        false
    }
}

impl<V> LoadCx<V> {
    pub(crate) fn new(
        reason: LoadReason,
        attempt: u32,
        stale: Option<Arc<V>>,
        validator: Option<Arc<str>>,
        fate: Arc<dyn LoadFate>,
    ) -> Self {
        Self { reason, attempt, stale, validator, fate }
    }

    /// The context for each of many keys that are loaded in one call: it knows nothing about the key.
    pub(crate) fn of_many() -> Self {
        Self::new(LoadReason::Miss, 0, None, None, Arc::new(Unwatched))
    }

    /// Returns the value that this load is to replace, if it is still there: expired but within a stale
    /// window, or fresh but not good enough for this caller. A value past its last window is not shown, so a
    /// loader that asks its source "has it changed?" needs a stale window.
    pub fn stale(&self) -> Option<&V> {
        self.stale.as_deref()
    }

    /// Returns what the source calls the version of that value, if a loader said so.
    pub fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }

    /// Returns why this load was started.
    pub fn reason(&self) -> LoadReason {
        self.reason
    }

    /// Returns how many loads of this key have failed in a row before this one: errors, panics, timeouts. A
    /// write to the key, or a load that succeeds, resets the count. Only a limited number of failed keys is
    /// remembered; zero for any other key.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether the result will not be stored any more, because the load timed out or something newer
    /// was written meanwhile. A long loader may check this, and stop early.
    pub fn is_abandoned(&self) -> bool {
        self.fate.is_abandoned()
    }
}

impl<V> fmt::Debug for LoadCx<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadCx")
            .field("reason", &self.reason)
            .field("attempt", &self.attempt)
            .field("is_abandoned", &self.is_abandoned())
            .finish_non_exhaustive()
    }
}
