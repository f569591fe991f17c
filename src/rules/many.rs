//! The result of a call for many keys.

use super::got::Got;
use crate::words::error::LoadError;

/// The result of [`get_or_load_many`](crate::Cache::get_or_load_many): each key that was asked for is in one
/// of the three lists, once, in the order in which it was asked for.
///
/// It may be partial: even if the loader fails, it holds what the cache had, and what other callers were
/// loading.
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
///
/// If a partial result is of no use, [`into_result`](Self::into_result) turns it into an error. The values as a
/// map:
///
/// ```
/// # use larder::Cache;
/// # use std::collections::HashMap;
/// # let cache: Cache<u32, String> = Cache::new(100);
/// # let select = |_: &[u32]| Ok::<_, std::io::Error>([(1, "one".to_owned())]);
/// let many = cache.get_or_load_many(&[1, 2], select);
/// let names: HashMap<_, _> = many.got.into_iter().map(|(id, got)| (id, got.value)).collect();
/// assert_eq!(names[&1], "one");
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "some of the keys may have failed, and `error` says why"]
pub struct Many<K, V, E> {
    /// The values, and how each was obtained.
    pub got: Vec<(K, Got<V>)>,
    /// The keys that the source does not have: they were asked for, and absent from a successful reply.
    /// Cached as "not found" for `negative_ttl`.
    pub missing: Vec<K>,
    /// The keys whose load failed: the source may or may not have them.
    pub failed: Vec<K>,
    /// Why they failed: the first of the failures; `None` if `failed` is empty.
    pub error: Option<LoadError<E>>,
}

impl<K, V, E> Many<K, V, E> {
    /// Returns all or nothing: what was found and the keys that the source does not have, or, if a key
    /// failed, the first error. It is for callers who cannot use a partial result: on an error, what was
    /// found is dropped (it is in the cache, unless something newer was written meanwhile).
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let cache: Cache<u32, String> = Cache::new(100);
    /// let select = |_: &[u32]| Ok::<_, std::io::Error>([(1, "one".to_owned())]);
    /// let (found, missing) = cache.get_or_load_many(&[1, 2], select).into_result()?;
    /// assert_eq!((found[0].1.value.as_str(), missing), ("one", vec![2]));
    ///
    /// let away = |_: &[u32]| Err::<Vec<_>, _>("the database is away");
    /// let error = cache.get_or_load_many(&[1, 3], away).into_result().unwrap_err();
    /// assert_eq!(error.loader(), Some(&"the database is away"));
    /// # Ok::<_, larder::LoadError<std::io::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`error`](Self::error), if there is one.
    #[allow(clippy::type_complexity, reason = "the two lists, as they stand in the fields")]
    pub fn into_result(self) -> Result<(Vec<(K, Got<V>)>, Vec<K>), LoadError<E>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.got, self.missing)),
        }
    }

    pub(crate) fn empty() -> Self {
        Self { got: Vec::new(), missing: Vec::new(), failed: Vec::new(), error: None }
    }

    /// Adds the result of another call.
    pub(crate) fn append(&mut self, later: Self) {
        let Self { got, missing, failed, error } = later;
        self.got.extend(got);
        self.missing.extend(missing);
        self.failed.extend(failed);
        self.error = self.error.take().or(error);
    }

    /// Sorts the outcomes of the keys into the three lists.
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
