//! Those who wait for something under a lock to change, and are woken together.

use super::contain::wake_all;
use super::sync::Mutex;
use std::task::{Poll, Waker};

/// The wakers of threads and tasks that wait for the same thing, in no order. When it may have happened all of
/// them are woken; each looks for itself, and waits again if it has to. So a waiter that goes away has nothing
/// to take back: its waker is here until the next change, once for each task.
///
/// Wakers are the runtime's code: none is cloned, called or dropped under the lock that guards the list.
#[derive(Debug, Default)]
#[must_use = "they wait to be woken"]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    /// Adds a waker, once however often its task polls. If it is here already it is returned, to be dropped after
    /// the lock is released.
    #[must_use = "it is to be dropped after the lock is released"]
    pub(crate) fn add(&mut self, waker: Waker) -> Option<Waker> {
        if self.0.iter().any(|other| other.will_wake(&waker)) {
            return Some(waker);
        }
        self.0.push(waker);
        None
    }

    /// Takes them all, to be woken after the lock is released.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// These and the others.
    pub(crate) fn and(mut self, mut others: Self) -> Self {
        self.0.append(&mut others.0);
        self
    }

    /// Wakes them, even if one panics.
    pub(crate) fn wake(self) {
        wake_all(self.0);
    }
}

/// Looks under the lock for what somebody waits for. While it is not there, `look` returns the list of those who
/// wait for it, and the waker is in that list.
pub(crate) fn look_or_wait<S, T>(
    state: &Mutex<S>,
    waker: &Waker,
    look: impl FnOnce(&mut S) -> Result<T, &mut Wakers>,
) -> Poll<T> {
    let waker = waker.clone();
    let mut state = state.lock();
    let (polled, unused) = match look(&mut state) {
        Ok(found) => (Poll::Ready(found), Some(waker)),
        Err(waiting) => (Poll::Pending, waiting.add(waker)),
    };
    drop(state);
    drop(unused);
    polled
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A waker that panics.
    struct Bomb;

    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("expected: a waker");
        }
    }

    #[test]
    fn each_is_woken_once_however_often_it_polled_and_whatever_others_do() {
        let state = Mutex::new(Wakers::default());
        let bomb = Arc::new(Bomb);
        let wakes = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
        for _ in 0..3 {
            let wakers = wakes.iter().map(|wakes| Waker::from(Arc::clone(wakes)));
            for waker in [Waker::from(Arc::clone(&bomb))].into_iter().chain(wakers) {
                assert!(look_or_wait(&state, &waker, |waiting| Err::<(), _>(waiting)).is_pending());
            }
        }
        for _ in 0..2 {
            let woken = state.lock().take();
            woken.wake();
            assert_eq!(wakes.each_ref().map(|wakes| wakes.0.load(SeqCst)), [1, 1]);
        }
        assert_eq!(Arc::strong_count(&bomb), 1);
    }

    #[test]
    fn what_is_there_is_not_waited_for() {
        let (state, wakes) = (Mutex::new(Wakers::default()), Arc::new(Wakes::default()));
        let polled = look_or_wait(&state, &Waker::from(Arc::clone(&wakes)), |_| Ok(7));
        assert_eq!((polled, Arc::strong_count(&wakes)), (Poll::Ready(7), 1));
    }
}
