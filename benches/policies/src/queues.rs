//! Doubly linked queues over ids: all that the textbook's policies are made of.

const NONE: u32 = u32::MAX;
const NOWHERE: u8 = u8::MAX;

/// Several queues, of which an id is in one at most.
pub struct Queues<const N: usize> {
    younger: Vec<u32>,
    older: Vec<u32>,
    queue: Vec<u8>,
    youngest: [u32; N],
    oldest: [u32; N],
    len: [usize; N],
}

impl<const N: usize> Queues<N> {
    pub fn new(ids: usize) -> Self {
        Self {
            younger: vec![NONE; ids],
            older: vec![NONE; ids],
            queue: vec![NOWHERE; ids],
            youngest: [NONE; N],
            oldest: [NONE; N],
            len: [0; N],
        }
    }

    pub fn len(&self, queue: usize) -> usize {
        self.len[queue]
    }

    pub fn is_empty(&self, queue: usize) -> bool {
        self.len[queue] == 0
    }

    /// Which queue the id is in.
    pub fn of(&self, id: u32) -> Option<usize> {
        let queue = self.queue[id as usize];
        (queue != NOWHERE).then_some(queue.into())
    }

    pub fn oldest(&self, queue: usize) -> Option<u32> {
        Some(self.oldest[queue]).filter(|&id| id != NONE)
    }

    /// The neighbour that came later.
    pub fn younger(&self, id: u32) -> Option<u32> {
        Some(self.younger[id as usize]).filter(|&id| id != NONE)
    }

    /// Puts an id at the young end of a queue, wherever it was.
    pub fn push(&mut self, queue: usize, id: u32) {
        self.remove(id);
        let was = std::mem::replace(&mut self.youngest[queue], id);
        match was {
            NONE => self.oldest[queue] = id,
            was => self.younger[was as usize] = id,
        }
        self.older[id as usize] = was;
        self.younger[id as usize] = NONE;
        self.queue[id as usize] = queue as u8;
        self.len[queue] += 1;
    }

    /// Takes the oldest.
    pub fn pop(&mut self, queue: usize) -> Option<u32> {
        let id = self.oldest(queue)?;
        self.remove(id);
        Some(id)
    }

    /// Takes an id out, wherever it is.
    pub fn remove(&mut self, id: u32) {
        let Some(queue) = self.of(id) else { return };
        let (younger, older) = (self.younger[id as usize], self.older[id as usize]);
        match younger {
            NONE => self.youngest[queue] = older,
            younger => self.older[younger as usize] = older,
        }
        match older {
            NONE => self.oldest[queue] = younger,
            older => self.younger[older as usize] = younger,
        }
        self.queue[id as usize] = NOWHERE;
        self.len[queue] -= 1;
    }
}
