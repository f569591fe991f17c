//! Which keys were written while a snapshot is restored.
//!
//! A restore checks every entry of a snapshot, and may take minutes while the cache is in use. The few places of
//! the [moments](super::moments) are for the short time of a batch: a thousand writes fill them all, and then
//! nothing more would be restored. So each restore has a large bit set of its own. Two keys may share a bit; then
//! an entry is not restored that could have been.

use crate::words::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Half a mebibyte for as long as a restore lasts; forty thousand keys written meanwhile take one entry of a
/// hundred with them.
const PLACES: usize = 1 << 22;

pub(crate) struct Written {
    /// A bit for each place: whether a key of it was written.
    bits: Box<[AtomicU64]>,
    /// Everything was written.
    is_whole: AtomicBool,
}

impl Written {
    pub(crate) fn new() -> Self {
        let bits = (0..PLACES / 64).map(|_| AtomicU64::new(0)).collect();
        Self { bits, is_whole: AtomicBool::new(false) }
    }

    /// A key of this hash is about to be written, or with `None` every key. To be called under the lock of the
    /// key's shard, as [`has`](Self::has) is.
    pub(crate) fn note(&self, hash: Option<u64>) {
        match hash.map(|hash| self.place(hash)) {
            Some((word, bit)) => _ = word.fetch_or(bit, Ordering::SeqCst),
            None => self.is_whole.store(true, Ordering::SeqCst),
        }
    }

    /// Whether a key of this hash was written, or may have been.
    pub(crate) fn has(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        word.load(Ordering::SeqCst) & bit != 0 || self.is_whole.load(Ordering::SeqCst)
    }

    fn place(&self, hash: u64) -> (&AtomicU64, u64) {
        let place = (hash >> 21) as usize % PLACES;
        (&self.bits[place / 64], 1 << (place % 64))
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_noted() {
        let (written, keys) = (Written::new(), [1 << 40, 2 << 40, 3 << 40]);
        assert_eq!(keys.map(|hash| written.has(hash)), [false; 3]);
        written.note(Some(keys[1]));
        assert_eq!(keys.map(|hash| written.has(hash)), [false, true, false]);
        written.note(None);
        assert_eq!(keys.map(|hash| written.has(hash)), [true; 3]);
    }
}
