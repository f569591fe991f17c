//! Which loaders are running on this thread, so that a loader that asks for its own key gets `Recursive`
//! instead of waiting for itself.
//!
//! A blocking loader is on the list for its whole run, an async one during each poll. So what the task itself
//! awaits is detected; waiting for something that it spawned is not (`load_timeout` ends that).

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

/// Puts a load on the list. `id` is an address that is unique while it runs.
pub(crate) fn enter(id: usize) -> Running {
    enter_all([id].into_iter())
}

/// The same for several loads that one loader runs at once.
pub(crate) fn enter_all(ids: impl ExactSizeIterator<Item = usize>) -> Running {
    let loads = ids.len();
    // while a thread ends it has no list any more: then recursion is not detected
    let has_entered = RUNNING.try_with(|running| running.borrow_mut().extend(ids)).is_ok();
    Running { loads: if has_entered { loads } else { 0 } }
}

impl Running {
    /// Whether it is on the list. It is not while its thread ends, which has no list any more.
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

/// Whether any load of any cache is running on this thread.
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
