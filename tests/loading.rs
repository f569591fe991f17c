//! Caches that own their loader, and what they load in the background.

mod common;

use common::doubles::{Counted, Ledger, Unwilling};
use common::gate::Gate;
use common::{Watchdog, ms, secs, wait_until, watched};
use larder::{
    Cache, Clock, ConfigError, Given, LoadCx, LoadError, LoadReason, Loaded, Loader, LoadingCache,
    ManualClock, RefreshAhead, SteppingRuntime,
};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Brings its own count of loads, from 1; fails or panics when it is told to.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    loads: AtomicU64,
    fails: AtomicBool,
    panics: AtomicBool,
    reasons: Mutex<Vec<LoadReason>>,
}

impl Source {
    fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }

    fn reasons(&self) -> Vec<LoadReason> {
        std::mem::take(&mut self.0.reasons.lock())
    }
}

impl Loader<u64, u64> for Source {
    type Error = String;

    fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        self.0.reasons.lock().push(cx.reason());
        let n = self.0.loads.fetch_add(1, SeqCst) + 1;
        assert!(!self.0.panics.load(SeqCst), "expected: the loader's own trouble");
        if self.0.fails.load(SeqCst) { Err("away".to_owned()) } else { Ok(Loaded::new(n)) }
    }
}

struct Setting {
    cache: LoadingCache<u64, u64, Source>,
    source: Source,
    runtime: SteppingRuntime,
    hand: ManualClock,
}

/// Values live for a minute and are due after 48 s; what is loaded in the background is stepped.
fn setting() -> Setting {
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let cache = Cache::builder()
        .max_entries(100)
        .time_to_live(secs(60))
        .refresh_ahead(RefreshAhead::At(0.8))
        .clock(clock)
        .seed(1)
        .runtime(runtime.clone())
        .build_loading(source.clone())
        .unwrap();
    Setting { cache, source, runtime, hand }
}

#[test]
fn a_loader_is_called_once_and_what_it_brings_is_kept() {
    let Setting { cache, source, .. } = setting();
    let _checked = watched(&cache);
    assert_eq!(cache.load(&1).unwrap(), 1);
    assert_eq!(cache.load(&1).unwrap(), 1);
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(source.reasons(), [LoadReason::Miss]);
    assert_eq!(cache.loader().loads(), 1);
    source.0.fails.store(true, SeqCst);
    assert_eq!(cache.load(&2).unwrap_err().loader(), Some(&"away".to_owned()));
}

#[test]
fn a_closure_is_a_loader() {
    let cache = Cache::builder()
        .max_entries(10)
        .build_loading_fn(|key: &String| key.parse::<u64>())
        .unwrap();
    let _checked = watched(&cache);
    assert_eq!(cache.load("42").unwrap(), 42);
    assert!(matches!(cache.load("x"), Err(LoadError::Loader(_))));
    let clone = cache.clone();
    drop(cache);
    assert_eq!(clone.get("42"), Some(42));
    assert!(format!("{clone:?} {:?}", clone.loader()).starts_with("LoadingCache"));
}

#[test]
fn a_loader_may_say_that_there_is_none() {
    struct Nothing;
    impl Loader<u64, u64> for Nothing {
        type Error = Infallible;
        fn load(&self, _: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
            Ok(Loaded::missing())
        }
    }
    let cache =
        Cache::builder().max_entries(10).negative_ttl(secs(5)).build_loading(Nothing).unwrap();
    let _checked = watched(&cache);
    for _ in 0..3 {
        assert!(cache.load(&1).unwrap_err().is_not_found());
    }
    assert_eq!(cache.stats().loads, 1);
}

