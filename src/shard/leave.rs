//! How entries leave: removal, expiry, and the look for expired entries.

use super::entry::Terms;
use super::grow::Growth;
use super::outbox::Outbox;
use super::{Shard, Sweep};
use crate::parts::eviction::{Policy, SlotId, Slots};
use crate::parts::group::Hash;
use crate::parts::table::Table;
use crate::rules::expiry::{NEVER, Stamp};
use crate::words::removal::RemovalCause;
use crate::words::tick::Tick;
use equivalent::Equivalent;

impl<K, V> Shard<K, V> {
    /// Removes a key's entry, reported as `cause`, or as expired if its last window is over. Returns whether
    /// its value was fresh; a caller that wants the value, and began with an empty outbox, finds it there as
    /// the first one.
    pub(crate) fn remove<Q>(
        &mut self,
        hash: Hash,
        key: &Q,
        cause: RemovalCause,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let Some(id) = self.locate(hash, key) else { return false };
        let was_fresh = self.table.entry(id).is_some_and(|entry| self.is_fresh(id, entry, terms));
        self.take_out(id, cause, terms, out);
        was_fresh
    }

    /// As [`remove`](Self::remove), if the value is still the one with this stamp.
    pub(crate) fn remove_same<Q>(
        &mut self,
        hash: Hash,
        key: &Q,
        stamp: Stamp,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let same =
            |id: &SlotId| self.table.entry(*id).is_some_and(|entry| entry.stamp.is_still(stamp));
        let found = self.locate(hash, key).filter(same).filter(|&id| !self.is_gone(id, terms));
        found.inspect(|&id| self.take_out(id, RemovalCause::Removed, terms, out)).is_some()
    }

    /// Ends the life of a key's value now; the windows count from now. A life that is over already is left as
    /// it is. Returns whether there was a life to end.
    pub(crate) fn expire<Q>(
        &mut self,
        hash: Hash,
        key: &Q,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let Some(id) = self.locate(hash, key) else { return false };
        self.expire_at(id, terms, out)
    }

    fn expire_at(&mut self, id: SlotId, terms: &Terms<'_>, out: &mut Outbox<K, V>) -> bool {
        let Some(entry) = self.table.entry(id) else {
            self.take_out(id, RemovalCause::Removed, terms, out);
            return false;
        };
        if !self.is_fresh(id, entry, terms) {
            return false;
        }
        let stamp = entry.stamp.cut(terms.now);
        if let Some(entry) = self.table.entry_mut(id) {
            entry.stamp = stamp;
        }
        self.sweep.expects(terms.lives.windows.end(stamp.expiry()));
        true
    }

    /// As [`remove`](Self::remove), for all keys that are equivalent to `key`: several keys may have one
    /// name.
    pub(crate) fn remove_each<Q>(
        &mut self,
        hash: Hash,
        key: &Q,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) where
        Q: ?Sized + Equivalent<K>,
    {
        while let Some(id) = self.locate(hash, key) {
            self.take_out(id, RemovalCause::Removed, terms, out);
        }
    }

    /// The same for [`expire`](Self::expire). Returns whether there was a life to end.
    pub(crate) fn expire_each<Q>(
        &mut self,
        hash: Hash,
        key: &Q,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut has_expired = false;
        while let Some(id) = self.locate_if(hash, key, |id| match self.table.entry(id) {
            Some(entry) => self.is_fresh(id, entry, terms),
            // a cached "not found" goes
            None => true,
        }) {
            has_expired |= self.expire_at(id, terms, out);
        }
        has_expired
    }

    /// Empties the shard. Its entries go into the outbox, and its flights lose their keys.
    pub(crate) fn clear(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) {
        self.fence_all(out);
        self.failures.forget_all(out);
        for g in 0..self.table.groups() {
            let live: Vec<_> = self.table.live_in(g).collect();
            for id in live {
                self.take_out(id, RemovalCause::Removed, terms, out);
            }
        }
        self.reset();
    }

    /// Anything in here may have been removed elsewhere: no entry is fresh any more, nor served to anybody
    /// until the tier was asked for it again. A cached "not found" goes.
    pub(crate) fn doubt_all(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) {
        self.fence_all(out);
        for g in 0..self.table.groups() {
            let live: Vec<_> = self.table.live_in(g).collect();
            for id in live {
                let windows = terms.lives.windows;
                let entry = self.table.entry_mut(id).as_mut();
                let doubted = entry
                    .and_then(|entry| windows.doubted(entry.stamp, terms.now).map(|s| (entry, s)));
                match doubted {
                    Some((entry, stamp)) => entry.stamp = stamp,
                    None => self.take_out(id, RemovalCause::Removed, terms, out),
                }
            }
        }
        self.sweep.expects(terms.now);
    }

