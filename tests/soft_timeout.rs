//! What `soft_timeout` is to the one who leads in a cache that owns its loader: the load goes on
//! without it.

mod common;

use common::doubles::Unwilling;
use common::gate::Gate;
use common::tasks::Task;
use common::{ms, secs, wait_until, watched};
use larder::{
    AsyncLoader, AsyncLoadingCache, Cache, CacheBuilder, Clock, LoadCx, LoadReason, Loaded, Loader,
    LoadingCache, ManualClock, SteppingRuntime, Tier, TierChange, TierError, TierFound, TierKey,
};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, ThreadId};

/// Brings its own count of loads, from 1, and says where it was called; slow, or panicking, when told
/// to.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    gate: Gate,
    is_slow: AtomicBool,
    panics: AtomicBool,
    loads: AtomicU64,
    seen: Mutex<Vec<(LoadReason, Option<u64>)>>,
    threads: Mutex<Vec<ThreadId>>,
}

impl Source {
    fn begin(&self, cx: &LoadCx<u64>) -> u64 {
        self.0.seen.lock().push((cx.reason(), cx.stale().copied()));
        self.0.threads.lock().push(thread::current().id());
        assert!(!self.0.panics.load(SeqCst), "expected: the loader's own trouble");
        self.0.loads.fetch_add(1, SeqCst) + 1
    }

    /// Whether it was called by this thread last.
    fn was_here(&self) -> bool {
        self.0.threads.lock().last() == Some(&thread::current().id())
    }

    fn is_slow(&self) -> bool {
        self.0.is_slow.load(SeqCst)
    }

    /// From now on it waits for its gate.
    fn slows_down(&self) {
        self.0.is_slow.store(true, SeqCst);
    }
}

impl Loader<u64, u64> for Source {
    type Error = Infallible;

    fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        let n = Loaded::new(self.begin(cx));
        Ok(if self.is_slow() { self.0.gate.pass(n) } else { n })
    }
}

struct AsyncSource(Source);

impl AsyncLoader<u64, u64> for AsyncSource {
    type Error = Infallible;

    async fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        let n = Loaded::new(self.0.begin(cx));
        Ok(if self.0.is_slow() { self.0.0.gate.pass_async(n).await } else { n })
    }
}

/// Values live for a minute; after it they are served where a load fails or takes 50 ms.
fn builder() -> (CacheBuilder<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(100).time_to_live(secs(60)).clock(clock).seed(1);
    let builder = builder.stale_if_error(secs(1_000)).soft_timeout(ms(50)).load_timeout(secs(5));
    (builder, hand)
}

type Threads = LoadingCache<u64, u64, Source>;

/// Keys 1 and 2 have values, which are past their lives.
fn stale(
    with: impl FnOnce(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
) -> (Threads, Source, ManualClock) {
    let (builder, hand) = builder();
    let source = Source::default();
    let cache = with(builder).build_loading(source.clone()).unwrap();
    cache.insert(1, 10);
    cache.insert(2, 20);
    hand.advance(secs(70));
    (cache, source, hand)
}

type Tasks = AsyncLoadingCache<u64, u64, AsyncSource>;

/// The same for tasks.
fn stale_async() -> (Tasks, Source, SteppingRuntime, ManualClock) {
    let (builder, hand) = builder();
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let builder = builder.runtime(runtime.clone());
    let cache = builder.build_loading_async(AsyncSource(source.clone())).unwrap();
    cache.insert(1, 10);
    hand.advance(secs(70));
    (cache, source, runtime, hand)
}

#[test]
fn the_leader_is_freed_and_its_load_goes_on() {
    let (cache, source, hand) = stale(|builder| builder);
    let _checked = watched(&cache);
    source.slows_down();
    thread::scope(|scope| {
        let leader = scope.spawn(|| cache.load(&1));
        source.0.gate.wait_until_entered(1);
        hand.advance(ms(50));
        assert_eq!(leader.join().unwrap().unwrap(), 10);
    });
    let stats = cache.stats();
    assert_eq!((stats.stale_hits, stats.misses, stats.joined), (1, 0, 0));
    assert_eq!(cache.load(&1).unwrap(), 10, "who comes now does not wait at all");
    source.0.gate.open();
    wait_until(|| cache.contains(&1));
    assert_eq!(cache.get(&1), Some(1));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.refused), (1, 0, 0));
    assert_eq!(*source.0.seen.lock(), [(LoadReason::Expired, Some(10))]);
}

