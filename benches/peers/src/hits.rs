//! Hit ratios on recorded traces, beside the best that is possible.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, io, thread};

use crate::contender::{Contender, Entrant, Numbers, select};
use crate::table::Table;
use crate::workload::read_trace;

pub struct Options {
    pub traces: PathBuf,
    pub only: Vec<String>,
    pub csv: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Capacity {
    Entries(usize),
    /// Per cent of the distinct keys.
    Percent(usize),
}
use Capacity::{Entries, Percent};

/// The 29 rows: each trace at the capacities it is usually shown with, small against its working
/// set and close to it.
const ROWS: [(&str, &[Capacity]); 12] = [
    ("OLTP", &[Entries(250), Entries(500), Entries(1_000), Entries(2_000)]),
    ("P3", &[Percent(1), Percent(10), Percent(25)]),
    ("lirs_loop", &[Entries(256), Entries(512), Entries(1_000)]),
    ("lirs_multi1", &[Entries(500), Entries(1_000)]),
    ("lirs_multi2", &[Entries(1_000), Entries(2_000)]),
    ("lirs_multi3", &[Entries(1_000), Entries(2_000)]),
    ("lirs_2_pools", &[Entries(450), Entries(1_000)]),
    ("lirs_cpp", &[Entries(100), Entries(300)]),
    ("c2k_web07", &[Entries(300), Entries(1_200)]),
    ("c2k_web12", &[Entries(300), Entries(1_200)]),
    ("corda", &[Entries(512), Entries(1_000), Entries(10_000)]),
    ("addr_gcc", &[Percent(1), Percent(10)]),
];

/// What is ranked: one of each policy. (scc rounds its capacity up, cached is an LRU in shards, a
/// deadline changes no victim.)
const RANKED: [&str; 6] =
    ["larder", "moka", "quick_cache", "mini-moka", "foyer-s3fifo", "foyer-lfu"];

struct Trace {
    name: &'static str,
    keys: Vec<u64>,
    distinct: usize,
}

struct Row<'a> {
    trace: &'a Trace,
    capacity: usize,
}

/// Belady's MIN, which may also refuse to store: what is used again the latest goes.
fn min(keys: &[u64], capacity: usize) -> usize {
    let mut next = vec![None; keys.len()];
    let mut last = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        if let Some(previous) = last.insert(key, i) {
            next[previous] = Some(i);
        }
    }
    // A resident is known by the access that uses it next, which no other shares.
    let mut resident = BTreeSet::new();
    let mut hits = 0;
    for (i, next) in next.into_iter().enumerate() {
        hits += usize::from(resident.remove(&i));
        resident.extend(next);
        if resident.len() > capacity {
            resident.pop_last();
        }
    }
    hits
}

/// Exact LRU: the queue has an item for every use, of which only a key's newest counts.
fn lru(keys: &[u64], capacity: usize) -> usize {
    let mut newest = HashMap::new();
    let mut uses = VecDeque::new();
    let mut hits = 0;
    for (i, key) in keys.iter().enumerate() {
        hits += usize::from(newest.insert(key, i).is_some());
        uses.push_back((key, i));
        while newest.len() > capacity {
            let (key, i) = uses.pop_front().expect("every resident has a use in the queue");
            if newest[key] == i {
                newest.remove(key);
            }
        }
    }
    hits
}

fn replay(keys: &[u64], cache: &dyn Contender<Numbers>) -> usize {
    let mut hits = 0;
    for key in keys {
        if cache.get(key).is_some() {
            hits += 1;
        } else {
            cache.insert(key, *key);
            // moka and mini-moka evict when they get round to it: made to do so at once they
            // hold their capacity as strictly as the others, and know all hits so far
            cache.settle();
        }
    }
    hits
}

/// Hit ratios in per cent: MIN, LRU, then the entrants.
fn ratios(row: &Row, entrants: &[Entrant<Numbers>]) -> Vec<f64> {
    let keys = &row.trace.keys;
    let mut hits = vec![min(keys, row.capacity), lru(keys, row.capacity)];
    hits.extend(entrants.iter().map(|e| replay(keys, &*(e.build)(row.capacity as u64))));
    hits.into_iter().map(|hits| hits as f64 * 100.0 / keys.len() as f64).collect()
}

