//! What runs loads without a caller: the loader of a cache that owns one.

use super::ahead::Refresher;
use super::away::Away;
use crate::parts::flight::{Flight, Landing};
use crate::words::sync::Mutex;
use crate::words::weak_list::WeakList;

/// The cache's own loader, with the loads that were sent there.
pub(super) struct Background<K, V, S> {
    loader: Box<dyn Refresher<K, V, S>>,
    /// It runs the loads of all misses too.
    pub(super) detaches: bool,
    /// They are told when the store is dropped, also those that have lost their key and so are on no board.
    sent: Mutex<WeakList<Flight<K, V>>>,
}

impl<K, V, S> Background<K, V, S> {
    pub(super) fn new(loader: Box<dyn Refresher<K, V, S>>, detaches: bool) -> Self {
        Self { loader, detaches, sent: Mutex::default() }
    }

    /// Starts a load. Returns it if the runtime refused, which is counted.
    pub(super) fn start(&self, away: Away<K, V, S>) -> Result<(), Away<K, V, S>> {
        self.sent.lock().push(away.flight());
        self.loader.refresh(away)
    }

    /// Whether it is so busy that hits should leave their refreshes to later hits.
    pub(super) fn is_busy(&self) -> bool {
        self.loader.is_busy()
    }

    /// Runs a load that the runtime refused on this thread, if that needs no wait for a slot.
    pub(super) fn run(&self, away: Away<K, V, S>) {
        self.loader.run(away);
    }

    /// Nobody needs its loads any more: they are told to stop.
    pub(super) fn end(&self) {
        let sent = std::mem::take(&mut *self.sent.lock());
        for flight in sent.into_living() {
            flight.land(Landing::Abandoned);
        }
    }
}
