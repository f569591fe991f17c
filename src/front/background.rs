//! Background loads: how the cache's own loader is run on its runtime.

use super::loader::{AsyncLoader, Loader};
use crate::engine::ahead::Refresher;
use crate::engine::away::Away;
use crate::engine::guard::line::Begun;
use crate::parts::waiter::TaskAlarm;
use crate::rules::tier::TierError;
use crate::words::block_on::block_on_until;
use crate::words::contain::contain;
use crate::words::runtime::{Refused, Runtime};
use crate::words::sync::Mutex;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Work that is offered to a runtime. The runtime takes it when it runs the job; if it refuses, the caller takes
/// it back.
pub(super) struct Offer<T>(Arc<Mutex<Option<T>>>);

impl<T> Offer<T> {
    pub(super) fn take(self) -> Option<T> {
        self.0.lock().take()
    }
}

/// Offers `work` to a runtime, and returns it if it was refused. A runtime that was shut down may also accept
/// the job and drop it at once, as tokio's does: that counts as refused.
pub(super) fn offer<T>(work: T, give: impl FnOnce(Offer<T>) -> Result<(), Refused>) -> Option<T> {
    let place = Arc::new(Mutex::new(Some(work)));
    let given = give(Offer(Arc::clone(&place)));
    if given.is_ok() && Arc::strong_count(&place) > 1 {
        return None;
    }
    place.lock().take()
}

/// Runs background loads with a blocking loader.
pub(crate) struct ByThreads<L> {
    pub(crate) loader: Arc<L>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl<K, V, L, S> Refresher<K, V, S> for ByThreads<L>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: Send + Sync + 'static,
{
    fn refresh(&self, away: Away<K, V, S>) -> Result<(), Away<K, V, S>> {
        let refused = offer(away, |offer| {
            let loader = Arc::clone(&self.loader);
            self.runtime.spawn_blocking(Box::new(move || {
                if let Some(away) = offer.take() {
                    load(&*loader, away, true);
                }
            }))
        });
        refused.map_or(Ok(()), |away| {
            away.note_refused();
            Err(away)
        })
    }

    fn is_busy(&self) -> bool {
        self.runtime.is_busy()
    }

    fn run(&self, away: Away<K, V, S>) {
        load(&*self.loader, away, false);
    }
}

/// Runs one load. A panic of the loader, or of other user code while the result is stored, is caught: it is
/// counted, the waiters are told, and it does not reach the runtime. If all slots are taken, the load is given
/// up unless it `may_wait`.
fn load<K, V, L, S>(loader: &L, away: Away<K, V, S>, may_wait: bool)
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: Send + Sync + 'static,
{
    contain(move || {
        if away.is_moot() {
            return;
        }
        let Some(away) = settle(away) else { return };
        let (mut away, cx) = match away.begin() {
            Begun::Yes(away, cx) => (away, cx),
            Begun::Busy(..) if !may_wait => return,
            Begun::Busy(away, line) => {
                let slot = line.block();
                let Some(begun) = away.begin_with(&line, slot) else { return };
                begun
            }
            Begun::No => return,
        };
        let key = away.key().clone();
        let result = away.run(|| loader.load(&key, &cx));
        // dropped first, so that the old value, if it is unchanged, can be moved and not cloned
        drop(cx);
        away.land(result);
    });
}

/// Asks the second tier, if there is one, until `load_timeout` at most. `None` if no load is needed.
fn settle<K, V, S>(away: Away<K, V, S>) -> Option<Away<K, V, S>>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    if !away.has_tier() {
        return Some(away);
    }
    let mut away = away.hold()?;
    let Some(question) = away.question() else { return Some(away) };
    let (clock, deadline) = (away.clock().clone(), away.deadline());
    let found = away.run(|| block_on_until(question, &clock, deadline));
    away.answer(found.unwrap_or(Err(TierError::TimedOut)))
}

