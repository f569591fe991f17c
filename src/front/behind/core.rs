//! What write-behind with threads and with tasks have in common.

use super::builder::Settings;
use super::queue::{LeftToDo, NotAccepted, Queue};
use super::writer::{Change, GaveUp, Unwritten, WhenFull, WriteError};
use crate::engine::alter::AlterOptions;
use crate::engine::behind::ShownAs;
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

/// The `on_give_up` listener, with the type of the writer's errors erased. (If a field of the queue named that
/// type, `<W as AsyncWriter<K, V>>::Error`, futures that hold a queue whose `K` or `V` contains a lifetime or a
/// `dyn` would not be `Send`: the compiler checks that with lifetimes erased, and `W` implements the trait for
/// one lifetime only.)
pub(super) struct OnGiveUp<K, V>(Box<Tell<K, V>>);

/// Called with the key, the value, the number of attempts and the reason: a `GaveUp<E>`, or `None` if the time
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

/// A queue, the cache in front of it, and the listener for changes that are not written.
pub(super) struct Core<K, V, S> {
    pub(super) store: Arc<Store<K, V, S>>,
    pub(super) queue: Arc<Queue<K, V>>,
    pub(super) settings: Settings,
    on_give_up: Option<OnGiveUp<K, V>>,
    /// The threads that are calling `on_give_up`.
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
        let queue = Arc::new(Queue::new(settings.terms(), store.clock.clone()));
        // the cache asks the queue, but does not keep it alive
        store.queue_in_front(Arc::<Queue<K, V>>::downgrade(&queue) as Weak<_>);
        Self { store, queue, settings, on_give_up, telling: Mutex::new(Vec::new()) }
    }

    pub(super) fn item(&self, key: K, value: Option<V>) -> Arc<Item<K, V>> {
        Arc::new(Item { hash: self.store.hash(&key), key, value })
    }

    /// How a change is to be cached that is offered from now on: what happens to one of its tags while the queue
    /// has no room for it is newer.
    pub(super) fn shown<'t>(
        &self,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
    ) -> ShownAs {
        ShownAs { ttl: options.ttl, tags: self.store.tagged_now(options.tags.clone()) }
    }

    /// Offers a change to the queue; if it is accepted, makes it visible in the cache.
    pub(super) fn offer(&self, item: &Arc<Item<K, V>>, shown: ShownAs) -> Result<(), NotAccepted> {
        let mut left = LeftToDo::new();
        let accept = |now| self.queue.accept(item, now, &mut left);
        self.store.record(item, shown, || true, accept).expect("it may, so it was offered")
    }

    /// The same for what `change` makes of the key's current value. Returns the value afterwards.
    pub(super) fn alter<'t, Q>(
        &self,
        key: &Q,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
        change: impl FnMut(Option<V>) -> Altered<V>,
    ) -> Result<Option<V>, NotAccepted>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
    {
        let hash = self.store.hash(key);
        let mut left = LeftToDo::new();
        let unwritten = || self.queue.latest(hash, key);
        let accept = |item: &_, now| self.queue.accept(item, now, &mut left);
        self.store.alter_ahead(hash, key, options, unwritten, change, accept)
    }

    /// Whether a change that was not accepted is to wait for room, and be offered again.
    pub(super) fn may_wait(&self, why: NotAccepted) -> Result<(), WriteError> {
        match why {
            NotAccepted::Closed => Err(WriteError::Closed),
            NotAccepted::Full if self.settings.when_full == WhenFull::Refuse => {
                Err(WriteError::Full)
            }
            NotAccepted::Full => Ok(()),
        }
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let hash = self.store.hash(key);
        // what the cache has for a key is its last change, or nothing
        if let Looked::Value(value) = self.store.get(hash, key, Purpose::Get) {
            return Some(value);
        }
        self.queue.latest(hash, key)?.value.clone()
    }

    /// Handles the outcome of a batch.
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
                self.queue.written(&batch);
            }
            Err(why) => {
                let now = self.queue.clock.now();
                let failed = |taken| self.fail_one(taken, batch.len(), now);
                let given_up = batch.iter().filter_map(failed).collect();
                self.queue.settle();
                self.report(given_up, Some(&why));
                // the error's own `Drop` runs as well
                contain(|| drop(why));
            }
        }
        // the last handles of what was written: the user's `Drop` runs
        contain(|| drop(batch));
        self.queue.is_back();
    }

    /// A change of a batch of so many was not written. If it is given up on, it leaves the queue and the cache
    /// in one step, so that no `alter` builds on it.
    fn fail_one(&self, taken: &Taken<K, V>, batch: usize, now: Tick) -> Option<Abandoned<K, V>> {
        let given_up = OnceCell::new();
        let is_given_up =
            || given_up.get_or_init(|| self.queue.failed(taken, batch, now)).is_some();
        contain(|| self.store.take_back_if(&taken.item, is_given_up));
        // if the user's `Hash` or `Eq` panicked first, the queue has not been told yet
        is_given_up();
        given_up.into_inner().flatten()
    }

    /// Reports changes that will not be written, and are not in the cache any more.
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
            // from here on `flush` does not wait for it: the listener has been called
            self.queue.told(number);
            // a panic in the `Drop` of one does not keep the others from being reported
            contain(|| drop(item));
        }
    }

    /// Whether this thread is inside `on_give_up`: `flush` and `close` would wait for it there.
    pub(super) fn is_telling(&self) -> bool {
        let me = thread::current().id();
        self.telling.lock().contains(&me)
    }

    /// Closes the queue, and gives up on what is left.
    pub(super) fn abandon(&self) {
        let given_up = self.queue.abandon();
        for given_up in &given_up {
            contain(|| self.store.take_back(&given_up.item));
        }
        self.report(given_up, None);
    }

    /// The result of `flush`, `close` and `close_within` when nothing is left.
    pub(super) fn told(&self) -> Result<(), WriteError> {
        match self.queue.untold() {
            0 => Ok(()),
            changes => Err(WriteError::GaveUp { changes }),
        }
    }

    /// The tick at which a drop stops waiting.
    pub(super) fn drop_deadline(&self) -> Tick {
        self.deadline(self.settings.drop_timeout)
    }

    pub(super) fn deadline(&self, timeout: Duration) -> Tick {
        self.queue.clock.now().saturating_add(ticks(timeout))
    }
}

/// Shared by the handles, but not by the writers: dropped with the last handle.
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

/// A batch in the form that writers get.
pub(super) fn changes<K, V>(batch: &[Taken<K, V>]) -> Vec<Change<'_, K, V>> {
    batch.iter().map(|taken| change_of(&taken.item)).collect()
}

fn change_of<K, V>(item: &Item<K, V>) -> Change<'_, K, V> {
    match &item.value {
        Some(value) => Change::Put(&item.key, value),
        None => Change::Delete(&item.key),
    }
}
