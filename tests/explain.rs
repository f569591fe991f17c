//! `explain`: what is told of a key, to the tick.

mod common;

use common::gate::Gate;
use common::tasks::Task;
use common::{Fixture, checked, ms, secs, uncalled, with_cache};
use larder::{
    BreakerState, Cache, Clock, End, Explanation, Loaded, RefreshAhead, Standing, SteppingRuntime,
};
use std::time::Duration;

fn ends(told: &Explanation) -> [Option<End>; 3] {
    [told.fresh, told.revalidate, told.error_only]
}

#[allow(clippy::unnecessary_wraps)]
fn later(millis: u64) -> Option<End> {
    Some(End::In(ms(millis)))
}

#[allow(clippy::unnecessary_wraps)]
fn ago(millis: u64) -> Option<End> {
    Some(End::Ago(ms(millis)))
}

#[test]
fn a_value_is_followed_through_its_ages_to_the_tick() {
    let windows = |builder: larder::CacheBuilder<u64, u64>| {
        builder.time_to_live(ms(100)).stale_while_revalidate(ms(50)).stale_if_error(ms(200))
    };
    with_cache(windows, |it: &Fixture| {
        assert_eq!(it.explain(&1), Explanation::default());
        let load = || Ok::<_, String>(Loaded::new(10).validator("v7"));
        it.at(&1).load(|_| load()).unwrap();
        let told = it.explain(&1);
        assert_eq!((told.standing, told.age), (Standing::Fresh, Some(ms(0))));
        assert_eq!(ends(&told), [later(100), later(150), later(300)]);
        assert_eq!(told.validator.as_deref(), Some("v7"));
        assert!(told.failure.is_none() && told.load.is_none() && !told.is_fenced);
        assert!(told.breaker.is_none() && told.slots.is_none());

        it.advance(ms(99));
        assert_eq!(it.explain(&1).standing, Standing::Fresh);
        it.advance(ms(1));
        let told = it.explain(&1);
        assert_eq!((told.standing, told.age), (Standing::Revalidate, Some(ms(100))));
        assert_eq!(ends(&told), [ago(0), later(50), later(200)]);
        it.advance(ms(50));
        let told = it.explain(&1);
        assert_eq!(told.standing, Standing::ErrorOnly);
        assert_eq!(ends(&told), [ago(50), ago(0), later(150)]);
        it.advance(ms(149));
        assert_eq!(it.explain(&1).standing, Standing::ErrorOnly);
        it.advance(ms(1));
        assert_eq!(it.explain(&1), Explanation::default(), "gone, freed or not");
    });
}

#[test]
fn what_has_no_windows_shows_none() {
    let settings = |builder: larder::CacheBuilder<u64, u64>| {
        builder
            .time_to_live(ms(100))
            .time_to_idle(ms(30))
            .negative_ttl(ms(20))
            .stale_if_error(ms(200))
    };
    with_cache(settings, |it: &Fixture| {
        it.insert(1, 10);
        let told = it.explain(&1);
        assert_eq!(ends(&told), [later(30), None, None], "not used it ends, and is gone");
        it.get_or_load_optional(&2, || Ok::<_, String>(None)).unwrap();
        let told = it.explain(&2);
        assert_eq!((told.standing, ends(&told)), (Standing::Missing, [later(20), None, None]));
        assert_eq!(told.to_string(), "cached as \"not found\"\nage: 0ms; fresh for another 20ms");
        it.at(&3).ttl(Duration::MAX).insert(30);
        assert_eq!(it.explain(&3).fresh, later(30));
    });
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let told = it.explain(&1);
            assert_eq!(ends(&told), [Some(End::In(Duration::MAX)), None, None]);
            assert_eq!(told.to_string(), "fresh\nage: 0ms; fresh for ever");
        },
    );
}

#[test]
fn what_has_no_end_has_none_later_either() {
    let never = Some(End::In(Duration::MAX));
    let settings = |builder: larder::CacheBuilder<u64, u64>| {
        builder.time_to_live(ms(100)).stale_while_revalidate(ms(50)).stale_if_error(Duration::MAX)
    };
    with_cache(settings, |it: &Fixture| {
        it.at(&1).ttl(Duration::MAX).insert(10);
        it.insert(2, 20);
        it.advance(ms(130));
        let told = it.explain(&1);
        assert_eq!(ends(&told), [never, None, None]);
        assert_eq!(told.to_string(), "fresh\nage: 130ms; fresh for ever");
        let told = it.explain(&2);
        assert_eq!(ends(&told), [ago(30), later(20), never]);
        it.advance(ms(70));
        let told = it.explain(&2);
        assert_eq!(ends(&told), [ago(100), ago(50), never]);
        assert!(told.to_string().ends_with("served if loads fail for ever"), "{told}");
    });
}

