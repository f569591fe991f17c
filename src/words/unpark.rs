//! A parked thread as a waker, so that one list of wakers serves threads and tasks.

use super::sync::thread::{self, Thread};
use std::sync::Arc;
use std::task::Wake;

/// Wakes a thread that parks.
pub(crate) struct Unpark(Thread);

impl Unpark {
    /// The waker of the current thread.
    pub(crate) fn this() -> Arc<Self> {
        Arc::new(Self(thread::current()))
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
