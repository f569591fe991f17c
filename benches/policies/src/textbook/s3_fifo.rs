//! S3-FIFO: a small queue that newcomers must prove themselves in, a main one with reinsertion, and
//! a queue of ghosts (Yang et al. 2023).

use super::Policy;
use crate::queues::Queues;

const SMALL: usize = 0;
const MAIN: usize = 1;
const GHOSTS: usize = 2;

pub struct S3Fifo {
    queues: Queues<3>,
    uses: Vec<u8>,
    small: usize,
    capacity: usize,
}

impl S3Fifo {
    pub fn new(capacity: usize, ids: usize) -> Self {
        let small = (capacity / 10).max(1);
        Self { queues: Queues::new(ids), uses: vec![0; ids], small, capacity }
    }

    fn resident(&self) -> usize {
        self.queues.len(SMALL) + self.queues.len(MAIN)
    }

    fn evict(&mut self) {
        while self.resident() >= self.capacity {
            if self.queues.len(SMALL) >= self.small || self.queues.is_empty(MAIN) {
                self.evict_small();
            } else {
                self.evict_main();
            }
        }
    }

    fn evict_small(&mut self) {
        let Some(id) = self.queues.pop(SMALL) else { return };
        if self.uses[id as usize] > 1 {
            self.uses[id as usize] = 0;
            self.queues.push(MAIN, id);
            return;
        }
        self.queues.push(GHOSTS, id);
        if self.queues.len(GHOSTS) > self.capacity - self.small {
            self.queues.pop(GHOSTS);
        }
    }

    fn evict_main(&mut self) {
        while let Some(id) = self.queues.pop(MAIN) {
            let uses = &mut self.uses[id as usize];
            if *uses == 0 {
                return;
            }
            *uses -= 1;
            self.queues.push(MAIN, id);
        }
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, id: u32) -> bool {
        let known = self.queues.of(id);
        if matches!(known, Some(SMALL | MAIN)) {
            let uses = &mut self.uses[id as usize];
            *uses = (*uses + 1).min(3);
            return true;
        }
        self.queues.remove(id);
        self.evict();
        self.uses[id as usize] = 0;
        self.queues.push(if known == Some(GHOSTS) { MAIN } else { SMALL }, id);
        false
    }
}
