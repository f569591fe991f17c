//! Guards that report what left the cache even if user code panics meanwhile.

use super::store::Store;
use crate::shard::outbox::Outbox;
use std::sync::Arc;

/// Reports what is in `out` if it is dropped by a panic; else that is left to the owner of `out`.
pub(super) struct Unreported<'l, K, V, S> {
    pub(super) store: &'l Store<K, V, S>,
    pub(super) out: &'l mut Outbox<K, V>,
}

impl<K, V, S> Drop for Unreported<'_, K, V, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.store.deliver(std::mem::replace(self.out, Outbox::new()));
        }
    }
}

/// Holds what left until something else that comes first is done. Reports it when dropped.
pub(crate) struct Later<K, V, S> {
    store: Arc<Store<K, V, S>>,
    pub(super) out: Outbox<K, V>,
}

impl<K, V, S> Later<K, V, S> {
    pub(crate) fn new(store: &Arc<Store<K, V, S>>) -> Self {
        Self { store: Arc::clone(store), out: Outbox::new() }
    }
}

impl<K, V, S> Drop for Later<K, V, S> {
    fn drop(&mut self) {
        self.store.deliver(std::mem::replace(&mut self.out, Outbox::new()));
    }
}
