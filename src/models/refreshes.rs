//! Loads that nobody waits for, racing with everything else.

use super::explore::{draw, explore};
use super::futures::impatient;
use super::setting::{Fixed, KEY, Moments, Source, builder};
use crate::{AsyncLoader, SteppingRuntime};
use crate::{FnLoader, LoadCx, Loaded, Loader, LoadingCache, ManualClock, RefreshAhead};
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const TTL: Duration = Duration::from_millis(100);

/// Brings the moment at which the load began.
struct BeganAt(Moments);

impl Loader<u32, u64> for BeganAt {
    type Error = Infallible;

    fn load(&self, _: &u32, _: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        let begun = self.0.next();
        thread::yield_now();
        Ok(Loaded::new(begun))
    }
}

type Refreshed = LoadingCache<u32, u64, BeganAt, Fixed>;

/// Whoever steps it is a thread of the cache's own.
fn step(runtime: &SteppingRuntime, times: usize) -> thread::JoinHandle<()> {
    let runtime = runtime.clone();
    thread::spawn(move || {
        for _ in 0..times {
            runtime.step();
            thread::yield_now();
        }
    })
}

fn setting(moments: &Moments) -> (Refreshed, SteppingRuntime, ManualClock) {
    let (builder, hand) = builder();
    let runtime = SteppingRuntime::new();
    let cache = builder
        .max_entries(100)
        .time_to_live(TTL)
        .refresh_ahead(RefreshAhead::At(0.5))
        .runtime(runtime.clone())
        .build_loading(BeganAt(moments.clone()))
        .unwrap();
    (cache, runtime, hand)
}

/// Caffeine #1970, 42a52a1d9; `FusionCache` #628: a refresh lands late and overwrites a newer write.
fn nobody_sees_what_is_older_than(write: fn(&Refreshed, u64)) {
    explore(move || {
        let (moments, written) = (Moments::default(), Moments::default());
        let (cache, runtime, hand) = setting(&moments);
        cache.load(&KEY).unwrap();
        hand.advance(TTL / 2);
        let steppers = [step(&runtime, 3), step(&runtime, 3)];
        let writer = thread::spawn({
            let (cache, moments, written) = (cache.clone(), moments.clone(), written.clone());
            move || {
                for _ in 0..2 {
                    let begun = moments.next();
                    write(&cache, begun);
                    written.reach(begun);
                    thread::yield_now();
                }
            }
        });
        let check = move |cache: &Refreshed, written: &Moments| {
            let floor = written.count();
            if let Some(value) = cache.get(&KEY) {
                assert!(value >= floor, "{value} is older than {floor}");
            }
        };
        let reader = thread::spawn({
            let (cache, written) = (cache.clone(), written.clone());
            move || {
                for _ in 0..3 {
                    check(&cache, &written);
                    cache.refresh(&KEY);
                    let floor = written.count();
                    assert!(cache.load(&KEY).unwrap() >= floor);
                }
            }
        });
        for thread in steppers.into_iter().chain([writer, reader]) {
            thread.join().unwrap();
        }
        runtime.run_until_stalled();
        check(&cache, &written);
        assert_eq!(cache.flights(), 0);
        cache.validate();
    });
}

#[test]
fn inserted_during_a_refresh_stays() {
    nobody_sees_what_is_older_than(|cache, now| cache.insert(KEY, now));
}

#[test]
fn removed_during_a_refresh_is_never_stored() {
    nobody_sees_what_is_older_than(|cache, _| _ = cache.remove(&KEY));
}

#[test]
fn expired_during_a_refresh_is_never_stored() {
    nobody_sees_what_is_older_than(|cache, _| _ = cache.expire(&KEY));
}

/// Many hits find the value due at once: one of them starts the refresh, and none waits for it.
#[test]
fn one_refresh_for_all_who_find_a_value_due() {
    explore(|| {
        let (builder, hand) = builder();
        let (runtime, source) = (SteppingRuntime::new(), Source::default());
        let behind = source.clone();
        let cache = builder
            .max_entries(100)
            .time_to_live(TTL)
            .refresh_ahead(RefreshAhead::At(0.5))
            .runtime(runtime.clone())
            .build_loading_fn(move |_: &u32| Ok::<_, Infallible>(behind.load()))
            .unwrap();
        assert_eq!(cache.load(&KEY).unwrap(), 1);
        hand.advance(TTL / 2);
        let hits: Vec<_> = (0..3)
            .map(|_| {
                let cache = cache.clone();
                thread::spawn(move || assert!(matches!(cache.get(&KEY), Some(1 | 2))))
            })
            .collect();
        let steppers = [step(&runtime, 2), step(&runtime, 2)];
        for thread in hits.into_iter().chain(steppers) {
            thread.join().unwrap();
        }
        runtime.run_until_stalled();
        assert_eq!((cache.get(&KEY), source.begun(), source.most()), (Some(2), 2, 1));
        assert_eq!((cache.flights(), cache.stats().refreshes), (0, 1));
        cache.validate();
    });
}

