//! A small number for each running thread, which gives it a place of its own in data that all threads share.
//!
//! A thread that ends gives its number back, and another takes it, through a lock, so the second thread sees
//! what the first one wrote in its places. No thread waits for another by means of numbers, so the explorers
//! need not see any of this, and the lock is the real one under them too.

use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads can have a number at a time; others do without.
pub(crate) const NUMBERS: usize = 63;

/// No number taken yet.
const NONE: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    /// Gives the number back when the thread ends.
    static LEASE: Lease = const { Lease };
}

static FREE: Mutex<Free> = Mutex::new(Free(u64::MAX >> 1));
static USED: AtomicUsize = AtomicUsize::new(0);

/// This thread's number; [`NUMBERS`] or more if it has none (yet).
#[inline]
pub(crate) fn get() -> usize {
    NUMBER.get()
}

/// This thread's number; if it has none, it gets one now, if one is left.
#[cold]
#[inline(never)]
pub(crate) fn take() -> Option<usize> {
    if NUMBER.get() == NONE {
        // a thread that is ending has no lease any more, and gets no number either
        let number = LEASE.try_with(|_| FREE.lock().take()).ok().flatten().unwrap_or(NUMBERS);
        if number < NUMBERS {
            USED.fetch_max(number + 1, Ordering::SeqCst);
        }
        NUMBER.set(number);
    }
    Some(NUMBER.get()).filter(|number| *number < NUMBERS)
}

/// All numbers ever taken are below this one.
#[cfg_attr(any(larder_loom, larder_shuttle), allow(dead_code, reason = "their locks need none"))]
pub(crate) fn used() -> usize {
    USED.load(Ordering::SeqCst)
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        let number = NUMBER.replace(NUMBERS);
        if number < NUMBERS {
            FREE.lock().give_back(number);
        }
    }
}

/// A set of numbers below [`NUMBERS`], as bits.
struct Free(u64);

impl Free {
    fn take(&mut self) -> Option<usize> {
        let number = self.0.trailing_zeros();
        (number < u64::BITS).then(|| {
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

    #[test]
    fn a_number_is_held_by_one_at_a_time() {
        let mut free = Free(u64::MAX >> 1);
        let taken: Vec<_> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(taken, (0..NUMBERS).collect::<Vec<_>>());
        free.give_back(7);
        assert_eq!((free.take(), free.take()), (Some(7), None));
    }

    #[test]
    fn a_thread_keeps_its_number() {
        let number = take();
        assert!(number.is_none_or(|number| number < used()));
        assert_eq!((take(), get() < NUMBERS), (number, number.is_some()));
    }
}
