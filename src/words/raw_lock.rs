//! The protocol of the lock, without the data that it guards: who may enter.
//!
//! One word counts the readers inside, or says that one thread is inside alone. Threads that cannot enter
//! stand in a line, and only the first of them watches the word: it spins for a moment, then parks.
//!
//! A writer is alone, and leaves with a plain store: an atomic exchange or addition would have to wait until
//! all that was written under the lock has arrived in this core's cache, line by line. (Nobody else changes
//! the word meanwhile, except to say that it parks. The store may arrive after that and erase it; so whoever
//! says it watches for that before it parks, and looks again a little later in any case.) For the same reason
//! a reader that finds the lock free enters alone as well, if it has only one entry to read. Readers that meet
//! are counted, and share the lock.
//!
//! A lock that is read and not written becomes *biased*: readers then leave the word alone and write the
//! lock's name into their own thread's *place*, one cache line a thread for all locks. A read then writes
//! nothing that threads share, so readers on different cores do not slow each other down. The next writer
//! takes the bias away, and looks through all places for readers that are inside. This is BRAVO (D. Dice and
//! A. Kogan, "BRAVO: Biased Locking for Reader-Writer Locks", USENIX ATC 2019) with a place for each thread
//! instead of a hashed table.
//!
//! Against `parking_lot`'s lock, ratio to `quick_cache` in the same run (`peers throughput --rows
//! s,a,c`): hits in 1,000 entries with two threads 1.0 before and 2.3 after, in 64k 1.2 and 2.4, one
//! hot key with two threads 0.8 and 3.7, with four on two cores 0.8 and 4.1. The plain store and the lone
//! readers, against subtractions and readers who are counted, one thread and two, by turns (`--rows e,g,l`):
//! `get_or_insert_with` over a Zipf 1.18 and 1.09 times as fast, over a scan 1.19 and 1.23, loads of new keys
//! 1.31 and 1.18; without the lone readers, loads 1.1 and 0.95.

use crate::words::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use crate::words::sync::{Mutex, park_timeout, thread};
use std::time::Duration;

/// One thread is inside, alone: a writer, or a reader that found nobody.
const ALONE: u32 = 1;
/// The first in the line is parked, or about to park: newcomers go to the end of the line, and whoever leaves
/// the lock wakes it.
const PARKED: u32 = 2;
/// One of the readers that are counted. There is room for a billion, more than there can be threads.
const READER: u32 = 4;

/// When the first in the line looks again, though nobody woke it. (On Windows at the next tick of the timer, 16
/// ms by default.)
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How often the first in the line looks before it parks: some two microseconds, ten times as long as most
/// critical sections.
#[cfg(not(any(larder_loom, larder_shuttle)))]
const SPINS: u32 = 64;
#[cfg(any(larder_loom, larder_shuttle))]
const SPINS: u32 = 0;

/// How many reads without a write among them make a lock biased. Taking the bias away costs a writer a look
/// at each thread's place, some 5 ns each if it is in use: what the bias has saved by then pays for it.
#[cfg(not(any(larder_loom, larder_shuttle)))]
const PATIENCE: u32 = 256;
#[cfg(any(larder_loom, larder_shuttle))]
const PATIENCE: u32 = 1;

/// Where a thread writes the address of the biased lock that it reads under; 0 for none. Two cache lines
/// each, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct ReaderPlace(AtomicUsize);

impl ReaderPlace {
    #[cfg(not(larder_loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    #[cfg(larder_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The reader that entered by this place leaves the lock.
    #[inline]
    pub(crate) fn leave(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// How a reader entered, and so how it leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entered<'p> {
    /// By the place of its thread.
    At(&'p ReaderPlace),
    /// By the word.
    Counted,
}

#[derive(Debug)]
pub(crate) struct Raw {
    word: AtomicU32,
    /// Set by readers that are inside by the word, cleared by writers that are inside: so the lock is not
    /// biased while a writer is at work.
    is_biased: AtomicBool,
    /// About how many reads by the word there were since the last write: lost counts do no harm.
    reads: AtomicU32,
    line: Mutex<()>,
    first: Mutex<Option<thread::Thread>>,
}

impl Raw {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            is_biased: AtomicBool::new(false),
            reads: AtomicU32::new(0),
            line: Mutex::new(()),
            first: Mutex::new(None),
        }
    }

