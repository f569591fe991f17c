//! `circuit_breaker`: a source that fails is left alone, and asked by one when it may be back.

mod common;

use common::gate::Gate;
use common::tasks::Task;
use common::{Checked, checked, ms, uncalled};
use larder::{
    Cache, CacheBuilder, Clock, ConfigError, Given, How, LoadError, Loaded, ManualClock, Many,
    StaleWhy,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

const OPEN_FOR: Duration = Duration::from_secs(1);
/// The last tick at which it is open.
const LAST: Duration = Duration::from_millis(999);

/// Three failures in a row open it for a second; a load may take 100 ms.
fn builder() -> (CacheBuilder<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(1_000).clock(clock).load_timeout(ms(100));
    (builder.circuit_breaker(3, OPEN_FOR), hand)
}

fn cache() -> (Checked<u64, u64>, ManualClock) {
    let (builder, hand) = builder();
    (checked(builder), hand)
}

fn fail(cache: &Cache<u64, u64>, key: u64) {
    let error = cache.get_or_load(&key, || Err::<u64, _>("away".to_owned())).unwrap_err();
    assert_eq!(error.loader().unwrap(), "away");
}

fn succeed(cache: &Cache<u64, u64>, key: u64) {
    assert_eq!(cache.get_or_load(&key, || Ok::<_, String>(key)).unwrap(), key);
}

fn is_open(cache: &Cache<u64, u64>, key: u64) -> bool {
    let error = cache.get_or_load(&key, uncalled).unwrap_err();
    assert!(error.is_circuit_open() && matches!(error, LoadError::CircuitOpen), "{error}");
    true
}

fn open(cache: &Cache<u64, u64>) {
    (0..3).for_each(|key| fail(cache, key));
    assert!(is_open(cache, 0));
}

#[test]
fn unchanged_of_nothing_is_a_failure() {
    let (cache, _hand) = cache();
    for key in 0..3 {
        let told = cache.at(&key).load(|_| Ok::<_, String>(Loaded::unchanged()));
        assert!(matches!(told.unwrap_err(), LoadError::NothingToRenew));
    }
    assert!(is_open(&cache, 0));
}

#[test]
fn zero_failures_and_no_time_are_refused_by_name() {
    let refused = |failures, open_for| {
        let builder = Cache::<u64, u64>::builder().max_entries(1);
        match builder.circuit_breaker(failures, open_for).build().unwrap_err() {
            ConfigError::OutOfRange { setting: "circuit_breaker", given, .. } => given,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(0, OPEN_FOR), Given::Count(0));
    assert_eq!(refused(1, Duration::ZERO), Given::Duration(Duration::ZERO));
}

#[test]
fn failures_in_a_row_over_all_keys_open_it_to_the_tick() {
    let (cache, hand) = cache();
    fail(&cache, 1);
    fail(&cache, 2);
    succeed(&cache, 3);
    fail(&cache, 1);
    fail(&cache, 2);
    fail(&cache, 3 + 1);
    assert!(is_open(&cache, 5));
    assert_eq!(cache.get(&3), Some(3), "what is cached is served");
    hand.advance(LAST);
    assert!(is_open(&cache, 5));
    hand.advance(ms(1));
    succeed(&cache, 5); // the probe
    succeed(&cache, 6);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.circuit_open), (8, 5, 2));
}

#[test]
fn a_probe_that_fails_opens_it_again() {
    let (cache, hand) = cache();
    open(&cache);
    for _ in 0..3 {
        hand.advance(OPEN_FOR);
        fail(&cache, 9);
        assert!(is_open(&cache, 1));
        hand.advance(LAST);
        assert!(is_open(&cache, 9));
        hand.advance(ms(1));
    }
    succeed(&cache, 9);
    // and the count began anew
    fail(&cache, 1);
    fail(&cache, 2);
    succeed(&cache, 3);
}

#[test]
fn one_load_probes_and_the_others_do_not_reach_the_source() {
    let (cache, hand) = cache();
    open(&cache);
    hand.advance(OPEN_FOR);
    let gate = Gate::new();
    thread::scope(|scope| {
        let probe = scope.spawn(|| cache.get_or_load(&1, || gate.pass(Ok::<_, String>(1))));
        gate.wait_until_entered(1);
        for key in 2..20 {
            assert!(is_open(&cache, key));
        }
        let same = scope.spawn(|| cache.get_or_load(&1, uncalled));
        cache.wait_until_joined(1);
        gate.open();
        assert_eq!(probe.join().unwrap().unwrap(), 1);
        assert_eq!(same.join().unwrap().unwrap(), 1, "who wants the probe's key waits for it");
    });
    succeed(&cache, 2);
}

