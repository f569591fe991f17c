use super::*;
use crate::words::clock::Clock;
use crate::words::clock::tests::alone;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// How long a test waits for another thread before it calls it a hang.
const WATCHDOG: Duration = Duration::from_secs(100);

struct TestJob {
    to: Mutex<Sender<Tick>>,
    runs: AtomicU32,
    /// Milliseconds to the next run, for this many runs.
    again: (Tick, u32),
    /// Panics in this run.
    bomb: u32,
}

impl ScheduledJob for TestJob {
    fn run(&self, now: Tick) -> Option<Tick> {
        let run = self.runs.fetch_add(1, SeqCst) + 1;
        let _ = self.to.lock().unwrap().send(now);
        assert!(run != self.bomb, "expected: a job that panics");
        (run < self.again.1).then_some(now + self.again.0)
    }
}

fn test_job(again: (Tick, u32), bomb: u32) -> (Arc<TestJob>, Receiver<Tick>) {
    let (to, heard) = channel();
    let (to, runs) = (Mutex::new(to), AtomicU32::new(0));
    let test_job = TestJob { to, runs, again, bomb };
    (Arc::new(test_job), heard)
}

fn weak(test_job: &Arc<TestJob>) -> Weak<dyn ScheduledJob> {
    let test_job: Weak<TestJob> = Arc::downgrade(test_job);
    test_job
}

fn until(else_: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + WATCHDOG;
    while !holds() {
        assert!(Instant::now() < end, "{else_}");
        // looks again and does not ask the clock: it would be wound for our sake
        std::thread::yield_now();
    }
}

fn ends() {
    until("a thread does not end", || !real::alive() && !on_the_list());
}

/// Whether the system knows a thread of these names.
fn on_the_list() -> bool {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .any(|name| matches!(name.trim(), "larder-keeper" | "larder-sweeper"))
}

#[test]
fn a_job_runs_when_due_and_again_when_it_says() {
    let clock = Clock::system();
    let (job, heard) = test_job((4, 3), 0);
    let at = clock.now() + 5;
    clock.schedule(at, weak(&job));
    let mut earliest = at;
    for _ in 0..3 {
        let ran = heard.recv_timeout(WATCHDOG).unwrap();
        assert!(ran >= earliest, "{ran} before {earliest}");
        earliest = ran + 4;
    }
    drop(job);
    assert!(heard.recv_timeout(WATCHDOG).is_err(), "no fourth run");
}

#[test]
fn a_manual_clock_runs_no_job() {
    let (clock, hand) = Clock::manual();
    let (job, heard) = test_job((1, 1), 0);
    clock.schedule(clock.now(), weak(&job));
    hand.advance(Duration::from_secs(5));
    assert!(heard.try_recv().is_err());
    assert_eq!(Arc::weak_count(&job), 0);
}

#[test]
fn a_job_that_panics_is_tried_again_and_hurts_nobody() {
    let clock = Clock::system();
    let (bad, bad_heard) = test_job((1, 2), 1);
    let (good, good_heard) = test_job((1, 2), 0);
    let at = clock.now() + 2;
    clock.schedule(at, weak(&bad));
    clock.schedule(at, weak(&good));
    let first = bad_heard.recv_timeout(WATCHDOG).unwrap();
    for _ in 0..2 {
        good_heard.recv_timeout(WATCHDOG).unwrap();
    }
    let second = bad_heard.recv_timeout(WATCHDOG).unwrap();
    assert!(second >= first + 1_000);
}

/// Runs until it is let go.
struct Long(Mutex<Receiver<()>>, Sender<()>);

impl ScheduledJob for Long {
    fn run(&self, _: Tick) -> Option<Tick> {
        self.1.send(()).unwrap();
        let _ = self.0.lock().unwrap().recv();
        None
    }
}

