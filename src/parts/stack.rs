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

/// While it lives, the load `id` (an address that is its own while it runs) counts as running here.
#[derive(Debug)]
pub(crate) struct Running(());

pub(crate) fn enter(id: usize) -> Running {
    RUNNING.with(|running| running.borrow_mut().push(id));
    Running(())
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with(|running| running.borrow_mut().pop());
    }
}

pub(crate) fn is_running(id: usize) -> bool {
    RUNNING.with(|running| running.borrow().contains(&id))
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn nested_runs_end_in_reverse() {
        let outer = enter(1);
        {
            let _inner = enter(2);
            assert!(is_running(1) && is_running(2));
        }
        assert!(is_running(1) && !is_running(2));
        drop(outer);
        assert!(!is_running(1));
    }
}
