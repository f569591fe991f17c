//! Which keys got a new value that kept the old value's life (`keep_life`), while a `remove_if` runs.
//!
//! A `remove_if` shows its predicate values without a lock, and then checks by their stamps whether they are
//! still the same. A new value that kept the old life has the old stamp, so such keys are noted here meanwhile,
//! by their whole hash. (The bits of [`written`](super::written) would not do: a false positive there would keep
//! an entry that is to be removed.)

use crate::words::sync::Mutex;
use std::collections::HashSet;

pub(crate) struct KeptLives(Mutex<HashSet<u64, ahash::RandomState>>);

impl KeptLives {
    pub(crate) fn new() -> Self {
        // the elements are hashes of keys, which the cache's hasher has keyed already
        Self(Mutex::new(HashSet::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))))
    }

    /// To be called under the lock of the key's shard, as [`has`](Self::has) is.
    pub(crate) fn note(&self, hash: u64) {
        self.0.lock().insert(hash);
    }

    /// Whether a key of this hash was noted.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.0.lock().contains(&hash)
    }
}
