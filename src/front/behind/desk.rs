//! A queue behind its lock, and those who wait at it: writers for work, callers for room or for
//! the end. All of them are wakers; a blocked thread is one that unparks.

use crate::engine::behind::WriteBehindQueue;
use crate::parts::backlog::{Abandoned, Accepted, Backlog, BacklogTerms, Item, Taken, WriterStep};
use crate::words::clock::Clock;
use crate::words::contain::wake_all;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use crate::words::unpark::Unpark;
use equivalent::Equivalent;
use std::sync::Arc;
use std::task::{Poll, Waker};

pub(super) struct Desk<K, V> {
    state: Mutex<State<K, V>>,
    pub(super) clock: Clock,
}

struct State<K, V> {
    backlog: Backlog<K, V>,
    /// Writers with nothing to do.
    writers: Vec<Waker>,
    /// Callers that wait for room or for the end.
    callers: Vec<Waker>,
    /// How many given-up changes `flush` and `close` have told of.
    told: u64,
    /// How many writers have taken a batch and are not done with it: what is written has left the queue, and
    /// the user's code still runs.
    at_work: usize,
    /// A writer was not waited for any longer, and never is again.
    is_left_behind: bool,
    /// The tick at which the writers give up what is left: set where none but them can.
    parting: Option<Tick>,
    /// All that was left was given up.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "asked by tasks"))]
    is_abandoned: bool,
}

impl<K, V> State<K, V> {
    /// A caller waits: it is woken once, however often it asks.
    fn wait(&mut self, waker: Waker) {
        if !self.callers.iter().any(|other| other.will_wake(&waker)) {
            self.callers.push(waker);
        }
    }
}

/// Why a change was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAccepted {
    Full,
    Closed,
}

impl<K, V> Desk<K, V> {
    pub(super) fn new(terms: BacklogTerms, clock: Clock) -> Self {
        let backlog = Backlog::new(terms);
        let (writers, callers) = (Vec::new(), Vec::new());
        let state = State {
            backlog,
            writers,
            callers,
            told: 0,
            at_work: 0,
            is_left_behind: false,
            parting: None,
            is_abandoned: false,
        };
        Self { state: Mutex::new(state), clock }
    }

    /// Takes a change in. Called under a shard's lock, so nobody is woken and nothing dropped here:
    /// that is for the caller, who gets both in `left`.
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
                    left.writers = std::mem::take(&mut state.writers);
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

    /// What a writer does next. One that is to wait is woken through `waker`.
    pub(super) fn next(&self, waker: &Waker) -> WriterStep<K, V> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        let step = state.backlog.next(self.clock.now());
        let woken = match &step {
            // there may be another batch, for another writer
            WriterStep::Write(_) => {
                state.at_work += 1;
                std::mem::take(&mut state.writers)
            }
            WriterStep::Wait(_) => {
                if !state.writers.iter().any(|other| other.will_wake(&waker)) {
                    state.writers.push(waker);
                }
                return step;
            }
            WriterStep::End => std::mem::take(&mut state.callers),
        };
        drop(state);
        wake_all(woken);
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

    /// A writer is done with the batch that it had, and with all that came of it.
    pub(super) fn is_back(&self) {
        let mut state = self.state.lock();
        state.at_work -= 1;
        let woken = std::mem::take(&mut state.callers);
        drop(state);
        wake_all(woken);
    }

    /// No writer is waited for any longer.
    pub(super) fn leave_behind(&self) {
        let mut state = self.state.lock();
        state.is_left_behind = true;
        let woken = std::mem::take(&mut state.callers);
        drop(state);
        wake_all(woken);
    }

