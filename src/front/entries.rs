//! The iterator over a cache's entries.

use crate::engine::store::Store;
use crate::rules::got::Got;
use crate::shard::walk::Cursor;
use std::fmt;
use std::sync::Arc;
use std::vec;

/// An iterator over a cache's fresh entries, from [`Cache::entries`](crate::Cache::entries).
///
/// It goes shard by shard and holds no lock between two steps, so the cache may be used and changed
/// meanwhile. An entry that stays for the whole walk is returned exactly once; one that comes or goes during
/// the walk may be returned or not. Entries are clones, in no particular order.
pub struct Entries<K, V, S = ahash::RandomState> {
    store: Arc<Store<K, V, S>>,
    shard: usize,
    cursor: Cursor,
    batch: vec::IntoIter<(K, Got<V>)>,
}

impl<K, V, S> Entries<K, V, S> {
    pub(super) fn new(store: Arc<Store<K, V, S>>) -> Self {
        Self { store, shard: 0, cursor: Cursor::default(), batch: Vec::new().into_iter() }
    }
}

impl<K: Clone, V: Clone, S> Iterator for Entries<K, V, S> {
    type Item = (K, Got<V>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Some(entry);
            }
            if self.shard == self.store.shards() {
                return None;
            }
            self.batch = self.store.walk(self.shard, &mut self.cursor).into_iter();
            if self.cursor.is_done() {
                self.cursor = Cursor::default();
                self.shard += 1;
            }
        }
    }
}

impl<K: Clone, V: Clone, S> std::iter::FusedIterator for Entries<K, V, S> {}

impl<K, V, S> fmt::Debug for Entries<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("shard", &self.shard).finish_non_exhaustive()
    }
}
