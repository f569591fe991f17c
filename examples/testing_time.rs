//! How to test code that caches: hand it a clock that moves only when the test says so, and where the cache
//! loads in the background, a runtime that works only when the test says so. No sleeps.
//!
//! Run it with `cargo run --example testing_time`; `cargo test --example testing_time` runs the
//! same as tests.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use larder::{AsyncLoader, AsyncLoadingCache, Cache, CacheBuilder, Clock, ConfigError};
use larder::{LoadCx, LoadError, Loaded, RefreshAhead, SteppingRuntime};

/// The code under test: prices from a source that is slow to ask, each kept for a minute.
struct Quotes<F> {
    cache: Cache<String, u64>,
    source: F,
}

impl<F: Fn() -> Result<u64, &'static str>> Quotes<F> {
    /// Production code passes `Clock::system()`.
    fn new(clock: Clock, source: F) -> Result<Self, ConfigError> {
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

/// An exchange that is asked over the network.
#[derive(Clone, Default)]
struct Exchange(Arc<AtomicU64>);

impl AsyncLoader<String, u64> for Exchange {
    type Error = &'static str;

    async fn load(&self, _: &String, _: &LoadCx<u64>) -> Result<Loaded<u64>, &'static str> {
        Ok(self.0.load(Relaxed).into())
    }
}

/// The second piece of code under test: prices that are kept for a minute, and loaded again in the background when
/// they are asked for in its last 12 seconds. Production code passes a plain `Cache::builder()` (with the feature
/// `tokio`, or a runtime of its own).
fn ticker(
    builder: CacheBuilder<String, u64>,
    exchange: Exchange,
) -> Result<AsyncLoadingCache<String, u64, Exchange>, ConfigError> {
    builder
        .max_entries(1_000)
        .time_to_live(Duration::from_secs(60))
        .refresh_ahead(RefreshAhead::At(0.8))
        .detached_loads()
        .build_loading_async(exchange)
}

#[cfg_attr(test, tokio::test)] // in your own tests, `#[tokio::test]`
#[cfg_attr(not(test), tokio::main(flavor = "current_thread"))]
async fn a_price_in_use_is_renewed_in_the_background() {
    let (clock, time) = Clock::manual();
    let background = SteppingRuntime::new();
    let exchange = Exchange::default();
    let builder = Cache::builder().clock(clock).runtime(background.clone());
    let prices = ticker(builder, exchange.clone()).unwrap();

    exchange.0.store(101, Relaxed);
    // detached, the load runs in the background too: so that has to run while the caller waits
    assert_eq!(background.run_until(prices.load("ACME")).await.unwrap(), 101);

    exchange.0.store(102, Relaxed);
    time.advance(Duration::from_secs(50));
    assert_eq!(prices.get("ACME"), Some(101), "nobody waits");
    assert_eq!(background.ready(), 1, "the refresh, which has not begun");
    background.run_until_stalled();
    assert_eq!(prices.get("ACME"), Some(102));
}

fn main() {
    a_price_is_kept_for_a_minute();
    an_outage_is_not_kept();
    a_price_in_use_is_renewed_in_the_background();
    println!("a minute passed, an outage ended, a price was renewed, and nothing slept");
}
