//! Operations a second, in interleaved rounds.
//!
//! For each row every contender runs once a round, and ratios are taken within the round: a noisy
//! neighbour then spoils one round rather than one contender. Each measurement has a fresh cache,
//! so that no contender owes its figure to one lucky placement in memory.

use std::collections::HashMap;
use std::time::Duration;

use crate::contender::{BASELINE, Entrant, Kind, LARDER, Op, select};
use crate::hop::hop;
use crate::rows::{ROWS, Row, Sequences, measure, prepare, row};
use policies::plot::{self, Axis, Line, Plot};
use policies::table::{Spread, Table, figure};

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

/// All but foyer's LFU, which is there for its hit ratio and as fast as its LRU.
const TIMED: [&str; 12] = [
    LARDER,
    BASELINE,
    "quick_cache+deadline",
    "moka",
    "mini-moka",
    "foyer-lru",
    "foyer-s3fifo",
    "cached",
    "scc",
    "tinyufo",
    "papaya",
    "dashmap",
];

/// Those that are far behind on most rows, and take most of the time: three rounds do for them.
const SLOW: [&str; 6] = ["moka", "mini-moka", "foyer-lru", "foyer-s3fifo", "cached", "tinyufo"];
const ROUNDS_OF_SLOW: usize = 3;

