//! What one caller says about its own call, and what a loader sees and says about its own load.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Fixture, checked, ms, uncalled, with_cache};
use larder::{Cache, CacheBuilder, Clock, Got, How, LoadError, LoadReason, Loaded, StaleWhy};
use parking_lot::Mutex;
use std::future::pending;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn windows(builder: CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64> {
    builder.time_to_live(ms(100)).stale_while_revalidate(ms(30)).stale_if_error(ms(50))
}

fn away<T>() -> Result<T, String> {
    Err("away".to_owned())
}

fn seen(got: Result<Got<u64>, LoadError<String>>) -> (u64, How) {
    let got = got.unwrap();
    (got.value, got.how)
}

#[test]
fn a_value_that_its_caller_refuses_is_not_used_by_it() {
    with_cache(
        |builder| builder.time_to_idle(ms(100)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(60));
            let refused = it.at(&1).max_age(ms(59)).load(|_| away::<u64>());
            assert!(refused.is_err());
            it.advance(ms(39));
            assert!(it.contains(&1));
            it.advance(ms(1));
            assert!(!it.contains(&1), "it was not used for 100 ms");
        },
    );
}

#[test]
fn nobody_is_served_a_value_older_than_what_it_accepts() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            it.advance(ms(1));
            let at = |nanos| it.at(&1).max_age(Duration::from_nanos(nanos));
            assert_eq!(seen(at(1_999_999).load(|_| uncalled::<u64>())), (10, How::Fresh));
            assert_eq!(seen(at(1_000_000).load(|_| uncalled::<u64>())), (10, How::Fresh));
            assert_eq!(seen(at(999_999).load(|_| Ok(11))), (11, How::Loaded));
            it.advance(ms(1));
            assert_eq!(seen(at(1).load(|_| Ok(12))), (12, How::Loaded));
        },
    );
}

#[test]
fn a_caller_that_wants_younger_values_loads_and_others_do_not() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        it.advance(ms(20));
        let at = |age| it.at(&1).max_age(ms(age));
        assert_eq!(seen(at(20).load(|_| uncalled::<u64>())), (10, How::Fresh));
        let before = it.stats();
        let got = at(19).load(|cx| {
            assert_eq!((cx.reason(), cx.stale()), (LoadReason::Expired, Some(&10)));
            Ok(11)
        });
        assert_eq!(seen(got), (11, How::Loaded));
        let stats = it.stats().since(&before);
        assert_eq!((stats.hits, stats.stale_hits, stats.misses), (0, 0, 1));
        assert_eq!(it.get(&1), Some(11), "it is everybody's");
        assert_eq!(seen(at(0).load(|_| uncalled::<u64>())), (11, How::Fresh), "in the same tick");
        it.advance(ms(1));
        let task = at(0).load_async(|_| async { Ok::<_, String>(12) });
        assert_eq!(seen(block_on(task)), (12, How::Loaded));
        let never = it.at(&1).max_age(Duration::MAX).load(|_| uncalled::<u64>());
        assert_eq!(seen(never), (12, How::Fresh));
    });
}

#[test]
fn a_caller_is_not_served_stale_what_is_too_old_for_it() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        it.advance(ms(110));
        let at = |age| it.at(&1).max_age(ms(age));
        let got = it.at(&1).load(|_| {
            assert_eq!(
                seen(at(110).load(|_| uncalled::<u64>())),
                (10, How::Stale(StaleWhy::Revalidating))
            );
            away::<u64>()
        });
        assert_eq!(seen(got), (10, How::Stale(StaleWhy::LoadFailed)));
        // held back after that failure, it has no error to be told and asks
        assert!(at(109).load(|_| away::<u64>()).unwrap_err().loader().is_some());
        assert_eq!(seen(at(109).fallback(7).load(|_| away::<u64>())), (7, How::Fallback));
        let got = at(110).fallback(7).load(|_| uncalled::<u64>());
        assert_eq!(seen(got), (10, How::Stale(StaleWhy::BackOff)));
    });
}

