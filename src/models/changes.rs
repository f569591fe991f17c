//! Changes that depend on the current value: each builds on the one before it, and none is lost.

use super::explore::{draw, explore};
use super::setting::{KEY, Moments, Shelf, builder, shelf};
use shuttle::thread;
use std::collections::HashSet;

fn join<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn no_count_is_lost() {
    explore(|| {
        let shelf = shelf();
        let count = |shelf: &Shelf| {
            shelf.alter(&KEY, |n| {
                thread::yield_now();
                Some(n.unwrap_or(0) + 1)
            })
        };
        let threads = (0..3).map(|_| {
            let shelf = shelf.clone();
            thread::spawn(move || [count(&shelf).unwrap(), count(&shelf).unwrap()])
        });
        let counted: HashSet<u64> = join(threads.collect()).into_iter().flatten().collect();
        assert_eq!(counted, HashSet::from([1, 2, 3, 4, 5, 6]), "each saw the one before it");
        assert_eq!(shelf.get(&KEY), Some(6));
        shelf.validate();
    });
}

/// What a value weighs is in its last digit, so that each is another one.
fn weighed() -> Shelf {
    builder().0.max_weight(10).weigher(|_, value| *value % 10).shards(2).build().unwrap()
}

/// A change may need the room of other shards, and then the lock is let go of between its look at the key's
/// reservation and the store.
#[test]
fn no_value_is_changed_twice_by_those_who_need_much_room() {
    explore(|| {
        let (shelf, moments) = (weighed(), Moments::default());
        let mut threads: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, moments) = (shelf.clone(), moments.clone());
                thread::spawn(move || {
                    let mut seen = Vec::new();
                    for _ in 0..2 {
                        let mut found = None;
                        shelf.alter(&KEY, |value| {
                            found = value;
                            Some(moments.next() * 10 + 1 + draw(9) as u64)
                        });
                        seen.extend(found);
                    }
                    seen
                })
            })
            .collect();
        threads.push({
            let (shelf, moments) = (shelf.clone(), moments.clone());
            thread::spawn(move || {
                for key in 0..4 {
                    shelf.insert(100 + key, moments.next() * 10 + 1 + draw(3) as u64);
                }
                Vec::new()
            })
        });
        let seen: Vec<u64> = join(threads).into_iter().flatten().collect();
        let each: HashSet<u64> = seen.iter().copied().collect();
        assert_eq!(each.len(), seen.len(), "two changes of one value: {seen:?}");
        assert!(shelf.weight() <= 10);
        shelf.validate();
    });
}

/// A tag tells no shard what happens to it. Changes a value that has one while that is removed; what came of
/// the change, and what was found after the removal, and when both were over.
fn changed_while_its_tag_is_removed(others: &'static [&'static str]) -> [Option<u64>; 3] {
    let shelf = shelf();
    shelf.at(&KEY).tag("t").insert(1);
    let change = {
        let shelf = shelf.clone();
        thread::spawn(move || {
            shelf.at(&KEY).tags(others).alter(|n| {
                thread::yield_now();
                n.map(|n| n + 1)
            })
        })
    };
    shelf.remove_tag("t");
    let found = shelf.get(&KEY);
    let changed = change.join().unwrap();
    shelf.validate();
    [changed, found, shelf.get(&KEY)]
}

#[test]
fn nothing_is_made_of_what_a_tag_has_removed() {
    explore(|| {
        let [changed, found, left] = changed_while_its_tag_is_removed(&["another"]);
        // before the removal it has made a value without the tag of it, and after it nothing
        assert_eq!([found, left], [changed, changed]);
    });
}

#[test]
fn what_is_made_before_a_tag_is_removed_goes_with_it() {
    explore(|| {
        let [changed, found, left] = changed_while_its_tag_is_removed(&[]);
        assert!(matches!(changed, None | Some(2)));
        assert_eq!([found, left], [None, None]);
    });
}
