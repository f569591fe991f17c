//! What failed is left alone for a while, and nobody waits for it.

mod common;

use common::doubles::{Counted, Ledger};
use common::tasks::Task;
use common::{Fixture, checked, ms, secs, uncalled, with_cache};
use larder::{Cache, CacheBuilder, Clock, How, LoadError, StaleWhy};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

fn away<T>() -> Result<T, String> {
    Err("away".to_owned())
}

/// Asks for key 1 at every tick for so long; at which of them the source was asked, and failed.
fn asked(it: &Fixture, ticks: u64) -> Vec<u64> {
    let mut asked = Vec::new();
    for tick in 0..ticks {
        let got = it.at(&1).load(|_| {
            asked.push(tick);
            away::<u64>()
        });
        match got {
            Ok(got) => assert!(matches!(got.how, How::Stale(_))),
            Err(error) => assert_eq!(error.loader().unwrap(), "away"),
        }
        it.advance(ms(1));
    }
    asked
}

#[test]
fn pauses_double_to_the_longest_and_begin_anew_after_a_success() {
    with_cache(
        |builder| builder.error_backoff(ms(10), ms(50)),
        |it| {
            for _ in 0..2 {
                // 10, 20, 40, 50, 50 after one another
                assert_eq!(asked(it, 180), [0, 10, 30, 70, 120, 170]);
                it.advance(ms(50));
                assert_eq!(it.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
                it.remove(&1);
            }
        },
    );
}

#[test]
fn unset_it_is_a_second_where_there_is_a_stale_value_and_else_nothing() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).stale_if_error(ms(2_500)),
        |it| {
            assert_eq!(asked(it, 3), [0, 1, 2], "nothing to serve");
            it.insert(1, 10);
            it.advance(ms(100));
            let all: Vec<u64> = (2_500..2_600).collect();
            let asked = asked(it, 2_600);
            // served for a second at a time, until the window is over
            assert_eq!(asked[..3], [0, 1_000, 2_000]);
            assert_eq!(asked[3..], all);
        },
    );
}

#[test]
fn nothing_is_held_back_where_that_is_said() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).stale_if_error(ms(500)).error_backoff(ms(0), ms(0)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(100));
            assert_eq!(asked(it, 5), [0, 1, 2, 3, 4]);
        },
    );
}

#[test]
fn callers_get_the_stale_value_or_the_last_error_at_once() {
    with_cache(
        |builder| {
            builder
                .time_to_live(ms(100))
                .stale_while_revalidate(ms(20))
                .stale_if_error(ms(30))
                .error_backoff(ms(50), ms(50))
        },
        |it| {
            it.insert(1, 10);
            it.advance(ms(110));
            let LoadError::Loader(first) = it.get_or_load(&2, away::<u64>).unwrap_err() else {
                panic!("it failed")
            };
            it.at(&1).load(|_| away::<u64>()).unwrap();
            let serves = || {
                let got = it.at(&1).load(|_| uncalled::<u64>()).unwrap();
                assert_eq!((got.value, got.how), (10, How::Stale(StaleWhy::BackOff)));
                assert_eq!(it.get_or_load(&1, uncalled).unwrap(), 10);
                assert_eq!(it.get_or_insert_with(&1, || unreachable!()), 10);
                let LoadError::Loader(again) = it.get_or_load(&2, uncalled).unwrap_err() else {
                    panic!("it is the error of before")
                };
                assert!(Arc::ptr_eq(&first, &again));
            };
            serves();
            it.advance(ms(15)); // error only
            serves();
            it.advance(ms(5)); // gone
            let gone = it.at(&1).load(|_| uncalled::<u64>());
            assert_eq!(gone.unwrap_err().loader().unwrap(), "away");
            // what cannot be told an error makes its value, and that is a success
            assert_eq!(it.get_or_insert_with(&2, || 20), 20);
            assert_eq!(it.get(&2), Some(20));
            let stats = it.stats();
            assert_eq!((stats.loads, stats.load_failures), (3, 2));
        },
    );
}

#[test]
fn a_caller_with_another_error_type_and_a_forced_one_load() {
    with_cache(
        |builder| builder.error_backoff(secs(9), secs(9)),
        |it| {
            it.get_or_load(&1, away::<u64>).unwrap_err();
            assert_eq!(it.get_or_load(&1, || Err::<u64, _>(7_u8)).unwrap_err().loader(), Some(&7));
            // the last one is the one that is told
            assert!(it.get_or_load(&1, || Err::<u64, u8>(8)).unwrap_err().loader() == Some(&7));
            assert_eq!(it.at(&1).force().load(|_| Ok::<_, u8>(10)).unwrap().value, 10);
        },
    );
}

#[test]
fn a_write_to_the_key_ends_the_pause() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).error_backoff(secs(9), secs(9)),
        |it| {
            let writes: [&dyn Fn(); 5] = [
                &|| it.insert(1, 10),
                &|| assert_eq!(it.remove(&1), None),
                &|| assert!(!it.expire(&1)),
                &|| it.clear(),
                &|| drop(it.write_through(1, 10, |_, _| Ok::<_, String>(()))),
            ];
            for write in writes {
                it.get_or_load(&1, away::<u64>).unwrap_err();
                it.get_or_load(&1, uncalled).unwrap_err();
                write();
                it.advance(ms(100));
                assert_eq!(it.get_or_load(&1, || Ok::<_, String>(11)).unwrap(), 11);
                it.clear();
            }
        },
    );
}