#[test]
fn a_load_that_began_too_early_is_not_joined() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        let gate = Gate::new();
        thread::scope(|scope| {
            it.advance(ms(10));
            let early = scope.spawn(|| it.at(&1).force().load(|_| Ok::<_, String>(gate.pass(11))));
            gate.wait_until_entered(1);
            it.advance(ms(6));
            // what that one brings may have been read 6 ms ago
            let mut waits =
                Task::new(it.at(&1).max_age(ms(6)).load_async(|_| async { away::<u64>() }));
            waits.pend();
            let got = it.at(&1).max_age(ms(5)).load(|_| Ok::<_, String>(12));
            assert_eq!(seen(got), (12, How::Loaded));
            gate.open();
            assert_eq!(seen(early.join().unwrap()), (11, How::Loaded));
            let waited: Result<Got<u64>, LoadError<String>> = waits.finish();
            assert_eq!(seen(waited), (11, How::Joined));
            assert_eq!(
                it.get(&1),
                Some(12),
                "the younger one is stored, though the older came later"
            );
        });
        assert_eq!(it.stats().fenced, 1);
    });
}

#[test]
fn force_loads_whatever_is_cached() {
    with_cache(
        |builder| windows(builder).negative_ttl(ms(50)),
        |it| {
            it.insert(1, 10);
            let got = it.at(&1).force().load(|cx| {
                assert_eq!((cx.reason(), cx.stale()), (LoadReason::Forced, Some(&10)));
                Ok::<_, String>(11)
            });
            assert_eq!(seen(got), (11, How::Loaded));
            assert_eq!(it.get(&1), Some(11));
            let got = it.at(&2).force().load(|cx| {
                assert_eq!((cx.reason(), cx.stale()), (LoadReason::Miss, None));
                Ok::<_, String>(20)
            });
            assert_eq!(seen(got), (20, How::Loaded));
            it.at(&3).load(|_| Ok::<_, String>(None)).unwrap_err();
            assert!(it.get_or_load(&3, uncalled).unwrap_err().is_not_found());
            assert_eq!(seen(it.at(&3).force().load(|_| Ok::<_, String>(30))), (30, How::Loaded));
            // its error is its own: it did not want what there is
            let failed = it.at(&1).force().load(|_| away::<u64>());
            assert!(failed.unwrap_err().loader().is_some());
            assert_eq!(it.get(&1), Some(11), "a failure replaces nothing");
            it.advance(ms(110));
            assert!(it.at(&1).force().load(|_| away::<u64>()).is_err());
            assert_eq!(seen(it.at(&1).force().load(|_| Ok::<_, String>(12))), (12, How::Loaded));
        },
    );
}

#[test]
fn a_not_found_that_is_young_enough_for_its_caller_is_a_hit() {
    with_cache(
        |builder| windows(builder).negative_ttl(ms(50)),
        |it| {
            it.at(&3).load(|_| Ok::<_, String>(None)).unwrap_err();
            it.advance(ms(10));
            let before = it.stats();
            let known = it.at(&3).max_age(ms(10)).load(|_| uncalled::<u64>());
            assert!(known.unwrap_err().is_not_found());
            let known = it.at(&3).max_age(ms(10)).load_async(|_| async { uncalled::<u64>() });
            assert!(block_on(known).unwrap_err().is_not_found());
            let stats = it.stats().since(&before);
            assert_eq!((stats.hits, stats.misses, stats.loads), (2, 0, 0));
            let got = it.at(&3).max_age(ms(9)).load(|cx| {
                assert_eq!((cx.reason(), cx.stale()), (LoadReason::Expired, None));
                Ok::<_, String>(30)
            });
            assert_eq!(seen(got), (30, How::Loaded));
            let stats = it.stats().since(&before);
            assert_eq!((stats.hits, stats.misses, stats.loads), (2, 1, 1));
        },
    );
}

