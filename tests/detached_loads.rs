//! Loads that go on without their callers: `detached_loads`.

mod common;

use common::doubles::{Ledger, Unwilling};
use common::gate::Gate;
use common::tasks::Task;
use common::{Checked, ms, secs, watched};
use larder::{
    AsyncLoader, AsyncLoadingCache, Cache, CacheBuilder, Clock, LoadCx, LoadError, LoadReason,
    Loaded, ManualClock, MemoryTier, RefreshAhead, Refused, Removal, Runtime, SteppingRuntime,
    Tier, TierChange, TierError, TierFound, TierKey,
};
use parking_lot::Mutex;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::thread;

/// Brings its own count of loads, from 1, as soon as its gate is open; fails, panics or has nothing when
/// told to.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    gate: Gate,
    loads: AtomicU64,
    fails: AtomicBool,
    panics: AtomicBool,
    has_none: AtomicBool,
    seen: Mutex<Vec<(u64, LoadReason, Option<u64>)>>,
    alive: Ledger,
}

impl AsyncLoader<u64, u64> for Source {
    type Error = String;

    async fn load(&self, key: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        let _alive = self.0.alive.counted(0);
        self.0.seen.lock().push((*key, cx.reason(), cx.stale().copied()));
        let n = self.0.loads.fetch_add(1, SeqCst) + 1;
        self.0.gate.pass_async(()).await;
        assert!(!self.0.panics.load(SeqCst), "expected: the loader's own trouble");
        if self.0.fails.load(SeqCst) {
            return Err("away".to_owned());
        }
        Ok(if self.0.has_none.load(SeqCst) { Loaded::missing() } else { Loaded::new(n) })
    }
}

impl Source {
    fn open() -> Self {
        let source = Self::default();
        source.0.gate.open();
        source
    }

    fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }

    /// How many of its futures are there, done or not.
    fn running(&self) -> i64 {
        self.0.alive.alive()
    }

    /// The keys that it was asked for, in their order.
    fn keys(&self) -> Vec<u64> {
        self.0.seen.lock().iter().map(|seen| seen.0).collect()
    }
}

type Tasks = AsyncLoadingCache<u64, u64, Source>;
type Builder = CacheBuilder<u64, u64>;

struct Setting {
    cache: Tasks,
    source: Source,
    runtime: SteppingRuntime,
    hand: ManualClock,
    /// Asserts in the end that nothing is left.
    _checked: Checked<u64, u64>,
}

/// Tasks are stepped, and loads take five seconds at most. `source` lets nobody through, unless opened.
fn setting(source: &Source, with: impl FnOnce(Builder) -> Builder) -> Setting {
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (source.clone(), SteppingRuntime::new());
    let builder = Cache::builder().max_entries(100).load_timeout(secs(5)).clock(clock).seed(1);
    let builder = with(builder.runtime(runtime.clone())).detached_loads();
    let cache = builder.build_loading_async(source.clone()).unwrap();
    let checked = watched(&cache);
    Setting { cache, source, runtime, hand, _checked: checked }
}

fn closed() -> Setting {
    setting(&Source::default(), |builder| builder)
}

/// Values live for a minute, and may be served for long after it where a load comes to nothing.
fn lasting(builder: Builder) -> Builder {
    builder.time_to_live(secs(60)).stale_if_error(secs(1_000))
}

/// A caller that goes away after its first poll.
fn hangs_up(cache: &Tasks, key: u64) {
    Task::new(cache.load(&key)).pend();
}

#[test]
fn a_load_goes_on_without_its_caller_and_is_stored() {
    for is_begun in [false, true] {
        let Setting { cache, source, runtime, _checked, .. } = closed();
        let mut caller = Task::new(cache.load(&1));
        caller.pend();
        assert_eq!((source.loads(), runtime.ready()), (0, 1), "its future does not run it");
        if is_begun {
            assert!(runtime.step());
            caller.pend();
        }
        drop(caller);
        runtime.run_until_stalled();
        assert_eq!((source.loads(), source.running(), cache.flights()), (1, 1, 1));
        let waiters = || cache.explain(&1).load.unwrap().waiters;
        assert_eq!(waiters(), 0);
        source.0.gate.open();
        runtime.run_until_stalled();
        assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 1);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.abandoned, stats.refreshes, stats.refused), (1, 0, 0, 0));
        assert_eq!((stats.misses, stats.hits, stats.joined, stats.insertions), (1, 1, 0, 1));
        assert_eq!(*source.0.seen.lock(), [(1, LoadReason::Miss, None)]);
    }
}

