//! The loads in flight of one shard, by key, under the shard's lock.
//!
//! They stand beside the entries, not instead of them, so that an old value stays readable while
//! its successor loads. Only a flight that is still on the board when it arrives may store.

use crate::parts::flight::Flight;
use equivalent::Equivalent;
use hashbrown::HashTable;
use std::sync::Arc;

pub(crate) struct Board<K, V> {
    flights: HashTable<Arc<Flight<K, V>>>,
}

impl<K, V> Board<K, V> {
    pub(crate) fn new() -> Self {
        Self { flights: HashTable::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<&Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        // empty in most calls that ask: a write with nothing in flight
        if self.flights.is_empty() {
            return None;
        }
        self.flights.find(hash, |flight| flight.hash == hash && key.equivalent(&flight.key))
    }

    pub(crate) fn post(&mut self, flight: Arc<Flight<K, V>>) {
        self.flights.insert_unique(flight.hash, flight, |flight| flight.hash);
    }

    /// Takes this very flight off, if it is still on.
    pub(crate) fn take(&mut self, flight: &Arc<Flight<K, V>>) -> bool {
        match self.flights.find_entry(flight.hash, |other| Arc::ptr_eq(other, flight)) {
            Ok(place) => {
                // the caller's handle keeps it alive: nothing of the user's is dropped here
                place.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Takes off whatever flight the key has.
    pub(crate) fn take_key<Q>(&mut self, hash: u64, key: &Q) -> Option<Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        if self.flights.is_empty() {
            return None;
        }
        let same = |flight: &Arc<Flight<K, V>>| flight.hash == hash && key.equivalent(&flight.key);
        self.flights.find_entry(hash, same).ok().map(|place| place.remove().0)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Flight<K, V>>> {
        std::mem::take(&mut self.flights).into_iter()
    }

    /// Panics where a flight stands twice. For tests.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        for flight in &self.flights {
            let same = self.flights.iter().filter(|f| f.hash == flight.hash && f.key == flight.key);
            assert_eq!(same.count(), 1, "two flights of one key");
        }
    }
}
