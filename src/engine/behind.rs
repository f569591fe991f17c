//! Changes that the source does not have yet: what write-behind needs of a store.
//!
//! Changes enter the queue and the cache in one order. Under the lock of its key's shard a change enters its
//! queue and takes the key away from any load in flight; then it is stored as a load's result is, by a flight
//! of its own. Of two changes that overlap the older one finds itself fenced, and removes the key from the
//! cache: nobody can say which of them would have been stored last.

mod alter;

use super::put::{By, Stored};
use super::store::Store;
use crate::parts::backlog::Item;
use crate::parts::flight::{Begin, Flight, Landing};
use crate::parts::group::Hash;
use crate::parts::tags::Tagged;
use crate::rules::got::{Got, How};
use crate::shard::Shard;
use crate::shard::entry::{Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::contain::contain;
use crate::words::removal::RemovalCause;
use crate::words::sync::RwLock;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::tick::Tick;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A queue of changes that are ahead of the source. It is asked under a shard's lock: it may take its own
/// lock, compare keys, and do nothing else.
pub(crate) trait WriteBehindQueue<K, V>: Send + Sync {
    /// The last unwritten change of a key.
    fn latest(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>>;

    /// Whether there is an unwritten change of the key for which `is_it` holds.
    fn holds(&self, hash: u64, is_it: &dyn Fn(&K) -> bool) -> bool;
}

/// The queues in front of one store's source.
pub(super) struct Queues<K, V> {
    /// Most stores have no queue, and pay one atomic load for that on a miss.
    any: AtomicBool,
    list: RwLock<Vec<Weak<dyn WriteBehindQueue<K, V>>>>,
}

impl<K, V> Queues<K, V> {
    pub(super) fn new() -> Self {
        Self { any: AtomicBool::new(false), list: RwLock::new(Vec::new()) }
    }

    /// The key's last accepted change that is not written: what a load would have to return to be up to date.
    #[inline]
    pub(super) fn latest(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>> {
        // ordered by the shard's lock: nothing is accepted for this key meanwhile
        if self.any.load(Ordering::Acquire) { self.ask(hash, key) } else { None }
    }

    /// Whether there is an unwritten change of a key.
    pub(super) fn holds(&self, hash: u64, is_it: &dyn Fn(&K) -> bool) -> bool {
        let holds = |queue: &Weak<dyn WriteBehindQueue<K, V>>| {
            queue.upgrade().is_some_and(|queue| queue.holds(hash, is_it))
        };
        self.any.load(Ordering::Acquire) && self.list.read().iter().any(holds)
    }

    #[cold]
    fn ask(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>> {
        self.list.read().iter().find_map(|queue| queue.upgrade()?.latest(hash, key))
    }
}

impl<K, V, S> Store<K, V, S> {
    /// From now on loads ask `queue` first.
    pub(crate) fn queue_in_front(&self, queue: Weak<dyn WriteBehindQueue<K, V>>) {
        let mut list = self.queues.list.write();
        // of a queue that is gone only the allocation is left: no user code is dropped
        list.retain(|queue| queue.strong_count() > 0);
        list.push(queue);
        drop(list);
        self.queues.any.store(true, Ordering::Release);
    }
}

/// How a change is to be cached, where that is not up to the cache's settings.
#[derive(Clone, Default)]
pub(crate) struct ShownAs {
    /// Its time to live in ticks.
    pub(crate) ttl: Option<u64>,
    pub(crate) tags: Option<Tagged>,
}

/// How a flight that carries a change begins: it is no attempt at a load, and nobody joins it as one.
fn begin(hash: u64) -> Begin {
    Begin { is_absent: false, ..Begin::of_nothing(hash) }
}

/// The result for a caller that finds an accepted change which is not cached any more: a load would have
/// brought less.
pub(super) fn unwritten<V>(value: V) -> Got<V> {
    Got::new(value, How::Fresh, Duration::ZERO, Duration::ZERO, None)
}

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// The tags that a change is to be cached with; what happens to one of them from here on is newer.
    pub(crate) fn tagged_now<'t>(
        &self,
        tags: impl Iterator<Item = &'t str> + Clone,
    ) -> Option<Tagged> {
        let since = self.tags.version();
        self.tags.find(tags).map(|names| names.since(since))
    }

    /// Offers a change to its queue, if `may` allows it, and if `accept` takes it, makes it visible: a value
    /// is stored, a deletion removes the key. Both closures run under the shard's lock, as
    /// [`WriteBehindQueue`] does. Returns what `accept` says, if it was asked.
    pub(crate) fn record<E>(
        &self,
        item: &Arc<Item<K, V>>,
        shown: ShownAs,
        may: impl FnOnce() -> bool,
        accept: impl FnOnce(Tick) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let hash = item.hash;
        // user code runs first: once the change is accepted, nothing may stop it
        let put = item.value.clone().map(|value| {
            let key = item.key.clone();
            let units = self.units(&key, Some(&value));
            let ttl = shown.ttl.unwrap_or(self.lives.ttl);
            Put { notes: Notes::of(None, shown.tags), ..Put::of(hash, key, value, units, ttl) }
        });
        let flight = put
            .as_ref()
            .map(|_| Arc::new(Flight::new(begin(hash), item.key.clone(), self.clock.now())));
        let name = self.name_of(&item.key);
        let mut out = Outbox::new();
        let (noted, older);
        {
            let mut shard = self.cell(hash).shard.write();
            if !may() {
                return None;
            }
            older = shard.flight(hash, &item.key);
            shard.fence(hash, &item.key, &mut out);
            if let Err(refused) = accept(self.clock.now()) {
                return Some(Err(refused));
            }
            older.as_ref().inspect(|older| older.supersede());
            // from here on it is the key's current value, though it is not cached yet
            self.ledger.note_for_changes(hash);
            // other processes must not see the change before the source has it
            noted = self.tell_removal(name.as_ref());
            match &flight {
                Some(flight) => shard.put_back(flight),
                // a deletion needs no room
                None => self.take_out_ahead(&mut shard, item, &mut out),
            }
        }
        if let (Some(put), Some(flight)) = (put, &flight) {
            let mut shown = Shown { store: self, item, flight, is_done: false };
            shown.is_done = self.put(hash, put, By::Flight(flight), &mut out) != Stored::Fenced;
        }
        self.deliver(out);
        self.let_go(noted);
        Some(Ok(()))
    }

    /// Removes the cached value of a change's key, which is older than the change.
    fn take_out_ahead(&self, shard: &mut Shard<K, V>, item: &Item<K, V>, out: &mut Outbox<K, V>) {
        // the change is accepted or written: a panic of an `Eq` must not make it look otherwise
        contain(|| {
            let cause = RemovalCause::Removed;
            shard.remove(Hash::new(item.hash), &item.key, cause, &self.terms(), out);
        });
    }

    /// The source has the change now, and the queue is about to forget it. What a batch that began before
    /// brings without being asked is older.
    pub(crate) fn note_written(&self, item: &Item<K, V>) {
        let (hash, name, mut out) = (item.hash, self.name_of(&item.key), Outbox::new());
        let _noted;
        {
            let mut shard = self.cell(hash).shard.write();
            // what other processes loaded until now is older
            _noted = self.tell_removal(name.as_ref());
            if shard.is_loading(hash, &item.key) {
                // a newer change is accepted and not cached yet: once this one has left the queue, nobody
                // would know that the cached value is older
                self.ledger.note(hash);
                self.take_out_ahead(&mut shard, item, &mut out);
            } else {
                self.ledger.note_for_batches(hash);
            }
        }
        self.deliver(out);
    }

    /// Removes from the cache a change that the source will not get.
    pub(crate) fn take_back(&self, item: &Item<K, V>) {
        self.take_back_if(item, || true);
    }

    /// The same if `is_to_be` says so, which runs under the shard's lock, as [`WriteBehindQueue`] does.
    pub(crate) fn take_back_if(&self, item: &Item<K, V>, is_to_be: impl FnOnce() -> bool) {
        let (name, mut out) = (self.name_of(&item.key), Outbox::new());
        let taken = self.take(item.hash, &item.key, name.as_ref(), is_to_be, &mut out);
        self.deliver(out);
        if let Some((_, noted)) = taken {
            self.let_go(noted);
        }
    }
}

/// Guard of a change on its way from its queue to the cache. If the change does not arrive, the cache holds
/// nothing under its key.
struct Shown<'a, K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    store: &'a Store<K, V, S>,
    item: &'a Item<K, V>,
    flight: &'a Arc<Flight<K, V>>,
    is_done: bool,
}

impl<K, V, S> Drop for Shown<'_, K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn drop(&mut self) {
        // a newer change is cached by whoever made it, or is already
        if !self.is_done && !self.flight.is_superseded() {
            // also takes the key's flight off the board, whosever it is
            contain(|| self.store.take_back(self.item));
        }
        // waiters look again, and find the change in the cache or in its queue
        self.flight.land(Landing::Abandoned);
    }
}
