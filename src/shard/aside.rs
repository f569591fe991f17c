//! Data that few entries have, kept beside the table so that the others pay nothing for it: cached "not
//! found", notes, weights with a weigher, times of last use with a time to idle, and load times if refreshes
//! depend on them.

use super::entry::{Missing, Notes};
use crate::parts::eviction::SlotId;
use crate::parts::weights::{WeightPart, Weights};
use crate::words::tick::Tick;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `None` while there is nothing to keep: then this is the only test that a plain shard pays.
pub(crate) struct Aside<K>(Option<Box<Kept<K>>>);

struct Kept<K> {
    /// By slot. The ids are the table's own, no caller chooses them: any hasher will do.
    missing: HashMap<SlotId, Missing<K>, ahash::RandomState>,
    /// By slot too, for the few that have notes.
    notes: HashMap<SlotId, Box<Notes>, ahash::RandomState>,
    weights: Option<Weights>,
    /// Times of last use, written by readers under a shared lock; if two write at once, either is right.
    used: Option<Vec<AtomicU64>>,
    /// How many milliseconds each value took to load.
    costs: Option<Vec<u16>>,
}

impl<K> Kept<K> {
    fn new(slots: usize, weights: Option<Weights>, idle: bool, costs: bool) -> Self {
        Self {
            missing: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            notes: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            weights,
            used: idle.then(|| std::iter::repeat_with(|| AtomicU64::new(0)).take(slots).collect()),
            costs: costs.then(|| vec![0; slots]),
        }
    }

    /// Whether it holds nothing, and has no array that must stay.
    fn is_done(&self) -> bool {
        let is_optional = self.weights.is_none() && self.used.is_none() && self.costs.is_none();
        is_optional && self.missing.is_empty() && self.notes.is_empty()
    }

    /// An empty one of the same kind.
    fn sized(&self, slots: usize) -> Aside<K> {
        let weights = self.weights.as_ref().map(|weights| weights.sized(slots));
        let (idle, costs) = (self.used.is_some(), self.costs.is_some());
        Aside(Some(Box::new(Kept::new(slots, weights, idle, costs))))
    }
}

impl<K> Aside<K> {
    /// For an empty shard; `part` is the shard's part of the bound on weight, `None` without a weigher.
    pub(crate) fn new(part: Option<WeightPart>, idle: bool, costs: bool) -> Self {
        let keeps_any = part.is_some() || idle || costs;
        let weights = part.map(|part| Weights::new(0, part));
        Self(keeps_any.then(|| Box::new(Kept::new(0, weights, idle, costs))))
    }

    /// An empty one of the same kind.
    pub(crate) fn sized(&self, slots: usize) -> Self {
        self.0.as_ref().map_or(Self(None), |kept| kept.sized(slots))
    }

