//! Waiting for a flight, as a thread or as a task, until it lands or a deadline comes.

use super::flight::{Flight, Landing, Ticket};

use crate::words::clock::{Alarm, Clock};
use crate::words::sync::thread::{self, Thread};
use crate::words::tick::Tick;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// One who waits. Dropping it takes it off the flight's list and touches nobody else.
pub(crate) struct Waiter<K, V> {
    flight: Arc<Flight<K, V>>,
    clock: Clock,
    deadline: Option<Tick>,
    ticket: Ticket,
    bell: Bell,
}

impl<K, V> Waiter<K, V> {
    pub(crate) fn new(flight: Arc<Flight<K, V>>, clock: Clock, deadline: Option<Tick>) -> Self {
        Self { flight, clock, deadline, ticket: Ticket::default(), bell: Bell::default() }
    }

    /// Blocks this thread. `None` if the deadline came first.
    pub(crate) fn block(mut self) -> Option<Landing<V>> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            if let Poll::Ready(landing) = self.look(&waker) {
                return landing;
            }
            self.clock.park_until(self.deadline);
        }
    }

    fn look(&mut self, waker: &Waker) -> Poll<Option<Landing<V>>> {
        match self.flight.poll(&mut self.ticket, waker) {
            Some(landing) => Poll::Ready(Some(landing)),
            None if self.deadline.is_some_and(|at| at <= self.clock.now()) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<K, V> Future for Waiter<K, V> {
    type Output = Option<Landing<V>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(at) = this.deadline {
            // set before looking: a clock that passes the deadline in between rings
            this.bell.set(&this.clock, at, task.waker());
        }
        this.look(task.waker())
    }
}

impl<K, V> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        self.flight.leave(&self.ticket);
    }
}

impl<K, V> fmt::Debug for Waiter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// An alarm that follows a task from waker to waker.
#[derive(Debug, Default)]
pub(crate) struct Bell(Option<(Tick, Waker, Alarm)>);

impl Bell {
    /// Rings `waker` at `at`, unless that is what it does already.
    pub(crate) fn set(&mut self, clock: &Clock, at: Tick, waker: &Waker) {
        if let Some((tick, old, _)) = &self.0 {
            if *tick == at && old.will_wake(waker) {
                return;
            }
        }
        self.0 = Some((at, waker.clone(), clock.alarm(at, waker.clone())));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
