//! A runtime that a test steps by hand.

use super::runtime::{Refused, Runtime};
use super::sync::Mutex;
use super::wakers::{Wakers, look_or_wait};
use super::weak_list::WeakList;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// After so many steps a `run_until` lets other tasks of its runtime have their turn: work that wakes itself, as
/// tokio's does once it has used up its share of a poll, is ready again and again until they have had it.
const STEPS_A_POLL: u32 = 32;

type Job = Box<dyn FnOnce() + Send>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A [`Runtime`] for tests: it runs background work only when the test calls it, one piece at a time, on the
/// calling thread. It does for background work what [`Clock::manual`](crate::Clock::manual) does for time.
///
/// Clones are the same runtime.
///
/// ```
/// use larder::{Cache, RefreshAhead, SteppingRuntime, Clock};
/// use std::{convert::Infallible, time::Duration};
///
/// let (clock, hand) = Clock::manual();
/// let runtime = SteppingRuntime::new();
/// let lengths = Cache::builder()
///     .max_entries(100)
///     .time_to_live(Duration::from_secs(60))
///     .refresh_ahead(RefreshAhead::At(0.8))
///     .clock(clock)
///     .runtime(runtime.clone())
///     .build_loading_fn(|word: &String| Ok::<_, Infallible>(word.len()))?;
///
/// lengths.load("larder").unwrap();
/// hand.advance(Duration::from_secs(50));
/// assert_eq!(lengths.get("larder"), Some(6)); // served, and found to be due
/// assert_eq!(runtime.ready(), 1);
/// assert!(runtime.step()); // here it is loaded again
/// hand.advance(Duration::from_secs(50));
/// assert_eq!(lengths.get("larder"), Some(6)); // so it outlives its first minute
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct SteppingRuntime(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Work>,
    /// All tasks that are not done.
    tasks: WeakList<Stepped>,
    /// `run_until`s with nothing to step.
    drivers: Wakers,
    is_shut_down: bool,
}

impl State {
    /// Makes work ready. Returns whom to wake after the lock is released.
    fn push(&mut self, work: Work) -> Wakers {
        self.ready.push_back(work);
        self.drivers.take()
    }
}

enum Work {
    Job(Job),
    Task(Arc<Stepped>),
}

impl SteppingRuntime {
    /// Makes a runtime with nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many pieces of work could run now: blocking jobs that have not begun, and tasks that are
    /// to be polled. A task that waits to be woken does not count.
    pub fn ready(&self) -> usize {
        self.0.state.lock().ready.len()
    }

    /// Runs the piece of work that has been ready longest: a job to its end, a task until it waits or is
    /// done. Returns false if nothing is ready.
    pub fn step(&self) -> bool {
        // a statement of its own, so that the lock is released before the work begins
        let next = self.0.state.lock().ready.pop_front();
        match next {
            None => return false,
            Some(Work::Job(job)) => job(),
            Some(Work::Task(task)) => task.poll(),
        }
        true
    }

    /// Steps until nothing is ready, work that came up meanwhile included; returns how many steps it took.
    /// Jobs run on this thread, so one that waits blocks it: if all slots of
    /// [`max_concurrent_loads`](crate::CacheBuilder::max_concurrent_loads) are taken, a blocking refresh
    /// waits for one.
    pub fn run_until_stalled(&self) -> usize {
        std::iter::repeat_with(|| self.step()).take_while(|stepped| *stepped).count()
    }

