//! Misses of single loads, gathered into calls for many keys.

mod common;

use common::gate::Gate;
use common::tasks::Task;
use common::{Watchdog, ms, secs, wait_until, watched};
use larder::{
    AsyncLoader, AsyncLoadingCache, Cache, CacheBuilder, Clock, ConfigError, LoadCx, Loaded,
    Loader, LoadingCache, ManualClock, SteppingRuntime,
};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::time::Duration;

/// Brings ten times the key for keys below 1,000; writes down what it was asked for.
#[derive(Clone, Default)]
struct Rows(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: Mutex<Vec<Vec<u64>>>,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl Rows {
    fn calls(&self) -> Vec<Vec<u64>> {
        self.0.calls.lock().clone()
    }

    fn select(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        self.0.calls.lock().push(ids.to_vec());
        assert!(!self.0.panics.load(SeqCst), "expected: the loader's own trouble");
        if self.0.fails.load(SeqCst) {
            return Err("away".to_owned());
        }
        Ok(ids.iter().filter(|id| **id < 1_000).map(|id| (*id, Loaded::new(id * 10))).collect())
    }
}

impl Loader<u64, u64> for Rows {
    type Error = String;

    fn load(&self, _: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        unreachable!("misses are gathered")
    }

    fn load_many(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        self.select(ids)
    }
}

impl AsyncLoader<u64, u64> for Rows {
    type Error = String;

    async fn load(&self, _: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        unreachable!("misses are gathered")
    }

    async fn load_many(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        self.select(ids)
    }
}

fn threads(keys: usize, wait: Duration) -> (LoadingCache<u64, u64, Rows>, Rows, ManualClock) {
    let (rows, (clock, hand)) = (Rows::default(), Clock::manual());
    let builder = Cache::builder().max_entries(10_000).negative_ttl(secs(5)).clock(clock);
    let cache = builder.batch(keys, wait).build_loading(rows.clone()).unwrap();
    (cache, rows, hand)
}

fn tasks(keys: usize, wait: Duration) -> (AsyncLoadingCache<u64, u64, Rows>, Rows, ManualClock) {
    let (rows, (clock, hand)) = (Rows::default(), Clock::manual());
    let builder = Cache::builder().max_entries(10_000).clock(clock);
    let builder = builder.runtime(SteppingRuntime::new()).error_backoff(ms(0), ms(0));
    (builder.batch(keys, wait).build_loading_async(rows.clone()).unwrap(), rows, hand)
}

#[test]
fn a_thousand_single_loads_are_a_handful_of_calls() {
    let (cache, rows, hand) = tasks(400, ms(1));
    let _checked = watched(&cache);
    let keys: Vec<u64> = (0..1_000).collect();
    let mut callers: Vec<_> = keys.iter().map(|key| Task::new(cache.load(key))).collect();
    callers.iter_mut().for_each(Task::pend);
    let mut done = 0;
    while done < callers.len() {
        hand.advance(ms(1));
        for (at, caller) in callers.iter_mut().enumerate().skip(done) {
            match caller.poll() {
                std::task::Poll::Ready(value) => assert_eq!(value.unwrap(), at as u64 * 10),
                std::task::Poll::Pending => break,
            }
            done += 1;
        }
    }
    let sizes: Vec<_> = rows.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [400, 400, 200]);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.misses, stats.hits, stats.joined), (3, 1_000, 0, 0));
    assert_eq!(stats.insertions, 1_000);
}

#[test]
fn threads_gather_until_enough_are_there() {
    let (cache, rows, _hand) = threads(16, secs(50));
    let _checked = watched(&cache);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for key in 0..32 {
            let cache = &cache;
            threads.push(scope.spawn(move || assert_eq!(cache.load(&key).unwrap(), key * 10)));
        }
        // the thread sanitizer sees a join, and not the end of a scope
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let calls = rows.calls();
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16]);
    assert_eq!(calls.concat().into_iter().collect::<HashSet<_>>().len(), 32);
}

#[test]
fn the_first_waits_no_longer_than_was_said() {
    let (cache, rows, hand) = threads(100, ms(2));
    let _checked = watched(&cache);
    std::thread::scope(|scope| {
        let alone = scope.spawn(|| cache.load(&1).unwrap());
        wait_until(|| cache.flights() == 1);
        assert!(rows.calls().is_empty());
        hand.advance(ms(2));
        assert_eq!(alone.join().unwrap(), 10);
    });
    assert_eq!(rows.calls(), [[1]]);
}

