//! Explains the state of one key: its entry, its load, and what guards the source.

use super::store::Store;
use crate::parts::breaker::Phase;
use crate::rules::expiry::duration;
use crate::rules::explain::{BreakerState, Explanation, SlotsUsed, Underway};
use crate::words::tier_key::TierKey;
use equivalent::Equivalent;

impl<K, V, S> Store<K, V, S> {
    /// `name` is the key's name in the second tier, if there is one.
    pub(crate) fn explain<Q>(&self, hash: u64, key: &Q, name: Option<&TierKey>) -> Explanation
    where
        Q: ?Sized + Equivalent<K>,
    {
        let cell = self.cell(hash);
        if self.shortcuts.loads && cell.shard.read().is_loading(hash, key) {
            cell.shard.write().meet(hash, key);
        }
        let (mut told, flight, now) = {
            let shard = self.cell(hash).shard.read();
            let terms = self.terms();
            let (mut told, flight) = shard.explain(hash, key, &terms);
            told.is_unwritten = self.queues.holds(hash, &|other| key.equivalent(other));
            (told, flight, terms.now)
        };
        told.load = flight.map(|flight| Underway {
            age: duration(now.saturating_sub(flight.posted)),
            waiters: flight.waiters(),
            gives_up_in: (!flight.is_waiting())
                .then(|| duration(self.deadline(&flight).saturating_sub(now))),
        });
        told.tier = name.and_then(|name| self.tier_state(name));
        let Some(guards) = &self.guards else { return told };
        told.breaker = guards.breaker.as_ref().map(|breaker| match breaker.phase() {
            (Phase::Closed { row }, _) => BreakerState::Closed { failures: row },
            (Phase::Open { until }, now) => {
                BreakerState::Open { probe_in: duration(until.saturating_sub(now)) }
            }
            (Phase::Probing, _) => BreakerState::Probing,
        });
        told.slots = guards.slots.as_ref().map(|slots| {
            let (running, waiting) = slots.used();
            SlotsUsed { limit: slots.limit(), running, waiting }
        });
        self.emit_transitions();
        told
    }
}
