//! Counting what happens millions of times a second.
//!
//! One counter that every hit writes is a line that all cores pull from each other, and even alone
//! an atomic addition is a fifth of a hit. So each thread gets a number and, by it, a line of its
//! own in every counter, which it alone writes: a load and a store, nothing lost. Threads beyond
//! the number of lines share the last one and pay for the atomic addition.
//!
//! Numbers are given back when a thread ends, and taken by the next one through a lock, so what the
//! first one counted is seen by the second. Statistics order nothing, so none of this is for the
//! explorers, and the lock is the real one under them too.

use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many threads count in a line of their own; with the shared one, 2 KiB a cache.
const OWN: usize = 31;

/// Hits and misses, striped.
#[derive(Debug)]
pub(crate) struct Lookups {
    lines: Box<[Line; OWN + 1]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self { lines: Box::new(std::array::from_fn(|_| Line::default())) }
    }

    #[inline]
    pub(crate) fn hit(&self) {
        self.add(|line| &line.hits);
    }

    #[inline]
    pub(crate) fn miss(&self) {
        self.add(|line| &line.misses);
    }

    #[inline]
    fn add(&self, counter: impl Fn(&Line) -> &AtomicU64) {
        let number = NUMBER.get();
        if number < OWN {
            // nobody else writes this line
            let counter = counter(&self.lines[number]);
            counter.store(counter.load(Relaxed) + 1, Relaxed);
        } else {
            self.add_shared(counter);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_shared(&self, counter: impl Fn(&Line) -> &AtomicU64) {
        if NUMBER.get() == NONE {
            take_number();
        }
        // right for a line of one's own as well, for this once
        counter(&self.lines[NUMBER.get()]).fetch_add(1, Relaxed);
    }

    /// Hits and misses so far.
    pub(crate) fn sum(&self) -> (u64, u64) {
        self.lines.iter().fold((0, 0), |(hits, misses), line| {
            (hits + line.hits.load(Relaxed), misses + line.misses.load(Relaxed))
        })
    }
}

/// No number yet.
const NONE: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    /// Gives the number back when the thread ends.
    static LEASE: Lease = const { Lease };
}

fn take_number() {
    // while a thread ends it has no lease any more, and counts in the shared line
    let number = LEASE.try_with(|_| FREE.lock().take()).ok().flatten().unwrap_or(OWN);
    NUMBER.set(number);
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        let number = NUMBER.replace(OWN);
        if number < OWN {
            FREE.lock().give_back(number);
        }
    }
}

static FREE: Mutex<Numbers> = Mutex::new(Numbers(u32::MAX >> 1));

/// A set of numbers below [`OWN`], as bits.
struct Numbers(u32);

impl Numbers {
    fn take(&mut self) -> Option<usize> {
        let number = self.0.trailing_zeros();
        (number < u32::BITS).then(|| {
            self.0 &= self.0 - 1;
            number as usize
        })
    }

    fn give_back(&mut self, number: usize) {
        self.0 |= 1 << number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn nothing_is_lost_with_more_threads_than_lines() {
        let lookups = Lookups::new();
        let start = Barrier::new(OWN * 2);
        std::thread::scope(|scope| {
            for _ in 0..OWN * 2 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..1_000 {
                        lookups.hit();
                    }
                    lookups.miss();
                });
            }
        });
        assert_eq!(lookups.sum(), (OWN as u64 * 2_000, OWN as u64 * 2));
    }

    #[test]
    fn numbers_are_used_again() {
        let lookups = Lookups::new();
        for _ in 0..OWN * 4 {
            std::thread::scope(|scope| {
                scope.spawn(|| lookups.hit());
            });
        }
        assert_eq!(lookups.sum(), (OWN as u64 * 4, 0));
    }

    #[test]
    fn a_number_is_held_by_one_at_a_time() {
        let mut numbers = Numbers(u32::MAX >> 1);
        let taken: Vec<_> = std::iter::from_fn(|| numbers.take()).collect();
        assert_eq!(taken, (0..OWN).collect::<Vec<_>>());
        numbers.give_back(7);
        assert_eq!((numbers.take(), numbers.take()), (Some(7), None));
    }
}
