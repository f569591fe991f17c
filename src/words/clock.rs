//! The clock of a cache, and alarms by it.
//!
//! Everything timed in the crate asks a [`Clock`] and nothing else, so that a test can control time.

mod manual;
#[cfg(any(larder_loom, larder_shuttle))]
mod explored;
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) mod system;
#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
pub(crate) mod tests;

#[cfg(all(test, any(larder_loom, larder_shuttle)))]
mod explored_tests;

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

#[cfg(any(larder_loom, larder_shuttle))]
use self::explored as system;
use super::alarms::AlarmTicket;
use super::keeper;
use super::sync::thread;
use super::tick::{BELOW, Tick};
use super::unpark::Unpark;

pub(crate) use super::keeper::ScheduledJob;
use manual::Hand;
pub use manual::ManualClock;
pub(crate) use system::{STILL, TRUST, Ticking};

/// What clocks show when they begin: 25 days. Not 0, which can so mean "none"; and large enough to express that
/// the life of a value from another process ended before this process began.
const START: Tick = 1 << 31;
/// Where a manual clock stops: 69 years from its zero. One bit below what ticks may use, so that
/// a time of day plus a life does not leave the range at once.
const LAST: Tick = (1 << 41) - 1;
const NANOS: u64 = 1_000_000;

/// Where a cache gets the time from.
///
/// The system clock is monotonic: it runs on when the wall clock is set, and does not count the time a
/// machine sleeps. It is read on every look-up of an entry that can expire, so it is a coarse clock: a value
/// may be served a few milliseconds beyond its expiry (seldom more than 10, on a machine with far more busy
/// threads than cores).
///
/// A manual clock stands still until it is advanced, and everything timed obeys it: lives, windows,
/// back-off, and the timeouts of callers who wait.
///
/// ```
/// use larder::Clock;
/// use std::time::Duration;
///
/// let (clock, hand) = Clock::manual();
/// # let _ = clock;
/// // build a cache with `clock`, fill it, and then
/// hand.advance(Duration::from_secs(300));
/// ```
#[derive(Clone, Debug)]
pub struct Clock(TimeSource);

/// What the system clock shows, to be compared with words that have a tick on top: what is greater is
/// still to come. The cheapest reading there is; who goes by it often calls [`Clock::compare`] once in
/// [`TRUST`] times. [`STILL`] or more where nobody winds the clock: then only what never comes is greater.
#[inline]
pub(crate) fn shown() -> u64 {
    system::glance()
}

#[derive(Clone, Debug)]
enum TimeSource {
    System,
    Manual(Arc<Hand>),
}

impl Clock {
    /// Returns the clock of the machine. All its copies are the same clock.
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    /// Returns a clock that only moves when the [`ManualClock`] beside it is advanced.
    ///
    /// Nothing happens behind a test's back: a cache with a manual clock frees what expired when it
    /// is used or when its `sweep` is called, and never by itself.
    pub fn manual() -> (Self, ManualClock) {
        Self::manual_at(Duration::ZERO)
    }

    /// A manual clock that has run for `start` already, for tests near the ends of its range.
    #[doc(hidden)]
    pub fn manual_at(start: Duration) -> (Self, ManualClock) {
        let hand = Arc::new(Hand::at(start));
        (Self(TimeSource::Manual(Arc::clone(&hand))), ManualClock(hand))
    }

    /// The time. It never steps back, for one thread or from one to the next.
    #[inline]
    pub(crate) fn now(&self) -> Tick {
        match &self.0 {
            TimeSource::System => system::now(),
            TimeSource::Manual(hand) => hand.now(),
        }
    }

    /// Whether `at` is still to come, by the cheapest reading there is. `false` means only that
    /// [`now`](Self::now) is to be asked. A caller that asks this often must call [`compare`](Self::compare) now
    /// and then.
    pub(crate) fn is_before(&self, at: Tick) -> bool {
        match &self.0 {
            TimeSource::System => shown() < STILL && shown() >> BELOW < at,
            TimeSource::Manual(hand) => hand.now() < at,
        }
    }

    /// Compares what [`is_before`](Self::is_before) goes by with the machine's own clock.
    #[inline]
    pub(crate) fn compare(&self) {
        if let TimeSource::System = self.0 {
            system::look();
        }
    }