#[test]
fn who_wants_a_key_that_is_gathered_waits_for_the_same_load() {
    let (cache, rows, hand) = tasks(100, ms(1));
    let _checked = watched(&cache);
    let [mut one, mut same, mut other] = [&1, &1, &2].map(|key| Task::new(cache.load(key)));
    one.pend();
    same.pend();
    let mut closure = Task::new(cache.get_or_load_async(&1, || async { common::uncalled() }));
    closure.pend();
    other.pend();
    hand.advance(ms(1));
    let values = [one.finish(), same.finish(), other.finish()].map(Result::unwrap);
    assert_eq!((values, closure.finish().unwrap()), ([10, 10, 20], 10));
    assert_eq!((rows.calls(), cache.stats().joined), (vec![vec![1, 2]], 2));
}

#[test]
fn what_the_reply_does_not_have_is_missing() {
    let (cache, rows, _hand) = threads(1, secs(1));
    let _checked = watched(&cache);
    for _ in 0..2 {
        assert!(cache.load(&5_000).unwrap_err().is_not_found());
    }
    assert_eq!(rows.calls(), [[5_000]], "and that is remembered");
}

#[test]
fn a_failure_reaches_all_whose_keys_were_gathered() {
    let (cache, rows, hand) = tasks(100, ms(1));
    let _checked = watched(&cache);
    rows.0.fails.store(true, SeqCst);
    let [mut one, mut two] = [&1, &2].map(|key| Task::new(cache.load(key)));
    one.pend();
    two.pend();
    hand.advance(ms(1));
    let errors = [one.finish(), two.finish()].map(Result::unwrap_err);
    assert!(errors.iter().all(|error| error.loader() == Some(&"away".to_owned())));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    rows.0.fails.store(false, SeqCst);
    let mut again = Task::new(cache.load(&1));
    again.pend();
    hand.advance(ms(1));
    assert_eq!(again.finish().unwrap(), 10);
}

#[test]
fn when_the_first_goes_away_the_others_gather_anew() {
    let (cache, rows, hand) = tasks(100, ms(1));
    let _checked = watched(&cache);
    let mut first = Task::new(cache.load(&1));
    let [mut two, mut three] = [&2, &3].map(|key| Task::new(cache.load(key)));
    first.pend();
    two.pend();
    three.pend();
    drop(first);
    two.pend();
    three.pend();
    assert_eq!(cache.flights(), 2);
    hand.advance(ms(1));
    assert_eq!([two.finish().unwrap(), three.finish().unwrap()], [20, 30]);
    assert_eq!(rows.calls(), [[2, 3]]);
}

#[test]
fn a_first_that_is_never_polled_again_keeps_nobody_who_comes_later() {
    let (cache, rows, hand) = tasks(100, ms(2));
    let _checked = watched(&cache);
    let mut first = Task::new(cache.load(&1));
    first.pend();
    hand.advance(ms(2));
    let [mut two, mut three] = [&2, &3].map(|key| Task::new(cache.load(key)));
    two.pend();
    three.pend();
    hand.advance(ms(2));
    assert_eq!([two.finish().unwrap(), three.finish().unwrap()], [20, 30]);
    assert_eq!(first.finish().unwrap(), 10);
    assert_eq!(rows.calls(), [vec![2, 3], vec![1]]);
}

#[test]
fn who_fills_a_gathering_is_spared_the_panic_of_its_firsts_waker() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("expected: a waker's");
        }
    }
    let (cache, rows, _hand) = tasks(2, secs(50));
    let _checked = watched(&cache);
    let mut first = Task::new(cache.load(&1));
    assert!(first.poll_with(&Waker::from(Arc::new(Panicking))).is_pending());
    let mut second = Task::new(cache.load(&2));
    second.pend();
    assert_eq!([first.finish().unwrap(), second.finish().unwrap()], [10, 20]);
    assert_eq!(rows.calls(), [[1, 2]]);
}

#[test]
fn the_time_of_a_load_does_not_run_while_its_key_is_gathered() {
    let (rows, (clock, hand)) = (Slow::default(), Clock::manual());
    let builder = Cache::builder().max_entries(100).clock(clock).runtime(SteppingRuntime::new());
    let builder = builder.batch(100, ms(50)).load_timeout(ms(100));
    let cache = builder.build_loading_async(rows.clone()).unwrap();
    let _checked = watched(&cache);
    let [mut one, mut two] = [&1, &2].map(|key| Task::new(cache.load(key)));
    one.pend();
    two.pend();
    hand.advance(ms(50));
    one.pend();
    hand.advance(ms(99));
    two.pend();
    one.pend();
    rows.gate.open();
    assert_eq!([one.finish().unwrap(), two.finish().unwrap()], [10, 20]);
    assert_eq!((cache.get(&2), cache.stats().load_timeouts), (Some(20), 0));
}

