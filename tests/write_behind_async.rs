//! Write-behind whose writer is async.
#![cfg(feature = "tokio")]

mod common;

use common::{Watchdog, ms};
use larder::{
    Altered, AsyncWriteBehind, AsyncWriter, Cache, Change, ConfigError, GaveUp, WhenFull,
    WriteError,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
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
        self.0.rows.lock().clone()
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
        let mut rows = self.0.rows.lock();
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

#[tokio::test]
async fn a_tag_removed_while_a_change_waits_for_room_is_newer_than_the_change() {
    let _watchdog = Watchdog::start();
    let source = Source::with_permits(0);
    let cache = Cache::new(100);
    let queue = AsyncWriteBehind::builder(cache.clone(), source.clone()).max_pending(1);
    let queue = queue.build().unwrap();
    queue.put(1, 10).await.unwrap();
    let mut waiting = Box::pin(queue.at(&2).tag("t").put(20));
    assert!(futures_poll(waiting.as_mut()).is_pending());
    cache.remove_tag("t");
    source.0.permits.add_permits(10);
    waiting.await.unwrap();
    queue.close().await.unwrap();
    assert_eq!((cache.get(&2), source.rows().len()), (None, 2));
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
            .on_give_up(move |unwritten| lost.lock().push(unwritten))
            .build()
            .unwrap();
        queue.put(1, 10).await.unwrap();
        queue.put(2, 20).await.unwrap();
        queue
    });
    drop(runtime);
    assert_eq!(lost.lock().len(), 2);
    assert!(lost.lock().iter().all(|lost| matches!(lost.why, GaveUp::Dropped)));
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

/// One more.
#[allow(clippy::unnecessary_wraps, reason = "what a change looks like")]
fn count(n: Option<u64>) -> Option<u64> {
    Some(n.unwrap_or(0) + 1)
}

#[tokio::test]
async fn a_change_of_a_task_is_of_what_is_to_be_written_and_looks_again_when_it_has_waited() {
    let _watchdog = Watchdog::start();
    let (cache, source) = (Cache::new(100), Source::with_permits(0));
    let builder = || AsyncWriteBehind::builder(cache.clone(), source.clone()).max_pending(1);
    let queue = builder().build().unwrap();
    assert_eq!(queue.alter(&1, count).await, Ok(Some(1)));
    cache.remove(&1);
    assert_eq!(queue.alter(&1, count).await, Ok(Some(2)));
    let mut dropped = Box::pin(queue.alter(&2, count));
    let mut waiting = Box::pin(queue.alter(&3, count));
    assert!(futures_poll(dropped.as_mut()).is_pending());
    assert!(futures_poll(waiting.as_mut()).is_pending());
    assert_eq!((cache.get(&2), cache.get(&3)), (None, None), "not accepted, and not shown");
    drop(dropped);
    // nothing is held while it waits
    cache.insert(3, 30);
    source.0.permits.add_permits(10);
    assert_eq!(waiting.await, Ok(Some(31)));
    queue.clone().close().await.unwrap();
    assert_eq!(source.rows(), HashMap::from([(1, 2), (3, 31)]));
    assert_eq!(queue.alter(&1, count).await, Err(WriteError::Closed));
    assert_eq!(queue.alter(&1, Altered::Keep).await, Ok(cache.get(&1)));
    let queue = builder().when_full(WhenFull::Refuse).build().unwrap();
    queue.put(1, 10).await.unwrap();
    assert_eq!(queue.alter(&2, count).await, Err(WriteError::Full));
    assert_eq!(queue.alter(&1, |_| None).await, Ok(None));
    queue.close().await.unwrap();
    assert_eq!(source.rows(), HashMap::from([(3, 31)]));
    cache.validate();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tasks_count_is_at_the_source_in_the_end() {
    const TASKS: u64 = 4;
    const ROUNDS: u64 = 500;
    let _watchdog = Watchdog::start();
    let (cache, source) = (Cache::new(2), Source::with_permits(ALL));
    source.0.failures.store(30, SeqCst);
    source.0.panics.store(10, SeqCst);
    let queue = AsyncWriteBehind::builder(cache.clone(), source.clone())
        .max_pending(3)
        .max_delay(Duration::ZERO)
        .retry(ms(1), ms(2))
        .writers(2)
        .build()
        .unwrap();
    let counters = (0..TASKS).map(|task| {
        let (queue, cache, source) = (queue.clone(), cache.clone(), source.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let key = (task + round) % 5;
                let load =
                    || async { Ok::<_, String>(source.rows().get(&key).copied().unwrap_or(0)) };
                let one_more =
                    |n: Option<u64>| n.map_or(Altered::Keep(None), |n| Altered::Put(n + 1));
                while queue.alter(&key, one_more).await.unwrap().is_none() {
                    cache.get_or_load_async(&key, load).await.unwrap();
                }
            }
        })
    });
    for counter in counters.collect::<Vec<_>>() {
        counter.await.unwrap();
    }
    queue.close().await.unwrap();
    assert_eq!(source.rows().values().sum::<u64>(), TASKS * ROUNDS);
    cache.validate();
}

