//! The interface between a cache and its second tier.

use super::expiry::duration;
use super::tag::Tag;
pub(crate) use crate::words::error::TierError;
use crate::words::tier_key::TierKey;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A second tier behind a cache: slower and larger, and shared by several processes. `RedisTier` (feature
/// `redis`) is one, and [`MemoryTier`](crate::MemoryTier) stands in for it in tests. Give it to a cache with
/// [`CacheBuilder::tier`](crate::CacheBuilder::tier).
///
/// A load of a key asks the tier before the source, at most once at a time for a key in one process. The
/// cache hands its changes to the tier in the background, from a thread of its own, in the order in which
/// they were made, and hands over again a change that fails. The tier reports what other processes change to
/// the cache by itself, through the [`TierWatcher`] that it is given.
///
/// Each process has a handle of its own; what a clone of a handle does counts as that process's. The source
/// of `MemoryTier` is a complete example.
///
/// If the tier fails, the load does not: it asks the source. So a tier has to answer or to fail in bounded
/// time: only `load_timeout` ends the wait for a future that never completes.
///
/// The futures are polled by threads that block on them, and by tasks of any runtime: they must not rely on
/// being polled inside a certain runtime.
///
/// # Races that it has to fence
///
/// A value that was loaded before a removal must not arrive in the tier after it, from whatever process. So
/// [`get`](Self::get) returns a [`TierTicket`] for what it saw under the key, and [`apply`](Self::apply) must
/// store a value that comes with a ticket only if nothing has happened to the key, or to one of its tags,
/// since the ticket was issued. So a removal has to leave a mark for longer than loads take: see
/// [`longest_load`](Self::longest_load).
pub trait Tier<K, V>: Send + Sync + 'static
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Looks up a key.
    ///
    /// # Errors
    ///
    /// If the tier cannot answer in time. Data that it cannot read as an entry counts as absent, not as an
    /// error: [`TierWatcher::skipped`] reports it.
    fn get(&self, key: &TierKey)
    -> impl Future<Output = Result<TierFound<K, V>, TierError>> + Send;

    /// Looks up several keys, and answers in their order; by default, one after the other.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), for all of them together.
    fn get_many(
        &self,
        keys: &[TierKey],
    ) -> impl Future<Output = Result<Vec<TierFound<K, V>>, TierError>> + Send {
        async move {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(self.get(key).await?);
            }
            Ok(found)
        }
    }

    /// Makes changes, in their order. After a failure the cache hands them over again, since it does not know
    /// which of them were made: a value that was [written](TierChange::Write) then comes as a removal, and
    /// one that was [loaded](TierChange::Load) not at all.
    ///
    /// # Errors
    ///
    /// If not all of them were made. It is no error if a value is not stored because its ticket is out of
    /// date, because it is too large, or because it cannot be encoded, which [`TierWatcher::skipped`] reports.
    fn apply(
        &self,
        changes: &[TierChange<K, V>],
    ) -> impl Future<Output = Result<(), TierError>> + Send;

    /// Takes the watcher to which the tier reports every [`TierChange`] that others make, stored loads among
    /// them. Called once for each cache that is built on this tier. By default, nothing is reported, and a
    /// copy in a process lives until its own life is over.
    ///
    /// Do not report changes that came through this handle or a clone of it: those are the cache's own.
    /// Report others' changes without delay, and always before [`get`](Self::get) returns something that it
    /// read after the change, and before [`apply`](Self::apply) returns from changes that it made after it.
    /// The cache keeps what `get` returned, unless it hears of a change of that key at any time after it
    /// called `get`. And of a value that it wrote, it has to hear before `apply` returns that another's
    /// change came first, for that may be the newer one: then it has the value removed.
    ///
    /// # Errors
    ///
    /// If the tier cannot serve this cache; then the cache is not built. Two caches on one handle, say, would
    /// not hear of each other's changes.
    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        drop(watcher);
        Ok(())
    }

    /// Gives back a ticket that the cache will not use: no load with it will be stored, because none was
    /// needed, or it failed, was dropped, or something newer happened to the key. A tier that lets other
    /// processes wait for the load to which it gave a ticket (as `RedisTier` with a `lease` does) should let
    /// them go on. It is called by a thread or task that loads, so it must not block. By default, it does
    /// nothing.
    fn release(&self, key: &TierKey, ticket: &TierTicket) {
        _ = (key, ticket);
    }

    /// Returns how long a ticket can be used after it was issued. The cache does not hand over the result of
    /// a load that ends later than that. By default, for ever.
    fn longest_load(&self) -> Duration {
        Duration::MAX
    }

    /// Returns the longest time for which the tier keeps anything. The cache gives up a change that has
    /// failed for that long, since what it was to change is gone by then. By default, for ever.
    ///
    /// A load of another process that began before such a change may still be stored after it, up to
    /// [`longest_load`](Self::longest_load) later. So a tier in which a change that never arrived leaves no
    /// mark should return its longest time to live and `longest_load` together.
    fn longest_life(&self) -> Duration {
        Duration::MAX
    }
}

