//! The user's handlers, and telling the one of removals what left. (What the one of events is told is in
//! [`events`](super::events).)

use super::store::Store;
use crate::parts::notifier::Notifier;
use crate::rules::event::Event;
use crate::shard::outbox::Outbox;
use crate::words::contain::contain;
use crate::words::removal::Removal;
use std::sync::Arc;

pub(crate) type Listener<K, V> = Box<dyn Fn(Removal<K, V>) + Send + Sync>;

/// Whom a cache tells what happens to it. They are called with no lock held, and a panic of theirs is counted
/// and not passed on.
pub(super) struct Handlers<K, V> {
    pub(super) removals: Option<Listener<K, V>>,
    pub(super) events: Option<Arc<Notifier<K>>>,
}

impl<K, V, S> Store<K, V, S> {
    /// Reports and drops what left, in order; no lock is held.
    pub(super) fn deliver(&self, out: Outbox<K, V>) {
        if self.hears() {
            self.report_all(out);
        }
    }

    /// Whether there is a listener. Where speed counts, removed entries are handed over only if there is one,
    /// and else dropped in place: to move what was written just before stalls the processor.
    #[inline]
    pub(super) fn hears(&self) -> bool {
        self.handlers.removals.is_some()
    }

    #[inline(never)]
    pub(super) fn report_all(&self, out: Outbox<K, V>) {
        out.hand_over(|removal| self.report(removal));
    }

    pub(super) fn report(&self, removal: Removal<K, V>) {
        let Some(listener) = &self.handlers.removals else { return };
        if !contain(|| listener(removal)) {
            self.counts.listener_panics.add(1);
            self.emit(Event::ListenerPanicked);
        }
    }
}
