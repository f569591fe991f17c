//! Storing: one function where every value meets the map, whoever brings it.

use super::store::Store;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::rules::expiry::NEVER;
use crate::shard::entry::Put;
use crate::shard::outbox::Outbox;
use crate::shard::store::Credit;
use crate::words::sync::thread;
use std::sync::Arc;

/// What became of a value that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It stands in the cache, for so many ticks.
    Yes(u64),
    /// It was not to be stored: its time to live is zero, or it weighs more than the cache may.
    No,
    /// Its flight had lost the key to something newer.
    Fenced,
}

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// What an entry takes of the budget. The user's weigher runs here, outside of all locks.
    pub(crate) fn units(&self, key: &K, value: Option<&V>) -> u64 {
        match (&self.weigher, value) {
            (Some(weigher), Some(value)) => weigher(key, value),
            _ => 1,
        }
    }

    /// `insert`: takes the key's flight off, whatever it brings is older.
    pub(crate) fn insert(&self, hash: u64, key: K, value: V, ttl: Option<u64>) {
        let units = self.units(&key, Some(&value));
        let ttl = ttl.unwrap_or(self.lives.ttl);
        let put = Put { hash: Hash::new(hash), key, value: Some(value), units, ttl, notes: None };
        let mut out = Outbox::new();
        self.put(hash, put, None, &mut out);
        self.deliver(out);
    }

    /// Stores, if `flight` still has its key, or, without one, ahead of any flight.
    pub(super) fn put(
        &self,
        hash: u64,
        put: Put<K, V>,
        flight: Option<&Arc<Flight<K, V>>>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        let mut credit = Credit::new(&self.budget);
        let mut put = Some(put);
        let tried = self.try_put(hash, &mut put, flight, &mut credit, out);
        tried.unwrap_or_else(|| self.put_with_room_of_others(hash, put, flight, credit, out))
    }

    /// One attempt, within the key's own shard. `None` if that has nothing left to evict.
    fn try_put(
        &self,
        hash: u64,
        put: &mut Option<Put<K, V>>,
        flight: Option<&Arc<Flight<K, V>>>,
        credit: &mut Credit<'_>,
        out: &mut Outbox<K, V>,
    ) -> Option<Stored> {
        let Some(wanted) = put.as_ref() else { return Some(Stored::No) };
        let mut shard = self.cell(hash).shard.write();
        let terms = self.terms();
        match flight {
            Some(flight) if !shard.take_off(flight) => return Some(Stored::Fenced),
            Some(_) => {}
            None => shard.fence(hash, &wanted.key, out),
        }
        let stored = if wanted.ttl == 0 || wanted.units > self.budget.max() {
            shard.refuse(put, flight.is_some(), &terms, out);
            Stored::No
        } else {
            let is_absent = flight.is_some_and(|flight| flight.is_absent);
            let Some(stamp) = shard.store(put, is_absent, credit, &terms, out) else {
                flight.inspect(|flight| shard.put_back(flight));
                return None;
            };
            Stored::Yes(stamp.fresh_for(terms.now))
        };
        drop(shard);
        if let Stored::Yes(life) = stored {
            if life < NEVER || self.lives.idle < NEVER {
                self.request_sweep();
            }
        }
        Some(stored)
    }

    /// The key's own shard has nothing left to evict: the room is in other ones. Callers take
    /// turns, so that two of them cannot hold half of the room each and wait for the other.
    #[cold]
    fn put_with_room_of_others(
        &self,
        hash: u64,
        mut put: Option<Put<K, V>>,
        flight: Option<&Arc<Flight<K, V>>>,
        credit: Credit<'_>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        let units = put.as_ref().map_or(0, |put| put.units);
        // what it holds goes back before it waits: the one whose turn it is may need just that
        drop(credit);
        let _turn = self.heavy.lock();
        let mut credit = Credit::new(&self.budget);
        loop {
            self.make_room(hash, units, &mut credit, out);
            if let Some(stored) = self.try_put(hash, &mut put, flight, &mut credit, out) {
                return stored;
            }
        }
    }

    /// Evicts in the other shards, one entry in each, until `units` could be had.
    fn make_room(&self, hash: u64, units: u64, credit: &mut Credit<'_>, out: &mut Outbox<K, V>) {
        let home = self.index(hash);
        let n = self.cells.len();
        let mut nothing_for = 0;
        for index in (0..n).cycle().skip(home + 1) {
            if credit.could_cover(units) {
                return;
            }
            if nothing_for == n {
                // all of it is in other inserts' hands, which are about to finish
                thread::yield_now();
                return;
            }
            let mut shard = self.cells[index].shard.write();
            match shard.evict(&self.terms(), out) {
                Some(freed) => {
                    credit.add(freed);
                    nothing_for = 0;
                }
                None => nothing_for += 1,
            }
        }
    }
}
