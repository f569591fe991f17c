//! Loading keys ahead of anybody.

mod common;

use common::gate::Gate;
use common::tasks::block_on;
use common::{Watchdog, wait_until, watched};
use larder::{AsyncLoader, Cache, LoadCx, Loaded, Loader, LoadingCache, SteppingRuntime};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Brings the key; nothing for odd ones above 1,000; fails and panics for others.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    running: AtomicUsize,
    most: AtomicUsize,
    calls: AtomicUsize,
    gate: Gate,
}

impl Source {
    fn select(&self, keys: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        self.0.calls.fetch_add(1, SeqCst);
        assert!(!keys.contains(&666), "expected: the loader's own trouble");
        if keys.contains(&13) {
            return Err("away".to_owned());
        }
        Ok(keys.iter().filter(|key| **key <= 1_000).map(|key| (*key, Loaded::new(*key))).collect())
    }
}

impl Loader<u64, u64> for Source {
    type Error = String;

    fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        Ok(Loaded::new(*key))
    }

    fn load_many(&self, keys: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        let running = self.0.running.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(running, SeqCst);
        self.0.gate.pass(());
        self.0.running.fetch_sub(1, SeqCst);
        self.select(keys)
    }
}

impl AsyncLoader<u64, u64> for Source {
    type Error = String;

    async fn load(&self, key: &u64, _: &LoadCx<u64>) -> Result<Loaded<u64>, String> {
        Ok(Loaded::new(*key))
    }

    async fn load_many(&self, keys: &[u64]) -> Result<Vec<(u64, Loaded<u64>)>, String> {
        self.0.gate.pass_async(()).await;
        self.select(keys)
    }
}

fn cache() -> (LoadingCache<u64, u64, Source>, Source) {
    let source = Source::default();
    (Cache::builder().max_entries(10_000).build_loading(source.clone()).unwrap(), source)
}

#[test]
fn four_calls_at_once_and_no_more() {
    let (cache, source) = cache();
    let _checked = watched(&cache);
    cache.insert(5, 55);
    let warmed = cache.warm(0..320);
    source.0.gate.wait_until_entered(4);
    assert_eq!((warmed.total(), warmed.is_done()), (320, false));
    source.0.gate.open();
    warmed.wait();
    let counts = (warmed.loaded(), warmed.present(), warmed.missing(), warmed.failed());
    assert_eq!((counts, warmed.left()), ((288, 1, 0, 31), 0), "13 cost its chunk");
    assert_eq!((source.0.most.load(SeqCst), source.0.calls.load(SeqCst)), (4, 10));
    assert_eq!((cache.get(&5), cache.get(&200), cache.get(&13)), (Some(55), Some(200), None));
    assert_eq!(cache.stats().loads, 10);
}

#[test]
fn panics_and_what_is_not_there_are_counted() {
    let (cache, source) = cache();
    let _checked = watched(&cache);
    source.0.gate.open();
    let keys = (640..672).chain(2_000..2_010).chain([1, 1]);
    let warmed = cache.warm(keys);
    warmed.wait();
    let counts = (warmed.loaded(), warmed.present(), warmed.missing(), warmed.failed());
    assert_eq!(counts, (1, 1, 10, 32));
    assert!(cache.warm(std::iter::empty()).is_done());
}

#[test]
fn it_can_be_stopped() {
    let (cache, source) = cache();
    let _checked = watched(&cache);
    let warmed = cache.warm(100..1_000);
    source.0.gate.wait_until_entered(4);
    warmed.stop();
    source.0.gate.open();
    warmed.wait();
    assert_eq!((warmed.loaded(), warmed.failed(), warmed.left()), (128, 772, 0));
}

#[test]
fn dropping_the_cache_ends_it() {
    let _watchdog = Watchdog::start();
    let (cache, source) = cache();
    let warmed = cache.warm(100..1_000);
    source.0.gate.wait_until_entered(4);
    drop(cache);
    source.0.gate.open();
    warmed.wait();
    assert!(warmed.failed() >= 772, "{warmed:?}");
    wait_until(|| Arc::strong_count(&source.0) == 1);
}

