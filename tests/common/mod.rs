//! What the tests share: a cache that is checked when it goes, loaders opened by hand, a watchdog.
//!
//! A concurrent test here waits for what it can see (a loader that was entered, a caller that is
//! counted as waiting) and never for time. Time is a manual clock's. Locks are `parking_lot`'s: what those
//! of std order is not seen by the thread sanitizer where they are contended.

// every test binary compiles all of this and uses its own part
#![allow(dead_code)]

pub(crate) mod doubles;
pub(crate) mod gate;
pub(crate) mod tasks;

use larder::{Cache, CacheBuilder, Clock, ManualClock, Removal, RemovalCause};
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hash};
use std::io::Write;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How long a test may take. The longest take some seconds on a quiet machine, ten times that under a
/// sanitizer, and a machine that has other work as well is slower again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Ends the whole process, with the test's name, if the test is not done in time: a hang is a
/// failure, and a thread that hangs cannot be failed otherwise.
pub(crate) struct Watchdog(#[allow(dead_code)] Sender<()>);

impl Watchdog {
    pub(crate) fn start() -> Self {
        Self::with_limit(std::thread::current().name().unwrap_or("a test"), PATIENCE)
    }

    pub(crate) fn with_limit(test: &str, patience: Duration) -> Self {
        let test = test.to_owned();
        let (alive, heard) = channel::<()>();
        std::thread::spawn(move || {
            if heard.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                // not by a macro: those are captured, and what is captured dies with the process
                let line = format!("\n{test}: not done after {patience:?}, which is a hang\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// From here on nobody prints that a thread panics as its test expects, for tests in which several do so at
/// once: the test harness takes that down under a lock of std, which the thread sanitizer does not see. What
/// is not expected is still printed.
pub(crate) fn silence_expected_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        if !text.is_some_and(|text| text.starts_with("expected: ")) {
            print(panic);
        }
    }));
}

/// Spins until `holds`. For states that nothing wakes us for; under a [`Watchdog`].
pub(crate) fn wait_until(holds: impl Fn() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

/// Drops the last handle of a cache, which waits for its tier to have the last changes, but for a second
/// only. Where a busy machine has not made them by then, waits for what they come to.
pub(crate) fn parting(drop_last: impl FnOnce(), has_come: impl Fn() -> bool) {
    let begun = Instant::now();
    drop_last();
    if begun.elapsed() >= secs(1) {
        wait_until(has_come);
    }
}

/// A cache that is validated at the end of its test, under a watchdog until then.
pub(crate) struct Checked<K, V, S = ahash::RandomState>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    cache: Cache<K, V, S>,
    _watchdog: Watchdog,
}

pub(crate) fn checked<K, V, S>(builder: CacheBuilder<K, V, S>) -> Checked<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    let cache = builder.build().expect("a legal configuration");
    Checked { cache, _watchdog: Watchdog::start() }
}

/// The same for a cache that was built already, one with a loader of its own say. Holds a handle.
pub(crate) fn watched<K, V, S>(cache: &Cache<K, V, S>) -> Checked<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    Checked { cache: cache.clone(), _watchdog: Watchdog::start() }
}

impl<K, V, S> Checked<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Waits until so many callers have begun to wait for somebody else's load.
    pub(crate) fn wait_until_joined(&self, callers: u64) {
        wait_until(|| self.stats().joined >= callers);
    }
}

impl<K, V, S> Deref for Checked<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Target = Cache<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.cache
    }
}

impl<K, V, S> Drop for Checked<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.cache.validate();
        assert_eq!(self.cache.flights(), 0, "a load is in flight after the last caller went");
    }
}

/// A listener that writes down what it is told.
pub(crate) struct Record<K, V>(Arc<Mutex<Vec<(K, V, RemovalCause)>>>);

impl<K, V> Clone for Record<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Record<K, V> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// What to give to `on_removal`.
    pub(crate) fn listener(&self) -> impl Fn(Removal<K, V>) + Send + Sync + 'static
    where
        K: Send + 'static,
        V: Send + 'static,
    {
        let told = Arc::clone(&self.0);
        move |removal| {
            let line = (removal.key, removal.value, removal.cause);
            told.lock().push(line);
        }
    }

    /// What it was told since it was asked last.
    pub(crate) fn take(&self) -> Vec<(K, V, RemovalCause)> {
        std::mem::take(&mut self.0.lock())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.lock().len() as u64
    }
}

/// What most tests need: a checked cache, its clock's hand, what its listener was told.
pub(crate) struct Fixture {
    pub(crate) cache: Checked<u64, u64>,
    pub(crate) hand: ManualClock,
    pub(crate) removals: Record<u64, u64>,
    /// Which of the variants this is, for messages.
    pub(crate) variant: &'static str,
    /// The time as the clock tells it, since the fixture was made.
    elapsed: Mutex<Duration>,
}

impl Fixture {
    pub(crate) fn advance(&self, by: Duration) {
        *self.elapsed.lock() += by;
        self.hand.advance(by);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        *self.elapsed.lock()
    }
}

impl Deref for Fixture {
    type Target = Checked<u64, u64>;

    fn deref(&self) -> &Self::Target {
        &self.cache
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("variant: {}", self.variant);
            return;
        }
        let told = self.stats();
        let left = told.replaced + told.removed + told.expired + told.evicted;
        let missing = self.len() - values(&self.cache);
        assert_eq!(
            told.insertions,
            left + self.len() - missing,
            "what was stored is what left and what is there"
        );
    }
}

/// How many values a cache holds, freed or not; what is left in `len` are cached "not found".
fn values(cache: &Cache<u64, u64>) -> u64 {
    let stats = cache.stats();
    stats.insertions - stats.replaced - stats.removed - stats.expired - stats.evicted
}

/// Runs a test over one shard and several, bounded by entries and by weight, with a manual clock
/// and a recording listener; `settings` adds what the test is about. The bound is wide: what is
/// about evictions says its own.
pub(crate) fn with_cache(
    settings: impl Fn(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>,
    test: impl Fn(&Fixture),
) {
    for shards in [1, 4] {
        for (variant, weighted) in [("entries", false), ("weight", true)] {
            let (clock, hand) = Clock::manual();
            let removals = Record::new();
            let builder = Cache::builder()
                .shards(shards)
                .seed(42)
                .clock(clock)
                .on_removal(removals.listener());
            let builder = if weighted {
                builder.max_weight(2_000).weigher(|_, _| 2)
            } else {
                builder.max_entries(1_000)
            };
            let fixture = Fixture {
                cache: checked(settings(builder)),
                hand,
                removals,
                variant,
                elapsed: Mutex::default(),
            };
            test(&fixture);
        }
    }
}

/// A load that has to be led: fails the test when it is called.
pub(crate) fn uncalled<T>() -> Result<T, String> {
    panic!("this loader should not have been called")
}
