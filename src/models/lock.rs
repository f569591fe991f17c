//! The protocol of the shards' lock, in whose place the explorers otherwise see their own. Here it guards a
//! cell that detects two threads inside that must exclude each other, and one that does not see what another
//! did before. A lost wake-up shows as a deadlock, but for those that the clock makes good: that who was alone
//! wakes the first in line is a test beside the protocol.

use super::explore::{explore, explore_up_to};
use crate::words::raw_lock::{Raw, ReaderPlace};
use crate::words::sync::atomic::{AtomicBool, Ordering};
use crate::words::sync::{Mutex, thread};
use loom::cell::UnsafeCell;
use std::sync::Arc;

struct Guarded {
    raw: Raw,
    data: UnsafeCell<()>,
    places: [ReaderPlace; 2],
}

// the cell is only looked at in turns that the lock decides, and loom watches over that
#[allow(unsafe_code)]
// SAFETY: the cell holds nothing, and its accesses are checked by loom and make no reference
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            raw: Raw::new(),
            data: UnsafeCell::new(()),
            places: [ReaderPlace::new(), ReaderPlace::new()],
        })
    }

    /// One that is biased already: two reads without a write are enough in here.
    fn biased() -> Arc<Self> {
        let it = Self::new();
        it.read(None);
        it.read(None);
        it
    }

    fn read(&self, place: Option<usize>) {
        let entered = self.raw.enter_to_read(|| place.map(|n| &self.places[n]));
        self.data.with(|_| ());
        self.raw.leave_reading(entered);
    }

    /// Not at all, if it would have to wait.
    fn read_if_free(&self) {
        if self.raw.enter_to_read_alone() {
            self.data.with(|_| ());
            self.raw.leave_alone();
        }
    }

    fn write(&self) {
        self.raw.enter_to_write(|| &self.places);
        self.data.with_mut(|_| ());
        self.raw.leave_alone();
    }
}

fn run(
    it: &Arc<Guarded>,
    f: impl FnOnce(&Guarded) + Send + 'static,
) -> loom::thread::JoinHandle<()> {
    let it = Arc::clone(it);
    thread::spawn(move || f(&it))
}

#[test]
fn a_writer_and_a_reader_keep_each_other_out() {
    explore(|| {
        let it = Guarded::new();
        let reader = run(&it, |it| it.read(None));
        it.write();
        reader.join().unwrap();
    });
}

#[test]
fn two_writers_and_a_reader_all_get_in_alone() {
    explore_up_to(3, || {
        let it = Guarded::new();
        let reader = run(&it, |it| it.read(None));
        let writer = run(&it, Guarded::write);
        it.write();
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_that_does_not_wait_keeps_writers_out_and_wakes_them() {
    explore_up_to(3, || {
        let it = Guarded::new();
        let reader = run(&it, |it| (0..2).for_each(|_| it.read_if_free()));
        let writer = run(&it, Guarded::write);
        it.write();
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

#[test]
fn readers_who_share_the_lock_are_counted_though_one_who_was_alone_leaves() {
    explore_up_to(3, || {
        let it = Guarded::new();
        let sharing = run(&it, |it| it.read(None));
        let lone = run(&it, |it| (0..2).for_each(|_| it.read_if_free()));
        it.read(None);
        sharing.join().unwrap();
        lone.join().unwrap();
        // does not get in if the count is wrong
        it.write();
    });
}

#[test]
fn a_reader_who_is_alone_may_make_the_lock_biased() {
    explore_up_to(3, || {
        let it = Guarded::new();
        it.read(None);
        let lone = run(&it, Guarded::read_if_free);
        let reader = run(&it, |it| it.read(Some(0)));
        it.write();
        lone.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_writer_waits_for_a_biased_reader() {
    explore(|| {
        let it = Guarded::biased();
        let reader = run(&it, |it| it.read(Some(0)));
        it.write();
        reader.join().unwrap();
    });
}

#[test]
fn the_bias_comes_back_between_two_writes() {
    explore_up_to(4, || {
        let it = Guarded::new();
        let reader = run(&it, |it| (0..4).for_each(|_| it.read(Some(0))));
        it.write();
        it.write();
        reader.join().unwrap();
    });
}

#[test]
fn two_biased_readers_and_a_writer() {
    explore_up_to(3, || {
        let it = Guarded::biased();
        let readers = [0, 1].map(|place| run(&it, move |it| it.read(Some(place))));
        it.write();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// As an executor does that looks, and then parks until it is told to look again: in between it runs
/// another task, and that waits for a lock.
#[test]
fn who_is_woken_for_something_else_while_it_waits_is_not_left_asleep() {
    explore(|| {
        let it = Guarded::new();
        let is_ready = Arc::new(AtomicBool::new(false));
        let sleeper = Arc::new(Mutex::new(None));
        it.raw.enter_to_write(|| &it.places);
        let executor = run(&it, {
            let (is_ready, sleeper) = (Arc::clone(&is_ready), Arc::clone(&sleeper));
            move |it| {
                *sleeper.lock() = Some(thread::current());
                let was_ready = is_ready.load(Ordering::SeqCst);
                it.read(None);
                if !was_ready {
                    thread::park();
                }
            }
        });
        is_ready.store(true, Ordering::SeqCst);
        let sleeper = sleeper.lock().take();
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
        it.raw.leave_alone();
        executor.join().unwrap();
    });
}
