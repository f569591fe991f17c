//! The three ages of a value, to the tick, and who is served what in them.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Fixture, checked, ms, secs, uncalled, with_cache};
use larder::{Cache, CacheBuilder, Clock, How, LoadError, Loaded, RemovalCause, StaleWhy};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::thread;
use std::time::Duration;

const TTL: u64 = 100;

/// A cache with these windows, in milliseconds.
fn windows(
    revalidate: u64,
    on_error: u64,
) -> impl Fn(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64> {
    move |builder| {
        builder
            .time_to_live(ms(TTL))
            .stale_while_revalidate(ms(revalidate))
            .stale_if_error(ms(on_error))
            // each look is to be one at the source
            .error_backoff(ms(0), ms(0))
    }
}

fn how(it: &Fixture, key: u64, load: impl FnOnce() -> Result<u64, String>) -> Option<(u64, How)> {
    let got = it.at(&key).load(|_| load()).ok()?;
    Some((got.value, got.how))
}

fn away<T>() -> Result<T, String> {
    Err("away".to_owned())
}

/// What a value of key 1, which is 10, is good for now. Leaves it as it is.
fn shown(it: &Fixture) -> &'static str {
    let other = AtomicU64::new(0);
    // while this caller is at the source, another one asks
    let failed = it.at(&1).load(|_| {
        let asked = it.at(&1).load(|_| -> Result<u64, String> { unreachable!("one load a key") });
        other.store(u64::from(asked.is_ok()), SeqCst);
        if let Ok(asked) = asked {
            assert_eq!((asked.value, asked.how), (10, How::Stale(StaleWhy::Revalidating)));
        }
        away::<u64>()
    });
    let stale = it.peek(&1).map(|got| got.how);
    match (failed.map(|got| got.how), other.into_inner()) {
        (Ok(How::Fresh), _) => {
            assert_eq!((stale, it.get(&1)), (Some(How::Fresh), Some(10)));
            "fresh"
        }
        (Ok(How::Stale(StaleWhy::LoadFailed)), asked) => {
            assert_eq!(stale, Some(How::Stale(StaleWhy::Expired)));
            assert_eq!((it.get(&1), it.contains(&1), it.entries().count()), (None, false, 0));
            assert_eq!((it.sweep(), it.len()), (0, 1), "it is kept");
            if asked == 1 { "revalidate" } else { "error only" }
        }
        (Err(LoadError::Loader(_)), _) => {
            assert_eq!((stale, it.get(&1), it.contains(&1)), (None, None, false));
            "gone"
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fresh_revalidate_error_only_gone_to_the_tick() {
    for (revalidate, on_error, ages) in [
        (0, 0, vec![(0, "fresh"), (100, "gone")]),
        (30, 0, vec![(0, "fresh"), (100, "revalidate"), (130, "gone")]),
        (0, 50, vec![(0, "fresh"), (100, "error only"), (150, "gone")]),
        (30, 50, vec![(0, "fresh"), (100, "revalidate"), (130, "error only"), (150, "gone")]),
        (50, 30, vec![(0, "fresh"), (100, "revalidate"), (150, "gone")]),
        (30, 30, vec![(0, "fresh"), (100, "revalidate"), (130, "gone")]),
    ] {
        // serving stale on every tick moves no end
        for step in [1, 10, 1_000] {
            with_cache(windows(revalidate, on_error), |it| {
                it.insert(1, 10);
                for tick in 0..=160 {
                    let is_end = ages.iter().any(|(at, _)| *at == tick || *at == tick + 1);
                    if tick % step == 0 || is_end {
                        let age = ages.iter().rev().find(|(at, _)| *at <= tick).unwrap().1;
                        assert_eq!(shown(it), age, "{revalidate}, {on_error}: at {tick} ms");
                    }
                    it.advance(ms(1));
                }
                it.sweep();
                assert_eq!((it.len(), it.weight()), (0, 0));
                assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Expired)]);
            });
        }
    }
}