#[test]
fn a_hit_past_the_point_starts_one_refresh_and_waits_for_nothing() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    hand.advance(ms(47_999));
    assert_eq!((cache.get(&1), runtime.ready()), (Some(1), 0));
    hand.advance(ms(1));
    // through every door, and one refresh for all of them
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(cache.load(&1).unwrap(), 1);
    assert_eq!(cache.get_or_load(&1, common::uncalled).unwrap(), 1);
    assert_eq!(cache.at(&1).load(|_| common::uncalled::<u64>()).unwrap().value, 1);
    assert_eq!((runtime.ready(), source.loads()), (1, 1));
    assert!(runtime.step());
    assert_eq!(source.reasons(), [LoadReason::Miss, LoadReason::Refresh]);
    assert_eq!((cache.get(&1), runtime.ready()), (Some(2), 0));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.misses, stats.refused), (2, 1, 1, 0));
    // the new value has a life of its own, and so a point
    hand.advance(ms(47_999));
    assert_eq!((cache.get(&1), runtime.ready()), (Some(2), 0));
    hand.advance(ms(1));
    assert_eq!((cache.get(&1), runtime.ready()), (Some(2), 1));
    runtime.run_until_stalled();
    assert_eq!(cache.get(&1), Some(3));
}

#[test]
fn looking_on_refreshes_nothing() {
    let Setting { cache, runtime, hand, .. } = setting();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    hand.advance(secs(50));
    assert!(cache.contains(&1) && cache.peek(&1).is_some());
    assert_eq!(cache.entries().count(), 1);
    assert_eq!(runtime.ready(), 0);
}

#[test]
fn what_nobody_asks_for_expires_as_ever() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    hand.advance(secs(60));
    assert_eq!((cache.get(&1), runtime.ready(), source.loads()), (None, 0, 1));
    assert_eq!(cache.load(&1).unwrap(), 2, "and its next caller loads");
}

#[test]
fn a_refresh_is_asked_for_by_name_too() {
    let Setting { cache, source, runtime, .. } = setting();
    let _checked = watched(&cache);
    cache.refresh(&1);
    cache.refresh(&1);
    assert_eq!((cache.get(&1), runtime.ready()), (None, 1));
    runtime.step();
    assert_eq!(cache.get(&1), Some(1));
    cache.refresh(&1); // however fresh
    runtime.step();
    assert_eq!((cache.get(&1), cache.stats().refreshes), (Some(2), 2));
    assert_eq!(source.reasons(), [LoadReason::Refresh; 2]);
}

#[test]
fn a_caller_that_misses_waits_for_the_refresh_that_is_under_way() {
    let gate = Gate::new();
    let passing = gate.clone();
    let cache = Cache::builder()
        .max_entries(10)
        .build_loading_fn(move |key: &u64| Ok::<_, Infallible>(passing.pass(*key)))
        .unwrap();
    let checked = watched(&cache);
    cache.refresh(&7);
    gate.wait_until_entered(1);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| cache.load(&7).unwrap());
        checked.wait_until_joined(1);
        gate.open();
        assert_eq!(caller.join().unwrap(), 7);
    });
    assert_eq!((gate.entered(), cache.stats().loads), (1, 1));
}

/// Caffeine #1970, 42a52a1d9: a refresh that lands late overwrites a newer write.
#[test]
fn a_refresh_does_not_replace_what_was_written_after_it_began() {
    type Write = fn(&Cache<u64, u64>);
    let writes: [(Write, Option<u64>); 4] = [
        (|cache| cache.insert(1, 100), Some(100)),
        (|cache| _ = cache.remove(&1), None),
        (|cache| _ = cache.expire(&1), None),
        (Cache::clear, None),
    ];
    for (write, left) in writes {
        let (clock, hand) = Clock::manual();
        let runtime = SteppingRuntime::new();
        let late: Arc<Mutex<Option<Cache<u64, u64>>>> = Arc::default();
        let inside = Arc::clone(&late);
        let cache = Cache::builder()
            .max_entries(10)
            .time_to_live(secs(60))
            .refresh_ahead(RefreshAhead::At(0.5))
            .clock(clock)
            .runtime(runtime.clone())
            .build_loading_fn(move |_: &u64| {
                // somebody writes while the source is asked
                let cache = inside.lock().take();
                cache.iter().for_each(write);
                Ok::<_, Infallible>(1)
            })
            .unwrap();
        let _checked = watched(&cache);
        cache.load(&1).unwrap();
        hand.advance(secs(30));
        assert_eq!(cache.get(&1), Some(1));
        *late.lock() = Some(Cache::clone(&cache));
        runtime.step();
        assert_eq!((cache.get(&1), cache.stats().fenced), (left, 1));
        if left.is_some() {
            let newer = cache.peek(&1).unwrap();
            assert_eq!(newer.fresh_for, secs(60), "with its own life");
        }
    }
}

