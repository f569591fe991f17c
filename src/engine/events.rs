//! What the user's handler of events is told.

use super::guard::Guards;
use super::store::Store;
use crate::parts::breaker::Transition;
use crate::parts::flight::Flight;
use crate::rules::event::Event;
use crate::words::error::LoadError;
use std::any::Any;

impl<K, V, S> Store<K, V, S> {
    /// Tells of something: with no lock held, no slot, and no load that others wait for.
    #[inline]
    pub(super) fn happened(&self, event: Event<'_, K>) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(event);
            self.tell_transitions();
        }
    }

    /// Tells what has become of the breaker, at the end of whatever may have turned it. What a handler
    /// notices is told when it is done.
    #[inline]
    pub(super) fn tell_transitions(&self) {
        let Some(notifier) = self.notifier.as_ref().filter(|notifier| !notifier.is_telling())
        else {
            return;
        };
        let Some(Guards { breaker: Some(breaker), .. }) = self.guards.as_deref() else { return };
        while let Some(transition) = breaker.take_transition() {
            notifier.tell(transition.into());
        }
    }

    /// A load has landed with this: tells of what is no success.
    pub(super) fn has_landed<R, E>(&self, flight: &Flight<K, V>, landed: &Result<R, LoadError<E>>)
    where
        E: Send + Sync + 'static,
    {
        match landed {
            Err(LoadError::Loader(error)) => self.has_failed(flight, &**error),
            Err(LoadError::NothingToRenew) => {
                self.happened(Event::NothingToRenew { key: &flight.key });
            }
            _ => {}
        }
        self.tell_transitions();
    }

    /// Whether this thread is told of something just now, and must not wait for a load.
    #[inline]
    pub(super) fn is_telling(&self) -> bool {
        self.notifier.as_ref().is_some_and(|notifier| notifier.is_telling())
    }

    fn has_failed(&self, flight: &Flight<K, V>, error: &(dyn Any + Send + Sync)) {
        let Flight { key, reason, .. } = flight;
        let (reason, failures) = (*reason, failures(flight));
        self.happened(Event::LoadFailed { key, reason, failures, error });
    }

    pub(super) fn has_panicked(&self, flight: &Flight<K, V>) {
        let Flight { key, reason, .. } = flight;
        let (reason, failures) = (*reason, failures(flight));
        self.happened(Event::LoadPanicked { key, reason, failures });
    }

    /// A load has lost its key to its timeout, and is counted.
    pub(super) fn has_timed_out(&self, flight: &Flight<K, V>) {
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
