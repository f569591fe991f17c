//! Lists of those who want to be told of something, which cost next to nothing while they are empty.

use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicUsize, Ordering};
use std::ops::Deref;
use std::sync::Arc;

/// One such list. What its members are told, and what they make of it, is up to them.
pub(crate) struct Watches<W> {
    /// How many there are: while there are none, whoever has something to tell does not pay for the lock.
    count: AtomicUsize,
    list: Mutex<Vec<Arc<W>>>,
}

impl<W> Default for Watches<W> {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), list: Mutex::default() }
    }
}

impl<W> Watches<W> {
    /// From now on `watch` is told, until what is returned is dropped; so long `all`, which several lists may
    /// share, counts it too.
    pub(crate) fn add<'w>(&'w self, watch: W, all: Option<&'w AtomicUsize>) -> Watch<'w, W> {
        let told = Arc::new(watch);
        self.list.lock().push(Arc::clone(&told));
        // last: whoever finds it counted finds it in the list
        self.count.fetch_add(1, Ordering::SeqCst);
        if let Some(all) = all {
            all.fetch_add(1, Ordering::SeqCst);
        }
        Watch { among: self, all, told }
    }

    /// Tells each of them, with the list locked.
    pub(crate) fn each(&self, tell: impl Fn(&W)) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.list.lock().iter().for_each(|watch| tell(watch));
        }
    }
}

/// Guard: while it lives, its watch is told.
pub(crate) struct Watch<'w, W> {
    among: &'w Watches<W>,
    all: Option<&'w AtomicUsize>,
    told: Arc<W>,
}

impl<W> Deref for Watch<'_, W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.told
    }
}

impl<W> Drop for Watch<'_, W> {
    fn drop(&mut self) {
        if let Some(all) = self.all {
            all.fetch_sub(1, Ordering::SeqCst);
        }
        self.among.count.fetch_sub(1, Ordering::SeqCst);
        let mut list = self.among.list.lock();
        if let Some(at) = list.iter().position(|other| Arc::ptr_eq(other, &self.told)) {
            list.swap_remove(at);
        }
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_of_what_comes_while_it_is_there() {
        let (watches, all) = (Watches::<Mutex<Vec<u32>>>::default(), AtomicUsize::new(0));
        let tell = |what| watches.each(|told| told.lock().push(what));
        let add = || watches.add(Mutex::default(), Some(&all));
        tell(1);
        let one = add();
        tell(2);
        let (two, three) = (add(), add());
        tell(3);
        assert_eq!(
            [&one, &two, &three].map(|told| told.lock().clone()),
            [vec![2, 3], vec![3], vec![3]]
        );
        assert_eq!(all.load(Ordering::SeqCst), 3);
        let gone = Arc::clone(&one.told);
        drop(one);
        tell(4);
        assert_eq!([&two, &three].map(|told| told.lock().clone()), [vec![3, 4], vec![3, 4]]);
        assert_eq!(*gone.lock(), [2, 3]);
        drop((two, three));
        assert!(watches.list.lock().is_empty());
        assert_eq!([&watches.count, &all].map(|count| count.load(Ordering::SeqCst)), [0, 0]);
    }
}