#[test]
fn both_windows_count_from_the_expiry_whatever_the_life_was() {
    with_cache(windows(30, 50), |it| {
        it.at(&1).ttl(ms(7)).insert(10);
        it.advance(ms(7));
        assert_eq!(shown(it), "revalidate");
        it.advance(ms(30));
        assert_eq!(shown(it), "error only");
        it.advance(ms(20));
        assert_eq!(shown(it), "gone");
        let loaded = || Ok::<_, String>(Loaded::new(10).ttl(ms(500)));
        it.at(&1).load(|_| loaded()).unwrap();
        it.advance(ms(549));
        assert_eq!(shown(it), "error only");
        it.advance(ms(1));
        assert_eq!(shown(it), "gone");
    });
}

#[test]
fn expire_opens_the_windows_now_and_does_not_open_them_again() {
    with_cache(windows(30, 50), |it| {
        it.insert(1, 10);
        it.advance(ms(10));
        assert!(it.expire(&1));
        assert_eq!(shown(it), "revalidate");
        it.advance(ms(20));
        assert!(!it.expire(&1), "its life is over already");
        it.advance(ms(10));
        assert_eq!(shown(it), "error only");
        assert!(!it.expire(&1));
        it.advance(ms(20));
        assert_eq!(shown(it), "gone");
        assert!(!it.expire(&1));
        assert_eq!(shown(it), "gone");
    });
}

#[test]
fn removed_is_not_stale() {
    with_cache(windows(30, 50), |it| {
        let gone: [&dyn Fn(); 4] = [
            &|| assert_eq!(it.remove(&1), None, "it was not fresh"),
            &|| it.clear(),
            &|| assert_eq!(it.remove_if(|_, value| *value == 10), 1),
            &|| it.at(&1).ttl(ms(0)).insert(11),
        ];
        for (nth, remove) in gone.into_iter().enumerate() {
            it.removals.take();
            it.insert(1, 10);
            it.advance(ms(TTL + 10));
            remove();
            assert_eq!(it.removals.take()[0], (1, 10, RemovalCause::Removed));
            assert_eq!((it.peek(&1), it.len()), (None, 0));
            assert!(how(it, 1, away).is_none(), "{nth}");
            // and before its life was over
            it.insert(1, 10);
            remove_fresh(it, nth);
            it.advance(ms(TTL + 10));
            assert!(how(it, 1, away).is_none(), "{nth}");
        }
    });
}

fn remove_fresh(it: &Fixture, nth: usize) {
    match nth {
        0 => assert_eq!(it.remove(&1), Some(10)),
        1 => it.clear(),
        2 => assert_eq!(it.remove_if(|_, value| *value == 10), 1),
        _ => it.at(&1).ttl(ms(0)).insert(11),
    }
}

#[test]
fn removed_while_its_successor_loads_is_not_served_for_that_ones_error() {
    with_cache(windows(30, 50), |it| {
        it.insert(1, 10);
        it.advance(ms(TTL + 10));
        let failed = it.get_or_load(&1, || {
            it.remove(&1);
            away()
        });
        assert_eq!(failed.unwrap_err().loader().unwrap(), "away");
    });
}

#[test]
fn what_leaves_within_a_window_has_not_expired() {
    with_cache(windows(30, 50), |it| {
        it.insert(1, 10);
        it.advance(ms(TTL + 10));
        assert_eq!(how(it, 1, || Ok(11)), Some((11, How::Loaded)));
        assert_eq!(it.removals.take(), [(1, 10, RemovalCause::Replaced)]);
        it.advance(ms(TTL + 50));
        assert_eq!(how(it, 1, || Ok(12)), Some((12, How::Loaded)));
        assert_eq!(it.removals.take(), [(1, 11, RemovalCause::Expired)]);
    });
}

#[test]
fn idle_expiry_opens_no_window() {
    with_cache(
        |builder| windows(30, 50)(builder).time_to_idle(ms(40)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(39));
            assert_eq!(shown(it), "fresh");
            it.advance(ms(40));
            assert_eq!(shown(it), "gone");
            assert!(!it.expire(&1), "no window by the back door");
            assert_eq!(shown(it), "gone");
            // what is used to its end has them both, in full
            it.insert(1, 10);
            for _ in 0..10 {
                it.advance(ms(10));
                it.get(&1);
            }
            assert_eq!(shown(it), "revalidate");
            it.advance(ms(49));
            assert_eq!(shown(it), "error only");
            it.advance(ms(1));
            assert_eq!(shown(it), "gone");
        },
    );
}