/// The async form of [`settle`].
async fn settle_async<K, V, S>(away: Away<K, V, S>) -> Option<Away<K, V, S>>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    if !away.has_tier() {
        return Some(away);
    }
    let mut away = away.hold()?;
    let Some(mut question) = away.question() else { return Some(away) };
    let mut alarm = TaskAlarm::default();
    let found = poll_fn(|task| {
        let mut poll = None;
        if !contain(|| poll = Some(away.run(|| question.as_mut().poll(task)))) {
            return Poll::Ready(None);
        }
        if let Some(Poll::Ready(found)) = poll {
            return Poll::Ready(Some(found));
        }
        if away.poll_over(task.waker()).is_ready() {
            return Poll::Ready(None);
        }
        let deadline = away.deadline();
        alarm.set(away.clock(), deadline, task.waker());
        let is_late = deadline <= away.clock().now();
        if is_late { Poll::Ready(Some(Err(TierError::TimedOut))) } else { Poll::Pending }
    })
    .await;
    // panics, in the poll and while the answer is stored, must not reach the runtime
    let found = found?;
    let mut left = None;
    contain(|| left = away.answer(found));
    left
}

/// Runs background loads with an async loader.
pub(crate) struct ByTasks<L> {
    pub(crate) loader: Arc<L>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl<K, V, L, S> Refresher<K, V, S> for ByTasks<L>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: Send + Sync + 'static,
{
    fn refresh(&self, away: Away<K, V, S>) -> Result<(), Away<K, V, S>> {
        let refused = offer(away, |offer| {
            let loader = Arc::clone(&self.loader);
            self.runtime.spawn(Box::pin(async move {
                if let Some(away) = offer.take() {
                    load_async(&*loader, away).await;
                }
            }))
        });
        refused.map_or(Ok(()), |away| {
            away.note_refused();
            Err(away)
        })
    }

    fn is_busy(&self) -> bool {
        self.runtime.is_busy()
    }

    fn run(&self, away: Away<K, V, S>) {
        // the caller may not be a task, and so cannot run the loader: the load is given up, and the next caller
        // loads
        drop(away);
    }
}

/// How the polling of a background load ended.
enum Polled<T> {
    Done(T),
    Panicked,
    TimedOut,
    /// The load has ended already, or the cache was dropped.
    Over,
}

async fn load_async<K, V, L, S>(loader: &L, away: Away<K, V, S>)
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: Send + Sync + 'static,
{
    if away.is_moot() {
        return;
    }
    let Some(away) = settle_async(away).await else { return };
    let (mut away, cx) = match away.begin() {
        Begun::Yes(away, cx) => (away, cx),
        Begun::Busy(away, line) => {
            let slot = line.slot().await;
            let Some(begun) = away.begin_with(&line, slot) else { return };
            begun
        }
        Begun::No => return,
    };
    let key = away.key().clone();
    // in a future of its own, so that the code of `load` before it returns its future runs inside the poll too
    let mut result = pin!(async { loader.load(&key, &cx).await });
    let mut alarm = TaskAlarm::default();
    let polled = poll_fn(|task| {
        let mut poll = None;
        if !contain(|| poll = Some(away.run(|| result.as_mut().poll(task)))) {
            return Poll::Ready(Polled::Panicked);
        }
        if let Some(Poll::Ready(result)) = poll {
            return Poll::Ready(Polled::Done(result));
        }
        // checked first, so that the breaker hears of a timeout that a waiter has noticed already
        let deadline = away.deadline();
        alarm.set(away.clock(), deadline, task.waker());
        if deadline <= away.clock().now() {
            return Poll::Ready(Polled::TimedOut);
        }
        if away.poll_over(task.waker()).is_ready() {
            return Poll::Ready(Polled::Over);
        }
        Poll::Pending
    })
    .await;
    contain(move || match polled {
        Polled::Done(result) => away.land(result),
        Polled::TimedOut => away.time_out(),
        Polled::Panicked | Polled::Over => drop(away),
    });
}
