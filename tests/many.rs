//! Many keys, one call of the loader: what is shared, what is partial, what is stored.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Fixture, checked, secs, uncalled, wait_until, with_cache};
use larder::{Cache, How, LoadError, Many};
use std::cell::RefCell;
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

type Reply = Result<Vec<(u64, u64)>, String>;

/// Ten times each key, but nothing for keys from 90.
#[allow(clippy::unnecessary_wraps)]
fn tens(keys: &[u64]) -> Reply {
    Ok(keys.iter().filter(|key| **key < 90).map(|key| (*key, key * 10)).collect())
}

fn values(many: &Many<u64, u64, String>) -> Vec<(u64, u64, How)> {
    many.got.iter().map(|(key, got)| (*key, got.value, got.how)).collect()
}

fn uncalled_many(_: &[u64]) -> Reply {
    uncalled()
}

#[test]
fn of_a_reply_that_is_late_nothing_is_stored_and_not_what_it_brings_unasked_either() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let late = |_: &[u64]| {
                it.advance(secs(5));
                Ok::<_, String>(vec![(1, 10), (2, 20)])
            };
            assert_eq!(values(&it.get_or_load_many(&[1], late)), [(1, 10, How::Loaded)]);
            assert_eq!((it.get(&1), it.get(&2)), (None, None));
            let in_time = |_: &[u64]| Ok::<_, String>(vec![(1, 10), (2, 20)]);
            it.get_or_load_many(&[1], in_time).into_result().unwrap();
            assert_eq!((it.get(&1), it.get(&2)), (Some(10), Some(20)));
        },
    );
}

#[test]
fn the_loader_is_called_once_for_what_nobody_has() {
    with_cache(
        |builder| builder.negative_ttl(secs(5)),
        |it| {
            it.insert(2, 2);
            let asked = RefCell::new(Vec::new());
            let load = |keys: &[u64]| {
                asked.borrow_mut().push(keys.to_vec());
                tens(keys)
            };
            let many = it.get_or_load_many(&[3, 1, 2, 3, 95, 1], load);
            assert_eq!(*asked.borrow(), [vec![3, 1, 95]]);
            let (fresh, loaded) = (How::Fresh, How::Loaded);
            assert_eq!(values(&many), [(3, 30, loaded), (1, 10, loaded), (2, 2, fresh)]);
            assert_eq!((many.missing, many.failed.len()), (vec![95], 0));
            assert!(many.error.is_none());
            let stats = it.stats();
            assert_eq!((stats.loads, stats.hits, stats.misses), (1, 1, 3));

            let again = it.get_or_load_many(&[1, 2, 3, 95], uncalled_many);
            assert_eq!((again.got.len(), again.missing), (3, vec![95]), "missing is kept");
            it.advance(secs(5));
            let later = it.get_or_load_many(&[95], tens);
            assert_eq!((later.missing, it.stats().loads), (vec![95], 2));
        },
    );
}

#[test]
fn all_or_nothing_is_what_was_found_or_the_first_error() {
    let cache = checked(Cache::<u64, u64>::builder().max_entries(10));
    let (found, missing) = cache.get_or_load_many(&[2, 95, 1], tens).into_result().unwrap();
    assert_eq!(
        found.iter().map(|(key, got)| (*key, got.value)).collect::<Vec<_>>(),
        [(2, 20), (1, 10)]
    );
    assert_eq!(missing, [95]);
    let away = |_: &[u64]| Reply::Err("away".to_owned());
    let error = cache.get_or_load_many(&[1, 3], away).into_result().unwrap_err();
    assert_eq!(error.loader().map(String::as_str), Some("away"));
    assert!(
        cache.get_or_load_many(&[1, 2], away).into_result().is_ok(),
        "nothing was to be loaded"
    );
}

#[test]
fn no_keys_need_no_loader() {
    with_cache(
        |builder| builder,
        |it| {
            let many = it.get_or_load_many(&[], uncalled_many);
            assert!(many.got.is_empty() && many.missing.is_empty() && many.error.is_none());
            let mut load = Task::new(it.get_or_load_many_async(&[], |_| ready(uncalled_many(&[]))));
            assert!(load.finish().got.is_empty());
        },
    );
}

