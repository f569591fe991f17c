//! The tables of this package.

use crate::larder::{self, Shards};
use crate::page::Block;
use crate::table::Table;
use crate::textbook::{self, ALL};
use crate::trace::{Row, Trace, rows};
use crate::{min, synthetic};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The crate, as it is split: as users get it, not at all, and as far as it would be on a machine of
/// many cores.
const SPLITS: [(&str, Shards); 3] =
    [("larder", Shards::Default), ("one shard", Shards::Exactly(1)), ("most shards", Shards::Most)];

/// Works on all of them, on two threads, the longest first; results are in the order of `items`.
pub fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    length: impl Fn(&T) -> usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(length(&items[i])));
    let results = Mutex::new((0..items.len()).map(|_| None).collect::<Vec<_>>());
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&i) = order.get(taken.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(&items[i]);
                    results.lock().expect("no thread panics holding it")[i] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().expect("all threads are done");
    results.into_iter().map(|result| result.expect("each was worked on")).collect()
}

/// Hit ratios in per cent: the optimum, the crate in its splits, the textbook.
fn ratios(row: &Row) -> Vec<f64> {
    let ids = row.trace.ids();
    let share = |hits: usize| hits as f64 * 100.0 / ids.len() as f64;
    let mut ratios = vec![share(min::hits(&ids, row.capacity))];
    ratios.extend(SPLITS.map(|(_, shards)| larder::ratio(&row.trace.keys, row.capacity, shards)));
    ratios.extend(ALL.iter().map(|policy| {
        share(textbook::hits(&mut *(policy.build)(row.capacity, row.trace.distinct), &ids))
    }));
    let shown: Vec<_> = ratios.iter().map(|r| format!("{r:.1}")).collect();
    eprintln!("{} {}: {}", row.trace.name, row.capacity, shown.join(" "));
    ratios
}

fn table(rows: &[Row]) -> (Table, Vec<Vec<f64>>) {
    let results = in_parallel(rows, |row| row.trace.keys.len(), ratios);
    let names = ["MIN"].into_iter().chain(SPLITS.map(|(name, _)| name));
    let names = names.chain(ALL.iter().map(|policy| policy.name));
    let mut table = Table::new(["hit ratio, %", "entries"].into_iter().chain(names));
    for (row, ratios) in rows.iter().zip(&results) {
        let label = [row.trace.name.clone(), row.capacity.to_string()];
        table.row(label.into_iter().chain(ratios.iter().map(|r| format!("{r:.1}"))));
    }
    for (label, gaps) in gaps(&results) {
        let label = [label, String::new()];
        table.row(label.into_iter().chain(gaps.iter().map(|gap| format!("{gap:.2}"))));
    }
    (table, results)
}

/// Of each column, the mean and the worst gap to the first.
pub fn gaps(results: &[Vec<f64>]) -> [(String, Vec<f64>); 2] {
    let columns = 0..results.first().map_or(0, Vec::len);
    let of = |i: usize| results.iter().map(move |ratios| ratios[0] - ratios[i]);
    let mean = columns.clone().map(|i| of(i).sum::<f64>() / results.len() as f64);
    let worst = columns.map(|i| of(i).fold(0.0, f64::max));
    [
        (format!("mean gap to MIN, {} rows", results.len()), mean.collect()),
        ("worst gap to MIN".into(), worst.collect()),
    ]
}

/// Mean and worst of what a split loses against one shard, in points, over the rows of a capacity of
/// 1,000 and up.
pub fn split_cost(rows: &[Row], results: &[Vec<f64>], split: usize, whole: usize) -> (f64, f64) {
    let large = rows.iter().zip(results).filter(|(row, _)| row.capacity >= 1_000);
    let costs: Vec<f64> = large.map(|(_, ratios)| ratios[whole] - ratios[split]).collect();
    (costs.iter().sum::<f64>() / costs.len() as f64, costs.iter().copied().fold(0.0, f64::max))
}

