//! `cache.at(&key)`: one call with settings of its own.

use super::call::Call;
use super::{blocking, future, writing};
use crate::engine::alter::AlterOptions;
use crate::engine::lead::Lead;
use crate::engine::look::Looked;
use crate::engine::store::Store;
use crate::rules::altered::Altered;
use crate::rules::expiry::{NEVER, ticks, whole_ticks};
use crate::rules::got::{Got, How};
use crate::rules::loaded::{LoadCx, Loaded};
use crate::shard::ask::Ask;
use crate::words::error::LoadError;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

/// A call for one key with settings of its own, from [`Cache::at`](crate::Cache::at). Set what it needs, then
/// call [`insert`](Self::insert), [`alter`](Self::alter), [`load`](Self::load),
/// [`write_through`](Self::write_through), or the async form of one of the last two.
///
/// Made by a cache that owns its loader ([`LoadingCache::at`](crate::LoadingCache::at),
/// [`AsyncLoadingCache::at`](crate::AsyncLoadingCache::at)), it has one call more: `read_through`, which loads
/// with that loader. `O` is a reference to such a cache; for a plain [`Cache`](crate::Cache) it is `()`.
#[must_use = "it does nothing until `insert`, `alter`, `load` or another such method is called"]
pub struct At<'a, K, V, S, Q: ?Sized, O = ()> {
    pub(super) owner: O,
    pub(super) store: &'a Arc<Store<K, V, S>>,
    pub(super) key: &'a Q,
    ttl: Option<Duration>,
    keeps_life: bool,
    tags: CallTags<'a>,
    max_age: Option<Duration>,
    force: bool,
    pub(super) fallback: Option<V>,
    timeout: Option<Duration>,
}

impl<'a, K, V, S, Q: ?Sized, O> At<'a, K, V, S, Q, O> {
    pub(super) fn new(store: &'a Arc<Store<K, V, S>>, key: &'a Q, owner: O) -> Self {
        Self {
            owner,
            store,
            key,
            ttl: None,
            keeps_life: false,
            tags: CallTags::default(),
            max_age: None,
            force: false,
            fallback: None,
            timeout: None,
        }
    }

    /// Sets the time to live of what this call stores, instead of the cache's; the cache's jitter shortens it
    /// too. [`Duration::ZERO`] stores nothing and removes what was there, [`Duration::MAX`] means for ever.
    /// If the loader returns a [`Loaded::ttl`], that counts instead. It applies to values only: "not found"
    /// lives for [`negative_ttl`](crate::CacheBuilder::negative_ttl), or as the loader says.
    #[doc(alias("expire_after", "expire_after_create"))]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Keeps the life of the previous value, if that is fresh: what [`insert`](Self::insert) or
    /// [`alter`](Self::alter) stores expires when the previous value would have, to the millisecond, and has
    /// its [`age`](Got::age), by which `max_age` goes. If there was none, a new life begins, with the
    /// [`ttl`](Self::ttl) set here or the cache's.
    ///
    /// So a count has a fixed window: its first call begins it, and the others do not make it longer. A time
    /// to idle begins anew, as at every use. If the life ends before the new value is stored, a new one
    /// begins, and `alter` calls its closure again, with `None`. Loads begin new lives: they ignore this.
    pub fn keep_life(mut self) -> Self {
        self.keeps_life = true;
        self
    }

    /// Tags what this call stores, a "not found" included. A tag is a name under which all entries that have it
    /// can be removed or expired together, by [`remove_tag`](crate::Cache::remove_tag) and
    /// [`expire_tag`](crate::Cache::expire_tag). Call it once for each tag: a value may have any number, and
    /// its loader may add others by [`Loaded::tag`]. Up to three cost no allocation on a hit.
    ///
    /// Tags belong to the value: one that is stored later without tags has none. So
    /// [`Cache::insert`](crate::Cache::insert), [`Cache::write_through`](crate::Cache::write_through) and the
    /// plain calls of [`WriteBehind`](crate::WriteBehind), which take no tags, leave a value without any (its
    /// [`at`](crate::WriteBehind::at) takes some).
    /// [`Cache::alter`](crate::Cache::alter) keeps the tags of the value that it changes; tags set here
    /// replace them.
    pub fn tag(mut self, tag: &'a str) -> Self {
        self.tags.push(tag);
        self
    }

