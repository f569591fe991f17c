//! Room for newcomers: a slot each, in a table that grows when it has to.

use super::entry::Terms;
use super::outbox::Outbox;
use super::store::Credit;
use super::{LOAD, Shard};
use crate::parts::eviction::{Policy, Slots};
use crate::parts::group::{Hash, LANES};
use crate::parts::table::{Claim, Table};
use crate::words::removal::RemovalCause;
use crate::words::tick::Tick;

impl<K, V> Shard<K, V> {
    /// A slot for a newcomer, in a table that grows when it has to.
    #[inline]
    pub(super) fn claim(
        &mut self,
        hash: Hash,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Claim {
        if self.table.taken() >= self.limit() {
            self.grow(terms, out);
        }
        match self.table.claim(hash) {
            Some(claim) => claim,
            None => self.claim_in_a_flood(hash, credit, terms, out),
        }
    }

    /// All slots within reach are taken.
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
            // All slots within reach are taken in a table that has room: a flood of keys of one
            // hash. The coldest of its home group makes way; another one would be as good.
            let home = hash.home(self.table.groups());
            let Some(id) = self.table.live_in(home).min_by_key(|&id| self.table.heat(id)) else {
                self.grow(terms, out);
                continue;
            };
            credit.add(self.aside.units(id));
            self.vacate(id, RemovalCause::Evicted, terms, out);
            self.bury(id, terms);
        }
    }

    /// How many taken slots the table bears before it grows: more than it is made for, so that a
    /// shard that holds a little over half of its share, by luck of the hash, does not spread that
    /// over all of its memory; and more still at its full size.
    #[inline]
    fn limit(&self) -> usize {
        let per_group = if self.table.groups() < self.full_groups { LOAD + 2 } else { LANES - 1 };
        self.table.groups() * per_group
    }

    /// Moves everything into a table of the next size, in the order of the policy's queues; dead
    /// slots stay behind. One stall of the shard: a few microseconds a thousand entries.
    #[cold]
    fn grow(&mut self, terms: &Terms<'_>, out: &mut Outbox<K, V>) {
        let groups = self.next_groups();
        let mut table = Table::with_groups(groups);
        let mut aside = self.aside.sized(table.slots());
        let mut stranded = Vec::new();
        let (old_table, old_aside) = (&mut self.table, &mut self.aside);
        self.policy.renumber(|old| {
            if !old_table.is_live(old) {
                return None;
            }
            let Some(new) = old_table.move_to(&mut table, old) else {
                stranded.push(old);
                return None;
            };
            old_aside.carry(&mut aside, old, new);
            Some(new)
        });
        let mut units = 0;
        let many = stranded.len() as u64;
        for id in stranded {
            // no room within reach of its home: only a flood of one hash comes to this
            units += self.aside.units(id);
            self.vacate(id, RemovalCause::Evicted, terms, out);
        }
        terms.budget.give_back(units);
        terms.budget.left(many);
        self.table = table;
        self.aside = aside;
        // a new round of the look for the expired, which passes everybody again
        self.sweep.hand = 0;
        self.sweep.of_round = Tick::MAX;
    }

    fn next_groups(&self) -> usize {
        let now = self.table.groups();
        if now > 0 && self.table.live() <= now * (LOAD - 2) {
            return now; // most of it is dead slots: the same size, without them
        }
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
