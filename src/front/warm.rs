//! `warm`: loading many keys in the background before they are asked for, a few at a time.

use super::background::{give_to_task, give_to_thread};
use super::loader::{AsyncLoader, Loader};
use super::many;
use crate::engine::store::Store;
use crate::rules::got::How;
use crate::rules::many::Many;
use crate::words::block_on::block_on;
use crate::words::contain::{contain, contained};
use crate::words::runtime::Runtime;
use crate::words::sync::{Counter, Mutex};
use crate::words::wakers::{Wakers, look_or_wait};
use std::collections::HashSet;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

/// How many keys one call of the loader gets, unless `batch` sets another number: few enough that a loader which
/// loads them one by one is done before `load_timeout`, and that progress can be seen.
pub(super) const CHUNK: usize = 32;

/// How many such calls run at once: half of the default pool's threads, so that some are left for refreshes.
const AT_ONCE: usize = 4;

/// The progress of a [`warm`](crate::LoadingCache::warm). The work goes on without this handle; to wait for
/// its end, a thread calls [`wait`](Self::wait), and a task awaits the handle itself.
///
/// Clones watch the same work.
#[derive(Clone)]
pub struct Warmed(Arc<WarmProgress>);

#[derive(Default)]
struct WarmProgress {
    total: u64,
    loaded: Counter,
    present: Counter,
    missing: Counter,
    failed: Counter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    is_done: bool,
    waiting: Wakers,
}

impl Warmed {
    /// Returns how many keys were given; one that was given twice counts twice.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Returns how many of them have been loaded.
    pub fn loaded(&self) -> u64 {
        self.0.loaded.get()
    }

    /// Returns how many were cached already, or were loaded by somebody else.
    pub fn present(&self) -> u64 {
        self.0.present.get()
    }

    /// Returns how many the source does not have.
    pub fn missing(&self) -> u64 {
        self.0.missing.get()
    }

    /// Returns how many could not be loaded: the loader failed or panicked, the work was stopped before their
    /// turn, or the runtime refused or dropped it.
    pub fn failed(&self) -> u64 {
        self.0.failed.get()
    }

    /// Returns how many have not had their turn yet.
    pub fn left(&self) -> u64 {
        let done = self.loaded() + self.present() + self.missing() + self.failed();
        self.total().saturating_sub(done)
    }

    /// Returns whether the work has ended: all is done, or it was stopped.
    pub fn is_done(&self) -> bool {
        self.0.state.lock().is_done
    }

    /// Stops the work early: loads that have begun are finished, the rest counts as failed.
    pub fn stop(&self) {
        self.0.state.lock().is_stopped = true;
    }

    /// Blocks this thread until the work has ended. In a task, await the handle instead.
    pub fn wait(&self) {
        block_on(self.clone());
    }
}

impl Future for Warmed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        look_or_wait(&self.0.state, task.waker(), |state| {
            if state.is_done { Ok(()) } else { Err(&mut state.waiting) }
        })
    }
}

impl fmt::Debug for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warmed")
            .field("total", &self.total())
            .field("loaded", &self.loaded())
            .field("present", &self.present())
            .field("missing", &self.missing())
            .field("failed", &self.failed())
            .finish_non_exhaustive()
    }
}

/// The keys that are still to be loaded, in chunks; shared by the workers.
struct Keys<K> {
    left: Mutex<Vec<Vec<K>>>,
    /// Counts the handles to the loading cache: when the last is gone, warming ends.
    handles: Weak<()>,
    progress: Arc<WarmProgress>,
}

impl<K> Drop for Keys<K> {
    /// The last worker has ended: all is done, or was stopped, or the runtime dropped the work.
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.left.lock());
        self.progress.failed.add(left.iter().map(|chunk| chunk.len() as u64).sum());
        drop(left);
        let waiting = {
            let mut state = self.progress.state.lock();
            state.is_done = true;
            state.waiting.take()
        };
        waiting.wake();
    }
}

impl<K> Keys<K> {
    fn are_for_nobody(&self) -> bool {
        self.handles.strong_count() == 0
    }

    fn next(&self) -> Option<Chunk<'_, K>> {
        if self.are_for_nobody() || self.progress.state.lock().is_stopped {
            return None;
        }
        let keys = self.left.lock().pop()?;
        Some(Chunk { keys, progress: &self.progress, is_counted: false })
    }
}

/// The keys of one call of the loader. If it is dropped before it is counted (by a runtime that drops its tasks,
/// say), they count as failed.
struct Chunk<'w, K> {
    keys: Vec<K>,
    progress: &'w WarmProgress,
    is_counted: bool,
}

impl<K> Drop for Chunk<'_, K> {
    fn drop(&mut self) {
        if !self.is_counted {
            self.progress.failed.add(self.keys.len() as u64);
        }
    }
}

