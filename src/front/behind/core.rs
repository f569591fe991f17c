//! What threads that write and tasks that write have in common.

use super::builder::Settings;
use super::desk::{Desk, LeftToDo, NotAccepted};
use super::writer::{Change, GaveUp, Unwritten, WriteError};
use crate::engine::look::{Looked, Purpose};
use crate::engine::store::Store;
use crate::parts::backlog::{Abandoned, Item, Taken};
use crate::rules::altered::Altered;
use crate::rules::expiry::ticks;
use crate::words::contain::contain;
use crate::words::sync::{Mutex, thread};
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::any::Any;
use std::cell::OnceCell;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Weak};
use std::time::Duration;
use thread::ThreadId;

/// A listener that knows the type of its writer's errors, as one that does not. (If a queue's fields named
/// that type, which is `<W as AsyncWriter<K, V>>::Error`, no task could hold the queue whose `K` or `V` has a
/// lifetime or a `dyn`, and be `Send`: where the compiler asks that, it has forgotten which lifetime, and `W`
/// does not write for all of them.)
pub(super) struct OnGiveUp<K, V>(Box<Tell<K, V>>);

/// Tells of a key, its value, how often that was tried, and why no more: a `GaveUp<E>`, or nothing if the time
/// to drain was over.
type Tell<K, V> = dyn Fn(K, Option<V>, u32, Option<&dyn Any>) + Send + Sync;

impl<K, V> OnGiveUp<K, V> {
    pub(super) fn new<E: 'static>(
        listener: impl Fn(Unwritten<K, V, E>) + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(move |key, value, attempts, why| {
            let why = why.map_or(GaveUp::Dropped, |why| {
                why.downcast_ref::<GaveUp<E>>().expect("what its own writer says").clone()
            });
            listener(Unwritten { key, value, attempts, why });
        }))
    }
}

/// A queue, the cache in front of it, and who is told of what is not written.
pub(super) struct Core<K, V, S> {
    pub(super) store: Arc<Store<K, V, S>>,
    pub(super) desk: Arc<Desk<K, V>>,
    pub(super) settings: Settings,
    on_give_up: Option<OnGiveUp<K, V>>,
    /// The threads that are telling of what was given up on.
    telling: Mutex<Vec<ThreadId>>,
}

