//! Removing: one key, some keys, all of them.

use super::store::Store;
use super::tier::Told;
use super::unreported::Unreported;
use crate::parts::group::Hash;
use crate::rules::tier::TierChange;
use crate::shard::outbox::Outbox;
use crate::shard::walk::Cursor;
use crate::words::removal::{Removal, RemovalCause};
use crate::words::tier_key::TierKey;
use equivalent::Equivalent;
use std::hash::{BuildHasher, Hash as StdHash};

/// Guard of a removed entry until the listener has been told.
struct UnreportedRemoval<'s, K, V, S> {
    store: &'s Store<K, V, S>,
    removal: Option<Removal<K, V>>,
}

impl<K, V, S> Drop for UnreportedRemoval<'_, K, V, S> {
    fn drop(&mut self) {
        if let Some(removal) = self.removal.take() {
            self.store.report(removal);
        }
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Removes a key. `name` is its name in the second tier, if there is one.
    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q, name: Option<&TierKey>) -> Option<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let mut out = Outbox::new();
        let (was_fresh, noted) = self.take(hash, key, name, || true, &mut out)?;
        let value = self.report_removed(out, was_fresh);
        self.let_go(noted);
        value
    }

    /// The same, if `may` allows it, which runs under the lock. Returns whether the value was fresh, and what
    /// is to be passed to [`let_go`](Self::let_go).
    #[inline]
    pub(super) fn take<Q>(
        &self,
        hash: u64,
        key: &Q,
        name: Option<&TierKey>,
        may: impl FnOnce() -> bool,
        out: &mut Outbox<K, V>,
    ) -> Option<(bool, Option<Told<K, V>>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut shard = self.cell(hash).shard.write();
        if !may() {
            return None;
        }
        let noted = self.tell_removal(name);
        self.ledger.note(hash);
        shard.fence(hash, key, out);
        let was_fresh =
            shard.remove(Hash::new(hash), key, RemovalCause::Removed, &self.terms(), out);
        Some((was_fresh, noted))
    }

    /// Reports what was removed, and returns its value if it was fresh.
    fn report_removed(&self, mut out: Outbox<K, V>, was_fresh: bool) -> Option<V>
    where
        V: Clone,
    {
        let removal = out.take_first()?;
        if !was_fresh {
            self.report(removal);
            return None;
        }
        if !self.hears() {
            return Some(removal.value);
        }
        // reported even if this `Clone` panics
        let unreported = UnreportedRemoval { store: self, removal: Some(removal) };
        unreported.removal.as_ref().map(|removal| removal.value.clone())
    }

    /// Ends the life of a key's value, but not its stale windows; else as [`remove`](Self::remove).
    pub(crate) fn expire<Q>(&self, hash: u64, key: &Q, name: Option<&TierKey>) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut out = Outbox::new();
        let noted;
        let expired = {
            let mut shard = self.cell(hash).shard.write();
            noted = self.tell(name.cloned().map(TierChange::Expire));
            self.ledger.note(hash);
            shard.fence(hash, key, &mut out);
            shard.expire(Hash::new(hash), key, &self.terms(), &mut out)
        };
        self.deliver(out);
        self.let_go(noted);
        if expired {
            self.request_sweep();
        }
        expired
    }

    /// From here on every entry with this tag is gone, and the results of loads in flight with it. Their memory
    /// is freed by inserts, by evictions and by a sweep.
    pub(crate) fn remove_tag(&self, name: &str) {
        self.tell_all(TierChange::RemoveTag(name.into()), || self.remove_tag_here(name));
    }

    pub(super) fn remove_tag_here(&self, name: &str) {
        self.tags.remove(name);
        self.ledger.note_tag();
        self.request_sweep();
    }

    /// From here on no entry with this tag is fresh.
    pub(crate) fn expire_tag(&self, name: &str) {
        self.tell_all(TierChange::ExpireTag(name.into()), || self.expire_tag_here(name));
    }

    pub(super) fn expire_tag_here(&self, name: &str) {
        self.tags.expire(name, self.clock.now());
        self.ledger.note_tag();
        self.request_sweep();
    }

    pub(crate) fn clear(&self) {
        let told = self.tell(self.tier.as_ref().map(|_| TierChange::Clear));
        let number = told.as_ref().map(Told::number);
        drop(told);
        self.clear_cells(number);
    }

    /// The same where the tier is not to be told.
    pub(super) fn clear_here(&self) {
        self.clear_cells(None);
    }

    /// `told` is the number of the change that the tier was told of.
    fn clear_cells(&self, mut told: Option<u64>) {
        for cell in &self.cells {
            let mut out = Outbox::new();
            let mut again = None;
            {
                let mut shard = cell.shard.write();
                // What was written to this shard since the tier was told goes from here: there it would stay,
                // and come back.
                if told.is_some_and(|number| self.has_written_since(number)) {
                    again = self.tell(Some(TierChange::Clear));
                    told = again.as_ref().map(Told::number);
                }
                self.ledger.note_all();
                shard.clear(&self.terms(), &mut out);
            }
            drop(again);
            self.deliver(out);
        }
    }

    /// Anything cached now may have been removed elsewhere, and nothing that is being loaded now is stored.
    pub(super) fn doubt_all_here(&self) {
        for cell in &self.cells {
            let mut out = Outbox::new();
            {
                let mut shard = cell.shard.write();
                self.ledger.note_all();
                shard.doubt_all(&self.terms(), &mut out);
            }
            self.deliver(out);
        }
        self.request_sweep();
    }

    pub(crate) fn remove_if(&self, mut pred: impl FnMut(&K, &V) -> bool) -> u64
    where
        K: StdHash + Clone + Eq,
        V: Clone,
        S: BuildHasher,
    {
        let kept = self.ledger.watch_kept_lives();
        // nobody knows what the loads in flight will bring
        for cell in &self.cells {
            let mut out = Outbox::new();
            {
                let mut shard = cell.shard.write();
                self.ledger.note_all();
                shard.fence_all(&mut out);
            }
            self.deliver(out);
        }
        let mut removed = 0;
        for cell in &self.cells {
            let mut cursor = Cursor::default();
            while !cursor.is_done() {
                let mut batch = Vec::new();
                {
                    let shard = cell.shard.read();
                    // entries that a window keeps are removed as well
                    shard.walk(&mut cursor, &self.terms(), true, |_, entry, _| {
                        batch.push((entry.key.clone(), entry.value.clone(), entry.stamp));
                    });
                }
                batch.retain(|(key, value, _)| pred(key, value));
                if batch.is_empty() {
                    continue;
                }
                let names: Vec<_> =
                    batch.iter().map(|(key, ..)| (self.hash(key), self.name_of(key))).collect();
                let mut out = Outbox::new();
                // what has gone is reported even if the `Eq` of a later key panics
                let unreported = Unreported { store: self, out: &mut out };
                let mut noted = Vec::new();
                {
                    let mut shard = cell.shard.write();
                    let terms = self.terms();
                    for ((key, _, stamp), (hash, name)) in batch.iter().zip(&names) {
                        // A value replaced meanwhile is newer than this call, and stays. Stamps differ by the
                        // millisecond and the drawn life; a replacement that has both in common goes too, as
                        // it may at any time by eviction. But not one that has kept the stamp of the value
                        // before it.
                        if kept.has(*hash) {
                            continue;
                        }
                        noted.push(self.tell_removal(name.as_ref()));
                        self.ledger.note(*hash);
                        let out = &mut *unreported.out;
                        if shard.remove_same(Hash::new(*hash), key, *stamp, &terms, out) {
                            removed += 1;
                            // as after any removal, the next caller asks the source
                            shard.forgive(*hash, key, out);
                        }
                    }
                }
                drop(unreported);
                self.deliver(out);
                for noted in noted {
                    self.let_go(noted);
                }
            }
        }
        removed
    }
}
