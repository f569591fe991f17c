//! Refresh-ahead: loading a value again before its life is over.

use super::away::Away;
use super::lead::Lead;
use super::look::Purpose;
use super::store::Store;
use crate::parts::eviction::SlotId;
use crate::parts::group::Hash;
use crate::rules::ahead::{Ahead, draw, is_drawn, point};
use crate::rules::expiry::{NEVER, Stamp};
use crate::rules::got::StaleWhy;
use crate::shard::Shard;
use crate::shard::ask::Ask;
use crate::shard::entry::Entry;
use crate::shard::join::{Joined, Role};
use crate::shard::look::Looked;
use crate::shard::outbox::Outbox;
use crate::words::sync::atomic::Ordering;
use crate::words::tick::Tick;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::sync::Arc;

/// The cache's own loader with its runtime, as the engine sees it: it runs loads that have no caller. Called
/// with no lock held.
pub(crate) trait Refresher<K, V, S>: Send + Sync {
    /// Starts the load in the background. Returns it if the runtime refused, which is counted.
    fn refresh(&self, away: Away<K, V, S>) -> Result<(), Away<K, V, S>>;

    /// Whether it is so busy that hits should leave their refreshes to later hits.
    fn is_busy(&self) -> bool;

    /// Runs a load that the runtime refused on this thread, if that needs no wait for a slot.
    fn run(&self, away: Away<K, V, S>);
}

impl<K, V, S> Store<K, V, S> {
    /// Whether a hit on this fresh entry should refresh it: it is due, and nobody is loading it.
    #[inline]
    pub(super) fn is_due(
        &self,
        shard: &Shard<K, V>,
        id: SlotId,
        entry: &Entry<K, V>,
        hash: u64,
    ) -> bool
    where
        K: Eq,
    {
        if self.lives.ahead.is_never() {
            return false;
        }
        // most hits come earlier than that, which the clock's cheapest reading tells
        let earliest = self.due_from(entry.stamp);
        !self.clock.is_before(earliest) && self.is_due_now(earliest, shard, id, entry, hash)
    }

    /// The tick before which a value is not due.
    #[inline]
    fn due_from(&self, stamp: Stamp) -> Tick {
        match self.lives.ahead {
            Ahead::Never => Tick::MAX,
            // A copy of an entry that a second tier keeps for longer than this cache does has most of that
            // life behind it as a rule, and would be due from the start.
            Ahead::At(share) if self.tier.is_some() => point(share, stamp, self.lives.ttl),
            Ahead::At(share) => point(share, stamp, NEVER),
            Ahead::CostAware(_) => {
                // the slowest load so far asks for this much
                stamp.expiry().saturating_sub(self.horizon.load(Ordering::Relaxed))
            }
        }
    }

    fn is_due_now(
        &self,
        earliest: Tick,
        shard: &Shard<K, V>,
        id: SlotId,
        entry: &Entry<K, V>,
        hash: u64,
    ) -> bool
    where
        K: Eq,
    {
        let now = self.clock.now();
        let is_time = now >= earliest
            && match self.lives.ahead {
                Ahead::Never => false,
                Ahead::At(_) => true,
                Ahead::CostAware(beta) => {
                    let left = entry.stamp.expiry().saturating_sub(now);
                    let took = match shard.cost(id) {
                        0 => self.counts.load_millis.get() / self.lookups.loads().max(1),
                        took => took,
                    };
                    is_drawn(beta, left, took, draw(self.seed ^ hash, took, now))
                }
            };
        // every hit on a value that is being refreshed asks this: under the shared lock that it holds anyway,
        // and of a board that is mostly empty
        is_time && shard.may_begin(hash, &entry.key, now)
    }

    /// A load took so many ticks: from now on values may be due that much earlier.
    pub(super) fn extend_horizon(&self, took: u64) {
        let horizon = self.lives.ahead.horizon(took);
        if horizon > self.horizon.load(Ordering::Relaxed) {
            self.horizon.fetch_max(horizon, Ordering::Relaxed);
        }
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// A look-up in a cache with refresh-ahead; kept apart, so that look-ups in other caches pay one test. A
    /// due value is refreshed in the background by the cache's own loader; without one, a caller that brings
    /// a loader gets [`Looked::Nothing`], and then asks [`lead_ahead`](Self::lead_ahead), unless its load would
    /// be turned away.
    #[inline(never)]
    pub(super) fn get_ahead<Q>(self: &Arc<Self>, hash: u64, key: &Q, purpose: Purpose) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut is_due = false;
        let looked = {
            let shard = self.cell(hash).shard.read();
            shard.get(Hash::new(hash), key, &self.lives, &**self, |id, entry| {
                is_due = self.is_due(&shard, id, entry, hash);
                entry.value.clone()
            })
        };
        if is_due && self.leaves_due(purpose) {
            return Looked::Nothing;
        }
        self.count(&looked, purpose);
        if is_due {
            self.refresh_due(hash, key);
        }
        looked
    }

