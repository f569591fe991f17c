//! The interface between a write-behind queue and the code that uses it: writers, changes, errors.

use std::fmt;
use std::sync::Arc;

/// One change of one key, on its way to the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change<'a, K, V> {
    /// The key has this value now, whether it had one before or not: an `INSERT ... ON CONFLICT DO
    /// UPDATE`, say.
    Put(&'a K, &'a V),
    /// The key has no value any more. That it had none before is no error.
    Delete(&'a K),
}

impl<'a, K, V> Change<'a, K, V> {
    /// Returns the key.
    pub fn key(&self) -> &'a K {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// Returns the new value; `None` for a deletion.
    pub fn value(&self) -> Option<&'a V> {
        match self {
            Self::Put(_, value) => Some(value),
            Self::Delete(_) => None,
        }
    }
}

/// Writes changes to the source, for a [`WriteBehind`](crate::WriteBehind). A closure that takes
/// `&[Change<'_, K, V>]` is a writer too.
///
/// It runs on a thread of the `WriteBehind`'s, several at once only if
/// [`writers`](crate::WriteBehindBuilder::writers) says so, and never two for one key. A panic in it counts
/// as a failure. It may read the cache and make other changes; calls that wait for writers (`flush`, `close`,
/// a change to a full queue) are refused there, since they would wait for themselves.
pub trait Writer<K, V>: Send + Sync + 'static {
    /// Why a batch was not written.
    type Error: Send + Sync + 'static;

    /// Writes these changes: one per key, from one to `batch` of them, the oldest first.
    ///
    /// Each must be written when this returns `Ok`. After an error *all* of them are tried again, later and
    /// in smaller batches: either write a batch in one transaction, or make sure that a change may be written
    /// twice. A change is a state ("the price is 20"), not a step ("5 more"): of several changes of a key
    /// only the last one comes here.
    ///
    /// # Errors
    ///
    /// The source's. An error is given to `on_give_up` if there is no further attempt, and to nobody
    /// otherwise: log here what you want to see.
    fn write(&self, batch: &[Change<'_, K, V>]) -> Result<(), Self::Error>;
}

impl<K, V, E, F> Writer<K, V> for F
where
    F: Fn(&[Change<'_, K, V>]) -> Result<(), E> + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Error = E;

    fn write(&self, batch: &[Change<'_, K, V>]) -> Result<(), E> {
        self(batch)
    }
}

/// A change that was accepted and will not be written, as
/// [`on_give_up`](crate::WriteBehindBuilder::on_give_up) is told of it. It is the last copy of the change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Unwritten<K, V, E> {
    /// The key of the change.
    pub key: K,
    /// The value that was put; `None` for a deletion.
    pub value: Option<V>,
    /// How often writing it was tried; the last attempt may have reached the source nevertheless.
    pub attempts: u32,
    /// Why there is no further attempt.
    pub why: GaveUp<E>,
}

/// Why a change was given up on.
#[derive(Debug)]
#[non_exhaustive]
pub enum GaveUp<E> {
    /// The writer failed as often as [`attempts`](crate::WriteBehindBuilder::attempts) allows; this
    /// is its last error, the same one for all changes of a batch.
    Failed(Arc<E>),
    /// The same, and the last time it panicked.
    Panicked,
    /// The queue was dropped, and this was not written within
    /// [`drop_timeout`](crate::WriteBehindBuilder::drop_timeout), or within the time that
    /// [`close_within`](crate::WriteBehind::close_within) was given.
    Dropped,
}

impl<E> Clone for GaveUp<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
            Self::Dropped => Self::Dropped,
        }
    }
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the writer failed: {error:#}"),
            Self::Panicked => f.write_str("the writer panicked"),
            Self::Dropped => f.write_str("the queue has ended, and its time to drain was over"),
        }
    }
}

/// What a queue does with a change that finds it full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The caller waits until a writer has made room: a slow source slows its callers down (back-pressure).
    #[default]
    Block,
    /// The caller gets [`WriteError::Full`] at once, and its change is not accepted.
    Refuse,
}

/// Why a change was not accepted, or what `flush`, `close` and `close_within` could not do.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// As many keys wait to be written as `max_pending` allows; this change was not accepted.
    #[error(
        "the write-behind queue is full, and this change is not in it: try later, write it to the \
         source yourself, or raise `max_pending`"
    )]
    Full,
    /// The queue was closed before; this change was not accepted.
    #[error(
        "the write-behind queue is closed, and this change is not in it: write it to the source \
         yourself, and close the queue after those who use it"
    )]
    Closed,
    /// Every change has left the queue, but some were not written. Those were reported to `on_give_up`, and
    /// their keys were taken out of the cache.
    #[error(
        "{changes} changes were given up on since the last `flush` or `close`: see what \
         `on_give_up` was told, and raise `attempts` if the source was only away"
    )]
    GaveUp {
        /// How many changes were given up on.
        changes: u64,
    },
    /// The writer itself, or `on_give_up`, called something that waits for it. If that was a change, it was
    /// not accepted.
    #[error(
        "the writer of a write-behind queue cannot wait for its own queue: do not flush or close \
         it there, and expect it to be full"
    )]
    InsideWriter,
    /// No thread could be started for the writer; this change was not accepted.
    #[error(
        "no thread could be started for the writer ({reason}), and this change is not in the \
         queue: write it to the source yourself, or try again when there are fewer threads"
    )]
    NoThread {
        /// What the operating system said.
        reason: String,
    },
}
