use super::*;
use crate::words::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::task::Wake;

/// How long a test waits for another thread before it calls it a hang.
const WATCHDOG: Duration = Duration::from_secs(100);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Runs a test in a process of its own: for those who watch what the process has one of, the keeper
/// thread and the wound clock, which other tests keep busy.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "LARDER_TEST_ALONE";
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.contains("1 passed"), "no test of that name: {told}");
}

struct Note(Mutex<Sender<&'static str>>, &'static str);

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().send(self.1);
    }
}

fn note(to: &Sender<&'static str>, what: &'static str) -> Waker {
    Arc::new(Note(Mutex::new(to.clone()), what)).into()
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("expected: a waker that panics");
    }
}

#[test]
fn clocks_begin_long_after_their_zero() {
    // but for what the coarse one lags behind
    let begun = START - 100;
    for clock in [Clock::system(), Clock::manual().0] {
        assert!(clock.now() >= begun, "{clock:?} shows {}", clock.now());
        assert!(clock.precise() >= ms(begun), "{clock:?}");
    }
}

#[test]
fn alarms_ring_when_due_and_in_order() {
    let (clock, hand) = Clock::manual();
    let (to, heard) = channel();
    let begin = clock.now();
    let second = clock.alarm(begin + 20, note(&to, "second"));
    let first = clock.alarm(begin + 10, note(&to, "first"));
    let third = clock.alarm(begin + 20, note(&to, "third"));
    let fourth = clock.alarm(begin + 21, note(&to, "fourth"));
    hand.advance(Duration::from_nanos(9_999_999));
    assert_eq!(heard.try_iter().count(), 0);
    hand.advance(Duration::from_nanos(1));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["first"]);
    hand.advance(ms(500));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["second", "third", "fourth"]);
    hand.advance(ms(500));
    assert_eq!(heard.try_iter().count(), 0, "each rings once");
    drop((first, second, third, fourth));
}

#[test]
fn a_dropped_alarm_does_not_ring() {
    let (clock, hand) = Clock::manual();
    let (to, heard) = channel();
    drop(clock.alarm(clock.now() + 1, note(&to, "dropped")));
    let kept = clock.alarm(clock.now() + 1, note(&to, "kept"));
    hand.advance(ms(1));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["kept"]);
    drop(kept);
}

#[test]
fn an_alarm_for_the_past_rings_at_once() {
    let (to, heard) = channel();
    for clock in [Clock::system(), Clock::manual().0] {
        let alarm = clock.alarm(clock.now(), note(&to, "past"));
        assert_eq!(heard.try_iter().count(), 1);
        drop(alarm);
    }
}

#[test]
fn less_than_a_millisecond_adds_up() {
    let (clock, hand) = Clock::manual();
    let begin = clock.now();
    for _ in 0..2_500 {
        hand.advance(Duration::from_nanos(999));
    }
    assert_eq!(clock.now(), begin + 2);
    assert_eq!(clock.precise(), ms(begin) + Duration::from_nanos(2_497_500));
}

#[test]
fn a_manual_clock_stops_at_its_end() {
    for start in [Duration::ZERO, Duration::from_secs(1 << 31), Duration::MAX] {
        let (clock, hand) = Clock::manual_at(start);
        let (to, heard) = channel();
        let last = clock.alarm(LAST, note(&to, "last"));
        let never = clock.alarm(Tick::MAX, note(&to, "never"));
        for by in [Duration::MAX, ms(1), Duration::from_nanos(u64::MAX)] {
            hand.advance(by);
            assert_eq!(clock.now(), LAST);
        }
        assert!(clock.now() < 1 << 41);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["last"]);
        drop((last, never));
    }
}

#[test]
fn near_its_end_it_counts_to_the_end() {
    let (clock, hand) = Clock::manual_at(ms(LAST - START - 2));
    assert_eq!(clock.now(), LAST - 2);
    hand.advance(ms(1));
    assert_eq!(clock.now(), LAST - 1);
    hand.advance(ms(5));
    assert_eq!(clock.now(), LAST);
}

#[test]
fn clocks_begin_above_zero() {
    assert_eq!(Clock::manual().0.now(), START);
    assert!(Clock::system().now() > 0);
    assert!(Clock::system().now() < 1 << 41);
}

#[test]
fn a_waker_that_panics_silences_nobody() {
    let (clock, hand) = Clock::manual();
    let (to, heard) = channel();
    let bomb = clock.alarm(clock.now() + 1, Arc::new(Bomb).into());
    let after = clock.alarm(clock.now() + 1, note(&to, "after"));
    hand.advance(ms(1));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["after"]);
    drop((bomb, after));
}

