//! Reading, and counting what was found.

use super::store::Store;
use crate::parts::group::Hash;
use crate::rules::expiry::Stamp;
use crate::rules::got::{Got, How, StaleWhy};
use crate::shard::Shard;
use crate::shard::ask::Ask;
use crate::shard::entry::Entry;
pub(crate) use crate::shard::look::Looked;
use crate::shard::look::{AtHome, Time};
use crate::shard::walk::Cursor;
use crate::words::clock::{TRUST, shown};
use crate::words::striped::Lookups;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::ops::Deref;
use std::sync::Arc;

/// RAII guard of a look-up that found nothing fresh, until it is known what its caller is served: a value
/// past its life, or else it counts as a miss. Without stale windows it is a miss from the start.
pub(crate) struct Search<'s> {
    lookups: &'s Lookups,
    is_open: bool,
}

impl Search<'_> {
    /// The caller was served a value past its life.
    pub(crate) fn was_served_stale(mut self) {
        if std::mem::take(&mut self.is_open) {
            self.lookups.stale_hit();
        }
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.lookups.miss();
        }
    }
}

/// What a key is looked up for, which decides what is counted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To return the value.
    Get,
    /// To load the key if it is not there: a miss is counted by its [`Search`].
    Load,
    /// The same by a call that does not take "not found" for an answer.
    Make,
}

/// A thread's hits use the clock's cheapest reading, and one in [`TRUST`] of them checks it. `hits` is how
/// many there were.
#[inline]
fn is_to_compare(hits: u64) -> bool {
    hits % u64::from(TRUST) == 0
}

/// Fresh by the clock's cheapest reading.
#[inline]
fn is_surely_fresh(stamp: Stamp) -> bool {
    stamp.outlasts(shown())
}

impl<K, V, S> Time for Store<K, V, S> {
    fn is_before(&self, at: Tick) -> bool {
        self.clock.is_before(at)
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }
}

