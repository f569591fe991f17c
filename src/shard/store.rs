//! Storing: room first, then the entry, so that the bound holds at every moment.

use super::Shard;
use super::entry::{Entry, Missing, Notes, Put, Returned, Terms};
use super::outbox::Outbox;
use crate::parts::budget::Budget;
use crate::parts::eviction::{Policy, SlotId, Slots};
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::table::{Claim, id};
use crate::rules::expiry::{Lives, NEVER, Stamp};
use crate::words::removal::RemovalCause;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;

/// Units taken from the budget, or set free by an eviction, for an entry that is not stored yet.
/// What is left of them goes back when it is dropped.
pub(crate) struct Credit<'b> {
    budget: &'b Budget,
    units: u64,
}

impl<'b> Credit<'b> {
    pub(crate) fn new(budget: &'b Budget) -> Self {
        Self { budget, units: 0 }
    }

    pub(crate) fn add(&mut self, units: u64) {
        self.units += units;
    }

    /// Whether `units` could be had now. Nothing is taken.
    pub(crate) fn could_cover(&self, units: u64) -> bool {
        units <= self.units + (self.budget.max() - self.budget.used())
    }

    /// Pays `units`, all or nothing, out of what is held and of what the budget has left.
    #[inline]
    fn pay(&mut self, units: u64) -> bool {
        if self.units >= units {
            self.units -= units;
            return true;
        }
        if !self.budget.try_take(units - self.units) {
            return false;
        }
        self.units = 0;
        true
    }
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.units);
    }
}

/// How many slots every insert looks at for expired entries.
const LOOKED_AT: usize = 4;