    /// Adds several tags, as [`tag`](Self::tag) does for each.
    pub fn tags<T>(mut self, tags: impl IntoIterator<Item = &'a T>) -> Self
    where
        T: ?Sized + AsRef<str> + 'a,
    {
        tags.into_iter().for_each(|tag| self.tags.push(tag.as_ref()));
        self
    }

    /// Sets the greatest age of a value that this caller accepts. An older value is not fresh for this
    /// caller, however much is left of its life, and is not served stale either: the caller loads, or waits
    /// for a load that began no longer ago than this. A load that began earlier goes on for those who wait
    /// for it, but its result is not stored. What this caller loads is stored for everybody.
    ///
    /// Counted in milliseconds, rounded down: no value is served whose age, as [`Got::age`] tells it, is more
    /// than this. [`Duration::ZERO`], and anything below a millisecond, accepts what was stored within the
    /// same tick of the clock: with the system clock, within the last few milliseconds.
    /// [`force`](Self::force) accepts no stored value.
    ///
    /// ```
    /// use larder::{Cache, Clock, How};
    /// use std::time::Duration;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let stock: Cache<String, u32> = Cache::builder()
    ///     .max_entries(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .clock(clock)
    ///     .build()?;
    /// stock.insert("lamp".to_owned(), 3);
    /// hand.advance(Duration::from_secs(10));
    /// assert_eq!(stock.get("lamp"), Some(3)); // good enough for the page
    /// // and not for the till
    /// let left = stock.at("lamp").max_age(Duration::from_secs(1)).load(|_| Ok::<_, String>(2));
    /// assert_eq!((left.unwrap().how, stock.get("lamp")), (How::Loaded, Some(2)));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Always loads, whatever is cached. This caller gets the result of a load that began no earlier than
    /// this call: its own, or one that another forced call has begun meanwhile. A load that began before goes
    /// on for those who wait for it, but its result is not stored. `error_backoff` does not hold a forced
    /// load back, and if it fails, the caller gets no stale value. `circuit_breaker` and
    /// `max_concurrent_loads` apply as always.
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Sets a value to return instead of an error, if the load fails or takes too long and nothing stale may
    /// be served. It is not stored. It does not replace "not found", which is no failure, nor
    /// [`LoadError::Recursive`], nor a panic of the caller's own loader.
    #[doc(alias = "fail_safe_default_value")]
    pub fn fallback(mut self, value: V) -> Self {
        self.fallback = Some(value);
        self
    }

    /// Limits how long this caller waits, for its own load or for another caller's: no less than this, and a
    /// few milliseconds more at most. Then it gets a stale value, if a window allows one, or the
    /// [`fallback`](Self::fallback), or [`LoadError::TimedOut`] (if its load is still in the queue of
    /// `max_concurrent_loads`, [`LoadError::Overloaded`]); no other caller notices. Another caller's load goes
    /// on. Its own load, if that is async, is dropped (which a circuit breaker does not notice: see
    /// [`load_timeout`](crate::CacheBuilder::load_timeout)), and a caller that waits takes over with its own
    /// loader; a blocking loader cannot be interrupted, and runs to its end.
    pub fn timeout(mut self, patience: Duration) -> Self {
        self.timeout = Some(patience);
        self
    }
}

impl<K, V, S, Q, O> At<'_, K, V, S, Q, O>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
{
    /// Looks the key up: a cached value that this call accepts, or a cached "not found".
    #[inline]
    pub(super) fn look<E>(&self, hash: u64, call: &Call) -> Option<Result<Got<V>, LoadError<E>>> {
        match self.store.got_or_search(hash, self.key, &call.ask) {
            Looked::Value(got) => Some(Ok(got)),
            Looked::Missing => Some(Err(LoadError::NotFound)),
            Looked::Nothing => None,
        }
    }

    /// The options set here, in the engine's form.
    pub(super) fn call<E: 'static>(&self, hash: u64) -> Call {
        let since = if self.force { self.store.begun(hash) + 1 } else { 0 };
        let max_age = self.max_age.map_or(NEVER, whole_ticks);
        let ask = Ask { max_age, since, ..Ask::of::<E>() };
        let until = self.timeout.map(|patience| self.store.clock.after(ticks(patience)));
        Call { ask, ttl: self.ttl, until, may_offload: false }
    }

