//! What few entries have, kept beside the table so that the others pay nothing for it: cached "not
//! found", notes, weights where there is a weigher, times of use where there is a time to idle, load
//! times where refreshes go by them.

use super::entry::{Missing, Notes};
use crate::parts::eviction::SlotId;
use crate::words::tick::Tick;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) struct Aside<K> {
    /// By slot. The ids are the table's own, no caller chooses them: any hasher will do.
    missing: HashMap<SlotId, Missing<K>, ahash::RandomState>,
    /// By slot too, of the few that have any.
    notes: HashMap<SlotId, Box<Notes>, ahash::RandomState>,
    weights: Option<Vec<u64>>,
    /// Written by readers under a shared lock; of two at once either is right.
    used: Option<Vec<AtomicU64>>,
    /// How many milliseconds the values took to load.
    costs: Option<Vec<u16>>,
}

impl<K> Aside<K> {
    pub(crate) fn new(slots: usize, weighted: bool, idle: bool, costs: bool) -> Self {
        Self {
            missing: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            notes: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            weights: weighted.then(|| vec![0; slots]),
            used: idle.then(|| std::iter::repeat_with(|| AtomicU64::new(0)).take(slots).collect()),
            costs: costs.then(|| vec![0; slots]),
        }
    }

    /// An empty one of the same kind.
    pub(crate) fn sized(&self, slots: usize) -> Self {
        Self::new(slots, self.weights.is_some(), self.used.is_some(), self.costs.is_some())
    }

    pub(crate) fn missing(&self, id: SlotId) -> Option<&Missing<K>> {
        self.missing.get(&id)
    }

    /// How many slots stand for "not found".
    pub(crate) fn missing_len(&self) -> usize {
        self.missing.len()
    }

    pub(crate) fn set_missing(&mut self, id: SlotId, missing: Missing<K>) {
        self.missing.insert(id, missing);
    }

    #[inline]
    pub(crate) fn take_missing(&mut self, id: SlotId) -> Option<Missing<K>> {
        // most caches hold none, and then this is one comparison
        if self.missing.is_empty() { None } else { self.missing.remove(&id) }
    }

    pub(crate) fn notes(&self, id: SlotId) -> Option<&Notes> {
        if self.notes.is_empty() { None } else { self.notes.get(&id).map(|notes| &**notes) }
    }

    /// How many slots have notes.
    pub(crate) fn notes_len(&self) -> usize {
        self.notes.len()
    }

    pub(crate) fn set_notes(&mut self, id: SlotId, notes: Box<Notes>) {
        self.notes.insert(id, notes);
    }

    /// Nothing of the user's is in them: they may be dropped under the lock.
    #[inline]
    pub(crate) fn take_notes(&mut self, id: SlotId) -> Option<Box<Notes>> {
        if self.notes.is_empty() { None } else { self.notes.remove(&id) }
    }

    #[inline]
    pub(crate) fn units(&self, id: SlotId) -> u64 {
        self.weights.as_ref().map_or(1, |weights| weights[id as usize])
    }

    #[inline]
    pub(crate) fn set_units(&mut self, id: SlotId, units: u64) {
        if let Some(weights) = &mut self.weights {
            weights[id as usize] = units;
        }
    }

    #[inline]
    pub(crate) fn last_use(&self, id: SlotId) -> Option<Tick> {
        self.used.as_ref().map(|used| used[id as usize].load(Relaxed))
    }

    /// Whether times of use are kept.
    #[inline]
    pub(crate) fn has_idle(&self) -> bool {
        self.used.is_some()
    }

    /// Whether a slot has gone unused for longer than `idle`; if not, it is used now.
    #[inline]
    pub(crate) fn is_idle(&self, id: SlotId, idle: u64, now: Tick) -> bool {
        // one test for most caches, which have no time to idle
        self.has_idle() && self.use_or_idle(id, idle, now)
    }

    #[cold]
    fn use_or_idle(&self, id: SlotId, idle: u64, now: Tick) -> bool {
        let is_idle = self.last_use(id).is_some_and(|at| at + idle <= now);
        if !is_idle {
            self.touch(id, now);
        }
        is_idle
    }

    #[inline]
    pub(crate) fn touch(&self, id: SlotId, now: Tick) {
        if let Some(used) = &self.used {
            used[id as usize].store(now, Relaxed);
        }
    }

    /// How many ticks the value took to load; zero if it is not known.
    #[inline]
    pub(crate) fn cost(&self, id: SlotId) -> u64 {
        self.costs.as_ref().map_or(0, |costs| costs[id as usize].into())
    }

    #[inline]
    pub(crate) fn set_cost(&mut self, id: SlotId, took: u64) {
        if let Some(costs) = &mut self.costs {
            costs[id as usize] = u16::try_from(took).unwrap_or(u16::MAX);
        }
    }

    /// The slot `old` of the table before it grew is `new` in the one after.
    pub(crate) fn carry(&mut self, to: &mut Self, old: SlotId, new: SlotId) {
        if let Some(missing) = self.take_missing(old) {
            to.set_missing(new, missing);
        }
        if let Some(notes) = self.take_notes(old) {
            to.set_notes(new, notes);
        }
        to.set_units(new, self.units(old));
        to.set_cost(new, self.cost(old));
        if let Some(at) = self.last_use(old) {
            to.touch(new, at);
        }
    }
}
