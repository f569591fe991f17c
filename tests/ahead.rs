//! Refreshes ahead of need in a cache without a loader of its own: by a caller who has one.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Checked, checked, secs, uncalled, wait_until};
use larder::{
    At, Cache, CacheBuilder, Clock, Event, How, Invalidator, LoadReason, ManualClock, Many,
    MemoryTier, RefreshAhead,
};
use parking_lot::Mutex;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;

type Said<'c> = At<'c, u64, u64, ahash::RandomState, u64>;

/// A value under 1 that has been due for 20 s of the 50 s in which it is.
fn due(
    settings: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
) -> (Checked<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(20).time_to_live(secs(100)).clock(clock);
    let cache = checked(settings(builder.refresh_ahead(RefreshAhead::At(0.5))));
    cache.insert(1, 1);
    hand.advance(secs(70));
    (cache, hand)
}

/// The same with a second tier, which is asked before a refresh is turned away.
fn due_beside_a_tier(
    settings: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
) -> (Checked<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let tier = MemoryTier::with(clock.clone(), None);
    let builder = Cache::builder().max_entries(20).time_to_live(secs(100)).clock(clock).tier(tier);
    let cache = checked(settings(builder.refresh_ahead(RefreshAhead::At(0.5))));
    cache.insert(1, 1);
    cache.tier_flush().unwrap();
    hand.advance(secs(70));
    (cache, hand)
}

fn forced(said: Said<'_>) -> Said<'_> {
    said.force()
}

fn choosy(said: Said<'_>) -> Said<'_> {
    said.max_age(secs(5))
}

#[test]
fn who_does_not_take_the_value_that_is_due_waits_for_a_slot() {
    for said in [forced, choosy] {
        let (cache, _hand) = due(|builder| builder.max_concurrent_loads(1));
        let gate = Gate::new();
        let mut busy =
            Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
        busy.pend();
        let mut task = Task::new(said(cache.at(&1)).load_async(|_| async { Ok::<_, String>(2) }));
        task.pend();
        drop(task);
        thread::scope(|scope| {
            let caller = scope.spawn(|| said(cache.at(&1)).load(|_| Ok::<_, String>(2)));
            wait_until(|| cache.loads_in_line() == 1 || caller.is_finished());
            assert_eq!(cache.get(&1), Some(1));
            gate.open();
            busy.finish().unwrap();
            let got = caller.join().unwrap().unwrap();
            assert_eq!((got.value, got.how), (2, How::Loaded));
        });
        assert_eq!((cache.stats().overloaded, cache.stats().refreshes), (0, 0));
    }
}

#[test]
fn a_load_is_told_what_its_caller_said_though_the_value_is_due() {
    for (said, reason) in [
        (forced as fn(Said<'_>) -> Said<'_>, LoadReason::Forced),
        (choosy, LoadReason::Expired),
        // it takes what is there, and is the first to find it due
        (|said| said.max_age(secs(80)), LoadReason::Refresh),
    ] {
        let (cache, hand) = due(|builder| builder);
        let got = said(cache.at(&1)).load(|cx| {
            assert_eq!((cx.reason(), cx.stale()), (reason, Some(&1)));
            Ok::<_, String>(2)
        });
        assert_eq!(got.unwrap().value, 2);
        hand.advance(secs(70));
        let got = block_on(said(cache.at(&1)).load_async(|cx| async move {
            assert_eq!((cx.reason(), cx.stale()), (reason, Some(&2)));
            Ok::<_, String>(3)
        }));
        assert_eq!(got.unwrap().value, 3);
        assert_eq!(cache.stats().loads, 2);
    }
}

#[test]
fn a_value_that_was_due_and_whose_tag_is_expired_is_loaded_as_expired() {
    let (cache, _hand) = due(|builder| builder.stale_if_error(secs(100)));
    cache.at(&1).tag("t").keep_life().insert(1);
    cache.expire_tag("t");
    let got = cache.at(&1).load(|cx| {
        assert_eq!((cx.reason(), cx.stale()), (LoadReason::Expired, Some(&1)));
        Ok::<_, String>(3)
    });
    assert_eq!((got.unwrap().how, cache.stats().refreshes), (How::Loaded, 0));
}

#[test]
fn the_first_who_makes_what_is_due_makes_it_anew() {
    let (cache, hand) = due(|builder| builder);
    let before = cache.stats();
    let made = cache.get_or_insert_with(&1, || {
        // all others are served meanwhile, and so is this one
        assert_eq!(cache.get_or_insert_with(&1, || unreachable!("it is being made")), 1);
        thread::scope(|scope| {
            let other = scope.spawn(|| cache.get_or_insert_with(&1, || unreachable!("it is")));
            assert_eq!(other.join().unwrap(), 1);
        });
        2
    });
    assert_eq!((made, cache.get_or_insert_with(&1, || unreachable!("it was made"))), (2, 2));
    let stats = cache.stats().since(&before);
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.refreshes), (3, 1, 1, 1));
    hand.advance(secs(70));
    let before = cache.stats();
    let gate = Gate::new();
    let mut task = Task::new(cache.get_or_insert_with_async(&1, || gate.pass_async(3)));
    task.pend();
    let meanwhile = cache.get_or_insert_with_async(&1, || async { unreachable!("it is made") });
    assert_eq!(block_on(meanwhile), 2);
    gate.open();
    assert_eq!((task.finish(), cache.get(&1)), (3, Some(3)));
    let stats = cache.stats().since(&before);
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.refreshes), (2, 1, 1, 1));
}

