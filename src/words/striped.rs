//! Counting what happens millions of times a second.
//!
//! One counter that every hit writes is a line that all cores pull from each other, and even alone
//! an atomic addition is a fifth of a hit. So each thread has a line of its own in every counter, by
//! its [number](super::thread_number), which it alone writes: a load and a store, nothing lost.
//! Threads without a number share the last line and pay for the atomic addition.
//!
//! A number is handed from one thread to the next through a lock, so what the first one counted is
//! seen by the second.

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
    /// One hit more, by the thread whose line it is; returns how many stand in it now.
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

    /// Returns how many hits stand in this thread's line now.
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
        // right for a line of one's own as well, for this once
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