#[test]
fn forced_callers_join_what_began_after_they_came_and_nothing_older() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        let (old, new) = (Gate::new(), Gate::new());
        thread::scope(|scope| {
            let older = scope.spawn(|| it.at(&1).force().load(|_| Ok::<_, String>(old.pass(11))));
            old.wait_until_entered(1);
            // these came while it ran: the first of them leads, in its place
            let joined = it.stats().joined;
            let newer = scope.spawn(|| it.at(&1).force().load(|_| Ok::<_, String>(new.pass(12))));
            new.wait_until_entered(1);
            let plain = scope.spawn(|| it.at(&1).max_age(ms(0)).load(|_| uncalled::<u64>()));
            assert_eq!(seen(plain.join().unwrap()), (10, How::Fresh), "in its first tick");
            old.open();
            assert_eq!(seen(older.join().unwrap()), (11, How::Loaded));
            assert_eq!(it.get(&1), Some(10), "and is not stored");
            it.expire(&1);
            new.open();
            assert_eq!(seen(newer.join().unwrap()), (12, How::Loaded));
            assert_eq!(it.stats().joined, joined);
        });
    });
}

#[test]
fn a_loader_that_forces_its_own_key_is_told_so() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        let got = it.at(&1).force().load(|_| {
            let inner = it.at(&1).force().load(|_| uncalled::<u64>());
            assert!(inner.unwrap_err().is_recursive());
            it.advance(ms(5));
            let inner = it.at(&1).max_age(ms(4)).load(|_| uncalled::<u64>());
            assert!(inner.unwrap_err().is_recursive());
            assert_eq!(it.get_or_load(&1, uncalled).unwrap(), 10, "the cache has it fresh");
            Ok::<_, String>(11)
        });
        assert_eq!(seen(got), (11, How::Loaded));
    });
}

#[test]
fn a_fallback_stands_in_for_failures_only() {
    with_cache(
        |builder| windows(builder).load_timeout(ms(20)),
        |it| {
            let at = || it.at(&1).fallback(7);
            let got = at().load(|_| away::<u64>()).unwrap();
            assert_eq!((got.value, got.how, got.fresh_for), (7, How::Fallback, ms(0)));
            assert_eq!(it.len(), 0, "it is not stored");
            assert!(at().load(|_| Ok::<_, String>(None)).unwrap_err().is_not_found());
            assert_eq!(seen(at().load(|_| Ok::<_, String>(10))), (10, How::Loaded));
            assert_eq!(seen(at().load(|_| uncalled::<u64>())), (10, How::Fresh));
            it.advance(ms(100));
            let got = at().load(|_| away::<u64>());
            assert_eq!(seen(got), (10, How::Stale(StaleWhy::LoadFailed)), "stale goes first");
            it.remove(&1);
            let mut hung = Task::new(at().load_async(|_| pending::<Result<u64, String>>()));
            hung.pend();
            let mut waits = Task::new(at().load_async(|_| pending::<Result<u64, String>>()));
            waits.pend();
            it.advance(ms(20));
            assert_eq!(seen(hung.finish()), (7, How::Fallback));
            assert_eq!(seen(waits.finish()), (7, How::Fallback));
            let recursive = it.get_or_load(&1, || {
                let inner = at().load(|_| uncalled::<u64>());
                assert!(inner.unwrap_err().is_recursive(), "a mistake is not hidden");
                Ok::<_, String>(10)
            });
            assert_eq!(recursive.unwrap(), 10);
        },
    );
}

