//! The backlog of a write-behind queue behind its lock, with everybody who waits for it: writers for work,
//! callers for room or for the end. All of them wait by a waker; a blocked thread's waker unparks it.

use crate::engine::behind::WriteBehindQueue;
use crate::parts::backlog::{Abandoned, Accepted, Backlog, BacklogTerms, Item, Taken, WriterStep};
#[cfg(feature = "tokio")]
use crate::parts::waiter::wait_until;
use crate::words::block_on::block_on_until;
use crate::words::clock::Clock;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use crate::words::wakers::{Wakers, look_or_wait};
use equivalent::Equivalent;
use std::future::poll_fn;
#[cfg(feature = "tokio")]
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

pub(super) struct Queue<K, V> {
    state: Mutex<State<K, V>>,
    pub(super) clock: Clock,
}

struct State<K, V> {
    backlog: Backlog<K, V>,
    /// Writers with nothing to do.
    writers: Wakers,
    /// Callers that wait for room or for the end.
    callers: Wakers,
    /// How many given-up changes `flush` and `close` have reported.
    told: u64,
    /// How many writers are busy with a batch. User code may still run when its changes have left the queue
    /// already.
    at_work: usize,
    /// Somebody gave up waiting for a writer: from then on nobody waits for writers.
    is_left_behind: bool,
    /// The tick at which the writers themselves give up what is left: set if the last handle was dropped on a
    /// writer's thread.
    deadline: Option<Tick>,
    /// The remaining changes were given up on.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "asked by tasks"))]
    is_abandoned: bool,
}

/// Why a change was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAccepted {
    Full,
    Closed,
}

impl<K, V> Queue<K, V> {
    pub(super) fn new(terms: BacklogTerms, clock: Clock) -> Self {
        let state = State {
            backlog: Backlog::new(terms),
            writers: Wakers::default(),
            callers: Wakers::default(),
            told: 0,
            at_work: 0,
            is_left_behind: false,
            deadline: None,
            is_abandoned: false,
        };
        Self { state: Mutex::new(state), clock }
    }

    /// Accepts a change. Called under a shard's lock, so nobody is woken and nothing is dropped in here: `left`
    /// does both after the lock is released.
    pub(super) fn accept(
        &self,
        item: &Arc<Item<K, V>>,
        now: Tick,
        left: &mut LeftToDo<K, V>,
    ) -> Result<(), NotAccepted>
    where
        K: Eq,
    {
        let mut state = self.state.lock();
        match state.backlog.accept(item, now) {
            Accepted::Yes { wakes, superseded } => {
                left.superseded = superseded;
                if wakes {
                    left.writers = state.writers.take();
                }
                Ok(())
            }
            Accepted::Full => Err(NotAccepted::Full),
            Accepted::Closed => Err(NotAccepted::Closed),
        }
    }