/// The recorded traces.
pub fn recorded(traces: &[Trace]) -> Vec<Block> {
    let rows = rows(traces);
    let (table, results) = table(&rows);
    let cost = |split, name: &str| {
        let (mean, worst) = split_cost(&rows, &results, split, 2);
        format!("{name} {mean:.2} points in the mean, {worst:.2} at worst")
    };
    let text = format!(
        "{table}\nWhat sharding costs from 1,000 entries up, against one shard: {}; {}.\n",
        cost(1, "as users get it"),
        cost(3, "one shard for 256 entries"),
    );
    vec![Block::new("policies-traces", &text)]
}

/// Those that are made up.
pub fn synthetic() -> Vec<Block> {
    let all = synthetic::all();
    let rows: Vec<_> = all
        .iter()
        .flat_map(|(trace, capacities)| {
            capacities.iter().map(move |&capacity| Row { trace, capacity })
        })
        .collect();
    vec![Block::new("policies-synthetic", &table(&rows).0)]
}

/// A change of habits and back: corda, five times the loop, corda. Each part's hit ratio, with the
/// best of the policies that do not adapt.
pub fn adaptivity(traces: &[Trace]) -> Vec<Block> {
    const CAPACITY: usize = 512;
    let find = |name| traces.iter().find(|trace| trace.name == name);
    let (Some(corda), Some(circle)) = (find("corda"), find("lirs_loop")) else {
        return Vec::new();
    };
    let lengths = [corda.keys.len(), 5 * circle.keys.len(), corda.keys.len()];
    // the keys of the two traces must not meet
    let circle = circle.keys.iter().map(|key| key ^ 1 << 63);
    let mut keys = corda.keys.clone();
    (0..5).for_each(|_| keys.extend(circle.clone()));
    keys.extend(&corda.keys);
    let trace = Trace::new("corda, loop, corda", keys);

    let mut columns: Vec<(&str, Vec<f64>)> = Vec::new();
    let ids = trace.ids();
    let mut hits = vec![false; ids.len()];
    min::each(&ids, CAPACITY, |i, hit| hits[i] = hit);
    let share =
        |hits: &[bool]| hits.iter().filter(|hit| **hit).count() as f64 * 100.0 / hits.len() as f64;
    columns.push(("MIN", split(&hits, lengths).map(share).to_vec()));
    for (name, shards) in SPLITS {
        columns.push((name, larder::ratios(&split(&trace.keys, lengths), CAPACITY, shards)));
    }
    for policy in ALL {
        let mut cache = (policy.build)(CAPACITY, trace.distinct);
        let hits: Vec<bool> = ids.iter().map(|&id| cache.access(id)).collect();
        columns.push((policy.name, split(&hits, lengths).map(share).to_vec()));
    }

    // ARC adapts as well
    let is_fixed = |name| name != "ARC" && ALL.iter().any(|policy| policy.name == name);
    let fixed = || columns.iter().filter(|(name, _)| is_fixed(*name));
    let names = columns.iter().map(|(name, _)| *name);
    let first = format!("hit ratio, %, {CAPACITY} entries");
    let header = [first.as_str()].into_iter().chain(names).chain(["larder less the best fixed"]);
    let mut table = Table::new(header);
    for (part, label) in ["corda", "five times the loop", "corda again"].into_iter().enumerate() {
        let best = fixed().map(|(_, parts)| parts[part]).fold(0.0, f64::max);
        let cells = columns.iter().map(|(_, parts)| format!("{:.1}", parts[part]));
        let ahead = format!("{:+.1}", columns[1].1[part] - best);
        table.row([label.to_owned()].into_iter().chain(cells).chain([ahead]));
    }
    vec![Block::new("policies-adaptivity", &table)]
}

/// The three parts.
fn split<T>(all: &[T], lengths: [usize; 3]) -> [&[T]; 3] {
    let (first, rest) = all.split_at(lengths[0]);
    let (second, third) = rest.split_at(lengths[1]);
    [first, second, third]
}