#[test]
fn who_is_not_kept_waiting_has_what_was_loaded() {
    let (cache, source, _hand) = stale(|builder| builder);
    let _checked = watched(&cache);
    assert_eq!(cache.load(&1).unwrap(), 1);
    assert!(!source.was_here());
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.stale_hits, stats.loads, stats.joined), (1, 0, 1, 0));
    assert_eq!(stats.refreshes, 0);
}

/// Who loads inside of a load leads it to its end; a change is no load.
#[test]
fn who_loads_inside_of_a_change_is_freed_too() {
    let (cache, source, _hand) = stale(|builder| builder);
    let _checked = watched(&cache);
    assert_eq!(cache.alter(&3, |_| cache.load(&1).ok()), Some(1));
    assert!(!source.was_here());
}

#[test]
fn a_panic_elsewhere_is_no_panic_here() {
    let (cache, source, hand) = stale(|builder| builder);
    let _checked = watched(&cache);
    source.0.panics.store(true, SeqCst);
    assert_eq!(cache.load(&1).unwrap(), 10, "the load failed, and this may be served");
    assert_eq!((cache.stats().load_failures, cache.stats().stale_hits), (1, 1));
    // what cannot be served is loaded by its caller, who unwinds
    let load = || cache.load(&3);
    assert!(catch_unwind(AssertUnwindSafe(load)).is_err());
    hand.advance(secs(2_000));
    source.0.panics.store(false, SeqCst);
    assert_eq!((cache.load(&1).unwrap(), source.was_here()), (1, true));
}

#[test]
fn what_the_runtime_refuses_the_caller_loads() {
    for unwilling in [Unwilling::Refusing, Unwilling::Dropping] {
        let (cache, source, _hand) = stale(|builder| builder.runtime(unwilling));
        let _checked = watched(&cache);
        assert_eq!((cache.load(&1).unwrap(), source.was_here()), (1, true));
        let stats = cache.stats();
        assert_eq!((stats.refused, stats.loads, stats.misses, stats.joined), (1, 1, 1, 0));
        source.0.panics.store(true, SeqCst);
        let load = || cache.load(&2);
        assert!(catch_unwind(AssertUnwindSafe(load)).is_err(), "it is its own");
    }
}

#[test]
fn what_a_runtime_drops_later_its_caller_loads_too() {
    let runtime = SteppingRuntime::new();
    let (cache, source, _hand) = stale(|builder| builder.runtime(runtime.clone()));
    let _checked = watched(&cache);
    thread::scope(|scope| {
        let leader = scope.spawn(|| (cache.load(&1).unwrap(), source.was_here()));
        wait_until(|| runtime.ready() == 1);
        runtime.shut_down();
        assert_eq!(leader.join().unwrap(), (1, true));
    });
    // one that never comes to it keeps nobody waiting
    let runtime = SteppingRuntime::new();
    let (other, source, other_hand) = stale(|builder| builder.runtime(runtime.clone()));
    let _checked = watched(&other);
    thread::scope(|scope| {
        let leader = scope.spawn(|| other.load(&1).unwrap());
        wait_until(|| runtime.ready() == 1);
        other_hand.advance(ms(50));
        assert_eq!(leader.join().unwrap(), 10);
    });
    assert!(runtime.step());
    assert_eq!((other.get(&1), source.0.loads.load(SeqCst)), (Some(1), 1));
}

#[test]
fn a_closure_runs_on_its_caller_whoever_owns_a_loader() {
    let runtime = SteppingRuntime::new();
    let (cache, _source, hand) = stale(|builder| builder.runtime(runtime.clone()));
    let _checked = watched(&cache);
    let own = cache.get_or_load(&1, || {
        hand.advance(ms(60));
        Ok::<_, Infallible>(7)
    });
    assert_eq!(own.unwrap(), 7);
    assert_eq!(cache.at(&2).load(|_| Ok::<_, Infallible>(8)).unwrap().value, 8);
    assert_eq!(runtime.ready(), 0);
}

