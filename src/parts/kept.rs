//! Notes which keys got a new value that kept the old value's life (`keep_life`), while a `remove_if` runs.
//!
//! A `remove_if` shows its predicate values without a lock, and then checks by their stamps whether they are
//! still the same. A new value that kept the old life has the old stamp, so such keys are noted here meanwhile,
//! by their whole hash. (The bits of [`written`](super::written) would not do: a false positive there would keep
//! an entry that is to be removed.)

use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashSet;

#[derive(Default)]
pub(crate) struct KeptLives {
    /// How many watches there are. While there are none, a change that keeps a life reads only this.
    watchers: AtomicUsize,
    /// The hashes noted for each watch, by its number.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    last: u64,
    watches: Vec<(u64, HashSet<u64, ahash::RandomState>)>,
}

/// A watch: hashes of keys are noted for it from when it is made until it is dropped.
pub(crate) struct KeptLivesWatch<'k> {
    kept: &'k KeptLives,
    number: u64,
}

impl KeptLives {
    pub(crate) fn watch(&self) -> KeptLivesWatch<'_> {
        let mut told = self.told.lock();
        told.last += 1;
        let number = told.last;
        // the elements are hashes of keys, which the cache's hasher has keyed already
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        told.watches.push((number, HashSet::with_hasher(hasher)));
        self.watchers.fetch_add(1, Ordering::SeqCst);
        drop(told);
        KeptLivesWatch { kept: self, number }
    }

    /// To be called under the lock of the key's shard, as [`has`](KeptLivesWatch::has) is.
    pub(crate) fn note(&self, hash: u64) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            for (_, hashes) in &mut self.told.lock().watches {
                hashes.insert(hash);
            }
        }
    }
}

impl KeptLivesWatch<'_> {
    /// Whether a key of this hash was noted.
    pub(crate) fn has(&self, hash: u64) -> bool {
        let told = self.kept.told.lock();
        told.watches.iter().any(|(number, hashes)| *number == self.number && hashes.contains(&hash))
    }
}

impl Drop for KeptLivesWatch<'_> {
    fn drop(&mut self) {
        self.kept.watchers.fetch_sub(1, Ordering::SeqCst);
        self.kept.told.lock().watches.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_of_what_came_after_it() {
        let kept = KeptLives::default();
        kept.note(1);
        let one = kept.watch();
        kept.note(2);
        let two = kept.watch();
        kept.note(3);
        assert_eq!([1, 2, 3].map(|hash| one.has(hash)), [false, true, true]);
        assert_eq!([1, 2, 3].map(|hash| two.has(hash)), [false, false, true]);
        drop(one);
        assert!(two.has(3));
        drop(two);
        assert!(kept.told.lock().watches.is_empty());
    }
}
