//! Caches bounded by bytes: hit ratio and byte hit ratio of traces whose keys are given sizes.
//!
//! The recorded traces have no sizes. Each key is given one by its hash, 64 bytes to 256 KiB, every
//! doubling as frequent, as sizes of pages, rows and images of one service may be.

use std::collections::BTreeSet;

use policies::page::Block;
use policies::random::mix;
use policies::show::in_parallel;
use policies::table::Table;
use policies::trace::Trace;
use policies::{min, queues::Queues, synthetic};

/// The traces, and per cent of the distinct keys' bytes.
const TRACES: [&str; 5] = ["OLTP", "P3", "c2k_web12", "lirs_multi2", "Zipf 0.9"];
const PERCENTS: [u64; 2] = [1, 10];

fn size(key: u64) -> u32 {
    let unit = (mix(!key) >> 11) as f64 / (1u64 << 53) as f64;
    (64.0 * (unit * 12.0).exp2()) as u32
}

/// Whether a key of a size was there; it is now, or was refused.
trait Weighted: Send {
    fn access(&mut self, key: u64, size: u32) -> bool;

    /// What it holds, as it sees it.
    fn weight(&self) -> u64;
}

struct Larder(larder::Cache<u64, u32>);

impl Weighted for Larder {
    fn access(&mut self, key: u64, size: u32) -> bool {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, size);
        }
        hit
    }

    fn weight(&self) -> u64 {
        self.0.weight()
    }
}

fn larder(bytes: u64, shards: Option<usize>) -> Box<dyn Weighted> {
    let builder = larder::Cache::builder().max_weight(bytes);
    let builder = builder.weigher(|_: &u64, size: &u32| u64::from(*size));
    let builder = match shards {
        Some(shards) => builder.shards(shards),
        None => builder,
    };
    Box::new(Larder(builder.build().expect("these settings are valid")))
}

#[derive(Clone)]
struct BySize;

impl quick_cache::Weighter<u64, u32> for BySize {
    fn weight(&self, _: &u64, size: &u32) -> u64 {
        (*size).into()
    }
}

struct QuickCache(quick_cache::sync::Cache<u64, u32, BySize>);

impl Weighted for QuickCache {
    fn access(&mut self, key: u64, size: u32) -> bool {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, size);
        }
        hit
    }

    fn weight(&self) -> u64 {
        self.0.weight()
    }
}

struct Moka(moka::sync::Cache<u64, u32>);

impl Weighted for Moka {
    fn access(&mut self, key: u64, size: u32) -> bool {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, size);
            // or it would exceed its bound, and decide on old news
            self.0.run_pending_tasks();
        }
        hit
    }

    fn weight(&self) -> u64 {
        self.0.weighted_size()
    }
}

struct MiniMoka(mini_moka::sync::Cache<u64, u32>);

impl Weighted for MiniMoka {
    fn access(&mut self, key: u64, size: u32) -> bool {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, size);
            mini_moka::sync::ConcurrentCacheExt::sync(&self.0);
        }
        hit
    }

    fn weight(&self) -> u64 {
        self.0.weighted_size()
    }
}

struct Foyer(foyer_memory::Cache<u64, u32>);

impl Weighted for Foyer {
    fn access(&mut self, key: u64, size: u32) -> bool {
        let hit = self.0.get(&key).is_some();
        if !hit {
            self.0.insert(key, size);
        }
        hit
    }

    fn weight(&self) -> u64 {
        self.0.usage() as u64
    }
}

/// Exact, unsharded.
struct Lru {
    queue: Queues<1>,
    sizes: Vec<u32>,
    held: u64,
    bytes: u64,
}

impl Weighted for Lru {
    fn access(&mut self, id: u64, size: u32) -> bool {
        let id = id as u32;
        let hit = self.queue.of(id).is_some();
        if !hit {
            self.sizes[id as usize] = size;
            self.held += u64::from(size);
        }
        self.queue.push(0, id);
        while self.held > self.bytes {
            let Some(gone) = self.queue.pop(0) else { break };
            self.held -= u64::from(self.sizes[gone as usize]);
        }
        hit
    }

    fn weight(&self) -> u64 {
        self.held
    }
}

/// Shares of hits and of bytes that were hits, in per cent.
fn shares(hits: impl Iterator<Item = bool>, sizes: &[u32]) -> (f64, f64) {
    let (mut count, mut bytes) = (0.0, 0.0);
    for (_, size) in hits.zip(sizes).filter(|(hit, _)| *hit) {
        count += 1.0;
        bytes += f64::from(*size);
    }
    let all: f64 = sizes.iter().map(|size| f64::from(*size)).sum();
    (count * 100.0 / sizes.len() as f64, bytes * 100.0 / all)
}

