//! What a cache and a second tier say to each other.

use super::tag::Tag;
pub(crate) use crate::words::error::TierError;
use crate::words::tier_key::TierKey;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A second tier behind a cache: a slower and larger one that several processes share. `RedisTier`
/// (feature `redis`) is one, [`MemoryTier`](crate::MemoryTier) a double of it for tests. It is given
/// to a cache by [`CacheBuilder::tier`](crate::CacheBuilder::tier).
///
/// A load of a key asks the tier before the source, at most once at a time for a key in one process. The
/// cache hands its changes to the tier in the background, from a thread of its own, in the order in which
/// they were made; a change that fails it hands over again. What other processes change, the tier tells the
/// cache by itself, through the [`TierWatcher`] that it is given.
///
/// Each process has a handle of its own; what a clone of a handle does counts as that process's. The source
/// of `MemoryTier` is a complete example.
///
/// If the tier fails, the load does not: it asks the source. So a tier has to answer or to fail in bounded
/// time. Nothing but `load_timeout` ends the wait for a future that never completes.
///
/// The futures are polled by threads that block on them, and by tasks of any runtime: they must not rely on
/// being polled inside a certain runtime.
///
/// # Races that it has to fence
///
/// A value that was loaded before a removal must not arrive in the tier after it, from whatever
/// process. So [`get`](Self::get) gives a [`TierTicket`] for what it saw under the key, and
/// [`apply`](Self::apply) is to store a value that comes with a ticket only where nothing has happened
/// to the key, or to one of its tags, since that was given. A removal thus leaves a mark of itself for
/// longer than loads take: see [`longest_load`](Self::longest_load).
pub trait Tier<K, V>: Send + Sync + 'static
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// What there is of a key.
    ///
    /// # Errors
    ///
    /// Where the tier cannot say in time. What it cannot read as an entry counts as nothing, not as an error.
    fn get(&self, key: &TierKey)
    -> impl Future<Output = Result<TierFound<K, V>, TierError>> + Send;

    /// The same for several keys, in their order. Unless it is defined, one after the other.
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
    /// Where not all of them were made. It is no error if a value is not stored because its ticket is out of
    /// date or because it is too large.
    fn apply(
        &self,
        changes: &[TierChange<K, V>],
    ) -> impl Future<Output = Result<(), TierError>> + Send;

    /// Takes the watcher to which the tier tells every [`TierChange`] that others make, stored loads among
    /// them. Called once for each cache that is built on this tier. Unless it is defined, nobody is told, and
    /// a copy in a process lives until its own life is over.
    ///
    /// Do not tell of changes that came through this handle or a clone of it: those are the cache's own. Tell
    /// of others' changes without delay, and always before [`get`](Self::get) returns something that it read
    /// after the change. The cache keeps what `get` returned, unless it hears of a change of that key at any
    /// time after it called `get`.
    ///
    /// # Errors
    ///
    /// Where the tier cannot serve this cache; then the cache is not built. Of two caches on one handle, say,
    /// neither would hear of the other.
    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        drop(watcher);
        Ok(())
    }

    /// The cache gives back a ticket that it will not use: no load with it will be stored, because none was
    /// needed, or it failed, was dropped, or something newer happened to the key. A tier that has other
    /// processes wait for the load to which it gave a ticket (as `RedisTier` with a `lease` does) lets
    /// them go on. It is called by a thread or task that loads, so it must not block. Unless it is defined,
    /// nothing happens.
    fn release(&self, key: &TierKey, ticket: &TierTicket) {
        _ = (key, ticket);
    }

    /// How long after it was given a ticket can be used. The cache does not hand over what a load brings
    /// later than that. For ever, unless it is defined.
    fn longest_load(&self) -> Duration {
        Duration::MAX
    }

    /// The longest time for which the tier keeps anything. The cache gives up a change that has failed for so
    /// long, since what it was to change is gone by then. For ever, unless it is defined.
    fn longest_life(&self) -> Duration {
        Duration::MAX
    }
}

/// What a [`Tier`] has under a name: its answer to [`Tier::get`], made by [`new`](Self::new).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierFound<K, V> {
    /// Nothing if there is nothing, or nothing that can be used.
    pub entry: Option<TierEntry<K, V>>,
    /// What a load that begins now has to show to store what it brings.
    pub ticket: TierTicket,
}

impl<K, V> TierFound<K, V> {
    /// This entry, or none, and the ticket of a load that begins now.
    ///
    /// ```
    /// use larder::{TierEntry, TierFound, TierTicket};
    ///
    /// let version: u64 = 7; // of what stands under the name, an empty place included
    /// let ticket = TierTicket::new(version.to_le_bytes().as_slice());
    /// let found = TierFound::new(Some(TierEntry::new("answer", Some(42))), ticket);
    /// assert_eq!(found.entry.unwrap().value, Some(42));
    /// ```
    pub fn new(entry: Option<TierEntry<K, V>>, ticket: TierTicket) -> Self {
        Self { entry, ticket }
    }
}

