//! The adaptive clock window.
//!
//! Newcomers enter a small queue, the *window*; those that are hit there often enough move on to the *main*
//! queue, the others are evicted and leave *ghosts*: a fingerprint and a date. A newcomer with a ghost goes
//! to the main queue at once, if it was last used later than the main queue's next victim was looked at.
//! Which ghosts come back tells how large the window should be. All this happens on a miss; a hit only raises
//! a counter in the entry.
//!
//! The rules come out of a comparison of some 480 configurations of 26 policies on 29 traces. On
//! the traces it was tuned on, the mean hit ratio is 50.1 (Belady's optimum, which knows the future:
//! 56.2; LIRS 48.1, W-TinyLFU 47.9, S3-FIFO 47.1, ARC 43.9, LRU 39.8), on the others 42.0 (47.3;
//! 40.5, 41.1, 40.8, 38.8, 36.9). Hit ratios of this file, one shard, beside LRU's and the optimum:
//!
//! | trace, entries | LRU | this | optimum | | trace, entries | LRU | this | optimum |
//! |---|--:|--:|--:|---|---|--:|--:|--:|
//! | OLTP, 250 | 16.5 | 24.6 | 38.4 | | LIRS loop, 512 | 0.0 | 48.7 | 50.5 |
//! | OLTP, 1,000 | 32.8 | 41.5 | 53.6 | | LIRS loop, 1,000 | 0.0 | 97.2 | 98.7 |
//! | OLTP, 2,000 | 42.5 | 47.4 | 60.4 | | LIRS multi2, 568 | 36.9 | 52.0 | 54.9 |
//! | P3, 76,254 | 16.8 | 36.6 | 55.2 | | cache2k web07, 2,048 | 55.7 | 58.2 | 68.1 |
//! | P3, 190,636 | 57.7 | 58.3 | 73.4 | | gcc, 350 | 91.8 | 92.0 | 92.8 |
//!
//! If entries have weights, each look at an entry costs it heat in proportion to its bulk, and for a
//! returning key the test compares time away times bulk: the entries that are kept are those with the most
//! hits for the room they take. (Ten rows, with sizes from 64 bytes to 256 KiB, one shard: hits 52.1 per cent
//! instead of 45.5, bytes that are hits 44.2 instead of 45.5; moka 52.0 and 38.8. `peers weights`.)
//!
//! Dates of one byte and 15-bit fingerprints cost 0.1 points against exact ones. It loses to LRU where no
//! entry is worth keeping for its frequency: 5,000 keys, all alike, that are replaced by others every 100,000
//! accesses (5,000 entries: 87.8 against 95.0), and keys that come twice and never again (1,000 entries: 15.9
//! against 18.4).

use super::ghosts::{Ghost, Ghosts};
use super::ring::{Queue, Rings};
use super::target::Target;
use super::ticks::{OLDEST, Ticks};
use super::{Admission, Bulk, Policy, SlotId, Slots};

#[cfg(test)]
mod tests;

