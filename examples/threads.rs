//! Plain threads that ask for the same cold key at the same moment share one load.
//!
//! Run it with `cargo run --example threads`.

use std::num::ParseFloatError;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, LoadError};

const THREADS: usize = 8;
static LOADS: AtomicU32 = AtomicU32::new(0);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache: Cache<String, f64> = Cache::new(1_000);
    ask_together("a cold key", &cache)?;
    ask_together("a cached key", &cache)?;
    println!("removed: {:?}", cache.remove("outside"));
    ask_together("a removed key", &cache)?;

    let stats = cache.stats();
    println!(
        "lookups that hit: {}, that missed: {}, of which waited for another's load: {}",
        stats.hits, stats.misses, stats.joined
    );
    Ok(())
}

/// Has all threads ask for the same key at once, and prints how many loads that took.
fn ask_together(what: &str, cache: &Cache<String, f64>) -> Result<(), LoadError<ParseFloatError>> {
    let loads_before = LOADS.load(Relaxed);
    let started = Instant::now();
    let together = Barrier::new(THREADS);
    let ask = || {
        together.wait();
        cache.get_or_load("outside", read_sensor)
    };
    thread::scope(|s| {
        let callers: Vec<_> = (0..THREADS).map(|_| s.spawn(ask)).collect();
        callers.into_iter().try_for_each(|caller| caller.join().expect("no panic").map(drop))
    })?;
    let loads = LOADS.load(Relaxed) - loads_before;
    println!("{THREADS} threads, {what}: loads {loads}, {} ms", started.elapsed().as_millis());
    Ok(())
}

/// Stands for a sensor: it takes 100 ms, may answer nonsense, and counts how often it is asked.
fn read_sensor() -> Result<f64, ParseFloatError> {
    let n = LOADS.fetch_add(1, Relaxed) + 1;
    thread::sleep(Duration::from_millis(100));
    format!("20.{n}").parse()
}