#[test]
fn without_the_setting_it_goes_with_its_caller() {
    let runtime = SteppingRuntime::new();
    let builder = Cache::builder().max_entries(100).runtime(runtime.clone());
    let source = Source::default();
    let cache = builder.build_loading_async(source.clone()).unwrap();
    let _checked = watched(&cache);
    hangs_up(&cache, 1);
    assert_eq!((source.loads(), source.running(), runtime.ready()), (1, 0, 0));
    assert_eq!(cache.stats().abandoned, 1);
}

#[test]
fn those_who_come_meanwhile_wait_for_the_same_load() {
    let Setting { cache, source, runtime, _checked, .. } = closed();
    hangs_up(&cache, 1);
    let mut joins = Task::new(cache.load(&1));
    joins.pend();
    runtime.run_until_stalled();
    let mut later = Task::new(cache.load(&1));
    later.pend();
    joins.pend();
    assert_eq!(cache.explain(&1).load.unwrap().waiters, 2);
    let mut closure =
        Task::new(cache.get_or_load_async(&1, || async { Err::<u64, _>("uncalled") }));
    closure.pend();
    hangs_up(&cache, 1);
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!((joins.finish().unwrap(), later.finish().unwrap()), (1, 1));
    assert_eq!(closure.finish().unwrap(), 1);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.misses, stats.joined, stats.abandoned), (1, 5, 4, 0));
}

#[test]
fn an_error_reaches_all_who_wait_and_its_caller() {
    let Setting { cache, source, runtime, _checked, .. } = closed();
    source.0.fails.store(true, SeqCst);
    let mut callers = [Task::new(cache.load(&1)), Task::new(cache.load(&1))];
    callers.iter_mut().for_each(Task::pend);
    source.0.gate.open();
    runtime.run_until_stalled();
    let [first, second] = callers.map(|mut caller| caller.finish().unwrap_err());
    let (LoadError::Loader(first), LoadError::Loader(second)) = (first, second) else {
        panic!("the loader's own error")
    };
    assert!(Arc::ptr_eq(&first, &second) && *first == "away");
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.misses, stats.joined), (1, 1, 2, 1));
    // and is remembered though nobody is there to hear it
    let Setting { cache, source, runtime, _checked, .. } =
        setting(&Source::open(), |builder| builder.error_backoff(secs(9), secs(9)));
    source.0.fails.store(true, SeqCst);
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    assert_eq!(*Task::new(cache.load(&1)).finish().unwrap_err().loader().unwrap(), "away");
    assert_eq!((source.loads(), runtime.ready()), (1, 0));
}

#[test]
fn not_found_is_cached_though_its_caller_has_gone() {
    let with = |builder: Builder| builder.negative_ttl(secs(9));
    let Setting { cache, source, runtime, _checked, .. } = setting(&Source::open(), with);
    source.0.has_none.store(true, SeqCst);
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    assert!(Task::new(cache.load(&1)).finish().unwrap_err().is_not_found());
    assert_eq!((source.loads(), cache.stats().hits), (1, 1));
}

#[test]
fn a_panic_of_the_loader_is_an_error_here() {
    let Setting { cache, source, runtime, _checked, .. } = setting(&Source::open(), |b| b);
    source.0.panics.store(true, SeqCst);
    let mut callers = [Task::new(cache.load(&1)), Task::new(cache.load(&1))];
    callers.iter_mut().for_each(Task::pend);
    assert_eq!(runtime.run_until_stalled(), 1, "it does not reach the runtime");
    for mut caller in callers {
        assert!(matches!(caller.finish(), Err(LoadError::Panicked)));
    }
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.abandoned), (1, 1, 0));
    source.0.panics.store(false, SeqCst);
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    runtime.run_until_stalled();
    assert_eq!(caller.finish().unwrap(), 2);
}

