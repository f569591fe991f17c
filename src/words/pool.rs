//! The default runtime of a blocking loader: a small pool of threads of the cache's own.

#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) use real::Pool;

/// The explorers schedule every thread there is, so models bring a runtime of their own.
#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) use explored::Pool;

#[cfg(not(any(larder_loom, larder_shuttle)))]
mod real {
    use crate::words::contain::contain;
    use crate::words::runtime::{Refused, Runtime};
    use parking_lot::{Condvar, Mutex};
    use std::collections::VecDeque;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    /// How many threads it has at most. They wait for a source more than they work, so the number of cores
    /// does not matter, and each is a connection that a source has to bear.
    const THREADS: usize = 8;

    /// How many jobs wait at most: each is a key and a few words. When the source is so slow that more come,
    /// hits leave their refreshes to later hits; a caller that explicitly asks for a load does it itself,
    /// which slows it down.
    const QUEUE: usize = 1_024;

    /// How long a thread without work waits before it ends. The next job starts another.
    const IDLE: Duration = Duration::from_secs(10);

    type Job = Box<dyn FnOnce() + Send>;

    /// Threads that start when there is work, and end when there was none for a while. When the pool is
    /// dropped, jobs that have not begun are dropped, and each thread ends with its current job.
    pub(crate) struct Pool(Arc<Shared>);

    struct Shared {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct State {
        queue: VecDeque<Job>,
        threads: usize,
        /// How many of the threads wait for a job.
        idle: usize,
        is_shut_down: bool,
    }

    impl Pool {
        pub(crate) fn new() -> Self {
            let state = Mutex::default();
            Self(Arc::new(Shared { state, changed: Condvar::new() }))
        }
    }

    impl Runtime for Pool {
        fn spawn_blocking(&self, job: Job) -> Result<(), Refused> {
            let mut state = self.0.state.lock();
            if state.queue.len() >= QUEUE {
                drop(state);
                return Err(Refused);
            }
            state.queue.push_back(job);
            if state.idle >= state.queue.len() {
                drop(state);
                self.0.changed.notify_one();
                return Ok(());
            }
            if state.threads == THREADS {
                return Ok(());
            }
            state.threads += 1;
            drop(state);
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("larder-loader".to_owned());
            if thread.spawn(move || shared.work()).is_ok() {
                return Ok(());
            }
            let mut state = self.0.state.lock();
            state.threads -= 1;
            // If there are other threads, one of them gets to the job. If not, nobody does, nor to jobs that
            // were left to other threads that could not be started: all are dropped, and so done by their
            // callers or not begun.
            let none = VecDeque::new();
            let left = if state.threads == 0 { std::mem::take(&mut state.queue) } else { none };
            drop(state);
            if left.is_empty() { Ok(()) } else { Err(Refused) }
        }

        fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
            Err(Refused)
        }

        fn is_busy(&self) -> bool {
            self.0.state.lock().queue.len() >= QUEUE
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            let dropped = {
                let mut state = self.0.state.lock();
                state.is_shut_down = true;
                std::mem::take(&mut state.queue)
            };
            self.0.changed.notify_all();
            // Waits for no thread: it may be in a loader that takes its time, or may be this very thread.
            drop(dropped);
        }
    }

    impl Shared {
        fn work(&self) {
            while let Some(job) = self.next() {
                contain(job);
            }
        }

        /// The next job; `None` if this thread is to end.
        fn next(&self) -> Option<Job> {
            let mut state = self.state.lock();
            loop {
                if let Some(job) = state.queue.pop_front() {
                    return Some(job);
                }
                if state.is_shut_down {
                    break;
                }
                state.idle += 1;
                let waited = self.changed.wait_for(&mut state, IDLE);
                state.idle -= 1;
                if waited.timed_out() && state.queue.is_empty() {
                    break;
                }
            }
            state.threads -= 1;
            None
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::sync::mpsc::channel;

        #[test]
        fn it_has_so_many_threads_and_no_more_and_refuses_what_it_cannot_keep() {
            let pool = Pool::new();
            let (began, begun) = channel();
            let gate = Arc::new((Mutex::new(false), Condvar::new()));
            let job = || {
                let (began, gate) = (began.clone(), Arc::clone(&gate));
                Box::new(move || {
                    began.send(()).unwrap();
                    let mut is_open = gate.0.lock();
                    while !*is_open {
                        gate.1.wait(&mut is_open);
                    }
                })
            };
            for _ in 0..THREADS {
                pool.spawn_blocking(job()).unwrap();
                begun.recv().unwrap();
            }
            for _ in 0..QUEUE {
                assert!(!pool.is_busy());
                pool.spawn_blocking(job()).unwrap();
            }
            assert!(pool.is_busy());
            assert_eq!(pool.spawn_blocking(job()), Err(Refused));
            assert_eq!(pool.0.state.lock().threads, THREADS);
            assert!(begun.try_recv().is_err());
            *gate.0.lock() = true;
            gate.1.notify_all();
            (0..QUEUE).for_each(|_| begun.recv().unwrap());
        }

        #[test]
        fn a_job_that_panics_costs_no_thread() {
            let pool = Pool::new();
            let (done, told) = channel();
            for n in 0..20 {
                let done = done.clone();
                pool.spawn_blocking(Box::new(move || {
                    done.send(n).unwrap();
                    panic!("expected: a job's own trouble");
                }))
                .unwrap();
            }
            let mut seen: Vec<_> = (0..20).map(|_| told.recv().unwrap()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..20).collect::<Vec<_>>());
        }
    }
}

#[cfg(any(larder_loom, larder_shuttle))]
mod explored {
    use crate::words::runtime::{Refused, Runtime};
    use std::future::Future;
    use std::pin::Pin;

    pub(crate) struct Pool;

    impl Pool {
        pub(crate) fn new() -> Self {
            Self
        }
    }

    impl Runtime for Pool {
        fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
            Err(Refused)
        }

        fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
            Err(Refused)
        }
    }
}
