//! Keys that somebody changes by what stands there: a reservation is lost when anything else happens to its
//! key, and who has lost it looks again.
//!
//! That is load-linked and store-conditional, for a map (E. H. Jensen, G. W. Hagensen and J. M. Broughton, "A
//! new approach to exclusive data access in shared memory multiprocessors", 1987): nobody waits for anybody,
//! and of several who change one key at once, one succeeds in each round.

use super::stack::{self, Running};
use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// A key, by all of its hash: two that share one make each other look again, and that is all.
pub(crate) struct Reserved {
    hash: u64,
    is_lost: AtomicBool,
}

impl Reserved {
    /// From now on what happens to the key counts. To be called before the look.
    pub(crate) fn renew(&self) {
        self.is_lost.store(false, Ordering::SeqCst);
    }

    /// Whether nothing has happened to the key since. To be asked under its shard's lock.
    pub(crate) fn holds(&self) -> bool {
        !self.is_lost.load(Ordering::SeqCst)
    }

    /// While the guard lives, what this thread does to the key does not count: it is a part of the change. (It
    /// would be done again in the next round, and the round would never end.)
    pub(crate) fn enter(&self) -> Running {
        stack::enter(self.id())
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

#[derive(Default)]
pub(crate) struct Reservations(Mutex<Vec<Arc<Reserved>>>);

impl Reservations {
    pub(crate) fn add(&self, hash: u64) -> Arc<Reserved> {
        let reserved = Arc::new(Reserved { hash, is_lost: AtomicBool::new(false) });
        self.0.lock().push(Arc::clone(&reserved));
        reserved
    }

    pub(crate) fn remove(&self, reserved: &Arc<Reserved>) {
        let mut list = self.0.lock();
        if let Some(at) = list.iter().position(|other| Arc::ptr_eq(other, reserved)) {
            list.swap_remove(at);
        }
    }

    /// Something happens to the key of this hash, or to all keys. There are as many to be looked at as
    /// there are changes in progress.
    pub(crate) fn lose(&self, hash: Option<u64>) {
        for reserved in self.0.lock().iter() {
            let is_meant = hash.is_none_or(|hash| hash == reserved.hash);
            if is_meant && !stack::is_running(reserved.id()) {
                reserved.is_lost.store(true, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn it_is_lost_by_what_others_do_to_its_key() {
        let all = Reservations::default();
        let (one, same, other) = (all.add(1), all.add(1), all.add(2));
        all.lose(Some(1));
        assert!(!one.holds() && !same.holds() && other.holds());
        one.renew();
        {
            let _changing = one.enter();
            all.lose(None);
        }
        assert!(one.holds() && !other.holds(), "what its own change does is a part of it");
        all.lose(Some(1));
        assert!(!one.holds());
        all.remove(&one);
        one.renew();
        all.lose(None);
        assert!(one.holds(), "nobody has it any more");
        assert_eq!(all.0.lock().len(), 2);
    }
}
