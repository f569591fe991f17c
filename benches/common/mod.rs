//! What the benches share: key sequences, caches set up as a service would have them, and a loop
//! that one or several threads go round.
//!
//! `benches/peers` measures larder beside other caches; these measure it against itself, before and
//! after a change.

// every bench compiles all of this and uses its own part
#![allow(dead_code)]

use criterion::{BenchmarkId, Criterion, Throughput};
use larder::{Cache, Equivalent};
use std::borrow::Borrow;
use std::cell::OnceCell;
use std::hash::Hash;
use std::sync::{Arc, Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// Short runs: a bench of ours ends within a minute. Flags (`--measurement-time 5`) override it.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .without_plots()
        .configure_from_args()
}

/// A cache as it is used: lives are drawn, stored and compared.
pub(crate) fn cache<K: Kind>(max_entries: u64) -> Cache<K::Key, K::Value> {
    Cache::builder()
        .max_entries(max_entries)
        .time_to_live(Duration::from_secs(300))
        .jitter(0.1)
        .build()
        .expect("a legal configuration")
}

/// Keys and values of a cache.
pub(crate) trait Kind {
    const NAME: &'static str;
    /// What a look-up borrows from a key.
    type Lookup: ?Sized + Hash + Equivalent<Self::Key> + ToOwned<Owned = Self::Key>;
    type Key: Borrow<Self::Lookup> + Hash + Eq + Clone + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// Distinct for distinct ids, and scattered: neighbouring ids are not neighbouring keys.
    fn key(id: u64) -> Self::Key;
    fn value(key: &Self::Key) -> Self::Value;
}

/// `u64` to `u64`.
pub(crate) struct Numbers;

impl Kind for Numbers {
    const NAME: &'static str = "u64";
    type Lookup = u64;
    type Key = u64;
    type Value = u64;

    fn key(id: u64) -> u64 {
        mix(id)
    }

    fn value(key: &u64) -> u64 {
        *key
    }
}

/// `String` of 16 characters, looked up by `&str`, to `Arc<[u8; 100]>`.
pub(crate) struct Strings;

impl Kind for Strings {
    const NAME: &'static str = "String";
    type Lookup = str;
    type Key = String;
    type Value = Arc<[u8; 100]>;

    fn key(id: u64) -> String {
        format!("{:016x}", mix(id))
    }

    fn value(key: &String) -> Arc<[u8; 100]> {
        Arc::new([key.as_bytes()[0]; 100])
    }
}

/// The finalizer of `SplitMix64`: a bijection that scatters.
fn mix(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The `i`-th random number of a seed; the same on every machine.
fn random(seed: u64, i: u64) -> u64 {
    mix(mix(seed).wrapping_add(i))
}

/// The exact cumulative distribution of Zipf 0.99 over [`ZIPF_IDS`] ids, the most popular first.
static ZIPF: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let mut sum = 0.0;
    let weights = (1..=ZIPF_IDS).map(|rank| {
        sum += f64::from(rank).powf(-0.99);
        sum
    });
    weights.collect()
});
const ZIPF_IDS: u32 = 1_000_000;

/// Which ids are asked for. Keys scatter them, so that popular ones are no neighbours.
#[derive(Clone, Copy)]
pub(crate) enum Ids {
    One,
    /// Any of `0..n`, a power of two, equally often.
    Uniform(u64),
    /// As requests come: Zipf 0.99 over a million.
    Zipf,
    /// Always new, nor the same for two threads. They come again after 2^20, by when they are
    /// long forgotten.
    New,
}

/// Who a sequence is for, where it is not for a thread: it warms the cache up.
const FILLER: u64 = u64::MAX;

impl Ids {
    /// A power of two of them, to go round. No longer than it must be: it takes a part of the
    /// processor's cache.
    pub(crate) fn sequence<K: Kind>(self, reader: u64) -> Vec<K::Key> {
        let long: u64 = 1 << 20;
        let id = |i| match self {
            Self::One => 0,
            Self::Uniform(n) => random(reader, i) & (n - 1),
            Self::Zipf => {
                let most = ZIPF.last().expect("there are some");
                let at = (random(reader, i) >> 11) as f64 / (1u64 << 53) as f64 * most;
                ZIPF.partition_point(|&sum| sum <= at) as u64
            }
            Self::New => (reader.wrapping_add(1) << 32) + i,
        };
        let length = match self {
            Self::One => 1,
            Self::Uniform(n) => 4 * n,
            Self::Zipf | Self::New => long,
        };
        (0..length).map(|i| K::key(id(i))).collect()
    }

    /// All there are, or for those without end what brings a cache of so many to a steady state.
    pub(crate) fn filler<K: Kind>(self, max_entries: u64) -> Vec<K::Key> {
        match self {
            Self::One => vec![K::key(0)],
            Self::Uniform(n) => (0..n).map(K::key).collect(),
            Self::Zipf | Self::New => {
                let mut keys = self.sequence::<K>(FILLER);
                keys.truncate(6 * max_entries as usize);
                keys
            }
        }
    }
}

/// One thread, two, and as many as there are cores.
fn thread_counts() -> Vec<usize> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut counts = vec![1, 2, cores];
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Measures operations a second of all threads together: each goes round its own sequence of `ids`
/// and does `op` with the cache, a key, and how many it did before. What is prepared is prepared
/// when it is first needed, so that a filter on the command line saves it.
pub(crate) fn rate<K: Kind>(
    criterion: &mut Criterion,
    name: &str,
    ids: Ids,
    prepare: impl Fn() -> Cache<K::Key, K::Value>,
    op: impl Fn(&Cache<K::Key, K::Value>, &K::Key, usize) + Sync,
) {
    let counts = thread_counts();
    let most = counts.last().copied().unwrap_or(1) as u64;
    let sequences = OnceCell::new();
    let mut group = criterion.benchmark_group(format!("{name}/{}", K::NAME));
    for threads in counts {
        let cache = OnceCell::new();
        let mut done = 0;
        group.throughput(Throughput::Elements(threads as u64));
        let id = match threads {
            1 => BenchmarkId::from_parameter("1 thread"),
            n => BenchmarkId::from_parameter(format!("{n} threads")),
        };
        group.bench_function(id, |bencher| {
            let sequences: &Vec<Vec<K::Key>> =
                sequences.get_or_init(|| (0..most).map(|n| ids.sequence::<K>(n)).collect());
            let cache = cache.get_or_init(&prepare);
            bencher.iter_custom(|iterations| {
                let steps = done..done + iterations as usize;
                done = steps.end;
                side_by_side(threads, |thread| {
                    let keys = &sequences[thread][..];
                    let last = keys.len() - 1;
                    assert!(keys.len().is_power_of_two());
                    for step in steps.clone() {
                        op(cache, &keys[step & last], step);
                    }
                })
            });
        });
    }
}

/// Lets threads begin together; how long it takes from the first one's start to the last one's end.
pub(crate) fn side_by_side(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let timed = |thread| {
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    if threads == 1 {
        let (start, end) = timed(0);
        return end - start;
    }
    let ready = Barrier::new(threads);
    let spans: Vec<_> = thread::scope(|scope| {
        let run = |thread| {
            let ready = &ready;
            scope.spawn(move || {
                ready.wait();
                timed(thread)
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let start = spans.iter().map(|span| span.0).min().expect("there is one");
    let end = spans.iter().map(|span| span.1).max().expect("there is one");
    end - start
}
