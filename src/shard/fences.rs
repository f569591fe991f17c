//! The keys that somebody is writing to at the source, under the shard's lock.
//!
//! While a key is in here, no load of it is stored: nobody knows whether it read before the write or after.
//! Writes of one key at a time share an entry here; while there are none, everybody else pays one comparison.

use equivalent::Equivalent;
use hashbrown::HashTable;

pub(crate) struct Fences<K> {
    raised: HashTable<FencedKey<K>>,
    /// The number of the fence that was raised last.
    last: u64,
}

struct FencedKey<K> {
    key: K,
    hash: u64,
    /// Finds the fence again without the key's `Eq`, which may panic.
    number: u64,
    /// How many writes of the key are in progress.
    writes: usize,
    /// Something else has happened to the key since the first of them began: nobody knows in which order the
    /// source saw it.
    is_disputed: bool,
}

impl<K> Fences<K> {
    pub(crate) fn new() -> Self {
        Self { raised: HashTable::new(), last: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.raised.is_empty()
    }

    /// How many keys are being written.
    pub(crate) fn len(&self) -> usize {
        self.raised.len()
    }

    /// A write begins. Returns the number to [lower](Self::lower) its fence by. If another write of the key
    /// is in progress, both are disputed, and the key is returned too, to be dropped after the lock.
    pub(crate) fn raise(&mut self, hash: u64, key: K) -> (u64, Option<K>)
    where
        K: Eq,
    {
        if let Some(fence) = self.find_mut(hash, &key) {
            fence.writes += 1;
            fence.is_disputed = true;
            return (fence.number, Some(key));
        }
        self.last += 1;
        let fence = FencedKey { key, hash, number: self.last, writes: 1, is_disputed: false };
        self.raised.insert_unique(hash, fence, |fence| fence.hash);
        (self.last, None)
    }

    /// A write ends. Returns whether it was undisputed, and the key, if it was the key's last write.
    pub(crate) fn lower(&mut self, hash: u64, number: u64) -> (bool, Option<K>) {
        let same = |fence: &FencedKey<K>| fence.number == number;
        let Ok(mut place) = self.raised.find_entry(hash, same) else { return (false, None) };
        let fence = place.get_mut();
        let is_undisputed = !fence.is_disputed;
        fence.writes -= 1;
        if fence.writes > 0 {
            return (is_undisputed, None);
        }
        (is_undisputed, Some(place.remove().0.key))
    }

    /// Something else happens to a key.
    #[inline]
    pub(crate) fn dispute<Q>(&mut self, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        if !self.is_empty() {
            if let Some(fence) = self.find_mut(hash, key) {
                fence.is_disputed = true;
            }
        }
    }

    /// The same for all keys that are equivalent to `key`.
    pub(crate) fn dispute_each<Q>(&mut self, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        let same = |fence: &&mut FencedKey<K>| fence.hash == hash && key.equivalent(&fence.key);
        for fence in self.raised.iter_hash_mut(hash).filter(same) {
            fence.is_disputed = true;
        }
    }

    /// Something else happens to every key.
    pub(crate) fn dispute_all(&mut self) {
        for fence in &mut self.raised {
            fence.is_disputed = true;
        }
    }

    /// Whether somebody is writing the key.
    #[inline]
    pub(crate) fn holds<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        !self.is_empty() && self.find(hash, key).is_some()
    }

    /// Whether the key has one write in progress, and nothing else has happened to it since that began.
    pub(crate) fn is_undisputed<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.find(hash, key).is_some_and(|fence| !fence.is_disputed)
    }

    fn find<Q>(&self, hash: u64, key: &Q) -> Option<&FencedKey<K>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.raised.find(hash, |fence| fence.hash == hash && key.equivalent(&fence.key))
    }

    fn find_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut FencedKey<K>>
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.raised.find_mut(hash, |fence| fence.hash == hash && key.equivalent(&fence.key))
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_until_the_last_of_its_writes_ends() {
        let mut fences = Fences::new();
        assert_eq!(fences.raise(1, 'a'), (1, None));
        assert!(fences.is_undisputed(1, &'a'));
        assert_eq!(fences.raise(1, 'b'), (2, None), "one hash, two keys");
        assert_eq!(fences.raise(1, 'a'), (1, Some('a')));
        assert!(!fences.is_undisputed(1, &'a') && fences.is_undisputed(1, &'b'));
        assert_eq!(fences.lower(1, 1), (false, None));
        assert!(fences.holds(1, &'a'));
        assert_eq!(fences.lower(1, 1), (false, Some('a')));
        assert!(!fences.holds(1, &'a'));
        assert_eq!(fences.lower(1, 2), (true, Some('b')));
        assert!(fences.is_empty());
    }

    #[test]
    fn what_happens_to_other_keys_disputes_nothing() {
        let mut fences = Fences::new();
        fences.raise(1, 'a');
        fences.dispute(1, &'b');
        fences.dispute(2, &'a');
        assert!(fences.is_undisputed(1, &'a'));
        fences.dispute(1, &'a');
        assert_eq!(fences.lower(1, 1), (false, Some('a')));
        fences.raise(2, 'c');
        fences.dispute_all();
        assert!(!fences.is_undisputed(2, &'c'));
    }
}
