//! The two queues of slot ids, first in, first out, over one pool of chunks.
//!
//! The window may shrink to a hundredth of the shard or grow to nine tenths of it, so two arrays of
//! fixed size would cost 8 bytes an entry. Chunks that wander between the queues cost 4, and a few
//! chunks more.

use super::SlotId;

/// Ids in a chunk: with its two other words a chunk is just over four cache lines, and the
/// half-filled chunks at the four ends waste 1 KiB a shard at most.
const CHUNK: usize = 64;
/// "No chunk" in a link.
const NONE: u32 = u32::MAX;

/// One of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Window,
    Main,
}

#[derive(Clone, Debug)]
struct Chunk {
    ids: [SlotId; CHUNK],
    /// The next younger chunk of the queue, or the next free one.
    next: u32,
    /// When the chunk was begun, in the owner's time.
    born: u32,
}

/// One queue: a list of chunks, read at the old end (`tail`) and written at the young one (`head`).
#[derive(Clone, Debug)]
struct Ends {
    tail: u32,
    head: u32,
    /// The first used position of the tail chunk.
    from: u32,
    /// The first unused position of the head chunk.
    to: u32,
    len: usize,
}

impl Ends {
    const EMPTY: Self = Self { tail: NONE, head: NONE, from: 0, to: 0, len: 0 };
}

/// Both queues.
#[derive(Clone, Debug)]
pub(super) struct Rings {
    chunks: Vec<Chunk>,
    /// The first chunk that is in no queue.
    free: u32,
    window: Ends,
    main: Ends,
    /// How many chunks a full shard needs, if that is known.
    wanted: usize,
}

impl Rings {
    /// `ids` is how many will be queued when the shard is full, or 0 if that is not known.
    pub(super) const fn new(ids: usize) -> Self {
        // both ends of both queues may be half empty
        let wanted = if ids == 0 { usize::MAX } else { ids.div_ceil(CHUNK) + 2 };
        Self { chunks: Vec::new(), free: NONE, window: Ends::EMPTY, main: Ends::EMPTY, wanted }
    }

    #[inline]
    fn ends(&self, queue: Queue) -> &Ends {
        match queue {
            Queue::Window => &self.window,
            Queue::Main => &self.main,
        }
    }

    #[inline]
    fn ends_mut(&mut self, queue: Queue) -> &mut Ends {
        match queue {
            Queue::Window => &mut self.window,
            Queue::Main => &mut self.main,
        }
    }

    /// All ids in the queue, those of dead slots too.
    pub(super) fn len(&self, queue: Queue) -> usize {
        self.ends(queue).len
    }

    /// The oldest id.
    #[inline]
    pub(super) fn peek(&self, queue: Queue) -> Option<SlotId> {
        let ends = self.ends(queue);
        (ends.len > 0).then(|| self.chunks[ends.tail as usize].ids[ends.from as usize % CHUNK])
    }

    /// The two oldest ids.
    #[inline]
    pub(super) fn peek_two(&self, queue: Queue) -> (Option<SlotId>, Option<SlotId>) {
        let ends = self.ends(queue);
        if ends.len == 0 {
            return (None, None);
        }
        let chunk = &self.chunks[ends.tail as usize];
        let from = ends.from as usize % CHUNK;
        let second = match chunk.ids.get(from + 1) {
            Some(id) => Some(*id),
            None => self.chunks.get(chunk.next as usize).map(|next| next.ids[0]),
        };
        (Some(chunk.ids[from]), second.filter(|_| ends.len > 1))
    }

    /// When the oldest id was pushed: between the time its chunk was begun and the time the next
    /// one was, if there is a next one.
    #[inline]
    pub(super) fn tail_dates(&self, queue: Queue) -> Option<(u32, Option<u32>)> {
        let ends = self.ends(queue);
        let chunk = (ends.len > 0).then(|| &self.chunks[ends.tail as usize])?;
        Some((chunk.born, self.chunks.get(chunk.next as usize).map(|next| next.born)))
    }

