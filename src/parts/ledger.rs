//! Notes which keys were written lately, while a batch, a restore or an `alter` needs to know.
//!
//! A batch may bring more values than it was asked for, and these have no flight that could tell whether
//! something newer happened to their keys. So for as long as a batch is under way, every write notes its moment
//! under its key's hash; such a value is stored only if nothing was noted there since the batch began. Two keys
//! may share a place: then a value is not stored that could have been.
//!
//! Writes are also noted for restores, which have a larger [record](super::written) of their own.
//!
//! A caller that changes a key's value depending on its current value has a [reservation](super::reservation)
//! of the key, and writes are noted for that too.

use super::reservation::{Reservations, Reserved};
use super::written::{Written, WrittenWatch};
use crate::words::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// 2 KiB for a cache that is asked for many keys at once; a hundred writes to other keys during a
/// batch keep one extra key of three from being stored.
const PLACES: usize = 256;

/// A moment between two writes; they are counted and not timed.
pub(crate) type Moment = u64;

/// Lets a batch store values that it was not asked for: only under keys that nobody but the batch itself has
/// written since it began.
pub(crate) struct Unasked {
    since: Moment,
    /// Its own last write to each place, as long as nobody else's was there.
    own: RefCell<HashMap<usize, Moment, ahash::RandomState>>,
}

impl Unasked {
    pub(crate) fn new(since: Moment) -> Self {
        // the places are our own, no caller chooses them
        let own = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        Self { since, own: RefCell::new(own) }
    }

    fn knows(&self, place: usize, last: Moment) -> bool {
        last <= self.since || self.own.borrow().get(&place) == Some(&last)
    }
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// How many watchers, restores and reservations there are. While there are none, a write reads only this.
    watchers: AtomicUsize,
    moment: AtomicU64,
    /// The moment of the last write to all keys.
    whole: AtomicU64,
    places: OnceLock<Box<[AtomicU64]>>,
    reservations: Reservations,
    written: Written,
}

impl Ledger {
    /// Begins to note writes; each has a later moment than the one returned. To be ended by
    /// [`leave`](Self::leave).
    pub(crate) fn watch(&self) -> Moment {
        self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        // a write that does not see this yet began before whatever the watcher does next
        self.watchers.fetch_add(1, Ordering::SeqCst);
        self.moment.load(Ordering::SeqCst)
    }

    pub(crate) fn leave(&self) {
        self.watchers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Begins to note for each key whether it is written, until the returned watch is dropped.
    #[cfg_attr(not(feature = "snapshot"), allow(dead_code, reason = "snapshots watch"))]
    pub(crate) fn watch_keys(&self) -> KeysWatch<'_> {
        let written = self.written.watch();
        self.watchers.fetch_add(1, Ordering::SeqCst);
        KeysWatch { ledger: self, written }
    }

    /// Reserves a key: from now on every write to it revokes the reservation, until that is dropped.
    pub(crate) fn reserve(&self, hash: u64) -> Reservation<'_> {
        let reserved = self.reservations.add(hash);
        self.watchers.fetch_add(1, Ordering::SeqCst);
        Reservation { ledger: self, reserved }
    }

    /// Something is about to happen to a key. To be called under its shard's lock, as
    /// [`is_quiet_for`](Self::is_quiet_for) is.
    #[inline]
    pub(crate) fn note(&self, hash: u64) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.note_at(self.place(hash), Some(hash));
            self.reservations.lose(Some(hash));
        }
    }

    /// The same for a value that a batch has stored unasked, which must not keep the batch's other values from
    /// being stored.
    pub(crate) fn note_unasked(&self, hash: u64, unasked: &Unasked) {
        let Some(place) = self.place(hash) else { return };
        let (moment, last) = self.raise(place);
        // somebody else may have come in between, to another key that shares the place
        if unasked.knows(index(hash), last) {
            unasked.own.borrow_mut().insert(index(hash), moment);
        } else {
            unasked.own.borrow_mut().remove(&index(hash));
        }
        self.written.note(Some(hash));
        self.reservations.lose(Some(hash));
    }

    /// The same for batches and restores only: the key's value is unchanged, so a reservation of it still holds.
    pub(crate) fn note_for_batches(&self, hash: u64) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.note_at(self.place(hash), Some(hash));
        }
    }

    /// The same for reservations only.
    pub(crate) fn note_for_changes(&self, hash: u64) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.reservations.lose(Some(hash));
        }
    }

    /// Something has happened to a tag. The holder of a reservation notices that by itself, but has to be told
    /// whether its own thread did it.
    pub(crate) fn note_tag(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.reservations.count_own_change();
        }
    }

    /// Something is about to happen to every key.
    pub(crate) fn note_all(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.note_at(Some(&self.whole), None);
            self.reservations.lose(None);
        }
    }

    #[cold]
    fn note_at(&self, place: Option<&AtomicU64>, hash: Option<u64>) {
        if let Some(place) = place {
            self.raise(place);
        }
        self.written.note(hash);
    }

    /// Writes a new moment at a place: a later one than is there, so that nobody takes the one there for the
    /// last. Returns both.
    fn raise(&self, place: &AtomicU64) -> (Moment, Moment) {
        loop {
            let moment = self.moment.fetch_add(1, Ordering::SeqCst) + 1;
            let last = place.fetch_max(moment, Ordering::SeqCst);
            if last < moment {
                return (moment, last);
            }
        }
    }

    /// Whether nothing has happened to a key of this hash since that batch began, but for what the batch has
    /// stored itself.
    pub(crate) fn is_quiet_for(&self, hash: u64, unasked: &Unasked) -> bool {
        let last = self.place(hash).map_or(Moment::MAX, |place| place.load(Ordering::SeqCst));
        unasked.knows(index(hash), last) && self.whole.load(Ordering::SeqCst) <= unasked.since
    }

    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.places.get()?.get(index(hash))
    }
}

