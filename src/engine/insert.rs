//! `insert`, which most often finds nothing under way and only has to store.

use super::put::{By, Stored};
use super::store::Store;
use crate::parts::group::Hash;
use crate::rules::tag::Tag;
use crate::shard::Shard;
use crate::shard::entry::{Entry, Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::removal::{Removal, RemovalCause};
use crate::words::sync::WriteGuard;
use crate::words::tick::Tick;

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// `insert`: takes the key's flight off the board, because whatever it brings is older. Most inserts find
    /// nothing under way in their shard, and have a path of their own here: an update then takes a fifth
    /// less.
    pub(crate) fn insert(&self, hash: u64, key: K, value: V, said: Option<u64>) {
        let ttl = said.unwrap_or(self.lives.ttl);
        if !self.stores_only(ttl) {
            return self.insert_told(hash, key, value, said);
        }
        self.insert_bare(hash, (key, value), ttl, By::Write, self.cell(hash).shard.write());
    }

    /// Whether a written value only has to be stored.
    #[inline]
    pub(super) fn stores_only(&self, ttl: u64) -> bool {
        self.shortcuts.writes && ttl > 0
    }

    /// Stores a value without notes, if [nothing else](Self::stores_only) is to be done.
    #[inline]
    pub(super) fn insert_bare(
        &self,
        hash: u64,
        (key, value): (K, V),
        ttl: u64,
        by: By<'_, K, V>,
        mut shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Stored {
        let now = self.clock.now();
        if !shard.is_calm(hash, &key, now) {
            return self.insert_in_full(hash, Put::of(hash, key, value, 1, ttl), by, shard);
        }
        let Some(id) = shard.slot(Hash::new(hash), &key) else {
            return self.insert_new(hash, (key, value), ttl, (by, now), shard);
        };
        self.ledger.note(hash);
        let left = shard.overwrite(id, (key, value), ttl, (&self.lives, now));
        drop(shard);
        self.settle(ttl, left, RemovalCause::Replaced);
        Stored::Yes(ttl)
    }

    /// [`insert`](Self::insert) with a weigher or a second tier, or with nothing to store.
    #[inline(never)]
    fn insert_told(&self, hash: u64, key: K, value: V, said: Option<u64>) {
        let units = self.units(&key, Some(&value));
        let change = self.written(hash, &key, &value, said, Vec::new());
        let put = Put::of(hash, key, value, units, said.unwrap_or(self.lives.ttl));
        let noted;
        let shard = self.cell(hash).shard.write();
        noted = self.tell(change);
        self.insert_in_full(hash, put, By::Write, shard);
        self.let_go(noted);
    }

    /// The rest of [`insert_bare`](Self::insert_bare) for a key without an entry. (As a function call: 26
    /// instructions more, of a newcomer's 600.)
    #[inline]
    fn insert_new(
        &self,
        hash: u64,
        entry: (K, V),
        ttl: u64,
        (by, now): (By<'_, K, V>, Tick),
        mut shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Stored {
        let mut left = None;
        let terms = (&self.lives, now, &self.budget);
        if let Err((key, value)) = shard.welcome(Hash::new(hash), entry, ttl, terms, &mut left) {
            return self.insert_in_full(hash, Put::of(hash, key, value, 1, ttl), by, shard);
        }
        self.ledger.note(hash);
        drop(shard);
        self.settle(ttl, left, RemovalCause::Evicted);
        Stored::Yes(ttl)
    }

    /// The rest of the work, after the lock is released.
    #[inline]
    fn settle(&self, ttl: u64, left: Option<Entry<K, V>>, cause: RemovalCause) {
        self.will_expire(ttl);
        if let Some(Entry { key, value, .. }) = left {
            if self.hears() {
                self.report(Removal { key, value, cause });
            }
        }
    }

    /// The full path of [`insert_bare`](Self::insert_bare).
    #[inline(never)]
    fn insert_in_full(
        &self,
        hash: u64,
        put: Put<K, V>,
        by: By<'_, K, V>,
        shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Stored {
        let (mut put, mut out) = (Some(put), Outbox::new());
        let stored = self.put_locked(hash, &mut put, by, &mut out, shard);
        self.deliver(out);
        stored
    }

    /// As [`insert`](Self::insert), with tags.
    pub(crate) fn insert_tagged<'t>(
        &self,
        hash: u64,
        key: K,
        value: V,
        ttl: Option<u64>,
        tags: impl Iterator<Item = &'t str> + Clone,
    ) {
        let change = self.written(hash, &key, &value, ttl, tags.clone().map(Tag::from).collect());
        // what happens to one of the tags from here on is newer
        let since = self.tags.version();
        let tags = self.tags.find(tags).map(|names| names.since(since));
        let notes = Notes::of(None, tags);
        let units = self.units(&key, Some(&value));
        let ttl = ttl.unwrap_or(self.lives.ttl);
        let put = Put { notes, ..Put::of(hash, key, value, units, ttl) };
        let mut out = Outbox::new();
        let told;
        let shard = self.cell(hash).shard.write();
        told = self.tell_of_write(change, || put.is_outdated());
        self.put_locked(hash, &mut Some(put), By::Write, &mut out, shard);
        self.deliver(out);
        self.let_go_of_write(told);
    }
}