#[test]
fn not_found_has_no_window() {
    with_cache(
        |builder| windows(30, 50)(builder).negative_ttl(ms(20)),
        |it| {
            it.at(&1).load(|_| Ok::<_, String>(None)).unwrap_err();
            it.advance(ms(20));
            let failed = it.get_or_load(&1, away);
            assert!(failed.unwrap_err().loader().is_some(), "a stale \"not found\" says nothing");
            assert_eq!(it.sweep(), 1);
            // but it takes the place of a stale value, which is never served again
            it.insert(1, 10);
            it.advance(ms(TTL));
            assert_eq!(it.get_or_load_optional(&1, || Ok::<_, String>(None)).unwrap(), None);
            it.advance(ms(20));
            assert!(it.get_or_load(&1, away).is_err());
        },
    );
}

#[test]
fn stale_in_the_plain_calls_too() {
    with_cache(windows(30, 50), |it| {
        it.insert(1, 10);
        it.advance(ms(TTL));
        let served = it.get_or_load(&1, || {
            assert_eq!(it.get_or_load(&1, uncalled).unwrap(), 10);
            assert_eq!(it.get_or_load_optional(&1, uncalled).unwrap(), Some(10));
            assert_eq!(it.get_or_insert_with(&1, || unreachable!()), 10);
            let tasks = async {
                let load = || async { uncalled::<u64>() };
                assert_eq!(it.get_or_load_async(&1, load).await.unwrap(), 10);
                let load = || async { uncalled::<Option<u64>>() };
                assert_eq!(it.get_or_load_optional_async(&1, load).await.unwrap(), Some(10));
                let make = || async { unreachable!() };
                assert_eq!(it.get_or_insert_with_async(&1, make).await, 10);
            };
            block_on(tasks);
            let many = it.get_or_load_many(&[1], |_| uncalled::<Vec<_>>());
            assert_eq!(many.got[0].1.how, How::Stale(StaleWhy::Revalidating));
            away()
        });
        assert_eq!(served.unwrap(), 10);
        it.advance(ms(30));
        assert_eq!(it.get_or_load_optional(&1, away).unwrap(), Some(10));
        let task = it.get_or_load_async(&1, || async { away::<u64>() });
        assert_eq!(block_on(task).unwrap(), 10);
        let many = it.get_or_load_many(&[1, 2], |_| away::<Vec<(u64, u64)>>());
        assert_eq!((many.got.len(), many.failed), (1, vec![2]));
        assert_eq!(it.get_or_insert_with(&1, || 11), 11);
        assert_eq!(it.get(&1), Some(11));
    });
}

#[test]
fn in_the_error_only_window_all_wait_for_one_load() {
    with_cache(windows(0, 50), |it| {
        for fails in [true, false] {
            it.insert(1, 10);
            it.advance(ms(TTL));
            let gate = Gate::new();
            let joined = it.stats().joined;
            thread::scope(|scope| {
                let load = || it.at(&1).load(|_| gate.pass(if fails { away() } else { Ok(11) }));
                let leader = scope.spawn(load);
                gate.wait_until_entered(1);
                let others: Vec<_> = (0..3).map(|_| scope.spawn(load)).collect();
                let mut task = Task::new(it.at(&1).load_async(|_| async { uncalled::<u64>() }));
                task.pend();
                it.wait_until_joined(joined + 4);
                gate.open();
                let led = leader.join().unwrap().unwrap();
                let mut got: Vec<_> = others.into_iter().map(|o| o.join().unwrap()).collect();
                got.push(task.finish());
                let expected = if fails {
                    (10, How::Stale(StaleWhy::LoadFailed), How::Stale(StaleWhy::LoadFailed))
                } else {
                    (11, How::Loaded, How::Joined)
                };
                assert_eq!((led.value, led.how), (expected.0, expected.1));
                for got in got {
                    let got = got.unwrap();
                    assert_eq!((got.value, got.how), (expected.0, expected.2));
                }
            });
            assert_eq!(gate.entered(), 1);
        }
    });
}