    /// Whether all writers are done with what they had: `false` if that is not waited for.
    pub(super) fn poll_back(&self, waker: &Waker) -> Poll<bool> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if state.at_work == 0 || state.is_left_behind {
            return Poll::Ready(!state.is_left_behind);
        }
        state.wait(waker);
        Poll::Pending
    }

    /// All of a batch is back.
    pub(super) fn settle(&self) {
        Self::settled(self.state.lock());
    }

    /// Of a change that was given up on everybody has been told who is to be.
    pub(super) fn told(&self, number: u64) {
        let mut state = self.state.lock();
        state.backlog.told(number);
        Self::settled(state);
    }

    /// Something came back from a writer: there may be room, or nothing left.
    fn settled(mut state: impl std::ops::DerefMut<Target = State<K, V>>) {
        let mut woken = std::mem::take(&mut state.callers);
        if state.backlog.is_closed() && state.backlog.len() == 0 {
            woken.append(&mut state.writers);
        }
        drop(state);
        wake_all(woken);
    }

    /// What is queued is written now. Returns the number to wait for.
    pub(super) fn hurry(&self) -> u64 {
        let mut state = self.state.lock();
        let number = state.backlog.hurry();
        let writers = std::mem::take(&mut state.writers);
        drop(state);
        wake_all(writers);
        number
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.backlog.close();
        let mut woken = std::mem::take(&mut state.writers);
        woken.append(&mut state.callers);
        drop(state);
        wake_all(woken);
    }

    /// Closes it, and has the writers themselves give up at that tick what they have not written by then.
    pub(super) fn close_until(&self, at: Tick) {
        self.state.lock().parting = Some(at);
        self.close();
    }

    /// When the writers give up, if they are to.
    pub(super) fn parting(&self) -> Option<Tick> {
        self.state.lock().parting
    }

    /// Whether the writers are to give up now.
    pub(super) fn is_over(&self) -> bool {
        let now = self.clock.now();
        let state = self.state.lock();
        state.parting.is_some_and(|at| at <= now || self.is_drained(&state.backlog, now))
    }

    /// Closes it and takes everything out. Writers that are still at some of it are left behind.
    pub(super) fn abandon(&self) -> Vec<Abandoned<K, V>> {
        let mut state = self.state.lock();
        state.backlog.close();
        state.is_left_behind |= state.backlog.flying() > 0;
        let given_up = state.backlog.abandon();
        state.is_abandoned = true;
        let mut woken = std::mem::take(&mut state.writers);
        woken.append(&mut state.callers);
        drop(state);
        wake_all(woken);
        given_up
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().backlog.is_closed()
    }

    /// Given-up changes that nobody was told of by an error.
    pub(super) fn untold(&self) -> u64 {
        let mut state = self.state.lock();
        let given_up = state.backlog.given_up();
        given_up - std::mem::replace(&mut state.told, given_up)
    }

    pub(super) fn given_up(&self) -> u64 {
        self.state.lock().backlog.given_up()
    }

    /// Whether all that was left was given up, what writers are still at included.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "asked by tasks"))]
    pub(super) fn poll_abandoned(&self, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if state.is_abandoned {
            return Poll::Ready(());
        }
        state.wait(waker);
        Poll::Pending
    }

    /// Whether another key may come, or nothing may.
    pub(super) fn poll_room(&self, waker: &Waker) -> Poll<()> {
        self.poll(waker, |backlog| !backlog.is_full() || backlog.is_closed())
    }

    /// Whether all that is numbered so or lower has left.
    pub(super) fn poll_past(&self, number: u64, waker: &Waker) -> Poll<()> {
        self.poll(waker, |backlog| backlog.is_past(number))
    }

    pub(super) fn poll_drained(&self, waker: &Waker) -> Poll<()> {
        let now = self.clock.now();
        self.poll(waker, |backlog| self.is_drained(backlog, now))
    }

    /// Whether nothing is left, or nothing will leave by itself: where time is a test's, it does
    /// not pass for one who waits.
    fn is_drained(&self, backlog: &Backlog<K, V>, now: Tick) -> bool {
        backlog.len() == 0 || self.clock.is_manual() && backlog.waits_for_time(now)
    }

    fn poll(&self, waker: &Waker, is_ready: impl FnOnce(&Backlog<K, V>) -> bool) -> Poll<()> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if is_ready(&state.backlog) {
            drop(state);
            return Poll::Ready(());
        }
        state.wait(waker);
        Poll::Pending
    }

    /// Blocks this thread until `poll` is ready; `None` if `until` came first.
    pub(super) fn block<T>(
        &self,
        until: Option<Tick>,
        poll: impl Fn(&Waker) -> Poll<T>,
    ) -> Option<T> {
        let waker = Waker::from(Unpark::this());
        loop {
            if let Poll::Ready(it) = poll(&waker) {
                return Some(it);
            }
            if until.is_some_and(|at| at <= self.clock.now()) {
                return None;
            }
            self.clock.park_until(until);
        }
    }
}

impl<K, V> WriteBehindQueue<K, V> for Desk<K, V>
where
    K: Eq + Send + Sync,
    V: Send + Sync,
{
    fn latest(&self, hash: u64, key: &K) -> Option<Arc<Item<K, V>>> {
        Self::latest(self, hash, key)
    }

    fn holds(&self, hash: u64, is_it: &dyn Fn(&K) -> bool) -> bool {
        self.state.lock().backlog.latest(hash, &Such(is_it)).is_some()
    }
}

/// A key that is known by a test.
struct Such<'t, K>(&'t dyn Fn(&K) -> bool);

impl<K> Equivalent<K> for Such<'_, K> {
    fn equivalent(&self, key: &K) -> bool {
        self.0(key)
    }
}

/// What is left to do once a shard's lock is released: done when this is dropped, so that writers
/// are woken though something of the user's panics in between.
pub(super) struct LeftToDo<K, V> {
    superseded: Option<Arc<Item<K, V>>>,
    writers: Vec<Waker>,
}

impl<K, V> LeftToDo<K, V> {
    pub(super) fn new() -> Self {
        Self { superseded: None, writers: Vec::new() }
    }
}

impl<K, V> Drop for LeftToDo<K, V> {
    fn drop(&mut self) {
        wake_all(std::mem::take(&mut self.writers));
        drop(self.superseded.take());
    }
}
