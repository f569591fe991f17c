//! Runs timed work that may take long, because user code runs in it, on threads that start when there is such
//! work and end when there is none left.
//!
//! The keeper has to be free for everybody's alarms. On its thread, a listener that takes four seconds over
//! expired entries would hold up a timeout of 100 ms of another cache for as long; and one that waits for a
//! load until that load's timeout rings would wait for ever.

use super::contain::contain;
use super::sync::{Mutex, thread};
use std::collections::VecDeque;

/// How many threads there are at most: work that takes long holds up itself, and not other work.
const THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

static ASIDE: Mutex<State> = Mutex::new(State { queue: VecDeque::new(), threads: 0 });

struct State {
    queue: VecDeque<Job>,
    threads: usize,
}

/// Has the job done soon. A panic in it is contained.
pub(crate) fn run(job: Job) {
    let mut state = ASIDE.lock();
    state.queue.push_back(job);
    if state.threads == THREADS {
        return;
    }
    state.threads += 1;
    drop(state);
    let thread = thread::Builder::new().name("larder-sweeper".to_owned());
    if thread.spawn(work_off).is_err() {
        // no thread can be started: the work is done here, which makes others late, and nothing worse
        work_off();
    }
}

/// Runs jobs until none is left.
fn work_off() {
    loop {
        let next = {
            let mut state = ASIDE.lock();
            let next = state.queue.pop_front();
            if next.is_none() {
                // under the lock: a later caller finds one thread fewer, and starts another
                state.threads -= 1;
            }
            next
        };
        let Some(job) = next else { return };
        contain(job);
    }
}
