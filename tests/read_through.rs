//! One call with settings of its own to a cache that owns its loader: `at(..).read_through()`.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{ms, secs, watched};
use larder::{
    AsyncLoader, AsyncLoadingCache, At, Cache, CacheBuilder, Clock, Got, How, LoadCx, LoadError,
    LoadReason, Loaded, Loader, ManualClock, MemoryTier, RefreshAhead, StaleWhy, SteppingRuntime,
};
use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Brings its own count of loads, from 1; fails or has nothing when told to.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Tasks pass it.
    gate: Gate,
    loads: AtomicU64,
    fails: AtomicBool,
    has_none: AtomicBool,
    reasons: Mutex<Vec<LoadReason>>,
}

impl Source {
    fn open() -> Self {
        let source = Self::default();
        source.0.gate.open();
        source
    }

    fn answer(&self, cx: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        self.0.reasons.lock().push(cx.reason());
        let n = self.0.loads.fetch_add(1, SeqCst) + 1;
        if self.0.fails.load(SeqCst) {
            return Err("away".to_owned());
        }
        Ok(if self.0.has_none.load(SeqCst) { Loaded::missing() } else { Loaded::new(n) })
    }

    fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }
}

impl Loader<u64, u64> for Source {
    type Error = String;

    fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        self.answer(cx)
    }

    fn load_many(&self, _: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        panic!("not of many keys")
    }
}

impl AsyncLoader<u64, u64> for Source {
    type Error = String;

    async fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        let answer = self.answer(cx);
        self.0.gate.pass_async(answer).await
    }

    async fn load_many(&self, _: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        panic!("not of many keys")
    }
}

type Builder = CacheBuilder<u64, u64>;

/// Values live for a minute, and are due after 48 s; what runs in the background is stepped.
fn builder(runtime: &SteppingRuntime) -> (Builder, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder()
        .max_entries(100)
        .time_to_live(secs(60))
        .refresh_ahead(RefreshAhead::At(0.8))
        .negative_ttl(secs(5))
        .clock(clock)
        .seed(1)
        .runtime(runtime.clone());
    (builder, hand)
}

/// What a caller says of its call.
#[derive(Clone, Copy, Default)]
struct Said {
    max_age: Option<u64>,
    is_forced: bool,
    fallback: Option<u64>,
}

