//! What a call for many keys came to.

use super::got::Got;
use crate::words::error::LoadError;

/// What [`get_or_load_many`](crate::Cache::get_or_load_many) came to: each key that was asked for
/// stands in one of the three lists, once, in the order in which it was asked for.
///
/// A part may succeed while another fails: a loader that fails leaves what the cache had, and what
/// other callers were loading.
///
/// ```
/// use larder::Cache;
///
/// let cache: Cache<u32, String> = Cache::new(100);
/// cache.insert(1, "one".to_owned());
/// let many = cache.get_or_load_many(&[1, 2], |_| Err::<Vec<_>, _>("the database is away"));
/// assert_eq!(many.got[0].1.value, "one");
/// assert_eq!(many.failed, [2]); // nobody knows whether there is one
/// assert_eq!(many.error.unwrap().loader(), Some(&"the database is away"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Many<K, V, E> {
    /// The values, and how each of them came.
    pub got: Vec<(K, Got<V>)>,
    /// What the source does not have: it was asked for, and absent from a reply that succeeded. Kept
    /// for `negative_ttl`.
    pub missing: Vec<K>,
    /// What nobody could tell, because its load failed.
    pub failed: Vec<K>,
    /// Why: the first of the failures; `None` if `failed` is empty.
    pub error: Option<LoadError<E>>,
}

impl<K, V, E> Many<K, V, E> {
    pub(crate) fn empty() -> Self {
        Self { got: Vec::new(), missing: Vec::new(), failed: Vec::new(), error: None }
    }

    /// Adds what a later call came to.
    pub(crate) fn append(&mut self, later: Self) {
        let Self { got, missing, failed, error } = later;
        self.got.extend(got);
        self.missing.extend(missing);
        self.failed.extend(failed);
        self.error = self.error.take().or(error);
    }

    /// Sorts what became of each key.
    pub(crate) fn gather(
        outcomes: impl Iterator<Item = (K, Result<Got<V>, LoadError<E>>)>,
    ) -> Self {
        let mut many = Self::empty();
        for (key, outcome) in outcomes {
            match outcome {
                Ok(got) => many.got.push((key, got)),
                Err(LoadError::NotFound) => many.missing.push(key),
                Err(error) => {
                    many.failed.push(key);
                    many.error.get_or_insert(error);
                }
            }
        }
        many
    }
}

impl<K: Clone, V: Clone, E> Clone for Many<K, V, E> {
    fn clone(&self) -> Self {
        Self {
            got: self.got.clone(),
            missing: self.missing.clone(),
            failed: self.failed.clone(),
            error: self.error.clone(),
        }
    }
}