#[test]
fn one_callers_patience_is_its_own() {
    with_cache(windows, |it| {
        let at = |patience| it.at(&1).timeout(ms(patience));
        let gate = Gate::new();
        thread::scope(|scope| {
            let leader = scope.spawn(|| at(5).load(|_| Ok::<_, String>(gate.pass(10))));
            gate.wait_until_entered(1);
            let joined = it.stats().joined;
            let short = scope.spawn(|| at(10).load(|_| uncalled::<u64>()));
            let long = scope.spawn(|| at(20).load(|_| uncalled::<u64>()));
            let mut task = Task::new(at(10).load_async(|_| async { uncalled::<u64>() }));
            task.pend();
            it.wait_until_joined(joined + 3);
            it.advance(ms(9));
            task.pend();
            it.advance(ms(1));
            assert!(short.join().unwrap().unwrap_err().is_timeout());
            assert!(task.finish().unwrap_err().is_timeout());
            assert_eq!((it.flights(), it.stats().load_timeouts), (1, 0), "the load goes on");
            gate.open();
            assert_eq!(seen(leader.join().unwrap()), (10, How::Loaded), "it cannot be interrupted");
            assert_eq!(seen(long.join().unwrap()), (10, How::Joined));
        });
        // with something to serve it is served that
        it.advance(ms(130));
        let mut leader = Task::new(it.at(&1).load_async(|_| pending::<Result<u64, String>>()));
        leader.pend();
        let mut waits = Task::new(at(10).load_async(|_| async { uncalled::<u64>() }));
        waits.pend();
        it.advance(ms(10));
        assert_eq!(seen(waits.finish()), (10, How::Stale(StaleWhy::SoftTimeout)));
        assert_eq!(
            seen(at(0).load(|_| uncalled::<u64>())),
            (10, How::Stale(StaleWhy::SoftTimeout))
        );
        let strict = at(0).max_age(ms(100)).fallback(7).load(|_| Ok::<_, String>(11));
        assert_eq!(seen(strict), (7, How::Fallback), "joined, and waited for no time at all");
        leader.pend();
    });
}

#[test]
fn patience_lasts_as_long_as_was_said() {
    let patience = ms(3);
    let cache = checked(Cache::<u64, u64>::builder().max_entries(100));
    let gate = Gate::new();
    thread::scope(|scope| {
        let leader = scope.spawn(|| cache.get_or_load(&1, || Ok::<_, String>(gate.pass(10))));
        gate.wait_until_entered(1);
        for _ in 0..20 {
            // the clock that values live by falls behind meanwhile
            let before = Instant::now();
            while before.elapsed() < Duration::from_micros(2_500) {}
            let began = Instant::now();
            let result =
                cache.at(&1).timeout(patience).load(|_| -> Result<u64, String> { uncalled() });
            assert!(matches!(result, Err(LoadError::TimedOut)), "{result:?}");
            assert!(began.elapsed() >= patience, "{:?}", began.elapsed());
        }
        gate.open();
        assert_eq!(leader.join().unwrap().unwrap(), 10);
    });
}

#[test]
fn an_impatient_task_that_leads_hands_over() {
    with_cache(windows, |it| {
        let hung = |_| pending::<Result<u64, String>>();
        let mut leader = Task::new(it.at(&1).timeout(ms(10)).load_async(hung));
        leader.pend();
        let mut next = Task::new(it.at(&1).load_async(|_| async { Ok::<_, String>(10) }));
        next.pend();
        it.advance(ms(9));
        leader.pend();
        it.advance(ms(1));
        assert!(leader.finish().unwrap_err().is_timeout());
        assert_eq!(it.stats().load_timeouts, 0);
        assert_eq!(next.wakes(), 1);
        assert_eq!(seen(next.finish()), (10, How::Loaded));
    });
}

