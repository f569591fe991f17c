//! What left a shard while its lock was held, to be reported and dropped after the lock.
//!
//! Listeners and the `Drop` of keys and values are user code, which may call the cache: so they never run
//! under a lock. Usually only one value leaves; that costs no allocation.

use crate::parts::flight::Flight;
use crate::words::removal::{Removal, RemovalCause};
use std::sync::Arc;

pub(crate) struct Outbox<K, V> {
    first: Option<Removal<K, V>>,
    rest: Vec<Left<K, V>>,
}

enum Left<K, V> {
    Value(Removal<K, V>),
    /// A key of which there is nothing to report.
    Key(K),
    /// The same with a value that was never stored.
    Unstored {
        _key: K,
        _value: Option<V>,
    },
    /// A flight that has lost its key. Its own `key` is dropped with the last handle to it.
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

    pub(crate) fn unstored(&mut self, key: K, value: Option<V>) {
        self.rest.push(Left::Unstored { _key: key, _value: value });
    }

    pub(crate) fn flight(&mut self, flight: Arc<Flight<K, V>>) {
        self.rest.push(Left::Flight { _held: flight });
    }

    /// Takes the value that left first; the rest stays.
    pub(crate) fn take_first(&mut self) -> Option<Removal<K, V>> {
        self.first.take()
    }

    /// Hands over the values that left, in the order in which they did. Everything else is dropped after
    /// them: its `Drop` may panic, and must not keep a value from being reported.
    pub(crate) fn hand_over(self, mut to: impl FnMut(Removal<K, V>)) {
        self.first.into_iter().for_each(&mut to);
        let mut others = Vec::new();
        for left in self.rest {
            match left {
                Left::Value(removal) => to(removal),
                other => others.push(other),
            }
        }
    }
}
