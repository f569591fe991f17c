//! The builder of a write-behind queue, and the settings that both kinds share.

use super::core::{Core, OnGiveUp};
use super::threads::WriteBehind;
use super::writer::{Unwritten, WhenFull, Writer};
use crate::engine::store::Store;
use crate::parts::backlog::BacklogTerms;
use crate::rules::expiry::ticks;
use crate::words::error::{ConfigError, Given};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

/// Builds a [`WriteBehind`]; made by [`WriteBehind::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct WriteBehindBuilder<K, V, W, S = ahash::RandomState>
where
    W: Writer<K, V>,
{
    store: Arc<Store<K, V, S>>,
    writer: W,
    settings: Settings,
    on_give_up: Option<OnGiveUp<K, V>>,
}

/// The settings of queues with threads and with tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) max_pending: usize,
    pub(super) max_delay: Duration,
    pub(super) batch: usize,
    pub(super) attempts: u32,
    pub(super) retry: (Duration, Duration),
    pub(super) writers: usize,
    pub(super) when_full: WhenFull,
    pub(super) drop_timeout: Duration,
}

impl Settings {
    pub(super) fn new() -> Self {
        Self {
            max_pending: 10_000,
            max_delay: Duration::from_millis(100),
            batch: 100,
            attempts: u32::MAX,
            retry: (Duration::from_millis(100), Duration::from_secs(30)),
            writers: 1,
            when_full: WhenFull::Block,
            drop_timeout: Duration::from_secs(5),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("max_pending", self.max_pending),
            ("batch", self.batch),
            ("attempts", self.attempts as usize),
            ("writers", self.writers),
        ];
        for (setting, count) in counts {
            if count == 0 {
                let (given, accepts) = (Given::Count(0), "1 and more");
                return Err(ConfigError::OutOfRange { setting, given, accepts });
            }
        }
        let (least, most) = self.retry;
        if least.is_zero() || most < least {
            let (setting, given) = ("retry", Given::Duration(least));
            let accepts = "a first pause of more than zero, and a longest one that is no shorter";
            return Err(ConfigError::OutOfRange { setting, given, accepts });
        }
        Ok(())
    }

    pub(super) fn terms(&self) -> BacklogTerms {
        BacklogTerms {
            max_pending: self.max_pending,
            max_delay: ticks(self.max_delay),
            batch: self.batch,
            attempts: self.attempts,
            back_off: (ticks(self.retry.0), ticks(self.retry.1)),
        }
    }
}

/// The settings of a builder, which are the same for threads and for tasks.
macro_rules! settings {
    () => {
        /// Limits how many keys may have an unwritten change at once: 10,000 unless set. A key that changes
        /// again while it waits takes no further place. Each key holds one value, or two while its first is
        /// being written, so this bounds the queue's memory.
        pub fn max_pending(mut self, keys: usize) -> Self {
            self.settings.max_pending = keys;
            self
        }

        /// Sets how long a change may wait for others to be written with: 100 ms unless set. It is written
        /// earlier if a whole batch has come together, if the queue is full, and on `flush` and `close`. Zero
        /// writes as soon as a writer is free, with whatever has come together meanwhile; [`Duration::MAX`]
        /// waits for a full batch, a full queue, `flush` or `close`.
        pub fn max_delay(mut self, delay: Duration) -> Self {
            self.settings.max_delay = delay;
            self
        }

        /// Sets how many changes the writer is given at once, at most: 100 unless set.
        pub fn batch(mut self, changes: usize) -> Self {
            self.settings.batch = changes;
            self
        }

        /// Sets the pause after a failure before the same change is tried again: `min` after the first, twice
        /// as long after each further one in a row, `max` at most. From 100 ms to 30 s unless set. Changes of
        /// other keys are written meanwhile. Nobody is told of an error after which the change is tried again:
        /// log errors in the writer, and watch `pending`.
        pub fn retry(mut self, min: Duration, max: Duration) -> Self {
            self.settings.retry = (min, max);
            self
        }

        /// Limits how often a change is tried before it is given up on. Unless set, it is tried for as long
        /// as the process lives: a queue that fills up is easier to notice than missing writes.
        pub fn attempts(mut self, attempts: u32) -> Self {
            self.settings.attempts = attempts;
            self
        }

        /// Sets how many batches may be written at once: one unless set. Changes of one key are never written
        /// concurrently.
        pub fn writers(mut self, writers: usize) -> Self {
            self.settings.writers = writers;
            self
        }

        /// Sets what happens to a change that finds the queue full: its caller waits, unless this says
        /// otherwise.
        pub fn when_full(mut self, when_full: WhenFull) -> Self {
            self.settings.when_full = when_full;
            self
        }

        /// Limits how long the queue goes on writing after its last handle was dropped: 5 s unless set. (A
        /// `WriteBehind` blocks the dropping thread meanwhile, unless that is a writer's own; an
        /// `AsyncWriteBehind` does not.) What is not written by then is reported to
        /// [`on_give_up`](Self::on_give_up). With a manual clock, it writes for as long as there is something
        /// to write without time passing. `close_within` has a limit of its own.
        pub fn drop_timeout(mut self, timeout: Duration) -> Self {
            self.settings.drop_timeout = timeout;
            self
        }
    };
}

#[cfg(feature = "tokio")]
pub(super) use settings;

impl<K, V, W, S> WriteBehindBuilder<K, V, W, S>
where
    W: Writer<K, V>,
{
    pub(super) fn new(store: Arc<Store<K, V, S>>, writer: W) -> Self {
        Self { store, writer, settings: Settings::new(), on_give_up: None }
    }

    settings!();

    /// Sets a listener that is told, once, of every change that was accepted and will not be written: its
    /// [`attempts`](Self::attempts) are used up, or the time to drain is over. This is the last copy of the
    /// change, so log it, or save it where it can be found. Called with no lock held, on a writer's thread or
    /// on the one that drops the queue or calls [`close_within`](WriteBehind::close_within); a panic in it is
    /// caught. `flush` and `close`, through any handle, return when it has been told.
    pub fn on_give_up(
        mut self,
        listener: impl Fn(Unwritten<K, V, W::Error>) + Send + Sync + 'static,
    ) -> Self {
        self.on_give_up = Some(OnGiveUp::new(listener));
        self
    }
}

impl<K, V, W, S> WriteBehindBuilder<K, V, W, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Writer<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Builds the queue. Its threads are started by the first change.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`] where `max_pending`, `batch`, `attempts` or `writers` is zero, or the
    /// first pause of `retry` is zero or above its longest one.
    pub fn build(self) -> Result<WriteBehind<K, V, W, S>, ConfigError> {
        self.settings.check()?;
        let core = Core::new(self.store, self.settings, self.on_give_up);
        Ok(WriteBehind::over(core, self.writer))
    }
}

impl<K, V, W, S> fmt::Debug for WriteBehindBuilder<K, V, W, S>
where
    W: Writer<K, V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("WriteBehindBuilder").field("settings", settings).finish_non_exhaustive()
    }
}