#[test]
fn what_is_due_is_still_there_when_making_it_anew_panics() {
    let (cache, hand) = due(|builder| builder);
    let make = || cache.get_or_insert_with(&1, || panic!("expected"));
    assert!(catch_unwind(AssertUnwindSafe(make)).is_err());
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!("for a second")), 1);
    hand.advance(secs(1));
    assert_eq!(cache.get_or_insert_with(&1, || 2), 2);
}

#[test]
fn who_makes_what_is_due_is_served_it_where_there_is_no_slot() {
    let (cache, hand) = due(|builder| builder.max_concurrent_loads(1));
    let gate = Gate::new();
    let mut busy = Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
    busy.pend();
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!("there is no slot")), 1);
    let task = cache.get_or_insert_with_async(&1, || async { unreachable!("there is no slot") });
    assert_eq!(block_on(task), 1);
    assert_eq!((cache.stats().overloaded, cache.loads_in_line(), cache.flights()), (2, 0, 1));
    assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().refreshes), (2, 1, 0));
    // with nothing to serve it waits
    hand.advance(secs(30));
    let mut task = Task::new(cache.get_or_insert_with_async(&1, || async { 2 }));
    task.pend();
    gate.open();
    busy.finish().unwrap();
    assert_eq!(task.finish(), 2);
}

/// What a call for many keys came to: keys with values, and how they came.
fn values(many: &Many<u64, u64, String>) -> Vec<(u64, u64, How)> {
    many.got.iter().map(|(key, got)| (*key, got.value, got.how)).collect()
}

type Reply = Result<Vec<(u64, u64)>, String>;

