//! `max_concurrent_loads`: so many loads at once, the others in line, threads and tasks alike.

mod common;

use common::gate::Gate;
use common::tasks::{Task, block_on};
use common::{Checked, checked, ms, uncalled, wait_until};
use larder::{
    Cache, CacheBuilder, Clock, ConfigError, Given, Got, How, LoadError, ManualClock, StaleWhy,
};
use parking_lot::Mutex;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::thread;

type Loaded = Result<u64, LoadError<String>>;

fn limited(loads: usize) -> (CacheBuilder<u64, u64>, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(100_000).clock(clock).load_timeout(ms(100));
    (builder.max_concurrent_loads(loads), hand)
}

fn cache(loads: usize) -> (Checked<u64, u64>, ManualClock) {
    let (builder, hand) = limited(loads);
    (checked(builder), hand)
}

/// How many are in a loader at once, and were at most.
#[derive(Default)]
struct Source {
    now: AtomicUsize,
    most: AtomicUsize,
    calls: AtomicUsize,
}

impl Source {
    fn enter(&self) -> Visit<'_> {
        self.calls.fetch_add(1, SeqCst);
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Visit(self)
    }
}

struct Visit<'s>(&'s Source);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// A load of `key` as a task in the test's hand.
fn task<'c>(cache: &'c Cache<u64, u64>, key: &'c u64, gate: &'c Gate) -> Task<'c, Loaded> {
    Task::new(cache.get_or_load_async(key, move || gate.pass_async(Ok(*key))))
}

#[test]
fn zero_loads_are_refused_by_name() {
    let error = Cache::<u64, u64>::builder().max_entries(1).max_concurrent_loads(0).build();
    let refused = error.unwrap_err();
    assert!(matches!(
        refused,
        ConfigError::OutOfRange { setting: "max_concurrent_loads", given: Given::Count(0), .. }
    ));
    assert_eq!(
        refused.to_string(),
        "`max_concurrent_loads` is 0, but accepts 1 or more; leave it out for no limit"
    );
}

/// 10,000 keys, by 16 threads and 2,000 tasks: never more than 8 at once, each key loaded once, and
/// nobody is lost.
#[test]
fn a_miss_storm_keeps_to_the_limit_and_loses_nobody() {
    const KEYS: u64 = 10_000;
    let builder = Cache::builder().max_entries(100_000).max_concurrent_loads(8);
    let (cache, source) = (checked(builder), Arc::new(Source::default()));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for n in 0..16 {
            let (cache, source) = (Cache::clone(&cache), source.clone());
            threads.push(scope.spawn(move || {
                // each key is asked for by two threads and by a task
                for key in (0..KEYS).filter(|key| key % 8 == n % 8) {
                    let load = || {
                        let _visit = source.enter();
                        thread::yield_now();
                        Ok::<_, String>(key)
                    };
                    assert_eq!(cache.get_or_load(&key, load).unwrap(), key);
                }
            }));
        }
        for n in 0..2 {
            let (cache, source) = (Cache::clone(&cache), source.clone());
            threads.push(scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let mut tasks = tokio::task::JoinSet::new();
                for lane in 0..1_000 {
                    let (cache, source) = (cache.clone(), source.clone());
                    let ask = async move {
                        for key in (0..KEYS).filter(|key| key % 2_000 == lane * 2 + n) {
                            let load = || async {
                                let _visit = source.enter();
                                tokio::task::yield_now().await;
                                Ok::<_, String>(key)
                            };
                            let loaded = cache.get_or_load_async(&key, load).await;
                            assert_eq!(loaded.unwrap(), key);
                        }
                    };
                    tasks.spawn_on(ask, runtime.handle());
                }
                runtime.block_on(tasks.join_all());
            }));
        }
        // the thread sanitizer sees a join, and not the end of a scope
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(source.calls.load(SeqCst), usize::try_from(KEYS).unwrap(), "one load a key");
    assert_eq!(cache.len(), KEYS);
    let most = source.most.load(SeqCst);
    assert!((2..=8).contains(&most), "{most} at once");
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, stats.overloaded), (KEYS, 0, 0));
    assert_eq!(cache.loads_in_line(), 0);
}