#[test]
fn a_load_that_hangs_ends_at_its_timeout_whoever_waits() {
    for waits in [false, true] {
        let Setting { cache, source, runtime, hand, _checked } = closed();
        let mut caller = Task::new(cache.load(&1));
        caller.pend();
        runtime.run_until_stalled();
        let caller = waits.then_some(caller);
        hand.advance(ms(4_999));
        assert_eq!((runtime.run_until_stalled(), source.running()), (0, 1));
        hand.advance(ms(1));
        if let Some(mut caller) = caller {
            assert!(caller.finish().unwrap_err().is_timeout());
        }
        runtime.run_until_stalled();
        let stats = cache.stats();
        assert_eq!((source.running(), stats.load_timeouts, stats.abandoned), (0, 1, 0));
    }
    // nor does one wait for longer for a runtime that never comes to it
    let Setting { cache, hand, runtime, _checked, .. } = closed();
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    hand.advance(secs(5));
    assert!(caller.finish().unwrap_err().is_timeout());
    runtime.run_until_stalled();
}

#[test]
fn what_is_written_meanwhile_is_newer() {
    let Setting { cache, source, runtime, _checked, .. } = closed();
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    runtime.run_until_stalled();
    hangs_up(&cache, 2);
    runtime.run_until_stalled();
    // nobody would have anything of these two any more
    for key in [3, 4] {
        hangs_up(&cache, key);
        cache.insert(key, 100);
    }
    cache.insert(1, 100);
    cache.remove(&2);
    runtime.run_until_stalled();
    assert_eq!(source.keys(), [1, 2], "what was not begun was not asked for");
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!(caller.finish().unwrap(), 1, "it waited before that was written");
    assert_eq!((cache.get(&1), cache.get(&2), cache.stats().fenced), (Some(100), None, 2));
}

#[test]
fn a_load_whose_time_is_over_before_the_runtime_came_to_it_asks_nobody() {
    let Setting { cache, source, runtime, hand, _checked } = closed();
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    hand.advance(secs(6));
    assert!(caller.finish().unwrap_err().is_timeout());
    runtime.run_until_stalled();
    assert_eq!((source.loads(), runtime.ready()), (0, 0));
}

/// Whoever notices first, and whenever the runtime came to it: the caller has waited from before.
#[test]
fn the_breaker_hears_of_a_load_that_hangs() {
    for (late, caller_first) in [(0, false), (0, true), (1, false), (1, true)] {
        let guarded = |builder: Builder| builder.circuit_breaker(1, secs(60));
        let Setting { cache, source, runtime, hand, _checked } =
            setting(&Source::default(), guarded);
        let hang = || {
            let mut caller = Task::new(cache.load(&1));
            if let Poll::Ready(told) = caller.poll() {
                return assert!(told.unwrap_err().is_circuit_open());
            }
            hand.advance(ms(late));
            runtime.run_until_stalled();
            hand.advance(ms(5_000 - late));
            if caller_first {
                assert!(caller.finish().unwrap_err().is_timeout());
            }
            runtime.run_until_stalled();
            if !caller_first {
                assert!(caller.finish().unwrap_err().is_timeout());
            }
        };
        hang();
        hand.advance(secs(60));
        // the probe, and then none for a minute
        (0..5).for_each(|_| hang());
        assert_eq!(source.loads(), 2, "{late} ms late, the caller first: {caller_first}");
    }
}

#[test]
fn the_last_handle_takes_its_loads_along() {
    let Setting { cache, source, runtime, .. } = closed();
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    hangs_up(&cache, 2); // not begun yet
    assert_eq!(source.running(), 1);
    drop(cache);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), source.running()), (1, 0));
    assert_eq!(Arc::strong_count(&source.0), 1, "and nothing holds the loader");
}

/// A tier that never answers.
struct Silent;

impl Tier<u64, u64> for Silent {
    async fn get(&self, _: &TierKey) -> Result<TierFound<u64, u64>, TierError> {
        pending().await
    }

    async fn apply(&self, _: &[TierChange<u64, u64>]) -> Result<(), TierError> {
        Ok(())
    }
}

#[test]
fn so_it_does_while_a_tier_is_asked() {
    let Setting { cache, source, runtime, .. } =
        setting(&Source::default(), |builder| builder.tier(Silent));
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    drop(cache);
    runtime.run_until_stalled();
    assert_eq!(Arc::strong_count(&source.0), 1, "and nothing holds the loader");
}

