//! Writes during a load, and loads that take too long: what may be stored, and who gets what.

mod common;

use common::gate::Gate;
use common::{Fixture, ms, secs, uncalled, with_cache};
use larder::LoadError;
use std::thread;
use std::time::Duration;

/// `write` comes while key 1 is loading: the leader and who waits get the loaded value, which is
/// not stored; who comes after the write finds what it `left`, or loads anew at once.
fn a_later_write_wins(write: impl Fn(&Fixture), left: Option<u64>) {
    with_cache(
        |builder| builder.time_to_live(secs(10)),
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
                gate.wait_until_entered(1);
                let waiter = scope.spawn(|| it.get_or_load(&1, uncalled));
                it.wait_until_joined(1);
                write(it);
                assert_eq!(it.get(&1), left);
                // the old load is still in flight, and nobody joins it
                let after = it.get_or_load(&1, || Ok::<_, String>(20)).unwrap();
                assert_eq!(after, left.unwrap_or(20));
                gate.open();
                assert_eq!(leader.join().unwrap().unwrap(), 10);
                assert_eq!(waiter.join().unwrap().unwrap(), 10);
                assert_eq!(it.get(&1), Some(after), "the old load landed after the new one");
            });
            assert_eq!((it.stats().fenced, it.flights()), (1, 0));
        },
    );
    with_cache(
        |builder| builder.time_to_live(secs(10)),
        |it| {
            let load = || {
                write(it);
                Ok::<_, String>(10)
            };
            assert_eq!(it.get_or_load(&1, load).unwrap(), 10);
            assert_eq!(it.get(&1), left, "the write came from the loader itself");
            assert_eq!(it.stats().fenced, 1);
        },
    );
}

#[test]
fn an_insert_during_a_load_wins() {
    a_later_write_wins(|it| it.insert(1, 30), Some(30));
    a_later_write_wins(|it| it.at(&1).ttl(ms(5)).insert(30), Some(30));
}

#[test]
fn an_insert_that_lives_for_no_time_wins_too() {
    a_later_write_wins(|it| it.at(&1).ttl(Duration::ZERO).insert(30), None);
}

#[test]
fn a_removal_during_a_load_wins() {
    a_later_write_wins(|it| assert_eq!(it.remove(&1), None), None);
}

#[test]
fn an_expiry_during_a_load_wins() {
    a_later_write_wins(|it| assert!(!it.expire(&1)), None);
}

#[test]
fn a_clear_during_a_load_wins() {
    a_later_write_wins(|it| it.clear(), None);
}

#[test]
fn a_remove_if_during_a_load_wins_whatever_its_predicate() {
    a_later_write_wins(|it| assert_eq!(it.remove_if(|_, _| false), 0), None);
}

#[test]
fn a_write_to_another_key_leaves_a_load_alone() {
    with_cache(
        |builder| builder,
        |it| {
            let load = || {
                for key in 2..300 {
                    it.insert(key, key);
                    it.expire(&key);
                    it.remove(&key);
                }
                Ok::<_, String>(10)
            };
            it.get_or_load(&1, load).unwrap();
            assert_eq!((it.get(&1), it.stats().fenced), (Some(10), 0));
        },
    );
}

#[test]
fn reading_and_evicting_and_sweeping_fence_nothing() {
    with_cache(
        |builder| builder.time_to_live(secs(1)),
        |it| {
            it.insert(1, 9);
            it.advance(secs(1));
            let load = || {
                for key in 2..3_000 {
                    it.insert(key, key);
                }
                it.sweep();
                assert_eq!((it.get(&1), it.contains(&1)), (None, false));
                Ok::<_, String>(10)
            };
            it.get_or_load(&1, load).unwrap();
            assert_eq!((it.get(&1), it.stats().fenced), (Some(10), 0));
        },
    );
}

#[test]
fn a_failure_that_lost_its_key_frees_nobody_elses() {
    with_cache(
        |builder| builder,
        |it| {
            let (old, new) = (Gate::new(), Gate::new());
            thread::scope(|scope| {
                let failing =
                    scope.spawn(|| it.get_or_load(&1, || old.pass(Err("old".to_owned()))));
                old.wait_until_entered(1);
                it.remove(&1);
                let leader = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(new.pass(10))));
                new.wait_until_entered(1);
                old.open();
                failing.join().unwrap().unwrap_err();
                assert_eq!(it.flights(), 1, "the newer load has its key");
                let waiter = scope.spawn(|| it.get_or_load(&1, uncalled));
                it.wait_until_joined(1);
                new.open();
                assert_eq!(leader.join().unwrap().unwrap(), 10);
                assert_eq!(waiter.join().unwrap().unwrap(), 10);
            });
            assert_eq!(it.get(&1), Some(10));
        },
    );
}