/// The heat that takes an entry from the window straight into the main queue. Less earns it another round.
const HOT: u8 = 3;
/// The same where the window is small, and what is hit in it was hit within a short time. (Popularity that
/// drifts, 1,000 entries: 38.2 against 37.0; OLTP, web12 and Zipf do not change. In a large window too, it costs
/// keys that are used a few times in a row up to 2 points; with 1, web12 loses 0.4.)
const HOT_AT_ONCE: u8 = 2;
/// What a turn of the main queue leaves of an entry's heat, at most, where the window is large: there popularity
/// passes, and an entry that was hit seven times may never be hit again. (A set of 1,000 keys of which one is
/// replaced every five accesses, 1,000 entries: 78.8 against 76.5; ten accesses to a key, 1,000 others between
/// two of them: 78.0 against 74.7. Everywhere, Zipf would lose 0.3 points, P3 and web12 0.7.)
const PASSING: u8 = 1;
/// How many live entries an eviction or a sweep looks at, at most; after that, heat counts as zero. With 8
/// the hit ratio falls by 0.35 points, with more it does not rise. (Besides, an eviction frees all dead slots
/// that it meets: each only once.)
const ROUNDS: u32 = 64;
/// Ticks in which as many events happen as there are ghosts. Half as many leave loops at 1,000
/// entries 3 points behind exact times; twice as many, and a ghost's stamp (one byte) comes round
/// before its line is visited: loops at 64 to 256 entries fall to 0, and multi1 at 256 by 2 points.
const TURN: usize = 128;
/// The age, in ticks, at which the main queue's next victim is stale: 32 turns. An entry that is
/// hit less often than that adds little, and in a shorter time small shards would lose the part of
/// a long loop that they hold.
const STALE: u32 = 32 * TURN as u32;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct ClockWindow {
    rings: Rings,
    ghosts: Ghosts,
    /// Live entries in the window.
    window: usize,
    /// Live entries in the main queue.
    main: usize,
    target: Target,
    /// "Came back soon": within as many ticks of departures, in which a tenth of the shard left.
    soon: u8,
    /// How many entries the shard holds when full.
    capacity: usize,
    /// Whether `capacity` was guessed from what the shard held.
    guessed: bool,
    /// Whether anything has been evicted already.
    filled: bool,
    /// Misses; entries and ghosts are dated by them.
    misses: Ticks,
    /// Departures out of the window, which tell how soon a key came back.
    window_left: Ticks,
    /// Departures out of the main queue.
    main_left: Ticks,
    /// Decides which evictions the stale valve takes over, and what the eighths of a look come to.
    random: u32,
    /// Newcomers since a key came back soon, from either queue.
    unheard: usize,
}

impl ClockWindow {
    fn tune(&mut self, capacity: usize) {
        self.capacity = capacity;
        let period = Ghosts::wanted(capacity) / TURN;
        self.soon = (capacity / 10 / period) as u8;
        let period = u32::try_from(period).unwrap_or(u32::MAX);
        for clock in [&mut self.misses, &mut self.window_left, &mut self.main_left] {
            clock.set_period(period);
        }
    }

    /// Takes the number of entries that the shard holds for its capacity, if that is unknown.
    fn follow(&mut self) {
        let live = self.window + self.main;
        if self.guessed && self.capacity.abs_diff(live) > self.capacity / 8 {
            self.target.rescale(live);
            self.tune(live);
        }
    }

    /// Something must be evicted: from here on there are ghosts.
    #[inline]
    fn fill(&mut self) {
        if !self.filled || self.guessed {
            self.begin_ghosts();
        }
    }

    #[inline(never)]
    fn begin_ghosts(&mut self) {
        self.follow();
        self.filled = true;
        self.ghosts.fit(self.capacity, self.misses);
    }

    /// Whether a newcomer goes to the main queue because nothing was ever evicted: then there is nothing to
    /// weigh it against, and the window gets what is left over.
    #[inline]
    fn warming(&mut self) -> bool {
        !self.filled && self.wants_main()
    }

    #[inline(never)]
    fn wants_main(&mut self) -> bool {
        if self.guessed {
            self.follow();
            self.target = Target::new(self.window + self.main + 1);
        }
        self.main < self.target.main()
    }

    #[inline]
    fn enter(&mut self, slots: &mut impl Slots, id: SlotId, queue: Queue) {
        match queue {
            Queue::Window => self.window += 1,
            Queue::Main => self.main += 1,
        }
        self.requeue(slots, id, queue, 0);
    }

    /// Puts the id at the young end of a queue, as looked at just now.
    #[inline]
    fn requeue(&mut self, slots: &mut impl Slots, id: SlotId, queue: Queue, heat: u8) {
        slots.stand(id, queue == Queue::Main, heat, self.misses.stamp());
        self.rings.push(queue, id, self.misses.now());
    }

