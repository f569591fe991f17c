//! Hits while the runtime has its hands full: who has an answer does not pay for a load with it.

mod common;

use common::gate::Gate;
use common::tasks::block_on;
use common::{Checked, secs, uncalled, wait_until, watched};
use larder::{
    AsyncLoader, Cache, CacheBuilder, Clock, How, LoadCx, Loaded, ManualClock, RefreshAhead,
    Refused, Runtime, StaleWhy, SteppingRuntime,
};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

/// Says that it is busy when it is told to, and would take work all the same.
#[derive(Default)]
struct Moody {
    is_busy: AtomicBool,
    works: SteppingRuntime,
}

impl Runtime for Moody {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        self.works.spawn_blocking(job)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        self.works.spawn(task)
    }

    fn is_busy(&self) -> bool {
        self.is_busy.load(SeqCst)
    }
}

/// Takes nothing: it is shut down.
struct Gone;

impl Runtime for Gone {
    fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        Err(Refused)
    }

    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        Err(Refused)
    }
}

/// Ten times the key.
struct Tens;

impl AsyncLoader<u64, u64> for Tens {
    type Error = Infallible;

    async fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        Ok(Loaded::new(key * 10))
    }
}

/// Values live for a minute, are due after 48 s, and are served stale for half a minute.
fn builder() -> (CacheBuilder<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder()
        .max_entries(10_000)
        .time_to_live(secs(60))
        .stale_while_revalidate(secs(30))
        .refresh_ahead(RefreshAhead::At(0.8))
        .clock(clock);
    (builder, hand)
}

/// Under 1 a value that is due, under 2 one that is stale.
fn fill(cache: &Cache<u64, u64>, hand: &ManualClock) {
    cache.insert(1, 1);
    cache.at(&2).ttl(secs(30)).insert(2);
    hand.advance(secs(50));
}

#[test]
fn a_busy_runtime_is_left_alone_by_hits() {
    let (builder, hand) = builder();
    let runtime = Arc::new(Moody::default());
    let builder = builder.runtime(Arc::clone(&runtime));
    let cache = builder.build_loading_fn(|key: &u64| Ok::<_, Infallible>(key * 10)).unwrap();
    let _checked = watched(&cache);
    fill(&cache, &hand);
    runtime.is_busy.store(true, SeqCst);
    let before = cache.stats();
    for _ in 0..2 {
        assert_eq!((cache.get(&1), cache.load(&1).unwrap()), (Some(1), 1));
        assert_eq!((cache.get(&2), cache.load(&2).unwrap()), (None, 2));
        let got = cache.at(&2).load(|_| uncalled::<u64>()).unwrap();
        assert_eq!((got.value, got.how), (2, How::Stale(StaleWhy::Overloaded)));
        assert_eq!(cache.load_many(&[1, 2]).got.len(), 2);
        assert_eq!(cache.get_or_insert_with(&2, || unreachable!("it is served")), 2);
    }
    assert_eq!((cache.flights(), runtime.works.ready()), (0, 0));
    let stats = cache.stats().since(&before);
    assert_eq!((stats.hits, stats.stale_hits, stats.misses), (6, 8, 2));
    assert_eq!((stats.loads, stats.refreshes, stats.refused), (0, 0, 14));
    // what is not there at all is loaded, and a refresh that is asked for is given to it
    assert_eq!(cache.load(&3).unwrap(), 30);
    cache.refresh(&1);
    assert_eq!((runtime.works.run_until_stalled(), cache.get(&1)), (1, Some(10)));
    runtime.is_busy.store(false, SeqCst);
    assert_eq!((cache.load(&2).unwrap(), runtime.works.run_until_stalled()), (2, 1));
    assert_eq!(cache.get(&2), Some(20));
}

#[test]
fn a_busy_runtime_is_left_alone_by_hits_of_tasks() {
    let (builder, hand) = builder();
    let runtime = Arc::new(Moody::default());
    let cache = builder.runtime(Arc::clone(&runtime)).build_loading_async(Tens).unwrap();
    let _checked = watched(&cache);
    fill(&cache, &hand);
    runtime.is_busy.store(true, SeqCst);
    assert_eq!((cache.get(&1), block_on(cache.load(&1)).unwrap()), (Some(1), 1));
    assert_eq!(block_on(cache.load(&2)).unwrap(), 2);
    assert_eq!((cache.flights(), runtime.works.ready()), (0, 0));
    assert_eq!((cache.stats().loads, cache.stats().refused), (0, 3));
    runtime.is_busy.store(false, SeqCst);
    assert_eq!((cache.get(&1), block_on(cache.load(&2)).unwrap()), (Some(1), 2));
    runtime.works.run_until_stalled();
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
}

