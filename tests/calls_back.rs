//! What a cache calls of the user's may use the cache: listeners, weighers and refreshes that ask for
//! the very keys that are being loaded.

mod common;

use common::tasks::Wakes;
use common::{Watchdog, ms, secs};
use larder::{
    Cache, Clock, LoadCx, LoadError, Loaded, Loader, Refused, Removal, Runtime, SteppingRuntime,
};
use parking_lot::Mutex;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::thread;

type Numbers = Cache<u64, u64>;
type Seen = Arc<Mutex<Vec<Result<u64, LoadError<String>>>>>;

/// A place for the cache in what is called by it. Its owner breaks the circle.
#[derive(Clone, Default)]
struct Own(Arc<OnceLock<Mutex<Option<Numbers>>>>);

impl Own {
    fn set(&self, cache: &Numbers) {
        assert!(self.0.set(Mutex::new(Some(cache.clone()))).is_ok());
    }

    fn get(&self) -> Option<Numbers> {
        self.0.get()?.lock().clone()
    }

    fn clear(&self) {
        *self.0.get().unwrap().lock() = None;
    }
}

#[allow(clippy::unnecessary_wraps)]
fn tens(keys: &[u64]) -> Result<Vec<(u64, u64)>, String> {
    Ok(keys.iter().map(|key| (*key, key * 10)).collect())
}

/// A cache of two, full of 100 and 101, whose listener asks for 2 when one of these leaves.
fn asking_for_2_when_full() -> (Numbers, Own, Seen) {
    let (own, seen) = (Own::default(), Seen::default());
    let (me, answers) = (own.clone(), Arc::clone(&seen));
    let listener = move |gone: Removal<u64, u64>| {
        if let Some(cache) = me.get().filter(|_| gone.key >= 100) {
            let answer = cache.get_or_load(&2, || Ok::<_, String>(22));
            answers.lock().push(answer);
        }
    };
    let builder = Cache::builder().max_entries(2).shards(1).on_removal(listener);
    let cache = builder.build().unwrap();
    cache.insert(100, 0);
    cache.insert(101, 0);
    own.set(&cache);
    (cache, own, seen)
}

#[test]
fn a_listener_may_ask_for_any_key_of_the_batch_that_evicted() {
    let _watchdog = Watchdog::start();
    let (cache, own, seen) = asking_for_2_when_full();
    let many = cache.get_or_load_many(&[1, 2], tens);
    assert!(many.error.is_none());
    let seen = std::mem::take(&mut *seen.lock());
    assert!(!seen.is_empty() && seen.iter().all(Result::is_ok), "{seen:?}");
    own.clear();
    cache.validate();
}

#[test]
fn also_where_what_evicted_came_unasked() {
    let _watchdog = Watchdog::start();
    let (cache, own, seen) = asking_for_2_when_full();
    let more = |_: &[u64]| Ok::<_, String>(vec![(2, 20), (3, 30)]);
    assert!(cache.get_or_load_many(&[2], more).error.is_none());
    let seen = std::mem::take(&mut *seen.lock());
    assert!(!seen.is_empty() && seen.iter().all(Result::is_ok), "{seen:?}");
    own.clear();
    cache.validate();
}

#[test]
fn a_weigher_that_asks_for_what_it_weighs_is_told_so() {
    let _watchdog = Watchdog::start();
    let (own, seen) = (Own::default(), Seen::default());
    let (me, answers) = (own.clone(), Arc::clone(&seen));
    let weigher = move |_: &u64, _: &u64| {
        if let Some(cache) = me.get() {
            let answer = cache.get_or_load(&2, || Ok::<_, String>(22));
            answers.lock().push(answer);
        }
        1
    };
    let cache = Cache::builder().max_weight(10).weigher(weigher).build().unwrap();
    own.set(&cache);
    let recursive = |expected: usize| {
        let seen = std::mem::take(&mut *seen.lock());
        assert_eq!(seen.len(), expected);
        assert!(seen.iter().all(|seen| matches!(seen, Err(LoadError::Recursive))), "{seen:?}");
    };
    assert_eq!(cache.get_or_load(&2, || Ok::<_, String>(20)).unwrap(), 20);
    recursive(1);
    cache.remove(&2);
    assert!(cache.get_or_load_many(&[1, 2], tens).error.is_none());
    recursive(2);
    own.clear();
    cache.validate();
}