impl<K> Chunk<'_, K> {
    /// Counts the results; `None` if the loader panicked.
    fn count<V, E>(mut self, came: Option<&Many<K, V, E>>)
    where
        K: Hash + Eq,
    {
        let Some(many) = came else { return };
        self.is_counted = true;
        let chunk = &self.keys;
        let loaded = many.got.iter().filter(|(_, got)| got.how == How::Loaded).count();
        let (mut missing, mut failed) = (many.missing.len(), many.failed.len());
        if many.got.len() + missing + failed < chunk.len() {
            // some keys are in the chunk twice; finding them calls the user's `Hash` and `Eq`
            contain(|| {
                (missing, failed) = (times(&many.missing, chunk), times(&many.failed, chunk));
            });
        }
        self.progress.loaded.add(loaded as u64);
        self.progress.missing.add(missing as u64);
        self.progress.failed.add(failed as u64);
        // the duplicate of a loaded key counts as present
        let present = chunk.len().saturating_sub(loaded + missing + failed);
        self.progress.present.add(present as u64);
    }
}

/// How many elements of the chunk are among these keys.
fn times<K: Hash + Eq>(keys: &[K], chunk: &[K]) -> usize {
    let keys: HashSet<&K> = keys.iter().collect();
    chunk.iter().filter(|key| keys.contains(key)).count()
}

/// Splits the keys into chunks, and calls `start` for each of a few workers.
fn begin<K>(
    keys: impl IntoIterator<Item = K>,
    chunk: usize,
    handles: &Arc<()>,
    mut start: impl FnMut(Arc<Keys<K>>),
) -> Warmed {
    let mut keys = keys.into_iter();
    let mut chunks: Vec<Vec<K>> = Vec::new();
    loop {
        let chunk: Vec<K> = keys.by_ref().take(chunk).collect();
        if chunk.is_empty() {
            break;
        }
        chunks.push(chunk);
    }
    let total = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let workers = chunks.len().min(AT_ONCE);
    chunks.reverse(); // they are taken from the end
    let progress = Arc::new(WarmProgress { total, ..WarmProgress::default() });
    let (left, handles) = (Mutex::new(chunks), Arc::downgrade(handles));
    let keys = Arc::new(Keys { left, handles, progress: Arc::clone(&progress) });
    for _ in 0..workers {
        start(Arc::clone(&keys));
    }
    drop(keys);
    Warmed(progress)
}

/// One of those that load a chunk after another. It holds the cache for one chunk at a time, and asks for handles,
/// not only whether the cache still exists: two workers could otherwise keep it alive for each other for ever.
struct Worker<K, V, L, S> {
    keys: Arc<Keys<K>>,
    store: Weak<Store<K, V, S>>,
    loader: Arc<L>,
}

/// Warms with a blocking loader.
pub(super) fn warm<K, V, L, S>(
    store: &Arc<Store<K, V, S>>,
    loader: &Arc<L>,
    runtime: &Arc<dyn Runtime>,
    keys: impl IntoIterator<Item = K>,
    chunk: usize,
    handles: &Arc<()>,
) -> Warmed
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    begin(keys, chunk, handles, |keys| {
        let worker = Worker { keys, store: Arc::downgrade(store), loader: Arc::clone(loader) };
        if let Some(worker) = give_to_thread(&**runtime, worker, Worker::work) {
            store.note_refused();
            worker.work();
        }
    })
}

impl<K, V, L, S> Worker<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    fn work(self) {
        let Self { keys, store, loader } = self;
        while let Some(chunk) = keys.next() {
            let Some(store) = store.upgrade() else { return };
            let mut came = None;
            contain(|| came = Some(many::load(&store, &chunk.keys, |keys| loader.load_many(keys))));
            chunk.count(came.as_ref());
        }
    }
}

/// Warms with an async loader.
pub(super) fn warm_async<K, V, L, S>(
    store: &Arc<Store<K, V, S>>,
    loader: &Arc<L>,
    runtime: &Arc<dyn Runtime>,
    keys: impl IntoIterator<Item = K>,
    chunk: usize,
    handles: &Arc<()>,
) -> Warmed
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    begin(keys, chunk, handles, |keys| {
        let worker = Worker { keys, store: Arc::downgrade(store), loader: Arc::clone(loader) };
        if give_to_task(&**runtime, worker, Worker::work_async).is_some() {
            // the caller may not be a task, and so cannot run the loader: when the last worker is dropped, its
            // keys count as failed
            store.note_refused();
        }
    })
}

impl<K, V, L, S> Worker<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    async fn work_async(self) {
        let Self { keys, store, loader } = self;
        let loader = &*loader;
        while let Some(chunk) = keys.next() {
            let Some(store) = store.upgrade() else { return };
            let came = {
                let load = |keys: Vec<K>| async move { loader.load_many(&keys).await };
                let load = pin!(many::load_async(&store, &chunk.keys, load, |reply| reply));
                let mut came = pin!(contained(load));
                poll_fn(|task| {
                    if keys.are_for_nobody() { Poll::Ready(None) } else { came.as_mut().poll(task) }
                })
                .await
            };
            chunk.count(came.as_ref());
        }
    }
}