#[test]
fn without_a_free_slot_what_is_stale_is_served_and_nothing_waits_in_line() {
    let runtime = SteppingRuntime::new();
    let with =
        |builder: CacheBuilder<_, _>| builder.max_concurrent_loads(1).runtime(runtime.clone());
    let (cache, _source, _hand) = stale(with);
    let _checked = watched(&cache);
    let gate = Gate::new();
    thread::scope(|scope| {
        let busy = scope.spawn(|| cache.get_or_load(&9, || Ok::<_, Infallible>(gate.pass(9))));
        gate.wait_until_entered(1);
        assert_eq!(cache.load(&1).unwrap(), 10);
        assert_eq!((runtime.ready(), cache.flights(), cache.stats().overloaded), (0, 1, 1));
        gate.open();
        assert_eq!(busy.join().unwrap().unwrap(), 9);
    });
}

/// A second tier that never answers.
struct Silent(Gate);

impl Tier<u64, u64> for Silent {
    async fn get(&self, _: &TierKey) -> Result<TierFound<u64, u64>, TierError> {
        self.0.pass_async(()).await;
        Err(TierError::TimedOut)
    }

    async fn apply(&self, _: &[TierChange<u64, u64>]) -> Result<(), TierError> {
        Ok(())
    }
}

#[test]
fn the_second_tier_is_a_part_of_the_load() {
    let gate = Gate::new();
    let (cache, source, hand) = stale(|builder| builder.tier(Silent(gate.clone())));
    let _checked = watched(&cache);
    wait_until(|| cache.tier_pending() == 0);
    thread::scope(|scope| {
        let leader = scope.spawn(|| cache.load(&1));
        gate.wait_until_entered(1);
        hand.advance(ms(50));
        assert_eq!(leader.join().unwrap().unwrap(), 10);
    });
    assert_eq!((cache.flights(), source.0.loads.load(SeqCst)), (1, 0));
    gate.open();
    wait_until(|| cache.contains(&1));
    assert_eq!((cache.stats().loads, cache.stats().tier_errors), (1, 1));
}

#[test]
fn a_load_inside_a_load_stays_where_it_is() {
    let (builder, hand) = builder();
    let outer: Cache<u64, u64> = Cache::builder().max_entries(10).build().unwrap();
    let asks = outer.clone();
    let load = move |key: &u64| {
        let own = asks.get_or_load(key, || Ok::<_, Infallible>(0));
        assert!(own.unwrap_err().is_recursive(), "it is this thread that loads it");
        Ok::<_, Infallible>(5)
    };
    let runtime = SteppingRuntime::new();
    let cache = builder.runtime(runtime.clone()).build_loading_fn(load).unwrap();
    let _checked = (watched(&cache), watched(&outer));
    cache.insert(1, 10);
    hand.advance(secs(70));
    assert_eq!(outer.get_or_load(&1, || cache.load(&1)).unwrap(), 5);
    assert_eq!(runtime.ready(), 0);
}

#[test]
fn a_task_that_leads_is_freed_and_its_load_goes_on() {
    let (cache, source, runtime, hand) = stale_async();
    let _checked = watched(&cache);
    source.slows_down();
    let mut leader = Task::new(cache.load(&1));
    leader.pend();
    runtime.run_until_stalled();
    leader.pend();
    hand.advance(ms(50));
    assert_eq!((leader.wakes(), leader.finish().unwrap()), (1, 10));
    let stats = cache.stats();
    assert_eq!((stats.stale_hits, stats.misses, stats.joined), (1, 0, 0));
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!(cache.get(&1), Some(1));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.refused), (1, 0, 0));
    assert_eq!(*source.0.seen.lock(), [(LoadReason::Expired, Some(10))]);
}

#[test]
fn a_task_that_is_dropped_leaves_its_load_running() {
    let (cache, source, runtime, _hand) = stale_async();
    let _checked = watched(&cache);
    let mut leader = Task::new(cache.load(&1));
    leader.pend();
    drop(leader);
    runtime.run_until_stalled();
    assert_eq!((cache.get(&1), source.0.loads.load(SeqCst)), (Some(1), 1));
}

#[test]
fn what_the_runtime_refuses_the_task_loads() {
    let (cache, source, runtime, _hand) = stale_async();
    let _checked = watched(&cache);
    runtime.shut_down();
    assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 1);
    assert_eq!((source.0.loads.load(SeqCst), cache.stats().refused), (1, 1));
    // nor is a key sent away that has nothing to be served meanwhile
    let (cache, source, runtime, _hand) = stale_async();
    assert_eq!(Task::new(cache.load(&3)).finish().unwrap(), 1);
    assert_eq!((source.0.loads.load(SeqCst), runtime.ready()), (1, 0));
}
