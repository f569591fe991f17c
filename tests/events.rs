//! `on_event`: what goes wrong is told once, to the end of it, and telling it harms nothing.

mod common;

use common::doubles::Unwilling;
use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Checked, checked, ms, secs, wait_until, watched};
use larder::{
    BreakerState, Cache, CacheBuilder, Clock, Event, LoadCx, LoadError, LoadReason, Loaded, Loader,
    ManualClock, MemoryTier, RefreshAhead, SteppingRuntime,
};
use parking_lot::Mutex;
use std::fmt::Debug;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

/// A handler that writes down what it is told, in the words of `Display`.
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn handler<K: Debug>(&self) -> impl Fn(Event<'_, K>) + Send + Sync + use<K> {
        let lines = Arc::clone(&self.0);
        move |event| lines.lock().push(event.to_string())
    }

    /// What it was told since it was asked last.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

fn builder() -> (CacheBuilder<u64, u64>, ManualClock, Log) {
    let ((clock, hand), log) = (Clock::manual(), Log::new());
    let builder = Cache::builder()
        .max_entries(1_000)
        .clock(clock)
        .load_timeout(ms(100))
        .on_event(log.handler());
    (builder, hand, log)
}

fn cache() -> (Checked<u64, u64>, ManualClock, Log) {
    let (builder, hand, log) = builder();
    (checked(builder), hand, log)
}

fn fail(cache: &Cache<u64, u64>, key: u64) {
    cache.get_or_load(&key, || Err::<u64, _>("away")).unwrap_err();
}

fn succeed(cache: &Cache<u64, u64>, key: u64) {
    assert_eq!(cache.get_or_load(&key, || Ok::<_, String>(key)).unwrap(), key);
}

#[test]
fn a_failure_is_told_with_its_key_its_reason_its_number_and_its_error() {
    let (clock, hand) = Clock::manual();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let cache = checked(
        Cache::<u64, u64>::builder()
            .max_entries(10)
            .time_to_live(secs(1))
            .stale_if_error(secs(60))
            .error_backoff(ms(1), ms(1))
            .clock(clock)
            .on_event(move |event| match event {
                Event::LoadFailed { key, reason, failures, error, .. } => {
                    let error = error.downcast_ref::<String>().cloned();
                    log.lock().push((*key, reason, failures, error));
                }
                other => panic!("{other}"),
            }),
    );
    let load = |key: u64, text: &str| {
        hand.advance(ms(2));
        cache.get_or_load(&key, || Err::<u64, _>(text.to_owned())).is_ok()
    };
    assert!(!load(1, "a") && !load(1, "b"));
    cache.insert(2, 20);
    hand.advance(secs(2));
    assert!(load(2, "c"), "served stale: its caller hears of nothing");
    // one of another type, and a success begins the row anew
    hand.advance(ms(2));
    cache.get_or_load(&1, || Err::<u64, _>(7_u8)).unwrap_err();
    hand.advance(ms(2));
    succeed(&cache, 1);
    cache.remove(&1);
    assert!(!load(1, "d"));
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        *told.lock(),
        [
            (1, LoadReason::Miss, 1, some("a")),
            (1, LoadReason::Miss, 2, some("b")),
            (2, LoadReason::Expired, 1, some("c")),
            (1, LoadReason::Miss, 3, None),
            (1, LoadReason::Miss, 1, some("d")),
        ]
    );
}