impl<K, V, S> Store<K, V, S> {
    /// Looks up a key, and counts the outcome.
    #[inline]
    pub(crate) fn get<Q>(self: &Arc<Self>, hash: u64, key: &Q, purpose: Purpose) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        K: Clone + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        match self.glance(hash, key) {
            Some(value) => Looked::Value(value),
            None => self.get_plain(hash, key, purpose),
        }
    }

    /// Serves most hits on what is read more than written. Nothing in here is a function call, except for the
    /// key's comparison or the value's clone if these are, and for one look at the clock in [`TRUST`] hits.
    /// So the compiler has few registers to save, and that matters: saved registers have to reach memory
    /// before the lock can be entered. For the same reason it is never inlined: left to itself, the compiler
    /// inlines it where a part of a program has one call of it, and hits in 1,000 entries are then a tenth
    /// slower.
    #[inline(never)]
    pub(crate) fn glance<Q>(&self, hash: u64, key: &Q) -> Option<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        if !self.shortcuts.hits {
            return None;
        }
        let line = self.lookups.own()?;
        let shard = self.cell(hash).shard.read_biased()?;
        let glanced =
            shard.glance(Hash::new(hash), key, is_surely_fresh, |entry| entry.value.clone());
        let AtHome::Value(value) = glanced else { return None };
        drop(shard);
        if is_to_compare(line.hit()) {
            self.clock.compare();
        }
        Some(value)
    }

    /// Serves most of the rest: look-ups in shards that are written to now and then, and most misses. It has
    /// hardly any function calls either.
    #[inline(never)]
    pub(crate) fn get_plain<Q>(self: &Arc<Self>, hash: u64, key: &Q, purpose: Purpose) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        K: Clone + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        if shown() >= self.glances_below {
            return if self.shortcuts.hits {
                self.get_still(hash, key, purpose)
            } else {
                self.get_in_full(hash, key, purpose)
            };
        }
        let lock = &self.cell(hash).shard;
        let Some(shard) = lock.read_alone() else {
            return self.get_elsewhere(hash, key, lock.read(), purpose);
        };
        let glanced =
            shard.glance(Hash::new(hash), key, is_surely_fresh, |entry| entry.value.clone());
        let beyond = |shard| self.get_beyond(hash, key, shard, purpose);
        let elsewhere = |shard| self.get_elsewhere(hash, key, shard, purpose);
        self.finish(glanced, shard, purpose, beyond, elsewhere)
    }

    /// The same while nobody winds the clock, which is read once. (A hit takes 23 ns; 28 on the path that
    /// handles every case, and 8.8 while the clock is wound.)
    #[inline(never)]
    fn get_still<Q>(self: &Arc<Self>, hash: u64, key: &Q, purpose: Purpose) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let shard = self.cell(hash).shard.read();
        let is_fresh = |stamp: Stamp| stamp.is_for_ever() || stamp.is_fresh(self.clock.now());
        let glanced = shard.glance(Hash::new(hash), key, is_fresh, |entry| entry.value.clone());
        let rest = |shard| self.get_elsewhere(hash, key, shard, purpose);
        self.finish(glanced, shard, purpose, rest, rest)
    }

    /// Counts what a glance found, or goes on where it says.
    #[inline]
    fn finish<G>(
        &self,
        glanced: AtHome<V>,
        shard: G,
        purpose: Purpose,
        beyond: impl FnOnce(G) -> Looked<V>,
        elsewhere: impl FnOnce(G) -> Looked<V>,
    ) -> Looked<V> {
        match glanced {
            AtHome::Value(value) => {
                drop(shard);
                self.count_hit();
                Looked::Value(value)
            }
            AtHome::Nothing => {
                drop(shard);
                if purpose == Purpose::Get {
                    self.lookups.miss();
                }
                Looked::Nothing
            }
            AtHome::Beyond => beyond(shard),
            AtHome::Unsure => elsewhere(shard),
        }
    }

    /// The rest for a key whose home other entries have passed: a fifteenth of the entries, and one of them may
    /// be hot. (By way of the path that handles every case they took 260 instructions; `get_or_insert_with`
    /// over a Zipf of 1M keys in 100k entries was a twentieth slower, gets and inserts mixed a thirtieth.)
    #[inline(never)]
    fn get_beyond<Q>(
        &self,
        hash: u64,
        key: &Q,
        shard: impl Deref<Target = Shard<K, V>>,
        purpose: Purpose,
    ) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let read = |entry: &Entry<K, V>| entry.value.clone();
        let glanced = shard.glance_beyond(Hash::new(hash), key, is_surely_fresh, read);
        let rest = |shard| self.get_elsewhere(hash, key, shard, purpose);
        self.finish(glanced, shard, purpose, rest, rest)
    }

    /// All other look-ups.
    #[inline(never)]
    fn get_in_full<Q>(self: &Arc<Self>, hash: u64, key: &Q, purpose: Purpose) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        K: Clone + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        if !self.lives.ahead.is_never() {
            return self.get_ahead(hash, key, purpose);
        }
        self.get_elsewhere(hash, key, self.cell(hash).shard.read(), purpose)
    }

    /// The rest of [`get`](Self::get).
    #[inline(never)]
    fn get_elsewhere<Q>(
        &self,
        hash: u64,
        key: &Q,
        shard: impl Deref<Target = Shard<K, V>>,
        purpose: Purpose,
    ) -> Looked<V>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let looked = match shard.get_elsewhere(Hash::new(hash), key, &self.lives, self) {
            Looked::Value((_, entry)) => Looked::Value(entry.value.clone()),
            Looked::Missing => Looked::Missing,
            Looked::Nothing => Looked::Nothing,
        };
        drop(shard);
        self.count(&looked, purpose);
        looked
    }

    /// As [`get`](Self::get) for a call that loads: returns the value with its metadata, and only a value
    /// that this caller accepts.
    pub(crate) fn got_or_search<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        ask: &Ask,
    ) -> Looked<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        K: Clone + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        if ask.is_forced() {
            return Looked::Nothing;
        }
        let mut is_due = false;
        let looked = self.got_ahead(hash, key, ask, &mut is_due);
        if is_due && self.leaves_due(Purpose::Load) {
            // the caller has a loader, and the cache has none: see `lead_ahead`
            return Looked::Nothing;
        }
        self.count(&looked, Purpose::Load);
        if is_due {
            self.refresh_due(hash, key);
        }
        looked
    }

    /// The same for a call that looks again, and so is counted already.
    pub(crate) fn got<Q>(&self, hash: u64, key: &Q, ask: &Ask) -> Looked<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        K: Eq,
        V: Clone,
    {
        self.got_ahead(hash, key, ask, &mut false)
    }

    /// The same; also sets `is_due` if the value is to be refreshed.
    fn got_ahead<Q>(&self, hash: u64, key: &Q, ask: &Ask, is_due: &mut bool) -> Looked<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        K: Eq,
        V: Clone,
    {
        let shard = self.cell(hash).shard.read();
        if ask.is_choosy() {
            // an entry that this caller refuses, a value or a "not found", does not count as used
            let terms = self.terms();
            let stamp = shard.stamp(Hash::new(hash), key, &terms);
            if stamp.is_some_and(|stamp| !ask.accepts(stamp.age(terms.now))) {
                return Looked::Nothing;
            }
        }
        let looked = shard.get(Hash::new(hash), key, &self.lives, self, |id, entry| {
            let now = self.clock.now();
            // it may have become too old between the two looks
            let is_accepted = ask.accepts(entry.stamp.age(now));
            *is_due = is_accepted && self.is_due(&shard, id, entry, hash);
            is_accepted.then(|| shard.got(id, entry, &self.lives, now))
        });
        match looked {
            Looked::Value(Some(got)) => Looked::Value(got),
            Looked::Missing => Looked::Missing,
            Looked::Value(None) | Looked::Nothing => Looked::Nothing,
        }
    }

    #[inline]
    pub(super) fn count<R>(&self, looked: &Looked<R>, purpose: Purpose) {
        match looked {
            Looked::Value(_) => self.count_hit(),
            Looked::Missing if purpose != Purpose::Make => self.count_hit(),
            Looked::Nothing if purpose == Purpose::Get => self.lookups.miss(),
            Looked::Missing | Looked::Nothing => {}
        }
    }

    #[inline]
    fn count_hit(&self) {
        if is_to_compare(self.lookups.hit()) {
            self.clock.compare();
        }
    }

    /// To be called when a look-up found nothing fresh.
    pub(crate) fn search(&self) -> Search<'_> {
        let is_open = self.lives.windows.is_any();
        if !is_open {
            self.lookups.miss();
        }
        Search { lookups: &self.lookups, is_open }
    }

    /// Whether there is a fresh value. Counts nothing and leaves no mark.
    pub(crate) fn contains<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        let found = shard.peek(Hash::new(hash), key, &terms);
        found.is_some_and(|(id, entry)| shard.is_fresh(id, entry, &terms))
    }

    /// The same, for a value that this caller accepts.
    pub(crate) fn is_good<Q>(&self, hash: u64, key: &Q, ask: &Ask) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        shard.servable(hash, key, ask, &terms).is_some_and(|(id, e)| shard.is_fresh(id, e, &terms))
    }

    pub(crate) fn peek<Q>(&self, hash: u64, key: &Q) -> Option<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        let (id, entry) = shard.peek(Hash::new(hash), key, &terms)?;
        let mut got = shard.got(id, entry, &self.lives, terms.now);
        if got.fresh_for.is_zero() {
            got.how = How::Stale(StaleWhy::Expired);
        }
        Some(got)
    }

    /// A value that may be served to a caller whose load came to nothing: one past its life, for the reason
    /// `why`, or a fresh one if there is one by now.
    pub(crate) fn servable<Q>(&self, hash: u64, key: &Q, ask: &Ask, why: StaleWhy) -> Option<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        if !self.lives.windows.is_any() {
            return None;
        }
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        let (id, entry) = shard.servable(hash, key, ask, &terms)?;
        let mut got = shard.got(id, entry, &self.lives, terms.now);
        if !shard.is_fresh(id, entry, &terms) {
            got.how = How::Stale(why);
        }
        Some(got)
    }

    /// Whether this cache serves values past their lives at all.
    pub(crate) fn serves_stale(&self) -> bool {
        self.lives.windows.is_any()
    }

    /// Whether [`servable`](Self::servable) would return a value.
    pub(crate) fn is_servable<Q>(&self, hash: u64, key: &Q, ask: &Ask) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        if !self.lives.windows.is_any() {
            return false;
        }
        let shard = self.cell(hash).shard.read();
        shard.servable(hash, key, ask, &self.terms()).is_some()
    }

    /// A value past its life that is served at once. All callers but one, the leader, get it here, under a
    /// shared lock; the leader gets it here too if the runtime is too busy to revalidate the value in the
    /// background.
    pub(super) fn stale<Q>(&self, hash: u64, key: &Q, ask: &Ask) -> Option<Got<V>>
    where
        Q: ?Sized + Equivalent<K>,
        V: Clone,
    {
        if !self.lives.windows.is_any() {
            return None;
        }
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        let (id, entry, why) = shard.stale(hash, key, ask, &terms)?;
        let refresher = match why {
            Some(_) => None,
            None => Some(self.refresher.as_ref()?),
        };
        let mut got = shard.got(id, entry, &self.lives, terms.now);
        drop(shard);
        if let Some(refresher) = refresher {
            if !refresher.is_busy() {
                return None;
            }
            self.count_busy();
        }
        got.how = How::Stale(why.unwrap_or(StaleWhy::Overloaded));
        Some(got)
    }

    /// The next few fresh values of a walk over shard `index`, cloned under its shared lock.
    pub(crate) fn walk(&self, index: usize, cursor: &mut Cursor) -> Vec<(K, Got<V>)>
    where
        K: Clone,
        V: Clone,
    {
        let mut batch = Vec::new();
        let shard = self.cells[index].shard.read();
        let terms = self.terms();
        shard.walk(cursor, &terms, false, |id, entry, _| {
            batch.push((entry.key.clone(), shard.got(id, entry, &self.lives, terms.now)));
        });
        batch
    }

    pub(crate) fn shards(&self) -> usize {
        self.cells.len()
    }
}
