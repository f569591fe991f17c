//! Going over what a cache holds: `entries`, `remove_if`, `clear`.

mod common;

use common::{checked, ms, with_cache};
use larder::{Cache, RemovalCause};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

fn counts(keys: impl Iterator<Item = u64>) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_walk_meets_every_fresh_value_once_and_nothing_else() {
    with_cache(
        |builder| builder.negative_ttl(ms(500)),
        |it| {
            for key in 0..300 {
                it.at(&key).ttl(ms(if key % 3 == 0 { 10 } else { 500 })).insert(key + 1_000);
            }
            it.at(&500).load(|_| Ok::<_, String>(None)).unwrap_err();
            it.advance(ms(10));
            let walked: Vec<_> = it.entries().collect();
            assert!(walked.iter().all(|(key, got)| got.value == key + 1_000 && got.age == ms(10)));
            let expected: Vec<_> = (0..300).filter(|key| key % 3 != 0).collect();
            let seen = counts(walked.iter().map(|(key, _)| *key));
            assert!(seen.values().all(|times| *times == 1));
            assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected);
            let stats = it.stats();
            assert_eq!((stats.hits, stats.misses), (0, 1), "a walk is no look-up");
        },
    );
}

#[test]
fn a_walk_ends_for_good() {
    with_cache(
        |builder| builder,
        |it| {
            assert!(it.entries().next().is_none());
            it.insert(1, 10);
            let mut walk = it.entries();
            assert!(walk.next().is_some());
            assert!(walk.next().is_none() && walk.next().is_none());
        },
    );
}

#[test]
fn a_walk_meets_what_stays_exactly_once_while_the_table_grows_under_it() {
    for shards in [1, 4] {
        let cache = checked(Cache::<u64, u64>::builder().unbounded().shards(shards));
        for key in 0..200 {
            cache.insert(key, key);
        }
        let mut next = 1_000;
        // each step of the walk is followed by writes that make the table grow and shrink
        let seen = counts(cache.entries().map(|(key, _)| {
            for _ in 0..30 {
                // but not for ever: the walk meets most of them too
                if next < 7_000 {
                    cache.insert(next, next);
                    next += 1;
                }
            }
            cache.remove(&(next - 7));
            key
        }));
        assert_eq!(next, 7_000, "the table grew");
        assert!((0..200).all(|key| seen.get(&key) == Some(&1)));
        assert!(seen.values().all(|times| *times == 1));
    }
}

#[test]
fn walks_and_writers_do_not_wait_for_each_other() {
    let cache = checked(Cache::<u64, u64>::builder().unbounded().shards(4));
    for key in 0..500 {
        cache.insert(key, key);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for thread in 0..3_u64 {
            let (cache, stop) = (&cache, &stop);
            threads.push(scope.spawn(move || {
                for step in 0.. {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let key = 1_000 + thread * 1_000 + step % 1_000;
                    cache.insert(key, step);
                    cache.remove(&(key / 2 + 500));
                }
            }));
        }
        for _ in 0..30 {
            let seen = counts(cache.entries().map(|(key, _)| key));
            assert!((0..500).all(|key| seen.get(&key) == Some(&1)), "skipped, or met twice");
        }
        stop.store(true, SeqCst);
        // the thread sanitizer sees a join, and not the end of a scope
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn remove_if_asks_about_each_entry_once_and_removes_what_it_is_told_to() {
    with_cache(
        |builder| builder.negative_ttl(ms(500)),
        |it| {
            for key in 0..300 {
                it.insert(key, key * 2);
            }
            it.at(&500).load(|_| Ok::<_, String>(None)).unwrap_err();
            let asked = RefCell::new(Vec::new());
            let removed = it.remove_if(|key, value| {
                assert_eq!(*value, key * 2);
                asked.borrow_mut().push(*key);
                key % 3 == 0
            });
            assert_eq!(removed, 100);
            let asked = counts(asked.into_inner().into_iter());
            assert!(asked.len() == 300 && asked.values().all(|times| *times == 1));
            assert!((0..300).all(|key| it.contains(&key) == (key % 3 != 0)));
            assert_eq!((it.len(), it.stats().removed), (201, 100), "the \"not found\" stays");
        },
    );
}

#[test]
fn a_predicate_may_use_the_cache_and_what_it_writes_stays() {
    with_cache(
        |builder| builder,
        |it| {
            for key in 0..100 {
                it.insert(key, 0);
            }
            let removed = it.remove_if(|key, value| {
                assert_eq!(it.get(key), Some(*value));
                if *key == 50 {
                    it.advance(ms(1));
                    it.insert(50, 1);
                }
                true
            });
            assert_eq!((removed, it.get(&50)), (99, Some(1)), "it is newer than the call");
        },
    );
}

#[test]
fn clear_takes_what_was_stored_in_the_same_instant() {
    with_cache(
        |builder| builder.negative_ttl(ms(500)),
        |it| {
            for _ in 0..3 {
                for key in 0..100 {
                    it.insert(key, key);
                    let _ = it.get_or_load_optional(&(key + 500), || Ok::<_, String>(None));
                }
                it.clear();
                assert_eq!((it.len(), it.weight(), it.entries().count()), (0, 0, 0));
                assert!((0..100).all(|key| it.get(&key).is_none()));
                let told = it.removals.take();
                assert_eq!(told.len(), 100);
                assert!(told.iter().all(|told| told.2 == RemovalCause::Removed));
            }
        },
    );
}

#[test]
fn a_predicate_that_panics_leaves_the_cache_valid() {
    with_cache(
        |builder| builder,
        |it| {
            for key in 0..100 {
                it.insert(key, key);
            }
            let asked = Cell::new(0);
            let panics = || {
                it.remove_if(|_, _| {
                    asked.set(asked.get() + 1);
                    assert!(asked.get() < 60, "expected: a predicate's");
                    true
                })
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
            let left = it.len();
            assert!((41..=100).contains(&left), "at most what it said yes to is gone");
            it.validate();
            assert_eq!((it.remove_if(|_, _| true), it.len()), (left, 0));
        },
    );
}