/// What a [`Tier`] has under a key: its answer to [`Tier::get`], made by [`new`](Self::new).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierFound<K, V> {
    /// The entry; `None` if there is none, or none that can be used.
    pub entry: Option<TierEntry<K, V>>,
    /// The ticket that a load that begins now needs to store its result.
    pub ticket: TierTicket,
}

impl<K, V> TierFound<K, V> {
    /// Makes an answer of this entry, or none, and the ticket of a load that begins now.
    ///
    /// ```
    /// use larder::{TierEntry, TierFound, TierTicket};
    ///
    /// let version: u64 = 7; // of the key: it changes with every write and every removal
    /// let ticket = TierTicket::new(version.to_le_bytes().as_slice());
    /// let found = TierFound::new(Some(TierEntry::new("answer", Some(42))), ticket);
    /// assert_eq!(found.entry.unwrap().value, Some(42));
    /// ```
    pub fn new(entry: Option<TierEntry<K, V>>, ticket: TierTicket) -> Self {
        Self { entry, ticket }
    }
}

/// What [`Tier::get`] saw under a key, in a form that only the tier understands: see [`Tier`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TierTicket(Arc<[u8]>);

impl TierTicket {
    /// Makes a ticket of the tier's own bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes that the ticket was made of.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TierTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierTicket").finish_non_exhaustive()
    }
}

/// An entry on its way to a [`Tier`] or back. All times count from the moment at which it is handed over, so
/// that no two clocks are ever compared. This is how a tier hands out an entry that came in `passed` ago:
///
/// ```
/// # use larder::TierEntry;
/// # use std::time::Duration;
/// fn handed_out<K: Clone, V: Clone>(kept: &TierEntry<K, V>, passed: Duration) -> Option<TierEntry<K, V>> {
///     let life = kept.fresh_for.min(kept.time_to_live); // or the tier's own
///     let over_for = passed.saturating_sub(life);
///     (passed < life || over_for < kept.stale_for).then(|| TierEntry {
///         age: kept.age + passed,
///         fresh_for: life.saturating_sub(passed),
///         over_for,
///         ..kept.clone()
///     })
/// }
/// # let mut entry = TierEntry::new(1, Some(2));
/// # entry.time_to_live = Duration::from_secs(2);
/// # assert_eq!(handed_out(&entry, Duration::from_secs(1)).unwrap().fresh_for, Duration::from_secs(1));
/// # assert_eq!(handed_out(&entry, Duration::from_secs(2)), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TierEntry<K, V> {
    /// The key: two keys may have the same [`TierKey`].
    pub key: K,
    /// The value, or that the source has none.
    pub value: Option<V>,
    /// How long ago its load began, or it was written.
    pub age: Duration,
    /// On the way in: how long it may live at most, as its loader or its writer set for this entry alone;
    /// [`Duration::MAX`] if neither did. On the way out: what is left of its life, zero if that is over.
    pub fresh_for: Duration,
    /// On the way in: how long the cache keeps it, drawn with its jitter; [`Duration::MAX`] where nothing ends
    /// that. A tier without a time to live of its own keeps it for as long, so that no process serves it past
    /// that time. Not used on the way out.
    pub time_to_live: Duration,
    /// On the way out: for how long its life has been over.
    pub over_for: Duration,
    /// For how long after its life a cache may still serve it: if its load fails, say.
    pub stale_for: Duration,
    /// What the source calls this version of it.
    pub validator: Option<Arc<str>>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

impl<K, V> TierEntry<K, V> {
    /// Makes an entry whose load began just now, with defaults for everything else.
    pub fn new(key: K, value: Option<V>) -> Self {
        Self {
            key,
            value,
            age: Duration::ZERO,
            fresh_for: Duration::MAX,
            time_to_live: Duration::MAX,
            over_for: Duration::ZERO,
            stale_for: Duration::ZERO,
            validator: None,
            tags: Vec::new(),
        }
    }
}

impl<K, V> TierEntry<K, V> {
    /// Its life has gone on for so many ticks before it was handed over, and what was left over of them is
    /// taken off the time for which it may be served stale.
    fn has_waited(&mut self, ticks: u64) {
        let passed = duration(ticks);
        let over_for = passed.saturating_sub(self.fresh_for.min(self.time_to_live));
        self.age = self.age.saturating_add(passed);
        self.stale_for = self.stale_for.saturating_sub(over_for);
        for life in [&mut self.fresh_for, &mut self.time_to_live] {
            if *life < Duration::MAX {
                *life = life.saturating_sub(passed);
            }
        }
    }
}

impl<K, V> fmt::Debug for TierEntry<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys and values are the user's data: never in logs
        f.debug_struct("TierEntry")
            .field("age", &self.age)
            .field("fresh_for", &self.fresh_for)
            .field("over_for", &self.over_for)
            .finish_non_exhaustive()
    }
}

