//! Telling the user's handler of events.

use super::guard::Guards;
use super::store::Store;
use crate::parts::breaker::Transition;
use crate::parts::flight::Flight;
use crate::rules::event::Event;
use crate::rules::loaded::LoadReason;
use crate::words::error::LoadError;
use std::any::Any;

impl<K, V, S> Store<K, V, S> {
    /// Tells the handler, with no lock and no slot held. A load of this thread may still be on the board: its
    /// followers wait for the handler.
    #[inline]
    pub(super) fn emit(&self, event: Event<'_, K>) {
        if let Some(notifier) = &self.handlers.events {
            notifier.notify(event);
            self.emit_transitions();
        }
    }

    /// Tells the breaker's transitions, at the end of whatever may have caused one. Those caused inside a
    /// handler are told when the handler is done.
    #[inline]
    pub(super) fn emit_transitions(&self) {
        let Some(notifier) =
            self.handlers.events.as_ref().filter(|notifier| !notifier.is_in_handler())
        else {
            return;
        };
        let Some(Guards { breaker: Some(breaker), .. }) = self.guards.as_deref() else { return };
        while let Some(transition) = breaker.take_transition() {
            notifier.notify(transition.into());
        }
    }

    /// A load has landed with this result: tells the handler if it is no success.
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

    /// Whether this thread is running the handler, and so must not wait for a load.
    #[inline]
    pub(super) fn is_in_handler(&self) -> bool {
        self.handlers.events.as_ref().is_some_and(|notifier| notifier.is_in_handler())
    }

    fn emit_failed(&self, flight: &Flight<K, V>, error: &(dyn Any + Send + Sync)) {
        let (key, reason, failures) = subject(flight);
        self.emit(Event::LoadFailed { key, reason, failures, error });
    }

    pub(super) fn emit_panicked(&self, flight: &Flight<K, V>) {
        let (key, reason, failures) = subject(flight);
        self.emit(Event::LoadPanicked { key, reason, failures });
    }

    /// A load has lost its key to its timeout, which has been counted.
    pub(super) fn emit_timed_out(&self, flight: &Flight<K, V>) {
        let (key, reason, failures) = subject(flight);
        self.emit(Event::LoadTimedOut { key, reason, failures });
    }

    pub(super) fn emit_abandoned(&self, flight: &Flight<K, V>) {
        let (key, reason, _) = subject(flight);
        self.emit(Event::LoadAbandoned { key, reason });
    }

    /// Counts and tells that the runtime refused some work.
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

/// The flight's key, why it was begun, and how many loads of the key have failed in a row, if this one
/// failed.
fn subject<K, V>(flight: &Flight<K, V>) -> (&K, LoadReason, u32) {
    (&flight.key, flight.reason, flight.attempt.saturating_add(1))
}