#[test]
fn a_cache_without_room_returns_all_the_same() {
    for shards in [1, 4] {
        let cache = checked(Cache::<u64, u64>::builder().max_entries(0).shards(shards));
        assert_eq!(cache.get_or_load_many(&[1, 2, 95], tens).got.len(), 2);
        assert_eq!(cache.len(), 0);
    }
}

/// otter, Caffeine: what a failed reply does not have is not missing.
#[test]
fn absent_from_a_failed_reply_is_unknown() {
    with_cache(
        |builder| builder.negative_ttl(secs(5)),
        |it| {
            it.insert(1, 1);
            let many = it.get_or_load_many(&[1, 2, 3], |_| Err::<Vec<_>, _>("away".to_owned()));
            assert_eq!(values(&many), [(1, 1, How::Fresh)]);
            assert_eq!((many.failed, many.missing.len()), (vec![2, 3], 0));
            assert_eq!(many.error.unwrap().loader().unwrap(), "away");
            assert_eq!((it.stats().loads, it.stats().load_failures), (1, 1));
            let many = it.get_or_load_many(&[1, 2, 3], tens);
            assert_eq!(many.got.len(), 3, "a failure is not kept");
        },
    );
}

#[test]
fn single_callers_and_a_batch_share_their_loads() {
    with_cache(
        |builder| builder,
        |it| {
            let (batch, single) = (Gate::new(), Gate::new());
            thread::scope(|scope| {
                let alone = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(single.pass(11))));
                single.wait_until_entered(1);
                let many = scope.spawn(|| {
                    it.get_or_load_many(&[1, 2, 3], |keys| {
                        assert_eq!(keys, [2, 3], "somebody is loading 1");
                        batch.pass(tens(keys))
                    })
                });
                batch.wait_until_entered(1);
                let waiter = scope.spawn(|| it.get_or_load(&2, uncalled));
                it.wait_until_joined(2);
                assert!(
                    it.get_or_load(&4, || Ok::<_, String>(40)).is_ok(),
                    "others are not held up"
                );
                batch.open();
                assert_eq!(waiter.join().unwrap().unwrap(), 20);
                wait_until(|| it.get(&3) == Some(30)); // before it waits for others
                single.open();
                let expected = [(1, 11, How::Joined), (2, 20, How::Loaded), (3, 30, How::Loaded)];
                assert_eq!(values(&many.join().unwrap()), expected);
                assert_eq!(alone.join().unwrap().unwrap(), 11);
            });
        },
    );
}

#[test]
fn batches_that_overlap_wait_for_what_others_load() {
    with_cache(
        |builder| builder,
        |it| {
            let (first, second) = (Gate::new(), Gate::new());
            thread::scope(|scope| {
                let one = scope.spawn(|| it.get_or_load_many(&[1], |keys| first.pass(tens(keys))));
                first.wait_until_entered(1);
                let two = scope.spawn(|| {
                    it.get_or_load_many(&[2, 1], |keys| {
                        assert_eq!(keys, [2]);
                        second.pass(tens(keys))
                    })
                });
                second.wait_until_entered(1);
                let three = scope.spawn(|| it.get_or_load_many(&[1, 2], uncalled_many));
                it.wait_until_joined(3);
                second.open();
                first.open();
                for (batch, many) in [(one, 1), (two, 2), (three, 2)] {
                    assert_eq!(batch.join().unwrap().got.len(), many);
                }
            });
            assert_eq!(it.stats().loads, 2);
        },
    );
}

/// The first call of the loader asks for nothing that another was loading; the second does, when
/// that came to nothing.
#[test]
fn what_another_gave_up_is_asked_for_in_a_second_call() {
    with_cache(
        |builder| builder,
        |it| {
            let mut other = Task::new(it.get_or_load_async(&1, pending::<Result<u64, String>>));
            other.pend();
            let asked = RefCell::new(Vec::new());
            let load = |keys: Vec<u64>| {
                asked.borrow_mut().push(keys.clone());
                ready(tens(&keys))
            };
            let mut many = Task::new(it.get_or_load_many_async(&[1, 2], load));
            many.pend();
            assert_eq!(it.get(&2), Some(20));
            drop(other);
            assert_eq!(many.wakes(), 1);
            let expected = [(1, 10, How::Loaded), (2, 20, How::Loaded)];
            assert_eq!(values(&many.finish()), expected);
            assert_eq!(*asked.borrow(), [vec![2], vec![1]]);
        },
    );
}