/// Runs what it is given where it is given it.
struct OnTheSpot;

impl Runtime for OnTheSpot {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        job();
        Ok(())
    }

    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        Err(Refused)
    }
}

/// Two is one and one; so to load 2 it asks for 1.
struct Sums(Own);

impl Loader<u64, u64> for Sums {
    type Error = String;

    fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        if *key < 2 {
            return Ok(Loaded::new(*key));
        }
        let cache = self.0.get().ok_or("not yet")?;
        let one =
            cache.get_or_load(&1, || Ok::<_, String>(1)).map_err(|error| error.to_string())?;
        Ok(Loaded::new(one + one))
    }
}

/// A runtime that refuses what it is given, and loads it with a closure of its own first.
struct Meddling(Own);

impl Runtime for Meddling {
    fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        let cache = self.0.get().unwrap();
        let got = cache.at(&1).max_age(ms(0)).load(|_| Ok::<_, String>(99)).unwrap();
        assert_eq!(got.value, 99);
        Err(Refused)
    }

    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        Err(Refused)
    }
}

#[test]
fn who_is_served_stale_does_not_load_what_was_taken_while_the_runtime_refused_it() {
    let _watchdog = Watchdog::start();
    let ((clock, hand), own) = (Clock::manual(), Own::default());
    let builder = Cache::builder().max_entries(9).clock(clock).time_to_live(secs(1));
    let builder = builder.stale_while_revalidate(secs(9)).runtime(Meddling(own.clone()));
    let cache = builder.build_loading_fn(|_: &u64| Err::<u64, _>("not to be asked")).unwrap();
    own.set(&cache);
    cache.insert(1, 10);
    hand.advance(secs(2));
    assert_eq!((cache.load(&1).unwrap(), cache.get(&1)), (10, Some(99)));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 0));
    own.clear();
}

/// A value that writes down whether a task was woken before it is dropped.
#[derive(Clone)]
struct Watching(u64, Arc<Wakes>, Arc<Mutex<Vec<(u64, bool)>>>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.2.lock().push((self.0, self.1.count() > 0));
    }
}

#[test]
fn what_is_not_stored_is_dropped_when_those_who_wait_have_been_told() {
    let _watchdog = Watchdog::start();
    let cache: Cache<u64, Watching> =
        Cache::builder().max_entries(9).time_to_live(secs(9)).build().unwrap();
    let (wakes, seen) = (Wakes::new(), Arc::new(Mutex::new(Vec::new())));
    let waker = Waker::from(Arc::clone(&wakes));
    let value = |id| Watching(id, Arc::clone(&wakes), Arc::clone(&seen));
    let mut waiter = Box::pin(cache.get_or_load_async(&1, || ready(Err(()))));
    // of several keys, also what came unasked, and what stood in the reply twice
    let load = |_: &[u64]| {
        // on another thread, for the loader's own would be told that it asks for what it loads
        let poll = || waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
        assert!(thread::scope(|scope| scope.spawn(poll).join().unwrap()));
        cache.remove(&1);
        cache.insert(3, value(30));
        Ok::<_, ()>([(1, value(10)), (1, value(11)), (3, value(31))])
    };
    let many = cache.get_or_load_many(&[1], load);
    assert_eq!((many.got[0].1.value.0, wakes.count()), (11, 1));
    let mut dropped = std::mem::take(&mut *seen.lock());
    dropped.sort_unstable();
    assert_eq!(dropped, [(10, true), (11, true), (31, true)]);
}

