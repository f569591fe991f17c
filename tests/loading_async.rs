//! Caches that own an async loader, and what they load in the background.

mod common;

use common::doubles::Ledger;
use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{secs, watched};
use larder::{
    AsyncLoader, AsyncLoadingCache, Cache, Clock, ConfigError, LoadCx, LoadReason, Loaded,
    ManualClock, RefreshAhead, SteppingRuntime,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Brings its own count of loads, from 1, as soon as its gate is open; fails or panics when told to.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    gate: Gate,
    loads: AtomicU64,
    fails: AtomicBool,
    panics: AtomicBool,
    reasons: Mutex<Vec<LoadReason>>,
    alive: Ledger,
}

impl AsyncLoader<u64, u64> for Source {
    type Error = String;

    async fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        let _alive = self.0.alive.counted(0);
        self.0.reasons.lock().push(cx.reason());
        let n = self.0.loads.fetch_add(1, SeqCst) + 1;
        self.0.gate.pass_async(()).await;
        assert!(!self.0.panics.load(SeqCst), "expected: the loader's own trouble");
        if self.0.fails.load(SeqCst) { Err("away".to_owned()) } else { Ok(Loaded::new(n)) }
    }
}

impl Source {
    fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }

    /// How many of its futures are there, done or not.
    fn running(&self) -> i64 {
        self.0.alive.alive()
    }
}

struct Setting {
    cache: AsyncLoadingCache<u64, u64, Source>,
    source: Source,
    runtime: SteppingRuntime,
    hand: ManualClock,
}

/// Values live for a minute and are due after 48 s; tasks in the background are stepped.
fn setting() -> Setting {
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    source.0.gate.open();
    let cache = Cache::builder()
        .max_entries(100)
        .time_to_live(secs(60))
        .refresh_ahead(RefreshAhead::At(0.8))
        .load_timeout(secs(5))
        .clock(clock)
        .seed(1)
        .runtime(runtime.clone())
        .build_loading_async(source.clone())
        .unwrap();
    Setting { cache, source, runtime, hand }
}

/// The same with a source that lets nobody through yet.
fn closed() -> Setting {
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let cache = Cache::builder()
        .max_entries(100)
        .load_timeout(secs(5))
        .clock(clock)
        .runtime(runtime.clone())
        .build_loading_async(source.clone())
        .unwrap();
    Setting { cache, source, runtime, hand }
}

#[test]
fn a_hit_past_the_point_starts_one_refresh_and_waits_for_nothing() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    assert_eq!(block_on(cache.load(&1)).unwrap(), 1);
    hand.advance(secs(48));
    // a thread's hit, and a task's that is polled once
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 1);
    assert_eq!((runtime.ready(), source.loads()), (1, 1));
    assert!(runtime.step());
    assert_eq!((cache.get(&1), cache.stats().refreshes), (Some(2), 1));
    assert_eq!(*source.0.reasons.lock(), [LoadReason::Miss, LoadReason::Refresh]);
}

#[test]
fn many_keys_are_loaded_in_one_call() {
    let Setting { cache, source, .. } = setting();
    let _checked = watched(&cache);
    let many = block_on(cache.load_many(&[1, 2, 3, 2]));
    assert_eq!((many.got.len(), source.loads(), cache.stats().loads), (3, 3, 1));
}