#[test]
fn what_is_due_of_many_is_loaded_with_what_is_missing() {
    let (cache, hand) = due(|builder| builder);
    cache.insert(2, 2);
    let before = cache.stats();
    let many = cache.get_or_load_many(&[1, 2, 3], |keys| -> Reply {
        assert_eq!(keys, [1, 3]);
        // all others are served meanwhile
        let others = cache.get_or_load_many(&[1, 2], |_| -> Reply { unreachable!("it is led") });
        assert_eq!(values(&others), [(1, 1, How::Fresh), (2, 2, How::Fresh)]);
        Ok(vec![(1, 10), (3, 30)])
    });
    let (fresh, loaded) = (How::Fresh, How::Loaded);
    assert_eq!(values(&many), [(1, 10, loaded), (2, 2, fresh), (3, 30, loaded)]);
    let again = cache.get_or_load_many(&[1, 2, 3], |_| -> Reply { unreachable!("all is there") });
    assert_eq!(again.got.len(), 3);
    let stats = cache.stats().since(&before);
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.refreshes), (6, 2, 1, 1));
    // a load that fails leaves what is still good, and is not tried again for a second
    hand.advance(secs(70));
    let (before, mut asked) = (cache.stats(), Vec::new());
    for _ in 0..2 {
        let load = |keys: Vec<u64>| {
            asked.push(keys);
            async { Reply::Err("away".to_owned()) }
        };
        let many = block_on(cache.get_or_load_many_async(&[1, 4], load));
        assert_eq!((values(&many), many.failed), (vec![(1, 10, fresh)], vec![4]));
    }
    assert_eq!(asked, [vec![1, 4], vec![4]]);
    let stats = cache.stats().since(&before);
    assert_eq!((stats.loads, stats.load_failures, stats.refreshes), (2, 2, 1));
    // what the source does not have any more is gone
    hand.advance(secs(1));
    let many = cache.get_or_load_many(&[1], |_| Reply::Ok(Vec::new()));
    assert_eq!((many.missing, cache.get(&1)), (vec![1], None));
}

#[test]
fn what_is_due_of_many_is_served_where_there_is_no_slot() {
    let (cache, _hand) = due(|builder| builder.max_concurrent_loads(1));
    let gate = Gate::new();
    let mut busy = Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
    busy.pend();
    let many = cache.get_or_load_many(&[1], |_| -> Reply { unreachable!("there is no slot") });
    assert_eq!(values(&many), [(1, 1, How::Fresh)]);
    // and does not wait with those that have to
    let load =
        |keys: Vec<u64>| async move { Reply::Ok(keys.iter().map(|n| (*n, n * 10)).collect()) };
    let mut task = Task::new(cache.get_or_load_many_async(&[1, 2], load));
    task.pend();
    assert_eq!(cache.flights(), 2);
    gate.open();
    busy.finish().unwrap();
    assert_eq!(values(&task.finish()), [(1, 1, How::Fresh), (2, 20, How::Loaded)]);
}

#[test]
fn what_is_due_is_served_where_there_is_no_slot_once_the_tier_was_asked() {
    let (cache, hand) = due_beside_a_tier(|builder| builder.max_concurrent_loads(1));
    let gate = Gate::new();
    let mut busy = Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
    busy.pend();
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!("there is no slot")), 1);
    let task = cache.get_or_insert_with_async(&1, || async { unreachable!("there is no slot") });
    assert_eq!(block_on(task), 1);
    assert_eq!(cache.get_or_load(&1, uncalled).unwrap(), 1);
    assert_eq!(block_on(cache.get_or_load_async(&1, || async { uncalled() })).unwrap(), 1);
    assert_eq!((cache.stats().overloaded, cache.loads_in_line(), cache.flights()), (4, 0, 1));
    // of many, it does not wait with those that have to
    let load =
        |keys: Vec<u64>| async move { Reply::Ok(keys.iter().map(|n| (*n, n * 10)).collect()) };
    let mut many = Task::new(cache.get_or_load_many_async(&[1, 2], load));
    many.pend();
    assert_eq!((cache.stats().overloaded, cache.flights()), (5, 2));
    // one whose life ended meanwhile waits with them
    hand.advance(secs(30));
    let mut single = Task::new(cache.get_or_load_async(&1, || async { Ok::<_, String>(2) }));
    single.pend();
    gate.open();
    busy.finish().unwrap();
    assert_eq!(values(&many.finish()), [(1, 1, How::Fresh), (2, 20, How::Loaded)]);
    assert_eq!(single.finish().unwrap(), 2);
}

/// The breaker opens for 10 s, while the value under 1 is due.
fn opened(cache: &Checked<u64, u64>) {
    let failed = cache.get_or_load(&7, || Err::<u64, _>("away".to_owned()));
    assert!(failed.is_err() && cache.get_or_load(&7, uncalled).unwrap_err().is_circuit_open());
}

