//! Hit ratios on recorded traces, beside the best that is possible.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{fs, io};

use crate::contender::{BASELINE, Contender, Entrant, LARDER, Larder, Numbers, select};
use policies::plot::{self, Axis, Line, Plot};
use policies::show::{gaps, in_parallel, split_cost};
use policies::table::Table;
use policies::trace::{Row, Trace, rows};
use policies::{min, textbook};

pub struct Options {
    pub only: Vec<String>,
    pub csv: Option<PathBuf>,
}

/// What is ranked: one of each policy. (scc rounds its capacity up, cached is an LRU in shards, a
/// deadline changes no victim.)
const RANKED: [&str; 7] =
    [LARDER, BASELINE, "moka", "mini-moka", "foyer-s3fifo", "foyer-lfu", "tinyufo"];

/// Columns before the entrants': the optimum and an exact LRU.
const REFERENCES: [&str; 2] = ["MIN", "LRU"];
const LRU: usize = 1;
/// larder's own, when all are shown: as users get it, in one shard, and as on many cores.
const DEFAULT: usize = 2;
const WHOLE: usize = 3;
const MOST: usize = 4;

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
    let ids = row.trace.ids();
    let mut hits = vec![min::hits(&ids, row.capacity), textbook::lru(&ids, row.capacity)];
    let replay = |e: &Entrant<Numbers>| replay(&row.trace.keys, &*(e.build)(row.capacity as u64));
    hits.extend(entrants.iter().map(replay));
    let share = |hits| hits as f64 * 100.0 / ids.len() as f64;
    let ratios: Vec<f64> = hits.into_iter().map(share).collect();
    let shown: Vec<_> = ratios.iter().map(|r| format!("{r:.1}")).collect();
    eprintln!("{} {}: {}", row.trace.name, row.capacity, shown.join(" "));
    ratios
}

pub struct Shown {
    pub table: Table,
    /// What to read in it.
    pub reading: String,
    /// larder's and `quick_cache`'s mean gap to the optimum.
    pub gaps: (f64, f64),
}

pub fn table(traces: &[Trace], options: &Options) -> io::Result<Shown> {
    let mut entrants = select(&options.only, &RANKED).map_err(io::Error::other)?;
    let all = options.only.is_empty();
    if all {
        let one = |n| -> Box<dyn Contender<Numbers>> { Box::new(Larder::sharded(n, 1)) };
        let most = |n: u64| -> Box<dyn Contender<Numbers>> {
            Box::new(Larder::sharded(n, (n / 256).max(1)))
        };
        entrants.insert(1, Entrant { name: "one shard", build: one });
        entrants.insert(2, Entrant { name: "most shards", build: most });
    }
    let rows = rows(traces);
    let results = in_parallel(&rows, |row| row.trace.keys.len(), |row| ratios(row, &entrants));

    let names: Vec<_> = REFERENCES.into_iter().chain(entrants.iter().map(|e| e.name)).collect();
    let header = ["hit ratio, %", "entries"].into_iter().chain(names.iter().copied());
    let mut table = Table::new(header.chain(all.then_some("less the best peer")));
    let mut csv = format!("trace,capacity,{}\n", names.join(","));
    // an LRU is what cached, foyer and others have: a peer as well
    let best_peer = |ratios: &[f64]| {
        let peers = (MOST + 1..ratios.len()).chain([LRU]);
        peers.max_by(|a, b| ratios[*a].total_cmp(&ratios[*b])).unwrap_or(LRU)
    };
    let mut worst = (f64::INFINITY, String::new());
    for (row, ratios) in rows.iter().zip(&results) {
        let cells = |digits| ratios.iter().map(move |r| format!("{r:.digits$}"));
        let label = [row.trace.name.clone(), row.capacity.to_string()];
        let _ = writeln!(csv, "{},{}", label.join(","), cells(4).collect::<Vec<_>>().join(","));
        let ahead = all.then(|| {
            let best = best_peer(ratios);
            let ahead = ratios[DEFAULT] - ratios[best];
            if ahead < worst.0 {
                worst = (ahead, format!("{} at {} ({})", label[0], label[1], names[best]));
            }
            format!("{ahead:+.1}")
        });
        table.row(label.into_iter().chain(cells(1)).chain(ahead));
    }
    let [mean, most] = gaps(&results);
    for (label, gaps) in [&mean, &most] {
        let label = [label.clone(), String::new()];
        let blank = all.then(String::new);
        table.row(label.into_iter().chain(gaps.iter().map(|gap| format!("{gap:.2}"))).chain(blank));
    }
    let mut shown = Shown { table, reading: String::new(), gaps: (f64::NAN, f64::NAN) };
    if all && !results.is_empty() {
        let baseline = names.iter().position(|name| *name == BASELINE).unwrap_or(LRU);
        shown.gaps = (mean.1[DEFAULT], mean.1[baseline]);
        let cost = |split| {
            let (mean, worst) = split_cost(&rows, &results, split, WHOLE);
            format!("{mean:.2} points in the mean and {worst:.2} at worst")
        };
        shown.reading = format!(
            "Mean gap to the optimum {:.2} points, quick_cache's {:.2} (aim: 7.0). Worst row against \
             the best peer on it: {:+.1}, {} (aim: -4). From 1,000 entries up the default shards \
             cost {} against one shard, one shard for 256 entries {} (aim: under 0.5).",
            shown.gaps.0,
            shown.gaps.1,
            worst.0,
            worst.1,
            cost(DEFAULT),
            cost(MOST),
        );
    }
    if let Some(path) = &options.csv {
        fs::write(path, csv)?;
    }
    Ok(shown)
}

