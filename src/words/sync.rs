//! Locks, atomics and thread parking, from one place.
//!
//! The crate imports these from here and never from `std` or `parking_lot`, so that the very same
//! code runs under [loom](https://docs.rs/loom) (`--cfg larder_loom`) and
//! [shuttle](https://docs.rs/shuttle) (`--cfg larder_shuttle`), which explore the interleavings.
//! parking_lot's locks are one word, do not poison, and `lock()` returns the guard itself; the
//! doubles for the explorers are given the same shape.

#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) use real::*;

#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) use explored::*;

#[cfg(not(any(larder_loom, larder_shuttle)))]
mod real {
    pub(crate) use parking_lot::{Mutex, RwLock};
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
}

/// A statistic: it orders nothing and guards nothing, so the explorers need not branch on it.
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
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
    pub(crate) use loom::{thread, thread_local};
    #[cfg(larder_shuttle)]
    pub(crate) use shuttle::{thread, thread_local};

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

        pub(crate) fn write(&self) -> imp::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
