//! Storing: one function where every value meets the map, whoever brings it.

use super::store::Store;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::rules::expiry::{NEVER, Stamp};
use crate::shard::entry::Put;
use crate::shard::outbox::Outbox;
use crate::shard::store::Credit;
use crate::words::removal::RemovalCause;
use crate::words::sync::thread;
use std::sync::Arc;

/// What became of a value that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It stands in the cache, with this stamp.
    Yes(Stamp),
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
        let put = Put { hash: Hash::new(hash), key, value: Some(value), units, ttl };
        let mut out = Outbox::new();
        self.put(hash, put, None, &mut out);
        self.deliver(out);
    }

    /// Stores, if `flight` still has its key, or, without one, ahead of any flight.
    pub(super) fn put(
        &self,
        hash: u64,
        mut put: Put<K, V>,
        flight: Option<&Arc<Flight<K, V>>>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        let mut credit = Credit::new(&self.budget);
        let mut turn = None;
        loop {
            {
                let mut shard = self.cell(hash).shard.write();
                let terms = self.terms();
                match flight {
                    Some(flight) if !shard.is_flying(flight) => return Stored::Fenced,
                    Some(_) => {}
                    None => shard.fence(hash, &put.key, out),
                }
                if put.ttl == 0 || put.units > self.budget.max() {
                    let cause =
                        if put.ttl == 0 { RemovalCause::Removed } else { RemovalCause::Replaced };
                    shard.remove(put.hash, &put.key, cause, &terms, out);
                    if let Some(flight) = flight {
                        shard.take_off(flight);
                    }
                    break;
                }
                match shard.store(put, &mut credit, &terms, out) {
                    Ok(stamp) => {
                        if let Some(flight) = flight {
                            shard.take_off(flight);
                        }
                        drop(shard);
                        self.expect_expiry(stamp);
                        return Stored::Yes(stamp);
                    }
                    Err(unstored) => put = unstored,
                }
            }
            // this shard has nothing left to evict: the room is in other ones
            if turn.is_none() {
                turn = Some(self.heavy.lock());
            }
            self.make_room(hash, put.units, &mut credit, out);
        }
        self.refuse(hash, put, flight.is_some(), out);
        Stored::No
    }

    /// Reports a value that was not stored, if somebody would otherwise miss it.
    fn refuse(&self, hash: u64, put: Put<K, V>, is_load: bool, out: &mut Outbox<K, V>) {
        match put.value {
            Some(value) if put.ttl > 0 => {
                self.cell(hash).shard.write().reject(put.key, value, out);
            }
            // a load's caller has its value; what was inserted with no life would vanish unseen
            Some(value) if !is_load => out.value(put.key, value, RemovalCause::Expired),
            _ => out.key(put.key),
        }
    }

    /// Evicts in the other shards, a little in each, until `units` could be had. Callers take
    /// turns, so that two of them cannot hold half of the room each and wait for the other.
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

    fn expect_expiry(&self, stamp: Stamp) {
        if stamp.fresh_for(0) < NEVER || self.lives.idle < NEVER {
            self.request_sweep();
        }
    }
}
