//! Write-behind by threads of its own.

use super::builder::WriteBehindBuilder;
use super::core::{Core, Drain, LastHandle, changes};
use super::desk::Acceptance;
use super::writer::{GaveUp, WhenFull, WriteError, Writer};
use crate::front::cache::Cache;
use crate::parts::backlog::{Taken, WriterStep};
use crate::words::contain::contain;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::sync::{Mutex, thread};
use crate::words::unpark::Unpark;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::task::Waker;

/// A queue of writes behind a cache: a change is in the cache and acknowledged at once, and reaches
/// the source a moment later, in batches, from a thread of the queue's own.
///
/// For sources that are slower than their writers for a while, and for values that change more
/// often than the source needs to know: positions, scores, drafts. A new value is said as a whole: two
/// threads that each read a count and put one more lose one, and
/// [`Cache::alter`] changes what is cached, not what is queued. Where a write that was
/// acknowledged must not get lost with the process, use
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
/// * **No accepted change is lost while the process lives.** A change is accepted when `put` or
///   `delete` returns `Ok`. It is tried until it is written, unless
///   [`attempts`](WriteBehindBuilder::attempts) says how often; what is given up on is told to
///   [`on_give_up`](WriteBehindBuilder::on_give_up). A writer that panics has failed, and a thread
///   that panics after its `put` takes nothing along.
/// * **The last change of a key wins, and is written once.** Changes of a key that waits replace
///   each other; the source sees the last one, and need not see those before it.
/// * **The changes of a key arrive in their order**, with one writer at a time for it, whatever
///   fails in between. Changes of different keys may arrive in any order.
/// * **It is bounded**, by [`max_pending`](WriteBehindBuilder::max_pending); a full queue makes
///   callers wait or refuses them, and drops nothing.
/// * **Reads see what is not written yet.** [`get`](Self::get) does though the cache has evicted
///   it, and so does every load: `get_or_load` of a key with an unwritten change answers with that
///   change and does not ask the source, and a load that was in flight when the change came is not
///   stored. A deletion that waits is "not found" there.
/// * **What was given up on is not shown any more**: its key is taken out of the cache.
///
/// All that holds for changes that go through one queue. Who writes to the source beside it, or
/// inserts into the cache, is not seen by it.
///
/// # What a crash loses
///
/// Whatever was not written: at most `max_pending` keys, none of them older than
/// [`max_delay`](WriteBehindBuilder::max_delay) and the time that the writer takes, as long as it
/// keeps up and does not fail. A batch that was under way may have been written or not. Nothing is
/// kept on disk. [`close`](Self::close) before the process ends, and mind that `std::process::exit`
/// and `abort` run no destructors.
///
/// # Handles and threads
///
/// A `WriteBehind` is a handle: clones of it are the same queue. Its threads
/// ([`writers`](WriteBehindBuilder::writers) of them, `larder-writer`) are started by the first
/// change, sleep while there is nothing to do, and end with `close` or with the last handle. Dropping the
/// last handle blocks its thread until everything is written, for
/// [`drop_timeout`](WriteBehindBuilder::drop_timeout) at most (5 s unless set): in a task, call
/// [`close`](Self::close) where blocking is allowed, or use `AsyncWriteBehind` (feature `tokio`).
///
/// Accepting a change costs what an insert does and, under a lock that all keys share, a look-up in
/// the queue.
///
/// The rules are those of older write-behind caches: coalescing, delay and a bounded queue as in
/// Ehcache's `WriteBehindConfiguration` and Hazelcast's `MapStore` (`write-coalescing`,
/// `write-delay-seconds`, `write-batch-size`), which also answer loads from their queues; retries as
/// in Hazelcast, but without dropping a batch after the last one unseen.
pub struct WriteBehind<K, V, W, S = ahash::RandomState>
where
    W: Writer<K, V>,
{
    crew: Arc<Crew<K, V, W, S>>,
    last: Arc<LastHandle>,
}

