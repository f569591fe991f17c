//! One load a key: threads that wait for each other's loads.

mod common;

use common::gate::Gate;
use common::{Fixture, secs, uncalled, with_cache};
use larder::{How, LoadError, LoadReason, Loaded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

/// A leader of key 1 that stops in its loader, and then returns `outcome`.
fn lead<'s, E: Send + Sync + 'static>(
    scope: &'s thread::Scope<'s, '_>,
    it: &'s Fixture,
    gate: &'s Gate,
    outcome: Result<u64, E>,
) -> thread::ScopedJoinHandle<'s, Result<u64, LoadError<E>>> {
    let leader = scope.spawn(|| it.get_or_load(&1, || gate.pass(outcome)));
    gate.wait_until_entered(1);
    leader
}

#[test]
fn many_threads_that_miss_one_key_share_one_load() {
    with_cache(
        |builder| builder,
        |it| {
            let (gate, calls) = (Gate::new(), AtomicUsize::new(0));
            thread::scope(|scope| {
                let callers: Vec<_> = (0..32)
                    .map(|_| {
                        scope.spawn(|| {
                            let load = |_: &_| {
                                calls.fetch_add(1, SeqCst);
                                Ok::<_, String>(gate.pass(10))
                            };
                            it.at(&1).load(load).unwrap()
                        })
                    })
                    .collect();
                it.wait_until_joined(31);
                gate.open();
                let got: Vec<_> =
                    callers.into_iter().map(|caller| caller.join().unwrap()).collect();
                assert!(got.iter().all(|got| got.value == 10));
                assert_eq!(got.iter().filter(|got| got.how == How::Loaded).count(), 1);
                assert_eq!(got.iter().filter(|got| got.how == How::Joined).count(), 31);
            });
            assert_eq!(calls.load(SeqCst), 1);
            let stats = it.stats();
            assert_eq!((stats.loads, stats.joined, stats.misses, stats.hits), (1, 31, 32, 0));
        },
    );
}

#[test]
fn a_call_that_comes_as_another_completes_does_not_load_again() {
    // no gate: callers come before, while and after the load lands, and all of them see it
    with_cache(
        |builder| builder,
        |it| {
            for round in 0..200 {
                let calls = AtomicUsize::new(0);
                thread::scope(|scope| {
                    let mut threads = Vec::new();
                    for _ in 0..4 {
                        threads.push(scope.spawn(|| {
                            let load = || {
                                calls.fetch_add(1, SeqCst);
                                Ok::<_, String>(round)
                            };
                            assert_eq!(it.get_or_load(&round, load).unwrap(), round);
                        }));
                    }
                    // the thread sanitizer sees a join, and not the end of a scope
                    for thread in threads {
                        thread.join().unwrap();
                    }
                });
                assert_eq!(calls.load(SeqCst), 1, "round {round}");
            }
        },
    );
}

#[test]
fn a_failed_load_fails_all_who_waited_with_one_error_and_one_call() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = lead(scope, it, &gate, Err("away".to_owned()));
                let waiters: Vec<_> =
                    (0..31).map(|_| scope.spawn(|| it.get_or_load(&1, uncalled))).collect();
                it.wait_until_joined(31);
                gate.open();
                let LoadError::Loader(first) = leader.join().unwrap().unwrap_err() else {
                    panic!("the loader's own error")
                };
                assert_eq!(*first, "away");
                for waiter in waiters {
                    let error = waiter.join().unwrap().unwrap_err();
                    assert!(matches!(error, LoadError::Loader(same) if Arc::ptr_eq(&same, &first)));
                }
            });
            let stats = it.stats();
            assert_eq!((stats.loads, stats.load_failures), (1, 1));
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10, "the key is free");
        },
    );
}