/// Rates of one row, by contender and number of threads; one figure a round.
type Samples = HashMap<(&'static str, usize), Vec<f64>>;

/// Measures one row.
fn samples<K: Kind>(
    row: &Row,
    threads: &[usize],
    contenders: &[&Entrant<K>],
    sequences: &mut Sequences<K>,
    (rounds, time): (usize, Duration),
    hops: &mut Vec<f64>,
) -> Samples {
    let most = threads.iter().copied().max().unwrap_or(1);
    let sequences = sequences.of(row.ids, most);
    let mut samples = Samples::new();
    for round in 0..rounds {
        hops.push(hop());
        for i in 0..contenders.len() {
            let Entrant { name, build } = contenders[(i + round) % contenders.len()];
            if round >= ROUNDS_OF_SLOW && SLOW.contains(name) {
                continue;
            }
            let cache = build(row.capacity);
            let from = prepare(&*cache, row, &sequences[0]);
            for &n in threads {
                let (rate, hits) = measure(&*cache, row.op, &sequences[..n], from, time);
                if row.op == Op::Get && hits < 0.999 {
                    eprintln!("{name} {}: only {:.1} % were hits", row.name, hits * 1e2);
                }
                samples.entry((name, n)).or_default().push(rate);
            }
        }
    }
    samples
}

/// The median of the ratios of one round's figures.
fn ratio(of: &[f64], to: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    Spread::of(&ratios).map(|ratio| ratio.median)
}

/// What is shown of the rows: larder beside its aims, then everybody.
pub struct Tables {
    pub aims: Table,
    pub all: Table,
    /// larder's medians and ratios to the baseline, by row and number of threads.
    pub larder: HashMap<(&'static str, usize), (f64, f64)>,
    /// Nanoseconds that a cache line took from core to core meanwhile, once a round.
    pub hops: Option<Spread>,
}

pub fn tables<K: Kind>(options: &Options) -> Result<Tables, String> {
    let contenders = select::<K>(&options.only, &TIMED)?;
    let rows: Vec<&Row> = ROWS
        .iter()
        .map(|known| row(known.name))
        .filter(|row| options.rows.is_empty() || options.rows.iter().any(|name| name == row.name))
        .collect();
    let mut aims = Table::new([
        K::NAME,
        "threads",
        "larder",
        "of quick_cache",
        "aim",
        "best cache",
        "of the best",
        "best map",
    ]);
    let names = contenders.iter().map(|contender| contender.name);
    let mut all = Table::new([K::NAME, "threads"].into_iter().chain(names));
    let mut larder = HashMap::new();
    let (mut sequences, mut hops) = (Sequences::new(), Vec::new());
    for row in rows {
        let wanted = |n: &usize| options.threads.is_empty() || options.threads.contains(n);
        let threads: Vec<_> = row.threads.iter().copied().filter(wanted).collect();
        let admitted: Vec<_> = contenders.iter().filter(|entrant| row.admits(entrant)).collect();
        let rounds = (options.rounds, options.time);
        let samples = samples(row, &threads, &admitted, &mut sequences, rounds, &mut hops);
        for n in threads {
            let of = |name| samples.get(&(name, n)).map_or(&[][..], Vec::as_slice);
            let label = [format!("{}: {}", row.name, row.what), n.to_string()];
            let cells = contenders.iter().map(|contender| {
                Spread::of(of(contender.name)).map_or_else(|| "-".into(), |s| s.to_string())
            });
            all.row(label.clone().into_iter().chain(cells));

            let best = |maps| {
                let some = admitted.iter().filter(|e| e.is_map() == maps && e.name != LARDER);
                let medians = some.filter_map(|e| Some((e.name, Spread::of(of(e.name))?.median)));
                medians.max_by(|a, b| a.1.total_cmp(&b.1))
            };
            let named = |best: Option<(&str, f64)>| {
                best.map_or_else(|| "-".into(), |(name, rate)| format!("{name} {}", figure(rate)))
            };
            let (cache, map) = (best(false), best(true));
            let times =
                |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |r| format!("{r:.2}"));
            let of_baseline = ratio(of(LARDER), of(BASELINE));
            let aim =
                row.aims.map(|(numbers, strings)| if K::IS_NUMBERS { numbers } else { strings });
            if let Some(own) = Spread::of(of(LARDER)) {
                larder.insert((row.name, n), (own.median, of_baseline.unwrap_or(f64::NAN)));
                aims.row(label.into_iter().chain([
                    own.to_string(),
                    times(of_baseline),
                    aim.map_or_else(|| "-".into(), |aim| format!("{aim:.1}")),
                    named(cache),
                    times(cache.and_then(|(name, _)| ratio(of(LARDER), of(name)))),
                    named(map),
                ]));
            }
        }
    }
    Ok(Tables { aims, all, larder, hops: Spread::of(&hops) })
}

/// How rates grow with threads: hits, the hot key, the mix.
pub fn plot<K: Kind>(rounds: usize, time: Duration) -> Result<String, String> {
    const THREADS: [usize; 4] = [1, 2, 4, 8];
    const DRAWN: [&str; 6] = [LARDER, BASELINE, "moka", "scc", "tinyufo", "papaya"];
    let contenders = select::<K>(&[], &DRAWN)?;
    let mut sequences = Sequences::new();
    let mut plots = Vec::new();
    for (name, title) in
        [("a", "get, 64k entries"), ("c", "get, one hot key"), ("d", "75 % get, 25 % insert")]
    {
        let row = row(name);
        let admitted: Vec<_> = contenders.iter().filter(|entrant| row.admits(entrant)).collect();
        let samples =
            samples(row, &THREADS, &admitted, &mut sequences, (rounds, time), &mut Vec::new());
        let median = |name, n| Spread::of(&samples[&(name, n)]).map_or(0.0, |s| s.median);
        let line = |entrant: &&Entrant<K>| Line {
            name: entrant.name,
            points: THREADS.map(|n| (n as f64, median(entrant.name, n))).to_vec(),
        };
        let lines: Vec<Line> = admitted.iter().map(line).collect();
        for line in &lines {
            eprintln!("{title}: {} {:.1?}", line.name, line.points);
        }
        let rates = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let most = rates.fold(1.0, f64::max);
        plots.push(Plot {
            title: title.into(),
            x: Axis::log("threads", THREADS.map(|n| n as f64).to_vec()),
            y: Axis::up_to("million operations a second", most),
            lines,
        });
    }
    Ok(plot::svg(&plots))
}