#[test]
fn what_the_runtime_refuses_the_caller_does() {
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    source.0.gate.open();
    let builder = Cache::builder().max_entries(1_000).runtime(runtime.clone());
    let cache = builder.build_loading(source).unwrap();
    let _checked = watched(&cache);
    let dropped = cache.warm(100..200);
    runtime.shut_down();
    assert_eq!((dropped.is_done(), dropped.failed()), (true, 100));
    let warmed = cache.warm(100..200);
    assert_eq!((warmed.is_done(), warmed.loaded()), (true, 100));
    assert!(cache.stats().refused > 0);
}

#[test]
fn tasks_warm_too() {
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    let builder = Cache::builder().max_entries(1_000).runtime(runtime.clone());
    let cache = builder.build_loading_async(source.clone()).unwrap();
    let _checked = watched(&cache);
    let warmed = cache.warm(100..300);
    assert_eq!(runtime.run_until_stalled(), 4);
    source.0.gate.open();
    runtime.run_until_stalled();
    block_on(warmed.clone());
    assert_eq!((warmed.loaded(), source.0.calls.load(SeqCst)), (200, 7));
    let again = cache.warm(640..700);
    runtime.run_until_stalled();
    assert_eq!((again.loaded(), again.failed()), (28, 32), "a panic is contained");
    runtime.shut_down();
    let refused = cache.warm(700..800);
    assert_eq!((refused.is_done(), refused.failed()), (true, 100));
}

#[test]
fn batch_says_how_many_at_a_time() {
    let source = Source::default();
    source.0.gate.open();
    let wait = std::time::Duration::from_millis(1);
    let builder = Cache::builder().max_entries(1_000).batch(100, wait);
    let cache = builder.build_loading(source.clone()).unwrap();
    let _checked = watched(&cache);
    cache.warm(100..500).wait();
    assert_eq!(source.0.calls.load(SeqCst), 4);
    let plain =
        Cache::builder().max_entries(10).build_loading_fn(|n: &u64| Ok::<_, Infallible>(*n));
    plain.unwrap().warm([1, 2, 3]).wait();
}

#[test]
fn tasks_end_in_the_middle_of_a_chunk_when_nobody_is_left() {
    let (runtime, source) = (SteppingRuntime::new(), Source::default());
    let builder = Cache::builder().max_entries(1_000).runtime(runtime.clone());
    let cache = builder.build_loading_async(source.clone()).unwrap();
    let warmed = cache.warm(100..300);
    runtime.run_until_stalled();
    drop(cache);
    source.0.gate.open();
    runtime.run_until_stalled();
    assert_eq!((warmed.is_done(), warmed.loaded(), warmed.failed()), (true, 0, 200));
    assert_eq!(Arc::strong_count(&source.0), 1);
}

#[test]
fn what_is_dropped_with_its_runtime_has_failed() {
    let (source, runtime) = (Source::default(), SteppingRuntime::new());
    let builder = Cache::builder().max_entries(10_000).runtime(runtime.clone());
    let cache = builder.build_loading_async(source).unwrap();
    let _checked = watched(&cache);
    let warmed = cache.warm(0..200);
    runtime.run_until_stalled();
    runtime.shut_down();
    assert!(warmed.is_done());
    assert_eq!((warmed.failed(), warmed.left()), (200, 0));
}

#[test]
fn a_key_that_was_given_twice_counts_twice_as_what_it_is() {
    let (cache, source) = cache();
    let _checked = watched(&cache);
    source.0.gate.open();
    for (keys, counts) in [
        ([1, 1, 2], (2, 1, 0, 0)),
        ([2_001, 2_001, 2_001], (0, 0, 3, 0)),
        ([13, 13, 3], (0, 0, 0, 3)),
        ([2_001, 1, 2_001], (0, 1, 2, 0)),
    ] {
        let warmed = cache.warm(keys);
        warmed.wait();
        let counted = (warmed.loaded(), warmed.present(), warmed.missing(), warmed.failed());
        assert_eq!((counted, warmed.left()), (counts, 0), "{keys:?}");
    }
}