    /// Stores `value`, as [`Cache::insert`](crate::Cache::insert) does, with the [`ttl`](Self::ttl) and the
    /// [`tag`](Self::tag)s set here. It ignores [`max_age`](Self::max_age), [`force`](Self::force),
    /// [`fallback`](Self::fallback) and [`timeout`](Self::timeout), which are about loads.
    ///
    /// With [`keep_life`](Self::keep_life) it is an [`alter`](Self::alter) that stores `value` whatever was
    /// there before. It costs what `alter` costs, and one more clone of the value per round.
    pub fn insert(self, value: V) {
        if self.keeps_life {
            self.alter(|_| Some(value.clone()));
            return;
        }
        let store = self.store;
        let (hash, key, ttl) = (store.hash(self.key), self.key.to_key(), self.ttl.map(ticks));
        if self.tags.is_empty() {
            store.insert(hash, key, value, ttl);
        } else {
            store.insert_tagged(hash, key, value, ttl, self.tags.iter());
        }
    }

    /// Writes to the source and then to the cache, as [`Cache::write_through`](crate::Cache::write_through)
    /// does; what is stored has the [`ttl`](Self::ttl) and the [`tag`](Self::tag)s set here. If one of the
    /// tags is removed or expired during the write, so is the value: nobody knows which came first. It
    /// ignores the other settings, which are about loads, and [`keep_life`](Self::keep_life).
    ///
    /// ```
    /// # use larder::Cache;
    /// # fn update(id: &u64, page: &String) -> std::io::Result<()> { Ok(()) }
    /// # let pages: Cache<u64, String> = Cache::new(1_000);
    /// pages.at(&42).tag("ada").write_through("a new page".to_owned(), update)?;
    /// pages.remove_tag("ada");
    /// assert_eq!(pages.get(&42), None);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `write`, as they are; then nothing is left under the key.
    ///
    /// # Panics
    ///
    /// If `write` does; that is a failed write.
    pub fn write_through<E>(
        self,
        value: V,
        write: impl FnOnce(&K, &V) -> Result<(), E>,
    ) -> Result<(), E> {
        let (key, ttl) = (self.key.to_key(), self.ttl.map(ticks));
        writing::write_through(self.store, key, value, ttl, self.tags.iter(), write)
    }