    /// The second tier was asked for the key, and has nothing: an entry that was stored before `doubted` and
    /// is not fresh any more goes.
    pub(crate) fn disown<Q>(
        &mut self,
        hash: Hash,
        key: &Q,
        doubted: Tick,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) where
        Q: ?Sized + Equivalent<K>,
    {
        let Some(id) = self.locate(hash, key) else { return };
        let Some(entry) = self.table.entry(id) else { return };
        if entry.stamp.born() <= doubted && !self.is_fresh(id, entry, terms) {
            self.take_out(id, RemovalCause::Removed, terms, out);
        }
    }

    /// Every flight loses its key: its result will be older than what happens now.
    pub(crate) fn fence_all(&mut self, out: &mut Outbox<K, V>) {
        self.fences.dispute_all();
        for flight in self.board.drain() {
            flight.ground();
            out.flight(flight);
        }
    }

    /// Looks at the next `entries` entries, but not at more than `slots` slots, and frees those whose last
    /// window is over. Returns how many. Costs one comparison while nothing can have expired yet.
    #[inline]
    pub(crate) fn examine(
        &mut self,
        slots: usize,
        entries: usize,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> u64 {
        if terms.now < self.earliest(terms.tags) {
            return 0;
        }
        self.free_expired(slots, entries, terms, out)
    }

    #[cold]
    fn free_expired(
        &mut self,
        slots: usize,
        entries: usize,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> u64 {
        let (mut freed, mut left) = (0, entries);
        for _ in 0..slots.min(self.table.slots()) {
            if left == 0 {
                break;
            }
            let id = self.sweep.hand;
            if self.table.is_live(id) {
                left -= 1;
                if self.is_gone(id, terms) {
                    self.take_out(id, RemovalCause::Expired, terms, out);
                    freed += 1;
                } else if let Some(at) = self.expires(id, terms) {
                    self.sweep.expects(at);
                }
            }
            self.sweep.hand += 1;
            if self.sweep.hand as usize == self.table.slots() {
                self.sweep.hand = 0;
                self.sweep.earliest = std::mem::replace(&mut self.sweep.of_round, NEVER);
                self.sweep.found = self.sweep.begun;
                self.sweep.begun = terms.tags.version();
            }
        }
        freed
    }

    /// Gives back the memory of the table, if nothing is left in it, and that of the prepared next table.
    pub(crate) fn shrink(&mut self) {
        self.put_off_growing();
        if self.table.live() == 0 && self.table.groups() > 0 {
            self.reset();
        }
    }

    /// Drops what failed loads left behind, if it is no longer an answer.
    pub(crate) fn release_failures(&mut self, now: Tick, out: &mut Outbox<K, V>) {
        self.failures.release(now, out);
    }

    fn reset(&mut self) {
        self.table = Table::with_groups(0);
        self.growth = Growth::new();
        self.aside = self.aside.sized(0);
        self.policy.clear();
        self.sweep = Sweep::new();
    }

    pub(super) fn expires(&self, id: SlotId, terms: &Terms<'_>) -> Option<Tick> {
        let at = match self.table.entry(id) {
            Some(entry) => self.end(id, entry, terms.lives),
            None => self.aside.missing(id)?.stamp.expiry(),
        };
        (at < NEVER).then_some(at)
    }

    pub(super) fn take_out(
        &mut self,
        id: SlotId,
        cause: RemovalCause,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) {
        let units = self.aside.take_units(id);
        self.vacate(id, cause, terms, out);
        self.bury(id, terms);
        terms.budget.give_back(units);
    }

    /// Empties a live slot and counts why. Whatever the `cause`, an entry past its last window counts as
    /// expired, and one of a removed tag as removed. The slot is still live: it is to be filled, freed or buried
    /// next.
    pub(super) fn vacate(
        &mut self,
        id: SlotId,
        cause: RemovalCause,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) {
        let cut = self.cut(id);
        self.take_notes(id);
        if let Some(entry) = self.table.entry_mut(id).take() {
            let is_gone = self.end_if_cut(id, &entry, terms.lives, cut) <= terms.now;
            let cause = match is_gone {
                true if cut == 0 => RemovalCause::Removed,
                true => RemovalCause::Expired,
                false => cause,
            };
            self.tally.left(cause);
            out.value(entry.key, entry.value, cause);
        } else if let Some(missing) = self.aside.take_missing(id) {
            out.key(missing.key);
        }
    }

    #[inline]
    fn take_notes(&mut self, id: SlotId) {
        self.aside.take_notes(id);
        if self.tagged > 0 && self.table.has_tags(id) {
            self.table.set_has_tags(id, false);
            self.tagged -= 1;
        }
    }

    /// Makes a vacated slot dead, until the policy finds and frees it. Its units belong to the caller.
    pub(super) fn bury(&mut self, id: SlotId, terms: &Terms<'_>) {
        self.policy.died(&self.table, id);
        self.table.kill(id);
        terms.budget.left(1);
    }
}