impl<K, V> Shard<K, V> {
    /// Something newer happens to the key: its flight loses it, and so does a write in progress.
    #[inline]
    pub(crate) fn fence<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        // most writes find nothing under way in their shard
        if !(self.fences.is_empty() && self.board.is_empty() && self.failures.is_empty()) {
            self.fences.dispute(hash, key);
            self.ground(hash, key, out);
        }
    }

    /// Takes the key's flight off the board, if there is one: it began before what happens now.
    #[inline(never)]
    pub(crate) fn ground<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        if let Some(flight) = self.board.take_key(hash, key) {
            flight.ground();
            out.flight(flight);
        }
        self.failures.forget(hash, key, out);
    }

    /// The key has been loaded: its failures are over.
    #[inline]
    pub(crate) fn forgive(&mut self, hash: u64, key: &K, out: &mut Outbox<K, V>)
    where
        K: Eq,
    {
        if !self.failures.is_empty() {
            self.failures.forget(hash, key, out);
        }
    }

    /// Begins a new life of the value that stands under a flight's key, which the source says is
    /// still the right one; its `notes` take the place of the old ones. `None` if nothing stands
    /// there any more.
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

    /// A write at the source begins: until it ends, no load of the key is stored.
    pub(crate) fn raise(&mut self, hash: u64, key: K, out: &mut Outbox<K, V>)
    where
        K: Eq,
    {
        self.ground(hash, &key, out);
        if let Some(key) = self.fences.raise(hash, key) {
            out.key(key);
        }
    }

    /// It ends. Whether nothing but it has happened to the key since it began.
    pub(crate) fn lower<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.ground(hash, key, out);
        let (is_undisputed, held) = self.fences.lower(hash, key);
        if let Some(key) = held {
            out.key(key);
        }
        is_undisputed
    }

    /// Whether the key is being written at the source.
    #[inline]
    pub(crate) fn is_fenced<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.holds(hash, key)
    }

    /// Whether a single write of the key is in progress, and nothing else has happened to it.
    pub(crate) fn is_undisputed<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.is_undisputed(hash, key)
    }

    /// Whether a load of the key is in flight.
    pub(crate) fn is_loading<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.board.has(hash, key)
    }

    /// Takes this flight off the board; `false` if it lost its key before.
    pub(crate) fn take_off(&mut self, flight: &Arc<Flight<K, V>>) -> bool {
        self.board.take(flight)
    }

    /// Puts a flight back that was taken off in this same critical section.
    pub(crate) fn put_back(&mut self, flight: &Arc<Flight<K, V>>) {
        self.board.post(Arc::clone(flight));
    }

    /// The slot of what stands under a key, for [`store`](Self::store). Most stand at home.
    #[inline]
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
        if group.overflow == 0 && self.aside.is_bare() { None } else { self.locate(hash, key) }
    }

    /// Whether a write of a key is no more than that: nothing is under way that it would have to do
    /// with, no load of the key has failed, nothing is kept beside the entries, and nothing has expired yet.
    #[inline]
    pub(crate) fn is_calm<Q>(&self, hash: u64, key: &Q, now: Tick) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.is_empty()
            && self.board.is_empty()
            && self.failures.get(hash, key).is_none()
            && self.aside.is_bare()
            && now < self.sweep.earliest
    }

    /// Stores over what stands in the key's slot, if it has one, or evicts what has to go first.
    /// Gives back what is to be stored where the shard has nothing left to evict, and the room must
    /// come from another one. None of the
    /// user's code runs in here.
    #[inline]
    pub(crate) fn store(
        &mut self,
        put: Put<K, V>,
        standing: Option<SlotId>,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Result<Stamp, Put<K, V>> {
        self.examine(LOOKED_AT, terms, out);
        // what stood there may just have been found expired
        let Some(id) = standing.filter(|&id| self.table.is_live(id)) else {
            return self.admit(put, credit, terms, out);
        };
        let held = self.aside.units(id);
        if held != put.units {
            credit.add(held);
            if !credit.pay(put.units) {
                // it needs more room than its predecessor had: out with that, in as a newcomer
                self.vacate(id, RemovalCause::Replaced, terms, out);
                self.bury(id, terms);
                return self.admit(put, credit, terms, out);
            }
        }
        // in place, under the same key: the policy counts it as a hit
        self.vacate(id, RemovalCause::Replaced, terms, out);
        self.table.warm(id);
        Ok(self.fill(id, put, terms))
    }

    /// Puts a value in the place of another one, in a [calm](Self::is_calm) shard: that is how most
    /// updates go. Returns the other one.
    #[inline]
    pub(crate) fn overwrite(
        &mut self,
        id: SlotId,
        (key, value): (K, V),
        ttl: u64,
        (lives, now): (&Lives, Tick),
    ) -> Option<Entry<K, V>> {
        let stamp = lives.stamp(now, ttl, self.draw());
        self.sweep.expects(lives.windows.end(stamp.expiry()));
        self.tally.insertions += 1;
        let old = self.table.replace(id, Entry { key, value, stamp })?;
        self.tally.replaced += 1;
        Some(old)
    }

    /// A newcomer of one unit in a [calm](Self::is_calm) shard without dead slots, of a table that is not
    /// about to grow: that is how most of them come. If one has to go for it, that is `left`, evicted.
    /// Gives key and value back where there is more to it; then nothing has happened to any entry.
    #[inline]
    pub(crate) fn welcome(
        &mut self,
        hash: Hash,
        (key, value): (K, V),
        ttl: u64,
        (lives, now, budget): (&Lives, Tick, &Budget),
        left: &mut Option<Entry<K, V>>,
    ) -> Result<Stamp, (K, V)> {
        if self.is_crowded() {
            return Err((key, value));
        }
        let has_room = budget.try_take(1);
        // before anybody goes: then there is little to be undone if all within reach are taken
        let may_claim = has_room || self.table.live() > 0;
        let Some(id) = may_claim.then(|| self.table.claim_free(hash)).flatten() else {
            budget.give_back(u64::from(has_room));
            return Err((key, value));
        };
        let admission = self.policy.arrive(&mut self.table, hash.bits());
        if !has_room {
            // there is one, of those that stood there before it
            let Some(victim) = self.policy.evict(&mut self.table) else {
                self.table.free(id);
                return Err((key, value));
            };
            *left = self.table.evict(victim);
            self.tally.evicted += 1;
        }
        self.policy.place(&mut self.table, id, admission);
        let stamp = lives.stamp(now, ttl, self.draw());
        self.sweep.expects(lives.windows.end(stamp.expiry()));
        *self.table.entry_mut(id) = Some(Entry { key, value, stamp });
        self.tally.insertions += 1;
        Ok(stamp)
    }

    /// Nothing stands under the key: the policy is asked, room is made, a slot is claimed. Otherwise as
    /// [`store`](Self::store).
    #[inline(never)]
    pub(crate) fn admit(
        &mut self,
        put: Put<K, V>,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Result<Stamp, Put<K, V>> {
        let (hash, units) = (put.hash, put.units);
        let admission = self.policy.arrive(&mut self.table, hash.bits());
        while !credit.pay(units) {
            match self.evict(terms, out) {
                Some(freed) => credit.add(freed),
                None => return Err(put),
            }
        }
        let Claim { id, was_dead } = self.claim(hash, credit, terms, out);
        if was_dead {
            self.policy.revive(&mut self.table, id, admission);
        } else {
            self.policy.place(&mut self.table, id, admission);
        }
        terms.budget.entered();
        Ok(self.fill(id, put, terms))
    }

    /// What is not to be stored, because it has no life or weighs more than the cache may: what
    /// stood under its key goes, and nobody is left to miss it unreported.
    pub(crate) fn refuse(
        &mut self,
        slot: &mut Option<Put<K, V>>,
        is_load: bool,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) where
        K: Eq,
    {
        let Some(put) = slot.as_ref() else { return };
        let cause = if put.ttl == 0 { RemovalCause::Removed } else { RemovalCause::Replaced };
        // the key's `Eq` first: if that panics, what is refused is dropped after the lock
        self.remove(put.hash, &put.key, cause, terms, out);
        let Some(Put { key, value, ttl, .. }) = slot.take() else { return };
        match value {
            Some(value) if ttl > 0 => {
                self.tally.rejected += 1;
                out.value(key, value, RemovalCause::Rejected);
            }
            // a load's caller has its value; what was inserted with no life would vanish unseen
            Some(value) if !is_load => out.value(key, value, RemovalCause::Expired),
            _ => out.key(key),
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

    /// The same where there is more to it than a value.
    #[inline(never)]
    fn fill_in_full(&mut self, id: SlotId, put: Put<K, V>, terms: &Terms<'_>) -> Stamp {
        let Put { key, value, units, ttl, took, notes, .. } = put;
        self.aside.set_units(id, units);
        self.aside.set_cost(id, took);
        let mut returned = None;
        if let Some(mut notes) = notes {
            returned = notes.restored.take();
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
        let stamp = match returned {
            None => self.draw_life(ttl, terms),
            Some(Returned { age, is_over: false }) => Stamp::restored(terms.now, ttl, age),
            Some(Returned { age, .. }) => Stamp::restored(terms.now, ttl, age).cut(terms.now),
        };
        let entry = Entry { key, value, stamp };
        self.aside.touch(id, terms.now);
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

    /// Makes room for one entry: the policy says whose. Returns the units set free, which are the
    /// caller's now; `None` if nothing is left.
    pub(crate) fn evict(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) -> Option<u64> {
        let id = self.policy.evict(&mut self.table)?;
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
        let units = self.aside.units(id);
        self.vacate(id, RemovalCause::Evicted, terms, out);
        self.table.free(id);
        terms.budget.left(1);
        Some(units)
    }
}
