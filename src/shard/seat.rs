//! Loads that nobody but their callers know of, which have a seat on the board instead of a flight.

use super::Shard;
use super::board::Seat;
use super::entry::{Entry, Put, Terms};
use super::outbox::Outbox;
use crate::parts::credit::Credit;
use crate::parts::eviction::Policy;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::tags::Version;
use crate::rules::expiry::Stamp;
use crate::words::removal::RemovalCause;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;

impl<K: Eq, V> Shard<K, V> {
    /// Seats a load of a key of which nothing is known: it has no entry, nobody is loading it, no load of it
    /// has failed. Returns whether the load was seated; then `owned` is taken.
    #[inline]
    pub(crate) fn sit(
        &mut self,
        (hash, alias): (u64, usize),
        owned: &mut Option<K>,
        now: Tick,
        since: Version,
    ) -> bool {
        let Some(key) = owned.as_ref() else { return false };
        let is_known = !self.failures.is_empty() && self.failures.get(hash, key).is_some()
            || self.board.has(hash, key)
            || self.slot(Hash::new(hash), key).is_some();
        if is_known || !self.board.has_seat() {
            return false;
        }
        // prefetch what storing will touch
        self.policy.expect(Hash::new(hash).bits());
        self.begun += 1;
        if let Some(key) = owned.take() {
            self.board.sit(Seat { alias, hash, key, number: self.begun, since, posted: now });
        }
        true
    }

    /// A seated load brought a value. Stores it if that is simple: nobody else has come for the key, this
    /// shard has room, and there is time left. Otherwise `value` is left as it is, and the load gets a
    /// flight, which lands as all others do. No user code runs in here, so nothing can intervene between
    /// leaving the seat and the end of the load.
    #[inline]
    pub(crate) fn land_seated(
        &mut self,
        alias: usize,
        value: &mut Option<V>,
        credit: &mut Credit<'_>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Result<Stamp, Option<Arc<Flight<K, V>>>> {
        let ttl = terms.lives.ttl;
        let Some(at) = self.board.seat(alias) else { return Err(self.board.rise(alias)) };
        // with a bound of zero the value is refused, and nothing is begun for it
        let is_simple = self.fences.is_empty() && ttl > 0 && terms.budget.max() > 0;
        if !is_simple || terms.now >= self.board.posted(at).saturating_add(terms.load_timeout) {
            return Err(self.board.rise(alias));
        }
        let Seat { hash, key, number, since, posted, .. } = self.board.vacate(at);
        let Some(stored) = value.take() else { unreachable!("a load lands once") };
        let mut entry = (key, stored);
        if self.aside.is_bare() && terms.now < self.sweep.earliest {
            let mut left = None;
            let welcomed = self.welcome(
                Hash::new(hash),
                entry,
                ttl,
                (terms.lives, terms.now, terms.budget),
                &mut left,
            );
            if let Some(Entry { key, value, .. }) = left {
                out.value(key, value, RemovalCause::Evicted);
            }
            match welcomed {
                Ok(stamp) => return Ok(stamp),
                Err(back) => entry = back,
            }
        }
        let took = terms.now.saturating_sub(posted).max(1);
        let put = Put { took, ..Put::of(hash, entry.0, entry.1, 1, ttl) };
        match self.store(put, None, credit, terms, out) {
            Ok(stamp) => Ok(stamp),
            Err(Put { key, value: left, .. }) => {
                *value = left;
                self.board.sit(Seat { alias, hash, key, number, since, posted });
                Err(self.board.rise(alias))
            }
        }
    }
}

impl<K, V> Shard<K, V> {
    /// Turns a load that began in a seat into a flight, to land as all others do.
    pub(crate) fn rise(&mut self, alias: usize) -> Option<Arc<Flight<K, V>>> {
        self.board.rise(alias)
    }

    /// Somebody needs the flight of a key: if its load is in a seat, turns the seat into one.
    pub(crate) fn meet<Q>(&mut self, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.board.meet(hash, key);
    }
}
