//! Finding a slot for each newcomer, in a table that grows when it has to.
//!
//! Nearly all of the cost of growing is fresh memory: the kernel's first touch of 4 MB takes 5 ms on a
//! virtual machine, moving the 78,000 entries that fit in there 1. So the next table is prepared before it is
//! needed, a few groups with each newcomer.

use super::entry::Terms;
use super::outbox::Outbox;
use super::{LOAD, Shard};
use crate::parts::credit::Credit;
use crate::parts::eviction::{Policy, Slots};
use crate::parts::group::{Hash, LANES};
use crate::parts::table::{Claim, Table};
use crate::rules::expiry::NEVER;
use crate::words::removal::RemovalCause;

/// How many groups of the next table a newcomer prepares: half a page of small entries. More would hold the
/// newcomer up; with fewer, the next table would have to be begun, and its memory held, earlier.
const AT_ONCE: usize = 4;
/// Tables of fewer groups are made when they are needed. So many are 30 KiB of small entries.
const WORTH_IT: usize = 64;

/// When the table grows, and into what.
pub(super) struct Growth<T> {
    /// From so many taken slots on, a newcomer has more to do than to claim one.
    from: usize,
    /// The next table, as far as it is prepared.
    next: Option<Table<T>>,
}

impl<T> Growth<T> {
    pub(super) fn new() -> Self {
        Self { from: 0, next: None }
    }
}

impl<K, V> Shard<K, V> {
    /// Whether a newcomer has more to do than to claim a free slot.
    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.table.has_dead() || self.table.taken() >= self.growth.from
    }

    /// Claims a slot for a newcomer; the table grows if it has to.
    #[inline]
    pub(super) fn claim(
        &mut self,
        hash: Hash,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Claim {
        if self.table.taken() >= self.growth.from {
            self.prepare(terms, out);
        }
        match self.table.claim(hash) {
            Some(claim) => claim,
            None => self.claim_in_a_flood(hash, credit, terms, out),
        }
    }

    /// Claims a slot when all within reach are taken.
    #[cold]
    fn claim_in_a_flood(
        &mut self,
        hash: Hash,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Claim {
        loop {
            if let Some(claim) = self.table.claim(hash) {
                return claim;
            }
            if self.table.live() >= self.limit() {
                self.grow(terms, out);
                continue;
            }
            // All slots within reach are taken in a table that has room: a flood of keys of one hash. The
            // coldest entry of the home group makes way; another one would be as good.
            let home = hash.home(self.table.groups());
            let Some(id) = self.table.live_in(home).min_by_key(|&id| self.table.heat(id)) else {
                self.grow(terms, out);
                continue;
            };
            credit.add(self.aside.take_units(id));
            self.vacate(id, RemovalCause::Evicted, terms, out);
            self.bury(id, terms);
        }
    }

    /// The table is full, or will be soon: prepares the next one, or grows.
    #[cold]
    #[inline(never)]
    fn prepare(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) {
        let groups = self.size_after(self.table.groups());
        // Grow also if the next table is ready too early, because newcomers took the place of evicted
        // entries: a shard that stays as full as this would hold both tables for ever.
        let is_ready = self.growth.next.as_ref().is_some_and(|next| next.groups() == groups);
        if is_ready || self.table.taken() >= self.limit() {
            return self.grow(terms, out);
        }
        let next = self.growth.next.get_or_insert_with(|| Table::with_room_for(groups));
        next.extend((next.groups() + AT_ONCE).min(groups));
    }

    /// Gives back what was prepared of the next table. The newcomers from here on begin again; the last of
    /// them does what the others did not get done.
    pub(super) fn put_off_growing(&mut self) {
        self.growth.next = None;
        self.growth.from = self.growth.from.max(self.table.taken());
    }

    /// Panics if the next table holds anything, or will not be ready in time. For tests.
    pub(super) fn validate_growth(&self) {
        let late = self.table.taken().saturating_sub(self.growth.from);
        let due = (late * AT_ONCE).min(self.size_after(self.table.groups()));
        let ready = self.growth.next.as_ref().map_or(0, Table::groups);
        assert!(ready >= due, "{ready} groups of the next table are ready and {due} are due");
        assert!(self.growth.next.as_ref().is_none_or(|next| next.taken() == 0), "it is in use");
    }

    /// How many slots may be taken before the table grows: more than it is made for, so that a shard that by
    /// the luck of the hash holds a little over half of its share does not spread that over all of its
    /// memory; and more still at its full size.
    #[inline]
    fn limit(&self) -> usize {
        let per_group = if self.table.groups() < self.full_groups { LOAD + 2 } else { LANES - 1 };
        self.table.groups() * per_group
    }

    /// Moves all entries into a table of the next size; dead slots stay behind. The shard stalls meanwhile:
    /// some twenty microseconds a thousand entries.
    #[cold]
    fn grow(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) {
        let groups = self.next_groups();
        // not the prepared one if much was removed since
        let next = self.growth.next.take().filter(|next| next.groups() <= groups);
        let mut table = next.unwrap_or_else(|| Table::with_room_for(groups));
        table.extend(groups);
        let mut aside = self.aside.sized(table.slots());
        let mut stranded = Vec::new();
        self.table.move_into(&mut table);
        let (old_table, old_aside) = (&self.table, &mut self.aside);
        let is_bare = old_aside.is_bare();
        self.policy.renumber(|old| {
            let new = old_table.moved(old);
            match new {
                Some(new) if !is_bare => old_aside.carry(&mut aside, old, new),
                None if old_table.is_live(old) => stranded.push(old),
                _ => {}
            }
            new
        });
        let mut units = 0;
        let many = stranded.len() as u64;
        for id in stranded {
            // no room within reach of its home: only a flood of one hash comes to this. Its units are not
            // taken from the old weights: these go with the old table
            units += self.aside.units(id);
            self.vacate(id, RemovalCause::Evicted, terms, out);
        }
        terms.budget.give_back(units);
        terms.budget.left(many);
        self.table = table;
        self.aside = aside;
        let ahead = self.size_after(groups);
        let newcomers = if ahead < WORTH_IT { 0 } else { ahead.div_ceil(AT_ONCE) };
        self.growth.from = self.limit().saturating_sub(newcomers);
        // the look for expired entries begins a new round, which passes all entries again
        self.sweep.hand = 0;
        self.sweep.of_round = NEVER;
    }

    fn next_groups(&self) -> usize {
        let now = self.table.groups();
        if now > 0 && self.table.live() <= now * (LOAD - 2) {
            return now; // most of it is dead slots: the same size, without them
        }
        self.size_after(now)
    }

    /// The next size after that of `now` groups.
    fn size_after(&self, now: usize) -> usize {
        if now >= self.full_groups {
            return now + now / 8 + 1;
        }
        if self.full_groups == usize::MAX {
            // doubling wastes up to half of a table whose last size nobody knows
            return if now < 64 { (now * 2).max(1) } else { now + now / 2 };
        }
        // halves of the full size, so that the last step ends exactly there
        let mut next = self.full_groups;
        while next > 1 && next.div_ceil(2) > now {
            next = next.div_ceil(2);
        }
        next
    }
}
