//! Calls the user's handler of events.

use super::stack;
use crate::rules::event::Event;
use crate::words::contain::contain;
use crate::words::sync::Counter;

pub(crate) type EventHandler<K> = Box<dyn Fn(Event<'_, K>) + Send + Sync>;

pub(crate) struct Notifier<K> {
    handler: EventHandler<K>,
    panics: Counter,
}

impl<K> Notifier<K> {
    pub(crate) fn new(handler: EventHandler<K>) -> Self {
        Self { handler, panics: Counter::default() }
    }

    /// Whether the handler is running on this thread. It is called in the middle of things: a load that
    /// waited in it could wait for something that its own thread is holding up.
    pub(crate) fn is_in_handler(&self) -> bool {
        stack::is_running(self.id())
    }

    /// Calls the handler. To be called with no lock held. The handler is not told what it causes itself, or
    /// that could go on for ever. Its panics are counted, and caught here.
    #[cold]
    pub(crate) fn notify(&self, event: Event<'_, K>) {
        if self.is_in_handler() {
            return;
        }
        let running = stack::enter(self.id());
        if !running.is_known() {
            return; // recursion could not be detected
        }
        if !contain(|| (self.handler)(event)) {
            self.panics.add(1);
        }
    }

    /// How often the handler panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Its identity: an address that is unique while it exists.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