#[test]
fn the_line_is_first_come_first_served_for_threads_and_tasks() {
    let (cache, _hand) = cache(1);
    let (gate, order) = (Gate::new(), Mutex::new(Vec::new()));
    let (cache, gate, order) = (&*cache, &gate, &order);
    thread::scope(|scope| {
        let first = scope.spawn(|| cache.get_or_load(&0, || gate.pass(Ok::<_, String>(0))));
        gate.wait_until_entered(1);
        let mut tasks = Vec::new();
        let mut threads = Vec::new();
        for (key, line) in (1..=6_u64).zip(1..) {
            if key % 2 == 0 {
                threads.push(scope.spawn(move || {
                    let load = || {
                        order.lock().push(key);
                        Ok::<_, String>(key)
                    };
                    cache.get_or_load(&key, load).unwrap()
                }));
            } else {
                let mut task = Task::new(async move {
                    let load = || async {
                        order.lock().push(key);
                        Ok::<_, String>(key)
                    };
                    cache.get_or_load_async(&key, load).await.unwrap()
                });
                task.pend();
                tasks.push(task);
            }
            wait_until(|| cache.loads_in_line() == line);
        }
        gate.open();
        first.join().unwrap().unwrap();
        for mut task in tasks {
            wait_until(|| task.wakes() > 0);
            task.finish();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*order.lock(), [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn a_dropped_future_leaves_the_line_or_passes_its_turn_on() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut line: Vec<_> = [1, 2, 3].iter().map(|key| task(&cache, key, &gate)).collect();
    line.iter_mut().for_each(Task::pend);
    drop(line.remove(1)); // from the middle
    gate.open();
    running.finish().unwrap();
    assert_eq!((line[0].wakes(), line[1].wakes()), (1, 0), "it is the first one's turn");
    drop(line.remove(0)); // and it does not take it
    assert_eq!(line[0].wakes(), 1);
    assert_eq!(line[0].finish().unwrap(), 3);
    drop(line);
    assert_eq!((cache.stats().loads, cache.loads_in_line()), (2, 0));
}

#[test]
fn a_running_loader_that_is_dropped_gives_its_slot_back() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut waiting = task(&cache, &1, &gate);
    waiting.pend();
    drop(running);
    assert_eq!(waiting.wakes(), 1);
    gate.open();
    assert_eq!(waiting.finish().unwrap(), 1);
}

#[test]
fn panics_and_errors_give_their_slots_back() {
    let (cache, _hand) = cache(1);
    for key in 0..3 {
        let load = || -> Result<u64, String> { panic!("expected") };
        assert!(catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&key, load))).is_err());
        assert!(cache.get_or_load(&key, || Err("away")).is_err());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            block_on(cache.get_or_load_async(&key, || async { load() }))
        }));
        assert!(polled.is_err());
    }
    assert_eq!(cache.get_or_load(&9, || Ok::<_, String>(9)).unwrap(), 9);
}

#[test]
fn a_load_inside_a_load_uses_its_parents_slot() {
    let (cache, _hand) = cache(1);
    let value = cache.get_or_load(&1, || {
        let inner =
            cache.get_or_load(&2, || Ok::<_, String>(cache.get_or_insert_with(&3, || 3) + 20));
        inner.map(|inner| inner + 100).map_err(|error| error.to_string())
    });
    assert_eq!(value.unwrap(), 123);
    let value = block_on(cache.get_or_load_async(&4, || async {
        let inner = cache.get_or_load_async(&5, || async { Ok::<_, String>(5) }).await;
        inner.map(|inner| inner + 40).map_err(|error| error.to_string())
    }));
    assert_eq!(value.unwrap(), 45);
    assert_eq!(cache.stats().loads, 5);
}

/// The load that it waits for waits for the slot that it has.
#[test]
fn a_load_that_waits_inside_a_load_goes_first() {
    let (cache, _hand) = cache(1);
    let (cache, gate) = (&*cache, &Gate::new());
    let mut queued = task(cache, &2, gate);
    thread::scope(|scope| {
        let outer = scope.spawn(|| {
            cache.get_or_load(&1, || {
                gate.pass(());
                cache.get_or_load(&2, || -> Result<u64, String> { unreachable!("it is led") })
            })
        });
        gate.wait_until_entered(1);
        queued.pend();
        gate.open();
        wait_until(|| queued.wakes() > 0);
        assert_eq!(queued.finish().unwrap(), 2);
        assert_eq!(outer.join().unwrap().unwrap(), 2);
    });
}