    /// Turns the main queue until its oldest entry is one that was not hit (often enough, for its bulk),
    /// and gives that. `None` if there is none within the rounds.
    fn sweep(&mut self, slots: &mut impl Slots) -> Option<SlotId> {
        for _ in 0..ROUNDS {
            let id = self.rings.peek(Queue::Main)?;
            let Some(heat) = slots.live_heat(id) else {
                self.rings.pop(Queue::Main);
                slots.free(id);
                continue;
            };
            let Some(heat) = self.cool(slots, id, heat) else {
                return Some(id);
            };
            self.rings.pop(Queue::Main);
            let most = if self.target.is_large() { PASSING } else { u8::MAX };
            self.requeue(slots, id, Queue::Main, heat.min(most));
        }
        self.rings.peek(Queue::Main).filter(|id| slots.is_live(*id))
    }

    /// How long ago, in ticks, the main queue's oldest entry was looked at. Its stamp is one byte
    /// and would be ambiguous after 256 ticks, but its chunk and the next are dated in full.
    fn main_age(&self, slots: &mut impl Slots, id: SlotId) -> u32 {
        let (now, seen) = (self.misses.now(), slots.seen(id));
        match self.rings.tail_dates(Queue::Main) {
            Some((_, Some(next))) => {
                now.wrapping_sub(next) + u32::from((next as u8).wrapping_sub(seen))
            }
            // The only chunk: keep the stamp from looking young again.
            Some((born, None)) if self.misses.age(seen) == OLDEST => {
                slots.set_seen(id, self.misses.clamp(seen));
                now.wrapping_sub(born)
            }
            _ => u32::from(self.misses.age(seen)),
        }
    }

    /// Whether a key that left at `used` comes back sooner than the main queue's next victim was looked at.
    /// This is LIRS's "is it still in the stack" in terms of clocks: a loop or a scan does not turn the main
    /// queue over. Without it, 45.8 instead of 50.1; if a tie passes, loops lose up to 7 points, and up to 20
    /// in four shards. Both times are multiplied by the room that each takes: a key that takes half as much
    /// may have been away for twice as long.
    fn passes(&mut self, slots: &mut impl Slots, used: u8, bulk: Bulk) -> bool {
        let Some(victim) = self.sweep(slots) else {
            return true;
        };
        let victims = slots.bulk(victim);
        bulk.times(self.misses.age(used).into()) < victims.times(self.main_age(slots, victim))
    }

    /// The stale valve. The window's oldest entry, cold, is about to go; if the main queue's next
    /// victim was not looked at for a very long time, the two change places in one case of four.
    /// So the main queue is refilled after a change to a loop longer than the ghosts reach, when
    /// no newcomer can pass.
    ///
    /// An entry that was hot then may not be so any more, and no sweep comes by to cool it: so the valve
    /// cools it, and it goes if it is not hit until it is stale again. (Loop of 900, then one of 20,000, at
    /// 1,000 entries: 13.8 against 10.2 without the valve and 10.2 with one that spares the hot; P3 at 1 %:
    /// 5.0 against 4.3 and 5.1; elsewhere no difference.)
    fn stale(&mut self, slots: &mut impl Slots) -> Option<SlotId> {
        let born = self.rings.born(Queue::Main)?;
        if self.misses.now().wrapping_sub(born) <= STALE || self.draw() % 4 != 0 {
            return None;
        }
        let victim = self.rings.peek(Queue::Main).filter(|id| slots.is_live(*id))?;
        if self.main_age(slots, victim) <= STALE {
            return None;
        }
        self.rings.pop(Queue::Main);
        if slots.heat(victim) == 0 {
            return Some(victim);
        }
        self.requeue(slots, victim, Queue::Main, 0);
        None
    }

    /// Counts a newcomer. If as many came as the shard holds and no key came back soon, nothing speaks for
    /// the window's size any more: it may have been right only for an earlier phase. (A phase that wanted a
    /// large window, then a loop of 1,000 at 512 entries: 48.8 with this, 43.6 without; the traces by
    /// themselves lose 0.05 points.)
    #[inline]
    fn listen(&mut self) {
        self.unheard += 1;
        if self.unheard > self.capacity {
            self.unheard -= self.capacity / 8 + 1;
            self.target.relax();
        }
    }