impl Said {
    fn on<S, O>(self, at: At<'_, u64, u64, S, u64, O>) -> At<'_, u64, u64, S, u64, O> {
        let at = match self.max_age {
            Some(seconds) => at.max_age(secs(seconds)),
            None => at,
        };
        let at = if self.is_forced { at.force() } else { at };
        match self.fallback {
            Some(value) => at.fallback(value),
            None => at,
        }
    }
}

type Outcome = Result<Got<u64>, LoadError<String>>;

/// A cache whose loader is blocking, or one whose loader is async, and a call to it.
struct Setting {
    cache: Cache<u64, u64>,
    read: Box<dyn Fn(Said) -> Outcome>,
    source: Source,
    runtime: SteppingRuntime,
    hand: ManualClock,
}

fn settings(with: impl Fn(Builder) -> Builder) -> [Setting; 2] {
    let (source, runtime) = (Source::open(), SteppingRuntime::new());
    let (plain, hand) = builder(&runtime);
    let blocking = with(plain).build_loading(source.clone()).unwrap();
    let cache = blocking.deref().clone();
    let read = Box::new(move |said: Said| said.on(blocking.at(&1)).read_through());
    let by_threads = Setting { cache, read, source, runtime, hand };

    let (source, runtime) = (Source::open(), SteppingRuntime::new());
    let (plain, hand) = builder(&runtime);
    let tasks = with(plain).build_loading_async(source.clone()).unwrap();
    let cache = tasks.deref().clone();
    let read = Box::new(move |said: Said| block_on(said.on(tasks.at(&1)).read_through()));
    [by_threads, Setting { cache, read, source, runtime, hand }]
}

#[test]
fn a_caller_says_what_it_accepts_and_the_caches_own_loader_loads() {
    for Setting { cache, read, source, runtime, hand } in settings(|builder| builder) {
        let _checked = watched(&cache);
        let plain = Said::default();
        let loaded = read(plain).unwrap();
        assert_eq!((loaded.value, loaded.how, loaded.fresh_for), (1, How::Loaded, secs(60)));
        hand.advance(secs(10));
        let hit = read(plain).unwrap();
        assert_eq!((hit.value, hit.how, hit.age), (1, How::Fresh, secs(10)));
        let young = Said { max_age: Some(5), ..plain };
        assert_eq!(read(young).unwrap().value, 2);
        assert_eq!((read(young).unwrap().how, cache.get(&1)), (How::Fresh, Some(2)));
        let forced = Said { is_forced: true, ..plain };
        assert_eq!(read(forced).unwrap().value, 3);
        let reasons = [LoadReason::Miss, LoadReason::Expired, LoadReason::Forced];
        assert_eq!(*source.0.reasons.lock(), reasons);

        source.0.fails.store(true, SeqCst);
        assert_eq!(read(forced).unwrap_err().loader().unwrap(), "away");
        let provided = read(Said { fallback: Some(9), ..forced }).unwrap();
        assert_eq!((provided.value, provided.how), (9, How::Fallback));
        assert_eq!(cache.get(&1), Some(3), "what is there stays");
        assert_eq!(runtime.ready(), 0, "all of it was loaded here");
    }
}

#[test]
fn a_hit_starts_a_refresh_that_is_due() {
    for Setting { cache, read, source, runtime, hand } in settings(|builder| builder) {
        let _checked = watched(&cache);
        read(Said::default()).unwrap();
        hand.advance(secs(48));
        assert_eq!(read(Said::default()).unwrap().how, How::Fresh);
        assert_eq!((runtime.ready(), source.loads()), (1, 1));
        assert!(runtime.step());
        assert_eq!(read(Said::default()).unwrap().value, 2);
    }
}

#[test]
fn not_found_is_an_outcome_and_no_failure() {
    for Setting { cache, read, source, hand, .. } in settings(|builder| builder) {
        let _checked = watched(&cache);
        source.0.has_none.store(true, SeqCst);
        for _ in 0..3 {
            let none = read(Said { fallback: Some(9), ..Said::default() });
            assert!(none.unwrap_err().is_not_found());
        }
        assert_eq!((source.loads(), cache.stats().load_failures), (1, 0));
        hand.advance(secs(5));
        source.0.has_none.store(false, SeqCst);
        assert_eq!(read(Said::default()).unwrap().value, 2);
    }
}

#[test]
fn a_cache_that_batches_loads_it_by_itself() {
    for Setting { cache, read, .. } in settings(|builder| builder.batch(10, ms(5))) {
        let _checked = watched(&cache);
        assert_eq!(read(Said::default()).unwrap().value, 1);
    }
}

/// The same on tasks, with a source that lets nobody through yet.
fn closed(
    with: impl Fn(Builder) -> Builder,
) -> (AsyncLoadingCache<u64, u64, Source>, Source, SteppingRuntime, ManualClock) {
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let (builder, hand) = builder(&runtime);
    let cache = with(builder).build_loading_async(source.clone()).unwrap();
    (cache, source, runtime, hand)
}

#[test]
fn a_detached_load_goes_on_when_its_caller_is_out_of_patience() {
    let (cache, source, runtime, hand) = closed(Builder::detached_loads);
    let _checked = watched(&cache);
    let mut caller = Task::new(cache.at(&1).timeout(secs(1)).read_through());
    caller.pend();
    assert_eq!((runtime.ready(), source.loads()), (1, 0), "its future does not run it");
    runtime.run_until_stalled();
    hand.advance(secs(1));
    assert!(caller.finish().unwrap_err().is_timeout());
    source.0.gate.open();
    runtime.run_until_stalled();
    let got = Task::new(cache.at(&1).read_through()).finish().unwrap();
    assert_eq!((got.value, got.how, source.loads()), (1, How::Fresh, 1));
}

#[test]
fn who_began_a_detached_load_is_told_that_it_loaded() {
    let (cache, source, runtime, _hand) = closed(Builder::detached_loads);
    let _checked = watched(&cache);
    let mut first = Task::new(cache.at(&1).read_through());
    let mut second = Task::new(cache.at(&1).read_through());
    first.pend();
    second.pend();
    source.0.gate.open();
    runtime.run_until_stalled();
    let how = [first.finish().unwrap().how, second.finish().unwrap().how];
    assert_eq!((how, source.loads()), ([How::Loaded, How::Joined], 1));
    assert_eq!(cache.stats().joined, 1);
}

#[test]
fn a_caller_is_served_stale_where_its_own_load_takes_long() {
    let with = |builder: Builder| builder.stale_if_error(secs(100)).soft_timeout(ms(50));
    let (cache, source, runtime, hand) = closed(with);
    let _checked = watched(&cache);
    cache.insert(1, 7);
    hand.advance(secs(70));
    let mut caller = Task::new(cache.at(&1).read_through());
    let mut choosy = Task::new(cache.at(&1).max_age(secs(10)).read_through());
    caller.pend();
    choosy.pend();
    runtime.run_until_stalled();
    hand.advance(ms(50));
    let got = caller.finish().unwrap();
    assert_eq!((got.value, got.how), (7, How::Stale(StaleWhy::SoftTimeout)));
    choosy.pend();
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!(choosy.finish().unwrap().value, 1);
    assert_eq!(source.loads(), 1);
}

#[test]
fn a_detached_load_goes_to_the_source_where_the_second_tier_has_what_is_too_old() {
    for is_dropped in [false, true] {
        let (clock, hand) = Clock::manual();
        let tier = MemoryTier::with(clock.clone(), None);
        let other = Cache::builder().max_entries(9).clock(clock.clone()).tier(tier.join());
        let other = other.time_to_live(secs(60)).build().unwrap();
        let with = |builder: Builder| {
            builder
                .clock(clock.clone())
                .tier(tier.join())
                .detached_loads()
                .refresh_ahead(RefreshAhead::Never)
        };
        let (cache, source, runtime, _) = closed(with);
        let _checked = watched(&cache);
        other.insert(1, 7);
        other.tier_flush().unwrap();
        hand.advance(secs(30));
        let mut caller = Task::new(cache.at(&1).max_age(secs(10)).read_through());
        caller.pend();
        runtime.run_until_stalled();
        caller.pend();
        assert_eq!((tier.asked(), cache.stats().tier_misses), (1, 1), "asked once");
        if is_dropped {
            drop(caller);
            source.0.gate.open();
            runtime.run_until_stalled();
        } else {
            source.0.gate.open();
            runtime.run_until_stalled();
            let got = caller.finish().unwrap();
            assert_eq!((got.value, got.how), (1, How::Loaded));
        }
        assert_eq!((cache.get(&1), source.loads(), cache.stats().abandoned), (Some(1), 1, 0));
        // one who takes any age is still answered by the tier
        other.insert(2, 8);
        other.tier_flush().unwrap();
        hand.advance(secs(30));
        let mut caller = Task::new(cache.at(&2).read_through());
        caller.pend();
        runtime.run_until_stalled();
        let got = caller.finish().unwrap();
        assert_eq!((got.value, got.how, got.age), (8, How::Tier, secs(30)));
    }
}

#[test]
fn what_is_stored_is_the_loaders_to_say_and_not_the_callers() {
    let (source, runtime) = (Source::open(), SteppingRuntime::new());
    let blocking = builder(&runtime).0.build_loading(source.clone()).unwrap();
    let got = blocking.at(&1).ttl(secs(5)).keep_life().tag("t").read_through().unwrap();
    blocking.remove_tag("t");
    assert_eq!((got.fresh_for, blocking.get(&1)), (secs(60), Some(1)));

    for is_detached in [false, true] {
        let with = |builder: Builder| if is_detached { builder.detached_loads() } else { builder };
        let (cache, source, runtime, _hand) = closed(with);
        source.0.gate.open();
        let call = cache.at(&1).ttl(Duration::ZERO).keep_life().tag("t");
        let mut caller = Task::new(call.read_through());
        if is_detached {
            caller.pend();
            runtime.run_until_stalled();
        }
        let got = caller.finish().unwrap();
        cache.remove_tag("t");
        assert_eq!((got.fresh_for, cache.get(&1)), (secs(60), Some(1)));
    }
}

#[test]
fn a_closure_of_its_own_is_still_what_a_caller_may_bring() {
    let (cache, _source, runtime, _hand) = closed(Builder::detached_loads);
    let _checked = watched(&cache);
    let got = block_on(cache.at(&1).load_async(async |_| Ok::<_, String>(5))).unwrap();
    assert_eq!((got.value, got.how, runtime.ready()), (5, How::Loaded, 0));
    cache.at(&2).tag("t").insert(6);
    cache.remove_tag("t");
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(5), None));
}
