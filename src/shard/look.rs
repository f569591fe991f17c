//! Looking a key up: reading it, and deciding who loads it.

use super::Shard;
use super::entry::{Entry, Terms};
use crate::parts::eviction::SlotId;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::rules::expiry::{Lives, NEVER, duration};
use crate::rules::got::{Got, How};
use crate::rules::loaded::LoadReason;
use crate::words::clock::Tick;
use equivalent::Equivalent;
use std::sync::Arc;

/// What a look-up found.
pub(crate) enum Found<'s, K, V> {
    /// A value within its life.
    Fresh(SlotId, &'s Entry<K, V>),
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
}

impl<K, V> Shard<K, V> {
    /// A hit leaves a mark of one bit of heat and, with a time to idle, the time; both under a
    /// shared lock.
    #[inline]
    pub(crate) fn get<Q>(
        &self,
        hash: Hash,
        key: &Q,
        lives: &Lives,
        now: impl FnOnce() -> Tick,
    ) -> Found<'_, K, V>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let found = self.table.find(hash, |id, group, lane| match &group.slots[lane] {
            Some(entry) => key.equivalent(&entry.key).then_some((id, Some((entry, group, lane)))),
            None => self.is_missing(id, key).then_some((id, None)),
        });
        match found {
            None => Found::Nothing,
            Some((id, Some((entry, group, lane)))) => {
                let now = now();
                if now >= self.expiry(id, entry, lives) {
                    return Found::Nothing;
                }
                group.warm(lane);
                self.aside.touch(id, now);
                Found::Fresh(id, entry)
            }
            Some((id, None)) => match self.aside.missing(id) {
                Some(missing) if missing.stamp.is_fresh(now()) => {
                    self.table.warm(id);
                    Found::Missing
                }
                _ => Found::Nothing,
            },
        }
    }

    /// As [`get`](Self::get), but leaves no mark.
    pub(crate) fn peek<Q>(&self, hash: Hash, key: &Q, terms: &Terms<'_>) -> Found<'_, K, V>
    where
        Q: ?Sized + Equivalent<K>,
    {
        match self.locate(hash, key) {
            Some(id) if !self.is_gone(id, terms) => {
                self.table.entry(id).map_or(Found::Missing, |entry| Found::Fresh(id, entry))
            }
            _ => Found::Nothing,
        }
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
        Got::new(entry.value.clone(), How::Fresh, age, duration(left))
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
        let flight = Arc::new(Flight::new(key, hash, terms.now));
        self.board.post(Arc::clone(&flight));
        Role::Lead { flight, reason, overdue }
    }

    #[cold]
    fn is_missing<Q>(&self, id: SlotId, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.aside.missing(id).is_some_and(|missing| key.equivalent(&missing.key))
    }
}