fn index(hash: u64) -> usize {
    // bits between those that pick the shard and those that pick the group
    (hash >> 24) as usize % PLACES
}

/// Guard: while it lives, it is noted which keys are written.
pub(crate) struct KeysWatch<'l> {
    ledger: &'l Ledger,
    written: WrittenWatch<'l>,
}

impl KeysWatch<'_> {
    /// Whether a key of this hash was written since, or may have been. To be asked under its shard's lock.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.written.has(hash)
    }
}

impl Drop for KeysWatch<'_> {
    fn drop(&mut self) {
        self.ledger.leave();
    }
}

/// A key that is reserved, until this is dropped.
pub(crate) struct Reservation<'l> {
    ledger: &'l Ledger,
    reserved: Arc<Reserved>,
}

impl Deref for Reservation<'_> {
    type Target = Reserved;

    fn deref(&self) -> &Reserved {
        &self.reserved
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.ledger.leave();
        self.ledger.reservations.remove(&self.reserved);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_is_known_and_what_was_before_is_not() {
        let ledger = Ledger::default();
        ledger.note(1 << 24);
        let since = Unasked::new(ledger.watch());
        assert!(ledger.is_quiet_for(1 << 24, &since));
        ledger.note(1 << 24);
        assert!(!ledger.is_quiet_for(1 << 24, &since));
        assert!(ledger.is_quiet_for(2 << 24, &since));
        let later = Unasked::new(ledger.watch());
        assert!(ledger.is_quiet_for(1 << 24, &later));
        ledger.note_all();
        assert!(!ledger.is_quiet_for(2 << 24, &later));
        ledger.leave();
        ledger.note(3 << 24);
        ledger.leave();
        ledger.note(4 << 24);
        assert!(!ledger.is_quiet_for(3 << 24, &later), "one of two watchers went");
        assert!(ledger.is_quiet_for(4 << 24, &Unasked::new(ledger.watch())));
    }

    #[test]
    fn restores_are_told_of_all_writes_but_those_of_restores() {
        let ledger = Ledger::default();
        let watch = ledger.watch_keys();
        let is_told = |note: fn(&Ledger, u64), hash| {
            note(&ledger, hash);
            watch.has(hash)
        };
        assert!(!is_told(Ledger::note_for_changes, 1 << 40));
        assert!(is_told(Ledger::note, 1 << 40));
        assert!(is_told(Ledger::note_for_batches, 2 << 40));
        let unasked = Unasked::new(ledger.watch());
        ledger.note_unasked(3 << 40, &unasked);
        assert!(watch.has(3 << 40) && !watch.has(4 << 40));
        ledger.note_all();
        assert!(watch.has(4 << 40));
        drop(watch);
        ledger.leave();
        assert_eq!(ledger.watchers.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_a_batch_stores_unasked_is_news_to_others_and_not_to_itself() {
        let ledger = Ledger::default();
        let (one, other) = (Unasked::new(ledger.watch()), Unasked::new(ledger.watch()));
        let both = || [&one, &other].map(|unasked| ledger.is_quiet_for(1 << 24, unasked));
        assert_eq!(both(), [true, true]);
        ledger.note_unasked(1 << 24, &one);
        assert_eq!(both(), [true, false]);
        ledger.note_unasked(1 << 24, &one);
        assert_eq!(both(), [true, false]);
        ledger.note(1 << 24);
        assert_eq!(both(), [false, false]);
        ledger.note_unasked(1 << 24, &one);
        assert_eq!(both(), [false, false], "it has not taken in what came in between");
        assert!(ledger.is_quiet_for(2 << 24, &one));
        ledger.note_all();
        assert!(!ledger.is_quiet_for(2 << 24, &one));
    }
}
