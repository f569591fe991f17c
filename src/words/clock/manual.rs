//! A clock that is moved by hand, for tests that must not wait.

use super::{LAST, NANOS, START};
use crate::words::alarms::{AlarmTicket, Alarms, fire};
use crate::words::contain::contain;
use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicU64, Ordering};
use crate::words::tick::Tick;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Moves a manual clock. Copies of it move the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(pub(super) Arc<Hand>);

impl ManualClock {
    /// Moves the clock ahead by `by`, and wakes every caller whose timeout has passed, the earliest first,
    /// before it returns.
    ///
    /// The clock counts in nanoseconds and shows whole milliseconds: a remainder counts towards the next call.
    /// It stops at the end of its range, 69 years after its zero, and does not wrap.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

/// A clock that is moved by hand: its time in nanoseconds, and the alarms by it.
pub(super) struct Hand {
    /// Written under the lock of `alarms`, so that two who advance it do not lose time.
    nanos: AtomicU64,
    alarms: Mutex<Alarms>,
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.precise().fmt(f)
    }
}

impl Hand {
    /// One that has run for `start` already.
    pub(super) fn at(start: Duration) -> Self {
        Self {
            nanos: AtomicU64::new(later(START * NANOS, start)),
            alarms: Mutex::new(Alarms::new()),
        }
    }

    #[inline]
    pub(super) fn now(&self) -> Tick {
        self.nanos.load(Ordering::Acquire) / NANOS
    }

    /// The time since the clock's zero.
    pub(super) fn precise(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Acquire))
    }

    pub(super) fn take_back(&self, ticket: AlarmTicket) {
        // the guard is gone at the end of this statement, the waker after it
        let waker = self.alarms.lock().take_back(ticket);
        drop(waker);
    }

    fn advance(&self, by: Duration) {
        let mut alarms = self.alarms.lock();
        let nanos = later(self.nanos.load(Ordering::Acquire), by);
        self.nanos.store(nanos, Ordering::Release);
        let due = alarms.due(nanos / NANOS);
        drop(alarms);
        fire(due);
    }

    pub(super) fn alarm(&self, at: Tick, waker: Waker) -> Option<AlarmTicket> {
        let mut alarms = self.alarms.lock();
        // under the lock, or an `advance` could pass between the look and the entry
        if self.now() < at {
            return Some(alarms.set(at, waker));
        }
        drop(alarms);
        contain(|| waker.wake());
        None
    }
}

fn later(nanos: u64, by: Duration) -> u64 {
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    nanos.saturating_add(by).min(LAST * NANOS)
}
