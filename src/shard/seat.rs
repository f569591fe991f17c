//! Loads that nobody but their callers know of: a seat on the board instead of a flight.

use super::Shard;
use super::board::{Seat, Seated};
use super::entry::{Put, Terms};
use super::outbox::Outbox;
use super::store::Credit;
use crate::parts::eviction::Policy;
use crate::parts::flight::{Begin, Flight};
use crate::parts::group::Hash;
use crate::rules::expiry::Stamp;
use equivalent::Equivalent;
use std::sync::Arc;

impl<K: Eq, V> Shard<K, V> {
    /// Seats a load of a key of which nothing is known: nothing stands there, nobody is loading it,
    /// nothing has failed. Whether it was so; then `owned` is taken.
    #[inline]
    pub(crate) fn sit(
        &mut self,
        hash: u64,
        alias: usize,
        owned: &mut Option<K>,
        terms: &Terms<'_>,
    ) -> bool {
        let Some(key) = owned.as_ref() else { return false };
        let is_known = !self.failures.is_empty()
            || self.board.has(hash, key)
            || self.locate(Hash::new(hash), key).is_some();
        if is_known || !self.board.has_seat() {
            return false;
        }
        // what storing touches is asked for now
        self.policy.expect(Hash::new(hash).bits());
        self.begun += 1;
        let (number, since) = (self.begun, terms.tags.version());
        let begin = Begin { alias, number, since, ..Begin::of_nothing(hash) };
        if let Some(key) = owned.take() {
            self.board.sit(Seat { begin, key, posted: terms.now });
        }
        true
    }

    /// A seated load brought a value. Stores it if that is simple: nobody has come for the key,
    /// there is room for it here, and time left. Else the value stays where it is, and the load has
    /// a flight, to land as all others do. None of the user's code runs in here, so once it has
    /// risen, nothing is between it and its end.
    #[inline]
    pub(crate) fn land_seated(
        &mut self,
        (hash, alias): (u64, usize),
        seated: &mut Option<V>,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Result<Stamp, Arc<Flight<K, V>>> {
        let Seat { begin, key, posted } = match self.board.rise(hash, alias) {
            Some(Seated::Alone(seat)) => seat,
            Some(Seated::Met(flight)) => return Err(flight),
            None => unreachable!("a load lands once"),
        };
        let ttl = terms.lives.ttl;
        let is_simple = self.fences.is_empty()
            && ttl > 0
            && terms.budget.max() > 0
            && terms.now < posted.saturating_add(terms.load_timeout);
        let took = terms.now.saturating_sub(posted).max(1);
        let key = if is_simple {
            let (hash, value) = (Hash::new(hash), seated.take());
            let put = Put { hash, key, value, units: 1, ttl, took, notes: None };
            match self.store(put, None, true, credit, terms, out) {
                Ok(stamp) => return Ok(stamp),
                Err(put) => {
                    *seated = put.value;
                    put.key
                }
            }
        } else {
            key
        };
        let flight = Seat { begin, key, posted }.into_flight();
        self.board.post(Arc::clone(&flight));
        Err(flight)
    }

    /// A seated load is to land as all others do.
    pub(crate) fn rise(&mut self, hash: u64, alias: usize) -> Option<Arc<Flight<K, V>>> {
        match self.board.rise(hash, alias)? {
            Seated::Met(flight) => Some(flight),
            Seated::Alone(seat) => {
                let flight = seat.into_flight();
                self.board.post(Arc::clone(&flight));
                Some(flight)
            }
        }
    }
}

impl<K, V> Shard<K, V> {
    /// Somebody wants to know of the load of a key, if there is one.
    pub(crate) fn meet<Q>(&mut self, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.board.meet(hash, key);
    }
}
