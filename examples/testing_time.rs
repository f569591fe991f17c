//! How to test code that caches: hand it a clock that moves only when the test says so. No sleeps.
//!
//! Run it with `cargo run --example testing_time`; `cargo test --example testing_time` runs the
//! same as tests.

use std::cell::Cell;
use std::time::Duration;

use larder::{Cache, Clock, LoadError};

/// The code under test: prices from a source that is slow to ask, each kept for a minute.
struct Quotes<F> {
    cache: Cache<String, u64>,
    source: F,
}

impl<F: Fn() -> Result<u64, &'static str>> Quotes<F> {
    /// Production code passes `Clock::system()`.
    fn new(clock: Clock, source: F) -> Result<Self, larder::ConfigError> {
        let minute = Duration::from_secs(60);
        let cache =
            Cache::builder().max_entries(1_000).time_to_live(minute).clock(clock).build()?;
        Ok(Self { cache, source })
    }

    fn price(&self, symbol: &str) -> Result<u64, LoadError<&'static str>> {
        self.cache.get_or_load(symbol, || (self.source)())
    }
}

#[cfg_attr(test, test)] // in your own tests, `#[test]`
fn a_price_is_kept_for_a_minute() {
    let market = Cell::new(101);
    let (clock, time) = Clock::manual();
    let quotes = Quotes::new(clock, || Ok(market.get())).unwrap();

    assert_eq!(quotes.price("ACME").unwrap(), 101);
    market.set(102);
    time.advance(Duration::from_secs(59));
    assert_eq!(quotes.price("ACME").unwrap(), 101, "still fresh");
    time.advance(Duration::from_secs(1));
    assert_eq!(quotes.price("ACME").unwrap(), 102, "the minute is over");
}

#[cfg_attr(test, test)]
fn an_outage_is_not_kept() {
    let market = Cell::new(None);
    let quotes = Quotes::new(Clock::manual().0, || market.get().ok_or("closed")).unwrap();

    assert_eq!(quotes.price("ACME").unwrap_err().loader(), Some(&"closed"));
    market.set(Some(103));
    assert_eq!(quotes.price("ACME").unwrap(), 103, "asked again at once");
}

fn main() {
    a_price_is_kept_for_a_minute();
    an_outage_is_not_kept();
    println!("a minute passed and an outage ended, and nothing slept");
}