/// The last handle goes while a refresh is queued, runs or lands.
#[test]
fn the_cache_is_dropped_in_the_middle_of_a_refresh() {
    explore(|| {
        let (builder, _hand) = builder::<Arc<AtomicU64>>();
        let runtime = SteppingRuntime::new();
        let value = Arc::<AtomicU64>::default();
        let behind = Arc::clone(&value);
        let load = move |_: &u32| {
            thread::yield_now();
            behind.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Arc::clone(&behind))
        };
        let cache: LoadingCache<_, _, FnLoader<_>, _> =
            builder.max_entries(100).runtime(runtime.clone()).build_loading_fn(load).unwrap();
        cache.refresh(&KEY);
        cache.refresh(&(KEY + 1));
        let steppers = [step(&runtime, 2), step(&runtime, 2)];
        let other = cache.clone();
        let dropper = thread::spawn(move || drop(other));
        drop(cache);
        for thread in steppers.into_iter().chain([dropper]) {
            thread.join().unwrap();
        }
        runtime.run_until_stalled();
        assert_eq!(
            Arc::strong_count(&value),
            1,
            "nothing is stored anywhere, and no loader is left"
        );
    });
}

/// Whoever leads a load that `soft_timeout` may free it of waits for what a runtime does with it: runs it,
/// late perhaps, or drops it. Each has an answer all the same, and none that was removed before it came.
#[test]
fn who_sends_its_load_away_has_an_answer() {
    explore(|| {
        let (moments, written) = (Moments::default(), Moments::default());
        let (builder, hand) = builder();
        let runtime = SteppingRuntime::new();
        let cache = builder
            .max_entries(100)
            .time_to_live(TTL)
            .stale_if_error(TTL * 100)
            .soft_timeout(Duration::from_millis(5))
            .runtime(runtime.clone())
            .build_loading(BeganAt(moments.clone()))
            .unwrap();
        cache.load(&KEY).unwrap();
        hand.advance(TTL);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, written) = (cache.clone(), written.clone());
                thread::spawn(move || {
                    let floor = written.count();
                    assert!(cache.load(&KEY).unwrap() >= floor);
                })
            })
            .collect();
        let writer = thread::spawn({
            let (cache, moments, written) = (cache.clone(), moments.clone(), written.clone());
            move || {
                thread::yield_now();
                let begun = moments.next();
                cache.remove(&KEY);
                written.reach(begun);
            }
        });
        let done = Arc::new(AtomicBool::new(false));
        let mover = thread::spawn({
            let (done, runtime, fate) = (Arc::clone(&done), runtime.clone(), draw(3));
            move || {
                while !done.load(Ordering::SeqCst) {
                    match fate {
                        0 => runtime.shut_down(),
                        _ if draw(8) == 0 => _ = runtime.step(),
                        1 => {}
                        _ => hand.advance(Duration::from_millis(1)),
                    }
                    thread::yield_now();
                }
            }
        });
        for thread in callers.into_iter().chain([writer]) {
            thread.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        mover.join().unwrap();
        runtime.run_until_stalled();
        let (stats, flights) = (cache.stats(), cache.flights());
        assert_eq!((stats.hits + stats.misses + stats.stale_hits, flights), (4, 0));
        cache.validate();
    });
}

/// Brings the moment at which the load began, to tasks.
struct BeganAtAsync(Moments);

impl AsyncLoader<u32, u64> for BeganAtAsync {
    type Error = Infallible;

    async fn load(&self, _: &u32, _: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        let begun = self.0.next();
        shuttle::future::yield_now().await;
        Ok(Loaded::new(begun))
    }
}

/// All who asked may have gone, at whatever moment: what they asked for is loaded, once, and is there.
#[test]
fn a_detached_load_needs_no_caller() {
    explore(|| {
        let (builder, _hand) = builder();
        let (runtime, source) = (SteppingRuntime::new(), Source::default());
        let behind = source.clone();
        let cache = builder
            .max_entries(100)
            .detached_loads()
            .runtime(runtime.clone())
            .build_loading_async_fn(move |_: u32| {
                let behind = behind.clone();
                async move { behind.load_async().await }
            })
            .unwrap();
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, polls) = (cache.clone(), 1 + draw(3));
                spawn(async move { impatient(cache.load(&KEY), polls).await })
            })
            .collect();
        let steppers = [step(&runtime, 2), step(&runtime, 2)];
        for caller in callers {
            let told = block_on(caller).unwrap();
            assert!(told.is_none_or(|value| value.unwrap() == 1));
        }
        for stepper in steppers {
            stepper.join().unwrap();
        }
        runtime.run_until_stalled();
        assert_eq!((cache.get(&KEY), source.begun(), source.done()), (Some(1), 1, 1));
        assert_eq!((cache.flights(), cache.stats().abandoned), (0, 0));
        cache.validate();
    });
}

