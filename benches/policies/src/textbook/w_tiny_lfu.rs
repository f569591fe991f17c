//! W-TinyLFU: a small LRU window in front of a segmented LRU that admits by a sketch of frequencies
//! (Einziger, Friedman, Manes 2017). The window is one per cent and stays so.

use super::Policy;
use crate::queues::Queues;
use crate::random::mix;

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

pub struct WTinyLfu {
    queues: Queues<3>,
    sketch: Sketch,
    window: usize,
    main: usize,
}

impl WTinyLfu {
    pub fn new(capacity: usize, ids: usize) -> Self {
        let window = (capacity / 100).max(1);
        let sketch = Sketch::new(capacity);
        Self { queues: Queues::new(ids), sketch, window, main: capacity - window }
    }

    /// What the window had no room for.
    fn admit(&mut self, candidate: u32) {
        if self.queues.len(PROBATION) + self.queues.len(PROTECTED) < self.main {
            return self.queues.push(PROBATION, candidate);
        }
        let from = if self.queues.is_empty(PROBATION) { PROTECTED } else { PROBATION };
        let Some(victim) = self.queues.oldest(from) else { return };
        if self.sketch.estimate(candidate) > self.sketch.estimate(victim) {
            self.queues.remove(victim);
            self.queues.push(PROBATION, candidate);
        }
    }
}

impl Policy for WTinyLfu {
    fn access(&mut self, id: u32) -> bool {
        self.sketch.add(id);
        match self.queues.of(id) {
            Some(WINDOW) => self.queues.push(WINDOW, id),
            Some(_) => {
                self.queues.push(PROTECTED, id);
                if self.queues.len(PROTECTED) > self.main * 8 / 10 {
                    let demoted = self.queues.oldest(PROTECTED).expect("one was just put there");
                    self.queues.push(PROBATION, demoted);
                }
            }
            None => {
                self.queues.push(WINDOW, id);
                if self.queues.len(WINDOW) > self.window {
                    let candidate = self.queues.pop(WINDOW).expect("it is over-full");
                    self.admit(candidate);
                }
                return false;
            }
        }
        true
    }
}

/// A count-min sketch up to 15, halved after ten additions for each entry of the capacity.
struct Sketch {
    counts: Vec<u8>,
    mask: u64,
    added: usize,
    period: usize,
}

impl Sketch {
    const ROWS: u64 = 4;

    fn new(capacity: usize) -> Self {
        let width = 4 * capacity.next_power_of_two().max(16);
        let period = 10 * capacity.max(16);
        let counts = vec![0; width * Self::ROWS as usize];
        Self { counts, mask: width as u64 - 1, added: 0, period }
    }

    fn cells(&self, id: u32) -> impl Iterator<Item = usize> + use<> {
        let (hash, mask) = (mix(id.into()), self.mask);
        // two halves of one hash make as many as are wanted (Kirsch and Mitzenmacher 2008)
        let cell = move |row| (hash >> 32).wrapping_mul(2 * row + 1).wrapping_add(hash) & mask;
        (0..Self::ROWS).map(move |row| (cell(row) + row * (mask + 1)) as usize)
    }

    fn estimate(&self, id: u32) -> u8 {
        self.cells(id).map(|cell| self.counts[cell]).min().unwrap_or(0)
    }

    fn add(&mut self, id: u32) {
        for cell in self.cells(id) {
            self.counts[cell] = (self.counts[cell] + 1).min(15);
        }
        self.added += 1;
        if self.added == self.period {
            self.added /= 2;
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }
}
