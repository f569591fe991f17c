//! Storing where a write is no more than that: the short ways that most writes go.

use super::Shard;
use super::entry::Entry;
use crate::parts::budget::Budget;
use crate::parts::eviction::{Bulk, Policy, SlotId};
use crate::parts::group::Hash;
use crate::rules::expiry::{Lives, Stamp};
use crate::words::tick::Tick;
use equivalent::Equivalent;

impl<K, V> Shard<K, V> {
    /// Whether a write of a key is no more than that: nothing is under way that it would have to do
    /// with, no load of the key has failed, nothing is kept beside the entries, and nothing has expired yet.
    #[inline]
    pub(crate) fn is_calm<Q>(&self, hash: u64, key: &Q, now: Tick) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.is_empty()
            && self.board.is_empty()
            && (self.failures.is_empty() || self.failures.get(hash, key).is_none())
            && self.aside.is_bare()
            && now < self.sweep.earliest
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
        if !has_room && self.table.live() == 0 {
            return Err((key, value));
        }
        let stamp = lives.stamp(now, ttl, self.draw());
        // before anybody goes: then there is little to be undone if all within reach are taken
        let id = match self.table.settle(hash, Entry { key, value, stamp }) {
            Ok(id) => id,
            Err(Entry { key, value, .. }) => {
                budget.give_back(u64::from(has_room));
                return Err((key, value));
            }
        };
        let admission = self.policy.arrive(&mut self.table, hash.bits(), Bulk::AVERAGE);
        if !has_room {
            // there is one, of those that stood there before it
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
