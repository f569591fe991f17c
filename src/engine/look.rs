//! Reading, and deciding what a caller that found nothing does next.

use super::lead::Lead;
use super::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::group::Hash;
use crate::parts::stack;
use crate::rules::got::{Got, How, StaleWhy};
use crate::shard::Shard;
use crate::shard::entry::Entry;
pub(crate) use crate::shard::look::Looked;
use crate::shard::look::{Ask, Role, Time};
use crate::shard::walk::Cursor;
use crate::words::clock::TRUST;
use crate::words::sync::ReadGuard;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;

/// What a caller that found nothing does next.
pub(crate) enum Next<K, V, S> {
    /// There is an answer now.
    Look,
    /// Wait for somebody else's load.
    Follow(Arc<Flight<K, V>>),
    /// It is this very thread or task that loads the key.
    Recursive,
    /// Load.
    Lead(Lead<K, V, S>),
}

impl<K, V, S> Time for Store<K, V, S> {
    #[inline]
    fn is_before(&self, at: Tick) -> bool {
        self.clock.is_before(at)
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }
}

impl<K, V, S> Store<K, V, S> {
    /// A look-up that counts.
    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let shard = self.cell(hash).shard.read();
        let value = |_, entry: &Entry<K, V>| entry.value.clone();
        if let Ok(value) = shard.get_at_home(Hash::new(hash), key, &self.lives, self, value) {
            drop(shard);
            self.count_hit();
            return Looked::Value(value);
        }
        self.get_elsewhere(hash, key, shard)
    }

    /// The rest of [`get`](Self::get).
    #[inline(never)]
    fn get_elsewhere<Q>(&self, hash: u64, key: &Q, shard: ReadGuard<'_, Shard<K, V>>) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let looked = match shard.get_elsewhere(Hash::new(hash), key, &self.lives, self) {
            Looked::Value((_, entry)) => Looked::Value(entry.value.clone()),
            Looked::Missing => Looked::Missing,
            Looked::Nothing => Looked::Nothing,
        };
        drop(shard);
        self.count(&looked);
        looked
    }

    /// As [`get`](Self::get), with what there is to say about the value. `counts` is false when the
    /// same call looks again.
    pub(crate) fn got<Q>(&self, hash: u64, key: &Q, counts: bool) -> Looked<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let looked = {
            let shard = self.cell(hash).shard.read();
            shard.get(Hash::new(hash), key, &self.lives, self, |id, entry| {
                shard.got(id, entry, &self.lives, self.clock.now())
            })
        };
        if counts {
            self.count(&looked);
        }
        looked
    }

    #[inline]
    fn count<R>(&self, looked: &Looked<R>) {
        match looked {
            Looked::Value(_) | Looked::Missing => self.count_hit(),
            Looked::Nothing => self.lookups.miss(),
        }
    }

    #[inline]
    fn count_hit(&self) {
        // the hits of a thread go by the clock's cheapest reading, and see to it together
        if self.lookups.hit() % u64::from(TRUST) == 0 {
            self.clock.compare();
        }
    }

    /// Whether there is a value to serve. Leaves no trace.
    pub(crate) fn contains<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let shard = self.cell(hash).shard.read();
        shard.peek(Hash::new(hash), key, &self.terms()).is_some()
    }

    pub(crate) fn peek<Q>(&self, hash: u64, key: &Q) -> Option<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        let (id, entry) = shard.peek(Hash::new(hash), key, &terms)?;
        let mut got = shard.got(id, entry, &self.lives, terms.now);
        if got.fresh_for.is_zero() {
            got.how = How::Stale(StaleWhy::Expired);
        }
        Some(got)
    }

    /// The next few fresh values of a walk over shard `index`, cloned under its shared lock.
    pub(crate) fn walk(&self, index: usize, cursor: &mut Cursor) -> Vec<(K, Got<V>)>
    where
        K: Clone,
        V: Clone,
    {
        let mut batch = Vec::new();
        let shard = self.cells[index].shard.read();
        let terms = self.terms();
        shard.walk(cursor, &terms, |id, entry, _| {
            batch.push((entry.key.clone(), shard.got(id, entry, &self.lives, terms.now)));
        });
        batch
    }

    pub(crate) fn shards(&self) -> usize {
        self.cells.len()
    }

    /// Decides who loads.
    pub(crate) fn join<Q>(self: &Arc<Self>, hash: u64, key: &Q, ask: Ask) -> Next<K, V, S>
    where
        Q: ?Sized + Equivalent<K> + ToOwned<Owned = K>,
    {
        // the user's `Clone` runs before the lock is taken, and its `Drop` after
        let mut owned = Some(key.to_owned());
        let role = {
            let mut shard = self.cell(hash).shard.write();
            shard.join(hash, key, &mut owned, ask, &self.terms(), self.load_timeout)
        };
        match role {
            Role::Look => Next::Look,
            Role::Follow(flight) if stack::is_running(flight.id()) => Next::Recursive,
            Role::Follow(flight) => {
                self.hurry(&flight);
                Next::Follow(flight)
            }
            Role::Lead { flight, reason, overdue } => {
                if let Some(flight) = overdue {
                    self.counts.load_timeouts.add(1);
                    flight.land(Landing::TimedOut);
                }
                Next::Lead(Lead::new(Arc::clone(self), flight, reason, !ask.in_batch))
            }
        }
    }

    /// The tick at which those who wait for this flight give it up.
    pub(crate) fn deadline(&self, flight: &Flight<K, V>) -> u64 {
        flight.started().saturating_add(self.load_timeout)
    }

    /// The flight has had its time: it loses its key, and everybody who waits is told.
    pub(crate) fn time_out(&self, flight: &Arc<Flight<K, V>>) {
        if self.cell(flight.hash).shard.write().take_off(flight) {
            flight.ground();
            self.counts.load_timeouts.add(1);
        }
        flight.land(Landing::TimedOut);
    }

    /// A miss waits for another caller's load.
    pub(crate) fn count_joined(&self) {
        self.counts.joined.add(1);
    }
}
