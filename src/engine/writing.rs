//! Writing at the source, and what a cache may store meanwhile: nothing that was loaded.

use super::put::{By, Stored};
use super::store::Store;
use super::unreported::Unreported;
use crate::parts::group::Hash;
use crate::parts::tags::Version;
use crate::rules::expiry::NEVER;
use crate::rules::tag::Tag;
use crate::shard::entry::{Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::clock::Alarm;
use crate::words::removal::RemovalCause;
use crate::words::sync::Mutex;
use crate::words::tier_key::TierKey;
use equivalent::Equivalent;
use hashbrown::HashMap;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

/// What stands under a key when a write begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It goes.
    Nothing,
    /// It stays; at the end only if nothing but this write has happened to the key.
    Standing,
}

/// A write in progress: while it lives, no load of its key is stored. It ends in
/// [`lower`](Self::lower); dropped before (the write failed, or panicked, or its future was
/// dropped), it leaves nothing under the key, since nobody knows what the source holds.
///
/// Any number may be raised for one key. Then nobody knows in which order the source saw them, and
/// none of them leaves anything. The same holds for one during which the key was inserted, removed
/// or expired by somebody else.
pub(crate) struct Fence<K, V, S> {
    store: Arc<Store<K, V, S>>,
    hash: u64,
    /// Until it ends.
    key: Option<K>,
    /// What its shard knows it by.
    number: u64,
    /// What had happened to tags when the write began.
    since: Version,
    /// For how many ticks it stays after its end.
    hold: u64,
    /// Its end, by a function made where it was known what `K`, `V` and `S` are good for, which
    /// `Drop` is not told.
    end: EndWrite<K, V, S>,
}

type EndWrite<K, V, S> = fn(&Arc<Store<K, V, S>>, (u64, u64), K, u64);

impl<K, V, S> Fence<K, V, S> {
    /// Keeps it up for so many ticks after its end. What stands under the key goes at the end of
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
    /// A write begins. The key's flight loses it.
    pub(crate) fn raise(store: &Arc<Store<K, V, S>>, hash: u64, key: K, leave: Leave) -> Self {
        let mine = key.clone();
        let name = store.name_of(&key);
        let since = store.tags.version();
        let mut out = Outbox::new();
        // what goes is reported also if an `Eq` panics after that
        let unreported = Unreported { store, out: &mut out };
        let _noted;
        let number = {
            let mut shard = store.cell(hash).shard.write();
            _noted = store.tell_removal(name.as_ref());
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
        // made before anything is reported: a panic in a `Drop` finds it and lowers it
        fence.store.deliver(out);
        fence
    }

    /// The key that is written.
    pub(crate) fn key(&self) -> &K {
        match &self.key {
            Some(key) => key,
            None => unreachable!("it is taken out by what consumes the fence"),
        }
    }

    /// Stores what this write writes, if nothing else has happened to the key since it began. The
    /// fence stays up. Whether it was stored.
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
        // nobody knows whether the source was written before what has happened to one of them meanwhile
        let tags = self.store.tags.find(tags).map(|names| names.since(self.since));
        let ttl = ttl.unwrap_or(self.store.lives.ttl);
        let notes = Notes::of(None, tags);
        let put = Put { notes, ..Put::of(self.hash, key, value, units, ttl) };
        let mut out = Outbox::new();
        let stored = self.store.put(self.hash, put, By::Fence, &mut out);
        if stored != Stored::Fenced {
            // if something else is done to the key before this, the fence finds itself disputed, and its
            // end tells of a removal
            self.store.let_go(self.store.tell(change));
        }
        self.store.deliver(out);
        matches!(stored, Stored::Yes(_))
    }

    /// The write ends, and `leave` says what it leaves, whatever `hold_for` said.
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

/// The fences whose write is over and whose time is not: with the store they go, and their alarms
/// with them.
pub(super) type Holds = Mutex<(u64, HashMap<u64, Option<Alarm>, ahash::RandomState>)>;

pub(super) fn no_holds() -> Holds {
    // the numbers are our own, no caller chooses them
    Mutex::new((0, HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))))
}

/// A fence that is held: what its alarm calls.
struct Hold<K, V, S> {
    store: Weak<Store<K, V, S>>,
    /// Among those that are held.
    number: u64,
    /// The key's hash, and the fence's number.
    fence: (u64, u64),
    key: K,
}

impl<K, V, S> Wake for Hold<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn wake(self: Arc<Self>) {
        let Some(store) = self.store.upgrade() else { return };
        let alarm = store.holds.lock().1.remove(&self.number);
        drop(alarm);
        let clock = store.clock.clone();
        clock.aside(move || store.end_write_leaving(self.fence, &self.key, Leave::Nothing));
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
        let number = {
            let mut holds = self.holds.lock();
            holds.0 += 1;
            let number = holds.0;
            holds.1.insert(number, None);
            number
        };
        let at = self.clock.after(hold.min(NEVER));
        let hold = Hold { store: Arc::downgrade(self), number, fence, key };
        let alarm = self.clock.alarm(at, Waker::from(Arc::new(hold)));
        // it may have rung already
        let late = match self.holds.lock().1.get_mut(&number) {
            Some(place) => place.replace(alarm),
            None => Some(alarm),
        };
        drop(late);
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
        drop(noted);
        self.deliver(out);
    }

    /// Runs what ends a write, or a part of that. If the user's `Eq` panics in it, the fence goes all
    /// the same: else its key would never be cached again. But it goes once: another write of the key
    /// may be in progress behind it.
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

    /// As `remove`, without the value.
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
