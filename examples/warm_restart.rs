//! A process that saves its cache when it ends, and one that begins where that left off, compared with a cold
//! start.
//!
//! Run it with `cargo run --release --example warm_restart --features snapshot`. It fills a cache with
//! a million entries, and then starts itself again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use larder::{Cache, Restored, SnapshotError};
use serde::{Deserialize, Serialize};

const ENTRIES: u64 = 1_000_000;
const REQUESTS: u64 = 10_000;

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u32,
    stars: f32,
}

type Products = Cache<u64, Product>;

fn products() -> Products {
    let builder = Cache::builder().max_entries(2 * ENTRIES);
    builder.time_to_live(Duration::from_secs(3_600)).build().expect("legal settings")
}

/// Stands for a query.
fn select(id: u64) -> Product {
    Product { name: format!("Product {id}, as described"), cents: id as u32, stars: 4.5 }
}

fn first_life(file: &Path) -> Result<(), SnapshotError> {
    let products = products();
    for id in 0..ENTRIES {
        products.get_or_insert_with(&id, || select(id));
    }
    let started = Instant::now();
    let saved = products.save_to_file(file)?;
    let megabytes = saved.bytes as f64 / 1e6;
    println!("{:<34}{:>12}", "entries saved", saved.entries);
    println!("{:<34}{:>12.2?}", "time to save", started.elapsed());
    println!("{:<34}{megabytes:>9.1} MB", "file");
    Ok(())
}

fn second_life(file: &Path) -> Result<(), SnapshotError> {
    let (warm, cold) = (products(), products());
    let started = Instant::now();
    let Restored { restored, .. } = warm.load_from_file(file)?;
    println!("{:<34}{restored:>12}", "entries restored");
    println!("{:<34}{:>12.2?}", "time to load", started.elapsed());
    for (start, cache) in [("cold", cold), ("warm", warm)] {
        let mut random = 1_u64;
        for _ in 0..REQUESTS {
            random ^= random << 13; // xorshift
            random ^= random >> 7;
            random ^= random << 17;
            // as many requests for the first 2 as for the next 2, the next 4, 8, .. 524,288
            let id = (random >> 32) % (2 << (random % 20));
            cache.get_or_insert_with(&id, || select(id));
        }
        let stats = cache.stats();
        let ratio = 100.0 * stats.hit_ratio();
        println!(
            "first {REQUESTS} requests, {start} start {ratio:>13.1} %, {} queries",
            stats.loads
        );
    }
    Ok(())
}

fn main() -> Result<(), SnapshotError> {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    if let Some(file) = args.next() {
        return second_life(Path::new(&file));
    }
    let file = std::env::temp_dir().join(format!("larder-{}.snapshot", std::process::id()));
    let outcome = first_life(&file).and_then(|()| Ok(Command::new(program).arg(&file).status()?));
    _ = std::fs::remove_file(&file);
    outcome.map(drop)
}
