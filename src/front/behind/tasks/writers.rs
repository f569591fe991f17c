//! The tasks that write, and what they share with the handles of their queue.

use super::AsyncWriter;
use crate::front::behind::core::{Core, Drain, changes};
use crate::front::behind::writer::GaveUp;
use crate::parts::backlog::{Taken, WriterStep};
use crate::parts::waiter::TaskAlarm;
use crate::words::contain::contain;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::runtime::Handle;

/// The queue with its writer, shared by the handles and the tasks.
pub(super) struct Writers<K, V, W, S>
where
    W: AsyncWriter<K, V>,
{
    pub(super) core: Arc<Core<K, V, S>>,
    writer: W,
    runtime: Handle,
    /// Whether the tasks were spawned.
    is_started: AtomicBool,
}

/// However the task ends, what is not written is given up on and reported.
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

impl<K, V, W, S> Writers<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    pub(super) fn new(core: Arc<Core<K, V, S>>, writer: W, runtime: Handle) -> Self {
        Self { core, writer, runtime, is_started: AtomicBool::new(false) }
    }

    /// Spawns the tasks, unless that is done already. A runtime that has ended drops them, which closes the
    /// queue.
    pub(super) fn ensure_started(self: &Arc<Self>) {
        if self.is_started.load(Ordering::Acquire) || self.is_started.swap(true, Ordering::AcqRel) {
            return;
        }
        for _ in 0..self.core.settings.writers {
            let (writers, guard) = (Arc::clone(self), EndGuard(Arc::clone(&self.core)));
            self.runtime.spawn(async move {
                writers.work().await;
                drop(guard);
            });
        }
    }

    /// The loop of one writer task.
    async fn work(&self) {
        let queue = &self.core.queue;
        let mut alarm = TaskAlarm::default();
        loop {
            let batch = poll_fn(|task| match queue.next(task.waker()) {
                WriterStep::Write(batch) => Poll::Ready(Some(batch)),
                WriterStep::End => Poll::Ready(None),
                WriterStep::Wait(until) => {
                    if let Some(at) = until {
                        alarm.set(&queue.clock, at, task.waker());
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
            if self.core.queue.poll_abandoned(task.waker()).is_ready() {
                // the queue has ended, and a source that hangs must not keep its cache alive
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
        // the future's `Drop` is user code too, and must not end the task by a panic
        contain(|| writing.set(None));
        outcome
    }
}

impl<K, V, W, S> Drain for Writers<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: AsyncWriter<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    fn drain(&self) {
        let core = Arc::clone(&self.core);
        core.queue.close();
        if core.queue.pending() == 0 {
            return;
        }
        let (until, guard) = (core.drop_deadline(), EndGuard(Arc::clone(&core)));
        self.runtime.spawn(async move {
            core.queue.wait(Some(until), |waker| core.queue.poll_drained(waker)).await;
            drop(guard);
        });
    }
}
