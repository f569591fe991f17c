//! Striped counters, for events that happen millions of times a second.
//!
//! One counter that every hit writes is a cache line that all cores pull from each other, and even without
//! contention an atomic addition is a fifth of a hit. So in every counter each thread has a line of its own,
//! by its [number](super::thread_number), which only it writes: a load and a store, and no count is lost.
//! Threads without a number share the last line and pay for the atomic addition.
//!
//! A number passes from one thread to the next through a lock, so the second thread sees what the first one
//! counted.

use super::thread_number::{self, NUMBERS};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Hits, misses and loads, striped: 4 KiB a cache.
#[derive(Debug)]
pub(crate) struct Lookups {
    lines: Box<[CounterLine; NUMBERS + 1]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct CounterLine {
    hits: AtomicU64,
    misses: AtomicU64,
    stale_hits: AtomicU64,
    loads: AtomicU64,
}

impl CounterLine {
    /// Counts a hit, by the thread whose line it is; returns how many the line has now.
    #[inline]
    pub(crate) fn hit(&self) -> u64 {
        let hits = self.hits.load(Relaxed) + 1;
        self.hits.store(hits, Relaxed);
        hits
    }
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self { lines: Box::new(std::array::from_fn(|_| CounterLine::default())) }
    }

    /// The line of this thread, if it has one of its own (yet).
    #[inline]
    pub(crate) fn own(&self) -> Option<&CounterLine> {
        let number = thread_number::get();
        if number < NUMBERS { Some(&self.lines[number]) } else { None }
    }

    /// Counts a hit; returns how many this thread's line has now.
    #[inline]
    pub(crate) fn hit(&self) -> u64 {
        self.add(|line| &line.hits)
    }

    #[inline]
    pub(crate) fn miss(&self) {
        self.add(|line| &line.misses);
    }

    pub(crate) fn stale_hit(&self) {
        self.add(|line| &line.stale_hits);
    }

    #[inline]
    pub(crate) fn load(&self) {
        self.add(|line| &line.loads);
    }

    #[inline]
    fn add(&self, counter: impl Fn(&CounterLine) -> &AtomicU64) -> u64 {
        let number = thread_number::get();
        if number < NUMBERS {
            // nobody else writes this line
            let counter = counter(&self.lines[number]);
            let count = counter.load(Relaxed) + 1;
            counter.store(count, Relaxed);
            count
        } else {
            self.add_shared(counter)
        }
    }

    #[cold]
    #[inline(never)]
    fn add_shared(&self, counter: impl Fn(&CounterLine) -> &AtomicU64) -> u64 {
        // correct for a line of its own as well, this one time
        let number = thread_number::take().unwrap_or(NUMBERS);
        counter(&self.lines[number]).fetch_add(1, Relaxed) + 1
    }

    /// Loads so far.
    pub(crate) fn loads(&self) -> u64 {
        self.lines.iter().map(|line| line.loads.load(Relaxed)).sum()
    }

    /// Hits, misses and stale hits so far.
    pub(crate) fn sum(&self) -> [u64; 3] {
        self.lines.iter().fold([0; 3], |[hits, misses, stale_hits], line| {
            [
                hits + line.hits.load(Relaxed),
                misses + line.misses.load(Relaxed),
                stale_hits + line.stale_hits.load(Relaxed),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn nothing_is_lost_with_more_threads_than_lines() {
        let lookups = Lookups::new();
        let start = Barrier::new(NUMBERS * 2);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..NUMBERS * 2 {
                threads.push(scope.spawn(|| {
                    start.wait();
                    for _ in 0..1_000 {
                        lookups.hit();
                    }
                    lookups.miss();
                }));
            }
            // the thread sanitizer sees a join, and not the end of a scope
            for thread in threads {
                thread.join().unwrap();
            }
        });
        assert_eq!(lookups.sum(), [NUMBERS as u64 * 2_000, NUMBERS as u64 * 2, 0]);
    }

    #[test]
    fn numbers_are_used_again() {
        let lookups = Lookups::new();
        for _ in 0..NUMBERS * 4 {
            std::thread::scope(|scope| {
                let mut threads = Vec::new();
                threads.push(scope.spawn(|| _ = lookups.hit()));
                // the thread sanitizer sees a join, and not the end of a scope
                for thread in threads {
                    thread.join().unwrap();
                }
            });
        }
        assert_eq!(lookups.sum(), [NUMBERS as u64 * 4, 0, 0]);
    }
}
