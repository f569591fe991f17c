//! When keys were last written, as long as a batch needs to know.
//!
//! A batch may bring more values than it was asked for, and these have no flight that could tell whether
//! something newer happened to their keys. So for as long as a batch is under way, every write notes its moment
//! under its key's hash; such a value is stored only if nothing was noted there since the batch began. Two keys
//! may share a place: then a value is not stored that could have been.
//!
//! All batches share the places: a write notes one moment, however many batches there are.

use crate::words::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::sync::OnceLock;

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
pub(crate) struct Moments {
    last: AtomicU64,
    /// The moment of the last write to all keys.
    whole: AtomicU64,
    /// The moments of the last writes to keys. Not there before the first batch.
    places: OnceLock<Box<[AtomicU64]>>,
}

impl Moments {
    pub(crate) fn prepare(&self) {
        self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
    }

    /// The moment before all that are noted from now on.
    pub(crate) fn now(&self) -> Moment {
        self.last.load(Ordering::SeqCst)
    }

    /// A key of this hash is about to be written, or with `None` every key.
    pub(crate) fn note(&self, hash: Option<u64>) {
        if let Some(place) = hash.map_or(Some(&self.whole), |hash| self.place(hash)) {
            self.raise(place);
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
    }

    /// Whether nothing has happened to a key of this hash since that batch began, but for what the batch has
    /// stored itself.
    pub(crate) fn is_quiet_for(&self, hash: u64, unasked: &Unasked) -> bool {
        let last = self.place(hash).map_or(Moment::MAX, |place| place.load(Ordering::SeqCst));
        unasked.knows(index(hash), last) && self.whole.load(Ordering::SeqCst) <= unasked.since
    }

    /// Writes a new moment at a place: a later one than is there, so that nobody takes the one there for the
    /// last. Returns both.
    fn raise(&self, place: &AtomicU64) -> (Moment, Moment) {
        loop {
            let moment = self.last.fetch_add(1, Ordering::SeqCst) + 1;
            let last = place.fetch_max(moment, Ordering::SeqCst);
            if last < moment {
                return (moment, last);
            }
        }
    }

    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.places.get()?.get(index(hash))
    }
}

fn index(hash: u64) -> usize {
    // bits between those that pick the shard and those that pick the group
    (hash >> 24) as usize % PLACES
}
