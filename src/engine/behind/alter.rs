//! Changing a key's value depending on its current value, ahead of the source: an unwritten change comes
//! before the cached value, and the result enters the queue.

use super::ShownAs;
use crate::engine::alter::{AlterOptions, Current};
use crate::engine::store::Store;
use crate::parts::backlog::Item;
use crate::rules::altered::Altered;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::sync::Arc;

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Offers what `change` makes of the key's current value to its queue, by `accept`, as
    /// [`record`](Self::record) does; `unwritten` asks that queue for its last change of the key. Returns the
    /// value that the key has afterwards, or why the queue did not take it. What is cached has the tags of
    /// `options` and no others, and a life of its own.
    pub(crate) fn alter_ahead<'t, Q, E>(
        &self,
        hash: u64,
        key: &Q,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
        unwritten: impl Fn() -> Option<Arc<Item<K, V>>>,
        change: impl FnMut(Option<V>) -> Altered<V>,
        mut accept: impl FnMut(&Arc<Item<K, V>>, Tick) -> Result<(), E>,
    ) -> Result<Option<V>, E>
    where
        Q: ?Sized + Equivalent<K> + ToKey<K>,
    {
        self.alter_by(hash, key, unwritten, change, |changed, current, basis| {
            let value = match (changed, current) {
                (Altered::Put(value), _) => Some(value),
                // `change` was shown nothing, but the source may have a value, and nobody asked to delete
                // that
                (Altered::Remove, Current::Nothing) => return Some(Ok(None)),
                (Altered::Remove, _) => None,
                (Altered::Keep(value), _) => return Some(Ok(value)),
            };
            let names = self.tags.find(options.tags.clone());
            let tags = names.map(|names| names.since(basis.since));
            let shown = ShownAs { ttl: options.ttl, tags: self.tags_after(basis, tags).ok()? };
            let item = Arc::new(Item { hash, key: key.to_key(), value: value.clone() });
            let may = || basis.holds(&self.tags);
            let taken = self.record(&item, shown, may, |now| accept(&item, now))?;
            Some(taken.map(|()| value))
        })
    }
}