#[test]
fn a_load_that_lost_its_key_holds_nobody_back() {
    with_cache(
        |builder| builder.error_backoff(secs(9), secs(9)),
        |it| {
            let failed = it.get_or_load(&1, || {
                it.remove(&1);
                away::<u64>()
            });
            assert!(failed.is_err());
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(10)).unwrap(), 10);
        },
    );
}

#[test]
fn panics_and_timeouts_are_failures() {
    with_cache(
        |builder| builder.error_backoff(ms(10), ms(10)).load_timeout(ms(20)),
        |it| {
            let panics = || it.get_or_load(&1, || -> Result<u64, String> { panic!("expected") });
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            assert!(it.get_or_load(&1, uncalled).unwrap_err().is_panic());
            it.advance(ms(10));
            let hung = || pending::<Result<u64, String>>();
            let mut leader = Task::new(it.get_or_load_async(&1, hung));
            leader.pend();
            it.advance(ms(20));
            // nobody has noticed yet: this one does, and is held back at once
            assert!(it.get_or_load(&1, uncalled).unwrap_err().is_timeout());
            assert!(leader.finish().unwrap_err().is_timeout());
            it.advance(ms(10));
            let got = it.at(&1).load(|cx| {
                assert_eq!(cx.attempt(), 2);
                Ok::<_, String>(10)
            });
            assert_eq!(got.unwrap().value, 10);
        },
    );
}

#[test]
fn a_source_that_hangs_is_left_alone_for_a_second_where_no_back_off_is_set() {
    with_cache(
        |builder| builder.time_to_live(ms(100)).stale_if_error(secs(5)).load_timeout(ms(20)),
        |it| {
            it.insert(1, 10);
            it.advance(ms(100));
            let mut hung = Task::new(it.get_or_load_async(&1, pending::<Result<u64, String>>));
            hung.pend();
            it.advance(ms(20));
            assert_eq!(hung.finish().unwrap(), 10);
            for _ in 0..2 {
                it.advance(ms(499));
                assert_eq!(it.get_or_load(&1, uncalled).unwrap(), 10, "nobody hangs again");
            }
            it.advance(ms(2));
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(11)).unwrap(), 11);
        },
    );
}

#[test]
fn attempts_count_failures_in_a_row() {
    let back_off = |builder: CacheBuilder<u64, u64>| builder.error_backoff(ms(1), ms(1));
    let none = |builder: CacheBuilder<u64, u64>| builder;
    let windows =
        |builder: CacheBuilder<u64, u64>| builder.time_to_live(ms(5)).stale_if_error(ms(5));
    let settings: [fn(_) -> _; 3] = [back_off, none, windows];
    for setting in settings {
        with_cache(setting, |it| {
            let load = |fails: bool| {
                let attempt = Cell::new(0);
                let _ = it.at(&1).force().load(|cx| {
                    attempt.set(cx.attempt());
                    if fails { away() } else { Ok(10) }
                });
                attempt.get()
            };
            let attempts = [load(true), load(true), load(true), load(false), load(true)];
            assert_eq!(attempts, [0, 1, 2, 3, 0]);
            assert_eq!(load(true), 1);
            it.insert(1, 10);
            assert_eq!(load(false), 0);
            // a leader that goes away has not failed
            load(true);
            let mut gone =
                Task::new(it.at(&1).force().load_async(|_| pending::<Result<u64, u8>>()));
            gone.pend();
            drop(gone);
            assert_eq!(load(true), 1);
        });
    }
}

#[test]
fn memory_is_bounded_though_everything_fails() {
    let ledger = Ledger::new();
    let cache = checked(
        Cache::<Counted, u64>::builder()
            .max_entries(100)
            .shards(2)
            .error_backoff(secs(1), secs(60)),
    );
    for id in 0..10_000 {
        let failed = cache.get_or_load(&ledger.counted(id), || Err::<u64, _>(ledger.counted(id)));
        assert!(failed.is_err());
    }
    assert!(ledger.alive() <= 2 * 128 * 2, "{} keys and errors are kept", ledger.alive());
    cache.validate();
    cache.clear();
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn what_nobody_is_told_any_more_is_freed_by_a_sweep() {
    let ledger = Ledger::new();
    let (clock, hand) = larder::Clock::manual();
    let builder = Cache::<Counted, u64>::builder().max_entries(100).clock(clock);
    let cache = checked(builder.error_backoff(ms(10), ms(10)));
    drop(cache.get_or_load(&ledger.counted(1), || Err::<u64, _>(ledger.counted(1))));
    cache.sweep();
    assert_eq!(ledger.alive(), 2);
    hand.advance(ms(10));
    cache.sweep();
    assert_eq!(ledger.alive(), 0);
}

/// One of many who ask for key 1 over and over, and how it fares.
struct Caller<'c> {
    call: Task<'c, Result<u64, LoadError<String>>>,
    since: u64,
}