#[test]
fn what_is_no_failure_is_no_event() {
    let (builder, hand, log) = builder();
    let cache = checked(builder.time_to_live(secs(1)).negative_ttl(secs(1)));
    cache.insert(1, 10);
    assert_eq!(cache.get(&1), Some(10));
    succeed(&cache, 2);
    let none = cache.get_or_load_optional(&3, || Ok::<_, String>(None));
    assert_eq!(none.unwrap(), None);
    // fenced, but that is as it should be
    let overtaken = || {
        cache.insert(4, 1);
        Ok::<_, String>(2)
    };
    assert_eq!(cache.get_or_load(&4, overtaken).unwrap(), 2);
    hand.advance(secs(2));
    cache.sweep();
    cache.clear();
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn a_refresh_that_fails_in_the_background_is_told() {
    let (builder, hand, log) = builder();
    let runtime = SteppingRuntime::new();
    let loading = builder
        .time_to_live(secs(10))
        .refresh_ahead(RefreshAhead::At(0.5))
        .runtime(runtime.clone())
        .build_loading_fn(|_: &u64| Err::<u64, _>("away"))
        .unwrap();
    let cache = watched(&loading);
    cache.insert(1, 10);
    hand.advance(secs(6));
    assert_eq!(loading.load(&1).unwrap(), 10);
    runtime.run_until_stalled();
    assert_eq!(log.take(), ["the load of 1 failed (Refresh, 1 in a row): away"]);
}

#[test]
fn so_is_one_that_panics_and_one_that_takes_too_long() {
    let (builder, hand, log) = builder();
    let (runtime, source) = (SteppingRuntime::new(), hand.clone());
    let loading = builder
        .time_to_live(secs(10))
        .runtime(runtime.clone())
        .build_loading_fn(move |key: &u64| {
            assert_ne!(*key, 1, "expected: a loader panics");
            source.advance(ms(200));
            Ok::<_, String>(*key)
        })
        .unwrap();
    let cache = watched(&loading);
    loading.refresh(&1);
    loading.refresh(&2);
    runtime.run_until_stalled();
    let told = ["1 panicked", "2 timed out"];
    assert_eq!(log.take(), told.map(|it| format!("the load of {it} (Refresh, 1 in a row)")));
    assert_eq!(cache.len(), 0);
}

#[test]
fn panics_of_loaders_listeners_and_of_the_handler_itself() {
    let (builder, _hand, log) = builder();
    let cache = checked(builder.on_removal(|_| panic!("expected: a listener panics")));
    let load = || cache.get_or_load(&1, || -> Result<u64, String> { panic!("expected") });
    catch_unwind(AssertUnwindSafe(load)).unwrap_err();
    assert_eq!(log.take(), ["the load of 1 panicked (Miss, 1 in a row)"]);
    cache.insert(2, 20);
    cache.remove(&2);
    assert_eq!(log.take(), ["the removal listener panicked"]);
    assert_eq!(cache.stats().listener_panics, 1);

    let handler = |_: Event<'_, u64>| panic!("expected: a handler panics");
    let cache = checked(Cache::builder().max_entries(10).on_event(handler));
    fail(&cache, 1);
    // while a loader's panic unwinds, too
    let load = || cache.get_or_load(&1, || -> Result<u64, String> { panic!("expected") });
    catch_unwind(AssertUnwindSafe(load)).unwrap_err();
    assert_eq!(cache.stats().listener_panics, 2);
    succeed(&cache, 1);
}

#[test]
fn a_timeout_is_told_once_whoever_notices() {
    let text = |key: u64| [format!("the load of {key} timed out (Miss, 1 in a row)")];
    // the load itself, when it is done
    let (cache, hand, log) = cache();
    let late = || {
        hand.advance(ms(200));
        Ok::<_, String>(1)
    };
    assert_eq!(cache.get_or_load(&1, late).unwrap(), 1);
    assert_eq!(log.take(), text(1));

    // the next caller, and then the load
    let gate = Gate::new();
    let told = thread::scope(|scope| {
        scope.spawn(|| cache.get_or_load(&2, || gate.pass(Ok::<_, String>(1))));
        gate.wait_until_entered(1);
        hand.advance(ms(200));
        cache.get_or_load(&2, || Ok::<_, String>(2)).unwrap();
        let told = log.take();
        gate.open();
        told
    });
    assert_eq!(told, text(2));
    assert_eq!(log.take(), [""; 0]);
    assert_eq!(cache.stats().load_timeouts, 2);

    // one who waits
    let mut leader = Task::new(cache.get_or_load_async(&3, pending::<Result<u64, String>>));
    leader.pend();
    let mut follower = Task::new(cache.get_or_load_async(&3, pending::<Result<u64, String>>));
    follower.pend();
    hand.advance(ms(200));
    assert!(follower.finish().unwrap_err().is_timeout());
    assert_eq!(log.take(), text(3));
    assert!(leader.finish().unwrap_err().is_timeout());
    assert_eq!(log.take(), [""; 0]);
}

#[test]
fn so_is_that_of_a_load_whose_key_was_written_before() {
    let text = |key: u64| [format!("the load of {key} timed out (Miss, 1 in a row)")];
    let (cache, hand, log) = cache();
    let late = || {
        cache.remove(&1);
        hand.advance(ms(100));
        Ok::<_, String>(1)
    };
    assert_eq!(cache.get_or_load(&1, late).unwrap(), 1);
    assert_eq!(log.take(), text(1));

    // its own caller is told that it timed out, and one who waits for it
    let mut leader = Task::new(cache.get_or_load_async(&2, pending::<Result<u64, String>>));
    leader.pend();
    let mut follower = Task::new(cache.get_or_load_async(&2, pending::<Result<u64, String>>));
    follower.pend();
    cache.insert(2, 20);
    hand.advance(ms(100));
    assert!(follower.finish().unwrap_err().is_timeout());
    assert!(leader.finish().unwrap_err().is_timeout());
    assert_eq!(log.take(), text(2));

    let stats = cache.stats();
    assert_eq!((stats.load_timeouts, stats.fenced, stats.abandoned), (2, 0, 0));
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
}

#[test]
fn one_that_panics_after_its_timeout_is_told_of_both() {
    let told = |key: u64| {
        ["timed out", "panicked"].map(|what| format!("the load of {key} {what} (Miss, 1 in a row)"))
    };
    let (cache, hand, log) = cache();
    let late = || -> Result<u64, String> {
        hand.advance(ms(100));
        panic!("expected")
    };
    catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&1, late))).unwrap_err();
    assert_eq!(log.take(), told(1));
    let late = |_: &[u64]| -> Result<Vec<(u64, u64)>, String> {
        hand.advance(ms(100));
        panic!("expected")
    };
    catch_unwind(AssertUnwindSafe(|| cache.get_or_load_many(&[2], late))).unwrap_err();
    assert_eq!(log.take(), told(2));
    let stats = cache.stats();
    assert_eq!((stats.load_timeouts, stats.load_failures), (2, 2));
}