/// The other way round: it is waited for before it gets in line.
#[test]
fn a_load_that_is_waited_for_inside_a_load_does_not_queue() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut outer = Task::new(cache.get_or_load_async(&1, || async {
        gate.pass_async(()).await;
        cache.get_or_load_async(&2, || gate.pass_async(Ok::<_, String>(2))).await
    }));
    outer.pend();
    let mut queued = task(&cache, &2, &gate);
    let mut other = task(&cache, &3, &gate);
    queued.pend();
    other.pend();
    gate.open();
    outer.pend();
    assert_eq!((queued.wakes(), other.wakes()), (1, 0));
    drop(queued); // and if it goes away, the one inside takes over
    assert_eq!(outer.finish().unwrap(), 2);
    assert_eq!(other.finish().unwrap(), 3);
}

#[test]
fn a_dropped_leader_in_line_leaves_its_place_to_one_who_waits_with_it() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut leader = task(&cache, &1, &gate);
    leader.pend();
    let mut follower = task(&cache, &1, &gate);
    follower.pend();
    let mut later = task(&cache, &2, &gate);
    later.pend();
    drop(leader);
    follower.pend(); // leads now
    gate.open();
    running.finish().unwrap();
    assert_eq!(later.wakes(), 0, "the place was kept");
    assert_eq!(follower.finish().unwrap(), 1);
    assert_eq!(later.finish().unwrap(), 2);
}

#[test]
fn the_loads_time_does_not_run_in_line_and_then_runs_for_all_who_wait() {
    let (cache, hand) = cache(1);
    let (never, gate) = (Gate::new(), Gate::new());
    let mut running = task(&cache, &0, &never);
    running.pend();
    let mut leader = task(&cache, &1, &gate);
    leader.pend();
    let mut follower = task(&cache, &1, &gate);
    follower.pend();
    hand.advance(ms(99));
    drop(running); // its slot goes to the leader, 99 ms after it came
    let woken = follower.wakes();
    leader.pend();
    follower.pend();
    hand.advance(ms(99));
    assert_eq!(follower.wakes(), woken);
    follower.pend();
    hand.advance(ms(1));
    assert!(follower.wakes() > woken, "it rang at the new deadline");
    assert!(matches!(follower.finish(), Err(LoadError::TimedOut)));
    assert!(matches!(leader.finish(), Err(LoadError::TimedOut)));
    assert_eq!(cache.stats().load_timeouts, 1);
}

#[test]
fn a_hung_load_does_not_keep_its_slot() {
    let (cache, hand) = cache(1);
    let (hung, gate) = (Gate::new(), Gate::new());
    thread::scope(|scope| {
        let hanging = scope.spawn(|| cache.get_or_load(&0, || hung.pass(Ok::<_, String>(7))));
        hung.wait_until_entered(1);
        let mut waiting = task(&cache, &1, &gate);
        waiting.pend();
        hand.advance(ms(99));
        assert_eq!(waiting.wakes(), 0);
        hand.advance(ms(1));
        assert_eq!(waiting.wakes(), 1);
        waiting.pend();
        gate.open();
        let mut after = task(&cache, &2, &gate);
        after.pend(); // the slot is the one's that runs
        hung.open();
        assert_eq!(hanging.join().unwrap().unwrap(), 7, "its own result is its own");
        after.pend(); // the hung one had no slot any more to give back
        assert_eq!(waiting.finish().unwrap(), 1);
        assert_eq!(after.finish().unwrap(), 2);
    });
    assert_eq!(cache.get(&0), None);
}

#[test]
fn a_leader_that_is_never_polled_again_holds_up_nobody() {
    let (cache, hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut leader = task(&cache, &1, &gate);
    leader.pend();
    let mut follower = task(&cache, &1, &gate);
    follower.pend();
    let mut other = task(&cache, &2, &gate);
    other.pend();
    gate.open();
    running.finish().unwrap(); // the leader's turn, and it sleeps
    follower.pend();
    other.pend();
    hand.advance(ms(100));
    assert!(matches!(follower.finish(), Err(LoadError::TimedOut)));
    assert_eq!(other.finish().unwrap(), 2);
    assert!(matches!(leader.finish(), Err(LoadError::TimedOut)), "its turn was over");
    assert_eq!(cache.stats().loads, 2, "its loader was not called");
}

#[test]
fn a_load_in_line_that_lost_its_key_looks_at_what_is_newer() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut leader = task(&cache, &1, &gate);
    leader.pend();
    let mut follower = task(&cache, &1, &gate);
    follower.pend();
    cache.insert(1, 11);
    gate.open();
    running.finish().unwrap();
    assert_eq!(leader.finish().unwrap(), 11);
    assert_eq!(follower.finish().unwrap(), 11);
    assert_eq!(cache.stats().loads, 1);

    // what was removed meanwhile is loaded, in the same turn, and stored
    let gate = Gate::new();
    let mut running = task(&cache, &3, &gate);
    running.pend();
    let mut leader = task(&cache, &4, &gate);
    leader.pend();
    cache.remove(&4);
    gate.open();
    running.finish().unwrap();
    assert_eq!(leader.finish().unwrap(), 4);
    assert_eq!((cache.get(&4), cache.stats().fenced), (Some(4), 0));
}

