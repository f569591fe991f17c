//! Write-behind with a blocking writer, by threads of its own.

use self::writers::Writers;
use super::at::ChangeAt;
use super::builder::WriteBehindBuilder;
use super::core::{Core, Drain, LastHandle};
use super::queue::NotAccepted;
use super::writer::{WriteError, Writer};
use crate::engine::alter::AlterOptions;
use crate::front::cache::Cache;
use crate::rules::altered::Altered;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

mod writers;

/// A write-behind queue: a change is in the cache and acknowledged at once, and reaches the source a moment
/// later, in batches, from a thread of the queue's own.
///
/// Use it for sources that are slower than their writers for a while, and for values that change more often
/// than the source needs to know: positions, scores, drafts, counts. If a change depends on the previous
/// value, make it with [`alter`](Self::alter): a `get` and a [`put`](Self::put) would lose what others do in
/// between. Where an acknowledged write must not get lost with the process, use
/// [`write_through`](Cache::write_through) or the source itself.
///
/// ```
/// use larder::{Cache, Change, WriteBehind};
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// let database = Arc::new(Mutex::new(HashMap::new()));
/// let table = database.clone();
/// let scores: Cache<String, u32> = Cache::new(10_000);
/// let queue = WriteBehind::builder(scores.clone(), move |batch: &[Change<'_, String, u32>]| {
///     let mut table = table.lock().map_err(|_| "the database is gone")?;
///     for change in batch {
///         match *change {
///             Change::Put(player, score) => _ = table.insert(player.clone(), *score),
///             Change::Delete(player) => _ = table.remove(player),
///         }
///     }
///     Ok::<_, &str>(())
/// })
/// .on_give_up(|lost| eprintln!("not written: {lost:?}"))
/// .build()?;
///
/// for score in 1..=100 {
///     queue.put("ada".to_owned(), score)?;
/// }
/// assert_eq!(scores.get("ada"), Some(100)); // at once
/// queue.close()?; // or `flush`, to go on
/// assert_eq!(database.lock().unwrap()["ada"], 100); // after a write or two, not a hundred
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # What it promises
///
/// * **No accepted change is lost while the process lives.** A change is accepted when `put`, `delete` or
///   `alter` returns `Ok`. It is tried until it is written, unless [`attempts`](WriteBehindBuilder::attempts)
///   sets a limit; a change that is given up on is reported to
///   [`on_give_up`](WriteBehindBuilder::on_give_up). A writer that panics has failed, and a thread that
///   panics after its `put` takes nothing with it.
/// * **`alter` builds on the last change**, whether that is cached, waits, or is in a writer's hands: the
///   source gets the sum of everything that [`alter`](Self::alter) counts, if `change` loads what it is not
///   given.
/// * **The last change of a key wins, and is written once.** Changes of a waiting key replace each other; the
///   source sees the last one, and may not see those before it.
/// * **The changes of a key arrive in their order**, with one writer at a time for it, whatever
///   fails in between. Changes of different keys may arrive in any order.
/// * **It is bounded**, by [`max_pending`](WriteBehindBuilder::max_pending); a full queue makes
///   callers wait or refuses them, and drops nothing.
/// * **Reads see what is not written yet.** [`get`](Self::get) does, even if the cache has evicted it, and so
///   does every load: `get_or_load` of a key with an unwritten change answers with that change and does not
///   ask the source, and a load that was in flight when the change came is not stored. A waiting deletion
///   answers "not found".
/// * **A change that was given up on is not shown any more**: its key is taken out of the cache.
///
/// All this holds for changes that go through one queue. It does not see writes that bypass it, to the source
/// or into the cache.
///
/// # What a crash loses
///
/// A crash loses whatever was not written: at most `max_pending` keys, none of them older than
/// [`max_delay`](WriteBehindBuilder::max_delay) and the time that the writer takes, as long as it keeps up
/// and does not fail. A batch that was under way may have been written or not. Nothing is kept on disk, but for
/// a snapshot of the cache, which also has values that the source does not have yet: [`flush`](Self::flush)
/// before one is saved, or it may bring back what the crash has lost at the source. Call
/// [`close`](Self::close) before the process ends, and mind that `std::process::exit` and `abort` run no
/// destructors.
///
/// # Handles and threads
///
/// A `WriteBehind` is a handle: clones of it are the same queue. Its threads
/// ([`writers`](WriteBehindBuilder::writers) of them, `larder-writer`) are started by the first
/// change, sleep while there is nothing to do, and end with `close` or with the last handle. Dropping the
/// last handle blocks its thread until everything is written, for
/// [`drop_timeout`](WriteBehindBuilder::drop_timeout) at most (5 s unless set): in a task, call
/// [`close`](Self::close) or [`close_within`](Self::close_within) where blocking is allowed, or use
/// `AsyncWriteBehind` (feature `tokio`).
///
/// Accepting a change costs what an insert does and, under a lock that all keys share, a look-up in
/// the queue.
///
/// The rules are those of older write-behind caches: coalescing, delay and a bounded queue as in Ehcache's
/// `WriteBehindConfiguration` and Hazelcast's `MapStore` (`write-coalescing`, `write-delay-seconds`,
/// `write-batch-size`), which also answer loads from their queues; retries as in Hazelcast, but without
/// silently dropping a batch after the last one.
pub struct WriteBehind<K, V, W, S = ahash::RandomState>
where
    W: Writer<K, V>,
{
    writers: Arc<Writers<K, V, W, S>>,
    last: Arc<LastHandle>,
}