#[test]
fn a_refresh_that_was_fenced_in_the_queue_is_not_begun() {
    let Setting { cache, source, runtime, .. } = setting();
    let _checked = watched(&cache);
    cache.refresh(&1);
    cache.insert(1, 50);
    runtime.run_until_stalled();
    assert_eq!((source.loads(), cache.get(&1)), (0, Some(50)));
    assert_eq!(cache.stats().loads, 0, "nor counted as a loader that was run");
}

#[test]
fn a_load_whose_tag_was_removed_is_none_that_will_do_for_a_refresh() {
    let Setting { cache, source, runtime, .. } = setting();
    let _checked = watched(&cache);
    let load = || {
        cache.remove_tag("all");
        cache.refresh(&1);
        runtime.run_until_stalled();
        Ok::<_, String>(50)
    };
    assert_eq!(cache.at(&1).tag("all").load(|_| load()).unwrap().value, 50);
    assert_eq!((source.loads(), cache.get(&1)), (1, Some(1)));
}

#[test]
fn a_refresh_that_fails_leaves_the_value_and_its_end() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    source.0.fails.store(true, SeqCst);
    hand.advance(secs(50));
    assert_eq!(cache.get(&1), Some(1));
    runtime.step();
    let kept = cache.peek(&1).unwrap();
    assert_eq!((kept.value, kept.fresh_for), (1, secs(10)));
    assert_eq!(cache.stats().load_failures, 1);
}

/// Caffeine, otter, `FusionCache`: a refresh that fails is retried on every read, or never.
#[test]
fn a_refresh_that_failed_is_held_back_and_then_tried_again() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    source.0.fails.store(true, SeqCst);
    hand.advance(secs(50));
    assert_eq!(cache.get(&1), Some(1));
    runtime.step();
    for _ in 0..10 {
        assert_eq!(cache.get(&1), Some(1));
    }
    assert_eq!((runtime.ready(), source.loads()), (0, 2), "for a second");
    hand.advance(secs(1));
    source.0.fails.store(false, SeqCst);
    assert_eq!(cache.get(&1), Some(1));
    runtime.step();
    assert_eq!(cache.get(&1), Some(3));
}

#[test]
fn what_is_stale_is_revalidated_in_the_background_and_everybody_is_served() {
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let cache = Cache::builder()
        .max_entries(100)
        .time_to_live(secs(60))
        .stale_while_revalidate(secs(30))
        .clock(clock)
        .runtime(runtime.clone())
        .build_loading(source.clone())
        .unwrap();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    hand.advance(secs(70));
    assert_eq!(cache.get(&1), None, "fresh values only");
    assert_eq!(runtime.ready(), 0);
    for _ in 0..3 {
        assert_eq!(cache.load(&1).unwrap(), 1);
        assert_eq!(cache.get_or_load(&1, common::uncalled).unwrap(), 1);
    }
    assert_eq!((runtime.ready(), source.loads()), (1, 1));
    runtime.step();
    assert_eq!((cache.load(&1).unwrap(), source.loads()), (2, 2));
    let stats = cache.stats();
    assert_eq!((stats.stale_hits, stats.misses, stats.refreshes), (6, 2, 1));
    // refused, it is done by the caller, who then has the new value
    hand.advance(secs(70));
    runtime.shut_down();
    assert_eq!((cache.load(&1).unwrap(), cache.stats().refused), (3, 1));
}

