//! Write-behind of one change with settings of its own.

mod common;

use common::{Checked, checked, ms};
use larder::{Altered, Cache, Change, Clock, ManualClock, WriteBehind, Writer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

/// A source that takes everything.
#[derive(Clone, Default)]
struct Source(Arc<Mutex<HashMap<u64, u64>>>);

impl Source {
    fn take(&self, batch: &[Change<'_, u64, u64>]) {
        let mut rows = self.0.lock();
        rows.extend(batch.iter().map(|change| (*change.key(), *change.value().unwrap())));
    }
}

impl Writer<u64, u64> for Source {
    type Error = String;

    fn write(&self, batch: &[Change<'_, u64, u64>]) -> Result<(), String> {
        self.take(batch);
        Ok(())
    }
}

fn cache() -> (Checked<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    (checked(Cache::builder().max_entries(10).time_to_live(ms(100)).clock(clock)), hand)
}

fn setting() -> (Checked<u64, u64>, ManualClock, WriteBehind<u64, u64, Source>, Source) {
    let ((cache, hand), source) = (cache(), Source::default());
    let queue = WriteBehind::builder((*cache).clone(), source.clone()).build().unwrap();
    (cache, hand, queue, source)
}

#[test]
fn a_change_has_the_tags_that_it_names_and_no_others() {
    let (cache, _hand, queue, source) = setting();
    queue.at(&1).tag("a").tags(["b", "c", "d"]).put(10).unwrap();
    queue.at(&2).tag("a").put(20).unwrap();
    let one_more = |n: Option<u64>| n.map(|n| n + 1);
    assert_eq!(queue.at(&2).tag("b").alter(one_more).unwrap(), Some(21));
    queue.at(&3).tag("a").put(30).unwrap();
    assert_eq!(queue.alter(&3, one_more).unwrap(), Some(31));
    queue.flush().unwrap();
    cache.remove_tag("a");
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (None, Some(21), Some(31)));
    cache.remove_tag("b");
    assert_eq!((cache.get(&2), cache.get(&3)), (None, Some(31)));
    assert_eq!(*source.0.lock(), HashMap::from([(1, 10), (2, 21), (3, 31)]));
}

#[test]
fn a_change_has_the_life_that_it_names() {
    let (cache, hand, queue, source) = setting();
    queue.at(&1).ttl(ms(300)).put(10).unwrap();
    queue.put(2, 20).unwrap();
    assert_eq!(queue.at(&2).ttl(ms(200)).alter(|n| n).unwrap(), Some(20));
    queue.put(3, 30).unwrap();
    queue.at(&3).ttl(ms(0)).put(31).unwrap();
    queue.flush().unwrap();
    assert_eq!((cache.get(&3), source.0.lock().get(&3).copied()), (None, Some(31)));
    assert_eq!(cache.peek(&1).unwrap().fresh_for, ms(300));
    hand.advance(ms(199));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
    hand.advance(ms(1));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), None));
}

#[test]
fn what_happens_to_a_tag_while_a_change_is_made_counts() {
    let (cache, _hand, queue, _source) = setting();
    let mut calls = 0;
    let changed = queue.at(&1).tag("t").alter(|_| {
        calls += 1;
        if calls == 1 {
            thread::scope(|scope| _ = scope.spawn(|| cache.remove_tag("t")).join());
        }
        Some(calls)
    });
    assert_eq!((changed.unwrap(), calls), (Some(2), 2));
    // what the change itself does to it does not
    let changed = queue.at(&1).tag("t").alter(|n| {
        cache.remove_tag("t");
        Altered::Put(n.map_or(7, |n| n + 1))
    });
    assert_eq!((changed.unwrap(), cache.get(&1)), (Some(3), Some(3)));
    assert_eq!(format!("{:?}", queue.at(&1).ttl(ms(1))), "ChangeAt { ttl: Some(1ms), .. }");
}

#[cfg(feature = "tokio")]
mod tasks {
    use super::*;
    use larder::{AsyncWriteBehind, AsyncWriter};

    impl AsyncWriter<u64, u64> for Source {
        type Error = String;

        async fn write(&self, batch: &[Change<'_, u64, u64>]) -> Result<(), String> {
            self.take(batch);
            Ok(())
        }
    }

    #[tokio::test]
    async fn tasks_name_tags_and_lives_too() {
        let ((cache, hand), source) = (cache(), Source::default());
        let queue = AsyncWriteBehind::builder((*cache).clone(), source.clone()).build().unwrap();
        let its = queue.clone();
        let put = async move { its.at(&1).tag("a").put(10).await };
        tokio::spawn(put).await.unwrap().unwrap();
        queue.at(&2).ttl(ms(300)).put(20).await.unwrap();
        let altered = queue.at(&2).ttl(ms(200)).tag("b").alter(|n: Option<u64>| n.map(|n| n + 1));
        assert_eq!(altered.await.unwrap(), Some(21));
        queue.flush().await.unwrap();
        assert_eq!(*source.0.lock(), HashMap::from([(1, 10), (2, 21)]));
        cache.remove_tag("a");
        hand.advance(ms(199));
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(21)));
        cache.remove_tag("b");
        assert_eq!(cache.get(&2), None);
        drop(hand);
    }
}
