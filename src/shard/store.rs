//! Storing: room first, then the entry, so that the bound holds at every moment.

use super::Shard;
use super::entry::{Entry, Missing, Notes, Put, Terms};
use super::outbox::Outbox;
use crate::parts::credit::Credit;
use crate::parts::eviction::{Policy, SlotId, Slots};
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::table::{Claim, id};
use crate::rules::expiry::{NEVER, Stamp};
use crate::words::removal::RemovalCause;
use equivalent::Equivalent;

/// How many entries each insert checks for expiry: more than the one that it adds, so expired entries are
/// freed faster than new ones come.
const LOOKED_AT: usize = 4;
/// In at most so many slots: if most slots are free, there is little to free.
const SLOTS_LOOKED_AT: usize = 64;

impl<K, V> Shard<K, V> {
    /// Begins a new life of the value under a flight's key, which the source says is still current; `notes`
    /// replace the old ones. `None` if the key has no entry any more.
    pub(crate) fn renew(
        &mut self,
        flight: &Flight<K, V>,
        ttl: u64,
        notes: Option<Box<Notes>>,
        terms: &Terms<'_>,
    ) -> Option<Stamp>
    where
        K: Eq,
    {
        let id = self.locate(Hash::new(flight.hash), &flight.key)?;
        let stamp = self.draw_life(ttl, terms);
        self.table.entry_mut(id).as_mut()?.stamp = stamp;
        self.aside.touch(id, terms.now);
        if let Some(notes) = notes {
            self.note(id, notes);
        }
        self.expect_end_of(id, terms);
        self.table.warm(id);
        Some(stamp)
    }

    #[inline]
    fn draw_life(&mut self, ttl: u64, terms: &Terms<'_>) -> Stamp {
        let random = self.draw();
        terms.lives.stamp(terms.now, ttl, random)
    }

    fn expect_end_of(&mut self, id: SlotId, terms: &Terms<'_>) {
        let end = self.table.entry(id).map(|entry| self.end(id, entry, terms.lives));
        self.sweep.expects(end.unwrap_or(NEVER));
    }

