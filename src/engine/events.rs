//! What the user's handler of events is told.

use super::guard::Guards;
use super::store::Store;
use crate::parts::breaker::Transition;
use crate::parts::flight::Flight;
use crate::rules::event::Event;
use crate::rules::loaded::LoadReason;
use crate::words::error::LoadError;
use std::any::Any;

impl<K, V, S> Store<K, V, S> {
    /// Tells the handler, with no lock and no slot held. A load of this thread may be on the board: who
    /// follows that waits for the handler.
    #[inline]
    pub(super) fn emit(&self, event: Event<'_, K>) {
        if let Some(notifier) = &self.notifier {
            notifier.notify(event);
            self.emit_transitions();
        }
    }

    /// Tells what has become of the breaker, at the end of whatever may have turned it. What a handler
    /// notices is told when it is done.
    #[inline]
    pub(super) fn emit_transitions(&self) {
        let Some(notifier) = self.notifier.as_ref().filter(|notifier| !notifier.is_in_handler())
        else {
            return;
        };
        let Some(Guards { breaker: Some(breaker), .. }) = self.guards.as_deref() else { return };
        while let Some(transition) = breaker.take_transition() {
            notifier.notify(transition.into());
        }
    }

    /// A load has landed with this: tells of what is no success.
    pub(super) fn emit_outcome<R, E>(&self, flight: &Flight<K, V>, landed: &Result<R, LoadError<E>>)
    where
        E: Send + Sync + 'static,
    {
        match landed {
            Err(LoadError::Loader(error)) => self.emit_failed(flight, &**error),
            Err(LoadError::NothingToRenew) => {
                self.emit(Event::NothingToRenew { key: &flight.key });
            }
            _ => {}
        }
        self.emit_transitions();
    }

    /// Whether this thread is told of something just now, and must not wait for a load.
    #[inline]
    pub(super) fn is_in_handler(&self) -> bool {
        self.notifier.as_ref().is_some_and(|notifier| notifier.is_in_handler())
    }

    fn emit_failed(&self, flight: &Flight<K, V>, error: &(dyn Any + Send + Sync)) {
        let (key, reason, failures) = subject(flight);
        self.emit(Event::LoadFailed { key, reason, failures, error });
    }

    pub(super) fn emit_panicked(&self, flight: &Flight<K, V>) {
        let (key, reason, failures) = subject(flight);
        self.emit(Event::LoadPanicked { key, reason, failures });
    }

    /// A load has lost its key to its timeout, and is counted.
    pub(super) fn emit_timed_out(&self, flight: &Flight<K, V>) {
        let (key, reason, failures) = subject(flight);
        self.emit(Event::LoadTimedOut { key, reason, failures });
    }

    pub(super) fn emit_abandoned(&self, flight: &Flight<K, V>) {
        let (key, reason, _) = subject(flight);
        self.emit(Event::LoadAbandoned { key, reason });
    }

    /// The runtime would not have some work.
    pub(crate) fn note_refused(&self) {
        self.counts.refused.add(1);
        self.emit(Event::RuntimeRefused);
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

/// Its key, why it was begun, and how many loads of the key have failed in a row, if it did.
fn subject<K, V>(flight: &Flight<K, V>) -> (&K, LoadReason, u32) {
    (&flight.key, flight.reason, flight.attempt.saturating_add(1))
}
