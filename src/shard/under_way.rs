//! What is under way for a key, loads and writes at the source, and what ends it.

use super::Shard;
use super::outbox::Outbox;
use crate::parts::flight::Flight;
use equivalent::Equivalent;
use std::sync::Arc;

impl<K, V> Shard<K, V> {
    /// Something newer happens to the key: its flight loses the key, and a write in progress is disputed.
    #[inline]
    pub(crate) fn fence<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        // most writes find nothing under way in their shard
        if !(self.fences.is_empty() && self.board.is_empty() && self.failures.is_empty()) {
            self.fences.dispute(hash, key);
            self.ground(hash, key, out);
        }
    }

    /// As [`fence`](Self::fence), for all keys that are equivalent to `key`.
    pub(crate) fn fence_each<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.dispute_each(hash, key);
        self.ground(hash, key, out);
        while self.is_loading(hash, key) {
            self.ground(hash, key, out);
        }
    }

    /// Takes the key's flight off the board, if there is one: it began before what happens now. The key's
    /// failures are forgotten.
    #[inline(never)]
    pub(crate) fn ground<Q>(&mut self, hash: u64, key: &Q, out: &mut Outbox<K, V>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        if let Some(flight) = self.board.take_key(hash, key) {
            flight.ground();
            out.flight(flight);
        }
        self.failures.forget(hash, key, out);
    }

    /// The key has been loaded: its failures are over.
    #[inline]
    pub(crate) fn forgive(&mut self, hash: u64, key: &K, out: &mut Outbox<K, V>)
    where
        K: Eq,
    {
        if !self.failures.is_empty() {
            self.failures.forget(hash, key, out);
        }
    }

    /// A write at the source begins: until it ends, no load of the key is stored.
    /// Returns the number to [lower](Self::lower) its fence by.
    pub(crate) fn raise(&mut self, hash: u64, key: K, out: &mut Outbox<K, V>) -> u64
    where
        K: Eq,
    {
        self.ground(hash, &key, out);
        let (number, spare) = self.fences.raise(hash, key);
        if let Some(key) = spare {
            out.key(key);
        }
        number
    }

    /// The write ends. Returns whether nothing else has happened to the key since it began.
    pub(crate) fn lower<Q>(
        &mut self,
        (hash, number): (u64, u64),
        key: &Q,
        out: &mut Outbox<K, V>,
    ) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.ground(hash, key, out);
        self.lower_fence(hash, number, out)
    }

    /// The write ends, and its key's `Eq` has panicked: nobody knows which flight is the key's, so all
    /// flights lose their keys.
    pub(crate) fn lower_blindly(&mut self, hash: u64, number: u64, out: &mut Outbox<K, V>) {
        self.fence_all(out);
        self.lower_fence(hash, number, out);
    }

    fn lower_fence(&mut self, hash: u64, number: u64, out: &mut Outbox<K, V>) -> bool {
        let (is_undisputed, held) = self.fences.lower(hash, number);
        if let Some(key) = held {
            out.key(key);
        }
        is_undisputed
    }

    /// Whether the key is being written at the source.
    #[inline]
    pub(crate) fn is_fenced<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.holds(hash, key)
    }

    /// Whether a single write of the key is in progress, and nothing else has happened to it.
    pub(crate) fn is_undisputed<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.fences.is_undisputed(hash, key)
    }

    /// Whether a load of the key is in flight.
    pub(crate) fn is_loading<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.board.has(hash, key)
    }

    /// Takes this flight off the board; `false` if it lost its key before.
    pub(crate) fn take_off(&mut self, flight: &Arc<Flight<K, V>>) -> bool {
        self.board.take(flight)
    }

    /// The flight that has this key.
    pub(crate) fn flight<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Flight<K, V>>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.board.get(hash, key).cloned()
    }

    /// Puts a flight on the board: one that was taken off in this same critical section, or a new one in its
    /// place.
    pub(crate) fn put_back(&mut self, flight: &Arc<Flight<K, V>>) {
        self.board.post(Arc::clone(flight));
    }
}
