//! Blocking a thread on a future that needs no runtime.

use super::clock::Clock;
use super::sync::thread;
use super::tick::Tick;
use super::unpark::Unpark;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Blocks this thread until the future is done.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Unpark::this());
    let mut task = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            return output;
        }
        thread::park();
    }
}

/// Blocks this thread until the future is done, or `deadline` has come: then it is dropped.
pub(crate) fn block_on_until<F: Future>(
    future: F,
    clock: &Clock,
    deadline: Tick,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Unpark::this());
    let mut task = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
            return Some(output);
        }
        if deadline <= clock.now() {
            return None;
        }
        clock.park_until((deadline < Tick::MAX).then_some(deadline));
    }
}
