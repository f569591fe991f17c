//! Where a panic of the user's code ends: in wakers, listeners and jobs, which run on behalf of
//! somebody who did not write them.

use std::task::Waker;

/// Calls `f`; a panic in it ends here (the panic hook has reported it). False if it panicked.
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) fn contain(f: impl FnOnce()) -> bool {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    // What `f` captured is used by nobody afterwards, so nobody can see it half changed.
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else {
        return true;
    };
    // A payload may be of a type whose drop panics in its turn: then it is leaked.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    false
}

/// Calls `f`. The explorers report what they find by a panic: it must get through.
#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) fn contain(f: impl FnOnce()) -> bool {
    f();
    true
}

/// Wakes them all: one that panics does not cost the others their call.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        contain(|| waker.wake());
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained_even_one_whose_payload_panics_when_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("expected: the payload's drop");
            }
        }
        assert!(contain(|| ()));
        assert!(!contain(|| panic!("expected: a plain panic")));
        assert!(!contain(|| std::panic::panic_any(Bomb)));
    }
}