#[test]
fn without_a_loader_of_its_own_the_first_who_finds_a_value_due_loads_on_its_own_time() {
    let (clock, hand) = Clock::manual();
    let cache: Cache<u64, u64> = Cache::builder()
        .max_entries(100)
        .time_to_live(secs(60))
        .refresh_ahead(RefreshAhead::At(0.8))
        .clock(clock)
        .build()
        .unwrap();
    let _checked = watched(&cache);
    cache.get_or_load(&1, || Ok::<_, String>(1)).unwrap();
    hand.advance(secs(47));
    assert_eq!(cache.get_or_load(&1, common::uncalled).unwrap(), 1);
    hand.advance(secs(1));
    assert_eq!(cache.get(&1), Some(1), "it has nothing to load with");
    let first = cache.at(&1).load(|cx| {
        assert_eq!(cx.reason(), LoadReason::Refresh);
        assert_eq!(cx.stale(), Some(&1));
        // all others are served meanwhile
        assert_eq!(cache.get(&1), Some(1));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| cache.get_or_load(&1, common::uncalled).unwrap());
            assert_eq!(other.join().unwrap(), 1);
        });
        Ok::<_, String>(2)
    });
    assert_eq!((first.unwrap().value, cache.get(&1)), (2, Some(2)));
    // if it fails, what it was to replace is still good, and for a second nobody tries again
    hand.advance(secs(50));
    assert_eq!(cache.get_or_load(&1, || Err::<u64, _>("away".to_owned())).unwrap(), 2);
    assert_eq!(cache.get_or_load(&1, common::uncalled).unwrap(), 2);
    hand.advance(secs(1));
    let task = cache.get_or_load_async(&1, || async { Ok::<_, String>(3) });
    assert_eq!(common::tasks::block_on(task).unwrap(), 3);
    let missing = |_: &LoadCx<u64>| Ok::<_, String>(Loaded::missing());
    hand.advance(secs(50));
    assert!(cache.at(&1).load(missing).unwrap_err().is_not_found());
    assert_eq!((cache.get(&1), cache.stats().refreshes), (None, 4));
}

#[test]
fn a_panic_in_the_background_is_counted_and_contained() {
    let Setting { cache, source, runtime, hand } = setting();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    source.0.panics.store(true, SeqCst);
    hand.advance(secs(50));
    assert_eq!(cache.get(&1), Some(1));
    assert!(runtime.step(), "it does not reach the runtime");
    assert_eq!((cache.flights(), cache.stats().load_failures), (0, 1));
    source.0.panics.store(false, SeqCst);
    cache.refresh(&1);
    runtime.run_until_stalled();
    assert_eq!(cache.get(&1), Some(3), "the next one works");
}

#[test]
fn a_panic_on_the_caches_own_threads_is_told_to_those_who_wait() {
    let gate = Gate::new();
    let passing = gate.clone();
    let cache = Cache::builder()
        .max_entries(10)
        .build_loading_fn(move |key: &u64| -> Result<u64, Infallible> {
            passing.pass(());
            assert!(*key != 7, "expected: the loader's own trouble");
            Ok(*key)
        })
        .unwrap();
    let checked = watched(&cache);
    cache.refresh(&7);
    gate.wait_until_entered(1);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| cache.load(&7));
        checked.wait_until_joined(1);
        gate.open();
        assert!(caller.join().unwrap().unwrap_err().is_panic());
    });
    cache.refresh(&8);
    wait_until(|| cache.get(&8) == Some(8));
}

#[test]
fn what_the_runtime_refuses_the_caller_does() {
    for unwilling in [Unwilling::Refusing, Unwilling::Dropping] {
        let (clock, hand) = Clock::manual();
        let source = Source::default();
        let cache = Cache::builder()
            .max_entries(10)
            .time_to_live(secs(60))
            .refresh_ahead(RefreshAhead::At(0.8))
            .clock(clock)
            .runtime(unwilling)
            .build_loading(source.clone())
            .unwrap();
        let _checked = watched(&cache);
        cache.load(&1).unwrap();
        hand.advance(secs(50));
        assert_eq!(cache.get(&1), Some(1), "what it had found");
        assert_eq!(cache.get(&1), Some(2), "and it was loaded before that was returned");
        assert_eq!((cache.stats().refreshes, cache.stats().refused), (1, 1));
        source.0.panics.store(true, SeqCst);
        cache.refresh(&1);
        assert_eq!((cache.stats().load_failures, cache.stats().refused), (1, 2));
        assert_eq!(cache.get(&1), Some(2), "a panic of what it does for others is not its own");
    }
}

