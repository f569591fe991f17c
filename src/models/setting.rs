//! What the models share: caches that behave the same in every run, and a count of moments.

use crate::{Cache, CacheBuilder, Clock, ManualClock};
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hashes that are the same in every run.
pub(super) type Fixed = BuildHasherDefault<DefaultHasher>;

pub(super) type Shelf<V = u64> = Cache<u32, V, Fixed>;

/// The key that everybody wants.
pub(super) const KEY: u32 = 7;

/// A cache on a clock that stands still, with room for all that a model stores, in one shard.
pub(super) fn shelf() -> Shelf {
    builder().0.max_entries(100).build().unwrap()
}

/// The same without its bounds, and the hand of its clock.
pub(super) fn builder<V>() -> (CacheBuilder<u32, V, Fixed>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().hasher(Fixed::default()).seed(1).shards(1).clock(clock);
    (builder, hand)
}

/// Moments in their order. They are the model's own and no part of what is explored, so they are
/// `std`'s: an explorer runs one thread at a time, and these do not make it branch.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments(Arc<AtomicU64>);

impl Moments {
    /// A new one, later than all before; the first is 1.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Moves it ahead, if it is not there yet.
    #[cfg(larder_shuttle)]
    pub(super) fn reach(&self, moment: u64) {
        self.0.fetch_max(moment, Ordering::SeqCst);
    }
}

/// What is behind the cache: one row. Reading and writing it takes a while, before and after.
#[cfg(larder_shuttle)]
#[derive(Clone, Debug, Default)]
pub(super) struct Row(Arc<AtomicU64>);

#[cfg(larder_shuttle)]
impl Row {
    pub(super) fn read(&self) -> u64 {
        shuttle::thread::yield_now();
        let value = self.0.load(Ordering::SeqCst);
        shuttle::thread::yield_now();
        value
    }

    pub(super) fn write(&self, value: u64) {
        shuttle::thread::yield_now();
        self.0.store(value, Ordering::SeqCst);
        shuttle::thread::yield_now();
    }

    pub(super) async fn write_async(&self, value: u64) {
        shuttle::future::yield_now().await;
        self.0.store(value, Ordering::SeqCst);
        shuttle::future::yield_now().await;
    }

    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What is behind the cache: each load takes a while and brings its own number, from 1.
#[cfg(larder_shuttle)]
#[derive(Clone, Debug, Default)]
pub(super) struct Source(Arc<Visits>);

#[cfg(larder_shuttle)]
#[derive(Debug, Default)]
struct Visits {
    begun: AtomicU64,
    running: AtomicU64,
    most: AtomicU64,
    done: AtomicU64,
}

#[cfg(larder_shuttle)]
impl Source {
    pub(super) fn load(&self) -> u64 {
        let visit = Visit::begin(self);
        shuttle::thread::yield_now();
        visit.end()
    }

    pub(super) async fn load_async(&self) -> Result<u64, std::convert::Infallible> {
        let visit = Visit::begin(self);
        for _ in 0..super::explore::draw(3) {
            shuttle::future::yield_now().await;
        }
        Ok(visit.end())
    }

    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// How many loads have run to their end.
    pub(super) fn done(&self) -> u64 {
        self.0.done.load(Ordering::SeqCst)
    }

    /// How many have been running at once, at most.
    pub(super) fn most(&self) -> u64 {
        self.0.most.load(Ordering::SeqCst)
    }
}

/// One load; dropped before its end if it was abandoned.
#[cfg(larder_shuttle)]
struct Visit(Source, u64);

#[cfg(larder_shuttle)]
impl Visit {
    fn begin(source: &Source) -> Self {
        let running = source.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        source.0.most.fetch_max(running, Ordering::SeqCst);
        Self(source.clone(), source.0.begun.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn end(self) -> u64 {
        self.0.0.done.fetch_add(1, Ordering::SeqCst);
        self.1
    }
}

#[cfg(larder_shuttle)]
impl Drop for Visit {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