#[test]
fn what_the_runtime_refuses_its_caller_loads() {
    for unwilling in [Unwilling::Refusing, Unwilling::Dropping] {
        let with = |builder: Builder| builder.runtime(unwilling);
        let Setting { cache, source, _checked, .. } = setting(&Source::open(), with);
        assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 1);
        let stats = cache.stats();
        assert_eq!((stats.refused, stats.loads, stats.misses, stats.joined), (1, 1, 1, 0));
        source.0.panics.store(true, SeqCst);
        let load = || Task::new(cache.load(&2)).finish();
        assert!(catch_unwind(AssertUnwindSafe(load)).is_err(), "it is its own");
    }
}

/// Takes all work, and drops it when it is told to.
#[derive(Clone, Default)]
struct Forgetful(Arc<Mutex<Vec<Box<dyn Send>>>>);

impl Runtime for Forgetful {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        self.0.lock().push(Box::new(job));
        Ok(())
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        self.0.lock().push(Box::new(task));
        Ok(())
    }
}

#[test]
fn what_the_runtime_drops_its_caller_loads_and_sends_away_no_more() {
    let forgetful = Forgetful::default();
    let with = |builder: Builder| builder.runtime(forgetful.clone());
    let Setting { cache, source, _checked, .. } = setting(&Source::open(), with);
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    let dropped = std::mem::take(&mut *forgetful.0.lock());
    assert_eq!(dropped.len(), 1);
    drop(dropped);
    assert_eq!((caller.wakes(), caller.finish().unwrap()), (1, 1));
    assert!(forgetful.0.lock().is_empty());
    assert_eq!((source.loads(), cache.stats().abandoned), (1, 0));
}

#[test]
fn a_load_inside_a_load_is_a_part_of_that() {
    let Setting { cache, source, runtime, _checked, .. } = closed();
    let outer: Cache<u64, u64> = Cache::new(10);
    let _outer = watched(&outer);
    let mut caller = Task::new(outer.get_or_load_async(&1, || cache.load(&1)));
    caller.pend();
    assert_eq!((source.running(), runtime.ready()), (1, 0));
    source.0.gate.open();
    assert_eq!(caller.finish().unwrap(), 1);
}

/// Asks its own cache for its own key, and for the one below.
#[derive(Default)]
struct Sums(Mutex<Option<AsyncLoadingCache<u64, u64, Sums>>>);

impl AsyncLoader<u64, u64> for Sums {
    type Error = String;

    async fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        let cache = self.0.lock().clone();
        let Some(cache) = cache.filter(|_| *key > 0) else { return Ok(Loaded::new(0)) };
        let own = Box::pin(cache.load(key)).await;
        assert!(own.unwrap_err().is_recursive());
        let less = Box::pin(cache.load(&(key - 1))).await.map_err(|error| error.to_string())?;
        Ok(Loaded::new(less + key))
    }
}

#[test]
fn a_loader_may_ask_its_cache_and_needs_no_second_slot() {
    let runtime = SteppingRuntime::new();
    let builder = Cache::builder().max_entries(10).max_concurrent_loads(1).detached_loads();
    let cache = builder.runtime(runtime.clone()).build_loading_async(Sums::default()).unwrap();
    let _checked = watched(&cache);
    *cache.loader().0.lock() = Some(cache.clone());
    let mut caller = Task::new(cache.load(&3));
    caller.pend();
    assert_eq!(runtime.run_until_stalled(), 1, "one task for all of it");
    assert_eq!((caller.finish().unwrap(), cache.get(&1), cache.stats().loads), (6, Some(1), 4));
    let own = cache.loader().0.lock().take();
    drop(own);
}

#[test]
fn what_others_bring_along_stays_with_them() {
    let with = |builder: Builder| builder.batch(10, secs(4));
    let Setting { cache, source, runtime, hand, _checked } = setting(&Source::open(), with);
    let closure = || async { Ok::<_, String>(7) };
    assert_eq!(Task::new(cache.get_or_load_async(&1, closure)).finish().unwrap(), 7);
    let load = |_| closure();
    assert_eq!(Task::new(cache.at(&2).load_async(load)).finish().unwrap().value, 7);
    assert_eq!(Task::new(cache.load_many(&[3, 4])).finish().got.len(), 2);
    let mut gathers = Task::new(cache.load(&5));
    gathers.pend();
    hand.advance(secs(4));
    gathers.finish().unwrap();
    assert_eq!((runtime.ready(), source.loads()), (0, 3));
}