#[test]
fn a_runtime_that_shuts_down_drops_its_refreshes_and_callers_do_the_next() {
    let Setting { cache, source, runtime, .. } = setting();
    let _checked = watched(&cache);
    cache.refresh(&1);
    assert_eq!(cache.flights(), 1);
    runtime.shut_down();
    assert_eq!((cache.flights(), source.loads()), (0, 0), "its key is free");
    cache.refresh(&1);
    assert_eq!((cache.get(&1), cache.stats().refused), (Some(1), 1));
}

#[test]
fn the_time_of_a_refresh_does_not_run_while_it_stands_in_a_queue() {
    let (clock, hand) = Clock::manual();
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    let cache = Cache::builder()
        .max_entries(10)
        .load_timeout(secs(5))
        .clock(clock)
        .runtime(runtime.clone())
        .build_loading(source.clone())
        .unwrap();
    let _checked = watched(&cache);
    cache.refresh(&1);
    hand.advance(secs(5));
    assert_eq!(cache.load(&1).unwrap(), 1, "the next caller leads");
    runtime.run_until_stalled();
    assert_eq!((cache.get(&1), cache.stats().load_timeouts), (Some(1), 0));
    assert_eq!(source.loads(), 1, "and nobody would have had the late one");
}

/// moka 0.9: a background thread keeps the cache alive.
#[test]
fn dropping_the_cache_drops_all_at_once_and_ends_its_threads() {
    let _watchdog = Watchdog::start();
    let (ledger, gate) = (Ledger::new(), Gate::new());
    let (values, passing) = (ledger.clone(), gate.clone());
    let cache = Cache::builder()
        .max_entries(10)
        .build_loading_fn(move |key: &u64| {
            Ok::<_, Infallible>(if *key == 0 {
                passing.pass(values.counted(0))
            } else {
                values.counted(*key)
            })
        })
        .unwrap();
    cache.load(&1).unwrap();
    cache.refresh(&0);
    gate.wait_until_entered(1);
    assert_eq!(ledger.alive(), 2, "one stored, one on its way");
    drop(cache);
    assert_eq!(ledger.alive(), 1, "what was stored is gone though a load is still running");
    gate.open();
    wait_until(|| ledger.alive() == 0);
}

#[test]
fn a_load_that_outlives_its_cache_knows() {
    struct Patient(Gate, Arc<AtomicBool>);
    impl Loader<u64, u64> for Patient {
        type Error = Infallible;
        fn load(&self, _: &u64, cx: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
            self.0.pass(());
            self.1.store(cx.is_abandoned(), SeqCst);
            Ok(Loaded::new(1))
        }
    }
    let _watchdog = Watchdog::start();
    let (gate, knew) = (Gate::new(), Arc::new(AtomicBool::new(false)));
    let loader = Patient(gate.clone(), Arc::clone(&knew));
    let cache = Cache::builder().max_entries(10).build_loading(loader).unwrap();
    cache.refresh(&1);
    gate.wait_until_entered(1);
    drop(cache);
    gate.open();
    wait_until(|| knew.load(SeqCst));
}

#[test]
fn what_was_queued_when_the_cache_went_is_never_begun() {
    let Setting { cache, source, runtime, .. } = setting();
    cache.refresh(&1);
    cache.refresh(&2);
    drop(cache);
    assert_eq!(runtime.run_until_stalled(), 2);
    assert_eq!(source.loads(), 0);
}

#[test]
fn a_loader_may_drop_the_last_handle() {
    type Last = Arc<Mutex<Option<Cache<u64, Counted>>>>;
    let _watchdog = Watchdog::start();
    let (ledger, last) = (Ledger::new(), Last::default());
    let (values, taken) = (ledger.clone(), Arc::clone(&last));
    let cache = Cache::builder()
        .max_entries(10)
        .build_loading_fn(move |key: &u64| {
            drop(taken.lock().take());
            Ok::<_, Infallible>(values.counted(*key))
        })
        .unwrap();
    cache.load(&1).unwrap();
    *last.lock() = Some(Cache::clone(&cache));
    cache.refresh(&2);
    drop(cache);
    wait_until(|| ledger.alive() == 0 && last.lock().is_none());
}