#[test]
fn the_first_whose_key_was_written_in_line_is_not_told_of_the_others_timeout() {
    let ((builder, hand), gate) = (one_at_a_time(), Gate::new());
    let builder = builder.batch(2, ms(10)).load_timeout(ms(100)).runtime(SteppingRuntime::new());
    let cache = builder.build_loading_async(Slow::default()).unwrap();
    let _checked = watched(&cache);
    let pass = || gate.pass_async(Ok::<u64, String>(9));
    let mut before = Task::new(cache.get_or_load_async(&9, pass));
    before.pend();
    let [mut one, mut two] = [&1, &2].map(|key| Task::new(cache.load(key)));
    one.pend();
    two.pend();
    one.pend(); // in line
    cache.insert(1, 50);
    gate.open();
    assert_eq!(before.finish().unwrap(), 9);
    one.pend(); // loads what the other wants
    hand.advance(ms(100));
    assert_eq!(one.finish().unwrap(), 50);
    assert!(two.finish().unwrap_err().is_timeout());
}

/// Brings ten times the key once its gate is open.
#[derive(Clone, Default)]
struct Slow {
    gate: Gate,
}

impl AsyncLoader<u64, u64> for Slow {
    type Error = String;

    async fn load(&self, _: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        unreachable!("misses are gathered")
    }

    async fn load_many(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        self.gate.pass_async(tens(ids)).await
    }
}

#[test]
fn a_panic_unwinds_the_one_who_loads_and_the_others_are_told() {
    let (cache, rows, _hand) = threads(2, secs(50));
    let _checked = watched(&cache);
    rows.0.panics.store(true, SeqCst);
    std::thread::scope(|scope| {
        let callers = [1, 2].map(|key| {
            let cache = &cache;
            scope.spawn(move || cache.load(&key))
        });
        let outcomes = callers.map(std::thread::ScopedJoinHandle::join);
        let told = outcomes.iter().flatten().filter(|o| o.as_ref().unwrap_err().is_panic());
        assert_eq!((told.count(), outcomes.iter().filter(|o| o.is_err()).count()), (1, 1));
    });
    assert_eq!(cache.stats().load_failures, 1);
}

#[test]
fn what_is_written_while_its_key_is_gathered_stays() {
    let (cache, rows, hand) = tasks(100, ms(1));
    let _checked = watched(&cache);
    let [mut one, mut two] = [&1, &2].map(|key| Task::new(cache.load(key)));
    one.pend();
    two.pend();
    cache.insert(1, 7);
    hand.advance(ms(1));
    assert_eq!((one.finish().unwrap(), two.finish().unwrap()), (7, 20));
    assert_eq!((rows.calls(), cache.get(&1)), (vec![vec![2]], Some(7)));
}

/// To load 1 it loads 2, once it has passed the gate.
#[derive(Clone, Default)]
struct Nested {
    gate: Gate,
    thread: Own<LoadingCache<u64, u64, Nested>>,
    task: Own<AsyncLoadingCache<u64, u64, Nested>>,
}

/// The cache that a loader is of, until its test is over.
type Own<C> = Arc<Mutex<Option<C>>>;

fn own<C: Clone>(own: &Own<C>) -> C {
    own.lock().clone().expect("its test is not over")
}

#[allow(clippy::unnecessary_wraps, reason = "a reply")]
fn tens(ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
    Ok(ids.iter().map(|id| (*id, Loaded::new(id * 10))).collect())
}

impl Loader<u64, u64> for Nested {
    type Error = String;

    fn load(&self, _: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        unreachable!("misses are gathered")
    }

    fn load_many(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        if ids.contains(&1) {
            self.gate.pass(());
            assert_eq!(own(&self.thread).load(&2).unwrap(), 20);
        }
        tens(ids)
    }
}

impl AsyncLoader<u64, u64> for Nested {
    type Error = String;

    async fn load(&self, _: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        unreachable!("misses are gathered")
    }

    async fn load_many(&self, ids: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        if ids.contains(&1) {
            self.gate.pass_async(()).await;
            assert_eq!(own(&self.task).load(&2).await.unwrap(), 20);
        }
        tens(ids)
    }
}

/// One load at a time.
fn one_at_a_time() -> (CacheBuilder<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(100).clock(clock).max_concurrent_loads(1);
    (builder.batch(10, ms(1)).runtime(SteppingRuntime::new()), hand)
}

#[test]
fn a_load_whose_key_is_gathered_by_one_who_waits_for_its_slot_does_not_wait_for_ever() {
    let (builder, hand) = one_at_a_time();
    let loader = Nested::default();
    let cache = builder.build_loading(loader.clone()).unwrap();
    let _checked = watched(&cache);
    *loader.thread.lock() = Some(cache.clone());
    std::thread::scope(|scope| {
        let outer = scope.spawn(|| cache.load(&1).unwrap());
        wait_until(|| cache.flights() == 1);
        hand.advance(ms(1));
        loader.gate.wait_until_entered(1);
        // it has the only slot; another one gathers, and is given what the first one wants
        let gatherer = scope.spawn(|| cache.load(&3).unwrap());
        wait_until(|| cache.flights() == 2);
        loader.gate.open();
        wait_until(|| cache.flights() == 3);
        hand.advance(ms(1));
        assert_eq!((gatherer.join().unwrap(), outer.join().unwrap()), (30, 10));
    });
    *loader.thread.lock() = None;
}

