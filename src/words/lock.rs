//! The lock around a shard: many readers, which write nothing that threads share, or one writer.
//!
//! The protocol is in [`raw_lock`](super::raw_lock), in safe code. This file adds the cell with the data, and
//! is the only one of the library with `unsafe` in it (its model, `models/lock.rs`, has a cell of its own).
//! The reason is that no lock of the standard library or of `parking_lot` lets a reader in without writing a
//! shared word, and that word is what limits reading on more than one core.

#![allow(unsafe_code)]

use super::raw_lock::{Entered, Raw, ReaderPlace};
use super::thread_number::{self, NUMBERS};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

static PLACES: [ReaderPlace; NUMBERS] = [const { ReaderPlace::new() }; NUMBERS];

/// The place of this thread, if it has a number.
#[inline]
fn place() -> Option<&'static ReaderPlace> {
    // a thread has a number once it has counted a look-up; until then it enters by the word
    PLACES.get(thread_number::get())
}

fn places() -> &'static [ReaderPlace] {
    &PLACES[..thread_number::used()]
}

pub(crate) struct RwLock<T> {
    raw: Raw,
    data: UnsafeCell<T>,
}

// SAFETY: the data goes with the lock from thread to thread, and nothing else does.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: `raw` lets in readers, which share the data (`T: Sync`), or one writer, which may move it
// out or drop it (`T: Send`), and what one of them wrote is seen by those who enter later.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    pub(crate) fn new(data: T) -> Self {
        Self { raw: Raw::new(), data: UnsafeCell::new(data) }
    }

    /// Shared access. A thread that has it must not ask for it again, nor for exclusive access.
    #[inline]
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        let entered = self.raw.enter_to_read(place);
        ReadGuard { lock: self, entered, stays: PhantomData }
    }

    /// Shared access, if the lock is biased: without a function call, and without writing anything that
    /// threads share.
    #[inline]
    pub(crate) fn read_biased(&self) -> Option<BiasedGuard<'_, T>> {
        let place = self.raw.enter_biased(place)?;
        Some(BiasedGuard { lock: self, place, stays: PhantomData })
    }

    /// Access for a reader who is soon done, if the lock is not biased and nobody is inside: until then it
    /// keeps others out, readers too.
    #[inline]
    pub(crate) fn read_alone(&self) -> Option<LoneGuard<'_, T>> {
        self.raw.enter_to_read_alone().then(|| LoneGuard { lock: self, stays: PhantomData })
    }

    /// Exclusive access.
    #[inline]
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        self.raw.enter_to_write(places);
        WriteGuard { lock: self, stays: PhantomData }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("raw", &self.raw).finish_non_exhaustive()
    }
}

/// Shared access, until it is dropped.
pub(crate) struct ReadGuard<'l, T> {
    lock: &'l RwLock<T>,
    entered: Entered<'static>,
    /// Not `Send`: it is given back by the thread that has it, because the place is that thread's.
    stays: PhantomData<*const ()>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: until this guard leaves, `raw` keeps writers out, so nobody has a `&mut`.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave_reading(self.entered);
    }
}

/// Shared access by the place of this thread, until it is dropped.
pub(crate) struct BiasedGuard<'l, T> {
    lock: &'l RwLock<T>,
    place: &'static ReaderPlace,
    stays: PhantomData<*const ()>,
}

impl<T> Deref for BiasedGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: as for `ReadGuard`: writers wait until the place is left.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for BiasedGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.place.leave();
    }
}

/// Access for a reader who is alone, until it is dropped. (Shared all the same: with readers who enter by their
/// places, as soon as the lock is biased.)
pub(crate) struct LoneGuard<'l, T> {
    lock: &'l RwLock<T>,
    stays: PhantomData<*const ()>,
}

impl<T> Deref for LoneGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: as for `ReadGuard`: writers wait until the word says that nobody is inside.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for LoneGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave_alone();
    }
}

/// Exclusive access, until it is dropped.
pub(crate) struct WriteGuard<'l, T> {
    lock: &'l RwLock<T>,
    stays: PhantomData<*const ()>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: until this guard leaves, `raw` keeps everybody else out.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: until this guard leaves, `raw` keeps everybody else out, and the guard itself is
        // borrowed for as long as the reference lives.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave_alone();
    }
}

// Not called `tests`: what the thread sanitizer says of those is suppressed (`.ci/tsan.supp`).
#[cfg(test)]
mod under_threads {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// Two numbers that a writer never lets differ, and a heap block that it replaces: whoever is let
    /// in wrongly sees a difference, and the sanitizers see it too.
    type Pair = (u64, Box<u64>);

    fn raise(pair: &RwLock<Pair>) {
        let mut pair = pair.write();
        pair.0 += 1;
        *pair = (pair.0, Box::new(pair.0));
    }

    /// Reads long enough between two writes for the lock to become biased.
    const READS: u64 = 2_000;

    #[test]
    fn readers_of_all_kinds_and_writers_keep_each_other_out() {
        let pair = Arc::new(RwLock::new((0, Box::new(0))));
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (pair, stop) = (Arc::clone(&pair), Arc::clone(&stop));
                thread::spawn(move || {
                    // with a number it has a place of its own
                    thread_number::take();
                    let mut last = 0;
                    let mut look = |pair: &Pair| {
                        assert_eq!(pair.0, *pair.1);
                        assert!(pair.0 >= last, "what was seen is gone");
                        last = pair.0;
                    };
                    while !stop.load(Ordering::Relaxed) {
                        look(&pair.read());
                        pair.read_alone().into_iter().for_each(|pair| look(&pair));
                        pair.read_biased().into_iter().for_each(|pair| look(&pair));
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let pair = Arc::clone(&pair);
                thread::spawn(move || {
                    for _ in 0..100 {
                        raise(&pair);
                        (0..READS).for_each(|_| drop(pair.read()));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(pair.read().0, 200);
    }

    #[test]
    fn a_thread_reads_under_two_locks_at_once() {
        thread_number::take();
        let locks = [RwLock::new(1), RwLock::new(2)];
        for _ in 0..READS {
            let both = (locks[0].read(), locks[1].read());
            assert_eq!((*both.0, *both.1), (1, 2));
        }
        for lock in &locks {
            *lock.write() += 1;
        }
        assert_eq!((*locks[0].read(), *locks[1].read()), (2, 3));
    }

    #[test]
    fn a_reader_that_panics_has_left() {
        thread_number::take();
        let lock = RwLock::new(0);
        (0..READS).for_each(|_| drop(lock.read()));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.read();
            panic!("under the lock");
        }));
        assert!(panicked.is_err());
        *lock.write() = 1;
        assert_eq!(*lock.read(), 1);
    }
}