#[test]
fn a_panic_is_a_failure() {
    let (cache, _hand) = cache();
    for _ in 0..3 {
        let load = || -> Result<u64, String> { panic!("expected") };
        assert!(catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&1, load))).is_err());
    }
    assert!(is_open(&cache, 1));
}

#[test]
fn not_found_is_an_answer() {
    let (cache, _hand) = cache();
    for _ in 0..2 {
        fail(&cache, 1);
        fail(&cache, 2);
        let nobody = cache.get_or_load_optional(&3, || Ok::<_, String>(None));
        assert_eq!(nobody.unwrap(), None);
    }
    fail(&cache, 1);
    fail(&cache, 2);
    succeed(&cache, 3);
}

#[test]
fn a_load_past_its_time_is_a_failure_whether_or_not_anybody_looks() {
    let (cache, hand) = cache();
    let never = Gate::new();
    let mut hung: Vec<_> = [1, 2, 3]
        .iter()
        .map(|key| Task::new(cache.get_or_load_async(key, || never.pass_async(Err("late")))))
        .collect();
    hung.iter_mut().for_each(Task::pend);
    hand.advance(ms(99));
    succeed(&cache, 9); // they do not count yet, and it begins no new row of theirs
    hand.advance(ms(1));
    assert!(is_open(&cache, 8));
    // since then, and not since somebody noticed
    hand.advance(LAST);
    assert!(is_open(&cache, 8));
    hand.advance(ms(1));
    for mut hung in hung {
        assert!(matches!(hung.finish(), Err(LoadError::TimedOut))); // which says nothing of now
    }
    succeed(&cache, 8);
}

#[test]
fn a_dropped_future_says_nothing_and_the_next_load_probes() {
    let (cache, hand) = cache();
    let never = Gate::new();
    let hang = |key| Task::new(cache.get_or_load_async(key, || never.pass_async(Err("never"))));
    fail(&cache, 1);
    fail(&cache, 2);
    let mut dropped = hang(&3);
    dropped.pend();
    drop(dropped);
    succeed(&cache, 4);
    open(&cache);
    hand.advance(OPEN_FOR);
    for key in &[5, 6] {
        let mut probe = hang(key);
        probe.pend();
        assert!(is_open(&cache, 7));
        drop(probe);
    }
    succeed(&cache, 7);
}

#[test]
fn a_hung_probe_fails_at_its_time() {
    let (cache, hand) = cache();
    open(&cache);
    hand.advance(OPEN_FOR);
    let gate = Gate::new();
    thread::scope(|scope| {
        let probe = scope.spawn(|| cache.get_or_load(&1, || gate.pass(Ok::<_, String>(1))));
        gate.wait_until_entered(1);
        hand.advance(ms(100));
        assert!(is_open(&cache, 2));
        hand.advance(LAST);
        gate.open();
        assert_eq!(probe.join().unwrap().unwrap(), 1);
    });
    assert!(is_open(&cache, 2), "what it brought so late does not count");
    hand.advance(ms(1));
    succeed(&cache, 2);
}

#[test]
fn a_load_inside_the_probe_is_a_part_of_it() {
    let (cache, hand) = cache();
    open(&cache);
    hand.advance(OPEN_FOR);
    let outer = cache.get_or_load(&1, || {
        cache.get_or_load(&2, || Ok::<_, String>(2)).map_err(|error| error.to_string())
    });
    assert_eq!(outer.unwrap(), 2);
    succeed(&cache, 3);
}

#[test]
fn those_who_wait_for_a_load_that_is_stopped_are_told_at_once() {
    // one slot: the load of key 1 is in line, with others behind it, when the breaker opens
    let (builder, _hand) = builder();
    let cache = checked(builder.max_concurrent_loads(1));
    fail(&cache, 8);
    fail(&cache, 9);
    let gate = Gate::new();
    let mut failing =
        Task::new(cache.get_or_load_async(&0, || gate.pass_async(Err::<u64, _>("away"))));
    failing.pend();
    let load = || cache.get_or_load_async(&1, || async { uncalled() });
    let (mut leader, mut follower) = (Task::new(load()), Task::new(load()));
    leader.pend();
    follower.pend();
    gate.open();
    assert!(failing.finish().is_err());
    assert_eq!(leader.wakes(), 1);
    assert!(leader.finish().unwrap_err().is_circuit_open());
    assert_eq!(follower.wakes(), 1);
    assert!(follower.finish().unwrap_err().is_circuit_open());
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.circuit_open, cache.loads_in_line()), (3, 1, 0));
}

#[test]
fn what_cannot_fail_is_neither_counted_nor_stopped() {
    let (cache, hand) = cache();
    fail(&cache, 1);
    fail(&cache, 2);
    assert_eq!(cache.get_or_insert_with(&3, || 3), 3);
    fail(&cache, 4);
    assert!(is_open(&cache, 4));
    assert_eq!(cache.get_or_insert_with(&4, || 4), 4);
    hand.advance(OPEN_FOR);
    assert_eq!(cache.get_or_insert_with(&5, || 5), 5);
    fail(&cache, 6); // that was the probe
    assert!(is_open(&cache, 7));
}

