//! What `get_or_load` costs beside the load itself. A TTL of 300 s and jitter are on.
//!
//! - `hit`: `get`, and the forms of `get_or_load` where the value is there: what the closure costs
//!   that is not called
//! - `cold`: nobody else wants the key, the loader returns at once, and something is evicted: the
//!   price of the single flight
//! - `fan-in`: 16 callers want one key; the loader returns as soon as the other 15 wait. An
//!   iteration is one load, 15 who join it, and all of them woken
//!
//! ```sh
//! cargo bench --bench load              # half a minute
//! cargo bench --bench load -- fan-in    # a part of it
//! ```

mod common;

use common::{Ids, Numbers, cache, side_by_side};
use criterion::{Criterion, Throughput};
use larder::Cache;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;
use tokio::runtime::{self, Runtime};

const RESIDENT: u64 = 1 << 16;
const CAPACITY: u64 = 100_000;
const CALLERS: u64 = 16;

fn main() {
    let mut criterion = common::criterion();
    hit(&mut criterion);
    cold(&mut criterion);
    fan_in(&mut criterion);
    criterion.final_summary();
}

fn hit(criterion: &mut Criterion) {
    let ids = Ids::Uniform(RESIDENT);
    let cache = cache::<Numbers>(2 * RESIDENT);
    for key in ids.filler::<Numbers>(RESIDENT) {
        cache.insert(key, key);
    }
    let keys = ids.sequence::<Numbers>(0);
    let mut next = keys.iter().cycle();
    let mut next = || next.next().expect("it has no end");

    let mut group = criterion.benchmark_group("load/hit");
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |bencher| bencher.iter(|| cache.get(next())));
    group.bench_function("get_or_insert_with", |bencher| {
        bencher.iter(|| cache.get_or_insert_with(next(), || panic!("it is there")));
    });
    group.bench_function("get_or_load", |bencher| {
        bencher.iter(|| cache.get_or_load(next(), || Err("it is there")));
    });
    group.bench_function("get_or_load_async", |bencher| {
        // one runtime call for all: it costs more than a hit
        bencher.iter_custom(|iterations| {
            alone().block_on(async {
                let start = Instant::now();
                for _ in 0..iterations {
                    let found = cache.get_or_load_async(next(), loaded_async).await;
                    black_box(found).expect("it is there");
                }
                start.elapsed()
            })
        });
    });
}

fn cold(criterion: &mut Criterion) {
    let cache = cache::<Numbers>(CAPACITY);
    for key in Ids::New.filler::<Numbers>(CAPACITY) {
        cache.insert(key, key);
    }
    let keys = Ids::New.sequence::<Numbers>(0);
    let mut next = keys.iter().cycle();
    let mut next = || next.next().expect("it has no end");

    let mut group = criterion.benchmark_group("load/cold");
    group.throughput(Throughput::Elements(1));
    group.bench_function("insert", |bencher| {
        bencher.iter(|| {
            let key = next();
            cache.insert(*key, *key);
        });
    });
    group.bench_function("get_or_insert_with", |bencher| {
        bencher.iter(|| cache.get_or_insert_with(next(), || 7));
    });
    group.bench_function("get_or_load", |bencher| {
        bencher.iter(|| cache.get_or_load(next(), || Ok::<_, Infallible>(7)));
    });
    group.bench_function("get_or_load_async", |bencher| {
        bencher.iter_custom(|iterations| {
            alone().block_on(async {
                let start = Instant::now();
                for _ in 0..iterations {
                    let loaded = cache.get_or_load_async(next(), loaded_async).await;
                    black_box(loaded).expect("it cannot fail");
                }
                start.elapsed()
            })
        });
    });
}

async fn loaded_async() -> Result<u64, Infallible> {
    Ok(7)
}

fn alone() -> Runtime {
    runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Everybody asks for key after key. A load that returns when all others wait for it keeps them
/// together, so that the rounds need no barrier of their own.
fn fan_in(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load/fan-in");
    group.throughput(Throughput::Elements(CALLERS));
    let round = AtomicU64::new(0);
    let rounds = |iterations| {
        let first = round.fetch_add(iterations, Ordering::Relaxed);
        first..first + iterations
    };

    let cache = Arc::new(cache::<Numbers>(CAPACITY));
    group.bench_function("16 threads", |bencher| {
        bencher.iter_custom(|iterations| {
            let joined = cache.stats().joined;
            let rounds = rounds(iterations);
            side_by_side(CALLERS as usize, |_| {
                for (done, key) in rounds.clone().enumerate() {
                    let loaded = cache.get_or_load(&key, || {
                        while !all_wait(&cache, joined, done) {
                            thread::yield_now();
                        }
                        Ok::<_, Infallible>(key)
                    });
                    black_box(loaded).expect("it cannot fail");
                }
            })
        });
    });

    let workers = runtime::Builder::new_multi_thread().build().expect("a runtime");
    group.bench_function("16 tasks", |bencher| {
        bencher.iter_custom(|iterations| {
            let joined = cache.stats().joined;
            let rounds = rounds(iterations);
            let call = || {
                let (cache, rounds) = (Arc::clone(&cache), rounds.clone());
                async move {
                    for (done, key) in rounds.enumerate() {
                        let loaded = cache.get_or_load_async(&key, || async {
                            while !all_wait(&cache, joined, done) {
                                tokio::task::yield_now().await;
                            }
                            Ok::<_, Infallible>(key)
                        });
                        black_box(loaded.await).expect("it cannot fail");
                    }
                }
            };
            workers.block_on(async {
                let start = Instant::now();
                let calls: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(call())).collect();
                for call in calls {
                    call.await.expect("no panic");
                }
                start.elapsed()
            })
        });
    });
}

/// Whether all but the one who loads wait, after so many rounds that are done.
fn all_wait(cache: &Cache<u64, u64>, before: u64, done: usize) -> bool {
    cache.stats().joined == before + (done as u64 + 1) * (CALLERS - 1)
}