#[test]
fn a_loader_asks_for_other_keys_and_not_for_its_own() {
    type Shelf = Cache<u64, u64>;
    let shelf: Arc<Mutex<Option<Shelf>>> = Arc::default();
    let inside = Arc::clone(&shelf);
    let runtime = SteppingRuntime::new();
    let cache = Cache::builder()
        .max_entries(10)
        .runtime(runtime.clone())
        .build_loading_fn(move |key: &u64| {
            let shelf = inside.lock().clone().unwrap();
            let own = shelf.get_or_load(key, || Ok::<_, Infallible>(0));
            assert!(own.unwrap_err().is_recursive());
            Ok::<_, Infallible>(shelf.get_or_insert_with(&(key + 100), || 5))
        })
        .unwrap();
    let _checked = watched(&cache);
    *shelf.lock() = Some(Cache::clone(&cache));
    assert_eq!(cache.load(&1).unwrap(), 5);
    cache.refresh(&2);
    runtime.step();
    assert_eq!((cache.get(&2), cache.stats().load_failures), (Some(5), 0));
    *shelf.lock() = None;
}

#[test]
fn many_keys_are_one_call_where_the_loader_has_one_and_else_one_after_the_other() {
    struct Rows(Arc<AtomicU64>);
    impl Loader<u64, u64> for Rows {
        type Error = String;
        fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
            Ok(Loaded::new(*key))
        }
        fn load_many(&self, keys: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
            self.0.fetch_add(1, SeqCst);
            let found = keys.iter().filter(|key| **key < 10);
            Ok(found.map(|key| (*key, Loaded::new(key * 100).ttl(secs(7)))).collect())
        }
    }
    let calls = Arc::<AtomicU64>::default();
    let cache = Cache::builder()
        .max_entries(10)
        .clock(Clock::manual().0)
        .build_loading(Rows(Arc::clone(&calls)))
        .unwrap();
    let _checked = watched(&cache);
    cache.load(&1).unwrap();
    let many = cache.load_many(&[1, 2, 3, 2, 70]);
    let got: Vec<_> = many.got.iter().map(|(key, got)| (*key, got.value)).collect();
    assert_eq!((got, many.missing), (vec![(1, 1), (2, 200), (3, 300)], vec![70]));
    assert_eq!((calls.load(SeqCst), cache.peek(&3).unwrap().fresh_for), (1, secs(7)));

    let Setting { cache, source, .. } = setting();
    let _checked = watched(&cache);
    let many = cache.load_many(&[1, 2, 3]);
    assert_eq!((many.got.len(), source.loads()), (3, 3));
    source.0.fails.store(true, SeqCst);
    let many = cache.load_many(&[1, 4, 5]);
    assert_eq!((many.got.len(), many.failed, source.loads()), (1, vec![4, 5], 4));
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let build = |when| {
        let builder = Cache::<u64, u64>::builder().max_entries(1).refresh_ahead(when);
        builder.build().map(drop)
    };
    for share in [0.0, 1.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        match build(RefreshAhead::At(share)) {
            Err(ConfigError::OutOfRange { setting: "refresh_ahead", given, .. }) => {
                assert!(matches!(given, Given::Number(n) if n.to_bits() == share.to_bits()));
            }
            other => panic!("{share}: {other:?}"),
        }
    }
    for beta in [-1.0, f64::NAN, f64::INFINITY] {
        let refused = build(RefreshAhead::CostAware { beta }).unwrap_err();
        assert!(refused.to_string().starts_with("`refresh_ahead` is "), "{refused}");
    }
    for when in [
        RefreshAhead::Never,
        RefreshAhead::At(0.8),
        RefreshAhead::CostAware { beta: 0.0 },
        RefreshAhead::CostAware { beta: 1.0 },
    ] {
        build(when).unwrap();
    }
    let builder = Cache::<u64, u64>::builder().build_loading(Source::default());
    assert_eq!(builder.unwrap_err(), ConfigError::NoBound);
}

