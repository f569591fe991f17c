//! Writes at the source: what is cached while they run, and after.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Fixture, Record, checked, secs, uncalled, wait_until, with_cache};
use larder::{Cache, Clock, RemovalCause, WriteFence};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const DONE: Result<(), String> = Ok(());

fn load(it: &Fixture, value: u64) -> u64 {
    it.get_or_load(&1, || Ok::<_, Infallible>(value)).unwrap()
}

#[test]
fn the_source_is_written_first_and_then_the_cache() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let source = AtomicU64::new(10);
            let write = |key: &u64, value: &u64| {
                assert_eq!((*key, *value), (1, 20));
                assert_eq!(it.get(&1), Some(10), "the old value is served until it is written");
                source.store(*value, SeqCst);
                DONE
            };
            it.write_through(1, 20, write).unwrap();
            assert_eq!((it.get(&1), source.into_inner()), (Some(20), 20));
            assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Replaced)]);
            assert_eq!(it.fences(), 0);

            let write = |key, value| {
                assert_eq!((key, value, it.get(&1)), (1, 30, Some(20)));
                ready(DONE)
            };
            block_on(it.write_through_async(1, 30, write)).unwrap();
            assert_eq!((it.get(&1), it.fences()), (Some(30), 0));
        },
    );
}

#[test]
fn what_is_said_of_a_write_holds_for_what_it_stores() {
    with_cache(
        |builder| builder.time_to_live(secs(100)),
        |it| {
            it.at(&1).tag("odd").ttl(secs(5)).write_through(11, |_, _| DONE).unwrap();
            let write = |_, _| ready(DONE);
            block_on(it.at(&2).tag("even").ttl(secs(6)).write_through_async(22, write)).unwrap();
            let lives = [1, 2].map(|key| it.peek(&key).unwrap().fresh_for);
            assert_eq!(lives, [secs(5), secs(6)]);
            it.remove_tag("odd");
            assert_eq!((it.get(&1), it.get(&2)), (None, Some(22)));
            it.expire_tag("even");
            assert_eq!(it.get(&2), None);

            let write = |_: &u64, _: &u64| {
                it.remove_tag("odd");
                DONE
            };
            it.at(&1).tag("odd").write_through(12, write).unwrap();
            assert_eq!(it.get(&1), None, "which came first?");
            it.at(&1).tag("odd").write_through(13, |_, _| DONE).unwrap();
            it.at(&1).write_through(14, |_, _| Err("refused")).unwrap_err();
            assert_eq!((it.get(&1), it.fences()), (None, 0));
            it.at(&1).ttl(Duration::ZERO).write_through(15, |_, _| DONE).unwrap();
            assert_eq!(it.get(&1), None);
        },
    );
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    with_cache(
        |builder| builder,
        |it| {
            let fail = |_: &u64, _: &u64| Err("away".to_owned());
            it.insert(1, 10);
            assert_eq!(it.write_through(1, 20, fail).unwrap_err(), "away");
            assert_eq!((it.get(&1), it.fences()), (None, 0));
            assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Removed)]);

            it.insert(1, 10);
            let write = it.write_through_async(1, 20, |_, _| ready(Err("away")));
            assert_eq!(block_on(write).unwrap_err(), "away");
            assert_eq!((it.get(&1), it.fences()), (None, 0));
        },
    );
}

#[test]
fn a_write_that_panics_or_is_dropped_leaves_nothing() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let write = AssertUnwindSafe(|| {
                it.write_through(1, 20, |_, _| -> Result<(), String> {
                    panic!("expected: a write")
                })
            });
            assert!(catch_unwind(write).is_err());
            assert_eq!((it.get(&1), it.fences()), (None, 0));

            it.insert(1, 10);
            let mut write =
                Task::new(it.write_through_async(1, 20, |_, _| pending::<Result<(), String>>()));
            write.pend();
            assert_eq!((it.get(&1), it.fences()), (Some(10), 1));
            drop(write);
            assert_eq!((it.get(&1), it.fences()), (None, 0));

            it.insert(1, 10);
            drop(it.write_through_async(1, 20, |_, _| pending::<Result<(), String>>()));
            assert_eq!(it.get(&1), Some(10), "never polled, never written");
        },
    );
}