/// What was seen under a name, as the tier says it to itself: see [`Tier`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TierTicket(Arc<[u8]>);

impl TierTicket {
    /// One that says so.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// What it says.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TierTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierTicket").finish_non_exhaustive()
    }
}

/// An entry on its way to a [`Tier`] or back. All times count from the moment at which it is handed
/// over, so that no two clocks are ever compared. What came in and is handed out `passed` later:
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
    /// Whose it is: two keys may have one name.
    pub key: K,
    /// The value, or that the source has none.
    pub value: Option<V>,
    /// How long ago its load began, or it was written.
    pub age: Duration,
    /// On the way in: how long it may live at most, as its loader or its writer said of it alone;
    /// [`Duration::MAX`] where nobody did. On the way out: what is left of its life, zero if that is over.
    pub fresh_for: Duration,
    /// On the way in: how long the cache keeps it, drawn with its jitter; [`Duration::MAX`] where nothing
    /// ends that. A tier without a time to live of its own keeps it for as long, so that none is served
    /// past it anywhere. On the way out it says nothing.
    pub time_to_live: Duration,
    /// On the way out: for how long its life has been over.
    pub over_for: Duration,
    /// For how long after its life a cache may still serve it, if its load fails say.
    pub stale_for: Duration,
    /// What the source calls this version of it.
    pub validator: Option<Arc<str>>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

impl<K, V> TierEntry<K, V> {
    /// An entry whose load began just now, with nothing to be said about it.
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
    /// Somebody wrote this: it is newer than what stands there, and than any load that began before.
    Write(TierKey, TierEntry<K, V>),
    /// A load brought this: to be stored if the ticket still holds.
    Load(TierKey, TierEntry<K, V>, TierTicket),
    /// What stands under the name goes, and no load that began before may store there.
    Remove(TierKey),
    /// The same, but what stands there stays to be served where a load fails, for as long as it said.
    Expire(TierKey),
    /// As [`Remove`](Self::Remove), for all that has this tag.
    RemoveTag(Tag),
    /// As [`Expire`](Self::Expire), for all that has this tag.
    ExpireTag(Tag),
    /// As [`Remove`](Self::Remove), for all there is.
    Clear,
}

impl<K, V> TierChange<K, V> {
    /// The name that it is about, if it is about one.
    pub fn key(&self) -> Option<&TierKey> {
        match self {
            Self::Write(key, _) | Self::Load(key, ..) | Self::Remove(key) | Self::Expire(key) => {
                Some(key)
            }
            Self::RemoveTag(_) | Self::ExpireTag(_) | Self::Clear => None,
        }
    }
}

/// Brings a cache the news of what others changed in its [`Tier`], and does not keep the cache alive.
///
/// Every call returns whether the cache is still there. Any thread may call; the cache's removal listener
/// and what user types do in `Drop` runs in there. What is told here is not told to the tier in turn.
#[derive(Clone)]
pub struct TierWatcher(Arc<dyn Watch>);

/// Who is told, whatever its types.
pub(crate) trait Watch: Send + Sync {
    fn told(&self, news: News<'_>) -> bool;
    fn is_alive(&self) -> bool;
}

/// What others did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News<'a> {
    Changed(&'a TierKey),
    Expired(&'a TierKey),
    TagRemoved(&'a str),
    TagExpired(&'a str),
    Cleared,
    Missed,
}

impl TierWatcher {
    #[allow(dead_code, reason = "made by a cache with a tier")]
    pub(crate) fn new(watch: Arc<dyn Watch>) -> Self {
        Self(watch)
    }

    /// Whether the cache is still there. It may go the moment after.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Something else stands under a name now, or nothing: the cache's copy goes, and no load in
    /// flight is stored.
    pub fn changed(&self, key: &TierKey) -> bool {
        self.0.told(News::Changed(key))
    }

    /// What stands under a name is no longer fresh: the cache's copy may be served stale.
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

    /// News may have been missed: nothing that the cache has is served until the tier was asked for it
    /// again, and what the tier does not have then is removed. (Only where the tier cannot be asked does
    /// `stale_if_error` serve it.) Tell this when news arrive again, before you tell anything else.
    pub fn missed(&self) -> bool {
        self.0.told(News::Missed)
    }
}

impl fmt::Debug for TierWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TierWatcher").finish_non_exhaustive()
    }
}
