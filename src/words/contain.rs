//! Catches panics of user code (wakers, listeners, jobs) where they must not unwind into a caller who did not
//! supply that code.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, Waker};

/// Calls `f` and catches a panic in it, which the panic hook has reported. Returns `false` if it panicked.
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) fn contain(f: impl FnOnce()) -> bool {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    // Nobody uses what `f` captured afterwards, so nobody can see it half changed.
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else {
        return true;
    };
    // The payload's own drop may panic too: then it is leaked.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    false
}

/// Calls `f`. loom and shuttle report what they find by a panic, which must get through.
#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) fn contain(f: impl FnOnce()) -> bool {
    f();
    true
}

/// Polls a future to its end. A panic in a poll is caught, and ends it too: then `None`.
pub(crate) async fn contained<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|task| {
        let mut polled = Poll::Pending;
        if contain(|| polled = future.as_mut().poll(task)) {
            polled.map(Some)
        } else {
            Poll::Ready(None)
        }
    })
    .await
}

/// Wakes them all, even if one panics.
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
