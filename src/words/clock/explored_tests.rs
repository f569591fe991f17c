use super::*;
use crate::words::sync::atomic::{AtomicU64, Ordering};
use crate::words::sync::thread;
use std::task::Wake;

#[cfg(larder_loom)]
fn explore(f: impl Fn() + Send + Sync + 'static) {
    loom::model(f);
}

/// So many random schedules: the tests have two or three threads of a few steps each.
#[cfg(larder_shuttle)]
fn explore(f: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(f, 5_000);
}

/// A wake-up that were lost between the look at the time and the alarm would be a deadlock here.
#[test]
fn who_parks_while_the_clock_is_advanced_is_woken() {
    explore(|| {
        let (clock, hand) = Clock::manual();
        let at = clock.now() + 2;
        let sleeper = thread::spawn(move || {
            while clock.now() < at {
                clock.park_until(Some(at));
            }
        });
        hand.advance(Duration::from_millis(1));
        hand.advance(Duration::from_millis(1));
        sleeper.join().unwrap();
    });
}

#[test]
fn two_who_advance_the_clock_lose_no_time() {
    explore(|| {
        let (clock, hand) = Clock::manual();
        let begin = clock.now();
        let other = hand.clone();
        let helper = thread::spawn(move || other.advance(Duration::from_micros(500)));
        hand.advance(Duration::from_micros(500));
        helper.join().unwrap();
        assert_eq!(clock.now(), begin + 1);
    });
}

/// It rings at most once, and its waker is dropped either way.
#[test]
fn an_alarm_is_taken_back_or_rings() {
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    explore(|| {
        let (clock, hand) = Clock::manual();
        let count = Arc::new(Count(AtomicU64::new(0)));
        let alarm = clock.alarm(clock.now() + 1, Arc::clone(&count).into());
        let mover = thread::spawn(move || hand.advance(Duration::from_millis(1)));
        drop(alarm);
        mover.join().unwrap();
        assert!(count.0.load(Ordering::Relaxed) <= 1);
        assert_eq!(Arc::strong_count(&count), 1, "the waker is gone either way");
    });
}
