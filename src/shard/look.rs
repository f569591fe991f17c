//! Looking a key up.

use super::Shard;
use super::ask::Ask;
use super::entry::{Entry, Notes, Terms};
use crate::parts::eviction::SlotId;
use crate::parts::flight::Flight;
use crate::parts::group::{COLD, Hash, TAGGED};
use crate::parts::tags::Tagged;
use crate::rules::expiry::{Lives, NEVER, Stamp, duration};
use crate::rules::got::{Got, How};
use crate::words::tick::Tick;
use equivalent::Equivalent;

/// What a look-up found.
pub(crate) enum Looked<R> {
    /// A value within its life, or what was read from it.
    Value(R),
    /// A cached "not found": the source was asked lately, and has none.
    Missing,
    /// Nothing that may be served.
    Nothing,
}

/// What a look-up found in the key's home group.
pub(crate) enum AtHome<R> {
    /// A value that is fresh by the cheapest reading of the time, or what was read from it.
    Value(R),
    /// Nothing, and there is nothing elsewhere either.
    Nothing,
    /// Nothing. There may be a value in one of the next groups, but no cached "not found".
    Beyond,
    /// A closer look is needed, there or elsewhere.
    Unsure,
}

/// Tells a look-up the time, if it has to ask.
pub(crate) trait Time {
    /// Whether `at` is surely still to come; after `false`, ask [`now`](Self::now).
    fn is_before(&self, at: Tick) -> bool;
    fn now(&self) -> Tick;
}

/// Whether a life still lasts, by the cheapest reading of the time that can tell.
#[inline]
fn is_fresh(stamp: Stamp, time: &impl Time) -> bool {
    time.is_before(stamp.expiry()) || stamp.is_for_ever() || stamp.is_fresh(time.now())
}

impl<K, V> Shard<K, V> {
    /// Looks a key up. A hit raises the slot's heat by one and, with a time to idle, notes the time; both
    /// under a shared lock. The time is asked for only if a value was found whose life ends.
    #[inline]
    pub(crate) fn get<Q, R>(
        &self,
        hash: Hash,
        key: &Q,
        lives: &Lives,
        time: &impl Time,
        read: impl FnOnce(SlotId, &Entry<K, V>) -> R,
    ) -> Looked<R>
    where
        Q: ?Sized + Equivalent<K>,
    {
        match self.get_elsewhere(hash, key, lives, time) {
            Looked::Value((id, entry)) => Looked::Value(read(id, entry)),
            Looked::Missing => Looked::Missing,
            Looked::Nothing => Looked::Nothing,
        }
    }