/// What panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "expected: a drop panics");
    }
}

/// A future that is ready, and whose drop panics if it has a bomb.
struct Ready(#[allow(dead_code, reason = "it is dropped")] Option<Bomb>, Option<Result<(), Bomb>>);

impl Future for Ready {
    type Output = Result<(), Bomb>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::task::Poll::Ready(self.1.take().unwrap())
    }
}

/// Its first batch fails with an error whose drop panics, its second comes by such a future.
#[derive(Default)]
struct Bombs(AtomicUsize);

impl AsyncWriter<u64, u64> for Bombs {
    type Error = Bomb;

    fn write(&self, _: &[Change<'_, u64, u64>]) -> impl Future<Output = Result<(), Bomb>> + Send {
        match self.0.fetch_add(1, SeqCst) {
            0 => Ready(None, Some(Err(Bomb))),
            1 => Ready(Some(Bomb), Some(Ok(()))),
            _ => Ready(None, Some(Ok(()))),
        }
    }
}

#[tokio::test]
async fn what_panics_when_it_is_dropped_ends_no_writer() {
    let _watchdog = Watchdog::start();
    let queue = AsyncWriteBehind::builder(Cache::new(10), Bombs::default())
        .retry(ms(1), ms(1))
        .build()
        .unwrap();
    queue.put(1, 10).await.unwrap();
    assert_eq!(queue.flush().await, Ok(()));
    queue.put(2, 20).await.unwrap();
    assert_eq!(queue.close().await, Ok(()));
}

/// Never done.
struct Hangs;

impl AsyncWriter<u64, Arc<()>> for Hangs {
    type Error = ();

    async fn write(&self, _: &[Change<'_, u64, Arc<()>>]) -> Result<(), ()> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_write_that_hangs_keeps_nothing_when_its_queue_has_given_up() {
    let _watchdog = Watchdog::start();
    let (cache, value) = (Cache::new(10), Arc::new(()));
    let lost = Arc::new(AtomicUsize::new(0));
    let queue = AsyncWriteBehind::builder(cache.clone(), Hangs)
        .max_delay(Duration::ZERO)
        .drop_timeout(ms(10))
        .on_give_up({
            let lost = lost.clone();
            move |_| _ = lost.fetch_add(1, SeqCst)
        })
        .build()
        .unwrap();
    queue.put(1, value.clone()).await.unwrap();
    cache.insert(2, value.clone());
    drop((queue, cache));
    while Arc::strong_count(&value) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lost.load(SeqCst), 1);
}

#[tokio::test]
async fn a_close_within_a_time_gives_up_on_the_rest_whoever_has_the_queue_too() {
    let _watchdog = Watchdog::start();
    let source = Source::with_permits(0);
    let lost = Arc::new(AtomicUsize::new(0));
    let queue = AsyncWriteBehind::builder(Cache::new(100), source.clone())
        .max_delay(Duration::ZERO)
        .on_give_up({
            let lost = lost.clone();
            move |_| _ = lost.fetch_add(1, SeqCst)
        })
        .build()
        .unwrap();
    let other = queue.clone();
    queue.put(1, 10).await.unwrap();
    queue.put(2, 20).await.unwrap();
    assert!(matches!(queue.close_within(ms(20)).await, Err(WriteError::GaveUp { .. })));
    assert_eq!((lost.load(SeqCst), other.pending()), (2, 0));
    assert_eq!(other.put(3, 30).await, Err(WriteError::Closed));

    let source = Source::with_permits(ALL);
    let queue = AsyncWriteBehind::builder(Cache::new(100), source.clone()).build().unwrap();
    queue.put(1, 10).await.unwrap();
    assert_eq!(queue.close_within(Duration::MAX).await, Ok(()));
    assert_eq!(source.rows().len(), 1);
}
