//! Changes that are accepted and not written yet: a queue of keys as plain data.
//!
//! It is told the time and calls nobody, so its promises can be tested without threads: a key is queued once
//! however often it changes (the last change wins), and only one writer has it at a time, so that its changes
//! arrive in order. A change leaves only when it was written or given up on.

use crate::rules::backoff::doubled;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use hashbrown::HashTable;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A change of one key.
pub(crate) struct Item<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    /// `None` for a deletion.
    pub(crate) value: Option<V>,
}

/// How changes are gathered, and what happens to those that fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BacklogTerms {
    /// How many keys may be unwritten at once; at least one.
    pub(crate) max_pending: usize,
    /// For how many ticks a change may wait for others to be written with.
    pub(crate) max_delay: u64,
    /// How many changes are written together at most; at least one.
    pub(crate) batch: usize,
    /// After how many attempts a change is given up on.
    pub(crate) attempts: u32,
    /// Ticks between the first failure and the next attempt, and between later ones at most.
    pub(crate) back_off: (u64, u64),
}

pub(crate) struct Backlog<K, V> {
    terms: BacklogTerms,
    index: HashTable<usize>,
    slots: Vec<Option<KeySlot<K, V>>>,
    vacant: Vec<usize>,
    /// Changes that have not failed, in the order in which they were accepted.
    fresh: BTreeSet<(u64, usize)>,
    /// Changes that have, by when they may be tried again.
    failed: BTreeSet<(Tick, u64, usize)>,
    /// The numbers of all unwritten changes: queued, with a writer, or given up on and not yet told.
    unwritten: BTreeSet<u64>,
    /// The number of the last change.
    last: u64,
    /// Changes up to this number do not wait for others any more.
    hurry: u64,
    flying: usize,
    given_up: u64,
    is_closed: bool,
    /// The last batch that was handed out had failed before. If the source takes longer to refuse such changes
    /// than they are left alone, one of them is always due: the others have their turn in between.
    has_retried: bool,
}

struct KeySlot<K, V> {
    queued: Option<QueuedChange<K, V>>,
    /// The change that a writer has now.
    flying: Option<QueuedChange<K, V>>,
    /// Failures of the key in a row, of whichever change.
    failures: u32,
    /// The largest batch that its next attempt may be in.
    company: usize,
}

struct QueuedChange<K, V> {
    number: u64,
    item: Arc<Item<K, V>>,
    /// When it is written even if the batch is not full; after a failure, when it may be tried again.
    at: Tick,
    /// How often this very change was tried.
    tries: u32,
}

type Back<'a, K, V> = (&'a mut KeySlot<K, V>, QueuedChange<K, V>);

/// What became of a change that was offered.
pub(crate) enum Accepted<K, V> {
    /// It will be written. `wakes` says that a sleeping writer has something to do; `superseded` is the
    /// change that it replaces.
    Yes { wakes: bool, superseded: Option<Arc<Item<K, V>>> },
    /// As many keys are unwritten as may be.
    Full,
    /// Nothing is accepted any more.
    Closed,
}

/// What a writer does next.
pub(crate) enum WriterStep<K, V> {
    Write(Vec<Taken<K, V>>),
    /// Sleep until then, or until something is accepted.
    Wait(Option<Tick>),
    /// Nothing is left, and nothing will come.
    End,
}

/// A change that a writer has taken.
pub(crate) struct Taken<K, V> {
    id: usize,
    pub(crate) item: Arc<Item<K, V>>,
}

/// A change that leaves the queue unwritten.
pub(crate) struct Abandoned<K, V> {
    pub(crate) item: Arc<Item<K, V>>,
    /// Its number, which counts as unwritten until [`told`](Backlog::told) is called with it.
    pub(crate) number: u64,
    /// How often it was tried.
    pub(crate) tries: u32,
}

impl<K, V> Backlog<K, V> {
    pub(crate) fn new(terms: BacklogTerms) -> Self {
        Self {
            terms,
            index: HashTable::new(),
            slots: Vec::new(),
            vacant: Vec::new(),
            fresh: BTreeSet::new(),
            failed: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            last: 0,
            hurry: 0,
            flying: 0,
            given_up: 0,
            is_closed: false,
            has_retried: false,
        }
    }

    /// How many keys have an unwritten change.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.terms.max_pending
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many changes were given up on, ever.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How many changes writers have taken.
    pub(crate) fn flying(&self) -> usize {
        self.flying
    }

    /// Whether all that is left has failed, and may not be tried again yet.
    pub(crate) fn waits_for_time(&self, now: Tick) -> bool {
        let is_later = self.failed.first().is_some_and(|(at, ..)| *at > now);
        self.flying == 0 && self.fresh.is_empty() && is_later
    }