#[test]
fn unchanged_begins_a_new_life_of_what_is_there() {
    with_cache(windows, |it| {
        let first = it.at(&1).load(|_| Ok::<_, String>(Loaded::new(10).validator("a")));
        assert_eq!(seen(first), (10, How::Loaded));
        it.advance(ms(120));
        let renewed = it.at(&1).load(|cx| {
            assert_eq!((cx.reason(), cx.stale()), (LoadReason::Expired, Some(&10)));
            assert_eq!(cx.validator(), Some("a"));
            Ok::<_, String>(Loaded::unchanged())
        });
        let got = renewed.unwrap();
        assert_eq!((got.value, got.how, got.age), (10, How::Loaded, ms(0)));
        assert_eq!((got.fresh_for, got.validator.as_deref()), (ms(100), Some("a")));
        it.advance(ms(99));
        let got = it.at(&1).load(|_| uncalled::<u64>()).unwrap();
        assert_eq!((got.how, got.age, got.fresh_for), (How::Fresh, ms(99), ms(1)));
        assert_eq!(got.validator.as_deref(), Some("a"), "it keeps its validator");
        assert!(it.removals.take().is_empty(), "nothing has left");
        let stats = it.stats();
        assert_eq!((stats.unchanged, stats.insertions, stats.loads), (1, 1, 2));

        // its own life, another validator; and those who wait get it as well
        it.advance(ms(1 + 30));
        let task = it.at(&1).ttl(ms(7)).load_async(|cx: larder::LoadCx<u64>| async move {
            assert_eq!(cx.validator(), Some("a"));
            Ok::<_, String>(Loaded::unchanged().ttl(ms(500)).validator("b"))
        });
        let got = block_on(task).unwrap();
        assert_eq!((got.fresh_for, got.validator.as_deref()), (ms(500), Some("b")));
        assert_eq!(it.peek(&1).unwrap().validator.as_deref(), Some("b"));

        // with no life it is taken out, and with `no_store` left as it is
        let unstored = it.at(&1).force().load(|_| Ok::<_, String>(Loaded::unchanged().no_store()));
        assert_eq!(unstored.unwrap().fresh_for, ms(0));
        assert_eq!(it.peek(&1).unwrap().fresh_for, ms(500));
        let gone = it.at(&1).force().load(|_| Ok::<_, String>(Loaded::unchanged().ttl(ms(0))));
        assert_eq!((gone.unwrap().value, it.len()), (10, 0));
    });
}

#[test]
fn those_who_wait_for_an_unchanged_value_get_it() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        it.advance(ms(130));
        let gate = Gate::new();
        thread::scope(|scope| {
            let load = || it.at(&1).load(|_| Ok::<_, String>(gate.pass(Loaded::unchanged())));
            let leader = scope.spawn(load);
            gate.wait_until_entered(1);
            let joined = it.stats().joined;
            let waits = scope.spawn(load);
            it.wait_until_joined(joined + 1);
            gate.open();
            assert_eq!(seen(leader.join().unwrap()), (10, How::Loaded));
            assert_eq!(seen(waits.join().unwrap()), (10, How::Joined));
        });
        assert_eq!(it.get(&1), Some(10));
    });
}

#[test]
fn unchanged_with_nothing_to_renew_is_the_loaders_error() {
    with_cache(windows, |it| {
        let unchanged = |it: &Fixture| {
            it.at(&1).load(|cx| {
                assert!(cx.stale().is_none() && cx.validator().is_none());
                Ok::<_, String>(Loaded::unchanged())
            })
        };
        let error = unchanged(it).unwrap_err();
        assert!(matches!(error, LoadError::NothingToRenew), "{error:?}");
        assert!(error.to_string().contains("`LoadCx::stale`"), "{error}");
        assert_eq!((it.len(), it.stats().load_failures), (0, 1));
        it.insert(1, 10);
        it.advance(ms(150));
        assert!(unchanged(it).is_err(), "what is past its last window is not there");
        let many = it.get_or_load_many(&[2], |_| Ok::<_, String>(Vec::<(u64, u64)>::new()));
        assert!(many.error.is_none());
        let gate = Gate::new();
        thread::scope(|scope| {
            let load = || it.at(&3).load(|_| Ok::<_, String>(gate.pass(Loaded::unchanged())));
            let leader = scope.spawn(load);
            gate.wait_until_entered(1);
            let joined = it.stats().joined;
            let waits = scope.spawn(load);
            it.wait_until_joined(joined + 1);
            gate.open();
            for caller in [leader, waits] {
                let error = caller.join().unwrap().unwrap_err();
                assert!(matches!(error, LoadError::NothingToRenew), "{error:?}");
            }
        });
    });
}

#[test]
fn what_was_written_meanwhile_is_not_renewed() {
    with_cache(windows, |it| {
        for removes in [false, true] {
            it.insert(1, 10);
            it.advance(ms(110));
            let got = it.at(&1).load(|_| {
                if removes {
                    it.remove(&1);
                } else {
                    it.insert(1, 11);
                }
                Ok::<_, String>(Loaded::unchanged())
            });
            let got = got.unwrap();
            assert_eq!((got.value, got.how, got.fresh_for), (10, How::Loaded, ms(0)));
            assert_eq!(it.get(&1), (!removes).then_some(11));
        }
        assert_eq!((it.stats().fenced, it.stats().unchanged), (2, 0));
    });
}