#[test]
fn a_load_that_is_dropped_with_its_caller_is_told_and_of_many_each() {
    let (cache, _hand, log) = cache();
    let mut task = Task::new(cache.get_or_load_async(&1, pending::<Result<u64, String>>));
    task.pend();
    drop(task);
    assert_eq!(log.take(), ["the load of 1 was dropped before it was done (Miss)"]);
    let many = cache.get_or_load_many_async(&[2, 3], |_| pending::<Result<Vec<_>, String>>());
    let mut task = Task::new(many);
    task.pend();
    drop(task);
    assert_eq!(
        log.take(),
        [2, 3].map(|key| format!("the load of {key} was dropped before it was done (Miss)"))
    );
    assert_eq!(cache.stats().abandoned, 2);
}

#[test]
fn of_many_keys_that_fail_at_once_each_is_told() {
    let (cache, hand, log) = cache();
    let many = cache.get_or_load_many(&[1, 2], |_| Err::<Vec<_>, _>("away"));
    assert_eq!(many.failed.len(), 2);
    assert_eq!(
        log.take(),
        [1, 2].map(|n| format!("the load of {n} failed (Miss, 1 in a row): away"))
    );
    let load = |_: &[u64]| -> Result<Vec<(u64, u64)>, String> { panic!("expected") };
    catch_unwind(AssertUnwindSafe(|| cache.get_or_load_many(&[3, 4], load))).unwrap_err();
    assert_eq!(log.take(), [3, 4].map(|n| format!("the load of {n} panicked (Miss, 1 in a row)")));
    let many = cache.get_or_load_many_async(&[5, 6], |_| pending::<Result<Vec<_>, String>>());
    let mut task = Task::new(many);
    task.pend();
    hand.advance(ms(200));
    assert_eq!(task.finish().failed.len(), 2);
    assert_eq!(
        log.take(),
        [5, 6].map(|key| format!("the load of {key} timed out (Miss, 1 in a row)"))
    );
}

#[test]
fn unchanged_of_nothing_is_told_as_the_mistake_that_it_is() {
    let (cache, _hand, log) = cache();
    cache.at(&1).load(|_| Ok::<_, String>(Loaded::unchanged())).unwrap_err();
    assert_eq!(log.take(), ["the loader said `unchanged` of 1, and nothing was cached"]);
}

