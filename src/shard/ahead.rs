//! Taking a key for a refresh: a load that nobody waits for, while the old value is still there.

use super::Shard;
use super::entry::Terms;
use super::join::{Beginning, Joined, Role};
use super::outbox::Outbox;
use crate::parts::eviction::SlotId;
use crate::parts::flight::{Flight, Landing};
use crate::parts::group::Hash;
use crate::rules::expiry::Stamp;
use crate::rules::loaded::LoadReason;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;

impl<K, V> Shard<K, V> {
    /// How many ticks the value in this slot took to load; zero if that is not known.
    pub(crate) fn cost(&self, id: SlotId) -> u64 {
        self.aside.cost(id)
    }

    /// Whether a load of the key may begin: none is in flight, and no failed one holds it back. Both tables
    /// are mostly empty.
    pub(crate) fn may_begin<Q>(&self, hash: u64, key: &Q, now: Tick) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        !self.board.has(hash, key)
            && self.failures.get(hash, key).is_none_or(|failure| failure.until <= now)
    }

    /// The key as it is stored, and the stamp of its value, if there is a fresh value. The stamp alone does not
    /// tell: one of its tags may have been expired.
    pub(crate) fn standing<Q>(&self, hash: u64, key: &Q, terms: &Terms<'_>) -> Option<(K, Stamp)>
    where
        Q: ?Sized + Equivalent<K>,
        K: Clone,
    {
        let (id, entry) = self.peek(Hash::new(hash), key, terms)?;
        self.is_fresh(id, entry, terms).then(|| (entry.key.clone(), entry.stamp))
    }

    /// Takes the key for a load, whatever its entry; with `only`, only if the entry still has this stamp and
    /// nothing holds the load back. [`Role::Follow`] if the key is being loaded already, [`Role::Look`] if
    /// there is nothing to do.
    pub(crate) fn begin<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        owned: &mut Option<K>,
        only: Option<Stamp>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Joined<K, V>
    where
        Q: ?Sized + Equivalent<K>,
        K: Eq,
    {
        let look = Joined { role: Role::Look, overdue: None };
        let standing = self.locate(Hash::new(hash), key);
        if let Some(stamp) = only {
            let entry = standing.and_then(|id| self.table.entry(id));
            let is_same = entry.is_some_and(|entry| entry.stamp == stamp);
            if !is_same || !self.may_begin(hash, key, terms.now) {
                return look;
            }
        }
        let mut overdue = None;
        self.board.meet(hash, key);
        if let Some(flight) = self.board.get(hash, key) {
            let flight = Arc::clone(flight);
            let is_over = terms.now >= flight.started().saturating_add(terms.load_timeout);
            // what has changed with one of its tags is not stored: that load will not do
            if !is_over && !flight.is_outdated() {
                return Joined { role: Role::Follow(flight), overdue };
            }
            flight.ground();
            self.board.take(&flight);
            if is_over {
                self.fail(&flight, Landing::TimedOut, terms, out);
                overdue = Some(flight);
            } else {
                out.flight(flight);
            }
        }
        let Some(key) = owned.take() else { return look };
        let beginning = Beginning {
            is_absent: standing.is_none(),
            reason: LoadReason::Refresh,
            in_batch: false,
        };
        let flight = self.launch(hash, key, beginning, terms);
        Joined { role: Role::Lead { flight, revalidates: false }, overdue }
    }

    /// Takes all flights off the board, at the end of the cache.
    pub(crate) fn end_flights(&mut self) -> Vec<Arc<Flight<K, V>>> {
        self.board.drain().inspect(|flight| flight.ground()).collect()
    }
}