#[test]
fn a_cache_of_threads_takes_no_notice() {
    let runtime = SteppingRuntime::new();
    let builder = Cache::builder().max_entries(10).detached_loads().runtime(runtime.clone());
    assert!(format!("{builder:?}").contains("detached_loads: true"));
    let here = thread::current().id();
    let load = move |key: &u64| {
        assert_eq!(thread::current().id(), here);
        Ok::<_, String>(*key)
    };
    let cache = builder.build_loading_fn(load).unwrap();
    let _checked = watched(&cache);
    assert_eq!((cache.load(&1).unwrap(), runtime.ready()), (1, 0));
}

#[test]
fn what_was_in_the_background_before_is_as_it_was() {
    let with = |builder: Builder| {
        let builder = builder.time_to_live(secs(60)).refresh_ahead(RefreshAhead::At(0.8));
        builder.stale_while_revalidate(secs(60))
    };
    let Setting { cache, source, runtime, hand, _checked } = setting(&Source::open(), with);
    cache.insert(1, 100);
    hand.advance(secs(48));
    assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 100);
    assert_eq!((runtime.run_until_stalled(), cache.get(&1)), (1, Some(1)));
    hand.advance(secs(60));
    assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 1, "it is being reloaded");
    assert_eq!((runtime.run_until_stalled(), cache.get(&1)), (1, Some(2)));
    let stats = cache.stats();
    assert_eq!((stats.refreshes, stats.misses, stats.stale_hits, stats.loads), (2, 0, 1, 2));
    assert_eq!(source.loads(), 2);
}

#[test]
fn a_soft_timeout_frees_its_caller_as_before() {
    let with = |builder: Builder| lasting(builder).soft_timeout(ms(50));
    let Setting { cache, source, runtime, hand, _checked } = setting(&Source::default(), with);
    cache.insert(1, 100);
    hand.advance(secs(70));
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    runtime.run_until_stalled();
    hand.advance(ms(50));
    assert_eq!(caller.finish().unwrap(), 100);
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!((cache.get(&1), cache.stats().stale_hits), (Some(1), 1));
    assert_eq!(*source.0.seen.lock(), [(1, LoadReason::Expired, Some(100))]);
    // and what fails is what may be served stale
    hand.advance(secs(70));
    source.0.fails.store(true, SeqCst);
    let mut caller = Task::new(cache.load(&1));
    caller.pend();
    runtime.run_until_stalled();
    assert_eq!(caller.finish().unwrap(), 1);
}

fn one_at_a_time(builder: Builder) -> Builder {
    builder.max_concurrent_loads(1)
}

#[test]
fn in_line_a_load_is_a_miss_whoever_has_gone() {
    let Setting { cache, source, runtime, hand, _checked } =
        setting(&Source::default(), one_at_a_time);
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    cache.refresh(&2);
    runtime.run_until_stalled();
    hangs_up(&cache, 3);
    runtime.run_until_stalled();
    let mut waits = Task::new(cache.load(&4));
    waits.pend();
    runtime.run_until_stalled();
    hand.advance(secs(3));
    // who wants the key of one in line waits with it
    let mut joins = Task::new(cache.load(&3));
    joins.pend();
    assert_eq!((source.keys(), cache.flights()), (vec![1], 4));
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!((joins.finish().unwrap(), waits.finish().unwrap()), (2, 3));
    assert_eq!(source.keys(), [1, 3, 4, 2], "first come, first served, and refreshes last");
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.overloaded, stats.abandoned, stats.joined), (4, 0, 0, 1));
}

#[test]
fn a_load_has_its_time_from_when_it_has_its_slot() {
    let Setting { cache, source, runtime, hand, _checked } =
        setting(&Source::default(), one_at_a_time);
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    let mut waits = Task::new(cache.load(&2));
    waits.pend();
    runtime.run_until_stalled();
    hand.advance(secs(4));
    waits.pend();
    hand.advance(secs(1));
    runtime.run_until_stalled();
    assert_eq!(source.keys(), [1, 2], "the first one's time was over");
    hand.advance(ms(4_999));
    waits.pend();
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!((waits.finish().unwrap(), cache.stats().load_timeouts), (2, 1));
}