#[test]
fn a_closure_loads_each_of_many_keys_by_itself_and_32_at_once() {
    let (gate, running) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let (entry, count) = (gate.clone(), Arc::clone(&running));
    let load = move |key: u64| {
        let (entry, count) = (entry.clone(), Arc::clone(&count));
        async move {
            count.fetch_add(1, SeqCst);
            entry.pass_async(()).await;
            count.fetch_sub(1, SeqCst);
            if key == 31 { Err("bad") } else { Ok(key) }
        }
    };
    let runtime = SteppingRuntime::new();
    let builder = Cache::builder().max_entries(1_000).batch(10, secs(50)).runtime(runtime.clone());
    let cache = builder.build_loading_async_fn(load).unwrap();
    let _checked = watched(&cache);

    let keys: Vec<u64> = (0..100).chain([7, 31]).collect();
    let mut many = Task::new(cache.load_many(&keys));
    many.pend();
    assert_eq!(running.load(SeqCst), 32);
    gate.open();
    let many = many.finish();
    let got: Vec<_> = many.got.iter().map(|(key, got)| (*key, got.value)).collect();
    let expected: Vec<_> = (0..100).filter(|key| *key != 31).map(|key| (key, key)).collect();
    assert_eq!((got, many.failed), (expected, vec![31]));
    assert_eq!(many.error.unwrap().loader(), Some(&"bad"));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (100, 1));

    // nor does one wait for company, and none is loaded twice
    assert_eq!(Task::new(cache.load(&100)).finish().unwrap(), 100);
    assert_eq!(Task::new(cache.load_many(&[1, 100])).finish().got.len(), 2);
    assert_eq!((cache.stats().loads, running.load(SeqCst)), (101, 0));
    let warmed = cache.warm([31, 200, 201]);
    runtime.run_until_stalled();
    assert_eq!((warmed.loaded(), warmed.failed()), (2, 1));
}

#[test]
fn a_call_for_many_keys_that_is_dropped_hands_them_on() {
    let gate = Gate::default();
    let entry = gate.clone();
    let load = move |key: u64| {
        let entry = entry.clone();
        async move {
            entry.pass_async(()).await;
            Ok::<_, String>(key)
        }
    };
    let builder = Cache::builder().max_entries(100).runtime(SteppingRuntime::new());
    let cache = builder.build_loading_async_fn(load).unwrap();
    let _checked = watched(&cache);
    let mut many = Task::new(cache.load_many(&[1, 2]));
    many.pend();
    let mut waits = Task::new(cache.load(&2));
    waits.pend();
    drop(many);
    gate.open();
    assert_eq!((waits.finish().unwrap(), waits.wakes()), (2, 1));
    assert_eq!((cache.get(&1), cache.flights()), (None, 0));
}

#[test]
fn a_task_that_misses_waits_for_the_refresh_that_is_under_way() {
    let Setting { cache, source, runtime, .. } = closed();
    let _checked = watched(&cache);
    cache.refresh(&1);
    runtime.run_until_stalled();
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    source.0.gate.open();
    assert!(runtime.step());
    assert_eq!(caller.finish().unwrap(), 1);
    assert_eq!((source.loads(), source.running(), cache.stats().joined), (1, 0, 1));
}

#[test]
fn a_dropped_leader_hands_its_key_on() {
    let Setting { cache, source, .. } = closed();
    let _checked = watched(&cache);
    let mut leader = Task::new(cache.load(&1));
    leader.pend();
    let mut follower = Task::new(cache.load(&1));
    follower.pend();
    drop(leader);
    follower.pend();
    source.0.gate.open();
    assert_eq!(follower.finish().unwrap(), 2);
    assert_eq!((source.running(), cache.get(&1)), (0, Some(2)));
}

#[test]
fn a_refresh_that_hangs_is_dropped_and_gives_up_its_key() {
    let Setting { cache, source, runtime, hand } = closed();
    let _checked = watched(&cache);
    cache.refresh(&1);
    runtime.run_until_stalled();
    assert_eq!((source.running(), cache.flights()), (1, 1));
    hand.advance(secs(5));
    assert_eq!(runtime.run_until_stalled(), 1, "the clock woke it");
    assert_eq!((source.running(), cache.flights(), cache.stats().load_timeouts), (0, 0, 1));
}

#[test]
fn a_refresh_that_a_waiter_timed_out_is_dropped_too() {
    let Setting { cache, source, runtime, hand } = closed();
    let _checked = watched(&cache);
    cache.refresh(&1);
    runtime.run_until_stalled();
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    hand.advance(secs(5));
    assert!(caller.finish().unwrap_err().is_timeout());
    runtime.run_until_stalled();
    let stats = cache.stats();
    assert_eq!((source.running(), stats.load_timeouts, stats.abandoned), (0, 1, 0));
}

#[test]
fn dropping_the_cache_drops_the_loads_that_nobody_waits_for() {
    let Setting { cache, source, runtime, .. } = closed();
    cache.refresh(&1);
    runtime.run_until_stalled();
    cache.refresh(&2); // not begun yet
    assert_eq!(source.running(), 1);
    drop(cache);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), source.running()), (1, 0));
    assert_eq!(Arc::strong_count(&source.0), 1, "and nothing holds the loader");
}

