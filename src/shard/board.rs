//! The loads in flight of one shard, by key, under the shard's lock.
//!
//! They are kept beside the entries, not in their place, so that an old value stays readable while its
//! successor loads. Only a flight that is still on the board when it lands may store.
//!
//! Most loads are over before anybody else asks for their key. Such a load has no flight, only a [`Seat`];
//! whoever else comes for the key [meets](Board::meet) the load, which has a flight from then on. A flight
//! costs an allocation, a lock of its own and a counted handle for each holder: if the source answers at
//! once, these were half of the time of a load.
//!
//! The first few flights are in a row that is searched linearly; the rest, in a storm of misses, in a hash
//! table. A shard seldom has more than a few, and a table alone costs a tenth of a load that returns at once:
//! its control bytes are written one by one and read sixteen at a time, which a processor can only do once
//! the writes have left its store buffer.

use crate::parts::flight::{Begin, Flight};
use crate::parts::tags::Version;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use hashbrown::HashTable;
use std::sync::Arc;

/// How many flights the row holds: four to a cache line.
const ROW: usize = 8;

pub(crate) struct Board<K, V> {
    seats: Vec<Seat<K>>,
    row: Vec<(u64, Arc<Flight<K, V>>)>,
    rest: HashTable<Arc<Flight<K, V>>>,
    /// Flights that were made of seats, for their leaders, who do not know of them yet.
    met: Vec<Arc<Flight<K, V>>>,
}

/// A load that nobody but its caller knows of: just what is needed to make a flight of it.
pub(crate) struct Seat<K> {
    /// Its identity until it has a flight: an address on its caller's stack.
    pub(crate) alias: usize,
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) number: u64,
    pub(crate) since: Version,
    pub(crate) posted: Tick,
}

impl<K> Seat<K> {
    fn is_of<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.hash == hash && key.equivalent(&self.key)
    }

    pub(crate) fn into_flight<V>(self) -> Arc<Flight<K, V>> {
        let Self { alias, hash, key, number, since, posted } = self;
        let begin = Begin { alias, number, since, ..Begin::of_nothing(hash) };
        Arc::new(Flight::new(begin, key, posted))
    }
}

impl<K, V> Board<K, V> {
    pub(crate) fn new() -> Self {
        Self { seats: Vec::new(), row: Vec::new(), rest: HashTable::new(), met: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len() + self.row.len() + self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.seats.is_empty() && self.row.is_empty() && self.rest.is_empty()
    }

    /// Whether a load of the key is under way.
    #[inline]
    pub(crate) fn has<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        !self.is_empty()
            && (self.seats.iter().any(|seat| seat.is_of(hash, key))
                || self.get(hash, key).is_some())
    }

    /// The flight of a key; that of a load in a seat only after it was [met](Self::meet).
    #[inline]
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<&Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        // empty in most calls: a write with nothing in flight
        if self.row.is_empty() && self.rest.is_empty() {
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

    /// Whether one more load may begin in a seat. The number is limited because seats are searched one by
    /// one.
    #[inline]
    pub(crate) fn has_seat(&self) -> bool {
        self.seats.len() < ROW
    }

    /// Seats a load whose key has none yet.
    #[inline]
    pub(crate) fn sit(&mut self, seat: Seat<K>) {
        self.seats.push(seat);
    }

    /// The seat of the load with this alias, if nobody else has come for it.
    #[inline]
    pub(crate) fn seat(&self, alias: usize) -> Option<usize> {
        self.seats.iter().position(|seat| seat.alias == alias)
    }

    /// When the load in a seat began.
    #[inline]
    pub(crate) fn posted(&self, seat: usize) -> Tick {
        self.seats[seat].posted
    }

    /// Takes a load out of its seat, and so off the board.
    #[inline]
    pub(crate) fn vacate(&mut self, seat: usize) -> Seat<K> {
        self.seats.swap_remove(seat)
    }

    /// The flight of the load that began in a seat with this alias. It is on the board if it still has its
    /// key.
    pub(crate) fn rise(&mut self, alias: usize) -> Option<Arc<Flight<K, V>>> {
        if let Some(seat) = self.seat(alias) {
            self.meet_at(seat);
        }
        let at = self.met.iter().position(|flight| flight.id() == alias)?;
        Some(self.met.swap_remove(at))
    }

    /// Somebody comes for a key: if its load is in a seat, turns the seat into a flight.
    #[inline]
    pub(crate) fn meet<Q>(&mut self, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        if let Some(at) = self.seats.iter().position(|seat| seat.is_of(hash, key)) {
            self.meet_at(at);
        }
    }

    #[cold]
    fn meet_at(&mut self, at: usize) {
        let flight = self.seats.swap_remove(at).into_flight();
        self.met.push(Arc::clone(&flight));
        self.post(flight);
    }

    /// Takes this very flight off the board, if it is still on it.
    #[inline]
    pub(crate) fn take(&mut self, flight: &Arc<Flight<K, V>>) -> bool {
        // the caller's handle keeps the flight alive: no user code is dropped here
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

    /// Takes the key's flight off the board, if it has one.
    #[inline]
    pub(crate) fn take_key<Q>(&mut self, hash: u64, key: &Q) -> Option<Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        if self.is_empty() {
            return None;
        }
        self.meet(hash, key);
        let same = |flight: &Arc<Flight<K, V>>| flight.hash == hash && key.equivalent(&flight.key);
        if let Some(at) = self.row.iter().position(|(_, flight)| same(flight)) {
            return Some(self.row.swap_remove(at).1);
        }
        self.rest.find_entry(hash, same).ok().map(|place| place.remove().0)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Flight<K, V>>> {
        while !self.seats.is_empty() {
            self.meet_at(0);
        }
        let row = std::mem::take(&mut self.row).into_iter().map(|(_, flight)| flight);
        row.chain(std::mem::take(&mut self.rest))
    }

    /// Panics if a key has two loads. For tests.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        let flights = self.row.iter().map(|(_, flight)| flight).chain(&self.rest);
        let flights = flights.map(|flight| (flight.hash, &flight.key));
        let seats = self.seats.iter().map(|seat| (seat.hash, &seat.key));
        let all: Vec<_> = flights.chain(seats).collect();
        for one in &all {
            assert_eq!(all.iter().filter(|other| *other == one).count(), 1, "two loads of one key");
        }
    }
}