fn load(dir: &Path) -> io::Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for (name, _) in ROWS {
        let path = dir.join(name).with_extension("u64");
        match read_trace(&path) {
            Ok(keys) => {
                let distinct = keys.iter().collect::<HashSet<_>>().len();
                traces.push(Trace { name, keys, distinct });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                eprintln!("not found, left out: {}", path.display());
            }
            Err(e) => return Err(e),
        }
    }
    Ok(traces)
}

fn rows(traces: &[Trace]) -> Vec<Row<'_>> {
    let of = |trace: &Trace| ROWS.iter().find(|(name, _)| *name == trace.name).map(|row| row.1);
    let rows = traces.iter().flat_map(|trace| {
        of(trace).unwrap_or_default().iter().map(move |capacity| match *capacity {
            Entries(capacity) => Row { trace, capacity },
            Percent(p) => Row { trace, capacity: trace.distinct * p / 100 },
        })
    });
    rows.collect()
}

pub fn table(options: &Options) -> io::Result<Table> {
    let entrants = select(&options.only, &RANKED).map_err(io::Error::other)?;
    let traces = load(&options.traces)?;
    let rows = rows(&traces);
    let results = run(&rows, &entrants);

    let names = || ["MIN", "LRU"].into_iter().chain(entrants.iter().map(|e| e.name));
    let mut table = Table::new(["hit ratio, %", "entries"].into_iter().chain(names()));
    let mut csv = format!("trace,capacity,{}\n", names().collect::<Vec<_>>().join(","));
    for (row, ratios) in rows.iter().zip(&results) {
        let cells = |digits| ratios.iter().map(move |r| format!("{r:.digits$}"));
        let label = [row.trace.name.to_owned(), row.capacity.to_string()];
        let _ = writeln!(csv, "{},{}", label.join(","), cells(4).collect::<Vec<_>>().join(","));
        table.row(label.into_iter().chain(cells(1)));
    }
    let gaps = |i: usize| results.iter().map(move |ratios| ratios[0] - ratios[i]);
    let columns = 0..entrants.len() + 2;
    let mean = columns.clone().map(|i| gaps(i).sum::<f64>() / results.len() as f64);
    let worst = columns.map(|i| gaps(i).fold(0.0, f64::max));
    let n = results.len();
    let mut last = |label: String, gaps: &mut dyn Iterator<Item = f64>| {
        let label = [label, String::new()];
        table.row(label.into_iter().chain(gaps.map(|gap| format!("{gap:.2}"))));
    };
    last(format!("mean gap to MIN, {n} rows"), &mut { mean });
    last("worst gap to MIN".into(), &mut { worst });
    if let Some(path) = &options.csv {
        fs::write(path, csv)?;
    }
    Ok(table)
}

/// Two rows at a time, the longest first; each is replayed by a single thread.
fn run(rows: &[Row], entrants: &[Entrant<Numbers>]) -> Vec<Vec<f64>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(rows[i].trace.keys.len()));
    let results = Mutex::new(vec![Vec::new(); rows.len()]);
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&i) = order.get(taken.fetch_add(1, Ordering::Relaxed)) {
                    let row = &rows[i];
                    let ratios = ratios(row, entrants);
                    let shown: Vec<_> = ratios.iter().map(|r| format!("{r:.1}")).collect();
                    eprintln!("{} {}: {}", row.trace.name, row.capacity, shown.join(" "));
                    results.lock().expect("no thread panics holding it")[i] = ratios;
                }
            });
        }
    });
    results.into_inner().expect("all threads are done")
}

#[cfg(test)]
mod tests {
    use super::{lru, min};

    #[test]
    fn a_loop_one_longer_than_the_cache() {
        let keys: Vec<u64> = (0..4).cycle().take(40).collect();
        assert_eq!(lru(&keys, 3), 0);
        // three of four stay, the fourth is never stored
        assert_eq!(min(&keys, 3), 27);
        assert_eq!(min(&keys, 4), 36);
    }

    #[test]
    fn lru_goes_by_the_last_use() {
        assert_eq!(lru(&[1, 2, 1, 3, 1, 2], 2), 2);
        assert_eq!(min(&[1, 2, 1, 3, 1, 2], 2), 3);
    }
}