    /// Whether no entry has anything beside its slot.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.0.is_none()
    }

    /// Drops the box once what was kept for a few entries is gone: the shard is plain again.
    fn let_go(&mut self) {
        if self.0.as_ref().is_some_and(|kept| kept.is_done()) {
            self.0 = None;
        }
    }

    fn kept(&mut self) -> &mut Kept<K> {
        self.0.get_or_insert_with(|| Box::new(Kept::new(0, None, false, false)))
    }

    #[inline]
    pub(crate) fn missing(&self, id: SlotId) -> Option<&Missing<K>> {
        self.0.as_ref()?.missing.get(&id)
    }

    /// How many slots stand for "not found".
    #[inline]
    pub(crate) fn missing_len(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.missing.len())
    }

    pub(crate) fn set_missing(&mut self, id: SlotId, missing: Missing<K>) {
        self.kept().missing.insert(id, missing);
    }

    #[inline]
    pub(crate) fn take_missing(&mut self, id: SlotId) -> Option<Missing<K>> {
        // most caches hold no "not found", and then this is one comparison
        let missing = &mut self.0.as_mut()?.missing;
        if missing.is_empty() {
            return None;
        }
        let taken = missing.remove(&id);
        self.let_go();
        taken
    }

    #[inline]
    pub(crate) fn notes(&self, id: SlotId) -> Option<&Notes> {
        let notes = &self.0.as_ref()?.notes;
        if notes.is_empty() { None } else { notes.get(&id).map(|notes| &**notes) }
    }

    /// How many slots have notes.
    pub(crate) fn notes_len(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.notes.len())
    }

    pub(crate) fn set_notes(&mut self, id: SlotId, notes: Box<Notes>) {
        self.kept().notes.insert(id, notes);
    }

    /// Notes hold nothing of the user's: they may be dropped under the lock.
    #[inline]
    pub(crate) fn take_notes(&mut self, id: SlotId) -> Option<Box<Notes>> {
        let notes = &mut self.0.as_mut()?.notes;
        if notes.is_empty() {
            return None;
        }
        let taken = notes.remove(&id);
        self.let_go();
        taken
    }

    #[inline]
    pub(crate) fn units(&self, id: SlotId) -> u64 {
        self.weights().map_or(1, |weights| weights.of(id))
    }

    #[inline]
    pub(crate) fn set_units(&mut self, id: SlotId, units: u64) {
        if let Some(weights) = self.0.as_mut().and_then(|kept| kept.weights.as_mut()) {
            weights.set(id, units);
        }
    }

    /// Takes the units of an entry that leaves.
    #[inline]
    pub(crate) fn take_units(&mut self, id: SlotId) -> u64 {
        let units = self.units(id);
        self.set_units(id, 0);
        units
    }

    /// The weights of the entries, if there is a weigher.
    #[inline]
    pub(crate) fn weights(&self) -> Option<&Weights> {
        self.0.as_ref()?.weights.as_ref()
    }

    #[inline]
    fn used(&self) -> Option<&Vec<AtomicU64>> {
        self.0.as_ref()?.used.as_ref()
    }

    #[inline]
    pub(crate) fn last_use(&self, id: SlotId) -> Option<Tick> {
        self.used().map(|used| used[id as usize].load(Relaxed))
    }

    /// Whether times of use are kept.
    #[inline]
    pub(crate) fn has_idle(&self) -> bool {
        self.used().is_some()
    }

    /// Whether a slot has gone unused for longer than `idle`; if not, notes that it is used now.
    #[inline]
    pub(crate) fn is_idle(&self, id: SlotId, idle: u64, now: Tick) -> bool {
        // one test in most caches, which have no time to idle
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
        if let Some(used) = self.used() {
            used[id as usize].store(now, Relaxed);
        }
    }

    /// How many ticks the value took to load; zero if it is not known.
    #[inline]
    pub(crate) fn cost(&self, id: SlotId) -> u64 {
        let costs = self.0.as_ref().and_then(|kept| kept.costs.as_ref());
        costs.map_or(0, |costs| costs[id as usize].into())
    }

    #[inline]
    pub(crate) fn set_cost(&mut self, id: SlotId, took: u64) {
        if let Some(costs) = self.0.as_mut().and_then(|kept| kept.costs.as_mut()) {
            costs[id as usize] = u16::try_from(took).unwrap_or(u16::MAX);
        }
    }

    /// Carries the data of slot `old` of the table before it grew to slot `new` of the table after.
    pub(crate) fn carry(&mut self, to: &mut Self, old: SlotId, new: SlotId) {
        if self.is_bare() {
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::expiry::Stamp;

    fn missing(key: u64) -> Missing<u64> {
        Missing { key, stamp: Stamp::new(0, 1) }
    }

    #[test]
    fn a_plain_shard_is_plain_again_when_what_few_had_is_gone() {
        let mut aside = Aside::new(None, false, false).sized(16);
        assert!(aside.is_bare());
        aside.set_missing(1, missing(1));
        aside.set_notes(2, Box::default());
        aside.set_missing(3, missing(3));
        assert!(aside.take_missing(1).is_some() && aside.take_notes(2).is_some());
        assert!(!aside.is_bare(), "one is left");
        assert!(aside.take_missing(3).is_some() && aside.is_bare());
        assert!(aside.take_missing(3).is_none() && aside.take_notes(3).is_none());
    }

    #[test]
    fn what_is_kept_of_all_entries_stays() {
        let mut aside = Aside::new(Some(WeightPart::of(10, 1)), false, false).sized(16);
        aside.set_units(5, 7);
        aside.set_missing(1, missing(1));
        assert!(aside.take_missing(1).is_some() && !aside.is_bare());
        assert_eq!(aside.units(5), 7);
    }
}
