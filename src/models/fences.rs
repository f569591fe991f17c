//! A later write wins: Caffeine's `Issue193Test`, otter #137, `FusionCache` #628.

use super::explore::explore;
use super::setting::{KEY, Moments, Shelf, builder, shelf};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;

/// A value tells when its load began, and a write when it did: after a write has returned, nobody
/// gets a value that is older.
fn nobody_sees_what_is_older_than(
    write: fn(&Shelf, u64),
    shelf: fn() -> Shelf,
    leaves_a_value: bool,
) {
    explore(move || {
        let shelf = shelf();
        let moments = Moments::default();
        let written = Moments::default();
        let check = move |written: &Moments, get: &dyn Fn() -> Option<u64>| {
            let floor = written.count();
            match get() {
                Some(value) => assert!(value >= floor, "{value} is older than {floor}"),
                None => assert!(floor == 0 || !leaves_a_value, "what was written is there"),
            }
        };
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, moments) = (shelf.clone(), moments.clone());
                let written = written.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let load = || {
                            let begun = moments.next();
                            thread::yield_now();
                            Ok::<_, Infallible>(begun)
                        };
                        check(&written, &|| Some(shelf.get_or_load(&KEY, load).unwrap()));
                    }
                })
            })
            .collect();
        let task = spawn({
            let (shelf, moments) = (shelf.clone(), moments.clone());
            let written = written.clone();
            async move {
                let floor = written.count();
                let load = || async {
                    let begun = moments.next();
                    shuttle::future::yield_now().await;
                    Ok::<_, Infallible>(begun)
                };
                let value = shelf.get_or_load_async(&KEY, load).await.unwrap();
                assert!(value >= floor, "{value} is older than {floor}");
            }
        });
        let writer = thread::spawn({
            let (shelf, moments) = (shelf.clone(), moments.clone());
            let written = written.clone();
            move || {
                for _ in 0..2 {
                    let begun = moments.next();
                    write(&shelf, begun);
                    written.reach(begun);
                    thread::yield_now();
                }
            }
        });
        let reader = thread::spawn({
            let (shelf, written) = (shelf.clone(), written.clone());
            move || {
                for _ in 0..3 {
                    check(&written, &|| shelf.get(&KEY));
                    check(&written, &|| shelf.peek(&KEY).map(|got| got.value));
                }
            }
        });
        for thread in callers.into_iter().chain([writer, reader]) {
            thread.join().unwrap();
        }
        block_on(task).unwrap();
        check(&written, &|| shelf.get(&KEY));
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

fn two_shards() -> Shelf {
    builder().0.max_entries(100).shards(2).build().unwrap()
}

/// The value that all want needs nearly all the room there is, and both shards are full of others.
fn full() -> Shelf {
    let weigher = |key: &u32, _: &u64| if *key == KEY { 9 } else { 1 };
    let shelf = builder().0.max_weight(10).weigher(weigher).shards(2).build().unwrap();
    (100..110).for_each(|key| shelf.insert(key, 0));
    shelf
}

#[test]
fn removed_during_a_load_is_never_stored() {
    let remove = |shelf: &Shelf, _| _ = shelf.remove(&KEY);
    nobody_sees_what_is_older_than(remove, shelf, false);
}

/// A load that makes room lets go of its shard's lock in between.
#[test]
fn removed_while_a_load_makes_room_is_never_stored() {
    let remove = |shelf: &Shelf, _| _ = shelf.remove(&KEY);
    nobody_sees_what_is_older_than(remove, full, false);
}

/// It need not stay: the load may have to evict just that, before it learns that it came too late.
#[test]
fn inserted_while_a_load_makes_room_is_not_replaced() {
    nobody_sees_what_is_older_than(|shelf, now| shelf.insert(KEY, now), full, false);
}

#[test]
fn inserted_during_a_load_stays() {
    nobody_sees_what_is_older_than(|shelf, now| shelf.insert(KEY, now), shelf, true);
}

#[test]
fn expired_during_a_load_is_never_stored() {
    let expire = |shelf: &Shelf, _| _ = shelf.expire(&KEY);
    nobody_sees_what_is_older_than(expire, shelf, false);
}

#[test]
fn cleared_during_a_load_is_never_stored() {
    nobody_sees_what_is_older_than(|shelf, _| shelf.clear(), two_shards, false);
}

#[test]
fn removed_by_a_predicate_during_a_load_is_never_stored() {
    let remove = |shelf: &Shelf, now| _ = shelf.remove_if(move |_, value| *value <= now);
    nobody_sees_what_is_older_than(remove, two_shards, false);
}

#[test]
fn inserted_without_a_life_during_a_load_is_never_stored() {
    let insert = |shelf: &Shelf, now| shelf.at(&KEY).ttl(std::time::Duration::ZERO).insert(now);
    nobody_sees_what_is_older_than(insert, shelf, false);
}