/// Belady's rule over bytes: what is used again the latest goes until all fits, the newcomer itself
/// if it is that. With sizes it is no longer the optimum, which is hard to find; still it knows the
/// future.
fn belady(ids: &[u32], sizes: &[u32], bytes: u64) -> Vec<bool> {
    let mut resident = BTreeSet::new();
    let mut held = 0;
    let next = min::next_uses(ids).into_iter().enumerate();
    let access = |(i, next): (usize, Option<usize>)| {
        let hit = resident.remove(&i);
        held -= if hit { u64::from(sizes[i]) } else { 0 };
        if let Some(next) = next {
            resident.insert(next);
            held += u64::from(sizes[i]);
        }
        while held > bytes {
            let gone = resident.pop_last().expect("something is held");
            held -= u64::from(sizes[gone]);
        }
        hit
    };
    next.map(access).collect()
}

const COLUMNS: [&str; 8] = [
    "Belady's rule",
    "LRU",
    "larder",
    "one shard",
    "quick_cache",
    "moka",
    "mini-moka",
    "foyer-s3fifo",
];

struct Row<'a> {
    trace: &'a Trace,
    percent: u64,
}

fn run(row: &Row) -> (u64, Vec<(f64, f64)>) {
    let Row { trace, percent } = row;
    let ids = trace.ids();
    let sizes: Vec<u32> = trace.keys.iter().map(|key| size(*key)).collect();
    let mut of_id = vec![0; trace.distinct];
    for (id, size) in ids.iter().zip(&sizes) {
        of_id[*id as usize] = *size;
    }
    let all: u64 = of_id.iter().map(|size| u64::from(*size)).sum();
    let bytes = all * percent / 100;
    let entries = (bytes / (all / trace.distinct as u64)) as usize;

    let quick_cache = quick_cache::sync::Cache::with_weighter(entries, bytes, BySize);
    let by_size = |_: &u64, size: &u32| *size;
    let moka = moka::sync::Cache::builder().max_capacity(bytes).weigher(by_size).build();
    let mini = mini_moka::sync::Cache::builder().max_capacity(bytes).weigher(by_size).build();
    let foyer = foyer_memory::CacheBuilder::new(bytes as usize)
        .with_eviction_config(foyer_memory::S3FifoConfig::default())
        .with_weighter(|_: &u64, size: &u32| *size as usize)
        .build();
    let lru = Lru { queue: Queues::new(trace.distinct), sizes: of_id, held: 0, bytes };
    let caches: [Box<dyn Weighted>; 7] = [
        Box::new(lru),
        larder(bytes, None),
        larder(bytes, Some(1)),
        Box::new(QuickCache(quick_cache)),
        Box::new(Moka(moka)),
        Box::new(MiniMoka(mini)),
        Box::new(Foyer(foyer)),
    ];
    let mut results = vec![shares(belady(&ids, &sizes, bytes).into_iter(), &sizes)];
    for (mut cache, name) in caches.into_iter().zip(&COLUMNS[1..]) {
        // ids are the keys: they are as distinct, and the caches hash them
        let hits = ids.iter().zip(&sizes).map(|(id, size)| cache.access((*id).into(), *size));
        results.push(shares(hits, &sizes));
        let weight = cache.weight();
        if weight > bytes {
            eprintln!("{} {percent} %: {name} holds {weight} of {bytes} bytes", trace.name);
        }
    }
    let shown: Vec<_> =
        results.iter().map(|(hits, bytes)| format!("{hits:.1}/{bytes:.1}")).collect();
    eprintln!("{} {percent} %: {}", trace.name, shown.join(" "));
    (bytes, results)
}

pub fn blocks(traces: &[Trace]) -> Vec<Block> {
    let made_up = synthetic::all();
    let all: Vec<_> = traces.iter().chain(made_up.iter().map(|(trace, _)| trace)).collect();
    let found = TRACES.iter().filter_map(|name| all.iter().find(|trace| trace.name == *name));
    let rows: Vec<Row> =
        found.flat_map(|trace| PERCENTS.map(|percent| Row { trace, percent })).collect();
    let results = in_parallel(&rows, |row| row.trace.keys.len(), run);
    let mut header = vec!["hits, % / bytes that were hits, %", "MB"];
    header.extend(COLUMNS);
    let mut table = Table::new(header);
    for (row, (bytes, results)) in rows.iter().zip(&results) {
        let label = format!("{}, {} % of its bytes", row.trace.name, row.percent);
        let megabytes = format!("{:.1}", *bytes as f64 / 1e6);
        let cells = results.iter().map(|(hits, bytes)| format!("{hits:.1} / {bytes:.1}"));
        table.row([label, megabytes].into_iter().chain(cells));
    }
    let means = (0..COLUMNS.len()).map(|i| {
        let of = |f: fn(&(f64, f64)) -> f64| {
            results.iter().map(|(_, row)| f(&row[i])).sum::<f64>() / results.len() as f64
        };
        format!("{:.1} / {:.1}", of(|share| share.0), of(|share| share.1))
    });
    let label = [format!("mean of {} rows", rows.len()), String::new()];
    table.row(label.into_iter().chain(means));
    vec![Block::new("weights", &table)]
}