#[test]
fn nor_does_one_in_a_task() {
    let (builder, hand) = one_at_a_time();
    let loader = Nested::default();
    let cache = builder.build_loading_async(loader.clone()).unwrap();
    let _checked = watched(&cache);
    *loader.task.lock() = Some(cache.clone());
    let mut outer = Task::new(cache.load(&1));
    outer.pend();
    hand.advance(ms(1));
    outer.pend();
    let mut gatherer = Task::new(cache.load(&3));
    gatherer.pend();
    loader.gate.open();
    outer.pend();
    hand.advance(ms(1));
    assert_eq!((gatherer.finish().unwrap(), outer.finish().unwrap()), (30, 10));
    drop((outer, gatherer));
    *loader.task.lock() = None;
}

/// One slot; under 1 and 2 values that are past their life, and may be served instead of waiting.
fn stale() -> (CacheBuilder<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(100).time_to_live(secs(10)).clock(clock);
    (builder.stale_if_error(secs(1_000)).max_concurrent_loads(1).batch(10, ms(5)), hand)
}

fn outdate(cache: &Cache<u64, u64>, hand: &ManualClock) {
    cache.insert(1, 1);
    cache.insert(2, 2);
    hand.advance(secs(20));
}

#[test]
fn the_first_of_a_gathering_is_served_stale_where_there_is_no_slot() {
    let (builder, hand) = stale();
    let rows = Rows::default();
    let cache = builder.build_loading(rows.clone()).unwrap();
    let _checked = watched(&cache);
    outdate(&cache, &hand);
    let gate = Gate::new();
    let hog = || Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| cache.load(&1).unwrap());
        wait_until(|| cache.flights() == 1);
        let other = scope.spawn(|| cache.load(&2).unwrap());
        wait_until(|| cache.flights() == 2);
        let mut busy = hog();
        busy.pend();
        hand.advance(ms(5));
        let are_served = || first.is_finished() && other.is_finished();
        wait_until(|| are_served() || cache.loads_in_line() > 0);
        let in_line = cache.loads_in_line();
        gate.open();
        busy.finish().unwrap();
        assert_eq!((in_line, first.join().unwrap(), other.join().unwrap()), (0, 1, 2));
    });
    assert_eq!((rows.calls().len(), cache.stats().overloaded), (0, 2));
}

#[test]
fn the_first_task_of_a_gathering_is_served_stale_and_the_others_gather_anew() {
    let (builder, hand) = stale();
    let rows = Rows::default();
    let builder = builder.runtime(SteppingRuntime::new());
    let cache = builder.build_loading_async(rows.clone()).unwrap();
    let _checked = watched(&cache);
    outdate(&cache, &hand);
    let gate = Gate::new();
    let mut first = Task::new(cache.load(&1));
    let mut others: Vec<_> = [&5, &2, &6].map(|key| Task::new(cache.load(key))).into();
    first.pend();
    others.iter_mut().for_each(Task::pend);
    let mut busy = Task::new(cache.get_or_load_async(&9, || gate.pass_async(Ok::<_, String>(9))));
    busy.pend();
    hand.advance(ms(5));
    assert_eq!(first.finish().unwrap(), 1);
    assert_eq!(others.remove(1).finish().unwrap(), 2);
    // what is not there at all gathers anew, and waits for its turn
    others.iter_mut().for_each(Task::pend);
    hand.advance(ms(5));
    others.iter_mut().for_each(Task::pend);
    assert_eq!((cache.loads_in_line(), cache.stats().overloaded), (1, 2));
    gate.open();
    busy.finish().unwrap();
    let loaded: Vec<_> = others.iter_mut().map(|task| task.finish().unwrap()).collect();
    assert_eq!((loaded, rows.calls()), (vec![50, 60], vec![vec![5, 6]]));
}

#[test]
fn a_gathering_of_nothing_is_refused() {
    let _watchdog = Watchdog::start();
    for (keys, wait) in [(0, ms(1)), (10, Duration::ZERO)] {
        let built =
            Cache::builder().max_entries(1).batch(keys, wait).build_loading(Rows::default());
        let refused = built.unwrap_err();
        assert!(matches!(refused, ConfigError::OutOfRange { setting: "batch", .. }), "{refused}");
    }
}