/// The queue and its threads, which share it.
struct Crew<K, V, W, S>
where
    W: Writer<K, V>,
{
    core: Core<K, V, S, W::Error>,
    writer: W,
    /// Whether the threads were started.
    is_manned: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl<K, V, W, S> WriteBehind<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// A queue behind `cache` whose changes go to `writer`: see [`WriteBehindBuilder`] for what can
    /// be set.
    pub fn builder(cache: Cache<K, V, S>, writer: W) -> WriteBehindBuilder<K, V, W, S> {
        WriteBehindBuilder::new(cache.store, writer)
    }

    pub(super) fn over(core: Core<K, V, S, W::Error>, writer: W) -> Self {
        let threads = Mutex::new(Vec::new());
        let crew = Arc::new(Crew { core, writer, is_manned: AtomicBool::new(false), threads });
        Self { last: Arc::new(LastHandle(Arc::clone(&crew) as Arc<dyn Drain>)), crew }
    }

    /// Gives a key a value: in the cache now, under the cache's own settings, and at the source
    /// soon. Where the key has an unwritten change already, this one takes its place. The value has no
    /// [tags](crate::At::tag).
    ///
    /// Waits while the queue is full, unless [`when_full`](WriteBehindBuilder::when_full) says that
    /// it refuses. Two threads that put different values for one key at the same moment leave
    /// nothing in the cache, and the queue knows which of them was last.
    ///
    /// # Errors
    ///
    /// The change was not accepted: [`Full`](WriteError::Full), [`Closed`](WriteError::Closed),
    /// [`NoThread`](WriteError::NoThread), or [`InsideWriter`](WriteError::InsideWriter) where the
    /// writer itself would have to wait for room.
    pub fn put(&self, key: K, value: V) -> Result<(), WriteError> {
        self.change(key, Some(value))
    }

    /// Takes a key away: out of the cache now, and from the source soon. Until then a load of it
    /// answers "not found".
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete(&self, key: &K) -> Result<(), WriteError> {
        self.change(key.clone(), None)
    }

    fn change(&self, key: K, value: Option<V>) -> Result<(), WriteError> {
        let core = &self.crew.core;
        self.crew.man()?;
        let item = core.item(key, value);
        loop {
            match core.offer(&item) {
                Acceptance::Accepted => return Ok(()),
                Acceptance::Closed => return Err(WriteError::Closed),
                Acceptance::Full if core.settings.when_full == WhenFull::Refuse => {
                    return Err(WriteError::Full);
                }
                Acceptance::Full if self.crew.is_writer() => return Err(WriteError::InsideWriter),
                Acceptance::Full => _ = core.desk.block(None, |waker| core.desk.poll_room(waker)),
            }
        }
    }

    /// The value of a key: what the cache has, or else its unwritten change, though the cache has
    /// evicted or expired it. `None` where there is neither, and for a deletion that waits. Counts
    /// as a look-up of the cache.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        self.crew.core.get(key)
    }

    /// Waits until every change that was accepted before has been written, or given up on. What
    /// waits for company is written at once; what has failed waits its time.
    ///
    /// # Errors
    ///
    /// [`GaveUp`](WriteError::GaveUp) if changes were given up on that no earlier `flush` has told
    /// of; all others are written. [`InsideWriter`](WriteError::InsideWriter).
    pub fn flush(&self) -> Result<(), WriteError> {
        if self.crew.is_writer() {
            return Err(WriteError::InsideWriter);
        }
        let core = &self.crew.core;
        let number = core.desk.hurry();
        core.desk.block(None, |waker| core.desk.poll_past(number, waker));
        core.told()
    }

    /// Accepts nothing more, through any handle, waits until everything is written or given up on,
    /// and ends the threads. Without a limit of [`attempts`](WriteBehindBuilder::attempts) that
    /// takes as long as the source is away; to wait only so long, drop the queue instead.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn close(self) -> Result<(), WriteError> {
        if self.crew.is_writer() {
            return Err(WriteError::InsideWriter);
        }
        let core = &self.crew.core;
        core.desk.close();
        core.desk.block(None, |waker| core.desk.poll_past(u64::MAX, waker));
        self.crew.dismiss();
        core.told()
    }
}

impl<K, V, W, S> WriteBehind<K, V, W, S>
where
    W: Writer<K, V>,
{
    /// How many keys have an unwritten change.
    pub fn pending(&self) -> usize {
        self.crew.core.desk.pending()
    }

    /// How many changes were given up on since the queue was built.
    pub fn given_up(&self) -> u64 {
        self.crew.core.desk.given_up()
    }
}

impl<K, V, W, S> Crew<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Sees to it that there are threads.
    fn man(self: &Arc<Self>) -> Result<(), WriteError> {
        if self.is_manned.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut threads = self.threads.lock();
        if self.is_manned.load(Ordering::Acquire) || self.core.desk.is_closed() {
            return Ok(());
        }
        for _ in 0..self.core.settings.writers {
            let crew = Arc::clone(self);
            let builder = thread::Builder::new().name("larder-writer".to_owned());
            match builder.spawn(move || crew.work()) {
                Ok(handle) => threads.push(handle),
                // fewer will do
                Err(_) if !threads.is_empty() => break,
                Err(error) => return Err(WriteError::NoThread { reason: error.to_string() }),
            }
        }
        self.is_manned.store(true, Ordering::Release);
        Ok(())
    }

    /// A writer's life.
    fn work(&self) {
        let desk = &self.core.desk;
        let waker = Waker::from(Unpark::this());
        loop {
            match desk.next(&waker) {
                WriterStep::Write(batch) => self.write(batch),
                WriterStep::Wait(until) => desk.clock.park_until(until),
                WriterStep::End => return,
            }
        }
    }

    fn write(&self, batch: Vec<Taken<K, V>>) {
        let mut outcome = Err(GaveUp::Panicked);
        contain(|| {
            let written = self.writer.write(&changes(&batch));
            outcome = written.map_err(|error| GaveUp::Failed(Arc::new(error)));
        });
        self.core.settle(batch, outcome);
    }

    /// Whether this is one of the queue's own threads.
    fn is_writer(&self) -> bool {
        let me = thread::current().id();
        self.threads.lock().iter().any(|handle| handle.thread().id() == me)
    }

    /// Waits for the threads, which have nothing left to do.
    fn dismiss(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // what panics in there is contained
            _ = thread.join();
        }
    }
}

impl<K, V, W, S> Drain for Crew<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    fn drain(&self) {
        let desk = &self.core.desk;
        desk.close();
        if self.is_writer() {
            return; // it goes on, and ends when nothing is left
        }
        desk.block(Some(self.core.drop_deadline()), |waker| desk.poll_drained(waker));
        if !self.core.abandon() {
            self.dismiss();
        }
        // a thread that hangs in its writer is left behind: nothing can end it
    }
}

impl<K, V, W, S> Clone for WriteBehind<K, V, W, S>
where
    W: Writer<K, V>,
{
    fn clone(&self) -> Self {
        Self { crew: Arc::clone(&self.crew), last: Arc::clone(&self.last) }
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
