//! `queue.at(&key)`: one change with settings of its own.

#[cfg(feature = "tokio")]
use super::tasks::{AsyncWriteBehind, AsyncWriter};
use super::threads::WriteBehind;
use super::writer::{WriteError, Writer};
use crate::engine::alter::AlterOptions;
use crate::front::at::CallTags;
use crate::rules::altered::Altered;
use crate::rules::expiry::ticks;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

/// One change of a key with settings of its own, from [`WriteBehind::at`] or `AsyncWriteBehind::at`, whose type
/// `Queue` is. Set what it needs, then call `put` or `alter`; where the queue is an `AsyncWriteBehind`, these
/// are to be awaited.
///
/// The settings are about the cached value, and not about the source, which is written as always. While the
/// change is not written, it is read from the queue even if the cached value has expired, or one of its tags
/// was removed: the source does not know better yet.
#[must_use = "it does nothing until `put` or `alter` is called"]
pub struct ChangeAt<'a, Queue, Q: ?Sized> {
    queue: &'a Queue,
    key: &'a Q,
    ttl: Option<Duration>,
    tags: CallTags<'a>,
}

impl<'a, Queue, Q: ?Sized> ChangeAt<'a, Queue, Q> {
    pub(super) fn new(queue: &'a Queue, key: &'a Q) -> Self {
        Self { queue, key, ttl: None, tags: CallTags::default() }
    }

    /// Sets the time to live of the cached value, instead of the cache's, as [`At::ttl`](crate::At::ttl) does.
    /// With [`Duration::ZERO`] nothing is cached, and what was there is removed; the change is written all the
    /// same.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Tags the cached value, as [`At::tag`](crate::At::tag) does; call it once for each tag. If one of them is
    /// removed or expired during the call, the change is accepted, but not cached.
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

    fn options(&self) -> AlterOptions<impl Iterator<Item = &'a str> + Clone + '_> {
        let ttl = self.ttl.map(ticks);
        AlterOptions { ttl, keeps_life: false, tags: self.tags.iter() }
    }
}

impl<K, V, W, S, Q> ChangeAt<'_, WriteBehind<K, V, W, S>, Q>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
{
    /// Sets the value of the key, as [`WriteBehind::put`] does, with the [`ttl`](Self::ttl) and the
    /// [`tag`](Self::tag)s set here.
    ///
    /// # Errors
    ///
    /// As [`WriteBehind::put`].
    pub fn put(self, value: V) -> Result<(), WriteError> {
        self.queue.change(self.key.to_key(), Some(value), &self.options())
    }

    /// Changes the value of the key depending on its current value, as [`WriteBehind::alter`] does, with the
    /// [`ttl`](Self::ttl) and the [`tag`](Self::tag)s set here. The tags of the value before it are not kept:
    /// name them again. If a tag set here is removed or expired after `change` was given its value, `change`
    /// is called again.
    ///
    /// # Errors
    ///
    /// As [`WriteBehind::alter`].
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    pub fn alter<A>(self, change: impl FnMut(Option<V>) -> A) -> Result<Option<V>, WriteError>
    where
        A: Into<Altered<V>>,
    {
        self.queue.altered(self.key, &self.options(), change)
    }
}

#[cfg(feature = "tokio")]
impl<K, V, W, S, Q> ChangeAt<'_, AsyncWriteBehind<K, V, W, S>, Q>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
{
    /// Sets the value of the key, as [`AsyncWriteBehind::put`] does, with the [`ttl`](Self::ttl) and the
    /// [`tag`](Self::tag)s set here.
    ///
    /// # Errors
    ///
    /// As [`AsyncWriteBehind::put`].
    pub async fn put(self, value: V) -> Result<(), WriteError> {
        self.queue.change(self.key.to_key(), Some(value), &self.options()).await
    }

    /// Changes the value of the key depending on its current value, as [`AsyncWriteBehind::alter`] does, with
    /// the [`ttl`](Self::ttl) and the [`tag`](Self::tag)s set here. The tags of the value before it are not
    /// kept: name them again. If a tag set here is removed or expired after `change` was given its value,
    /// `change` is called again.
    ///
    /// # Errors
    ///
    /// As [`AsyncWriteBehind::alter`].
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    pub async fn alter<A>(self, change: impl FnMut(Option<V>) -> A) -> Result<Option<V>, WriteError>
    where
        A: Into<Altered<V>>,
    {
        self.queue.altered(self.key, &self.options(), change).await
    }
}

impl<Queue, Q: ?Sized> fmt::Debug for ChangeAt<'_, Queue, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys are the user's data: never in logs
        f.debug_struct("ChangeAt").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
