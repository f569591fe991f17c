//! Wakers in the order of their deadlines, for the manual clock and for the keeper thread.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoValues;
use std::task::Waker;

use super::contain::contain;
use super::tick::Tick;

/// A waker's position in the queue: its deadline, and a number that tells equal deadlines apart and keeps
/// them in the order in which they came.
pub(crate) type AlarmTicket = (Tick, u64);

/// A queue of deadlines.
///
/// It calls nobody: its owner takes out what is due under a lock, releases the lock, and calls [`fire`]. It
/// is a map and not a heap, since most alarms are taken back before they ring.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    waiting: BTreeMap<AlarmTicket, Waker>,
    next: u64,
}

impl Alarms {
    /// A queue without alarms, fit for a `static`.
    pub(crate) const fn new() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }

    /// Queues `waker` for `at`.
    pub(crate) fn set(&mut self, at: Tick, waker: Waker) -> AlarmTicket {
        let ticket = (at, self.next);
        self.next += 1;
        self.waiting.insert(ticket, waker);
        ticket
    }

    /// Takes a waker back, if it has not been handed out. The waker is to be dropped outside the lock: its
    /// drop is code of the user's runtime.
    #[must_use]
    pub(crate) fn take_back(&mut self, ticket: AlarmTicket) -> Option<Waker> {
        self.waiting.remove(&ticket)
    }

    /// Hands out the wakers that are due at `now`, the earliest first. To be fired outside the lock.
    pub(crate) fn due(&mut self, now: Tick) -> Due {
        // called some hundred times a second while the keeper ticks, mostly in vain
        if self.earliest().is_none_or(|at| at > now) {
            return BTreeMap::new().into_values();
        }
        let later = self.waiting.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(&mut self.waiting, later).into_values()
    }

    /// The next deadline.
    pub(crate) fn earliest(&self) -> Option<Tick> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }
}

/// Wakers that came due, in the order of their deadlines.
pub(crate) type Due = IntoValues<AlarmTicket, Waker>;

/// Wakes them all: one that panics does not keep the others from being called.
pub(crate) fn fire(due: Due) {
    for waker in due {
        contain(|| waker.wake());
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn due_hands_out_the_deadline_itself_and_nothing_later() {
        let count = Arc::new(Count::default());
        let mut alarms = Alarms::new();
        for at in [5, 7, 7, 8, Tick::MAX] {
            alarms.set(at, Arc::clone(&count).into());
        }
        assert_eq!(alarms.due(4).len(), 0);
        assert_eq!(alarms.earliest(), Some(5));
        assert_eq!(alarms.due(7).len(), 3);
        assert_eq!(alarms.earliest(), Some(8));
        assert_eq!(alarms.due(Tick::MAX - 1).len(), 1);
        assert_eq!(alarms.earliest(), Some(Tick::MAX));
        assert_eq!(count.0.load(SeqCst), 0, "handing out does not wake");
    }

    #[test]
    fn an_alarm_is_taken_back_once() {
        let mut alarms = Alarms::new();
        let first = alarms.set(3, Arc::new(Count::default()).into());
        let second = alarms.set(3, Arc::new(Count::default()).into());
        assert_ne!(first, second);
        assert!(alarms.take_back(first).is_some());
        assert!(alarms.take_back(first).is_none());
        assert_eq!(alarms.due(3).len(), 1);
        assert!(alarms.take_back(second).is_none());
    }
}