#[test]
fn an_error_of_another_type_is_not_a_batchs_own() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let fail = || async { gate.pass_async(Err::<u64, u32>(7)).await };
            let mut other = Task::new(it.get_or_load_async(&1, fail));
            other.pend();
            let mut many = Task::new(it.get_or_load_many_async(&[1], |keys| ready(tens(&keys))));
            many.pend();
            gate.open();
            assert!(other.finish().is_err());
            assert_eq!(values(&many.finish()), [(1, 10, How::Loaded)]);
        },
    );
}

#[test]
fn all_who_wait_for_a_batch_that_fails_get_its_error() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let fail = |_| async { gate.pass_async(Err::<Vec<_>, _>("away".to_owned())).await };
            let mut many = Task::new(it.get_or_load_many_async(&[1, 2], fail));
            many.pend();
            let mut waiters: Vec<_> = (1..=2)
                .map(|key| Task::new(async move { it.get_or_load_async(&key, pending).await }))
                .collect();
            waiters.iter_mut().for_each(Task::<Result<u64, LoadError<String>>>::pend);
            gate.open();
            let Some(LoadError::Loader(error)) = many.finish().error else { panic!() };
            for mut waiter in waiters {
                let LoadError::Loader(same) = waiter.finish().unwrap_err() else { panic!() };
                assert!(Arc::ptr_eq(&same, &error));
            }
        },
    );
}

#[test]
fn a_batch_that_asks_for_its_own_keys_is_told_so_and_one_that_panics_frees_them() {
    with_cache(
        |builder| builder,
        |it| {
            let load = AssertUnwindSafe(|| {
                it.get_or_load_many(&[1, 2], |_| -> Reply {
                    assert!(it.get_or_load(&2, uncalled).unwrap_err().is_recursive());
                    let inner = it.get_or_load_many(&[1, 3], tens);
                    assert_eq!((inner.got.len(), inner.failed), (1, vec![1]));
                    panic!("expected: the loader of a batch");
                })
            });
            assert!(catch_unwind(load).is_err());
            assert_eq!((it.flights(), it.stats().load_failures), (0, 1));
            assert_eq!(it.get_or_load_many(&[1, 2], tens).got.len(), 2);
        },
    );
}

#[test]
fn who_waits_for_a_batch_that_panics_is_told_so() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let batch = scope.spawn(|| {
                    let load = |_: &[u64]| -> Reply {
                        gate.pass(());
                        panic!("expected: the loader of a batch");
                    };
                    catch_unwind(AssertUnwindSafe(|| it.get_or_load_many(&[1, 2], load)))
                });
                gate.wait_until_entered(1);
                let waiter = scope.spawn(|| it.get_or_load(&2, uncalled));
                let many = scope.spawn(|| it.get_or_load_many(&[1, 2], uncalled_many));
                it.wait_until_joined(3);
                gate.open();
                assert!(batch.join().unwrap().is_err());
                assert!(waiter.join().unwrap().unwrap_err().is_panic());
                let many = many.join().unwrap();
                assert_eq!((many.failed, many.error.unwrap().is_panic()), (vec![1, 2], true));
            });
        },
    );
}

/// The reply is an iterator of the user's, and runs as part of the loader.
#[test]
fn a_reply_that_panics_is_a_loader_that_panics() {
    with_cache(
        |builder| builder,
        |it| {
            let reply =
                || (1..).map(|key| if key > 1 { panic!("expected: a reply") } else { (key, key) });
            let load = AssertUnwindSafe(|| {
                it.get_or_load_many(&[1, 2], |_| Ok::<_, String>(reply().take(2)))
            });
            assert!(catch_unwind(load).is_err());
            let task = AssertUnwindSafe(|| {
                let load = |_| ready(Ok::<_, String>(reply().take(2)));
                Task::new(it.get_or_load_many_async(&[1, 2], load)).finish().got.len()
            });
            assert!(catch_unwind(task).is_err());
            assert_eq!((it.len(), it.flights(), it.stats().load_failures), (0, 0, 2));
        },
    );
}

