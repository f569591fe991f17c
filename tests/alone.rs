//! Loads that nobody else knows of, and what comes to know of them: all of it in one thread, from
//! within the loader.

mod common;

use common::{Fixture, checked, ms, secs, uncalled, with_cache};
use larder::{Cache, Clock, LoadError};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A load of key 1, during which `meanwhile` happens. Whether it was stored.
fn is_stored(it: &Fixture, meanwhile: impl FnOnce()) -> bool {
    let loaded = it.get_or_load(&1, || {
        meanwhile();
        Ok::<_, String>(10)
    });
    assert_eq!(loaded.unwrap(), 10, "its own caller has it in any case");
    it.validate();
    it.get(&1) == Some(10)
}

type Event = fn(&Fixture);

#[test]
fn what_happens_to_its_key_reaches_a_load_that_was_alone() {
    let events: [(&str, Event); 8] = [
        ("insert", |it| it.insert(1, 5)),
        ("insert of no life", |it| it.at(&1).ttl(ms(0)).insert(5)),
        ("remove", |it| _ = it.remove(&1)),
        ("expire", |it| _ = it.expire(&1)),
        ("clear", |it| it.clear()),
        ("a write", |it| it.write_through(1, 5, |_, _| Ok::<_, String>(())).unwrap()),
        ("a write that failed", |it| {
            it.write_through(1, 5, |_, _| Err("refused".to_owned())).unwrap_err();
        }),
        ("a timeout", |it| it.hand.advance(secs(30))),
    ];
    for (what, event) in events {
        with_cache(
            |builder| builder.shards(1).load_timeout(secs(30)),
            |it| {
                assert!(!is_stored(it, || event(it)), "{what}");
                let stats = it.stats();
                let refused = (stats.fenced, stats.load_timeouts);
                assert_eq!(refused, if what == "a timeout" { (0, 1) } else { (1, 0) }, "{what}");
                assert_eq!((stats.loads, stats.misses), (1, 1 + u64::from(it.get(&1).is_none())));
            },
        );
    }
}

#[test]
fn a_write_that_still_runs_keeps_a_load_that_was_alone_from_being_stored() {
    with_cache(
        |builder| builder.shards(1),
        |it| {
            let writing = it.writing(&1);
            assert!(!is_stored(it, || ()));
            drop(writing);
            assert!(is_stored(it, || ()), "and the next one is");
        },
    );
}

#[test]
fn a_load_that_is_looked_at_is_stored_all_the_same() {
    with_cache(
        |builder| builder.shards(1).load_timeout(secs(30)),
        |it| {
            assert!(is_stored(it, || {
                it.hand.advance(secs(2));
                let load = it.explain(&1).load.expect("it runs");
                assert_eq!((load.age, load.waiters), (secs(2), 0));
                assert!(it.get_or_load(&1, uncalled).unwrap_err().is_recursive());
                assert!(it.explain(&2).load.is_none());
            }));
            assert!(it.explain(&1).load.is_none(), "it is over");
        },
    );
}

#[test]
fn what_a_load_that_was_alone_comes_to_is_no_value() {
    with_cache(
        |builder| builder.shards(1).negative_ttl(secs(5)),
        |it| {
            for is_met in [false, true] {
                let meet = || _ = is_met.then(|| it.explain(&1));
                let failed = it.get_or_load(&1, || {
                    meet();
                    Err::<u64, _>("away".to_owned())
                });
                assert!(matches!(failed, Err(LoadError::Loader(error)) if *error == "away"));
                assert_eq!(it.explain(&1).failure.map(|failure| failure.in_a_row), Some(1));
                it.remove(&1);
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    it.get_or_load(&1, || -> Result<u64, String> {
                        meet();
                        panic!("expected: the loader's own trouble")
                    })
                }));
                assert!(panicked.is_err());
                it.remove(&1);
                let none = it.get_or_load_optional(&1, || {
                    meet();
                    Ok::<_, String>(None)
                });
                assert_eq!(none.unwrap(), None);
                assert!(it.get_or_load(&1, uncalled).unwrap_err().is_not_found());
                it.remove(&1);
                it.validate();
            }
            assert_eq!(it.stats().load_failures, 4);
        },
    );
}

#[test]
fn more_loads_run_at_once_than_there_are_seats() {
    // each inside the one before, all of one shard
    fn load(it: &Fixture, key: u64) -> u64 {
        let inner = || {
            for other in 0..=key {
                assert!(it.get_or_load(&other, uncalled).unwrap_err().is_recursive());
            }
            it.validate();
            Ok::<_, String>(if key < 30 { 1 + load(it, key + 1) } else { 0 })
        };
        it.get_or_load(&key, inner).unwrap()
    }
    with_cache(
        |builder| builder.shards(1),
        |it| {
            assert_eq!(load(it, 0), 30);
            for key in 0..=30 {
                assert_eq!(it.get(&key), Some(30 - key));
            }
        },
    );
}

#[test]
fn a_load_without_a_life_is_not_stored() {
    let (clock, _) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().shards(1).clock(clock);
    let cache = checked(builder.max_entries(10).time_to_live(ms(0)));
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
    cache.insert(2, 20);
    assert_eq!((cache.get(&1), cache.get(&2), cache.len()), (None, None, 0));
}

#[test]
fn a_load_without_room_is_not_stored() {
    let cache = checked(Cache::<u64, u64>::builder().shards(1).max_entries(0));
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
    assert_eq!((cache.get(&1), cache.len(), cache.stats().rejected), (None, 0, 1));
}