#[test]
fn get_or_insert_with_waits_for_its_turn() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut making = Task::new(cache.get_or_insert_with_async(&1, || async { 10 }));
    making.pend();
    gate.open();
    running.finish().unwrap();
    assert_eq!(making.finish(), 10);
}

#[test]
fn hits_and_other_caches_need_no_slot() {
    let (one, _) = cache(1);
    let (other, _) = cache(1);
    let gate = Gate::new();
    let mut running = task(&one, &0, &gate);
    running.pend();
    one.insert(1, 10);
    assert_eq!(one.get_or_load(&1, || Err("not called")).unwrap(), 10);
    assert_eq!(other.get_or_load(&0, || Ok::<_, String>(7)).unwrap(), 7);
    gate.open();
    running.finish().unwrap();
}

#[test]
fn many_keys_in_one_call_take_one_slot() {
    let (cache, _hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let load = |keys: Vec<u64>| async move {
        Ok::<_, String>(keys.into_iter().map(|key| (key, key * 10)).collect::<Vec<_>>())
    };
    let keys = [1, 2, 3];
    let mut many = Task::new(cache.get_or_load_many_async(&keys, load));
    many.pend();
    let mut follower = task(&cache, &2, &gate);
    follower.pend();
    cache.insert(3, 33); // newer than what it would bring
    gate.open();
    running.finish().unwrap();
    let got: Vec<_> = many.finish().got.into_iter().map(|(key, got)| (key, got.value)).collect();
    assert_eq!(got, [(1, 10), (2, 20), (3, 33)]);
    assert_eq!(follower.finish().unwrap(), 20);
    assert_eq!((cache.stats().loads, cache.loads_in_line()), (2, 0));
    // inside a load, its parent's
    let many = cache.get_or_load(&4, || {
        let load =
            |keys: &[u64]| Ok::<_, String>(keys.iter().map(|k| (*k, *k)).collect::<Vec<_>>());
        Ok::<_, String>(cache.get_or_load_many(&[5, 6], load).got.len() as u64)
    });
    assert_eq!(many.unwrap(), 2);
}

#[test]
fn many_keys_that_wait_in_line_leave_it_when_dropped() {
    let (cache, hand) = cache(1);
    let (gate, keys) = (Gate::new(), [1, 2]);
    let load = |_| async { Err::<Vec<(u64, u64)>, _>("away".to_owned()) };
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let mut many = Task::new(cache.get_or_load_many_async(&keys, load));
    many.pend();
    assert_eq!(cache.loads_in_line(), 1);
    drop(many);
    assert_eq!(cache.loads_in_line(), 0);
    // or fail once their turn is over
    let mut many = Task::new(cache.get_or_load_many_async(&keys, load));
    many.pend();
    drop(running);
    hand.advance(ms(100));
    let many = many.finish();
    assert_eq!(many.failed, [1, 2]);
    assert!(many.error.unwrap().is_timeout());
}

/// One slot; values live for 50 ms, and are served if loads fail for a second more.
fn with_windows() -> (Checked<u64, u64>, ManualClock) {
    let (builder, hand) = limited(1);
    let builder = builder.time_to_live(ms(50)).stale_if_error(ms(1_000));
    (checked(builder.error_backoff(ms(0), ms(0))), hand)
}

const STALE: How = How::Stale(StaleWhy::Overloaded);

fn told(outcome: Result<Got<u64>, LoadError<String>>) -> (u64, How) {
    let got = outcome.unwrap();
    (got.value, got.how)
}

#[test]
fn who_can_be_served_stale_does_not_wait_in_line() {
    let (cache, hand) = with_windows();
    let gate = Gate::new();
    cache.insert(1, 10);
    cache.insert(2, 20);
    hand.advance(ms(60));
    let mut running = task(&cache, &0, &gate);
    running.pend();
    assert_eq!(told(cache.at(&1).load(|_| uncalled::<u64>())), (10, STALE));
    let mut asking = Task::new(cache.at(&1).load_async(|_| async { uncalled::<u64>() }));
    assert_eq!(told(asking.finish()), (10, STALE));
    assert_eq!(cache.get_or_load(&1, uncalled).unwrap(), 10);
    assert_eq!(cache.get_or_insert_with(&1, || unreachable!("it is served stale")), 10);
    assert_eq!((cache.loads_in_line(), cache.flights()), (0, 1));
    let stats = cache.stats();
    assert_eq!((stats.stale_hits, stats.overloaded, stats.loads), (4, 4, 1));

    // of many keys, those that can be are, and the others wait
    let keys = [1, 2, 3];
    let load = |keys: Vec<u64>| async move {
        assert_eq!(keys, [3], "the others need not be loaded now");
        Ok::<_, String>(vec![(3, 30)])
    };
    let mut many = Task::new(cache.get_or_load_many_async(&keys, load));
    many.pend();
    gate.open();
    running.finish().unwrap();
    let got: Vec<_> = many.finish().got.into_iter().map(|(_, got)| (got.value, got.how)).collect();
    assert_eq!(got, [(10, STALE), (20, STALE), (30, How::Loaded)]);
    // and with a slot it is loaded
    assert_eq!(cache.get_or_load(&1, || Ok::<_, String>(11)).unwrap(), 11);
}

#[test]
fn of_many_keys_one_that_is_served_stale_is_so_though_its_window_ends_while_the_others_load() {
    let (cache, hand) = with_windows();
    let gate = Gate::new();
    cache.insert(1, 10);
    hand.advance(ms(60));
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let keys = [1, 2];
    let load = |keys: Vec<u64>| {
        hand.advance(ms(1_000));
        async move { Ok::<_, String>(keys.into_iter().map(|key| (key, key * 10))) }
    };
    let mut many = Task::new(cache.get_or_load_many_async(&keys, load));
    many.pend();
    gate.open();
    running.finish().unwrap();
    let got: Vec<_> = many.finish().got.into_iter().map(|(_, got)| (got.value, got.how)).collect();
    assert_eq!(got, [(10, STALE), (20, How::Loaded)]);
}

/// A key that does something when it is dropped for the first time after it was told to.
#[derive(Clone)]
struct Acting(u64, Plan);

type Plan = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl Drop for Acting {
    fn drop(&mut self) {
        let act = self.1.lock().take();
        if let Some(act) = act {
            act();
        }
    }
}

impl PartialEq for Acting {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Acting {}

impl std::hash::Hash for Acting {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn who_was_to_be_served_what_is_gone_by_then_gets_in_line() {
    let (clock, hand) = Clock::manual();
    let builder = Cache::<Acting, u64>::builder().max_entries(100).clock(clock);
    let builder = builder.max_concurrent_loads(1).time_to_live(ms(50)).stale_if_error(ms(100));
    let cache = checked(builder);
    let (gate, plan) = (Gate::new(), Arc::default());
    let keys = [0, 1].map(|key| Acting(key, Arc::clone(&plan)));
    cache.insert(keys[1].clone(), 10);
    hand.advance(ms(60));
    let passing = || gate.pass_async(Ok::<u64, String>(0));
    let mut running = Task::new(cache.get_or_load_async(&keys[0], passing));
    running.pend();
    let mut late = Task::new(cache.get_or_load_async(&keys[1], || ready(Ok::<_, String>(11))));
    // its load that finds no slot is dropped with its key, and the window ends there
    *plan.lock() = Some(Box::new(move || hand.advance(ms(100))));
    late.pend();
    assert_eq!(cache.loads_in_line(), 1);
    gate.open();
    running.finish().unwrap();
    assert_eq!(late.finish().unwrap(), 11);
}

#[test]
fn who_can_be_served_stale_does_not_wait_with_one_who_waits_in_line() {
    let (cache, hand) = with_windows();
    let gate = Gate::new();
    cache.insert(1, 10);
    hand.advance(ms(60));
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let strict = || cache.at(&1).max_age(ms(55)).load_async(|_| async { Ok::<_, String>(11) });
    let (mut leader, mut follower) = (Task::new(strict()), Task::new(strict()));
    leader.pend();
    follower.pend();
    assert_eq!(cache.loads_in_line(), 1);
    assert_eq!(told(cache.at(&1).load(|_| uncalled::<u64>())), (10, STALE));
    let mut asking = Task::new(cache.at(&1).load_async(|_| async { uncalled::<u64>() }));
    assert_eq!(told(asking.finish()), (10, STALE));
    gate.open();
    running.finish().unwrap();
    assert_eq!(told(leader.finish()), (11, How::Loaded));
    assert_eq!(told(follower.finish()), (11, How::Joined));
}

#[test]
fn a_caller_waits_in_line_as_long_as_it_has_said() {
    let (cache, hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    let ask = |key, patience| {
        Task::new(cache.at(key).timeout(ms(patience)).load_async(|_| async { Ok::<_, String>(1) }))
    };
    let mut leader = ask(&1, 20);
    leader.pend();
    let (mut sooner, mut longer) = (ask(&1, 10), ask(&1, 90));
    sooner.pend();
    longer.pend();
    let mut behind = task(&cache, &2, &gate);
    behind.pend();
    hand.advance(ms(9));
    assert_eq!((leader.wakes(), sooner.wakes()), (0, 0));
    hand.advance(ms(1));
    assert_eq!(sooner.wakes(), 1);
    let error = sooner.finish().unwrap_err();
    assert!(error.is_overloaded() && matches!(error, LoadError::Overloaded));
    hand.advance(ms(10));
    assert!(leader.finish().unwrap_err().is_overloaded());
    longer.pend(); // its patience is its own, and so is now the place
    gate.open();
    running.finish().unwrap();
    assert_eq!((cache.loads_in_line(), behind.wakes()), (1, 0));
    assert_eq!(longer.finish().unwrap().how, How::Loaded);
    assert_eq!(behind.finish().unwrap(), 2);
    assert_eq!(cache.stats().overloaded, 1);
}

#[test]
fn a_thread_waits_in_line_as_long_as_it_has_said() {
    let (cache, hand) = cache(1);
    let gate = Gate::new();
    let mut running = task(&cache, &0, &gate);
    running.pend();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| cache.at(&1).timeout(ms(20)).load(|_| uncalled::<u64>()));
        wait_until(|| cache.loads_in_line() == 1);
        hand.advance(ms(20));
        assert!(waiting.join().unwrap().unwrap_err().is_overloaded());
    });
    assert_eq!((cache.loads_in_line(), cache.flights()), (0, 1));
    assert_eq!(
        LoadError::<String>::Overloaded.to_string(),
        "no slot of the cache's `max_concurrent_loads` was free in time; try again later, raise \
         the limit if the source can take it, or wait longer"
    );
}

/// foyer #1345: whoever is woken may use the cache, and drop what it likes.
#[test]
fn wakers_are_woken_with_no_lock_held() {
    struct Curious(Cache<u64, u64>, AtomicUsize);

    impl Wake for Curious {
        fn wake(self: Arc<Self>) {
            let told = self.0.explain(&1).to_string() + &self.0.explain(&2).to_string();
            assert!(!told.is_empty());
            self.1.fetch_add(1, SeqCst);
        }
    }

    let (cache, hand) = cache(1);
    let (hung, gate) = (Gate::new(), Gate::new());
    let mut running = task(&cache, &0, &hung);
    running.pend();
    let curious = Arc::new(Curious(Cache::clone(&cache), AtomicUsize::new(0)));
    let waker = Waker::from(curious.clone());
    let mut leader = task(&cache, &1, &gate);
    assert!(leader.poll_with(&waker).is_pending());
    let mut follower = task(&cache, &1, &gate);
    assert!(follower.poll_with(&waker).is_pending());
    let mut behind = task(&cache, &2, &gate);
    assert!(behind.poll_with(&waker).is_pending());
    drop(running); // the leader's turn: both are told
    assert_eq!(curious.1.load(SeqCst), 2);
    assert!(leader.poll_with(&waker).is_pending());
    hand.advance(ms(100)); // and now that of the one behind
    assert!(curious.1.load(SeqCst) >= 4);
    gate.open();
    assert_eq!(behind.finish().unwrap(), 2);
}
