//! What an insert costs while a cache grows from nothing to ten million entries.

use std::time::Instant;

use crate::contender::{Contender, Kind, Numbers, select};
use policies::table::{Spread, Table, figure};

/// Entries at which a part ends.
const DECADES: [(&str, u64); 5] = [
    ("to 1k", 1_000),
    ("to 10k", 10_000),
    ("to 100k", 100_000),
    ("to 1M", 1_000_000),
    ("to 10M", 10_000_000),
];

const TIMED: [&str; 8] =
    ["larder", "quick_cache", "moka", "mini-moka", "foyer-lru", "cached", "scc", "tinyufo"];

/// Who would take minutes for ten million, and stops at a million unless asked for by name.
const SLOW: [&str; 3] = ["moka", "mini-moka", "tinyufo"];

/// Nanoseconds an insert, and the longest one, of each decade. The clock is read once an insert,
/// whose end is the beginning of the next.
fn run(cache: &dyn Contender<Numbers>, decades: &[(&str, u64)]) -> Vec<(f64, f64)> {
    let mut from = 0;
    let mut parts = Vec::new();
    for (_, to) in decades {
        let began = Instant::now();
        let (mut last, mut longest) = (began, 0);
        for id in from..*to {
            let key = Numbers::key(id);
            cache.insert(&key, id);
            let now = Instant::now();
            longest = longest.max((now - last).as_nanos());
            last = now;
        }
        parts.push(((last - began).as_nanos() as f64 / (to - from) as f64, longest as f64));
        from = *to;
    }
    parts
}

/// `most`: the last decade that is measured, in entries.
pub fn table(rounds: usize, only: &[String], most: u64) -> Result<Table, String> {
    let contenders = select::<Numbers>(only, &TIMED)?;
    let decades: Vec<_> = DECADES.into_iter().filter(|(_, to)| *to <= most).collect();
    let mut results = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for i in 0..contenders.len() {
            let i = (i + round) % contenders.len();
            let is_slow = only.is_empty() && SLOW.contains(&contenders[i].name);
            let decades = &decades[..if is_slow { decades.len().min(4) } else { decades.len() }];
            // twice, so that nothing is evicted however unevenly shards fill
            let cache = (contenders[i].build)(2 * most);
            results[i].push(run(&*cache, decades));
            eprintln!("growth: round {} of {rounds}, {}", round + 1, contenders[i].name);
        }
    }
    let labels = decades.iter().map(|(label, _)| format!("{label}: ns an insert, longest in us"));
    let mut table = Table::new(["u64 to u64".into()].into_iter().chain(labels));
    for (contender, rounds) in contenders.iter().zip(&results) {
        let cell = |i: usize| {
            let of = |f: fn(&(f64, f64)) -> f64| {
                let round = |round: &Vec<_>| round.get(i).map(f);
                Spread::of(&rounds.iter().filter_map(round).collect::<Vec<_>>())
            };
            match (of(|part| part.0), of(|part| part.1 / 1e3)) {
                // what the machine did meanwhile is in the longest call of one round, a resize in
                // that of each
                (Some(cost), Some(longest)) => {
                    format!("{}, {}", figure(cost.median), figure(longest.min))
                }
                _ => "-".into(),
            }
        };
        table.row([contender.name.to_owned()].into_iter().chain((0..decades.len()).map(cell)));
    }
    Ok(table)
}
