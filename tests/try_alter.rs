//! Changing a value by a closure that may fail: an error is passed on, and leaves everything as it was.

mod common;

use common::gate::Gate;
use common::tasks::Task;
use common::{checked, ms, with_cache};
use larder::RemovalCause::Replaced;
use larder::{Altered, Cache, Stats};
use std::thread;

/// One less, as long as there is one.
fn take(n: Option<u64>) -> Result<Option<u64>, &'static str> {
    n.ok_or("unknown")?.checked_sub(1).map(Some).ok_or("sold out")
}

#[test]
fn without_an_error_it_is_an_alter() {
    with_cache(
        |builder| builder.time_to_live(ms(100)),
        |it| {
            it.insert(1, 2);
            assert_eq!((it.try_alter(&1, take), it.get(&1)), (Ok(Some(1)), Some(1)));
            it.advance(ms(60));
            assert_eq!(it.try_alter(&1, |n| Ok::<_, ()>(Altered::Keep(n))), Ok(Some(1)));
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(40));
            assert_eq!(it.at(&1).keep_life().tag("t").try_alter(take), Ok(Some(0)));
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(40));
            assert_eq!(
                it.at(&1).ttl(ms(7)).try_alter(|n| Ok::<_, ()>(n.map(|n| n + 5))),
                Ok(Some(5))
            );
            assert_eq!(it.peek(&1).unwrap().fresh_for, ms(7));
            it.remove_tag("t");
            assert_eq!(it.get(&1), None, "the tags are those of the value before");
            assert_eq!(it.try_alter(&1, |n| Ok::<_, ()>(n.or(Some(9)))), Ok(Some(9)));
            assert_eq!((it.try_alter(&1, |_| Ok::<_, ()>(None)), it.get(&1)), (Ok(None), None));
        },
    );
}

#[test]
fn an_error_leaves_everything_as_it_was() {
    with_cache(
        |builder| builder.time_to_live(ms(100)),
        |it| {
            it.at(&1).tag("t").insert(0);
            it.advance(ms(60));
            assert_eq!(it.try_alter(&1, take), Err("sold out"));
            assert_eq!(it.at(&1).ttl(ms(7)).tag("u").try_alter(take), Err("sold out"));
            assert_eq!(it.at(&1).keep_life().try_alter(take), Err("sold out"));
            assert_eq!(it.try_alter(&2, take), Err("unknown"));
            let got = it.peek(&1).unwrap();
            assert_eq!((got.value, got.age, got.fresh_for), (0, ms(60), ms(40)));
            it.remove_tag("u");
            assert_eq!((it.get(&1), it.len(), it.removals.take()), (Some(0), 1, vec![]));
            it.remove_tag("t");
            assert_eq!(it.get(&1), None);
            let Stats { insertions, replaced, .. } = it.stats();
            assert_eq!((insertions, replaced), (1, 0));
        },
    );
}

#[test]
fn an_error_does_not_fence_a_load_that_is_under_way() {
    let it = checked(Cache::builder().max_entries(100));
    let gate = Gate::new();
    let mut load = Task::new(it.get_or_load_async(&1, || gate.pass_async(Ok::<_, String>(7))));
    load.pend();
    assert_eq!(it.try_alter(&1, take), Err("unknown"));
    gate.open();
    assert_eq!((load.finish().unwrap(), it.get(&1), it.stats().fenced), (7, Some(7), 0));
}

#[test]
fn only_the_last_result_counts() {
    with_cache(
        |builder| builder,
        |it| {
            let cache = &it.cache;
            let write = |n| thread::scope(|s| s.spawn(move || cache.insert(1, n)).join().unwrap());
            it.insert(1, 1);
            let mut seen = Vec::new();
            let sold = it.try_alter(&1, |n| {
                seen.push(n);
                if seen.len() == 1 {
                    write(0); // somebody else is faster
                }
                take(n)
            });
            assert_eq!((sold, seen), (Err("sold out"), vec![Some(1), Some(0)]));
            assert_eq!((it.get(&1), it.removals.take()), (Some(0), vec![(1, 1, Replaced)]));

            // an error ends it, although the value that it is about is there no more
            let mut calls = 0;
            let sold = it.try_alter(&1, |n| {
                calls += 1;
                write(8);
                take(n)
            });
            assert_eq!((sold, calls, it.get(&1)), (Err("sold out"), 1, Some(8)));
        },
    );
}
