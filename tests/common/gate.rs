//! A loader that is opened by hand.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Loaders that pass through it stop there, as threads or as tasks, until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entered: usize,
    is_open: bool,
    tasks: Vec<Waker>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Blocks until the gate is open, then returns `value`: the body of a loader.
    pub(crate) fn pass<T>(&self, value: T) -> T {
        let mut state = self.enter();
        while !state.is_open {
            self.0.changed.wait(&mut state);
        }
        value
    }

    /// The same for a task.
    pub(crate) async fn pass_async<T>(&self, value: T) -> T {
        drop(self.enter());
        poll_fn(|task| {
            let mut state = self.state();
            if state.is_open {
                return Poll::Ready(());
            }
            state.tasks.push(task.waker().clone());
            Poll::Pending
        })
        .await;
        value
    }

    pub(crate) fn open(&self) {
        let tasks = {
            let mut state = self.state();
            state.is_open = true;
            std::mem::take(&mut state.tasks)
        };
        self.0.changed.notify_all();
        for task in tasks {
            task.wake();
        }
    }

    /// How many loaders have come so far.
    pub(crate) fn entered(&self) -> usize {
        self.state().entered
    }

    pub(crate) fn wait_until_entered(&self, loaders: usize) {
        let mut state = self.state();
        while state.entered < loaders {
            self.0.changed.wait(&mut state);
        }
    }

    fn enter(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.entered += 1;
        self.0.changed.notify_all();
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}
