//! The state of the changes on their way to a second tier, as plain data: the queue, each key's last change, and
//! which changes replace earlier ones.

use super::InHand;
use crate::rules::tag::Tag;
use crate::rules::tier::{TierChange, TierError};
use crate::words::tick::Tick;
use crate::words::tier_key::TierKey;
use crate::words::wakers::Wakers;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::task::Waker;
use std::time::Instant;

/// How many changes there may be. While a tier cannot be reached each costs its key; beyond this many the
/// whole tier is to be emptied instead, which is one change.
pub(super) const MOST: usize = 1 << 16;

/// How many changes are made in one call: with a tier that is a millisecond away, 100,000 a second.
pub(super) const AT_ONCE: usize = 128;

pub(super) struct State<K, V> {
    /// The changes that the worker has not taken yet, in order.
    pub(super) line: VecDeque<InLine<K, V>>,
    /// Each key's last change that is not made yet.
    pub(super) of_keys: HashMap<TierKey, LastChange, ahash::RandomState>,
    /// The keys and tags of the tagged values among the changes that the worker has taken.
    pub(super) tagged_in_hand: Vec<(TierKey, Vec<Tag>)>,
    /// The numbers of the changes of more than one key that are not made yet, and for each the number of the
    /// first change that it stands for: its own, or an earlier one that it has replaced.
    pub(super) of_all: BTreeMap<u64, u64>,
    /// How many more of these are about to be noted.
    pub(super) announced: usize,
    /// Of the changes that stand for earlier ones: the number of the first of those, and their own.
    pub(super) replacing: BTreeSet<(u64, u64)>,
    /// The last number that was given.
    pub(super) last: u64,
    /// That of the last written value.
    pub(super) last_write: u64,
    /// All changes up to this number are made, or need not be made any more, but for those that were
    /// [replaced](Self::replacing): they are made when what stands for them is.
    pub(super) made: u64,
    /// The error of the last try, if it failed. Changes behind it in the line wait for it.
    pub(super) failed: Option<TierError>,
    /// Somebody has waited for room in vain since the last change was made.
    pub(super) is_stuck: bool,
    /// Set when no more changes will come: until when those that are left are tried though others fail.
    pub(super) closed_until: Option<Instant>,
    /// The worker has ended.
    pub(super) is_over: bool,
    pub(super) worker: Option<Waker>,
    pub(super) waiting: Wakers,
}

/// A change that the worker has not taken yet.
pub(super) struct InLine<K, V> {
    pub(super) number: u64,
    /// `None` where a later one took the place.
    pub(super) change: Option<TierChange<K, V>>,
    /// When it was noted: lives go on while they wait.
    pub(super) since: Tick,
}

/// The last change of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastChange {
    pub(super) number: u64,
    /// The number of the first change that it stands for: its own, or that of an earlier one that it has
    /// replaced. Whoever waits for that one waits for this one.
    pub(super) first: u64,
    /// It brings a loaded value, which invalidates nothing in the tier.
    pub(super) is_load: bool,
    /// It brings a written value, or expires one that the worker has taken and that may not be there yet.
    pub(super) is_write: bool,
}

impl<K, V> State<K, V> {
    pub(super) fn new() -> Self {
        Self {
            line: VecDeque::new(),
            of_keys: HashMap::default(),
            tagged_in_hand: Vec::new(),
            of_all: BTreeMap::new(),
            announced: 0,
            replacing: BTreeSet::new(),
            last: 0,
            last_write: 0,
            made: 0,
            failed: None,
            is_stuck: false,
            closed_until: None,
            is_over: false,
            worker: None,
            waiting: Wakers::default(),
        }
    }

    pub(super) fn is_settled(&self, key: &TierKey) -> bool {
        self.concerns_none() && self.of_keys.get(key).is_none_or(|last| last.is_load)
    }

    /// Whether there is no change of more than one key.
    pub(super) fn concerns_none(&self) -> bool {
        self.of_all.is_empty() && self.announced == 0
    }

    pub(super) fn is_write(&self, key: &TierKey) -> bool {
        self.of_keys.get(key).is_some_and(|last| last.is_write)
    }

