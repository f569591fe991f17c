//! The system clock: one cell that the keeper thread winds while reads are frequent, and the
//! machine's own clocks behind it.
//!
//! An expiry is compared on every hit, so the clock is part of every hit. Measured on 2 virtual
//! cores (Zen 4, Linux 6.18 with 250 timer interrupts a second), best of 7 loops of 4 million reads:
//! the wound cell 0.86 ns (0.6 without [`TRUST`]), the cell with the coarse clock behind it 5.5 to 6,
//! the exact clock 26. In place, among a lookup's other memory traffic, the clocks cost two to three
//! times that.
//!
//! Lateness against the exact clock, in milliseconds, sampled for 5 s by n threads that spin on those
//! 2 cores, other programs compiling beside them; the worst of three and of four runs:
//!
//! | n | median | 99 % | 99.9 % | 99.9 %, without `TRUST` |
//! |---|---|---|---|---|
//! | 1 | 1.6 | 3.7 | 5.8 | 5.5 |
//! | 2 | 1.6 | 5.9 | 6.1 | 7.8 |
//! | 4 | 1.8 | 6.0 | 6.2 | 116 |
//! | 8 | 2.1 | 6.1 | 6.2 | 63 |
//! | 32 | 2.8 | 6.1 | 6.2 | 133 |
//!
//! The coarse clock alone, which steps once a timer interrupt: 3.8, 5.8, and 5.8 to 6.8. So the goal,
//! 99.9 % under 10 ms, is met, and the thread deserves its place: its cell is six times as cheap as
//! the coarse clock and no later. It costs 0.3 to 1.1 % of a core while it winds (on a machine with
//! nothing else to do a beat takes some 12 us), and nothing when it does not.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;

use super::START;
use crate::words::keeper;
use crate::words::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::words::sync::thread;
use crate::words::tick::{BELOW, Tick};

const NANOS: u64 = 1_000_000;

/// The cell's flag: nobody winds it; readers look at the machine's clock.
pub(crate) const STILL: u64 = 1 << 63;

/// A cell that is wound, and shows the latest time that anybody was told. It is made to be compared with
/// stamps, as they are (`rules/expiry.rs`): those that expire later are greater.
const fn wound(at: Tick) -> u64 {
    at << BELOW | ((1 << BELOW) - 1)
}

/// A cell that stands still: greater than all stamps that expire, less than those that do not, since these
/// were made after [`START`].
const fn stood(at: Tick) -> u64 {
    STILL | at
}

/// The time that a cell has.
const fn time(cell: u64) -> Tick {
    if cell < STILL { cell >> BELOW } else { cell - STILL }
}

/// A thread trusts the wound cell for so many reads, then compares it with the coarse clock, and
/// mends it for everybody. For the scheduler may leave the keeper out for a tenth of a second, when
/// other programs want the cores too; its readers, by definition, run.
pub(crate) const TRUST: u32 = 64;
/// Reads of a still clock within one window that make it worth winding: a quarter of a million a second. A beat
/// costs the keeper 12 us every 2 ms, and saves each hit 14 ns in a tight loop (23 down to 8.8), two to three
/// times that elsewhere: so the two are about even at this rate, but the keeper's work delays no caller.
const WORTH: u64 = 1_000;
/// Windows are 4 ticks (4 ms) long: the step of the coarse clock on most kernels.
const WINDOW_BITS: u32 = 2;
/// Bits of [`READS`] that count; the rest names the window.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// On two lines of its own (the prefetcher fetches pairs), so that no neighbour's writes make
/// readers miss it.
#[repr(align(128))]
struct Alone(AtomicU64);

/// Every time that was ever told went through this cell, and it only grows: hence time never steps
/// back for anybody, whether he reads the cell or a clock, whoever winds it or stops. It is the only
/// word concerned, so relaxed accesses do: they agree on the order of one word's values.
static CELL: Alone = Alone(AtomicU64::new(stood(0)));
/// Reads of the still clock: the window's number above, their count in [`COUNT_BITS`].
static READS: AtomicU64 = AtomicU64::new(0);
thread_local! {
    /// Reads by this thread, for [`TRUST`].
    static TURN: Cell<u32> = const { Cell::new(0) };
}

/// Caches that want the clock wound when they are busy.
static USERS: AtomicUsize = AtomicUsize::new(0);

/// The cell, for a comparison with a stamp. Whoever goes by it calls [`look`] every now and then, as
/// [`now`] does by itself.
#[inline]
pub(crate) fn glance() -> u64 {
    CELL.0.load(Relaxed)
}

/// Whether the cell tells nothing because nobody winds it.
pub(crate) fn is_still() -> bool {
    glance() >= STILL
}

#[inline]
pub(crate) fn now() -> Tick {
    let cell = CELL.0.load(Relaxed);
    let turn = TURN.get().wrapping_add(1);
    TURN.set(turn);
    if cell < STILL && turn % TRUST != 0 { time(cell) } else { look() }
}

/// Compares the cell with the coarse clock, and mends it for everybody.
#[cold]
#[inline(never)]
pub(crate) fn look() -> Tick {
    let now = raise(coarse() / NANOS);
    if is_still() && wanted() {
        count(now);
    }
    now
}

