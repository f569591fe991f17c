//! Tasks that do everything tasks may do: they lose patience, and every poll comes with another waker.

use super::setting::{KEY, Shelf, Source, shelf};
use crate::words::sync::Mutex;
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::explore::{draw, explore};

/// The same future, dropped at its `polls`-th poll if it is not done by then. It is polled whenever
/// the scheduler likes, not only when it was woken.
pub(super) async fn impatient<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|task| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        task.waker().wake_by_ref();
        future.as_mut().poll(task).map(Some)
    })
    .await
}

/// A waker that can be replaced: then it wakes nobody.
struct Replaceable {
    is_replaced: AtomicBool,
    waker: Waker,
}

impl Wake for Replaceable {
    fn wake(self: Arc<Self>) {
        if !self.is_replaced.load(Ordering::SeqCst) {
            self.waker.wake_by_ref();
        }
    }
}

/// The same future, polled at first with other wakers, which then are dead. It moves on only if it is
/// woken through the last one.
async fn moved_between_tasks<F: Future>(future: F, moves: usize) -> F::Output {
    let mut future = pin!(future);
    let mut left = moves;
    let mut last: Option<Arc<Replaceable>> = None;
    poll_fn(|task| {
        if let Some(old) = &last {
            old.is_replaced.store(true, Ordering::SeqCst);
        }
        let waker = task.waker().clone();
        let new = Arc::new(Replaceable { is_replaced: AtomicBool::new(false), waker });
        let poll = future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&new))));
        if let Some(old) = last.replace(new) {
            // once the load has landed, whoever lands it may be about to wake the old one
            assert!(poll.is_ready() || Arc::strong_count(&old) == 1, "it is let go of");
        }
        if poll.is_pending() && left > 0 {
            left -= 1;
            task.waker().wake_by_ref();
        }
        poll
    })
    .await
}

/// Opened once, by hand.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub(super) fn open(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn passed(&self) {
        poll_fn(|task| {
            let mut state = self.0.lock();
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push(task.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn pass(&self) {
        block_on(self.passed());
    }
}

async fn ask(shelf: Shelf, source: Source) -> u64 {
    shelf.get_or_load_async(&KEY, || source.load_async()).await.unwrap()
}

/// quick-cache #104: who is polled with another waker is woken through the newer one.
#[test]
fn follower_polled_with_another_waker_is_woken() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let leader = thread::spawn({
            let (shelf, source) = (shelf.clone(), source.clone());
            move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(source.load())).unwrap()
        });
        let followers: Vec<_> = (0..2)
            .map(|_| spawn(moved_between_tasks(ask(shelf.clone(), source.clone()), draw(3))))
            .collect();
        let mut values = vec![leader.join().unwrap()];
        values.extend(followers.into_iter().map(|f| block_on(f).unwrap()));
        assert_eq!(values, [1, 1, 1]);
        assert_eq!((source.done(), shelf.flights()), (1, 0));
    });
}

/// What one follower does is its own: the others are woken, nothing is loaded again.
#[test]
fn follower_dropped_while_the_load_lands_touches_nobody() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let leader = thread::spawn({
            let (shelf, source) = (shelf.clone(), source.clone());
            move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(source.load())).unwrap()
        });
        let fickle: Vec<_> = (0..2)
            .map(|_| {
                let shelf = shelf.clone();
                // it never gets as far as to load: it would be the leader, and abandon that
                let ask = async move {
                    let load = || std::future::pending::<Result<u64, Infallible>>();
                    shelf.get_or_load_async(&KEY, load).await.unwrap()
                };
                spawn(impatient(ask, draw(4)))
            })
            .collect();
        let patient = spawn(ask(shelf.clone(), source.clone()));
        let first = leader.join().unwrap();
        assert_eq!(block_on(patient).unwrap(), first);
        for follower in fickle {
            assert!(block_on(follower).unwrap().is_none_or(|value| value == first));
        }
        assert_eq!((source.done(), shelf.flights()), (1, 0));
        shelf.validate();
    });
}