    /// When the chunk of the oldest id was begun.
    #[inline]
    pub(super) fn born(&self, queue: Queue) -> Option<u32> {
        let ends = self.ends(queue);
        (ends.len > 0).then(|| self.chunks[ends.tail as usize].born)
    }

    /// Puts an id at the young end; `now` dates the chunk if a new one must be begun.
    #[inline]
    pub(super) fn push(&mut self, queue: Queue, id: SlotId, now: u32) {
        let ends = self.ends(queue);
        if ends.head == NONE || ends.to as usize == CHUNK {
            self.begin_chunk(queue, now);
        }
        let ends = self.ends_mut(queue);
        let (head, at) = (ends.head as usize, ends.to as usize % CHUNK);
        ends.to += 1;
        ends.len += 1;
        self.chunks[head].ids[at] = id;
    }

    /// Takes the oldest id.
    #[inline]
    pub(super) fn pop(&mut self, queue: Queue) -> Option<SlotId> {
        let id = self.peek(queue)?;
        let ends = self.ends_mut(queue);
        ends.from += 1;
        ends.len -= 1;
        if ends.len == 0 || ends.from as usize == CHUNK {
            self.drop_chunk(queue);
        }
        Some(id)
    }

    fn begin_chunk(&mut self, queue: Queue, now: u32) {
        let new = if self.free == NONE {
            if self.chunks.len() == self.chunks.capacity() {
                // An eighth more: doubling would hold twice what the full shard needs. What is held
                // beyond that, by luck of the hash, is little.
                let len = self.chunks.len();
                let more = if len < self.wanted {
                    (1 + len / 8).min(self.wanted - len)
                } else {
                    1 + len / 64
                };
                self.chunks.reserve_exact(more);
            }
            self.chunks.push(Chunk { ids: [0; CHUNK], next: NONE, born: now });
            (self.chunks.len() - 1) as u32
        } else {
            let new = self.free;
            let chunk = &mut self.chunks[new as usize];
            self.free = chunk.next;
            chunk.next = NONE;
            chunk.born = now;
            new
        };
        let ends = self.ends_mut(queue);
        let before = ends.head;
        ends.head = new;
        ends.to = 0;
        if before == NONE {
            ends.tail = new;
            ends.from = 0;
        } else {
            self.chunks[before as usize].next = new;
        }
    }

    fn drop_chunk(&mut self, queue: Queue) {
        let free = self.free;
        let old = self.ends(queue).tail;
        let chunk = &mut self.chunks[old as usize];
        let next = std::mem::replace(&mut chunk.next, free);
        let ends = self.ends_mut(queue);
        if next == NONE {
            *ends = Ends::EMPTY;
        } else {
            ends.tail = next;
            ends.from = 0;
        }
        self.free = old;
    }

    /// Replaces every id by what `f` makes of it, oldest first; `None` drops it. Ids change chunks
    /// where some were dropped, so a chunk is then dated by when its first id was pushed at the
    /// latest: what is older than the next chunk stays so.
    pub(super) fn renumber(&mut self, now: u32, mut f: impl FnMut(SlotId) -> Option<SlotId>) {
        for queue in [Queue::Window, Queue::Main] {
            for _ in 0..self.len(queue) {
                let born = self.tail_dates(queue).and_then(|(_, next)| next).unwrap_or(now);
                if let Some(id) = self.pop(queue).and_then(&mut f) {
                    self.push(queue, id, born);
                }
            }
        }
    }

