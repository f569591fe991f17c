//! Restoring entries of an earlier process: they are the oldest there can be, so everything else takes
//! precedence.

use super::put::{By, Stored};
use super::store::Store;
use crate::parts::group::Hash;
use crate::parts::tags::{Tagged, Version};
use crate::parts::watches::Watch;
use crate::parts::written::Written;
use crate::rules::got::Got;
use crate::shard::entry::{LifeBegan, Notes, Put};
use crate::shard::outbox::Outbox;
use crate::shard::walk::Cursor;
use std::sync::Arc;

/// The moment from which on everything written or removed is newer than what is restored.
pub(crate) struct Since<'s> {
    written: Watch<'s, Written>,
    tags: Version,
}

/// What is saved of an entry.
pub(crate) struct Walked<K, V> {
    pub(crate) key: K,
    pub(crate) got: Got<V>,
    /// What is left of its life, in ticks, however soon it ends by not being used.
    pub(crate) left: u64,
    /// For how many ticks it has not been used; zero where nobody keeps that.
    pub(crate) unused: u64,
    pub(crate) tags: Option<Tagged>,
}

/// What is restored of an entry beside its key and value.
pub(crate) struct Metadata {
    /// What is left of its life, in ticks.
    pub(crate) left: u64,
    pub(crate) begun: LifeBegan,
    pub(crate) validator: Option<Arc<str>>,
    pub(crate) tags: Vec<String>,
}

impl<K, V, S> Store<K, V, S> {
    /// From now on writes are noted, until what is returned is dropped.
    pub(crate) fn watch_writes(&self) -> Since<'_> {
        Since { written: self.ledger.watch_keys(), tags: self.tags.version() }
    }

    /// As [`walk`](Self::walk), with what only a snapshot asks for.
    pub(crate) fn walk_in_full(&self, index: usize, cursor: &mut Cursor) -> Vec<Walked<K, V>>
    where
        K: Clone,
        V: Clone,
    {
        let mut batch = Vec::new();
        let shard = self.cells[index].shard.read();
        let terms = self.terms();
        shard.walk(cursor, &terms, false, |id, entry, _| {
            let got = shard.got(id, entry, &self.lives, terms.now);
            let (left, unused) = shard.life_left(id, entry, terms.now);
            let (key, tags) = (entry.key.clone(), shard.tags(id));
            batch.push(Walked { key, got, left, unused, tags });
        });
        batch
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Stores a value with what is left of its life, if its key has no entry and was not written `since`.
    /// Returns whether it was stored.
    pub(crate) fn restore(
        &self,
        hash: u64,
        key: K,
        value: V,
        metadata: Metadata,
        since: &Since<'_>,
    ) -> bool {
        let Metadata { left, begun, validator, tags } = metadata;
        let units = self.units(&key, Some(&value));
        let names = self.tags.find(tags.iter().map(String::as_str));
        let tags = names.map(|names| names.since(since.tags));
        let notes = Some(Box::new(Notes { validator, tags, begun: Some(begun) }));
        let put = Put {
            hash: Hash::new(hash),
            key,
            value: Some(value),
            units,
            ttl: left,
            took: 0,
            notes,
            admission: None,
        };
        let mut out = Outbox::new();
        let stored = self.put(hash, put, By::Restored(&since.written), &mut out);
        self.deliver(out);
        matches!(stored, Stored::Yes(_))
    }
}
