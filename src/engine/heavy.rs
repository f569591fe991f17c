//! Storing an entry with room from other shards than its own.

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
    /// The key's own shard has nothing left to evict, or clearly less than its share: the room has to come
    /// from other shards. Callers take turns, so that no two of them each hold half of the room and wait for
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
        // the credit goes back before the wait: the insert whose turn it is may need just that
        drop(credit);
        // even if an `Eq` panics, what had to go is reported, after the turn
        let unreported = Unreported { store: self, out };
        // likewise, the changes that it replaces in the tier's line are dropped after the turn
        let mut noted = Vec::new();
        let _turn = self.heavy.lock();
        let mut credit = Credit::at_last(&self.budget);
        // Another write of the key may come in between. The second tier is told of it after this one, but
        // this one is stored after it: so the tier is to have neither.
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

    /// Evicts from the other shards, one entry from each in turn, until `units` can be had: first from those
    /// that have more than their share, then from any, the key's own included.
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
                // most are asked in vain, and should not lose their readers' bias for that
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
        // all the room is held by other inserts, which are about to finish
        thread::yield_now();
    }
}
