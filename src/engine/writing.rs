//! Writing at the source: while a write is in progress, no load of its key is stored.

pub(super) mod holds;

use super::put::{By, Stored};
use super::store::Store;
use super::unreported::Unreported;
use crate::parts::group::Hash;
use crate::parts::tags::{TagFate, Tagged, Version};
use crate::rules::tag::Tag;
use crate::shard::entry::{Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::removal::RemovalCause;
use crate::words::tier_key::TierKey;
use equivalent::Equivalent;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// What becomes of a key's cached value when a write begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is removed.
    Nothing,
    /// It stays; at the end of the write only if nothing but this write has happened to the key.
    Standing,
}

/// A write in progress: while this guard lives, no load of its key is stored. It ends in
/// [`lower`](Self::lower). Dropped before that (the write failed, or panicked, or its future was dropped), it
/// leaves nothing under the key, since nobody knows what the source holds.
///
/// Any number of fences may be raised for one key. Then nobody knows in which order the source saw the
/// writes, and none of them leaves anything. The same holds if somebody else inserted, removed or expired the
/// key during the write.
pub(crate) struct Fence<K, V, S> {
    store: Arc<Store<K, V, S>>,
    hash: u64,
    /// `None` once it has ended.
    key: Option<K>,
    /// Identifies it in its shard.
    number: u64,
    /// The version of the tags when the write began.
    since: Version,
    /// For how many ticks it stays up after the write.
    hold: u64,
    /// Ends the write. A function pointer, made where the bounds of `K`, `V` and `S` are known, which `Drop`
    /// does not have.
    end: EndWrite<K, V, S>,
}

type EndWrite<K, V, S> = fn(&Arc<Store<K, V, S>>, (u64, u64), K, u64);

impl<K, V, S> Fence<K, V, S> {
    /// Keeps the fence up for so many ticks after the write. The key's cached value is removed at the end of
    /// the write and again at the end of that time.
    pub(crate) fn hold_for(&mut self, ticks: u64) {
        self.hold = ticks;
    }
}

impl<K, V, S> Fence<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Begins a write. The key's flight loses its key.
    pub(crate) fn raise(store: &Arc<Store<K, V, S>>, hash: u64, key: K, leave: Leave) -> Self {
        let mine = key.clone();
        let name = store.name_of(&key);
        let since = store.tags.version();
        let mut out = Outbox::new();
        // what is removed is reported even if an `Eq` panics after that
        let unreported = Unreported { store, out: &mut out };
        let noted;
        let number = {
            let mut shard = store.cell(hash).shard.write();
            noted = store.tell_removal(name.as_ref());
            store.ledger.note(hash);
            if leave == Leave::Nothing {
                let cause = RemovalCause::Removed;
                shard.remove(Hash::new(hash), &key, cause, &store.terms(), unreported.out);
            }
            shard.raise(hash, key, unreported.out)
        };
        drop(unreported);
        let (store, key) = (Arc::clone(store), Some(mine));
        let fence = Self { store, hash, key, number, since, hold: 0, end: Store::end_write };
        // the fence exists before anything is reported, and is not being returned yet: if a `Drop` panics, it is
        // lowered
        fence.store.deliver(out);
        drop(noted);
        fence
    }

    /// The key that is written.
    pub(crate) fn key(&self) -> &K {
        match &self.key {
            Some(key) => key,
            None => unreachable!("it is taken out by what consumes the fence"),
        }
    }

    /// Stores the written value, if nothing else has happened to the key since the write began. The fence
    /// stays up. Returns whether the value was stored.
    pub(crate) fn put<'t>(
        &self,
        value: V,
        ttl: Option<u64>,
        tags: impl Iterator<Item = &'t str> + Clone,
    ) -> bool
    where
        V: Clone,
    {
        let key = self.key().clone();
        let units = self.store.units(&key, Some(&value));
        let said = tags.clone().map(Tag::from).collect();
        let change = self.store.written(self.hash, &key, &value, ttl, said);
        // if something has happened to one of the tags meanwhile, nobody knows whether the source was written
        // before
        let tags = self.store.tags.find(tags).map(|names| names.since(self.since));
        let ttl = ttl.unwrap_or(self.store.lives.ttl);
        let notes = Notes::of(None, tags.clone());
        let put = Put { notes, ..Put::of(self.hash, key, value, units, ttl) };
        let mut out = Outbox::new();
        let stored = self.store.put(self.hash, put, By::Fence, &mut out);
        if stored != Stored::Fenced {
            // if something else happens to the key before this line, the fence is disputed, and its end tells
            // the tier of a removal
            let is_touched = |tags: &Tagged| tags.fate() != TagFate::Untouched;
            let told = self.store.tell_of_write(change, || tags.as_ref().is_some_and(is_touched));
            self.store.let_go_of_write(told);
        }
        self.store.deliver(out);
        matches!(stored, Stored::Yes(_))
    }

    /// Ends the write; `leave` says what it leaves in the cache. Overrides `hold_for`.
    pub(crate) fn lower(mut self, leave: Leave) {
        if let Some(key) = self.key.take() {
            self.store.end_write_leaving((self.hash, self.number), &key, leave);
        }
    }
}

impl<K, V, S> Drop for Fence<K, V, S> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            (self.end)(&self.store, (self.hash, self.number), key, self.hold);
        }
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn end_write(self: &Arc<Self>, fence: (u64, u64), key: K, hold: u64) {
        if hold == 0 {
            return self.end_write_leaving(fence, &key, Leave::Nothing);
        }
        let name = self.name_of(&key);
        self.ending(fence, |_| self.take_out(fence.0, &key, name.as_ref()));
        self.hold(fence, key, hold);
    }

    fn end_write_leaving(&self, fence: (u64, u64), key: &K, leave: Leave) {
        let (hash, mut out) = (fence.0, Outbox::new());
        let (name, mut noted) = (self.name_of(key), None);
        self.ending(fence, |is_lowered| {
            let mut shard = self.cell(hash).shard.write();
            self.ledger.note(hash);
            let is_undisputed = shard.lower(fence, key, &mut out);
            is_lowered.set(true);
            if !is_undisputed || leave == Leave::Nothing {
                noted = self.tell_removal(name.as_ref());
                let cause = RemovalCause::Removed;
                shard.remove(Hash::new(hash), key, cause, &self.terms(), &mut out);
            }
        });
        self.deliver(out);
        drop(noted);
    }

    /// Runs `end`, which ends a write, or a part of that. If the user's `Eq` panics in it, the fence is
    /// lowered all the same: else its key would never be cached again. But it is lowered only once: another
    /// write of the key may still be in progress.
    fn ending(&self, (hash, number): (u64, u64), end: impl FnOnce(&Cell<bool>)) {
        let is_lowered = Cell::new(false);
        let ended = catch_unwind(AssertUnwindSafe(|| end(&is_lowered)));
        let Err(panic) = ended else { return };
        if !is_lowered.get() {
            let mut out = Outbox::new();
            self.cell(hash).shard.write().lower_blindly(hash, number, &mut out);
            self.deliver(out);
        }
        resume_unwind(panic);
    }

    /// As `remove`, but does not return the value.
    pub(super) fn take_out<Q>(&self, hash: u64, key: &Q, name: Option<&TierKey>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut out = Outbox::new();
        let _noted;
        {
            let mut shard = self.cell(hash).shard.write();
            _noted = self.tell_removal(name);
            self.ledger.note(hash);
            shard.fence(hash, key, &mut out);
            let cause = RemovalCause::Removed;
            shard.remove(Hash::new(hash), key, cause, &self.terms(), &mut out);
        }
        self.deliver(out);
    }
}