    /// The part of [`get`](Self::get) in which most look-ups end, without any function call but those of
    /// `is_fresh`: it finds a value in its home group that is fresh by `is_fresh` and has no tags, or nothing
    /// there and nothing elsewhere. Only for caches in which no use prolongs a life.
    #[inline]
    pub(crate) fn glance<Q, R>(
        &self,
        hash: Hash,
        key: &Q,
        is_fresh: impl Fn(Stamp) -> bool,
        read: impl FnOnce(&Entry<K, V>) -> R,
    ) -> AtHome<R>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let Some((_, group)) = self.table.home(hash) else { return AtHome::Nothing };
        for lane in group.tagged(hash.tag()) {
            if let Some(entry) = &group.slots[lane] {
                if key.equivalent(&entry.key) {
                    if !is_fresh(entry.stamp) {
                        return AtHome::Unsure;
                    }
                    // most entries have the highest heat and no tags: one test checks both
                    let mark = group.mark(lane);
                    if mark & (COLD | TAGGED) != 0 {
                        if mark & TAGGED != 0 {
                            return AtHome::Unsure;
                        }
                        group.warm_from(lane, mark);
                    }
                    return AtHome::Value(read(entry));
                }
            }
        }
        if self.aside.missing_len() > 0 {
            AtHome::Unsure
        } else if group.is_passed_by(hash) {
            AtHome::Beyond
        } else {
            AtHome::Nothing
        }
    }

    /// The same for the next groups, after it found nothing at home but [`AtHome::Beyond`].
    #[inline]
    pub(crate) fn glance_beyond<Q, R>(
        &self,
        hash: Hash,
        key: &Q,
        is_fresh: impl Fn(Stamp) -> bool,
        read: impl Fn(&Entry<K, V>) -> R,
    ) -> AtHome<R>
    where
        Q: ?Sized + Equivalent<K>,
    {
        debug_assert!(self.aside.missing_len() == 0, "a \"not found\" takes the full path");
        let Some((home, _)) = self.table.home(hash) else { return AtHome::Nothing };
        let found = self.table.find_beyond(hash, home, |_, group, lane| {
            let entry = group.slots[lane].as_ref().filter(|entry| key.equivalent(&entry.key))?;
            if !is_fresh(entry.stamp) || group.has_tags(lane) {
                return Some(AtHome::Unsure);
            }
            group.warm(lane);
            Some(AtHome::Value(read(entry)))
        });
        found.unwrap_or(AtHome::Nothing)
    }

    fn serves(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, time: &impl Time) -> bool {
        if !self.aside.has_idle() {
            return is_fresh(entry.stamp, time);
        }
        let now = time.now();
        entry.stamp.is_fresh(now) && !self.aside.is_idle(id, lives.idle, now)
    }

    /// [`get`](Self::get) in full, kept apart from the look-ups that end at home: the key may be in another
    /// group, or a cached "not found", or absent.
    #[inline(never)]
    pub(crate) fn get_elsewhere<Q>(
        &self,
        hash: Hash,
        key: &Q,
        lives: &Lives,
        time: &impl Time,
    ) -> Looked<(SlotId, &Entry<K, V>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let found = self.table.find(hash, |id, group, lane| {
            let (serves, found) = match &group.slots[lane] {
                Some(entry) if key.equivalent(&entry.key) => {
                    (self.serves(id, entry, lives, time), Looked::Value((id, entry)))
                }
                Some(_) => return None,
                None => {
                    let missing = self.aside.missing(id).filter(|m| key.equivalent(&m.key))?;
                    (missing.stamp.is_fresh(time.now()), Looked::Missing)
                }
            };
            if !serves || group.has_tags(lane) && self.cut(id) < Tick::MAX {
                return Some(Looked::Nothing);
            }
            group.warm(lane);
            Some(found)
        });
        found.unwrap_or(Looked::Nothing)
    }

    /// As [`get`](Self::get), but leaves no mark, and also shows a value past its life for as long as a
    /// window keeps it.
    pub(crate) fn peek<Q>(
        &self,
        hash: Hash,
        key: &Q,
        terms: &Terms<'_>,
    ) -> Option<(SlotId, &Entry<K, V>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let id = self.locate(hash, key).filter(|&id| !self.is_gone(id, terms))?;
        Some((id, self.table.entry(id)?))
    }

    /// Whether a key has an entry that is not gone: a value, or a "not found".
    pub(crate) fn stands<Q>(&self, hash: Hash, key: &Q, terms: &Terms<'_>) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.locate(hash, key).is_some_and(|id| !self.is_gone(id, terms))
    }

    /// The stamp of such an entry.
    pub(crate) fn stamp<Q>(&self, hash: Hash, key: &Q, terms: &Terms<'_>) -> Option<Stamp>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let id = self.locate(hash, key).filter(|&id| !self.is_gone(id, terms))?;
        match self.table.entry(id) {
            Some(entry) => Some(entry.stamp),
            None => self.aside.missing(id).map(|missing| missing.stamp),
        }
    }

    /// What a load is to replace: its key's value, if it is not gone, and its notes.
    pub(crate) fn old(
        &self,
        flight: &Flight<K, V>,
        terms: &Terms<'_>,
    ) -> Option<(V, Option<Box<Notes>>)>
    where
        K: Eq,
        V: Clone,
    {
        let (id, entry) = self.peek(Hash::new(flight.hash), &flight.key, terms)?;
        Some((entry.value.clone(), self.aside.notes(id).cloned().map(Box::new)))
    }

    /// The result for an entry that is fresh: its value with its metadata. Clones the value: shared lock
    /// only.
    pub(crate) fn got(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, now: Tick) -> Got<V>
    where
        V: Clone,
    {
        let mut left = entry.stamp.fresh_for(now);
        if lives.idle < NEVER || self.cut(id) < Tick::MAX {
            left = left.min(self.expiry(id, entry, lives).saturating_sub(now));
        }
        let age = duration(entry.stamp.age(now));
        let validator = self.aside.notes(id).and_then(|notes| notes.validator.clone());
        Got::new(entry.value.clone(), How::Fresh, age, duration(left), validator)
    }

    /// What is left of a fresh entry's life, if it is used, and for how long it has not been: zero where
    /// nobody keeps that. In ticks.
    #[cfg(feature = "snapshot")]
    pub(crate) fn life_left(&self, id: SlotId, entry: &Entry<K, V>, now: Tick) -> (u64, u64) {
        let left = entry.stamp.fresh_for(now).min(self.cut(id).saturating_sub(now));
        let unused = self.aside.last_use(id).map_or(0, |used| now.saturating_sub(used));
        (left, unused)
    }

    /// The tags of what stands in a slot.
    pub(crate) fn tags(&self, id: SlotId) -> Option<Tagged> {
        self.aside.notes(id)?.tags.clone()
    }

    /// A value that a caller whose load came to nothing may be served: one past its life, if this caller
    /// accepts its age, or a fresh one, if there is one by now.
    pub(crate) fn servable<Q>(
        &self,
        hash: u64,
        key: &Q,
        ask: &Ask,
        terms: &Terms<'_>,
    ) -> Option<(SlotId, &Entry<K, V>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let found = self.peek(Hash::new(hash), key, terms);
        found.filter(|(_, entry)| ask.accepts(entry.stamp.age(terms.now)))
    }
}