#[test]
fn a_dropped_batch_hands_its_keys_on() {
    with_cache(
        |builder| builder,
        |it| {
            let stuck = |_| pending::<Reply>();
            let mut many = Task::new(it.get_or_load_many_async(&[1, 2], stuck));
            many.pend();
            let mut waiter = Task::new(it.get_or_load_async(&1, || ready(Ok::<_, String>(11))));
            waiter.pend();
            drop(many);
            assert_eq!(waiter.wakes(), 1);
            assert_eq!(waiter.finish().unwrap(), 11);
            assert_eq!(it.flights(), 0);
        },
    );
}

#[test]
fn a_batch_that_hangs_loses_its_keys() {
    with_cache(
        |builder| builder.load_timeout(secs(10)),
        |it| {
            let mut many = Task::new(it.get_or_load_many_async(&[1, 2], |_| pending::<Reply>()));
            many.pend();
            it.advance(secs(10));
            assert_eq!(many.wakes(), 1);
            let many = many.finish();
            assert_eq!(many.failed, [1, 2]);
            assert!(many.error.unwrap().is_timeout());
            assert_eq!((it.flights(), it.stats().load_timeouts), (0, 2));

            let late = it.get_or_load_many(&[1, 2], |keys| {
                it.advance(secs(10));
                tens(keys)
            });
            assert_eq!(late.got.len(), 2, "a thread gets what it loaded");
            assert_eq!(it.len(), 0, "which is too late to be stored");
        },
    );
}

#[test]
fn a_write_during_a_batch_wins() {
    type Write = fn(&Fixture);
    let writes: [(Write, Option<u64>); 4] = [
        (|it| it.insert(1, 7), Some(7)),
        (|it| _ = it.remove(&1), None),
        (|it| _ = it.expire(&1), None),
        (|it| it.clear(), None),
    ];
    for (write, left) in writes {
        with_cache(
            |builder| builder,
            |it| {
                let many = it.get_or_load_many(&[1], |keys| {
                    write(it);
                    tens(keys)
                });
                assert_eq!(values(&many), [(1, 10, How::Loaded)]);
                assert_eq!((it.get(&1), it.stats().fenced), (left, 1));
            },
        );
    }
}

/// Asks for key 1 and is given 1 and 2.
fn with_extra(during: impl Fn(&Fixture), then: impl Fn(&Fixture)) {
    with_cache(
        |builder| builder.time_to_live(secs(60)).negative_ttl(secs(60)),
        |it| {
            let many = it.get_or_load_many(&[1], |_| {
                during(it);
                Ok::<_, String>([(1, 10), (2, 20)])
            });
            assert_eq!(values(&many), [(1, 10, How::Loaded)]);
            then(it);
        },
    );
}

#[test]
fn what_a_reply_brings_besides_is_stored() {
    with_extra(|_| (), |it| assert_eq!(it.get(&2), Some(20)));
}

#[test]
fn what_is_older_than_the_batch_is_replaced_by_what_it_brings_besides() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(2, 2);
            let many = it.get_or_load_many(&[1], |_| Ok::<_, String>([(1, 10), (2, 20)]));
            assert_eq!(values(&many), [(1, 10, How::Loaded)]);
            assert_eq!(it.get(&2), Some(20));
        },
    );
}

/// otter, Caffeine.
#[test]
fn what_a_reply_brings_besides_does_not_overwrite_a_write() {
    with_extra(|it| it.insert(2, 7), |it| assert_eq!(it.get(&2), Some(7)));
    with_extra(|it| _ = it.remove(&2), |it| assert_eq!(it.get(&2), None));
    with_extra(|it| _ = it.expire(&2), |it| assert_eq!(it.get(&2), None));
    with_extra(|it| it.clear(), |it| assert_eq!((it.get(&2), it.get(&1)), (None, None)));
    with_extra(|it| _ = it.remove_if(|_, _| false), |it| assert_eq!(it.get(&2), None));
    with_extra(|it| it.at(&2).ttl(secs(0)).insert(7), |it| assert_eq!(it.get(&2), None));
}