/// A load that began before the write, and one that began in it; both end in it or after it.
#[test]
fn loads_that_overlap_a_write_are_not_stored() {
    type Write = fn(&Fixture, &dyn Fn());
    let writes: [(Write, Option<u64>); 3] = [
        (
            |it, run| {
                it.write_through(1, 20, |_, _| {
                    run();
                    DONE
                })
                .unwrap();
            },
            Some(20),
        ),
        (
            |it, run| {
                _ = it.write_through(1, 20, |_, _| {
                    run();
                    Err(())
                });
            },
            None,
        ),
        (
            |it, run| {
                let _fence = it.writing(&1);
                run();
            },
            None,
        ),
    ];
    for (write, left) in writes {
        for (begins_before, ends_after) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            with_cache(
                |builder| builder,
                |it| {
                    let gate = Gate::new();
                    let load = || async { Ok::<_, Infallible>(gate.pass_async(10).await) };
                    let mut load = Task::new(it.get_or_load_async(&1, load));
                    if begins_before {
                        load.pend();
                    }
                    let load = RefCell::new(Some(load));
                    let finish = || {
                        gate.open();
                        assert_eq!(load.take().unwrap().finish().unwrap(), 10);
                    };
                    write(it, &|| {
                        if !begins_before {
                            load.borrow_mut().as_mut().unwrap().pend();
                        }
                        if !ends_after {
                            finish();
                        }
                    });
                    assert_eq!(it.get(&1), left, "before any load lands late");
                    if ends_after {
                        finish();
                    }
                    assert_eq!((it.get(&1), it.fences()), (left, 0));
                    assert_eq!(it.stats().fenced, 1);
                },
            );
        }
    }
}

#[test]
fn not_found_is_not_kept_during_a_write_either() {
    with_cache(
        |builder| builder.negative_ttl(secs(9)),
        |it| {
            let fence = it.writing(&1);
            let load = |value| it.get_or_load_optional(&1, move || Ok::<_, Infallible>(value));
            assert_eq!(load(None).unwrap(), None);
            drop(fence);
            assert_eq!(load(Some(10)).unwrap(), Some(10));
        },
    );
}

#[test]
fn a_batch_during_a_write_stores_the_other_keys() {
    with_cache(
        |builder| builder,
        |it| {
            let fences = [it.writing(&1), it.writing(&3)];
            let reply = || Ok::<_, String>([(1, 10), (2, 20), (3, 30), (4, 40)]);
            assert_eq!(it.get_or_load_many(&[1, 2], |_| reply()).got.len(), 2);
            let kept = [1, 2, 3, 4].map(|key| it.get(&key));
            assert_eq!(kept, [None, Some(20), None, Some(40)]);
            drop(fences);
        },
    );
}

#[test]
fn two_writes_that_overlap_leave_nothing() {
    with_cache(
        |builder| builder,
        |it| {
            let inner = |_: &u64, _: &u64| it.write_through(1, 30, |_, _| DONE);
            it.write_through(1, 20, inner).unwrap();
            assert_eq!((it.get(&1), it.fences()), (None, 0));

            // one ends while the other goes on
            let gate = Gate::new();
            let wait = |_, _| async { gate.pass_async(DONE).await };
            let mut long = Task::new(it.write_through_async(1, 20, wait));
            long.pend();
            it.write_through(1, 30, |_, _| DONE).unwrap();
            assert_eq!((it.get(&1), it.fences()), (None, 1));
            assert_eq!((load(it, 7), it.get(&1)), (7, None));
            gate.open();
            long.finish().unwrap();
            assert_eq!((it.get(&1), it.fences()), (None, 0));

            it.write_through(1, 40, |_, _| DONE).unwrap();
            assert_eq!(it.get(&1), Some(40), "it is forgotten with the last of them");
        },
    );
}

