//! Work that the clock calls for and that may take its time, since the user's code runs in it: on
//! threads that start when there is some and end when there is none left.
//!
//! The keeper has to be there for everybody's alarms. A listener that takes four seconds over what expired
//! would hold up a timeout of 100 ms of another cache for as long; and one that waits for a load, until
//! that load's timeout rings, would wait for ever.

use super::contain::contain;
use super::sync::{Mutex, thread};
use std::collections::VecDeque;

/// How many threads at most: one who takes long holds up its own work, and not that of others.
const THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

static ASIDE: Mutex<State> = Mutex::new(State { queue: VecDeque::new(), threads: 0 });

struct State {
    queue: VecDeque<Job>,
    threads: usize,
}

/// Has it done soon. Its panics end with it.
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
        // no thread to be had: then it is done here, late for others, and no worse
        work_off();
    }
}

/// Until nothing is left.
fn work_off() {
    loop {
        let next = {
            let mut state = ASIDE.lock();
            let next = state.queue.pop_front();
            if next.is_none() {
                // under the lock: who comes later finds one thread fewer, and starts another
                state.threads -= 1;
            }
            next
        };
        let Some(job) = next else { return };
        contain(job);
    }
}