/// Counts a read of the still clock, and has it wound if they are many.
fn count(now: Tick) {
    let window = now >> WINDOW_BITS;
    let reads = READS.load(Relaxed);
    // Threads that race may lose counts or run over: all they decide is when to ask.
    if reads >> COUNT_BITS != window {
        READS.store(window << COUNT_BITS, Relaxed);
    } else if reads & COUNT < WORTH && READS.fetch_add(1, Relaxed) & COUNT == WORTH - 1 {
        keeper::wind();
    }
}

/// Moves the cell to `to` unless it is there, and leaves its flags. Returns the time it shows.
fn raise(to: Tick) -> Tick {
    let mut cell = CELL.0.load(Relaxed);
    while time(cell) < to {
        let next = if cell < STILL { wound(to) } else { stood(to) };
        match CELL.0.compare_exchange_weak(cell, next, Relaxed, Relaxed) {
            Ok(_) => return to,
            Err(other) => cell = other,
        }
    }
    time(cell)
}

/// Reads the exact clock and lets everybody know. Whoever is woken for a deadline must find that it
/// has come; by the coarse clock alone he might look up to 6 ms too early, and wait again, and
/// again.
pub(crate) fn refresh() -> Tick {
    raise(fine() / NANOS)
}

/// The keeper's beat: shows the exact time, so that readers need no other clock.
pub(crate) fn beat() {
    let now = fine() / NANOS;
    let mut cell = CELL.0.load(Relaxed);
    // readers that found it still may be moving it at the same time
    while let Err(other) =
        CELL.0.compare_exchange_weak(cell, wound(time(cell).max(now)), Relaxed, Relaxed)
    {
        cell = other;
    }
}

/// Nobody winds the clock any more: readers look for themselves.
pub(crate) fn still() {
    let stand = |cell| Some(stood(time(cell)));
    let _ = CELL.0.fetch_update(Relaxed, Relaxed, stand);
}

/// Whether any cache wants the clock wound.
pub(crate) fn wanted() -> bool {
    USERS.load(Relaxed) > 0
}

/// While it lives, the clock is wound when it is read often.
#[derive(Debug)]
pub(crate) struct Ticking(());

impl Ticking {
    /// Where lateness was not measured there is none: elsewhere than on Linux a thread that sleeps
    /// for 2 ms may be gone for 16.
    pub(crate) fn start() -> Option<Self> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        USERS.fetch_add(1, Relaxed);
        keeper::start();
        Some(Self(()))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if USERS.fetch_sub(1, Relaxed) == 1 {
            keeper::nudge();
        }
    }
}

/// The exact time.
pub(crate) fn precise() -> Duration {
    Duration::from_nanos(fine())
}

/// How long it is until `at`.
pub(crate) fn until(at: Tick) -> Duration {
    Duration::from_nanos(at.saturating_mul(NANOS).saturating_sub(fine()))
}

/// Parks this thread until `at`, if nobody unparks it before.
pub(crate) fn park_until(at: Tick) {
    thread::park_timeout(until(at));
    refresh();
}

/// The machine's clock at the first reading, when this one shows [`START`]. Where they begin differs: on
/// most systems that one began when the machine did, which may be a moment ago.
#[cfg(target_os = "linux")]
static ZERO: LazyLock<u64> = LazyLock::new(|| read(rustix::time::ClockId::Monotonic));

/// Nanoseconds of this clock. (The coarse one lags behind, and may have stood before `zero` at the first
/// reading.)
#[cfg(target_os = "linux")]
fn since(zero: u64, now: u64) -> u64 {
    (now + START * NANOS).saturating_sub(zero)
}

#[cfg(target_os = "linux")]
fn read(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    // neither is ever negative; 64 bits of nanoseconds last for 584 years
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds as the kernel wrote them down at its last timer interrupt.
#[cfg(target_os = "linux")]
fn coarse() -> u64 {
    since(*ZERO, read(rustix::time::ClockId::MonotonicCoarse))
}

/// Nanoseconds, exactly.
#[cfg(target_os = "linux")]
fn fine() -> u64 {
    // its zero first: it is drawn from the same clock
    let zero = *ZERO;
    since(zero, read(rustix::time::ClockId::Monotonic))
}

#[cfg(not(target_os = "linux"))]
static ZERO: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

#[cfg(not(target_os = "linux"))]
fn coarse() -> u64 {
    fine()
}

#[cfg(not(target_os = "linux"))]
fn fine() -> u64 {
    u64::try_from(ZERO.elapsed().as_nanos()).unwrap_or(u64::MAX / 2) + START * NANOS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a stamp, with the most and the least below its tick.
    fn stamps(expiry: Tick) -> [u64; 2] {
        [expiry << BELOW | 1, expiry << BELOW | ((1 << BELOW) - 1)]
    }

    #[test]
    fn a_cell_compares_with_stamps_as_its_time_does_with_expiries() {
        let last = (1 << 41) - 1;
        for at in [START, START + 1, START + 1_000_000, last - 1] {
            assert_eq!((time(wound(at)), time(stood(at))), (at, at));
            for expiry in [1, at - 1, at, at + 1, last] {
                for stamp in stamps(expiry) {
                    assert_eq!(stamp > wound(at), expiry > at, "{expiry} at {at}");
                    assert!(stamp < stood(at), "nothing that ends is surely fresh");
                }
            }
            // stored at the very beginning, to live for ever
            for stamp in stamps((1 << 41) + START) {
                assert!(stamp > wound(at) && stamp > stood(at));
            }
        }
    }
}
