//! One key, said in full.

use super::{blocking, future};
use crate::engine::lead::Lead;
use crate::engine::look::Looked;
use crate::engine::store::Store;
use crate::rules::expiry::ticks;
use crate::rules::got::Got;
use crate::rules::loaded::{LoadCx, Loaded};
use crate::words::error::LoadError;
use equivalent::Equivalent;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

/// What is to be said about one call, from [`Cache::at`](crate::Cache::at): settings first, then
/// [`insert`](Self::insert), [`load`](Self::load) or [`load_async`](Self::load_async).
#[must_use = "it does nothing until `insert`, `load` or `load_async` is called"]
pub struct At<'a, K, V, S, Q: ?Sized> {
    store: &'a Arc<Store<K, V, S>>,
    key: &'a Q,
    ttl: Option<Duration>,
}

impl<'a, K, V, S, Q: ?Sized> At<'a, K, V, S, Q> {
    pub(super) fn new(store: &'a Arc<Store<K, V, S>>, key: &'a Q) -> Self {
        Self { store, key, ttl: None }
    }

    /// The time to live of what is stored by this call, instead of the cache's; the cache's jitter
    /// is taken off it too. [`Duration::ZERO`] stores nothing and removes what was there,
    /// [`Duration::MAX`] means for ever. A loader that says a [`Loaded::ttl`] has the last word.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

impl<K, V, S, Q> At<'_, K, V, S, Q>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Hash + Equivalent<K> + ToOwned<Owned = K>,
{
    /// Stores `value`, as [`Cache::insert`](crate::Cache::insert) does, with what was said here.
    pub fn insert(self, value: V) {
        let store = self.store;
        let key = self.key.to_owned();
        store.insert(store.hash(self.key), key, value, self.ttl.map(ticks));
    }

    /// As [`Cache::get_or_load`](crate::Cache::get_or_load), with what was said here; returns the value and how it came. The
    /// closure may return a plain value, an `Option` of one, or a [`Loaded`] that says more.
    ///
    /// ```
    /// use larder::{Cache, How};
    /// use std::time::Duration;
    ///
    /// let cache: Cache<String, u32> = Cache::new(100);
    /// let load = || {
    ///     cache.at("answer").ttl(Duration::from_secs(60)).load(|_| Ok::<_, std::io::Error>(42))
    /// };
    /// assert_eq!(load()?.how, How::Loaded);
    /// assert_eq!(load()?.how, How::Fresh);
    /// # Ok::<_, larder::LoadError<std::io::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load`](crate::Cache::get_or_load); [`LoadError::NotFound`] where the loader said that there is no
    /// such value, now or within `negative_ttl`.
    pub fn load<R, E>(
        self,
        load: impl FnOnce(&LoadCx<V>) -> Result<R, E>,
    ) -> Result<Got<V>, LoadError<E>>
    where
        R: Into<Loaded<V>>,
        E: Send + Sync + 'static,
    {
        let store = self.store;
        let hash = store.hash(self.key);
        match store.got(hash, self.key, true) {
            Looked::Value(got) => return Ok(got),
            Looked::Missing => return Err(LoadError::NotFound),
            Looked::Nothing => {}
        }
        blocking::load(store, hash, self.key, self.ttl, |lead| {
            let cx = lead.cx();
            lead.run(|| load(&cx).map(Into::into))
        })
    }

    /// The async form of [`load`](Self::load): a task waits, in the same flight.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub async fn load_async<R, E, F, Fut>(self, load: F) -> Result<Got<V>, LoadError<E>>
    where
        R: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: FnOnce(LoadCx<V>) -> Fut,
        Fut: Future<Output = Result<R, E>>,
    {
        let store = self.store;
        let hash = store.hash(self.key);
        let load = |lead: &mut Lead<K, V, S>| {
            let cx = lead.cx();
            lead.run(|| load(cx))
        };
        future::load(store, hash, self.key, self.ttl, load, |result| result).await
    }
}

impl<K, V, S, Q: ?Sized> fmt::Debug for At<'_, K, V, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys are the user's data: never in logs
        f.debug_struct("At").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
