//! The loads in flight of one shard, by key, under the shard's lock.
//!
//! They stand beside the entries, not instead of them, so that an old value stays readable while
//! its successor loads. Only a flight that is still on the board when it arrives may store.
//!
//! The first few stand in a row that is looked through, the rest, of a storm of misses, in a table.
//! A shard seldom has more than a few, and with a table alone they cost a tenth of a load that
//! returns at once: its control bytes are written one by one and read in sixteens at once, which a
//! processor can only do when the writes have left its store buffer.

use crate::parts::flight::Flight;
use equivalent::Equivalent;
use hashbrown::HashTable;
use std::sync::Arc;

/// How many stand in the row: four to a cache line.
const ROW: usize = 8;

pub(crate) struct Board<K, V> {
    row: Vec<(u64, Arc<Flight<K, V>>)>,
    rest: HashTable<Arc<Flight<K, V>>>,
}

impl<K, V> Board<K, V> {
    pub(crate) fn new() -> Self {
        Self { row: Vec::new(), rest: HashTable::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.row.len() + self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.row.is_empty() && self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<&Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        // empty in most calls that ask: a write with nothing in flight
        if self.is_empty() {
            return None;
        }
        let in_row = self.row.iter().find(|(h, flight)| *h == hash && key.equivalent(&flight.key));
        if let Some((_, flight)) = in_row {
            return Some(flight);
        }
        self.rest.find(hash, |flight| flight.hash == hash && key.equivalent(&flight.key))
    }

    #[inline]
    pub(crate) fn post(&mut self, flight: Arc<Flight<K, V>>) {
        if self.row.len() < ROW {
            self.row.push((flight.hash, flight));
        } else {
            self.rest.insert_unique(flight.hash, flight, |flight| flight.hash);
        }
    }

    /// Takes this very flight off, if it is still on.
    #[inline]
    pub(crate) fn take(&mut self, flight: &Arc<Flight<K, V>>) -> bool {
        // the caller's handle keeps it alive: nothing of the user's is dropped here
        if let Some(at) = self.row.iter().position(|(_, other)| Arc::ptr_eq(other, flight)) {
            self.row.swap_remove(at);
            return true;
        }
        match self.rest.find_entry(flight.hash, |other| Arc::ptr_eq(other, flight)) {
            Ok(place) => {
                place.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Takes off whatever flight the key has.
    #[inline]
    pub(crate) fn take_key<Q>(&mut self, hash: u64, key: &Q) -> Option<Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        if self.is_empty() {
            return None;
        }
        let same = |flight: &Arc<Flight<K, V>>| flight.hash == hash && key.equivalent(&flight.key);
        if let Some(at) = self.row.iter().position(|(_, flight)| same(flight)) {
            return Some(self.row.swap_remove(at).1);
        }
        self.rest.find_entry(hash, same).ok().map(|place| place.remove().0)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Flight<K, V>>> {
        let row = std::mem::take(&mut self.row).into_iter().map(|(_, flight)| flight);
        row.chain(std::mem::take(&mut self.rest))
    }

    /// Panics where a flight stands twice. For tests.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        let all = || self.row.iter().map(|(_, flight)| flight).chain(&self.rest);
        for flight in all() {
            let same = all().filter(|f| f.hash == flight.hash && f.key == flight.key);
            assert_eq!(same.count(), 1, "two flights of one key");
        }
    }
}
