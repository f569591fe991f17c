//! Locks, atomics and thread parking, from one place.
//!
//! The crate imports these from here and never from `std` or `parking_lot`, so that the very same
//! code runs under [loom](https://docs.rs/loom) (`--cfg larder_loom`) and
//! [shuttle](https://docs.rs/shuttle) (`--cfg larder_shuttle`), which explore the interleavings.
//! `parking_lot`'s locks are one word, do not poison, and `lock()` returns the guard itself; the
//! doubles for the explorers are given the same shape.

#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) use real::*;

#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) use explored::*;

#[cfg(not(any(larder_loom, larder_shuttle)))]
mod real {
    pub(crate) use crate::words::lock::{RwLock, WriteGuard};
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
}

/// Parks this thread for at most `limit`; under the explorers, which know no time, until it is unparked.
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) fn park_timeout(limit: std::time::Duration) {
    std::thread::park_timeout(limit);
}

#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) fn park_timeout(_: std::time::Duration) {
    thread::park();
}

/// A counter for statistics: it orders nothing and guards nothing, so the explorers need not branch on it.
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// Counts one, and returns its number: 1 is the first.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(any(larder_loom, larder_shuttle))]
mod explored {
    #[cfg(larder_loom)]
    use loom::sync as imp;
    #[cfg(larder_shuttle)]
    use shuttle::sync as imp;
    use std::sync::PoisonError;

    #[cfg(larder_loom)]
    pub(crate) use loom::thread_local;
    #[cfg(larder_shuttle)]
    pub(crate) use shuttle::{thread, thread_local};

    pub(crate) use imp::RwLockWriteGuard as WriteGuard;
    pub(crate) use imp::atomic;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(imp::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(imp::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> imp::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(imp::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(imp::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> imp::RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        /// Never succeeds, for the explorers' lock is not ours.
        pub(crate) fn read_biased(&self) -> Option<imp::RwLockReadGuard<'_, T>> {
            None
        }

        /// Unlike the real one, waits.
        #[allow(clippy::unnecessary_wraps, reason = "as the real one")]
        pub(crate) fn read_alone(&self) -> Option<imp::RwLockReadGuard<'_, T>> {
            Some(self.read())
        }

        pub(crate) fn write(&self) -> imp::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Threads that park. loom's own park loses an unpark that comes while the thread waits for a lock (the
    /// unpark ends that wait instead); real threads do not lose it.
    #[cfg(larder_loom)]
    pub(crate) mod thread {
        #[cfg(test)]
        pub(crate) use loom::thread::spawn;
        pub(crate) use loom::thread::yield_now;

        use loom::sync::{Condvar, Mutex};
        use std::sync::{Arc, PoisonError};

        loom::thread_local! {
            static CURRENT: Thread = Thread(Arc::default());
        }

        #[derive(Clone, Debug)]
        pub(crate) struct Thread(Arc<Token>);

        #[derive(Debug, Default)]
        struct Token {
            is_given: Mutex<bool>,
            giving: Condvar,
        }

        impl Thread {
            pub(crate) fn unpark(&self) {
                *self.0.is_given.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.0.giving.notify_one();
            }
        }

        pub(crate) fn current() -> Thread {
            CURRENT.with(Thread::clone)
        }

        pub(crate) fn park() {
            let Thread(token) = current();
            let mut is_given = token.is_given.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_given {
                is_given = token.giving.wait(is_given).unwrap_or_else(PoisonError::into_inner);
            }
            *is_given = false;
        }
    }
}