#[test]
fn what_else_happens_to_a_key_during_its_write_leaves_nothing() {
    let others: [fn(&Fixture); 5] = [
        |it| it.insert(1, 30),
        |it| _ = it.remove(&1),
        |it| _ = it.expire(&1),
        |it| it.clear(),
        |it| _ = it.remove_if(|_, _| false),
    ];
    for other in others {
        with_cache(
            |builder| builder.time_to_live(secs(9)),
            |it| {
                it.insert(1, 10);
                let write = |_: &u64, _: &u64| {
                    other(it);
                    DONE
                };
                it.write_through(1, 20, write).unwrap();
                assert_eq!((it.get(&1), it.fences()), (None, 0));
            },
        );
    }
}

#[test]
fn what_happens_to_other_keys_does_not_matter() {
    with_cache(
        |builder| builder,
        |it| {
            let write = |_: &u64, _: &u64| {
                for key in 2..300 {
                    it.insert(key, key);
                    assert_eq!(it.get_or_load(&key, uncalled).unwrap(), key);
                    it.remove(&key);
                    let load = || Ok::<_, String>(key);
                    assert_eq!(
                        (it.get_or_load(&key, load).unwrap(), it.get(&key)),
                        (key, Some(key))
                    );
                    it.write_through(key, key + 1, |_, _| DONE).unwrap();
                    assert_eq!(it.get(&key), Some(key + 1));
                }
                DONE
            };
            it.write_through(1, 20, write).unwrap();
            assert_eq!((it.get(&1), it.stats().fenced), (Some(20), 0));
        },
    );
}

#[test]
fn a_fence_removes_at_its_start_and_at_its_end() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let fence = it.writing(&1);
            assert_eq!(it.get(&1), None);
            it.insert(1, 11);
            assert_eq!(it.get(&1), Some(11), "what somebody says is served");
            drop(fence);
            assert_eq!((it.get(&1), it.fences()), (None, 0), "and goes, for it may be older");
            let told = [(1, 10, RemovalCause::Removed), (1, 11, RemovalCause::Removed)];
            assert_eq!(it.removals.take(), told);
            assert_eq!((load(it, 12), it.get(&1)), (12, Some(12)));
        },
    );
}

#[test]
fn a_fence_stands_until_the_last_one_of_its_key_goes() {
    with_cache(
        |builder| builder,
        |it| {
            let (one, two) = (it.writing(&1), it.writing(&1));
            drop(one);
            assert_eq!((load(it, 10), it.get(&1), it.fences()), (10, None, 1));
            drop(two);
            assert_eq!((load(it, 10), it.get(&1), it.fences()), (10, Some(10), 0));
        },
    );
}

#[test]
fn callers_share_the_loads_that_a_fence_keeps_from_storing() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let fence = it.writing(&1);
            thread::scope(|scope| {
                let leader = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
                gate.wait_until_entered(1);
                let waiter = scope.spawn(|| it.get_or_load(&1, uncalled));
                it.wait_until_joined(1);
                gate.open();
                let values = [leader, waiter].map(|caller| caller.join().unwrap().unwrap());
                assert_eq!(values, [10, 10]);
            });
            drop(fence);
        },
    );
}

#[test]
fn a_fence_is_held_for_the_lag_of_replicas() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            drop(it.writing(&1).hold_for(secs(1)).hold_for(secs(2)));
            it.advance(Duration::from_millis(1_999));
            assert_eq!((load(it, 10), it.get(&1), it.fences()), (10, None, 1));
            let gate = Gate::new();
            let late = || async { Ok::<_, Infallible>(gate.pass_async(10).await) };
            let mut late = Task::new(it.get_or_load_async(&1, late));
            late.pend();
            it.insert(1, 11);
            it.advance(Duration::from_millis(1));
            assert_eq!((it.get(&1), it.fences()), (None, 0));
            gate.open();
            assert_eq!(late.finish().unwrap(), 10);
            assert_eq!((it.get(&1), load(it, 12), it.get(&1)), (None, 12, Some(12)));
        },
    );
}

