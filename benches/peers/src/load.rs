//! What the single flight costs: on a hit, and on a miss that nobody else wants.

use std::time::Instant;

use crate::contender::{Contender, Entrant, Kind, LARDER, Op, select};
use crate::rows::{Sequences, prepare, row};
use policies::table::{Spread, Table, figure};

/// Those that have a call for it.
const TIMED: [&str; 4] = [LARDER, "quick_cache", "moka", "scc"];

/// Keys of a growing cache, and of a batch of hits or loads.
const KEYS: usize = 1 << 17;

/// Nanoseconds an operation of one thread.
fn nanos<K: Kind>(cache: &dyn Contender<K>, op: Op, keys: &[K::Key]) -> f64 {
    let began = Instant::now();
    cache.run(op, keys);
    began.elapsed().as_nanos() as f64 / keys.len() as f64
}

/// A hit by `get`, one by `get_or_load`, a load into a growing cache, one into a full cache.
fn run<K: Kind>(entrant: &Entrant<K>, sequences: &mut Sequences<K>, round: usize) -> [f64; 4] {
    let row_a = row("a");
    let cache = (entrant.build)(row_a.capacity);
    let keys = sequences.of(row_a.ids, 1);
    prepare(&*cache, row_a, &keys[0]);
    // once for nothing, then in turns
    cache.run(Op::Get, &keys[0]);
    let (mut get, mut load) = (f64::MAX, f64::MAX);
    for turn in 0..4 {
        for op in if (turn + round).is_multiple_of(2) {
            [Op::Get, Op::GetOrLoad]
        } else {
            [Op::GetOrLoad, Op::Get]
        } {
            let best = if op == Op::Get { &mut get } else { &mut load };
            *best = best.min(nanos(&*cache, op, &keys[0]));
        }
    }

    let row_l = row("l");
    let keys = sequences.of(row_l.ids, 1);
    let growing = (entrant.build)(2 * KEYS as u64);
    let cold = nanos(&*growing, Op::GetOrLoad, &keys[0][..KEYS]);
    drop(growing);
    let full = (entrant.build)(row_l.capacity);
    let from = prepare(&*full, row_l, &keys[0]);
    [get, load, cold, nanos(&*full, Op::GetOrLoad, &keys[0][from..from + KEYS])]
}

pub fn table<K: Kind>(rounds: usize, only: &[String]) -> Result<Table, String> {
    let contenders = select::<K>(only, &TIMED)?;
    let mut results = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for i in 0..contenders.len() {
            let i = (i + round) % contenders.len();
            results[i].push(run(&contenders[i], &mut Sequences::new(), round));
        }
        eprintln!("load: round {} of {rounds}", round + 1);
    }
    let first = format!("{}, ns", K::NAME);
    let mut table = Table::new([
        first.as_str(),
        "hit, get",
        "hit, get_or_load",
        "its time of get's",
        "cold load, growing",
        "cold load, evicting",
    ]);
    for (contender, rounds) in contenders.iter().zip(&results) {
        let of = |i: usize| Spread::of(&rounds.iter().map(|r: &[f64; 4]| r[i]).collect::<Vec<_>>());
        let cell = |i| of(i).map_or_else(String::new, |s| s.to_string());
        let ratios: Vec<f64> = rounds.iter().map(|r| r[1] / r[0]).collect();
        let ratio = Spread::of(&ratios).map_or_else(String::new, |s| figure(s.median));
        table.row([contender.name.into(), cell(0), cell(1), ratio, cell(2), cell(3)]);
    }
    Ok(table)
}