#[test]
fn the_breaker_tells_when_it_opens_and_when_it_closes() {
    let (builder, hand, log) = builder();
    let cache = checked(builder.circuit_breaker(2, secs(1)));
    let opened = "the circuit breaker opened";
    let failed =
        |key: u64, row: u32| format!("the load of {key} failed (Miss, {row} in a row): away");
    fail(&cache, 1);
    assert_eq!(log.take(), [failed(1, 1)]);
    fail(&cache, 2);
    assert_eq!(log.take(), [failed(2, 1), opened.to_owned()]);
    fail(&cache, 3);
    assert_eq!(log.take(), [""; 0], "it stays open");
    hand.advance(secs(1));
    fail(&cache, 2);
    assert_eq!(log.take(), [failed(2, 2), opened.to_owned()]);
    hand.advance(secs(1));
    succeed(&cache, 4);
    assert_eq!(log.take(), ["the circuit breaker closed"]);
    succeed(&cache, 5);
    assert_eq!(log.take(), [""; 0], "it was closed");

    // by loads that do not come back: told when somebody looks
    let mut tasks: Vec<_> = [6, 7]
        .map(|key| {
            let cache = &cache;
            Task::new(
                async move { cache.get_or_load_async(&key, pending::<Result<u64, String>>).await },
            )
        })
        .into();
    tasks.iter_mut().for_each(Task::pend);
    hand.advance(ms(200));
    assert!(cache.get_or_load(&8, || Ok::<_, String>(8)).unwrap_err().is_circuit_open());
    assert_eq!(log.take(), [opened]);
    for task in &mut tasks {
        assert!(task.finish().unwrap_err().is_timeout());
    }
}

#[test]
fn a_tier_that_fails_is_told_once_a_question() {
    let (builder, _hand, log) = builder();
    let tier = MemoryTier::new();
    let cache = checked(builder.tier(tier.join()));
    tier.fail(true);
    succeed(&cache, 1);
    let lines = log.take();
    let asked = |line: &&String| line.starts_with("the second tier did not answer: ");
    assert_eq!(lines.iter().filter(asked).count(), 1, "{lines:?}");
    let many = cache.get_or_load_many(&[2, 3, 4], |keys| {
        Ok::<_, String>(keys.iter().map(|key| (*key, *key)).collect::<Vec<_>>())
    });
    assert_eq!(many.got.len(), 3);
    let lines = log.take();
    assert_eq!(lines.iter().filter(asked).count(), 1, "{lines:?}");
    // what it was to be told meanwhile: somebody else's time, so it comes when it comes
    cache.insert(5, 50);
    let lags = |line: &String| line.starts_with("changes not taken by the second tier: ");
    wait_until(|| log.0.lock().iter().any(lags));
    tier.fail(false);
    wait_until(|| cache.tier_pending() == 0);
}

#[test]
fn a_runtime_that_refuses_is_told() {
    let (builder, hand, log) = builder();
    let loading = builder
        .time_to_live(secs(10))
        .refresh_ahead(RefreshAhead::At(0.5))
        .runtime(Unwilling::Refusing)
        .build_loading_fn(|key: &u64| Ok::<_, String>(*key))
        .unwrap();
    let cache = watched(&loading);
    cache.insert(1, 10);
    hand.advance(secs(6));
    assert_eq!(loading.load(&1).unwrap(), 10);
    assert_eq!(log.take(), ["the runtime refused work in the background"]);
    assert_eq!(cache.stats().refused, 1);
}

/// A cache whose handler does something with it, and what came of that.
struct WithHands<T> {
    cache: Checked<u64, u64>,
    came: Arc<Mutex<Vec<T>>>,
    own: Arc<Mutex<Option<Cache<u64, u64>>>>,
}

impl<T: Send + 'static> WithHands<T> {
    fn new(act: impl Fn(&Cache<u64, u64>, u64) -> T + Send + Sync + 'static) -> Self {
        Self::over(Cache::builder(), act)
    }

    /// Of all other events it acts on the key 0.
    fn over(
        builder: CacheBuilder<u64, u64>,
        act: impl Fn(&Cache<u64, u64>, u64) -> T + Send + Sync + 'static,
    ) -> Self {
        let (own, came) = (Arc::new(Mutex::new(None::<Cache<u64, u64>>)), Arc::default());
        let (its, told): (_, Arc<Mutex<Vec<T>>>) = (Arc::clone(&own), Arc::clone(&came));
        let cache = checked(builder.max_entries(100).on_event(move |event| {
            let key = match event {
                Event::LoadFailed { key, .. } | Event::LoadPanicked { key, .. } => *key,
                _ => 0,
            };
            let cache = its.lock().clone().unwrap();
            let came = act(&cache, key);
            told.lock().push(came);
        }));
        *own.lock() = Some((*cache).clone());
        Self { cache, came, own }
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.came.lock())
    }
}