/// One who has a slot does not wait for one who has none.
#[test]
fn a_load_in_line_that_a_running_one_waits_for_goes_first() {
    let Setting { cache, source, runtime, _checked, .. } = setting(&Source::open(), one_at_a_time);
    let gate = Gate::new();
    let asks = || async {
        gate.pass_async(()).await;
        cache.load(&2).await
    };
    let mut outer = Task::new(cache.get_or_load_async(&1, asks));
    outer.pend();
    hangs_up(&cache, 2);
    runtime.run_until_stalled();
    assert_eq!(source.loads(), 0, "it stands in line");
    gate.open();
    outer.pend();
    runtime.run_until_stalled();
    assert_eq!(outer.finish().unwrap(), 1);
}

#[test]
fn who_can_be_served_stale_does_not_stand_in_line() {
    let with = |builder| one_at_a_time(lasting(builder));
    let Setting { cache, source, runtime, hand, _checked } = setting(&Source::default(), with);
    cache.insert(1, 100);
    hand.advance(secs(70));
    hangs_up(&cache, 9);
    runtime.run_until_stalled();
    assert_eq!(Task::new(cache.load(&1)).finish().unwrap(), 100);
    assert_eq!((runtime.ready(), cache.flights(), cache.stats().overloaded), (0, 1, 1));
    source.0.gate.open();
    runtime.run_until_stalled();
    // The slot is taken only after it was sent away: then it stands in line, and goes on.
    let gate = Gate::new();
    let mut sent = Task::new(cache.load(&1));
    sent.pend();
    let load = || async { Ok::<_, String>(gate.pass_async(8).await) };
    let mut busy = Task::new(cache.get_or_load_async(&8, load));
    busy.pend();
    runtime.run_until_stalled();
    assert_eq!((sent.wakes(), sent.finish().unwrap()), (1, 100));
    assert_eq!((source.loads(), cache.stats().stale_hits), (1, 2));
    gate.open();
    assert_eq!(busy.finish().unwrap(), 8);
    runtime.run_until_stalled();
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn a_load_that_nobody_waits_for_leaves_the_line_in_time() {
    let Setting { cache, source, runtime, hand, _checked } =
        setting(&Source::default(), one_at_a_time);
    let gate = Gate::new();
    // one after the other, so that there is no slot for a while
    let mut busy = Vec::new();
    for key in &[97, 98, 99] {
        let load = || async { Ok::<_, String>(gate.pass_async(0).await) };
        let mut next = Task::new(cache.get_or_load_async(key, load));
        next.pend();
        busy.push(next);
    }
    hangs_up(&cache, 1);
    let mut waits = Task::new(cache.load(&2));
    waits.pend();
    runtime.run_until_stalled();
    hangs_up(&cache, 3);
    runtime.run_until_stalled();
    waits.pend();
    cache.refresh(&4);
    runtime.run_until_stalled();
    assert_eq!(cache.flights(), 7);
    for mut busy in busy {
        // its lease is over, and the next one's begins
        hand.advance(secs(5));
        assert!(busy.finish().unwrap_err().is_timeout());
        runtime.run_until_stalled();
        waits.pend();
    }
    let stats = cache.stats();
    assert_eq!((stats.overloaded, stats.abandoned, cache.flights()), (2, 0, 2));
    source.0.gate.open();
    runtime.run_until_stalled();
    // a refresh, whose key whoever wants it takes, stands there as before
    assert_eq!((waits.finish().unwrap(), source.keys()), (1, vec![2, 4]));
}

/// What is written to a key in line is newer than its load, which does not begin: those who wait for it look
/// again, and whoever loads then stands where it stood.
#[test]
fn a_key_that_changes_in_line_keeps_its_place() {
    for sender_leads in [false, true] {
        let Setting { cache, source, runtime, _checked, .. } =
            setting(&Source::open(), one_at_a_time);
        let gates = [Gate::new(), Gate::new()];
        let [mut busy, mut next] = [(&91, &gates[0]), (&92, &gates[1])].map(|(key, gate)| {
            let load = || async { Ok::<_, String>(gate.pass_async(0).await) };
            Task::new(cache.get_or_load_async(key, load))
        });
        busy.pend();
        let (mut sender, mut follower) = (Task::new(cache.load(&2)), Task::new(cache.load(&2)));
        sender.pend();
        follower.pend();
        let mut stored = Task::new(cache.load(&1));
        stored.pend();
        runtime.run_until_stalled();
        next.pend();
        hangs_up(&cache, 3);
        runtime.run_until_stalled();
        cache.remove(&2);
        cache.insert(1, 100);
        gates[0].open();
        busy.finish().unwrap();
        runtime.run_until_stalled();
        assert_eq!(stored.finish().unwrap(), 100);
        next.pend();
        assert_eq!((source.loads(), gates[1].entered()), (0, 1));
        // who has sent its load away once leads now, the other one sends it away
        let (first, second) =
            if sender_leads { (&mut sender, &mut follower) } else { (&mut follower, &mut sender) };
        first.pend();
        second.pend();
        assert_eq!(runtime.run_until_stalled(), usize::from(!sender_leads));
        gates[1].open();
        next.finish().unwrap();
        if sender_leads {
            assert_eq!(first.finish().unwrap(), 1);
        }
        runtime.run_until_stalled();
        assert_eq!(second.finish().unwrap(), 1);
        if !sender_leads {
            assert_eq!(first.finish().unwrap(), 1);
        }
        assert_eq!(source.keys(), [2, 3]);
    }
}

#[test]
fn while_the_breaker_is_open_its_caller_hears_so_at_once() {
    let with = |builder: Builder| builder.circuit_breaker(1, secs(10)).max_concurrent_loads(1);
    let Setting { cache, source, runtime, hand, _checked } = setting(&Source::default(), with);
    source.0.fails.store(true, SeqCst);
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    let mut waits = Task::new(cache.load(&2));
    waits.pend();
    runtime.run_until_stalled();
    source.0.gate.open();
    runtime.run_until_stalled();
    assert!(waits.finish().unwrap_err().is_circuit_open(), "it opened while this stood in line");
    let mut refused = Task::new(cache.load(&3));
    assert!(refused.finish().unwrap_err().is_circuit_open());
    assert_eq!((runtime.ready(), source.loads(), cache.stats().circuit_open), (0, 1, 2));
    // a probe whose caller has gone tells it that the source is back
    source.0.fails.store(false, SeqCst);
    hand.advance(secs(10));
    hangs_up(&cache, 4);
    runtime.run_until_stalled();
    hangs_up(&cache, 5);
    runtime.run_until_stalled();
    assert_eq!((cache.get(&4), cache.get(&5), cache.stats().circuit_open), (Some(2), Some(3), 2));
}

#[test]
fn the_second_tier_is_a_part_of_the_load() {
    let tier = MemoryTier::new();
    let one = Cache::builder().max_entries(10).tier(tier.join()).build().unwrap();
    one.insert(1, 10);
    one.tier_flush().unwrap();
    let with = |builder: Builder| builder.tier(tier.join()).circuit_breaker(1, secs(10));
    let Setting { cache, source, runtime, _checked, .. } = setting(&Source::open(), with);
    hangs_up(&cache, 1);
    assert_eq!(cache.stats().tier_hits, 0);
    runtime.run_until_stalled();
    let stats = cache.stats();
    assert_eq!((cache.get(&1), stats.tier_hits, stats.loads), (Some(10), 1, 0));
    hangs_up(&cache, 2);
    runtime.run_until_stalled();
    cache.tier_flush().unwrap();
    let stats = cache.stats();
    assert_eq!((cache.get(&2), stats.tier_misses, stats.abandoned), (Some(1), 1, 0));
    assert_eq!((tier.len(), source.loads()), (2, 1));
    // the breaker is about the source, and the tier is asked all the same
    source.0.fails.store(true, SeqCst);
    hangs_up(&cache, 3);
    runtime.run_until_stalled();
    one.insert(4, 40);
    one.tier_flush().unwrap();
    let mut asks = Task::new(cache.load(&4));
    asks.pend();
    runtime.run_until_stalled();
    assert_eq!(asks.finish().unwrap(), 40);
}

/// It may be the thread that would have to answer.
#[test]
fn who_brings_news_of_a_tier_waits_for_no_task() {
    let tier = MemoryTier::new();
    let one = Cache::builder().max_entries(10).tier(tier.join()).build().unwrap();
    let here = Arc::new(OnceLock::<Tasks>::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let (here, told) = (Arc::clone(&here), Arc::clone(&told));
        move |gone: Removal<u64, u64>| {
            if let Some(cache) = here.get() {
                let loaded = Task::new(cache.load(&2)).poll();
                told.lock().push((gone.key, loaded.map(Result::unwrap)));
            }
        }
    };
    let with = |builder: Builder| builder.tier(tier.join()).on_removal(listener);
    let Setting { cache, runtime, _checked, .. } = setting(&Source::open(), with);
    hangs_up(&cache, 1);
    runtime.run_until_stalled();
    cache.tier_flush().unwrap();
    here.set(cache.clone()).unwrap();
    one.remove(&1);
    one.tier_flush().unwrap();
    assert_eq!(*told.lock(), [(1, Poll::Ready(2))]);
    assert_eq!(runtime.ready(), 0);
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use super::*;
    use common::tasks::block_on;
    use common::wait_until;
    use tokio::runtime::Builder as Tokio;

    #[test]
    fn a_handler_that_is_aborted_leaves_its_load_running() {
        let tokio = Tokio::new_multi_thread().worker_threads(2).build().unwrap();
        let source = Source::default();
        let cache = {
            let _inside = tokio.enter();
            let builder = Cache::builder().max_entries(10).detached_loads();
            builder.build_loading_async(source.clone()).unwrap()
        };
        let _checked = watched(&cache);
        for _ in 0..20 {
            let handler = tokio.spawn({
                let cache = cache.clone();
                async move { cache.load(&1).await }
            });
            source.0.gate.wait_until_entered(1);
            handler.abort();
            assert!(tokio.block_on(handler).unwrap_err().is_cancelled());
        }
        assert_eq!((source.loads(), source.running(), cache.stats().abandoned), (1, 1, 0));
        source.0.gate.open();
        wait_until(|| cache.get(&1) == Some(1));
    }

    #[test]
    fn a_caller_outlives_the_runtime_of_its_load() {
        let tokio = Tokio::new_multi_thread().worker_threads(1).build().unwrap();
        let source = Source::default();
        let cache = Cache::builder()
            .max_entries(10)
            .detached_loads()
            .runtime(tokio.handle().clone())
            .build_loading_async(source.clone())
            .unwrap();
        let _checked = watched(&cache);
        let mut caller = Task::new(cache.load(&1));
        caller.pend();
        source.0.gate.wait_until_entered(1);
        drop(tokio);
        caller.pend();
        assert_eq!((source.loads(), source.running(), cache.stats().abandoned), (2, 1, 1));
        source.0.gate.open();
        assert_eq!(caller.finish().unwrap(), 2);
        assert_eq!(block_on(cache.load(&2)).unwrap(), 3);
        assert_eq!(cache.stats().refused, 1);
    }
}

#[test]
fn with_the_last_handle_goes_a_load_that_lost_its_key_too() {
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let builder =
        Cache::builder().max_entries(100).clock(Clock::manual().0).max_concurrent_loads(2);
    let builder = builder.runtime(runtime.clone()).detached_loads();
    let cache = builder.build_loading_async(source.clone()).unwrap();
    // two that run and one in line
    for key in 0..3 {
        hangs_up(&cache, key);
        runtime.run_until_stalled();
    }
    assert_eq!((source.running(), cache.loads_in_line()), (2, 1));
    cache.insert(1, 10);
    cache.insert(2, 20);
    drop(cache);
    runtime.run_until_stalled();
    assert_eq!(source.running(), 0);
    assert_eq!(Arc::strong_count(&source.0), 1, "no task is left, of which each holds the loader");
}

#[test]
fn callers_of_a_runtime_that_is_shut_down_load_themselves() {
    let it = closed();
    let mut task = Task::new(it.cache.load(&1));
    task.pend();
    it.runtime.run_until_stalled();
    assert_eq!(it.source.running(), 1);
    it.runtime.shut_down();
    assert_eq!(it.source.running(), 0, "it waited, and is dropped");
    task.pend();
    assert_eq!(it.source.running(), 1, "in its caller now");
    it.source.0.gate.open();
    assert_eq!(task.finish().unwrap(), 2);
}