#[test]
fn a_job_that_takes_long_holds_up_no_alarm_and_no_other_job() {
    let clock = Clock::system();
    let ((go, may_go), (began, begun), (to, heard)) = (channel(), channel(), channel());
    let long: Arc<dyn ScheduledJob> = Arc::new(Long(Mutex::new(may_go), began));
    clock.schedule(clock.now(), Arc::downgrade(&long));
    begun.recv_timeout(WATCHDOG).unwrap();
    let (job, ran) = test_job((1, 1), 0);
    clock.schedule(clock.now(), weak(&job));
    ran.recv_timeout(WATCHDOG).expect("another job");
    let alarm = clock.alarm(clock.now() + 3, Arc::new(Ring(Mutex::new(to))).into());
    heard.recv_timeout(WATCHDOG).expect("an alarm");
    go.send(()).unwrap();
    drop(alarm);
}

#[test]
fn dead_jobs_are_dropped_and_the_thread_ends_and_starts_again() {
    alone(
        "words::keeper::tests::dead_jobs_are_dropped_and_the_thread_ends_and_starts_again",
        || {
            let clock = Clock::system();
            for _ in 0..3 {
                let (job, heard) = test_job((3_600_000, u32::MAX), 0);
                clock.schedule(clock.now(), weak(&job));
                heard.recv_timeout(WATCHDOG).unwrap();
                // the next run is an hour away
                until("the keeper does not come back", real::alive);
                let left = Arc::downgrade(&job);
                drop(job);
                nudge();
                ends();
                assert_eq!(left.strong_count(), 0);
            }
        },
    );
}

#[test]
fn it_ends_with_the_last_ticking_use() {
    alone("words::keeper::tests::it_ends_with_the_last_ticking_use", || {
        let clock = Clock::system();
        let first = clock.keep_ticking();
        let second = clock.keep_ticking();
        drop(first);
        assert_eq!(second.is_some(), real::alive());
        drop(second);
        ends();
    });
}

struct Ring(Mutex<Sender<Tick>>);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(Clock::system().now());
    }
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("expected: a waker that panics");
    }
}

#[test]
fn alarms_ring_when_now_says_so_and_a_panic_ends_with_its_waker() {
    let clock = Clock::system();
    let (to, heard) = channel();
    let ring: Waker = Arc::new(Ring(Mutex::new(to))).into();
    let far = clock.alarm(clock.now() + 3_600_000, ring.clone());
    for _ in 0..10 {
        let at = clock.now() + 3;
        let bomb = clock.alarm(at, Arc::new(Bomb).into());
        let alarm = clock.alarm(at, ring.clone());
        let told = heard.recv_timeout(WATCHDOG).unwrap();
        assert!(told >= at, "{told} before {at}");
        drop((bomb, alarm));
    }
    drop(far);
    drop(ring);
    nudge();
    assert!(heard.recv_timeout(WATCHDOG).is_err(), "the last one is gone");
}

#[test]
fn it_ends_with_the_last_alarm_of_a_cache_that_is_gone() {
    alone("words::keeper::tests::it_ends_with_the_last_alarm_of_a_cache_that_is_gone", || {
        let clock = Clock::system();
        let far = clock.alarm(clock.now() + 3_600_000, Arc::new(Bomb).into());
        assert!(real::alive());
        nudge();
        drop(far);
        ends();
    });
}

/// The last owner lets go while the job runs: the cache dies on the thread that runs it.
struct LastOwner(Mutex<Option<Arc<LastOwner>>>, Sender<&'static str>);

impl ScheduledJob for LastOwner {
    fn run(&self, now: Tick) -> Option<Tick> {
        drop(self.0.lock().unwrap().take());
        Some(now + 1)
    }
}

impl Drop for LastOwner {
    fn drop(&mut self) {
        nudge();
        self.1.send("dropped").unwrap();
        panic!("expected: a drop that panics");
    }
}

#[test]
fn a_cache_may_die_in_its_job() {
    alone("words::keeper::tests::a_cache_may_die_in_its_job", || {
        let (to, heard) = channel();
        let last = Arc::new(LastOwner(Mutex::new(None), to));
        *last.0.lock().unwrap() = Some(Arc::clone(&last));
        let job: Weak<LastOwner> = Arc::downgrade(&last);
        let clock = Clock::system();
        drop(last);
        clock.schedule(clock.now(), job);
        assert_eq!(heard.recv_timeout(WATCHDOG), Ok("dropped"));
        ends();
    });
}
