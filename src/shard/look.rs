//! Looking a key up: reading it, and deciding who loads it.

use super::Shard;
use super::entry::{Entry, Terms};
use crate::parts::eviction::{Policy, SlotId};
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::table::id;
use crate::rules::expiry::{Lives, NEVER, duration};
use crate::rules::got::{Got, How};
use crate::rules::loaded::LoadReason;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;

/// What a look-up found.
pub(crate) enum Looked<R> {
    /// A value within its life, or what was read of it.
    Value(R),
    /// The source was asked lately, and has none.
    Missing,
    /// Nothing that may be served.
    Nothing,
}

/// What a caller that found nothing is to do, decided in one critical section.
pub(crate) enum Role<K, V> {
    /// There is an answer now: look again.
    Look,
    /// Somebody is loading the key: wait for it.
    Follow(Arc<Flight<K, V>>),
    /// Load it. `overdue` is a flight that just lost the key to its timeout, and is to be told.
    Lead { flight: Arc<Flight<K, V>>, reason: LoadReason, overdue: Option<Arc<Flight<K, V>>> },
}

/// What a caller who may load says about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask {
    /// Load also where it is known that the source has none.
    pub(crate) over_missing: bool,
    /// The load is one of several that one loader does at once: they are counted together.
    pub(crate) in_batch: bool,
}

/// What a look-up asks about the time, if it comes to that.
pub(crate) trait Time {
    /// Whether `at` is still to come; `false` means that [`now`](Self::now) is to be asked.
    fn is_before(&self, at: Tick) -> bool;
    fn now(&self) -> Tick;
}

impl<K, V> Shard<K, V> {
    /// A hit leaves a mark of one bit of heat and, with a time to idle, the time; both under a
    /// shared lock. The time is asked for only where a value was found whose life ends.
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
        match self.get_at_home(hash, key, lives, time, read) {
            Ok(found) => Looked::Value(found),
            Err(read) => match self.get_elsewhere(hash, key, lives, time) {
                Looked::Value((id, entry)) => Looked::Value(read(id, entry)),
                Looked::Missing => Looked::Missing,
                Looked::Nothing => Looked::Nothing,
            },
        }
    }

    /// The part of [`get`](Self::get) that most hits end in: a fresh value in its home group.
    /// Gives `read` back if it is another case.
    #[inline]
    pub(crate) fn get_at_home<Q, R, F>(
        &self,
        hash: Hash,
        key: &Q,
        lives: &Lives,
        time: &impl Time,
        read: F,
    ) -> Result<R, F>
    where
        Q: ?Sized + Equivalent<K>,
        F: FnOnce(SlotId, &Entry<K, V>) -> R,
    {
        let Some((home, group)) = self.table.home(hash) else { return Err(read) };
        for lane in group.tagged(hash.tag()) {
            if let Some(entry) = &group.slots[lane] {
                if key.equivalent(&entry.key) {
                    let id = id(home, lane);
                    if !self.serves(id, entry, lives, time) {
                        break;
                    }
                    group.warm(lane);
                    return Ok(read(id, entry));
                }
            }
        }
        Err(read)
    }

    #[inline]
    fn serves(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, time: &impl Time) -> bool {
        if self.aside.has_idle() {
            return self.serves_unless_idle(id, entry, lives, time);
        }
        time.is_before(entry.stamp.expiry())
            || entry.stamp.is_for_ever()
            || entry.stamp.is_fresh(time.now())
    }

    #[inline(never)]
    fn serves_unless_idle(
        &self,
        id: SlotId,
        entry: &Entry<K, V>,
        lives: &Lives,
        time: &impl Time,
    ) -> bool {
        let now = time.now();
        entry.stamp.is_fresh(now) && !self.aside.is_idle(id, lives.idle, now)
    }

    /// [`get`](Self::get) in full, kept out of the way of the look-ups that end at home: the key
    /// may stand in another group, or as a cached "not found", or not at all.
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
        if self.aside.missing_len() == 0
            && self.table.home(hash).is_none_or(|at| at.1.rules_out(hash))
        {
            return Looked::Nothing;
        }
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
            if !serves {
                return Some(Looked::Nothing);
            }
            group.warm(lane);
            Some(found)
        });
        found.unwrap_or(Looked::Nothing)
    }

    /// As [`get`](Self::get), but leaves no mark, and what is past its life is shown for as long
    /// as a window keeps it.
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

    /// A fresh entry with what there is to say about it. Clones the value: shared lock only.
    pub(crate) fn got(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, now: Tick) -> Got<V>
    where
        V: Clone,
    {
        let mut left = entry.stamp.fresh_for(now);
        if lives.idle < NEVER {
            left = left.min(self.expiry(id, entry, lives).saturating_sub(now));
        }
        let age = duration(entry.stamp.age(now));
        let validator = self.aside.notes(id).and_then(|notes| notes.validator.clone());
        Got::new(entry.value.clone(), How::Fresh, age, duration(left), validator)
    }

    /// The whole decision of a caller that found nothing, in one critical section: there is no gap
    /// between looking and joining in which a load could land unseen and be done twice.
    pub(crate) fn join<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        owned: &mut Option<K>,
        ask: Ask,
        terms: &Terms<'_>,
        load_timeout: u64,
    ) -> Role<K, V>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let standing = self.locate(Hash::new(hash), key);
        let reason = match standing {
            None => LoadReason::Miss,
            Some(id) if self.is_gone(id, terms) => LoadReason::Expired,
            Some(id) if ask.over_missing && self.table.entry(id).is_none() => LoadReason::Miss,
            Some(_) => return Role::Look,
        };
        let mut overdue = None;
        if let Some(flight) = self.board.get(hash, key) {
            if terms.now < flight.started().saturating_add(load_timeout) {
                flight.follow();
                return Role::Follow(Arc::clone(flight));
            }
            let flight = Arc::clone(flight);
            flight.ground();
            self.board.take(&flight);
            overdue = Some(flight);
        }
        let Some(key) = owned.take() else { return Role::Look };
        self.policy.expect(&self.table, Hash::new(hash).bits());
        let flight = Arc::new(Flight::new(key, hash, standing.is_none(), terms.now));
        self.board.post(Arc::clone(&flight));
        Role::Lead { flight, reason, overdue }
    }
}