/// All who bring a loader get the value under 1, which is due, and their loaders are not called.
fn four_are_served(cache: &Checked<u64, u64>) {
    assert_eq!(cache.get_or_load(&1, uncalled).unwrap(), 1);
    assert_eq!(block_on(cache.get_or_load_async(&1, || async { uncalled() })).unwrap(), 1);
    let got = cache.at(&1).load(|_| uncalled::<u64>()).unwrap();
    assert_eq!((got.value, got.how), (1, How::Fresh));
    let many = cache.get_or_load_many(&[1], |_| -> Reply { unreachable!("the breaker is open") });
    assert_eq!(values(&many), [(1, 1, How::Fresh)]);
}

#[test]
fn what_is_due_is_served_where_the_breaker_is_open_once_the_tier_was_asked() {
    let (cache, hand) = due_beside_a_tier(|builder| builder.circuit_breaker(1, secs(10)));
    opened(&cache);
    let before = cache.stats();
    four_are_served(&cache);
    assert_eq!(cache.stats().since(&before).circuit_open, 4);
    // a load that cannot fail is none of the breaker's business
    assert_eq!(cache.get_or_insert_with(&1, || 2), 2);
    hand.advance(secs(10));
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(3)).unwrap(), 2);
}

#[test]
fn a_handler_of_events_is_served_what_is_due_and_counts_no_load() {
    type Handle = Invalidator<u64, u64>;
    let (own, served) = (Arc::new(OnceLock::<Handle>::new()), Arc::new(Mutex::new(None)));
    let on_event = {
        let (own, served) = (Arc::clone(&own), Arc::clone(&served));
        move |event: Event<'_, u64>| {
            if let (Event::CircuitOpened, Some(cache)) =
                (event, own.get().and_then(Invalidator::upgrade))
            {
                let before = cache.stats();
                let value = cache.get_or_load(&1, uncalled).unwrap();
                let stats = cache.stats().since(&before);
                *served.lock() = Some((value, stats.hits, stats.misses, stats.circuit_open));
            }
        }
    };
    let breaking = |builder: CacheBuilder<u64, u64>| builder.circuit_breaker(1, secs(10));
    let (cache, _hand) = due(|builder| breaking(builder).on_event(on_event));
    assert!(own.set(cache.invalidator()).is_ok());
    opened(&cache);
    assert_eq!(*served.lock(), Some((1, 1, 0, 0)));
}

#[test]
fn what_is_due_is_a_hit_while_the_breaker_is_open() {
    let (cache, hand) = due(|builder| builder.circuit_breaker(1, secs(10)));
    opened(&cache);
    let before = cache.stats();
    four_are_served(&cache);
    let stats = cache.stats().since(&before);
    assert_eq!((stats.hits, stats.misses, stats.refreshes, stats.circuit_open), (4, 0, 0, 4));
    // the next one that may probe the source does so by its refresh
    hand.advance(secs(10));
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(2)).unwrap(), 2);
    let stats = cache.stats().since(&before);
    assert_eq!((stats.hits, stats.misses, stats.refreshes, stats.loads), (4, 1, 1, 1));
}

#[test]
fn what_is_due_is_made_anew_though_the_breaker_is_open() {
    let (cache, _hand) = due(|builder| builder.circuit_breaker(1, secs(10)));
    opened(&cache);
    assert_eq!(cache.get_or_insert_with(&1, || 2), 2);
    assert_eq!(cache.stats().refreshes, 1);
}

#[test]
fn a_breaker_that_a_hit_finds_open_is_told_of() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let told = log.clone();
    let (cache, hand) = due(|builder| {
        let builder = builder.load_timeout(secs(5)).circuit_breaker(1, secs(60));
        builder.on_event(move |event| told.lock().push(event.to_string()))
    });
    // nobody waits for it, so nobody notices that it takes too long
    let mut hangs = Task::new(cache.get_or_load_async(&9, pending::<Result<u64, String>>));
    hangs.pend();
    hand.advance(secs(5));
    assert_eq!(cache.get_or_load(&1, uncalled).unwrap(), 1);
    assert_eq!(*log.lock(), ["the circuit breaker opened"]);
}