    /// Accepts a change, if there is room. A key that is queued already needs none: its last change is the
    /// one that is written, at the time that was set for the first.
    pub(crate) fn accept(&mut self, item: &Arc<Item<K, V>>, now: Tick) -> Accepted<K, V>
    where
        K: Eq,
    {
        if self.is_closed {
            return Accepted::Closed;
        }
        let found = self.find(item.hash, &item.key);
        if found.is_none() && self.is_full() {
            return Accepted::Full;
        }
        let id = found.unwrap_or_else(|| self.claim(item.hash));
        let slot = self.slots[id].as_mut().expect("a slot that is in the index is taken");
        if let Some(queued) = &mut slot.queued {
            let superseded = std::mem::replace(&mut queued.item, Arc::clone(item));
            queued.tries = 0;
            return Accepted::Yes { wakes: false, superseded: Some(superseded) };
        }
        self.last += 1;
        let number = self.last;
        let at = now.saturating_add(self.terms.max_delay);
        slot.queued = Some(QueuedChange { number, item: Arc::clone(item), at, tries: 0 });
        self.unwritten.insert(number);
        if slot.flying.is_none() {
            self.fresh.insert((number, id));
        }
        // sleeping writers wake for the first change, and again when a batch is full
        let fresh = self.fresh.len();
        let wakes = fresh == 1 || fresh == self.terms.batch || self.is_full();
        Accepted::Yes { wakes, superseded: None }
    }