/// Sets the next alarm from within a wake.
struct Chain(Clock, Mutex<Vec<Alarm>>, AtomicU32);

impl Wake for Chain {
    fn wake(self: Arc<Self>) {
        if self.2.fetch_add(1, SeqCst) < 5 {
            let next = self.0.alarm(self.0.now() + 1, Arc::clone(&self).into());
            self.1.lock().push(next);
        }
    }
}

#[test]
fn a_waker_may_use_the_clock() {
    let (clock, hand) = Clock::manual();
    let chain = Arc::new(Chain(clock.clone(), Mutex::new(Vec::new()), AtomicU32::new(0)));
    let alarm = clock.alarm(clock.now() + 1, Arc::clone(&chain).into());
    for woken in 1..=5 {
        hand.advance(ms(1));
        assert_eq!(chain.2.load(SeqCst), woken);
    }
    drop(alarm);
    // the chain holds the alarms that hold it
    chain.1.lock().clear();
}

#[test]
fn a_parked_thread_obeys_the_hand() {
    let (clock, hand) = Clock::manual();
    let at = clock.now() + 60_000;
    let (to, heard) = channel();
    std::thread::spawn(move || {
        to.send("parking").unwrap();
        while clock.now() < at {
            clock.park_until(Some(at));
        }
        to.send("woken").unwrap();
    });
    assert_eq!(heard.recv_timeout(WATCHDOG), Ok("parking"));
    hand.advance(ms(59_999));
    assert!(heard.try_recv().is_err());
    hand.advance(ms(1));
    assert_eq!(heard.recv_timeout(WATCHDOG), Ok("woken"));
}

#[test]
fn a_parked_thread_finds_that_the_system_time_has_come() {
    let clock = Clock::system();
    for _ in 0..20 {
        let at = clock.now() + 3;
        clock.park_until(Some(at));
        assert!(clock.now() >= at, "nobody unparks this thread");
    }
}

#[test]
fn parking_returns_at_once_when_the_time_has_come_or_a_token_is_there() {
    for clock in [Clock::system(), Clock::manual().0] {
        clock.park_until(Some(clock.now()));
        std::thread::current().unpark();
        clock.park_until(None);
        std::thread::current().unpark();
        clock.park_until(Some(Tick::MAX));
    }
}

#[test]
fn a_deadline_beyond_all_time_is_none() {
    let (to, heard) = channel();
    let sleeper = std::thread::spawn(move || {
        to.send("parking").unwrap();
        Clock::system().park_until(Some(Tick::MAX));
    });
    assert_eq!(heard.recv_timeout(WATCHDOG), Ok("parking"));
    sleeper.thread().unpark();
    sleeper.join().unwrap();
}

/// Whoever is told a time, and then hears from another thread that was told one, must never find
/// that it was later: with the ticker starting, winding, stopping and starting again.
#[test]
fn time_never_steps_back_while_the_ticker_comes_and_goes() {
    let clock = Clock::system();
    let told = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (clock, told, stop) = (clock.clone(), Arc::clone(&told), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut mine = 0;
                while !stop.load(SeqCst) {
                    let before = told.load(SeqCst);
                    let now = clock.now();
                    assert!(now >= mine, "{now} after {mine}");
                    assert!(now >= before, "{now} after {before} elsewhere");
                    told.fetch_max(now, SeqCst);
                    mine = now;
                }
            })
        })
        .collect();
    let end = clock.precise() + ms(400);
    while clock.precise() < end {
        let ticking = clock.keep_ticking();
        clock.park_until(Some(clock.now() + 12));
        // from the reader's side and from the keeper's
        system::refresh();
        drop(ticking);
        clock.park_until(Some(clock.now() + 3));
    }
    stop.store(true, SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
    let (late, exact) = (clock.now(), clock.precise());
    assert!(ms(late) <= exact + ms(1));
}

#[test]
fn a_clock_is_wound_when_it_is_busy_and_stops_when_it_is_not() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let name = "words::clock::tests::a_clock_is_wound_when_it_is_busy_and_stops_when_it_is_not";
    alone(name, || {
        let clock = Clock::system();
        let end = clock.precise() + WATCHDOG;
        for _ in 0..100_000 {
            clock.now();
        }
        assert!(system::is_still(), "nobody wants it");
        let ticking = clock.keep_ticking();
        while system::is_still() {
            clock.now();
            assert!(clock.precise() < end, "not wound");
        }
        while !system::is_still() {
            clock.park_until(Some(clock.now() + 10));
            assert!(clock.precise() < end, "does not stop");
        }
        drop(ticking);
    });
}