#[test]
fn fences_that_are_held_add_up_to_the_last() {
    with_cache(
        |builder| builder,
        |it| {
            for seconds in [3, 1, 2] {
                drop(it.writing(&1).hold_for(secs(seconds)));
            }
            drop(it.writing(&1).hold_for(Duration::ZERO));
            it.advance(secs(2));
            assert_eq!((load(it, 10), it.get(&1)), (10, None));
            it.write_through(1, 20, |_, _| DONE).unwrap();
            assert_eq!(it.get(&1), None, "a write that overlaps another one");
            it.advance(secs(1));
            assert_eq!((load(it, 10), it.get(&1), it.fences()), (10, Some(10), 0));
        },
    );
}

#[test]
fn a_fence_that_is_held_for_ever_goes_with_the_cache() {
    let (clock, hand) = Clock::manual();
    let removals = Record::new();
    let cache: Cache<u64, u64> = Cache::builder()
        .max_entries(10)
        .clock(clock)
        .on_removal(removals.listener())
        .build()
        .unwrap();
    drop(cache.writing(&1).hold_for(Duration::MAX));
    drop(cache.writing(&2).hold_for(secs(5)));
    hand.advance(Duration::from_secs(1 << 31));
    assert_eq!(cache.fences(), 1);
    drop(cache.writing(&3).hold_for(secs(5)));
    cache.insert(3, 3);
    drop(cache);
    assert_eq!(removals.count(), 0);
    hand.advance(secs(9));
    assert_eq!(removals.count(), 0, "nothing rings in a cache that is gone");
}

#[test]
fn the_keeper_ends_what_is_held_by_the_system_clock() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(10));
    drop(cache.writing(&1).hold_for(Duration::from_millis(20)));
    assert_eq!(cache.fences(), 1);
    wait_until(|| cache.fences() == 0);
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn a_fence_is_held_no_shorter_than_was_said() {
    let hold = Duration::from_millis(3);
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100));
    for key in 0..20 {
        // the clock that values live by is some milliseconds behind, now and then
        cache.insert(key, 1);
        let began = Instant::now();
        drop(cache.writing(&key).hold_for(hold));
        wait_until(|| cache.fences() == 0);
        assert!(began.elapsed() >= hold, "{:?}", began.elapsed());
    }
}

#[test]
fn a_fence_is_its_holders_own() {
    fn is_owned<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let cache: Cache<String, u64> = Cache::new(10);
    let fence: WriteFence<String, u64> = is_owned(cache.writing("one"));
    drop(cache);
    thread::spawn(move || drop(fence)).join().unwrap();
}

#[test]
fn a_write_that_weighs_too_much_is_written_all_the_same() {
    let removals = Record::new();
    let cache = checked(
        Cache::<u64, u64>::builder()
            .max_weight(10)
            .weigher(|_, value| *value)
            .on_removal(removals.listener()),
    );
    cache.insert(1, 5);
    cache.write_through(1, 11, |_, _| DONE).unwrap();
    let told = [(1, 5, RemovalCause::Replaced), (1, 11, RemovalCause::Rejected)];
    assert_eq!((cache.get(&1), removals.take()), (None, told.to_vec()));
    for key in 2..7 {
        cache.insert(key, 2);
    }
    cache.write_through(1, 10, |_, _| DONE).unwrap();
    assert_eq!((cache.get(&1), cache.len()), (Some(10), 1), "room was made in other shards");
}

#[test]
fn a_cache_without_room_writes() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(0));
    cache.write_through(1, 11, |_, _| DONE).unwrap();
    drop(cache.writing(&1));
    assert_eq!((cache.len(), cache.fences()), (0, 0));
}

#[test]
fn the_listener_may_use_the_cache_when_a_fence_goes() {
    let handle: Arc<Mutex<Option<Cache<u64, u64>>>> = Arc::default();
    let mine = handle.clone();
    let told = move |_| {
        let cache = mine.lock().clone();
        drop(cache.unwrap().writing(&1));
    };
    let cache = Cache::builder().max_entries(10).on_removal(told).build().unwrap();
    *handle.lock() = Some(cache.clone());
    cache.insert(1, 10);
    let fence = cache.writing(&1);
    cache.insert(1, 11);
    drop(fence);
    assert_eq!((cache.get(&1), cache.fences()), (None, 0));
    // or the listener would keep its own cache alive
    *handle.lock() = None;
}
