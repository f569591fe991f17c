//! The two queues of slot ids, first in, first out, over one pool of chunks.
//!
//! The window may shrink to a hundredth of the shard or grow to nine tenths of it, so two arrays of fixed
//! size would cost 8 bytes an entry. Chunks that move between the queues cost 4, and a few chunks more.

use super::SlotId;

/// Ids in a chunk: four cache lines, and the half-filled chunks at the four ends waste 1 KiB a shard
/// at most.
const CHUNK: usize = 64;
/// "No chunk" in a link.
const NONE: u32 = u32::MAX;

/// One of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Window,
    Main,
}

/// The metadata of a chunk.
#[derive(Clone, Debug)]
struct ChunkLink {
    /// The next younger chunk of the queue, or the next free one.
    next: u32,
    /// When the chunk was begun, in the owner's time.
    born: u32,
}

/// One queue: a list of chunks, read at the old end and written at the young one.
#[derive(Clone, Debug)]
struct Ends {
    /// The position of the oldest id in `ids`.
    old: u32,
    /// The position after the youngest id; at the end of a chunk, a new chunk comes next.
    young: u32,
    len: usize,
}

impl Ends {
    const EMPTY: Self = Self { old: 0, young: 0, len: 0 };
}

/// Both queues.
#[derive(Clone, Debug)]
pub(super) struct Rings {
    /// Chunk after chunk. (Chunks as structs, with their links: 20 instructions more of a newcomer's
    /// 590.)
    ids: Vec<SlotId>,
    links: Vec<ChunkLink>,
    /// The first chunk that is in no queue.
    free: u32,
    window: Ends,
    main: Ends,
    /// How many chunks a full shard needs, if that is known.
    wanted: usize,
}

/// The chunk of a position.
#[inline]
fn chunk(at: u32) -> usize {
    at as usize / CHUNK
}

/// Whether a position is where a chunk begins, or the one before ended.
#[inline]
fn is_edge(at: u32) -> bool {
    at as usize % CHUNK == 0
}

impl Rings {
    /// `ids` is how many will be queued when the shard is full, or 0 if that is not known.
    pub(super) const fn new(ids: usize) -> Self {
        // both ends of both queues may be half empty
        let wanted = if ids == 0 { usize::MAX } else { ids.div_ceil(CHUNK) + 2 };
        Self {
            ids: Vec::new(),
            links: Vec::new(),
            free: NONE,
            window: Ends::EMPTY,
            main: Ends::EMPTY,
            wanted,
        }
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
        if ends.len == 0 { None } else { self.ids.get(ends.old as usize).copied() }
    }

    /// The two oldest ids, for prefetching: if they are in two chunks, the second one is arbitrary.
    #[inline]
    pub(super) fn peek_two(&self, queue: Queue) -> Option<(SlotId, SlotId)> {
        let ends = self.ends(queue);
        let at = ends.old as usize;
        match self.ids.get(at..at + 2) {
            Some(&[first, second]) if ends.len > 1 => Some((first, second)),
            _ => None,
        }
    }

    /// When the oldest id was pushed: between the time its chunk was begun and the time the next
    /// one was, if there is a next one.
    #[inline]
    pub(super) fn tail_dates(&self, queue: Queue) -> Option<(u32, Option<u32>)> {
        let ends = self.ends(queue);
        let link = (ends.len > 0).then(|| &self.links[chunk(ends.old)])?;
        Some((link.born, self.links.get(link.next as usize).map(|next| next.born)))
    }

    /// When the chunk of the oldest id was begun.
    #[inline]
    pub(super) fn born(&self, queue: Queue) -> Option<u32> {
        let ends = self.ends(queue);
        if ends.len == 0 { None } else { self.links.get(chunk(ends.old)).map(|link| link.born) }
    }