#[test]
fn a_panic_in_the_background_is_counted_and_contained() {
    let Setting { cache, source, runtime, .. } = setting();
    let _checked = watched(&cache);
    source.0.panics.store(true, SeqCst);
    cache.refresh(&1);
    assert_eq!(runtime.run_until_stalled(), 1, "it does not reach the runtime");
    assert_eq!((cache.flights(), cache.stats().load_failures), (0, 1));
    source.0.panics.store(false, SeqCst);
    cache.refresh(&1);
    runtime.run_until_stalled();
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn a_refresh_that_fails_leaves_the_value() {
    let Setting { cache, source, runtime, .. } = setting();
    let _checked = watched(&cache);
    block_on(cache.load(&1)).unwrap();
    source.0.fails.store(true, SeqCst);
    cache.refresh(&1);
    runtime.run_until_stalled();
    assert_eq!((cache.get(&1), cache.stats().load_failures), (Some(1), 1));
}

#[test]
fn what_the_runtime_refuses_waits_for_a_task() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    block_on(cache.load(&1)).unwrap();
    runtime.shut_down();
    hand.advance(secs(50));
    assert_eq!((cache.get(&1), cache.flights()), (Some(1), 0));
    assert_eq!((source.loads(), cache.stats().refused), (1, 1));
    hand.advance(secs(10));
    assert_eq!(block_on(cache.load(&1)).unwrap(), 2);
}

/// One load at a time; the refresh waits for it, and yields to every miss.
#[test]
fn a_refresh_waits_for_its_slot_behind_all_misses() {
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    let cache = Cache::builder()
        .max_entries(10)
        .max_concurrent_loads(1)
        .clock(Clock::manual().0)
        .runtime(runtime.clone())
        .build_loading_async(source.clone())
        .unwrap();
    let _checked = watched(&cache);
    let mut first = Task::new(cache.load(&1));
    first.pend();
    cache.refresh(&2);
    runtime.run_until_stalled();
    let mut later = Task::new(cache.load(&3));
    later.pend();
    // who wants what waits in the line does not wait with it: it is a miss
    let mut taker = Task::new(cache.load(&2));
    taker.pend();
    assert_eq!(source.loads(), 1);
    source.0.gate.open();
    assert_eq!(first.finish().unwrap(), 1);
    assert_eq!(runtime.ready(), 0, "not its turn yet");
    assert_eq!(later.finish().unwrap(), 2);
    assert_eq!(taker.finish().unwrap(), 3);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), cache.flights()), (3, 0), "its key was loaded meanwhile");
    cache.refresh(&2);
    runtime.run_until_stalled();
    assert_eq!(cache.get(&2), Some(4));
}

#[test]
fn refreshes_that_lost_their_keys_leave_the_line_though_misses_wait() {
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let builder = Cache::builder().max_entries(100).load_timeout(secs(5)).clock(clock);
    let builder = builder.max_concurrent_loads(1).runtime(runtime.clone());
    let cache = builder.build_loading_async(source).unwrap();
    let _checked = watched(&cache);
    // one that hangs after the other has the slot
    let keys: Vec<u64> = (10..30).collect();
    let mut misses: Vec<_> = keys.iter().map(|key| Task::new(cache.load(key))).collect();
    misses.iter_mut().for_each(Task::pend);
    for value in 0..50 {
        cache.refresh(&1);
        runtime.run_until_stalled();
        cache.insert(1, value);
        hand.advance(secs(1));
    }
    cache.refresh(&1);
    runtime.run_until_stalled();
    drop(misses);
    let left = cache.loads_in_line();
    assert!(left <= 6, "{left} of 51 refreshes of one key are in line");
    runtime.run_until_stalled();
    assert_eq!(cache.loads_in_line(), 0);
    cache.clear();
    hand.advance(secs(5));
    runtime.run_until_stalled();
}

