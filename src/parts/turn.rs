//! Waiting for a slot, blocking or async, until there is one or a deadline passes.

use super::slots::{LoadSlot, LoadSlots, Place, Queued, Rank, Turned};
use super::waiter::TaskAlarm;
use crate::words::clock::Clock;
use crate::words::tick::Tick;
use crate::words::unpark::Unpark;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A waiter in line for a slot. Dropping it leaves the line, and touches nobody else's place.
pub(crate) struct Turn<'s> {
    slots: &'s LoadSlots,
    clock: &'s Clock,
    load: Arc<dyn Queued>,
    has: Has,
    deadline: Option<Tick>,
    alarm: TaskAlarm,
}

/// What a waiter has.
#[derive(Clone, Copy, Debug)]
enum Has {
    Place(Place),
    Slot(LoadSlot),
    /// Its outcome has been returned.
    Nothing,
}

/// Why a waiter got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// The deadline came first.
    Late,
    /// It was given a slot, but came only after the slot's lease was over.
    Over,
}

impl<'s> Turn<'s> {
    /// Gets in line: at its end, or at the place that somebody left who waited for the same load.
    pub(crate) fn new(
        slots: &'s LoadSlots,
        clock: &'s Clock,
        load: Arc<dyn Queued>,
        rank: Rank,
        before: Option<Place>,
        deadline: Option<Tick>,
    ) -> Self {
        let has = match slots.take(rank, before, Arc::clone(&load)) {
            Ok(slot) => Has::Slot(slot),
            Err(place) => Has::Place(place),
        };
        Self { slots, clock, load, has, deadline, alarm: TaskAlarm::default() }
    }

    /// Its place in line; `None` if it got a slot at once.
    pub(crate) fn place(&self) -> Option<Place> {
        match self.has {
            Has::Place(place) => Some(place),
            Has::Slot(_) | Has::Nothing => None,
        }
    }

    /// Blocks this thread.
    pub(crate) fn block(mut self) -> Result<LoadSlot, NoSlot> {
        let waker = Waker::from(Unpark::this());
        loop {
            match self.look(&waker) {
                Ok(outcome) => return outcome,
                Err(again) => self.clock.park_until((again < Tick::MAX).then_some(again)),
            }
        }
    }

    /// Returns the outcome, or when to look again at the latest.
    fn look(&mut self, waker: &Waker) -> Result<Result<LoadSlot, NoSlot>, Tick> {
        let turned = match self.has {
            Has::Place(place) => self.slots.look(place, waker),
            Has::Slot(slot) => Turned::Yours(slot),
            Has::Nothing => Turned::Over,
        };
        match turned {
            Turned::Wait(again) => match self.deadline {
                Some(at) if at <= self.clock.now() => Ok(Err(NoSlot::Late)),
                Some(at) => Err(at.min(again)),
                None => Err(again),
            },
            Turned::Yours(slot) => {
                self.has = Has::Nothing;
                // whoever gave the slot is about to tell the load too, but may not have done so yet
                self.load.begin(slot.since());
                Ok(Ok(slot))
            }
            Turned::Over => {
                self.has = Has::Nothing;
                Ok(Err(NoSlot::Over))
            }
        }
    }
}

impl Future for Turn<'_> {
    type Output = Result<LoadSlot, NoSlot>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.look(task.waker()) {
            Ok(outcome) => Poll::Ready(outcome),
            Err(again) => {
                if again < Tick::MAX {
                    this.alarm.set(this.clock, again, task.waker());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match self.has {
            Has::Place(place) => self.slots.leave(place),
            Has::Slot(slot) => self.slots.give_back(slot),
            Has::Nothing => {}
        }
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