impl<T> Drop for WithHands<T> {
    fn drop(&mut self) {
        // else it would keep itself
        drop(self.own.lock().take());
    }
}

#[test]
fn a_handler_may_use_its_cache_but_loads_are_recursive_there() {
    let load =
        |cache: &Cache<u64, u64>, key: u64| match cache.get_or_load(&key, || Ok::<_, String>(99)) {
            Ok(value) => Ok(value),
            Err(LoadError::Recursive) => Err(()),
            Err(other) => panic!("{other}"),
        };
    // of several keys that fail, none that its own thread has in hand is waited for
    let hands = WithHands::new(move |cache, key| {
        let loaded = [load(cache, key), load(cache, key + 1), load(cache, 50)];
        cache.insert(key + 100, key);
        (loaded, cache.get(&(key + 100)), cache.remove(&(key + 100)))
    });
    let cache = &hands.cache;
    cache.insert(50, 5);
    let many = cache.get_or_load_many(&[1, 2, 3], |_| Err::<Vec<_>, _>("away"));
    assert_eq!(many.failed.len(), 3);
    let told = hands.take();
    assert_eq!(told.len(), 3);
    for (key, (loaded, got, removed)) in (1..).zip(told) {
        assert_eq!(loaded, [Err(()), Err(()), Ok(5)]);
        assert_eq!((got, removed), (Some(key), Some(key)));
    }
    // and where they panic, and where a load has nothing but a seat
    let load = |_: &[u64]| -> Result<Vec<(u64, u64)>, String> { panic!("expected") };
    catch_unwind(AssertUnwindSafe(|| cache.get_or_load_many(&[7, 8], load))).unwrap_err();
    assert_eq!(hands.take().len(), 2);
    fail(cache, 9);
    assert_eq!(hands.take()[0].0, [Err(()), Err(()), Ok(5)]);
    assert_eq!(cache.get_or_insert_with(&9, || 1), 1);
}

#[test]
fn a_handler_makes_what_is_known_to_be_missing() {
    let hands = WithHands::over(Cache::builder().negative_ttl(secs(60)), |cache, _| {
        let makes = cache.get_or_insert_with_async(&50, || async { 6 });
        [cache.get_or_insert_with(&50, || 5), block_on(makes)]
    });
    let cache = &hands.cache;
    assert_eq!(cache.get_or_load_optional(&50, || Ok::<_, String>(None)).unwrap(), None);
    fail(cache, 1);
    assert_eq!((hands.take(), cache.stats().listener_panics), (vec![[5, 6]], 0));
}

#[test]
fn what_a_handler_causes_it_is_not_told_of() {
    let builder = Cache::builder().on_removal(|_| panic!("expected: a listener panics"));
    let hands = WithHands::over(builder, |cache, key| {
        cache.insert(key, 10);
        cache.remove(&key)
    });
    fail(&hands.cache, 1);
    assert_eq!(hands.take(), [Some(10)]);
    assert_eq!(hands.cache.stats().listener_panics, 1);
    hands.cache.insert(2, 20);
    hands.cache.remove(&2);
    assert_eq!(hands.take(), [Some(10)]);
    assert_eq!(hands.cache.stats().listener_panics, 3);
}

#[test]
fn what_comes_due_a_handler_does_not_load_either() {
    let load = |cache: &Cache<u64, u64>, _| cache.get_or_load(&50, || Ok::<_, String>(99)).unwrap();
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().clock(clock).time_to_live(secs(100));
    let builder = builder.refresh_ahead(RefreshAhead::At(0.5)).stale_while_revalidate(secs(30));
    let hands = WithHands::over(builder, load);
    hands.cache.insert(50, 5);
    hand.advance(secs(60));
    fail(&hands.cache, 1);
    // and what is past its life is served where it may be
    hand.advance(secs(60));
    fail(&hands.cache, 2);
    assert_eq!(hands.take(), [5, 5]);
}

