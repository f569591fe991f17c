//! Storing what takes its room from other shards than its own.

use super::put::{By, Stored};
use super::store::Store;
use super::unreported::Unreported;
use crate::parts::credit::Credit;
use crate::shard::entry::Put;
use crate::shard::outbox::Outbox;
use crate::words::sync::thread;

impl<K, V, S> Store<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// The key's own shard has nothing left to evict, or clearly less than falls to it: the room is in
    /// other ones. Callers take turns, so that two of them cannot hold half of the room each and wait for
    /// the other.
    #[cold]
    pub(super) fn put_with_room_of_others(
        &self,
        hash: u64,
        put: &mut Option<Put<K, V>>,
        by: By<'_, K, V>,
        credit: Credit<'_>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        let units = put.as_ref().map_or(0, |put| put.units);
        // what it holds goes back before it waits: the one whose turn it is may need just that
        drop(credit);
        // an `Eq` that panics does not keep what had to go from being reported, after the turn
        let unreported = Unreported { store: self, out };
        // as what it replaces in the line of changes is dropped after the turn
        let mut noted = Vec::new();
        let _turn = self.heavy.lock();
        let mut credit = Credit::at_last(&self.budget);
        // Another write of the key may come in between, and be told to the second tier after this one, which
        // is stored after it: the tier is to have neither.
        let name = put.as_ref().filter(|_| matches!(by, By::Write | By::Change(_)));
        let name = name.and_then(|put| self.name_of(&put.key));
        loop {
            self.make_room(hash, units, &mut credit, unreported.out);
            let shard = self.cell(hash).shard.write();
            noted.extend(self.tell_removal(name.as_ref()));
            if let Some(stored) = self.try_put(hash, put, by, &mut credit, unreported.out, shard) {
                return stored;
            }
        }
    }

    /// Evicts in the other shards, one entry in each, until `units` could be had: first in those that
    /// have more than falls to them, then in any, its own among them.
    fn make_room(&self, hash: u64, units: u64, credit: &mut Credit<'_>, out: &mut Outbox<K, V>) {
        let home = self.index(hash);
        let n = self.cells.len();
        for is_fair in [true, false] {
            let mut nothing_for = 0;
            for index in (0..n).cycle().skip(home + 1) {
                if credit.could_cover(units) {
                    return;
                }
                if nothing_for == n {
                    break;
                }
                let lock = &self.cells[index].shard;
                // most are asked in vain, and are not to lose their readers' bias for that
                let may_lose = !is_fair || lock.read().exceeds_its_share();
                match may_lose.then(|| lock.write().evict(&self.terms(), out)).flatten() {
                    Some(freed) => {
                        credit.add(freed);
                        nothing_for = 0;
                    }
                    None => nothing_for += 1,
                }
            }
        }
        // all of it is in other inserts' hands, which are about to finish
        thread::yield_now();
    }
}