#[test]
fn at_its_timeout_a_load_loses_its_key_and_frees_who_waits() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let late = scope.spawn(|| {
                    it.at(&1).load(|cx| {
                        gate.pass(());
                        assert!(cx.is_abandoned());
                        Ok::<_, String>(10)
                    })
                });
                gate.wait_until_entered(1);
                it.advance(secs(4));
                // it counts from when the loader started, not from when they came
                let waiters: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| it.get_or_load(&1, uncalled))).collect();
                it.wait_until_joined(3);
                it.advance(ms(999));
                assert_eq!(it.flights(), 1);
                it.advance(ms(1));
                for waiter in waiters {
                    assert!(waiter.join().unwrap().unwrap_err().is_timeout());
                }
                assert_eq!(it.get_or_load(&1, || Ok::<_, String>(20)).unwrap(), 20);
                gate.open();
                assert_eq!(late.join().unwrap().unwrap().value, 10, "nobody can interrupt it");
            });
            assert_eq!(it.get(&1), Some(20), "and nobody stores it");
            let stats = it.stats();
            assert_eq!((stats.load_timeouts, stats.fenced, stats.load_failures), (1, 0, 0));
        },
    );
}

#[test]
fn the_next_caller_leads_where_nobody_waited_for_the_timeout() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let late = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
                gate.wait_until_entered(1);
                it.advance(secs(5));
                assert_eq!(it.get_or_load(&1, || Ok::<_, String>(20)).unwrap(), 20);
                gate.open();
                assert_eq!(late.join().unwrap().unwrap(), 10);
            });
            assert_eq!((it.get(&1), it.stats().load_timeouts), (Some(20), 1));
        },
    );
}

#[test]
fn a_late_result_is_not_stored_though_nobody_noticed_that_it_was_late() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let late = || {
                it.advance(secs(5));
                Ok::<_, String>(10)
            };
            assert_eq!(it.get_or_load(&1, late).unwrap(), 10);
            assert_eq!((it.get(&1), it.stats().load_timeouts), (None, 1));
        },
    );
}

#[test]
fn a_load_may_take_a_minute_unless_something_else_is_said() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let leader = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
                gate.wait_until_entered(1);
                it.advance(ms(59_999));
                let waiter = scope.spawn(|| it.get_or_load(&1, uncalled));
                it.wait_until_joined(1);
                it.advance(ms(1));
                assert!(matches!(waiter.join().unwrap(), Err(LoadError::TimedOut)));
                gate.open();
                leader.join().unwrap().unwrap();
            });
        },
    );
}

#[test]
fn get_or_insert_with_answers_a_timeout_by_its_own_closure() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let late = scope.spawn(|| it.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
                gate.wait_until_entered(1);
                let maker = scope.spawn(|| it.get_or_insert_with(&1, || 30));
                it.wait_until_joined(1);
                it.advance(secs(5));
                assert_eq!(maker.join().unwrap(), 30);
                gate.open();
                late.join().unwrap().unwrap();
            });
            assert_eq!(it.get(&1), Some(30));
        },
    );
}

#[test]
fn threads_that_wait_for_each_others_keys_are_freed_by_the_timeout() {
    with_cache(
        |builder| builder.load_timeout(secs(5)),
        |it| {
            let (first, second) = (Gate::new(), Gate::new());
            let ring = |own: u64, other: u64, mine: &Gate| {
                it.get_or_load(&own, || {
                    mine.pass(());
                    it.get_or_load(&other, || Ok::<_, u32>(other))
                })
            };
            thread::scope(|scope| {
                let one = scope.spawn(|| ring(1, 2, &first).is_ok());
                let two = scope.spawn(|| ring(2, 1, &second).is_ok());
                first.wait_until_entered(1);
                second.wait_until_entered(1);
                first.open();
                second.open();
                it.wait_until_joined(2);
                it.advance(secs(5));
                // one finds the other timed out; what they make of it is their own
                let _ = (one.join().unwrap(), two.join().unwrap());
            });
            assert!(it.get_or_load(&1, || Ok::<_, String>(10)).is_ok());
        },
    );
}
