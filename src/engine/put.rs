//! Storing: where every value meets the map, whoever brings it, but for what a load brings of which
//! nobody else knows ([`solo`](super::solo)).

use super::store::Store;
use super::unreported::Unreported;
use crate::parts::credit::Credit;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::ledger::Moment;
use crate::parts::tags::Fate;
use crate::rules::expiry::NEVER;
use crate::shard::Shard;
use crate::shard::entry::{Entry, Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::removal::{Removal, RemovalCause};
use crate::words::sync::{WriteGuard, thread};
use crate::words::tick::Tick;
use std::sync::Arc;

/// By what right a value is stored.
pub(crate) enum By<'a, K, V> {
    /// Somebody wrote it: it is newer than whatever any load brings.
    Write,
    /// A load brought it: if the key is still this flight's.
    Flight(&'a Arc<Flight<K, V>>),
    /// A write at the source brought it, which is in progress: if nothing else has happened to the
    /// key since that began.
    Fence,
    /// A load that was not asked for it brought it too: if nothing happened to the key since then.
    Extra(Moment),
    /// It comes from an earlier process: as for [`Extra`](Self::Extra), and if nothing is there.
    #[cfg_attr(not(feature = "snapshot"), allow(dead_code, reason = "made by snapshots"))]
    Restored(Moment),
}

impl<K, V> Clone for By<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for By<'_, K, V> {}

/// What became of a value that was brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It stands in the cache, for so many ticks.
    Yes(u64),
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

    /// `insert`: takes the key's flight off, whatever it brings is older. Most find nothing under way in
    /// their shard, and for these it is written out here: an update then takes a fifth less.
    pub(crate) fn insert(&self, hash: u64, key: K, value: V, ttl: Option<u64>) {
        let ttl = ttl.unwrap_or(self.lives.ttl);
        if self.weigher.is_some() || ttl == 0 || self.budget.max() == 0 {
            let units = self.units(&key, Some(&value));
            let put = Put::of(hash, key, value, units, ttl);
            return self.insert_in_full(hash, put, self.cell(hash).shard.write());
        }
        let mut shard = self.cell(hash).shard.write();
        let now = self.clock.now();
        if !shard.is_calm(hash, &key, now) {
            return self.insert_in_full(hash, Put::of(hash, key, value, 1, ttl), shard);
        }
        self.ledger.note(hash);
        let Some(id) = shard.slot(Hash::new(hash), &key) else {
            return self.insert_new(hash, (key, value), ttl, now, shard);
        };
        let left = shard.overwrite(id, (key, value), ttl, (&self.lives, now));
        drop(shard);
        self.will_expire(ttl);
        if let Some(Entry { key, value, .. }) = left {
            if self.hears() {
                self.report(Removal { key, value, cause: RemovalCause::Replaced });
            }
        }
    }

    /// The rest of [`insert`](Self::insert) for a key under which nothing stands.
    #[inline(never)]
    fn insert_new(
        &self,
        hash: u64,
        entry: (K, V),
        ttl: u64,
        now: Tick,
        mut shard: WriteGuard<'_, Shard<K, V>>,
    ) {
        let mut left = None;
        let terms = (&self.lives, now, &self.budget);
        if let Err((key, value)) = shard.welcome(Hash::new(hash), entry, ttl, terms, &mut left) {
            return self.insert_in_full(hash, Put::of(hash, key, value, 1, ttl), shard);
        }
        drop(shard);
        self.will_expire(ttl);
        if let Some(Entry { key, value, .. }) = left {
            if self.hears() {
                self.report(Removal { key, value, cause: RemovalCause::Evicted });
            }
        }
    }

    /// The same where there is more to it.
    #[inline(never)]
    fn insert_in_full(&self, hash: u64, put: Put<K, V>, shard: WriteGuard<'_, Shard<K, V>>) {
        let (mut put, mut out) = (Some(put), Outbox::new());
        self.put_locked(hash, &mut put, By::Write, &mut out, shard);
        self.deliver(out);
    }

    /// Something was stored that lives for so long: it has to be swept some day.
    #[inline]
    pub(super) fn will_expire(&self, life: u64) {
        if life < NEVER || self.lives.idle < NEVER {
            self.request_sweep();
        }
    }

    /// As [`insert`](Self::insert), with tags.
    pub(crate) fn insert_tagged<'t>(
        &self,
        hash: u64,
        key: K,
        value: V,
        ttl: Option<u64>,
        tags: impl Iterator<Item = &'t str>,
    ) {
        // what happens to one of them from here on is newer
        let since = self.tags.version();
        let tags = self.tags.find(tags).map(|names| names.since(since));
        let notes = Notes::of(None, tags);
        let units = self.units(&key, Some(&value));
        let ttl = ttl.unwrap_or(self.lives.ttl);
        let put = Put { notes, ..Put::of(hash, key, value, units, ttl) };
        let mut out = Outbox::new();
        self.put(hash, put, By::Write, &mut out);
        self.deliver(out);
    }

    /// Stores, if that is right.
    pub(super) fn put(
        &self,
        hash: u64,
        put: Put<K, V>,
        by: By<'_, K, V>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        self.put_locked(hash, &mut Some(put), by, out, self.cell(hash).shard.write())
    }

    /// The same for who has the lock. What is not stored stays in `put`, to be dropped by who holds
    /// nothing; and when this returns, the room that was left over has gone back: what is reported
    /// next may need it.
    fn put_locked(
        &self,
        hash: u64,
        put: &mut Option<Put<K, V>>,
        by: By<'_, K, V>,
        out: &mut Outbox<K, V>,
        shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Stored {
        let mut credit = Credit::new(&self.budget);
        match self.try_put(hash, put, by, &mut credit, out, shard) {
            Some(stored) => stored,
            None => self.put_with_room_of_others(hash, put, by, credit, out),
        }
    }

    /// What is cached is what the source has: begins a new life of it. `None` if it is not there any
    /// more, evicted or swept while the source was asked; then it has to be stored anew.
    pub(super) fn renew(
        &self,
        flight: &Arc<Flight<K, V>>,
        ttl: u64,
        notes: Option<&Notes>,
        out: &mut Outbox<K, V>,
    ) -> Option<Stored> {
        let mut shard = self.cell(flight.hash).shard.write();
        let had_key = shard.take_off(flight);
        let is_outdated = notes.is_some_and(|notes| notes.fate() != Fate::Untouched);
        if !had_key || is_outdated || shard.is_fenced(flight.hash, &flight.key) {
            return Some(Stored::Fenced);
        }
        let terms = self.terms();
        let Some(stamp) = shard.renew(flight, ttl, notes.cloned().map(Box::new), &terms) else {
            shard.put_back(flight);
            return None;
        };
        shard.forgive(flight.hash, &flight.key, out);
        self.ledger.note(flight.hash);
        drop(shard);
        self.counts.unchanged.add(1);
        let life = stamp.fresh_for(terms.now);
        self.will_expire(life);
        Some(Stored::Yes(life))
    }

    /// A load succeeded whose result is not to be stored.
    pub(super) fn leave_alone(&self, flight: &Arc<Flight<K, V>>, out: &mut Outbox<K, V>) -> Stored {
        let mut shard = self.cell(flight.hash).shard.write();
        if shard.take_off(flight) {
            shard.forgive(flight.hash, &flight.key, out);
        }
        Stored::No
    }

    /// One attempt, within the key's own shard. `None` if that has nothing left to evict.
    fn try_put(
        &self,
        hash: u64,
        slot: &mut Option<Put<K, V>>,
        by: By<'_, K, V>,
        credit: &mut Credit<'_>,
        out: &mut Outbox<K, V>,
        mut shard: WriteGuard<'_, Shard<K, V>>,
    ) -> Option<Stored> {
        let Some(put) = slot.as_ref() else { return Some(Stored::No) };
        let terms = self.terms();
        let is_fenced = match by {
            By::Write => {
                shard.fence(hash, &put.key, out);
                false
            }
            // what is being written at the source it may have read before the write, or after; and a
            // tag of what it brings may have been removed, or expired, since it began
            By::Flight(flight) => {
                !shard.take_off(flight) || shard.is_fenced(hash, &put.key) || put.is_outdated()
            }
            By::Fence if !shard.is_undisputed(hash, &put.key) => true,
            By::Fence => {
                shard.ground(hash, &put.key, out);
                false
            }
            By::Restored(_) if shard.stands(Hash::new(hash), &put.key, &terms) => true,
            By::Extra(since) | By::Restored(since) => {
                // a load that runs will bring its own, and a source that has yet to be written to
                // told of what was
                !self.ledger.is_quiet(hash, since)
                    || shard.is_loading(hash, &put.key)
                    || shard.is_fenced(hash, &put.key)
                    || self.queues.holds(hash, &|other| *other == put.key)
                    || put.is_outdated()
            }
        };
        if is_fenced {
            return Some(Stored::Fenced);
        }
        shard.forgive(hash, &put.key, out);
        if !matches!(by, By::Restored(_)) {
            // those are many, and older than anything that looks there
            self.ledger.note(hash);
        }
        if put.ttl == 0 || put.units > self.budget.max() {
            match by {
                By::Write | By::Fence => shard.refuse(slot, false, &terms, out),
                By::Flight(_) => shard.refuse(slot, true, &terms, out),
                // nobody asked for it: all stays as it is
                By::Extra(_) | By::Restored(_) => {}
            }
            return Some(Stored::No);
        }
        let is_absent = matches!(by, By::Flight(flight) if flight.is_absent);
        let standing = if is_absent { None } else { shard.slot(put.hash, &put.key) };
        // from here on none of the user's code runs
        match shard.store(slot.take()?, standing, credit, &terms, out) {
            Ok(stamp) => {
                drop(shard);
                let life = stamp.fresh_for(terms.now);
                self.will_expire(life);
                Some(Stored::Yes(life))
            }
            Err(put) => {
                if let By::Flight(flight) = by {
                    shard.put_back(flight);
                }
                *slot = Some(put);
                None
            }
        }
    }

    /// The key's own shard has nothing left to evict: the room is in other ones. Callers take
    /// turns, so that two of them cannot hold half of the room each and wait for the other.
    #[cold]
    fn put_with_room_of_others(
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
        let _turn = self.heavy.lock();
        let mut credit = Credit::new(&self.budget);
        loop {
            self.make_room(hash, units, &mut credit, unreported.out);
            let shard = self.cell(hash).shard.write();
            if let Some(stored) = self.try_put(hash, put, by, &mut credit, unreported.out, shard) {
                return stored;
            }
        }
    }

    /// Evicts in the other shards, one entry in each, until `units` could be had.
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
}
