//! Instructions of one hit, counted by valgrind: nearly the same everywhere, whatever else runs.
//!
//! By cachegrind without its caches, which counts what callgrind counts at three times the speed.
//! larder's clock is wound for readers while they read 250,000 times a second: its row with a time to
//! live is that of a still clock, by reading less often. Without a time to live the count is that of a
//! wound clock, but for an instruction or two.

use std::env;
use std::error::Error;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::contender::{Contender, Kind, LARDER, Larder, Numbers, Op, Strings, select};
use policies::table::{Table, figure};

const ENTRIES: u64 = 1_024;
/// A shorter and a longer run, whose difference is taken.
const FEW: u64 = 1 << 19;
const MANY: u64 = 1 << 20;

/// So many hits, and then a rest: 50,000 a second at most.
const SPELL: usize = 256;
const REST: Duration = Duration::from_millis(5);

const NO_TTL: &str = "larder, no TTL";

const COUNTED: [&str; 12] = [
    "larder",
    "quick_cache",
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

/// What is run under valgrind: so many hits of one contender.
pub fn spin(name: &str, is_strings: bool, hits: u64) -> Result<(), String> {
    fn of<K: Kind>(name: &str, hits: u64) -> Result<(), String> {
        let cache: Box<dyn Contender<K>> = if name == NO_TTL {
            Box::new(Larder::timeless(2 * ENTRIES))
        } else {
            (select::<K>(&[name.to_owned()], &[])?[0].build)(2 * ENTRIES)
        };
        let keys: Vec<_> = (0..ENTRIES).map(K::key).collect();
        for key in &keys {
            cache.insert(key, K::value(key));
        }
        cache.settle();
        let mut left = hits as usize;
        while left > 0 {
            let batch = left.min(SPELL);
            let from = left / SPELL % (keys.len() / SPELL) * SPELL;
            cache.run(Op::Get, &keys[from..from + batch]);
            left -= batch;
            if name == LARDER {
                thread::sleep(REST);
            }
        }
        Ok(())
    }
    if is_strings { of::<Strings>(name, hits) } else { of::<Numbers>(name, hits) }
}

/// Instructions that valgrind counted in a run.
fn count(name: &str, is_strings: bool, hits: u64) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    valgrind.arg(env::current_exe()?).args(["spin", name, &hits.to_string()]);
    if is_strings {
        valgrind.arg("--strings");
    }
    let told = valgrind.output().map_err(|e| format!("valgrind did not start: {e}"))?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let counted = told.lines().find_map(|line| line.split_once("refs:"));
    let figure = counted.and_then(|(_, figure)| figure.trim().replace(',', "").parse().ok());
    Ok(figure.ok_or_else(|| format!("valgrind counted nothing: {told}"))?)
}

pub fn table(only: &[String]) -> Result<Table, Box<dyn Error>> {
    let contenders = select::<Numbers>(only, &COUNTED)?;
    let mut table = Table::new(["instructions a hit", "u64", "String"]);
    let mut names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    if let Some(own) = names.iter().position(|name| *name == LARDER) {
        names.insert(own + 1, NO_TTL);
    }
    for name in names {
        let of = |is_strings| -> Result<f64, Box<dyn Error>> {
            let few = count(name, is_strings, FEW)?;
            let many = count(name, is_strings, MANY)?;
            Ok(many.saturating_sub(few) as f64 / (MANY - FEW) as f64)
        };
        table.row([name.into(), figure(of(false)?), figure(of(true)?)]);
    }
    Ok(table)
}