#[test]
fn a_refresh_on_the_spot_may_ask_for_what_its_caller_is_about_to_load() {
    let _watchdog = Watchdog::start();
    let ((clock, hand), own) = (Clock::manual(), Own::default());
    let builder = Cache::builder().max_entries(10).clock(clock).runtime(OnTheSpot);
    let builder = builder.time_to_live(secs(10)).stale_while_revalidate(secs(10));
    let cache = builder.build_loading(Sums(own.clone())).unwrap();
    own.set(&cache);
    assert_eq!(cache.load(&2).unwrap(), 2);
    hand.advance(secs(10));
    cache.remove(&1);
    // 1 is to be loaded by this call, and 2, which may be served, at once by the runtime
    let many = cache.load_many(&[1, 2]);
    assert_eq!((many.got.len(), many.error.is_none()), (2, true));
    own.clear();
    cache.validate();
}

#[test]
fn two_batches_whose_listeners_ask_crosswise_end() {
    let _watchdog = Watchdog::start();
    let own = Own::default();
    let me = own.clone();
    let listener = move |gone: Removal<u64, u64>| {
        if let Some(cache) = me.get().filter(|_| gone.key >= 100) {
            for key in [1, 2, 11, 12] {
                let _ = cache.get_or_load(&key, || Ok::<_, String>(key));
            }
        }
    };
    let builder = Cache::builder().max_entries(2).shards(1).on_removal(listener);
    let cache = builder.load_timeout(ms(200_000)).build().unwrap();
    own.set(&cache);
    for round in 0..50 {
        cache.insert(100 + round, 0);
        cache.insert(200 + round, 0);
        std::thread::scope(|scope| {
            let one = scope.spawn(|| drop(cache.get_or_load_many(&[1, 2], tens)));
            let other = scope.spawn(|| drop(cache.get_or_load_many(&[11, 12], tens)));
            one.join().unwrap();
            other.join().unwrap();
        });
        cache.clear();
    }
    assert_eq!(cache.stats().load_timeouts, 0);
    own.clear();
    cache.validate();
}

#[test]
fn gathered_loads_report_when_all_have_landed() {
    let _watchdog = Watchdog::start();
    let (own, runtime) = (Own::default(), SteppingRuntime::new());
    let me = own.clone();
    let listener = move |gone: Removal<u64, u64>| {
        if let Some(cache) = me.get().filter(|_| gone.key >= 100) {
            assert!(cache.get_or_load(&2, || Ok::<_, String>(2)).is_ok());
        }
    };
    let builder = Cache::builder().max_entries(2).shards(1).on_removal(listener).runtime(runtime);
    let cache = builder.batch(2, ms(1_000)).build_loading(Tens).unwrap();
    cache.insert(100, 0);
    cache.insert(101, 0);
    own.set(&cache);
    std::thread::scope(|scope| {
        let one = scope.spawn(|| cache.load(&1).is_ok());
        let two = scope.spawn(|| cache.load(&2).is_ok());
        assert!(one.join().unwrap() && two.join().unwrap());
    });
    assert_eq!(cache.stats().load_timeouts, 0);
    own.clear();
    cache.validate();
}

struct Tens;

impl Loader<u64, u64> for Tens {
    type Error = String;

    fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        Ok(Loaded::new(key * 10))
    }

    fn load_many(&self, keys: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        Ok(keys.iter().map(|key| (*key, Loaded::new(key * 10))).collect())
    }
}

#[test]
fn a_listener_of_what_expired_may_wait_for_a_load_until_its_timeout_rings() {
    let _watchdog = Watchdog::start();
    let hung: Numbers = Cache::builder().max_entries(10).load_timeout(ms(20)).build().unwrap();
    let (told, heard) = channel();
    let listener = {
        let (hung, told) = (hung.clone(), Mutex::new(told));
        move |_: Removal<u64, u64>| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let load = hung.get_or_load_async(&1, pending::<Result<u64, String>>);
            told.lock().send(runtime.block_on(load)).unwrap();
        }
    };
    let builder = Cache::builder().max_entries(10).time_to_live(ms(10)).on_removal(listener);
    let quiet: Numbers = builder.build().unwrap();
    quiet.insert(1, 1);
    // what nobody asks for is let go in the background, a second later
    assert!(matches!(heard.recv().unwrap(), Err(LoadError::TimedOut)));
    quiet.validate();
    hung.validate();
}