    /// The last change of a key that is not written yet.
    pub(crate) fn latest<Q>(&self, hash: u64, key: &Q) -> Option<&Arc<Item<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        if self.index.is_empty() {
            return None;
        }
        self.slots[self.find(hash, key)?].as_ref()?.latest()
    }

    /// The next batch that is due, or until when there is none.
    pub(crate) fn next(&mut self, now: Tick) -> WriterStep<K, V> {
        let retry = self.failed.first().copied();
        let oldest = self.fresh.first().map(|&(number, id)| (number, self.queued_at(id)));
        let is_fresh_due = oldest.is_some_and(|(number, at)| {
            let is_due = at <= now || number <= self.hurry || self.is_closed;
            is_due || self.fresh.len() >= self.terms.batch || self.is_full()
        });
        let have_their_turn = !(self.has_retried && is_fresh_due);
        if let Some((_, _, id)) = retry.filter(|(at, ..)| *at <= now && have_their_turn) {
            // changes that failed together are tried again in halves: so a change that the source refuses
            // does not hold up its neighbours for long, and a source that was away for a moment is not called
            // for each of them
            let most = self.slot(id).company.min(self.terms.batch);
            let mut batch = Vec::with_capacity(most);
            while let Some(&(at, number, id)) = self.failed.first() {
                if at > now || batch.len() >= most.min(self.slot(id).company) {
                    break;
                }
                self.failed.remove(&(at, number, id));
                batch.push(self.take(id));
            }
            self.has_retried = true;
            return WriterStep::Write(batch);
        }
        if is_fresh_due {
            let mut batch = Vec::with_capacity(self.terms.batch.min(self.fresh.len()));
            while batch.len() < self.terms.batch {
                let Some((_, id)) = self.fresh.pop_first() else { break };
                batch.push(self.take(id));
            }
            self.has_retried = false;
            return WriterStep::Write(batch);
        }
        if self.is_closed && self.len() == 0 {
            return WriterStep::End;
        }
        let wake = oldest.map(|(_, at)| at).into_iter().chain(retry.map(|(at, ..)| at)).min();
        WriterStep::Wait(wake)
    }

    /// A batch was written. The caller drops what is left of it.
    pub(crate) fn written(&mut self, batch: &[Taken<K, V>]) {
        for taken in batch {
            // given up on meanwhile, by somebody who could not wait
            let Some((slot, was)) = self.came_back(taken) else { continue };
            slot.failures = 0;
            slot.company = usize::MAX;
            let queued = slot.queued.as_ref().map(|queued| queued.number);
            self.unwritten.remove(&was.number);
            match queued {
                Some(number) => _ = self.fresh.insert((number, taken.id)),
                None => self.vacate(taken.id, taken.item.hash),
            }
        }
    }

    /// The user has been told of a change that was given up on.
    pub(crate) fn told(&mut self, number: u64) {
        self.unwritten.remove(&number);
    }

    /// A change in a batch of so many was not written. Returns it if it is given up on, having been tried
    /// often enough.
    pub(crate) fn failed(
        &mut self,
        taken: &Taken<K, V>,
        batch: usize,
        now: Tick,
    ) -> Option<Abandoned<K, V>> {
        let terms = self.terms;
        let (slot, QueuedChange { number, item, tries, .. }) = self.came_back(taken)?;
        slot.failures = slot.failures.saturating_add(1);
        slot.company = (batch / 2).max(1);
        let at = now.saturating_add(doubled(terms.back_off, slot.failures));
        let tries = tries.saturating_add(1);
        // a newer change takes its place, and is the one to be written
        let newer = slot.queued.take();
        if newer.is_none() && tries >= terms.attempts {
            self.given_up += 1;
            self.vacate(taken.id, item.hash);
            return Some(Abandoned { item, number, tries });
        }
        let newer_number = newer.as_ref().map(|newer| newer.number);
        slot.queued = Some(match newer {
            Some(newer) => QueuedChange { number, item: newer.item, at, tries: 0 },
            None => QueuedChange { number, item, at, tries },
        });
        self.failed.insert((at, number, taken.id));
        newer_number.inspect(|newer| _ = self.unwritten.remove(newer));
        None
    }

    /// Lets no change that is there wait for others any more. Returns the number of the last change.
    pub(crate) fn hurry(&mut self) -> u64 {
        self.hurry = self.last;
        self.last
    }

    /// Whether all changes up to this number are written, or given up on and told.
    pub(crate) fn is_past(&self, number: u64) -> bool {
        self.unwritten.first().is_none_or(|first| *first > number)
    }

    /// Accepts nothing any more; what is there is written without waiting for a full batch.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Gives up on all changes, those that writers have taken included.
    pub(crate) fn abandon(&mut self) -> Vec<Abandoned<K, V>> {
        let mut given_up = Vec::with_capacity(self.len());
        let mut unwritten = std::mem::take(&mut self.unwritten);
        for slot in self.slots.iter_mut().filter_map(Option::take) {
            let KeySlot { queued, flying, .. } = slot;
            let in_hand = flying.map(|QueuedChange { item, number, tries, .. }| {
                let tries = tries + 1;
                Abandoned { item, number, tries }
            });
            let newer = queued.map(|QueuedChange { item, number, tries, .. }| Abandoned {
                item,
                number,
                tries,
            });
            match (newer, in_hand) {
                // the older one is superseded, and a writer still holds it: nobody is told of that
                (Some(newer), in_hand) => {
                    in_hand.inspect(|older| _ = unwritten.remove(&older.number));
                    given_up.push(newer);
                }
                (None, in_hand) => given_up.extend(in_hand),
            }
        }
        self.given_up += given_up.len() as u64;
        *self = Self {
            unwritten,
            given_up: self.given_up,
            last: self.last,
            is_closed: self.is_closed,
            ..Self::new(self.terms)
        };
        given_up
    }

    /// The slot of a change that a writer is done with, and the change.
    fn came_back(&mut self, taken: &Taken<K, V>) -> Option<Back<'_, K, V>> {
        let slot = self.slots.get_mut(taken.id)?.as_mut()?;
        let was = slot.flying.take_if(|flying| Arc::ptr_eq(&flying.item, &taken.item))?;
        self.flying -= 1;
        Some((slot, was))
    }

    /// Hands a slot's queued change to a writer.
    fn take(&mut self, id: usize) -> Taken<K, V> {
        let slot = self.slot_mut(id);
        let queued = slot.queued.take().expect("what is in an order is queued");
        let item = Arc::clone(&queued.item);
        slot.flying = Some(queued);
        self.flying += 1;
        Taken { id, item }
    }

    fn slot(&self, id: usize) -> &KeySlot<K, V> {
        self.slots[id].as_ref().expect("a slot in use")
    }

    fn slot_mut(&mut self, id: usize) -> &mut KeySlot<K, V> {
        self.slots[id].as_mut().expect("a slot in use")
    }

    fn queued_at(&self, id: usize) -> Tick {
        self.slot(id).queued.as_ref().map_or(Tick::MAX, |queued| queued.at)
    }

    fn find<Q>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let same = |id: &usize| {
            let item = self.slots[*id].as_ref().and_then(KeySlot::latest);
            item.is_some_and(|item| item.hash == hash && key.equivalent(&item.key))
        };
        self.index.find(hash, same).copied()
    }

    fn claim(&mut self, hash: u64) -> usize {
        let slot = KeySlot { queued: None, flying: None, failures: 0, company: usize::MAX };
        let id = if let Some(id) = self.vacant.pop() {
            self.slots[id] = Some(slot);
            id
        } else {
            self.slots.push(Some(slot));
            self.slots.len() - 1
        };
        let slots = &self.slots;
        let hash_of = |id: &usize| {
            let item = slots[*id].as_ref().and_then(KeySlot::latest);
            item.map_or(hash, |item| item.hash)
        };
        self.index.insert_unique(hash, id, hash_of);
        id
    }

    fn vacate(&mut self, id: usize, hash: u64) {
        if let Ok(place) = self.index.find_entry(hash, |other| *other == id) {
            place.remove();
        }
        self.slots[id] = None;
        self.vacant.push(id);
        if self.len() == 0 {
            // a burst leaves no memory behind
            self.slots = Vec::new();
            self.vacant = Vec::new();
            self.index = HashTable::new();
        }
    }
}

impl<K, V> KeySlot<K, V> {
    fn latest(&self) -> Option<&Arc<Item<K, V>>> {
        self.queued.as_ref().or(self.flying.as_ref()).map(|queued| &queued.item)
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests;
