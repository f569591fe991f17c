//! The keys of one shard whose last load failed: how often in a row, and until when the source is
//! left alone.
//!
//! There is no entry for it: failure is not a result, and replaces nothing. Where callers are told
//! the last error meanwhile, the flight is kept, which has the key and the error; else a hash is
//! enough: two keys that share all of it share a count and a pause, and no answer.

use super::outbox::Outbox;
use crate::parts::flight::{Flight, Landing};
use crate::words::tick::Tick;
use equivalent::Equivalent;
use hashbrown::HashTable;
use std::sync::Arc;

/// How many keys a shard remembers the failures of. In an outage of everything, one that is not
/// remembered is asked for as if it had not failed.
const MOST: usize = 128;

pub(crate) struct Failures<K, V> {
    failed: HashTable<Failure<K, V>>,
}

pub(crate) struct Failure<K, V> {
    hash: u64,
    /// The flight's.
    pub(crate) number: u64,
    /// How many failures there have been in a row, this one included.
    pub(crate) in_a_row: u32,
    /// When the last of them was.
    pub(crate) at: Tick,
    /// Before this tick the source is not asked again.
    pub(crate) until: Tick,
    told: Option<Told<K, V>>,
}

/// What is answered until then.
struct Told<K, V> {
    flight: Arc<Flight<K, V>>,
    landing: Landing<V>,
}

impl<K, V> Failure<K, V> {
    /// Whether it is this key's, or may be: what nobody is told of any more has let go of its key.
    fn is_of<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.hash == hash && self.told.as_ref().is_none_or(|t| key.equivalent(&t.flight.key))
    }

    /// Whether it is this key's for sure.
    fn is_told_of<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.told.is_some() && self.is_of(hash, key)
    }

    /// What the load came to, where that is an answer.
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
        // its own before one that may be another key's of the same hash
        let own = self.failed.find(hash, |f| f.is_told_of(hash, key));
        own.or_else(|| self.failed.find(hash, |f| f.is_of(hash, key)))
    }

    /// A flight that had its key until now, `at`, came to nothing. It takes the place of the failure
    /// that it was begun after. `answers` says whether its error is an answer until then.
    pub(crate) fn record(
        &mut self,
        flight: &Arc<Flight<K, V>>,
        landing: Landing<V>,
        (at, until): (Tick, Tick),
        answers: bool,
        out: &mut Outbox<K, V>,
    ) {
        if !self.drop_number(flight.hash, flight.after, out) && self.failed.len() >= MOST {
            // the one that would be asked for again the soonest
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

    /// Lets go of keys and errors that nobody is told of any more; the counts stay.
    pub(crate) fn release(&mut self, now: Tick, out: &mut Outbox<K, V>) {
        for failure in self.failed.iter_mut().filter(|f| f.until <= now) {
            if let Some(told) = failure.told.take() {
                out.flight(told.flight);
            }
        }
    }

    /// Panics where a key stands twice, or too many do. For tests.
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
