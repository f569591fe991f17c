//! Notes which keys were written, while a snapshot is restored.
//!
//! A restore checks every entry of a snapshot, and may take minutes while the cache is in use. The few places of
//! the [ledger](super::ledger) are for the short time of a batch: a thousand writes fill them all, and then
//! nothing more would be restored. So each watch has a large bit set of its own. Two keys may share a bit; then
//! an entry is not restored that could have been.

use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

/// Half a mebibyte for as long as a watch lasts; forty thousand keys written meanwhile take one entry of a
/// hundred with them.
const PLACES: usize = 1 << 22;

#[derive(Default)]
pub(crate) struct Written {
    /// How many watches there are. While there are none, a write that is noted for others reads only this.
    watchers: AtomicUsize,
    watched: Mutex<Vec<Arc<Places>>>,
}

/// A bit for each place: whether a key of it was written.
struct Places {
    bits: Box<[AtomicU64]>,
    /// Everything was written.
    is_whole: AtomicBool,
}

impl Places {
    fn of(&self, hash: u64) -> (&AtomicU64, u64) {
        let place = (hash >> 21) as usize % PLACES;
        (&self.bits[place / 64], 1 << (place % 64))
    }
}

/// A watch: writes are noted for it from when it is made until it is dropped.
pub(crate) struct WrittenWatch<'w> {
    written: &'w Written,
    places: Arc<Places>,
}

impl Written {
    #[cfg_attr(not(feature = "snapshot"), allow(dead_code, reason = "snapshots watch"))]
    pub(crate) fn watch(&self) -> WrittenWatch<'_> {
        let bits = (0..PLACES / 64).map(|_| AtomicU64::new(0)).collect();
        let places = Arc::new(Places { bits, is_whole: AtomicBool::new(false) });
        self.watched.lock().push(Arc::clone(&places));
        self.watchers.fetch_add(1, Ordering::SeqCst);
        WrittenWatch { written: self, places }
    }

    /// A key of this hash is about to be written, or with `None` every key. To be called under the lock of the
    /// key's shard, as [`has`](WrittenWatch::has) is.
    pub(crate) fn note(&self, hash: Option<u64>) {
        if self.watchers.load(Ordering::SeqCst) == 0 {
            return;
        }
        for places in self.watched.lock().iter() {
            match hash.map(|hash| places.of(hash)) {
                Some((word, bit)) => _ = word.fetch_or(bit, Ordering::SeqCst),
                None => places.is_whole.store(true, Ordering::SeqCst),
            }
        }
    }
}

impl WrittenWatch<'_> {
    /// Whether a key of this hash was written, or may have been.
    pub(crate) fn has(&self, hash: u64) -> bool {
        let (word, bit) = self.places.of(hash);
        word.load(Ordering::SeqCst) & bit != 0 || self.places.is_whole.load(Ordering::SeqCst)
    }
}

impl Drop for WrittenWatch<'_> {
    fn drop(&mut self) {
        self.written.watchers.fetch_sub(1, Ordering::SeqCst);
        self.written.watched.lock().retain(|places| !Arc::ptr_eq(places, &self.places));
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_of_what_came_after_it() {
        let (written, keys) = (Written::default(), [1 << 40, 2 << 40, 3 << 40]);
        written.note(Some(keys[0]));
        let one = written.watch();
        written.note(Some(keys[1]));
        let two = written.watch();
        written.note(Some(keys[2]));
        assert_eq!(keys.map(|hash| one.has(hash)), [false, true, true]);
        assert_eq!(keys.map(|hash| two.has(hash)), [false, false, true]);
        drop(one);
        written.note(None);
        assert_eq!(keys.map(|hash| two.has(hash)), [true; 3]);
        drop(two);
        assert!(written.watched.lock().is_empty());
        assert!(!written.watch().has(keys[2]));
    }
}