#[test]
fn a_waiter_whose_error_has_another_type_looks_again_and_leads() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = lead(scope, it, &gate, Err("away".to_owned()));
                let other = scope.spawn(|| it.get_or_load(&1, || Err::<u64, u32>(7)));
                it.wait_until_joined(1);
                gate.open();
                assert_eq!(leader.join().unwrap().unwrap_err().loader().unwrap(), "away");
                assert_eq!(other.join().unwrap().unwrap_err().loader(), Some(&7));
            });
            let stats = it.stats();
            assert_eq!((stats.loads, stats.joined, stats.misses), (2, 1, 2));
        },
    );
}

#[test]
fn a_waiter_of_another_error_type_gets_the_value_all_the_same() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = lead(scope, it, &gate, Ok::<_, String>(10));
                let other =
                    scope.spawn(|| it.get_or_load(&1, || -> Result<u64, u32> { unreachable!() }));
                it.wait_until_joined(1);
                gate.open();
                assert_eq!(
                    (leader.join().unwrap().unwrap(), other.join().unwrap().unwrap()),
                    (10, 10)
                );
            });
        },
    );
}

#[test]
fn a_panic_unwinds_its_thread_is_told_to_the_others_and_frees_the_key() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = scope.spawn(|| {
                    let load = || -> Result<u64, String> {
                        gate.pass(());
                        panic!("expected: a loader's")
                    };
                    catch_unwind(AssertUnwindSafe(|| it.get_or_load(&1, load))).unwrap_err()
                });
                gate.wait_until_entered(1);
                let waiters: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| it.get_or_load(&1, uncalled))).collect();
                let maker = scope.spawn(|| it.get_or_insert_with(&1, || 30));
                it.wait_until_joined(4);
                gate.open();
                let payload = leader.join().unwrap();
                assert_eq!(payload.downcast_ref(), Some(&"expected: a loader's"));
                for waiter in waiters {
                    assert!(waiter.join().unwrap().unwrap_err().is_panic());
                }
                assert_eq!(maker.join().unwrap(), 30, "who must have a value makes it");
            });
            assert_eq!(it.get(&1), Some(30));
            assert_eq!(it.stats().load_failures, 1);
        },
    );
}

#[test]
fn after_a_panic_the_next_call_loads() {
    with_cache(
        |builder| builder,
        |it| {
            let load = || -> Result<u64, String> { panic!("expected: a loader's") };
            catch_unwind(AssertUnwindSafe(|| it.get_or_load(&1, load))).unwrap_err();
            assert_eq!((it.flights(), it.len()), (0, 0));
            catch_unwind(AssertUnwindSafe(|| it.get_or_insert_with(&1, || panic!("expected"))))
                .unwrap_err();
            assert_eq!((it.flights(), it.len()), (0, 0));
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(20)).unwrap(), 20);
        },
    );
}

#[test]
fn not_found_is_told_to_all_who_waited() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = scope
                    .spawn(|| it.get_or_load_optional(&1, || Ok::<_, String>(gate.pass(None))));
                gate.wait_until_entered(1);
                let plain = scope.spawn(|| it.get_or_load(&1, uncalled));
                let optional = scope.spawn(|| it.get_or_load_optional(&1, uncalled));
                let maker = scope.spawn(|| it.get_or_insert_with(&1, || 30));
                it.wait_until_joined(3);
                gate.open();
                assert_eq!(leader.join().unwrap().unwrap(), None);
                assert!(plain.join().unwrap().unwrap_err().is_not_found());
                assert_eq!(optional.join().unwrap().unwrap(), None);
                assert_eq!(maker.join().unwrap(), 30);
            });
        },
    );
}

#[test]
fn get_or_insert_with_answers_a_failure_by_its_own_closure() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = lead(scope, it, &gate, Err("away".to_owned()));
                let maker = scope.spawn(|| it.get_or_insert_with(&1, || 30));
                it.wait_until_joined(1);
                gate.open();
                leader.join().unwrap().unwrap_err();
                assert_eq!(maker.join().unwrap(), 30);
            });
            assert_eq!(it.get(&1), Some(30));
            assert_eq!(it.get_or_insert_with(&1, || unreachable!()), 30);
        },
    );
}

