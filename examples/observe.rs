//! What an operator sees of a cache: events for the log, counts for Prometheus, and an explanation of a key's
//! state.
//!
//! Run it with `cargo run --example observe`.

use larder::{Cache, Clock, RefreshAhead, SteppingRuntime};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a Prometheus server is told of one cache, of whatever types.
fn metrics<K, V>(cache: &Cache<K, V>) -> Vec<String> {
    let (stats, name) = (cache.stats(), cache.name().unwrap_or("unnamed"));
    let line = |what: &str, n: f64| format!("cache_{what}{{cache=\"{name}\"}} {n}\n");
    let mut lines: Vec<_> =
        stats.counts().map(|(count, n)| line(&format!("{count}_total"), n as f64)).collect();
    lines.push(line("load_seconds_total", stats.load_time.as_secs_f64()));
    lines.push(line("entries", cache.len() as f64));
    lines.push(line("weight", cache.weight() as f64)); // the same, unless there is a weigher
    lines.push(line("capacity", cache.capacity().map_or(f64::INFINITY, |bound| bound as f64)));
    lines
}

/// What it fetches from `/metrics`.
fn page(mut lines: Vec<String>) -> String {
    lines.sort(); // the lines of one metric, one for each cache, have to stand together
    lines.concat()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let is_down = Arc::new(AtomicBool::new(false));
    let source = Arc::clone(&is_down);
    let (clock, hand) = Clock::manual();
    let background = SteppingRuntime::new();
    let rates = Cache::builder()
        .name("rates")
        .max_entries(1_000)
        .time_to_live(Duration::from_secs(60))
        .refresh_ahead(RefreshAhead::At(0.5))
        .stale_if_error(Duration::from_secs(600))
        .error_backoff(Duration::from_secs(1), Duration::from_secs(30))
        .circuit_breaker(3, Duration::from_secs(10))
        // the text of an error of your own type is not in there: see `Event`
        .on_event(|event| println!("log: rates: {event}"))
        .clock(clock)
        .runtime(background.clone())
        .build_loading_fn(move |id: &u64| {
            if source.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the exchange"));
            }
            Ok(*id as f64 * 1.5)
        })?;

    println!("1 is {}", rates.load(&1)?);
    is_down.store(true, Ordering::Relaxed);
    // a refresh in the background: no caller hears that it fails, but the log does
    for seconds in [40, 10, 20] {
        hand.advance(Duration::from_secs(seconds));
        println!("1 is {}", rates.load(&1)?);
        background.run_until_stalled();
    }
    println!("\n{}\n", rates.explain(&1));
    is_down.store(false, Ordering::Relaxed);
    hand.advance(Duration::from_secs(31));
    println!("1 is {}", rates.load(&1)?);
    let names: Cache<u64, String> = Cache::builder().name("names").max_entries(100).build()?;
    print!("\n{}", page([metrics(&rates), metrics(&names)].concat()));
    Ok(())
}
