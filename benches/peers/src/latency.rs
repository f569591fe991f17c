//! How long single calls take while another thread works as well.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::contender::{Contender, Kind, Op, select};
use crate::rows::{Sequence, Sequences, prepare, row};
use policies::table::{Spread, Table, figure};

/// Percentiles of the gets, then of the inserts.
const GETS: [f64; 4] = [50.0, 99.0, 99.9, 99.99];
const INSERTS: [f64; 2] = [50.0, 99.9];

/// Of each thread; every other call of the mix is timed.
const CALLS: usize = 1 << 19;

fn nanos(began: Instant) -> u32 {
    u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// A quarter of the calls are inserts, as in row d. Nanoseconds of the gets and of the inserts.
fn calls<K: Kind>(cache: &dyn Contender<K>, keys: &[K::Key], from: usize) -> [Vec<u32>; 2] {
    let mut taken = [Vec::with_capacity(CALLS), Vec::with_capacity(CALLS / 2)];
    let keys = keys.iter().cycle().skip(from);
    for (i, key) in (0u32..CALLS as u32).zip(keys) {
        if i.wrapping_mul(0x9E37_79B9) >> 30 == 0 {
            let value = K::value(key);
            let began = Instant::now();
            cache.insert(key, value);
            taken[1].push(nanos(began));
        } else {
            let began = Instant::now();
            let got = cache.get(key);
            taken[0].push(nanos(began));
            black_box(got);
        }
    }
    taken
}

fn percentile(sorted: &[u32], percent: f64) -> f64 {
    let at = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().map_or(f64::NAN, f64::from)
}

/// The percentiles of one run of two threads, the second of which only works.
fn run<K: Kind>(cache: &dyn Contender<K>, keys: &[Sequence<K>], from: usize) -> Vec<f64> {
    let start = Barrier::new(keys.len());
    let taken = thread::scope(|scope| {
        let work = |keys: &Sequence<K>| {
            let (start, keys) = (&start, keys.clone());
            scope.spawn(move || {
                start.wait();
                calls(cache, &keys, from)
            })
        };
        let workers: Vec<_> = keys.iter().map(work).collect();
        let taken = workers.into_iter().map(|worker| worker.join().expect("no panic"));
        taken.reduce(|mut all, more| {
            for (all, more) in all.iter_mut().zip(more) {
                all.extend(more);
            }
            all
        })
    });
    let [mut gets, mut inserts] = taken.expect("there are threads");
    gets.sort_unstable();
    inserts.sort_unstable();
    let of_gets = GETS.map(|percent| percentile(&gets, percent));
    let of_inserts = INSERTS.map(|percent| percentile(&inserts, percent));
    of_gets.into_iter().chain(of_inserts).collect()
}

/// A cache that is none: what the clock takes.
struct Nothing;

impl<K: Kind> Contender<K> for Nothing {
    fn get(&self, _: &K::Key) -> Option<K::Value> {
        None
    }

    fn insert(&self, _: &K::Key, _: K::Value) {}

    fn len(&self) -> Option<u64> {
        None
    }
}

const TIMED: [&str; 9] = [
    "larder",
    "quick_cache",
    "quick_cache+deadline",
    "moka",
    "mini-moka",
    "foyer-s3fifo",
    "cached",
    "scc",
    "tinyufo",
];

pub fn table<K: Kind>(rounds: usize, only: &[String]) -> Result<Table, String> {
    let contenders = select::<K>(only, &TIMED)?;
    let row = row("d");
    debug_assert_eq!(row.op, Op::Mixed);
    let keys = Sequences::<K>::new().of(row.ids, 2);
    let mut results = vec![Vec::new(); contenders.len() + 1];
    for round in 0..rounds {
        for i in 0..contenders.len() {
            let i = (i + round) % contenders.len();
            let cache = (contenders[i].build)(row.capacity);
            let from = prepare(&*cache, row, &keys[0]);
            results[i].push(run(&*cache, &keys, from));
        }
        results[contenders.len()].push(run::<K>(&Nothing, &keys, 0));
        eprintln!("latency: round {} of {rounds}", round + 1);
    }
    let first = format!("{}, ns", K::NAME);
    let mut table =
        Table::new([first.as_str(), "get p50", "p99", "p99.9", "p99.99", "insert p50", "p99.9"]);
    let names = contenders.iter().map(|contender| contender.name).chain(["the clock alone"]);
    for (name, rounds) in names.zip(&results) {
        let cell = |i: usize| {
            let of: Vec<f64> = rounds.iter().map(|round| round[i]).collect();
            Spread::of(&of).map_or_else(String::new, |s| match i {
                2 => s.to_string(),
                _ => figure(s.median),
            })
        };
        table.row([name.to_owned()].into_iter().chain((0..GETS.len() + INSERTS.len()).map(cell)));
    }
    Ok(table)
}
