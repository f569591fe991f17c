//! Recorded traces, and the rows that they are shown in.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Keys in the order of access.
#[derive(Clone)]
pub struct Trace {
    pub name: String,
    pub keys: Vec<u64>,
    pub distinct: usize,
}

impl Trace {
    pub fn new(name: impl Into<String>, keys: Vec<u64>) -> Self {
        let distinct = keys.iter().collect::<HashSet<_>>().len();
        Self { name: name.into(), keys, distinct }
    }

    /// The keys as numbers below `distinct`, by first appearance.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids = HashMap::with_capacity(self.distinct);
        let id = |key: &u64| {
            let next = ids.len() as u32;
            *ids.entry(*key).or_insert(next)
        };
        self.keys.iter().map(id).collect()
    }
}

#[derive(Clone, Copy)]
pub enum Capacity {
    Entries(usize),
    /// Per cent of the distinct keys.
    Percent(usize),
}
use Capacity::{Entries, Percent};

impl Capacity {
    pub fn of(self, trace: &Trace) -> usize {
        match self {
            Entries(entries) => entries,
            Percent(percent) => trace.distinct * percent / 100,
        }
    }
}

/// The 29 rows: each trace at the capacities it is usually shown with, small against its working
/// set and close to it.
pub const ROWS: [(&str, &[Capacity]); 12] = [
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

/// A trace at one capacity.
pub struct Row<'a> {
    pub trace: &'a Trace,
    pub capacity: usize,
}

/// Those of [`ROWS`] whose traces are there.
pub fn rows(traces: &[Trace]) -> Vec<Row<'_>> {
    let of = |name, capacities: &'static [Capacity]| {
        let trace = traces.iter().find(|trace| trace.name == name);
        let rows = move |trace| {
            capacities.iter().map(move |capacity| Row { trace, capacity: capacity.of(trace) })
        };
        trace.map(rows).into_iter().flatten()
    };
    ROWS.into_iter().flat_map(|(name, capacities)| of(name, capacities)).collect()
}

/// The directory that was named, or else that in `LARDER_TRACES`.
pub fn directory(named: Option<String>) -> Result<PathBuf, String> {
    named
        .map(PathBuf::from)
        .or_else(|| env::var_os("LARDER_TRACES").map(Into::into))
        .ok_or_else(|| "where are the traces? Say --traces DIR, or set LARDER_TRACES".into())
}

/// The traces of [`ROWS`] that are in the directory; the others are named on standard error.
pub fn load(dir: &Path) -> io::Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for (name, _) in ROWS {
        let path = dir.join(name).with_extension("u64");
        match read(&path) {
            Ok(keys) => traces.push(Trace::new(name, keys)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                eprintln!("not found, left out: {}", path.display());
            }
            Err(e) => return Err(e),
        }
    }
    Ok(traces)
}

/// Little-endian `u64` without a header.
fn read(path: &Path) -> io::Result<Vec<u64>> {
    let bytes = fs::read(path)?;
    let words = bytes.chunks_exact(8);
    Ok(words.map(|w| u64::from_le_bytes(w.try_into().expect("chunks of 8"))).collect())
}