#[test]
fn a_handler_begins_no_refresh_where_that_would_run_in_it() {
    let own = Arc::new(Mutex::new(None));
    let (its, loads) = (Arc::clone(&own), Arc::new(AtomicU64::new(0)));
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(10).time_to_live(secs(100)).clock(clock);
    let count = Arc::clone(&loads);
    let loading = builder
        .refresh_ahead(RefreshAhead::At(0.5))
        .runtime(Unwilling::Refusing)
        .on_event(move |_| {
            let own = its.lock().take();
            let loading: &larder::LoadingCache<u64, u64, _> = own.as_ref().unwrap();
            assert_eq!(loading.get(&1), Some(10));
            loading.refresh(&1);
        })
        .build_loading(Counted(count))
        .unwrap();
    let cache = watched(&loading);
    cache.insert(1, 10);
    hand.advance(secs(60));
    *own.lock() = Some(loading.clone());
    fail(&cache, 2);
    assert_eq!((loads.load(SeqCst), cache.stats().listener_panics), (0, 0));
}

/// Counts its loads.
struct Counted(Arc<AtomicU64>);

impl Loader<u64, u64> for Counted {
    type Error = String;

    fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        self.0.fetch_add(1, SeqCst);
        Ok(Loaded::new(*key))
    }
}

#[test]
fn explain_tells_of_what_it_notices() {
    let (builder, hand, log) = builder();
    let cache = checked(builder.circuit_breaker(1, secs(1)));
    let mut task = Task::new(cache.get_or_load_async(&1, pending::<Result<u64, String>>));
    task.pend();
    hand.advance(ms(200));
    assert!(matches!(cache.explain(&1).breaker, Some(BreakerState::Open { .. })));
    assert_eq!(log.take(), ["the circuit breaker opened"]);
    assert!(task.finish().unwrap_err().is_timeout());
}

#[test]
fn what_those_who_waited_timed_out_is_not_abandoned_as_well() {
    let (cache, hand, log) = cache();
    let many = cache.get_or_load_many_async(&[1, 2], |_| pending::<Result<Vec<_>, String>>());
    let mut leads = Task::new(many);
    leads.pend();
    let mut waits = [1, 2].map(|key| {
        let cache = &cache;
        let load =
            async move { cache.get_or_load_async(&key, pending::<Result<u64, String>>).await };
        Task::new(load)
    });
    waits.iter_mut().for_each(Task::pend);
    hand.advance(ms(200));
    assert!(waits.iter_mut().all(|waits| waits.finish().unwrap_err().is_timeout()));
    drop(leads);
    let told = [1, 2].map(|key| format!("the load of {key} timed out (Miss, 1 in a row)"));
    assert_eq!((log.take(), cache.stats().abandoned), (told.into(), 0));
}

#[test]
fn of_many_all_have_landed_before_anything_is_told() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().clock(clock).load_timeout(ms(100));
    let hands = WithHands::over(builder, |cache, _| cache.flights());
    let cache = &hands.cache;
    let late = |keys: &[u64]| {
        hand.advance(ms(200));
        Ok::<_, String>(keys.iter().map(|key| (*key, *key)).collect::<Vec<_>>())
    };
    assert_eq!(cache.get_or_load_many(&[1, 2], late).got.len(), 2);
    assert_eq!(hands.take(), [0, 0]);
    let failed = cache.get_or_load_many(&[3, 4], |_| Err::<Vec<_>, _>("away"));
    assert_eq!((failed.failed.len(), hands.take()), (2, vec![0, 0]));
}

#[test]
fn no_slot_is_held_while_something_is_told() {
    let builder = Cache::builder().max_concurrent_loads(1).circuit_breaker(1, ms(1));
    let hands = WithHands::over(builder, |cache, _| cache.explain(&1).slots.unwrap().running);
    let cache = &hands.cache;
    let mut task = Task::new(cache.get_or_load_async(&1, pending::<Result<u64, String>>));
    task.pend();
    drop(task);
    let many = cache.get_or_load_many_async(&[2, 3], |_| pending::<Result<Vec<_>, String>>());
    let mut task = Task::new(many);
    task.pend();
    drop(task);
    fail(cache, 4); // and the breaker opens
    assert_eq!(hands.take(), [0; 5]);
}

