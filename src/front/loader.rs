//! The traits for loaders that a cache owns, and closures as loaders.

use crate::rules::loaded::{LoadCx, Loaded};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Loads the values of a [`LoadingCache`](crate::LoadingCache) from their source (read-through).
///
/// For a loader that is a plain function of the key, a closure will do:
/// [`build_loading_fn`](crate::CacheBuilder::build_loading_fn).
///
/// ```
/// use larder::{Cache, LoadCx, Loaded, Loader};
/// use std::{io, time::Duration};
///
/// struct Pages {
///     root: std::path::PathBuf,
/// }
///
/// impl Loader<String, String> for Pages {
///     type Error = io::Error;
///
///     fn load(&self, name: &String, _: &LoadCx<String>) -> io::Result<Loaded<String>> {
///         match std::fs::read_to_string(self.root.join(name)) {
///             Ok(page) => Ok(Loaded::new(page)),
///             Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Loaded::missing()),
///             Err(error) => Err(error),
///         }
///     }
/// }
///
/// let pages = Cache::builder()
///     .max_entries(1_000)
///     .negative_ttl(Duration::from_secs(5))
///     .build_loading(Pages { root: "/no/such/place".into() })?;
/// assert!(pages.load("index.html").unwrap_err().is_not_found());
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not load values of type `{V}` for keys of type `{K}`",
    note = "a closure is for `build_loading_fn`; for `build_loading`, implement `larder::Loader<{K}, {V}>`"
)]
pub trait Loader<K, V>: Send + Sync + 'static {
    /// How a load fails. All who wait for it get the same error, in an [`Arc`].
    type Error: Send + Sync + 'static;

    /// The value of `key`, or that there is none ([`Loaded::missing`]).
    ///
    /// Runs on the thread of a caller who waits for it. If it replaces a value that is still served (also to
    /// a caller that [`soft_timeout`](crate::CacheBuilder::soft_timeout) frees), it runs on a thread of the
    /// cache's [`Runtime`](crate::Runtime). There is one such call at a time for each key, and there may be
    /// many for different keys. It may use the cache for other keys; but a loader that holds a handle of its
    /// own cache keeps the cache alive for ever, so it should hold an [`Invalidator`](crate::Invalidator), which
    /// it can [upgrade](crate::Invalidator::upgrade), or a [`Weak`](std::sync::Weak) of what owns the cache.
    ///
    /// # Errors
    ///
    /// Whatever keeps the source from answering. It replaces nothing in the cache.
    fn load(&self, key: &K, cx: &LoadCx<V>) -> Result<Loaded<V>, Self::Error>;

    /// Loads the values of many keys, with one trip to the source where it has a way to do so. A key that is
    /// absent from the result is missing at the source; a key that was not asked for is stored too, if
    /// nothing newer was written meanwhile.
    ///
    /// By default, this calls [`load`](Self::load) for one key after the other, and stops at the first error,
    /// which then counts for all of them: override it if you [`warm`](crate::LoadingCache::warm) or
    /// [`batch`](crate::CacheBuilder::batch).
    ///
    /// All keys are in flight from the beginning of the call to its end, so all of it has to be done within
    /// [`load_timeout`](crate::CacheBuilder::load_timeout).
    ///
    /// Here a loader is not shown what is cached of each key: the [`LoadCx`] that the default gives to `load`
    /// has no value ([`stale`](LoadCx::stale)), no [`validator`](LoadCx::validator), no earlier
    /// [attempts](LoadCx::attempt), and [`Miss`](crate::LoadReason::Miss) as its reason. So the source cannot
    /// be asked whether a value has changed, and [`Loaded::unchanged`] fails with
    /// [`NothingToRenew`](crate::LoadError::NothingToRenew).
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). It is taken as that of each of these keys: nothing is known of any.
    fn load_many(&self, keys: &[K]) -> Result<Vec<(K, Loaded<V>)>, Self::Error>
    where
        K: Clone,
    {
        let load = |key: &K| Ok((key.clone(), self.load(key, &LoadCx::of_many())?));
        keys.iter().map(load).collect()
    }

    /// Whether `load_many` gains nothing, so that each key is better loaded by itself.
    #[doc(hidden)]
    fn is_of_one_key(&self) -> bool {
        false
    }
}

