//! What a cache allocates: nothing on a hit, little ahead, and never for keys that are gone.

// the allocator that counts has to be one
#![allow(unsafe_code)]

mod common;

use common::tasks::Task;
use common::{Watchdog, ms, secs, uncalled};
use larder::{Cache, Clock};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Counting;

thread_local! {
    /// Allocations by this thread, if anybody wants to know.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Bytes allocated and not freed, by all threads.
static LIVE: AtomicI64 = AtomicI64::new(0);

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

// SAFETY: the system's allocator does the work; what is counted beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(size(layout), Relaxed);
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(size(layout), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they share the count. With a lock that allocates nothing for who waits.
fn alone() -> (MutexGuard<'static, ()>, Watchdog) {
    static ALONE: Mutex<()> = Mutex::new(());
    (ALONE.lock().unwrap_or_else(PoisonError::into_inner), Watchdog::start())
}

fn allocations(f: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

fn live() -> i64 {
    LIVE.load(Relaxed)
}

#[test]
fn a_hit_allocates_nothing() {
    let _alone = alone();
    for idle in [None, Some(secs(5))] {
        let (clock, _) = Clock::manual();
        let builder = Cache::<String, u64>::builder().max_entries(100).time_to_live(secs(10));
        let builder = builder.jitter(0.1).clock(clock).on_removal(|_| ());
        let cache = match idle {
            Some(idle) => builder.time_to_idle(idle),
            None => builder,
        };
        let cache = cache.build().unwrap();
        cache.insert("a key of some length".to_owned(), 1);
        let key = "a key of some length";
        let hits = allocations(|| {
            for _ in 0..100 {
                assert_eq!(cache.get(key), Some(1));
                assert_eq!(cache.get_or_load(key, uncalled).unwrap(), 1);
                assert_eq!(cache.get_or_load_optional(key, uncalled).unwrap(), Some(1));
                assert_eq!(cache.get_or_insert_with(key, || unreachable!()), 1);
                assert_eq!(cache.at(key).load(|_| uncalled::<u64>()).unwrap().value, 1);
                assert!(cache.contains(key) && cache.peek(key).is_some());
                assert_eq!(cache.get("another key"), None);
            }
        });
        assert_eq!(hits, 0);

        let mut hits = [
            Task::new(async { cache.get_or_load_async(key, || ready(uncalled())).await.unwrap() }),
            Task::new(async { cache.get_or_insert_with_async(key, pending).await }),
            Task::new(async {
                let load = |_| ready(uncalled::<u64>());
                cache.at(key).load_async(load).await.unwrap().value
            }),
        ];
        let polls = allocations(|| {
            for hit in &mut hits {
                let waker = std::task::Waker::noop();
                assert!(matches!(hit.poll_with(waker), std::task::Poll::Ready(1)));
            }
        });
        assert_eq!(polls, 0, "no future is boxed");
        drop(hits);
        cache.validate();
    }
}

#[test]
fn a_load_that_nobody_waits_for_allocates_nothing() {
    let _alone = alone();
    let (clock, _) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(500).shards(2);
    let cache = builder.time_to_live(secs(10)).jitter(0.1).clock(clock).build().unwrap();
    let load = |key: u64| cache.get_or_load(&key, || Ok::<_, String>(key)).unwrap();
    // until it is full, and has seen what comes and goes
    (0..5_000).for_each(|key| _ = load(key));
    let loads = allocations(|| {
        for key in 5_000..6_000 {
            assert_eq!(load(key), key);
            assert_eq!(cache.get_or_insert_with(&(key + 10_000), || 1), 1);
            let load = || Ok::<_, String>(Some(2));
            assert_eq!(cache.get_or_load_optional(&(key + 20_000), load).unwrap(), Some(2));
        }
    });
    assert_eq!(loads, 0);
    cache.validate();
}

/// A loader whose future is not small.
async fn load() -> Result<u64, String> {
    let large = [black_box(1_u8); 2_000];
    std::future::poll_fn(|_| std::task::Poll::Ready(())).await;
    Ok(u64::from(black_box(large)[7]))
}

#[test]
fn the_fronts_future_is_little_more_than_the_loaders() {
    let _alone = alone();
    let cache: Cache<u64, u64> = Cache::new(100);
    let loader = size_of_val(&load());
    let fronts = [
        ("get_or_load_async", size_of_val(&cache.get_or_load_async(&1, load))),
        ("load_async", size_of_val(&cache.at(&1).load_async(|_| load()))),
        (
            "get_or_load_optional_async",
            size_of_val(&cache.get_or_load_optional_async(&1, || async { load().await.map(Some) })),
        ),
        (
            "get_or_insert_with_async",
            size_of_val(&cache.get_or_insert_with_async(&1, || async { load().await.unwrap() })),
        ),
    ];
    println!("the loader's future: {loader} bytes");
    for (front, size) in fronts {
        println!("{front}: {size} bytes");
        assert!(size <= 2 * loader + 512, "{front}: {size} bytes, around {loader}");
    }
}

#[test]
fn a_huge_capacity_and_a_million_shards_allocate_little_ahead() {
    let _alone = alone();
    let huge = [1 << 40, u64::MAX - 1, u64::MAX];
    for entries in huge {
        let before = live();
        let cache: Cache<u64, u64> = Cache::new(entries);
        let sharded = Cache::<u64, u64>::builder().max_entries(entries).shards(1_000_000);
        let sharded = sharded.time_to_live(secs(1)).build().unwrap();
        let weighted = Cache::<u64, u64>::builder().max_weight(entries).weigher(|_, value| *value);
        let weighted = weighted.time_to_idle(secs(1)).build().unwrap();
        for key in 0..100 {
            cache.insert(key, key);
            sharded.insert(key, key);
            weighted.insert(key, key);
        }
        let took = live() - before;
        println!("three caches of {entries} entries, 100 keys each: {took} bytes");
        assert!(took < 8 << 20, "{took} bytes for 300 entries in a room for {entries}");
        for cache in [&cache, &sharded, &weighted] {
            assert_eq!(cache.len(), 100);
            cache.validate();
        }
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_keys_ever_seen() {
    let _alone = alone();
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, u64>::builder().max_entries(1_000).shards(4).clock(clock);
    let cache = builder.time_to_live(secs(1)).negative_ttl(ms(500)).build().unwrap();
    let mut next = 0;
    let mut round = |keys: u64| {
        for key in next..next + keys {
            match key % 8 {
                0 => cache.get_or_load(&key, || Err::<u64, _>(7_u32)).map_or((), drop),
                1 => drop(cache.get_or_load_optional(&key, || Ok::<_, u32>(None))),
                2 => {
                    let load = cache.get_or_load_async(&key, pending::<Result<u64, u32>>);
                    let mut load = std::pin::pin!(load);
                    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
                    assert!(load.as_mut().poll(&mut task).is_pending());
                }
                3 => {
                    cache.insert(key, key);
                    cache.remove(&key);
                }
                4 => assert_eq!(cache.get(&key), None),
                _ => cache.insert(key, key),
            }
            if key % 100 == 0 {
                hand.advance(ms(1));
            }
        }
        next += keys;
        live()
    };
    let warm = round(100_000);
    let mut most = warm;
    for _ in 0..9 {
        most = most.max(round(100_000));
    }
    println!("after 10^5 keys: {warm} bytes, at most in the next 9 x 10^5: {most} bytes");
    assert!(most < warm + warm / 4 + 65_536, "{warm} bytes grew to {most}");
    assert_eq!(cache.flights(), 0);
    cache.validate();
}

#[test]
fn no_shard_holds_two_tables_however_full_it_comes_to_be() {
    let _alone = alone();
    // what its entries weigh is not known ahead, so its table grows by steps, and full is anywhere
    for weight in (1_700_u32..2_700).step_by(20) {
        let before = live();
        let builder = Cache::<u64, u64>::builder().max_weight(weight.into()).shards(1);
        let cache = builder.weigher(|_, _| 1).build().unwrap();
        (0..20_000).for_each(|key| cache.insert(key, key));
        let an_entry = (live() - before) / i64::from(weight);
        assert!(an_entry < 100, "{an_entry} bytes an entry at {weight}");
        cache.validate();
    }
    // nor does one that just stays where it is, after a sweep
    for entries in (5_000_u32..6_000).step_by(20) {
        let before = live();
        let cache = Cache::<u64, u64>::builder().max_entries(10_000).shards(1).build().unwrap();
        (0..u64::from(entries)).for_each(|key| cache.insert(key, key));
        cache.sweep();
        let an_entry = (live() - before) / i64::from(entries);
        assert!(an_entry < 90, "{an_entry} bytes an entry at {entries}");
        cache.validate();
    }
}

#[test]
fn a_cache_that_was_emptied_gives_its_memory_back() {
    let _alone = alone();
    let (clock, hand) = Clock::manual();
    let builder = Cache::<u64, [u64; 8]>::builder().unbounded().shards(4);
    let cache = builder.time_to_live(secs(1)).clock(clock).build().unwrap();
    let before = live();
    let store = || (0..50_000).for_each(|key| cache.insert(key, [key; 8]));
    store();
    let full = live() - before;
    hand.advance(secs(1));
    assert_eq!(cache.sweep(), 50_000);
    let swept = live() - before;
    store();
    cache.clear();
    let cleared = live() - before;
    println!("full: {full} bytes, swept: {swept}, cleared: {cleared}");
    assert!(swept < full / 10 && cleared < full / 10);
    cache.validate();
}

#[test]
fn dropping_a_cache_gives_everything_back() {
    let _alone = alone();
    let before = live();
    for _ in 0..3 {
        let (clock, _) = Clock::manual();
        let builder = Cache::<String, String>::builder().max_weight(10_000);
        let builder = builder.weigher(|key, value| (key.len() + value.len()) as u64);
        let cache = builder.time_to_idle(secs(1)).negative_ttl(secs(1)).clock(clock).build();
        let cache = cache.unwrap();
        for key in 0..2_000 {
            cache.insert(format!("key {key}"), "value ".repeat(key % 7));
            drop(cache.get_or_load_optional(&format!("none {key}"), || Ok::<_, String>(None)));
        }
        cache.validate();
    }
    let left = live() - before;
    // what the process and its threads keep once: names, buffers, the first use of things
    assert!(left < 8_192, "{left} bytes are left");
}
