//! The threads that write, and what they share with the handles of their queue.

use crate::front::behind::core::{Core, Drain, changes};
use crate::front::behind::writer::{GaveUp, WriteError, Writer};
use crate::parts::backlog::{Taken, WriterStep};
use crate::words::contain::contain;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::sync::{Mutex, thread};
use crate::words::tick::Tick;
use crate::words::unpark::Unpark;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::task::Waker;

/// The queue and its threads, which share it.
pub(super) struct Writers<K, V, W, S>
where
    W: Writer<K, V>,
{
    pub(super) core: Core<K, V, S>,
    pub(super) writer: W,
    /// Whether the threads were started.
    is_started: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl<K, V, W, S> Writers<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    pub(super) fn new(core: Core<K, V, S>, writer: W) -> Self {
        Self { core, writer, is_started: AtomicBool::new(false), threads: Mutex::new(Vec::new()) }
    }

    /// Starts the threads, unless that is done already.
    pub(super) fn ensure_started(self: &Arc<Self>) -> Result<(), WriteError> {
        if self.is_started.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut threads = self.threads.lock();
        if self.is_started.load(Ordering::Acquire) || self.core.queue.is_closed() {
            return Ok(());
        }
        for _ in 0..self.core.settings.writers {
            let writers = Arc::clone(self);
            let builder = thread::Builder::new().name("larder-writer".to_owned());
            match builder.spawn(move || writers.work()) {
                Ok(handle) => threads.push(handle),
                // fewer threads suffice
                Err(_) if !threads.is_empty() => break,
                Err(error) => return Err(WriteError::NoThread { reason: error.to_string() }),
            }
        }
        self.is_started.store(true, Ordering::Release);
        Ok(())
    }

    /// The loop of one writer thread.
    fn work(&self) {
        let queue = &self.core.queue;
        let waker = Waker::from(Unpark::this());
        loop {
            if queue.is_over() {
                self.core.abandon();
            }
            match queue.next(&waker) {
                WriterStep::Write(batch) => self.write(batch),
                WriterStep::Wait(until) => {
                    // whoever sets this wakes the waiting writers
                    let deadline = queue.deadline();
                    queue.clock.park_until(until.into_iter().chain(deadline).min());
                }
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
    pub(super) fn is_writer(&self) -> bool {
        let me = thread::current().id();
        self.threads.lock().iter().any(|handle| handle.thread().id() == me)
    }

    /// Whether a call on this thread would wait for itself.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_writer() || self.core.is_telling()
    }

    /// Waits for the threads, which only finish their last batches, until this tick. A thread that hangs in user
    /// code is not waited for any longer: nothing can end it.
    pub(super) fn dismiss(&self, until: Option<Tick>) {
        let queue = &self.core.queue;
        match queue.block(until, |waker| queue.poll_back(waker)) {
            Some(true) => {}
            Some(false) => return,
            None => return queue.leave_behind(),
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // panics of user code are contained in it
            _ = thread.join();
        }
    }
}

impl<K, V, W, S> Drain for Writers<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    fn drain(&self) {
        let queue = &self.core.queue;
        if self.is_writer() {
            // a writer cannot wait for itself: it goes on, and ends when nothing is left or time is over
            return queue.close_until(self.core.drop_deadline());
        }
        let until = self.core.drop_deadline();
        queue.close();
        queue.block(Some(until), |waker| queue.poll_drained(waker));
        self.core.abandon();
        self.dismiss(Some(until));
    }
}