    /// Prefetches what the next evictions will touch: the ghosts' line of the next victim, whose slot was
    /// prefetched an eviction ago, and the slot of the one after it. (`get_or_insert_with` over a Zipf of 1M
    /// keys in 100k entries: 42 ns, and 50 if each insert fetches its own.)
    #[inline]
    fn look_ahead(&self, slots: &impl Slots) {
        if let Some((next, after)) = self.rings.peek_two(Queue::Window) {
            self.ghosts.prefetch(slots.hash(next));
            slots.prefetch(after);
        }
    }

    fn draw(&mut self) -> u32 {
        // xorshift
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    /// What a look leaves of an entry's heat; `None` if the entry is to go. A look costs one times the
    /// entry's bulk: so an entry that takes an eighth of the room of others stays for eight times as many
    /// looks, and one that takes twice the room has to be hit twice as often.
    #[inline]
    fn cool(&mut self, slots: &impl Slots, id: SlotId, heat: u8) -> Option<u8> {
        let (ones, eighths) = slots.bulk(id).parts();
        let is_one_more = eighths > 0 && self.draw() % 8 < eighths;
        heat.checked_sub(ones + u8::from(is_one_more))
    }

    /// The heat that takes an entry from the window to the main queue.
    #[inline]
    fn hot(&self) -> u8 {
        if self.target.is_small() { HOT_AT_ONCE } else { HOT }
    }

    /// `id` was taken out of the window and is cold.
    fn leave_window(&mut self, slots: &mut impl Slots, id: SlotId) -> SlotId {
        if let Some(victim) = self.stale(slots) {
            self.window -= 1;
            self.enter(slots, id, Queue::Main);
            return self.leave_main(slots, victim);
        }
        self.window -= 1;
        self.window_left.advance();
        let ghost = Ghost::Window { used: slots.seen(id), gone: self.window_left.stamp() };
        self.ghosts.add(slots.hash(id), ghost, self.misses);
        id
    }

    /// `id` was taken out of the main queue and is cold.
    fn leave_main(&mut self, slots: &impl Slots, id: SlotId) -> SlotId {
        self.main -= 1;
        self.main_left.advance();
        let ghost = Ghost::Main { gone: self.main_left.stamp() };
        self.ghosts.add(slots.hash(id), ghost, self.misses);
        id
    }
}

impl Policy for ClockWindow {
    fn new(capacity: usize, seed: u64) -> Self {
        let mut policy = Self {
            rings: Rings::new(capacity),
            ghosts: Ghosts::new(),
            window: 0,
            main: 0,
            target: Target::new(capacity),
            soon: 0,
            capacity,
            guessed: capacity == 0,
            filled: false,
            misses: Ticks::new(1),
            window_left: Ticks::new(1),
            main_left: Ticks::new(1),
            // xorshift must not start at 0
            random: (seed ^ (seed >> 32)) as u32 | 1,
            unheard: 0,
        };
        policy.tune(capacity);
        policy
    }

    fn expect(&self, hash: u32) {
        if self.filled {
            self.ghosts.prefetch(hash);
        }
    }

    #[inline]
    fn arrive(&mut self, slots: &mut impl Slots, hash: u32, bulk: Bulk) -> Admission {
        self.misses.advance();
        self.listen();
        match self.ghosts.take(hash, self.misses) {
            Some(Ghost::Window { used, gone }) if self.passes(slots, used, bulk) => {
                // Only a key that passes may let the window grow: else a loop slightly larger than the shard
                // makes the window eat the main queue (loop at 1,000: 33 instead of 96.6).
                if self.window_left.age(gone) <= self.soon {
                    self.target.grow();
                    self.unheard = 0;
                }
                Admission::Passed
            }
            Some(Ghost::Main { gone }) => {
                if self.main_left.age(gone) <= self.soon {
                    self.target.shrink();
                    self.unheard = 0;
                }
                Admission::Ordinary
            }
            _ => Admission::Ordinary,
        }
    }

