//! One queue, or one order.

use super::Policy;
use crate::queues::Queues;
use std::collections::BTreeSet;

/// What was not used for the longest time goes.
pub struct Lru {
    queue: Queues<1>,
    capacity: usize,
}

impl Lru {
    pub fn new(capacity: usize, ids: usize) -> Self {
        Self { queue: Queues::new(ids), capacity }
    }
}

impl Policy for Lru {
    fn access(&mut self, id: u32) -> bool {
        let hit = self.queue.of(id).is_some();
        if !hit && self.queue.len(0) == self.capacity {
            self.queue.pop(0);
        }
        self.queue.push(0, id);
        hit
    }
}

/// What came first goes first.
pub struct Fifo {
    queue: Queues<1>,
    capacity: usize,
}

impl Fifo {
    pub fn new(capacity: usize, ids: usize) -> Self {
        Self { queue: Queues::new(ids), capacity }
    }
}

impl Policy for Fifo {
    fn access(&mut self, id: u32) -> bool {
        if self.queue.of(id).is_some() {
            return true;
        }
        if self.queue.len(0) == self.capacity {
            self.queue.pop(0);
        }
        self.queue.push(0, id);
        false
    }
}

/// FIFO with a second chance for what was used meanwhile (Corbató 1968).
pub struct Clock {
    queue: Queues<1>,
    used: Vec<bool>,
    capacity: usize,
}

impl Clock {
    pub fn new(capacity: usize, ids: usize) -> Self {
        Self { queue: Queues::new(ids), used: vec![false; ids], capacity }
    }
}

impl Policy for Clock {
    fn access(&mut self, id: u32) -> bool {
        if self.queue.of(id).is_some() {
            self.used[id as usize] = true;
            return true;
        }
        while self.queue.len(0) == self.capacity {
            let oldest = self.queue.pop(0).expect("it is full");
            if std::mem::take(&mut self.used[oldest as usize]) {
                self.queue.push(0, oldest);
            }
        }
        self.queue.push(0, id);
        false
    }
}

/// CLOCK whose hand leaves survivors where they are, and so sifts newcomers sooner (Zhang et al.
/// 2024).
pub struct Sieve {
    queue: Queues<1>,
    used: Vec<bool>,
    hand: Option<u32>,
    capacity: usize,
}

impl Sieve {
    pub fn new(capacity: usize, ids: usize) -> Self {
        Self { queue: Queues::new(ids), used: vec![false; ids], hand: None, capacity }
    }
}

impl Policy for Sieve {
    fn access(&mut self, id: u32) -> bool {
        if self.queue.of(id).is_some() {
            self.used[id as usize] = true;
            return true;
        }
        if self.queue.len(0) == self.capacity {
            let start = |queue: &Queues<1>| queue.oldest(0).expect("it is full");
            let mut victim = self.hand.unwrap_or_else(|| start(&self.queue));
            while std::mem::take(&mut self.used[victim as usize]) {
                victim = self.queue.younger(victim).unwrap_or_else(|| start(&self.queue));
            }
            self.hand = self.queue.younger(victim);
            self.queue.remove(victim);
        }
        self.queue.push(0, id);
        false
    }
}

/// What was used least often since it was stored goes; of these, what was not used for the longest
/// time.
pub struct Lfu {
    /// Uses, the last one's time, id.
    order: BTreeSet<(u32, u64, u32)>,
    /// Of residents; 0 uses of others.
    of: Vec<(u32, u64)>,
    now: u64,
    capacity: usize,
}

impl Lfu {
    pub fn new(capacity: usize, ids: usize) -> Self {
        Self { order: BTreeSet::new(), of: vec![(0, 0); ids], now: 0, capacity }
    }
}

impl Policy for Lfu {
    fn access(&mut self, id: u32) -> bool {
        self.now += 1;
        let (uses, last) = self.of[id as usize];
        let hit = self.order.remove(&(uses, last, id));
        if !hit && self.order.len() == self.capacity {
            let (_, _, victim) = self.order.pop_first().expect("it is full");
            self.of[victim as usize] = (0, 0);
        }
        self.of[id as usize] = (uses + 1, self.now);
        self.order.insert((uses + 1, self.now, id));
        hit
    }
}
