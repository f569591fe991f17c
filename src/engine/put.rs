//! Storing. Every value enters the map here, whoever brings it, except for the result of a load that nobody
//! else knows of ([`solo`](super::solo)), and for what is written where nothing is under way
//! ([`insert`](super::insert)).

use super::store::Store;
use crate::parts::credit::Credit;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::moments::Unasked;
use crate::parts::reservation::Basis;
use crate::parts::tags::TagFate;
use crate::parts::written::Written;
use crate::rules::expiry::NEVER;
use crate::shard::Shard;
use crate::shard::entry::{Notes, Put, Terms};
use crate::shard::outbox::Outbox;
use crate::words::sync::WriteGuard;
use std::sync::Arc;

/// Who brings a value, and so on what condition it may be stored: seven conditions. What follows from it has
/// fewer cases: see [`is_wanted`](Self::is_wanted).
pub(crate) enum By<'a, K, V> {
    /// Somebody wrote it: it is newer than the result of any load.
    Write,
    /// It was made from the current value: store it if nothing has happened to the key since that was looked
    /// at.
    Change(&'a Basis<'a>),
    /// A write in progress at the source brought it: store it if nothing else has happened to the key since
    /// the write began.
    Fence,
    /// A load brought it: store it if the key is still this flight's.
    Flight(&'a Arc<Flight<K, V>>),
    /// A batch brought it without being asked for it: store it if nothing but this batch has happened to the
    /// key since the batch began.
    Extra(&'a Unasked),
    /// The second tier has it as an expired value, to be served if this flight fails: store it if the key is
    /// still the flight's, and has no entry.
    Shown(&'a Arc<Flight<K, V>>),
    /// It comes from an earlier process: store it if nothing has happened to the key since its snapshot began
    /// to be read, and the key has no entry.
    #[cfg_attr(not(feature = "snapshot"), allow(dead_code, reason = "made by snapshots"))]
    Restored(&'a Written),
}

impl<K, V> By<'_, K, V> {
    /// Whether somebody wrote the value or asked for it. If it cannot be kept, its key is left with nothing; if
    /// nobody asked for it, all stays as it is.
    fn is_wanted(self) -> bool {
        match self {
            Self::Write | Self::Change(_) | Self::Fence | Self::Flight(_) => true,
            Self::Extra(_) | Self::Shown(_) | Self::Restored(_) => false,
        }
    }
}

impl<K, V> Clone for By<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for By<'_, K, V> {}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is in the cache, for so many ticks.
    Yes(u64),
    /// It was not stored: its time to live is zero, or it weighs more than the whole cache may.
    No,
    /// Something newer had happened to the key, or to a tag of the value.
    Fenced,
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// How much of the budget an entry takes. The user's weigher runs here, outside of all locks.
    pub(crate) fn units(&self, key: &K, value: Option<&V>) -> u64 {
        match (&self.weigher, value) {
            (Some(weigher), Some(value)) => weigher(key, value),
            _ => 1,
        }
    }

    /// Something was stored that lives for so many ticks: sees to it that it will be swept.
    #[inline]
    pub(super) fn will_expire(&self, life: u64) {
        if life < NEVER || self.lives.idle < NEVER {
            self.request_sweep();
        }
    }

    /// Stores the value, if the condition `by` holds. One that is not stored leaves with the rest in `out`: its
    /// `Drop` may wait for somebody who waits for this load.
    pub(super) fn put(
        &self,
        hash: u64,
        put: Put<K, V>,
        by: By<'_, K, V>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        let mut put = Some(put);
        let stored = self.put_locked(hash, &mut put, by, out, self.cell(hash).shard.write());
        if let Some(Put { key, value, .. }) = put {
            out.unstored(key, value);
        }
        stored
    }

    /// The same for a caller that has the lock. A value that is not stored stays in `put`, to be dropped when
    /// no lock is held. When this returns, left-over room has gone back to the budget: user code that is
    /// called next may need it.
    pub(super) fn put_locked(
        &self,
        hash: u64,
        put: &mut Option<Put<K, V>>,
        by: By<'_, K, V>,
        out: &mut Outbox<K, V>,
        shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Stored {
        let mut credit = Credit::new(&self.budget);
        match self.try_put(hash, put, by, &mut credit, out, shard) {
            Some(stored) => stored,
            None => self.put_with_room_of_others(hash, put, by, credit, out),
        }
    }

    /// The source still has the cached value: begins a new life of it. `None` if the entry is gone, evicted
    /// or swept while the source was asked; then the value has to be stored anew.
    pub(super) fn renew(
        &self,
        flight: &Arc<Flight<K, V>>,
        ttl: u64,
        notes: Option<&Notes>,
        out: &mut Outbox<K, V>,
    ) -> Option<Stored> {
        let mut shard = self.cell(flight.hash).shard.write();
        let had_key = shard.take_off(flight);
        let is_outdated = notes.is_some_and(|notes| notes.fate() != TagFate::Untouched);
        if !had_key || is_outdated || shard.is_fenced(flight.hash, &flight.key) {
            return Some(Stored::Fenced);
        }
        let terms = self.terms();
        let Some(stamp) = shard.renew(flight, ttl, notes.cloned().map(Box::new), &terms) else {
            shard.put_back(flight);
            return None;
        };
        shard.forgive(flight.hash, &flight.key, out);
        self.ledger.note(flight.hash);
        drop(shard);
        self.counts.unchanged.add(1);
        let life = stamp.fresh_for(terms.now);
        self.will_expire(life);
        Some(Stored::Yes(life))
    }

    /// Ends a load that succeeded and whose result is not to be stored.
    pub(super) fn leave_alone(&self, flight: &Arc<Flight<K, V>>, out: &mut Outbox<K, V>) -> Stored {
        let mut shard = self.cell(flight.hash).shard.write();
        if shard.take_off(flight) {
            shard.forgive(flight.hash, &flight.key, out);
        }
        Stored::No
    }

    /// Whether the key's value is on its way from somebody else: a running load will bring its own, and a
    /// source that has a write pending told of an old one.
    fn is_under_way(&self, shard: &Shard<K, V>, hash: u64, put: &Put<K, V>) -> bool {
        shard.is_loading(hash, &put.key)
            || shard.is_fenced(hash, &put.key)
            || self.queues.holds(hash, &|other| *other == put.key)
            || put.is_outdated()
    }

    /// Takes the key from whatever is older than the value (nothing, if nobody may lose it: see [`By`]). Returns
    /// whether the condition `by` holds.
    #[inline]
    fn take_key(
        &self,
        hash: u64,
        put: &Put<K, V>,
        by: By<'_, K, V>,
        shard: &mut Shard<K, V>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> bool {
        let stands = |shard: &Shard<K, V>| shard.stands(Hash::new(hash), &put.key, terms);
        match by {
            By::Write => {
                shard.fence(hash, &put.key, out);
                true
            }
            By::Change(basis) => {
                // a life that it was to keep may have ended while it made room
                let holds = basis.holds(&self.tags) && !put.is_over(terms.now);
                if holds {
                    shard.fence(hash, &put.key, out);
                }
                holds
            }
            By::Fence => {
                let is_undisputed = shard.is_undisputed(hash, &put.key);
                if is_undisputed {
                    shard.ground(hash, &put.key, out);
                }
                is_undisputed
            }
            // if the key is being written at the source, the load may have read before the write or after it;
            // and a tag of its value may have been removed, or expired, since it began
            By::Flight(flight) => {
                shard.take_off(flight) && !shard.is_fenced(hash, &put.key) && !put.is_outdated()
            }
            By::Extra(unasked) => {
                self.ledger.is_quiet_for(hash, unasked) && !self.is_under_way(shard, hash, put)
            }
            By::Shown(flight) => {
                !flight.is_grounded()
                    && !shard.is_fenced(hash, &put.key)
                    && !stands(shard)
                    && !put.is_outdated()
            }
            By::Restored(written) => {
                !stands(shard) && !written.has(hash) && !self.is_under_way(shard, hash, put)
            }
        }
    }

    /// One attempt, within the key's own shard. `None` if the room has to come from other shards.
    pub(super) fn try_put(
        &self,
        hash: u64,
        slot: &mut Option<Put<K, V>>,
        by: By<'_, K, V>,
        credit: &mut Credit<'_>,
        out: &mut Outbox<K, V>,
        mut shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Option<Stored> {
        let Some(put) = slot.as_ref() else { return Some(Stored::No) };
        let terms = self.terms();
        if !self.take_key(hash, put, by, &mut shard, &terms, out) {
            return Some(Stored::Fenced);
        }
        if !matches!(by, By::Shown(_)) {
            shard.forgive(hash, &put.key, out);
        }
        if put.ttl == 0 || put.units > self.budget.max() {
            if by.is_wanted() {
                self.ledger.note(hash);
                shard.refuse(slot, &terms, out);
            }
            return Some(Stored::No);
        }
        let is_absent = matches!(by, By::Flight(flight) if flight.is_absent());
        let standing = if is_absent { None } else { shard.slot(put.hash, &put.key) };
        // from here on no user code runs
        match shard.store(slot.take()?, standing, credit, &terms, out) {
            Ok(stamp) => {
                // not before: at a second attempt a change, or a batch, would take its own note for another's
                match by {
                    By::Write | By::Fence | By::Flight(_) => self.ledger.note(hash),
                    By::Change(_) => self.ledger.note_change(hash),
                    By::Extra(unasked) => self.ledger.note_unasked(hash, unasked),
                    // restored entries are many, and older than anything that a batch brings
                    By::Restored(_) => self.ledger.note_for_changes(hash),
                    By::Shown(flight) => flight.stand(),
                }
                drop(shard);
                let life = stamp.fresh_for(terms.now);
                self.will_expire(life);
                Some(Stored::Yes(life))
            }
            Err(put) => {
                if let By::Flight(flight) = by {
                    shard.put_back(flight);
                }
                *slot = Some(put);
                None
            }
        }
    }
}
