//! The rows of work that throughput, latency and plots share, and a cache brought to their state.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contender::{Contender, Entrant, Kind, Op};
use crate::workload::Ids;

pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub op: Op,
    pub ids: Ids,
    pub capacity: u64,
    pub fill: Fill,
    pub threads: &'static [usize],
    /// What larder is to reach, of `quick_cache`'s rate: for numbers and for strings.
    pub aims: Option<(f64, f64)>,
}

/// How a cache is brought to the state that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// All of that many ids are resident, whatever the split into shards: the capacity is twice.
    Resident(u64),
    /// Full, and used to the row's keys, by six operations for each entry of the capacity.
    Steady,
}

const ZIPF: Ids = Ids::Zipf(1_000_000);

const fn hits(name: &'static str, what: &'static str, ids: Ids, n: u64) -> Row {
    let (fill, aims) = (Fill::Resident(n), Some((1.4, 1.2)));
    Row { name, what, op: Op::Get, ids, capacity: 2 * n, fill, threads: &[1, 2], aims }
}

const fn churn(name: &'static str, what: &'static str, op: Op, ids: Ids) -> Row {
    let aims = Some((1.5, 1.2));
    Row { name, what, op, ids, capacity: 100_000, fill: Fill::Steady, threads: &[1, 2], aims }
}

/// A cache that fits into a core's own cache, where instructions count and memory does not.
const fn small(name: &'static str, what: &'static str, op: Op) -> Row {
    Row { capacity: 2_000, ..churn(name, what, op, Ids::Zipf(20_000)) }
}

pub const ROWS: [Row; 11] = [
    hits("s", "get, 1k resident", Ids::Uniform(1 << 10), 1 << 10),
    hits("a", "get, 64k resident", Ids::Uniform(1 << 16), 1 << 16),
    hits("b", "get, 1M resident, Zipf", ZIPF, 1_000_000),
    Row {
        threads: &[1, 2, 4],
        aims: Some((1.0, 1.0)),
        ..hits("c", "get, one hot key", Ids::One, 1 << 10)
    },
    churn("d", "75 % get, 25 % insert, Zipf", Op::Mixed, ZIPF),
    churn("e", "get or insert, Zipf", Op::GetOrInsert, ZIPF),
    churn("f", "insert, always new", Op::Insert, Ids::New),
    churn("g", "get or insert, scan of 1M", Op::GetOrInsert, Ids::Cycle(1_000_000)),
    small("h", "75 % get, 25 % insert, 2k entries", Op::Mixed),
    small("i", "get or insert, 2k entries", Op::GetOrInsert),
    Row { aims: None, ..churn("l", "load, always new", Op::GetOrLoad, Ids::New) },
];

pub fn row(name: &str) -> &'static Row {
    static ALL: [Row; 11] = ROWS;
    ALL.iter().find(|row| row.name == name).expect("a row of that name")
}

impl Row {
    /// Maps have no bound: they are a limit where nothing is evicted.
    pub fn admits<K: Kind>(&self, entrant: &Entrant<K>) -> bool {
        !entrant.is_map() || matches!(self.fill, Fill::Resident(_))
    }
}

/// Threads look at the clock, in effect, once a batch.
const BATCH: usize = 256;

/// The keys of one thread.
pub type Sequence<K> = Arc<[<K as Kind>::Key]>;

/// Sequences that were made once.
pub struct Sequences<K: Kind>(HashMap<(Ids, usize), Sequence<K>>);

impl<K: Kind> Sequences<K> {
    pub fn new() -> Self {
        Self(HashMap::new())
    }

    /// Those of as many threads.
    pub fn of(&mut self, ids: Ids, threads: usize) -> Vec<Sequence<K>> {
        // what no row that is to come will ask for, most likely
        self.0.retain(|(other, _), _| *other == ids || *other == ZIPF);
        let make = |thread| -> Sequence<K> {
            let made = self
                .0
                .entry((ids, thread))
                .or_insert_with(|| ids.sequence(thread as u64).into_iter().map(K::key).collect());
            made.clone()
        };
        (0..threads).map(make).collect()
    }
}

/// Brings a cache to the row's state. Where each sequence is to be read from next: after what the
/// filling took.
pub fn prepare<K: Kind>(cache: &dyn Contender<K>, row: &Row, own: &[K::Key]) -> usize {
    match row.fill {
        Fill::Resident(n) => {
            // scc loses some while it is half empty: it gets them once more
            for _ in 0..3 {
                for key in (0..n).map(K::key).filter(|key| cache.get(key).is_none()) {
                    cache.insert(&key, K::value(&key));
                }
                cache.settle();
            }
            0
        }
        Fill::Steady => {
            // a mix would take four times as long, for a quarter of it stores
            let op = match row.op {
                Op::Mixed => Op::GetOrInsert,
                op => op,
            };
            let taken = (6 * row.capacity as usize).next_multiple_of(BATCH);
            cache.run(op, &own[..taken]);
            taken
        }
    }
}

/// Million operations a second of all threads, and the share of operations that were hits.
pub fn measure<K: Kind>(
    cache: &dyn Contender<K>,
    op: Op,
    keys: &[Sequence<K>],
    from: usize,
    time: Duration,
) -> (f64, f64) {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(keys.len() + 1);
    let worker = |keys: &[K::Key]| {
        let mut batches = keys.chunks(BATCH).cycle().skip(from / BATCH);
        start.wait();
        let began = Instant::now();
        let (mut done, mut hits) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let batch = batches.next().expect("a cycle does not end");
            hits += cache.run(op, batch);
            done += batch.len();
        }
        (done as f64 / began.elapsed().as_secs_f64() / 1e6, hits as f64 / done as f64)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = keys.iter().map(|keys| scope.spawn(|| worker(keys))).collect();
        start.wait();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let results = workers.into_iter().map(|w| w.join().expect("a worker panicked"));
        let n = keys.len() as f64;
        results.fold((0.0, 0.0), |(rate, share), (r, s)| (rate + r, share + s / n))
    })
}
