//! Operations a second, in interleaved rounds.
//!
//! Within a round every contender runs every row once, and ratios are taken within the round: a
//! noisy neighbour then spoils one round rather than one contender. Each measurement has a fresh
//! cache, so that no contender owes its figure to one lucky placement in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::contender::{BASELINE, Contender, Entrant, Kind, Op, select};
use crate::table::{Spread, Table, figure};
use crate::workload::{Ids, Zipf};

pub struct Options {
    pub rounds: usize,
    pub time: Duration,
    /// Names of contenders; empty for `TIMED`.
    pub only: Vec<String>,
    /// Letters of rows; empty for all.
    pub rows: Vec<String>,
    /// Numbers of threads; empty for each row's own.
    pub threads: Vec<usize>,
}

struct Row {
    name: &'static str,
    op: Op,
    ids: Ids,
    capacity: u64,
    fill: Fill,
    threads: &'static [usize],
}

/// How a cache is brought to the state that is measured.
#[derive(Clone, Copy)]
enum Fill {
    /// All of that many ids are resident, whatever the split into shards: the capacity is twice.
    Resident(u64),
    /// Full, and used to the row's keys, by six operations for each entry of the capacity.
    Steady,
}

const ZIPF: Ids = Ids::Zipf(1_000_000);
const EXPONENT: f64 = 0.99;

const fn hits(name: &'static str, ids: Ids, n: u64, threads: &'static [usize]) -> Row {
    Row { name, op: Op::Get, ids, capacity: 2 * n, fill: Fill::Resident(n), threads }
}

const fn churn(name: &'static str, op: Op, ids: Ids) -> Row {
    Row { name, op, ids, capacity: 100_000, fill: Fill::Steady, threads: &[1, 2] }
}

const ROWS: [Row; 9] = [
    hits("s", Ids::Uniform(1 << 10), 1 << 10, &[1, 2]),
    hits("a", Ids::Uniform(1 << 16), 1 << 16, &[1, 2]),
    hits("b", ZIPF, 1_000_000, &[1, 2]),
    hits("c", Ids::One, 1 << 10, &[1, 2, 4]),
    churn("d", Op::Mixed, ZIPF),
    churn("e", Op::GetOrInsert, ZIPF),
    churn("f", Op::Insert, Ids::New),
    churn("g", Op::GetOrInsert, Ids::Cycle(1_000_000)),
    churn("l", Op::GetOrLoad, Ids::New),
];

/// Threads look at the clock, in effect, once a batch.
const BATCH: usize = 256;

type Sequences<K> = HashMap<(Ids, usize), Arc<[<K as Kind>::Key]>>;

fn sequences<K: Kind>(rows: &[&Row], options: &Options) -> Sequences<K> {
    let mut all = Sequences::<K>::new();
    for row in rows {
        let most = threads(row, options).into_iter().max().unwrap_or(0);
        for thread in 0..most {
            all.entry((row.ids, thread)).or_insert_with(|| {
                let ids = row.ids.sequence(thread as u64, |n| Zipf::new(n, EXPONENT));
                ids.into_iter().map(K::key).collect()
            });
        }
    }
    all
}

fn threads(row: &Row, options: &Options) -> Vec<usize> {
    let wanted = |n: &usize| options.threads.is_empty() || options.threads.contains(n);
    row.threads.iter().copied().filter(wanted).collect()
}

/// All but foyer's LFU, which is there for its hit ratio and as fast as its LRU.
const TIMED: [&str; 9] = [
    "larder",
    "quick_cache",
    "quick_cache+deadline",
    "moka",
    "mini-moka",
    "foyer-lru",
    "foyer-s3fifo",
    "cached",
    "scc",
];

/// Where each sequence is read from next: after what the filling took.
fn prepare<K: Kind>(cache: &dyn Contender<K>, row: &Row, own: &[K::Key]) -> usize {
    match row.fill {
        Fill::Resident(n) => {
            for key in (0..n).map(K::key) {
                cache.insert(&key, K::value(&key));
            }
            cache.settle();
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
fn measure<K: Kind>(
    cache: &dyn Contender<K>,
    op: Op,
    keys: &[Arc<[K::Key]>],
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

/// `samples[row][threads][contender]`, one figure a round.
type Samples = HashMap<(&'static str, usize, &'static str), Vec<f64>>;

pub fn table<K: Kind>(options: &Options) -> Result<Table, String> {
    let contenders = select::<K>(&options.only, &TIMED)?;
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| options.rows.is_empty() || options.rows.iter().any(|name| name == row.name))
        .collect();
    let sequences = sequences::<K>(&rows, options);
    let mut samples = Samples::new();
    for round in 0..options.rounds {
        for row in &rows {
            let threads = threads(row, options);
            let Some(own) = sequences.get(&(row.ids, 0)) else {
                continue;
            };
            for i in 0..contenders.len() {
                let contender = &contenders[(i + round) % contenders.len()];
                let cache = (contender.build)(row.capacity);
                let from = prepare(&*cache, row, own);
                for &n in &threads {
                    let keys: Vec<_> =
                        (0..n).map(|thread| sequences[&(row.ids, thread)].clone()).collect();
                    let (rate, hits) = measure(&*cache, row.op, &keys, from, options.time);
                    if row.op == Op::Get && hits < 0.999 {
                        eprintln!(
                            "{} {}: only {:.1} % were hits",
                            contender.name,
                            row.name,
                            hits * 1e2
                        );
                    }
                    samples.entry((row.name, n, contender.name)).or_default().push(rate);
                }
            }
        }
        eprintln!("{}: round {} of {}", K::NAME, round + 1, options.rounds);
    }
    Ok(report(&samples, &rows, &contenders, options))
}

fn report<K: Kind>(
    samples: &Samples,
    rows: &[&Row],
    contenders: &[Entrant<K>],
    options: &Options,
) -> Table {
    let mut table =
        Table::new([K::NAME].into_iter().chain(contenders.iter().map(|contender| contender.name)));
    for row in rows {
        for n in threads(row, options) {
            let of = |name| samples.get(&(row.name, n, name)).map_or(&[][..], Vec::as_slice);
            let baseline = of(BASELINE);
            let cells = contenders.iter().map(|contender| {
                let rates = of(contender.name);
                let ratios: Vec<f64> = rates.iter().zip(baseline).map(|(r, b)| r / b).collect();
                let Some(s) = Spread::of(rates) else {
                    return String::from("-");
                };
                let ratio = Spread::of(&ratios).filter(|_| contender.name != BASELINE);
                format!(
                    "{} ({}..{}){}",
                    figure(s.median),
                    figure(s.min),
                    figure(s.max),
                    ratio.map(|r| format!(" {:.2}x", r.median)).unwrap_or_default(),
                )
            });
            table.row([format!("{}{n}", row.name)].into_iter().chain(cells));
        }
    }
    table
}