    /// Puts an id at the young end; `now` dates the chunk if a new one must be begun.
    #[inline]
    pub(super) fn push(&mut self, queue: Queue, id: SlotId, now: u32) {
        if is_edge(self.ends(queue).young) {
            self.begin_chunk(queue, now);
        }
        let ends = self.ends_mut(queue);
        let at = ends.young as usize;
        ends.young += 1;
        ends.len += 1;
        self.ids[at] = id;
    }

    /// Takes the oldest id.
    #[inline]
    pub(super) fn pop(&mut self, queue: Queue) -> Option<SlotId> {
        let id = self.peek(queue)?;
        let ends = self.ends_mut(queue);
        ends.old += 1;
        ends.len -= 1;
        if ends.len == 0 || is_edge(ends.old) {
            self.drop_chunk(queue);
        }
        Some(id)
    }

    #[inline(never)]
    fn begin_chunk(&mut self, queue: Queue, now: u32) {
        let new = if self.free == NONE {
            self.add_chunk();
            (self.links.len() - 1) as u32
        } else {
            let new = self.free;
            self.free = self.links[new as usize].next;
            new
        };
        self.links[new as usize] = ChunkLink { next: NONE, born: now };
        let ends = self.ends_mut(queue);
        let (before, begin) = (ends.young, new * CHUNK as u32);
        ends.young = begin;
        if ends.len == 0 {
            ends.old = begin;
        } else {
            self.links[chunk(before - 1)].next = new;
        }
    }

    fn add_chunk(&mut self) {
        if self.links.len() == self.links.capacity() {
            // An eighth more: doubling would hold twice what the full shard needs. What is held
            // beyond that, by luck of the hash, is little.
            let len = self.links.len();
            let more =
                if len < self.wanted { (1 + len / 8).min(self.wanted - len) } else { 1 + len / 64 };
            self.links.reserve_exact(more);
            self.ids.reserve_exact(more * CHUNK);
        }
        self.links.push(ChunkLink { next: NONE, born: 0 });
        self.ids.resize(self.links.len() * CHUNK, 0);
    }

    #[inline(never)]
    fn drop_chunk(&mut self, queue: Queue) {
        let free = self.free;
        // the position has left the chunk already, by one
        let old = chunk(self.ends(queue).old - 1);
        let next = std::mem::replace(&mut self.links[old].next, free);
        let ends = self.ends_mut(queue);
        if next == NONE {
            *ends = Ends::EMPTY;
        } else {
            ends.old = next * CHUNK as u32;
        }
        self.free = old as u32;
    }

    /// Replaces every id by what `f` makes of it, oldest first; `None` drops it. Ids change chunks if some
    /// were dropped, so a chunk is then dated by the latest time at which its first id can have been pushed:
    /// an id that is older than the next chunk stays so.
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
        let mut at = ends.old;
        (0..ends.len).map(move |_| {
            let id = self.ids[at as usize];
            at += 1;
            if is_edge(at) {
                at = self.links[chunk(at - 1)].next.wrapping_mul(CHUNK as u32);
            }
            id
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
            // the second one where it stands in the same chunk, which it need not be asked for elsewhere
            let pair = rings.peek_two(queue).filter(|_| !is_edge(rings.ends(queue).old + 1));
            if let Some((first, second)) = pair {
                assert_eq!([Some(&first), Some(&second)], [0, 1].map(|n| model[i].get(n)));
            }
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
        let chunks = rings.links.len();
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
        assert!(rings.links.len() <= chunks + 2);
        assert!(rings.links.capacity() <= chunks + 2 + chunks / 8);
    }

    #[test]
    fn a_full_shard_holds_no_chunk_in_reserve() {
        let mut rings = Rings::new(1_000);
        for id in 0..1_000 {
            rings.push(if id % 3 == 0 { Queue::Window } else { Queue::Main }, id, 0);
        }
        assert_eq!((rings.links.len(), rings.links.capacity()), (17, 18));
        (0..200).for_each(|id| rings.push(Queue::Main, id, 0));
        assert_eq!((rings.links.len(), rings.links.capacity()), (20, 20));
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
