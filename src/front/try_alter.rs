//! `alter` with a change that may fail.

use super::at::At;
use super::cache::Cache;
use crate::rules::altered::Altered;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::hash::{BuildHasher, Hash};

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Changes the value of a key as [`alter`](Self::alter) does, by a `change` that may fail: if it returns
    /// an error, so does this call, and nothing has happened to the key. Everything else is as `alter` says;
    /// above all, `change` may run more than once, with no lock held, and only its last result counts: an
    /// error that it returns ends the call at once.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let stock: Cache<String, u32> = Cache::new(1_000);
    /// stock.insert("lamp".to_owned(), 3);
    /// let take = |n: u32| {
    ///     stock.try_alter("lamp", |left| {
    ///         let left = left.ok_or("not cached")?;
    ///         left.checked_sub(n).map(Some).ok_or("sold out")
    ///     })
    /// };
    /// assert_eq!(take(2), Ok(Some(1)));
    /// assert_eq!(take(2), Err("sold out"));
    /// assert_eq!(stock.get("lamp"), Some(1));
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `change`, as they are.
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    #[doc(alias = "and_try_compute_with")]
    pub fn try_alter<Q, R, E>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> Result<R, E>,
    ) -> Result<Option<V>, E>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        R: Into<Altered<V>>,
    {
        self.at(key).try_alter(change)
    }
}

impl<K, V, S, Q, O> At<'_, K, V, S, Q, O>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
{
    /// Changes a value as [`Cache::try_alter`](crate::Cache::try_alter) does, with the settings that
    /// [`alter`](Self::alter) heeds.
    ///
    /// # Errors
    ///
    /// Those of `change`, as they are.
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    #[doc(alias = "and_try_compute_with")]
    pub fn try_alter<R, E>(
        self,
        mut change: impl FnMut(Option<V>) -> Result<R, E>,
    ) -> Result<Option<V>, E>
    where
        R: Into<Altered<V>>,
    {
        let mut failed = None;
        let value = self.alter(|value| match change(value) {
            Ok(change) => change.into(),
            Err(error) => {
                failed = Some(error); // at most once: after `Keep` it is not called again
                Altered::Keep(None)
            }
        });
        failed.map_or(Ok(value), Err)
    }
}
