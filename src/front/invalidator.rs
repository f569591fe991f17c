//! A handle for change feeds and hooks: removes and expires entries, and does not keep the cache alive.

use super::cache::Cache;
use crate::engine::store::Store;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Weak};

/// A handle that removes and expires entries, and does not keep the cache alive: for database hooks,
/// consumers of a change feed, subscribers of a message bus. From [`Cache::invalidator`].
///
/// Such a callback often lives as long as the process, or in something that the cache's own values hold; if
/// it held a [`Cache`], the cache would never be freed. Every call returns whether the cache was still there,
/// so a consumer knows when to stop. The handle is `'static`, `Send` and `Sync`, and cheap to clone.
///
/// Each call does what the call of the same name on the cache does: a load in flight is not stored. A call
/// that runs while the last handle to the cache is dropped elsewhere drops the cache's entries itself, when
/// it is done.
///
/// ```
/// use larder::Cache;
///
/// let users: Cache<u64, String> = Cache::new(1_000);
/// let news = users.invalidator();
/// let on_change = move |id: u64| news.remove(&id); // to be registered with the source
///
/// users.insert(42, "Ada".to_owned());
/// assert!(on_change(42));
/// assert_eq!(users.get(&42), None);
/// drop(users);
/// assert!(!on_change(42)); // the hook can be unregistered
/// ```
///
/// A removal listener, a loader or a value that uses the cache which it is a part of has the same problem, and
/// needs more than removals: [`upgrade`](Self::upgrade).
pub struct Invalidator<K, V, S = ahash::RandomState> {
    store: Weak<Store<K, V, S>>,
}

impl<K, V, S> Cache<K, V, S> {
    /// Returns a handle to remove and expire entries, which does not keep the cache alive: see
    /// [`Invalidator`].
    pub fn invalidator(&self) -> Invalidator<K, V, S> {
        Invalidator { store: Arc::downgrade(&self.store) }
    }
}

impl<K, V, S> Invalidator<K, V, S> {
    /// Returns a handle to the cache, if it is still there, as [`Weak::upgrade`] does. For a removal listener,
    /// a loader or a value that uses the cache which it is a part of: with a handle of its own it would keep the
    /// cache alive for ever. Drop what this returns when the call is done; if it is the last handle by then,
    /// that drop frees the cache.
    ///
    /// A listener is set before there is a cache, so it gets the handle through a `OnceLock`:
    ///
    /// ```
    /// use larder::{Cache, Invalidator, Removal, RemovalCause};
    /// use std::sync::{Arc, OnceLock};
    /// use std::time::Duration;
    ///
    /// # let (clock, hand) = larder::Clock::manual();
    /// let own = Arc::new(OnceLock::<Invalidator<u64, u32>>::new());
    /// let handle = own.clone();
    /// let offers = Cache::builder()
    ///     .max_entries(1_000)
    ///     .time_to_live(Duration::from_secs(60))
    /// #   .clock(clock)
    ///     .on_removal(move |gone: Removal<u64, u32>| {
    ///         if gone.cause == RemovalCause::Expired {
    ///             // another minute, at half the price
    ///             let offers = handle.get().and_then(Invalidator::upgrade);
    ///             offers.inspect(|offers| offers.insert(gone.key, gone.value / 2));
    ///         }
    ///     })
    ///     .build()?;
    /// own.set(offers.invalidator()).unwrap();
    ///
    /// offers.insert(1, 100);
    /// # hand.advance(Duration::from_secs(60));
    /// // a minute later, by itself or by
    /// offers.sweep();
    /// assert_eq!(offers.get(&1), Some(50));
    /// # Ok::<_, larder::ConfigError>(())
    /// ```
    #[doc(alias("downgrade", "weak"))]
    pub fn upgrade(&self) -> Option<Cache<K, V, S>> {
        Some(Cache { store: self.store.upgrade()? })
    }

    /// Returns whether the cache is still there. It may be gone a moment later.
    pub fn is_alive(&self) -> bool {
        self.store.strong_count() > 0
    }
}

impl<K, V, S> Invalidator<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Removes a key's value, as [`Cache::remove`] does; returns whether the cache is still there.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.tell(|cache| drop(cache.remove(key)))
    }

    /// Expires a key's value, as [`Cache::expire`] does; returns whether the cache is still there.
    pub fn expire<Q>(&self, key: &Q) -> bool
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.tell(|cache| _ = cache.expire(key))
    }

    /// Removes every entry that has this tag, as [`Cache::remove_tag`] does; returns whether the cache is
    /// still there.
    pub fn remove_tag(&self, tag: &str) -> bool {
        self.tell(|cache| cache.remove_tag(tag))
    }

    /// Expires every entry that has this tag, as [`Cache::expire_tag`] does; returns whether the cache is
    /// still there.
    pub fn expire_tag(&self, tag: &str) -> bool {
        self.tell(|cache| cache.expire_tag(tag))
    }

    /// Removes everything, as [`Cache::clear`] does: for when changes were missed (the feed was cut, a queue
    /// overflowed), and nobody knows what is still right. Returns whether the cache is still there.
    pub fn clear(&self) -> bool {
        self.tell(Cache::clear)
    }

    fn tell(&self, what: impl FnOnce(&Cache<K, V, S>)) -> bool {
        self.upgrade().as_ref().map(what).is_some()
    }
}

impl<K, V, S> Clone for Invalidator<K, V, S> {
    fn clone(&self) -> Self {
        Self { store: Weak::clone(&self.store) }
    }
}

impl<K, V, S> fmt::Debug for Invalidator<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator").field("is_alive", &self.is_alive()).finish()
    }
}
