//! The shortcuts that most writes take: those in a shard where a write only has to store.

use super::Shard;
use super::entry::Entry;
use crate::parts::budget::Budget;
use crate::parts::eviction::{Bulk, Policy, SlotId};
use crate::parts::group::Hash;
use crate::rules::expiry::{Lives, Stamp};
use crate::words::tick::Tick;
use equivalent::Equivalent;

impl<K, V> Shard<K, V> {
    /// Whether a write of a key only has to store: no load and no write at the source is under way in the
    /// shard, no load of the key has failed, nothing is kept beside the entries, and nothing has expired yet.
    #[inline]
    pub(crate) fn is_calm<Q>(&self, hash: u64, key: &Q, now: Tick) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.len() | self.board.len() == 0
            && (self.failures.is_empty() || self.failures.get(hash, key).is_none())
            && self.aside.is_bare()
            && now < self.sweep.earliest
    }

    /// Replaces an entry in a [calm](Self::is_calm) shard, as most updates do. Returns the old one.
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

    /// Stores a newcomer of one unit in a [calm](Self::is_calm) shard without dead slots whose table is not
    /// about to grow, as most newcomers are. If an entry has to go for it, `left` is set to the evicted one.
    /// In any other case gives key and value back; then nothing has happened to any entry.
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
        if !has_room && self.table.live() == 0 {
            return Err((key, value));
        }
        let stamp = lives.stamp(now, ttl, self.draw());
        // before anything is evicted: then there is little to undo if all slots within reach are taken
        let id = match self.table.settle(hash, Entry { key, value, stamp }) {
            Ok(id) => id,
            Err(Entry { key, value, .. }) => {
                budget.give_back(u64::from(has_room));
                return Err((key, value));
            }
        };
        let admission = self.policy.arrive(&mut self.table, hash.bits(), Bulk::AVERAGE);
        if !has_room {
            // there is a victim: an entry that was there before the newcomer
            let Some(victim) = self.policy.evict(&mut self.table) else {
                let newcomer = self.table.evict(id);
                return newcomer.map_or(Ok(stamp), |Entry { key, value, .. }| Err((key, value)));
            };
            *left = self.table.evict(victim);
            self.tally.evicted += 1;
        }
        self.policy.place(&mut self.table, id, admission);
        self.sweep.expects(lives.windows.end(stamp.expiry()));
        self.tally.insertions += 1;
        Ok(stamp)
    }
}