    /// Whether a hit that found its value due leaves it to its caller, who brings a loader to a cache that has
    /// none. Not if the load would be turned away at once: then the hit is one, and nothing begins.
    #[cold]
    #[inline(never)]
    pub(super) fn leaves_due(&self, purpose: Purpose) -> bool {
        if self.refresher.is_some() || purpose == Purpose::Get || self.is_in_handler() {
            return false;
        }
        if purpose == Purpose::Load && self.is_stopped() {
            self.counts.circuit_open.add(1);
            // the breaker may have opened because it was looked at: a load was overdue
            self.emit_transitions();
            return false;
        }
        // a second tier is asked without a slot
        if self.tier.is_none() && self.is_crowded() {
            self.counts.overloaded.add(1);
            return false;
        }
        true
    }

    /// A hit found its value due. The first such hit takes the key; the others find its load in flight.
    #[cold]
    #[inline(never)]
    pub(super) fn refresh_due<Q>(self: &Arc<Self>, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        let Some(background) = self.refresher.as_ref().filter(|_| !self.is_in_handler()) else {
            return;
        };
        if background.is_busy() {
            return self.count_busy();
        }
        let standing = {
            let shard = self.cell(hash).shard.read();
            shard.standing(hash, key, &self.terms())
        };
        let Some((owned, stamp)) = standing else { return };
        if let Some(lead) = self.take_ahead(hash, key, owned, Some(stamp), false) {
            self.counts.refreshes.add(1);
            if let Err(away) = background.start(lead.send_away()) {
                // others may have filled its queue since it was asked
                if !background.is_busy() {
                    background.run(away);
                }
            }
        }
    }

    /// Has the key loaded in the background, unless somebody is loading it already.
    pub(crate) fn refresh<Q>(self: &Arc<Self>, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K> + ToKey<K>,
    {
        let Some(background) = &self.refresher else { return };
        if let Some(lead) = self.take_ahead(hash, key, key.to_key(), None, false) {
            self.counts.refreshes.add(1);
            if let Err(away) = background.start(lead.send_away()) {
                // a handler of events loads nothing
                if !self.is_in_handler() {
                    background.run(away);
                }
            }
        }
    }

    /// Revalidates a stale value in the background, if the cache has a loader of its own: then this caller is
    /// served the stale value too, for the reason that is returned. Otherwise returns the lead.
    pub(super) fn revalidate(&self, lead: Lead<K, V, S>) -> Result<StaleWhy, Lead<K, V, S>> {
        let Some(background) = &self.refresher else { return Err(lead) };
        // the caller may have asked for many keys; this one is loaded by itself
        let flight = Arc::clone(&lead.flight);
        let was_in_batch = flight.set_in_batch(false);
        match background.start(lead.send_away()) {
            Ok(()) => {
                self.counts.refreshes.add(1);
                Ok(StaleWhy::Revalidating)
            }
            // others have filled its queue since it was asked
            Err(_) if background.is_busy() => Ok(StaleWhy::Overloaded),
            Err(away) => {
                flight.set_in_batch(was_in_batch);
                match away.back() {
                    Some(lead) if lead.resume() => Err(lead),
                    // somebody has taken the key meanwhile, and loads it
                    _ => Ok(StaleWhy::Revalidating),
                }
            }
        }
    }

    /// The right to load the key ahead, for a caller that brings a loader, if there is a fresh value that is
    /// due and the cache has no loader of its own. A caller that does not accept that value loads as for a
    /// miss: it could be served nothing instead.
    pub(crate) fn lead_ahead<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        ask: &Ask,
    ) -> Option<Lead<K, V, S>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        if self.lives.ahead.is_never() || self.refresher.is_some() || self.is_in_handler() {
            return None;
        }
        let standing = {
            let shard = self.cell(hash).shard.read();
            shard.standing(hash, key, &self.terms())
        };
        // the draw of the hit that led here is not repeated
        let (owned, stamp) = standing.filter(|(_, stamp)| {
            let now = self.clock.now();
            ask.accepts(stamp.age(now)) && now >= self.due_from(*stamp)
        })?;
        let lead = self.take_ahead(hash, key, owned, Some(stamp), ask.in_batch);
        lead.inspect(|_| self.counts.refreshes.add(1))
    }

    fn take_ahead<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        owned: K,
        only: Option<Stamp>,
        in_batch: bool,
    ) -> Option<Lead<K, V, S>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut owned = Some(owned);
        let mut out = Outbox::new();
        // outlives the lock: it may be the last handle to what was written just now
        let unwritten;
        let Joined { role, overdue } = {
            let mut shard = self.cell(hash).shard.write();
            unwritten = owned.as_ref().and_then(|key| self.queues.latest(hash, key));
            if unwritten.is_some() {
                return None; // what the source has is older
            }
            shard.begin(hash, key, &mut owned, only, &self.terms(), &mut out)
        };
        // before any user code runs: if that panics, a load that has begun does not stay on the board
        let lead = match role {
            Role::Lead { flight, .. } => {
                if only.is_some() {
                    flight.set_ahead();
                }
                flight.set_in_batch(in_batch);
                Some(Lead::new(Arc::clone(self), flight))
            }
            _ => None,
        };
        if let Some(flight) = overdue {
            self.land_overdue(&flight);
        }
        drop(out);
        lead
    }
}