/// A source that takes 10 ms to answer is down for two seconds, and a thousand callers want its
/// one value all the time. When it is asked, and how many callers were answered with an error.
fn outage(it: &Fixture) -> (Vec<u64>, u64) {
    const STEP: u64 = 10;
    const LOAD: u64 = 10;
    let (now, calls, errors) = (Cell::new(0), RefCell::new(Vec::new()), Cell::new(0));
    let ask = || {
        let load = || {
            let begun = now.get();
            calls.borrow_mut().push(begun);
            let now = &now;
            poll_fn(move |task| {
                if now.get() < begun + LOAD {
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(if now.get() < 2_000 { away() } else { Ok(11) })
            })
        };
        Task::new(it.get_or_load_async(&1, load))
    };
    let mut callers: Vec<_> = (0..1_000).map(|_| Caller { call: ask(), since: 0 }).collect();
    while now.get() < 2_500 {
        for caller in &mut callers {
            if let Poll::Ready(result) = caller.call.poll() {
                let waited = now.get() - caller.since;
                assert!(waited <= LOAD + STEP, "a caller waited for {waited} ms");
                errors.set(errors.get() + u64::from(result.is_err()));
                *caller = Caller { call: ask(), since: now.get() + STEP };
            }
        }
        now.set(now.get() + STEP);
        it.advance(ms(STEP));
    }
    drop(callers);
    (calls.into_inner(), errors.into_inner())
}

#[test]
fn a_thousand_callers_and_a_source_that_is_down() {
    // without anything to serve: the back-off's number of calls, and errors meanwhile
    let cold = |builder: CacheBuilder<u64, u64>| builder.error_backoff(ms(100), ms(800));
    with_cache(cold, |it| {
        let (calls, errors) = outage(it);
        assert!(errors > 150_000, "at once, and not one after the other: {errors}");
        assert_eq!(calls.len(), 6, "asked at {calls:?}");
        assert!(calls[5] >= 2_000, "the last one brought the value: {calls:?}");
        assert_eq!(it.stats().load_failures, 5);
    });
    // with something to serve, and nothing set: once a second, and no caller without a value
    let stale = |builder: CacheBuilder<u64, u64>| {
        builder.time_to_live(secs(60)).stale_if_error(secs(3_600))
    };
    with_cache(stale, |it| {
        it.insert(1, 10);
        it.advance(secs(60));
        let (calls, errors) = outage(it);
        assert_eq!((calls.len(), errors), (3, 0), "asked at {calls:?}");
        assert_eq!(it.stats().load_failures, 2);
        assert!(it.stats().stale_hits > 150_000);
    });
}

#[test]
fn every_removal_of_a_key_ends_its_pause() {
    type Removal = fn(&Fixture);
    let removals: [(&str, Removal); 4] = [
        ("remove", |it| assert_eq!(it.remove(&1), None, "it was not fresh")),
        ("remove_if", |it| assert_eq!(it.remove_if(|key, _| *key == 1), 1)),
        ("clear", |it| it.clear()),
        ("a failed write", |it| it.write_through(1, 5, |_, _| away()).unwrap_err().clear()),
    ];
    let settings = |builder: CacheBuilder<u64, u64>| {
        let builder = builder.time_to_live(ms(100)).stale_if_error(secs(60));
        builder.error_backoff(secs(5), secs(5))
    };
    for (what, removal) in removals {
        with_cache(settings, |it| {
            it.insert(1, 10);
            it.advance(ms(100));
            assert_eq!(it.get_or_load(&1, away).unwrap(), 10);
            removal(it);
            assert!(it.explain(&1).failure.is_none(), "{what}");
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(20)).ok(), Some(20), "{what}");
        });
    }
}

#[derive(Clone)]
struct OneHash;

impl std::hash::BuildHasher for OneHash {
    type Hasher = std::hash::DefaultHasher;

    fn build_hasher(&self) -> Self::Hasher {
        std::hash::DefaultHasher::new()
    }
}

/// Whose hash is that of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alike(u64);

impl std::hash::Hash for Alike {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(1);
    }
}

#[test]
fn of_two_keys_of_one_hash_each_has_its_own_failure() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<Alike, u64>::builder().max_entries(10).error_backoff(ms(5), ms(5));
    let cache = builder.clock(clock).hasher(OneHash).build().unwrap();
    let fail = |key| cache.get_or_load(&Alike(key), || Err::<u64, _>("down")).is_err();
    assert!(fail(2));
    hand.advance(ms(5));
    assert!(fail(1));
    cache.sweep(); // lets go of the key of the first one
    assert!(fail(1));
    cache.validate();
    hand.advance(ms(5));
    assert!(fail(1));
    cache.validate();
    cache.remove(&Alike(1));
    assert_eq!(cache.get_or_load(&Alike(1), || Ok::<_, &str>(9)).unwrap(), 9);
    cache.validate();
}