#[test]
fn what_a_reply_brings_besides_does_not_overwrite_what_other_shards_got_meanwhile() {
    let it = checked(Cache::<u64, u64>::builder().max_entries(10_000).shards(64));
    let many = it.get_or_load_many(&[1], |_| {
        for key in 2..100 {
            if key % 2 == 0 {
                it.insert(key, 7);
            } else {
                it.get_or_load(&key, || Ok::<_, String>(7)).unwrap();
            }
        }
        Ok::<_, String>((1..200).map(|key| (key, 20)).collect::<Vec<_>>())
    });
    assert_eq!(many.got.len(), 1);
    assert!((2..100).all(|key| it.get(&key) == Some(7)));
    // of the rest some are kept out that share a place of the ledger with what was written
    assert!((100..200).filter(|key| it.get(key) == Some(20)).count() > 20);
    it.validate();
}

#[test]
fn what_a_reply_brings_besides_does_not_overwrite_another_load() {
    let load =
        |it: &Fixture, value| it.get_or_load_optional(&2, || Ok::<_, String>(value)).unwrap();
    with_extra(|it| _ = load(it, Some(7)), |it| assert_eq!(it.get(&2), Some(7)));
    with_extra(|it| _ = load(it, None), |it| assert_eq!(load(it, Some(7)), None));
}

#[test]
fn what_a_reply_brings_besides_leaves_a_load_in_flight_alone() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            let load = || async { gate.pass_async(Ok::<_, String>(7)).await };
            let mut other = Task::new(it.get_or_load_async(&2, load));
            other.pend();
            let many = it.get_or_load_many(&[1], |_| Ok::<_, String>([(1, 10), (2, 20)]));
            assert_eq!(values(&many), [(1, 10, How::Loaded)]);
            assert_eq!(it.get(&2), None);
            gate.open();
            assert_eq!(other.finish().unwrap(), 7);
            assert_eq!((it.get(&2), it.stats().fenced), (Some(7), 0));
        },
    );
}

#[test]
fn of_two_values_of_one_key_the_last_one_counts() {
    with_cache(
        |builder| builder,
        |it| {
            let many = it.get_or_load_many(&[1], |_| Ok::<_, String>([(1, 10), (1, 11)]));
            assert_eq!(values(&many), [(1, 11, How::Loaded)]);
        },
    );
}

#[test]
fn a_thread_and_a_task_get_the_same_batch() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let thread =
                    scope.spawn(|| it.get_or_load_many(&[1, 2], |keys| gate.pass(tens(keys))));
                gate.wait_until_entered(1);
                let task = scope
                    .spawn(|| block_on(it.get_or_load_many_async(&[2, 1], |_| pending::<Reply>())));
                it.wait_until_joined(2);
                gate.open();
                assert_eq!(thread.join().unwrap().got.len(), 2);
                let joined = [(2, 20, How::Joined), (1, 10, How::Joined)];
                assert_eq!(values(&task.join().unwrap()), joined);
            });
        },
    );
}

#[test]
fn its_future_goes_to_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    let cache: Cache<u64, u64> = Cache::new(10);
    is_send(&cache.get_or_load_many_async(&[1], |keys| ready(tens(&keys))));
}

#[test]
fn what_comes_unasked_is_stored_also_where_its_room_is_in_other_shards() {
    for seed in 0..20 {
        let hasher = ahash::RandomState::with_seeds(seed, 2, 3, 4);
        let builder = Cache::builder().max_weight(100).weigher(|_: &u64, value: &u64| *value);
        let cache = checked(builder.shards(16).seed(seed).hasher(hasher));
        cache.insert(0, 100);
        let reply = |_: &[u64]| Ok::<_, String>(vec![(1, 0), (2, 10)]);
        assert_eq!(cache.get_or_load_many(&[1], reply).got.len(), 1);
        assert_eq!((cache.get(&0), cache.get(&2)), (None, Some(10)), "seed {seed}");
    }
}

#[test]
fn all_that_comes_unasked_is_stored_however_much_it_is() {
    let it = checked(Cache::<u64, u64>::builder().max_entries(100_000));
    let reply = |_: &[u64]| {
        it.insert(7, 70);
        Ok::<_, String>((0..5_000).map(|key| (key, key)))
    };
    assert_eq!(it.get_or_load_many(&[0], reply).got.len(), 1);
    assert_eq!(it.get(&7), Some(70), "what was written meanwhile is newer");
    // one write keeps back what shares its place among those of late, a key of 256
    assert!(it.len() > 4_900, "{} of 5,000", it.len());
}
