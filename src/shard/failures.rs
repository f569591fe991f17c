//! The keys of one shard whose last load failed: how often in a row, and until when no load begins.
//!
//! A failure is no entry in the cache: it is not a result, and replaces nothing. If callers are told the last
//! error meanwhile, the flight is kept, which has the key and the error; else the hash is enough: two keys
//! that share the whole hash share a count and a pause, but no answer.

use super::outbox::Outbox;
use crate::parts::flight::{Flight, Landing};
use crate::words::tick::Tick;
use equivalent::Equivalent;
use hashbrown::HashTable;
use std::sync::Arc;

/// For how many keys a shard remembers failures. In an outage of everything, a key that is not remembered is
/// loaded as if it had not failed.
const MOST: usize = 128;

pub(crate) struct Failures<K, V> {
    failed: HashTable<Failure<K, V>>,
}

pub(crate) struct Failure<K, V> {
    hash: u64,
    /// The number of the flight that failed.
    pub(crate) number: u64,
    /// How many failures there have been in a row, this one included.
    pub(crate) in_a_row: u32,
    /// When the last one was.
    pub(crate) at: Tick,
    /// Before this tick the source is not asked again.
    pub(crate) until: Tick,
    told: Option<Told<K, V>>,
}

/// The answer until then.
struct Told<K, V> {
    flight: Arc<Flight<K, V>>,
    landing: Landing<V>,
}

impl<K, V> Failure<K, V> {
    /// Whether it is this key's failure, or may be: one that is no longer an answer has dropped its key.
    fn is_of<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.hash == hash && self.told.as_ref().is_none_or(|t| key.equivalent(&t.flight.key))
    }

    /// Whether it is this key's failure for sure.
    fn is_told_of<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.told.is_some() && self.is_of(hash, key)
    }

    /// The outcome of the load, if it is an answer.
    pub(crate) fn landing(&self) -> Option<&Landing<V>> {
        self.told.as_ref().map(|told| &told.landing)
    }

    fn leave(self, out: &mut Outbox<K, V>) {
        if let Some(told) = self.told {
            out.flight(told.flight);
        }
    }
}

impl<K, V> Failures<K, V> {
    pub(crate) fn new() -> Self {
        Self { failed: HashTable::new() }
    }

    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<&Failure<K, V>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        // while all is well, one comparison
        if self.failed.is_empty() {
            return None;
        }
        // the key's own failure before one that may be of another key with the same hash
        let own = self.failed.find(hash, |f| f.is_told_of(hash, key));
        own.or_else(|| self.failed.find(hash, |f| f.is_of(hash, key)))
    }

    /// Records that a flight that had its key until now failed, `at` this tick. This replaces the key's previous
    /// failure. `answers` says whether its error is an answer until `until`.
    pub(crate) fn record(
        &mut self,
        flight: &Arc<Flight<K, V>>,
        landing: Landing<V>,
        (at, until): (Tick, Tick),
        answers: bool,
        out: &mut Outbox<K, V>,
    ) {
        if !self.drop_number(flight.hash, flight.after, out) && self.failed.len() >= MOST {
            // forget the one that may be loaded again the soonest
            let soonest = self.failed.iter().min_by_key(|f| f.until);
            if let Some((hash, number)) = soonest.map(|f| (f.hash, f.number)) {
                self.drop_number(hash, number, out);
            }
        }
        let failure = Failure {
            hash: flight.hash,
            number: flight.number,
            in_a_row: flight.attempt + 1,
            at,
            until,
            told: answers.then(|| Told { flight: Arc::clone(flight), landing }),
        };
        self.failed.insert_unique(flight.hash, failure, |f| f.hash);
    }

    fn drop_number(&mut self, hash: u64, number: u64, out: &mut Outbox<K, V>) -> bool {
        let Ok(place) = self.failed.find_entry(hash, |f| f.number == number) else { return false };
        place.remove().0.leave(out);
        true
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// The key was loaded or written: its failures are over.
    #[inline(never)]
    pub(crate) fn forget<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        while let Ok(place) = self.failed.find_entry(hash, |f| f.is_of(hash, key)) {
            place.remove().0.leave(out);
        }
    }

    pub(crate) fn forget_all(&mut self, out: &mut Outbox<K, V>) {
        for failure in std::mem::take(&mut self.failed) {
            failure.leave(out);
        }
    }

    /// Drops keys and errors that are no longer answers; the counts stay.
    pub(crate) fn release(&mut self, now: Tick, out: &mut Outbox<K, V>) {
        for failure in self.failed.iter_mut().filter(|f| f.until <= now) {
            if let Some(told) = failure.told.take() {
                out.flight(told.flight);
            }
        }
    }

    /// Panics if a key is in here twice, or if there are too many. For tests.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        assert!(self.failed.len() <= MOST, "failures are not bounded");
        for told in self.failed.iter().filter_map(|f| f.told.as_ref()) {
            let (hash, key) = (told.flight.hash, &told.flight.key);
            let same = self.failed.iter().filter(|f| f.told.is_some() && f.is_of(hash, key));
            assert_eq!(same.count(), 1, "two failures of one key");
        }
    }
}
