//! Everything at once, on the real clock: writers change a source and tell the cache, readers load
//! from it, and nobody may see what was written over.
//!
//! A second in `cargo test`; `LARDER_STRESS_SECONDS=60 cargo test --release --test stress` for long.

mod common;

use common::Watchdog;
use larder::Cache;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u64 = 2;
const KEYS_EACH: u64 = 4;
const KEYS: u64 = WRITERS * KEYS_EACH;

/// What the source holds, and what every reader may rely on: versions only grow.
struct Source {
    versions: Vec<AtomicU64>,
    /// The version that a write had told the cache of when it returned.
    told: Vec<AtomicU64>,
}

impl Source {
    fn read(&self, key: u64) -> u64 {
        let version = self.versions[key as usize].load(Ordering::SeqCst);
        // leaves room for a write between reading the source and landing
        std::thread::yield_now();
        version
    }

    /// One change of each of `keys`, and then one call that tells the cache of all of them.
    fn write(&self, keys: std::ops::Range<u64>, tell: impl FnOnce(&[u64])) {
        let new: Vec<u64> = keys
            .clone()
            .map(|key| self.versions[key as usize].fetch_add(1, Ordering::SeqCst) + 1)
            .collect();
        tell(&new);
        for (key, version) in keys.zip(new) {
            self.told[key as usize].store(version, Ordering::SeqCst);
        }
    }

    /// What a look-up that began after `told` was read must at least see.
    fn told(&self, key: u64) -> u64 {
        self.told[key as usize].load(Ordering::SeqCst)
    }
}

#[test]
fn nobody_sees_what_was_written_over() {
    let seconds = std::env::var("LARDER_STRESS_SECONDS").ok().and_then(|s| s.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(1));
    let _watchdog = Watchdog::with_limit(
        "nobody_sees_what_was_written_over",
        length * 2 + Duration::from_secs(300),
    );
    let cache: Cache<u64, u64> = Cache::builder()
        .max_entries(KEYS)
        .time_to_live(Duration::from_millis(5))
        .jitter(0.5)
        .build()
        .unwrap();
    let counters = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let source = Source { versions: counters(), told: counters() };
    let (stop, writes, reads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for writer in 0..WRITERS {
            let (cache, source, stop, writes) = (&cache, &source, &stop, &writes);
            let own = writer * KEYS_EACH..(writer + 1) * KEYS_EACH;
            threads.push(scope.spawn(move || {
                for round in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = own.start + round / 5 % KEYS_EACH;
                    match round % 5 {
                        0 => source.write(key..key + 1, |_| {
                            cache.remove(&key);
                        }),
                        1 => source.write(key..key + 1, |_| {
                            cache.expire(&key);
                        }),
                        2 => source.write(key..key + 1, |new| cache.insert(key, new[0])),
                        3 => source.write(own.clone(), |_| cache.clear()),
                        _ => source.write(own.clone(), |_| {
                            cache.remove_if(|key, _| own.contains(key));
                        }),
                    }
                    writes.fetch_add(1, Ordering::Relaxed);
                    // readers are to get somewhere in between
                    (0..8).for_each(|_| std::thread::yield_now());
                }
            }));
        }
        for reader in 0..4_u64 {
            let (cache, source, stop, reads) = (&cache, &source, &stop, &reads);
            threads.push(scope.spawn(move || {
                for round in reader.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = round * 7 % KEYS;
                    let told = source.told(key);
                    let seen = if round % 3 == 0 {
                        cache.get(&key)
                    } else {
                        cache.get_or_load(&key, || Ok::<_, ()>(source.read(key))).ok()
                    };
                    if let Some(seen) = seen {
                        assert!(seen >= told, "key {key}: {seen} after {told} was told");
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let end = Instant::now() + length;
        // and until a write has met a load, for which a busy machine may need longer
        while Instant::now() < end || cache.stats().fenced == 0 {
            assert!(cache.len() <= KEYS);
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        // the thread sanitizer sees a join, and not the end of a scope
        for thread in threads {
            thread.join().unwrap();
        }
    });
    cache.validate();
    assert_eq!(cache.flights(), 0);
    let stats = cache.stats();
    println!("{writes:?} writes, {reads:?} reads, {} loads, {} fenced", stats.loads, stats.fenced);
}