#[test]
fn a_window_that_ends_during_the_load_ends() {
    with_cache(windows(30, 50), |it| {
        it.insert(1, 10);
        it.advance(ms(TTL + 49));
        let failed = it.get_or_load(&1, || {
            it.advance(ms(1));
            away()
        });
        assert!(failed.is_err());
    });
}

#[test]
fn of_many_keys_one_whose_load_failed_is_served_before_the_others_are_waited_for() {
    with_cache(windows(0, 100), |it| {
        it.insert(1, 10);
        it.advance(ms(150));
        let gate = Gate::new();
        let mut other =
            Task::new(it.get_or_load_async(&2, || gate.pass_async(Ok::<_, String>(20))));
        other.pend();
        let keys = [1, 2];
        let load = |_| async { away::<Vec<(u64, u64)>>() };
        let mut many = Task::new(it.get_or_load_many_async(&keys, load));
        many.pend();
        it.advance(ms(50));
        gate.open();
        other.finish().unwrap();
        let many = many.finish();
        let got: Vec<_> = many.got.iter().map(|(_, got)| (got.value, got.how)).collect();
        assert_eq!(got, [(10, How::Stale(StaleWhy::LoadFailed)), (20, How::Joined)]);
    });
}

#[test]
fn a_leader_that_panics_unwinds_and_the_others_are_served() {
    with_cache(windows(0, 50), |it| {
        it.insert(1, 10);
        it.advance(ms(TTL));
        let gate = Gate::new();
        thread::scope(|scope| {
            let leader = scope.spawn(|| {
                let load = || {
                    it.get_or_load(&1, || -> Result<u64, String> {
                        gate.pass(());
                        panic!("expected: a loader's own")
                    })
                };
                catch_unwind(AssertUnwindSafe(load)).is_err()
            });
            gate.wait_until_entered(1);
            let joined = it.stats().joined;
            let waiter = scope.spawn(|| how(it, 1, uncalled));
            it.wait_until_joined(joined + 1);
            gate.open();
            assert!(leader.join().unwrap());
            assert_eq!(waiter.join().unwrap(), Some((10, How::Stale(StaleWhy::LoadFailed))));
        });
    });
}

#[test]
fn a_hung_loader_frees_its_callers_at_the_soft_timeout_and_its_key_at_the_hard_one() {
    with_cache(
        |builder| windows(30, 1_000)(builder).soft_timeout(ms(20)).load_timeout(ms(200)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(TTL + 30));
            let mut hung =
                Task::new(it.at(&1).load_async(|_| std::future::pending::<Result<u64, String>>()));
            hung.pend();
            let mut early = Task::new(it.at(&1).load_async(|_| async { uncalled::<u64>() }));
            let mut plain = Task::new(it.get_or_load_async(&1, || async { uncalled() }));
            early.pend();
            plain.pend();
            it.advance(ms(19));
            early.pend();
            it.advance(ms(1));
            assert_eq!((early.wakes(), plain.wakes(), hung.wakes()), (1, 1, 0));
            assert_eq!(early.finish().unwrap().how, How::Stale(StaleWhy::SoftTimeout));
            assert_eq!(plain.finish().unwrap(), 10);
            // who comes after it does not wait at all
            assert_eq!(how(it, 1, uncalled), Some((10, How::Stale(StaleWhy::SoftTimeout))));
            it.advance(ms(179));
            hung.pend();
            it.advance(ms(1));
            let timed_out: larder::Got<u64> = match hung.poll() {
                Poll::Ready(got) => got.unwrap(),
                Poll::Pending => panic!("it has lost its key"),
            };
            assert_eq!(timed_out.how, How::Stale(StaleWhy::LoadFailed));
            assert_eq!(it.stats().load_timeouts, 1);
            assert_eq!(how(it, 1, || Ok(11)), Some((11, How::Loaded)), "the next one leads");
        },
    );
}

