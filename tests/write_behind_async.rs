//! Write-behind whose writer is async.
#![cfg(feature = "tokio")]

mod common;

use common::{Watchdog, ms};
use larder::{
    AsyncWriteBehind, AsyncWriter, Cache, Change, ConfigError, GaveUp, WhenFull, WriteError,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A source that takes a permit for each batch, and fails, or panics, when told to.
#[derive(Clone)]
struct Source(Arc<Inner>);

struct Inner {
    rows: Mutex<HashMap<u64, u64>>,
    permits: Semaphore,
    failures: AtomicUsize,
    panics: AtomicUsize,
    begun: AtomicUsize,
}

impl Source {
    fn with_permits(permits: usize) -> Self {
        Self(Arc::new(Inner {
            rows: Mutex::default(),
            permits: Semaphore::new(permits),
            failures: AtomicUsize::new(0),
            panics: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
        }))
    }

    fn rows(&self) -> HashMap<u64, u64> {
        self.0.rows.lock().unwrap().clone()
    }
}

impl AsyncWriter<u64, u64> for Source {
    type Error = &'static str;

    async fn write(&self, batch: &[Change<'_, u64, u64>]) -> Result<(), Self::Error> {
        self.0.begun.fetch_add(1, SeqCst);
        self.0.permits.acquire().await.unwrap().forget();
        let one_of = |n: &AtomicUsize| n.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        assert!(!one_of(&self.0.panics), "expected: the writer panics");
        if one_of(&self.0.failures) {
            return Err("away");
        }
        let mut rows = self.0.rows.lock().unwrap();
        for change in batch {
            match *change {
                Change::Put(key, value) => _ = rows.insert(*key, *value),
                Change::Delete(key) => _ = rows.remove(key),
            }
        }
        Ok(())
    }
}

const ALL: usize = Semaphore::MAX_PERMITS;

#[tokio::test]
async fn changes_are_shown_at_once_and_written_later() {
    let _watchdog = Watchdog::start();
    let (cache, source) = (Cache::new(3), Source::with_permits(ALL));
    let queue = AsyncWriteBehind::builder(cache.clone(), source.clone()).build().unwrap();
    for key in 0..50 {
        queue.put(key, key).await.unwrap();
        queue.put(key, key + 1).await.unwrap();
    }
    queue.delete(&7).await.unwrap();
    assert_eq!((queue.get(&8), queue.get(&7)), (Some(9), None));
    let load = || async { common::uncalled::<u64>() };
    assert_eq!(cache.get_or_load_async(&8, load).await.unwrap(), 9);
    queue.flush().await.unwrap();
    assert_eq!((source.rows().len(), queue.pending()), (49, 0));
    queue.put(50, 50).await.unwrap();
    queue.clone().close().await.unwrap();
    assert_eq!(source.rows().len(), 50);
    assert_eq!(queue.put(51, 51).await, Err(WriteError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_panics_are_tried_again() {
    let _watchdog = Watchdog::start();
    let source = Source::with_permits(ALL);
    source.0.failures.store(3, SeqCst);
    source.0.panics.store(2, SeqCst);
    let queue = AsyncWriteBehind::builder(Cache::new(100), source.clone())
        .max_delay(Duration::ZERO)
        .retry(ms(1), ms(2))
        .writers(2)
        .build()
        .unwrap();
    for key in 0..20 {
        queue.put(key, key).await.unwrap();
    }
    queue.close().await.unwrap();
    assert_eq!(source.rows().len(), 20);
}

#[tokio::test]
async fn a_full_queue_makes_tasks_wait_and_lets_go_of_those_that_leave() {
    let _watchdog = Watchdog::start();
    let source = Source::with_permits(0);
    let builder = || AsyncWriteBehind::builder(Cache::new(100), source.clone()).max_pending(1);
    let queue = builder().build().unwrap();
    queue.put(1, 10).await.unwrap();
    let mut dropped = Box::pin(queue.put(2, 20));
    assert!(futures_poll(dropped.as_mut()).is_pending());
    drop(dropped);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.put(3, 30).await }
    });
    source.0.permits.add_permits(10);
    waiting.await.unwrap().unwrap();
    queue.close().await.unwrap();
    assert_eq!(source.rows(), HashMap::from([(1, 10), (3, 30)]));
    let queue = builder().when_full(WhenFull::Refuse).build().unwrap();
    queue.put(1, 10).await.unwrap();
    assert_eq!(queue.put(2, 20).await, Err(WriteError::Full));
    queue.close().await.unwrap();
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn what_a_runtime_takes_with_it_is_reported() {
    let _watchdog = Watchdog::start();
    let lost = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let source = Source::with_permits(0);
    let cache: Cache<u64, u64> = Cache::new(100);
    let queue = runtime.block_on(async {
        let lost = lost.clone();
        let queue = AsyncWriteBehind::builder(cache.clone(), source.clone())
            .on_give_up(move |unwritten| lost.lock().unwrap().push(unwritten))
            .build()
            .unwrap();
        queue.put(1, 10).await.unwrap();
        queue.put(2, 20).await.unwrap();
        queue
    });
    drop(runtime);
    assert_eq!(lost.lock().unwrap().len(), 2);
    assert!(lost.lock().unwrap().iter().all(|lost| matches!(lost.why, GaveUp::Dropped)));
    assert_eq!((cache.get(&1), queue.pending()), (None, 0));
    let late = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(late.block_on(queue.put(3, 30)), Err(WriteError::Closed));
}

#[tokio::test]
async fn a_drop_writes_in_the_background_for_a_while() {
    let _watchdog = Watchdog::start();
    let source = Source::with_permits(ALL);
    let queue = AsyncWriteBehind::builder(Cache::new(100), source.clone()).build().unwrap();
    queue.put(1, 10).await.unwrap();
    drop(queue);
    while source.rows().is_empty() {
        tokio::task::yield_now().await;
    }
    let source = Source::with_permits(0);
    let lost = Arc::new(AtomicUsize::new(0));
    let queue = AsyncWriteBehind::builder(Cache::new(100), source.clone())
        .drop_timeout(ms(10))
        .on_give_up({
            let lost = lost.clone();
            move |_| _ = lost.fetch_add(1, SeqCst)
        })
        .build()
        .unwrap();
    queue.put(1, 10).await.unwrap();
    drop(queue);
    while lost.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn outside_of_a_runtime_there_is_nothing_to_write_with() {
    let builder = AsyncWriteBehind::builder(Cache::new(1), Source::with_permits(ALL));
    assert_eq!(builder.build().map(|_| ()).unwrap_err(), ConfigError::NoRuntime);
}