#[test]
fn a_refresh_that_stands_in_line_keeps_no_cache_alive() {
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    let cache = Cache::builder()
        .max_entries(10)
        .max_concurrent_loads(1)
        .clock(Clock::manual().0)
        .runtime(runtime.clone())
        .build_loading_async(source.clone())
        .unwrap();
    cache.refresh(&1);
    cache.refresh(&2);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), source.running()), (1, 1));
    drop(cache);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), source.running(), Arc::strong_count(&source.0)), (1, 0, 1));
}

#[test]
fn no_refresh_is_begun_while_the_breaker_is_open() {
    let (clock, hand) = Clock::manual();
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    source.0.gate.open();
    let cache = Cache::builder()
        .max_entries(10)
        .circuit_breaker(1, secs(10))
        .clock(clock)
        .runtime(runtime.clone())
        .build_loading_async(source.clone())
        .unwrap();
    let _checked = watched(&cache);
    source.0.fails.store(true, SeqCst);
    cache.refresh(&1);
    runtime.run_until_stalled();
    source.0.fails.store(false, SeqCst);
    cache.refresh(&1);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), cache.stats().circuit_open), (1, 1));
    hand.advance(secs(10));
    cache.refresh(&1); // the probe
    runtime.run_until_stalled();
    assert_eq!(cache.get(&1), Some(2));
}

#[cfg(not(feature = "tokio"))]
#[test]
fn without_a_runtime_there_is_no_such_cache() {
    let built = Cache::builder().max_entries(1).build_loading_async(Source::default());
    assert_eq!(built.unwrap_err(), ConfigError::NoRuntime);
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use super::*;
    use common::wait_until;

    #[test]
    fn outside_of_tokio_there_is_no_such_cache() {
        let built = Cache::builder().max_entries(1).build_loading_async(Source::default());
        let refused = built.unwrap_err();
        assert_eq!(refused, ConfigError::NoRuntime);
        assert!(refused.to_string().contains("runtime(..)"));
    }

    #[test]
    fn refreshes_run_on_the_runtime_that_it_was_built_in() {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let source = Source::default();
        source.0.gate.open();
        let cache = {
            let _inside = tokio.enter();
            Cache::builder().max_entries(10).build_loading_async(source.clone()).unwrap()
        };
        let _checked = watched(&cache);
        cache.refresh(&1); // from a thread of its own
        wait_until(|| cache.get(&1) == Some(1));
        source.0.panics.store(true, SeqCst);
        cache.refresh(&1);
        // the failure is counted before the key is free
        wait_until(|| cache.stats().load_failures == 1 && cache.flights() == 0);
        source.0.panics.store(false, SeqCst);
        cache.refresh(&1);
        wait_until(|| cache.get(&1) == Some(3));
    }

    #[test]
    fn a_blocking_loader_can_use_it_too() {
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let cache = Cache::builder()
            .max_entries(10)
            .runtime(tokio.handle().clone())
            .build_loading_fn(|key: &u64| Ok::<_, std::convert::Infallible>(*key))
            .unwrap();
        let _checked = watched(&cache);
        cache.refresh(&7);
        wait_until(|| cache.get(&7) == Some(7));
        drop(tokio);
        cache.refresh(&8);
        assert_eq!((cache.get(&8), cache.stats().refused), (Some(8), 1), "done by its caller");
    }

    #[test]
    fn a_cache_outlives_its_runtime() {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let source = Source::default();
        let cache = Cache::builder()
            .max_entries(10)
            .runtime(tokio.handle().clone())
            .build_loading_async(source.clone())
            .unwrap();
        let _checked = watched(&cache);
        cache.refresh(&1);
        wait_until(|| source.running() == 1);
        drop(tokio);
        assert_eq!((source.running(), cache.flights()), (0, 0), "its task went with it");
        cache.refresh(&1);
        assert_eq!((cache.flights(), cache.stats().refused), (0, 1));
        source.0.gate.open();
        assert_eq!(block_on(cache.load(&1)).unwrap(), 2);
    }

    #[test]
    fn dropping_the_cache_ends_its_tasks() {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let source = Source::default();
        let cache = Cache::builder()
            .max_entries(10)
            .runtime(tokio.handle().clone())
            .build_loading_async(source.clone())
            .unwrap();
        cache.refresh(&1);
        wait_until(|| source.running() == 1);
        drop(cache);
        wait_until(|| source.running() == 0 && tokio.metrics().num_alive_tasks() == 0);
    }
}
