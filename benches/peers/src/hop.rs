//! What it takes to hand a cache line from one core to another. A virtual machine's cores may be neighbours in
//! one hour and in two sockets in the next, and what threads share costs accordingly.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

/// There and back so often: some milliseconds.
const ROUNDS: u32 = 20_000;

/// Nanoseconds, one way.
pub fn hop() -> f64 {
    let ball = AtomicU32::new(0);
    let play = |mine: u32, rounds: std::ops::Range<u32>| {
        for round in rounds {
            while ball.load(Ordering::Acquire) != 2 * round + mine {
                std::hint::spin_loop();
            }
            ball.store(2 * round + mine + 1, Ordering::Release);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| play(1, 0..ROUNDS));
        // until the other one has started
        play(0, 0..ROUNDS / 2);
        let began = Instant::now();
        play(0, ROUNDS / 2..ROUNDS);
        began.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
    })
}
