//! Hidden methods with which tests look inside a cache.

use super::cache::Cache;
use std::hash::{BuildHasher, Hash};

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Panics if an invariant does not hold. For tests and fuzzing; nobody else may use the cache
    /// meanwhile.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.store.validate();
    }

    /// How many loads wait for a slot of `max_concurrent_loads`. For tests.
    #[doc(hidden)]
    pub fn loads_in_line(&self) -> usize {
        self.store.loads_in_line()
    }

    /// How many loads are in flight. For tests.
    #[doc(hidden)]
    pub fn flights(&self) -> usize {
        self.store.flights()
    }

    /// How many tags there are. For tests.
    #[doc(hidden)]
    pub fn tags(&self) -> usize {
        self.store.tags.len()
    }

    /// How many keys are being written at the source. For tests.
    #[doc(hidden)]
    pub fn fences(&self) -> usize {
        self.store.fences()
    }
}
