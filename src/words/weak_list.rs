//! A list of weak references, for telling those that still exist of an end.

use std::sync::{Arc, Weak};

/// Everything that was added and still exists. References to dropped values are removed before the list would
/// grow, so an addition takes constant time on average, and the list is at most twice as long as necessary.
#[derive(Debug)]
pub(crate) struct WeakList<T>(Vec<Weak<T>>);

impl<T> Default for WeakList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> WeakList<T> {
    pub(crate) fn push(&mut self, member: &Arc<T>) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|member| member.strong_count() > 0);
        }
        self.0.push(Arc::downgrade(member));
    }

    /// Those that still exist, one at a time.
    pub(crate) fn into_living(self) -> impl Iterator<Item = Arc<T>> {
        self.0.into_iter().filter_map(|member| member.upgrade())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_takes_no_room() {
        let mut list = WeakList::default();
        let stays = Arc::new(0);
        list.push(&stays);
        for n in 1..1_000 {
            list.push(&Arc::new(n));
        }
        assert!(list.0.capacity() <= 8, "{}", list.0.capacity());
        assert_eq!(list.into_living().map(|n| *n).collect::<Vec<_>>(), [0]);
    }
}