/// A change that a [`Tier`] is to make, and that others who share it are to hear of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TierChange<K, V> {
    /// Somebody wrote this: it is newer than what is stored there, and than any load that began before.
    Write(TierKey, TierEntry<K, V>),
    /// A load brought this: to be stored if the ticket is still valid.
    Load(TierKey, TierEntry<K, V>, TierTicket),
    /// What is stored under the key goes, and no load that began before may store there.
    Remove(TierKey),
    /// The same, but the entry stays to be served if a load fails, for as long as its `stale_for` says.
    Expire(TierKey),
    /// As [`Remove`](Self::Remove), for all that has this tag.
    RemoveTag(Tag),
    /// As [`Expire`](Self::Expire), for all that has this tag.
    ExpireTag(Tag),
    /// As [`Remove`](Self::Remove), for all there is.
    Clear,
}

impl<K, V> TierChange<K, V> {
    /// Returns the key that it is about, if it is about one.
    pub fn key(&self) -> Option<&TierKey> {
        match self {
            Self::Write(key, _) | Self::Load(key, ..) | Self::Remove(key) | Self::Expire(key) => {
                Some(key)
            }
            Self::RemoveTag(_) | Self::ExpireTag(_) | Self::Clear => None,
        }
    }

    /// It was made so many ticks before it is handed over.
    pub(crate) fn has_waited(&mut self, ticks: u64) {
        match self {
            Self::Write(_, entry) | Self::Load(_, entry, _) if ticks > 0 => entry.has_waited(ticks),
            _ => {}
        }
    }

    /// The ticket of a loaded value, with its key.
    pub(crate) fn ticket(&self) -> Option<(&TierKey, &TierTicket)> {
        match self {
            Self::Load(key, _, ticket) => Some((key, ticket)),
            _ => None,
        }
    }
}

/// Tells a cache what others changed in its [`Tier`], and what the tier itself left out, without keeping the
/// cache alive.
///
/// Every call returns whether the cache is still there. Any thread may call; the cache's removal listener, its
/// handler of events and the `Drop` of user types run inside the call. What is reported here is not sent back
/// to the tier.
#[derive(Clone)]
pub struct TierWatcher(Arc<dyn Watch>);

/// A cache that receives news, with its types erased.
pub(crate) trait Watch: Send + Sync {
    fn told(&self, news: News<'_>) -> bool;
    fn is_alive(&self) -> bool;
}

/// What a tier reports: changes by others, or entries that it left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News<'a> {
    Changed(&'a TierKey),
    Expired(&'a TierKey),
    TagRemoved(&'a str),
    TagExpired(&'a str),
    Cleared,
    Missed,
    Skipped(&'a TierError),
}

impl TierWatcher {
    pub(crate) fn new(watch: Arc<dyn Watch>) -> Self {
        Self(watch)
    }

    /// Returns whether the cache is still there. It may be gone a moment later.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Whether both belong to the same cache.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "asked by a tier of several threads")
    )]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A key has another entry now, or none: the cache's copy goes, and no load of it in flight is stored.
    pub fn changed(&self, key: &TierKey) -> bool {
        self.0.told(News::Changed(key))
    }

    /// What is stored under a key is no longer fresh: the cache's copy may be served stale.
    pub fn expired(&self, key: &TierKey) -> bool {
        self.0.told(News::Expired(key))
    }

    /// All that has this tag is gone.
    pub fn tag_removed(&self, tag: &str) -> bool {
        self.0.told(News::TagRemoved(tag))
    }

    /// Nothing that has this tag is fresh any more.
    pub fn tag_expired(&self, tag: &str) -> bool {
        self.0.told(News::TagExpired(tag))
    }

    /// Everything is gone.
    pub fn cleared(&self) -> bool {
        self.0.told(News::Cleared)
    }

    /// Changes may have been missed: nothing that the cache has is served until the tier was asked for it
    /// again, and what the tier does not have then is removed. (Only if the tier cannot be asked does
    /// `stale_if_error` serve it.) Call this when changes arrive again, before you report anything else, and
    /// before any call of the tier's succeeds.
    pub fn missed(&self) -> bool {
        self.0.told(News::Missed)
    }

    /// The tier left out one entry, since it cannot be stored ([`TierError::Unencodable`]), or cannot be read
    /// ([`TierError::Unreadable`]): the cache counts it, and tells the first ones and then ever fewer to its
    /// handler of [events](crate::Event::TierSkipped). Nothing else comes of it. It may be called from inside
    /// the tier's own [`get`](Tier::get) and [`apply`](Tier::apply).
    pub fn skipped(&self, error: &TierError) -> bool {
        self.0.told(News::Skipped(error))
    }
}

impl fmt::Debug for TierWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierWatcher").finish_non_exhaustive()
    }
}
