//! The keeper: one timer thread per process, however many caches there are.
//!
//! It fires alarms, starts the caches' scheduled jobs, and keeps the system clock's cell up to date (*winds* it)
//! while reads are frequent. It is started when first needed, sleeps until its earliest deadline, holds what it
//! serves by weak references, and ends with the last of that. After a `fork` without `exec` the child has no
//! keeper: caches must not be used there.

#[cfg(any(larder_loom, larder_shuttle))]
pub(crate) use explored::*;
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) use real::*;

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests;

use super::tick::Tick;

/// Work that a cache wants done at a certain time.
pub(crate) trait ScheduledJob: Send + Sync {
    /// Does the work, on a thread [aside](super::aside), and returns when it wants to run again, if ever.
    #[cfg_attr(any(larder_loom, larder_shuttle), allow(dead_code, reason = "no keeper there"))]
    fn run(&self, now: Tick) -> Option<Tick>;
}

#[cfg(not(any(larder_loom, larder_shuttle)))]
mod real {
    use std::collections::BTreeMap;
    use std::sync::Weak;
    use std::task::Waker;
    use std::time::Duration;

    use super::{ScheduledJob, Tick};
    use crate::words::alarms::{AlarmTicket, Alarms, Due, fire};
    use crate::words::aside;
    use crate::words::clock::system;
    use crate::words::contain::contain;
    use crate::words::sync::{Mutex, thread};

    /// The time between two beats of a wound clock. With 1 to 8 spinning threads on 2 cores, 99.9 % of
    /// readings were late by at most 7 ms with 2 ms, and by at most 9 with 1 ms, for twice the wake-ups:
    /// there the scheduler decides.
    const BEAT: Duration = Duration::from_millis(2);
    /// For how many beats the clock runs once it is wound: half a second. Then it stands still, and busy
    /// readers wind it again within a few milliseconds. This way they need not signal anything in between,
    /// and write nothing while it runs.
    const SPRING: u32 = 250;
    /// After how many ticks a job that panicked is tried again: late enough not to fill the log with panics,
    /// soon enough that expired entries are still freed in time.
    const AFTER_PANIC: Tick = 1_000;

    static KEEPER: Mutex<State> = Mutex::new(State {
        alarms: Alarms::new(),
        jobs: BTreeMap::new(),
        next: 0,
        thread: None,
        sleeps_until: AWAKE,
        look: false,
        orphaned: false,
        wind: false,
    });

    /// [`State::sleeps_until`] while the keeper is awake: it will look at the list before it sleeps.
    const AWAKE: Tick = 0;

    /// No user code runs under its lock: no waker, no job, no drop of either.
    struct State {
        alarms: Alarms,
        jobs: BTreeMap<AlarmTicket, Weak<dyn ScheduledJob>>,
        next: u64,
        thread: Option<thread::Thread>,
        sleeps_until: Tick,
        /// Some job may have died.
        look: bool,
        /// A cache died and nobody has come since: what is left may be the alarms of its last callers, and
        /// the keeper is to end when they are gone.
        orphaned: bool,
        /// The system clock is read often.
        wind: bool,
    }

    enum KeeperStep {
        Serve(Due, Vec<Weak<dyn ScheduledJob>>),
        Sleep(Option<Tick>),
        End,
    }

    /// Queues a waker; `None` if it was due already, and has been called.
    pub(crate) fn alarm(at: Tick, waker: Waker) -> Option<AlarmTicket> {
        if system::refresh() >= at {
            contain(|| waker.wake());
            return None;
        }
        let mut state = KEEPER.lock();
        let ticket = state.alarms.set(at, waker);
        state.expect(at);
        Some(ticket)
    }

    pub(crate) fn take_back(ticket: AlarmTicket) {
        let mut state = KEEPER.lock();
        let waker = state.alarms.take_back(ticket);
        // In other cases the keeper is not told, and wakes in vain once: alarms are taken back far more often
        // than they ring.
        if state.orphaned && state.alarms.earliest().is_none() {
            state.rouse();
        }
        drop(state);
        drop(waker);
    }

    /// Runs `job` at or soon after `at`, and then whenever it asks. A job that is scheduled twice runs twice.
    pub(crate) fn schedule(at: Tick, job: Weak<dyn ScheduledJob>) {
        let mut state = KEEPER.lock();
        state.enlist(at, job);
        state.expect(at);
    }

    /// Starts the thread if it is not running.
    pub(crate) fn start() {
        KEEPER.lock().expect(Tick::MAX);
    }

    /// Has the keeper look at its list at once, since something in it may have died.
    pub(crate) fn nudge() {
        let mut state = KEEPER.lock();
        state.look = true;
        state.orphaned = true;
        state.rouse();
    }

