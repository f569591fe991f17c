//! What refreshing ahead of need is worth: an hour of a popular key, simulated to the millisecond.

mod common;

use common::tasks::Task;
use common::{ms, watched};
use larder::{AsyncLoader, Cache, Clock, LoadCx, Loaded, RefreshAhead, SteppingRuntime};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Poll, Waker};

/// In milliseconds.
const TTL: u64 = 60_000;
const LOAD: u64 = 200;
const MINUTE: u64 = 60_000;

/// A source that takes its time, by the simulation's clock.
#[derive(Clone, Default)]
struct Slow(Arc<Inner>);

#[derive(Default)]
struct Inner {
    now: AtomicU64,
    sleeping: Mutex<Vec<(u64, Waker)>>,
}

impl Slow {
    /// Moves its clock, and wakes whom that concerns.
    fn reach(&self, now: u64) {
        self.0.now.store(now, Relaxed);
        self.0.sleeping.lock().retain(|(until, waker)| {
            let sleeps = *until > now;
            if !sleeps {
                waker.wake_by_ref();
            }
            sleeps
        });
    }

    fn is_idle(&self) -> bool {
        self.0.sleeping.lock().is_empty()
    }
}

impl AsyncLoader<u32, u64> for Slow {
    type Error = Infallible;

    async fn load(&self, _: &u32, _: &LoadCx<u64>) -> Result<Loaded<u64>, Infallible> {
        let until = self.0.now.load(Relaxed) + LOAD;
        poll_fn(|task| {
            if self.0.now.load(Relaxed) >= until {
                return Poll::Ready(());
            }
            self.0.sleeping.lock().push((until, task.waker().clone()));
            Poll::Pending
        })
        .await;
        Ok(Loaded::new(until))
    }
}

#[derive(Debug)]
struct Run {
    loads: u64,
    /// In percent of what it takes without.
    extra: f64,
    /// Callers that had to wait for a load; the very first one, which nobody can spare, is not
    /// among them.
    waits: u64,
}

/// A request a millisecond for one key, for so many minutes.
fn simulate(minutes: u64, when: RefreshAhead) -> Run {
    let end = minutes * MINUTE;
    let (clock, hand) = Clock::manual();
    let (source, runtime) = (Slow::default(), SteppingRuntime::new());
    let cache = Cache::builder()
        .max_entries(10)
        .time_to_live(ms(TTL))
        .refresh_ahead(when)
        .seed(1)
        .clock(clock)
        .runtime(runtime.clone())
        .build_loading_async(source.clone())
        .unwrap();
    let checked = watched(&cache);
    let mut waits = 0;
    let mut waiting = Vec::new();
    for now in 1..=end {
        hand.advance(ms(1));
        source.reach(now);
        if runtime.ready() > 0 {
            runtime.run_until_stalled();
        }
        waiting.retain_mut(|task: &mut Task<'_, _>| task.poll().is_pending());
        if cache.get(&1).is_none() {
            let mut task = Task::new(cache.load(&1));
            waits += u64::from(task.poll().is_pending());
            waiting.push(task);
        }
    }
    // the last load, if there is one, has its end
    source.reach(end + LOAD);
    runtime.run_until_stalled();
    waiting.retain_mut(|task| task.poll().is_pending());
    assert!(waiting.is_empty() && source.is_idle());
    drop(checked);
    let loads = cache.stats().loads;
    let extra = 100.0 * loads as f64 / (end / TTL) as f64 - 100.0;
    let run = Run { loads, extra, waits: waits - LOAD };
    println!(
        "{minutes} minutes, {when:?}: {loads} loads ({extra:+.1} %), {} callers waited",
        run.waits
    );
    run
}

/// Vattani, Chierichetti, Lowenstein (2015), and the simpler rule for comparison.
#[test]
fn an_hour_of_a_popular_key_without_a_caller_that_waits() {
    let never = simulate(10, RefreshAhead::Never);
    let at = simulate(60, RefreshAhead::At(0.9));
    let cost_aware = simulate(60, RefreshAhead::CostAware { beta: 1.0 });
    assert!(never.loads == 10 && never.waits > 1_000, "{never:?}");
    assert!(at.waits == 0 && at.extra >= 10.0, "{at:?}");
    assert!(cost_aware.waits == 0 && cost_aware.extra < 3.0, "{cost_aware:?}");
}
