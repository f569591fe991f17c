//! Loads a second around the expiry of what was loaded at once, without jitter and with it: the
//! plot in the crate's documentation.
//!
//! `cargo run --release --manifest-path benches/policies/Cargo.toml --bin jitter`

use larder::{Cache, Clock};
use policies::page;
use policies::plot::{self, Axis, Line, Plot};
use std::convert::Infallible;
use std::time::Duration;

const KEYS: u64 = 10_000;
const TTL: u32 = 300;
/// The seconds that are shown.
const SHOWN: std::ops::RangeInclusive<u32> = 255..=315;

/// All keys are loaded in one second, and asked for in each one after it. How many loads there are
/// in the seconds around the expiry.
fn loads(jitter: f64) -> Vec<(f64, f64)> {
    let (clock, hand) = Clock::manual();
    let cache: Cache<u64, u64> = Cache::builder()
        .max_entries(2 * KEYS)
        .time_to_live(Duration::from_secs(TTL.into()))
        .jitter(jitter)
        .seed(1)
        .clock(clock)
        .build()
        .expect("a legal configuration");
    let mut loads = Vec::new();
    for second in 0..=*SHOWN.end() {
        let before = cache.stats().loads;
        for key in 0..KEYS {
            let Ok(_) = cache.get_or_load(&key, || Ok::<_, Infallible>(key)) else {
                unreachable!("its loader cannot fail")
            };
        }
        loads.push((f64::from(second), (cache.stats().loads - before) as f64));
        hand.advance(Duration::from_secs(1));
    }
    loads.split_off(*SHOWN.start() as usize)
}

fn main() -> std::io::Result<()> {
    let lines: Vec<Line> = [("jitter 0.1", 0.1), ("jitter 0", 0.0)]
        .map(|(name, jitter)| Line { name, points: loads(jitter) })
        .into();
    for Line { name, points } in &lines {
        let most = points.iter().map(|(_, loads)| *loads).fold(0.0, f64::max);
        println!("{name}: {most} loads in the busiest second");
    }
    let plot = Plot {
        title: "10,000 values, TTL 300 s".to_owned(),
        x: Axis {
            label: "seconds since all of them were loaded",
            ticks: (0..=4).map(|n| 255.0 + 15.0 * f64::from(n)).collect(),
            is_log: false,
        },
        y: Axis::up_to("loads a second", KEYS as f64),
        lines,
    };
    page::plot("jitter", &plot::svg(&[plot]))
}
