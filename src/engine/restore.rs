//! Entries of an earlier process: the oldest there can be, so everything else goes first.

use super::put::{By, Stored};
use super::store::Store;
use crate::parts::group::Hash;
use crate::parts::ledger::Moment;
use crate::shard::entry::{Notes, Put, Returned};
use crate::shard::outbox::Outbox;
use std::sync::Arc;

impl<K, V, S> Store<K, V, S> {
    /// From now on writes are noted, until [`unwatch_writes`](Self::unwatch_writes).
    pub(crate) fn watch_writes(&self) -> Moment {
        self.ledger.watch()
    }

    pub(crate) fn unwatch_writes(&self) {
        self.ledger.leave();
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Stores a value with what is left of its life, in ticks, if nothing stands under its key and
    /// nothing was written there `since`. Whether it was stored.
    pub(crate) fn restore(
        &self,
        hash: u64,
        key: K,
        value: V,
        (left, returned): (u64, Returned),
        validator: Option<Arc<str>>,
        since: Moment,
    ) -> bool {
        let units = self.units(&key, Some(&value));
        let notes = Notes { validator, tags: None, restored: Some(returned) }.boxed();
        let mut put = Some(Put {
            hash: Hash::new(hash),
            key,
            value: Some(value),
            units,
            ttl: left,
            took: 0,
            notes,
        });
        let mut out = Outbox::new();
        let stored = self.put(hash, &mut put, By::Restored(since), &mut out);
        self.deliver(out);
        matches!(stored, Stored::Yes(_))
    }
}