#[test]
fn for_ever_is_for_ever() {
    let (clock, hand) = Clock::manual();
    let cache = checked(
        Cache::<u64, u64>::builder().max_entries(10).clock(clock).circuit_breaker(1, Duration::MAX),
    );
    fail(&cache, 1);
    hand.advance(Duration::from_secs(60 * 60 * 24 * 365));
    assert!(is_open(&cache, 1));
}

#[test]
fn many_keys_in_one_call_are_one_try() {
    let (cache, hand) = cache();
    let load = |_: &[u64]| Err::<Vec<(u64, u64)>, _>("away".to_owned());
    for _ in 0..3 {
        assert!(!is_circuit_open(&cache.get_or_load_many(&[1, 2, 3, 4], load)));
    }
    assert!(is_open(&cache, 9));
    let uncalled = |_: &[u64]| uncalled::<Vec<(u64, u64)>>();
    assert!(is_circuit_open(&cache.get_or_load_many(&[1, 2], uncalled)));
    hand.advance(OPEN_FOR);
    let probe = cache.get_or_load_many(&[1, 2], |_: &[u64]| Ok::<_, String>(vec![(1, 1)]));
    assert_eq!((probe.got.len(), probe.missing), (1, vec![2]));
    succeed(&cache, 9);
}

fn is_circuit_open(many: &Many<u64, u64, String>) -> bool {
    many.error.as_ref().is_some_and(LoadError::is_circuit_open)
}

#[test]
fn stale_is_served_while_it_is_open_and_removed_is_not() {
    let (builder, hand) = builder();
    let windows = builder.time_to_live(ms(50)).stale_if_error(ms(1_500));
    let cache = checked(windows.error_backoff(ms(0), ms(0)));
    cache.insert(10, 10);
    cache.insert(11, 11);
    hand.advance(ms(60));
    open(&cache);
    let stale = || {
        let got = cache.at(&10).load(|_| uncalled::<u64>()).unwrap();
        (got.value, got.how)
    };
    assert_eq!(stale(), (10, How::Stale(StaleWhy::CircuitOpen)));
    cache.remove(&11);
    assert!(is_open(&cache, 11), "what was removed is not served, not even now");
    hand.advance(LAST);
    assert_eq!(stale(), (10, How::Stale(StaleWhy::CircuitOpen)));
    hand.advance(ms(1));
    // not asked is not failed: there is no back-off
    assert_eq!(cache.at(&10).load(|_| Ok::<_, String>(100)).unwrap().how, How::Loaded);
    assert_eq!(cache.get(&10), Some(100));
}

#[test]
fn the_window_ends_though_it_is_open() {
    let (builder, hand) = builder();
    let cache = checked(builder.time_to_live(ms(50)).stale_if_error(ms(100)));
    cache.insert(10, 10);
    hand.advance(ms(60));
    open(&cache);
    hand.advance(ms(89));
    assert_eq!(cache.get_or_load(&10, uncalled).unwrap(), 10);
    hand.advance(ms(1));
    assert!(is_open(&cache, 10));
}

#[derive(Debug)]
struct Status(u16);

fn answer(cache: &Cache<u64, u64>, status: u16) {
    let told = cache.get_or_load(&1, || Err::<u64, _>(Status(status))).unwrap_err();
    assert_eq!(told.loader().unwrap().0, status);
}

#[test]
fn an_error_that_does_not_count_is_an_answer() {
    let (builder, hand) = builder();
    let builder = builder.breaker_counts(|_: &Status| unreachable!("the last one holds"));
    let cache = checked(builder.breaker_counts(|error: &Status| {
        assert!(error.0 != 666, "expected: the question panics");
        error.0 >= 500
    }));
    (0..9).for_each(|_| answer(&cache, 400));
    // it ends a row, as any answer does
    for status in [500, 503, 404, 500, 503] {
        answer(&cache, status);
    }
    fail(&cache, 2); // of another type
    assert!(is_open(&cache, 1));
    // the probe finds a source that answers
    hand.advance(OPEN_FOR);
    answer(&cache, 404);
    answer(&cache, 666);
    answer(&cache, 666);
    let many = cache.get_or_load_many(&[1, 2], |_| Err::<Vec<(u64, u64)>, _>(Status(400)));
    assert_eq!(many.failed.len(), 2);
    answer(&cache, 500);
    let many = cache.get_or_load_many(&[1, 2], |_| Err::<Vec<(u64, u64)>, _>(Status(500)));
    assert_eq!(many.failed.len(), 2);
    answer(&cache, 666);
    assert!(is_open(&cache, 1));
}