/// Loads the values of an [`AsyncLoadingCache`](crate::AsyncLoadingCache) from their source: the async form
/// of [`Loader`]. The methods may be written as `async fn`.
///
/// ```
/// use larder::{AsyncLoader, LoadCx, Loaded};
/// use std::io;
///
/// struct Users; // a connection pool, in real life
///
/// impl AsyncLoader<u64, String> for Users {
///     type Error = io::Error;
///
///     async fn load(&self, id: &u64, _: &LoadCx<String>) -> io::Result<Loaded<String>> {
///         Ok(Loaded::new(format!("user {id}")))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not load values of type `{V}` for keys of type `{K}`",
    note = "an async closure or function, which takes the key by value, is for `build_loading_async_fn`; for `build_loading_async`, implement `larder::AsyncLoader<{K}, {V}>`"
)]
pub trait AsyncLoader<K, V>: Send + Sync + 'static {
    /// How a load fails. All who wait for it get the same error, in an [`Arc`].
    type Error: Send + Sync + 'static;

    /// The value of `key`, or that there is none ([`Loaded::missing`]).
    ///
    /// Polled by the task of a caller who waits for it. If it replaces a value that is still served (also to
    /// a caller that [`soft_timeout`](crate::CacheBuilder::soft_timeout) frees), and with
    /// [`detached_loads`](crate::CacheBuilder::detached_loads), it is polled by a task of the cache's
    /// [`Runtime`](crate::Runtime). Its future is dropped at
    /// [`load_timeout`](crate::CacheBuilder::load_timeout), when the caller goes away whose task polls it,
    /// and, in the background, with the cache.
    ///
    /// # Errors
    ///
    /// Whatever keeps the source from answering. It replaces nothing in the cache.
    fn load(
        &self,
        key: &K,
        cx: &LoadCx<V>,
    ) -> impl Future<Output = Result<Loaded<V>, Self::Error>> + Send;

    /// Loads the values of many keys, as [`Loader::load_many`] says: by default, by awaiting
    /// [`load`](Self::load) for one key after the other, with a [`LoadCx`] that shows no previous value and
    /// no validator.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). It is taken as that of each of these keys: nothing is known of any.
    fn load_many(
        &self,
        keys: &[K],
    ) -> impl Future<Output = Result<Vec<(K, Loaded<V>)>, Self::Error>> + Send
    where
        K: Clone + Send + Sync,
        V: Send + Sync,
    {
        async move {
            let mut loaded = Vec::with_capacity(keys.len());
            for key in keys {
                loaded.push((key.clone(), self.load(key, &LoadCx::of_many()).await?));
            }
            Ok(loaded)
        }
    }

    /// Whether `load_many` gains nothing, so that each key is better loaded by itself.
    #[doc(hidden)]
    fn is_of_one_key(&self) -> bool {
        false
    }
}

/// A loader that other parts of the program hold too, or that is chosen while it runs:
/// `Arc<dyn Loader<K, V, Error = E>>`.
impl<K, V, L: Loader<K, V> + ?Sized> Loader<K, V> for Arc<L> {
    type Error = L::Error;

    fn load(&self, key: &K, cx: &LoadCx<V>) -> Result<Loaded<V>, L::Error> {
        (**self).load(key, cx)
    }

    fn load_many(&self, keys: &[K]) -> Result<Vec<(K, Loaded<V>)>, L::Error>
    where
        K: Clone,
    {
        (**self).load_many(keys)
    }

    fn is_of_one_key(&self) -> bool {
        (**self).is_of_one_key()
    }
}

/// A loader that other parts of the program hold too.
impl<K, V, L: AsyncLoader<K, V>> AsyncLoader<K, V> for Arc<L> {
    type Error = L::Error;

    fn load(
        &self,
        key: &K,
        cx: &LoadCx<V>,
    ) -> impl Future<Output = Result<Loaded<V>, L::Error>> + Send {
        (**self).load(key, cx)
    }

    fn load_many(
        &self,
        keys: &[K],
    ) -> impl Future<Output = Result<Vec<(K, Loaded<V>)>, L::Error>> + Send
    where
        K: Clone + Send + Sync,
        V: Send + Sync,
    {
        (**self).load_many(keys)
    }

    fn is_of_one_key(&self) -> bool {
        (**self).is_of_one_key()
    }
}

/// A closure as a [`Loader`], from [`build_loading_fn`](crate::CacheBuilder::build_loading_fn). It loads one
/// key at a time, so each of many keys is loaded by itself, fails by itself, and is not batched. What it
/// returns may be a plain value, an `Option` of one, or a [`Loaded`].
#[derive(Clone, Copy)]
pub struct FnLoader<F>(pub(crate) F);

impl<K, V, R, E, F> Loader<K, V> for FnLoader<F>
where
    F: Fn(&K) -> Result<R, E> + Send + Sync + 'static,
    R: Into<Loaded<V>>,
    E: Send + Sync + 'static,
{
    type Error = E;

    fn load(&self, key: &K, _: &LoadCx<V>) -> Result<Loaded<V>, E> {
        (self.0)(key).map(Into::into)
    }

    fn is_of_one_key(&self) -> bool {
        true
    }
}

impl<F> fmt::Debug for FnLoader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnLoader").finish_non_exhaustive()
    }
}

/// A closure as an [`AsyncLoader`], from
/// [`build_loading_async_fn`](crate::CacheBuilder::build_loading_async_fn). It loads one key at a time, as a
/// [`FnLoader`] does.
#[derive(Clone, Copy)]
pub struct AsyncFnLoader<F>(pub(crate) F);

impl<K, V, R, E, F, Fut> AsyncLoader<K, V> for AsyncFnLoader<F>
where
    K: Clone,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send,
    R: Into<Loaded<V>>,
    E: Send + Sync + 'static,
{
    type Error = E;

    fn load(&self, key: &K, _: &LoadCx<V>) -> impl Future<Output = Result<Loaded<V>, E>> + Send {
        let load = (self.0)(key.clone());
        async move { load.await.map(Into::into) }
    }

    fn is_of_one_key(&self) -> bool {
        true
    }
}

impl<F> fmt::Debug for AsyncFnLoader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFnLoader").finish_non_exhaustive()
    }
}
