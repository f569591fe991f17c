//! What left a shard while its lock was held, to be reported and dropped after it.
//!
//! User code runs in a listener and in the `Drop` of keys and values, and it may call the cache: so
//! nothing of it happens under a lock. One value leaves in the usual case; that costs no allocation.

use crate::parts::flight::Flight;
use crate::words::removal::{Removal, RemovalCause};
use std::sync::Arc;

pub(crate) struct Outbox<K, V> {
    first: Option<Removal<K, V>>,
    rest: Vec<Left<K, V>>,
}

enum Left<K, V> {
    Value(Removal<K, V>),
    /// Of which there is nothing to report.
    Key(K),
    /// It lost its key; the last handle to it drops that.
    Flight {
        _held: Arc<Flight<K, V>>,
    },
}

impl<K, V> Outbox<K, V> {
    pub(crate) fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    #[inline]
    pub(crate) fn value(&mut self, key: K, value: V, cause: RemovalCause) {
        let removal = Removal { key, value, cause };
        if self.first.is_none() {
            self.first = Some(removal);
        } else {
            self.one_more(Left::Value(removal));
        }
    }

    #[cold]
    fn one_more(&mut self, left: Left<K, V>) {
        self.rest.push(left);
    }

    pub(crate) fn key(&mut self, key: K) {
        self.rest.push(Left::Key(key));
    }

    pub(crate) fn flight(&mut self, flight: Arc<Flight<K, V>>) {
        self.rest.push(Left::Flight { _held: flight });
    }

    /// The values that left, in the order in which they did; what else there is is dropped.
    pub(crate) fn into_values(self) -> impl Iterator<Item = Removal<K, V>> {
        self.first.into_iter().chain(self.rest.into_iter().filter_map(|left| match left {
            Left::Value(removal) => Some(removal),
            Left::Key(_) | Left::Flight { .. } => None,
        }))
    }
}