/// A busy runtime may take long to come to a refresh: nobody who needs the value waits for that.
#[test]
fn a_load_does_not_wait_for_a_refresh_that_stands_in_a_queue() {
    let _watchdog = Watchdog::start();
    let it = setting();
    it.cache.refresh(&1);
    assert_eq!((it.cache.flights(), it.source.loads()), (1, 0));
    assert_eq!(it.cache.load(&1).unwrap(), 1);
    it.runtime.run_until_stalled();
    assert_eq!(
        (it.source.loads(), it.cache.get(&1)),
        (1, Some(1)),
        "the refresh has no more to do"
    );
    assert_eq!(it.cache.flights(), 0);
    it.cache.validate();
}

#[test]
fn a_closure_loads_each_of_many_keys_by_itself() {
    let loads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&loads);
    let builder = Cache::builder().max_entries(100).batch(10, secs(50));
    let cache = builder.build_loading_fn(move |key: &u64| {
        count.fetch_add(1, SeqCst);
        if *key == 31 { Err("bad") } else { Ok(*key) }
    });
    let cache = cache.unwrap();
    let many = cache.load_many(&[30, 31, 32, 30]);
    let got: Vec<_> = many.got.iter().map(|(key, got)| (*key, got.value)).collect();
    assert_eq!((got, many.failed), (vec![(30, 30), (32, 32)], vec![31]));
    assert_eq!(many.error.unwrap().loader(), Some(&"bad"));
    assert_eq!((loads.load(SeqCst), cache.stats().loads), (3, 3));
    let warmed = cache.warm(0..64);
    warmed.wait();
    assert_eq!((warmed.loaded(), warmed.present(), warmed.failed()), (61, 2, 1));
    // nor does it wait for company
    assert_eq!(cache.load(&70).unwrap(), 70);
    assert!(cache.load(&31).is_err());
}

#[test]
fn a_revalidation_that_a_call_for_many_keys_began_is_counted() {
    for batched in [false, true] {
        let (clock, hand) = Clock::manual();
        let (runtime, source) = (SteppingRuntime::new(), Source::default());
        let builder = Cache::builder().max_entries(10).clock(clock).runtime(runtime.clone());
        let windows = builder.time_to_live(secs(10)).stale_while_revalidate(secs(100));
        let builder = if batched { windows.batch(1, ms(1)) } else { windows };
        let cache = builder.build_loading(source.clone()).unwrap();
        cache.load(&1).unwrap();
        hand.advance(secs(20));
        source.0.fails.store(true, SeqCst);
        if batched {
            assert_eq!(cache.load(&1).unwrap(), 1, "served stale");
        } else {
            assert_eq!(cache.load_many(&[1]).got.len(), 1);
        }
        runtime.run_until_stalled();
        let stats = cache.stats();
        assert_eq!((source.loads(), stats.loads, stats.load_failures), (2, 2, 1), "{batched}");
    }
}

#[test]
fn a_loader_may_be_shared_and_of_a_type_that_nobody_names() {
    /// Knows of even numbers, and answers for many at once.
    struct Halves(AtomicU64);
    impl Loader<u64, u64> for Halves {
        type Error = String;

        fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
            self.load_many(&[*key]).map(|mut all| all.remove(0).1)
        }

        fn load_many(&self, keys: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
            self.0.fetch_add(1, SeqCst);
            Ok(keys.iter().map(|key| (*key, Loaded::new(key / 2))).collect())
        }
    }
    let halves = Arc::new(Halves(AtomicU64::new(0)));
    let build = |loader: Arc<dyn Loader<u64, u64, Error = String>>| {
        Cache::builder().max_entries(100).build_loading(loader).unwrap()
    };
    let (one, other) = (build(halves.clone()), build(halves.clone()));
    assert_eq!((one.load(&8).unwrap(), other.load(&8).unwrap()), (4, 4));
    assert_eq!(halves.0.load(SeqCst), 2);
    assert_eq!(one.load_many(&[2, 4, 6]).got.len(), 3);
    assert_eq!(halves.0.load(SeqCst), 3, "its own way of loading many is used");
    one.validate();
    other.validate();
}