#[test]
fn the_late_result_of_a_hung_blocking_loader_is_dropped() {
    with_cache(
        |builder| windows(0, 1_000)(builder).soft_timeout(ms(20)).load_timeout(ms(200)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(TTL));
            let gate = Gate::new();
            thread::scope(|scope| {
                let hung = scope.spawn(|| how(it, 1, || gate.pass(Ok(11))));
                gate.wait_until_entered(1);
                let joined = it.stats().joined;
                let waiter = scope.spawn(|| how(it, 1, uncalled));
                it.wait_until_joined(joined + 1);
                it.advance(ms(20));
                assert_eq!(waiter.join().unwrap(), Some((10, How::Stale(StaleWhy::SoftTimeout))));
                it.advance(ms(180));
                assert_eq!(how(it, 1, || Ok(12)), Some((12, How::Loaded)), "the next one leads");
                gate.open();
                assert_eq!(hung.join().unwrap(), Some((11, How::Loaded)), "its own is its own");
                assert_eq!(it.get(&1), Some(12));
            });
        },
    );
}

#[test]
fn without_a_stale_value_a_soft_timeout_says_nothing() {
    with_cache(
        |builder| windows(30, 50)(builder).soft_timeout(ms(20)).load_timeout(ms(200)),
        |it| {
            let mut hung = Task::new(it.get_or_load_async(&1, std::future::pending));
            hung.pend();
            let mut waiter = Task::new(it.get_or_load_async(&1, || async { uncalled() }));
            waiter.pend();
            it.advance(ms(199));
            waiter.pend();
            it.advance(ms(1));
            assert!(waiter.finish().unwrap_err().is_timeout());
            let led: Result<u64, LoadError<String>> = hung.finish();
            assert!(led.unwrap_err().is_timeout());
        },
    );
}

#[test]
fn windows_of_any_length_at_any_time() {
    let year = 365 * 86_400;
    for start in [0, 34 * year, 69 * year, 70 * year, u64::MAX] {
        let (clock, hand) = Clock::manual_at(secs(start));
        let cache = checked(
            Cache::<u64, u64>::builder()
                .max_entries(100)
                .time_to_live(ms(5))
                .stale_while_revalidate(Duration::MAX)
                .stale_if_error(Duration::MAX)
                .soft_timeout(Duration::MAX)
                .error_backoff(Duration::MAX, Duration::MAX)
                .clock(clock),
        );
        cache.insert(1, 10);
        cache.at(&2).ttl(Duration::MAX).insert(20);
        assert!(cache.expire(&1) && cache.expire(&2));
        hand.advance(secs(year));
        for key in [1, 2] {
            let stale = cache.at(&key).timeout(Duration::MAX).load(|_| Err::<u64, _>("away"));
            assert_eq!(stale.unwrap().value, key * 10, "from {start} s");
            assert_eq!(cache.get_or_load(&key, uncalled).unwrap(), key * 10);
        }
        hand.advance(Duration::MAX);
        assert_eq!(cache.sweep(), 0, "a window without an end has none");
        assert_eq!(cache.len(), 2);
    }
}

#[test]
fn every_look_up_counts_once_as_what_it_was_answered_with() {
    with_cache(windows(30, 50), |it| {
        it.insert(1, 10);
        it.get_or_load(&1, uncalled).unwrap();
        it.advance(ms(TTL));
        let before = it.stats();
        it.get_or_load(&1, away).unwrap();
        assert_eq!(it.get(&1), None);
        it.at(&1).load(|_| away::<u64>()).unwrap();
        block_on(it.get_or_load_async(&1, || async { away::<u64>() })).unwrap();
        it.get_or_load(&2, away).unwrap_err();
        it.get_or_load(&1, || Ok::<_, String>(11)).unwrap();
        it.get_or_load(&1, uncalled).unwrap();
        it.advance(ms(TTL));
        drop(Task::new(it.get_or_load_async(&1, || async { away::<u64>() })));
        let mut dropped =
            Task::new(it.get_or_load_async(&1, std::future::pending::<Result<u64, String>>));
        dropped.pend();
        drop(dropped);
        let stats = it.stats().since(&before);
        assert_eq!((stats.hits, stats.stale_hits, stats.misses), (1, 3, 4));
        assert_eq!(stats.load_failures, 4);
    });
}