/// Detached loads with one slot for all, while callers leave, keys are removed, and the runtime is slow or
/// gone. Whoever stays has an answer, none that was removed before it came, and no slot is lost.
#[test]
fn who_stays_has_an_answer_of_a_detached_load() {
    explore(|| {
        let (moments, written) = (Moments::default(), Moments::default());
        let (builder, hand) = builder();
        let runtime = SteppingRuntime::new();
        // When it is shut down, this runtime keeps what waits, and `load_timeout` has to end that: in line, where
        // that time does not run, nothing would.
        let fate = draw(3);
        let is_shut_down = fate == 0;
        let cache = builder
            .max_entries(100)
            .detached_loads()
            .max_concurrent_loads(if is_shut_down { 10 } else { 1 })
            .load_timeout(Duration::from_secs(1))
            .runtime(runtime.clone())
            .build_loading_async(BeganAtAsync(moments.clone()))
            .unwrap();
        let leavers: Vec<_> = [KEY, KEY + 1]
            .map(|key| {
                let (cache, polls) = (cache.clone(), draw(4));
                spawn(async move { _ = impatient(cache.load(&key), polls).await })
            })
            .into();
        let callers: Vec<_> = [KEY, KEY, KEY + 1]
            .map(|key| {
                let (cache, written) = (cache.clone(), written.clone());
                spawn(async move {
                    let floor = if key == KEY { written.count() } else { 0 };
                    match cache.load(&key).await {
                        Ok(value) => assert!(value >= floor),
                        Err(error) => assert!(is_shut_down && error.is_timeout()),
                    }
                })
            })
            .into();
        let writer = thread::spawn({
            let (cache, moments, written) = (cache.clone(), moments.clone(), written.clone());
            move || {
                thread::yield_now();
                let begun = moments.next();
                cache.remove(&KEY);
                written.reach(begun);
            }
        });
        let done = Arc::new(AtomicBool::new(false));
        let mover = thread::spawn({
            let (done, runtime) = (Arc::clone(&done), runtime.clone());
            move || {
                while !done.load(Ordering::SeqCst) {
                    if is_shut_down && draw(8) == 0 {
                        runtime.shut_down();
                    }
                    hand.advance(Duration::from_millis([20, 1, 0][fate]));
                    runtime.step();
                    thread::yield_now();
                }
            }
        });
        for task in leavers.into_iter().chain(callers) {
            block_on(task).unwrap();
        }
        writer.join().unwrap();
        done.store(true, Ordering::SeqCst);
        mover.join().unwrap();
        runtime.run_until_stalled();
        assert_eq!((cache.flights(), cache.loads_in_line()), (0, 0));
        let load = || Ok::<_, Infallible>(0);
        assert_eq!(cache.at(&(KEY + 2)).load(|_| load()).unwrap().value, 0);
        assert!(is_shut_down || cache.stats().overloaded == 0);
        cache.validate();
    });
}

/// Brings its key, one call for all.
struct Rows(Arc<AtomicU64>);

impl AsyncLoader<u32, u64> for Rows {
    type Error = Infallible;

    async fn load(&self, _: &u32, _: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        unreachable!("misses are gathered")
    }

    async fn load_many(&self, keys: &[u32]) -> Result<Vec<(u32, Loaded<u64>)>, Infallible> {
        self.0.fetch_add(1, Ordering::SeqCst);
        shuttle::future::yield_now().await;
        Ok(keys.iter().map(|key| (*key, Loaded::new(u64::from(*key)))).collect())
    }
}

/// Callers come and go while keys are gathered, the first one too; nobody is forgotten.
#[test]
fn everybody_has_the_key_that_was_gathered() {
    explore(|| {
        let (builder, hand) = builder();
        let calls = Arc::<AtomicU64>::default();
        let cache = builder
            .max_entries(100)
            .batch(2, Duration::from_millis(1))
            .runtime(SteppingRuntime::new())
            .build_loading_async(Rows(Arc::clone(&calls)))
            .unwrap();
        let leaver = spawn({
            let (cache, polls) = (cache.clone(), draw(4));
            async move { _ = impatient(cache.load(&3), polls).await }
        });
        let callers: Vec<_> = [1, 2, 3]
            .map(|key| {
                let cache = cache.clone();
                spawn(async move { assert_eq!(cache.load(&key).await.unwrap(), u64::from(key)) })
            })
            .into();
        // what is gathered while nobody else comes needs time to pass, however often it begins anew
        let done = Arc::new(AtomicBool::new(false));
        let mover = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                while !done.load(Ordering::SeqCst) {
                    hand.advance(Duration::from_millis(1));
                    thread::yield_now();
                }
            }
        });
        for caller in callers {
            block_on(caller).unwrap();
        }
        block_on(leaver).unwrap();
        done.store(true, Ordering::SeqCst);
        mover.join().unwrap();
        assert!((2..=4).contains(&calls.load(Ordering::SeqCst)));
        assert_eq!(cache.flights(), 0);
        cache.validate();
    });
}
