//! The tasks that write, and what they share with the handles of their queue.

use super::AsyncWriter;
use crate::front::behind::core::{Core, Drain, changes};
use crate::front::behind::desk::Desk;
use crate::front::behind::writer::GaveUp;
use crate::parts::backlog::{Taken, WriterStep};
use crate::parts::waiter::Bell;
use crate::words::contain::contain;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::tick::Tick;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use tokio::runtime::Handle;

/// The queue and who writes, shared by the handles and the tasks.
pub(super) struct Crew<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    pub(super) core: Arc<Core<K, V, S>>,
    writer: W,
    runtime: Handle,
    /// Whether the tasks were spawned.
    is_manned: AtomicBool,
}

/// However its task ends: nothing is left behind unreported.
struct EndGuard<K, V, S>(Arc<Core<K, V, S>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static;

impl<K, V, S> Drop for EndGuard<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<K, V, W, S> Crew<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    pub(super) fn new(core: Arc<Core<K, V, S>>, writer: W, runtime: Handle) -> Self {
        Self { core, writer, runtime, is_manned: AtomicBool::new(false) }
    }

    /// Sees to it that there are tasks. A runtime that has ended drops them, which closes the queue.
    pub(super) fn man(self: &Arc<Self>) {
        if self.is_manned.load(Ordering::Acquire) || self.is_manned.swap(true, Ordering::AcqRel) {
            return;
        }
        for _ in 0..self.core.settings.writers {
            let (crew, guard) = (Arc::clone(self), EndGuard(Arc::clone(&self.core)));
            self.runtime.spawn(async move {
                crew.work().await;
                drop(guard);
            });
        }
    }

    /// A writer's life.
    async fn work(&self) {
        let desk = &self.core.desk;
        let mut bell = Bell::default();
        loop {
            let batch = poll_fn(|task| match desk.next(task.waker()) {
                WriterStep::Write(batch) => Poll::Ready(Some(batch)),
                WriterStep::End => Poll::Ready(None),
                WriterStep::Wait(until) => {
                    if let Some(at) = until {
                        bell.set(&desk.clock, at, task.waker());
                    }
                    Poll::Pending
                }
            });
            let Some(batch) = batch.await else { return };
            self.write(batch).await;
        }
    }

    async fn write(&self, batch: Vec<Taken<K, V>>) {
        let outcome = self.attempt(&batch).await;
        self.core.settle(batch, outcome);
    }

    async fn attempt(&self, batch: &[Taken<K, V>]) -> Result<(), GaveUp<W::Error>> {
        let changes = changes(batch);
        let mut writing = None;
        contain(|| writing = Some(self.writer.write(&changes)));
        let mut writing = pin!(writing);
        let outcome = poll_fn(|task| {
            if self.core.desk.poll_abandoned(task.waker()).is_ready() {
                // the queue is gone, and its cache is not to be kept for a source that hangs
                return Poll::Ready(Err(GaveUp::Dropped));
            }
            let mut polled = Poll::Ready(Err(GaveUp::Panicked));
            contain(|| {
                let Some(writing) = writing.as_mut().as_pin_mut() else { return };
                let written = writing.poll(task);
                polled = written.map_err(|error| GaveUp::Failed(Arc::new(error)));
            });
            polled
        })
        .await;
        // its `Drop` is the user's too, and must not end the task
        contain(|| writing.set(None));
        outcome
    }
}

/// Waits until `poll` is ready, or until that tick.
pub(super) async fn within<K, V>(
    desk: &Desk<K, V>,
    until: Tick,
    poll: impl Fn(&Waker) -> Poll<()>,
) {
    let mut bell = Bell::default();
    poll_fn(|task| {
        bell.set(&desk.clock, until, task.waker());
        if desk.clock.now() >= until {
            return Poll::Ready(());
        }
        poll(task.waker())
    })
    .await;
}

impl<K, V, W, S> Drain for Crew<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    fn drain(&self) {
        let core = Arc::clone(&self.core);
        core.desk.close();
        if core.desk.pending() == 0 {
            return;
        }
        let (until, guard) = (core.drop_deadline(), EndGuard(Arc::clone(&core)));
        self.runtime.spawn(async move {
            within(&core.desk, until, |waker| core.desk.poll_drained(waker)).await;
            drop(guard);
        });
    }
}
