//! Which loaders are running on this thread, so that one that asks for its own key is told so
//! instead of waiting for itself.
//!
//! For a blocking loader that is its whole run. For an async one it is each poll of it: what the
//! task itself awaits is seen, what it spawned and waits for is not (`load_timeout` ends that).

use crate::words::sync::thread_local;
use std::cell::RefCell;

thread_local! {
    // no `const` block: the explorers' macro has none
    #[allow(clippy::missing_const_for_thread_local)]
    static RUNNING: RefCell<Vec<usize>> = RefCell::new(Vec::new());
}

/// While it lives, its loads count as running here.
#[derive(Debug)]
pub(crate) struct Running {
    loads: usize,
}

/// The load `id` runs: an address that is its own while it does.
pub(crate) fn enter(id: usize) -> Running {
    enter_all([id].into_iter())
}

/// Several run at once, by one loader.
pub(crate) fn enter_all(ids: impl ExactSizeIterator<Item = usize>) -> Running {
    let loads = ids.len();
    // while a thread ends it has no list any more: then nobody is told of recursion
    let has_entered = RUNNING.try_with(|running| running.borrow_mut().extend(ids)).is_ok();
    Running { loads: if has_entered { loads } else { 0 } }
}

impl Running {
    /// Whether it is on the list. It is not while a thread ends, which has none any more.
    pub(crate) fn is_known(&self) -> bool {
        self.loads > 0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.loads > 0 {
            let _ = RUNNING.try_with(|running| {
                let mut running = running.borrow_mut();
                let left = running.len().saturating_sub(self.loads);
                running.truncate(left);
            });
        }
    }
}

pub(crate) fn is_running(id: usize) -> bool {
    RUNNING.try_with(|running| running.borrow().contains(&id)).unwrap_or(false)
}

/// Whether any does, of whatever cache.
pub(crate) fn is_any_running() -> bool {
    RUNNING.try_with(|running| !running.borrow().is_empty()).unwrap_or(false)
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn nested_runs_end_in_reverse() {
        let outer = enter(1);
        {
            let _inner = enter_all([2, 3].into_iter());
            assert!(is_running(1) && is_running(2) && is_running(3));
        }
        assert!(is_running(1) && !is_running(2) && !is_running(3));
        assert!(is_any_running());
        drop(outer);
        assert!(!is_running(1) && !is_any_running());
    }
}