impl<K, V, S> Core<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    pub(super) fn new(
        store: Arc<Store<K, V, S>>,
        settings: Settings,
        on_give_up: Option<OnGiveUp<K, V>>,
    ) -> Self {
        let desk = Arc::new(Desk::new(settings.terms(), store.clock.clone()));
        // the cache asks it, and does not keep it
        store.queue_in_front(Arc::<Desk<K, V>>::downgrade(&desk) as Weak<_>);
        Self { store, desk, settings, on_give_up, telling: Mutex::new(Vec::new()) }
    }

    pub(super) fn item(&self, key: K, value: Option<V>) -> Arc<Item<K, V>> {
        Arc::new(Item { hash: self.store.hash(&key), key, value })
    }

    /// Offers a change to the queue, and shows it if it is taken.
    pub(super) fn offer(&self, item: &Arc<Item<K, V>>) -> Result<(), NotAccepted> {
        let mut left = LeftToDo::new();
        let accept = |now| self.desk.accept(item, now, &mut left);
        self.store.record(item, || true, accept).expect("it may, so it was offered")
    }

    /// The same for what `change` makes of what stands under the key. What stands there afterwards.
    pub(super) fn alter<Q>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> Altered<V>,
    ) -> Result<Option<V>, NotAccepted>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let hash = self.store.hash(key);
        let mut left = LeftToDo::new();
        let unwritten = || self.desk.latest(hash, key);
        let accept = |item: &_, now| self.desk.accept(item, now, &mut left);
        self.store.alter_ahead(hash, key, unwritten, change, accept)
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let hash = self.store.hash(key);
        // what the cache has of a key is its last change, or nothing
        if let Looked::Value(value) = self.store.get(hash, key, Purpose::Get) {
            return Some(value);
        }
        self.desk.latest(hash, key)?.value.clone()
    }

    /// What came of a batch.
    pub(super) fn settle<E: 'static>(
        &self,
        batch: Vec<Taken<K, V>>,
        outcome: Result<(), GaveUp<E>>,
    ) {
        match outcome {
            Ok(()) => {
                for taken in &batch {
                    contain(|| self.store.note_written(&taken.item));
                }
                self.desk.written(&batch);
            }
            Err(why) => {
                let now = self.desk.clock.now();
                let failed = |taken| self.fail_one(taken, batch.len(), now);
                let given_up = batch.iter().filter_map(failed).collect();
                self.desk.settle();
                self.report(given_up, Some(&why));
                // the error's own `Drop` runs as well
                contain(|| drop(why));
            }
        }
        // the last handles of what was written: the user's `Drop` runs
        contain(|| drop(batch));
        self.desk.is_back();
    }

    /// A change of a batch of so many was not written. What is given up on leaves the queue and the cache
    /// in one step: nobody makes anything of what is in one of them still.
    fn fail_one(&self, taken: &Taken<K, V>, batch: usize, now: Tick) -> Option<Abandoned<K, V>> {
        let given_up = OnceCell::new();
        let is_given_up = || given_up.get_or_init(|| self.desk.failed(taken, batch, now)).is_some();
        contain(|| self.store.take_back_if(&taken.item, is_given_up));
        // if the user's `Hash` or `Eq` panicked before that was asked, the queue is told now
        is_given_up();
        given_up.into_inner().flatten()
    }

    /// Tells of what will not be written, and is not shown any more.
    fn report(&self, given_up: Vec<Abandoned<K, V>>, why: Option<&dyn Any>) {
        for Abandoned { item, number, tries } in given_up {
            if let Some(OnGiveUp(tell)) = &self.on_give_up {
                let me = thread::current().id();
                self.telling.lock().push(me);
                contain(|| tell(item.key.clone(), item.value.clone(), tries, why));
                let mut telling = self.telling.lock();
                let at = telling.iter().position(|id| *id == me);
                at.inspect(|&at| _ = telling.swap_remove(at));
            }
            // from here on `flush` does not wait for it: who learns of it there finds it done
            self.desk.told(number);
            // a panic in the `Drop` of one leaves none of the others untold
            contain(|| drop(item));
        }
    }

    /// Whether this thread is telling of what was given up on: `flush` and `close` wait until it has.
    pub(super) fn is_telling(&self) -> bool {
        let me = thread::current().id();
        self.telling.lock().contains(&me)
    }

    /// Ends what is left of the queue.
    pub(super) fn abandon(&self) {
        let given_up = self.desk.abandon();
        for given_up in &given_up {
            contain(|| self.store.take_back(&given_up.item));
        }
        self.report(given_up, None);
    }

    /// What `flush`, `close` and `close_within` return once nothing is left.
    pub(super) fn told(&self) -> Result<(), WriteError> {
        match self.desk.untold() {
            0 => Ok(()),
            changes => Err(WriteError::GaveUp { changes }),
        }
    }

    /// The tick at which a drop stops waiting.
    pub(super) fn drop_deadline(&self) -> Tick {
        self.deadline(self.settings.drop_timeout)
    }

    pub(super) fn deadline(&self, timeout: Duration) -> Tick {
        self.desk.clock.now().saturating_add(ticks(timeout))
    }
}

/// Shared by the handles, but not by who writes: gone with the last handle.
pub(super) struct LastHandle(pub(super) Arc<dyn Drain>);

/// What is done when the last handle is gone.
pub(super) trait Drain: Send + Sync {
    fn drain(&self);
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// A batch as its writer sees it.
pub(super) fn changes<K, V>(batch: &[Taken<K, V>]) -> Vec<Change<'_, K, V>> {
    batch.iter().map(|taken| change_of(&taken.item)).collect()
}

fn change_of<K, V>(item: &Item<K, V>) -> Change<'_, K, V> {
    match &item.value {
        Some(value) => Change::Put(&item.key, value),
        None => Change::Delete(&item.key),
    }
}