impl<K, V, W, S> WriteBehind<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Starts building a queue behind `cache` whose changes go to `writer`: see [`WriteBehindBuilder`] for
    /// what can be set. Of a [`LoadingCache`](crate::LoadingCache), hand over the cache inside; its loads, too,
    /// answer with what is not written yet:
    ///
    /// ```
    /// use larder::{Cache, Change, WriteBehind};
    /// use std::io;
    ///
    /// # fn select(page: &String) -> io::Result<u64> { Ok(page.len() as u64) }
    /// # fn update(_: &[Change<'_, String, u64>]) -> io::Result<()> { Ok(()) }
    /// let views = Cache::builder().max_entries(10_000).build_loading_fn(select)?;
    /// let queue = WriteBehind::builder(Cache::clone(&views), update).build()?;
    /// queue.put("/".to_owned(), 700)?;
    /// assert_eq!(views.load("/")?, 700);
    /// # queue.close()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(cache: Cache<K, V, S>, writer: W) -> WriteBehindBuilder<K, V, W, S> {
        WriteBehindBuilder::new(cache.store, writer)
    }

    pub(super) fn over(core: Core<K, V, S>, writer: W) -> Self {
        let writers = Arc::new(Writers::new(core, writer));
        Self { last: Arc::new(LastHandle(Arc::clone(&writers) as Arc<dyn Drain>)), writers }
    }

    /// Sets the value of a key: in the cache now, with the cache's own settings, and at the source soon. If
    /// the key has an unwritten change already, this one takes its place. The value has no
    /// [tags](crate::At::tag); [`at(..).tag(..).put(..)`](Self::at) gives it some.
    ///
    /// Waits while the queue is full, unless [`when_full`](WriteBehindBuilder::when_full) says that it
    /// refuses. Two threads that put different values for one key at the same moment may leave nothing in the
    /// cache, but the queue knows which of them was last.
    ///
    /// # Errors
    ///
    /// The change was not accepted: [`Full`](WriteError::Full), [`Closed`](WriteError::Closed),
    /// [`NoThread`](WriteError::NoThread), or [`InsideWriter`](WriteError::InsideWriter) where the
    /// writer itself would have to wait for room.
    pub fn put(&self, key: K, value: V) -> Result<(), WriteError> {
        self.change(key, Some(value), &AlterOptions::none())
    }

    /// Deletes a key: from the cache now, and from the source soon. Until then a load of it answers "not
    /// found".
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete(&self, key: &K) -> Result<(), WriteError> {
        self.change(key.clone(), None, &AlterOptions::none())
    }

    /// Changes the value of a key depending on its current value, as [`Cache::alter`] does, and writes the
    /// result: for counts, scores, balances. `change` is given what this process shows for the key: the last
    /// unwritten change, even if the cache has evicted it (for a deletion, `None`); else what the cache has,
    /// if it is fresh; else `None`. What it returns is [`put`](Self::put), or [deleted](Self::delete) if it
    /// is `None`; [`Altered::Keep`] leaves everything as it is. Returns what `change` returned.
    ///
    /// No change is lost. If anything else happens to the key after `change` was given its value, `change` is
    /// called again with what is there then; the same happens after a wait for room in the queue. It does not
    /// count if the value is evicted meanwhile, or written to the source; nor does what `change` itself does
    /// to the key, in its own thread: its result overwrites that. No lock is held while it runs, so it may
    /// use the cache and the queue.
    ///
    /// # What only the source knows
    ///
    /// **The source is not asked.** `None` says only that nothing is queued or cached for the key. The source
    /// may have a count of millions that was evicted here, and a `change` that then begins at one overwrites
    /// it. (This can happen even if nothing was evicted: a change that is written before the call that made
    /// it has returned is for a moment in neither place.) So always let `change` load what it is not given.
    /// (A load inside `change` is a part of it, and what others do to the key meanwhile is noticed.)
    ///
    /// ```
    /// use larder::{Altered, Cache, Change, WriteBehind};
    /// use std::time::Duration;
    /// # use std::sync::{Arc, Mutex};
    /// # let table = Arc::new(Mutex::new(std::collections::HashMap::from([("/".to_owned(), 700)])));
    /// # let rows = table.clone();
    /// # let update = move |batch: &[Change<'_, String, u64>]| {
    /// #     let rows = &mut rows.lock().unwrap();
    /// #     batch.iter().for_each(|c| _ = rows.insert(c.key().clone(), *c.value().unwrap()));
    /// #     Ok::<_, std::io::Error>(())
    /// # };
    /// # let select = |page: &str| Ok::<_, std::io::Error>(table.lock().unwrap().get(page).copied());
    ///
    /// let views: Cache<String, u64> = Cache::new(10_000); // of millions of pages
    /// let queue = WriteBehind::builder(views.clone(), update) // UPDATE page SET views = ..
    ///     .max_delay(Duration::from_secs(1))
    ///     .build()?;
    ///
    /// let view = |page: &str| {
    ///     let stored = || views.get_or_load_optional(page, || select(page)); // SELECT views FROM page ..
    ///     queue.alter(page, |n| match n.map_or_else(stored, |n| Ok(Some(n))) {
    ///         Ok(n) => Altered::Put(n.unwrap_or(0) + 1),
    ///         Err(_) => Altered::Keep(None), // not counted: nobody can say how many there were
    ///     })
    /// };
    /// assert_eq!(view("/")?, Some(701));
    /// views.clear(); // or evicted
    /// assert_eq!(view("/")?, Some(702));
    /// assert_eq!(view("/new")?, Some(1));
    /// # queue.close()?;
    /// # assert_eq!(*table.lock().unwrap(), [("/".to_owned(), 702), ("/new".to_owned(), 1)].into());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// For the same reason, returning `None` for `None` does nothing: what was not shown to be there is not
    /// deleted at the source. [`delete`](Self::delete) does that.
    ///
    /// What is written is the value, not the step. So only one process may change a key: if two count under
    /// the same key, each overwrites what the other has counted. In that case, send the steps to the source.
    ///
    /// The new value has no [tags](crate::At::tag), whatever the old one had, and begins a new life, unless
    /// [`at(..)`](Self::at) sets something else. Costs what [`Cache::alter`] does
    /// and a look-up in the queue.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put); then what is cached and queued is as it was, except that a load of the key in
    /// flight is not stored. `Keep` needs no room, nor an open queue.
    ///
    /// # Panics
    ///
    /// If `change` does: then nothing has happened to the key.
    pub fn alter<Q, A>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> A,
    ) -> Result<Option<V>, WriteError>
    where
        Q: ?Sized + Hash + Equivalent<K> + ToKey<K>,
        A: Into<Altered<V>>,
    {
        self.altered(key, &AlterOptions::none(), change)
    }

    /// One change with settings of its own: tags, and a time to live.
    ///
    /// ```
    /// use larder::{Cache, Change, WriteBehind};
    /// use std::time::Duration;
    ///
    /// # fn update(_: &[Change<'_, String, u64>]) -> std::io::Result<()> { Ok(()) }
    /// let stock: Cache<String, u64> = Cache::new(10_000);
    /// let queue = WriteBehind::builder(stock.clone(), update).build()?;
    /// queue.at("lamp").tag("shop 7").ttl(Duration::from_secs(60)).put(3)?;
    /// let one_less = |n: Option<u64>| n.map(|n| n - 1);
    /// assert_eq!(queue.at("lamp").tag("shop 7").alter(one_less)?, Some(2));
    /// queue.flush()?;
    /// stock.remove_tag("shop 7");
    /// assert_eq!(stock.get("lamp"), None);
    /// # queue.close()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn at<'a, Q: ?Sized>(&'a self, key: &'a Q) -> ChangeAt<'a, Self, Q> {
        ChangeAt::new(self, key)
    }

    pub(super) fn altered<'t, Q, A>(
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
        self.offer(|| core.alter(key, options, |value| change(value).into()))
    }

    pub(super) fn change<'t>(
        &self,
        key: K,
        value: Option<V>,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
    ) -> Result<(), WriteError> {
        let core = &self.writers.core;
        let (item, shown) = (core.item(key, value), core.shown(options));
        self.offer(|| core.offer(&item, shown.clone()))
    }

    /// Offers a change until it is accepted, or will not be.
    fn offer<T>(&self, mut offer: impl FnMut() -> Result<T, NotAccepted>) -> Result<T, WriteError> {
        let core = &self.writers.core;
        self.writers.ensure_started()?;
        loop {
            match offer() {
                Ok(accepted) => return Ok(accepted),
                Err(why) => core.may_wait(why)?,
            }
            if self.writers.is_writer() {
                return Err(WriteError::InsideWriter);
            }
            core.queue.block(None, |waker| core.queue.poll_room(waker));
        }
    }

    /// Returns the value of a key: what the cache has, or else its unwritten change, even if the cache has
    /// evicted or expired it. `None` if there is neither, and for a waiting deletion. Counts as a look-up of
    /// the cache.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.writers.core.get(key)
    }

    /// Waits until every change accepted so far has been written, or given up on. Changes that wait for their
    /// batch to fill are written at once; those that have failed wait for their next attempt.
    ///
    /// # Errors
    ///
    /// [`GaveUp`](WriteError::GaveUp) if changes were given up on that no earlier `flush` has reported; all
    /// others are written. [`InsideWriter`](WriteError::InsideWriter), in the writer and in `on_give_up`.
    pub fn flush(&self) -> Result<(), WriteError> {
        if self.writers.is_awaited() {
            return Err(WriteError::InsideWriter);
        }
        let core = &self.writers.core;
        let number = core.queue.hurry();
        core.queue.block(None, |waker| core.queue.poll_past(number, waker));
        core.told()
    }

    /// Closes the queue: accepts nothing more, through any handle, waits until everything is written or given
    /// up on, and ends the threads. Without a limit on [`attempts`](WriteBehindBuilder::attempts) that takes
    /// as long as the source is away: [`close_within`](Self::close_within) limits the wait.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn close(self) -> Result<(), WriteError> {
        if self.writers.is_awaited() {
            return Err(WriteError::InsideWriter);
        }
        let core = &self.writers.core;
        core.queue.close();
        core.queue.block(None, |waker| core.queue.poll_past(u64::MAX, waker));
        self.writers.dismiss(None);
        core.told()
    }

    /// As [`close`](Self::close), but waits no longer than `timeout`. What is not written by then is given up
    /// on, whatever other handles there are, and reported to
    /// [`on_give_up`](WriteBehindBuilder::on_give_up): the same end that the drop of the last handle comes to
    /// after [`drop_timeout`](WriteBehindBuilder::drop_timeout), for the end of a program in which nobody
    /// knows which handle is the last. A batch that a writer is at then may have been written or not, and a
    /// thread that hangs in its writer is left behind. The time is the cache's clock's: a test that has it by
    /// hand advances it meanwhile.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close): [`GaveUp`](WriteError::GaveUp) if the time was not enough.
    pub fn close_within(self, timeout: Duration) -> Result<(), WriteError> {
        if self.writers.is_awaited() {
            return Err(WriteError::InsideWriter);
        }
        let core = &self.writers.core;
        let until = core.deadline(timeout);
        core.queue.close();
        core.queue.block(Some(until), |waker| core.queue.poll_past(u64::MAX, waker));
        core.abandon();
        self.writers.dismiss(Some(until));
        core.told()
    }
}

impl<K, V, W, S> WriteBehind<K, V, W, S>
where
    W: Writer<K, V>,
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

impl<K, V, W, S> Clone for WriteBehind<K, V, W, S>
where
    W: Writer<K, V>,
{
    fn clone(&self) -> Self {
        Self { writers: Arc::clone(&self.writers), last: Arc::clone(&self.last) }
    }
}

impl<K, V, W, S> fmt::Debug for WriteBehind<K, V, W, S>
where
    W: Writer<K, V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys and values are the user's data: never in logs
        f.debug_struct("WriteBehind")
            .field("pending", &self.pending())
            .field("given_up", &self.given_up())
            .finish_non_exhaustive()
    }
}