#[test]
fn a_stalled_load_of_one_key_holds_up_no_other_key_of_its_shard() {
    with_cache(
        |builder| builder.shards(1),
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = lead(scope, it, &gate, Ok::<_, String>(10));
                for key in 2..500 {
                    assert_eq!(it.get_or_load(&key, || Ok::<_, String>(key)).unwrap(), key);
                    it.insert(key, key + 1);
                    assert_eq!(it.get(&key), Some(key + 1));
                }
                assert_eq!(it.remove(&2), Some(3));
                assert_eq!(it.entries().count(), 497);
                gate.open();
                assert_eq!(leader.join().unwrap().unwrap(), 10);
            });
        },
    );
}

#[test]
fn a_loader_that_asks_for_its_own_key_is_told_so() {
    with_cache(
        |builder| builder.shards(1),
        |it| {
            let value = it.get_or_load(&1, || {
                let own = it.get_or_load(&1, uncalled);
                assert!(own.unwrap_err().is_recursive());
                let own = it.at(&1).load(|_| uncalled::<u64>());
                assert!(own.unwrap_err().is_recursive());
                assert_eq!(it.get_or_insert_with(&1, || 5), 5, "it can always make one");
                assert_eq!(it.get(&1), None, "and leaves the storing to the load");
                Ok::<_, String>(10)
            });
            assert_eq!(value.unwrap(), 10);
            assert_eq!(it.get(&1), Some(10));
        },
    );
}

#[test]
fn loads_nest_and_a_ring_of_them_is_recursive() {
    with_cache(
        |builder| builder.shards(1),
        |it| {
            let sum = it.get_or_load(&1, || {
                let two = it.get_or_load(&2, || {
                    let three = it.get_or_load(&3, || {
                        assert!(it.get_or_load(&1, uncalled).unwrap_err().is_recursive());
                        assert!(it.get_or_load(&2, uncalled).unwrap_err().is_recursive());
                        Ok::<_, String>(3)
                    });
                    three.map(|three| three + 2)
                });
                two.map(|two| two + 1)
            });
            assert_eq!(sum.unwrap(), 6);
            assert_eq!((it.get(&2), it.get(&3)), (Some(5), Some(3)));
        },
    );
}

#[test]
fn the_same_key_of_another_cache_is_another_key() {
    with_cache(
        |builder| builder,
        |it| {
            let other = larder::Cache::<u64, u64>::new(10);
            let value = it.get_or_load(&1, || other.get_or_load(&1, || Ok::<_, String>(10)));
            assert_eq!(value.unwrap(), 10);
            other.validate();
        },
    );
}

#[test]
fn a_hit_calls_no_closure() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            assert_eq!(it.get_or_load(&1, uncalled).unwrap(), 10);
            assert_eq!(it.get_or_insert_with(&1, || unreachable!()), 10);
            assert_eq!(it.get_or_load_optional(&1, uncalled).unwrap(), Some(10));
            assert_eq!(it.at(&1).load(|_| uncalled::<u64>()).unwrap().how, How::Fresh);
            assert_eq!((it.stats().hits, it.stats().loads), (4, 0));
        },
    );
}

#[test]
fn a_loader_sees_why_it_was_called_and_whether_it_is_still_wanted() {
    with_cache(
        |builder| builder.time_to_live(secs(1)).load_timeout(secs(5)),
        |it| {
            let got = it.at(&1).load(|cx| {
                assert_eq!((cx.reason(), cx.is_abandoned()), (LoadReason::Miss, false));
                it.insert(2, 2);
                assert!(!cx.is_abandoned(), "that was another key");
                it.remove(&1);
                assert!(cx.is_abandoned());
                Ok::<_, String>(10)
            });
            assert_eq!(got.unwrap().value, 10);
            it.insert(1, 10);
            it.advance(secs(1));
            let got = it.at(&1).load(|cx| {
                assert_eq!(cx.reason(), LoadReason::Expired);
                Ok::<_, String>(Loaded::new(11).no_store())
            });
            assert_eq!((got.unwrap().value, it.get(&1)), (11, None), "told not to be stored");
        },
    );
}
