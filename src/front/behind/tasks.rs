//! Write-behind with an async writer, by tasks on tokio: the same queue, with writers that are polled.

use self::writers::Writers;
use super::at::ChangeAt;
use super::builder::{Settings, settings};
use super::core::{Core, Drain, LastHandle, OnGiveUp};
use super::queue::NotAccepted;
use super::writer::{Change, Unwritten, WhenFull, WriteError};
use crate::engine::alter::AlterOptions;
use crate::engine::store::Store;
use crate::front::cache::Cache;
use crate::rules::altered::Altered;
use crate::words::error::ConfigError;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

mod writers;

/// Writes changes to the source, for an [`AsyncWriteBehind`].
///
/// The async form of [`Writer`](crate::Writer), with the same rules: a batch is written or it has failed, all
/// of it is tried again, and a panic counts as a failure. It must not wait for its own queue (`flush`,
/// `close`, `put` into a full one), which would wait for it in turn.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not write changes of keys of type `{K}` and values of type `{V}`",
    note = "implement `larder::AsyncWriter<{K}, {V}>` for a type of your own: a closure will not do here"
)]
pub trait AsyncWriter<K, V>: Send + Sync + 'static {
    /// Why a batch was not written.
    type Error: Send + Sync + 'static;

    /// Writes these changes: one per key, from one to `batch` of them, the oldest first.
    ///
    /// # Errors
    ///
    /// The source's, as of [`Writer::write`](crate::Writer::write).
    fn write(
        &self,
        batch: &[Change<'_, K, V>],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A [`WriteBehind`](crate::WriteBehind) whose writer is async: its tasks run on the tokio runtime that it
/// was built in. It promises the same, and its calls are futures: a change whose future is dropped while it
/// waits for room is not accepted.
///
/// Dropping the last handle does not block. What is left is written in the background for
/// [`drop_timeout`](AsyncWriteBehindBuilder::drop_timeout) at most, or until the runtime ends, and the rest
/// is reported to [`on_give_up`](AsyncWriteBehindBuilder::on_give_up); the future of a write that still goes
/// on then is dropped. A runtime ends with `main`: call [`close`](Self::close) or
/// [`close_within`](Self::close_within) before that.
///
/// ```
/// use larder::{AsyncWriteBehind, AsyncWriter, Cache, Change};
///
/// struct Log;
///
/// impl AsyncWriter<String, u32> for Log {
///     type Error = std::io::Error;
///
///     async fn write(&self, batch: &[Change<'_, String, u32>]) -> Result<(), Self::Error> {
///         for change in batch {
///             println!("{:?} is {:?}", change.key(), change.value());
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scores: Cache<String, u32> = Cache::new(10_000);
/// let queue = AsyncWriteBehind::builder(scores.clone(), Log).build()?;
/// queue.put("ada".to_owned(), 1).await?;
/// assert_eq!(scores.get("ada"), Some(1));
/// queue.close().await?;
/// # Ok(()) }
/// ```
pub struct AsyncWriteBehind<K, V, W, S = ahash::RandomState>
where
    W: AsyncWriter<K, V>,
{
    writers: Arc<Writers<K, V, W, S>>,
    last: Arc<LastHandle>,
}

/// Builds an [`AsyncWriteBehind`]; made by [`AsyncWriteBehind::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct AsyncWriteBehindBuilder<K, V, W, S = ahash::RandomState>
where
    W: AsyncWriter<K, V>,
{
    store: Arc<Store<K, V, S>>,
    writer: W,
    settings: Settings,
    on_give_up: Option<OnGiveUp<K, V>>,
}

impl<K, V, W, S> AsyncWriteBehindBuilder<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    settings!();

    /// Sets a listener that is told, once, of every change that was accepted and will not be written: as
    /// [`WriteBehindBuilder::on_give_up`](crate::WriteBehindBuilder::on_give_up).
    pub fn on_give_up(
        mut self,
        listener: impl Fn(Unwritten<K, V, W::Error>) + Send + Sync + 'static,
    ) -> Self {
        self.on_give_up = Some(OnGiveUp::new(listener));
        self
    }
}

impl<K, V, W, S> AsyncWriteBehindBuilder<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Builds the queue. Its tasks are spawned by the first change, on the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoRuntime`] outside of a tokio runtime, and as
    /// [`WriteBehindBuilder::build`](crate::WriteBehindBuilder::build).
    pub fn build(self) -> Result<AsyncWriteBehind<K, V, W, S>, ConfigError> {
        self.settings.check()?;
        let runtime = Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        let core = Arc::new(Core::new(self.store, self.settings, self.on_give_up));
        let writers = Arc::new(Writers::new(core, self.writer, runtime));
        let last = Arc::new(LastHandle(Arc::clone(&writers) as Arc<dyn Drain>));
        Ok(AsyncWriteBehind { writers, last })
    }
}

impl<K, V, W, S> AsyncWriteBehind<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Starts building a queue behind `cache` whose changes go to `writer`: see [`AsyncWriteBehindBuilder`]
    /// for what can be set. Of a cache that owns its loader, hand over the cache inside:
    /// `Cache::clone(&loading)`.
    pub fn builder(cache: Cache<K, V, S>, writer: W) -> AsyncWriteBehindBuilder<K, V, W, S> {
        let (store, settings) = (cache.store, Settings::new());
        AsyncWriteBehindBuilder { store, writer, settings, on_give_up: None }
    }

    /// Sets the value of a key, as [`WriteBehind::put`](crate::WriteBehind::put); waits for room as a future.
    ///
    /// # Errors
    ///
    /// The change was not accepted: [`Full`](WriteError::Full), [`Closed`](WriteError::Closed), the
    /// latter also where the runtime has ended.
    pub async fn put(&self, key: K, value: V) -> Result<(), WriteError> {
        self.change(key, Some(value), &AlterOptions::none()).await
    }

    /// Deletes a key, as [`WriteBehind::delete`](crate::WriteBehind::delete).
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: &K) -> Result<(), WriteError> {
        self.change(key.clone(), None, &AlterOptions::none()).await
    }

    /// Changes the value of a key depending on its current value, as
    /// [`WriteBehind::alter`](crate::WriteBehind::alter); waits for room as a future, and looks again after
    /// that.
    ///
    /// `change` cannot await a load. If the source may have a value that is neither queued nor cached, let
    /// `change` return [`Keep`](Altered::Keep) for `None`, and load in the calling task:
    ///
    /// ```
    /// # use larder::{AsyncWriteBehind, AsyncWriter, Cache};
    /// use larder::Altered;
    ///
    /// # async fn select(page: &str) -> Result<u64, std::io::Error> { Ok(page.len() as u64) }
    /// async fn view<W: AsyncWriter<String, u64>>(
    ///     page: &str,
    ///     views: &Cache<String, u64>,
    ///     queue: &AsyncWriteBehind<String, u64, W>,
    /// ) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    ///     loop {
    ///         let one_more = |n: Option<u64>| n.map_or(Altered::Keep(None), |n| Altered::Put(n + 1));
    ///         if let Some(n) = queue.alter(page, one_more).await? {
    ///             return Ok(n);
    ///         }
    ///         // 0 where there is no row; evicted again at once, it is loaded again
    ///         views.get_or_load_async(page, || select(page)).await?;
    ///     }
    /// }
    /// ```
    ///
    /// The loop ends when what was loaded is cached and fresh. It does not end in a cache that stores nothing (a
    /// time to live of zero, values above the bound), nor while loads are answered with stale values. While a
    /// deletion waits, the load says [`NotFound`](crate::LoadError::NotFound).
    ///
    /// Dropped while it waits for room, it has changed nothing.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put); then what is cached and queued is as it was, except that a load of the key in
    /// flight is not stored.
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    pub async fn alter<Q, A>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> A,
    ) -> Result<Option<V>, WriteError>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        A: Into<Altered<V>>,
    {
        self.altered(key, &AlterOptions::none(), change).await
    }

    /// One change with settings of its own, as [`WriteBehind::at`](crate::WriteBehind::at):
    /// `queue.at(&key).tag("shop 7").put(value).await`.
    pub fn at<'a, Q: ?Sized>(&'a self, key: &'a Q) -> ChangeAt<'a, Self, Q> {
        ChangeAt::new(self, key)
    }

    pub(super) async fn altered<'t, Q, A>(
        &self,
        key: &Q,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
        mut change: impl FnMut(Option<V>) -> A,
    ) -> Result<Option<V>, WriteError>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        A: Into<Altered<V>>,
    {
        let core = &self.writers.core;
        self.offer(|| core.alter(key, options, |value| change(value).into())).await
    }

    pub(super) async fn change<'t>(
        &self,
        key: K,
        value: Option<V>,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
    ) -> Result<(), WriteError> {
        let core = &self.writers.core;
        let (item, shown) = (core.item(key, value), core.shown(options));
        self.offer(|| core.offer(&item, shown.clone())).await
    }

    /// Offers a change until it is accepted, or will not be.
    async fn offer<T>(
        &self,
        mut offer: impl FnMut() -> Result<T, NotAccepted>,
    ) -> Result<T, WriteError> {
        let core = &self.writers.core;
        self.writers.ensure_started();
        loop {
            match offer() {
                Ok(accepted) => return Ok(accepted),
                Err(why) => core.may_wait(why)?,
            }
            core.queue.wait(None, |waker| core.queue.poll_room(waker)).await;
        }
    }

    /// Returns the value of a key, as [`WriteBehind::get`](crate::WriteBehind::get).
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.writers.core.get(key)
    }

    /// Waits until every change accepted so far has been written, or given up on, as
    /// [`WriteBehind::flush`](crate::WriteBehind::flush).
    ///
    /// # Errors
    ///
    /// As there: [`GaveUp`](WriteError::GaveUp); [`InsideWriter`](WriteError::InsideWriter), in `on_give_up`.
    pub async fn flush(&self) -> Result<(), WriteError> {
        let core = &self.writers.core;
        if core.is_telling() {
            return Err(WriteError::InsideWriter);
        }
        let number = core.queue.hurry();
        core.queue.wait(None, |waker| core.queue.poll_past(number, waker)).await;
        core.told()
    }

    /// Closes the queue, as [`WriteBehind::close`](crate::WriteBehind::close).
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<(), WriteError> {
        let core = &self.writers.core;
        if core.is_telling() {
            return Err(WriteError::InsideWriter);
        }
        core.queue.close();
        core.queue.wait(None, |waker| core.queue.poll_past(u64::MAX, waker)).await;
        core.told()
    }

    /// Closes the queue and waits no longer than `timeout`, as
    /// [`WriteBehind::close_within`](crate::WriteBehind::close_within): what is not written by then is given
    /// up on and reported. For a graceful shutdown. (A timeout of your own around [`close`](Self::close) ends
    /// the wait and nothing else: while there are other handles, the tasks go on. So it is if this future is
    /// dropped.)
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn close_within(self, timeout: Duration) -> Result<(), WriteError> {
        let core = &self.writers.core;
        if core.is_telling() {
            return Err(WriteError::InsideWriter);
        }
        let until = core.deadline(timeout);
        core.queue.close();
        core.queue.wait(Some(until), |waker| core.queue.poll_past(u64::MAX, waker)).await;
        core.abandon();
        core.told()
    }
}

impl<K, V, W, S> AsyncWriteBehind<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    /// Returns how many keys have an unwritten change.
    pub fn pending(&self) -> usize {
        self.writers.core.queue.pending()
    }

    /// Returns how many changes were given up on since the queue was built.
    pub fn given_up(&self) -> u64 {
        self.writers.core.queue.given_up()
    }
}

impl<K, V, W, S> Clone for AsyncWriteBehind<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    fn clone(&self) -> Self {
        Self { writers: Arc::clone(&self.writers), last: Arc::clone(&self.last) }
    }
}

impl<K, V, W, S> fmt::Debug for AsyncWriteBehind<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys and values are the user's data: never in logs
        f.debug_struct("AsyncWriteBehind")
            .field("pending", &self.pending())
            .field("given_up", &self.given_up())
            .finish_non_exhaustive()
    }
}

impl<K, V, W, S> fmt::Debug for AsyncWriteBehindBuilder<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("AsyncWriteBehindBuilder")
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}