#[test]
fn hits_run_no_loader_because_the_caches_own_threads_are_behind() {
    let (builder, hand) = builder();
    let gate = Gate::new();
    let passing = gate.clone();
    let load = move |key: &u64| Ok::<_, Infallible>(passing.pass(key * 10));
    let cache = builder.build_loading_fn(load).unwrap();
    let checked = watched(&cache);
    fill(&cache, &hand);
    thread::scope(|scope| {
        // eight threads of the cache, and then the one who asks for more than can be kept
        (10..18).for_each(|key| cache.refresh(&key));
        gate.wait_until_entered(8);
        scope.spawn(|| {
            let more = (18..5_000).take_while(|_| gate.entered() < 9);
            more.for_each(|key| cache.refresh(&key));
        });
        gate.wait_until_entered(9);
        let hits = scope.spawn(|| {
            let stale = cache.at(&2).load(|_| uncalled::<u64>()).unwrap();
            (cache.get(&1), cache.load(&1), cache.load(&2), stale.how)
        });
        wait_until(|| hits.is_finished() || gate.entered() > 9);
        let entered = gate.entered();
        gate.open();
        assert_eq!(entered, 9, "a hit runs the loader");
        let why = How::Stale(StaleWhy::Overloaded);
        let (got, due, stale, how) = hits.join().unwrap();
        assert_eq!((got, due.unwrap(), stale.unwrap(), how), (Some(1), 1, 2, why));
    });
    end(&checked);
}

#[test]
fn what_cannot_be_kept_is_done_by_who_asks_for_it_and_waits_for_no_slot() {
    let gate = Gate::new();
    let passing = gate.clone();
    let loads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&loads);
    let load = move |key: &u64| {
        counted.fetch_add(1, SeqCst);
        Ok::<_, Infallible>(if *key == 0 { passing.pass(0) } else { *key })
    };
    let builder = Cache::builder().max_entries(10_000).max_concurrent_loads(1);
    let cache = builder.build_loading_fn(load).unwrap();
    let checked = watched(&cache);
    thread::scope(|scope| {
        scope.spawn(|| cache.load(&0).unwrap());
        gate.wait_until_entered(1);
        (1..2_000).for_each(|key| cache.refresh(&key));
        assert_eq!(loads.load(SeqCst), 1);
        assert!(cache.stats().refused > 0);
        gate.open();
    });
    end(&checked);
}

#[test]
fn a_hit_does_not_wait_for_a_slot_where_the_runtime_takes_nothing() {
    let (builder, hand) = builder();
    let gate = Gate::new();
    let passing = gate.clone();
    let load =
        move |key: &u64| Ok::<_, Infallible>(if *key == 0 { passing.pass(0) } else { *key * 10 });
    let cache = builder.runtime(Gone).max_concurrent_loads(1).build_loading_fn(load).unwrap();
    let _checked = watched(&cache);
    fill(&cache, &hand);
    thread::scope(|scope| {
        scope.spawn(|| cache.load(&0).unwrap());
        gate.wait_until_entered(1);
        let hit = scope.spawn(|| cache.get(&1));
        wait_until(|| hit.is_finished() || cache.loads_in_line() > 0);
        let in_line = cache.loads_in_line();
        let stale = (cache.load(&2).unwrap(), cache.flights());
        gate.open();
        assert_eq!((in_line, stale), (0, (2, 1)), "a hit stands in line");
        assert_eq!(hit.join().unwrap(), Some(1));
    });
    assert_eq!(cache.stats().refused, 2);
    // with a slot, it is done by who finds it due
    assert_eq!((cache.get(&1), cache.get(&1)), (Some(1), Some(10)));
    assert_eq!(cache.load(&2).unwrap(), 20);
}

/// Until all is loaded that was given to the cache's threads.
fn end(cache: &Checked<u64, u64>) {
    wait_until(|| cache.flights() == 0);
}