#[test]
fn what_a_handler_notices_is_told_when_it_is_done() {
    let (clock, hand) = Clock::manual();
    let log = Log::new();
    let lines = Arc::clone(&log.0);
    let builder = Cache::builder().clock(clock).load_timeout(ms(100)).circuit_breaker(2, secs(5));
    let own = Arc::new(Mutex::new(None::<Cache<u64, u64>>));
    let its = Arc::clone(&own);
    let cache = checked(builder.max_entries(10).on_event(move |event| {
        lines.lock().push(event.to_string());
        let cache = its.lock().clone();
        // looks at the breaker, which finds that it has opened
        assert!(cache.is_none_or(|cache| cache.explain(&1).breaker.is_some()));
    }));
    *own.lock() = Some((*cache).clone());
    let mut tasks = [1, 2].map(|key| {
        let cache = &cache;
        Task::new(
            async move { cache.get_or_load_async(&key, pending::<Result<u64, String>>).await },
        )
    });
    tasks.iter_mut().for_each(Task::pend);
    hand.advance(ms(200));
    assert!(cache.get_or_load(&1, || Ok::<_, String>(1)).unwrap_err().is_circuit_open());
    assert_eq!(
        log.take(),
        ["the load of 1 timed out (Miss, 1 in a row)", "the circuit breaker opened"]
    );
    drop(tasks);
    drop(own.lock().take());
}

type Reply = Result<Vec<(u64, u64)>, String>;

/// Whoever waits for a load is not to wait for what somebody does on hearing of it.
fn is_told_after(
    event: fn(&Event<'_, u64>) -> bool,
    keys: [u64; 2],
    load: fn(&[u64]) -> Reply,
    before: fn(&Cache<u64, u64>, &ManualClock),
) {
    let (gate, handled) = (Gate::new(), Gate::new());
    let (clock, hand) = Clock::manual();
    let inside = handled.clone();
    let builder = Cache::builder().max_entries(10).clock(clock).circuit_breaker(1, secs(5));
    let cache = checked(builder.on_event(move |it| {
        if event(&it) {
            inside.pass(());
        }
    }));
    before(&cache, &hand);
    thread::scope(|scope| {
        let leads = scope.spawn(|| cache.get_or_load_many(&keys, |keys| gate.pass(load(keys))));
        gate.wait_until_entered(1);
        let waits = scope.spawn(|| cache.get_or_load(&keys[1], || Ok::<_, String>(2)));
        cache.wait_until_joined(1);
        gate.open();
        // the handler is still at it
        let told = waits.join();
        handled.wait_until_entered(1);
        handled.open();
        assert_eq!(told.unwrap().is_ok(), load(&keys).is_ok());
        assert_eq!(leads.join().unwrap().got.is_empty(), load(&keys).is_err());
    });
}

#[test]
fn who_waits_is_told_before_the_handler_hears_of_one_of_many_or_of_the_breaker() {
    let fail: fn(&[u64]) -> _ = |_| Err("away".to_owned());
    is_told_after(|it| matches!(it, Event::LoadFailed { key: 1, .. }), [1, 2], fail, |_, _| ());
    is_told_after(|it| matches!(it, Event::CircuitOpened), [1, 2], fail, |_, _| ());
    let open = |cache: &Cache<u64, u64>, hand: &ManualClock| {
        cache.get_or_load(&9, || Err::<u64, _>("away".to_owned())).unwrap_err();
        hand.advance(secs(6));
    };
    let succeed: fn(&[u64]) -> _ = |keys| Ok(keys.iter().map(|key| (*key, *key)).collect());
    is_told_after(|it| matches!(it, Event::CircuitClosed), [1, 2], succeed, open);
}

#[test]
fn who_waits_is_told_before_the_handler_is() {
    let (gate, handled) = (Gate::new(), Gate::new());
    let inside = handled.clone();
    let cache =
        checked(Cache::<u64, u64>::builder().max_entries(10).on_event(move |_| inside.pass(())));
    thread::scope(|scope| {
        scope.spawn(|| cache.get_or_load(&1, || gate.pass(Err::<u64, _>("away"))));
        gate.wait_until_entered(1);
        let waits = scope.spawn(|| cache.get_or_load(&1, || Ok::<_, &str>(2)));
        cache.wait_until_joined(1);
        gate.open();
        // the handler is still at it
        let (told, next) = (waits.join(), cache.get_or_load(&1, || Ok::<_, &str>(3)));
        handled.wait_until_entered(1);
        handled.open();
        assert!(told.unwrap().is_err());
        assert_eq!(next.unwrap(), 3);
    });
}