    /// Has the keeper wind the system clock.
    pub(crate) fn wind() {
        let mut state = KEEPER.lock();
        state.wind = true;
        state.rouse();
    }

    /// Whether the thread is there.
    #[cfg(test)]
    pub(super) fn alive() -> bool {
        KEEPER.lock().thread.is_some()
    }

    impl State {
        fn enlist(&mut self, at: Tick, job: Weak<dyn ScheduledJob>) {
            self.jobs.insert((at, self.next), job);
            self.next += 1;
        }

        /// Makes sure that the thread is running, and awake at `at`.
        fn expect(&mut self, at: Tick) {
            self.orphaned = false;
            if self.thread.is_none() {
                let name = "larder-keeper".to_owned();
                // No thread can be started: the next caller that needs one tries again. Until then nothing
                // rings; alarms are late, and nothing worse happens.
                if let Ok(handle) = thread::Builder::new().name(name).spawn(keep) {
                    self.thread = Some(handle.thread().clone());
                    self.sleeps_until = AWAKE;
                }
            } else if at < self.sleeps_until {
                self.rouse();
            }
        }

        fn rouse(&self) {
            if let Some(thread) = &self.thread {
                thread.unpark();
            }
        }

        /// Decides what to do now.
        fn step(&mut self, now: Tick) -> KeeperStep {
            self.sleeps_until = AWAKE;
            if std::mem::take(&mut self.look) {
                self.jobs.retain(|_, job| job.strong_count() > 0);
            }
            let wakers = self.alarms.due(now);
            let mut jobs = Vec::new();
            while let Some(first) = self.jobs.first_entry() {
                if first.key().0 > now {
                    break;
                }
                jobs.push(first.remove());
            }
            if wakers.len() > 0 || !jobs.is_empty() {
                return KeeperStep::Serve(wakers, jobs);
            }
            let job = self.jobs.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.alarms.earliest().into_iter().chain(job).min();
            if deadline.is_none() && !system::wanted() {
                // under the lock: a later caller finds no thread, and starts another
                system::still();
                self.thread = None;
                self.wind = false;
                return KeeperStep::End;
            }
            self.sleeps_until = deadline.unwrap_or(Tick::MAX);
            KeeperStep::Sleep(deadline)
        }
    }

    fn keep() {
        let mut beats = 0;
        loop {
            let now = system::refresh();
            let mut state = KEEPER.lock();
            let step = state.step(now);
            if std::mem::take(&mut state.wind) {
                beats = SPRING;
            }
            drop(state);
            match step {
                KeeperStep::End => return,
                KeeperStep::Serve(wakers, jobs) => {
                    // nobody winds the clock for as long as this takes
                    system::still();
                    fire(wakers);
                    for job in jobs {
                        aside::run(Box::new(move || run(&job, now)));
                    }
                }
                KeeperStep::Sleep(deadline) => {
                    let beating = beats > 0 && system::wanted();
                    if beating {
                        beats -= 1;
                        system::beat();
                    } else {
                        beats = 0;
                        system::still();
                    }
                    match (beating, deadline) {
                        (false, None) => thread::park(),
                        (false, Some(at)) => system::park_until(at),
                        (true, Some(at)) => thread::park_timeout(system::until(at).min(BEAT)),
                        (true, None) => thread::park_timeout(BEAT),
                    }
                }
            }
        }
    }

    /// Runs one job. If its last owner has gone meanwhile, the job is dropped here, and a panic in its drop
    /// is contained as well.
    fn run(job: &Weak<dyn ScheduledJob>, now: Tick) {
        let mut next = Some(now + AFTER_PANIC);
        contain(|| next = job.upgrade().and_then(|job| job.run(now)));
        if let Some(at) = next.filter(|_| job.strong_count() > 0) {
            // not again at once, whatever it asks: there is other work
            schedule(at.max(now + 1), job.clone());
        }
    }
}

/// The explorers schedule every thread there is: one that never ends would keep them busy for ever.
#[cfg(any(larder_loom, larder_shuttle))]
mod explored {
    use std::sync::Weak;
    use std::task::Waker;

    use super::{ScheduledJob, Tick};
    use crate::words::alarms::AlarmTicket;

    pub(crate) fn alarm(_at: Tick, _waker: Waker) -> Option<AlarmTicket> {
        None
    }

    pub(crate) fn take_back(_ticket: AlarmTicket) {}

    pub(crate) fn schedule(_at: Tick, _job: Weak<dyn ScheduledJob>) {}

    pub(crate) fn nudge() {}
}