    /// The last change of a key expires what `before` has left there.
    pub(super) fn expires(&mut self, key: &TierKey, before: LastChange) {
        if let Some(last) = self.of_keys.get_mut(key) {
            last.is_write = before.is_write;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.of_keys.len() + self.of_all.len()
    }

    /// Whether no later change has taken the place of this one.
    pub(super) fn is_last(&self, number: u64, key: Option<&TierKey>) -> bool {
        match key {
            Some(key) => self.of_keys.get(key).is_some_and(|last| last.number == number),
            None => self.of_all.contains_key(&number),
        }
    }

    /// Whether a change up to this number was replaced by one that is not made yet.
    pub(super) fn is_replaced(&self, number: u64) -> bool {
        self.replacing.first().is_some_and(|(first, _)| *first <= number)
    }

    /// The last change of a key takes the place of the one before. Returns that, if the worker has not taken
    /// it yet.
    pub(super) fn replace(
        &mut self,
        key: &TierKey,
        before: LastChange,
    ) -> Option<TierChange<K, V>> {
        if !before.is_load {
            self.stand_for(key, before.first, before);
        }
        self.take_out(before.number)
    }

    /// The last change of a key stands for all from `first` on, as `before` has done.
    fn stand_for(&mut self, key: &TierKey, first: u64, before: LastChange) {
        self.replacing.remove(&(before.first, before.number));
        if let Some(last) = self.of_keys.get_mut(key) {
            last.first = first.min(last.number);
            if last.first < last.number {
                self.replacing.insert((last.first, last.number));
            }
        }
    }

    /// Keeps the line from growing without end. `number` is the last change's.
    pub(super) fn bound(&mut self, number: u64, now: Tick, replaced: &mut Vec<TierChange<K, V>>) {
        if self.len() > MOST {
            // loaded values invalidate nothing in the tier, and need not get there
            self.drop_loads(replaced);
            self.line.retain(|waits| waits.change.is_some());
        }
        if self.len() > MOST {
            replaced.extend(self.line.drain(..).filter_map(|waits| waits.change));
            self.line.push_back(InLine { number, change: Some(TierChange::Clear), since: now });
            self.of_keys.clear();
            // what the worker has in hand may fail, and is not tried again then
            let first = self.made + 1;
            self.of_all = BTreeMap::from([(number, first)]);
            self.replacing = BTreeSet::from([(first, number)]);
        } else if self.line.len() > 2 * self.len() + AT_ONCE {
            self.line.retain(|waits| waits.change.is_some());
        }
    }

    /// Takes out a change that the worker has not taken yet.
    fn take_out(&mut self, number: u64) -> Option<TierChange<K, V>> {
        let at = self.line.binary_search_by_key(&number, |waits| waits.number).ok()?;
        self.line[at].change.take()
    }

    /// The tier's value of a key is older than the one that was to be expired: turns the expiry into a
    /// removal.
    pub(super) fn harden(&mut self, key: &TierKey) {
        let Some(last) = self.of_keys.get(key) else { return };
        let at = self.line.binary_search_by_key(&last.number, |waits| waits.number);
        let change = at.ok().and_then(|at| self.line.get_mut(at)?.change.as_mut());
        if let Some(place @ TierChange::Expire(_)) = change {
            *place = TierChange::Remove(key.clone());
        }
    }

    /// Forgets loaded values, also those in the line.
    pub(super) fn drop_loads(&mut self, dropped: &mut Vec<TierChange<K, V>>) {
        self.of_keys.retain(|_, last| !last.is_load);
        for InLine { change, .. } in &mut self.line {
            if matches!(change, Some(TierChange::Load(..))) {
                dropped.extend(change.take());
            }
        }
    }

    /// Nothing up to this number is left to be made. Returns the waiters to wake.
    pub(super) fn reach(&mut self, number: u64) -> Wakers {
        if number <= self.made {
            return Wakers::default();
        }
        self.made = number;
        self.waiting.take()
    }

    pub(super) fn settle(&mut self, hand: &InHand<K, V>) {
        for (&number, change) in hand.numbers.iter().zip(&hand.changes) {
            let Some(key) = change.key() else {
                if let Some(first) = self.of_all.remove(&number) {
                    self.replacing.remove(&(first, number));
                }
                continue;
            };
            let Some(&last) = self.of_keys.get(key) else { continue };
            if last.number == number {
                self.of_keys.remove(key);
                self.replacing.remove(&(last.first, number));
            } else if last.first <= number {
                // of those that it stands for, this one is made
                self.stand_for(key, number + 1, last);
            }
        }
        self.made = hand.numbers.last().copied().unwrap_or(0).max(self.made);
    }
}