    /// All ids, oldest first.
    pub(super) fn iter(&self, queue: Queue) -> impl Iterator<Item = SlotId> + '_ {
        let ends = self.ends(queue);
        let (mut chunk, mut at) = (ends.tail as usize, ends.from as usize);
        (0..ends.len).map(move |_| {
            if at == CHUNK {
                chunk = self.chunks[chunk].next as usize;
                at = 0;
            }
            at += 1;
            self.chunks[chunk].ids[at - 1]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn two_queues_behave_like_two_deques() {
        let mut rings = Rings::new(0);
        let mut model = [VecDeque::new(), VecDeque::new()];
        let mut rng = 1_u64;
        for step in 0..50_000_u32 {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (rng >> 33) % 100;
            let (queue, i) = if pick % 2 == 0 { (Queue::Window, 0) } else { (Queue::Main, 1) };
            // grows for 5,000 steps, shrinks for 5,000
            let push = if step / 5_000 % 2 == 0 { pick < 60 } else { pick < 40 };
            if push {
                rings.push(queue, step, step);
                model[i].push_back(step);
            } else {
                assert_eq!(rings.peek(queue), model[i].front().copied());
                assert_eq!(rings.pop(queue), model[i].pop_front());
            }
            assert_eq!(rings.len(queue), model[i].len());
            if step % 977 == 0 {
                for (queue, model) in [Queue::Window, Queue::Main].into_iter().zip(&model) {
                    assert!(rings.iter(queue).eq(model.iter().copied()));
                    assert_eq!(rings.peek(queue), model.front().copied());
                    if let (Some((born, next)), Some(&first)) =
                        (rings.tail_dates(queue), model.front())
                    {
                        assert!(born <= first && next.is_none_or(|next| first < next));
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_are_used_again_whichever_queue_had_them() {
        let mut rings = Rings::new(0);
        for id in 0..1_000 {
            rings.push(Queue::Window, id, 0);
        }
        let chunks = rings.chunks.len();
        assert_eq!(chunks, 16);
        for _ in 0..100 {
            while let Some(id) = rings.pop(Queue::Window) {
                rings.push(Queue::Main, id, 0);
            }
            while let Some(id) = rings.pop(Queue::Main) {
                rings.push(Queue::Window, id, 0);
            }
        }
        assert!(rings.iter(Queue::Window).eq(0..1_000));
        assert!(rings.chunks.len() <= chunks + 2);
        assert!(rings.chunks.capacity() <= chunks + 2 + chunks / 8);
    }

    #[test]
    fn a_full_shard_holds_no_chunk_in_reserve() {
        let mut rings = Rings::new(1_000);
        for id in 0..1_000 {
            rings.push(if id % 3 == 0 { Queue::Window } else { Queue::Main }, id, 0);
        }
        assert_eq!((rings.chunks.len(), rings.chunks.capacity()), (17, 18));
        (0..200).for_each(|id| rings.push(Queue::Main, id, 0));
        assert_eq!((rings.chunks.len(), rings.chunks.capacity()), (20, 20));
    }

    #[test]
    fn renumbering_keeps_order_and_dates_and_drops_the_dead() {
        let mut rings = Rings::new(0);
        for id in 0..300 {
            rings.push(Queue::Window, id, 7);
            rings.push(Queue::Main, 1_000 + id, id);
        }
        rings.renumber(300, |id| (id % 3 != 0).then_some(id + 5_000));
        assert!(rings.iter(Queue::Window).eq((0..300).filter(|n| n % 3 != 0).map(|n| n + 5_000)));
        assert!(
            rings.iter(Queue::Main).eq((1_000..1_300).filter(|n| n % 3 != 0).map(|n| n + 5_000))
        );
        while let Some(oldest) = rings.pop(Queue::Main) {
            let Some(pushed) = rings.peek(Queue::Main).map(|id| id - 6_000) else {
                break;
            };
            assert!(oldest < pushed + 6_000);
            if let Some((_, Some(next))) = rings.tail_dates(Queue::Main) {
                assert!(pushed <= next, "{pushed} {next}");
            }
        }
        rings.renumber(300, |_| None);
        assert_eq!(rings.len(Queue::Window) + rings.len(Queue::Main), 0);
        assert_eq!(rings.peek(Queue::Main), None);
    }
}
