//! A thread that waits for a future which needs no runtime.

use super::sync::thread;
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
