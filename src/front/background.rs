//! Background loads: how the cache's own loader is run on its runtime. What a load does next is decided by
//! [`Away`]; the thread that [`load`]s and the task that does ([`load_async`]) add how to wait.

use super::loader::{AsyncLoader, Loader};
use crate::engine::ahead::Refresher;
use crate::engine::away::{Away, AwayStep};
use crate::parts::waiter::TaskAlarm;
use crate::words::block_on::block_on_until;
use crate::words::contain::{contain, contained};
use crate::words::runtime::{Refused, Runtime};
use crate::words::sync::Mutex;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

/// Work that is offered to a runtime. The runtime takes it when it runs the job; if it refuses, the caller takes
/// it back.
struct Offer<T>(Arc<Mutex<Option<T>>>);

impl<T> Offer<T> {
    fn take(self) -> Option<T> {
        self.0.lock().take()
    }
}

/// Offers `work` to a runtime, and returns it if it was refused. A runtime that was shut down may also accept
/// the job and drop it at once, as tokio's does: that counts as refused.
fn offer<T>(work: T, give: impl FnOnce(Offer<T>) -> Result<(), Refused>) -> Option<T> {
    let place = Arc::new(Mutex::new(Some(work)));
    let given = give(Offer(Arc::clone(&place)));
    if given.is_ok() && Arc::strong_count(&place) > 1 {
        return None;
    }
    place.lock().take()
}

/// Has a runtime do `job` with this work, on a thread that may block. Returns the work if it was refused.
pub(super) fn give_to_thread<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: T,
    job: impl FnOnce(T) + Send + 'static,
) -> Option<T> {
    offer(work, |offer| {
        runtime.spawn_blocking(Box::new(move || {
            if let Some(work) = offer.take() {
                job(work);
            }
        }))
    })
}

/// The same in a task.
pub(super) fn give_to_task<T: Send + 'static, F: Future<Output = ()> + Send>(
    runtime: &dyn Runtime,
    work: T,
    job: impl FnOnce(T) -> F + Send + 'static,
) -> Option<T> {
    offer(work, |offer| {
        runtime.spawn(Box::pin(async move {
            if let Some(work) = offer.take() {
                job(work).await;
            }
        }))
    })
}

/// What the runtime did not take goes back to whoever asked for it.
fn taken<K, V, S, L>(refused: Option<(Away<K, V, S>, L)>) -> Result<(), Away<K, V, S>> {
    refused.map_or(Ok(()), |(away, _)| {
        away.note_refused();
        Err(away)
    })
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
        let work = (away, Arc::clone(&self.loader));
        taken(give_to_thread(&*self.runtime, work, |(away, loader)| {
            contain(|| load(&*loader, away, true));
        }))
    }

    fn is_busy(&self) -> bool {
        self.runtime.is_busy()
    }

    fn run(&self, away: Away<K, V, S>) {
        contain(|| load(&*self.loader, away, false));
    }
}

/// Runs one load. If all slots are taken, it is given up unless it `may_wait`. A panic of the loader, or of other
/// user code while the result is stored, is counted and the waiters are told; it is for the caller to catch it, so
/// that it does not reach the runtime.
fn load<K, V, L, S>(loader: &L, away: Away<K, V, S>, may_wait: bool)
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: Loader<K, V>,
    S: Send + Sync + 'static,
{
    let mut step = away.first();
    loop {
        step = match step {
            AwayStep::Ask(mut away, question) => {
                let (clock, deadline) = (away.clock().clone(), away.deadline());
                let found = away.run(|| block_on_until(question, &clock, deadline));
                away.answered(found)
            }
            AwayStep::Queue(away, line) if may_wait => {
                let slot = line.block();
                away.turned(&line, slot)
            }
            AwayStep::Load(mut away, cx) => {
                let key = away.key().clone();
                let result = away.run(|| loader.load(&key, &cx));
                // dropped first, so that the old value, if it is unchanged, can be moved and not cloned
                drop(cx);
                return away.land(result);
            }
            AwayStep::Queue(..) | AwayStep::End => return,
        };
    }
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
        let work = (away, Arc::clone(&self.loader));
        taken(give_to_task(&*self.runtime, work, |(away, loader)| async move {
            contained(pin!(load_async(&*loader, away))).await;
        }))
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

/// The async form of [`load`].
async fn load_async<K, V, L, S>(loader: &L, away: Away<K, V, S>)
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: AsyncLoader<K, V>,
    S: Send + Sync + 'static,
{
    let mut step = away.first();
    loop {
        step = match step {
            AwayStep::Ask(mut away, mut question) => {
                match polled(&mut away, Pin::new(&mut question)).await {
                    Polled::Done(found) => away.answered(Some(found)),
                    Polled::TimedOut => away.answered(None),
                    Polled::Over => return,
                }
            }
            AwayStep::Queue(away, line) => {
                let slot = line.slot().await;
                away.turned(&line, slot)
            }
            AwayStep::Load(mut away, cx) => {
                let key = away.key().clone();
                // in a future of its own, so that the code of `load` before it returns its future runs inside the
                // poll too
                let result = pin!(async { loader.load(&key, &cx).await });
                return match polled(&mut away, result).await {
                    Polled::Done(result) => away.land(result),
                    Polled::TimedOut => away.time_out(),
                    Polled::Over => {}
                };
            }
            AwayStep::End => return,
        };
    }
}

/// How the polling of a part of a background load ended.
enum Polled<T> {
    Done(T),
    TimedOut,
    /// The load has ended already, or the cache was dropped.
    Over,
}

/// Polls a part of the user's code for as long as it is needed.
async fn polled<K, V, S, F: Future>(
    away: &mut Away<K, V, S>,
    mut part: Pin<&mut F>,
) -> Polled<F::Output> {
    let mut alarm = TaskAlarm::default();
    poll_fn(|task| {
        if let Poll::Ready(output) = away.run(|| part.as_mut().poll(task)) {
            return Poll::Ready(Polled::Done(output));
        }
        // checked first, so that the breaker hears of a timeout that a waiter has noticed already
        let deadline = away.deadline();
        alarm.set(away.clock(), deadline, task.waker());
        if deadline <= away.clock().now() {
            return Poll::Ready(Polled::TimedOut);
        }
        away.poll_over(task.waker()).map(|()| Polled::Over)
    })
    .await
}