/// Hit ratio over capacity.
pub fn plot(traces: &[Trace]) -> String {
    const DRAWN: [&str; 3] = [LARDER, BASELINE, "moka"];
    const CURVES: [(&str, &str, &[usize]); 3] = [
        ("OLTP", "OLTP, a database", &[100, 200, 500, 1_000, 2_000, 5_000, 10_000]),
        ("P3", "P3, a workstation's disk", &[5_000, 10_000, 20_000, 50_000, 100_000, 200_000]),
        ("c2k_web12", "web12, pages of a shop", &[100, 200, 500, 1_000, 2_000, 5_000]),
    ];
    let entrants = select::<Numbers>(&[], &DRAWN).expect("they are known");
    let found = CURVES.iter().filter_map(|(name, title, capacities)| {
        let trace = traces.iter().find(|trace| trace.name == *name)?;
        Some((trace, title, capacities))
    });
    let plots = found.map(|(trace, title, capacities)| {
        let rows: Vec<_> = capacities.iter().map(|&capacity| Row { trace, capacity }).collect();
        let results = in_parallel(&rows, |row| row.capacity, |row| ratios(row, &entrants));
        let line = |name, column: usize| Line {
            name,
            points: rows
                .iter()
                .zip(&results)
                .map(|(row, ratios)| (row.capacity as f64, ratios[column]))
                .collect(),
        };
        let own = (REFERENCES.len()..).zip(DRAWN).map(|(column, name)| line(name, column));
        let lines: Vec<_> = own.chain([line("LRU", LRU), line("MIN", 0)]).collect();
        let most = results.iter().map(|ratios| ratios[0]).fold(0.0, f64::max);
        // every other capacity is named
        let ends = capacities.len() - 1;
        let ticks = (0..=ends).filter(|i| i % 2 == 0 || *i == ends);
        Plot {
            title: (*title).into(),
            x: Axis::log("entries", ticks.map(|i| capacities[i] as f64).collect()),
            y: Axis::up_to("hit ratio, %", most),
            lines,
        }
    });
    plot::svg(&plots.collect::<Vec<_>>())
}
