//! Keys that an `alter` is changing: a reservation is lost when anything else happens to its key, and then
//! `alter` starts another round.
//!
//! That is load-linked and store-conditional, for a map (E. H. Jensen, G. W. Hagensen and J. M. Broughton, "A
//! new approach to exclusive data access in shared memory multiprocessors", 1987): nobody waits for anybody,
//! and of several callers that change one key at once, one succeeds in each round.

use super::tags::{TagFate, Tagged, Tags, Version};
use crate::words::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::words::sync::thread_local;

thread_local! {
    /// Its address identifies the running thread. It has no destructor, so it can be used until the thread ends,
    /// in the destructors of other thread locals too.
    // no `const` block: the explorers' macro has none
    #[allow(clippy::missing_const_for_thread_local)]
    static HERE: u8 = 0;
}

/// No thread.
const NOBODY: usize = 0;

fn this_thread() -> usize {
    HERE.try_with(|here| std::ptr::from_ref(here).addr()).unwrap_or(NOBODY)
}

/// A reserved key, by its whole hash. Two keys with the same hash only cost each other another round.
pub(crate) struct Reserved {
    hash: u64,
    is_lost: AtomicBool,
    /// The thread that runs the closure, while it runs.
    changed_by: AtomicUsize,
    /// How many events of tags that thread has caused meanwhile.
    own_changes: AtomicU64,
}

/// Guard: while it lives, the closure runs in this thread.
pub(crate) struct Changing<'r>(&'r Reserved);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changed_by.store(NOBODY, Ordering::SeqCst);
    }
}

impl Reserved {
    pub(crate) fn new(hash: u64) -> Self {
        let (is_lost, own_changes) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { hash, is_lost, changed_by: AtomicUsize::new(NOBODY), own_changes }
    }

    /// Starts a round: from now on what happens to the key counts. To be called before the look.
    pub(crate) fn renew(&self) {
        self.own_changes.store(0, Ordering::SeqCst);
        self.is_lost.store(false, Ordering::SeqCst);
    }

    /// Whether nothing has happened to the key since, tags aside. To be asked under its shard's lock.
    fn holds(&self) -> bool {
        !self.is_lost.load(Ordering::SeqCst)
    }

    /// While the guard lives, what this thread does to the key does not count: it is a part of the change.
    /// (If it did, each round would do it again, and the change would never end.)
    pub(crate) fn enter(&self) -> Changing<'_> {
        self.changed_by.store(this_thread(), Ordering::SeqCst);
        Changing(self)
    }

    fn is_changed_here(&self) -> bool {
        let by = self.changed_by.load(Ordering::SeqCst);
        by != NOBODY && by == this_thread()
    }

    /// Something happens to the key of this hash, or to all keys.
    pub(crate) fn lose(&self, hash: Option<u64>) {
        let is_meant = hash.is_none_or(|hash| hash == self.hash);
        if is_meant && !self.is_changed_here() {
            self.is_lost.store(true, Ordering::SeqCst);
        }
    }

    /// This thread has caused an event of a tag.
    pub(crate) fn count_own_change(&self) {
        if self.is_changed_here() {
            self.own_changes.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What a change is based on: a key, reserved before it was looked at, and the value that it had.
pub(crate) struct Basis<'r> {
    pub(crate) reserved: &'r Reserved,
    /// The tags of the value that was shown. An event of one of them ends the value without any shard being
    /// told.
    pub(crate) tags: Option<Tagged>,
    /// The version of the tags before the look.
    pub(crate) since: Version,
    /// The version after it: at this version, with all earlier events visible, nothing had happened to these
    /// tags yet.
    pub(crate) settled: Version,
}

impl Basis<'_> {
    /// Whether the key still has the value that was shown, or would have it but for an eviction. To be asked
    /// under the lock of the key's shard.
    pub(crate) fn holds(&self, all: &Tags) -> bool {
        self.reserved.holds() && !self.tags.as_ref().is_some_and(|tags| self.is_ended(tags, all))
    }

    /// Whether somebody else has caused an event of these tags. Of the change itself only the number of its
    /// events is known, not which they were; so if others have caused an event of any tag meanwhile, it looks
    /// again.
    pub(crate) fn is_ended(&self, tags: &Tagged, all: &Tags) -> bool {
        // first whether something happened, then how much: so nobody else's event is taken for the change's
        // own
        let is_touched = tags.fate() != TagFate::Untouched;
        let own = self.reserved.own_changes.load(Ordering::SeqCst);
        is_touched && all.version() - self.settled > own
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn it_is_lost_by_what_others_do_to_its_key() {
        let [one, other] = [1, 2].map(Reserved::new);
        let lose = |hash| [&one, &other].map(|reserved| reserved.lose(hash));
        lose(Some(1));
        assert!(!one.holds() && other.holds());
        one.renew();
        {
            let _changing = one.enter();
            lose(None);
            one.count_own_change();
            other.count_own_change();
        }
        assert!(one.holds() && !other.holds(), "what its own change does is a part of it");
        let counted = [&one, &other].map(|reserved| reserved.own_changes.load(Ordering::SeqCst));
        assert_eq!(counted, [1, 0]);
        lose(Some(1));
        assert!(!one.holds());
    }
}