    /// The tick at which `ticks` have passed for sure. [`now`](Self::now) may lag a few milliseconds
    /// behind, and what is measured from there would be over as much too early.
    pub(crate) fn after(&self, ticks: u64) -> Tick {
        let now = self.precise().as_nanos().div_ceil(NANOS.into());
        u64::try_from(now).unwrap_or(u64::MAX).saturating_add(ticks)
    }

    /// By how many ticks [`now`](Self::now) may lag behind, but for a machine with far too much to do. A time
    /// that is measured from one reading to another may be over so much too early.
    pub(crate) fn lag(&self) -> u64 {
        // the kernel's coarse clock moves every 10 ms or more often, a wound one is seldom as late as that
        if self.is_manual() { 0 } else { 10 }
    }

    /// The exact time since the clock's zero. It may be a few milliseconds ahead of
    /// [`now`](Self::now), and costs some ten times as much.
    pub(crate) fn precise(&self) -> Duration {
        match &self.0 {
            TimeSource::System => system::precise(),
            TimeSource::Manual(hand) => hand.precise(),
        }
    }

    /// Whether time only moves by hand.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, TimeSource::Manual(_))
    }

    /// Wakes `waker` once, at `at` or soon after it; whoever is woken finds that [`now`](Self::now)
    /// is at least `at`. If that is so already, it is woken on the spot: hold no lock here. To drop
    /// the alarm takes it back.
    #[must_use = "an alarm that is dropped does not ring"]
    pub(crate) fn alarm(&self, at: Tick, waker: Waker) -> Alarm {
        let set = match &self.0 {
            TimeSource::System => keeper::alarm(at, waker).map(Set::Keeper),
            TimeSource::Manual(hand) => {
                hand.alarm(at, waker).map(|ticket| Set::Hand(Arc::clone(hand), ticket))
            }
        };
        Alarm(set)
    }

    /// Parks this thread until it is unparked or `at` has come; without `at`, until it is unparked.
    /// May return early.
    pub(crate) fn park_until(&self, at: Option<Tick>) {
        let Some(at) = at else {
            return thread::park();
        };
        match &self.0 {
            TimeSource::System => system::park_until(at),
            TimeSource::Manual(_) => {
                let alarm = self.alarm(at, Unpark::this().into());
                thread::park();
                drop(alarm);
            }
        }
    }

    /// Runs `job` at `at` or soon after it on a thread of its own, if it is alive by then. Under a
    /// manual clock it is never run: the owner of the cache sweeps.
    pub(crate) fn schedule(&self, at: Tick, job: Weak<dyn ScheduledJob>) {
        if !self.is_manual() {
            keeper::schedule(at, job);
        }
    }

    /// Does work that an alarm called for and in which the user's code may run: aside, so that the other
    /// alarms do not wait for it. Under a manual clock at once, where it was advanced.
    pub(crate) fn aside(&self, work: impl FnOnce() + Send + 'static) {
        match self.0 {
            #[cfg(not(any(larder_loom, larder_shuttle)))]
            TimeSource::System => super::aside::run(Box::new(work)),
            _ => work(),
        }
    }

    /// While what this returns lives, a system clock may be wound by the keeper thread, which makes
    /// [`now`](Self::now) as cheap as a load while it is read often. None where there is nothing to
    /// gain.
    pub(crate) fn keep_ticking(&self) -> Option<Ticking> {
        match self.0 {
            TimeSource::System => Ticking::start(),
            TimeSource::Manual(_) => None,
        }
    }
}

/// An alarm that was set. To drop it takes it back.
pub(crate) struct Alarm(Option<Set>);

enum Set {
    Keeper(AlarmTicket),
    Hand(Arc<Hand>, AlarmTicket),
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.as_ref().map(|set| match set {
            Set::Keeper(ticket) | Set::Hand(_, ticket) => ticket.0,
        });
        f.debug_tuple("Alarm").field(&at).finish()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        match self.0.take() {
            None => (),
            Some(Set::Keeper(ticket)) => keeper::take_back(ticket),
            Some(Set::Hand(hand, ticket)) => hand.take_back(ticket),
        }
    }
}