#[test]
fn what_was_evicted_meanwhile_is_stored_anew() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_weight(10).weigher(|_, v| *v).clock(clock);
    let log = Arc::new(Mutex::new(Vec::new()));
    let left = log.clone();
    let builder = builder.on_removal(move |gone| left.lock().push((gone.key, gone.value)));
    let cache = checked(builder.time_to_live(ms(100)).stale_if_error(ms(50)));
    cache.at(&1).load(|_| Ok::<_, String>(Loaded::new(3).validator("a"))).unwrap();
    hand.advance(ms(100));
    let got = cache.at(&1).load(|_| {
        cache.insert(2, 10); // as heavy as all of it
        assert!(cache.peek(&1).is_none(), "evicted");
        Ok::<_, String>(Loaded::unchanged())
    });
    let got = got.unwrap();
    assert_eq!((got.value, got.fresh_for), (3, ms(100)));
    assert_eq!(cache.peek(&1).unwrap().validator.as_deref(), Some("a"));
    // as a value that comes back: each of its two stays has a beginning, and one of them has an end
    let stats = cache.stats();
    assert_eq!((stats.insertions, stats.evicted + stats.expired, stats.unchanged), (3, 2, 0));
    assert_eq!(*log.lock(), [(1, 3), (2, 10)]);
}

#[test]
fn a_renewed_life_is_drawn_and_swept_like_a_new_one() {
    with_cache(
        |builder| windows(builder).jitter(0.5).time_to_idle(ms(90)),
        |it| {
            it.insert(1, 10);
            let got = it.at(&1).force().load(|_| Ok::<_, String>(Loaded::unchanged())).unwrap();
            assert!(got.fresh_for >= ms(50) && got.fresh_for <= ms(100), "{got:?}");
            it.advance(ms(40));
            let got = it.at(&1).force().load(|_| Ok::<_, String>(Loaded::unchanged())).unwrap();
            // renewing is a use, also where the time to idle is what ends first
            it.advance(got.fresh_for.min(ms(89)).saturating_sub(ms(1)));
            assert!(it.contains(&1));
            it.advance(ms(250));
            assert_eq!((it.sweep(), it.len()), (1, 0));
        },
    );
}

#[test]
fn no_store_leaves_the_cache_as_it_is() {
    with_cache(windows, |it| {
        it.insert(1, 10);
        it.advance(ms(110));
        let got = it.at(&1).load(|_| Ok::<_, String>(Loaded::new(11).no_store()));
        assert_eq!(seen(got), (11, How::Loaded));
        assert_eq!(it.peek(&1).map(|got| got.value), Some(10));
        let none = it.at(&1).load(|_| Ok::<_, String>(Loaded::missing().no_store()));
        assert!(none.unwrap_err().is_not_found());
        assert_eq!(seen(it.at(&1).load(|_| away::<u64>())).0, 10);
    });
}

#[test]
fn a_loader_sees_what_it_replaces() {
    with_cache(windows, |it| {
        it.at(&1)
            .load(|cx| {
                assert_eq!((cx.reason(), cx.stale(), cx.attempt()), (LoadReason::Miss, None, 0));
                Ok::<_, String>(10)
            })
            .unwrap();
        it.advance(ms(149));
        let seen = |it: &Fixture, expected| {
            it.at(&1).load(|cx| {
                assert_eq!((cx.reason(), cx.stale()), expected);
                assert!(format!("{cx:?}").contains("attempt"));
                Ok::<_, String>(Loaded::new(11).no_store())
            })
        };
        seen(it, (LoadReason::Expired, Some(&10))).unwrap();
        it.advance(ms(1));
        seen(it, (LoadReason::Expired, None)).unwrap();
        it.sweep();
        seen(it, (LoadReason::Miss, None)).unwrap();
    });
}
