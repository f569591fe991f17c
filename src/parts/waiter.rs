//! Waiting for a flight, blocking or async, until it lands or a deadline passes.

use super::flight::{Flight, Landing, WaiterTicket};
use crate::words::clock::{Alarm, Clock};
use crate::words::tick::Tick;
use crate::words::unpark::Unpark;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The limits on a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many ticks the load may take.
    pub(crate) load: u64,
    /// `soft_timeout`: after how many ticks of the load a stale value may be served instead.
    pub(crate) soft: Option<u64>,
    /// The tick at which the waiter's own timeout ends.
    pub(crate) own: Option<Tick>,
    /// Whether the wait also ends, to look for a stale value, when the load has to wait for a slot.
    pub(crate) minds_line: bool,
}

impl Limits {
    /// The first of the limits, for a load that began at `started`.
    fn first(&self, started: Tick) -> Tick {
        let after = |ticks: u64| started.saturating_add(ticks);
        self.soft.map(after).into_iter().chain(self.own).fold(after(self.load), Tick::min)
    }
}

/// A waiter of a flight. Dropping it removes it from the flight's list.
pub(crate) struct Waiter<K, V> {
    flight: Arc<Flight<K, V>>,
    clock: Clock,
    limits: Limits,
    ticket: WaiterTicket,
    alarm: TaskAlarm,
}

impl<K, V> Waiter<K, V> {
    pub(crate) fn new(flight: Arc<Flight<K, V>>, clock: Clock, limits: Limits) -> Self {
        Self { flight, clock, limits, ticket: WaiterTicket::default(), alarm: TaskAlarm::default() }
    }

    /// Blocks this thread. `None` if one of the limits came first.
    pub(crate) fn block(mut self) -> Option<Landing<V>> {
        let waker = Waker::from(Unpark::this());
        loop {
            match self.look(&waker) {
                Ok(landing) => return landing,
                Err(deadline) => self.clock.park_until(deadline),
            }
        }
    }

    /// Returns the outcome, or until when to wait for it.
    fn look(&mut self, waker: &Waker) -> Result<Option<Landing<V>>, Option<Tick>> {
        if let Some(landing) = self.flight.poll(&mut self.ticket, waker) {
            return Ok(Some(landing));
        }
        // computed after the waker was registered: when a load that waited for a slot begins, its start time
        // changes, and all waiters are woken
        let deadline = self.limits.first(self.flight.started());
        if deadline <= self.clock.now() || self.limits.minds_line && self.flight.is_waiting() {
            return Ok(None);
        }
        Err((deadline < Tick::MAX).then_some(deadline))
    }
}

impl<K, V> Future for Waiter<K, V> {
    type Output = Option<Landing<V>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.look(task.waker()) {
            Ok(landing) => Poll::Ready(landing),
            Err(deadline) => {
                if let Some(at) = deadline {
                    // if the clock has passed `at` meanwhile, it rings at once
                    this.alarm.set(&this.clock, at, task.waker());
                }
                Poll::Pending
            }
        }
    }
}

impl<K, V> Drop for Waiter<K, V> {
    fn drop(&mut self) {
        self.flight.leave(&self.ticket);
    }
}

impl<K, V> fmt::Debug for Waiter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("flight", &self.flight).finish_non_exhaustive()
    }
}

/// Waits for a future, but not longer than until `deadline`: then `None`. The form of
/// [`block_on_until`](crate::words::block_on::block_on_until) for tasks.
pub(crate) async fn wait_until<F: Future>(
    mut future: Pin<&mut F>,
    clock: &Clock,
    deadline: Tick,
) -> Option<F::Output> {
    let mut alarm = TaskAlarm::default();
    poll_fn(|task| {
        if let Poll::Ready(output) = future.as_mut().poll(task) {
            return Poll::Ready(Some(output));
        }
        if deadline < Tick::MAX {
            // if the clock has passed it meanwhile, it rings at once
            alarm.set(clock, deadline, task.waker());
        }
        if deadline <= clock.now() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// An alarm for a task. It is set anew at each poll, which costs nothing if neither waker nor time has changed.
#[derive(Debug, Default)]
pub(crate) struct TaskAlarm(Option<(Tick, Waker, Alarm)>);

impl TaskAlarm {
    /// Sets it to wake `waker` at `at`.
    pub(crate) fn set(&mut self, clock: &Clock, at: Tick, waker: &Waker) {
        if let Some((tick, old, _)) = &self.0 {
            if *tick == at && old.will_wake(waker) {
                return;
            }
        }
        self.0 = Some((at, waker.clone(), clock.alarm(at, waker.clone())));
    }
}