#[test]
fn what_a_tag_ended_is_told_as_such() {
    let settings = |builder: larder::CacheBuilder<u64, u64>| {
        builder.time_to_live(ms(100)).stale_while_revalidate(ms(50))
    };
    with_cache(settings, |it: &Fixture| {
        it.at(&1).tag("t").insert(10);
        it.advance(ms(20));
        it.expire_tag("t");
        it.advance(ms(10));
        let told = it.explain(&1);
        assert_eq!((told.standing, told.age), (Standing::Revalidate, Some(ms(30))));
        assert_eq!(ends(&told), [ago(10), later(40), None]);
        it.remove_tag("t");
        assert_eq!(it.explain(&1), Explanation::default());
    });
}

#[test]
fn failures_tell_when_they_were_and_when_the_next_try_is() {
    let settings = |builder: larder::CacheBuilder<u64, u64>| {
        builder.time_to_live(ms(100)).error_backoff(ms(40), ms(400))
    };
    with_cache(settings, |it: &Fixture| {
        let fail = || it.get_or_load(&1, || Err::<u64, _>("away".to_owned())).unwrap_err();
        fail();
        it.advance(ms(40));
        fail();
        it.advance(ms(30));
        let failure = it.explain(&1).failure.unwrap();
        assert_eq!((failure.in_a_row, failure.ago, failure.next_try), (2, ms(30), ms(50)));
        it.advance(ms(60));
        let failure = it.explain(&1).failure.unwrap();
        assert_eq!((failure.ago, failure.next_try), (ms(90), ms(0)));
        it.get_or_load(&1, || Ok::<_, String>(10)).unwrap();
        assert_eq!(it.explain(&1).failure, None);
    });
}

#[test]
fn loads_tell_their_age_and_who_waits_in_line_and_after() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(100).clock(clock);
    let cache = checked(builder.load_timeout(ms(100)).max_concurrent_loads(1));
    let gate = Gate::new();
    let ask = |key| Task::new(cache.get_or_load_async(key, || gate.pass_async(Ok::<_, String>(1))));
    let mut running = ask(&1);
    running.pend();
    hand.advance(ms(10));
    let mut waiting = [ask(&2), ask(&2), ask(&2)];
    waiting.iter_mut().for_each(Task::pend);
    hand.advance(ms(10));

    let told = cache.explain(&1);
    let load = told.load.unwrap();
    assert_eq!((load.age, load.waiters, load.gives_up_in), (ms(20), 0, Some(ms(80))));
    let slots = told.slots.unwrap();
    assert_eq!((slots.limit, slots.running, slots.waiting), (1, 1, 1));
    let told = cache.explain(&2);
    let load = told.load.unwrap();
    assert_eq!((load.age, load.waiters, load.gives_up_in), (ms(10), 2, None));
    assert_eq!(
        told.to_string(),
        "not cached: callers wait for the load in flight\n\
         load in flight: queued for 10ms; 2 callers wait for it\n\
         concurrent loads: 1 of 1, 1 queued"
    );

    drop(running);
    waiting[0].pend();
    hand.advance(ms(10));
    let load = cache.explain(&2).load.unwrap();
    assert_eq!((load.age, load.gives_up_in), (ms(20), Some(ms(90))));
    gate.open();
    for task in &mut waiting {
        task.finish().unwrap();
    }
    assert!(cache.explain(&2).load.is_none());
}

#[test]
fn the_breaker_tells_its_state() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(100).clock(clock);
    let cache = checked(builder.circuit_breaker(2, ms(500)));
    let state = || cache.explain(&9).breaker.unwrap();
    let fail = || cache.get_or_load(&1, || Err::<u64, _>("away".to_owned())).unwrap_err();
    assert_eq!(state(), BreakerState::Closed { failures: 0 });
    fail();
    assert_eq!(state(), BreakerState::Closed { failures: 1 });
    fail();
    hand.advance(ms(200));
    assert_eq!(state(), BreakerState::Open { probe_in: ms(300) });
    hand.advance(ms(400));
    assert_eq!(state(), BreakerState::Open { probe_in: ms(0) });
    let gate = Gate::new();
    let load = || gate.pass_async(Ok::<_, String>(1));
    let mut probe = Task::new(cache.get_or_load_async(&1, load));
    probe.pend();
    assert_eq!(state(), BreakerState::Probing);
    gate.open();
    probe.finish().unwrap();
    assert_eq!(state(), BreakerState::Closed { failures: 0 });
}