    pub(super) fn latest<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Item<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.state.lock().backlog.latest(hash, key).map(Arc::clone)
    }

    pub(super) fn pending(&self) -> usize {
        self.state.lock().backlog.len()
    }

    /// What a writer does next. If that is to wait, `waker` is woken when there is work.
    pub(super) fn next(&self, waker: &Waker) -> WriterStep<K, V> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        let step = state.backlog.next(self.clock.now());
        let (woken, unused) = match &step {
            // there may be another batch, so another writer looks
            WriterStep::Write(_) => {
                state.at_work += 1;
                (state.writers.take(), Some(waker))
            }
            WriterStep::Wait(_) => (Wakers::default(), state.writers.add(waker)),
            WriterStep::End => (state.callers.take(), Some(waker)),
        };
        drop(state);
        drop(unused);
        woken.wake();
        step
    }

    pub(super) fn written(&self, batch: &[Taken<K, V>]) {
        let mut state = self.state.lock();
        state.backlog.written(batch);
        Self::settled(state);
    }

    /// A change of a batch of so many was not written; returned if it is given up on. May be called under
    /// a shard's lock: those who wait for it are for [`settle`](Self::settle).
    pub(super) fn failed(
        &self,
        taken: &Taken<K, V>,
        batch: usize,
        now: Tick,
    ) -> Option<Abandoned<K, V>> {
        self.state.lock().backlog.failed(taken, batch, now)
    }

    /// A writer is done with its batch, reports included.
    pub(super) fn is_back(&self) {
        let mut state = self.state.lock();
        state.at_work -= 1;
        let woken = state.callers.take();
        drop(state);
        woken.wake();
    }

    /// From now on nobody waits for writers.
    pub(super) fn leave_behind(&self) {
        let mut state = self.state.lock();
        state.is_left_behind = true;
        let woken = state.callers.take();
        drop(state);
        woken.wake();
    }

    /// Ready when all writers are done with their batches; with `false` if nobody waits for writers any more.
    pub(super) fn poll_back(&self, waker: &Waker) -> Poll<bool> {
        look_or_wait(&self.state, waker, |state| {
            let is_over = state.at_work == 0 || state.is_left_behind;
            if is_over { Ok(!state.is_left_behind) } else { Err(&mut state.callers) }
        })
    }

    /// All changes of a failed batch have been handled: wakes those who wait.
    pub(super) fn settle(&self) {
        Self::settled(self.state.lock());
    }

    /// A change that was given up on has been reported.
    pub(super) fn told(&self, number: u64) {
        let mut state = self.state.lock();
        state.backlog.told(number);
        Self::settled(state);
    }

    /// Changes have left the queue: wakes callers, and also writers if the queue is closed and empty.
    fn settled(mut state: impl std::ops::DerefMut<Target = State<K, V>>) {
        let mut woken = state.callers.take();
        if state.backlog.is_closed() && state.backlog.len() == 0 {
            woken = woken.and(state.writers.take());
        }
        drop(state);
        woken.wake();
    }

    /// Has everything that is queued written now. Returns the number to wait for.
    pub(super) fn hurry(&self) -> u64 {
        let mut state = self.state.lock();
        let number = state.backlog.hurry();
        let writers = state.writers.take();
        drop(state);
        writers.wake();
        number
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.backlog.close();
        let woken = state.writers.take().and(state.callers.take());
        drop(state);
        woken.wake();
    }

    /// Closes it. At this tick the writers themselves give up what is not written by then.
    pub(super) fn close_until(&self, at: Tick) {
        self.state.lock().deadline = Some(at);
        self.close();
    }

    /// When the writers give up, if that is set.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.state.lock().deadline
    }

    /// Whether the writers should give up now.
    pub(super) fn is_over(&self) -> bool {
        let now = self.clock.now();
        let state = self.state.lock();
        state.deadline.is_some_and(|at| at <= now || self.is_drained(&state.backlog, now))
    }

    /// Closes it and gives up on all changes, also on those that writers are busy with.
    pub(super) fn abandon(&self) -> Vec<Abandoned<K, V>> {
        let mut state = self.state.lock();
        state.backlog.close();
        state.is_left_behind |= state.backlog.flying() > 0;
        let given_up = state.backlog.abandon();
        state.is_abandoned = true;
        let woken = state.writers.take().and(state.callers.take());
        drop(state);
        woken.wake();
        given_up
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().backlog.is_closed()
    }

    /// How many changes were given up on that no error has reported yet; from now on they count as reported.
    pub(super) fn untold(&self) -> u64 {
        let mut state = self.state.lock();
        let given_up = state.backlog.given_up();
        given_up - std::mem::replace(&mut state.told, given_up)
    }

    pub(super) fn given_up(&self) -> u64 {
        self.state.lock().backlog.given_up()
    }

    /// Ready when the remaining changes were given up on, those with writers included.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "asked by tasks"))]
    pub(super) fn poll_abandoned(&self, waker: &Waker) -> Poll<()> {
        look_or_wait(&self.state, waker, |state| {
            if state.is_abandoned { Ok(()) } else { Err(&mut state.callers) }
        })
    }

    /// Ready when there is room for another key, or the queue is closed.
    pub(super) fn poll_room(&self, waker: &Waker) -> Poll<()> {
        self.poll(waker, |backlog| !backlog.is_full() || backlog.is_closed())
    }

    /// Ready when all changes up to this number have left the queue.
    pub(super) fn poll_past(&self, number: u64, waker: &Waker) -> Poll<()> {
        self.poll(waker, |backlog| backlog.is_past(number))
    }

    pub(super) fn poll_drained(&self, waker: &Waker) -> Poll<()> {
        let now = self.clock.now();
        self.poll(waker, |backlog| self.is_drained(backlog, now))
    }

    /// Whether nothing is left, or nothing will leave by itself: with a manual clock, time does not pass during
    /// a wait.
    fn is_drained(&self, backlog: &Backlog<K, V>, now: Tick) -> bool {
        backlog.len() == 0 || self.clock.is_manual() && backlog.waits_for_time(now)
    }

    fn poll(&self, waker: &Waker, is_ready: impl FnOnce(&Backlog<K, V>) -> bool) -> Poll<()> {
        look_or_wait(&self.state, waker, |state| {
            if is_ready(&state.backlog) { Ok(()) } else { Err(&mut state.callers) }
        })
    }

    /// Blocks this thread until `poll` is ready; `None` if `until` came first.
    pub(super) fn block<T>(
        &self,
        until: Option<Tick>,
        poll: impl Fn(&Waker) -> Poll<T>,
    ) -> Option<T> {
        let ready = poll_fn(|task| poll(task.waker()));
        block_on_until(ready, &self.clock, until.unwrap_or(Tick::MAX))
    }

    /// Its form for tasks.
    #[cfg(feature = "tokio")]
    pub(super) async fn wait<T>(
        &self,
        until: Option<Tick>,
        poll: impl Fn(&Waker) -> Poll<T>,
    ) -> Option<T> {
        let ready = poll_fn(|task| poll(task.waker()));
        wait_until(pin!(ready), &self.clock, until.unwrap_or(Tick::MAX)).await
    }
}

impl<K, V> WriteBehindQueue<K, V> for Queue<K, V>
where
    K: Eq + Send + Sync,
    V: Send + Sync,
{
    fn latest(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>> {
        Self::latest(self, hash, key)
    }

    fn holds(&self, hash: u64, is_it: &dyn Fn(&K) -> bool) -> bool {
        self.state.lock().backlog.latest(hash, &KeysWhere(is_it)).is_some()
    }
}

/// Stands for the keys for which a predicate holds.
struct KeysWhere<'t, K>(&'t dyn Fn(&K) -> bool);

impl<K> Equivalent<K> for KeysWhere<'_, K> {
    fn equivalent(&self, key: &K) -> bool {
        self.0(key)
    }
}

/// What is left to do after a shard's lock is released. Done on drop, so that writers are woken even if user
/// code panics in between.
pub(super) struct LeftToDo<K, V> {
    superseded: Option<Arc<Item<K, V>>>,
    writers: Wakers,
}

impl<K, V> LeftToDo<K, V> {
    pub(super) fn new() -> Self {
        Self { superseded: None, writers: Wakers::default() }
    }
}

impl<K, V> Drop for LeftToDo<K, V> {
    fn drop(&mut self) {
        self.writers.take().wake();
        drop(self.superseded.take());
    }
}
