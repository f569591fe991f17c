//! Changes that the source does not have yet: what write-behind needs of a store.
//!
//! A change is recorded and shown in one order. Under the lock of its key's shard it enters its
//! queue and takes the key away from whatever load is in flight; then it is stored as a load is,
//! by a flight of its own. Of two that overlap the older one finds itself fenced, and takes the key
//! out: nobody can say which of them would have been stored last.

mod alter;

use super::put::{By, Stored};
use super::store::Store;
use crate::parts::backlog::Item;
use crate::parts::flight::{Begin, Flight, Landing};
use crate::parts::group::Hash;
use crate::rules::got::{Got, How};
use crate::shard::Shard;
use crate::shard::entry::Put;
use crate::shard::outbox::Outbox;
use crate::words::contain::contain;
use crate::words::removal::RemovalCause;
use crate::words::sync::RwLock;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::tick::Tick;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A queue of changes that are ahead of the source. It is asked under a shard's lock: it may take
/// its own, compare keys, and nothing else.
pub(crate) trait WriteBehindQueue<K, V>: Send + Sync {
    /// The last change of a key that is not written.
    fn latest(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>>;

    /// Whether there is one, of the key that `is_it`.
    fn holds(&self, hash: u64, is_it: &dyn Fn(&K) -> bool) -> bool;
}

/// The queues in front of one store's source.
pub(super) struct Queues<K, V> {
    /// Most stores have none, and pay one load for it where they miss.
    any: AtomicBool,
    list: RwLock<Vec<Weak<dyn WriteBehindQueue<K, V>>>>,
}

impl<K, V> Queues<K, V> {
    pub(super) fn new() -> Self {
        Self { any: AtomicBool::new(false), list: RwLock::new(Vec::new()) }
    }

    /// What a load of this key would have to bring, if it were to see all that was accepted.
    #[inline]
    pub(super) fn latest(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>> {
        // the lock of the shard orders it: nothing is accepted for this key meanwhile
        if self.any.load(Ordering::Acquire) { self.ask(hash, key) } else { None }
    }

    /// Whether there is a change of a key that is not written.
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
    /// From now on loads are asked of `queue` first.
    pub(crate) fn queue_in_front(&self, queue: Weak<dyn WriteBehindQueue<K, V>>) {
        let mut list = self.queues.list.write();
        // of those that are gone only the allocation is left: nothing of the user's is dropped
        list.retain(|queue| queue.strong_count() > 0);
        list.push(queue);
        drop(list);
        self.queues.any.store(true, Ordering::Release);
    }
}

/// Of a flight that carries a change: it is no attempt at a load, and nobody joins it for one.
fn begin(hash: u64) -> Begin {
    Begin { is_absent: false, ..Begin::of_nothing(hash) }
}

/// What was accepted and is not cached any more, for a caller who would have loaded less.
pub(super) fn unwritten<V>(value: V) -> Got<V> {
    Got::new(value, How::Fresh, Duration::ZERO, Duration::ZERO, None)
}

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Offers a change to its queue, if it `may`, and, if `accept` takes it, shows it: a value is
    /// stored, a deletion takes the key out. Both are asked under the shard's lock, as
    /// [`WriteBehindQueue`] is. What `accept` says, if it was asked.
    pub(crate) fn record<E>(
        &self,
        item: &Arc<Item<K, V>>,
        may: impl FnOnce() -> bool,
        accept: impl FnOnce(Tick) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let hash = item.hash;
        // the user's code comes first: once it is accepted, nothing may stop it
        let put = item.value.clone().map(|value| {
            let key = item.key.clone();
            let units = self.units(&key, Some(&value));
            let ttl = self.lives.ttl;
            Put::of(hash, key, value, units, ttl)
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
            // from here on it is what stands there, though it is not cached yet
            self.ledger.note_for_changes(hash);
            // what is shown here before the source has it is no other process's to see
            noted = self.tell_removal(name.as_ref());
            match &flight {
                Some(flight) => shard.put_back(flight),
                // that nothing stands there needs no room
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

    /// What stands under the key of a change is older than that.
    fn take_out_ahead(&self, shard: &mut Shard<K, V>, item: &Item<K, V>, out: &mut Outbox<K, V>) {
        // it is accepted or written: no panic of an `Eq` is to say otherwise
        contain(|| {
            let cause = RemovalCause::Removed;
            shard.remove(Hash::new(item.hash), &item.key, cause, &self.terms(), out);
        });
    }

    /// The source has it now, and the queue is about to forget it. What a batch that began before
    /// brings unasked is older.
    pub(crate) fn note_written(&self, item: &Item<K, V>) {
        let (hash, name, mut out) = (item.hash, self.name_of(&item.key), Outbox::new());
        let _noted;
        {
            let mut shard = self.cell(hash).shard.write();
            // what others loaded until now is older
            _noted = self.tell_removal(name.as_ref());
            if shard.is_loading(hash, &item.key) {
                // a newer change is accepted and not shown yet: once this one has left the queue, nobody
                // would know that what is cached is older
                self.ledger.note(hash);
                self.take_out_ahead(&mut shard, item, &mut out);
            } else {
                self.ledger.note_for_batches(hash);
            }
        }
        self.deliver(out);
    }

    /// Takes out what was shown of a change that the source will not get.
    pub(crate) fn take_back(&self, item: &Item<K, V>) {
        self.take_back_if(item, || true);
    }

    /// The same if it is to be, which is asked under the shard's lock, as [`WriteBehindQueue`] is.
    pub(crate) fn take_back_if(&self, item: &Item<K, V>, is_to_be: impl FnOnce() -> bool) {
        let (name, mut out) = (self.name_of(&item.key), Outbox::new());
        let taken = self.take(item.hash, &item.key, name.as_ref(), is_to_be, &mut out);
        self.deliver(out);
        if let Some((_, noted)) = taken {
            self.let_go(noted);
        }
    }
}

/// A change on its way from its queue to the cache. If it does not arrive, the cache holds nothing
/// of its key.
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
        // a newer change is shown by whoever made it, or is already
        if !self.is_done && !self.flight.is_superseded() {
            // also takes the flight off, whosever it is
            contain(|| self.store.take_back(self.item));
        }
        // who waits looks again, and finds it in the cache or in its queue
        self.flight.land(Landing::Abandoned);
    }
}