#[test]
fn a_write_under_way_is_told_and_nothing_is_counted() {
    with_cache(
        |builder| builder,
        |it| {
            it.insert(1, 10);
            let fence = it.writing(&1);
            assert!(it.explain(&1).is_fenced && !it.explain(&2).is_fenced);
            drop(fence);
            assert!(!it.explain(&1).is_fenced);
            let stats = it.stats();
            assert_eq!((stats.hits, stats.misses), (0, 0));
        },
    );
}

#[test]
fn it_shows_neither_key_nor_value() {
    let cache: Cache<String, String> = Cache::builder()
        .max_entries(10)
        .stale_if_error(ms(1_000))
        .time_to_live(ms(1_000))
        .max_concurrent_loads(1)
        .circuit_breaker(1, ms(1_000))
        .build()
        .unwrap();
    cache.insert("Ann's key".to_owned(), "Ann's value".to_owned());
    cache.get_or_load("Bob's key", || Err::<String, _>("Bob's error")).unwrap_err();
    assert!(cache.get_or_load("Bob's key", uncalled).is_err());
    for key in ["Ann's key", "Bob's key"] {
        let told = cache.explain(key);
        let text = format!("{told}\n{told:?}");
        assert!(!text.contains("Ann") && !text.contains("Bob"), "{text}");
    }
}

#[test]
fn a_next_try_is_named_only_where_nobody_loads_until_then() {
    with_cache(
        |builder| builder,
        |it: &Fixture| {
            assert!(it.get_or_load(&1, || Err::<u64, _>("away".to_owned())).is_err());
            let told = it.explain(&1);
            assert_eq!(told.failure.map(|failure| failure.next_try), Some(ms(0)));
            assert!(told.to_string().starts_with("not cached: the next caller loads"), "{told}");
            assert_eq!(it.get_or_load(&1, || Ok::<_, String>(1)).unwrap(), 1);
        },
    );
    with_cache(
        |builder| builder.error_backoff(ms(500), ms(500)),
        |it: &Fixture| {
            assert!(it.get_or_load(&1, || Err::<u64, _>("away".to_owned())).is_err());
            let told = it.explain(&1);
            assert_eq!(told.failure.map(|failure| failure.next_try), Some(ms(500)));
            assert!(told.to_string().starts_with("not cached: callers get the last error"));
            assert!(it.get_or_load(&1, common::uncalled::<u64>).is_err());
        },
    );
}

#[test]
fn what_is_served_at_once_is_said_to_be() {
    let settings = |builder: larder::CacheBuilder<u64, u64>| {
        builder.time_to_live(ms(100)).stale_if_error(secs(60)).circuit_breaker(2, secs(30))
    };
    with_cache(settings, |it: &Fixture| {
        let first_line = || it.explain(&1).to_string().lines().next().unwrap().to_owned();
        let fail = |key| it.get_or_load(&key, || Err::<u64, _>("away"));
        it.insert(1, 10);
        it.advance(ms(100));
        assert!(first_line().contains("callers wait for a load"), "{}", first_line());
        assert_eq!(fail(1).unwrap(), 10);
        assert_eq!(first_line(), "expired: served stale at once, because the last load failed");
        it.advance(secs(1));
        assert!(fail(2).is_err());
        assert_eq!(
            first_line(),
            "expired: served stale at once, because the circuit breaker is open"
        );
        assert!(it.explain(&1).to_string().contains("next try when the circuit breaker allows it"));
        assert_eq!(it.at(&1).load(|_| uncalled::<u64>()).unwrap().value, 10);
    });
}

#[test]
fn a_refresh_that_failed_is_held_back_and_shown_so() {
    let (clock, hand) = Clock::manual();
    let runtime = SteppingRuntime::new();
    let builder = Cache::builder().max_entries(10).time_to_live(secs(100)).clock(clock);
    let builder = builder.refresh_ahead(RefreshAhead::At(0.5)).runtime(runtime.clone());
    let calls = std::sync::atomic::AtomicU64::new(0);
    let load = move |_: &u64| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Ok(10),
        _ => Err("away"),
    };
    let cache = builder.build_loading_fn(load).unwrap();
    assert_eq!(cache.load(&1).unwrap(), 10);
    hand.advance(secs(60));
    assert_eq!(cache.load(&1).unwrap(), 10);
    runtime.run_until_stalled();
    let told = cache.explain(&1);
    assert_eq!((told.standing, told.failure.unwrap().next_try), (Standing::Fresh, secs(1)));
    assert_eq!((cache.load(&1).unwrap(), runtime.run_until_stalled()), (10, 0));
    hand.advance(secs(1));
    assert_eq!(cache.explain(&1).failure.unwrap().next_try, Duration::ZERO);
    assert_eq!((cache.load(&1).unwrap(), runtime.run_until_stalled()), (10, 1));
}
