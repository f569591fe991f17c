//! ARC: recency and frequency, each with ghosts that say which one should be larger (Megiddo and
//! Modha 2003).

use super::Policy;
use crate::queues::Queues;

/// Seen once lately, seen more than once, and the ghosts of both.
const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 2;
const B2: usize = 3;

pub struct Arc {
    queues: Queues<4>,
    /// What T1 should hold.
    target: f64,
    capacity: usize,
}

impl Arc {
    pub fn new(capacity: usize, ids: usize) -> Self {
        Self { queues: Queues::new(ids), target: 0.0, capacity }
    }

    fn len(&self, queue: usize) -> usize {
        self.queues.len(queue)
    }

    fn replace(&mut self, frequent: bool) {
        let recent = self.len(T1);
        let over = recent as f64 > self.target || frequent && recent as f64 >= self.target;
        let (from, to) = if recent > 0 && over || self.len(T2) == 0 { (T1, B1) } else { (T2, B2) };
        if let Some(id) = self.queues.pop(from) {
            self.queues.push(to, id);
        }
    }
}

impl Policy for Arc {
    fn access(&mut self, id: u32) -> bool {
        let (b1, b2) = (self.len(B1) as f64, self.len(B2) as f64);
        match self.queues.of(id) {
            Some(T1 | T2) => {
                self.queues.push(T2, id);
                return true;
            }
            Some(B1) => {
                self.target = (self.target + (b2 / b1).max(1.0)).min(self.capacity as f64);
                self.replace(false);
                self.queues.push(T2, id);
            }
            Some(_) => {
                self.target = (self.target - (b1 / b2).max(1.0)).max(0.0);
                self.replace(true);
                self.queues.push(T2, id);
            }
            None => {
                let all: usize = (T1..=B2).map(|queue| self.len(queue)).sum();
                if self.len(T1) + self.len(B1) >= self.capacity {
                    if self.len(T1) < self.capacity {
                        self.queues.pop(B1);
                        self.replace(false);
                    } else {
                        self.queues.pop(T1);
                    }
                } else if all >= self.capacity {
                    if all >= 2 * self.capacity {
                        self.queues.pop(B2);
                    }
                    self.replace(false);
                }
                self.queues.push(T1, id);
            }
        }
        false
    }
}