    /// Awaits `future`, and meanwhile runs whatever is ready: for an async test of a call that waits for work of
    /// this runtime, such as the `load` of a cache with
    /// [`detached_loads`](crate::CacheBuilder::detached_loads). Steps only while `future` waits, and returns as
    /// soon as it is done; what is ready then stays ready. Jobs run on this thread, and block it if they wait.
    ///
    /// A step alone is not enough where the loader awaits something of the test's own runtime: the work is then
    /// ready once that runtime has had its turn, which it gets while this is awaited.
    ///
    /// ```
    /// use larder::{Cache, SteppingRuntime};
    /// use std::convert::Infallible;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let runtime = SteppingRuntime::new();
    /// let lengths = Cache::builder()
    ///     .max_entries(100)
    ///     .detached_loads()
    ///     .runtime(runtime.clone())
    ///     .build_loading_async_fn(|word: String| async move {
    ///         tokio::task::yield_now().await; // stands for a query
    ///         Ok::<_, Infallible>(word.len())
    ///     })?;
    ///
    /// assert_eq!(runtime.run_until(lengths.load("larder")).await.unwrap(), 6);
    /// # Ok::<_, larder::ConfigError>(())
    /// # }).unwrap();
    /// ```
    pub async fn run_until<F: Future>(&self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|task| {
            for _ in 0..STEPS_A_POLL {
                if let Poll::Ready(output) = future.as_mut().poll(task) {
                    return Poll::Ready(output);
                }
                let is_ready = look_or_wait(&self.0.state, task.waker(), |state| {
                    if state.ready.is_empty() { Err(&mut state.drivers) } else { Ok(()) }
                });
                if is_ready.is_pending() {
                    return Poll::Pending;
                }
                self.step();
            }
            task.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Refuses work from now on, as a runtime does after its shutdown. Work that it has and that is not done
    /// is dropped: what is ready, and tasks that wait to be woken. (A task that is being polled is dropped
    /// when that poll ends.)
    pub fn shut_down(&self) {
        let (ready, tasks) = {
            let mut state = self.0.state.lock();
            state.is_shut_down = true;
            (std::mem::take(&mut state.ready), std::mem::take(&mut state.tasks))
        };
        drop(ready);
        for task in tasks.into_living() {
            let dropped = task.polled.lock().task.take();
            drop(dropped);
        }
    }

    fn take(&self, work: Work) -> Result<(), Refused> {
        let mut state = self.0.state.lock();
        if state.is_shut_down {
            drop(state);
            return Err(Refused);
        }
        if let Work::Task(task) = &work {
            state.tasks.push(task);
        }
        let drivers = state.push(work);
        drop(state);
        drivers.wake();
        Ok(())
    }
}

impl Runtime for SteppingRuntime {
    fn spawn_blocking(&self, job: Job) -> Result<(), Refused> {
        self.take(Work::Job(job))
    }

    fn spawn(&self, task: Task) -> Result<(), Refused> {
        let runtime = Arc::downgrade(&self.0);
        let polled = Mutex::new(PolledTask { task: Some(task), was_missed: false });
        self.take(Work::Task(Arc::new(Stepped { polled, runtime })))
    }
}

/// A task. While it waits, only its wakers hold it.
struct Stepped {
    polled: Mutex<PolledTask>,
    runtime: Weak<Inner>,
}

struct PolledTask {
    /// `None` while it is polled, and when it is done.
    task: Option<Task>,
    /// It was woken while it was being polled.
    was_missed: bool,
}

impl Stepped {
    fn poll(self: Arc<Self>) {
        // taken out, since what it does may wake it, and have it stepped as well
        let taken = {
            let mut polled = self.polled.lock();
            polled.was_missed = polled.task.is_none();
            polled.task.take()
        };
        let Some(mut task) = taken else { return };
        let waker = Waker::from(Arc::clone(&self));
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            let mut polled = self.polled.lock();
            let runtime = self.runtime.upgrade();
            if runtime.is_none_or(|runtime| runtime.state.lock().is_shut_down) {
                drop(polled);
                return;
            }
            polled.task = Some(task);
            let was_missed = std::mem::take(&mut polled.was_missed);
            drop(polled);
            if was_missed {
                waker.wake();
            }
        }
    }
}

impl Wake for Stepped {
    fn wake(self: Arc<Self>) {
        let Some(runtime) = self.runtime.upgrade() else { return };
        let mut state = runtime.state.lock();
        let same = |work: &Work| matches!(work, Work::Task(task) if Arc::ptr_eq(task, &self));
        // dropped with the guard's scope and not before: this may be the last handle
        if state.is_shut_down || state.ready.iter().any(same) {
            drop(state);
            return;
        }
        let drivers = state.push(Work::Task(self));
        drop(state);
        drivers.wake();
    }
}

impl fmt::Debug for SteppingRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppingRuntime").field("ready", &self.ready()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[test]
    fn work_runs_in_its_order_and_only_when_told() {
        let runtime = SteppingRuntime::new();
        let done = Arc::new(AtomicU32::new(0));
        for n in 1..=2 {
            let done = Arc::clone(&done);
            runtime.spawn_blocking(Box::new(move || done.store(n, SeqCst))).unwrap();
        }
        assert_eq!((runtime.ready(), done.load(SeqCst)), (2, 0));
        assert!(runtime.step());
        assert_eq!((runtime.ready(), done.load(SeqCst)), (1, 1));
        assert!(runtime.step());
        assert!(!runtime.step());
        assert_eq!(done.load(SeqCst), 2);
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_again_and_one_that_waits_is_not() {
        let runtime = SteppingRuntime::new();
        let polls = Arc::new(AtomicU32::new(0));
        let left: Arc<Mutex<Option<Waker>>> = Arc::default();
        let task = {
            let (polls, left) = (Arc::clone(&polls), Arc::clone(&left));
            std::future::poll_fn(move |task| match polls.fetch_add(1, SeqCst) {
                0 => {
                    task.waker().wake_by_ref();
                    task.waker().wake_by_ref();
                    Poll::Pending
                }
                1 => {
                    *left.lock() = Some(task.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            })
        };
        runtime.spawn(Box::pin(task)).unwrap();
        assert_eq!(runtime.run_until_stalled(), 2, "woken twice, queued once");
        let waker = left.lock().take().unwrap();
        waker.wake();
        assert_eq!(runtime.run_until_stalled(), 1);
        assert_eq!(polls.load(SeqCst), 3);
        assert_eq!(Arc::strong_count(&polls), 1, "what is done is dropped");
    }

    #[test]
    fn a_wake_that_is_stepped_while_its_task_is_polled_is_not_lost() {
        let runtime = SteppingRuntime::new();
        let polls = Arc::new(AtomicU32::new(0));
        let task = {
            let (runtime, polls) = (runtime.clone(), Arc::clone(&polls));
            std::future::poll_fn(move |task| {
                if polls.fetch_add(1, SeqCst) > 0 {
                    return Poll::Ready(());
                }
                task.waker().wake_by_ref();
                assert!(runtime.step(), "as another thread may do");
                Poll::Pending
            })
        };
        runtime.spawn(Box::pin(task)).unwrap();
        runtime.run_until_stalled();
        assert_eq!(polls.load(SeqCst), 2);
    }

    /// Counts how often it is woken.
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn run_until_steps_while_its_future_waits_and_is_woken_by_new_work() {
        let runtime = SteppingRuntime::new();
        let done = Arc::new(AtomicU32::new(0));
        let job = |n| {
            let done = Arc::clone(&done);
            Box::new(move || done.store(n, SeqCst))
        };
        let woken = Arc::new(Woken(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let until = |n| {
            let done = Arc::clone(&done);
            let is_done =
                move || if done.load(SeqCst) < n { Poll::Pending } else { Poll::Ready(n) };
            std::future::poll_fn(move |_| is_done())
        };
        let mut waits = std::pin::pin!(runtime.run_until(until(2)));
        let mut poll = || waits.as_mut().poll(&mut Context::from_waker(&waker));

        runtime.spawn_blocking(job(1)).unwrap();
        assert_eq!((poll(), done.load(SeqCst)), (Poll::Pending, 1), "stepped, and not done");
        let before = woken.0.load(SeqCst);
        assert!(poll().is_pending(), "registered twice, it is woken once");
        runtime.spawn_blocking(job(2)).unwrap();
        runtime.spawn_blocking(job(3)).unwrap();
        assert_eq!(woken.0.load(SeqCst) - before, 1);
        assert_eq!((poll(), done.load(SeqCst)), (Poll::Ready(2), 2), "no step more than needed");
        assert_eq!(runtime.ready(), 1);
    }

    #[test]
    fn run_until_lets_others_have_their_turn_though_work_wakes_itself() {
        let runtime = SteppingRuntime::new();
        let restless = std::future::poll_fn(|task| {
            task.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        runtime.spawn(Box::pin(restless)).unwrap();
        let woken = Arc::new(Woken(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut waits = std::pin::pin!(runtime.run_until(std::future::pending::<()>()));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(woken.0.load(SeqCst), 1, "it asks for its next turn");
    }

    #[test]
    fn run_until_hears_of_a_task_that_another_thread_wakes() {
        let runtime = SteppingRuntime::new();
        let (answer, woken) = (Arc::new(AtomicU32::new(0)), Arc::new(Woken(AtomicU32::new(0))));
        let left: Arc<Mutex<Option<Waker>>> = Arc::default();
        let task = {
            let (answer, left) = (Arc::clone(&answer), Arc::clone(&left));
            std::future::poll_fn(move |task| {
                if left.lock().replace(task.waker().clone()).is_none() {
                    return Poll::Pending;
                }
                answer.store(7, SeqCst);
                Poll::Ready(())
            })
        };
        runtime.spawn(Box::pin(task)).unwrap();
        let answered = std::future::poll_fn(|_| match answer.load(SeqCst) {
            0 => Poll::Pending,
            n => Poll::Ready(n),
        });
        let mut waits = std::pin::pin!(runtime.run_until(answered));
        let waker = Waker::from(Arc::clone(&woken));
        let mut poll = || waits.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        let wake = left.lock().clone().unwrap();
        std::thread::spawn(move || wake.wake()).join().unwrap();
        assert_eq!(woken.0.load(SeqCst), 1);
        assert_eq!(poll(), Poll::Ready(7));
    }

    #[test]
    fn shut_down_it_drops_what_it_has_and_refuses_more() {
        let runtime = SteppingRuntime::new();
        let held = Arc::new(());
        let job = |held: &Arc<()>| {
            let held = Arc::clone(held);
            Box::new(move || drop(held))
        };
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        for shuts_down in [false, true] {
            let (held, wakers, of) = (Arc::clone(&held), Arc::clone(&wakers), runtime.clone());
            runtime
                .spawn(Box::pin(std::future::poll_fn(move |task| {
                    drop(Arc::clone(&held)); // it is the task's
                    wakers.lock().push(task.waker().clone());
                    if shuts_down {
                        of.shut_down();
                    }
                    Poll::Pending
                })))
                .unwrap();
        }
        assert!(runtime.step(), "this one waits");
        runtime.spawn_blocking(job(&held)).unwrap();
        assert!(runtime.step(), "this one shuts down, and waits");
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(runtime.spawn_blocking(job(&held)), Err(Refused));
        assert_eq!(runtime.spawn(Box::pin(async {})), Err(Refused));
        assert!(!runtime.step());
    }
}
