//! What the user's handler of events is told.

use super::store::Store;
use crate::parts::breaker::Transition;
use crate::parts::flight::Flight;
use crate::rules::event::Event;
use std::any::Any;

impl<K, V, S> Store<K, V, S> {
    /// Tells of something; with no lock held.
    #[inline]
    pub(super) fn happened(&self, event: Event<'_, K>) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(event);
        }
    }

    /// Whether this thread is told of something just now, and must not wait for a load.
    #[inline]
    pub(super) fn is_telling(&self) -> bool {
        self.notifier.as_ref().is_some_and(|notifier| notifier.is_telling())
    }

    pub(super) fn has_failed(&self, flight: &Flight<K, V>, error: &(dyn Any + Send + Sync)) {
        let Flight { key, reason, .. } = flight;
        let (reason, failures) = (*reason, failures(flight));
        self.happened(Event::LoadFailed { key, reason, failures, error });
    }

    pub(super) fn has_panicked(&self, flight: &Flight<K, V>) {
        let Flight { key, reason, .. } = flight;
        let (reason, failures) = (*reason, failures(flight));
        self.happened(Event::LoadPanicked { key, reason, failures });
    }

    /// A load has lost its key to its timeout.
    pub(super) fn has_timed_out(&self, flight: &Flight<K, V>) {
        self.counts.load_timeouts.add(1);
        let Flight { key, reason, .. } = flight;
        let (reason, failures) = (*reason, failures(flight));
        self.happened(Event::LoadTimedOut { key, reason, failures });
    }

    pub(super) fn was_abandoned(&self, flight: &Flight<K, V>) {
        let Flight { key, reason, .. } = flight;
        self.happened(Event::LoadAbandoned { key, reason: *reason });
    }

    /// The runtime would not have some work.
    pub(crate) fn was_refused(&self) {
        self.counts.refused.add(1);
        self.happened(Event::RuntimeRefused);
    }
}

impl<K> From<Transition> for Event<'_, K> {
    fn from(transition: Transition) -> Self {
        match transition {
            Transition::Opened => Self::CircuitOpened,
            Transition::Closed => Self::CircuitClosed,
        }
    }
}

/// How many loads of a key have failed in a row, with this one.
fn failures<K, V>(flight: &Flight<K, V>) -> u32 {
    flight.attempt.saturating_add(1)
}