    /// The slot of a key's entry, for [`store`](Self::store). Most entries are at home.
    // left to itself the compiler makes this a call: 24 instructions more, of an update's 250
    #[allow(clippy::inline_always, reason = "measured")]
    #[inline(always)]
    pub(crate) fn slot<Q>(&self, hash: Hash, key: &Q) -> Option<SlotId>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let (home, group) = self.table.home(hash)?;
        for lane in group.tagged(hash.tag()) {
            if let Some(entry) = &group.slots[lane] {
                if key.equivalent(&entry.key) {
                    return Some(id(home, lane));
                }
            }
        }
        if !group.is_passed_by(hash) && self.aside.is_bare() {
            None
        } else {
            self.locate(hash, key)
        }
    }

    /// Replaces the entry in the key's slot, if it has one, or else evicts what has to go first. Gives `put`
    /// back if the room must come from another shard, because this one has nothing left to evict, or clearly
    /// less than its share. No user code runs in here.
    #[inline]
    pub(crate) fn store(
        &mut self,
        put: Put<K, V>,
        standing: Option<SlotId>,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Result<Stamp, Put<K, V>> {
        self.examine(SLOTS_LOOKED_AT, LOOKED_AT, terms, out);
        // the old entry may just have been found expired
        let Some(id) = standing.filter(|&id| self.table.is_live(id)) else {
            return self.admit(put, credit, terms, out);
        };
        let cause = Self::cause_by(&put);
        let held = self.aside.units(id);
        if held != put.units {
            credit.add(held);
            if !credit.pay(put.units) {
                // it needs more room than its predecessor had: that goes, and this one is a newcomer
                self.aside.set_units(id, 0);
                self.vacate(id, cause, terms, out);
                self.bury(id, terms);
                return self.admit(put, credit, terms, out);
            }
        }
        // in place, under the same key: the policy counts it as a hit
        self.vacate(id, cause, terms, out);
        self.table.warm(id);
        Ok(self.fill(id, put, terms))
    }

    /// Why the value goes that this takes the place of: "there is none" is no newer value.
    #[inline]
    fn cause_by(put: &Put<K, V>) -> RemovalCause {
        if put.value.is_some() && put.ttl > 0 {
            RemovalCause::Replaced
        } else {
            RemovalCause::Removed
        }
    }

    /// Nothing stands under the key: the policy is asked, room is made, a slot is claimed. Otherwise as
    /// [`store`](Self::store).
    #[inline(never)]
    pub(crate) fn admit(
        &mut self,
        mut put: Put<K, V>,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Result<Stamp, Put<K, V>> {
        let (hash, units) = (put.hash, put.units);
        let admission = match put.admission {
            Some(admission) => admission,
            None => self.arrive(hash, units),
        };
        while !credit.pay(units) {
            let may_evict = credit.may_take_own() || !self.falls_short();
            let Some(freed) = may_evict.then(|| self.evict(terms, out)).flatten() else {
                put.admission = Some(admission);
                return Err(put);
            };
            credit.add(freed);
        }
        let Claim { id, was_dead } = self.claim(hash, credit, terms, out);
        if was_dead {
            self.revive(id, admission, units);
        } else {
            self.policy.place(&mut self.table, id, admission);
        }
        terms.budget.entered();
        Ok(self.fill(id, put, terms))
    }

    /// Refuses a value that has no life or weighs more than the whole cache may: the key's old entry goes,
    /// and no value disappears unreported.
    pub(crate) fn refuse(
        &mut self,
        slot: &mut Option<Put<K, V>>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) where
        K: Eq,
    {
        let Some(put) = slot.as_ref() else { return };
        let cause = Self::cause_by(put);
        // the key's `Eq` first: if that panics, what is refused is dropped after the lock
        self.remove(put.hash, &put.key, cause, terms, out);
        let Some(Put { key, value, ttl, .. }) = slot.take() else { return };
        match value {
            Some(value) if ttl > 0 => {
                self.tally.rejected += 1;
                out.value(key, value, RemovalCause::Rejected);
            }
            // the caller of a load has its value, and it is not in here; one that was written would vanish
            // unseen, and be dropped under the lock
            Some(value) => out.value(key, value, RemovalCause::Expired),
            None => out.key(key),
        }
    }

    #[inline]
    fn fill(&mut self, id: SlotId, put: Put<K, V>, terms: &Terms<'_>) -> Stamp {
        if !(self.aside.is_bare() && put.is_bare()) {
            return self.fill_in_full(id, put, terms);
        }
        let Put { key, value: Some(value), ttl, .. } = put else {
            return self.fill_in_full(id, put, terms);
        };
        let stamp = self.draw_life(ttl, terms);
        self.sweep.expects(terms.lives.windows.end(stamp.expiry()));
        *self.table.entry_mut(id) = Some(Entry { key, value, stamp });
        self.tally.insertions += 1;
        stamp
    }

    /// The same for an entry that is more than a value.
    #[inline(never)]
    fn fill_in_full(&mut self, id: SlotId, put: Put<K, V>, terms: &Terms<'_>) -> Stamp {
        let Put { key, value, units, ttl, took, notes, .. } = put;
        self.aside.set_units(id, units);
        self.aside.set_cost(id, took);
        let mut begun = None;
        if let Some(mut notes) = notes {
            begun = notes.begun.take();
            if !notes.is_empty() {
                self.note(id, notes);
            }
        }
        let Some(value) = value else {
            let stamp = Stamp::new(terms.now, ttl);
            self.sweep.expects(stamp.expiry());
            self.aside.set_missing(id, Missing { key, stamp });
            return stamp;
        };
        let stamp = match begun {
            None => self.draw_life(ttl, terms),
            Some(begun) => begun.stamp(terms.now, ttl),
        };
        let entry = Entry { key, value, stamp };
        self.aside.touch(id, begun.map_or(terms.now, |begun| begun.used(terms.now)));
        self.sweep.expects(self.end(id, &entry, terms.lives));
        *self.table.entry_mut(id) = Some(entry);
        self.tally.insertions += 1;
        stamp
    }

    #[cold]
    fn note(&mut self, id: SlotId, notes: Box<Notes>) {
        if notes.tags.is_some() && !self.table.has_tags(id) {
            self.table.set_has_tags(id, true);
            self.tagged += 1;
        }
        self.aside.set_notes(id, notes);
    }

    /// Evicts one entry, chosen by the policy. Returns the units set free, which belong to the caller now;
    /// `None` if nothing is left.
    pub(crate) fn evict(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) -> Option<u64> {
        let id = self.choose()?;
        if self.aside.is_bare() {
            if let Some(old) = self.table.evict(id) {
                let is_gone = terms.lives.windows.end(old.stamp.expiry()) <= terms.now;
                let cause = if is_gone { RemovalCause::Expired } else { RemovalCause::Evicted };
                self.tally.left(cause);
                out.value(old.key, old.value, cause);
            }
            terms.budget.left(1);
            return Some(1);
        }
        let units = self.aside.take_units(id);
        self.vacate(id, RemovalCause::Evicted, terms, out);
        self.table.free(id);
        terms.budget.left(1);
        Some(units)
    }
}