    /// Enters as a reader. `place` is the thread's own, if it has one.
    #[inline]
    pub(crate) fn enter_to_read<'p>(
        &self,
        place: impl FnOnce() -> Option<&'p ReaderPlace>,
    ) -> Entered<'p> {
        if let Some(place) = self.enter_biased(place) {
            return Entered::At(place);
        }
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & (ALONE | PARKED) != 0 {
                self.wait_in_line(ALONE, READER);
                break;
            }
            // not by an addition: who leaves after having been alone would erase it
            match self.try_enter(word, word + READER) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        self.count_read();
        Entered::Counted
    }

    /// Enters as a reader who is alone and soon done, if nobody is inside and the lock is not biased: readers
    /// of a biased lock leave the word alone.
    #[inline]
    pub(crate) fn enter_to_read_alone(&self) -> bool {
        // looks first: an exchange that fails would take the line away from whoever is inside
        let is_free =
            !self.is_biased.load(Ordering::Relaxed) && self.word.load(Ordering::Relaxed) == 0;
        if !is_free || self.try_enter(0, ALONE).is_err() {
            return false;
        }
        self.count_read();
        true
    }

    #[inline]
    fn count_read(&self) {
        let reads = self.reads.load(Ordering::Relaxed);
        if reads < PATIENCE {
            self.reads.store(reads + 1, Ordering::Relaxed);
        } else {
            self.is_biased.store(true, Ordering::SeqCst);
        }
    }

    /// Enters as a reader if the lock is biased, by the thread's own `place`; `None` if it is not.
    #[inline]
    pub(crate) fn enter_biased<'p>(
        &self,
        place: impl FnOnce() -> Option<&'p ReaderPlace>,
    ) -> Option<&'p ReaderPlace> {
        // only a guess: what counts is the look after the name was written
        if !self.is_biased.load(Ordering::Relaxed) {
            return None;
        }
        let place = place()?;
        // occupied if user code that runs under a lock reads another cache
        if place.0.load(Ordering::Relaxed) != 0 {
            return None;
        }
        place.0.swap(self.name(), Ordering::SeqCst);
        // loom models sequential consistency for fences only
        #[cfg(larder_loom)]
        fence(Ordering::SeqCst);
        // Of this look and a writer's look at the place, one comes later: if the bias is still on here, the
        // writer will see the name and wait.
        if self.is_biased.load(Ordering::SeqCst) {
            return Some(place);
        }
        place.leave();
        None
    }

    /// Leaves the lock, as the writer or the reader who was alone.
    #[inline]
    pub(crate) fn leave_alone(&self) {
        let parked = self.word.load(Ordering::Relaxed) & PARKED;
        self.store(parked);
        if parked != 0 {
            self.wake_first();
        }
    }

    #[cfg(not(any(larder_loom, larder_shuttle)))]
    #[inline]
    fn store(&self, word: u32) {
        self.word.store(word, Ordering::Release);
    }

    /// The same for the explorers. They know no time, so whoever leaves stands for the clock as well. And it is
    /// an exchange: loom lets an exchange read what was there before a store, and still come after it.
    #[cfg(any(larder_loom, larder_shuttle))]
    fn store(&self, word: u32) {
        self.word.swap(word, Ordering::Release);
        self.wake_first();
    }

    #[inline]
    pub(crate) fn leave_reading(&self, entered: Entered<'_>) {
        match entered {
            Entered::At(place) => place.leave(),
            Entered::Counted => {
                if self.word.fetch_sub(READER, Ordering::Release) & PARKED != 0 {
                    self.wake_first();
                }
            }
        }
    }

    /// Enters as the writer. `places` are those of all threads that may have one.
    #[inline]
    pub(crate) fn enter_to_write<'p>(&self, places: impl FnOnce() -> &'p [ReaderPlace]) {
        if self.try_enter(0, ALONE).is_err() {
            self.wait_in_line(!PARKED, ALONE);
        }
        self.reads.store(0, Ordering::Relaxed);
        if self.is_biased.load(Ordering::Relaxed) {
            self.take_bias(places);
        }
    }

    /// What a place has while its thread reads under this lock: the lock's address, which is unique while the
    /// lock lives.
    fn name(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[cold]
    #[inline(never)]
    fn take_bias<'p>(&self, places: impl FnOnce() -> &'p [ReaderPlace]) {
        self.is_biased.swap(false, Ordering::SeqCst);
        #[cfg(larder_loom)]
        fence(Ordering::SeqCst);
        // asked for after the bias is gone: a thread that got a place since then does not find the lock
        // biased
        for place in places() {
            let mut looks = 0_u32;
            while place.0.load(Ordering::SeqCst) == self.name() {
                looks += 1;
                if looks < SPINS {
                    std::hint::spin_loop();
                } else {
                    // the reader lost its core in the middle of a read, and does not know that we wait
                    thread::yield_now();
                }
            }
        }
    }

    /// Waits until this thread is the first in the line and nothing of `blockers` is inside, and enters as
    /// `mine`.
    #[cold]
    #[inline(never)]
    fn wait_in_line(&self, blockers: u32, mine: u32) {
        let turn = self.line.lock();
        for _ in 0..SPINS {
            let word = self.word.load(Ordering::Relaxed);
            if word & blockers == 0 && self.try_enter(word, word + mine).is_ok() {
                return;
            }
            std::hint::spin_loop();
        }
        let me = thread::current();
        *self.first.lock() = Some(me.clone());
        let mut has_parked = false;
        loop {
            // each time: somebody who left may have erased it
            let word = self.word.fetch_or(PARKED, Ordering::AcqRel) | PARKED;
            if word & blockers != 0 {
                if !self.is_parked_erased() {
                    has_parked = true;
                    park_timeout(LOOK_AGAIN);
                }
            } else if self.try_enter(word, (word - PARKED) + mine).is_ok() {
                break;
            }
        }
        *self.first.lock() = None;
        drop(turn);
        if has_parked {
            // This thread may have been unparked for something else: a task that it runs, say. So its token
            // is set again: code that parks for that may look in vain now and then, but is not left asleep.
            me.unpark();
        }
    }

    /// Watches until a store that was on its way when this thread said that it parks has arrived. (Without
    /// this, up to one park in 130 lasts until the thread looks again; random stores into 128 MiB under the lock.)
    fn is_parked_erased(&self) -> bool {
        (0..SPINS).any(|_| {
            std::hint::spin_loop();
            self.word.load(Ordering::Relaxed) & PARKED == 0
        })
    }

    #[inline]
    fn try_enter(&self, word: u32, to: u32) -> Result<u32, u32> {
        self.word.compare_exchange(word, to, Ordering::Acquire, Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn wake_first(&self) {
        // whoever set `PARKED` had stored its thread in `first` before
        fence(Ordering::Acquire);
        let first = self.first.lock().clone();
        if let Some(first) = first {
            first.unpark();
        }
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    /// Stands in the line's first place and parks, until it is woken and nothing else.
    fn first_in_line(raw: &Arc<Raw>) -> thread::JoinHandle<()> {
        let (parks, is_parked) = channel();
        let parked = thread::spawn({
            let raw = Arc::clone(raw);
            move || {
                *raw.first.lock() = Some(thread::current());
                raw.word.fetch_or(PARKED, Ordering::AcqRel);
                parks.send(()).unwrap();
                thread::park();
            }
        });
        is_parked.recv().unwrap();
        parked
    }

    #[test]
    fn who_was_alone_wakes_the_first_in_line() {
        let raw = Arc::new(Raw::new());
        raw.enter_to_write(|| &[]);
        let parked = first_in_line(&raw);
        raw.leave_alone();
        parked.join().unwrap();
        assert_eq!(raw.word.load(Ordering::Relaxed), PARKED, "nobody else comes in before it");
    }

    #[test]
    fn who_was_counted_wakes_the_first_in_line() {
        let raw = Arc::new(Raw::new());
        let entered = raw.enter_to_read(|| None);
        let parked = first_in_line(&raw);
        raw.leave_reading(entered);
        parked.join().unwrap();
    }
}