    /// The async form of [`write_through`](Self::write_through), as
    /// [`Cache::write_through_async`](crate::Cache::write_through_async).
    ///
    /// # Errors
    ///
    /// Those of `write`, as they are; then nothing is left under the key.
    ///
    /// # Panics
    ///
    /// If `write` or its future does.
    pub async fn write_through_async<E, F, Fut>(self, value: V, write: F) -> Result<(), E>
    where
        F: FnOnce(K, V) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let (key, ttl) = (self.key.to_key(), self.ttl.map(ticks));
        writing::write_through_async(self.store, key, value, ttl, self.tags.iter(), write).await
    }

    /// Changes a value as [`Cache::alter`](crate::Cache::alter) does, with the [`ttl`](Self::ttl) and the
    /// [`tag`](Self::tag)s set here, or with the life of the previous value ([`keep_life`](Self::keep_life));
    /// ignores the other settings, which are about loads. A limit of three attempts a minute:
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// # let (clock, hand) = Clock::manual();
    /// let attempts: Cache<String, u32> = Cache::builder()
    ///     .max_entries(100_000)
    ///     .time_to_live(minute)
    /// #   .clock(clock)
    ///     .build()?;
    /// let may_try = |user: &str| {
    ///     let count = attempts.at(user).keep_life().alter(|n| Some(n.unwrap_or(0) + 1));
    ///     count.is_some_and(|n| n <= 3)
    /// };
    /// let tried: Vec<_> = (0..5).map(|_| may_try("ann")).collect();
    /// assert_eq!(tried, [true, true, true, false, false]);
    /// # hand.advance(minute);
    /// // a minute after the first one
    /// assert!(may_try("ann"));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    pub fn alter<R>(self, mut change: impl FnMut(Option<V>) -> R) -> Option<V>
    where
        R: Into<Altered<V>>,
    {
        let (ttl, keeps_life, tags) = (self.ttl.map(ticks), self.keeps_life, self.tags.iter());
        let options = AlterOptions { ttl, keeps_life, tags };
        let change = |value| change(value).into();
        self.store.alter(self.store.hash(self.key), self.key, &options, change)
    }

    /// Returns or loads the value, as [`Cache::get_or_load`](crate::Cache::get_or_load) does, with the
    /// settings made here; also tells how it was obtained. The closure may return a plain value, an `Option`
    /// of one, or a [`Loaded`] that says more.
    ///
    /// ```
    /// use larder::{Cache, How};
    /// use std::time::Duration;
    ///
    /// let cache: Cache<String, u32> = Cache::new(100);
    /// let load = || {
    ///     cache.at("answer").ttl(Duration::from_secs(60)).load(|_| Ok::<_, std::io::Error>(42))
    /// };
    /// assert_eq!(load()?.how, How::Loaded);
    /// assert_eq!(load()?.how, How::Fresh);
    /// # Ok::<_, larder::LoadError<std::io::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load`](crate::Cache::get_or_load); [`LoadError::NotFound`] if the loader said that
    /// there is no such value, now or within `negative_ttl`; with [`timeout`](Self::timeout) those that it
    /// names.
    #[doc(alias = "is_fresh")]
    pub fn load<R, E>(
        self,
        load: impl FnOnce(&LoadCx<V>) -> Result<R, E>,
    ) -> Result<Got<V>, LoadError<E>>
    where
        R: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let store = self.store;
        let hash = store.hash(self.key);
        let call = self.call::<E>(hash);
        if let Some(found) = self.look(hash, &call) {
            return found;
        }
        let result = blocking::load(store, hash, self.key, call, |lead| {
            lead.tag(self.tags.iter());
            let cx = lead.cx();
            lead.run(|| load(&cx).map(Into::into))
        });
        or_fallback(result, self.fallback)
    }

    /// The async form of [`load`](Self::load), which shares its loads.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub async fn load_async<R, E, F, Fut>(self, load: F) -> Result<Got<V>, LoadError<E>>
    where
        R: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: FnOnce(LoadCx<V>) -> Fut,
        Fut: Future<Output = Result<R, E>>,
    {
        let store = self.store;
        let hash = store.hash(self.key);
        let call = self.call::<E>(hash);
        if let Some(found) = self.look(hash, &call) {
            return found;
        }
        let tags = self.tags;
        let load = |lead: &mut Lead<K, V, S>| {
            lead.tag(tags.iter());
            let cx = lead.cx();
            lead.run(|| load(cx))
        };
        let fallback = self.fallback;
        let finish = |result| or_fallback(result, fallback);
        future::load(store, hash, self.key, call, load, finish).await
    }
}

/// The tags set by the caller. The first three are stored inline: on a hit they are not used, and must not cost
/// an allocation.
#[derive(Default)]
pub(super) struct CallTags<'a> {
    few: [Option<&'a str>; 3],
    more: Vec<&'a str>,
}

impl<'a> CallTags<'a> {
    pub(super) fn push(&mut self, tag: &'a str) {
        match self.few.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(tag),
            None => self.more.push(tag),
        }
    }

    fn is_empty(&self) -> bool {
        self.few[0].is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> + Clone + '_ {
        self.few.iter().flatten().chain(&self.more).copied()
    }
}

pub(super) fn or_fallback<V, E>(
    result: Result<Got<V>, LoadError<E>>,
    fallback: Option<V>,
) -> Result<Got<V>, LoadError<E>> {
    match (result, fallback) {
        (Err(error), Some(value)) if error.is_failure() => {
            Ok(Got::new(value, How::Fallback, Duration::ZERO, Duration::ZERO, None))
        }
        (result, _) => result,
    }
}

impl<K, V, S, Q: ?Sized, O> fmt::Debug for At<'_, K, V, S, Q, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys are the user's data: never in logs
        f.debug_struct("At")
            .field("ttl", &self.ttl)
            .field("keeps_life", &self.keeps_life)
            .field("max_age", &self.max_age)
            .field("force", &self.force)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