    #[inline]
    fn place(&mut self, slots: &mut impl Slots, id: SlotId, admission: Admission) {
        let main = admission == Admission::Passed || self.warming();
        self.enter(slots, id, if main { Queue::Main } else { Queue::Window });
    }

    fn revive(&mut self, slots: &mut impl Slots, id: SlotId, admission: Admission, bulk: Bulk) {
        // The inherited position may be the next to go, so the hand must spare it once. A newcomer that
        // passed but is in the window gets the heat that sends it on to the main queue, where it belongs.
        let main = slots.in_main(id);
        let passed = !main && admission == Admission::Passed;
        slots.set_heat(id, if passed { HOT } else { bulk.one_look() });
        slots.set_seen(id, self.misses.stamp());
        if main {
            self.main += 1;
        } else {
            self.window += 1;
        }
    }

    fn evict(&mut self, slots: &mut impl Slots) -> Option<SlotId> {
        self.fill();
        let mut rounds = ROUNDS;
        while self.window + self.main > 0 {
            let from_window = self.main == 0 || self.target.reached(self.window);
            if self.window == 0 || !from_window {
                if let Some(id) = self.sweep(slots) {
                    self.rings.pop(Queue::Main);
                    return Some(self.leave_main(slots, id));
                }
                continue;
            }
            let id = self.rings.pop(Queue::Window)?;
            let Some(heat) = slots.live_heat(id) else {
                slots.free(id);
                continue;
            };
            let is_cold = rounds == 0 || self.cool(slots, id, heat).is_none();
            rounds = rounds.saturating_sub(1);
            if is_cold {
                let id = self.leave_window(slots, id);
                self.look_ahead(slots);
                return Some(id);
            } else if heat < self.hot() {
                self.requeue(slots, id, Queue::Window, 0);
            } else {
                self.window -= 1;
                self.enter(slots, id, Queue::Main);
            }
        }
        None
    }

    fn died(&mut self, slots: &impl Slots, id: SlotId) {
        if slots.in_main(id) || slots.heat(id) >= self.hot() {
            // What was worth the main queue goes back there if it is stored again: a removal and the end of a
            // life say nothing of how often a key is asked for. (Zipf 0.9 in 1,000 entries, a fifth of the
            // calls removals: 33.8 against 32.1; half of the keys with a life of 20,000 accesses: 43.5
            // against 42.6.) It does not speak for a larger window: a departure that is not lately enough.
            let gone = self.window_left.stamp().wrapping_sub(self.soon + 1);
            let ghost = Ghost::Window { used: self.misses.stamp(), gone };
            self.ghosts.add(slots.hash(id), ghost, self.misses);
        }
        if slots.in_main(id) {
            self.main -= 1;
        } else {
            self.window -= 1;
        }
    }

    fn renumber(&mut self, f: impl FnMut(SlotId) -> Option<SlotId>) {
        self.rings.renumber(self.misses.now(), f);
        // the dead were dropped
        self.window = self.rings.len(Queue::Window);
        self.main = self.rings.len(Queue::Main);
    }

    fn clear(&mut self) {
        let capacity = if self.guessed { 0 } else { self.capacity };
        *self = Self::new(capacity, u64::from(self.random));
    }

    fn validate(&self, slots: &impl Slots) {
        let mut seen = std::collections::HashSet::new();
        for (queue, count) in [(Queue::Window, self.window), (Queue::Main, self.main)] {
            let mut live = 0;
            for id in self.rings.iter(queue) {
                assert!(seen.insert(id), "{id} is queued twice");
                assert_eq!(slots.in_main(id), queue == Queue::Main, "{id} denies its queue");
                live += usize::from(slots.is_live(id));
            }
            assert_eq!(live, count, "live entries of {queue:?}");
        }
    }
}
